"""SyncClient: ParleyClient for code without asyncio, such as scripts and notebooks.

    with SyncClient(["localhost:7600"], ca=Path("ca.pem"), account="anna") as client:
        client.send("bob", "hello")                      # on a majority's disks when it returns
        for message in client.messages(timeout=5):       # ends after 5 s without a message
            print(message.body)

The client runs on an event loop in a thread of its own. So it also works where a loop runs already, as in notebooks.
Calls block. They may come from any thread. `run` calls what has no method here.
"""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from parley.client import DEFAULT_DEADLINE_S, ParleyClient
from parley.client_state import ClientState
from parley.errors import ParleyError
from parley.model import NEWEST, Account, Conversation, HistoryPage, HistoryStart, Message, Outgoing, Target
from parley.reader import MessageReader
from parley.text_filter import TextFilter

T = TypeVar("T")

SEND_TIMEOUT_S = 30.0
NOT_OPEN_TEXT = "The client is not open. Nothing was done. Use it inside of: with SyncClient(...) as client."


class _LeavingWithAnError(Exception):
    """The block of the caller ended with an error, so the message that was handed out last counts as not handled."""


class SyncClient:
    """A client of one cluster, for code without asyncio. The arguments are those of ParleyClient."""

    def __init__(
        self,
        hosts: str | Sequence[str],
        *,
        account: str | None = None,
        ca: Path | None = None,
        insecure: bool = False,
        insecure_network: bool = False,
        state_dir: Path | None = None,
        connect: bool = True,
        deadline_s: float = DEFAULT_DEADLINE_S,
        text_filter: TextFilter | None = None,
    ) -> None:
        """Make the client. It does nothing before it is entered."""
        self._make: Callable[[], ParleyClient] = partial(
            ParleyClient,
            hosts,
            account=account,
            ca=ca,
            insecure=insecure,
            insecure_network=insecure_network,
            state_dir=state_dir,
            connect=connect,
            deadline_s=deadline_s,
            text_filter=text_filter,
        )
        self._loop: asyncio.AbstractEventLoop | None = None
        self._client: ParleyClient | None = None
        self._leave: Callable[[bool], None] = lambda _: None
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        entered: Future[None] = Future()
        self._thread = threading.Thread(
            target=lambda: asyncio.run(self._serve(entered)), name="parley-sync", daemon=True
        )
        self._thread.start()
        entered.result()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        loop, thread = self._loop, self._thread
        if loop is not None and thread is not None:
            loop.call_soon_threadsafe(self._leave, kind is not None)
            thread.join()

    def run(self, work: Callable[[ParleyClient], Awaitable[T]]) -> T:
        """Await something of the client: client.run(lambda c: c.presence.list_connected())."""
        client, loop = self._client, self._loop
        if client is None or loop is None:
            raise ParleyError(NOT_OPEN_TEXT)

        async def call() -> T:
            return await work(client)

        future = asyncio.run_coroutine_threadsafe(call(), loop)
        try:
            return future.result()
        except BaseException:  # Ctrl-C: what was begun must not go on behind the caller
            future.cancel()
            raise

    # ---- accounts

    def register(self, name: str, password: str, code: str = "") -> None:
        """Create an account. See ParleyClient.register()."""
        self.run(lambda client: client.register(name, password, code))

    def login(self, name: str, password: str) -> None:
        """Open a session and store it for the next start. See ParleyClient.login()."""
        self.run(lambda client: client.login(name, password))

    def logout(self) -> int:
        """Close the session. Return the number of messages that wait until the next log-in."""
        return self.run(lambda client: client.logout())

    def has_session(self) -> bool:
        """Return true if a session is stored."""
        return self.run(lambda client: client.has_session())

    def list_accounts(self, pattern: str = "") -> tuple[Account, ...]:
        """Return active accounts by name. `pattern` may hold '*' and '?'."""
        return self.run(lambda client: client.list_accounts(pattern))

    @property
    def state(self) -> ClientState:
        """Return the present state."""
        if self._client is None:
            raise ParleyError(NOT_OPEN_TEXT)
        return self._client.state

    # ---- messages

    def send(
        self, target: str | Target, body: str, *, urgent: bool = False, timeout: float | None = SEND_TIMEOUT_S
    ) -> Outgoing:
        """Send a message and wait until it is on a majority's disks.

        Raises StillWaitingError after `timeout` seconds. Then it stays in the outbox and is sent, once, later.
        """
        return self.send_many([(target, body)], urgent=urgent, timeout=timeout)[0]

    def send_many(
        self,
        items: Iterable[tuple[str | Target, str]],
        *,
        urgent: bool = False,
        timeout: float | None = SEND_TIMEOUT_S,
    ) -> list[Outgoing]:
        """Send (target, body) pairs like send(). All of them enter the outbox, in order, or none."""
        pairs = list(items)

        async def send(client: ParleyClient) -> list[Outgoing]:
            handles = await client.send_many(pairs, urgent=urgent)
            return [await handle.accepted(timeout) for handle in handles]

        return self.run(send)

    def messages(self, *, timeout: float | None = None, include_own: bool = False) -> "SyncMessages":
        """Return an iterator over new messages, each once. It ends after `timeout` seconds without a message."""
        return SyncMessages(self, self.run(lambda client: client.messages(include_own=include_own)), timeout)

    def conversations(self) -> tuple[Conversation, ...]:
        """Return the account's conversations, the latest first."""
        return self.run(lambda client: client.conversations())

    def history(self, target: str | Target, start: HistoryStart = NEWEST, *, limit: int = 100) -> HistoryPage:
        """Return one page of a conversation, oldest first."""
        return self.run(lambda client: client.history(target, start, limit=limit))

    def mark_read(self, conversation_id: int, up_to: int) -> None:
        """Record that the person has read a conversation up to this message."""
        self.run(lambda client: client.mark_read(conversation_id, up_to))

    # ---- the thread

    async def _serve(self, entered: "Future[None]") -> None:
        leaving: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

        def leave(with_error: bool) -> None:
            if not leaving.done():
                leaving.set_result(with_error)

        try:
            async with self._make() as client:
                self._loop, self._client, self._leave = asyncio.get_running_loop(), client, leave
                entered.set_result(None)
                if await leaving:
                    raise _LeavingWithAnError
        except _LeavingWithAnError:
            pass
        except BaseException as error:
            if entered.done():
                raise
            entered.set_exception(error)
        finally:
            self._loop = self._client = None


class SyncMessages(Iterator[Message]):
    """An iterator over new messages.

    A message counts as handled when the next one is asked for, when the iterator is closed, or when the client is left
    without an error. If the program dies before, it gets the message again.
    """

    def __init__(self, client: SyncClient, reader: MessageReader, timeout: float | None) -> None:
        self._client = client
        self._reader = reader
        self._timeout = timeout

    def __next__(self) -> Message:
        try:
            message = self._client.run(self._next)
        except TimeoutError:
            message = None
        if message is None:
            raise StopIteration
        return message

    def close(self) -> None:
        """End the iteration. The message that was returned last counts as handled."""
        self._client.run(self._close)

    async def _next(self, _: Any) -> Message | None:
        async with asyncio.timeout(self._timeout):
            return await anext(self._reader, None)

    async def _close(self, _: Any) -> None:
        self._reader.close()
