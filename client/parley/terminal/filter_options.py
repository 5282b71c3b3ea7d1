"""Resolves the text filter from flags, the environment and the settings file, in this order."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from parley import BadInputError, TextFilter, WhenFilterFails

KEYS = ("filter", "filter_fails", "filter_ms", "filter_ca")
NO_FILTER = "none"


@dataclass(frozen=True, slots=True)
class FilterFlags:
    """What one source says of the filter. None and empty mean that it says nothing."""

    address: str = ""
    when_fails: str = ""
    timeout_ms: int | None = None
    ca: Path | None = None

    def over(self, outer: "FilterFlags") -> "FilterFlags":
        """Return these values, and those of `outer` where there is none."""
        return FilterFlags(
            self.address or outer.address,
            self.when_fails or outer.when_fails,
            self.timeout_ms if self.timeout_ms is not None else outer.timeout_ms,
            self.ca or outer.ca,
        )

    def resolve(self) -> TextFilter | None:
        """Return the filter, or None. Raise BadInputError for a wrong value or one that has no filter."""
        if self.address == NO_FILTER:
            return None
        if not self.address:
            if self != NOTHING_SAID:
                raise BadInputError(
                    "A setting of the text filter is given, but no filter. Nothing was sent. Give its address: "
                    "--filter HOST:PORT."
                )
            return None
        try:
            when_fails = WhenFilterFails(self.when_fails or WhenFilterFails.REFUSE)
        except ValueError:
            raise BadInputError(
                f"{self.when_fails!r} is not what to do when the text filter fails. Write send or refuse."
            ) from None
        made = TextFilter(self.address, when_fails, ca=self.ca, on_unfiltered=_tell)
        if self.timeout_ms is None:
            return made
        return TextFilter(self.address, when_fails, self.timeout_ms, self.ca, _tell)


NOTHING_SAID = FilterFlags()


def filter_of_environment(environment: Mapping[str, str], ca: Path | None) -> FilterFlags:
    """Return what PARLEY_FILTER and its companions say. `ca` is that of PARLEY_FILTER_CA."""
    milliseconds = environment.get("PARLEY_FILTER_MS", "")
    if milliseconds and not (milliseconds.isascii() and milliseconds.isdecimal()):
        raise BadInputError(f"PARLEY_FILTER_MS is {milliseconds!r}. Write a number of milliseconds.")
    return FilterFlags(
        environment.get("PARLEY_FILTER", ""),
        environment.get("PARLEY_FILTER_FAILS", ""),
        int(milliseconds) if milliseconds else None,
        ca,
    )


def filter_of_file(document: Mapping[str, object], path: Path, ca: Path | None) -> FilterFlags:
    """Return what the settings file says. `ca` is that of its `filter_ca`."""
    words = {}
    for key in ("filter", "filter_fails"):
        value = document.get(key, "")
        if not isinstance(value, str):
            raise BadInputError(f"{key} in {path} must be a string.")
        words[key] = value
    milliseconds = document.get("filter_ms")
    if milliseconds is not None and (not isinstance(milliseconds, int) or isinstance(milliseconds, bool)):
        raise BadInputError(f"filter_ms in {path} must be a whole number.")
    return FilterFlags(words["filter"], words["filter_fails"], milliseconds, ca)


def _tell(sentence: str) -> None:
    sys.stderr.write(sentence + "\n")
