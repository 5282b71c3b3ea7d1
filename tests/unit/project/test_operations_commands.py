"""Every command in docs/OPERATIONS.md exists, with the options that the page gives it."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from typing import Any

import pytest
import typer.main

from parley.cli import app as client_app
from parleyd.cli import app as node_app
from tests.unit.project.source import ROOT

PAGE = (ROOT / "docs" / "OPERATIONS.md").read_text()
PROGRAMS: dict[str, Any] = {"parley": typer.main.get_command(client_app), "parleyd": typer.main.get_command(node_app)}
INLINE = re.compile(r"`(parleyd? [^`\n]+)`")
# A line of a block, also after ssh, with a folder, or with variables before it.
BLOCK = re.compile(r"^    (?:.* )?(?:/\S*/)?(parleyd? .+)$", re.MULTILINE)
ENDS = re.compile(r"[|;>#]|&&|(?<=\s)\.\.\.")


def commands() -> list[str]:
    """Return each command of the page once, without what follows it on its line."""
    found = [*INLINE.findall(PAGE), *BLOCK.findall(PAGE)]
    return sorted({ENDS.split(command)[0].strip(" '\"") for command in found})


def faults(line: str) -> Iterator[str]:
    program, *words = shlex.split(line)
    command = PROGRAMS[program]
    while hasattr(command, "commands") and words and re.fullmatch(r"[a-z][a-z-]*", words[0]):
        name = words.pop(0)
        if name not in command.commands:
            yield f"there is no {name!r} in {command.name}"
            return
        command = command.commands[name]
    options = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
    options |= {"--help", "-h"}
    yield from (
        f"no option {word}" for word in words if word.startswith("--") and word.partition("=")[0] not in options
    )


def test_the_page_has_the_commands_of_the_procedures() -> None:
    assert len(commands()) > 60
    assert {"parley cluster rolling-restart", "parleyd moved --config /etc/parley/node.toml"} <= set(commands())


@pytest.mark.parametrize("line", commands())
def test_a_command_of_the_page_exists(line: str) -> None:
    assert list(faults(line)) == []


@pytest.mark.parametrize("line", ["parley cluster rolling-restarts", "parleyd restore FILE --confg x", "parleyd moves"])
def test_a_wrong_command_would_be_found(line: str) -> None:
    assert list(faults(line))
