"""The chat on the whole screen: what is drawn, where typed lines go, and what counts as read."""

import asyncio
import re
import signal
from pathlib import Path
from typing import NoReturn

import pytest

from parley.terminal import messenger_desk
from parley.terminal.exits import ExitCode
from tests.unit.client.helpers import until
from tests.unit.client.messenger import Screen, messenger
from tests.unit.client.terminal import on_terminal
from tests.unit.client.test_command import signed_in


async def test_what_is_typed_is_sent_and_drawn_with_its_mark_beside_what_comes(tmp_path: Path) -> None:
    async with messenger(tmp_path) as screen:
        screen.type("hello\r")
        await screen.shows("you: hello ✓")
        screen.store("bob", "hi anna")
        await screen.shows("bob: hi anna")
        screen.type("half")
        await screen.shows("bob> half")
        screen.store("bob", "in between")
        await screen.shows("bob: in between")
        await screen.shows("bob> half")
        screen.type(" typed\r")
        await until(lambda: screen.cluster.bodies_for("bob") == ["hello", "half typed"], "the line stayed whole")
        screen.type("\x03")
        assert await asyncio.wait_for(screen.task, 30) == ExitCode.OK


async def test_the_list_opens_a_conversation_and_what_was_half_typed_stays_as_its_draft(tmp_path: Path) -> None:
    async with messenger(tmp_path) as screen:
        screen.store("carl", "look here")
        await screen.shows("carl", "1")
        screen.type("for bob")
        await screen.shows("bob> for bob")
        screen.type("\t\x1b[B\x1b[A")
        await screen.shows("  carl")
        screen.type("\x1b[H\r")
        await screen.shows("carl>")
        await screen.shows("carl: look here")
        screen.type("for carl\r")
        await until(lambda: screen.cluster.bodies_for("carl") == ["for carl"], "it went to carl")
        assert screen.cluster.bodies_for("bob") == []
        screen.type("/to bob\r")
        await screen.shows("bob> for bob")


async def page_down(screen: Screen) -> None:
    """Scroll the thread. What else changes on the screen, as the number of unread messages, is not the next page."""

    def in_sight() -> list[str]:
        return re.findall(r"bob: line \d+", "\n".join(screen.lines))

    before = in_sight()
    screen.type("\x1b[6~")
    await until(lambda: in_sight() != before, "the next page")


async def test_only_what_was_on_the_screen_counts_as_read(tmp_path: Path) -> None:
    async with messenger(tmp_path, to="", rows=12) as screen:
        for number in range(30):
            screen.store("bob", f"line {number}")
        await screen.shows("bob", "30")
        assert screen.read_up_to() == 0
        screen.type("\r")
        await screen.shows("not read yet")
        await screen.shows("bob: line 0")
        await until(lambda: screen.read_up_to() > 0, "a mark moved")
        assert not screen.has("bob: line 29")
        assert screen.read_up_to() < 12
        first = screen.read_up_to()
        screen.type("\x1b[F")
        await screen.shows("bob: line 29")
        assert screen.read_up_to() == first, "what was between was not on the screen"
        screen.type("\x1b[H")
        await screen.shows("bob: line 0")
        while not screen.has("bob: line 29"):
            await page_down(screen)
        await until(lambda: screen.read_up_to() >= 30, "all was on the screen")
        screen.type("an answer\r")
        await screen.shows("you: an answer")
        screen.type("\x1b[H")
        await screen.shows("bob: line 0")
        assert not screen.has("not read yet")


async def test_page_up_loads_what_is_older_and_stays_there_while_messages_come(tmp_path: Path) -> None:
    async with messenger(tmp_path, to="", rows=12) as screen:
        for number in range(150):
            screen.store("bob", f"line {number}")
        await screen.shows("bob", "150")
        screen.type("/to bob\r")
        await screen.shows("bob: line 0")
        screen.type("\x1b[F")
        await screen.shows("bob: line 149")
        screen.type("\x1b[5~\x1b[5~")
        await screen.hides("bob: line 149")
        before = [line for line in screen.lines if "bob: line" in line]
        screen.store("bob", "newest")
        await screen.shows("▼ ")
        assert [line for line in screen.lines if "bob: line" in line] == before


async def test_what_is_removed_leaves_the_screen_wherever_it_was_scrolled_to(tmp_path: Path) -> None:
    async with messenger(tmp_path, rows=12) as screen:
        for number in range(150):
            screen.store("bob", f"line {number}")
        await screen.shows_at_the_end("bob: line 149")
        screen.type("\x1b[5~\x1b[5~")
        await screen.hides("bob: line 149")
        screen.type("/remove-conversation\r")
        await screen.shows("To do it: /remove-conversation yes")
        screen.type("\x1b")
        await screen.hides("Esc closes this")
        screen.type("/remove-conversation yes\r")
        await screen.shows("Removed on all your devices.")
        screen.type("\x1b")
        await screen.hides("bob: line")
        screen.store("bob", "news")
        await screen.shows("bob: news")
        screen.type("\x1b[5~")
        await screen.shows("bob: news")
        assert not any("bob: line" in line for line in screen.lines)


async def test_a_command_tells_in_notes_that_esc_closes_and_a_wrong_name_leaves_nobody(tmp_path: Path) -> None:
    async with messenger(tmp_path) as screen:
        screen.type("/help\r")
        await screen.shows("Esc closes this", "lines more")
        screen.type("\x1b")
        await screen.hides("Esc closes this")
        screen.type("/to ghost\r")
        await screen.shows("There is no account ghost.")
        screen.type("secret\r")
        await screen.shows("No recipient was named.")
        assert screen.cluster.bodies_for("bob") == []


async def test_tab_completes_commands_and_names(tmp_path: Path) -> None:
    async with messenger(tmp_path) as screen:
        await screen.shows("bob>")
        screen.type("/hel\t")
        await screen.shows("bob> /help")


async def test_a_burst_is_drawn_a_few_times_and_the_typed_line_stays_whole(tmp_path: Path) -> None:
    async with messenger(tmp_path) as screen:
        screen.type("half")
        await screen.shows("bob> half")
        for number in range(1000):
            screen.store("bob", f"burst {number}")
        await screen.shows("bob: burst 999")
        await screen.shows("bob> half")
        assert screen.drawn < 500


async def test_every_size_of_the_terminal_is_drawn(tmp_path: Path) -> None:
    async with messenger(tmp_path) as screen:
        screen.store("bob", "漢字と👩‍👩‍👧 שלום \x1b[2J\x07 end_of_it")
        await screen.shows("end_of_it")
        assert not any("\x1b" in line or "\x07" in line for line in screen.lines)
        for columns, rows in ((59, 24), (20, 10), (5, 3), (1, 1), (200, 2), (80, 24)):
            screen.resize(columns, rows)
        await screen.shows("end_of_it")
        screen.resize(40, 12)
        await screen.shows("end_of_it")
        screen.type("\t")
        await screen.shows("▸ bob")
        assert not screen.has("│")


async def test_without_a_majority_the_line_waits_and_leaving_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with messenger(tmp_path) as screen:
        screen.cluster.nodes[0].faults.no_majority = True
        screen.cluster.announce()
        screen.type("later\r")
        await screen.shows("you: later …")
        await screen.shows("1 message waiting")
        screen.type("\x03")
        assert await asyncio.wait_for(screen.task, 30) == ExitCode.KEPT
    assert "Messages still wait." in capsys.readouterr().out


async def test_the_line_stays_whole_while_the_node_dies(tmp_path: Path) -> None:
    async with messenger(tmp_path, nodes=3) as screen:
        screen.type("half")
        await screen.shows("bob> half")
        await next(node for node in screen.cluster.nodes if screen.has(f"Connected to {node.name}")).die()
        await screen.shows("was lost, now on")
        screen.type(" typed\r")
        await until(lambda: screen.cluster.bodies_for("bob") == ["half typed"], "it went out once")


async def test_the_end_of_the_session_is_told(tmp_path: Path) -> None:
    async with messenger(tmp_path) as screen:
        screen.cluster.end_sessions()
        await screen.shows("The session has ended")


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGHUP, None])
async def test_the_terminal_is_as_before_whatever_ends_the_screen(tmp_path: Path, how: signal.Signals | None) -> None:
    async with (
        signed_in(tmp_path) as (_, parley),
        on_terminal(parley.environment, "chat", "bob") as terminal,
    ):
        await terminal.shows("\x1b[?1049h")
        await terminal.shows("Connected to")
        if how is None:
            terminal.type(b"\x03")
        else:
            terminal.process.send_signal(how)
        assert await terminal.end() == (ExitCode.OK if how is None else 128 + how)
        assert terminal.as_before
        assert terminal.shown.rindex("\x1b[?1049l") > terminal.shown.rindex("\x1b[?1049h")
        assert terminal.shown.rindex("\x1b[?25h") > terminal.shown.rfind("\x1b[?25l")


async def test_a_defect_while_drawing_ends_the_screen_before_it_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with messenger(tmp_path) as screen:

        def fails(*_: object) -> NoReturn:
            raise ZeroDivisionError

        monkeypatch.setattr(messenger_desk, "row_lines", fails)
        screen.store("bob", "now")
        with pytest.raises(ExceptionGroup) as raised:
            await asyncio.wait_for(screen.task, 30)
        assert raised.value.split(ZeroDivisionError)[0] is not None


async def test_a_paste_of_many_lines_is_one_message_and_typed_lines_stay_apart(tmp_path: Path) -> None:
    pasted = "\n".join(f"line {number} \u202e" for number in range(300))
    async with messenger(tmp_path) as screen:
        screen.type("\x1b[200~\x07" + pasted.replace("\n", "\r") + "\x1b[201~")
        await screen.shows("line 299")
        assert screen.cluster.bodies_for("bob") == [], "a paste sends nothing by itself"
        assert not any("\x07" in line or "\u202e" in line for line in screen.lines)
        screen.type("\r")
        await until(lambda: bool(screen.cluster.bodies_for("bob")), "it is sent")
        assert screen.cluster.bodies_for("bob") == [pasted]
        screen.type("".join(f"apart {number}\r" for number in range(50)))
        typed = [f"apart {number}" for number in range(50)]
        await until(lambda: screen.cluster.bodies_for("bob")[1:] == typed, "each line is a message, in order")


async def test_a_refused_text_is_not_lost(tmp_path: Path) -> None:
    half = "words " * 6000  # a pipe takes 64 KiB at once
    async with messenger(tmp_path) as screen:
        screen.type(f"\x1b[200~{half}\x1b[201~")
        await until(lambda: screen.field == half, "one half is there")
        screen.type(f"\x1b[200~{half}\x1b[201~\r")
        await screen.shows("Nothing was sent. Shorten it.")
        await screen.shows("The Up key brings the text back into the field.")
        assert screen.field == ""
        screen.type("\x1b[A")
        await until(lambda: screen.field.split() == 2 * half.split(), "the text is in the field")


async def test_the_arrow_keys_recall_what_was_typed_in_this_chat(tmp_path: Path) -> None:
    async with messenger(tmp_path) as screen:
        screen.type("first\r/mute\rthird\r")
        await until(lambda: screen.cluster.bodies_for("bob") == ["first", "third"], "they are sent")
        for expected in ("third", "/mute", "first"):
            screen.type("\x1b[A")
            await until(lambda: screen.field == expected, "the line before")  # noqa: B023
        screen.type("\x1b[B")
        await until(lambda: screen.field == "/mute", "the line after")


async def test_lines_that_find_no_place_stay_in_the_field_one_below_the_other(tmp_path: Path) -> None:
    async with messenger(tmp_path, rows=40) as screen:
        screen.cluster.nodes[0].faults.hang = True
        screen.type("/accounts\r" + "".join(f"line {number}\r" for number in range(300)))
        await screen.shows("Too many lines wait")
        await until(lambda: "line 299" in screen.field, "the rest is in the field")
        screen.cluster.nodes[0].release()
        await until(lambda: "line 90" in screen.cluster.bodies_for("bob"), "the first ones were taken in order")
        screen.type("\r")
        await until(lambda: "line 299" in "\n".join(screen.cluster.bodies_for("bob")), "the rest went out, too")
        sent = "\n".join(screen.cluster.bodies_for("bob")).splitlines()
        assert sent == [f"line {number}" for number in range(300)]


async def test_names_and_texts_of_others_command_no_terminal_and_turn_no_line(tmp_path: Path) -> None:
    unsafe = "\u202e\x1b]0;owned\x07\x9b31m"
    async with messenger(tmp_path, to="") as screen:
        accounts = screen.cluster.accounts
        channel = screen.cluster.create_channel(accounts["bob"], "Ward", [accounts["anna"]])
        screen.cluster.store(accounts["bob"], channel, f"{unsafe}text")
        await screen.shows("#")
        screen.type(f"/to #{channel}\r")
        await screen.shows("bob: ", "text")
        screen.type("/conversations\r")
        await screen.shows("Esc closes this")
        shown = str(screen)
        assert "Ward" in shown
        assert not {"\u202e", "\x1b", "\x07", "\x9b"} & set(shown)


async def test_names_channels_and_commands_are_completed_and_what_comes_tears_nothing(tmp_path: Path) -> None:
    async with messenger(tmp_path) as screen:
        accounts = screen.cluster.accounts
        screen.cluster.create_channel(accounts["bob"], "Ward 4", [accounts["anna"]])
        await screen.shows("#Ward 4")
        screen.type("/conversations\r")
        await screen.shows("Esc closes this")
        screen.type("\x1b")
        await screen.hides("Esc closes this")
        screen.type("/to \t")
        await screen.shows("carl ")
        screen.store("carl", "in between")
        await screen.shows("in between")
        assert screen.field == "/to "
        screen.type("c\t")
        await until(lambda: screen.field == "/to carl", "the name is completed")
        screen.type("\x15/join #\t")
        await until(lambda: screen.field == "/join #Ward 4", "the channel is completed")
        screen.type("\x15/conv\t")
        await until(lambda: screen.field == "/conversations", "the command is completed")
        screen.type("\x15no /to c\t")
        await screen.shows("no /to c")
        assert screen.field == "no /to c", "a text is not completed"
