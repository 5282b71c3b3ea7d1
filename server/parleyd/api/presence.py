"""The Presence service: who is connected now, and who is hidden from others."""

from __future__ import annotations

import time
from collections.abc import Sequence

from parley_proto.v1 import accounts_pb2 as pb
from parley_proto.v1 import state_pb2
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
from parleyd.presence.presence import Connected
from parleyd.raft.types import NodeId

# An account, and with it a time, tags and lengths.
_ENTRY_BYTES = MAX_ACCOUNT_INFO_BYTES + 16


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
        found = self._clients.page(request.after_account_id, limit + 1)
        wall_ms = time.time_ns() // 1_000_000
        since_ms = {one.account_id: wall_ms - self._clients.age_ms(one) for one in found}
        shown = found[:limit]
        nodes = self._nodes()

        def read(reader: StateReader) -> pb.ListConnectedResponse:
            with reader.consistent():
                return pb.ListConnectedResponse(
                    accounts=_visible(reader, session.account_id, shown, since_ms),
                    next_after_account_id=shown[-1].account_id if len(found) > limit else 0,
                    nodes=nodes,
                    clients=sum(node.clients for node in nodes),
                    hidden=bool(hidden_accounts.among(reader, {session.account_id})),
                    position=position_of(reader),
                )

        return await self._readers.run(read)

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


def _visible(
    reader: StateReader, own_id: int, connected: Sequence[Connected], since_ms: dict[int, int]
) -> list[pb.ConnectedAccount]:
    """Return those that the caller may see: accounts that exist, and of those that hide only itself."""
    ids = {one.account_id for one in connected}
    hidden = hidden_accounts.among(reader, ids) - {own_id}
    return [
        pb.ConnectedAccount(account=account_info(card), since_ms=since_ms[card.id])
        for card in accounts.cards(reader, ids - hidden)
        if not card.deleted
    ]
