"""Which short texts (titles, names for people) the state takes.

The ranges are written out: what Python's own `isprintable` says differs between Unicode versions, so between nodes.
"""

from __future__ import annotations

import re
from typing import Final

# Control characters, line and paragraph separators, invisible ones and those that turn the direction of the text
# around. Joiners (U+200C, U+200D) are taken: Persian and many emoji need them.
_NOT_SHOWN: Final = re.compile(
    "[\x00-\x1f\x7f-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]"
)


def is_shown_as_written(text: str) -> bool:
    """Whether the text has no character that is invisible or changes how the others are shown."""
    return _NOT_SHOWN.search(text) is None
