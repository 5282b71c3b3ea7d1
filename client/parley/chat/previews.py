"""One-line previews of messages, and texts of emoji only."""

import re

from parley.chat.safe_text import safe_body

PREVIEW_LENGTH = 160
_URGENT = "Urgent: "

_PICTOGRAPH = "\U0001f000-\U0001faff\u2600-\u27bf\u2b00-\u2bff\u2300-\u23ff"
_ONLY_EMOJI = re.compile(rf"(?:[{_PICTOGRAPH}](?:[\ufe0f\U0001f3fb-\U0001f3ff]|\u200d[{_PICTOGRAPH}])*\s?){{1,3}}")


def marked(body: str, *, urgent: bool) -> str:
    """Return a text with the word that stands before an urgent one."""
    return _URGENT + body if urgent else body


def preview(body: str, length: int = PREVIEW_LENGTH) -> str:
    """Return a message in one line of at most `length` characters. A mark shows that the text was shortened."""
    line = " ".join(safe_body(body[: 4 * length]).split())
    return line if len(line) <= length else line[: length - 1] + "…"


def is_big_emoji(body: str) -> bool:
    """Return true for a text of one to three emoji and nothing else."""
    return len(body) <= 32 and _ONLY_EMOJI.fullmatch(body) is not None
