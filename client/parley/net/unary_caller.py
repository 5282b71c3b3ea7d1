"""Single calls with failover: the caller asks one node after the other until one answers or the time is up.

Only calls that may be repeated use this module: reads, writes with a request id, and idempotent writes.
"""

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from random import Random
from typing import TypeVar

import grpc

from parley.cancellation import CHECK_TEXT, REPEAT_TEXT, unknown_if_cancelled
from parley.cluster_model import NodeStatus
from parley.errors import (
    BadInputError,
    ClusterBehindError,
    NoMajorityError,
    NotSignedInError,
    OutcomeUnknownError,
    OverloadedError,
    ParleyError,
    TlsError,
    UnreachableError,
    WrongServiceError,
)
from parley.net.channel import ChannelPool
from parley.net.grpc_errors import from_grpc, told
from parley.net.request_ids import named, new_request_name
from parley.net.tls_probe import needs_tls
from parley.wire import convert
from parley.wire.endpoints import Endpoint, KnownEndpoints
from parley.wire.policy import FailoverPolicy, PolicySettings
from parley_proto.v1 import admin_pb2, admin_pb2_grpc

T = TypeVar("T")

_CALL_POLICY = PolicySettings(attempt_timeouts_s=(3.0, 5.0, 10.0))
STATUS_TIMEOUT_S = 1.5
REQUEST_ID_BYTES = 16
LEAST_ATTEMPT_S = 0.1
LEAST_CHANGE_S = 2.5
"""A node without a leader says after 2 s that nothing was done. An attempt that ends before that has no outcome."""
NO_MAJORITY_AFTER_S = 8.0
"""For how long a node may report no majority, each time after its own wait, before the caller is told."""
_SAID_ONCE = (
    "Nothing was changed.",
    "Nothing was done.",
    "The request may or may not have happened.",
    "Repeating it is safe.",
    "The client tries the other nodes by itself.",
)
"""What nodes say of one attempt. The error of a call says of all attempts what is known and what to do."""
UNKNOWN_TEXT = "No node gave a clear answer: {reasons} The request may or may not have been carried out. {then}"


class UnaryCaller:
    """Calls nodes with failover."""

    def __init__(
        self,
        known_endpoints: KnownEndpoints,
        pool: ChannelPool,
        rng: Random,
        on_behind: Callable[[], Awaitable[None]],
    ) -> None:
        """`pool` belongs to this caller alone, so a discarded channel never belongs to the session.

        `on_behind` is called when the cluster's data is older than what was seen. It forgets what was seen, so the
        caller's next request is answered.
        """
        self._on_behind = on_behind
        self._known_endpoints = known_endpoints
        self._pool = pool
        self._rng = rng
        self.preferred: Endpoint | None = None

    async def call(
        self,
        invoke: Callable[[grpc.aio.Channel], Awaitable[T]],
        *,
        deadline_s: float,
        confirm_signed_out: bool = True,
        changes: bool = True,
        repeatable: bool = False,
        answer_s: float = 0.0,
    ) -> T:
        """Return the first answer. Raise the cluster's refusal, or the reason why no node answered.

        With `confirm_signed_out`, a second node has to confirm that the session has ended. A node that lags may not
        have the session yet. `changes` is false for a request that only reads: its outcome is never unknown.
        `repeatable` is true if a person may repeat the request, with a new request id, without a second effect.
        `answer_s` is how long a node may wait on purpose before it answers. Each attempt has so much time more.
        If the call is cancelled after a change has left, the CancelledError has an OutcomeUnknownError as its cause.
        Each call has an id in the logs of the nodes, and its error names it.
        """
        name = new_request_name()
        with _named_errors(name):
            return await self._call(
                lambda channel: invoke(named(channel, name)),
                deadline_s=deadline_s,
                confirm_signed_out=confirm_signed_out,
                changes=changes,
                repeatable=repeatable,
                answer_s=answer_s,
            )

    async def _call(
        self,
        invoke: Callable[[grpc.aio.Channel], Awaitable[T]],
        *,
        deadline_s: float,
        confirm_signed_out: bool,
        changes: bool,
        repeatable: bool,
        answer_s: float,
    ) -> T:
        then = REPEAT_TEXT if repeatable else CHECK_TEXT
        policy = FailoverPolicy(self._known_endpoints.all(), self._rng, _CALL_POLICY)
        if self.preferred is not None:
            policy.prefer(self.preferred)
        failures: dict[Endpoint, ParleyError] = {}
        signed_out = 0
        unknown = False
        began_at = time.monotonic()
        ends_at = began_at + deadline_s + answer_s
        while (left_s := ends_at - time.monotonic()) > 0 and (attempt := policy.next_attempt()) is not None:
            least_s = LEAST_CHANGE_S if changes and failures.keys() >= set(policy.endpoints) else LEAST_ATTEMPT_S
            if failures and left_s - attempt.delay_s < least_s:
                break  # an attempt that is cut off would only add an outcome that nobody knows
            with unknown_if_cancelled(then, changes=unknown):
                await asyncio.sleep(min(attempt.delay_s, left_s))
            try:
                with unknown_if_cancelled(then, changes=changes):
                    timeout_s = min(attempt.timeout_s + answer_s, left_s)
                    answer = await self._once(invoke, attempt.endpoint, timeout_s, changes=changes)
            except (UnreachableError, OutcomeUnknownError, TlsError, WrongServiceError) as error:
                failures[attempt.endpoint] = error
                unknown = unknown or isinstance(error, OutcomeUnknownError)
                policy.failed(attempt.endpoint)
                is_late = not unknown and time.monotonic() - began_at >= NO_MAJORITY_AFTER_S
                if len(failures) == len(policy.endpoints) and _is_final(failures, is_late=is_late):
                    break
                continue
            except NotSignedInError as error:
                signed_out += 1
                if not confirm_signed_out or signed_out > 1:
                    raise told(error, after_unknown=unknown) from error.__cause__
                policy.failed(attempt.endpoint)
                continue
            except ParleyError as error:
                if isinstance(error, ClusterBehindError):
                    await self._on_behind()
                raise told(error, after_unknown=unknown) from error.__cause__
            self.preferred = attempt.endpoint
            return answer
        raise _summary(failures, unknown=unknown, then=then)

    async def status_of(
        self, endpoint: Endpoint, timeout_s: float = STATUS_TIMEOUT_S, *, token: str = ""
    ) -> NodeStatus:
        """Return the status of one node. If the node does not answer, the error is in the result."""
        asked_at_ms = time.time() * 1000
        try:
            answer = await self._once(
                lambda channel: admin_pb2_grpc.AdminStub(channel).GetStatus(
                    admin_pb2.GetStatusRequest(), metadata=bearer(token) if token else ()
                ),
                endpoint,
                timeout_s,
                changes=False,
            )
        except ParleyError as error:
            return NodeStatus(str(endpoint), error=error.text, tls_trouble=isinstance(error, TlsError))
        self._known_endpoints.met(endpoint, answer.node_name)
        return convert.node_status(str(endpoint), answer, asked_at_ms=asked_at_ms, answered_at_ms=time.time() * 1000)

    async def call_node(self, name: str, invoke: Callable[[grpc.aio.Channel], Awaitable[T]], *, timeout_s: float) -> T:
        """Call the node of this name, once. Raise BadInputError if none of the known addresses is known to be its."""
        names = self._known_endpoints.names
        endpoint = next((one for one in self._known_endpoints.all() if names.get(one) == name), None)
        if endpoint is None:
            raise BadInputError(f"No address of {name} is known. Nothing was sent. Give it with --host.")
        request = new_request_name()
        with _named_errors(request):
            return await self._once(lambda channel: invoke(named(channel, request)), endpoint, timeout_s, changes=True)

    async def find_serving(self, besides: Endpoint) -> Endpoint | None:
        """Return the endpoint of a node that reports that it serves, other than `besides`."""
        name, others = self._others(besides)
        answers = await asyncio.gather(*(self.status_of(endpoint) for endpoint in others))
        serving = [e for e, answer in zip(others, answers, strict=True) if answer.serving and answer.name != name]
        return self._rng.choice(serving) if serving else None

    async def find_another(self, besides: Endpoint) -> Endpoint | None:
        """Ask one node other than `besides`; return its endpoint if it answers."""
        name, others = self._others(besides)
        if not others:
            return None
        endpoint = self._rng.choice(others)
        answer = await self.status_of(endpoint)
        return None if answer.error or answer.name == name else endpoint

    def _others(self, besides: Endpoint) -> tuple[str | None, list[Endpoint]]:
        """Return the name of the node at `besides`, and the endpoints that are not known to be of that node."""
        names = self._known_endpoints.names
        name = names.get(besides)
        return name, [e for e in self._known_endpoints.all() if e != besides and (not name or names.get(e) != name)]

    def channel(self, endpoint: Endpoint) -> grpc.aio.Channel:
        """Return the channel to one node, for a call without failover."""
        return self._pool.get(endpoint)

    def error_of(self, error: grpc.aio.AioRpcError, endpoint: Endpoint) -> ParleyError:
        """Return the error of a call without failover that changes nothing."""
        where = self._known_endpoints.name_of(endpoint)
        return from_grpc(error, where=where, insecure=self._pool.security.insecure, changes=False)

    async def _once(
        self, invoke: Callable[[grpc.aio.Channel], Awaitable[T]], endpoint: Endpoint, timeout_s: float, *, changes: bool
    ) -> T:
        where = self._known_endpoints.name_of(endpoint)
        try:
            async with asyncio.timeout(timeout_s):
                return await invoke(self._pool.get(endpoint))
        except grpc.aio.AioRpcError as error:
            insecure = self._pool.security.insecure
            known = from_grpc(error, where=where, insecure=insecure, changes=changes)
            trouble = await needs_tls(known.text, endpoint, where) if insecure else None
            raise trouble or known from error
        except TimeoutError:
            kind = OutcomeUnknownError if changes else UnreachableError
            raise kind(f"{where} did not answer within {timeout_s:.1f} s.") from None


@dataclass(frozen=True, slots=True)
class NodesBeside:
    """Looks for nodes other than the one at `endpoint`."""

    caller: UnaryCaller
    endpoint: Endpoint

    async def find_serving(self) -> Endpoint | None:
        """Return a node that reports that it serves."""
        return await self.caller.find_serving(self.endpoint)

    async def find_another(self) -> Endpoint | None:
        """Ask one node; return it if it answers."""
        return await self.caller.find_another(self.endpoint)


def new_request_id() -> bytes:
    """Return the id by which a cluster finds the repeats of one request."""
    return secrets.token_bytes(REQUEST_ID_BYTES)


def bearer(token: str) -> tuple[tuple[str, str], ...]:
    """Return the metadata that carries a session token."""
    return (("authorization", f"Bearer {token}"),)


@contextmanager
def _named_errors(name: str) -> Iterator[None]:
    """Put the id of the request on the errors that it ends with, if a node may have the id in its log."""
    try:
        yield
    except ParleyError as error:
        if not isinstance(error, TlsError | WrongServiceError):
            error.request_id = name
        raise


def _is_final(failures: dict[Endpoint, ParleyError], *, is_late: bool) -> bool:
    """Return true if every address failed for a permanent reason, or every node refused the request for now.

    Late in the call, a node without a majority is such a reason, too: an election is over by then.
    """
    if is_late and any(isinstance(error, NoMajorityError) for error in failures.values()):
        return True
    kinds = (TlsError | WrongServiceError, OverloadedError)
    return any(all(isinstance(error, kind) for error in failures.values()) for kind in kinds)


def _summary(failures: dict[Endpoint, ParleyError], *, unknown: bool, then: str) -> ParleyError:
    """Return the error that tells most about why no node answered."""
    errors = list(failures.values())
    reasons = " ".join(_reason(error) for error in errors[:3]) or "time ran out."
    if unknown:
        return OutcomeUnknownError(UNKNOWN_TEXT.format(reasons=reasons, then=then))
    for kind in (TlsError, WrongServiceError):
        if errors and all(isinstance(error, kind) for error in errors):
            return errors[0]
    for error in errors:
        if isinstance(error, OverloadedError):
            return error
    for error in errors:
        if isinstance(error, NoMajorityError):
            return NoMajorityError(
                f"Nodes answer, but none can accept anything now. {_reason(error)} Nothing was changed. Try again when "
                "a majority of the nodes is up."
            )
    return UnreachableError(
        f"No node of the cluster could be reached: {reasons} Nothing is lost. Check the addresses, and "
        "that the nodes run. Then try again."
    )


def _reason(error: ParleyError) -> str:
    """Return why an attempt failed, without what the error of the call says as well."""
    text = error.text
    for sentence in _SAID_ONCE:
        text = text.replace(f" {sentence}", "")
    return text
