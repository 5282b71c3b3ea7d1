"""Splits what a connection sends into lines, and makes text of them. Pure.

A line ends with a line feed. A part without one that stands at the end of a connection is not a line: it may be the
beginning of another text. Memory is bounded: of a line that is too long, nothing is kept but that it was too long.
"""

import re
from dataclasses import dataclass

# Telnet's own commands (RFC 854): an option with its number, a negotiation up to its end, or a single command.
_TELNET = re.compile(rb"\xff(?:[\xfb-\xfe].?|\xfa.*?(?:\xff\xf0|$)|.?)", re.DOTALL)
# C0, DEL, C1, the embeddings, overrides and isolates of the bidirectional algorithm, line separators, and tags.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\U000e0000-\U000e007f]")


@dataclass(frozen=True, slots=True)
class TooLong:
    """A line that was longer than the bound. Nothing of it was kept."""


class LineSplitter:
    """The beginning of the next line of one connection."""

    def __init__(self, max_bytes: int) -> None:
        """`max_bytes` bounds a line without its end."""
        self._max_bytes = max_bytes
        self._begun = bytearray()
        self._is_too_long = False

    @property
    def is_inside_a_line(self) -> bool:
        """Return true if a line has begun and not ended."""
        return bool(self._begun) or self._is_too_long

    def feed(self, data: bytes) -> list[bytes | TooLong]:
        """Return the lines that end in `data`, without their ends."""
        found: list[bytes | TooLong] = []
        *ended, begun = data.split(b"\n")
        for part in ended:
            self._add(part)
            found.append(TooLong() if self._is_too_long else bytes(self._begun))
            self._begun.clear()
            self._is_too_long = False
        self._add(begun)
        return found

    def _add(self, part: bytes) -> None:
        if self._is_too_long or len(self._begun) + len(part) > self._max_bytes:
            self._begun.clear()
            self._is_too_long = True
        else:
            self._begun += part


def text_of(line: bytes) -> str:
    """Return a line as text: without commands of telnet, control characters, and blanks at its ends.

    Bytes that are not UTF-8 become the replacement character. A tab becomes a blank. The nodes bring it to NFC.
    """
    text = _TELNET.sub(b"", line).decode("utf-8", "replace").replace("\t", " ")
    return _CONTROL.sub("", text).strip()
