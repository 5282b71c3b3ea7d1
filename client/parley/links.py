"""The web addresses in a text."""

import re
from dataclasses import dataclass

_UNSAFE = "\x00-\x20\x7f-\x9f\u2028-\u202e\u2066-\u2069\ufffd\U000e0000-\U000e007f"
"""Characters that a front end shows as U+FFFD, and that one. So a link ends at the same place before and after."""
_LINK = re.compile(rf"https?://[^\s<>\"'{_UNSAFE}]+", re.IGNORECASE)
_LINK_TAIL = ".,;:!?'\""
_BRACKETS = {")": "(", "]": "[", "}": "{"}


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
