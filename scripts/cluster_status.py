"""The status of the nodes of a local cluster (`Admin.GetStatus`), and of their processes."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import grpc

from parley_proto.v1 import admin_pb2, admin_pb2_grpc
from scripts.cluster_layout import Layout
from scripts.cluster_process import Processes, ProcessState

ANSWER_TIMEOUT_S = 1.0
OPERATOR_TOKEN = "x-parley-operator"  # noqa: S105 - the metadata key

_CHANNEL_OPTIONS = (
    # A node that comes back is seen at once, not after a backoff that grew while it was away.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 2_000),  # an attempt is given up then
    ("grpc.max_reconnect_backoff_ms", 300),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_http_proxy", 0),
)


@dataclass(frozen=True, slots=True)
class NodeView:
    """One row of the table. Without an answer the numbers are zero and `role` is empty."""

    name: str
    address: str
    state: ProcessState
    answers: bool = False
    role: str = ""
    term: int = 0
    commit_index: int = 0
    applied_index: int = 0
    connected_clients: int = 0
    messages_per_second: float = 0.0
    messages_total: int = 0
    leader: str = ""
    serving: bool = False
    pid: int = 0
    uptime_s: float = 0.0
    state_hash: str = ""

    @property
    def condition(self) -> str:
        """Return one word: the role of a node that answers, otherwise the state of its process."""
        if self.state is not ProcessState.UP:
            return str(self.state.value)
        return self.role if self.answers else "no answer"


def insecure_channel(address: str) -> grpc.aio.Channel:
    """Return a channel without TLS to a server on this machine, for example of another system."""
    return grpc.aio.insecure_channel(address, options=_CHANNEL_OPTIONS)


def secure_channel(address: str, ca_pem: bytes) -> grpc.aio.Channel:
    """Return a TLS channel to one node with a short timeout for reconnects."""
    return grpc.aio.secure_channel(
        address, grpc.ssl_channel_credentials(root_certificates=ca_pem), options=_CHANNEL_OPTIONS
    )


class StatusReader:
    """Asks every node at once, over one lasting connection each."""

    def __init__(self, layout: Layout, processes: Processes) -> None:
        self._layout = layout
        self._processes = processes
        self._channels: dict[str, grpc.aio.Channel] = {}

    async def __aenter__(self) -> Self:
        ca_pem = self._layout.ca_file.read_bytes()
        self._channels = {node.name: secure_channel(node.client_address, ca_pem) for node in self._layout.nodes}
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for channel in self._channels.values():
            await channel.close()

    async def move(self, layout: Layout) -> None:
        """Ask nodes at their addresses in another layout from now on."""
        await self.__aexit__(None, None, None)
        self._layout = layout
        await self.__aenter__()

    async def read_all(self) -> list[NodeView]:
        """Return one view per node, in order. Never raises for a node that does not answer."""
        return list(await asyncio.gather(*(self.read(name) for name in self._layout.names)))

    async def read(self, name: str) -> NodeView:
        """Return the view of one node."""
        node, state = self._layout.node(name), self._processes.state(name)
        process = self._processes.find(name)
        pid = process.pid if process is not None else 0
        away = NodeView(name, node.client_address, state, pid=pid)
        if state is not ProcessState.UP:
            return away
        reply = await self.ask(name)
        if reply is None:
            return away
        return NodeView(
            name=name,
            address=node.client_address,
            state=state,
            answers=True,
            role=reply.role,
            term=reply.term,
            commit_index=reply.commit_index,
            applied_index=reply.applied_index,
            connected_clients=reply.connected_clients,
            messages_per_second=reply.messages_per_second,
            messages_total=reply.messages_total,
            leader=reply.leader,
            serving=reply.serving,
            pid=pid,
            uptime_s=reply.uptime_s,
            state_hash=reply.state_hash.hex(),
        )

    async def ask(self, name: str, timeout_s: float = ANSWER_TIMEOUT_S) -> admin_pb2.GetStatusResponse | None:
        """Return the status of the node, or None if it does not answer within `timeout_s`."""
        stub = admin_pb2_grpc.AdminStub(self._channels[name])
        token = self._layout.operator_token(name)
        metadata = ((OPERATOR_TOKEN, token),) if token else ()
        try:
            return await stub.GetStatus(admin_pb2.GetStatusRequest(), metadata=metadata, timeout=timeout_s)
        except grpc.aio.AioRpcError:
            return None
