"""One account on this machine: its file, its connection, and its observable state.

The stream reports events (MessageStreamEvents). The account resolves the handles and publishes the new state. It finds
the changes of other processes in the file, by revision.
"""

import asyncio
import time
from collections.abc import Iterable, Sequence
from contextlib import aclosing
from random import Random
from typing import NoReturn

from parley import restoration
from parley.client_state import ConnectionState
from parley.connection import ConnectionManager, ConnectionManagerSettings
from parley.device import directory, identity, inbox, lost, outbox, restored, schema, shared_state
from parley.device.profile import FileLock, Hosts, Profile, StateDirectory
from parley.device.spellings import kept_elsewhere
from parley.device.store import Store
from parley.device.token_store import TokenStore
from parley.errors import StoreError
from parley.known import Known
from parley.log import logger
from parley.model import FINAL, Account, Conversation, Outgoing, Receipt, ReceiptCounts, Target
from parley.net.cluster_client import ClusterClient
from parley.net.unary_caller import UnaryCaller
from parley.outgoing_message import OutgoingMessage, check_body
from parley.reader import MessageReader
from parley.receipts import with_progress
from parley.shared import Shared
from parley.state_publisher import AccountVoice
from parley.wire.actions import TellStatus, TellWelcome
from parley.wire.endpoints import Endpoint
from parley.wire.position import Life, Position, raised, was_restored

REFRESH_INTERVAL_S = 0.02
REFRESH_PAGE = 500
PUBLISH_INTERVAL_S = 0.1
PRUNE_EVERY = 5000


class LocalAccount:
    """An account in use. run() sends and receives its messages."""

    def __init__(
        self,
        profile: Profile,
        directory: StateDirectory,
        shared: Shared,
        caller: UnaryCaller,
        publisher: AccountVoice,
        rng: Random,
        settings: ConnectionManagerSettings,
        token_store: TokenStore,
        cluster: ClusterClient,
        *,
        connect: bool,
    ) -> None:
        """With `connect` false, no session is opened. `cluster` is asked when it was restored from a backup."""
        self._cluster = cluster
        self.profile = profile
        self.store = Store(profile.database, on_foreign_change=self._foreign, thread=shared.store_thread)
        self._directory = directory
        self._known_endpoints = shared.known_endpoints
        self._publisher = publisher
        self._connect = connect
        self._handles: dict[int, OutgoingMessage] = {}
        self.known = Known()
        self.account_id = 0
        self._revision = 0
        self._told_meanwhile: set[int] | None = None  # local ids, while the file is read
        self._waiting_when_opened = 0
        self._since_prune = 0
        self._dirty = asyncio.Event()
        self._foreign_seen = False
        self._reader: MessageReader | None = None
        self._reader_lock = FileLock(profile.directory / "reader.lock")
        self.position = Position()
        hosts = directory.hosts(profile.cluster_id)
        self._known_endpoints.learn(dict(hosts.learned))
        self.connection = ConnectionManager(
            self.store,
            FileLock(profile.directory / "device.lock"),
            shared.known_endpoints,
            shared.sessions,
            caller,
            publisher,
            self,
            rng,
            settings,
            token_store,
            last_good=_parse(hosts.last_good, shared.known_endpoints.all()),
        )

    # ---- lifetime

    async def open(self, device_id: bytes | None = None) -> identity.DeviceIdentity:
        """Open the file and read what is in it. A file without a device gets `device_id`, or a new one."""
        self.profile.make()
        await self.store.open()
        await self.store.write(outbox.prune)
        await self.store.write(inbox.prune)
        await self.store.write(directory.prune)
        who = await self.store.write(lambda c: identity.load(c, device_id))
        self.position, self.account_id = who.position, who.account_id
        self._revision = await self.store.read(schema.next_revision) - 1
        self.known.learn_accounts(await self.store.read(directory.accounts))
        self.known.learn_conversations(await self.store.read(directory.conversations))
        self._waiting_when_opened = await self.store.read(outbox.count_open)
        return who

    def show(self, who: identity.DeviceIdentity) -> None:
        """Make the observable state this account's."""
        self._publisher.update(
            account=self.profile.account,
            max_message_bytes=who.max_message_bytes,
            connection=ConnectionState.CONNECTING if who.token else ConnectionState.SIGNED_OUT,
            waiting=self._waiting_when_opened,
            problem="",
            away=False,
            kept_elsewhere="",
        )

    async def run(self) -> None:
        """Send and receive until cancelled, then close the file."""
        self._dirty.set()
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._refresh())
                group.create_task(self._publish())
                group.create_task(self._tell_kept_elsewhere())
                if self._connect:
                    group.create_task(self.connection.run())
        finally:
            await asyncio.shield(self.close())

    async def _tell_kept_elsewhere(self) -> None:
        if told := await asyncio.to_thread(kept_elsewhere, self.profile):
            self._publisher.update(kept_elsewhere=told)

    def retire(self) -> None:
        """Tell nothing any more, because another account is in use from now on. What is queued is still stored."""
        self._publisher.silence()

    async def close(self) -> None:
        """End the reader and close the file, after all queued writes."""
        self.end_reading(done=False)
        position = self.position
        self.store.post(lambda c: identity.raise_position(c, position))
        await self.store.close()
        self.connection.release()
        self._reader_lock.release()

    def signed_in(self, account: Account, position: Position, max_message_bytes: int, *, anew: bool) -> None:
        """Record a log-in. With `anew` the device begins anew, because its data may be newer than the cluster's."""
        if anew or self.account_id not in (0, account.id):
            self.known, self.position = Known(), Position()
        self.account_id = account.id
        self._publisher.update(max_message_bytes=max_message_bytes)
        self._foreign_seen = True  # the log-in may have changed the outcomes of waiting messages
        self._dirty.set()
        self.seen(position)
        self.learn(accounts=(account,))

    # ---- the outbox

    async def send(self, items: Sequence[tuple[Target, str]], *, urgent: bool = False) -> list[OutgoingMessage]:
        """Store messages durably, in order. The connection then sends them."""
        limit = self._publisher.state.max_message_bytes
        for _, body in items:
            check_body(body, limit)
        now_ms, known = int(time.time() * 1000), self.position.lowest_index
        views = await self.store.add(outbox.Addition(items, now_ms, known, urgent))
        return [self.track(view) for view in views]

    async def edit(self, local_id: int, body: str) -> Outgoing:
        """Change a waiting message."""
        limit = self._publisher.state.max_message_bytes
        check_body(body, limit)
        view = await self.store.write(lambda c: outbox.edit(c, local_id, body))
        self._tell([view])
        return view

    async def cancel(self, local_id: int) -> Outgoing:
        """Withdraw a waiting message or remove a failed one."""
        view = await self.store.write(lambda c: outbox.cancel(c, local_id))
        self._removed([local_id])
        return view

    async def retry(self, local_id: int) -> OutgoingMessage:
        """Send a failed message again, as a new one."""
        now_ms, known = int(time.time() * 1000), self.position.lowest_index
        view = await self.store.write(lambda c: outbox.retry(c, local_id, now_ms, known), adds=True)
        self._removed([local_id])
        return self.track(view)

    def handle(self, view: Outgoing) -> OutgoingMessage:
        """Return a handle for a message of the outbox, even if it was typed before a restart."""
        known = self._handles.get(view.local_id)
        if known is None:
            known = OutgoingMessage(view)
            known.update(view)
            if view.status not in FINAL:
                self._handles[view.local_id] = known
        return known

    async def waiting(self, limit: int) -> tuple[OutgoingMessage, ...]:
        """Return the messages without a final result, oldest first."""
        handles = [self.handle(view) for view in await self.store.read(lambda c: outbox.open_messages(c, limit))]
        ids = [handle.local_id for handle in handles]
        # A result that came before there was a handle was told to nobody. It is in the file by now.
        views = (await self.store.read(lambda c: outbox.get_many(c, ids))).values()
        self._tell([view for view in views if view.status in FINAL])
        return tuple(handle for handle in handles if handle.view.status not in FINAL)

    def with_progress(self, view: Outgoing) -> Outgoing:
        """Return an accepted message as delivered or read if all other members have received or read it."""
        return with_progress(view, self.known.conversation(view.conversation_id), self.account_id)

    def track(self, view: Outgoing) -> OutgoingMessage:
        """Return the handle of a message that entered the outbox now."""
        handle = OutgoingMessage(view)
        self._handles[view.local_id] = handle
        self._tell([view])
        return handle

    def lost_changed(self) -> None:
        """Record that the list of lost messages changed."""
        self._dirty.set()

    # ---- the inbox

    async def reader(self, *, own: bool) -> MessageReader:
        """Return a reader of new messages. The earlier reader of this client ends."""
        if self._reader is not None:
            self._reader.close()
        durable = self._reader_lock.try_acquire()
        start = await self.store.read(inbox.shown_place if durable else inbox.last_place)
        reader = MessageReader(self.store, start, own=own, durable=durable, on_close=self._reader_closed)
        self._reader = reader
        return reader

    def end_reading(self, *, done: bool) -> None:
        """Close the reader. With `done` the message that it returned last counts as shown."""
        if self._reader is not None:
            self._reader.close(done=done)

    def _reader_closed(self) -> None:
        self._reader = None

    async def mark_read(self, conversation_id: int, up_to: int) -> None:
        """Store durably how far the person has read. The stream tells the cluster when it can."""
        await self.store.write(lambda c: inbox.set_read(c, conversation_id, up_to))
        await self.push_reads()

    async def push_reads(self) -> None:
        """Have the stream send the read positions that wait, if there is one."""
        if self.connection.stream is not None:
            await self.connection.stream.push_reads()

    # ---- MessageStreamEvents

    def welcomed(self, welcome: TellWelcome) -> None:
        """Record that the session began."""
        self.connection.welcomed()
        endpoint = self.connection.endpoint
        if endpoint is not None:
            self._known_endpoints.met(endpoint, welcome.node_name)
            self._remember(str(endpoint))
        self._publisher.update(
            account=self.profile.account,
            node=welcome.node_name,
            address=str(endpoint or ""),
            lost="",
            trying="",
            problem="",
            tls_trouble=False,
            superseded=False,
            caught_up=False,
            max_message_bytes=welcome.max_message_bytes or self._publisher.state.max_message_bytes,
        )

    def status_told(self, status: TellStatus) -> None:
        """Record the addresses of the members."""
        if self._known_endpoints.learn({node.name: node.address for node in status.nodes}):
            self._remember(str(self.connection.endpoint or ""))

    def settled(self, messages: Sequence[Outgoing]) -> None:
        """Record final results."""
        self._tell(messages)
        self._grown(len(messages))

    def sending(self, messages: Sequence[Outgoing]) -> None:
        """Record which messages were sent to the cluster."""
        self._tell(messages)

    @property
    def is_restored(self) -> bool:
        """Return whether the cluster was restored and this device has not compared yet: its ids may mean others."""
        return was_restored(self.position, self._cluster.generation)

    def seen(self, position: Position) -> None:
        """Record that an answer came from this position."""
        self.position = raised(self.position, position)

    def learned(
        self,
        accounts: Iterable[Account],
        conversations: Iterable[Conversation],
        removed: Iterable[tuple[int, int]] = (),
    ) -> None:
        """Record stored accounts and conversations. Notify watchers of new ones."""
        fresh = self.known.learn_accounts(accounts)
        self._tell_learned(fresh, self.known.learn_conversations(conversations) + self.known.remove(removed))

    def learn(
        self,
        *,
        accounts: Iterable[Account] = (),
        conversations: Iterable[Conversation] = (),
        removed: Sequence[tuple[int, int]] = (),
    ) -> None:
        """Record the accounts and conversations that an answer named. Store new ones and notify watchers.

        `removed`: conversation and message up to which it was removed.
        """
        fresh = self.known.learn_accounts(accounts)
        changed = self.known.learn_conversations(conversations) + self.known.remove(removed)
        if fresh or changed or removed:
            if not self.is_restored:
                self.store.post(lambda c: directory.learn(c, fresh, changed, removed))
            self._tell_learned(fresh, changed)

    def _tell_learned(self, accounts: tuple[Account, ...], conversations: tuple[Conversation, ...]) -> None:
        if self._reader is not None:
            self._reader.drop({one.id: one.removed_up_to for one in conversations if one.removed_up_to})
        self._publisher.changed(accounts=accounts, conversations=conversations)

    def _grown(self, count: int) -> None:
        """Prune old settled data now and then, so that a program that runs for months does not fill the disk."""
        self._since_prune += count
        if self._since_prune >= PRUNE_EVERY:
            self._since_prune = 0
            self.store.post(outbox.prune)
            self.store.post(inbox.prune)
            self.store.post(directory.prune)

    def received(self, count: int) -> None:
        """Record that the inbox grew."""
        self._grown(count)
        if self._reader is not None:
            self._reader.grew()
        self._publisher.changed(inbox=True)

    async def cluster_went_back(self) -> None:
        """Forget what this device has seen, say so, and fetch again what the cluster has."""
        logger().warning("cluster_went_back", account=self.profile.account)
        await self.store.write(identity.cluster_went_back)
        self._begin_anew(Position())
        self._publisher.update(notice=restoration.WENT_BACK_TEXT)

    async def cluster_restored(self, life: Life, who: identity.DeviceIdentity) -> None:
        """Compare what this device holds with what a restored cluster has, and say what is lost. Raises ParleyError."""
        logger().warning("cluster_restored", account=self.profile.account, generation=life.position.generation)
        evidence = await restoration.ask(self.store, self._cluster, life, who)
        self._directory.remember_restored(await self._cluster.cluster_id(), self.profile)
        compared = await self.store.write(lambda c: restored.begin_life(c, evidence))
        self._begin_anew(life.position)
        self._publisher.update(notice=restoration.notice(compared))

    def _begin_anew(self, position: Position) -> None:
        """Forget what the former life of the cluster told. The file is read again from its first revision on."""
        self.known, self.position, self._revision = Known(), position, 0
        self._cluster.forget_position()
        self._publisher.begun_anew()
        self._foreign_seen = True
        self._dirty.set()

    def shared(self) -> None:
        """Record that another process is connected. Its state is read from the file."""
        self._foreign_seen = True
        self._dirty.set()

    def receipts_moved(self, receipts: Sequence[Receipt], counts: Sequence[tuple[int, ReceiptCounts]] = ()) -> None:
        """Record that the marks of other members moved. In large channels they are only counted."""
        self._publisher.changed(receipts=self.known.move(receipts), conversations=self.known.count(counts))

    # ---- keeping up

    def _tell(self, views: Sequence[Outgoing]) -> None:
        if self._told_meanwhile is not None:
            self._told_meanwhile.update(view.local_id for view in views)
        for view in views:
            handle = self._handles.get(view.local_id)
            if handle is not None:
                handle.update(view)
                if view.status in FINAL:
                    del self._handles[view.local_id]
        if self._publisher.watched:
            self._publisher.changed(outgoing=tuple(self.with_progress(view) for view in views))
        self._dirty.set()

    def _removed(self, local_ids: Iterable[int]) -> None:
        local_ids = tuple(local_ids)
        for local_id in local_ids:
            handle = self._handles.pop(local_id, None)
            if handle is not None:
                handle.withdraw()
        self._publisher.changed(removed=local_ids)
        self._dirty.set()

    def _foreign(self) -> None:
        """Record that another process wrote to the file."""
        self._foreign_seen = True
        self._dirty.set()
        self.connection.wake()

    async def _refresh(self) -> NoReturn:
        """Follow the file: the number of waiting messages, and all changes by other processes."""
        while True:
            await self._dirty.wait()
            self._dirty.clear()
            foreign, self._foreign_seen = self._foreign_seen, False
            try:
                if foreign:
                    await self._follow_others()
                waiting, lost_sent = await self.store.read(lambda c: (outbox.count_open(c), lost.count_sent(c)))
                self._publisher.update(waiting=waiting, lost_sent=lost_sent)
            except StoreError as error:
                self._publisher.update(problem=error.text)
                self._told_meanwhile = None
                if foreign:  # nobody tells again what the other process wrote
                    self._foreign_seen = True
                    self._dirty.set()
            await asyncio.sleep(REFRESH_INTERVAL_S)

    async def _follow_others(self) -> None:
        stored = await self.store.read(identity.load_position)
        if was_restored(self.position, stored.generation):  # another process has compared
            self._begin_anew(stored)
        watched = tuple(self._handles)
        existing = await self.store.read(lambda c: outbox.get_many(c, watched))
        self._removed([local_id for local_id in watched if local_id not in existing])
        while await self._follow_page(self._revision):
            pass
        if self._reader is not None:
            self._reader.grew()
        self._publisher.others_wrote()
        await self.push_reads()
        if self._publisher.state.connection is ConnectionState.SHARED:
            shared = shared_state.parse(await self.store.read(lambda c: schema.get_meta(c, shared_state.KEY, "")))
            self._publisher.update(**shared)

    async def _follow_page(self, since: int) -> bool:
        """Take over what others wrote after a revision; return whether there is more.

        The next revision is read first. What is written meanwhile has a higher one, and is read the next time. What
        this process tells of a message meanwhile is newer than what it reads.
        """
        self._told_meanwhile = set()
        views, revision = await self.store.read(lambda c: outbox.changed_since(c, since, REFRESH_PAGE))
        self.learned(
            await self.store.read(lambda c: directory.accounts(c, since)),
            await self.store.read(lambda c: directory.conversations(c, since)),
        )
        self.receipts_moved(await self.store.read(lambda c: directory.receipts(c, since)))
        self._revision = revision
        told, self._told_meanwhile = self._told_meanwhile, None
        self._tell([view for view in views if view.local_id not in told])
        return len(views) >= REFRESH_PAGE

    async def _publish(self) -> NoReturn:
        """Write the state of the shared connection to the file, for the other processes of this account."""
        told = ""
        async with aclosing(self._publisher.watch(details=False)) as changes:
            async for change in changes:
                if not self.connection.holds_lock:
                    continue
                text = shared_state.dump(change.state)
                if text != told:
                    told = text
                    self._share(text)
                    await asyncio.sleep(PUBLISH_INTERVAL_S)
        raise RuntimeError("the publisher ended a watch, which never happens")

    def _share(self, text: str) -> None:
        self.store.post(lambda c: schema.set_meta(c, shared_state.KEY, text))

    def remember_hosts(self) -> None:
        """Make this cluster the one that is found by these addresses at the next start."""
        self._remember(self._directory.hosts(self.profile.cluster_id).last_good, again=True)

    def _remember(self, last_good: str, *, again: bool = False) -> None:
        hosts = Hosts(
            tuple(str(endpoint) for endpoint in self._known_endpoints.configured),
            tuple((name, str(endpoint)) for name, endpoint in sorted(self._known_endpoints.learned.items())),
            last_good,
        )
        if again or self._directory.hosts(self.profile.cluster_id) != hosts:
            self._directory.remember_hosts(self.profile.cluster_id, hosts)


def _parse(text: str, known: Sequence[Endpoint]) -> Endpoint | None:
    return next((endpoint for endpoint in known if str(endpoint) == text), None)
