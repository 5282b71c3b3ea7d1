"""What strangers can do to the server of the pages: nothing that costs more than its bounds."""

from __future__ import annotations

import asyncio
import errno
import gc
import json
import os
import socket
import ssl
from collections.abc import AsyncGenerator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import uvloop

from parleyd.http import server as http_server
from parleyd.http.health import Verdict
from parleyd.http.pages import Answer, Page, Request
from parleyd.port_sockets import PortSockets
from parleyd.security.certificate_files import write_ca, write_node
from tests.unit.http.serving import Serving, Told, serving

Test = Callable[[Serving, Told], Awaitable[None]]


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Callable[..., None]:
    """Run a test against a server, on both event loops; afterwards no task and no socket is left."""

    def runs(test: Test, tls: ssl.SSLContext | None = None, **more: Page) -> None:
        async def whole() -> None:
            told = Told(more={f"/{name}": page for name, page in more.items()})
            async with serving(told, tls) as running:
                await test(running, told)
            async with asyncio.timeout(20):
                while asyncio.all_tasks() != {asyncio.current_task()} or PortSockets(running.port).connected():
                    gc.collect()
                    await asyncio.sleep(0)
            with socket.socket() as probe:
                assert probe.connect_ex(("127.0.0.1", running.port)) == errno.ECONNREFUSED

        with asyncio.Runner(loop_factory=request.param) as runner:
            runner.run(whole())

    return runs


async def until(is_so: Callable[[], bool]) -> None:
    """Wait for something that the event loop does."""
    async with asyncio.timeout(20):
        while not is_so():  # noqa: ASYNC110 - it polls what has no event
            await asyncio.sleep(0)


def test_the_pages_are_served_with_get_and_head_on_one_connection(run: Callable[[Test], None]) -> None:
    async def test(running: Serving, _: Told) -> None:
        client = await running.connect()
        for path, content_type in (
            ("/metrics", "text/plain; version=0.0.4; charset=utf-8"),
            ("/healthz", "application/json; charset=utf-8"),
            ("/readyz", "application/json; charset=utf-8"),
        ):
            whole = await client.ask(path)
            assert (whole.status, whole.headers["content-type"]) == (200, content_type)
            head = await client.ask(path, method="HEAD")
            assert (head.status, head.body) == (200, b"")
            assert head.headers["content-length"] == str(len(whole.body))
            assert head.headers["server"] == "parleyd"
        await client.close()

    run(test)


def test_what_is_not_well_is_told_with_its_reasons(run: Callable[[Test], None]) -> None:
    async def test(running: Serving, told: Told) -> None:
        told.readiness = Verdict(("No leader.",), ("Low disk.",))
        reply = await running.get("/readyz")
        assert reply.status == 503
        assert json.loads(reply.body) == {"status": "not ready", "reasons": ["No leader."], "notes": ["Low disk."]}
        assert (await running.get("/healthz")).status == 200

    run(test)


def test_unknown_paths_and_other_methods_are_refused_in_words(run: Callable[[Test], None]) -> None:
    async def test(running: Serving, told: Told) -> None:
        missing = await running.get("/")
        assert missing.status == 404
        assert "/metrics" in json.loads(missing.body)["error"]
        assert (await running.get("/metrics/")).status == 404
        for method in ("POST", "PUT", "DELETE", "OPTIONS", "TRACE"):
            refused = await running.get("/metrics", "Content-Length: 0", method=method)
            assert (refused.status, refused.headers.get("allow")) == (405, "GET, HEAD"), method
        assert told.reads == 0

    run(test)


def test_a_query_does_not_change_the_page(run: Callable[[Test], None]) -> None:
    async def test(running: Serving, _: Told) -> None:
        assert (await running.get("/healthz?x=1")).status == 200

    run(test)


@pytest.mark.parametrize(
    "sent",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET /metrics HTTP/9.9\r\n\r\n",
        b"GET /" + b"a" * 5000 + b" HTTP/1.1\r\nHost: h\r\n\r\n",
        b"GET /metrics HTTP/1.1\r\nHost: h\r\nX: " + b"a" * 5000 + b"\r\n\r\n",
        b"GET /metrics HTTP/1.1\r\n" + b"X: 1\r\n" * 5000 + b"\r\n",
        b"GET /metrics HTTP/1.1\r\nHost: h\r\nContent-Length: -1\r\n\r\n",
        b"GET http://[ HTTP/1.1\r\nHost: h\r\n\r\n",
        b"\0" * 10_000,
    ],
)
def test_what_is_no_request_ends_the_connection_and_reads_nothing(run: Callable[[Test], None], sent: bytes) -> None:
    async def test(running: Serving, told: Told) -> None:
        client = await running.connect()
        client.writer.write(sent)
        client.writer.write_eof()
        assert await client.is_ended()
        await client.close()
        assert told.reads == 0
        await until(lambda: running.server.connections == 0)

    run(test)


@pytest.mark.parametrize(
    "sent",
    [
        b"GET /spy-7 HTTP/9.9\r\n\r\n",
        b"spy-7\r\n\r\n",
        b"GET /" + b"spy-7" * 1000 + b" HTTP/1.1\r\nHost: h\r\n\r\n",
        b"GET /metrics HTTP/1.1\r\nHost: h\r\nspy-7\r\n\r\n",
        b"GET /metrics HTTP/1.1\r\nHost: h\r\nX: " + b"spy-7" * 1000 + b"\r\n\r\n",
        b"GET /metrics HTTP/1.1\r\nHost: h\r\n" + b"spy-7: 1\r\n" * 5000 + b"\r\n",
        b"GET /metrics HTTP/1.1\r\nHost: h\r\nContent-Length: spy-7\r\n\r\n",
        b"GET http://[spy-7 HTTP/1.1\r\nHost: h\r\n\r\n",
        b"POST /act HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nspy-7\r\n\r\n",
    ],
)
def test_what_is_no_request_is_refused_in_our_words_and_told_nothing_of_itself(
    run: Callable[..., None], sent: bytes
) -> None:
    async def show(_: Request) -> Answer:
        return Answer(200, "text/plain", b"")

    async def test(running: Serving, _: Told) -> None:
        client = await running.connect()
        client.writer.write(sent)
        reply = await client.reply()
        assert (reply.status, reply.headers["server"]) == (400, "parleyd")
        assert json.loads(reply.body) == {"error": http_server.NO_REQUEST}
        assert "spy-7" not in str(reply.headers)
        assert await client.is_ended()
        await client.close()

    run(test, act=Page(show, ("POST",), 16))


def test_a_body_is_not_read_and_ends_the_connection(run: Callable[[Test], None]) -> None:
    async def test(running: Serving, _: Told) -> None:
        client = await running.connect()
        client.writer.write(b"GET /healthz HTTP/1.1\r\nHost: h\r\nContent-Length: 1000000000\r\n\r\nxxx")
        assert (await client.reply()).status == 200
        assert await client.is_ended()
        await client.close()

    run(test)


def test_an_upgrade_is_not_made_and_ends_the_connection(run: Callable[[Test], None]) -> None:
    async def test(running: Serving, _: Told) -> None:
        client = await running.connect()
        reply = await client.ask("/healthz", "Connection: Upgrade", "Upgrade: websocket")
        assert reply.status == 200
        assert await client.is_ended()
        await client.close()

    run(test)


def test_a_newcomer_takes_the_place_of_the_oldest_that_says_nothing(
    run: Callable[[Test], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_server, "MAX_CONNECTIONS", 3)

    async def test(running: Serving, _: Told) -> None:
        silent = [await running.connect() for _ in range(3)]
        await until(lambda: running.server.connections == 3)
        assert (await running.get("/healthz")).status == 200
        assert await silent[0].is_ended()
        assert running.server.connections <= 3
        assert (await silent[2].ask("/healthz")).status == 200
        for client in silent:
            await client.close()

    run(test)


def test_a_request_that_comes_in_drops_has_a_bound_of_time(
    run: Callable[[Test], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_server, "HEAD_S", 0.2)

    async def test(running: Serving, told: Told) -> None:
        client = await running.connect()
        ended = asyncio.ensure_future(client.is_ended())
        while not ended.done():  # a drop in each turn of the loop: the time since the last byte is no measure
            client.writer.write(b"G")
            await asyncio.wait([ended], timeout=0.01)
        await client.close()
        assert told.reads == 0
        await until(lambda: running.server.connections == 0)

    run(test)


def test_a_reader_that_reads_nothing_has_a_bound_of_time(
    run: Callable[[Test], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_server, "ANSWER_S", 0.3)

    async def test(running: Serving, told: Told) -> None:
        told.samples = (("parley_calls_total", ("x" * 10_000_000, "OK"), 1.0),)
        client = await running.connect()
        client.writer.write(b"GET /metrics HTTP/1.1\r\nHost: h\r\n\r\n" * 2)
        await until(lambda: told.reads > 0)
        await until(lambda: running.server.connections == 0)
        await client.close()

    run(test)


def test_a_connection_without_requests_is_closed_after_a_while(
    run: Callable[[Test], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_server, "IDLE_S", 0.2)

    async def test(running: Serving, _: Told) -> None:
        client = await running.connect()
        assert (await client.ask("/healthz")).status == 200
        assert await client.is_ended()
        await client.close()

    run(test)


def test_scrapes_at_once_share_one_reading_and_one_that_leaves_ends_nobody_elses(run: Callable[[Test], None]) -> None:
    async def test(running: Serving, told: Told) -> None:
        leaver = await running.connect()
        leaver.writer.write(b"GET /metrics HTTP/1.1\r\nHost: h\r\n\r\n")
        asked = [asyncio.ensure_future(running.get("/metrics")) for _ in range(20)]
        leaver.writer.transport.abort()
        replies = await asyncio.gather(*asked)
        assert {reply.status for reply in replies} == {200}
        assert told.reads <= 2  # the second if this machine was slower than the time for which a page is fresh

    run(test)


def test_a_page_that_cannot_be_made_is_an_error_without_details(
    run: Callable[[Test], None], caplog: pytest.LogCaptureFixture
) -> None:
    async def test(running: Serving, told: Told) -> None:
        told.samples = (("no_such_metric", (), 1.0),)
        reply = await running.get("/metrics")
        assert reply.status == 500
        assert b"no_such_metric" not in reply.body
        told.samples = ()
        assert (await running.get("/metrics")).status == 200

    run(test)


def test_a_process_without_free_files_takes_the_connection_when_one_is_free(
    run: Callable[[Test], None], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(http_server, "_OUT_OF_FILES_S", 0.01)

    async def test(running: Serving, _: Told) -> None:
        for error in (errno.ECONNABORTED, errno.EMFILE, errno.EMFILE):
            await running.server._not_accepted(OSError(error, os.strerror(error)))
        assert (await running.get("/healthz")).status == 200

    run(test)


@pytest.fixture
def certificates(tmp_path: Path) -> Path:
    """A CA and the certificate of a node."""
    write_ca(tmp_path)
    write_node(tmp_path, tmp_path, "n1", ["localhost", "127.0.0.1"])
    return tmp_path


def server_tls(folder: Path) -> ssl.SSLContext:
    """What the server shows."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "n1.pem", folder / "n1.key")
    return context


def test_tls_is_served_and_a_stranger_that_speaks_none_gets_nothing(
    run: Callable[[Any, ssl.SSLContext], None], certificates: Path
) -> None:
    async def test(running: Serving, told: Told) -> None:
        client = await running.connect(ssl.create_default_context(cafile=certificates / "ca.pem"))
        assert (await client.ask("/metrics")).status == 200
        plain = await running.connect()
        plain.writer.write(b"GET /metrics HTTP/1.1\r\nHost: h\r\n\r\n")
        assert await plain.is_ended()
        await plain.close()
        assert (await client.ask("/healthz")).status == 200
        await client.close()
        assert told.reads == 1

    run(test, server_tls(certificates))


def test_a_handshake_that_does_not_go_on_has_a_bound_of_time_and_a_place(
    run: Callable[[Any, ssl.SSLContext], None], certificates: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_server, "HEAD_S", 0.2)
    monkeypatch.setattr(http_server, "MAX_CONNECTIONS", 4)

    async def test(running: Serving, _: Told) -> None:
        silent = [await running.connect() for _ in range(6)]
        await until(lambda: running.server.connections > 0)
        assert running.server.connections <= 4
        for client in silent:
            assert await client.is_ended()
            await client.close()
        await until(lambda: running.server.connections == 0)

    run(test, server_tls(certificates))


# ---- pages that take a body or send a long one


class Endless:
    """A page whose answer has no end; counts what was made of it, and whether it was ended."""

    def __init__(self) -> None:
        self.chunks = 0
        self.is_ended = False

    async def show(self, _: Request) -> Answer:
        """Begin an answer."""
        return Answer(200, "application/octet-stream", b"", chunks=self._make())

    async def _make(self) -> AsyncGenerator[bytes]:
        try:
            while True:
                self.chunks += 1
                yield b"x" * 65_536
                await asyncio.sleep(0)
        finally:
            self.is_ended = True


def test_a_long_answer_ends_at_its_source_when_its_reader_leaves(run: Callable[..., None]) -> None:
    endless = Endless()

    async def test(running: Serving, _: Told) -> None:
        client = await running.connect()
        client.writer.write(b"GET /endless HTTP/1.1\r\nHost: here\r\n\r\n")
        await client.reader.readexactly(1_000_000)
        await client.close()
        await until(lambda: endless.is_ended)

    run(test, endless=Page(endless.show))


def test_a_long_answer_that_nobody_reads_is_ended_and_takes_bounded_memory(
    run: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_server, "ANSWER_S", 0.3)
    endless = Endless()

    async def test(running: Serving, _: Told) -> None:
        client = await running.connect()
        client.writer.write(b"GET /endless HTTP/1.1\r\nHost: here\r\n\r\n")
        await until(lambda: endless.is_ended)
        assert endless.chunks < 400, "what the sockets take, and no more"
        await client.close()

    run(test, endless=Page(endless.show))


def test_a_body_is_read_by_a_page_that_takes_one_up_to_its_bound_and_the_connection_goes_on(
    run: Callable[..., None],
) -> None:
    seen: list[bytes] = []

    async def show(request: Request) -> Answer:
        seen.append(request.body)
        return Answer(200, "text/plain", request.body)

    async def test(running: Serving, _: Told) -> None:
        client = await running.connect()
        for body in (b"a", b"b" * 10):
            assert (await client.ask("/taker", method="POST", body=body)).body == body
        assert (await client.ask("/taker", method="POST", body=b"c" * 11)).status == 413
        assert await client.is_ended()
        assert seen == [b"a", b"b" * 10]

    run(test, taker=Page(show, ("POST",), 10))


def test_a_body_that_does_not_come_ends_the_connection(
    run: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_server, "ANSWER_S", 0.3)

    async def show(_: Request) -> Answer:
        raise AssertionError("nobody asks it")

    async def test(running: Serving, _: Told) -> None:
        client = await running.connect()
        client.writer.write(b"POST /taker HTTP/1.1\r\nHost: here\r\nContent-Length: 10\r\n\r\nabc")
        assert await client.is_ended()

    run(test, taker=Page(show, ("POST",), 10, 60.0))
