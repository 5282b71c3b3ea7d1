"""What a client says of a request that ended badly: "nothing was changed" only if the request surely had no effect.

What can go wrong: a connection that broke after the request left is told as "cannot be reached"; a node's refusal of a
second attempt is told as the outcome of the first one; a read, which changes nothing, is told as an unknown outcome.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from types import SimpleNamespace

import grpc
import pytest

from parley import (
    NameTakenError,
    NoMajorityError,
    OutcomeUnknownError,
    OverloadedError,
    ParleyClient,
    ParleyError,
    RefusedError,
    TlsError,
    TooLargeError,
    UnreachableError,
)
from parley.cancellation import CHECK_TEXT
from parley.net import unary_caller
from parley.net.channel import ChannelPool, Security
from parley.net.grpc_errors import OUTCOME_KEY, RESULT_KEY, from_grpc
from parley.net.unary_caller import UnaryCaller, _summary
from parley.terminal.exits import ExitCode, code_of
from parley.wire.endpoints import Endpoint, KnownEndpoints, parse_endpoints
from parley_proto.v1 import state_pb2
from parleyd.api import errors as node_errors
from tests.support.node import running_cluster
from tests.unit.client.helpers import PASSWORD, make_client, signed_in

Code = grpc.StatusCode

REFUSED = "failed to connect to all addresses; last error: UNKNOWN: ipv4:127.0.0.1:1: Connection refused"
NO_SETTINGS = "failed to connect to all addresses; last error: UNAVAILABLE: ipv4:127.0.0.1:1: Socket closed"
NO_NAME = "errors resolving nowhere.invalid:1: [field:hostname lookup error: Domain name not found]"
BAD_CA = "failed to connect to all addresses; last error: Tls handshake failed: CERTIFICATE_VERIFY_FAILED: OK"
BROKE = "Stream removed (Socket closed)"
RESET = "Stream removed (recvmsg:Connection reset by peer (104))"
SILENT = "Stream removed (ping timeout)"
LEAVING = "Stream removed (GOAWAY received; Error code: 0; Debug Text: )"
NODE = "This node cannot reach a majority."


def ended(code: Code, details: str, outcome: str = "") -> grpc.aio.AioRpcError:
    trailing = grpc.aio.Metadata(*([(OUTCOME_KEY, outcome)] if outcome else []))
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), trailing, details)


@pytest.mark.parametrize(
    ("error", "kind", "text"),
    [
        # the request never left this machine
        (ended(Code.UNAVAILABLE, REFUSED), UnreachableError, "cannot be reached"),
        (ended(Code.UNAVAILABLE, NO_SETTINGS), UnreachableError, "cannot be reached"),
        (ended(Code.UNAVAILABLE, NO_NAME), UnreachableError, "cannot be reached"),
        (ended(Code.UNAVAILABLE, BAD_CA), TlsError, "Nothing was sent"),
        # it may have arrived
        (ended(Code.UNAVAILABLE, BROKE), OutcomeUnknownError, "broke before it answered"),
        (ended(Code.UNAVAILABLE, RESET), OutcomeUnknownError, "broke before it answered"),
        (ended(Code.UNAVAILABLE, SILENT), OutcomeUnknownError, "broke before it answered"),
        (ended(Code.UNAVAILABLE, LEAVING), OutcomeUnknownError, "broke before it answered"),
        (ended(Code.UNAVAILABLE, ""), OutcomeUnknownError, "broke before it answered"),
        (ended(Code.CANCELLED, ""), OutcomeUnknownError, "no clear answer"),
        (ended(Code.UNKNOWN, "x"), OutcomeUnknownError, "no clear answer"),
        (ended(Code.DEADLINE_EXCEEDED, "x"), OutcomeUnknownError, "no clear answer"),
        (ended(Code.RESOURCE_EXHAUSTED, "SERVER: Received message larger than max"), RefusedError, "Nothing was"),
        (ended(Code.RESOURCE_EXHAUSTED, "CLIENT: Received message larger than max"), TooLargeError, "answer of n1"),
        # a node answered, and says whether it had an effect
        (ended(Code.UNAVAILABLE, NODE, "none"), NoMajorityError, NODE),
        (ended(Code.UNAVAILABLE, NODE, "unknown"), OutcomeUnknownError, NODE),
        (ended(Code.UNAVAILABLE, NODE), OutcomeUnknownError, NODE),  # an older release says nothing of it
        (ended(Code.ABORTED, "it may still happen", "unknown"), OutcomeUnknownError, "may still happen"),
        (ended(Code.INTERNAL, "it failed", "unknown"), OutcomeUnknownError, "it failed"),
        (ended(Code.DEADLINE_EXCEEDED, "it came too late", "none"), UnreachableError, "came too late"),
        (ended(Code.RESOURCE_EXHAUSTED, "too many", "none"), OverloadedError, "too many"),
        (ended(Code.FAILED_PRECONDITION, "no", "none"), RefusedError, "no"),
        (ended(Code.ALREADY_EXISTS, "taken", "none"), NameTakenError, "taken"),
    ],
)
def test_a_status_is_told_as_no_effect_only_if_the_request_surely_had_none(
    error: grpc.aio.AioRpcError, kind: type[ParleyError], text: str
) -> None:
    told = from_grpc(error, where="n1")
    assert type(told) is kind
    assert text in told.text
    if kind is OutcomeUnknownError:
        assert not isinstance(from_grpc(error, where="n1", changes=False), OutcomeUnknownError), "a read has no outcome"


LONG = "failed to connect to all addresses; last error: UNKNOWN: ipv4:127.0.0.1:1: recvmsg:Connection reset by peer"
CORE = "Internal error from Core"
RAW = (
    "failed to connect", "last error", "ipv4:", "UNKNOWN", "UNAVAILABLE", "recvmsg", "Stream removed", "GOAWAY",
    "Socket closed", "hostname lookup", "DEADLINE", "Debug Text", "CANCELLED", "INTERNAL", "()", "FD Shutdown", "Core",
)  # fmt: skip


@pytest.mark.parametrize(
    "details", [REFUSED, NO_SETTINGS, NO_NAME, BROKE, RESET, SILENT, LEAVING, LONG, "FD Shutdown", CORE, ""]
)
@pytest.mark.parametrize("code", [Code.UNAVAILABLE, Code.CANCELLED, Code.DEADLINE_EXCEEDED, Code.INTERNAL])
def test_people_are_told_in_plain_words_what_grpc_says_in_its_own(code: grpc.StatusCode, details: str) -> None:
    told = from_grpc(ended(code, details), where="n1", changes=False).text
    assert [raw for raw in RAW if raw in told] == []
    assert told.startswith(("n1 ", "The connection to n1 "))
    assert told.endswith(".")


def test_what_a_node_wrote_is_told_in_its_words() -> None:
    assert from_grpc(ended(Code.INTERNAL, NODE), where="n1", changes=False).text.count(NODE.rstrip(".")) == 1


def test_the_error_of_a_call_says_once_what_is_known_and_what_to_do() -> None:
    """A node says that repeating is safe. That holds with the same request id, not if a person asks again."""
    said = node_errors.UNCONFIRMED_TEXT.format(reason="it did not answer in time")
    failures: dict[Endpoint, ParleyError] = {
        Endpoint("n", port): OutcomeUnknownError(f"n{port}: {said}") for port in (1, 2)
    }
    assert _summary(failures, unknown=True, then=CHECK_TEXT).text == (
        "No node gave a clear answer: n1: This node cannot reach a majority of the cluster now (it did not answer in "
        "time). n2: This node cannot reach a majority of the cluster now (it did not answer in time). The request may "
        "or may not have been carried out. Check the result before you try again."
    )


def test_nodes_and_clients_use_one_name_for_the_outcome() -> None:
    assert node_errors.OUTCOME_KEY == OUTCOME_KEY
    assert (node_errors.NO_EFFECT, node_errors.UNKNOWN_EFFECT) == ("none", "unknown")


ROOM = "The cluster has no room for more now. Nothing was changed."


async def call_three_nodes(
    answers: Callable[[], grpc.aio.AioRpcError], *, repeatable: bool = False, deadline_s: float = 5
) -> tuple[ParleyError, int]:
    """Return the error of a call that each of three nodes answers so, and how many attempts were made."""
    attempts = 0

    async def invoke(_: grpc.aio.Channel) -> None:
        nonlocal attempts
        attempts += 1
        raise answers()

    async def never() -> None:
        raise AssertionError("the cluster did not go back")

    known = KnownEndpoints(parse_endpoints(["127.0.0.1:1-3"]))
    pool = ChannelPool(Security(insecure=True))
    try:
        with pytest.raises(ParleyError) as raised:
            await UnaryCaller(known, pool, Random(1), never).call(invoke, deadline_s=deadline_s, repeatable=repeatable)
    finally:
        await pool.close()
    return raised.value, attempts


async def test_a_refusal_by_every_node_is_told_at_once_and_as_a_refusal() -> None:
    error, attempts = await call_three_nodes(lambda: ended(Code.RESOURCE_EXHAUSTED, ROOM, "none"))
    assert (type(error), error.text, attempts) == (OverloadedError, ROOM, 3)
    assert code_of(error) is ExitCode.REFUSED


async def test_a_refusal_by_the_state_of_the_cluster_is_told_after_one_attempt() -> None:
    def refused() -> grpc.aio.AioRpcError:
        trailing = grpc.aio.Metadata((OUTCOME_KEY, "none"), (RESULT_KEY, str(state_pb2.RESULT_CODE_TOO_MANY_CODES)))
        return grpc.aio.AioRpcError(Code.RESOURCE_EXHAUSTED, grpc.aio.Metadata(), trailing, "Too many codes wait.")

    error, attempts = await call_three_nodes(refused)
    assert (type(error), error.text, attempts) == (RefusedError, "Too many codes wait.", 1)


async def test_a_refusal_by_every_node_hides_no_lost_answer() -> None:
    lost = [ended(Code.UNAVAILABLE, BROKE)]
    error, attempts = await call_three_nodes(
        lambda: lost.pop() if lost else ended(Code.RESOURCE_EXHAUSTED, ROOM, "none")
    )
    assert (type(error), "may or may not" in error.text) == (OutcomeUnknownError, True)
    assert attempts == 4, "every node has refused"


async def test_no_attempt_begins_when_too_little_time_is_left_for_an_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would be cut off, and a failure that is known would become an outcome that nobody knows."""
    now_s = 100.0
    monkeypatch.setattr(unary_caller, "time", SimpleNamespace(monotonic=lambda: now_s))

    def refused() -> grpc.aio.AioRpcError:
        nonlocal now_s
        now_s += 4.95  # of the five seconds
        return ended(Code.UNAVAILABLE, "failed to connect to all addresses; last error: refused")

    error, attempts = await call_three_nodes(refused)
    assert type(error) is UnreachableError
    assert attempts == 1


# ---- over real connections


@asynccontextmanager
async def breaking_node() -> AsyncIterator[tuple[str, list[bytes]]]:
    """A server that takes a request and breaks the connection instead of answering."""
    received: list[bytes] = []

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"\0\0\0\x04\0\0\0\0\0")  # an empty SETTINGS frame: without it the client sends no request
        taken = b""
        while b"ada-the-first" not in taken and (some := await reader.read(1000)):
            taken += some
        received.append(taken)
        writer.close()

    server = await asyncio.start_server(take, "127.0.0.1", 0)
    async with server:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}", received


async def test_a_connection_that_breaks_after_the_request_left_is_an_unknown_outcome(tmp_path: Path) -> None:
    async with breaking_node() as (address, received):
        async with ParleyClient([address], insecure=True, state_dir=tmp_path, rng=Random(1), deadline_s=1) as client:
            with pytest.raises(OutcomeUnknownError, match="may or may not have been carried out"):
                await client.register("ada-the-first", PASSWORD)
        assert any(b"ada-the-first" in request for request in received)


@pytest.mark.parametrize(("repeatable", "then"), [(True, "Repeating it is safe."), (False, "Check the result")])
async def test_an_unknown_outcome_says_whether_the_request_may_be_repeated(repeatable: bool, then: str) -> None:
    lost = ended(Code.UNAVAILABLE, BROKE)
    error, _ = await call_three_nodes(lambda: lost, repeatable=repeatable)
    assert (type(error), then in error.text) == (OutcomeUnknownError, True)
    assert ".;" not in error.text


async def test_a_change_is_not_begun_when_a_node_without_a_leader_has_no_time_to_say_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The last attempt was cut off after 1.9 s, and nothing done became an unknown outcome."""
    now_s = 100.0
    monkeypatch.setattr(unary_caller, "time", SimpleNamespace(monotonic=lambda: now_s))

    def refused() -> grpc.aio.AioRpcError:
        nonlocal now_s
        now_s += 1.0  # of the five seconds
        return ended(Code.UNAVAILABLE, NODE, "none")

    error, attempts = await call_three_nodes(refused)
    assert (type(error), attempts) == (NoMajorityError, 3)
    error, attempts = await call_three_nodes(refused, deadline_s=30)
    assert (type(error), attempts) == (NoMajorityError, 8), "administration does not wait for its whole deadline"
    assert ".)" not in error.text


async def test_a_refusal_after_a_lost_answer_does_not_say_that_nothing_was_changed(tmp_path: Path) -> None:
    """The first attempt took the role away. The second one is refused, because the caller has it no more."""
    async with running_cluster() as cluster:
        cluster.add_account("boss", PASSWORD)
        async with signed_in(cluster, tmp_path / "boss", "boss") as client:
            administration = await client.administration()
            cluster.add_account("deputy", PASSWORD)
            await administration.set_administrator("deputy", administrator=True)
            cluster.nodes[0].faults.lose_answers = 1
            with pytest.raises(RefusedError, match="may have been carried out") as refused:
                await administration.set_administrator("boss", administrator=False)
            assert refused.value.after_unknown
            assert "Check" in refused.value.text


async def test_a_read_that_no_node_answers_comes_from_the_device(tmp_path: Path) -> None:
    async with running_cluster() as cluster:
        bob, anna = cluster.add_account("bob", PASSWORD), cluster.add_account("anna", PASSWORD)
        cluster.store(bob, anna, "from bob")
        async with make_client(cluster, tmp_path, deadline_s=0.3) as client:
            await client.login("anna", PASSWORD)
            await anext(await client.messages())
            cluster.nodes[0].faults.hang = True
            assert [message.body for message in (await client.history("bob")).messages] == ["from bob"]
            cluster.nodes[0].release()
