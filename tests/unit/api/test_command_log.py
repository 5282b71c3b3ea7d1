"""The log of commands: kind and size of each, on request, and nothing that a person wrote."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from structlog.testing import capture_logs

from parley_proto.v1 import model_pb2, state_pb2
from parleyd.api.commands import MAX_LOGGED, Commands
from parleyd.group.proposals import AppliedCommands
from parleyd.machine.levels import MAX_LEVEL
from parleyd.raft.types import Index
from scripts import cluster_events
from scripts.cluster_events import EventStream
from scripts.cluster_layout import Layout, NodePlan

SECRET = "what nobody else may read"


class Applies:
    """A log that takes everything."""

    async def submit(self, commands: Sequence[state_pb2.Command], *, timeout_s: float) -> AppliedCommands:
        return AppliedCommands(Index(1), tuple(state_pb2.CommandResult() for _ in commands))


def commands(*, log_commands: bool) -> Commands:
    return Commands(Applies(), lambda: MAX_LEVEL, log_commands=log_commands)


def send() -> state_pb2.Command:
    sends = [model_pb2.Send(number=number, account_name=SECRET, body=SECRET) for number in (1, 2)]
    return state_pb2.Command(send_messages=state_pb2.SendMessages(sends=sends))


async def test_each_command_is_logged_with_kind_and_size_and_never_with_its_content() -> None:
    close = state_pb2.Command(close_session=state_pb2.CloseSession(token_digest=b"digest"))
    with capture_logs() as logged:
        await commands(log_commands=True).submit([send(), close])
    assert logged == [
        {
            "event": "command_submitted",
            "kind": "send_messages",
            "bytes": send().ByteSize(),
            "messages": 2,
            "log_level": "info",
        },
        {"event": "command_submitted", "kind": "close_session", "bytes": close.ByteSize(), "log_level": "info"},
    ]
    assert SECRET not in str(logged)
    assert "digest" not in str(logged)


async def test_without_the_setting_nothing_is_logged() -> None:
    with capture_logs() as logged:
        await commands(log_commands=False).submit([send()])
    assert logged == []


async def test_many_commands_of_one_entry_are_counted() -> None:
    with capture_logs() as logged:
        await commands(log_commands=True).submit([send()] * (MAX_LOGGED + 5))
    assert len(logged) == MAX_LOGGED + 1
    assert logged[-1] == {"event": "commands_left_out", "commands": 5, "log_level": "info"}


# ---- the joined stream


def layout(root: Path) -> Layout:
    made = Layout(root, (NodePlan("n1", "a:1", "a:2"), NodePlan("n2", "b:1", "b:2")))
    for name in made.names:
        made.folder(name).mkdir(parents=True)
    return made


def write(made: Layout, name: str, *records: dict[str, object], end: str = "\n") -> None:
    with made.log_file(name).open("a") as log:
        log.write("".join(json.dumps(record) + "\n" for record in records)[:-1] + end)


def at(second: int, event: str, **fields: object) -> dict[str, object]:
    return {"timestamp": f"2026-01-01T00:00:{second:02}.5Z", "event": event, **fields}


def texts(stream: EventStream) -> list[str]:
    """What is shown, without the time of day and the two blanks after it."""
    return [line[14:] for line in stream.read()]


def test_the_events_of_all_nodes_are_shown_in_the_order_of_their_times(tmp_path: Path) -> None:
    made = layout(tmp_path)
    write(made, "n1", at(1, "client_connected", account_id=1, clients=1))
    stream = EventStream(made)
    write(made, "n1", at(4, "client_gone", account_id=7, clients=0), at(5, "role_changed", role="leader"))
    write(made, "n2", at(2, "client_connected", account_id=7, clients=1))
    write(made, "n2", at(3, "command_submitted", kind="send_messages", bytes=120, messages=2))
    assert texts(stream) == [
        "n2  client connected: account 7, now 1 client here",
        "n2  command send_messages: 120 bytes, 2 messages",
        "n1  client gone: account 7, now 0 clients here",
    ], "what was logged before is not shown, and neither are other events"
    assert texts(stream) == []


def test_a_line_that_is_half_written_or_no_event_does_not_disturb_the_stream(tmp_path: Path) -> None:
    made = layout(tmp_path)
    stream = EventStream(made)
    write(made, "n1", at(1, "command_submitted", kind="add_members", bytes=9), end="")
    assert texts(stream) == []
    with made.log_file("n1").open("a") as log:
        log.write("\nparleyd: no JSON\n[1]\n\n")
    assert texts(stream) == ["n1  command add_members: 9 bytes"]


def test_more_than_is_shown_is_left_out_and_told(tmp_path: Path) -> None:
    made = layout(tmp_path)
    stream = EventStream(made)
    line = at(1, "command_submitted", kind="send_messages", bytes=120, messages=1)
    count = 2 * cluster_events.MAX_READ_BYTES // len(json.dumps(line))
    write(made, "n1", *[line] * count)
    shown = texts(stream)
    assert 0 < len(shown) < count
    assert shown[0] == "n1  (older events are left out: there are too many)"
    assert texts(stream) == []
