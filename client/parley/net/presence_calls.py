"""The calls about who is connected, typed."""

from collections.abc import Sequence

from parley.net.channel_calls import MAX_PAGE, Calls, Invoke
from parley.net.unary_caller import bearer
from parley.presence_model import AccountPresence, ConnectedAccount, ConnectedAccounts
from parley.wire import convert
from parley.wire.position import Position
from parley.wire.requests import build
from parley_proto.v1 import accounts_pb2 as pb
from parley_proto.v1.accounts_pb2_grpc import PresenceStub

MAX_ASKED = 256


class PresenceCalls:
    """Requests about connected accounts to whichever node answers."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    async def connected(self, token: str, seen: Position, limit: int) -> ConnectedAccounts:
        """Return the connected accounts by name, and the clients of each node as of the last page."""
        found: list[ConnectedAccount] = []
        after = 0
        while True:
            request = build(
                pb.ListConnectedRequest,
                page_size=max(1, min(MAX_PAGE, limit - len(found))),
                after_account_id=after,
                seen=self._calls.seen(seen),
            )
            page = await self._calls.call(_list_connected(request, token), changes=False)
            self._calls.saw(page.position)
            found.extend(map(convert.connected_account, page.accounts))
            after = page.next_after_account_id
            if not after or len(found) >= limit:
                break
        by_name = sorted(found[:limit], key=lambda one: one.account.name.lower())
        nodes = tuple(map(convert.node_clients, page.nodes))
        return ConnectedAccounts(tuple(by_name), nodes, page.clients, page.hidden)

    async def of(self, token: str, seen: Position, account_ids: Sequence[int]) -> tuple[AccountPresence, ...]:
        """Return whether each of these accounts is connected, in the given order."""
        found: list[AccountPresence] = []
        for start in range(0, len(account_ids), MAX_ASKED):
            some = account_ids[start : start + MAX_ASKED]
            request = build(pb.GetPresenceRequest, account_ids=some, seen=self._calls.seen(seen))
            answer = await self._calls.call(_get_presence(request, token), changes=False)
            self._calls.saw(answer.position)
            found += [convert.account_presence(one, all_heard=not answer.unheard) for one in answer.accounts]
        return tuple(found)


def _get_presence(request: pb.GetPresenceRequest, token: str) -> Invoke[pb.GetPresenceResponse]:
    return lambda channel: PresenceStub(channel).GetPresence(request, metadata=bearer(token))


def _list_connected(request: pb.ListConnectedRequest, token: str) -> Invoke[pb.ListConnectedResponse]:
    return lambda channel: PresenceStub(channel).ListConnected(request, metadata=bearer(token))
