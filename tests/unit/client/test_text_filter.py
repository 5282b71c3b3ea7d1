"""The text filter: asked once for each text before it is stored, within its time, and told of when it fails."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest
from prompt_toolkit.input import PipeInput, create_pipe_input
from prompt_toolkit.output import DummyOutput

from parley import (
    BadInputError,
    ConnectionState,
    ParleyClient,
    Target,
    TextFilter,
    TextFilterError,
    TextFilterServer,
    TlsError,
    WhenFilterFails,
    squeeze_blanks,
)
from parley.terminal.chat import chat
from parley.terminal.chat_view import ChatView
from parley.terminal.exits import ExitCode
from parley.terminal.filter_options import FilterFlags
from parley.terminal.options import ConnectionOptions, Flags, resolve_options
from parley.terminal.screen import PromptScreen
from parley_proto.v1 import text_filter_pb2 as pb
from parley_proto.v1.text_filter_pb2_grpc import TextFilterServicer, add_TextFilterServicer_to_server
from parleyd.security.certificate_files import write_ca, write_node
from tests.support.node import InProcessCluster, running_cluster
from tests.unit.client.helpers import PASSWORD, make_client, until
from tests.unit.client.test_command import Parley

SEND, REFUSE = WhenFilterFails.SEND, WhenFilterFails.REFUSE
PATIENT_MS = 10_000
"""Other tests may have this machine's processors, so where the filter answers, its time is long."""


class Filter(TextFilterServicer):
    """A filter that answers what the test says, when the test says so."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.answer: Callable[[list[str]], list[str]] = lambda texts: [text.upper() for text in texts]
        self.open = asyncio.Event()
        self.open.set()

    async def FilterTexts(self, request: pb.FilterTextsRequest, context: Any) -> pb.FilterTextsResponse:
        self.asked.extend(request.texts)
        await self.open.wait()
        return pb.FilterTextsResponse(texts=self.answer(list(request.texts)))


@asynccontextmanager
async def serving(filter_: Filter) -> AsyncIterator[str]:
    server = grpc.aio.server()
    add_TextFilterServicer_to_server(filter_, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        filter_.open.set()
        await server.stop(0)


@asynccontextmanager
async def filtered(
    tmp_path: Path, text_filter: TextFilter, *, connect: bool = True
) -> AsyncIterator[tuple[InProcessCluster, ParleyClient]]:
    """A client of anna with a filter, and bob to write to."""
    async with running_cluster() as cluster:
        cluster.add_account("bob", PASSWORD)
        cluster.add_account("anna", PASSWORD)
        client = make_client(cluster, tmp_path / "anna", connect=connect, text_filter=text_filter)
        async with client:
            await client.login("anna", PASSWORD)
            yield cluster, client


async def bodies(client: ParleyClient) -> list[str]:
    """What is in the outbox."""
    return [view.body for view in await client.outgoing()]


def closed_port() -> str:
    """An address at which nobody listens."""
    return "127.0.0.1:1"


# ---- what is asked, and when


async def test_the_text_is_changed_before_it_enters_the_outbox(tmp_path: Path) -> None:
    filter_ = Filter()
    async with (
        serving(filter_) as address,
        filtered(tmp_path, TextFilter(address, timeout_ms=PATIENT_MS)) as (
            cluster,
            client,
        ),
    ):
        message = await client.send("bob", "hello")
        assert message.view.body == "HELLO"
        await message.accepted(60)
        assert cluster.bodies_for("bob") == ["HELLO"]
        assert filter_.asked == ["hello"]


async def test_a_retry_and_a_restart_do_not_ask_again_and_an_edit_does(tmp_path: Path) -> None:
    filter_ = Filter()
    filter_.answer = lambda texts: [f"{text}!" for text in texts]
    async with serving(filter_) as address, running_cluster() as cluster:
        cluster.add_account("anna", PASSWORD)
        text_filter = TextFilter(address, timeout_ms=PATIENT_MS)
        async with make_client(cluster, tmp_path, connect=False, text_filter=text_filter) as client:
            await client.login("anna", PASSWORD)
            message = await client.send("bob", "first")
            assert (await client.edit(message.local_id, "second")).body == "second!"
            await client.push()
            await until(lambda: message.view.status.needs_person, "there is no such account")
            assert (await client.retry(message.local_id)).view.body == "second!"
        cluster.add_account("bob", PASSWORD)
        async with make_client(cluster, tmp_path, "anna", text_filter=text_filter):
            await until(lambda: cluster.bodies_for("bob") == ["second!"], "it was sent again")
    assert filter_.asked == ["first", "second"]


async def test_many_texts_are_asked_in_parts_and_stay_in_order(tmp_path: Path) -> None:
    filter_ = Filter()
    sizes: list[int] = []

    def answer(texts: list[str]) -> list[str]:
        sizes.append(len(texts))
        return [text.upper() for text in texts]

    filter_.answer = answer
    async with (
        serving(filter_) as address,
        filtered(tmp_path, TextFilter(address, timeout_ms=PATIENT_MS), connect=False) as (_, client),
    ):
        views = await client.send_many([("bob", f"text {number}") for number in range(600)])
        assert [view.view.body for view in views] == [f"TEXT {number}" for number in range(600)]
        await client.send_many([("bob", "x" * 60_000) for _ in range(20)])
        assert await client.send_many([]) == []
    assert sizes == [256, 256, 88, 17, 3]


async def test_sends_that_overlap_stay_in_the_order_of_the_calls(tmp_path: Path) -> None:
    filter_ = Filter()
    async with (
        serving(filter_) as address,
        filtered(tmp_path, TextFilter(address, timeout_ms=PATIENT_MS), connect=False) as (_, client),
    ):
        filter_.open.clear()
        sends = [asyncio.create_task(client.send("bob", word)) for word in ("one", "two", "three")]
        await until(lambda: filter_.asked == ["one"], "the first one is asked about")
        filter_.open.set()
        await asyncio.gather(*sends)
        assert await bodies(client) == ["ONE", "TWO", "THREE"]


# ---- when the filter fails


async def test_a_filter_that_is_down_lets_texts_through_or_refuses_them_as_it_is_set(tmp_path: Path) -> None:
    told: list[str] = []
    lenient = TextFilter(closed_port(), SEND, PATIENT_MS, on_unfiltered=told.append)
    async with filtered(tmp_path / "a", lenient) as (cluster, client):
        await (await client.send("bob", "as it is")).accepted(60)
        await client.send("bob", "as it is, too")
        assert cluster.bodies_for("bob")[0] == "as it is"
        assert len(told) == 1, "it is told once until the filter works again"
        assert "gave no answer (" in told[0]
        assert "sent unfiltered" in told[0]
    async with filtered(tmp_path / "b", TextFilter(closed_port(), REFUSE, PATIENT_MS)) as (_, client):
        with pytest.raises(TextFilterError, match="Nothing was sent") as refused:
            await client.send("bob", "not without it")
        assert "127.0.0.1:1" in refused.value.text
        assert await bodies(client) == []


async def test_a_filter_that_works_again_is_asked_again_and_a_new_failure_is_told_again(tmp_path: Path) -> None:
    filter_, told = Filter(), list[str]()
    async with serving(filter_) as address:
        text_filter = TextFilter(address, SEND, PATIENT_MS, on_unfiltered=told.append)
        async with filtered(tmp_path, text_filter, connect=False) as (_, client):
            works, filter_.answer = filter_.answer, lambda texts: []
            await client.send("bob", "one")
            filter_.answer = works
            await client.send("bob", "two")
            filter_.answer = lambda texts: [*texts, "and one more"]
            await client.send("bob", "three")
            assert await bodies(client) == ["one", "TWO", "three"]
    assert [sentence.partition(" returned ")[2].partition(".")[0] for sentence in told] == [
        "0 texts for 1",
        "2 texts for 1",
    ]


@pytest.mark.parametrize("when_fails", [SEND, REFUSE])
async def test_a_slow_filter_costs_its_time_once_and_is_not_asked_twice(
    tmp_path: Path, when_fails: WhenFilterFails
) -> None:
    filter_ = Filter()
    filter_.open.clear()
    async with (
        serving(filter_) as address,
        filtered(tmp_path, TextFilter(address, when_fails, 200), connect=False) as (_, client),
    ):
        if when_fails is SEND:
            assert (await client.send("bob", "slow")).view.body == "slow"
        else:
            with pytest.raises(TextFilterError, match="did not answer within 200 ms"):
                await client.send("bob", "slow")
        assert len(filter_.asked) <= 1


async def test_a_cancelled_send_stores_nothing_and_holds_nobody_up(tmp_path: Path) -> None:
    filter_ = Filter()
    async with (
        serving(filter_) as address,
        filtered(tmp_path, TextFilter(address, timeout_ms=PATIENT_MS), connect=False) as (_, client),
    ):
        filter_.open.clear()
        send = asyncio.create_task(client.send("bob", "never mind"))
        await until(lambda: filter_.asked == ["never mind"], "it is asked about")
        send.cancel()
        with pytest.raises(asyncio.CancelledError):
            await send
        filter_.open.set()
        assert (await client.send("bob", "but this")).view.body == "BUT THIS"
        assert await bodies(client) == ["BUT THIS"]


async def test_nothing_is_stored_for_an_account_that_was_left_while_the_filter_was_asked(tmp_path: Path) -> None:
    filter_ = Filter()
    async with (
        serving(filter_) as address,
        filtered(tmp_path, TextFilter(address, timeout_ms=PATIENT_MS), connect=False) as (cluster, client),
    ):
        cluster.add_account("carl", PASSWORD)
        filter_.open.clear()
        send = asyncio.create_task(client.send("bob", "of anna"))
        await until(lambda: filter_.asked == ["of anna"], "it is asked about")
        await client.login("carl", PASSWORD)
        filter_.open.set()
        with pytest.raises(Exception, match="The account was changed"):
            await send
        assert await bodies(client) == []


# ---- what it answers


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        ("", "left nothing of it"),
        (" \n\t ", "left nothing of it"),
        ("x" * 70_000, "the result cannot be sent. The message has 70000 bytes"),
    ],
)
@pytest.mark.parametrize("when_fails", [SEND, REFUSE])
async def test_a_result_is_checked_like_any_text(
    tmp_path: Path, answer: str, hint: str, when_fails: WhenFilterFails
) -> None:
    filter_ = Filter()
    filter_.answer = lambda texts: [answer for _ in texts]
    async with (
        serving(filter_) as address,
        filtered(tmp_path, TextFilter(address, when_fails, PATIENT_MS), connect=False) as (_, client),
    ):
        with pytest.raises(BadInputError, match=hint):
            await client.send("bob", "hello")
        assert await bodies(client) == []


async def test_an_answer_that_is_no_text_counts_as_a_failure(tmp_path: Path) -> None:
    async def garbage(request: bytes, context: Any) -> bytes:
        return b"\x0a\x02\xff\xfe"  # a string that is not UTF-8

    server = grpc.aio.server()
    handler: Any = grpc.unary_unary_rpc_method_handler(garbage)
    service = pb.DESCRIPTOR.services_by_name["TextFilter"].full_name
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {"FilterTexts": handler}),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        text_filter = TextFilter(f"127.0.0.1:{port}", REFUSE, PATIENT_MS)
        async with filtered(tmp_path, text_filter, connect=False) as (_, client):
            with pytest.raises(TextFilterError, match="returned 0 texts for 1"):
                await client.send("bob", "hello")
            assert await bodies(client) == []
    finally:
        await server.stop(0)


async def test_a_text_that_cannot_be_sent_is_not_shown_to_the_filter(tmp_path: Path) -> None:
    filter_ = Filter()
    async with (
        serving(filter_) as address,
        filtered(tmp_path, TextFilter(address, timeout_ms=PATIENT_MS), connect=False) as (_, client),
    ):
        for text in ("", "\ud800", "x" * 70_000):
            with pytest.raises(BadInputError):
                await client.send("bob", text)
    assert filter_.asked == []


# ---- where it is


@pytest.mark.parametrize("address", ["localhost", "a:1,b:2", "a:1-3", ""])
def test_one_address_is_needed(address: str, tmp_path: Path) -> None:
    with pytest.raises(BadInputError):
        ParleyClient("localhost:1", insecure=True, text_filter=TextFilter(address), state_dir=tmp_path)


@pytest.mark.parametrize("timeout_ms", [0, -1, 10_001])
def test_the_time_limit_has_bounds(timeout_ms: int, tmp_path: Path) -> None:
    text_filter = TextFilter("localhost:1", timeout_ms=timeout_ms)
    with pytest.raises(BadInputError, match="1 to 10000 ms"):
        ParleyClient("localhost:1", insecure=True, text_filter=text_filter, state_dir=tmp_path)


async def test_texts_leave_this_machine_only_over_tls(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="read on the network"):
        TextFilterServer(str.upper, "0.0.0.0:0")
    write_ca(tmp_path / "ca")
    write_node(tmp_path, tmp_path / "ca", "filter", ["127.0.0.1"])
    cert, key = tmp_path / "filter.pem", tmp_path / "filter.key"
    with pytest.raises(BadInputError, match="needs its key"):
        TextFilterServer(str.upper, "127.0.0.1:0", cert=cert)
    with pytest.raises(TlsError, match="cannot be read"):
        TextFilterServer(str.upper, "127.0.0.1:0", cert=tmp_path / "none", key=key)
    async with TextFilterServer(str.upper, "0.0.0.0:0", cert=cert, key=key) as server:
        address = f"127.0.0.1:{server.port}"
        over_tls = TextFilter(address, REFUSE, PATIENT_MS, tmp_path / "ca" / "ca.pem")
        async with filtered(tmp_path, over_tls, connect=False) as (cluster, client):
            assert (await client.send("bob", "hello")).view.body == "HELLO"
            # Without the CA, the address of this machine is called in the clear, and the server does not take that.
            plain = replace(over_tls, ca=None)
            async with make_client(cluster, tmp_path / "b", connect=False, text_filter=plain) as other:
                await other.login("anna", PASSWORD)
                with pytest.raises(TextFilterError):
                    await other.send("bob", "hello")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("  two  words\t\there  ", "two words here"),
        ("a \r\n b", "a\nb"),
        ("a\n\n\n\n b", "a\n\nb"),
        ("a\u00a0\u2003b", "a b"),
        (" \n ", ""),
        ("plain", "plain"),
    ],
)
def test_the_included_filter_squeezes_blank_space(text: str, expected: str) -> None:
    assert squeeze_blanks(text) == expected
    assert squeeze_blanks(expected) == expected


# ---- the command line


def test_a_flag_wins_over_the_environment_over_the_file(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text('filter = "file:1"\nfilter_fails = "send"\nfilter_ms = 50\nfilter_ca = "ca.pem"\n')
    environment = {"PARLEY_STATE_DIR": str(tmp_path), "PARLEY_CONFIG": str(file)}

    def found(flags: FilterFlags = FilterFlags(), **more: str) -> TextFilter | None:  # noqa: B008 - frozen
        text_filter = resolve_options(Flags(text_filter=flags), {**environment, **more}).text_filter
        return None if text_filter is None else replace(text_filter, on_unfiltered=None)

    assert found() == TextFilter("file:1", SEND, 50, tmp_path / "ca.pem")
    more = {"PARLEY_FILTER": "env:1", "PARLEY_FILTER_FAILS": "refuse", "PARLEY_FILTER_MS": "70"}
    assert found(FilterFlags(), **more) == TextFilter("env:1", REFUSE, 70, tmp_path / "ca.pem")
    assert found(FilterFlags("flag:1", "send", 90, Path("f.pem")), **more) == TextFilter(
        "flag:1", SEND, 90, Path("f.pem")
    )
    assert found(FilterFlags("none"), **more) is None
    assert resolve_options(Flags(), {"PARLEY_STATE_DIR": str(tmp_path)}).text_filter is None


@pytest.mark.parametrize(
    ("environment", "hint"),
    [
        ({"PARLEY_FILTER_FAILS": "send"}, "but no filter"),
        ({"PARLEY_FILTER": "a:1", "PARLEY_FILTER_FAILS": "maybe"}, "'maybe' is not what to do"),
        ({"PARLEY_FILTER": "a:1", "PARLEY_FILTER_MS": "soon"}, "'soon'"),
    ],
)
def test_a_wrong_setting_is_never_ignored(tmp_path: Path, environment: dict[str, str], hint: str) -> None:
    with pytest.raises(BadInputError, match=hint):
        resolve_options(Flags(), {"PARLEY_STATE_DIR": str(tmp_path), **environment})


@pytest.mark.parametrize("text", ["filter = 5", "filter = 'a:1'\nfilter_ms = '5'", "filter = 'a:1'\nfilter_ca = 5"])
def test_a_wrong_setting_in_the_file_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "c.toml").write_text(text)
    with pytest.raises(BadInputError, match="filter"):
        resolve_options(Flags(), {"PARLEY_STATE_DIR": str(tmp_path), "PARLEY_CONFIG": str(tmp_path / "c.toml")})


async def test_the_commands_serve_and_use_the_included_filter(tmp_path: Path) -> None:
    async with running_cluster() as cluster:
        cluster.add_account("bob", PASSWORD)
        cluster.add_account("anna", PASSWORD)
        parley = Parley(tmp_path, cluster)
        assert (await parley("login", "anna", PARLEY_PASSWORD=PASSWORD)).code == 0
        process = await parley.start("filter", "serve", "--listen", "127.0.0.1:0")
        try:
            assert process.stderr is not None
            line = (await asyncio.wait_for(process.stderr.readline(), 60)).decode()
            address = line.strip().rpartition("=")[2]
            sent = await parley("send", "bob", "  much   space ", "--filter", address, "--filter-ms", "9999")
            assert sent.code == 0, sent.err
            assert cluster.bodies_for("bob") == ["much space"]
        finally:
            with suppress(ProcessLookupError):
                process.terminate()
            await process.wait()
        refused = await parley("send", "bob", "no", PARLEY_FILTER=address)
        assert refused.code == ExitCode.FAILED
        assert "Nothing was sent" in refused.err
        lenient = await parley("send", "bob", "as  it is", PARLEY_FILTER=address, PARLEY_FILTER_FAILS="send")
        assert lenient.code == 0
        assert "Messages are sent unfiltered" in lenient.err
        assert cluster.bodies_for("bob") == ["much space", "as  it is"]
        assert (await parley("filter", "serve", "--listen", "0.0.0.0:7650")).code == ExitCode.USAGE


@asynccontextmanager
async def chatting(
    tmp_path: Path, text_filter: TextFilter
) -> AsyncIterator[tuple[InProcessCluster, PipeInput, asyncio.Task[int], list[str]]]:
    """A chat of anna with bob in a terminal."""
    shown: list[str] = []

    class Recording(PromptScreen):
        def show(self, line: str) -> None:
            shown.append(line)

        def quiet(self, line: str) -> None:
            shown.append(line)

    async with running_cluster() as cluster:
        cluster.add_account("bob", PASSWORD)
        cluster.add_account("anna", PASSWORD)
        async with make_client(cluster, tmp_path) as client:
            await client.login("anna", PASSWORD)
        options = ConnectionOptions((cluster.nodes[0].address,), None, True, "anna", tmp_path, text_filter=text_filter)
        with create_pipe_input() as keys:
            screen = Recording(keys=keys, output=DummyOutput())
            task = asyncio.ensure_future(chat(options, "bob", create=False, screen=screen))
            try:
                yield cluster, keys, task, shown
            finally:
                task.cancel()
                await asyncio.wait([task])


async def test_typing_goes_on_in_the_chat_while_the_filter_is_asked(tmp_path: Path) -> None:
    filter_ = Filter()
    async with (
        serving(filter_) as address,
        chatting(tmp_path, TextFilter(address, timeout_ms=PATIENT_MS)) as (cluster, keys, task, shown),
    ):
        filter_.open.clear()
        keys.send_text("one\r")
        await until(lambda: filter_.asked == ["one"], "the filter is asked")
        keys.send_text("two\r/dm bob three\r/ping\r")
        await until(lambda: any("known nodes answer" in line for line in shown), "a later line is carried out")
        assert cluster.bodies_for("bob") == []
        keys.send_text("/quit\r")
        filter_.open.set()
        assert await asyncio.wait_for(task, 60) in (ExitCode.OK, ExitCode.KEPT)
        async with make_client(cluster, tmp_path, "anna", connect=False) as client:
            assert await bodies(client) == ["ONE", "TWO", "THREE"], "what was typed before leaving is stored"


async def test_a_refused_text_is_given_back_in_the_chat(tmp_path: Path) -> None:
    async with chatting(tmp_path, TextFilter(closed_port(), REFUSE, PATIENT_MS)) as (cluster, keys, task, shown):
        keys.send_text("precious words\r")
        await until(lambda: any("The text was: precious words" in line for line in shown), "it was given back")
        assert any("Nothing was sent" in line for line in shown)
        keys.send_text("/quit\r")
        assert await asyncio.wait_for(task, 60) == ExitCode.OK
        assert cluster.bodies_for("bob") == []


async def test_a_chat_that_is_ended_by_a_signal_says_what_the_filter_held_up(tmp_path: Path) -> None:
    filter_ = Filter()
    async with (
        serving(filter_) as address,
        chatting(tmp_path, TextFilter(address, timeout_ms=PATIENT_MS)) as (_, keys, task, _shown),
    ):
        filter_.open.clear()
        keys.send_text("held up\r")
        await until(lambda: filter_.asked == ["held up"], "the filter is asked")
        task.cancel()
        with pytest.raises(asyncio.CancelledError) as ended:
            await task
        assert "Not sent, because the text filter had not answered: held up" in str(ended.value.__cause__)


async def test_an_edit_in_the_chat_is_filtered_too(tmp_path: Path) -> None:
    filter_, shown = Filter(), list[str]()
    async with (
        serving(filter_) as address,
        filtered(tmp_path, TextFilter(address, timeout_ms=PATIENT_MS)) as (cluster, client),
        asyncio.TaskGroup() as group,
    ):
        await client.wait_until(ConnectionState.CONNECTED, timeout=60)
        await cluster.nodes[0].die()
        await client.wait_until(ConnectionState.SEARCHING, timeout=60)
        view = ChatView(client, shown.append, shown.append, Target(account="bob"), mark_read=True)
        sending = group.create_task(view.keep_sending())
        await asyncio.sleep(0)
        await view.take("first")
        await view.take("/edit 1 second")
        await until(lambda: any("SECOND" in line for line in shown), f"the edited text is shown: {shown}")
        assert filter_.asked == ["first", "second"]
        sending.cancel()
