"""One event, as the ring in memory and the journal on disk have it, and its form as bytes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

MAX_VALUE_CHARACTERS = 400
MAX_ITEMS = 16

Value = str | int | bool


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened on this node.

    `start` tells the starts of the process apart: its Unix time in milliseconds. `number` counts the events of a start
    from 1. So node, start and number name an event in a cluster. `at_ms` is Unix time by this node's clock, which may
    jump back.
    """

    start: int
    number: int
    at_ms: int
    kind: str
    fields: Mapping[str, Value] = field(default_factory=dict)


def kept_fields(names: Sequence[str], line: Mapping[str, object]) -> dict[str, Value]:
    """Return these fields of a line of the log, bounded; without those that it does not have."""
    return {name: bounded(line[name]) for name in names if line.get(name) is not None}


def bounded(value: object) -> Value:
    """Return a value that an event may have: a number, a switch, or a text of bounded length."""
    if isinstance(value, bool | int):
        return value
    if isinstance(value, Mapping):
        value = [f"{name} {one}" for name, one in [*value.items()][: MAX_ITEMS + 1]]
    if isinstance(value, list | tuple | set | frozenset):
        shown = [*map(str, value)]
        more = ["..."] if len(shown) > MAX_ITEMS else []
        value = ", ".join([*shown[:MAX_ITEMS], *more])
    text = str(value)
    return text if len(text) <= MAX_VALUE_CHARACTERS else text[: MAX_VALUE_CHARACTERS - 3] + "..."


def encode_content(kind: str, fields: Mapping[str, Value], max_bytes: int) -> bytes:
    """Return kind and fields as ASCII of at most `max_bytes`; the longest texts are cut until they fit."""
    shown = dict(fields)
    while len(content := json.dumps([kind, shown], separators=(",", ":")).encode()) > max_bytes:
        longest = max(shown, key=lambda name: len(str(shown[name])), default=None)
        if longest is None:
            return json.dumps([kind[: max_bytes // 8], {}], separators=(",", ":")).encode()
        text = str(shown[longest])
        if len(text) <= len("..."):
            del shown[longest]
        else:
            shown[longest] = text[: max(0, len(text) // 2 - 3)] + "..."
    return content


def decode_content(content: bytes) -> tuple[str, dict[str, Value]]:
    """Return kind and fields; raises ValueError for something else."""
    match json.loads(content):
        case [str(kind), dict(fields)] if all(isinstance(value, str | int) for value in fields.values()):
            return kind, fields
    raise ValueError("not an event")
