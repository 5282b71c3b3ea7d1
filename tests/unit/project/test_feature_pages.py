"""The pages about features name tests, targets and commands that exist."""

from __future__ import annotations

import re

import pytest
import typer.main

from parley.cli import app
from parley.terminal.chat_help import HELP
from tests.unit.project.source import ROOT

FEATURES = (ROOT / "docs" / "FEATURES.md").read_text()
COMMAND_LINE = (ROOT / "docs" / "COMMAND_LINE.md").read_text()
OTHERS = (ROOT / "docs" / "FROM_OTHER_SYSTEMS.md").read_text()
# The last two columns of each row say what Parley has.
OWN = [cell for row in re.findall(r"^\|(.*)\|$", OTHERS, re.MULTILINE) for cell in row.split(" | ")[1:]]


def test_each_feature_names_what_shows_it() -> None:
    rows = [row for row in FEATURES.splitlines() if row.startswith("| ") and not row.startswith("| feature")]
    assert len(rows) > 20
    assert [row for row in rows if "`tests/" not in row] == []


@pytest.mark.parametrize("path", sorted(set(re.findall(r"`(tests/[^`]+)`", FEATURES))))
def test_a_test_that_the_page_names_exists(path: str) -> None:
    assert (ROOT / path).is_file()


@pytest.mark.parametrize("target", sorted(set(re.findall(r"`make ([a-z-]+)`", FEATURES))))
def test_a_target_that_the_page_names_exists(target: str) -> None:
    assert f"\n{target}:" in (ROOT / "Makefile").read_text()


@pytest.mark.parametrize(
    "command", sorted({name for cell in OWN for name in re.findall(r"`parley ([a-z][a-z-]*)", cell)})
)
def test_a_command_that_the_page_names_exists(command: str) -> None:
    assert command in typer.main.get_command(app).commands  # type: ignore[attr-defined]


PAGES = "\n".join(path.read_text() for path in sorted((ROOT / "docs").glob("tutorials/*.md")))
LINES = sorted(
    set(
        re.findall(
            r"(?:^    |`)parley (?:--[a-z]+ [a-z]+ )?([a-z][a-z-]*(?: [a-z-]+)?)", PAGES + COMMAND_LINE, re.MULTILINE
        )
    )
)


@pytest.mark.parametrize("words", LINES)
def test_a_command_of_a_tutorial_exists(words: str) -> None:
    first, _, second = words.partition(" ")
    command = typer.main.get_command(app).commands[first]  # type: ignore[attr-defined]
    assert not hasattr(command, "commands") or second in command.commands


@pytest.mark.parametrize("command", sorted({name for cell in OWN for name in re.findall(r"`(/[a-z-]+)", cell)}))
def test_a_command_of_the_chat_that_the_page_names_is_in_its_help(command: str) -> None:
    assert command in f"/help {HELP}"
