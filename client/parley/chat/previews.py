"""One-line previews of messages, the links in a text, and texts of emoji only."""

import re
from dataclasses import dataclass

from parley.chat.safe_text import safe_body

PREVIEW_LENGTH = 160
_URGENT = "Urgent: "

_LINK = re.compile(r"https?://[^\s<>\"'\x00-\x20]+", re.IGNORECASE)
_LINK_TAIL = ".,;:!?'\""
_BRACKETS = {")": "(", "]": "[", "}": "{"}
_PICTOGRAPH = "\U0001f000-\U0001faff\u2600-\u27bf\u2b00-\u2bff\u2300-\u23ff"
_ONLY_EMOJI = re.compile(rf"(?:[{_PICTOGRAPH}](?:[\ufe0f\U0001f3fb-\U0001f3ff]|\u200d[{_PICTOGRAPH}])*\s?){{1,3}}")


def marked(body: str, *, urgent: bool) -> str:
    """Return a text with the word that stands before an urgent one."""
    return _URGENT + body if urgent else body


def preview(body: str, length: int = PREVIEW_LENGTH) -> str:
    """Return a message in one line of at most `length` characters. A mark shows that the text was shortened."""
    line = " ".join(safe_body(body[: 4 * length]).split())
    return line if len(line) <= length else line[: length - 1] + "…"


@dataclass(frozen=True, slots=True)
class Link:
    """A link in a text, from `start` up to `end`."""

    start: int
    end: int
    url: str


def links(body: str) -> tuple[Link, ...]:
    """Return the web addresses in a text.

    Only http and https count. Punctuation at the end of a sentence, and a bracket that the address does not open, are
    left out.
    """
    found = []
    for match in _LINK.finditer(body):
        url = _without_tail(match.group())
        if len(url) > len("https://"):
            found.append(Link(match.start(), match.start() + len(url), url))
    return tuple(found)


def _without_tail(url: str) -> str:
    """Return an address without what belongs to the sentence around it. It is read once, from its end."""
    counts = {bracket: url.count(bracket) for pair in _BRACKETS.items() for bracket in pair}
    end = len(url)
    while end:
        last = url[end - 1]
        if last in _BRACKETS and counts[last] > counts[_BRACKETS[last]]:
            counts[last] -= 1
        elif last not in _LINK_TAIL:
            break
        end -= 1
    return url[:end]


def is_big_emoji(body: str) -> bool:
    """Return true for a text of one to three emoji and nothing else."""
    return len(body) <= 32 and _ONLY_EMOJI.fullmatch(body) is not None
