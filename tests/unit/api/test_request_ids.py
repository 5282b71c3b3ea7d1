"""One id tells the way of a request through the logs, and nothing that a stranger writes gets into them."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from typing import Any

import grpc
import grpc.aio
import pytest
import structlog
from structlog.testing import capture_logs

from parley_proto.v1 import accounts_pb2, messaging_pb2, peer_pb2, state_pb2
from parleyd import request_ids
from parleyd.api import admission
from parleyd.group.command_router import CommandRouter
from parleyd.group.peer_handler import PeerHandler
from parleyd.group.proposals import AppliedCommands
from parleyd.local_call import local_call
from parleyd.raft.types import Index, NodeId
from parleyd.request_ids import (
    MAX_LINES_PER_S,
    REQUEST_ID_KEY,
    RequestLog,
    begin_request,
    carried_metadata,
    carried_request_id,
    checked,
    current_request_id,
)
from parleyd.transport.forwards import Forwards
from tests.support.node import InProcessCluster, InProcessNode
from tests.support.raw import Raw, until_so

OWN_FORM = re.compile(r"[0-9a-f]{16}")
COMMANDS = [state_pb2.Command(set_display_name=state_pb2.SetDisplayName(display_name="Ann"))]
DONE = AppliedCommands(Index(5), (state_pb2.CommandResult(code=state_pb2.RESULT_CODE_OK),))
STRANGE = [
    "",
    "short",
    "x" * 33,
    "-begins-wrong",
    "two words",
    "line\nbreak",
    '"},{"event":"x',
    "ü2345678",
    "\x1b[2Jabcdefg",
]


@pytest.fixture(autouse=True)
def _no_id_afterwards() -> Iterator[None]:
    """Tests without a loop share one context, and the next one would find the id on its lines."""
    none = request_ids._CURRENT.get()
    yield
    request_ids._CURRENT.set(none)
    structlog.contextvars.clear_contextvars()


@pytest.mark.parametrize("text", STRANGE)
def test_an_id_of_another_form_is_never_used(text: str) -> None:
    assert checked(text) == ""
    begin_request(((REQUEST_ID_KEY, text),), is_carried=True)
    assert OWN_FORM.fullmatch(current_request_id())
    assert structlog.contextvars.get_contextvars()["request_id"] == current_request_id()


@pytest.mark.parametrize("value", [b"bytes", None, 7])
def test_what_is_no_text_is_no_id(value: object) -> None:
    assert checked(value) == ""


async def test_each_call_has_an_id_of_its_own_and_messages_carry_none() -> None:
    async def call(name: str, *, is_carried: bool) -> tuple[str, str, tuple[tuple[str, str], ...]]:
        begin_request(((REQUEST_ID_KEY, name),), is_carried=is_carried)
        await asyncio.sleep(0)
        return current_request_id(), carried_request_id(), carried_metadata()

    one, two, three = await asyncio.gather(
        *(
            asyncio.ensure_future(call(name, is_carried=carried))
            for name, carried in (("request-1", True), ("request-2", True), ("message-3", False))
        )
    )
    assert one == ("request-1", "request-1", ((REQUEST_ID_KEY, "request-1"),))
    assert two[0] == "request-2"
    assert three == ("message-3", "", ())


async def test_what_somebody_asks_for_on_the_dashboard_has_an_id_too() -> None:
    async def asked() -> str:
        local_call("127.0.0.1", 4711)
        return carried_request_id()

    ids = await asyncio.gather(asyncio.ensure_future(asked()), asyncio.ensure_future(asked()))
    assert len(set(ids)) == 2
    assert all(map(OWN_FORM.fullmatch, ids))
    assert carried_request_id() not in ids


def test_lines_about_requests_are_bounded_and_the_next_one_says_how_many_were_left_out() -> None:
    now = [10.0]
    log = RequestLog("x", lambda: now[0])
    with capture_logs() as lines:
        for _ in range(MAX_LINES_PER_S + 7):
            log.line("request_answered")
        now[0] += 1
        log.line("request_answered")
        log.line("request_answered")
    assert len(lines) == MAX_LINES_PER_S + 2
    assert [line.get("lines_left_out") for line in lines[-3:]] == [None, 7, None]


# ---- the way of a request


class Leader:
    """A replica that leads and applies at once."""

    is_leader = True

    def __init__(self) -> None:
        self.role = type("Role", (), {"leader": NodeId(1)})()

    def propose(self, commands: Any) -> asyncio.Future[AppliedCommands]:
        answer: asyncio.Future[AppliedCommands] = asyncio.get_running_loop().create_future()
        answer.set_result(DONE)
        return answer

    def next_role_change(self) -> asyncio.Future[None]:
        return asyncio.get_running_loop().create_future()

    next_change = next_role_change


class Follower(Leader):
    """A replica that follows, and its link to the leader."""

    is_leader = False

    def __init__(self, leader: PeerHandler) -> None:
        super().__init__()
        self._leader = leader
        self.frames: list[peer_pb2.ForwardRequest] = []

    def forward(self, node: NodeId, commands: Any) -> asyncio.Future[peer_pb2.ForwardReply]:
        forwards = Forwards()
        assert forwards.add(commands, 0, asyncio.get_running_loop().create_future())
        [request] = forwards.next_batch().requests
        self.frames.append(request)
        return self._leader.forwarded(request)


def leading_handler() -> PeerHandler:
    nothing: Any = None
    replica: Any = Leader()
    return PeerHandler(nothing, replica, *([nothing] * 10))


async def test_one_id_is_on_the_lines_of_the_node_that_is_asked_and_of_the_leader() -> None:
    follower: Any = Follower(leading_handler())
    begin_request(((REQUEST_ID_KEY, "abcdefgh-1"),), is_carried=True)
    with capture_logs(processors=[structlog.contextvars.merge_contextvars]) as lines:
        await CommandRouter(follower, follower).submit(COMMANDS, timeout_s=5)
    assert [(line["event"], line["request_id"]) for line in lines] == [
        ("request_proposed", "abcdefgh-1"),
        ("request_answered", "abcdefgh-1"),
    ]
    assert (lines[1]["outcome"], lines[1]["forwarded"], lines[1]["commands"]) == ("applied", True, ["set_display_name"])


async def test_messages_go_to_the_leader_without_an_id_and_without_a_line() -> None:
    follower: Any = Follower(leading_handler())
    begin_request(((REQUEST_ID_KEY, "abcdefgh-1"),), is_carried=False)
    with capture_logs() as lines:
        await CommandRouter(follower, follower).submit(COMMANDS, timeout_s=5)
    assert lines == []
    assert follower.frames[0] == peer_pb2.ForwardRequest(request_id=1, commands=COMMANDS)


async def test_a_leader_logs_no_id_that_a_node_forwards_in_another_form() -> None:
    with capture_logs() as lines:
        leading_handler().forwarded(
            peer_pb2.ForwardRequest(request_id=1, commands=COMMANDS, client_request_id="a\nforged line")
        )
    assert lines == []


# ---- over the wire


async def failed(call: Any) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await call
    return error.value


def named_in(error: grpc.aio.AioRpcError) -> str:
    return str(dict(error.trailing_metadata() or ()).get(REQUEST_ID_KEY, ""))


async def test_a_failed_call_names_its_id_the_clients_or_else_a_new_one(
    cluster: InProcessCluster, node: InProcessNode, raw: Raw
) -> None:
    request = accounts_pb2.RegisterRequest(name="a b", password="x")
    assert named_in(await failed(raw.accounts.Register(request, metadata=((REQUEST_ID_KEY, "mine-1234"),)))) == (
        "mine-1234"
    )
    assert OWN_FORM.fullmatch(named_in(await failed(raw.accounts.Register(request))))
    forged = ((REQUEST_ID_KEY, "not of the form"),)
    assert OWN_FORM.fullmatch(named_in(await failed(raw.accounts.Register(request, metadata=forged))))


async def test_a_call_that_the_cluster_fails_has_a_line_and_a_callers_mistake_has_none(
    cluster: InProcessCluster, node: InProcessNode, raw: Raw
) -> None:
    node.faults.overloaded = 1
    with capture_logs(processors=[structlog.contextvars.merge_contextvars]) as lines:
        await failed(raw.accounts.Register(accounts_pb2.RegisterRequest(name="a b", password="x")))
        metadata = ((REQUEST_ID_KEY, "mine-1234"),)
        request = accounts_pb2.RegisterRequest(name="ann", password="long-enough-1", request_id=b"1" * 16)
        await failed(raw.accounts.Register(request, metadata=metadata))
        await until_so(lambda: any(line["event"] == "request_failed" for line in lines))
    found = [line for line in lines if line["event"] == "request_failed"]
    assert [(line["method"], line["code"], line["request_id"]) for line in found] == [
        ("Register", "RESOURCE_EXHAUSTED", "mine-1234")
    ]


async def test_a_push_carries_no_id_to_the_leader(
    cluster: InProcessCluster, raw: Raw, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[bool] = []

    def begin(metadata: Any, *, is_carried: bool) -> None:
        begun.append(is_carried)
        begin_request(metadata, is_carried=is_carried)

    monkeypatch.setattr(admission, "begin_request", begin)
    await failed(raw.messaging.Push(messaging_pb2.PushRequest()))
    await failed(raw.accounts.Register(accounts_pb2.RegisterRequest()))
    assert begun == [False, True]
