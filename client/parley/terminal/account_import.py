"""`parley cluster import-accounts`: a file of accounts, line by line, in requests of bounded size.

The command keeps one request in memory. It keeps no place in the file: a repeat finds the accounts that exist.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from parley import (
    MAX_IMPORTED_ACCOUNTS,
    BadInputError,
    ImportStatus,
    JsonError,
    NewAccount,
    ParleyError,
    parse_json,
)
from parley.chat import safe_name
from parley.terminal import text
from parley.terminal.commands import note, say
from parley.terminal.exits import ExitCode
from parley.terminal.options import ConnectionOptions

MAX_LINE_BYTES = 2048
REQUEST_BYTES = 48 * 1024
"""Of lines. Their accounts take less than that in a request, which has 64 KiB at most."""
MAX_REPORTED = 100
PROGRESS_EVERY = 10_000

_FIELDS = ("name", "display_name", "password_hash")


@dataclass(frozen=True, slots=True)
class Line:
    """A line of the file: its account, or the fault that it has."""

    number: int
    size: int
    account: NewAccount | None = None
    fault: str = ""


@dataclass(slots=True)
class Report:
    """What became of the lines. It counts all faults, and prints the first MAX_REPORTED."""

    file: Path
    counts: Counter[ImportStatus] = field(default_factory=Counter)
    unreadable: int = 0
    up_to_line: int = 0
    _reported: int = 0

    def add_fault(self, line: Line) -> None:
        """Count a line that holds no account."""
        self.unreadable += 1
        self._print(line, line.fault)

    def add(self, line: Line, status: ImportStatus, detail: str) -> None:
        """Count an account."""
        self.counts[status] += 1
        if status not in (ImportStatus.CREATED, ImportStatus.EXISTS):
            name = "" if line.account is None else safe_name(line.account.name)
            self._print(line, f"{name}: {detail}")

    @property
    def refused(self) -> int:
        """Return the number of accounts that the cluster did not make."""
        return self.counts[ImportStatus.REFUSED] + self.counts[ImportStatus.UNKNOWN]

    @property
    def code(self) -> ExitCode:
        """Return the exit code."""
        if self.unreadable:
            return ExitCode.USAGE
        return ExitCode.REFUSED if self.refused else ExitCode.OK

    def as_text(self) -> str:
        """Return the counts as a sentence."""
        created, exists = self.counts[ImportStatus.CREATED], self.counts[ImportStatus.EXISTS]
        found = f"{created} accounts were created, {exists} exist already and were not changed"
        if self.refused:
            found += f", {self.refused} were refused"
        if self.unreadable:
            found += f", {self.unreadable} lines hold no account"
        return found + "."

    def as_record(self) -> dict[str, int]:
        """Return the counts for programs."""
        return {
            "created": self.counts[ImportStatus.CREATED],
            "exists": self.counts[ImportStatus.EXISTS],
            "refused": self.refused,
            "unreadable": self.unreadable,
        }

    def _print(self, line: Line, fault: str) -> None:
        self._reported += 1
        if self._reported <= MAX_REPORTED:
            note(f"{self.file}:{line.number}: {fault}")
        elif self._reported == MAX_REPORTED + 1:
            note("Further lines with faults are counted only.")


async def import_file(options: ConnectionOptions, file: Path, *, as_json: bool) -> int:
    """Import a file. Return the exit code."""
    options.must_name_account()
    report = Report(file)
    try:
        with file.open("rb") as source:
            await _import(options, source, report)
    except OSError as error:
        raise BadInputError(
            f"{file} cannot be read: {error.strerror}. {report.as_text()} Repeat the command with a file that can be "
            "read. Repeating it is safe."
        ) from None
    if as_json:
        say(text.as_json(report.as_record()))
    else:
        note(report.as_text())
    return report.code


async def _import(options: ConnectionOptions, source: BinaryIO, report: Report) -> None:
    async with options.client() as client:
        administration = await client.administration()
        for lines in requests(read_lines(source)):
            accounts = [line.account for line in lines if line.account is not None]
            try:
                results = iter(await administration.import_accounts(accounts))
            except ParleyError:
                if report.up_to_line:
                    note(f"Up to line {report.up_to_line}: {report.as_text()}")
                note("The rest of the file was not imported. Repeat the command. Repeating it is safe.")
                raise
            for line in lines:
                if line.account is None:
                    report.add_fault(line)
                else:
                    result = next(results)
                    report.add(line, result.status, result.detail)
            before, report.up_to_line = report.up_to_line, lines[-1].number
            if before // PROGRESS_EVERY < report.up_to_line // PROGRESS_EVERY:
                note(f"Up to line {report.up_to_line}: {report.as_text()}")


def requests(lines: Iterator[Line]) -> Iterator[list[Line]]:
    """Divide lines into parts that a request can carry."""
    part: list[Line] = []
    size = 0
    for line in lines:
        if part and (len(part) == MAX_IMPORTED_ACCOUNTS or size + line.size > REQUEST_BYTES):
            yield part
            part, size = [], 0
        part.append(line)
        size += line.size
    if part:
        yield part


def read_lines(source: BinaryIO) -> Iterator[Line]:
    """Read the lines of a file. Blank ones are left out. No line is held that is longer than MAX_LINE_BYTES."""
    number = 0
    while data := source.readline(MAX_LINE_BYTES + 1):
        number += 1
        if len(data) > MAX_LINE_BYTES and not data.endswith(b"\n"):
            while (rest := source.readline(MAX_LINE_BYTES)) and not rest.endswith(b"\n"):
                pass
            yield Line(number, 0, fault=f"The line is longer than {MAX_LINE_BYTES} bytes.")
        elif data.strip():
            yield _read_line(number, data)


def _read_line(number: int, data: bytes) -> Line:
    try:
        return Line(number, len(data), _account(parse_json(data)))
    except JsonError as error:
        return Line(number, len(data), fault=f"The line is no JSON object in UTF-8: {error}.")
    except BadInputError as error:
        return Line(number, len(data), fault=error.text)


def _account(written: object) -> NewAccount:
    """Return the account that a line describes. Errors do not show values: one may be a password."""
    if not isinstance(written, dict):
        raise BadInputError("The line is no JSON object.")
    unknown = [name for name in written if name not in _FIELDS]
    if unknown:
        raise BadInputError(f"The field {safe_name(unknown[0])!r} is unknown. The fields are {', '.join(_FIELDS)}.")
    for name in _FIELDS:
        value = written.get(name, "")
        if not isinstance(value, str) or not _is_unicode(value):
            raise BadInputError(f"The field {name} is no text.")
    if not written.get("name"):
        raise BadInputError("The field name is missing or empty.")
    return NewAccount(**written)


def _is_unicode(value: str) -> bool:
    """Return false for a text with half a character, which JSON can write and no request can hold."""
    return not any("\ud800" <= char <= "\udfff" for char in value)
