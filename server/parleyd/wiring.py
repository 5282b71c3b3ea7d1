"""The composition root: the only place that makes the parts of a serving node and joins them."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import grpc
import grpc.aio
from grpc_health.v1 import health, health_pb2_grpc

from parley_proto.v1 import (
    accounts_pb2_grpc,
    admin_pb2_grpc,
    conversations_pb2_grpc,
    peer_pb2,
)
from parleyd.administrator_claims import AdministratorClaims
from parleyd.api.accounts import AccountsConfig, AccountsService
from parleyd.api.administration import AdminService
from parleyd.api.admission import AdmissionInterceptor
from parleyd.api.auth import Authenticator
from parleyd.api.cluster_view import ClusterView
from parleyd.api.commands import Commands
from parleyd.api.conversations import ConversationsService
from parleyd.api.events import EventFollowers
from parleyd.api.fencing import FenceInterceptor
from parleyd.api.messages import MessagingService, add_messaging_to_server
from parleyd.api.node_marks import NodeMarks
from parleyd.api.password_check import PasswordCheck
from parleyd.api.presence import PresenceService
from parleyd.api.receipts import MessageReceipts
from parleyd.backup.making import Backups
from parleyd.backup.schedule import BackupSchedule
from parleyd.budgets import StreamBudgets
from parleyd.client_port import call_limits, connection_watch, server_options, stream_budgets
from parleyd.connections import BusyPeers, ConnectionWatch
from parleyd.console import SESSION_S, ConsoleParts
from parleyd.delivery.device_hub import DeviceHub
from parleyd.drill import Drill
from parleyd.entry_holders import EntryHolders
from parleyd.events.source import EventSource
from parleyd.group.command_router import CommandRouter
from parleyd.group.disk_monitor import INTAKE_TEXTS, DiskMonitor
from parleyd.group.hosted import HostedGroups
from parleyd.group.peer_handler import PeerHandler
from parleyd.group.runner import GroupRunner
from parleyd.group.snapshot_store import SnapshotStore
from parleyd.group_making import open_group
from parleyd.group_news import GroupNews
from parleyd.key_change import KeyChanges
from parleyd.link_making import KnownPeers, LinkMaker
from parleyd.listening import listen
from parleyd.log_in_guard import LogInGuard
from parleyd.machine.limits import GROUP
from parleyd.membership.addresses import AddressPublisher
from parleyd.membership.announced import AnnouncedRecords
from parleyd.membership.changes import MembershipChangeExecutor
from parleyd.membership.join_tokens import JoinTokens
from parleyd.membership.router import MembershipChangeRouter
from parleyd.node_condition import NodeConditions
from parleyd.node_figures import NodeFigures, RoleCounts
from parleyd.observability.figures import ServiceFigures
from parleyd.presence.clients import ConnectedClients
from parleyd.presence.presence import Presence
from parleyd.raft.types import NodeId
from parleyd.security.node_certificates import NodeCertificates
from parleyd.security.passwords import PasswordHasher
from parleyd.security.tls import client_server_credentials
from parleyd.settings.table import Settings
from parleyd.status_publisher import SERVICE_NAMES
from parleyd.status_reports import StatusReports
from parleyd.storage.data_directory import DataDirectory
from parleyd.storage.identity import NodeIdentity, PeerInfo
from parleyd.transport.bootstrap import handshake, handshake_info_of
from parleyd.transport.channels import ChannelFactory
from parleyd.transport.peer_calls import CallMetadata
from parleyd.transport.peer_links import GroupLinks, PeerLinks
from parleyd.transport.peer_registry import PeerRegistry
from parleyd.transport.peers import LinkSetup
from parleyd.transport.vouching import MemberQuestions, Vouching
from parleyd.trust import StateTrust


@dataclass(frozen=True, slots=True)
class NodeSetup:
    """What a node has before its parts are made. `status_due` is set when clients and operators have to hear news."""

    settings: Settings
    data: DataDirectory
    identity: NodeIdentity
    own: PeerInfo
    make_channel: ChannelFactory
    certificates: NodeCertificates | None
    restart: Callable[[], None]
    operator_token: str
    status_due: asyncio.Event
    events: EventSource

    @property
    def handshake_info(self) -> peer_pb2.HandshakeInfo:
        """Return what this node says about itself in a handshake."""
        return handshake_info_of(self.identity, self.own, self.settings.peers)


@dataclass(frozen=True, slots=True)
class Components:
    """The parts of a node that serves."""

    hub: DeviceHub
    clients: ConnectedClients
    links: PeerLinks
    registry: PeerRegistry
    vouching: Vouching
    snapshot_store: SnapshotStore
    runner: GroupRunner
    trust: StateTrust
    disk: DiskMonitor
    addresses: AddressPublisher
    keys: KeyChanges | None
    claims: AdministratorClaims
    handler: PeerHandler
    view: ClusterView
    passwords: PasswordHasher
    health: health.aio.HealthServicer
    client_server: grpc.aio.Server
    node_marks: NodeMarks
    connections: ConnectionWatch
    backup_schedule: BackupSchedule
    figures: NodeFigures
    reports: StatusReports
    console: ConsoleParts


def build(setup: NodeSetup) -> Components:
    """Make all parts of a node that serves, each from those before it, and open its files."""
    settings, identity = setup.settings, setup.identity
    links, groups, busy = PeerLinks(), HostedGroups(), BusyPeers()
    peers = KnownPeers(links)
    clients = ConnectedClients(
        Presence(identity.node_id, secrets.randbits(63), peers),
        links.send_presence,
        lambda *typing: hub.show_typing(*typing),  # noqa: PLW0108 - the hub is made next
    )
    hub = DeviceHub(clients)
    link_setup = _link_setup(setup, groups, clients)
    registry = PeerRegistry(identity.node_id, links, LinkMaker(settings, link_setup).make)
    peers.registry = registry
    questions = MemberQuestions(link_setup.call_metadata, setup.make_channel)
    vouching = Vouching(identity.node_id, questions.ask)
    observer = GroupNews(identity.node_id, registry, vouching, hub, setup.status_due)
    group_links = GroupLinks(links, GROUP)
    snapshot_store = SnapshotStore(setup.data, settings.snapshot_chunk_bytes, settings.state_cache_bytes)
    parts = open_group(settings, setup.data, identity.node_id, snapshot_store, group_links, observer)
    runner = GroupRunner(parts)
    trust = StateTrust(
        identity.node_id,
        setup.data,
        runner,
        links,
        settings.snapshot_chunk_bytes,
        on_change=observer.trust_changed,
    )
    groups.add(GROUP, runner, snapshot_store, trust.guard)
    router = CommandRouter(runner, group_links, settings.max_queued_commands)
    log_ins = LogInGuard(identity.node_id, lambda: runner.role.leader, links.count_log_in)
    holders = EntryHolders(identity.node_id, runner.raft.status, links.list_holders)
    changes = MembershipChangeExecutor(
        runner, links.connected, settings.election_timeout_max_ms, settings.shutdown_grace_s
    )
    change_router = MembershipChangeRouter(runner, changes, group_links)
    addresses = AddressPublisher(setup.own, runner, router, links)
    disk = DiskMonitor(identity.node_id, setup.data, runner, links, setup.status_due.set)
    authenticator = Authenticator(runner)
    backups = Backups(setup.data, identity, authenticator.is_current)
    schedule = BackupSchedule(
        backups, settings.backup_folder, settings.backup_interval_s, settings.backup_keep, lambda: trust.is_sound
    )
    view = ClusterView(
        identity,
        runner,
        hub,
        links.connected,
        divergence=lambda: trust.text,
        disk=lambda: disk.text,
        refused=lambda: INTAKE_TEXTS[runner.intake] if runner.is_leader else "",
        clock=lambda: observer.clock_text,
        snapshots=links.snapshot_problems,
        certificates=partial(_certificates, setup, registry),
        condition=NodeConditions(
            setup.certificates, setup.data.space, parts.files.write_seconds, schedule, groups.loop_lag_ms
        ).get,
    )
    reports = StatusReports(view, links.report_status)
    passwords = PasswordHasher(settings.bcrypt_cost, max_waiting=settings.max_password_checks)
    health_service = health.aio.HealthServicer()
    budgets, service = stream_budgets(settings), ServiceFigures()
    commands = Commands(router, lambda: runner.machine.level, log_commands=settings.log_commands)
    node_marks = NodeMarks(commands)
    check = PasswordCheck(passwords, log_ins, commands)

    def accounts_for(session_ttl_s: int) -> AccountsService:
        config = AccountsConfig(session_ttl_s)
        return AccountsService(commands, runner.readers, authenticator, passwords, check, config)

    admin = AdminService(
        view,
        authenticator,
        commands,
        change_router,
        partial(_handshake, setup),
        trust.rebuild_member,
        passwords,
        backups,
        setup.restart,
        EventFollowers(setup.events),
        setup.operator_token,
    )
    admission = AdmissionInterceptor(authenticator, call_limits(settings), busy, service)
    observer.follow(runner, addresses, trust)
    return Components(
        hub=hub,
        clients=clients,
        links=links,
        registry=registry,
        vouching=vouching,
        snapshot_store=snapshot_store,
        runner=runner,
        trust=trust,
        disk=disk,
        addresses=addresses,
        keys=None
        if setup.certificates is None
        else KeyChanges(setup.certificates, registry, links, lambda: runner.members, addresses.key_changed),
        claims=AdministratorClaims(setup.data.path, router, lambda: runner.machine.level),
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
            clients.received,
            holders.answer,
            reports.own,
        ),
        view=view,
        passwords=passwords,
        health=health_service,
        client_server=_make_client_server(
            setup,
            commands,
            accounts_for(settings.session_ttl_s),
            admin,
            view,
            authenticator,
            clients,
            holders,
            health_service,
            trust,
            admission,
            budgets,
            node_marks,
        ),
        node_marks=node_marks,
        connections=connection_watch(settings, busy),
        backup_schedule=schedule,
        figures=NodeFigures(
            settings=settings,
            parts=parts,
            runner=runner,
            roles=RoleCounts(runner),
            router=router,
            snapshots=snapshot_store,
            disk=disk,
            backups=schedule,
            hub=hub,
            clients=clients,
            budgets=budgets,
            service=service,
            places=admission.places,
            connected=links.connected,
            has_majority=view.has_majority,
            is_fenced=lambda: trust.is_fenced,
        ),
        reports=reports,
        console=ConsoleParts(
            accounts_for(min(settings.session_ttl_s, SESSION_S)),
            admin,
            authenticator,
            view,
            Drill(commands, runner.readers, authenticator),
            service,
            lambda: trust.is_sound,
        ),
    )


def _certificates(setup: NodeSetup, registry: PeerRegistry) -> Mapping[NodeId, bytes]:
    """Return the certificates of the members that call, and this node's own, by their digests."""
    own = b"" if setup.certificates is None else setup.certificates.digest
    return {**registry.certificates, setup.identity.node_id: own}


def _link_setup(setup: NodeSetup, groups: HostedGroups, clients: ConnectedClients) -> LinkSetup:
    info = setup.handshake_info
    call_metadata = CallMetadata(setup.identity.cluster_id, setup.identity.node_id, info)
    return LinkSetup(
        call_metadata, setup.make_channel, groups, groups, setup.status_due.set, clients, groups.loop_lag_ms
    )


def _make_client_server(
    setup: NodeSetup,
    commands: Commands,
    accounts: AccountsService,
    admin: AdminService,
    view: ClusterView,
    authenticator: Authenticator,
    clients: ConnectedClients,
    holders: EntryHolders,
    health_service: health.aio.HealthServicer,
    trust: StateTrust,
    admission: AdmissionInterceptor,
    budgets: StreamBudgets,
    node_marks: NodeMarks,
) -> grpc.aio.Server:
    settings = setup.settings
    readers = view.replica.readers
    fence = FenceInterceptor(lambda: trust.is_fenced, lambda: view.replica.retired)
    server = grpc.aio.server(options=server_options(settings), interceptors=[fence, admission])
    accounts_pb2_grpc.add_AccountsServicer_to_server(accounts, server)
    accounts_pb2_grpc.add_PresenceServicer_to_server(
        PresenceService(commands, readers, authenticator, view, clients), server
    )
    add_messaging_to_server(
        MessagingService(settings.name, commands, readers, authenticator, view.hub, clients, budgets, node_marks),
        server,
    )
    conversations_pb2_grpc.add_ConversationsServicer_to_server(
        ConversationsService(
            commands, readers, authenticator, MessageReceipts(readers, authenticator, view, holders.of)
        ),
        server,
    )
    admin_pb2_grpc.add_AdminServicer_to_server(admin, server)
    health_pb2_grpc.add_HealthServicer_to_server(health_service, server)
    if settings.reflection:
        from grpc_reflection.v1alpha import reflection  # a tenth of a start, and off by default

        reflection.enable_server_reflection((*SERVICE_NAMES, health.SERVICE_NAME, reflection.SERVICE_NAME), server)
    listen(server, settings.client_listen, client_server_credentials(setup.certificates), "client_listen")
    return server


async def _handshake(setup: NodeSetup, name: str, address: str) -> peer_pb2.HandshakeInfo | None:
    return await handshake(setup.handshake_info, name, address, setup.make_channel)
