"""Logs: their form, what is on every line, and that secrets do not get through."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from parleyd.observability.logs import MASK, MAX_TEXT, bind_process_fields, configure_logging, redact

SECRET = "correct horse battery staple"


@pytest.fixture(autouse=True)
def _put_logging_back() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level, asyncio_level = root.handlers[:], root.level, logging.getLogger("asyncio").level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.getLogger("asyncio").setLevel(asyncio_level)
    structlog.reset_defaults()


@pytest.fixture
def stream() -> io.StringIO:
    return io.StringIO()


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_json_is_one_event_a_line_with_utc_time_level_and_node(stream: io.StringIO) -> None:
    configure_logging("info", "json", node="n1", stream=stream)
    structlog.get_logger("server.test").info("elected", term=3)
    (line,) = lines(stream)
    assert list(line)[:3] == ["timestamp", "level", "event"]
    assert line.pop("timestamp").endswith("Z")
    assert line == {"event": "elected", "level": "info", "logger": "server.test", "node": "n1", "term": 3}


def test_the_cluster_is_on_every_line_once_it_is_known(stream: io.StringIO) -> None:
    configure_logging("info", "json", node="n1", stream=stream)
    log = structlog.get_logger("server.test")
    log.info("before")
    bind_process_fields(cluster="abc")
    log.info("after")
    assert [line.get("cluster") for line in lines(stream)] == [None, "abc"]


def test_the_standard_library_goes_through_the_same_form_and_redaction(stream: io.StringIO) -> None:
    configure_logging("info", "json", node="n1", stream=stream)
    logging.getLogger("grpc").warning("metadata %s", {"authorization": f"Bearer {SECRET.split()[0]}"})
    logging.getLogger("grpc").info("call", extra={"password": SECRET})
    warned, told = lines(stream)
    assert warned["node"] == "n1"
    assert warned["logger"] == "grpc"
    assert "correct" not in stream.getvalue()
    assert told["event"] == "call"


def test_events_below_the_level_are_left_out(stream: io.StringIO) -> None:
    configure_logging("warning", "json", stream=stream)
    structlog.get_logger("server.test").info("quiet")
    logging.getLogger("grpc").info("quiet")
    structlog.get_logger("server.test").warning("loud")
    assert [line["event"] for line in lines(stream)] == ["loud"]


def test_asyncio_is_kept_quiet_at_debug(stream: io.StringIO) -> None:
    configure_logging("debug", "json", stream=stream)
    logging.getLogger("asyncio").debug("poll took 5 ms")
    structlog.get_logger("server.test").debug("ours")
    assert [line["event"] for line in lines(stream)] == ["ours"]


def test_configuring_again_does_not_double_the_lines(stream: io.StringIO) -> None:
    configure_logging("info", "json", node="n1", cluster="abc", stream=stream)
    configure_logging("info", "json", node="n2", stream=stream)
    structlog.get_logger("server.test").info("once")
    (line,) = lines(stream)
    assert line["node"] == "n2"
    assert "cluster" not in line


@pytest.mark.parametrize("log_format", ["auto", "json"])
def test_without_a_terminal_auto_means_json(stream: io.StringIO, log_format: str) -> None:
    configure_logging("info", log_format, stream=stream)
    structlog.get_logger("server.test").info("event")
    assert lines(stream)


def test_on_a_terminal_auto_means_text() -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    stream = Terminal()
    configure_logging("info", "auto", stream=stream)
    structlog.get_logger("server.test").info("event")
    assert "event" in stream.getvalue()
    assert not stream.getvalue().startswith("{")


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_a_traceback_shows_no_local_variables(stream: io.StringIO, log_format: str) -> None:
    configure_logging("info", log_format, stream=stream)

    def fail() -> None:
        password = " ".join(["correct", "horse", "battery", "staple"])
        raise RuntimeError(f"{len(password)}")

    try:
        fail()
    except RuntimeError:
        structlog.get_logger("server.test").exception("failed")
    assert "RuntimeError" in stream.getvalue()
    assert SECRET not in stream.getvalue()


@pytest.mark.parametrize(
    "key",
    [
        *("password", "Password", "new_password", "password_hash", "token", "session_token", "token_digest"),
        *("authorization", "body", "message_body", "secret", "client_secret", "private_key", "key_pem"),
    ],
)
@pytest.mark.parametrize("log_format", ["json", "console"])
def test_secrets_are_masked_by_the_name_of_their_key(stream: io.StringIO, key: str, log_format: str) -> None:
    configure_logging("info", log_format, stream=stream)
    structlog.get_logger("server.test").info("event", **{key: SECRET}, nested={"deep": [{key: SECRET}]})
    assert MASK in stream.getvalue()
    assert SECRET not in stream.getvalue()


def test_figures_about_secrets_stay_readable_but_not_secrets_that_are_figures() -> None:
    event = redact(None, "info", {"body_bytes": 120, "token_count": 3, "password": 12345678})
    assert event == {"body_bytes": 120, "token_count": 3, "password": MASK}


def test_bearer_tokens_are_masked_in_any_text() -> None:
    event = redact(None, "info", {"event": "refused: 'authorization: bearer abc-DEF_123', see docs"})
    assert event == {"event": f"refused: 'authorization: Bearer {MASK}', see docs"}


def test_raw_bytes_are_never_written_out() -> None:
    assert redact(None, "info", {"frame": b"hello", "frames": [bytearray(b"ab")]}) == {
        "frame": "[5 bytes]",
        "frames": ["[2 bytes]"],
    }


def test_an_endless_text_is_cut() -> None:
    (text,) = redact(None, "info", {"detail": "x" * (MAX_TEXT + 1)}).values()
    assert text.endswith(f"... [{MAX_TEXT + 1} characters]")
    assert len(text) < MAX_TEXT + 40


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.binary() | st.just(SECRET),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["token", "body", "password"]), inner),
    max_leaves=20,
)


@given(st.dictionaries(st.sampled_from(["token", "body", "new_password"]), VALUES, min_size=1))
def test_under_a_secret_key_no_text_gets_through_at_any_depth(event: dict[str, object]) -> None:
    assert SECRET not in json.dumps(redact(None, "info", event))


def test_a_value_nested_without_end_is_cut_off() -> None:
    nested: dict[str, object] = {}
    nested["again"] = nested
    assert "nested too deeply" in json.dumps(redact(None, "info", {"value": nested}))
