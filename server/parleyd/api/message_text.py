"""The text of a message as it is stored: one form for what looks the same, without what nobody sees.

A node does this before the text enters the log. Apply could not: the Unicode tables of two Python releases differ.
"""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Iterable
from typing import Final

from parley_proto.v1 import model_pb2
from parleyd.machine.features.sends import digest_of
from parleyd.machine.texts import shows_nothing

_CONTROL: Final = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]")


_WITH_MARKS: Final = range(0x20000)
"""The planes above have ideographs, private characters, tags and variation selectors: no combining marks."""
MAX_MARKS: Final = 30
"""Of more combining marks in a row the others are removed. No language needs so many (UAX #15, stream-safe text), and
the time of NFC grows with the square of their number: 64 KiB of them took a second, 1 MiB four minutes."""


@functools.cache
def _too_many_marks() -> re.Pattern[str]:
    marks = "".join(one for one in map(chr, _WITH_MARKS) if unicodedata.combining(one))
    return re.compile(f"([{marks}]{{{MAX_MARKS}}})[{marks}]+")


def normal_text(body: str) -> str:
    """Return the text in NFC, without control characters and without blanks at both ends. Tabs and new lines stay.

    A line ends with a line feed alone. A text that shows nothing becomes empty. The time is linear in the length.
    """
    if body.isascii() and body.isprintable():
        return body.strip(" ")
    text = _CONTROL.sub("", body.replace("\r\n", "\n").replace("\r", "\n"))
    if not text.isascii():
        bounded = _too_many_marks().sub(r"\1", text)
        # NFC makes two marks of some. So they are counted again.
        text = _too_many_marks().sub(r"\1", unicodedata.normalize("NFC", bounded))
    return "" if shows_nothing(text) else text.strip()


def normal_sends(sends: Iterable[model_pb2.Send]) -> list[model_pb2.Send]:
    """Return these sends with their texts as they are stored.

    A changed one has the digest of what the client sent. So a retry is known by what the client repeats, through every
    node and at every level.
    """
    return [_normal(send) for send in sends]


def _normal(send: model_pb2.Send) -> model_pb2.Send:
    body = normal_text(send.body)
    if body == send.body and not send.original_digest:
        return send
    changed = model_pb2.Send()
    changed.CopyFrom(send)
    changed.ClearField("original_digest")
    if body != send.body:
        changed.original_digest = digest_of(changed)
        changed.body = body
    return changed
