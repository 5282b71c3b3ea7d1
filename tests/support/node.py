"""Nodes in this process: the real services over real gRPC on loopback and the real state machine, faults on demand.

`InProcessCluster` is what all nodes agree on. There is no consensus under it: a proposal is applied at once, by the one
state that the nodes share, so a client can move from node to node and find everything. `InProcessNode` is one address.
It can lose answers after applying, refuse, call gaps, fall silent, lose its majority, end streams, and die.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, NoReturn

import grpc
import grpc.aio

from parley_proto.v1 import accounts_pb2_grpc, admin_pb2_grpc, conversations_pb2_grpc, peer_pb2, state_pb2
from parley_proto.v1 import messaging_pb2 as pb
from parleyd.api.accounts import AccountsConfig, AccountsService
from parleyd.api.administration import AdminService, HandshakeCall
from parleyd.api.admission import AdmissionInterceptor, CallLimits
from parleyd.api.auth import Authenticator
from parleyd.api.cluster_view import ClusterView, no_condition
from parleyd.api.commands import Commands
from parleyd.api.conversations import ConversationsService
from parleyd.api.errors import ApiError, abort
from parleyd.api.events import EventFollowers
from parleyd.api.messages import MessagingService, add_messaging_to_server
from parleyd.api.node_marks import NodeMarks
from parleyd.api.password_check import PasswordCheck
from parleyd.api.presence import PresenceService
from parleyd.api.receipts import MessageReceipts
from parleyd.api.stream_opener import StreamOpener
from parleyd.backup.making import Backups
from parleyd.connections import BusyPeers
from parleyd.delivery.device_hub import DeviceHub
from parleyd.delivery.device_stream import CloseReason
from parleyd.delivery.receipt_counts import ReceiptCounter
from parleyd.events.source import EventSource
from parleyd.group.errors import OverloadedError, UnavailableError
from parleyd.group.proposals import AppliedCommands
from parleyd.group.readers import StateReaders
from parleyd.log_in_guard import LogInGuard
from parleyd.machine.features.devices import DeviceRow
from parleyd.machine.levels import MAX_LEVEL, MIN_LEVEL
from parleyd.machine.machine import StateMachine
from parleyd.machine.records import MemberRow
from parleyd.membership.members import ClusterMembers
from parleyd.observability.figures import ServiceFigures
from parleyd.presence.clients import ConnectedClients
from parleyd.presence.presence import Presence
from parleyd.raft.status import RaftStatus
from parleyd.raft.types import NO_NODE, ConfState, Index, NodeId, Role, Term
from parleyd.raft.update import RoleChange
from parleyd.security.passwords import PasswordHasher
from parleyd.storage.identity import NodeIdentity
from parleyd.transport.peer_calls import ForwardFailedError
from tests.support.budgets import stream_budgets
from tests.support.state import BCRYPT_COST, PASSWORD, WEEK_MS, Account, Device, InProcessState

__all__ = ["PASSWORD", "Account", "Device", "Faults", "InProcessCluster", "InProcessNode", "running_cluster"]

CLUSTER_ID = "c0ffee"
SERVER_OPTIONS = (("grpc.so_reuseport", 0), ("grpc.http2.min_ping_interval_without_data_ms", 500))
FAULT_TEXT = "Connection reset by fault"


class InProcessCluster(InProcessState):
    """What all nodes agree on, and the nodes."""

    def __init__(self, names: Sequence[str] = ("n1",), cluster_id: str = CLUSTER_ID) -> None:
        super().__init__([MemberRow(number, name, "", "") for number, name in enumerate(names, start=1)])
        self.cluster_id = cluster_id
        self.leader = names[0]
        self.term = 1
        self.nodes = [InProcessNode(self, name, NodeId(number)) for number, name in enumerate(names, start=1)]
        self.changes: list[peer_pb2.ClusterChange] = []  # changes of the members that were asked for
        self.change_status: peer_pb2.ChangeStatus.ValueType = peer_pb2.CHANGE_STATUS_DONE  # what became of them
        self.changes_end = asyncio.Event()  # cleared: a change that is asked for gets no answer
        self.changes_end.set()
        self.restarted: list[str] = []  # nodes that were asked to
        self.waiting: dict[str, MemberRow] = {}  # new nodes that wait to be added, by name
        self._passwords: PasswordHasher | None = None
        self.log_ins = LogInGuard(NodeId(1), lambda: NodeId(1), _no_other_leader)

    @property
    def passwords(self) -> PasswordHasher:
        """One pool for all nodes; made inside the event loop."""
        if self._passwords is None:
            self._passwords = PasswordHasher(BCRYPT_COST)
        return self._passwords

    def node(self, name: str) -> InProcessNode:
        """The node of that name."""
        return next(node for node in self.nodes if node.name == name)

    def lead(self, name: str) -> None:
        """Another node leads from now on."""
        self.leader = name
        self.term += 1
        self.announce()

    def news(self) -> pb.ClusterStatusUpdate:
        """What the first node that is up says about the cluster."""
        up = next((node for node in self.nodes if node.up), self.nodes[0])
        return up.view.status_update()

    def announce(self) -> None:
        """Every node tells its clients what it knows now; tests call this after they switched `no_majority`."""
        for node in self.nodes:
            node.announce()

    def broadcast(self, frame: pb.ServerFrame) -> None:
        """Send any frame to every connected device."""
        for node in self.nodes:
            for stream in node.streams:
                stream.push(frame)

    async def stop(self) -> None:
        """Stop every node, and close and remove the files."""
        for node in self.nodes:
            node.release()
            await node.die()
        if self._passwords is not None:
            self._passwords.close()
        await self.close()


@dataclass
class Faults:
    """What a node does wrong; tests switch these at any time."""

    lose_answers: int = 0  # unary answers to lose after applying
    lose_results: bool = False  # apply sends, never answer them
    retry: int = 0  # sends to answer with RETRY, whole frames
    gap: int = 0  # sends to call a gap, whole frames
    overloaded: int = 0  # proposals to refuse because too many wait
    delay_s: float = 0.0  # how long every proposal waits before it is applied
    hang: bool = False  # take everything, say nothing
    unavailable: str = ""  # refuse everything with UNAVAILABLE and this text
    no_majority: bool = False
    break_after_sends: int = 0  # end the stream, UNAVAILABLE, after applying so many send frames
    unauthenticated: int = 0  # Connect streams to refuse
    redeliver: int = 0  # messages below the cursor sent again at the start of a stream
    max_in_flight: int = 1024


class InProcessNode:
    """One address of the cluster."""

    def __init__(self, cluster: InProcessCluster, name: str, node_id: NodeId) -> None:
        self.cluster = cluster
        self.name = name
        self.node_id = node_id
        self.port = 0
        self.advertised = ""
        self.up = False
        self.faults = Faults()
        self.call_limits = CallLimits()
        self.busy = BusyPeers()
        self.stream_budgets = stream_budgets()
        self.figures = ServiceFigures()
        self.sessions = 0
        self.pings = 0
        self.hellos: list[pb.Hello] = []
        self.frames: list[pb.ClientFrame] = []
        self.called: list[str] = []
        self.reached = asyncio.Event()
        self.streams: list[FaultyStream] = []
        self.hub = DeviceHub()
        self.replica = InProcessReplica(self)
        self.events = EventSource()
        self.condition = no_condition
        self._released = asyncio.Event()
        self._server: grpc.aio.Server | None = None
        self._router = FaultyRouter(self)
        self._work: list[asyncio.Task[NoReturn]] = []

    @property
    def address(self) -> str:
        """Where clients reach it."""
        return f"127.0.0.1:{self.port}"

    @property
    def view(self) -> ClusterView:
        """The cluster as this node sees it."""
        identity = NodeIdentity(self.node_id, self.name, self.cluster.cluster_id)
        return _View(identity, self.replica, self.hub, self._is_up, condition=self.condition)

    async def start(self, credentials: grpc.ServerCredentials | None = None, port: int = 0) -> None:
        """Serve, on the port it had before if it had one."""
        presence = Presence(NodeId(self.node_id), 1, _NoPeers())
        show_typing = lambda *typing: self.hub.show_typing(*typing)  # noqa: E731, PLW0108 - of the hub that is made next
        self.clients = ConnectedClients(presence, lambda: None, show_typing)
        self.hub = DeviceHub(self.clients)
        self.cluster.listeners.append(self.hub.publish)
        authenticator = Authenticator(self.replica)
        admission = AdmissionInterceptor(authenticator, self.call_limits, self.busy, self.figures)
        self.places = admission.places
        server = grpc.aio.server(options=SERVER_OPTIONS, interceptors=(admission, _Interceptor(self)))
        self.followers = EventFollowers(self.events)
        self._add_services(server, authenticator)
        target = f"127.0.0.1:{port or self.port}"
        self.port = (
            server.add_insecure_port(target) if credentials is None else server.add_secure_port(target, credentials)
        )
        self.advertised = self.advertised or self.address
        await server.start()
        self._server = server
        counting = ReceiptCounter(self.hub, self.cluster.readers)
        self._work = [asyncio.create_task(work) for work in (counting.run(), self._node_marks.run())]
        self.up = True
        self._publish()
        self.cluster.announce()

    def _add_services(self, server: grpc.aio.Server, authenticator: Authenticator) -> None:
        readers = self.cluster.readers
        self._router = FaultyRouter(self)
        commands = Commands(self._router, lambda: self.cluster.machine.level)
        accounts_pb2_grpc.add_AccountsServicer_to_server(
            AccountsService(
                commands,
                readers,
                authenticator,
                self.cluster.passwords,
                PasswordCheck(self.cluster.passwords, self.cluster.log_ins, commands),
                AccountsConfig(WEEK_MS // 1000),
            ),
            server,
        )
        accounts_pb2_grpc.add_PresenceServicer_to_server(
            PresenceService(commands, readers, authenticator, self.view, self.clients), server
        )
        self._node_marks = NodeMarks(commands)
        messaging = MessagingService(
            self.name, commands, readers, authenticator, self.hub, self.clients, self.stream_budgets, self._node_marks
        )
        messaging.opener = opener = _Opener(self.name, readers, authenticator, self.hub, self.stream_budgets)
        opener.faults = self.faults
        add_messaging_to_server(messaging, server)
        conversations_pb2_grpc.add_ConversationsServicer_to_server(
            ConversationsService(
                commands, readers, authenticator, MessageReceipts(readers, authenticator, self.view, self.holders)
            ),
            server,
        )
        admin_pb2_grpc.add_AdminServicer_to_server(
            AdminService(
                self.view,
                authenticator,
                commands,
                _ChangeRouter(self.cluster),
                _handshake_of(self.cluster),
                _no_rebuild,
                self.cluster.passwords,
                Backups(self.cluster.data, self.view.identity, authenticator.is_current),
                lambda: self.cluster.restarted.append(self.name),
                self.followers,
            ),
            server,
        )

    async def holders(self, index: int) -> frozenset[int] | None:
        """Return the nodes that are up: they share one state. None without a majority."""
        if self.faults.no_majority:
            return None
        return frozenset(node.node_id for node in self.cluster.nodes if node.up)

    def _publish(self) -> None:
        """Tell the cluster this node's address, as a node does when it starts."""
        own = state_pb2.PublishMember(
            node_id=self.node_id,
            name=self.name,
            client_address=self.advertised,
            min_level=MIN_LEVEL,
            max_level=MAX_LEVEL,
        )
        self.cluster.apply_one(state_pb2.Command(publish_member=own))
        self.cluster.rise()

    async def die(self) -> None:
        """Every connection breaks at once; another node leads if this one did."""
        self.up = False
        self._router.is_closed = True
        if self.hub.publish in self.cluster.listeners:
            self.cluster.listeners.remove(self.hub.publish)
        server, self._server = self._server, None  # at once: a second call must not stop it again
        if server is not None:
            await server.stop(0)
        work, self._work = self._work, []
        for task in work:
            task.cancel()
        await asyncio.gather(*work, return_exceptions=True)
        heir = next((node.name for node in self.cluster.nodes if node.up), "")
        if self.cluster.leader == self.name and heir:
            self.cluster.lead(heir)
        else:
            self.cluster.announce()

    def announce(self) -> None:
        """Tell the connected clients what this node knows of the cluster."""
        self.hub.announce(self.view.status_update())

    def close_streams(self, reason: CloseReason = CloseReason.STOPPING) -> None:
        """End the streams there are."""
        self.hub.close_all(reason)

    def release(self) -> None:
        """End a hang."""
        self.faults.hang = False
        self._released.set()
        self._released.clear()

    async def stay_silent(self) -> None:
        """Wait as long as the node hangs."""
        while self.faults.hang:
            await self._released.wait()

    async def enter(self, name: str) -> None:
        """What every call meets first."""
        self.called.append(name)
        self.reached.set()
        await self.stay_silent()
        if self.faults.unavailable:
            raise ApiError(grpc.StatusCode.UNAVAILABLE, self.faults.unavailable)
        if name == "Connect" and self.faults.unauthenticated:
            self.faults.unauthenticated -= 1
            raise ApiError(grpc.StatusCode.UNAUTHENTICATED, "This session has ended. Log in again.")

    def _is_up(self, node_id: NodeId) -> bool:
        return any(node.node_id == node_id and node.up for node in self.cluster.nodes)


# ---- the replica and the router, without consensus


class InProcessReplica:
    """A node's part in the shared state: what the api asks of a replica."""

    def __init__(self, node: InProcessNode) -> None:
        self._node = node
        self._cluster = node.cluster
        self.readers: StateReaders = node.cluster.readers
        self.retired = False

    @property
    def machine(self) -> StateMachine:
        """The shared state machine."""
        return self._cluster.machine

    @property
    def cluster_now_ms(self) -> int:
        """The replicated time, which stands while nothing is applied."""
        return self._cluster.machine.now_ms

    @property
    def raft(self) -> InProcessReplica:
        """This object stands for the consensus core too."""
        return self

    @property
    def conf_state(self) -> ConfState:
        """Every node votes."""
        return ConfState(voters=tuple(sorted(node.node_id for node in self._cluster.nodes)))

    @property
    def role(self) -> RoleChange:
        """The leader is whom the cluster names."""
        leader = next((node.node_id for node in self._cluster.nodes if node.name == self._cluster.leader), NO_NODE)
        role = Role.LEADER if leader == self._node.node_id else Role.FOLLOWER
        return RoleChange(role, Term(self._cluster.term), leader)

    @property
    def is_leader(self) -> bool:
        """Whether this node leads."""
        return self.role.leader == self._node.node_id

    @property
    def serving(self) -> bool:
        """Whether commits flow."""
        return not self._node.faults.no_majority

    @property
    def members(self) -> ClusterMembers:
        """The cluster's members, as applied."""
        return ClusterMembers.of(self.machine.members())

    def status(self) -> RaftStatus:
        """One moment of a core that has applied everything."""
        index = Index(self.machine.applied_index)
        role = self.role
        return RaftStatus(
            id=self._node.node_id,
            role=role.role,
            term=role.term,
            voted_for=role.leader,
            leader=role.leader,
            commit_index=index,
            applied_index=index,
            first_index=Index(1),
            last_index=index,
            conf_state=self.conf_state,
            transferee=NO_NODE,
            uncommitted_bytes=0,
            progress=MappingProxyType({}),
        )

    async def wait_applied(self, index: int) -> None:
        """Everything proposed is applied: an index beyond it never comes."""
        if index > self.machine.applied_index:
            raise TimeoutError

    async def read_barrier(self) -> int:
        """The applied index, where there is a majority."""
        if self._node.faults.no_majority:
            raise UnavailableError("no majority of nodes answered in time")
        return self.machine.applied_index

    def next_role_change(self) -> asyncio.Future[None]:
        """The cluster announces changes by itself."""
        return asyncio.get_running_loop().create_future()


class FaultyRouter:
    """Applies what the api submits, unless the node's faults say otherwise."""

    def __init__(self, node: InProcessNode) -> None:
        self._node = node
        self.is_closed = False
        """True once the node has died: what was on its way then must not reach the state of a later life."""

    async def submit(self, commands: Sequence[state_pb2.Command], *, timeout_s: float) -> AppliedCommands:
        """Apply `commands` in one entry."""
        faults = self._node.faults
        sends = [send for command in commands for send in command.send_messages.sends]
        if faults.delay_s:
            await asyncio.sleep(faults.delay_s)
        if self.is_closed:
            raise UnavailableError("this node has stopped")
        if faults.no_majority:
            raise UnavailableError("no majority answers")
        if faults.overloaded > 0:
            faults.overloaded -= 1
            raise OverloadedError("too many entries wait for a majority")
        if sends and faults.retry > 0:
            faults.retry = max(0, faults.retry - len(sends))
            raise UnavailableError("no leader is known")
        if sends and faults.gap > 0:
            faults.gap = max(0, faults.gap - len(sends))
            gaps = [state_pb2.StoredSendResult(number=send.number, code=state_pb2.RESULT_CODE_GAP) for send in sends]
            sent = state_pb2.SendMessagesResult(sends=gaps)
            result = state_pb2.CommandResult(code=state_pb2.RESULT_CODE_GAP, send_messages=sent)
            return AppliedCommands(Index(self._node.cluster.index), (result,))
        return self._node.cluster.apply(commands)


class _ChangeRouter:
    """Notes which changes of the members were asked for, and has none carried out.

    What it answers is what the cluster's `change_status` says.
    """

    def __init__(self, cluster: InProcessCluster) -> None:
        self._cluster = cluster

    async def submit(self, change: peer_pb2.ClusterChange, *, timeout_s: float) -> peer_pb2.ClusterChangeReply:
        """Say what became of the change."""
        self._cluster.changes.append(change)
        await self._cluster.changes_end.wait()
        members = ClusterMembers.of(self._cluster.machine.members())
        learner = members.named(change.promote.name)
        is_voter = learner is not None and learner.node_id in {node.node_id for node in self._cluster.nodes}
        is_done = change.add.node_id in members.rows or is_voter
        index = 0 if is_done else self._cluster.index
        return peer_pb2.ClusterChangeReply(status=self._cluster.change_status, index=index)


def _handshake_of(cluster: InProcessCluster) -> HandshakeCall:
    async def handshake(name: str, address: str) -> peer_pb2.HandshakeInfo | None:
        """The answer of a member, or of whoever waits to be one; the address does not matter."""
        row = ClusterMembers.of(cluster.machine.members()).named(name) or cluster.waiting.get(name)
        if row is None:
            return None
        own = peer_pb2.PeerInfo(node_id=row.node_id, name=row.name)
        return peer_pb2.HandshakeInfo(self=own, cluster_id=cluster.cluster_id)

    return handshake


async def _no_other_leader(node: NodeId, attempt: peer_pb2.LogInAttempt, timeout_s: float) -> peer_pb2.LogInVerdict:
    raise ForwardFailedError(f"no link to node {node}", sent=False)


async def _no_rebuild(node: NodeId) -> peer_pb2.RebuildReply:
    raise ForwardFailedError(f"no link to node {node}", sent=False)


class _NoPeers:
    """Nodes here report nothing to each other."""

    def is_member(self, _: NodeId) -> bool:
        return False

    def connected(self, _: NodeId) -> bool:
        return False


class _View(ClusterView):
    def has_majority(self) -> bool:
        return self.replica.serving


class _Opener(StreamOpener):
    faults: Faults

    def start_after(self, device: DeviceRow, stored_up_to: int) -> int:
        return max(0, super().start_after(device, stored_up_to) - self.faults.redeliver)


# ---- faults on the wire


class FaultyStream:
    """The context of one Connect stream: it notes what comes up, and loses or holds what goes down."""

    def __init__(self, node: InProcessNode, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        self._node = node
        self._context = context
        self._writing = asyncio.Lock()
        self._pushed: set[asyncio.Task[None]] = set()
        self._is_breaking = False

    def invocation_metadata(self) -> Any:
        """The call's metadata."""
        return self._context.invocation_metadata()

    async def abort(
        self, status: grpc.StatusCode, text: str, trailing_metadata: tuple[tuple[str, str], ...] = ()
    ) -> None:
        """End the stream."""
        await self._context.abort(status, text, trailing_metadata)

    async def read(self) -> Any:
        """The next frame from the client."""
        frame = await self._context.read()
        node = self._node
        if frame is grpc.aio.EOF:
            return frame
        await node.stay_silent()
        match frame.WhichOneof("frame"):
            case "hello":
                node.hellos.append(frame.hello)
                node.sessions += 1
                return frame
            case "ping":
                node.pings += 1
            case "sends" if node.faults.break_after_sends > 0:
                node.faults.break_after_sends -= 1
                self._is_breaking = node.faults.break_after_sends == 0
        node.frames.append(frame)
        return frame

    async def write(self, frame: pb.ServerFrame | bytes) -> None:
        """A frame to the client."""
        await self._node.stay_silent()
        if isinstance(frame, pb.ServerFrame):
            if frame.HasField("results") and self._is_breaking:
                raise ApiError(grpc.StatusCode.UNAVAILABLE, FAULT_TEXT)
            if frame.HasField("results") and self._node.faults.lose_results:
                return
            if frame.HasField("welcome"):
                frame.welcome.max_sends_in_flight = self._node.faults.max_in_flight
        await self._send(frame)

    def push(self, frame: pb.ServerFrame) -> None:
        """Send a frame that the node would not have sent."""
        pushing = asyncio.ensure_future(self._send(frame))
        self._pushed.add(pushing)
        pushing.add_done_callback(self._pushed.discard)

    async def _send(self, frame: pb.ServerFrame | bytes) -> None:
        async with self._writing:
            await self._context.write(frame)


class _FaultyCall:
    """The context of a single call that is served like a stream: its answer may be lost."""

    def __init__(self, node: InProcessNode, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        self._node = node
        self._context = context

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)

    async def write(self, answer: Any) -> None:
        """The answer to the client."""
        await self._node.stay_silent()
        if self._node.faults.lose_answers > 0:
            self._node.faults.lose_answers -= 1
            await self._context.abort(grpc.StatusCode.INTERNAL, "the answer was lost")
        await self._context.write(answer)


class _Interceptor(grpc.aio.ServerInterceptor):
    """Puts the node's faults around every call."""

    def __init__(self, node: InProcessNode) -> None:
        self._node = node

    async def intercept_service(
        self, continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]], details: grpc.HandlerCallDetails
    ) -> Any:
        """Wrap the handler of a call."""
        handler = await continuation(details)
        name = str(details.method).rpartition("/")[2]
        if handler is None:
            return None
        if handler.unary_unary is not None:
            return grpc.unary_unary_rpc_method_handler(
                self._unary(name, handler.unary_unary),
                request_deserializer=handler.request_deserializer,
                response_serializer=handler.response_serializer,
            )
        if handler.unary_stream is not None:
            return grpc.unary_stream_rpc_method_handler(
                self._answers(name, handler.unary_stream),
                request_deserializer=handler.request_deserializer,
                response_serializer=handler.response_serializer,
            )
        return grpc.stream_stream_rpc_method_handler(
            self._stream(name, handler.stream_stream),
            request_deserializer=handler.request_deserializer,
            response_serializer=handler.response_serializer,
        )

    def _unary(self, name: str, method: Any) -> Any:
        node = self._node

        async def call(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
            try:
                await node.enter(name)
            except ApiError as error:
                await abort(context, error)
            answer = await method(request, context)
            await node.stay_silent()
            if node.faults.lose_answers > 0:
                node.faults.lose_answers -= 1
                await context.abort(grpc.StatusCode.INTERNAL, "the answer was lost")
            return answer

        return call

    def _answers(self, name: str, method: Any) -> Any:
        node = self._node

        async def call(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> AsyncIterator[Any]:
            await node.enter(name)
            async with aclosing(method(request, context)) as answers:
                async for answer in answers:
                    yield answer

        return call

    def _stream(self, name: str, method: Any) -> Any:
        node = self._node

        async def call(request_iterator: Any, context: grpc.aio.ServicerContext[Any, Any]) -> None:
            try:
                await node.enter(name)
            except ApiError as error:
                await abort(context, error)
            if name != "Connect":
                await method(request_iterator, _FaultyCall(node, context))
                return
            stream = FaultyStream(node, context)
            node.streams.append(stream)
            try:
                await method(request_iterator, stream)
            finally:
                node.streams.remove(stream)

        return call


@asynccontextmanager
async def running_cluster(
    names: Sequence[str] = ("n1",), credentials: grpc.ServerCredentials | None = None
) -> AsyncIterator[InProcessCluster]:
    """Nodes on free ports, stopped at the end."""
    cluster = InProcessCluster(names)
    try:
        for node in cluster.nodes:
            await node.start(credentials)
        yield cluster
    finally:
        await cluster.stop()
