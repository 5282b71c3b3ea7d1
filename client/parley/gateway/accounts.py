"""The accounts in use at the gateway: one client each, held by at most one connection.

A client outlives its connection while messages wait in its outbox: what was accepted here is sent, whoever leaves. Then
the session is closed, and the client is left. A task of its own enters, keeps and leaves each client. Who logs in to an
account that a connection holds takes it over; the password decides. After a restart, accounts whose messages wait, or
whose session is open, are taken up again until nothing waits.
"""

import asyncio
from contextlib import aclosing
from weakref import WeakValueDictionary

from parley import ClientGroup, ParleyClient, ParleyError, UnreachableError, check_account_name
from parley.gateway.log import log

SIGN_INS_AT_ONCE = 16
SIGN_IN_S = 90.0
"""How long a log-in waits for its turn and its answer."""
LOG_OUT_S = 5.0
HAND_OVER_S = 10.0
RESUMED_AT_ONCE = 8


class Hold:
    """The use of an account by one connection."""

    def __init__(self, client: ParleyClient) -> None:
        self.client = client
        self.replaced = asyncio.Event()
        """Set when another connection has logged in to the account: this one has to end its use."""
        self.ended = asyncio.Event()

    def end(self) -> None:
        """End the use. The client goes on until nothing waits."""
        self.ended.set()


class _Kept:
    """A client, and who uses it."""

    def __init__(self, client: ParleyClient) -> None:
        self.client = client
        self.hold: Hold | None = None

    @property
    def is_held(self) -> bool:
        return self.hold is not None and not self.hold.ended.is_set()


class AccountsInUse:
    """Enter it before connections are served, and leave it after all of them."""

    def __init__(self, group: ClientGroup, most: int) -> None:
        """`most` bounds the accounts with a client, also of those whose connection is gone and whose messages wait."""
        self._group = group
        self._most = most
        self._kept: dict[str, _Kept] = {}
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._turns = asyncio.Semaphore(SIGN_INS_AT_ONCE)
        self._stopping = asyncio.Event()

    async def __aenter__(self) -> "AccountsInUse":
        self._tasks = await asyncio.TaskGroup().__aenter__()
        self._tasks.create_task(self._resume())
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._stopping.set()
        await self._tasks.__aexit__(None, None, None)

    @property
    def count(self) -> int:
        """Return the number of accounts with a client."""
        return len(self._kept)

    async def register(self, name: str, password: str, code: str, address: str) -> None:
        """Create an account. `code` is that of an invitation, `address` that of the person."""
        async with (
            asyncio.timeout(SIGN_IN_S),
            self._turns,
            self._group.client(connect=False, on_behalf_of=address) as client,
        ):
            await client.register(check_account_name(name), password, code)

    async def log_in(self, name: str, password: str, address: str) -> Hold:
        """Log in, and take the account over from the connection that holds it. Raises WrongPasswordError."""
        key = check_account_name(name).lower()
        async with asyncio.timeout(SIGN_IN_S), self._lock(key), self._turns:
            kept = self._kept.get(key)
            if kept is None:
                if len(self._kept) >= self._most:
                    raise UnreachableError(
                        f"The gateway has {self._most} accounts in use, and takes no more. Nothing was changed. Try "
                        "again later."
                    )
                kept = await self._start(key, password, address)
            else:
                kept.client.speak_for(address)
                await kept.client.login(key, password)
            await self._hand_over(key, kept)
            kept.hold = Hold(kept.client)
            return kept.hold

    # ---- inside

    async def _resume(self) -> None:
        """Take up the accounts of before a restart whose messages wait, or whose session is open."""
        turns = asyncio.Semaphore(RESUMED_AT_ONCE)

        async def take_up(key: str) -> None:
            async with turns, self._lock(key):
                if key in self._kept or self._stopping.is_set():
                    return
                started: asyncio.Future[_Kept] = asyncio.get_running_loop().create_future()
                self._tasks.create_task(self._keep(key, "", "", started))
                try:
                    kept = await started
                except Exception as error:  # whatever it is, the other accounts go on
                    log("account_not_resumed", account=key, error=str(error))
                    return
                log("account_resumed", account=key, waiting=kept.client.state.waiting)

        async with asyncio.TaskGroup() as tasks:
            for key in self._group.kept_accounts():
                tasks.create_task(take_up(key))

    def _lock(self, key: str) -> asyncio.Lock:
        lock = self._locks.get(key)
        if lock is None:
            lock = self._locks[key] = asyncio.Lock()
        return lock

    async def _hand_over(self, key: str, kept: _Kept) -> None:
        """End the use by the connection that holds the account."""
        if kept.hold is None or kept.hold.ended.is_set():
            return
        log("account_taken_over", account=key)
        kept.hold.replaced.set()
        async with asyncio.timeout(HAND_OVER_S):
            await kept.hold.ended.wait()

    async def _start(self, key: str, password: str, address: str) -> _Kept:
        started: asyncio.Future[_Kept] = asyncio.get_running_loop().create_future()
        task = self._tasks.create_task(self._keep(key, password, address, started))
        try:
            return await started
        except asyncio.CancelledError:
            task.cancel()
            await asyncio.wait([task])
            raise

    async def _keep(self, key: str, password: str, address: str, started: "asyncio.Future[_Kept]") -> None:
        """Enter a client, keep it as long as it is held or messages wait, and leave it."""
        lock = self._lock(key)
        locked = False
        try:
            async with self._group.client(account=None if password else key, on_behalf_of=address) as client:
                if password:
                    await client.login(key, password)
                kept = self._kept[key] = _Kept(client)
                try:
                    started.set_result(kept)
                    await self._until_done(kept, lock)
                    locked = True
                    await self._log_out(key, client)
                finally:
                    del self._kept[key]
        except Exception as error:  # whatever it is, the other accounts go on
            if started.done():
                text = error.text if isinstance(error, ParleyError) else repr(error)
                log("account_failed", account=key, error=text)
            else:
                started.set_exception(error)
        finally:
            started.cancel()
            if locked:
                lock.release()  # only now may another client use the files

    async def _until_done(self, kept: _Kept, lock: asyncio.Lock) -> None:
        """Return, with the lock, when nobody holds the account and nothing waits, or when the gateway stops."""
        while True:
            if kept.hold is not None:
                await kept.hold.ended.wait()
            waits = [asyncio.ensure_future(_until_idle(kept.client)), asyncio.ensure_future(self._stopping.wait())]
            try:
                await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for wait in waits:
                    wait.cancel()
                await asyncio.wait(waits)
            await lock.acquire()
            if not kept.is_held and (self._stopping.is_set() or await _is_idle(kept.client)):
                return
            lock.release()

    async def _log_out(self, key: str, client: ParleyClient) -> None:
        """Close the session, unless messages wait: then the next start sends them with it."""
        try:
            async with asyncio.timeout(LOG_OUT_S):
                if client.signed_in_as and await client.has_session() and not await client.waiting(limit=1):
                    await client.logout()
        except (ParleyError, TimeoutError) as error:
            log("account_not_logged_out", account=key, error=str(error))


async def _until_idle(client: ParleyClient) -> None:
    async with aclosing(client.watch()) as changes:
        async for _ in changes:
            if await _is_idle(client):
                return


async def _is_idle(client: ParleyClient) -> bool:
    """Return true if nothing waits in the outbox, or nothing can be sent because the session has ended."""
    try:
        return not client.signed_in_as or not await client.has_session() or not await client.waiting(limit=1)
    except ParleyError:
        return True  # the file cannot be used: what waits in it stays there
