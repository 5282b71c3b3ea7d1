"""The composition root: the only place that wires a node together, and its life from start to stop.

Start: lock the data directory, learn or make the node's identity, bootstrap the cluster or rejoin it, bring log and
state together, then serve. Stop (SIGTERM, SIGINT): say NOT_SERVING, hand leadership over, end the streams so that
clients move on at once, finish what is in flight, close the files. A storage failure stops the node at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import secrets
import signal
from collections.abc import Sequence
from pathlib import Path

import grpc
import grpc.aio
import structlog
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from parley_proto.v1 import (
    accounts_pb2,
    accounts_pb2_grpc,
    admin_pb2,
    admin_pb2_grpc,
    conversations_pb2,
    conversations_pb2_grpc,
    messaging_pb2,
    peer_pb2,
    peer_pb2_grpc,
    state_pb2,
)
from parleyd.api.accounts import AccountsConfig, AccountsService
from parleyd.api.administration import AdminService
from parleyd.api.auth import Authenticator
from parleyd.api.cluster_view import ClusterView
from parleyd.api.commands import Commands
from parleyd.api.conversations import ConversationsService
from parleyd.api.fencing import FenceInterceptor
from parleyd.api.messages import ConnectLimits, MessagingService, add_messaging_to_server
from parleyd.delivery.device_hub import DeviceHub
from parleyd.delivery.device_stream import CloseReason
from parleyd.exits import ExitCode, FatalError
from parleyd.group.command_router import CommandRouter
from parleyd.group.errors import OverloadedError, UnavailableError
from parleyd.group.peer_handler import PeerHandler
from parleyd.group.readers import StateReaders
from parleyd.group.rebuild import replace_state
from parleyd.group.replica import Limits, Replica, ReplicaTiming
from parleyd.group.retention import LogBounds, LogRetention
from parleyd.group.snapshot_store import SnapshotStore
from parleyd.machine.effects import Effect
from parleyd.machine.levels import MAX_LEVEL, MIN_LEVEL
from parleyd.machine.machine import StateMachine
from parleyd.machine.records import MemberRow
from parleyd.membership.changes import MembershipChangeExecutor
from parleyd.membership.members import ClusterMembers
from parleyd.membership.router import MembershipChangeRouter
from parleyd.observability.logs import bind_process_fields
from parleyd.raft.config import RaftConfig
from parleyd.raft.raft import Raft
from parleyd.raft.types import ConfState, Index, NodeId, Term
from parleyd.security.passwords import PasswordHasher
from parleyd.security.tls import (
    client_server_credentials,
    peer_channel_credentials,
    peer_channel_options,
    peer_name_from_auth_context,
    peer_server_credentials,
)
from parleyd.settings.table import Settings
from parleyd.storage import identity as identities
from parleyd.storage.data_directory import DataDirectory
from parleyd.storage.errors import IdentityError
from parleyd.storage.identity import NodeIdentity, PeerInfo
from parleyd.storage.raft_storage import RaftStorage
from parleyd.storage.recovery import Recovered, reconcile
from parleyd.transport import channels
from parleyd.transport.bootstrap import bootstrap_cluster, handshake, handshake_info_of
from parleyd.transport.codec import decode_membership, encode_membership
from parleyd.transport.joining import JoinClient, RemovedError
from parleyd.transport.peer_registry import PeerRegistry
from parleyd.transport.peers import CallMetadata, PeerEvents, PeerLink, PeerLinks
from parleyd.transport.service import PeerService
from parleyd.trust import StateTrust

STATUS_INTERVAL_S = 0.5
PUBLISH_TIMEOUT_S = 10.0
PUBLISH_RETRY_INTERVAL_S = 0.5

CLIENT_SERVER_OPTIONS: channels.Options = [
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_ping_interval_without_data_ms", 500),
    ("grpc.http2.max_ping_strikes", 0),
    ("grpc.so_reuseport", 0),
    # A frame of sends: 1024 bodies of the largest size would be too much; the SDK keeps frames far smaller.
    ("grpc.max_receive_message_length", 4 * 1024 * 1024),
    # A client that vanished without a word is noticed and its stream ended.
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.http2.ping_timeout_ms", 5_000),
]


async def run_node(settings: Settings) -> int:
    """Run one node until it is told to stop; returns the exit code. Raises FatalError, StorageError, IdentityError."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for signal_number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signal_number, stop.set)
    with DataDirectory.open(settings.data_dir) as data:
        node = Node(settings, data, stop)
        await node.run()
    return ExitCode.OK


class Node:
    """One node of a cluster."""

    def __init__(self, settings: Settings, data: DataDirectory, stop: asyncio.Event) -> None:
        self._settings = settings
        self._data = data
        self._stop = stop
        self._identity = self._load_identity()
        self._own = PeerInfo(
            self._identity.node_id,
            settings.name,
            settings.peer_advertise,
            settings.client_advertise,
            MIN_LEVEL,
            MAX_LEVEL,
        )
        self._channel_credentials = peer_channel_credentials(settings)
        self._logger = structlog.get_logger("node")
        self._status_due = asyncio.Event()
        self._members_changed = asyncio.Event()
        self._join_client = JoinClient(self._own, self._make_channel)
        bind_process_fields(cluster=self._identity.cluster_id)

    async def run(self) -> None:
        """Run until `stop` is set and everything is wound down."""
        service = PeerService(
            lambda: handshake_info_of(self._identity, self._own, self._settings.peers),
            None if self._settings.insecure else peer_name_from_auth_context,
        )
        peer_server = grpc.aio.server(options=channels.SERVER_OPTIONS)
        peer_pb2_grpc.add_PeerServicer_to_server(service, peer_server)
        _listen(peer_server, self._settings.peer_listen, peer_server_credentials(self._settings), "peer_listen")
        await peer_server.start()
        try:
            if await self._join():
                while await self._serve(service):
                    self._logger.info("node_restarted", reason="its state was rebuilt")
        finally:
            await peer_server.stop(grace=0)

    # ---- identity and bootstrap

    def _load_identity(self) -> NodeIdentity:
        path = self._data.identity
        known = identities.load(path)
        if known is None:
            known = identities.new_identity(self._settings.name)
            identities.save(path, known)
        if known.name != self._settings.name:
            raise IdentityError(
                f"the data directory {self._settings.data_dir} belongs to node {known.name}, but this node is named "
                f"{self._settings.name}. Nothing was started. Give each node a data directory of its own."
            )
        return known

    async def _join(self) -> bool:
        """Bootstrap or join the cluster on the first start; False when told to stop before that was done."""
        if self._identity.has_cluster:
            return True
        self._data.discard_incomplete_bootstrap()
        entering = asyncio.ensure_future(
            self._join_client.join(self._identity, self._settings.join)
            if self._settings.join
            else bootstrap_cluster(self._identity, self._own, self._settings.peers, self._make_channel)
        )
        stopping = asyncio.ensure_future(self._stop.wait())
        try:
            await asyncio.wait((entering, stopping), return_when=asyncio.FIRST_COMPLETED)
            if not entering.done():
                return False
            entered = entering.result()
        finally:
            entering.cancel()
            stopping.cancel()
            await asyncio.gather(entering, stopping, return_exceptions=True)
        self._create_files(entered)
        # The identity is written last: whatever was made before a crash is made anew on the next start.
        identities.save(self._data.identity, entered)
        self._identity = entered
        bind_process_fields(cluster=entered.cluster_id)
        self._logger.info(
            "cluster_joined" if self._settings.join else "cluster_bootstrapped",
            cluster=entered.cluster_id,
            bootstrap_members=[f.name for f in entered.bootstrap_members],
        )
        return True

    def _create_files(self, entered: NodeIdentity) -> None:
        voters = ConfState(voters=tuple(sorted(NodeId(member.node_id) for member in entered.bootstrap_members)))
        log = RaftStorage.open(self._data.raft_db)
        log.initialize(voters)
        log.close()
        members = [MemberRow(*dataclasses.astuple(founder)) for founder in entered.bootstrap_members]
        StateMachine.create(self._data.state_db, members, encode_membership(voters)).close()

    # ---- serving

    async def _serve(self, service: PeerService) -> bool:
        """Serve until told to stop; True where this node's state was rebuilt and it has to be started again."""
        log = RaftStorage.open(self._data.raft_db)
        machine = StateMachine.open(self._data.state_db)
        recovered = self._recover(log, machine)
        readers = StateReaders(self._data.state_db)
        bounds = LogBounds(self._settings.log_retain_entries, self._settings.log_retain_bytes)
        snapshot_store = SnapshotStore(self._data, self._settings.snapshot_chunk_bytes)
        hub = DeviceHub()
        links = PeerLinks()
        replica = Replica(
            raft=self._make_raft(recovered),
            log=log,
            machine=machine,
            readers=readers,
            outbound=links,
            snapshot_store=snapshot_store,
            retention=LogRetention(bounds, recovered.applied_entries()),
            timing=ReplicaTiming(self._settings.tick_ms, self._settings.election_timeout_max_ms),
            limits=Limits(self._settings.max_entry_bytes, self._settings.max_queued_commands),
            on_effects=lambda effects: _publish(effects, hub, trust),
            on_members=lambda members: self._follow_members(members, registry, replica, hub, trust),
            on_replaced=lambda: _replaced(hub, trust),
            on_hashes=lambda hashes: trust.guard.applied(hashes),  # noqa: PLW0108 - `trust` is made below
        )
        trust = StateTrust(
            self._identity.node_id,
            self._data,
            replica,
            links,
            self._settings.snapshot_chunk_bytes,
            on_change=lambda: self._follow_trust(replica, hub),
        )
        registry = PeerRegistry(
            self._identity.node_id,
            links,
            lambda peer: self._make_link(peer, _Events(self, replica, registry, hub, trust), snapshot_store),
        )
        self._follow_members(replica.members, registry, replica, hub, trust)
        trust.state_replaced()  # whoever has made the copy that this node may have been rebuilt from has the same
        self._follow_trust(replica, hub)
        changes = MembershipChangeExecutor(replica, links.connected, self._settings.election_timeout_max_ms)
        change_router = MembershipChangeRouter(replica, changes, links)
        handler = PeerHandler(self._identity, replica, snapshot_store, changes, change_router, trust.parts)
        view = ClusterView(self._identity, replica, hub, links.connected, lambda: trust.guard.text)
        router = CommandRouter(replica, links)
        passwords = PasswordHasher(self._settings.bcrypt_cost, max_waiting=self._settings.max_password_checks)
        health_service = health.aio.HealthServicer()
        client_server = self._make_client_server(router, change_router, view, passwords, health_service, trust)
        service.start_serving(handler, self._identity.cluster_id, self._identity.node_id, registry)
        try:
            async with asyncio.TaskGroup() as tasks:
                running = [
                    tasks.create_task(replica.run(), name="replica"),
                    tasks.create_task(links.run(), name="links"),
                    tasks.create_task(readers.watch_damage(), name="damage"),
                    tasks.create_task(self._publish_status(view, health_service), name="status"),
                    tasks.create_task(self._publish_addresses(replica, router), name="publish"),
                    tasks.create_task(self._become_voter(replica, registry, hub), name="become voter"),
                    *trust.start(tasks),
                ]
                await client_server.start()
                self._logger.info(
                    "serving_started", clients=self._settings.client_advertise, peers=self._settings.peer_advertise
                )
                await self._until_stopped_or_fetched(trust.rebuild.fetched)
                service.stop_serving()
                await self._wind_down(replica, hub, client_server, health_service)
                for task in running:
                    task.cancel()
        finally:
            await client_server.stop(grace=0)
            passwords.close()
            await replica.close()
            snapshot_store.close()
        if self._stop.is_set() or not trust.rebuild.fetched.done():
            return False
        await asyncio.to_thread(replace_state, self._data, trust.rebuild.fetched.result())
        return True

    async def _until_stopped_or_fetched(self, fetched: asyncio.Future[Path]) -> None:
        stopping = asyncio.ensure_future(self._stop.wait())
        try:
            await asyncio.wait((stopping, fetched), return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopping.cancel()

    def _recover(self, log: RaftStorage, machine: StateMachine) -> Recovered:
        recovered = reconcile(
            log.load(), Index(machine.applied_index), Term(machine.applied_term), decode_membership(machine.membership)
        )
        if recovered.repair is not None:
            log.append([recovered.repair])
        self._logger.info(
            "state_recovered",
            applied=recovered.applied_index,
            last=recovered.entries[-1].index if recovered.entries else recovered.snapshot.index,
            term=recovered.hard_state.current_term,
        )
        return recovered

    def _make_raft(self, recovered: Recovered) -> Raft:
        settings = self._settings
        config = RaftConfig(
            node_id=self._identity.node_id,
            election_timeout_ticks=max(1, settings.election_timeout_min_ms // settings.tick_ms),
            election_timeout_spread_ticks=max(
                1, (settings.election_timeout_max_ms - settings.election_timeout_min_ms) // settings.tick_ms
            ),
            heartbeat_ticks=max(1, settings.heartbeat_ms // settings.tick_ms),
            pre_vote=True,
            check_quorum=True,
            max_uncommitted_bytes=settings.max_uncommitted_bytes,
            max_inflight_messages=settings.max_inflight_messages,
            max_inflight_bytes=settings.max_inflight_bytes,
            max_applying_bytes=settings.max_apply_bytes,
            seed=secrets.randbits(63),
        )
        return Raft(config, recovered.initial_state())

    def _make_link(self, peer: PeerInfo, events: PeerEvents, snapshot_store: SnapshotStore) -> PeerLink:
        return PeerLink(
            node=peer.node_id,
            name=peer.name,
            address=self._settings.peers.get(peer.name) or peer.peer_address,
            call_metadata=CallMetadata(
                self._identity.cluster_id,
                self._identity.node_id,
                handshake_info_of(self._identity, self._own, self._settings.peers),
            ),
            make_channel=self._make_channel,
            events=events,
            snapshots=snapshot_store,
            on_change=self._status_due.set,
        )

    def _make_channel(self, name: str, address: str) -> grpc.aio.Channel:
        options: channels.Options = [] if self._settings.insecure else [*peer_channel_options(name)]
        return channels.peer_channel(address, self._channel_credentials, options)

    def _make_client_server(
        self,
        router: CommandRouter,
        change_router: MembershipChangeRouter,
        view: ClusterView,
        passwords: PasswordHasher,
        health_service: health.aio.HealthServicer,
        trust: StateTrust,
    ) -> grpc.aio.Server:
        settings = self._settings
        readers = view.replica.readers
        authenticator = Authenticator(view.replica)
        commands = Commands(router, lambda: view.replica.machine.level)
        fence = FenceInterceptor(lambda: trust.guard.fence is not None)
        server = grpc.aio.server(options=CLIENT_SERVER_OPTIONS, interceptors=[fence])
        accounts_pb2_grpc.add_AccountsServicer_to_server(
            AccountsService(commands, readers, authenticator, passwords, AccountsConfig(settings.session_ttl_s)), server
        )
        limits = ConnectLimits(settings.max_session_queue_bytes, settings.max_clients)
        add_messaging_to_server(
            MessagingService(settings.name, commands, readers, authenticator, view.hub, limits), server
        )
        conversations_pb2_grpc.add_ConversationsServicer_to_server(
            ConversationsService(commands, readers, authenticator), server
        )
        admin_pb2_grpc.add_AdminServicer_to_server(
            AdminService(view, authenticator, commands, change_router, self._handshake, trust.rebuild_member), server
        )
        health_pb2_grpc.add_HealthServicer_to_server(health_service, server)
        reflection.enable_server_reflection((*SERVICE_NAMES, health.SERVICE_NAME, reflection.SERVICE_NAME), server)
        _listen(server, settings.client_listen, client_server_credentials(settings), "client_listen")
        return server

    async def _publish_status(self, view: ClusterView, health_service: health.aio.HealthServicer) -> None:
        """Keep health and the connected clients told, whenever something changed."""
        announced: messaging_pb2.ClusterStatusUpdate | None = None
        watched: asyncio.Future[None] | None = None
        while True:
            if watched is not view.replica.next_role_change():
                watched = view.replica.next_role_change()
                watched.add_done_callback(lambda _: self._status_due.set())
            self._status_due.clear()
            status = view.status_update()
            if announced is None or not _same_status(announced, status):
                announced = status
                view.hub.announce(status)
                serving = health_pb2.HealthCheckResponse.SERVING if status.has_majority else NOT_SERVING
                for name in ("", *SERVICE_NAMES):
                    await health_service.set(name, serving)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(STATUS_INTERVAL_S):
                    await self._status_due.wait()

    # ---- membership

    async def _handshake(self, name: str, address: str) -> peer_pb2.HandshakeInfo | None:
        own = handshake_info_of(self._identity, self._own, self._settings.peers)
        return await handshake(own, name, address, self._make_channel)

    def _follow_members(
        self, members: ClusterMembers, registry: PeerRegistry, replica: Replica, hub: DeviceHub, trust: StateTrust
    ) -> None:
        """Talk to whoever is a member now; stop if that is not this node any more."""
        registry.update((_peer_info(row) for row in members.rows.values()), members.removed)
        if self._identity.node_id in members.removed:
            self.retire(replica, registry, hub, told_by="its own log")
        trust.members_changed(members)
        self._members_changed.set()
        self._status_due.set()

    def _follow_trust(self, replica: Replica, hub: DeviceHub) -> None:
        """A fenced node lets its clients go on elsewhere."""
        if replica.fenced:
            hub.shut(CloseReason.STOPPING)
        self._status_due.set()

    def retire(self, replica: Replica, registry: PeerRegistry, hub: DeviceHub, told_by: str) -> None:
        """This node was removed: serve nobody, disturb nobody, say so; a person ends the process."""
        if replica.retired:
            return
        replica.retire()
        self._logger.error(
            "node_removed",
            effect="this node serves nobody any more",
            advice="Stop it; to bring the machine back, move its data directory away and start it with --join",
            told_by=told_by,
        )
        registry.update((), [self._identity.node_id])
        hub.shut(CloseReason.STOPPING)
        self._status_due.set()

    async def _become_voter(self, replica: Replica, registry: PeerRegistry, hub: DeviceHub) -> None:
        """A node that was started to join asks on until it is a voter."""
        if not self._settings.join or replica.retired:
            return

        def contacts() -> dict[str, str]:
            known = {row.name: row.peer_address for row in replica.members.rows.values()}
            known.pop(self._settings.name, None)
            return {**known, **self._settings.join}

        try:
            await self._join_client.become_voter(
                self._identity, contacts, lambda: self._identity.node_id in replica.raft.conf_state.voters
            )
        except RemovedError:
            self.retire(replica, registry, hub, told_by="a member")

    async def _publish_addresses(self, replica: Replica, router: CommandRouter) -> None:
        """Tell the cluster this node's addresses where they differ from what it knows; a newcomer is known first."""
        own = state_pb2.PublishMember(
            node_id=self._own.node_id,
            name=self._own.name,
            peer_address=self._own.peer_address,
            client_address=self._own.client_address,
            min_level=MIN_LEVEL,
            max_level=MAX_LEVEL,
        )
        while True:
            self._members_changed.clear()
            known = replica.members.rows.get(self._own.node_id)
            if known is None:
                await self._members_changed.wait()
                continue
            if known == MemberRow(*dataclasses.astuple(self._own)):
                return
            try:
                applied = await router.submit([state_pb2.Command(publish_member=own)], timeout_s=PUBLISH_TIMEOUT_S)
            except (OverloadedError, UnavailableError):
                # Without this pause a full queue would never drain: the refusal comes at once.
                await asyncio.sleep(PUBLISH_RETRY_INTERVAL_S)
                continue
            await replica.wait_applied(applied.index)
            if applied.results[0].code != state_pb2.RESULT_CODE_OK:
                return

    async def _wind_down(
        self, replica: Replica, hub: DeviceHub, server: grpc.aio.Server, health_service: health.aio.HealthServicer
    ) -> None:
        self._logger.info("shutdown_started")
        await health_service.enter_graceful_shutdown()
        if replica.is_leader and len(replica.raft.conf_state.voters) > 1:
            transferred = await replica.transfer_leadership()
            self._logger.info("leadership_transferred" if transferred else "leadership_transfer_timed_out")
        hub.shut(CloseReason.STOPPING)
        await server.stop(grace=self._settings.shutdown_grace_s)


class _Events:
    """Gives what links report to the replica, and to the node where it concerns its life."""

    def __init__(self, node: Node, replica: Replica, registry: PeerRegistry, hub: DeviceHub, trust: StateTrust) -> None:
        self._node = node
        self._replica = replica
        self._registry = registry
        self._hub = hub
        self.peer_connected = trust.guard.peer_connected
        self.peer_lost = replica.peer_lost
        self.peer_unreachable = replica.peer_unreachable
        self.snapshot_sent = replica.snapshot_sent

    def removed_from_cluster(self, by: str) -> None:
        """A member refuses this node because it was removed."""
        self._node.retire(self._replica, self._registry, self._hub, told_by=by)


def _publish(effects: Sequence[Effect], hub: DeviceHub, trust: StateTrust) -> None:
    hub.publish(effects)
    trust.applied(effects)


def _replaced(hub: DeviceHub, trust: StateTrust) -> None:
    hub.close_all(CloseReason.REPLACED)
    trust.state_replaced()


NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
SERVICE_NAMES = tuple(
    descriptor.full_name
    for module in (accounts_pb2, messaging_pb2, conversations_pb2, admin_pb2)
    for descriptor in module.DESCRIPTOR.services_by_name.values()
)


def _listen(server: grpc.aio.Server, address: str, credentials: grpc.ServerCredentials | None, setting: str) -> None:
    try:
        if credentials is None:
            port = server.add_insecure_port(address)
        else:
            port = server.add_secure_port(address, credentials)
    except RuntimeError as error:
        raise FatalError(ExitCode.ADDRESS, _address_in_use_text(address, setting)) from error
    if port == 0:
        raise FatalError(ExitCode.ADDRESS, _address_in_use_text(address, setting))


def _address_in_use_text(address: str, setting: str) -> str:
    return (
        f"{setting}: {address} cannot be listened on; another process has it, or it is not an address of this machine. "
        "Nothing was started and no data was touched. See who has it with `ss -ltnp`, or choose another."
    )


def _peer_info(row: MemberRow) -> PeerInfo:
    return PeerInfo(NodeId(row.node_id), row.name, row.peer_address, row.client_address)


def _same_status(one: messaging_pb2.ClusterStatusUpdate, other: messaging_pb2.ClusterStatusUpdate) -> bool:
    return (one.leader, one.term, one.has_majority, list(one.nodes)) == (
        other.leader,
        other.term,
        other.has_majority,
        list(other.nodes),
    )
