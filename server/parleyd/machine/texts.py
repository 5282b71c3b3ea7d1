"""Short texts (titles, display names) that the state accepts.

The ranges are listed here, because Python's `isprintable` differs between Unicode versions, and so between nodes.
"""

from __future__ import annotations

import re
from typing import Final

# Control characters, line and paragraph separators, invisible characters and those that change the direction of the
# text. Joiners (U+200C, U+200D) are accepted, because Persian and many emoji need them.
_NOT_SHOWN: Final = re.compile(
    "[\x00-\x1f\x7f-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]"
)


def is_shown_as_written(text: str) -> bool:
    """Return whether the text has no character that is invisible or changes how the others are shown."""
    return _NOT_SHOWN.search(text) is None
