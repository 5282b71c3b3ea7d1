"""The text filter of a client: where it is, what happens when it fails, and the change that the included one makes."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

DEFAULT_TIMEOUT_MS = 300
MAX_TIMEOUT_MS = 10_000

_BLANKS = re.compile(r"[^\S\n]+")
_EMPTY_LINES = re.compile(r"\n{3,}")


class WhenFilterFails(StrEnum):
    """What a client does with a text when the filter gives no usable answer in time."""

    SEND = "send"
    REFUSE = "refuse"


@dataclass(frozen=True, slots=True)
class TextFilter:
    """A service that changes outgoing texts before they enter the outbox.

    `address` is host:port. Without `ca`, an address of this machine is called without TLS, and any other one with the
    certificate authorities of the system. `timeout_ms` counts for all texts of one send in sum. `on_unfiltered` is
    called with a sentence for the person when texts begin to be sent as they are.
    """

    address: str
    when_fails: WhenFilterFails = WhenFilterFails.REFUSE
    timeout_ms: int = DEFAULT_TIMEOUT_MS
    ca: Path | None = None
    on_unfiltered: Callable[[str], None] | None = None


def squeeze_blanks(text: str) -> str:
    """Return the text with one blank for each run of blanks, and none at the ends of lines. One empty line may stay."""
    lines = (_BLANKS.sub(" ", line).strip() for line in text.splitlines())
    return _EMPTY_LINES.sub("\n\n", "\n".join(lines)).strip()
