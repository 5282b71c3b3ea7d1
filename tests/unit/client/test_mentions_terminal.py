"""Mentions in the terminal: highlighted, counted in the list, completed, and in the output for programs."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest
from prompt_toolkit.completion import CompleteEvent
from prompt_toolkit.document import Document

from parley import EVERYONE, Account, Conversation, ConversationKind, Member, MessageStatus
from parley.chat import ConversationItem, ConversationKey, Mention, Row
from parley.mentions import MAX_MENTIONS
from parley.terminal.messenger_lines import Line, item_lines, row_lines
from parley.terminal.screen import Words
from parley.terminal.text import conversation_line
from tests.unit.client.helpers import PASSWORD, until
from tests.unit.client.messenger import messenger
from tests.unit.client.test_chat import view
from tests.unit.client.test_command import signed_in

TODAY = date(2026, 11, 28)
LARGEST = 65_536
ME, OTHER = "class:mentions-me", "class:mention"


def row(body: str, *names: str, **more: object) -> Row:
    """A row of bob in which these names are mentions; ann is the own account."""
    starts = [body.index(f"@{name}") for name in names]
    found = tuple(Mention(at, at + 1 + len(name), name, name == "ann") for at, name in zip(starts, names, strict=True))
    made = Row(1, 0, "bob", body, 1_790_000_000_000, mentions=found)
    return replace(made, **more)  # type: ignore[arg-type]


def styled(lines: tuple[Line, ...], style: str) -> list[str]:
    return [text for line in lines for piece, text in line if piece == style]


def plain(lines: tuple[Line, ...]) -> list[str]:
    return ["".join(text for _, text in line) for line in lines]


def test_mentions_are_highlighted_and_own_ones_more() -> None:
    lines = row_lines(row("hi @ann and @carl, x@ann", "ann", "carl"), 80, TODAY)
    assert (styled(lines, ME), styled(lines, OTHER)) == (["@ann"], ["@carl"])
    assert plain(lines) == plain(row_lines(row("hi @ann and @carl, x@ann"), 80, TODAY))


def test_an_urgent_text_keeps_its_style_around_a_mention() -> None:
    lines = row_lines(row("fire @ann now", "ann", urgent=True), 80, TODAY)
    assert styled(lines, ME) == ["@ann"]
    assert styled(lines, "class:urgent") == ["Urgent: fire ", " now"]


def test_an_own_message_that_names_the_own_account_is_no_call() -> None:
    lines = row_lines(row("I, @ann", "ann", status=MessageStatus.ACCEPTED), 80, TODAY)
    assert (styled(lines, ME), styled(lines, OTHER)) == ([], ["@ann"])


@pytest.mark.parametrize("room", [2, 5, 9, 12, 17, 23, 29, 31, 40, 80])
@pytest.mark.parametrize(
    "body", ["a\tb @ann\n\n@carl  end", "word " * 9 + "@ann " + "漢字" * 9 + " @carl", "e\u0301 @ann@ @carl"]
)
def test_wrapping_loses_no_part_of_a_mention_and_changes_no_line(body: str, room: int) -> None:
    lines = row_lines(row(body, "ann", "carl"), room, TODAY)
    assert plain(lines) == plain(row_lines(row(body), room, TODAY))
    assert ("".join(styled(lines, ME)), "".join(styled(lines, OTHER))) == ("@ann", "@carl")


@pytest.mark.parametrize("rest", ["word " * LARGEST, "@ann" * LARGEST])
def test_a_text_of_many_mentions_is_drawn_in_linear_time(rest: str) -> None:
    """Each letter was once compared with each mention."""
    body = ("@ann " * MAX_MENTIONS + rest)[:LARGEST]
    found = tuple(Mention(at, at + 4, "ann", me=True) for at in range(0, 5 * MAX_MENTIONS, 5))
    start = time.process_time()
    plain(row_lines(row(body), 80, TODAY))
    without = time.process_time() - start
    lines = row_lines(row(body, mentions=found), 80, TODAY)
    assert time.process_time() - start - without < 2 * without + 0.15
    assert len(styled(lines, ME)) == MAX_MENTIONS


def item(**more: object) -> ConversationItem:
    key = ConversationKey(conversation_id=5)
    made = ConversationItem(key, "Ward", "last", 1_790_000_000_000, 3, None, False, False, channel=True)
    return replace(made, **more)  # type: ignore[arg-type]


def test_the_list_counts_unread_mentions() -> None:
    head, _ = item_lines(item(mentions=2), 36, TODAY, chosen=False, open_=False)
    assert " 3 @2 " in plain((head,))[0]
    assert styled((head,), ME) == [" @2"]
    assert "@" not in plain(item_lines(item(), 36, TODAY, chosen=False, open_=False))[0]
    assert conversation_line(item(mentions=2)).startswith("3 new @2  Ward")
    assert "@" not in conversation_line(item())


def completions(words: Words, typed: str) -> list[str]:
    return [c.text for c in words.get_completions(Document(typed), CompleteEvent(completion_requested=True))]


async def test_a_mention_is_completed_with_the_other_members_of_the_open_channel(tmp_path: Path) -> None:
    async with view(tmp_path) as shown:
        accounts = shown.cluster.accounts
        shown.cluster.add_account("bart", PASSWORD)
        channel = shown.cluster.create_channel(accounts["bob"], "Ward", [accounts["anna"], accounts["carl"]])
        words = Words(shown.view)
        assert completions(words, "hi @b") == [], "a direct conversation has no mentions"
        await shown.expect("created the channel")
        await shown.view.take(f"/to #{channel}")
        assert completions(words, "hi @") == ["bob", "carl"]
        assert completions(words, "hi @B") == ["bob"]
        assert completions(words, "/urgent see @c") == ["carl"]
        assert completions(words, "//me @c") == ["carl"]
        for typed in ("hi b", "x@b", "https://x/@b", "hi @bob ", "hi @.", "/topic @b", "/edit 1 @b"):
            assert completions(words, typed) == [], typed


async def test_of_a_large_channel_known_names_are_completed_too(tmp_path: Path) -> None:
    async with view(tmp_path) as shown:
        await shown.view.take("/to everyone")
        words = Words(shown.view)
        own = Member(shown.cluster.accounts["anna"].id)
        everyone = Conversation(EVERYONE.conversation_id, ConversationKind.EVERYONE, members=(own,), member_count=3)
        shown.view.chats.take_conversations((everyone,))
        assert completions(words, "@c") == ["carl"]
        assert "anna" not in completions(words, "@")
        shown.view.chats.take_accounts((Account(shown.cluster.accounts["carl"].id, "carl", deleted=True),))
        assert completions(words, "@") == ["bob"]


async def test_the_chat_says_that_a_message_of_another_conversation_mentions_the_person(tmp_path: Path) -> None:
    async with view(tmp_path) as shown:
        accounts = shown.cluster.accounts
        channel = shown.cluster.create_channel(accounts["bob"], "Ward", [accounts["anna"]])
        shown.cluster.store(accounts["bob"], channel, "@anna come")
        await shown.expect("bob in Ward: @anna come   (mentions you)", f"(answer: /to #{channel})")
        shown.cluster.store(accounts["bob"], channel, "@annabel come")
        await shown.expect("@annabel come   (answer")
        await shown.view.take(f"/to #{channel}")
        await shown.view.take("/history")
        assert [line.endswith("come   (mentions you)") for line in shown.lines[-2:]] == [True, False]


async def test_the_messenger_counts_highlights_and_completes_mentions(tmp_path: Path) -> None:
    async with messenger(tmp_path) as screen:
        accounts = screen.cluster.accounts
        channel = screen.cluster.create_channel(accounts["bob"], "Ward", [accounts["anna"], accounts["carl"]])
        screen.cluster.store(accounts["bob"], channel, "@anna come")
        await screen.shows("#Ward", "1 @1")
        screen.type(f"/to #{channel}\r")
        await screen.shows("Ward>")
        await screen.shows("bob: @anna come")
        await screen.hides("1 @1")
        screen.type("see @c\t")
        await until(lambda: screen.field == "see @carl", "the name is completed")
        screen.type("\t")
        await until(lambda: screen.chooses, "Tab goes to the list behind a name that is whole")
        screen.type("\t there\t")
        await screen.shows("see @carl there")
        assert screen.field == "see @carl there", "Tab goes to the list where nothing can be completed"


async def test_the_commands_count_mentions_and_tell_programs_of_them(tmp_path: Path) -> None:
    async with signed_in(tmp_path) as (cluster, parley):
        anna, bob = cluster.accounts["anna"], cluster.accounts["bob"]
        channel = cluster.create_channel(bob, "Ward", [anna])
        for body in ("@anna come", "calm", "@annabel"):
            cluster.store(bob, channel, body)
        heard = await parley("listen", "--count", "4", "--timeout", "20", "--json")
        records = [json.loads(line) for line in heard.out.splitlines()]
        assert [one["mentions_me"] for one in records] == [False, True, False, False]
        [listed] = json.loads((await parley("conversations", "--json")).out)
        assert (listed["unread"], listed["mentions"]) == (3, 1)
        assert "3 new @1" in (await parley("conversations")).out
        read = json.loads((await parley("history", f"#{channel}", "--read", "--json")).out)
        assert [one["mentions_me"] for one in read] == [False, True, False, False]
        [listed] = json.loads((await parley("conversations", "--json")).out)
        assert (listed["unread"], listed["mentions"]) == (0, 0)
