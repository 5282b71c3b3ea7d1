"""The composition root: the only place that wires a node together, and its life from start to stop.

Start: lock the data directory, read or make the node's identity, bootstrap or join the cluster, bring log and state
together, then serve. Stop (SIGTERM, SIGINT): report NOT_SERVING, transfer leadership, end the streams so that clients
move on at once, finish the calls in progress, close the files. A storage failure stops the node at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import secrets
import signal
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import grpc
import grpc.aio
import structlog
from grpc_health.v1 import health, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from parley_proto.v1 import (
    accounts_pb2_grpc,
    admin_pb2_grpc,
    conversations_pb2_grpc,
    peer_pb2,
    peer_pb2_grpc,
)
from parleyd.administrator_claims import AdministratorClaims
from parleyd.api.accounts import AccountsConfig, AccountsService
from parleyd.api.administration import AdminService
from parleyd.api.admission import AdmissionInterceptor
from parleyd.api.auth import Authenticator
from parleyd.api.cluster_view import ClusterView
from parleyd.api.commands import Commands
from parleyd.api.conversations import ConversationsService
from parleyd.api.fencing import FenceInterceptor
from parleyd.api.messages import MessagingService, add_messaging_to_server
from parleyd.api.password_check import PasswordCheck
from parleyd.client_port import call_limits, server_options, stream_budgets
from parleyd.delivery.device_hub import DeviceHub
from parleyd.delivery.device_stream import CloseReason
from parleyd.exits import ExitCode
from parleyd.group.command_router import CommandRouter
from parleyd.group.disk_monitor import DiskMonitor
from parleyd.group.files import GroupFiles
from parleyd.group.group import Group
from parleyd.group.hosted import HostedGroups
from parleyd.group.opening import create_files, open_files, recover
from parleyd.group.parts import GroupObserver, GroupParts
from parleyd.group.peer_handler import PeerHandler
from parleyd.group.readers import StateReaders
from parleyd.group.rebuild import replace_state
from parleyd.group.retention import LogBounds
from parleyd.group.runner import GroupRunner, now_ms
from parleyd.group.settings import GroupSettings, GroupStart
from parleyd.group.snapshot_store import SnapshotStore
from parleyd.group_news import GroupNews
from parleyd.listening import listen
from parleyd.log_in_guard import LogInGuard
from parleyd.machine.levels import MAX_LEVEL, MIN_LEVEL
from parleyd.machine.limits import GROUP
from parleyd.machine.registry import GROWING
from parleyd.membership.addresses import AddressPublisher
from parleyd.membership.announced import AnnouncedRecords
from parleyd.membership.changes import MembershipChangeExecutor
from parleyd.membership.join_tokens import JoinTokens
from parleyd.membership.members import ClusterMembers
from parleyd.membership.router import MembershipChangeRouter
from parleyd.observability.logs import bind_process_fields
from parleyd.open_files import raise_limit
from parleyd.raft.config import RaftConfig
from parleyd.raft.raft import Raft
from parleyd.security.passwords import PasswordHasher
from parleyd.security.tls import (
    client_server_credentials,
    own_key_digest,
    peer_channel_credentials,
    peer_channel_options,
    peer_key_from_auth_context,
    peer_name_from_auth_context,
    peer_server_credentials,
)
from parleyd.settings.table import Settings
from parleyd.status_publisher import SERVICE_NAMES, StatusPublisher
from parleyd.storage import identity as identities
from parleyd.storage.data_directory import DataDirectory
from parleyd.storage.errors import IdentityError
from parleyd.storage.identity import NodeIdentity, PeerInfo
from parleyd.storage.operator_token import write_operator_token
from parleyd.transport import channels
from parleyd.transport.admission import CertificateReader
from parleyd.transport.bootstrap import bootstrap_cluster, handshake, handshake_info_of
from parleyd.transport.joining import JoinClient, RemovedError
from parleyd.transport.peer_calls import CallMetadata
from parleyd.transport.peer_links import GroupLinks, PeerLinks
from parleyd.transport.peer_registry import PeerRegistry
from parleyd.transport.peers import LinkSetup, PeerLink
from parleyd.transport.service import PeerService
from parleyd.transport.vouching import MemberQuestions, Vouching
from parleyd.trust import StateTrust


async def run_node(settings: Settings, reload: Callable[[], None]) -> int:
    """Run one node until it is stopped; return the exit code. Raises FatalError, StorageError, IdentityError.

    `reload` is called at SIGHUP.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for signal_number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signal_number, stop.set)
    loop.add_signal_handler(signal.SIGHUP, reload)
    raise_limit(settings.max_connections)
    try:
        with DataDirectory.open(settings.data_dir, settings.disk_reserve_bytes) as data:
            node = Node(settings, data, stop)
            await node.run()
    finally:
        for signal_number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            # The process ends. A signal that comes now must not take its exit code away.
            loop.remove_signal_handler(signal_number)
            signal.signal(signal_number, signal.SIG_IGN)
    return ExitCode.OK


@dataclass(frozen=True, slots=True)
class Components:
    """The parts of a node that serves."""

    hub: DeviceHub
    links: PeerLinks
    registry: PeerRegistry
    vouching: Vouching
    snapshot_store: SnapshotStore
    runner: GroupRunner
    trust: StateTrust
    disk: DiskMonitor
    addresses: AddressPublisher
    claims: AdministratorClaims
    handler: PeerHandler
    view: ClusterView
    passwords: PasswordHasher
    health: health.aio.HealthServicer
    client_server: grpc.aio.Server


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
            own_key_digest(settings),
        )
        self._channel_credentials = peer_channel_credentials(settings)
        self._operator_token = write_operator_token(data.operator_token)
        self._logger = structlog.get_logger("node")
        self._status_due = asyncio.Event()
        self._join_client = JoinClient(
            self._own, self._make_channel, GROUP, partial(_read_token, settings.join_token_file)
        )
        bind_process_fields(cluster=self._identity.cluster_id)

    async def run(self) -> None:
        """Run until `stop` is set and everything has ended."""
        service = PeerService(
            lambda: handshake_info_of(self._identity, self._own, self._settings.peers),
            None
            if self._settings.insecure
            else CertificateReader(peer_name_from_auth_context, peer_key_from_auth_context),
        )
        peer_server = grpc.aio.server(options=channels.SERVER_OPTIONS)
        peer_pb2_grpc.add_PeerServicer_to_server(service, peer_server)
        listen(peer_server, self._settings.peer_listen, peer_server_credentials(self._settings), "peer_listen")
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
        """Bootstrap or join the cluster on the first start; return False if stopped before that was done."""
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
        create_files(self._data, entered)
        # The identity is written last: whatever was made before a crash is made again at the next start.
        identities.save(self._data.identity, entered)
        self._identity = entered
        bind_process_fields(cluster=entered.cluster_id)
        self._logger.info(
            "cluster_joined" if self._settings.join else "cluster_bootstrapped",
            cluster=entered.cluster_id,
            bootstrap_members=[f.name for f in entered.bootstrap_members],
        )
        return True

    # ---- serving

    async def _serve(self, service: PeerService) -> bool:
        """Serve until stopped; return True if this node's state was rebuilt and it has to start again."""
        parts = self._build()
        identity = self._identity
        service.start_serving(
            {GROUP: parts.handler}, identity.cluster_id, identity.node_id, parts.registry, parts.vouching
        )
        try:
            async with asyncio.TaskGroup() as tasks:
                running = [tasks.create_task(work, name=name) for name, work in self._work(parts).items()]
                await parts.client_server.start()
                self._logger.info(
                    "serving_started", clients=self._settings.client_advertise, peers=self._settings.peer_advertise
                )
                await self._until_stopped_or_fetched(parts.trust.rebuild.fetched)
                await self._wind_down(parts)
                # Not before: a leader has to hear that the transfer succeeded, and requests on their way are finished.
                is_stopping = self._stop.is_set()
                service.stop_serving("this node stops" if is_stopping else "this node's state is being replaced")
                for task in running:
                    task.cancel()
        finally:
            await parts.client_server.stop(grace=0)
            parts.passwords.close()
            await parts.runner.close()
            parts.snapshot_store.close()
        if self._stop.is_set() or not parts.trust.rebuild.fetched.done():
            return False
        await asyncio.to_thread(replace_state, self._data, parts.trust.rebuild.fetched.result())
        return True

    async def _until_stopped_or_fetched(self, fetched: asyncio.Future[Path]) -> None:
        stopping = asyncio.ensure_future(self._stop.wait())
        try:
            await asyncio.wait((stopping, fetched), return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopping.cancel()

    def _work(self, parts: Components) -> dict[str, Coroutine[object, object, None]]:
        """Return the tasks of a serving node, by name."""
        return {
            "group": parts.runner.run(),
            "links": parts.links.run(),
            "damage": parts.runner.readers.watch_damage(),
            "status": StatusPublisher(parts.view, parts.health, self._status_due).run(),
            "addresses": parts.addresses.run(),
            "disk": parts.disk.run(),
            "become voter": self._become_voter(parts.runner, parts.vouching),
            "administrator claims": parts.claims.run(),
            **parts.trust.work(),
        }

    async def _wind_down(self, parts: Components) -> None:
        self._logger.info("shutdown_started")
        await parts.health.enter_graceful_shutdown()
        if parts.runner.is_leader and len(parts.runner.raft.conf_state.voters) > 1:
            transferred = await parts.runner.transfer_leadership()
            self._logger.info("leadership_transferred" if transferred else "leadership_transfer_timed_out")
        parts.hub.shut(CloseReason.STOPPING)
        await parts.client_server.stop(grace=self._settings.shutdown_grace_s)

    # ---- wiring: each part is made from those before it

    def _build(self) -> Components:
        settings, identity = self._settings, self._identity
        hub, links, groups = DeviceHub(), PeerLinks(), HostedGroups()
        link_setup = self._link_setup(groups)
        registry = PeerRegistry(identity.node_id, links, LinkMaker(settings, link_setup).make)
        questions = MemberQuestions(link_setup.call_metadata, self._make_channel)
        vouching = Vouching(identity.node_id, questions.ask)
        observer = GroupNews(identity.node_id, registry, vouching, hub, self._status_due)
        group_links = GroupLinks(links, GROUP)
        snapshot_store = SnapshotStore(self._data, settings.snapshot_chunk_bytes)
        runner = self._open_group(snapshot_store, group_links, observer)
        trust = StateTrust(
            identity.node_id,
            self._data,
            runner,
            links,
            settings.snapshot_chunk_bytes,
            on_change=observer.trust_changed,
        )
        groups.add(GROUP, runner, snapshot_store, trust.guard)
        router = CommandRouter(runner, group_links, settings.max_queued_commands)
        log_ins = LogInGuard(identity.node_id, lambda: runner.role.leader, links.count_log_in)
        changes = MembershipChangeExecutor(runner, links.connected, settings.election_timeout_max_ms)
        change_router = MembershipChangeRouter(runner, changes, group_links)
        addresses = AddressPublisher(self._own, runner, router, links)
        disk = DiskMonitor(identity.node_id, self._data, runner, links, self._status_due.set)
        view = ClusterView(
            identity,
            runner,
            hub,
            links.connected,
            divergence=lambda: trust.text,
            disk=lambda: disk.text,
            clock=lambda: observer.clock_text,
            snapshots=links.snapshot_problems,
        )
        passwords = PasswordHasher(settings.bcrypt_cost, max_waiting=settings.max_password_checks)
        health_service = health.aio.HealthServicer()
        observer.follow(runner, addresses, trust)
        return Components(
            hub=hub,
            links=links,
            registry=registry,
            vouching=vouching,
            snapshot_store=snapshot_store,
            runner=runner,
            trust=trust,
            disk=disk,
            addresses=addresses,
            claims=AdministratorClaims(self._data.path, router, lambda: runner.machine.level),
            handler=PeerHandler(
                identity,
                runner,
                snapshot_store,
                changes,
                change_router,
                JoinTokens(runner.readers, router),
                AnnouncedRecords(runner, router),
                trust.parts,
                log_ins.answer,
            ),
            view=view,
            passwords=passwords,
            health=health_service,
            client_server=self._make_client_server(
                router, change_router, view, passwords, log_ins, health_service, trust
            ),
        )

    def _link_setup(self, groups: HostedGroups) -> LinkSetup:
        info = handshake_info_of(self._identity, self._own, self._settings.peers)
        call_metadata = CallMetadata(self._identity.cluster_id, self._identity.node_id, info)
        return LinkSetup(call_metadata, self._make_channel, groups, groups, self._status_due.set)

    def _open_group(self, snapshot_store: SnapshotStore, outbound: GroupLinks, observer: GroupObserver) -> GroupRunner:
        settings = self._settings
        log, machine = open_files(self._data)
        recovered = recover(log, machine)
        files = GroupFiles(log, machine, StateReaders(self._data.state_db), snapshot_store)
        group = Group(
            Raft(self._raft_config(), recovered.initial_state()),
            GroupSettings(
                tick_ms=settings.tick_ms,
                retry_ms=settings.election_timeout_max_ms,
                log_bounds=LogBounds(settings.log_retain_entries, settings.log_retain_bytes),
                max_entry_bytes=settings.max_entry_bytes,
                max_waiting_proposals=settings.max_queued_commands,
                max_waiting_bytes=settings.max_queued_bytes,
                max_pipeline_bytes=settings.max_pipeline_bytes,
                growing_commands=GROWING,
            ),
            GroupStart(
                members=ClusterMembers.of(machine.members()),
                level=machine.level,
                kept_entries=recovered.applied_entries(),
                now_ms=now_ms(),
                rng=random.Random(secrets.randbits(63)),  # noqa: S311 - delays and names of questions, no secret
            ),
        )
        return GroupRunner(GroupParts(group, files, outbound, observer))

    def _raft_config(self) -> RaftConfig:
        settings = self._settings
        return RaftConfig(
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

    def _make_channel(self, name: str, address: str) -> grpc.aio.Channel:
        options: channels.Options = [] if self._settings.insecure else [*peer_channel_options(name)]
        use_proxy = self._settings.use_http_proxy
        return channels.peer_channel(address, self._channel_credentials, options, use_proxy=use_proxy)

    def _make_client_server(
        self,
        router: CommandRouter,
        change_router: MembershipChangeRouter,
        view: ClusterView,
        passwords: PasswordHasher,
        log_ins: LogInGuard,
        health_service: health.aio.HealthServicer,
        trust: StateTrust,
    ) -> grpc.aio.Server:
        settings = self._settings
        readers = view.replica.readers
        authenticator = Authenticator(view.replica)
        commands = Commands(router, lambda: view.replica.machine.level)
        fence = FenceInterceptor(lambda: trust.is_fenced)
        admission = AdmissionInterceptor(authenticator, call_limits(settings))
        server = grpc.aio.server(options=server_options(settings), interceptors=[fence, admission])
        accounts_pb2_grpc.add_AccountsServicer_to_server(
            AccountsService(
                commands,
                readers,
                authenticator,
                passwords,
                PasswordCheck(passwords, log_ins, commands),
                AccountsConfig(settings.session_ttl_s),
            ),
            server,
        )
        add_messaging_to_server(
            MessagingService(settings.name, commands, readers, authenticator, view.hub, stream_budgets(settings)),
            server,
        )
        conversations_pb2_grpc.add_ConversationsServicer_to_server(
            ConversationsService(commands, readers, authenticator), server
        )
        admin_pb2_grpc.add_AdminServicer_to_server(
            AdminService(
                view,
                authenticator,
                commands,
                change_router,
                self._handshake,
                trust.rebuild_member,
                passwords,
                self._operator_token,
            ),
            server,
        )
        health_pb2_grpc.add_HealthServicer_to_server(health_service, server)
        if settings.reflection:
            reflection.enable_server_reflection((*SERVICE_NAMES, health.SERVICE_NAME, reflection.SERVICE_NAME), server)
        listen(server, settings.client_listen, client_server_credentials(settings), "client_listen")
        return server

    # ---- membership

    async def _handshake(self, name: str, address: str) -> peer_pb2.HandshakeInfo | None:
        own = handshake_info_of(self._identity, self._own, self._settings.peers)
        return await handshake(own, name, address, self._make_channel)

    async def _become_voter(self, runner: GroupRunner, vouching: Vouching) -> None:
        """Ask repeatedly, on a node that was started to join, until it is a voter."""
        if not self._settings.join or runner.retired:
            return

        def contacts() -> dict[str, str]:
            known = {row.name: row.peer_address for row in runner.members.rows.values()}
            known.pop(self._settings.name, None)
            return {**known, **self._settings.join}

        def is_voter() -> bool:
            return self._identity.node_id in runner.raft.conf_state.voters

        try:
            await self._join_client.become_voter(self._identity, contacts, is_voter, vouching.introduce)
        except RemovedError:
            runner.retire("a member")


def _read_token(path: Path | None) -> str:
    """Return the join token; empty if there is no file yet, because an operator may write it while the node waits."""
    with contextlib.suppress(OSError, UnicodeDecodeError):
        return "" if path is None else path.read_text().strip()
    return ""


class LinkMaker:
    """Makes the link to a peer."""

    def __init__(self, settings: Settings, setup: LinkSetup) -> None:
        self._known = ({**settings.join}, {**settings.peers})
        self._setup = setup

    def make(self, peer: PeerInfo) -> PeerLink:
        """Make the link to `peer`: at the address that it published, or else at one in this node's settings.

        After all nodes moved at once, only the settings have the new addresses.
        """
        addresses = dict.fromkeys([peer.peer_address, *(known.get(peer.name, "") for known in self._known)])
        return PeerLink(peer.node_id, peer.name, [address for address in addresses if address], self._setup)
