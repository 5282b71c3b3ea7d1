"""The command line without what is not asked for.

Typer reads the signatures of all commands before it runs one, which takes longer than most of them. Here the parameters
of a command, or of a group, are made when it is looked up: for one command its own, for a help page all of that page.
"""

from collections.abc import Iterator, Mapping, MutableMapping
from copy import copy
from typing import Any, cast

import typer.main
from typer.core import TyperGroup
from typer.models import CommandInfo, TyperInfo


def lazy_command(app: typer.Typer) -> TyperGroup:
    """Return what `typer.main.get_command` returns for an application with a callback and named groups."""
    group = typer.main.get_command(_without_commands(app))
    assert isinstance(group, TyperGroup)
    group.commands = cast("MutableMapping[str, Any]", _Commands(app))
    return group


def _without_commands(app: typer.Typer) -> typer.Typer:
    shell = copy(app)
    shell.registered_commands, shell.registered_groups = [], []
    return shell


class _Commands(Mapping[str, Any]):
    """The commands of a group by their names."""

    def __init__(self, app: typer.Typer) -> None:
        self._short = app.pretty_exceptions_short
        self._markup = app.rich_markup_mode
        self._suggest = app.suggest_commands
        self._infos: dict[str, CommandInfo | TyperInfo] = {}
        for command in app.registered_commands:
            assert command.callback is not None
            self._infos[command.name or typer.main.get_command_name(command.callback.__name__)] = command
        for group in app.registered_groups:
            assert isinstance(group.name, str)
            self._infos[group.name] = group
        self._made: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        if name not in self._made:
            self._made[name] = self._make(self._infos[name])
        return self._made[name]

    def _make(self, info: CommandInfo | TyperInfo) -> Any:
        if isinstance(info, CommandInfo):
            return typer.main.get_command_from_info(
                info, pretty_exceptions_short=self._short, rich_markup_mode=self._markup
            )
        app = info.typer_instance
        assert app is not None
        shell = copy(info)
        shell.typer_instance = _without_commands(app)
        group = typer.main.get_group_from_info(
            shell,
            pretty_exceptions_short=self._short,
            suggest_commands=self._suggest,
            rich_markup_mode=self._markup,
        )
        group.commands = cast("MutableMapping[str, Any]", _Commands(app))
        return group

    def __iter__(self) -> Iterator[str]:
        return iter(self._infos)

    def __len__(self) -> int:
        return len(self._infos)
