"""Makes text of other people safe to show. Every front end shows names, titles and bodies through this module.

Two kinds of characters become the replacement character. Control characters could send commands to a terminal.
Characters that change the direction of writing could make one name look like another.
"""

import re

# C0 without newline and tab, DEL, C1, and the embeddings, overrides and isolates of the bidirectional algorithm.
_IN_BODIES = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
# In a name also newlines, tabs, invisible characters and direction marks, which ordinary bodies may contain.
_IN_NAMES = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]")


def safe_body(text: str) -> str:
    """Return a message body without unsafe characters. Newlines and tabs stay."""
    return _IN_BODIES.sub("\N{REPLACEMENT CHARACTER}", text.replace("\r\n", "\n"))


def safe_name(text: str) -> str:
    """Return a name or a title in one line, without unsafe characters."""
    return _IN_NAMES.sub("\N{REPLACEMENT CHARACTER}", text).strip()
