"""`parley cluster events`: what happened on all nodes, in one time line, and with --follow what happens."""

import json
from collections.abc import Iterable
from contextlib import aclosing
from dataclasses import asdict
from datetime import datetime
from typing import Annotated, Any, assert_never

import typer

from parley import ClusterEvent, EventNews, EventsMissed, NodeLost, NodeReached
from parley.terminal.command_line import with_connection_options
from parley.terminal.commands import say
from parley.terminal.options import ConnectionOptions
from parley.terminal.since import ALLOWED, moment_ms


@with_connection_options
async def events(
    options: ConnectionOptions,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what happens, until Ctrl-C.")] = False,
    since: Annotated[
        str | None,
        typer.Option("--since", metavar="MOMENT", help=f"Begin there: {ALLOWED}. Default: all.", show_default=False),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="For programs: one record on each line.")] = False,
) -> None:
    """Show what happened on all nodes, in one time line: elections, members, connections, disks, certificates, backups.

    Nodes keep their latest events in memory, from their start on. A node's journal has its Raft history from before:
    parleyd journal.
    """
    options.must_name_account()
    since_ms = None if since is None else moment_ms(since, datetime.now().astimezone())
    async with options.client() as client:
        administration = await client.administration()
        if not follow:
            _say_all(await administration.events(since_ms=since_ms), as_json=as_json)
            return
        async with aclosing(administration.follow_events(since_ms=since_ms)) as news:
            async for one in news:
                _say_all([one], as_json=as_json)


def _say_all(news: Iterable[EventNews], *, as_json: bool) -> None:
    for one in news:
        say(json.dumps(record(one), ensure_ascii=False) if as_json else line(one))


def line(one: EventNews) -> str:
    """Return news as text."""
    return f"{_time(one.at_ms)}  {_safe(one.node)}  {_text(one)}"


def _text(one: EventNews) -> str:
    match one:
        case ClusterEvent():
            fields = "".join(f"  {_safe(name)}={_shown(value)}" for name, value in one.fields.items())
            return f"{_safe(one.kind)}{fields}"
        case NodeLost():
            return f"-- not followed: {_safe(one.reason).rstrip('.')}. It is tried again; the other nodes go on."
        case NodeReached():
            return "-- followed again"
        case EventsMissed():
            return f"-- {one.count} earlier events are not in its memory any more. Its journal has those of Raft."
        case _:
            assert_never(one)


def record(one: EventNews) -> dict[str, Any]:
    """Return news as a record for programs: `news` tells what it is."""
    names = {ClusterEvent: "event", NodeLost: "node_lost", NodeReached: "node_reached", EventsMissed: "events_missed"}
    return {"news": names[type(one)], **asdict(one)}


def _shown(value: object) -> str:
    text = _safe(str(value))
    return text if text and " " not in text else json.dumps(text, ensure_ascii=False)


def _safe(text: str) -> str:
    """Return a text that moves no cursor, whatever a node sends."""
    return "".join(char if char.isprintable() else "?" for char in text)


def _time(at_ms: int) -> str:
    try:
        return f"{datetime.fromtimestamp(at_ms / 1000).astimezone():%Y-%m-%d %H:%M:%S}.{at_ms % 1000:03}"
    except (ValueError, OverflowError, OSError):  # a node's clock may show anything
        return f"{at_ms} ms"
