"""Texts: short ones (titles, display names) that the state accepts, and what shows nothing.

The ranges are listed here, because Python's `isprintable` differs between Unicode versions, and so between nodes.
"""

from __future__ import annotations

import re
from typing import Final

# Control characters, line and paragraph separators, invisible characters and those that change the direction of the
# text. Joiners (U+200C, U+200D) are accepted, because Persian and many emoji need them.
_NOT_SHOWN: Final = "\x00-\x1f\x7f-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
# Spaces and characters that are as empty as spaces: fillers, joiners and selectors, which show nothing by themselves.
_BLANK: Final = (
    " \xa0\u034f\u115f\u1160\u1680\u17b4\u17b5\u180b-\u180d\u2000-\u200a\u200c\u200d\u202f\u205f\u2800\u3000\u3164"
    "\ufe00-\ufe0f\uffa0\U000e0000-\U000e0fff"
)
_HAS_NOT_SHOWN: Final = re.compile(f"[{_NOT_SHOWN}]")
_ALL_UNSEEN: Final = re.compile(f"[{_NOT_SHOWN}{_BLANK}]*")
BLANK_TEXTS_LEVEL: Final = 3  # refuses texts that show nothing


def is_shown_as_written(text: str) -> bool:
    """Return whether the text has no character that is invisible or changes how the others are shown."""
    return _HAS_NOT_SHOWN.search(text) is None


def shows_nothing(text: str) -> bool:
    """Return whether a person sees nothing of the text, whatever it has."""
    return _ALL_UNSEEN.fullmatch(text) is not None


def is_short_text(text: str, max_chars: int, level: int) -> bool:
    """Return whether a short text is accepted at a level. Empty is for none."""
    if len(text) > max_chars or not is_shown_as_written(text):
        return False
    return not (text and level >= BLANK_TEXTS_LEVEL and shows_nothing(text))
