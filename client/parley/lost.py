"""The messages that the cluster lost when it was restored from a backup, and what a person does with them."""

import time
from collections.abc import Sequence

from parley.account import LocalAccount
from parley.device import lost
from parley.model import LostMessage, Target
from parley.outgoing_message import OutgoingMessage
from parley.wire.requests import check_numbers

MAX_LISTED = 1000


class LostMessages:
    """The list of one account on this device. It survives restarts. Nothing in it is sent by itself."""

    def __init__(self, account: LocalAccount) -> None:
        self._account = account

    async def messages(self, *, target: str | Target | None = None, limit: int = MAX_LISTED) -> tuple[LostMessage, ...]:
        """Return the newest lost messages, oldest first: those that this device sent, and those that it received.

        With `target`, return those of its conversation.
        """
        check_numbers(limit=limit)
        wanted = None if target is None else Target.of(target)
        return tuple(await self._account.store.read(lambda c: lost.listing(c, limit, target=wanted)))

    async def count_sent(self) -> int:
        """Return how many of the messages this device sent. messages() lists a bounded number of them."""
        return await self._account.store.read(lost.count_sent)

    async def resend(self, ids: Sequence[int]) -> list[OutgoingMessage]:
        """Send messages of this device again, as new ones, in the order in which they were sent. All of them, or none.

        A message leaves the list when it enters the outbox, in one step. Raises BadInputError for one that is not in
        the list, that this device did not send, or whose conversation the cluster does not have any more.
        """
        check_numbers(lowest_id=min(ids, default=0), highest_id=max(ids, default=0))
        account = self._account
        now_ms, known = int(time.time() * 1000), account.position.lowest_index
        views = await account.store.write(lambda c: lost.resend(c, ids, now_ms, known), adds=True)
        return [account.track(view) for view in views]

    async def discard(self, ids: Sequence[int]) -> int:
        """Remove messages from the list. They cannot be read any more. Return how many there were."""
        check_numbers(lowest_id=min(ids, default=0), highest_id=max(ids, default=0))
        count = await self._account.store.write(lambda c: lost.discard(c, ids))
        self._account.lost_changed()
        return count
