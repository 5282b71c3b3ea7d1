"""The Presence service: who is connected now, and who is hidden from others."""

from __future__ import annotations

from functools import partial

from parley_proto.v1 import accounts_pb2 as pb
from parley_proto.v1 import model_pb2, state_pb2
from parley_proto.v1.accounts_pb2_grpc import PresenceServicer
from parleyd.api.auth import Authenticator
from parleyd.api.cluster_view import ClusterView
from parleyd.api.commands import Commands
from parleyd.api.errors import Context, unary
from parleyd.api.requests import check_number, entries_within_page, page_size
from parleyd.delivery.position import position_of
from parleyd.delivery.records import MAX_ACCOUNT_INFO_BYTES, account_info
from parleyd.group.readers import StateReaders
from parleyd.machine.authorisation import Action
from parleyd.machine.features import accounts, hidden_accounts
from parleyd.machine.reader import StateReader
from parleyd.presence.clients import ConnectedClients
from parleyd.raft.types import NodeId
from parleyd.security.names import InvalidInputError

# An account, and with it a time, tags and lengths.
_ENTRY_BYTES = MAX_ACCOUNT_INFO_BYTES + 16
MAX_ASKED = 256
MAX_READ = 1_001
"""Connected accounts that are looked up at once, while those that hide fill no page."""


class PresenceService(PresenceServicer):
    """Joins what nodes report of their clients with what the state has about the accounts."""

    def __init__(
        self,
        commands: Commands,
        readers: StateReaders,
        authenticator: Authenticator,
        view: ClusterView,
        clients: ConnectedClients,
    ) -> None:
        self._commands = commands
        self._readers = readers
        self._authenticator = authenticator
        self._view = view
        self._clients = clients

    @unary
    async def ListConnected(  # noqa: N802 - the name is gRPC's
        self, request: pb.ListConnectedRequest, context: Context
    ) -> pb.ListConnectedResponse:
        """One page of the connected accounts, and the number of clients of each node."""
        limit = entries_within_page(page_size("page_size", request.page_size), _ENTRY_BYTES)
        check_number("after_account_id", request.after_account_id)
        session = await self._authenticator.session_at(context, request.seen)
        answer, visible = await self._visible(session.account_id, request.after_account_id, limit + 1)
        nodes = self._nodes()
        answer.accounts.extend(visible[:limit])
        # Not the id of an account that hides: it would say that the account is connected.
        answer.next_after_account_id = visible[limit - 1].account.id if len(visible) > limit else 0
        answer.nodes.extend(nodes)
        answer.clients = sum(node.clients for node in nodes)
        return answer

    async def _visible(
        self, own_id: int, after_account_id: int, wanted: int
    ) -> tuple[pb.ListConnectedResponse, list[pb.ConnectedAccount]]:
        """Return an answer still without accounts, and the first accounts that the caller may see."""
        found: list[pb.ConnectedAccount] = []
        size = wanted
        while True:
            connected = self._clients.page(after_account_id, size)
            since_ms = {one.account_id: self._clients.unix_ms(one.since_s) for one in connected}
            away = {one.account_id for one in connected if one.away}
            answer, visible = await self._readers.run(partial(_read, own_id=own_id, since_ms=since_ms, away=away))
            found += visible
            if len(found) >= wanted or len(connected) < size:
                return answer, found[:wanted]
            after_account_id, size = connected[-1].account_id, min(2 * size, MAX_READ)

    @unary
    async def GetPresence(  # noqa: N802
        self, request: pb.GetPresenceRequest, context: Context
    ) -> pb.GetPresenceResponse:
        """Of each account, whether it is connected, and if not, when it was last."""
        if not 0 < len(request.account_ids) <= MAX_ASKED:
            raise InvalidInputError("account_ids", f"has {len(request.account_ids)} ids; 1 to {MAX_ASKED} are allowed")
        for account_id in request.account_ids:
            check_number("account_ids", account_id)
        session = await self._authenticator.session_at(context, request.seen)
        asked = set(request.account_ids)
        visible, position = await self._readers.run(partial(_visible, own_id=session.account_id, asked=asked))
        return pb.GetPresenceResponse(
            accounts=[self._presence_of(one, is_visible=one in visible) for one in request.account_ids],
            unheard=[node.name for node in self._nodes() if not node.heard],
            position=position,
        )

    def _presence_of(self, account_id: int, *, is_visible: bool) -> pb.AccountPresence:
        found = pb.AccountPresence(account_id=account_id, state=pb.PRESENCE_STATE_OFFLINE)
        if not is_visible:
            return found
        connected = self._clients.connected(account_id)
        if connected is not None:
            found.state = pb.PRESENCE_STATE_AWAY if connected.away else pb.PRESENCE_STATE_ONLINE
            found.since_ms = self._clients.unix_ms(connected.since_s)
        elif (last_seen_s := self._clients.last_seen_s(account_id)) is not None:
            found.last_seen_ms = self._clients.unix_ms(last_seen_s)
        return found

    @unary
    async def SetHidden(self, request: pb.SetHiddenRequest, context: Context) -> pb.SetHiddenResponse:  # noqa: N802
        """Hide the caller from the lists of all others, or show it again."""
        session = await self._authenticator.session_that_may(context, Action.HIDE_ITSELF)
        command = state_pb2.SetHidden(session_id=session.session_id, hidden=request.hidden)
        index, _ = await self._commands.apply(state_pb2.Command(set_hidden=command))
        return pb.SetHiddenResponse(position=self._authenticator.position(index))

    def _nodes(self) -> list[pb.NodeClients]:
        counts = [(member.name, self._clients.clients_of(NodeId(member.node_id))) for member in self._view.members()]
        return [pb.NodeClients(name=name, clients=count or 0, heard=count is not None) for name, count in counts]


def _read(
    reader: StateReader, own_id: int, since_ms: dict[int, int], away: set[int]
) -> tuple[pb.ListConnectedResponse, list[pb.ConnectedAccount]]:
    """Return those that the caller may see: accounts that exist, and of those that hide only itself."""
    with reader.consistent():
        hidden = hidden_accounts.among(reader, {*since_ms, own_id})
        answer = pb.ListConnectedResponse(hidden=own_id in hidden, position=position_of(reader))
        return answer, [
            pb.ConnectedAccount(account=account_info(card), since_ms=since_ms[card.id], away=card.id in away)
            for card in accounts.cards(reader, since_ms.keys() - (hidden - {own_id}))
            if not card.deleted
        ]


def _visible(reader: StateReader, own_id: int, asked: set[int]) -> tuple[set[int], model_pb2.Position]:
    """Return those of the accounts that the caller may see."""
    with reader.consistent():
        hidden = hidden_accounts.among(reader, asked) - {own_id}
        cards = accounts.cards(reader, asked - hidden)
        return {card.id for card in cards if not card.deleted}, position_of(reader)
