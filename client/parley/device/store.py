"""The client's file: one SQLite database per cluster and account, used by one thread (store_thread.py).

Invariants. The event loop never touches SQLite. Operations that arrive during a transaction are collected into the
next, so one fsync (WAL, synchronous=FULL) covers them all. A result is returned only after the commit that holds it. An
operation that refuses (ParleyError) does so before its first write and fails alone. Any other failure fails the whole
transaction, of which nothing is kept. Operations use few SQL steps, however many rows they touch (see schema.fetch).
The switch interval of the interpreter is lowered, because every step releases the interpreter's lock and has to get it
back from a loop that may be busy.

Several processes may have the file open (`parley listen` here, `parley send` there). One of them holds the device lock
(profile.FileLock) and connects. The others write into the outbox and read the inbox. Every process detects the commits
of the others by SQLite's data_version, read every `foreign_poll_s`, or as often as a shared thread gets to it.
"""

import asyncio
import contextlib
import queue
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar, cast

import apsw

from parley.device import outbox
from parley.device.operations import Operation, run_each
from parley.device.schema import open_database
from parley.device.store_thread import StoreThread
from parley.errors import ParleyError, StoreError
from parley.log import logger
from parley.model import Outgoing

T = TypeVar("T")

MAX_OPERATIONS_PER_COMMIT = 4096
CLAIM_RETRY_S = 1.0
SWITCH_INTERVAL_S = 0.0005
CLOSED_TEXT = "The client is closed. Nothing was changed."
_WRONG_VALUES = (ValueError, TypeError, LookupError, OverflowError, RecursionError)
"""What reading values that this client did not write may raise."""


@dataclass(slots=True)
class _Claim:
    """A waiting request for sends. The first transaction that finds waiting messages answers it."""

    limit: int
    future: asyncio.Future[list[Outgoing]]


class _Withdrawal:
    """The request to answer the claim before it, if it waits, with nothing."""


class _Stop:
    """The request to end the thread."""


@dataclass(slots=True)
class _Batch:
    operations: list[Operation] = field(default_factory=list)
    claim: _Claim | None = None
    look_for_sends: bool = False
    stop: bool = False


class Store:
    """Runs functions on the database's thread, many per transaction."""

    def __init__(
        self,
        path: Path,
        *,
        foreign_poll_s: float = 0.03,
        on_foreign_change: Callable[[], None] | None = None,
        thread: StoreThread | None = None,
    ) -> None:
        """`on_foreign_change` is called on the event loop after another process committed.

        `thread` is shared with other stores. Default: a thread of its own.
        """
        self._path = path
        self._on_foreign_change = on_foreign_change
        self._thread = thread or StoreThread(foreign_poll_s)
        self._owns_thread = thread is None
        self.is_called = False
        self._queue: queue.SimpleQueue[Operation | _Claim | _Withdrawal | _Stop] = queue.SimpleQueue()
        self._claim: _Claim | None = None
        self._claim_again_at: float | None = None
        self._failure: StoreError | None = None
        self._batch = _Batch()
        self._connection: apsw.Connection | None = None
        self._seen = 0
        self._opened: asyncio.Future[None] | None = None
        self._ended: asyncio.Future[None] | None = None
        self._closed = False

    async def open(self) -> None:
        """Open or make the file. Raises StoreError if it cannot be used."""
        loop = asyncio.get_running_loop()
        if sys.getswitchinterval() > SWITCH_INTERVAL_S:
            sys.setswitchinterval(SWITCH_INTERVAL_S)
        self._opened, self._ended = loop.create_future(), loop.create_future()
        self._thread.call(self)
        try:
            await self._opened
        except asyncio.CancelledError:
            await self.close()
            raise

    async def add(self, addition: outbox.Addition) -> list[Outgoing]:
        """Put messages into the outbox like write(). All that wait to be added are added in a few steps."""
        added: list[Outgoing] = await self._submit(addition, write=True, adds=True)
        return added

    async def write(self, operation: Callable[[apsw.Connection], T], *, adds: bool = False) -> T:
        """Run `operation` in a transaction and return after its commit. If cancelled before it began, it does not run.

        `adds` states that it may put messages into the outbox, for which a claim waits.
        """
        result: T = await self._submit(operation, write=True, adds=adds)
        return result

    async def read(self, operation: Callable[[apsw.Connection], T]) -> T:
        """Run `operation` on the committed state."""
        result: T = await self._submit(operation, write=False, adds=False)
        return result

    def start_write(self, operation: Callable[[apsw.Connection], T]) -> asyncio.Future[T]:
        """Start a write like write(), without waiting. The future resolves after the commit."""
        future: asyncio.Future[T] = self._running_loop().create_future()
        self._put(Operation(operation, True, future))
        return future

    def post(self, operation: Callable[[apsw.Connection], Any]) -> None:
        """Queue a write without waiting for it, in order with all others. A failed write is not repeated."""
        if not self._closed:
            self._queue.put(Operation(operation, True, None))
            self._thread.call(self)

    async def claim(self, limit: int) -> list[Outgoing]:
        """Wait for waiting messages, number up to `limit` of them durably, and return them.

        If this is cancelled in between, claimed rows stay SENDING in the file and the next session finds them.
        """
        claim = _Claim(limit, self._running_loop().create_future())
        self._put(claim)
        try:
            return await claim.future
        finally:
            claim.future.cancel()

    def withdraw_claim(self) -> None:
        """Let the claim that waits return nothing, unless it has messages by now. Later claims are not concerned."""
        self._put(_Withdrawal())

    async def close(self) -> None:
        """Finish what is queued and close the file. End the thread if it is this store's own."""
        if self._ended is None or self._closed:
            return
        self._closed = True
        self._queue.put(_Stop())
        self._thread.call(self)
        if self._owns_thread:
            self._thread.end()
        await asyncio.shield(self._ended)
        if self._owns_thread:
            await asyncio.shield(asyncio.to_thread(self._thread.join))

    async def _submit(self, run: Callable[[apsw.Connection], Any] | outbox.Addition, *, write: bool, adds: bool) -> Any:
        future = self._running_loop().create_future()
        self._put(Operation(run, write, future, adds))
        return await future

    def _put(self, item: Operation | _Claim | _Withdrawal) -> None:
        if self._closed:
            raise StoreError(CLOSED_TEXT)
        self._queue.put(item)
        self._thread.call(self)

    def _running_loop(self) -> asyncio.AbstractEventLoop:
        if self._opened is None:
            raise StoreError("The client's file is not open yet.")
        return self._opened.get_loop()

    # ---- below: the thread

    def turn(self, *, look: bool) -> bool:
        """Do what is queued. With `look`, see whether another process changed the file. Return false at the end."""
        self.is_called = False  # before the queue is read: what is put in later calls again
        try:
            if self._connection is None and self._failure is None:
                self._begin()
            if self._failure is not None:
                return self._refuse_all(self._failure)
            return self._work(look=look)
        except Exception as error:
            logger().error("store_thread_failed", error=repr(error))
            return self._refuse_all(_store_error(self._path, error), self._batch.operations)

    def _begin(self) -> None:
        try:
            self._connection = open_database(self._path)
            self._seen = _data_version(self._connection)
        except Exception as error:
            failure = error if isinstance(error, StoreError) else _store_error(self._path, error)
            self._failure = failure
            self._tell(lambda: _fail(self._opened, failure))
        else:
            self._tell(lambda: _resolve(self._opened, None))

    def _refuse_all(self, failure: StoreError, begun: Sequence[Operation] = ()) -> bool:
        """Answer with `failure` what was begun, what waits, and what comes later. Return whether more may come."""
        self._failure = failure
        batch = _Batch(list(begun))
        with contextlib.suppress(queue.Empty):
            while True:
                _take(self._queue.get_nowait(), batch)
        claim, self._claim = batch.claim or self._claim, None
        self._tell(lambda: _settle(batch.operations, None, [], failure))
        if claim is not None:
            self._tell(lambda: _fail(claim.future, failure))
        self._close_file()
        if batch.stop:
            self._tell(lambda: _resolve(self._ended, None))
        return False

    def _work(self, *, look: bool) -> bool:
        connection = self._connection
        if connection is None:
            return False
        batch = self._batch = self._gather()
        foreign = False
        if look:
            version = _version_now(connection, self._seen)
            foreign, self._seen = version != self._seen, version
        look_for_sends = batch.look_for_sends or (self._claim is not None and (foreign or self._claim_is_due()))
        if batch.operations or look_for_sends:
            self._run(connection, batch.operations, look_for_sends=look_for_sends)
        if foreign and self._on_foreign_change is not None:
            self._tell(self._on_foreign_change)
        if batch.stop:
            self._failure = StoreError(CLOSED_TEXT)  # another turn may be due, which must not open the file again
            self._close_file()
            self._tell(lambda: _resolve(self._ended, None))
        return not batch.stop

    def _gather(self) -> _Batch:
        batch = _Batch()
        with contextlib.suppress(queue.Empty):
            while not batch.stop and len(batch.operations) < MAX_OPERATIONS_PER_COMMIT:
                item = self._queue.get_nowait()
                if isinstance(item, _Withdrawal):
                    self._answer_claim(batch)
                else:
                    _take(item, batch)
        if not self._queue.empty():
            self._thread.call(self)  # the others come first
        self._claim = batch.claim or self._claim
        return batch

    def _answer_claim(self, batch: _Batch) -> None:
        """Answer the newest claim with nothing, if it waits."""
        claim, batch.claim, self._claim = batch.claim or self._claim, None, None
        if claim is not None:
            self._tell(lambda: _resolve(claim.future, []))

    def _close_file(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _claim_is_due(self) -> bool:
        """Return whether a claim whose transaction failed is tried again now."""
        return self._claim_again_at is not None and time.monotonic() >= self._claim_again_at

    def _run(self, connection: apsw.Connection, batch: list[Operation], *, look_for_sends: bool) -> None:
        batch = [op for op in batch if op.future is None or not op.future.cancelled()]
        if self._claim is not None and self._claim.future.cancelled():
            self._claim = None
        claim = self._claim if look_for_sends else None
        write = claim is not None or any(op.write for op in batch)
        failure: Exception | None = None
        claimed: list[Outgoing] = []
        if claim is not None or self._claim is None:  # otherwise the one that failed is still to be tried again
            self._claim_again_at = None
        try:
            connection.execute("BEGIN IMMEDIATE" if write else "BEGIN")
            run_each(connection, batch)
            if claim is not None:
                claimed = outbox.claim(connection, claim.limit)
            connection.execute("COMMIT")
        except Exception as error:
            failure = _store_error(self._path, error) if isinstance(error, (apsw.Error, *_WRONG_VALUES)) else error
            logger().error("store_transaction_failed", error=repr(error), operations=len(batch))
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            claimed = []
            # Nothing else would look again: what waits was added before.
            self._claim_again_at = time.monotonic() + CLAIM_RETRY_S
        if claimed:
            self._claim = None
        self._tell(lambda: _settle(batch, claim, claimed, failure))

    def _tell(self, callback: Callable[[], None]) -> None:
        try:
            self._running_loop().call_soon_threadsafe(callback)
        except RuntimeError:
            return  # the loop is closed: nobody is left to tell


def _take(item: Operation | _Claim | _Withdrawal | _Stop, batch: _Batch) -> None:
    match item:
        case Operation():
            batch.operations.append(item)
            batch.look_for_sends = batch.look_for_sends or item.adds
        case _Claim():
            batch.claim, batch.look_for_sends = item, True
        case _Withdrawal():
            pass  # its claim is answered apart, or fails with the rest
        case _Stop():
            batch.stop = True


def _settle(batch: list[Operation], claim: _Claim | None, claimed: list[Outgoing], failure: Exception | None) -> None:
    """Resolve the futures on the loop, after the commit.

    Senders come before the claim, so they know their message first.
    """
    for operation in batch:
        if operation.future is None:
            continue
        error = failure or operation.error
        if error is not None:
            _fail(operation.future, error)
        else:
            _resolve(operation.future, operation.result)
    if claim is not None and claimed:
        _resolve(claim.future, claimed)


def _resolve(future: asyncio.Future[T] | None, result: T) -> None:
    if future is not None and not future.done():
        future.set_result(result)


def _fail(future: asyncio.Future[Any] | None, error: Exception) -> None:
    if future is not None and not future.done():
        future.set_exception(error)


def _data_version(connection: apsw.Connection) -> int:
    return int(cast(int, connection.execute("PRAGMA data_version").fetchall()[0][0]))


def _version_now(connection: apsw.Connection, before: int) -> int:
    """Return the present data version. If it cannot be read now, say so and return the one before."""
    try:
        return _data_version(connection)
    except apsw.Error as error:
        logger().error("store_version_failed", error=repr(error))
        return before


def _store_error(path: Path, error: BaseException) -> StoreError:
    if isinstance(error, ParleyError):
        return StoreError(error.text)
    if isinstance(error, (apsw.CorruptError, apsw.NotADBError, *_WRONG_VALUES)):
        return StoreError(
            f"The file {path} is damaged ({error}). It may hold messages that wait, so nothing in it was changed. Keep "
            "it. To go on with a new one, move it away and sign in again; the cluster still has all accepted messages."
        )
    return StoreError(
        f"The file {path} cannot be used ({error}). Unconfirmed changes are not stored. Free some disk "
        "space, or check the permissions of the folder. Then start again."
    )
