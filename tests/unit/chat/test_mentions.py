"""Where a text names accounts."""

from __future__ import annotations

import time

import pytest

from parley.chat import Mention, mentions, safe_body
from parley.mentions import MAX_MENTIONS

PEOPLE = {"ann", "ben", "ben-2", "a", "al.f", "x" * 64}
LARGEST = 65_536


def is_name(name: str) -> bool:
    return name.lower() in PEOPLE


def named(text: str) -> list[str]:
    """What a text names, and what its spans hold."""
    found = mentions(text, is_name)
    assert [text[one.start : one.end] for one in found] == [f"@{one.name}" for one in found]
    return [one.name for one in found]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("@ben", ["ben"]),
        ("hi @ben, and @Ann!", ["ben", "Ann"]),
        ("(@ben)", ["ben"]),
        ("\n@ben\n", ["ben"]),
        ("@ben\u2019s turn", ["ben"]),
        ("@@ben", ["ben"]),
        ("@ben@ann", []),
        ("ann@ben", []),
        ("ann@example.org", []),
        ("ann.@ben", []),
        ("_@ben", []),
        ("7@ben", []),
        ("\u00e4@ben", []),
        ("a\u0308@ben", []),
        ("@", []),
        ("@ ben", []),
        ("@nobody", []),
        ("@.ben", []),
        ("\uff20ben", []),
    ],
)
def test_a_mention_begins_where_no_word_goes_on(text: str, expected: list[str]) -> None:
    assert named(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("@ben.", ["ben"]),
        ("@ben...", ["ben"]),
        ("@ben-2", ["ben-2"]),
        ("@ben-2.", ["ben-2"]),
        ("@ben-3", ["ben"]),
        ("@al.f.x", ["al.f"]),
        ("@al.g", []),
        ("@benjamin", []),
        ("@ben2", []),
        ("@ben\u00e9", []),
        ("@bene\u0301", []),
        ("@a", ["a"]),
        ("@" + "x" * 64, ["x" * 64]),
        ("@" + "x" * 65, []),
        ("@" + "x" * 64 + ".", ["x" * 64]),
        ("@BEN", ["BEN"]),
    ],
)
def test_the_longest_name_counts_and_ends_with_its_word(text: str, expected: list[str]) -> None:
    assert named(text) == expected


def test_a_name_that_ends_with_a_full_stop_wins_if_there_is_such_an_account() -> None:
    assert [one.name for one in mentions("@ben.", {"ben", "ben."}.__contains__)] == ["ben."]


@pytest.mark.parametrize(
    "text", ["\u4f60\u597d@ben\u4f60\u597d", "@ben\ub2d8", "\u0e44\u0e17\u0e22@ben", "@ben\u3055\u3093"]
)
def test_scripts_without_spaces_may_touch_a_mention(text: str) -> None:
    assert named(text) == ["ben"]


def test_nothing_in_a_link_is_a_mention() -> None:
    assert named("https://example.org/@ben and @ann, https://example.org/(@ben) @ben") == ["ann", "ben"]
    assert named("https://example.org/x) @ben") == ["ben"]


@pytest.mark.parametrize("char", [*map(chr, range(0x20)), "\x85", "\u2028", "\u202e", "\u2066", "\U000e0041", "\ufffd"])
def test_a_text_and_what_is_shown_of_it_name_the_same_accounts(char: str) -> None:
    """The device reads a text as it came, and a front end as it shows it."""
    text = f"https://example.org/x{char}@ben {char}@ann{char} x{char}@al.f"
    assert named(safe_body(text)) == named(text)


def test_the_own_account_is_marked_whatever_its_case() -> None:
    found = mentions("@Ann and @ben", is_name, own_name="aNN")
    assert found == (Mention(0, 4, "Ann", me=True), Mention(9, 13, "ben", me=False))
    assert not mentions("@ben", is_name)[0].me


@pytest.mark.parametrize(
    "unit",
    [
        "@",
        "@a",
        "@a ",
        "@a.",
        "@" + "-" * 64,
        "@" + "a" * 64,
        "@a" + "." * 63 + " ",
        "https://x/@a ",
        "\u0308@a",
        "https://@",
    ],
)
def test_the_largest_text_is_read_in_linear_time(unit: str) -> None:
    asked = 0

    def count(name: str) -> bool:
        nonlocal asked
        asked += 1
        return False

    body = (unit * LARGEST)[:LARGEST]
    start = time.process_time()
    assert mentions(body, count) == ()
    assert asked <= LARGEST
    assert time.process_time() - start < 1.0, "20 times what the slowest of them needs"


def test_a_text_names_a_bounded_number_of_accounts() -> None:
    assert len(mentions("@ben " * 1000, is_name)) == MAX_MENTIONS
