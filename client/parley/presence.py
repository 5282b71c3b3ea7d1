"""Who is there: connected, away, typing. Nothing of it is kept, and all of it may be two seconds old."""

from collections.abc import Awaitable, Callable, Sequence

from parley.account import LocalAccount
from parley.client_state import ConnectionState
from parley.device.identity import DeviceIdentity
from parley.errors import BadInputError
from parley.net.presence_calls import PresenceCalls
from parley.presence_model import AccountPresence, ConnectedAccounts
from parley.state_publisher import StatePublisher
from parley.wire.requests import check_numbers

MAX_LISTED = 10_000


class Presence:
    """The requests of a client about who is there, and what it says of its own person."""

    def __init__(
        self,
        calls: PresenceCalls,
        publisher: StatePublisher,
        in_use: Callable[[], LocalAccount],
        signed_in: Callable[[], Awaitable[tuple[LocalAccount, DeviceIdentity]]],
    ) -> None:
        """`in_use` and `signed_in` return the account that the client uses now, or raise NotSignedInError."""
        self._calls = calls
        self._publisher = publisher
        self._in_use = in_use
        self._signed_in = signed_in

    async def connected(self, *, limit: int = MAX_LISTED) -> ConnectedAccounts:
        """Return who is connected now, by name, and how many clients each node has."""
        account, who = await self._signed_in()
        found = await self._calls.connected(who.token, who.position, limit)
        account.learn(accounts=tuple(one.account for one in found.accounts))
        return found

    async def of(self, account_ids: Sequence[int]) -> tuple[AccountPresence, ...]:
        """Return of each account whether it is connected, and if not, when it was last."""
        for account_id in account_ids:
            check_numbers(account_id=account_id)
        _, who = await self._signed_in()
        return await self._calls.of(who.token, who.position, account_ids)

    def set_away(self, *, away: bool) -> None:
        """Show the account as away in the lists of others, or no longer. It counts until this client ends.

        An account is away if all its connected devices are. Raises BadInputError if another process is connected for
        the account on this machine.
        """
        account = self._in_use()
        if self._publisher.state.connection is ConnectionState.SHARED:
            raise BadInputError(
                "Another program on this machine is connected for this account. Nothing was changed. Set it there."
            )
        self._publisher.update(away=away)
        if account.connection.stream is not None:
            account.connection.stream.push_away()

    def types(self, conversation_id: int) -> None:
        """Tell the other members of a conversation that the person types. Call it as often as something is typed.

        It is sent at most every three seconds, and only if there is a connection. Large channels are not told.
        """
        check_numbers(conversation_id=conversation_id)
        stream = self._in_use().connection.stream
        if stream is not None:
            stream.push_typing(conversation_id)
