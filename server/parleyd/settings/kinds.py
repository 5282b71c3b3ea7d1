"""The kinds of values a setting can have: how each is read from text, read from TOML, and written back as TOML.

A flag and an environment variable give text. A file gives typed values. Both pass the same check at the end and accept
the same values.
"""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from parleyd.addresses import AddressError, parse_address
from parleyd.security.names import InvalidInputError, validate_node_name

_WORDS_FOR_TRUE = frozenset({"true", "yes", "on", "1"})
_WORDS_FOR_FALSE = frozenset({"false", "no", "off", "0"})


class BadValueError(ValueError):
    """A value that is not what its setting allows; the text completes 'it ...'."""


class Kind(Protocol):
    """How values of one kind are read and written."""

    @property
    def allowed(self) -> str:
        """Return what is allowed, for people: completes 'give ...'."""

    def from_text(self, text: str) -> object:
        """Read a flag or an environment variable; raise `BadValueError`."""

    def from_toml(self, value: object) -> object:
        """Read a value from a file; raise `BadValueError`."""

    def to_toml(self, value: object) -> str:
        """Write a value so that `from_toml` reads it back."""


def quote(text: str) -> str:
    """Write a TOML basic string; JSON's escapes are TOML's, except DEL, which TOML escapes too."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


@dataclass(frozen=True, slots=True)
class Text:
    """Text that `check` may refuse with a ValueError, and returns in its normal form."""

    @property
    def allowed(self) -> str:
        return "text"

    def from_text(self, text: str) -> object:
        return self._read(text)

    def from_toml(self, value: object) -> object:
        if not isinstance(value, str):
            raise BadValueError("is not text; put it in quotes")
        return self._read(value)

    def to_toml(self, value: object) -> str:
        return quote(str(value))

    def _read(self, text: str) -> object:
        return text


@dataclass(frozen=True, slots=True)
class NodeName(Text):
    """The name of a node."""

    @property
    def allowed(self) -> str:
        return "1 to 32 lower-case letters, digits and '-', starting with a letter, for example n1"

    def _read(self, text: str) -> object:
        try:
            return validate_node_name(text)
        except InvalidInputError:
            raise BadValueError("is not the name of a node") from None


@dataclass(frozen=True, slots=True)
class HostPort(Text):
    """An address."""

    @property
    def allowed(self) -> str:
        return "host:port, for example 10.0.0.1:7600, [::1]:7600 or ward-a:7600"

    def _read(self, text: str) -> object:
        try:
            return str(parse_address(text))
        except AddressError as error:
            raise BadValueError(f"is not an address: {error}") from None


@dataclass(frozen=True, slots=True)
class OptionalHostPort(HostPort):
    """An address, or nothing."""

    @property
    def allowed(self) -> str:
        return "host:port, for example 127.0.0.1:7800, or nothing"

    def _read(self, text: str) -> object:
        return HostPort._read(self, text) if text else ""


@dataclass(frozen=True, slots=True)
class IpAddresses(Text):
    """IP addresses, joined by commas."""

    @property
    def allowed(self) -> str:
        return "IP addresses joined by commas, for example 10.0.0.5, fd00::5"

    def to_toml(self, value: object) -> str:
        if not isinstance(value, tuple):
            raise TypeError(f"addresses are a tuple, not {type(value).__name__}")
        return quote(", ".join(value))

    def _read(self, text: str) -> object:
        addresses = []
        for part in filter(None, (part.strip() for part in text.split(","))):
            try:
                addresses.append(str(ipaddress.ip_address(part)))
            except ValueError:
                raise BadValueError(f"has {part!r}, which is not an IP address") from None
        return tuple(addresses)


@dataclass(frozen=True, slots=True)
class FilePath(Text):
    """A file or folder; in a settings file relative to that file, otherwise to the current folder."""

    @property
    def allowed(self) -> str:
        return "the path of a file or folder"

    def _read(self, text: str) -> object:
        if not text or "\0" in text:
            raise BadValueError("is not a path")
        try:
            return Path(text).expanduser()
        except RuntimeError:
            raise BadValueError("names the home of a user that this machine does not have") from None


@dataclass(frozen=True, slots=True)
class Choice(Text):
    """One of a few words."""

    words: tuple[str, ...]

    @property
    def allowed(self) -> str:
        return "one of " + ", ".join(self.words)

    def _read(self, text: str) -> object:
        if text.lower() not in self.words:
            raise BadValueError("is none of the words allowed here")
        return text.lower()


@dataclass(frozen=True, slots=True)
class Integer:
    """A whole number within bounds, both included."""

    least: int
    most: int

    @property
    def allowed(self) -> str:
        return f"a whole number from {self.least} to {self.most}"

    def from_text(self, text: str) -> object:
        # int() would also accept "1_000", " 5 " and endless digits.
        digits = text.removeprefix("-")
        if not (digits.isascii() and digits.isdigit() and len(digits) <= 18):
            raise BadValueError("is not a whole number")
        return self._bounded(int(text))

    def from_toml(self, value: object) -> object:
        if not isinstance(value, int) or isinstance(value, bool):
            raise BadValueError("is not a whole number; write it without quotes and without a decimal point")
        return self._bounded(value)

    def to_toml(self, value: object) -> str:
        return str(value)

    def _bounded(self, value: int) -> int:
        if value < self.least:
            raise BadValueError("is too small")
        if value > self.most:
            raise BadValueError("is too large")
        return value


@dataclass(frozen=True, slots=True)
class BoolSetting:
    """On or off."""

    @property
    def allowed(self) -> str:
        return "true or false"

    def from_text(self, text: str) -> object:
        word = text.lower()
        if word in _WORDS_FOR_TRUE:
            return True
        if word in _WORDS_FOR_FALSE:
            return False
        raise BadValueError("is neither true nor false")

    def from_toml(self, value: object) -> object:
        if not isinstance(value, bool):
            raise BadValueError("is neither true nor false; write it without quotes")
        return value

    def to_toml(self, value: object) -> str:
        return "true" if value else "false"


@dataclass(frozen=True, slots=True)
class AddressMap:
    """Names of nodes with the address of each: `n1=host:port` per flag, joined by commas in one variable."""

    table: str = "peers"  # in a settings file

    @property
    def allowed(self) -> str:
        return (
            f"name=host:port for each node, for example n1=10.0.0.1:7700 (in a file: a table [{self.table}] of "
            'n1 = "...")'
        )

    def from_text(self, text: str) -> object:
        return self.from_texts([part for part in text.split(",") if part.strip()])

    def from_texts(self, texts: Sequence[str]) -> object:
        """Read the values of a repeated flag."""
        pairs = []
        for text in texts:
            name, equals, address = text.strip().partition("=")
            if not equals:
                raise BadValueError(f"has {text.strip()!r}, which is not name=host:port")
            pairs.append((name, address))
        return self._read(pairs)

    def from_toml(self, value: object) -> object:
        if not isinstance(value, dict):
            raise BadValueError(f'is not a table; write [{self.table}] and below it n1 = "host:port"')
        pairs = []
        for name, address in value.items():
            if not isinstance(address, str):
                raise BadValueError(f"has for {name!r} something that is not text; put the address in quotes")
            pairs.append((name, address))
        return self._read(pairs)

    def to_toml(self, value: object) -> str:
        if not isinstance(value, Mapping):
            raise TypeError(f"members are a mapping, not {type(value).__name__}")
        return "{ " + ", ".join(f"{name} = {quote(str(address))}" for name, address in value.items()) + " }"

    def _read(self, pairs: Sequence[tuple[str, str]]) -> dict[str, str]:
        members: dict[str, str] = {}
        for name, address in pairs:
            try:
                validate_node_name(name)
                spelled = str(parse_address(address))
            except InvalidInputError:
                raise BadValueError(f"has {name!r}, which is not the name of a node") from None
            except AddressError as error:
                raise BadValueError(f"has for {name} an address that is none: {error}") from None
            if name in members:
                raise BadValueError(f"names {name} twice")
            members[name] = spelled
        return members
