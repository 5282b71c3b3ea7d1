"""The reference's script format: a directive, input lines, `----`, expected output up to a blank line."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_ARGUMENT = re.compile(r"(?P<key>[^\s=]+)(?:=(?P<value>\([^)]*\)|\S*))?")


@dataclass(frozen=True, slots=True)
class Directive:
    """One directive: `words` are arguments without a value, `options` those with one (or several, in brackets)."""

    name: str
    words: tuple[str, ...]
    options: dict[str, tuple[str, ...]]
    lines: tuple[str, ...]
    output: tuple[str, ...]
    text: str

    def nodes(self) -> tuple[int, ...]:
        """The words that are node ids."""
        return tuple(int(word) for word in self.words)

    def ids(self, key: str) -> tuple[int, ...]:
        """The node ids of an option, none if it is not given."""
        return tuple(int(value) for value in self.options.get(key, ()))

    def flag(self, key: str) -> bool:
        """Whether an option says true."""
        return self.options.get(key) == ("true",)

    def number(self, key: str, default: int) -> int:
        """A numeric option."""
        return int(self.options[key][0]) if key in self.options else default


def read_script(path: Path) -> Iterator[Directive]:
    """The directives of a file, in order."""
    block: list[str] = []
    output: list[str] | None = None
    for line in [*path.read_text(encoding="utf-8").splitlines(), ""]:
        if output is not None:
            if line:
                output.append(line)
                continue
            yield _directive(block, output)
            block, output = [], None
        elif line == "----":
            output = []
        elif line.strip() and not line.startswith("#"):
            block.append(line)


def _directive(block: list[str], output: list[str]) -> Directive:
    name, *_ = block[0].split(maxsplit=1)
    words: list[str] = []
    options: dict[str, tuple[str, ...]] = {}
    for match in _ARGUMENT.finditer(block[0][len(name) :]):
        key, value = match["key"], match["value"]
        if value is None:
            words.append(key)
        else:
            options[key] = tuple(part.strip() for part in value.strip("()").split(",") if part.strip())
    return Directive(name, tuple(words), options, tuple(block[1:]), tuple(output), "\n".join(block))
