"""Makes text of other people safe to show. Every front end shows names, titles and bodies through this module.

Two kinds of characters become the replacement character. Control characters could send commands to a terminal.
Characters that change the direction of writing could make one name look like another. Tag characters, which no font
shows, could hide a text in another one. They stay only in the emoji of a flag.
"""

import re

# C0 without newline and tab, DEL, C1, the embeddings, overrides and isolates of the bidirectional algorithm, and tags.
_IN_BODIES = "[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\U000e0000-\U000e007f]"
# In a name also newlines, tabs, invisible characters and direction marks, which ordinary bodies may contain.
_IN_NAMES = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\U000e0000-\U000e007f]")

_FLAG_OR_UNSAFE = re.compile(
    f"(?P<flag>\U0001f3f4[\U000e0030-\U000e0039\U000e0061-\U000e007a]{{3,6}}\U000e007f)|{_IN_BODIES}"
)


def safe_body(text: str) -> str:
    """Return a message body without unsafe characters. Newlines and tabs stay."""
    return _FLAG_OR_UNSAFE.sub(_flag_or_replacement, text.replace("\r\n", "\n"))


def _flag_or_replacement(found: re.Match[str]) -> str:
    return found["flag"] or "\N{REPLACEMENT CHARACTER}"


def safe_name(text: str) -> str:
    """Return a name or a title in one line, without unsafe characters."""
    return _IN_NAMES.sub("\N{REPLACEMENT CHARACTER}", text).strip()
