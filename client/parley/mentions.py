"""Where a text names accounts: `@` and the name of an account.

A mention is a matter of the client. The cluster does not read texts, and a message with a mention is like any other.

The rules. `@` begins a mention at the beginning of a text, or after a character that cannot be in front of it within a
word: `ann@example.org` names nobody, and nothing in a link does. The longest name after it counts that is the name of
an account. A name ends where its word ends, or before one of `.`, `_` and `-`. So `@ben.` names ben, unless there is an
account `ben.`, and `@benjamin` never names ben. Scripts that put no space between words, and the particles of Korean,
may touch a mention. Account names are ASCII and compared without regard to case.

The time is linear in the length of the text: what follows one `@` is read up to the next one, and each of its
characters ends at most one candidate.
"""

import re
import unicodedata
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from parley.links import links

MAX_MENTIONS = 256
"""How many mentions of one text are found. Those after them are text."""

_NAME = re.compile(r"@([A-Za-z0-9][A-Za-z0-9._-]{0,63})")
_WITHIN_NAMES = "._-"
_NO_SPACES = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af"
    "\uf900-\ufaff\U00020000-\U0003ffff]"
)
"""Thai, Lao, Burmese, Khmer, kana, Chinese characters and hangul."""
_LATIN = re.compile("[A-Za-z0-9\u00aa\u00ba\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u024f\u0300-\u036f\u1e00-\u1eff]")
"""Characters that continue a Latin word, so a name before them is not whole."""


@dataclass(frozen=True, slots=True)
class Mention:
    """The place where a text names an account, from its `@` at `start` up to `end`.

    `name` is the name as it is written there. `me` is true for the own account.
    """

    start: int
    end: int
    name: str
    me: bool = False


def mentions(body: str, is_name: Callable[[str], bool], *, own_name: str = "") -> tuple[Mention, ...]:
    """Return where a text names accounts, in order, at most MAX_MENTIONS.

    `is_name` says whether a candidate is the name of an account, whatever its case. `own_name` is the own account.
    """
    if "@" not in body:
        return ()
    own_name = own_name.casefold()
    addresses = deque((link.start, link.end) for link in links(body)) if "://" in body else deque()
    found: list[Mention] = []
    for match in _NAME.finditer(body):
        start = match.start()
        while addresses and addresses[0][1] <= start:
            addresses.popleft()
        if (addresses and addresses[0][0] <= start) or (start and _is_within_word(body[start - 1])):
            continue
        name = _longest(match[1], body[match.end() : match.end() + 1], is_name)
        if name:
            found.append(Mention(start, start + 1 + len(name), name, name.casefold() == own_name))
            if len(found) == MAX_MENTIONS:
                break
    return tuple(found)


def names_account(body: str, name: str, is_name: Callable[[str], bool]) -> bool:
    """Return whether a text names the account `name`. `is_name` is asked about longer names only where it may."""
    if "@" not in body or not name or f"@{name.casefold()}" not in body.casefold():
        return False
    own = name.casefold()
    found = mentions(body, lambda candidate: candidate.casefold() == own or is_name(candidate), own_name=name)
    return any(one.me for one in found)


def can_begin(before: str) -> bool:
    """Return whether an `@` after this text begins a mention, for the completion of names."""
    found = mentions(f"{before}@x", lambda name: name == "x")  # x stands for a name
    return bool(found) and found[-1].start == len(before)


def _is_within_word(char: str) -> bool:
    """Return whether an `@` after this character is in the middle of a word or an address."""
    if _NO_SPACES.match(char):
        return False
    return char.isalnum() or char in _WITHIN_NAMES or unicodedata.category(char).startswith("M")


def _longest(run: str, following: str, is_name: Callable[[str], bool]) -> str:
    """Return the longest beginning of `run` that is a name and ends where a name can end, or an empty text."""
    if following == "@":
        return ""  # an address
    ends = [end for end in range(len(run) - 1, 0, -1) if run[end] in _WITHIN_NAMES]
    if not _LATIN.match(following):
        ends.insert(0, len(run))
    return next((run[:end] for end in ends if is_name(run[:end])), "")
