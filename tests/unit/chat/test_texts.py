"""What window and terminal say: names, links, times, counts, and the status line for every state of the cluster."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import date, datetime, timedelta

import pytest

from parley import Account, ClientState, ConnectionState, MessageStatus, Node
from parley.chat import (
    Row,
    StatusLevel,
    account_label,
    clock_time,
    counts_text,
    day_label,
    failure_lines,
    is_big_emoji,
    links,
    list_time,
    preview,
    safe_body,
    safe_name,
    spoken,
    status_line,
    tip,
)

UP = (Node("n1", "a:1", True), Node("n2", "b:1", True), Node("n3", "c:1", True))
CONNECTED = ClientState("ann", ConnectionState.CONNECTED, node="n2", leader="n1", nodes=UP, has_majority=True)


def test_why_messages_wait_although_there_is_a_session_is_shown() -> None:
    line = status_line(replace(CONNECTED, waiting=2, problem="The cluster has no room"), 99.5, 100.0)
    assert (line.level, line.text) == (
        StatusLevel.BAD,
        "Connected to n2  ·  2 messages waiting  ·  The cluster has no room",
    )


def test_a_green_dot_means_that_all_nodes_are_up_and_the_leader_is_a_detail() -> None:
    line = status_line(CONNECTED, 99.5, 100.0)
    assert (line.level, line.text) == (StatusLevel.GOOD, "Connected to n2  ·  3 of 3 nodes up  ·  heard just now")
    assert "n1  a:1  up, leads" in line.detail
    for connection in (ConnectionState.CONNECTED, ConnectionState.SHARED):
        two = replace(CONNECTED, connection=connection, nodes=(*UP[:2], replace(UP[2], up=False)))
        line = status_line(two, 99.5, 100.0)
        assert line.level is StatusLevel.BUSY
        assert "2 of 3 nodes up" in line.text


def test_connected_line_says_node_leader_nodes_and_when_heard() -> None:
    line = status_line(CONNECTED, 99.5, 100.0, names_leader=True)
    assert line.level is StatusLevel.GOOD
    assert line.text == "Connected to n2  ·  n1 leads  ·  3 of 3 nodes up  ·  heard just now"
    assert status_line(CONNECTED, 90.0, 100.0).text.endswith("last heard 10 s ago")
    assert "n1  a:1  up" in line.detail


def test_a_message_on_its_way_is_no_news_until_it_has_waited() -> None:
    state = replace(CONNECTED, waiting=1)
    assert "waiting" not in status_line(state, 100, 100, 0.1).text
    assert status_line(state, 100, 100, 1.5).text.endswith("1 message waiting")


def test_a_lost_node_is_named_with_the_next_one_and_what_waits() -> None:
    state = ClientState("ann", ConnectionState.SEARCHING, lost="n2", trying="n3", waiting=2, nodes=UP)
    line = status_line(state, 97.0, 100.0)
    assert line.level is StatusLevel.BUSY
    assert line.text == "n2 lost, trying n3, 2 messages waiting  ·  last heard 3 s ago"


def test_the_line_follows_from_the_state_alone_and_clears_with_it() -> None:
    lost = ClientState("ann", ConnectionState.SEARCHING, lost="n2", trying="n3", waiting=1)
    assert "lost" in status_line(lost, None, 0).text
    assert "lost" not in status_line(CONNECTED, 0, 0).text


def test_without_a_majority_the_line_says_so_and_that_writing_is_kept() -> None:
    nodes = (replace(UP[0], up=False), replace(UP[1], up=False), UP[2])
    state = ClientState("ann", ConnectionState.NO_MAJORITY, node="n3", nodes=nodes)
    line = status_line(state, None, 0)
    assert line.level is StatusLevel.BAD
    assert line.text.startswith("No majority of nodes (1 of 3 nodes up): nothing can be sent now, your messages are")
    assert "2 messages waiting" in status_line(replace(state, waiting=2), None, 0).text


def test_a_missing_leader_is_not_called_a_missing_majority() -> None:
    state = ClientState(
        "ann", ConnectionState.NO_MAJORITY, node="n3", nodes=(replace(UP[0], up=False), *UP[1:]), waiting=1
    )
    line = status_line(state, None, 0)
    assert (line.level, line.text) == (
        StatusLevel.BUSY,
        "n3 knows no leader right now (2 of 3 nodes up), 1 message waiting",
    )


@pytest.mark.parametrize("connection", list(ConnectionState))
def test_every_connection_state_has_words(connection: ConnectionState) -> None:
    assert status_line(ClientState("ann", connection), None, 0).text


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("see https://example.org/a?b=1.", ["https://example.org/a?b=1"]),
        ("(http://example.org/x_(y))", ["http://example.org/x_(y)"]),
        ("HTTPS://EXAMPLE.ORG, and http://b.c!", ["HTTPS://EXAMPLE.ORG", "http://b.c"]),
        ("javascript:alert(1) file:///etc/passwd ftp://x data:text/html,x https://", []),
        ('<a href="https://example.org">no</a>', ["https://example.org"]),
    ],
)
def test_only_web_addresses_are_links(text: str, found: list[str]) -> None:
    assert [link.url for link in links(text)] == found
    assert all(text[link.start : link.end] == link.url for link in links(text))


MEBIBYTE = 1 << 20


@pytest.mark.parametrize(
    "body",
    [
        "https://example.org/" + ")" * MEBIBYTE,
        "https://example.org/" + ").]}" * (MEBIBYTE // 4),
        "https://example.org/" + "(" * (MEBIBYTE // 2) + ")" * (MEBIBYTE // 2),
        "https://a.b " * (MEBIBYTE // 12),
        "\r\n" * (MEBIBYTE // 2),
        "\u202e" * MEBIBYTE,
        "👍🏽" * (MEBIBYTE // 2),
    ],
    ids=["brackets", "tails", "pairs", "links", "lines", "overrides", "pictures"],
)
def test_a_mebibyte_takes_a_time_that_grows_with_its_length_only(body: str) -> None:
    """A function that takes the square of the length would need minutes of processor time."""
    row = Row(1, 0, "ben", body, 0, MessageStatus.FAILED, detail=body)
    began = time.process_time()
    links(body)
    assert len(row.shown) <= len(body)
    assert failure_lines(row)
    assert spoken(row)
    assert len(preview(body)) <= 160
    assert not is_big_emoji(body)
    assert time.process_time() - began < 5


def test_front_ends_show_a_row_without_what_could_mislead_its_reader() -> None:
    row = Row(1, 0, "ben", "pay\u202e eno\x1b[2J", 0, MessageStatus.FAILED, detail="no\x9b")
    assert row.shown == "pay� eno�[2J"
    for text in (spoken(row), *failure_lines(row)):
        assert not set(text) & {"\u202e", "\x1b", "\x9b"}


def test_only_a_few_pictures_are_shown_large() -> None:
    assert is_big_emoji("🎉")
    assert is_big_emoji("👍🏽 👩‍⚕️")
    assert not is_big_emoji("ok 👍")
    assert not is_big_emoji("🎉🎉🎉🎉")
    assert not is_big_emoji("")


def test_days_and_times_are_short_and_never_ambiguous() -> None:
    now = datetime(2026, 3, 18, 15, 4).astimezone()
    ms = int(now.timestamp() * 1000)
    today = now.date()
    assert clock_time(ms) == "15:04"
    assert [day_label(ms, day) for day in (today, today + timedelta(1), today + timedelta(3))] == [
        "Today",
        "Yesterday",
        "Wednesday",
    ]
    assert day_label(ms, date(2026, 4, 20)) == "Wednesday, 18 March"
    assert day_label(ms, date(2027, 4, 20)) == "Wednesday, 18 March 2026"
    assert list_time(ms, today) == "15:04"
    assert list_time(ms, date(2027, 4, 20)) == "18 Mar 2026"


def test_preview_is_one_bounded_line() -> None:
    assert preview("a\n\n b\tc") == "a b c"
    assert len(preview("x" * 100_000)) <= 160


def test_a_failed_message_says_why_and_what_to_do_also_to_those_who_listen() -> None:
    row = Row(0, 1, "ann", "hi", 0, MessageStatus.FAILED, "there is no such account", True, False, True, True)
    assert failure_lines(row)[0] == "There is no such account"
    assert "Ctrl+R" in failure_lines(row)[1]
    assert "not sent" in spoken(row)
    assert "There is no such account" in spoken(row)
    assert failure_lines(replace(row, status=MessageStatus.READ)) == ()


@pytest.mark.parametrize("status", list(MessageStatus))
def test_every_mark_has_words(status: MessageStatus) -> None:
    assert spoken(Row(1, 1, "ann", "hi", 0, status, "", True, False, True, True)).startswith("You, ")


def test_a_display_name_stands_beside_the_account_name_and_never_instead_of_it() -> None:
    assert account_label(Account(2, "ben")) == "ben"
    assert account_label(Account(2, "ben", "Ben Ortiz")) == "Ben Ortiz (ben)"
    assert account_label(Account(2, "ben", "ann")) == "ann (ben)"


def test_names_and_titles_cannot_turn_the_text_around_them_or_command_a_terminal() -> None:
    assert safe_name("ben\u202e\u200b\x1b[2J\n") == "ben\ufffd\ufffd\ufffd[2J\ufffd"
    assert safe_name("Zoë 🎉 מיה") == "Zoë 🎉 מיה"
    assert account_label(Account(2, "ben", "\u2067nna")) == "\ufffdnna (ben)"
    assert safe_body("one\r\n\ttwo\x1b") == "one\n\ttwo\ufffd"
    hidden = "".join(chr(0xE0000 + ord(letter)) for letter in "hi")
    assert safe_body(f"a{hidden}") == "a\ufffd\ufffd"
    assert safe_name(f"a{hidden}") == "a\ufffd\ufffd"
    scotland = "\N{WAVING BLACK FLAG}" + "".join(chr(0xE0000 + ord(letter)) for letter in "gbsct") + "\U000e007f"
    assert safe_body(f"{scotland}!") == f"{scotland}!"
    assert safe_body(scotland + hidden) == scotland + "\ufffd\ufffd"


@pytest.mark.parametrize(
    ("counts", "said"),
    [
        ((0, 0, 0), ""),
        ((0, 0, 2), "delivered to 0 of 2"),
        ((1, 1, 2), "delivered to 1 of 2, read by 1"),
        ((2, 1, 2), "delivered to all 2, read by 1"),
        ((2, 2, 2), "read by all 2"),
        ((1, 0, 1), "delivered"),
        ((1, 1, 1), "read"),
    ],
)
def test_a_channel_says_how_many_have_a_message(counts: tuple[int, int, int], said: str) -> None:
    assert counts_text(*counts) == said


def test_a_row_of_a_channel_says_its_counts_to_those_who_look_and_listen() -> None:
    row = Row(5, 1, "ann", "hi", 0, MessageStatus.ACCEPTED, delivered=1, read=0, others=2)
    assert ", delivered to 1 of 2: hi" in spoken(row)
    assert tip(row).endswith("\nDelivered to 1 of 2")
    event = Row(6, 0, "ben", "ben left.", 0, event=True)
    assert spoken(event).endswith(": ben left.")
