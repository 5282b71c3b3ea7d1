"""Every command in docs/OPERATIONS.md and README.md exists with the options given there, and README.md names all."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from itertools import product, takewhile
from typing import Any

import pytest
import typer.main

from parley.cli import app as client_app
from parleyd.cli import app as node_app
from tests.unit.project.source import ROOT

PAGE = (ROOT / "docs" / "OPERATIONS.md").read_text()
README = (ROOT / "README.md").read_text().replace(r"\|", "|")
PROGRAMS: dict[str, Any] = {"parley": typer.main.get_command(client_app), "parleyd": typer.main.get_command(node_app)}
INLINE = re.compile(r"`(parleyd? [^`\n]+)`")
# A line of a block, also after ssh, with a folder, or with variables before it.
BLOCK = re.compile(r"^    (?:.* )?(?:/\S*/)?(parleyd? .+)$", re.MULTILINE)
UNNAMED = (
    "parley dm",  # the same as send
    "parley version",
    "parleyd version",
    "parley channel list",  # the same as channels, join and leave
    "parley channel join",
    "parley channel leave",
    # docs/OPERATIONS.md has the procedures
    "parleyd restore",
    "parleyd recover",
    "parleyd moved",
    "parleyd backup verify",
    "parleyd cert renew",
    "parleyd cert show",
)
ENDS = re.compile(r"[|;>#]|&&|(?<=\s)\.\.\.")


def commands(page: str = PAGE) -> list[str]:
    """Return each command of a page once, without what follows it on its line."""
    found = [*INLINE.findall(page), *BLOCK.findall(page)]
    return sorted({_without_half_quotes(ENDS.split(command)[0].strip()) for command in found})


def _without_half_quotes(command: str) -> str:
    """Return a command without the quote that ends the line of ssh around it."""
    return re.sub(r"[ '\"]+$", "", command) if any(command.count(mark) % 2 for mark in "'\"") else command


def named(page: str) -> Iterator[str]:
    """Yield the commands that a page names, each of `cluster suspend|release`, without their arguments."""
    for span in [*INLINE.findall(page), *BLOCK.findall(page)]:
        words = list(takewhile(re.compile(r"[a-z-]+(\|[a-z-]+)*$").match, span.split()))
        yield from (" ".join(choice) for choice in product(*(word.split("|") for word in words)))


def visible(command: Any, path: str) -> Iterator[str]:
    """Yield a command and those below it, without those that the help hides, and without bare groups."""
    below = getattr(command, "commands", {})
    if not below:
        yield path
    for name, one in below.items():
        if not one.hidden:
            yield from visible(one, f"{path} {name}")


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


@pytest.mark.parametrize("line", sorted({*commands(), *commands(README)}))
def test_a_command_of_the_pages_exists(line: str) -> None:
    assert list(faults(line)) == []


def test_the_readme_names_each_command() -> None:
    """Its table lacked eleven of them."""
    existing = {path for name, command in PROGRAMS.items() for path in visible(command, name)}
    found = set(named(README))
    missing = {path for path in existing if not any(f"{one} ".startswith(f"{path} ") for one in found)}
    assert missing - set(UNNAMED) == set()
    assert set(UNNAMED) <= existing


@pytest.mark.parametrize("line", ["parley cluster rolling-restarts", "parleyd restore FILE --confg x", "parleyd moves"])
def test_a_wrong_command_would_be_found(line: str) -> None:
    assert list(faults(line))
