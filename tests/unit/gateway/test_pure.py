"""The protocol of the gateway without input and output: any bytes have a meaning or one clear refusal."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from parley import BadInputError
from parley.gateway.limits import MAX_ADDRESSES, Failures, Places, allowance, counted
from parley.gateway.lines import LineSplitter, TooLong, text_of
from parley.gateway.requests import COMMANDS, MAX_HISTORY, Kind, Request, Takes, Wrong, parse
from parley.gateway.settings import GatewaySettings
from parley.gateway.styles import Compact, Plain, Shown, Style, bytes_of

CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
CODE = "abcdefghj-kmnpqrstu-vwxyz2345"
PLAIN_CODE = "ABCDEFGHJKMNPQRSTUVWXYZ2345"
STYLES: list[Style] = [Plain(), Compact(), Compact(has_places=True)]


# ---- lines


@given(st.lists(st.binary(max_size=40)), st.integers(1, 16))
def test_lines_do_not_depend_on_how_the_bytes_come(parts: list[bytes], most: int) -> None:
    one, many = LineSplitter(most), LineSplitter(most)
    whole = one.feed(b"".join(parts))
    assert [line for part in parts for line in many.feed(part)] == whole
    assert one.is_inside_a_line == many.is_inside_a_line
    expected = b"".join(parts).split(b"\n")[:-1]
    assert whole == [line if len(line) <= most else TooLong() for line in expected]


@given(st.lists(st.binary(min_size=1, max_size=64), max_size=30))
def test_the_beginning_of_a_line_takes_no_more_memory_than_a_line(parts: list[bytes]) -> None:
    splitter = LineSplitter(16)
    for part in parts:
        splitter.feed(part.replace(b"\n", b"x"))
        assert len(splitter._begun) <= 16


@given(st.binary())
@example(b"\xff\xfa\x18\x01\xff\xf0anna")
@example(b"\xff")
def test_any_bytes_become_a_text_without_control_characters(line: bytes) -> None:
    text = text_of(line)
    assert not CONTROL.search(text)
    assert text == text.strip()
    assert "\n" not in text


@pytest.mark.parametrize(
    ("line", "text"),
    [
        (b"\xff\xfd\x03\xff\xfb\x18LIST\r", "LIST"),
        (b"\xff\xf4LIST", "LIST"),
        (b"\xff\xfa\x1f\x00\x50\x00\x18\xff\xf0LIST", "LIST"),
        (b"\x1b[31mred\x1b[0m", "[31mred[0m"),
        (b"a\tb", "a b"),
        (b"Zo\xc3\xab", "Zo\u00eb"),
        (b"Zoe\xcc\x88", "Zoe\u0308"),  # a node brings it to NFC
        (b"\xc3(", "\ufffd("),
        ("\u202eevil".encode(), "evil"),
    ],
)
def test_a_line_is_cleaned(line: bytes, text: str) -> None:
    assert text_of(line) == text


# ---- requests


@given(
    st.one_of(st.text(), st.sampled_from([*COMMANDS]).flatmap(lambda c: st.text().map(lambda t: f"{c} {t}"))),
    st.booleans(),
)
def test_any_text_is_a_request_a_refusal_or_nothing(text: str, is_compact: bool) -> None:
    asked = parse(text, is_compact=is_compact)
    if asked is None:
        assert not text.strip()
    elif isinstance(asked, Wrong):
        assert re.fullmatch(r"[a-z-]+", asked.code)
        assert len(asked.text) < 300
    elif asked.kind is Kind.TEXT:
        assert asked.text


@given(st.binary(max_size=200), st.booleans())
def test_any_bytes_are_parsed_without_an_error(data: bytes, is_compact: bool) -> None:
    for line in LineSplitter(64).feed(data + b"\n"):
        if isinstance(line, bytes):
            parse(text_of(line), is_compact=is_compact)


@pytest.mark.parametrize(
    ("line", "request_"),
    [
        ("REGISTER anna", Request(Kind.REGISTER, "anna")),
        ("register anna secret", Request(Kind.REGISTER, "anna", "secret")),
        ("LOGIN anna two words", Request(Kind.LOG_IN, "anna", "two words")),
        ("connect anna secret", Request(Kind.LOG_IN, "anna", "secret")),
        ("LOGOUT", Request(Kind.LOG_OUT)),
        ("disconnect", Request(Kind.LOG_OUT)),
        ("UNREGISTER secret", Request(Kind.UNREGISTER, text="secret")),
        ("MESSAGE  hello  all ", Request(Kind.ALL, text="hello  all")),
        ("message hello", Request(Kind.ALL, text="hello")),
        ("DM ben hello there", Request(Kind.DIRECT, "ben", "hello there")),
        ("send ben hello", Request(Kind.DIRECT, "ben", "hello")),
        ("LIST", Request(Kind.CONNECTED)),
        ("close", Request(Kind.CLOSE)),
        ("/ping", Request(Kind.PING)),
        ("/PING", Request(Kind.PING)),
        ("/whisper ben psst", Request(Kind.DIRECT, "ben", "psst")),
        ("/reply yes", Request(Kind.REPLY, text="yes")),
        ("/all hello", Request(Kind.ALL, text="hello")),
        ("/join #the lounge", Request(Kind.JOIN, "#the lounge")),
        ("/history 5", Request(Kind.HISTORY, count=5)),
        ("/accounts a*", Request(Kind.ACCOUNTS, "a*")),
        ("/disconnect", Request(Kind.CLOSE)),
        ("STYLE  Compact  Places", Request(Kind.STYLE, text="compact places")),
        ("REGISTER anna blue", Request(Kind.REGISTER, "anna", "blue")),
        (f"REGISTER anna blue  {CODE}", Request(Kind.REGISTER, "anna", "blue", code=CODE)),
        (f"REGISTER anna blue {PLAIN_CODE}", Request(Kind.REGISTER, "anna", "blue", code=PLAIN_CODE)),
        ("help me, please", Request(Kind.TEXT, text="help me, please")),
        ("Message in a bottle", Request(Kind.TEXT, text="Message in a bottle")),
        ("hello", Request(Kind.TEXT, text="hello")),
        ("//etc is a folder", Request(Kind.TEXT, text="/etc is a folder")),
        ("   ", None),
    ],
)
def test_a_line_of_the_plain_style_asks_for(line: str, request_: Request | None) -> None:
    assert parse(line, is_compact=False) == request_


@pytest.mark.parametrize(
    ("line", "code", "begins"),
    [
        ("REGISTER", "bad-parameters", "REGISTER needs a name."),
        ("REGISTER anna b c", "bad-name", "Screen name must be one word."),
        (f"REGISTER anna b c {CODE}", "bad-name", "Screen name must be one word."),
        ("LOGIN anna", "bad-parameters", "LOGIN needs a name and a password."),
        ("LIST all", "bad-parameters", "LIST takes nothing after it."),
        ("MESSAGE", "empty-text", "The text is empty."),
        ("DM", "bad-parameters", "DM needs a name and a text."),
        ("DM ben", "empty-text", "The text is empty."),
        ("/reply", "empty-text", "The text is empty."),
        ("/join", "bad-parameters", "/join needs a channel."),
        ("/history many", "bad-parameters", "/history needs a number."),
        ("/history 0", "bad-parameters", "/history needs a number."),
        (f"/history {MAX_HISTORY + 1}", "bad-parameters", "/history needs a number."),
        ("/history \u00b2", "bad-parameters", "/history needs a number."),
        ("/dance", "unknown-command", "/dance is not a command."),
        ("STYLE loud", "bad-parameters", "STYLE needs a style."),
    ],
)
def test_a_wrong_line_gets_one_clear_line(line: str, code: str, begins: str) -> None:
    wrong = parse(line, is_compact=False)
    assert isinstance(wrong, Wrong)
    assert (wrong.code, wrong.text[: len(begins)]) == (code, begins)


def test_the_compact_style_takes_commands_only() -> None:
    assert parse("hello", is_compact=True) == Wrong(
        "unknown-command", "hello is not a command. Nothing was sent. HELP lists the commands."
    )
    assert isinstance(parse("help me", is_compact=True), Wrong)
    assert parse("Message hello", is_compact=True) == Request(Kind.ALL, text="hello")


def test_a_request_shows_no_text_in_a_log() -> None:
    assert "secret" not in repr(parse("LOGIN anna secret", is_compact=False))


@pytest.mark.parametrize("takes", Takes)
def test_every_kind_of_parameters_is_used(takes: Takes) -> None:
    assert takes in {command.takes for command in COMMANDS.values()}


# ---- styles


@pytest.mark.parametrize(
    ("place", "plain"), [("", "ben (to you): hi"), ("everyone", "ben: hi"), ("#7 lounge", "ben (#7 lounge): hi")]
)
def test_a_message_for_people_says_where_it_was_written(place: str, plain: str) -> None:
    assert Plain().message(1, Shown("ben", place, "hi")) == [plain]


def test_an_urgent_message_is_marked_for_people_and_left_as_it_is_for_programs() -> None:
    fire = Shown("ben", "", "fire", urgent=True)
    assert Plain().message(1, fire)[0].endswith("Urgent: fire")
    assert Compact().message(1, fire)[1:] == ["fire", "END"]


def test_a_message_for_programs_is_a_block_with_a_number() -> None:
    shown = Shown("ben", "everyone", "hi")
    assert Compact().message(3, shown) == ["MESSAGE 3 FROM ben :", "hi", "END"]
    assert Compact(has_places=True).message(3, shown) == ["MESSAGE 3 FROM ben IN everyone :", "hi", "END"]
    assert Compact(has_places=True).message(4, Shown("ben", "", "hi"))[0] == "MESSAGE 4 FROM ben IN private :"


@given(st.text())
def test_no_text_ends_the_block_of_its_message(body: str) -> None:
    first, *lines, end = Compact().message(1, Shown("ben", "", body))
    assert (first, end) == ("MESSAGE 1 FROM ben :", "END")
    assert "END" not in lines
    restored = [line[1:] if line.startswith(".") else line for line in lines]
    assert restored == Compact().message(1, Shown("ben", "", body.replace(".", "x")))[1:-1] or "." in body


@pytest.mark.parametrize("style", STYLES)
@given(text=st.text())
def test_nothing_that_others_wrote_brings_control_characters_or_lines_of_its_own(style: Style, text: str) -> None:
    shown = Shown(text, text, text, "")
    answers = [
        style.message(1, shown), style.history([shown], text), style.notice(text), style.not_sent(1, text),
        style.done(text, text), style.refused("code", text), style.rows([text], text),
        style.message(1, Shown("", text, text)),
    ]  # fmt: skip
    for lines in answers:
        assert not CONTROL.search("".join(lines))
        assert "\n" not in "".join(lines)
        assert bytes_of(lines).count(b"\n") == len(lines)


@pytest.mark.parametrize("style", [Compact(), Compact(has_places=True)])
@given(text=st.text())
def test_each_request_of_a_program_gets_one_line_that_begins_with_ok_or_error(style: Style, text: str) -> None:
    for lines in (
        style.done(text, text),
        style.refused("code", text),
        style.rows([text, text], text),
        style.rows([], text),
    ):
        assert sum(re.match(r"(OK|ERROR)\b", line) is not None for line in lines) == 1
        assert re.match(r"(OK|ERROR)\b", lines[-1])


# ---- limits and settings


def test_takes_are_free_up_to_the_burst_and_then_at_the_rate() -> None:
    allowed = allowance(2.0, 3.0, 0.0)
    assert [allowed.take(0.0) for _ in range(5)] == [0.0, 0.0, 0.0, 0.5, 1.0]
    assert allowed.take(10.0) == 0.0


def test_failures_count_for_their_address_and_sink_with_time() -> None:
    failures = Failures(0.1, 2)
    failures.add("a", 0.0)
    assert failures.wait_s("a", 0.0) == 0.0
    failures.add("a", 0.0)
    assert failures.wait_s("a", 0.0) == pytest.approx(10.0)
    assert failures.wait_s("b", 0.0) == 0.0
    assert failures.wait_s("a", 11.0) == 0.0


def test_failures_of_many_addresses_take_bounded_memory() -> None:
    failures = Failures(0.1, 1)
    for number in range(MAX_ADDRESSES + 5):
        failures.add(str(number), 0.0)
    assert len(failures._by_address) == MAX_ADDRESSES
    assert failures.wait_s("0", 0.0) == 0.0
    assert failures.wait_s("5", 0.0) > 0.0


def test_places_are_bounded_in_all_and_for_each_address() -> None:
    places = Places(3, 2)
    assert [places.take("a"), places.take("a")] == ["", ""]
    assert "Your address has 2" in places.take("a")
    assert places.take("b") == ""
    assert "The gateway has 3" in places.take("c")
    places.give_back("a")
    assert (places.take("c"), places.taken) == ("", 3)


def test_an_address_of_the_network_needs_tls_or_a_clear_wish() -> None:
    assert GatewaySettings(listen="127.0.0.1:0").address() == ("127.0.0.1", 0)
    assert GatewaySettings(listen="localhost:7070").address() == ("localhost", 7070)
    assert GatewaySettings(listen="10.0.0.1:7070", allow_plain=True).address() == ("10.0.0.1", 7070)
    with pytest.raises(BadInputError, match="readable on the network"):
        GatewaySettings(listen="10.0.0.1:7070").address()


@pytest.mark.parametrize("listen", ["", "7070", "127.0.0.1", "127.0.0.1:70-80", "127.0.0.1:99999", ":0"])
def test_an_address_that_is_none_is_refused(listen: str) -> None:
    with pytest.raises(BadInputError):
        GatewaySettings(listen=listen).address()


@pytest.mark.parametrize(
    ("address", "counts_as"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3::4", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("unknown", "unknown"),
    ],
)
def test_an_address_counts_with_those_of_the_same_customer(address: str, counts_as: str) -> None:
    assert counted(address) == counts_as


def test_many_addresses_of_one_network_have_the_places_and_failures_of_one() -> None:
    places, failures = Places(100, 2), Failures(0.1, 2)
    assert [bool(places.take(f"2001:db8::{number}")) for number in range(3)] == [False, False, True]
    places.give_back("2001:db8::1")
    assert places.take("2001:db8::9") == ""
    for number in range(2):
        failures.add(f"2001:db8::{number}", 0.0)
    assert failures.wait_s("2001:db8::77", 0.0) > 0
