"""The life of a node from start to stop. Its parts are made in wiring.py.

Start: lock the data directory, read or make the node's identity, bootstrap or join the cluster, bring log and state
together, then serve. Stop (SIGTERM, SIGINT): report NOT_SERVING, transfer leadership, end the streams so that clients
move on at once, finish the calls in progress, close the files. A storage failure stops the node at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import importlib
import signal
from collections.abc import AsyncIterator, Callable, Coroutine
from functools import partial
from pathlib import Path

import grpc
import grpc.aio
import structlog

from parleyd.addresses import parse_address
from parleyd.beside import beside
from parleyd.delivery.device_stream import CloseReason
from parleyd.delivery.receipt_counts import ReceiptCounter
from parleyd.events.journal import FILE_NAME
from parleyd.events.journal_writer import JournalKeeper, JournalWriter
from parleyd.events.source import EventSource
from parleyd.group.opening import create_files
from parleyd.group.rebuild import replace_state
from parleyd.group.runner import GroupRunner
from parleyd.http.health import Phase
from parleyd.life import Life
from parleyd.listening import listen
from parleyd.machine.limits import GROUP
from parleyd.observability.logs import bind_process_fields
from parleyd.open_files import raise_limit
from parleyd.own_record import own_record
from parleyd.security.node_certificates import NodeCertificates
from parleyd.security.tls import (
    peer_certificate_from_auth_context,
    peer_channel_credentials,
    peer_channel_options,
    peer_key_from_auth_context,
    peer_name_from_auth_context,
    peer_server_credentials,
)
from parleyd.settings.table import Settings
from parleyd.status_publisher import StatusPublisher
from parleyd.storage import identity as identities
from parleyd.storage import place
from parleyd.storage.data_directory import DataDirectory
from parleyd.storage.errors import IdentityError
from parleyd.storage.identity import NodeIdentity, PeerInfo
from parleyd.storage.operator_token import write_operator_token
from parleyd.transport import channels
from parleyd.transport.admission import CertificateReader
from parleyd.transport.bootstrap import bootstrap_cluster, handshake_info_of
from parleyd.transport.connection_guard import ConnectionGuard
from parleyd.transport.joining import JoinClient, RemovedError
from parleyd.transport.peer_server import make_peer_server
from parleyd.transport.service import PeerService
from parleyd.transport.vouching import Vouching
from parleyd.waiting_port import waiting_port
from parleyd.wiring import Components, NodeSetup, build

UNGUARDED = "this node serves, but strangers may hold connections of its peer port until it is restarted"
UNWATCHED = "this node serves, but takes over no renewed certificate until it is restarted"


async def run_node(settings: Settings, reload: Callable[[], None], events: EventSource) -> bool:
    """Run one node until it is stopped; return whether it starts again.

    Raises FatalError, StorageError, IdentityError.

    `reload` is called at SIGHUP. The node then looks at its certificates, too. The history among `events` goes into the
    node's journal.
    """
    if settings.http_listen:
        importlib.import_module("parleyd.monitoring")  # loaded late, because its libraries take a fifth of a second
    # Modules and classes stay. A full collection visits every object while the event loop stands still, so not these.
    gc.freeze()
    stop = Stop()
    loop = asyncio.get_running_loop()
    for signal_number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signal_number, stop.end)
    hung_up = asyncio.Event()

    def hang_up() -> None:
        reload()
        hung_up.set()

    loop.add_signal_handler(signal.SIGHUP, hang_up)
    raise_limit(settings.max_connections)
    try:
        with DataDirectory.open(settings.data_dir, settings.disk_reserve_bytes) as data:
            place.check(data.path)
            events.keep_journal(JournalWriter(JournalKeeper(data.path / FILE_NAME, settings.journal_bytes)))
            node = Node(settings, data, stop, hung_up, events)
            await node.run()
    finally:
        for signal_number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            # The process ends. A signal that comes now must not take its exit code away.
            loop.remove_signal_handler(signal_number)
            signal.signal(signal_number, signal.SIG_IGN)
    if stop.restarts:
        for signal_number in (signal.SIGTERM, signal.SIGINT):
            # Everything is closed. A signal to stop wins until the new program has its own handlers. SIGHUP stays
            # ignored until then: a start reads settings and certificates anyway.
            signal.signal(signal_number, signal.SIG_DFL)
    return stop.restarts


class Stop:
    """Whether the node has to stop, and whether it starts again after that. A signal to stop wins."""

    def __init__(self) -> None:
        self.is_asked = asyncio.Event()
        self.restarts = False
        self._ends = False

    def end(self) -> None:
        """Stop for good."""
        self._ends, self.restarts = True, False
        self.is_asked.set()

    def restart(self) -> None:
        """Stop, and start again."""
        self.restarts = not self._ends
        self.is_asked.set()


class Node:
    """One node of a cluster."""

    def __init__(
        self, settings: Settings, data: DataDirectory, stop: Stop, hung_up: asyncio.Event, events: EventSource
    ) -> None:
        """Prepare the node. It stops when `stop` is asked for, and looks at its certificates when `hung_up` is set."""
        self._settings = settings
        self._data = data
        self._stop = stop
        self._hung_up = hung_up
        self._events = events
        self._certificates = NodeCertificates.of(settings)
        self._identity = self._load_identity()
        self._operator_token = write_operator_token(data.operator_token)
        self._logger = structlog.get_logger("node")
        self._status_due = asyncio.Event()
        self._life = Life(self._identity.cluster_id)
        self._join_client = JoinClient(
            self._own, self._make_channel, GROUP, partial(_read_token, settings.join_token_file)
        )
        bind_process_fields(cluster=self._identity.cluster_id)

    @property
    def _own(self) -> PeerInfo:
        """Return this node's record, with the key that it has now."""
        return own_record(self._settings, self._identity.node_id, self._certificates)

    async def run(self) -> None:
        """Run until `stop` is asked for and everything has ended."""
        async with self._monitored():
            await self._run()

    @contextlib.asynccontextmanager
    async def _monitored(self) -> AsyncIterator[None]:
        """Serve http_listen while inside, if it is set. A failure there ends nothing else."""
        if not self._settings.http_listen:
            yield
            return
        from parleyd.monitoring import Monitoring

        effect = "this node serves, but monitoring systems get no answer until it is restarted"
        async with beside(Monitoring(self._settings, self._life, self._certificates).run(), "http_failed", effect):
            yield

    async def _run(self) -> None:
        service = PeerService(
            lambda: handshake_info_of(self._identity, self._own, self._settings.peers),
            None
            if self._settings.insecure
            else CertificateReader(
                peer_name_from_auth_context, peer_key_from_auth_context, peer_certificate_from_auth_context
            ),
            expected={*self._settings.peers, *self._settings.join},
            has_cluster=self._identity.has_cluster,
        )
        peer_server = make_peer_server(service)
        listen(peer_server, self._settings.peer_listen, peer_server_credentials(self._certificates), "peer_listen")
        await peer_server.start()
        try:
            async with (
                beside(self._guard(service), "connection_guard_failed", UNGUARDED),
                beside(self._watch_certificates(), "certificate_watch_failed", UNWATCHED),
            ):
                if await self._join():
                    while await self._serve(service):
                        self._logger.info("node_restarted", reason="its state was rebuilt")
        finally:
            await peer_server.stop(grace=0)

    async def _guard(self, service: PeerService) -> None:
        """Keep strangers from holding the peer port. Without TLS nobody knows who they are."""
        if not self._settings.insecure:
            await ConnectionGuard(service.connections, parse_address(self._settings.peer_listen).port).run()

    async def _watch_certificates(self) -> None:
        if self._certificates is not None:
            await self._certificates.run(self._hung_up)

    def _make_channel(self, name: str, address: str) -> grpc.aio.Channel:
        options: channels.Options = [] if self._settings.insecure else [*peer_channel_options(name)]
        use_proxy = self._settings.use_http_proxy
        credentials = peer_channel_credentials(self._certificates)
        return channels.peer_channel(address, credentials, options, use_proxy=use_proxy)

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
                f"{self._settings.name}. Nothing was started. Give each node a data directory of its own. A node keeps "
                "its name: for another name, add a new node and remove this one."
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
        stopping = asyncio.ensure_future(self._stop.is_asked.wait())
        try:
            async with waiting_port(self._settings, self._certificates):
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
        identity = self._identity
        self._life.enter(Phase.STARTING)
        self._life.cluster_id = identity.cluster_id
        parts = build(self._setup())
        self._life.figures, self._life.reports, self._life.console = parts.figures, parts.reports, parts.console
        service.start_serving(
            {GROUP: parts.handler}, identity.cluster_id, identity.node_id, parts.registry, parts.vouching
        )
        try:
            async with asyncio.TaskGroup() as tasks:
                running = [tasks.create_task(work, name=name) for name, work in self._work(parts).items()]
                await parts.client_server.start()
                self._life.enter(Phase.SERVING)
                self._logger.info(
                    "serving_started", clients=self._settings.client_advertise, peers=self._settings.peer_advertise
                )
                await self._until_stopped_or_fetched(parts.trust.rebuild.fetched)
                await self._wind_down(parts)
                # Not before: a leader has to hear that the transfer succeeded, and requests on their way are finished.
                is_stopping = self._stop.is_asked.is_set()
                service.stop_serving("this node stops" if is_stopping else "this node's state is being replaced")
                for task in running:
                    task.cancel()
        except BaseException:
            self._life.enter(Phase.FAILED)
            raise
        finally:
            self._life.figures = self._life.reports = self._life.console = None
            await parts.client_server.stop(grace=0)
            parts.passwords.close()
            await parts.runner.close()
            parts.snapshot_store.close()
        if self._stop.is_asked.is_set() or not parts.trust.rebuild.fetched.done():
            return False
        await asyncio.to_thread(replace_state, self._data, parts.trust.rebuild.fetched.result())
        return True

    async def _until_stopped_or_fetched(self, fetched: asyncio.Future[Path]) -> None:
        stopping = asyncio.ensure_future(self._stop.is_asked.wait())
        try:
            await asyncio.wait((stopping, fetched), return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopping.cancel()

    def _work(self, parts: Components) -> dict[str, Coroutine[object, object, None]]:
        """Return the tasks of a serving node, by name."""
        return {
            "group": parts.runner.run(),
            "links": parts.links.run(),
            "clients": parts.clients.run(),
            "marks": parts.node_marks.run(),
            "damage": parts.runner.readers.watch_damage(),
            "status": StatusPublisher(parts.view, parts.health, self._status_due).run(),
            "receipt counts": ReceiptCounter(parts.hub, parts.runner.readers).run(),
            "addresses": parts.addresses.run(),
            "disk": parts.disk.run(),
            "connections": parts.connections.run(),
            "become voter": self._become_voter(parts.runner, parts.vouching),
            "administrator claims": parts.claims.run(),
            "backups": parts.backup_schedule.run(),
            **({} if parts.keys is None else {"keys": parts.keys.run()}),
            **parts.trust.work(),
        }

    async def _wind_down(self, parts: Components) -> None:
        self._life.enter(Phase.STOPPING if self._stop.is_asked.is_set() else Phase.STARTING)
        self._logger.info("shutdown_started", restarts=self._stop.restarts)
        await parts.health.enter_graceful_shutdown()
        if parts.runner.is_leader and len(parts.runner.raft.conf_state.voters) > 1:
            transferred = await parts.runner.transfer_leadership()
            self._logger.info("leadership_transferred" if transferred else "leadership_transfer_timed_out")
        parts.hub.shut(CloseReason.STOPPING)
        self._events.ring.end_round()
        await parts.client_server.stop(grace=self._settings.shutdown_grace_s)

    def _setup(self) -> NodeSetup:
        return NodeSetup(
            settings=self._settings,
            data=self._data,
            identity=self._identity,
            own=self._own,
            make_channel=self._make_channel,
            certificates=self._certificates,
            restart=self._stop.restart,
            operator_token=self._operator_token,
            status_due=self._status_due,
            events=self._events,
        )

    # ---- membership

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
