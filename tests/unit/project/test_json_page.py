"""docs/COMMAND_LINE.md has the shape that each command prints with --json."""

from __future__ import annotations

import re
from typing import Any

import typer.main
from typer.core import TyperGroup

from parley.cli import app
from tests.unit.project.source import ROOT

PAGE = (ROOT / "docs" / "COMMAND_LINE.md").read_text().partition("## JSON")[2]
WITHOUT = {"chat", "gui", "gateway", "filter serve"}
"""They end when a person ends them."""
SHAPES = {
    words: re.findall(r"`(\w+)`", fields)
    for cells, fields in re.findall(r"^\| (`parley [^|]+) \| ([^|]+) \|$", PAGE, re.MULTILINE)
    for words in re.findall(r"`parley ([a-z -]+)`", cells)
}


def commands(group: Any, before: str = "") -> dict[str, dict[str, Any]]:
    """All commands by the words that name them, with their parameters."""
    found: dict[str, dict[str, Any]] = {}
    for name, command in group.commands.items():
        words = f"{before} {name}".strip()
        if isinstance(command, TyperGroup):
            found |= commands(command, words)
        else:
            found[words] = {str(one.name): one for one in command.params if "--json" in one.opts}
    return found


JSON = commands(typer.main.get_command(app))


def test_every_command_that_ends_by_itself_has_json() -> None:
    assert {words for words, options in JSON.items() if not options} == WITHOUT


def test_the_page_has_the_shape_of_every_command_that_has_one_of_its_own() -> None:
    """The others print what json_result.py has."""
    own = {words for words, options in JSON.items() if options and "as_json_result" not in options}
    assert set(SHAPES) - own == set()
    assert own - set(SHAPES) == set(), "give them a row in docs/COMMAND_LINE.md, under JSON"


def test_the_option_is_in_the_help_of_every_command() -> None:
    options = [option for found in JSON.values() for option in found.values()]
    assert [option for option in options if option.hidden or option.opts != ["--json"]] == []
