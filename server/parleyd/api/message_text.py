"""The text of a message as it is stored: one form for what looks the same, without what nobody sees.

A node does this before the text enters the log. Apply could not: the Unicode tables of two Python releases differ.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from typing import Final

from parley_proto.v1 import model_pb2
from parleyd.machine.features.sends import digest_of

_CONTROL: Final = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def normal_text(body: str) -> str:
    """Return the text in NFC, without control characters and without blanks at both ends. Tabs and new lines stay.

    A line ends with a line feed alone. A text that shows nothing becomes empty.
    """
    if body.isascii() and body.isprintable():
        return body.strip(" ")
    text = _CONTROL.sub("", body.replace("\r\n", "\n").replace("\r", "\n"))
    return unicodedata.normalize("NFC", text).strip()


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
