"""What the gateway writes, in two styles: plain for people, compact for programs. Pure: values in, lines out.

A line never holds a control character, whoever wrote the text. In the compact style each request gets lines of data and
then exactly one line that begins with OK or ERROR. A message is a block:

    MESSAGE n FROM name :
    the text, one or more lines
    END

A line of the text that is "END", or begins with a full stop, has one more full stop before it. So END ends a block.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from parley.chat import marked, safe_body, safe_name

EVERYONE_PLACE = "everyone"


@dataclass(frozen=True, slots=True)
class Shown:
    """A message to show. `place` is empty for one to this account alone, "everyone", or "#NUMBER TITLE".

    `at` is a time for people, which is shown in a list of old messages. An event of a channel has no sender.
    """

    sender: str
    place: str
    body: str
    at: str = ""
    urgent: bool = False


class Style(Protocol):
    """What a style can say."""

    @property
    def is_compact(self) -> bool: ...

    def done(self, short: str, sentence: str) -> list[str]:
        """Return the answer to a request that was carried out: for programs, and for people, where it may be empty."""

    def refused(self, code: str, text: str) -> list[str]:
        """Return the answer to a request that was not carried out."""

    def rows(self, rows: Sequence[str], remark: str) -> list[str]:
        """Return the answer to a question for a list. `remark` ends it."""

    def message(self, number: int, message: Shown) -> list[str]:
        """Return a message that came. `number` counts those of this session."""

    def history(self, messages: Sequence[Shown], remark: str) -> list[str]:
        """Return messages of before."""

    def notice(self, text: str) -> list[str]:
        """Return something that nobody asked for."""

    def not_sent(self, number: int, text: str) -> list[str]:
        """Return that the cluster refused a message that was accepted here before, under this number."""

    def secret(self, name: str, secret: str) -> list[str]:
        """Return the secret of a new account. It is not shown again."""


class Plain:
    """For people at telnet and nc."""

    is_compact = False

    def done(self, short: str, sentence: str) -> list[str]:
        return [safe_name(sentence)] if sentence else []

    def refused(self, code: str, text: str) -> list[str]:
        return [safe_name(text)]

    def rows(self, rows: Sequence[str], remark: str) -> list[str]:
        return [*map(safe_name, rows), *filter(None, [safe_name(remark)])]

    def message(self, number: int, message: Shown) -> list[str]:
        first, *more = safe_body(marked(message.body, urgent=message.urgent)).split("\n")
        at = f"{message.at} " if message.at else ""
        if not message.sender:
            return [f"* {at}{safe_name(message.place)}: {first}", *(f"    {line}" for line in more)]
        where = {"": " (to you)", EVERYONE_PLACE: ""}.get(message.place, f" ({safe_name(message.place)})")
        return [f"{at}{safe_name(message.sender)}{where}: {first}", *(f"    {line}" for line in more)]

    def history(self, messages: Sequence[Shown], remark: str) -> list[str]:
        lines = [line for message in messages for line in self.message(0, message)]
        return [*lines, *filter(None, [safe_name(remark)])]

    def notice(self, text: str) -> list[str]:
        return [f"* {safe_name(text)}"]

    def not_sent(self, number: int, text: str) -> list[str]:
        return [f"* Not sent: {safe_name(text)}"]

    def secret(self, name: str, secret: str) -> list[str]:
        return [f"Your secret is {secret} and is shown only now. The next time, say: LOGIN {safe_name(name)} {secret}"]


@dataclass(frozen=True, slots=True)
class Compact:
    """For programs. With `has_places`, the first line of a message says where it was written."""

    has_places: bool = False
    is_compact = True

    def done(self, short: str, sentence: str) -> list[str]:
        return [f"OK {safe_name(short)}".rstrip()]

    def refused(self, code: str, text: str) -> list[str]:
        return [f"ERROR {code} {safe_name(text)}"]

    def rows(self, rows: Sequence[str], remark: str) -> list[str]:
        end = f"OK {len(rows)}" if rows else f"OK 0 {safe_name(remark)}"
        return [*(f"ITEM {safe_name(row)}" for row in rows), end.rstrip()]

    def message(self, number: int, message: Shown) -> list[str]:
        if not message.sender:
            return self.notice(f"{message.place}: {message.body}")
        return self._block(f"MESSAGE {number}", message)

    def history(self, messages: Sequence[Shown], remark: str) -> list[str]:
        blocks = [line for message in messages for line in self._block("HISTORY", message)]
        return [*blocks, f"OK {len(messages)}"]

    def notice(self, text: str) -> list[str]:
        return [f"NOTICE {safe_name(text)}"]

    def not_sent(self, number: int, text: str) -> list[str]:
        return [f"REFUSED {number} {safe_name(text)}"]

    def secret(self, name: str, secret: str) -> list[str]:
        return [f"SECRET {secret}"]

    def _block(self, begin: str, message: Shown) -> list[str]:
        place = f" IN {safe_name(message.place) or 'private'}" if self.has_places else ""
        sender = safe_name(message.sender) or "*"
        lines = [f".{line}" if line == "END" or line.startswith(".") else line for line in _lines(message.body)]
        return [f"{begin} FROM {sender}{place} :", *lines, "END"]


def style_named(name: str) -> Style:
    """Return the style for a name of requests.STYLES."""
    return Plain() if name == "plain" else Compact(has_places=name == "compact places")


def bytes_of(lines: Sequence[str]) -> bytes:
    """Return lines as they are written to a connection."""
    return "".join(f"{line}\n" for line in lines).encode("utf-8", "replace")


def _lines(body: str) -> list[str]:
    return safe_body(body).split("\n")
