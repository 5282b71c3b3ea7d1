"""A line reaches the person it was typed for, or nobody: who does not get to another recipient writes to none.

What can go wrong: the name after /to is wrong, the person overlooks the remark, and the next line goes to whoever was
named before. A script overlooks every remark, so its exit code tells of each line that was not sent.
"""

from pathlib import Path

import pytest

from parley.terminal.exits import ExitCode
from tests.unit.client.helpers import until
from tests.unit.client.test_chat import Shown, view
from tests.unit.client.test_command import signed_in

NOBODY = "The chat has no recipient now."
MISTYPED = [
    "/to carla",
    "/to",
    "/to #nowhere",
    "/to a b",
    "/to #999",
    "/join #nowhere",
    "/tocarl",
    "/ot carl",
    "/query carl",
]
ELSEWHERE = ["/history x", "/cancel 99", "/hepl", "/history2 20", "/dm", "/receipts"]


async def say_secret(shown: Shown) -> None:
    before = len(shown.lines)
    await shown.view.take("secret")
    await until(lambda: len(shown.lines) > before, "an answer to the line")


@pytest.mark.parametrize("typed", MISTYPED)
async def test_after_a_recipient_that_was_not_found_the_next_line_goes_to_nobody(tmp_path: Path, typed: str) -> None:
    async with view(tmp_path) as shown:
        await shown.view.take(typed)
        assert shown.has(NOBODY), shown.lines
        assert shown.view.prompt == "anna> "
        await say_secret(shown)
        assert shown.has("No recipient was named")
        await shown.view.take("/to carl")
        await shown.view.take("for carl")
        await shown.expect("you → carl: for carl")
        assert (shown.cluster.bodies_for("bob"), shown.cluster.bodies_for("carl")) == ([], ["for carl"])


@pytest.mark.parametrize("typed", ELSEWHERE)
async def test_another_mistake_changes_no_recipient(tmp_path: Path, typed: str) -> None:
    async with view(tmp_path) as shown:
        await shown.view.take(typed)
        assert shown.lines
        assert not shown.has(NOBODY)
        await shown.view.take("hello")
        await shown.expect("you → bob: hello")


async def test_without_a_node_a_name_is_taken_as_it_is_typed_and_known_names_need_none(tmp_path: Path) -> None:
    async with view(tmp_path, deadline_s=3.0) as shown:
        await shown.node().die()
        await shown.view.take("/to carl")
        assert shown.view.prompt == "anna → carl> "
        await shown.view.take("/to #nowhere")
        assert shown.has(NOBODY)
        assert shown.view.prompt == "anna> "


@pytest.mark.parametrize("typed", MISTYPED)
async def test_a_script_is_told_by_the_exit_code_and_its_next_line_goes_to_nobody(tmp_path: Path, typed: str) -> None:
    async with signed_in(tmp_path) as (cluster, parley):
        cluster.add_account("carl", "correct horse")
        done = await parley("chat", "bob", stdin=f"hello\n{typed}\nsecret\n")
        assert done.code in (ExitCode.USAGE, ExitCode.REFUSED), done
        assert NOBODY in done.err
        assert (cluster.bodies_for("bob"), cluster.bodies_for("carl")) == (["hello"], [])


@pytest.mark.parametrize(
    ("arguments", "lines", "code"),
    [
        (("bob",), "hello\n", ExitCode.OK),
        (("nobody",), "hello\n", ExitCode.REFUSED),
        (("nobody",), "hello\n/to bob\nhello\n", ExitCode.REFUSED),
        (("bob",), "/dm nobody hello\n/dm bob hello\n", ExitCode.REFUSED),
        ((), "hello\n", ExitCode.USAGE),
        (("bob",), "/nonsense\nhello\n", ExitCode.USAGE),
        (("bob",), "/cancel 99\n", ExitCode.USAGE),
        (("bob",), "/urgent\n", ExitCode.USAGE),
        (("bob",), "/history\n/accounts\n/help\n/waiting\n/conversations\n", ExitCode.OK),
        (("bob",), "a" * 70_000 + "\n", ExitCode.USAGE),
        (("bob",), "hello\n/quit\n/nonsense\n", ExitCode.OK),
    ],
)
async def test_the_exit_code_of_a_script_is_that_of_its_first_line_that_failed(
    tmp_path: Path, arguments: tuple[str, ...], lines: str, code: ExitCode
) -> None:
    async with signed_in(tmp_path) as (_, parley):
        done = await parley("chat", *arguments, stdin=lines)
        assert done.code == code, done


async def test_a_refusal_among_more_lines_than_are_shown_at_once_is_told_by_the_exit_code(tmp_path: Path) -> None:
    async with signed_in(tmp_path) as (cluster, parley):
        lines = "".join(f"line {number}\n" for number in range(1500))
        done = await parley("chat", "bob", stdin=f"{lines}/dm nobody hello\n")
        assert done.code == ExitCode.REFUSED, done.err[-500:]
        assert len(cluster.bodies_for("bob")) == 1500
        again = await parley("chat", "bob", stdin=lines)
        assert again.code == ExitCode.OK, again.err[-500:]
