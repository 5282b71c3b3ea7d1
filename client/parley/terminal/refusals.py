"""Tells the person of own messages that were kept, and that the cluster refused when a later command sent them.

Each is told once, by the first command that is connected when the refusal is known. It is marked after it was printed.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from parley import MessageStatus, Outgoing, ParleyClient, ParleyError
from parley.chat import Chats, preview, safe_body
from parley.terminal import text
from parley.terminal.options import ConnectionOptions

MAX_TOLD = 5
PREVIEW = 40


class Refusals:
    """The refused messages of one account that no person was told of."""

    def __init__(self, client: ParleyClient, tell: Callable[[str], None]) -> None:
        """`tell` prints a remark."""
        self._client = client
        self._tell = tell
        self._one_at_a_time = asyncio.Lock()
        self.shown: set[int] = set()
        """Local ids of messages whose outcome the command shows by itself."""

    async def tell(self) -> None:
        """Tell the refused messages. At most MAX_TOLD are named, the others are counted."""
        async with self._one_at_a_time:
            try:
                untold = await self._client.untold()
            except ParleyError:
                return  # the command itself says what is wrong with the file
            kept = [view for view in untold if view.local_id not in self.shown]
            for view in kept[:MAX_TOLD]:
                self._tell(self._line(view))
            if len(kept) > MAX_TOLD:
                self._tell(f"{len(kept) - MAX_TOLD} more messages were refused, or their outcome is not known.")
            if kept:
                self._tell("To send such a message again or to remove it: parley outbox.")
            told = [view.local_id for view in untold]
            self.shown.update(told)  # if this is cancelled now, the next call marks them and prints nothing
            await self._client.mark_told(told)
            self.shown.difference_update(told)

    def _line(self, view: Outgoing) -> str:
        chats = Chats(self._client.signed_in_as)
        named = {view.conversation_id, view.target.conversation_id} - {0}
        chats.look_up(self._client, conversation_ids=named)
        whom = chats.title(chats.conversations.key_of_own(view))
        what = f"“{preview(view.body, PREVIEW)}” to {whom}, written {text.clock(view.created_at_ms)}"
        if view.status is MessageStatus.UNKNOWN:
            return f"It is not known whether this message was sent: {what}. {safe_body(view.detail)}"
        return f"This message was refused and not sent: {what}. {safe_body(view.detail)}"


def superseded_text(client: ParleyClient) -> str:
    """Return when what waits in a copy of a device's files is sent."""
    return (
        "Another copy of this state folder sends for this device. What waits here is kept. Sign in here: parley login "
        f"{client.signed_in_as}. {text.SENT_LATER}"
    )


@asynccontextmanager
async def connected(
    options: ConnectionOptions, tell: Callable[[str], None], *, connect: bool = True
) -> AsyncIterator[tuple[ParleyClient, Refusals]]:
    """Enter a client, with a stream if `connect` is set. At the end, tell which kept messages were refused."""
    async with options.client(connect=connect) as client:
        refusals = Refusals(client, tell)
        try:
            yield client, refusals
        finally:
            await refusals.tell()
