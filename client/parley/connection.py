"""Keeps one Session going, whatever happens to nodes: takes the device lock, connects, fails over, and tells the state.

One task owns this. It waits only where waiting is right: for the lock while another process carries, for a token
while signed out, for the policy's delay while no node works. The first two end at once on kick().
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from random import Random
from typing import NoReturn

from parley.device import identity, inbox
from parley.device.identity import Identity
from parley.device.profile import FileLock
from parley.device.store import Store
from parley.device.token_store import Vault
from parley.errors import StoreError
from parley.log import logger
from parley.model import Phase
from parley.net.calls import Caller
from parley.net.channel import ChannelPool
from parley.net.message_stream import End, Session, SessionEvents, SessionOverError, SessionSettings
from parley.observe import Hub
from parley.wire.endpoints import Endpoint, HostBook
from parley.wire.policy import Attempt, FailoverPolicy, PolicySettings

SIGNED_OUT_CONFIRMATIONS = 2


@dataclass(frozen=True, slots=True)
class CarrierSettings:
    """Times of the client's upkeep."""

    session: SessionSettings = field(default_factory=SessionSettings)
    policy: PolicySettings = field(default_factory=PolicySettings)
    lock_poll_s: float = 0.1
    replaced_pause_s: float = 1.0
    store_pause_s: float = 1.0


class Carrier:
    """Carries the messages of one account on this machine."""

    def __init__(
        self,
        store: Store,
        lock: FileLock,
        book: HostBook,
        pool: ChannelPool,
        caller: Caller,
        hub: Hub,
        events: SessionEvents,
        rng: Random,
        settings: CarrierSettings,
        vault: Vault,
        *,
        last_good: Endpoint | None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Does nothing before run()."""
        self._store = store
        self._lock = lock
        self._book = book
        self._pool = pool
        self._caller = caller
        self._hub = hub
        self._events = events
        self._rng = rng
        self._settings = settings
        self._vault = vault
        self._clock = clock
        self._policy = FailoverPolicy(book.all(), rng, settings.policy)
        if last_good is not None:
            self._policy.prefer(last_good)
        self._kicked = asyncio.Event()
        self._session: Session | None = None
        self._welcomed_at: float | None = None
        self._endpoint: Endpoint | None = None
        self._refusals = 0

    @property
    def endpoint(self) -> Endpoint | None:
        """The address of the session, while there is one."""
        return self._endpoint

    @property
    def carrying(self) -> bool:
        """True if this process holds the device lock."""
        return self._lock.held

    @property
    def session(self) -> Session | None:
        """The running session, if any."""
        return self._session

    def kick(self) -> None:
        """Something changed that is worth looking at now: a token, an address, another process."""
        self._kicked.set()

    def welcomed(self) -> None:
        """The session began: from now on its node counts as working."""
        self._welcomed_at = self._clock()
        self._refusals = 0
        if self._endpoint is not None:
            self._policy.succeeded(self._endpoint)
            self._caller.preferred = self._endpoint

    async def run(self) -> NoReturn:
        """Goes on until cancelled."""
        try:
            while True:
                await self._take_lock()
                try:
                    who = await self._store.write(identity.load)
                    who = replace(who, token=await self._vault.reveal(who.kept))
                    if not who.token:
                        self._hub.update(phase=Phase.SIGNED_OUT, node="", address="", caught_up=False)
                        await self._kicked_within(None)
                        continue
                    await self._one_session(who)
                except StoreError as error:
                    self._hub.update(problem=error.text)
                    await self._kicked_within(self._settings.store_pause_s)
        finally:
            self._lock.release()

    async def _take_lock(self) -> None:
        while not self._lock.try_acquire():
            if self._hub.state.phase is not Phase.SHARED:
                self._hub.update(phase=Phase.SHARED, node="", address="")
                self._events.shared()
            await self._kicked_within(self._settings.lock_poll_s)

    async def _one_session(self, who: Identity) -> None:
        self._policy.update(self._book.all(), self._book.names)
        attempt = self._policy.next_attempt()
        if attempt is None:
            await self._kicked_within(None)
            return
        if attempt.delay_s:
            await asyncio.sleep(attempt.delay_s)
        name = self._book.name_of(attempt.endpoint)
        self._hub.update(phase=self._without_session(), trying=name)
        try:
            await self._run_session(who, attempt, name)
        except SessionOverError as over:
            await self._over(over, who, attempt.endpoint)

    async def _run_session(self, who: Identity, attempt: Attempt, name: str) -> None:
        self._endpoint, self._welcomed_at = attempt.endpoint, None
        session = Session(
            self._pool.get(attempt.endpoint),
            name,
            who,
            self._store,
            self._hub,
            self._events,
            lambda: self._caller.find_serving(attempt.endpoint),
            self._rng,
            self._settings.session,
            insecure=self._pool.security.insecure,
        )
        self._session = session
        try:
            await session.run(attempt.timeout_s)
        finally:
            self._session = self._endpoint = None
            if session.reads_told:
                told = tuple(session.reads_told)
                self._store.post(lambda c: inbox.reads_lost(c, told))
            await self._pool.discard(attempt.endpoint)

    async def _over(self, over: SessionOverError, who: Identity, endpoint: Endpoint) -> None:
        name = self._book.name_of(endpoint)  # which the session may have found out
        lived_s = 0.0 if self._welcomed_at is None else self._clock() - self._welcomed_at
        logger.info("session_over", node=name, end=over.end.name, lived_s=round(lived_s, 3), detail=over.text)
        self._policy.failed(endpoint, lived_s)
        if over.better is not None:
            self._policy.prefer(over.better)
        lost = {"lost": name} if self._welcomed_at is not None else {}
        self._hub.update(
            phase=self._without_session(),
            node="",
            address="",
            caught_up=False,
            has_majority=False,
            problem=over.text,
            tls_trouble=over.tls,
            **lost,
        )
        match over.end:
            case End.SIGNED_OUT:
                self._refusals += 1
                if self._refusals >= SIGNED_OUT_CONFIRMATIONS:
                    self._refusals = 0
                    await self._store.write(lambda c: identity.signed_out(c, who.kept))
            case End.OUT_OF_STEP:
                await self._store.write(identity.set_out_of_step)
            case End.REPLACED:
                await self._kicked_within(self._settings.replaced_pause_s * self._rng.uniform(1.0, 2.0))
            case _:
                return

    def _without_session(self) -> Phase:
        return Phase.SEARCHING if self._hub.state.last_heard is not None else Phase.CONNECTING

    async def _kicked_within(self, seconds: float | None) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._kicked.wait()
        except TimeoutError:
            return
        self._kicked.clear()
