"""Keeps one MessageStream open: takes the device lock, connects, fails over, and publishes the state.

One task owns this object. It waits for the lock while another process holds it, for a token while signed out, and for
the delay of the policy while no node works. wake() ends the first two waits at once, hurry() the third.
"""

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from random import Random
from typing import NoReturn

from parley.client_state import ConnectionState
from parley.device import identity, inbox
from parley.device.identity import DeviceIdentity
from parley.device.profile import FileLock
from parley.device.store import Store
from parley.device.token_store import TokenStore
from parley.errors import ParleyError, StoreError
from parley.log import logger
from parley.net.channel import ChannelPool
from parley.net.message_stream import MessageStream, MessageStreamEvents
from parley.net.stream_closed import StreamClosedError
from parley.net.tls_probe import needs_tls
from parley.net.unary_caller import NodesBeside, UnaryCaller
from parley.state_publisher import AccountVoice
from parley.wire.actions import StreamCloseReason
from parley.wire.endpoints import Endpoint, KnownEndpoints
from parley.wire.node_doubt import DoubtPause
from parley.wire.node_health import MessageStreamSettings
from parley.wire.policy import Attempt, FailoverPolicy, PolicySettings
from parley.wire.stream import StreamProtocol

SIGNED_OUT_CONFIRMATIONS = 2
CONNECTION_FAILED = frozenset((StreamCloseReason.LOST, StreamCloseReason.SILENT))


@dataclass(frozen=True, slots=True)
class ConnectionManagerSettings:
    """The times of the connection: stream, failover and the delays between attempts."""

    stream: MessageStreamSettings = field(default_factory=MessageStreamSettings)
    policy: PolicySettings = field(default_factory=PolicySettings)
    lock_poll_s: float = 0.1
    replaced_pause_s: float = 1.0
    store_pause_s: float = 1.0
    log_in_pause_s: float = 1.0


class ConnectionManager:
    """The manager of the connection of one account on this machine."""

    def __init__(
        self,
        store: Store,
        lock: FileLock,
        known_endpoints: KnownEndpoints,
        pool: ChannelPool,
        caller: UnaryCaller,
        publisher: AccountVoice,
        events: MessageStreamEvents,
        rng: Random,
        settings: ConnectionManagerSettings,
        token_store: TokenStore,
        *,
        last_good: Endpoint | None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Make the manager. It does nothing before run()."""
        self._store = store
        self._lock = lock
        self._known_endpoints = known_endpoints
        self._pool = pool
        self._caller = caller
        self._publisher = publisher
        self._events = events
        self._rng = rng
        self._settings = settings
        self._token_store = token_store
        self._clock = clock
        self._policy = FailoverPolicy(known_endpoints.all(), rng, settings.policy)
        if last_good is not None:
            self._policy.prefer(last_good)
        self._doubt_pause = DoubtPause(settings.stream.doubt)
        self._woken = asyncio.Event()
        self._hurried = asyncio.Event()
        self._stream: MessageStream | None = None
        self._welcomed_at: float | None = None
        self._endpoint: Endpoint | None = None
        self._refusals = 0
        self._is_logging_in = False
        self._has_claimed = False

    @property
    def endpoint(self) -> Endpoint | None:
        """Return the address of the open stream, or None."""
        return self._endpoint

    @property
    def holds_lock(self) -> bool:
        """Return true if this process holds the device lock."""
        return self._lock.held

    @property
    def stream(self) -> MessageStream | None:
        """Return the open stream, or None."""
        return self._stream

    def wake(self) -> None:
        """End a wait, because a token, an address or another process changed."""
        self._woken.set()

    @contextmanager
    def logging_in(self) -> Iterator[None]:
        """Take no refused token for the end of the session inside.

        The log-in has ended the session before, and its own is not stored yet.
        """
        self._is_logging_in = True
        try:
            yield
        finally:
            self._is_logging_in, self._refusals = False, 0

    def hurry(self) -> None:
        """Leave an open stream for a new one to the same node, and end the pause before an attempt.

        The machine may have slept: then the node has ended the stream long ago, and nothing here has told so.
        """
        self._hurried.set()
        if self._stream is not None and self._endpoint is not None and self._welcomed_at is not None:
            text = "The connection was made anew, because this machine may have slept."
            self._stream.end(StreamClosedError(StreamCloseReason.LOST, text, self._endpoint))

    def welcomed(self) -> None:
        """Record that the session began. From now on its node counts as working."""
        self._welcomed_at = self._clock()
        self._refusals = 0
        if self._endpoint is not None:
            self._policy.succeeded(self._endpoint)
            self._caller.preferred = self._endpoint

    async def take_device(self) -> DeviceIdentity | None:
        """Take the device lock without a stream; return the identity, or None while another process holds the lock.

        release() frees the lock.
        """
        return await self._load() if self._lock.try_acquire() else None

    def release(self) -> None:
        """Free the device lock."""
        self._lock.release()

    async def _load(self) -> DeviceIdentity:
        # One claim while this process holds the lock, not one for each stream or call.
        who = await self._store.write(identity.load if self._has_claimed else identity.open_profile)
        self._has_claimed = True
        return replace(who, token=await self._token_store.load(who.stored_token))

    async def run(self) -> NoReturn:
        """Connect and reconnect until cancelled."""
        try:
            while True:
                try:
                    await self._take_lock()
                    who = await self._load()
                    if not who.token:
                        self._publisher.update(
                            connection=ConnectionState.SIGNED_OUT, node="", address="", caught_up=False
                        )
                        await self._wait_for_wake(None)
                        continue
                    await self._run_one_stream(who)
                except StoreError as error:
                    self._publisher.update(problem=error.text)
                    await self._wait_for_wake(self._settings.store_pause_s)
        finally:
            self._lock.release()

    async def _take_lock(self) -> None:
        while not self._lock.try_acquire():
            if self._publisher.state.connection is not ConnectionState.SHARED:
                self._publisher.update(connection=ConnectionState.SHARED, node="", address="")
                self._events.shared()
            await self._wait_for_wake(self._settings.lock_poll_s)

    async def _run_one_stream(self, who: DeviceIdentity) -> None:
        self._policy.update(self._known_endpoints.all(), self._known_endpoints.names)
        attempt = self._policy.next_attempt()
        if attempt is None:
            await self._wait_for_wake(None)
            return
        if attempt.delay_s:
            with suppress(TimeoutError):
                async with asyncio.timeout(attempt.delay_s):
                    await self._hurried.wait()
        self._hurried.clear()
        name = self._known_endpoints.name_of(attempt.endpoint)
        self._publisher.update(connection=self._state_without_stream(), trying=name)
        try:
            await self._run_stream(who, attempt, name)
        except StreamClosedError as closed:
            await self._stream_closed(closed, who, attempt.endpoint)

    async def _run_stream(self, who: DeviceIdentity, attempt: Attempt, name: str) -> None:
        self._endpoint, self._welcomed_at = attempt.endpoint, None
        shared = self._pool.take(attempt.endpoint)
        stream = MessageStream(
            shared.channel,
            StreamProtocol(
                name,
                who.device_id,
                who.cursor,
                who.position,
                who.claim,
                self._settings.stream,
                self._rng,
                self._doubt_pause,
                shared.pulse,
            ),
            name,
            who.token,
            self._store,
            self._publisher,
            self._events,
            NodesBeside(self._caller, attempt.endpoint),
            insecure=self._pool.security.insecure,
        )
        self._stream = stream
        try:
            await stream.run(attempt.timeout_s, self._pool.starts)
        except StreamClosedError as closed:
            shared.is_broken = shared.is_broken or closed.reason in CONNECTION_FAILED
            raise
        finally:
            self._stream = self._endpoint = None
            if stream.reads_told:
                told = stream.reads_told
                self._store.post(lambda c: inbox.reads_lost(c, told))
            await self._pool.release(shared)

    async def _stream_closed(self, closed: StreamClosedError, who: DeviceIdentity, endpoint: Endpoint) -> None:
        name = self._known_endpoints.name_of(endpoint)  # which the stream may have found out
        problem, tls = closed.text, closed.tls
        if self._pool.security.insecure and (trouble := await needs_tls(problem, endpoint, name)):
            problem, tls = trouble.text, True
        lived_s = 0.0 if self._welcomed_at is None else self._clock() - self._welcomed_at
        logger().info(
            "stream_closed", node=name, reason=closed.reason.name, lived_s=round(lived_s, 3), detail=closed.text
        )
        self._policy.failed(endpoint, lived_s)
        if closed.better is not None:
            self._policy.prefer(closed.better)
        is_lost = self._welcomed_at is not None and closed.reason is not StreamCloseReason.SIGNED_OUT
        lost = {"lost": name} if is_lost else {}
        self._publisher.update(
            connection=self._state_without_stream(),
            node="",
            address="",
            caught_up=False,
            has_majority=False,
            problem=problem,
            tls_trouble=tls,
            **lost,
        )
        match closed.reason:
            case StreamCloseReason.SIGNED_OUT if not self._is_logging_in:
                self._refusals += 1
                if self._refusals >= SIGNED_OUT_CONFIRMATIONS:
                    self._refusals = 0
                    # The log-in of another process has perhaps ended this session, and stores its own in a moment.
                    await self._wait_for_wake(self._settings.log_in_pause_s)
                    await self._store.write(lambda c: identity.signed_out(c, who.stored_token))
            case StreamCloseReason.OUT_OF_STEP:
                await self._store.write(identity.set_out_of_step)
            case StreamCloseReason.CLUSTER_BEHIND:
                await self._events.cluster_went_back()
            case StreamCloseReason.CLUSTER_RESTORED if closed.life is not None:
                try:
                    await self._events.cluster_restored(closed.life, who)
                except StoreError:
                    raise
                except ParleyError as error:  # nothing was changed, and the next stream asks again
                    self._publisher.update(problem=error.text)
            case StreamCloseReason.REPLACED:
                await self._wait_for_wake(self._settings.replaced_pause_s * self._rng.uniform(1.0, 2.0))
            case _:
                return

    def _state_without_stream(self) -> ConnectionState:
        return ConnectionState.SEARCHING if self._publisher.state.last_heard is not None else ConnectionState.CONNECTING

    async def _wait_for_wake(self, seconds: float | None) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._woken.wait()
        except TimeoutError:
            return
        self._woken.clear()
