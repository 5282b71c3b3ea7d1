"""Commands that are made when they are looked up are those that Typer makes."""

from typing import Any

import pytest
import typer.main
from typer.core import TyperGroup

from parley.cli import app
from parley.terminal.lazy_commands import lazy_command


def shape_of(command: Any) -> dict[str, Any]:
    """What a person sees of a command, and of all below it."""
    told = {
        "name": command.name,
        "help": command.help,
        "hidden": command.hidden,
        "epilog": command.epilog,
        "parameters": [
            (one.name, one.opts, one.nargs, one.required, str(one.default), one.type.name) for one in command.params
        ],
    }
    if isinstance(command, TyperGroup):
        told["commands"] = {name: shape_of(one) for name, one in command.commands.items()}
    return told


def test_all_commands_are_those_of_typer() -> None:
    assert shape_of(lazy_command(app)) == shape_of(typer.main.get_command(app))


def test_only_the_command_that_is_asked_for_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str | None] = []
    make = typer.main.get_command_from_info

    def noting(info: Any, **how: Any) -> Any:
        command = make(info, **how)
        made.append(command.name)
        return command

    monkeypatch.setattr(typer.main, "get_command_from_info", noting)
    with pytest.raises(SystemExit) as ended:
        lazy_command(app)(["cluster", "doctor", "--help"])
    assert (ended.value.code, made) == (0, ["doctor"])
