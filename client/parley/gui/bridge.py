"""Runs the SDK in its own thread. Commands enter by call_soon_threadsafe, events return by one queued signal.

The window's thread never waits for the SDK's thread, except in stop(), which is bounded. Requests of one kind keep
their order, because each is queued in the SDK before its first await.
"""

import asyncio
import contextlib
import threading
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

from PySide6.QtCore import QObject, Qt, Signal, Slot

from parley import NotSignedInError, ParleyError, Target, UnreachableError, WrongPasswordError
from parley.gui import cluster_requests, events, own_name, own_presence
from parley.gui.client_worker import ClientWorker
from parley.gui.commands import ClusterAddress, SignInForm
from parley.gui.defects import as_parley_error
from parley.gui.events import Action, Event
from parley.gui.mailbox import Mailbox
from parley.gui.port import Client, Connect

STOP_WITHIN_S = 5.0
START_WITHIN_S = 10.0
NOT_CHECKED = (
    "The password was not checked, because a majority of the nodes has to do that. The window stays locked. What was "
    "sent before waits on this machine and goes out by itself."
)
STAYS_LOCKED = "The password is wrong. The window stays locked. Type it again."
CANCELLED = "Signing in was cancelled. If an account was being created, it may exist now: then sign in with it."


class Bridge(QObject):
    """Implements Commands. `apply` receives every event on the window's thread."""

    _woken = Signal()

    def __init__(self, connect: Connect, apply: Callable[[Event], None]) -> None:
        """Call start() before anything else."""
        super().__init__()
        self._connect = connect
        self._apply = apply
        self._mailbox = Mailbox(self._woken.emit)
        self._woken.connect(self._deliver, Qt.ConnectionType.QueuedConnection)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._main, name="parley-sdk", daemon=True)
        self._stopping: asyncio.Event | None = None
        self._worker: ClientWorker | None = None
        self._running: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._entering: asyncio.Task[None] | None = None
        self._address: ClusterAddress | None = None
        self._changing: asyncio.Lock | None = None
        self._taken: asyncio.Event | None = None

    # ---- lifetime

    def start(self) -> None:
        """Start the thread and wait for its loop."""
        self._thread.start()
        self._started.wait(START_WITHIN_S)

    def stop(self) -> None:
        """End the session and the thread, within a bounded time. Typed messages are in the outbox already."""
        loop, stopping = self._loop, self._stopping
        if loop is not None and stopping is not None and self._thread.is_alive():
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(stopping.set)
            self._thread.join(STOP_WITHIN_S)

    def _main(self) -> None:
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stopping = asyncio.Event()
        self._changing = asyncio.Lock()
        self._taken = asyncio.Event()
        self._started.set()
        await self._stopping.wait()
        if self._tasks:  # drafts and messages on their way into the file
            await asyncio.wait(self._tasks, timeout=STOP_WITHIN_S / 3)
        for task in tuple(self._tasks):
            task.cancel()
        await self._close_worker()

    @Slot()
    def _deliver(self) -> None:
        for event in self._mailbox.take():
            self._apply(event)
        if self._loop is not None and self._taken is not None:
            with contextlib.suppress(RuntimeError):  # the loop has ended
                self._loop.call_soon_threadsafe(self._taken.set)

    # ---- commands

    def resume(self, address: ClusterAddress, account: str) -> None:
        self._do(lambda: self._resume(address, account))

    def sign_in(self, form: SignInForm) -> None:
        self._do(lambda: self._sign_in(form))

    def cancel_sign_in(self) -> None:
        self._do(self._cancel_sign_in)

    def sign_out(self) -> None:
        self._ask(Action.SIGN_OUT, lambda worker: worker.sign_out())

    def unlock(self, password: str) -> None:
        self._do(lambda: self._unlock(password))

    def change_account(self) -> None:
        self._do(self._change_account)

    def leave_nothing(self) -> None:
        self._ask(Action.SIGN_OUT, lambda worker: worker.sign_out(leave_nothing=True))

    def open_conversation(self, target: Target) -> None:
        self._ask(Action.OTHER, lambda worker: worker.open_conversation(target))

    def load_history(self, target: Target, before_id: int, *, kept: bool = False) -> None:
        self._ask(Action.OTHER, lambda worker: worker.load_history(target, before_id, kept=kept))

    def send(self, target: Target, body: str, *, urgent: bool = False) -> None:
        self._ask(Action.SEND, lambda worker: worker.send(target, body, urgent=urgent), target, body)

    def edit(self, local_id: int, body: str, target: Target) -> None:
        async def edit(worker: ClientWorker) -> None:
            await (await worker.client()).edit(local_id, body)

        self._ask(Action.EDIT, edit, target, body)

    def cancel(self, local_id: int) -> None:
        self._call(Action.CANCEL, lambda client: client.cancel(local_id))

    def retry(self, local_id: int) -> None:
        self._call(Action.RETRY, lambda client: client.retry(local_id))

    def resend_lost(self, ids: list[int]) -> None:
        self._ask(Action.LOST, lambda worker: worker.change_lost(resend=ids))

    def discard_lost(self, ids: list[int]) -> None:
        self._ask(Action.LOST, lambda worker: worker.change_lost(discard=ids))

    def load_draft(self, target: Target) -> None:
        self._ask(Action.OTHER, lambda worker: worker.load_draft(target))

    def save_draft(self, target: Target, body: str) -> None:
        self._call(Action.OTHER, lambda client: client.save_draft(target, body))

    def mark_read(self, conversation_id: int, up_to: int) -> None:
        self._call(Action.OTHER, lambda client: client.mark_read(conversation_id, up_to))

    def mute(self, target: Target, *, muted: bool) -> None:
        self._call(Action.OTHER, lambda client: client.mute(target, muted=muted))

    def put_away(self, target: Target, up_to: int) -> None:
        self._call(Action.OTHER, lambda client: client.put_away(target, up_to=up_to))

    def bring_back(self, target: Target) -> None:
        self._call(Action.OTHER, lambda client: client.bring_back(target))

    def remove_conversation(self, target: Target, up_to: int) -> None:
        self._call(Action.OTHER, lambda client: client.remove_conversation(target, up_to=up_to))

    def change_password(self, old: str, new: str) -> None:
        self._ask(Action.CHANGE_PASSWORD, lambda worker: worker.change_password(old, new))

    def list_devices(self) -> None:
        self._ask(Action.DEVICES, lambda worker: worker.list_devices())

    def sign_out_device(self, device_id: str) -> None:
        self._ask(Action.DEVICES, lambda worker: worker.list_devices(sign_out=device_id))

    def sign_out_other_devices(self) -> None:
        self._ask(Action.DEVICES, lambda worker: worker.list_devices(sign_out=""))

    def ask_display_name(self) -> None:
        self._ask_client(Action.NAME, own_name.ask)

    def set_display_name(self, name: str) -> None:
        self._ask_client(Action.NAME, lambda client: own_name.change(client, name))

    def ask_rights(self) -> None:
        self._ask_cluster(cluster_requests.ask_rights)

    def ask_cluster(self) -> None:
        self._ask_cluster(cluster_requests.ask_status)

    def transfer_leadership(self, name: str) -> None:
        self._ask_cluster(lambda client: cluster_requests.transfer(client, name))

    def set_suspended(self, name: str, reason: str, *, suspended: bool) -> None:
        self._ask_cluster(lambda client: cluster_requests.set_suspended(client, name, reason, suspended=suspended))

    def invite(self, name: str) -> None:
        async def invite(worker: ClientWorker) -> None:
            self._mailbox.put(await cluster_requests.invite(await worker.client(), worker.address, name))

        self._ask(Action.CLUSTER, invite)

    def withdraw_invitation(self, invitation_id: str, name: str) -> None:
        self._ask_cluster(lambda client: cluster_requests.withdraw(client, invitation_id, name))

    def list_channels(self) -> None:
        self._ask_client(Action.OTHER, cluster_requests.list_channels)

    def join_channel(self, conversation_id: int) -> None:
        self._ask(Action.OTHER, lambda worker: worker.join_channel(conversation_id))

    def list_members(self, conversation_id: int) -> None:
        self._ask_client(Action.OTHER, lambda client: cluster_requests.list_members(client, conversation_id))

    def leave_channel(self, conversation_id: int) -> None:
        self._call(Action.OTHER, lambda client: client.leave_channel(conversation_id))

    def add_member(self, conversation_id: int, name: str) -> None:
        self._call(Action.OTHER, lambda client: client.add_members(conversation_id, (name,)))

    def ask_receipts(self, conversation_id: int, message_id: int) -> None:
        self._ask(Action.OTHER, lambda worker: worker.ask_receipts(conversation_id, message_id))

    def say_typing(self, conversation_id: int) -> None:
        self._ask(Action.OTHER, lambda worker: worker.say_typing(conversation_id))

    def ask_presence(self, account_id: int) -> None:
        self._ask(Action.OTHER, lambda worker: worker.ask_presence(account_id))

    def connect_now(self) -> None:
        async def connect() -> None:
            if self._worker is not None and self._worker.is_ready:
                with contextlib.suppress(ParleyError):
                    (await self._worker.client()).connect_now()

        self._do(connect)

    def ask_hidden(self) -> None:
        self._ask_client(Action.PRESENCE, own_presence.ask)

    def set_hidden(self, hidden: bool) -> None:
        self._ask_client(Action.PRESENCE, lambda client: own_presence.change(client, hidden=hidden))

    def find_accounts(self, prefix: str) -> None:
        self._ask(Action.OTHER, lambda worker: worker.find_accounts(prefix))

    # ---- on the SDK's loop

    def _call(self, action: Action, calling: Callable[[Client], Coroutine[Any, Any, object]]) -> None:
        async def call(worker: ClientWorker) -> None:
            await calling(await worker.client())

        self._ask(action, call)

    def _ask_cluster(self, asking: Callable[[Client], Coroutine[Any, Any, Event]]) -> None:
        self._ask_client(Action.CLUSTER, asking)

    def _ask_client(self, action: Action, asking: Callable[[Client], Coroutine[Any, Any, Event]]) -> None:
        async def ask(worker: ClientWorker) -> None:
            self._mailbox.put(await asking(await worker.client()))

        self._ask(action, ask)

    def _ask(
        self,
        action: Action,
        doing: Callable[[ClientWorker], Coroutine[Any, Any, None]],
        target: Target | None = None,
        body: str = "",
    ) -> None:
        async def ask() -> None:
            worker = self._worker
            if worker is None:
                self._mailbox.put(events.Refused(action, "Nobody is signed in. Nothing was changed.", target, body))
            else:
                await worker.attempt(action, doing(worker), target, body)

        self._do(ask)

    def _do(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        def begin() -> None:
            task = asyncio.create_task(work())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop has ended: so has the window
                self._loop.call_soon_threadsafe(begin)

    @contextlib.contextmanager
    def _entered_by(self) -> Iterator[None]:
        """Make the present task the one that cancel_sign_in() ends."""
        entering = self._entering = asyncio.current_task()
        try:
            yield
        finally:
            if self._entering is entering:
                self._entering = None

    async def _cancel_sign_in(self) -> None:
        entering = self._entering
        if entering is None:
            return  # it has ended, and the window hears how
        entering.cancel()
        await asyncio.wait([entering])
        await self._close_worker(abandon=True)
        self._mailbox.put(events.SignedOut(CANCELLED))

    async def _resume(self, address: ClusterAddress, account: str) -> None:
        with self._entered_by():
            await self._try_resume(address, account)

    async def _try_resume(self, address: ClusterAddress, account: str) -> None:
        worker = await self._worker_for(address, account)
        try:
            if not await worker.resume():
                self._mailbox.put(events.SignedOut())
        except Exception as error:
            self._mailbox.put(events.SignedOut(as_parley_error(error).text))

    async def _sign_in(self, form: SignInForm) -> None:
        with self._entered_by():
            await self._try_sign_in(form)

    async def _try_sign_in(self, form: SignInForm) -> None:
        worker = await self._worker_for(form.address, None)
        action = Action.REGISTER if form.register else Action.SIGN_IN
        if not await worker.attempt(action, worker.sign_in(form)) and not await self._entered(worker):
            await self._close_worker()

    async def _unlock(self, password: str) -> None:
        try:
            if self._worker is None:
                raise NotSignedInError("Nobody is signed in. Close the window and start it again.")
            client = await self._worker.client()
            await client.login(client.signed_in_as, password)
        except WrongPasswordError:
            self._mailbox.put(events.Unlocked(STAYS_LOCKED))
        except Exception as error:
            failure = as_parley_error(error)
            why = f"{NOT_CHECKED} {failure.text}" if isinstance(failure, UnreachableError) else failure.text
            self._mailbox.put(events.Unlocked(why))
        else:
            self._mailbox.put(events.Unlocked())

    async def _change_account(self) -> None:
        others = self._tasks - {asyncio.current_task()}
        if others:  # drafts and messages on their way into the file
            await asyncio.wait(others, timeout=STOP_WITHIN_S / 3)
        await self._close_worker()
        self._mailbox.put(events.SignedOut())

    async def _entered(self, worker: ClientWorker) -> bool:
        try:
            await worker.client()
        except ParleyError:
            return False
        return True

    async def _worker_for(self, address: ClusterAddress, account: str | None) -> ClientWorker:
        """Return the worker of this address. Make another one only if the address changed."""
        if self._changing is None:
            raise RuntimeError("The bridge was not started.")
        async with self._changing:
            if self._worker is None or self._address != address or (self._running is not None and self._running.done()):
                await self._close_worker()
                worker = ClientWorker(self._connect, address, account, self._mailbox.put, self._wait_for_capacity)
                self._worker, self._address = worker, address
                self._running = asyncio.create_task(worker.run())
            return self._worker

    async def _wait_for_capacity(self) -> None:
        """Wait while the window is far behind."""
        while self._taken is not None and not self._mailbox.has_capacity():
            self._taken.clear()
            if not self._mailbox.has_capacity():
                await self._taken.wait()

    async def _close_worker(self, *, abandon: bool = False) -> None:
        """Leave the client and wait for its end. With `abandon`, do not wait until it could be entered."""
        worker, self._worker = self._worker, None
        running, self._running = self._running, None
        if worker is not None and running is not None:
            worker.leave()
            if abandon and not worker.is_ready:
                running.cancel()
            await asyncio.wait([running])
