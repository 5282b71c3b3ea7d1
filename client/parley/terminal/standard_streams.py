"""The standard streams of `parley`: their failures have a name, and end the command in one place.

A closed descriptor is opened again such that every use fails with EBADF, as gnulib's `stdopen` does. So no socket and
no file takes its number. Bytes of the input that are no text become surrogates, which no message may hold. Characters
that the encoding of the output lacks are written as escapes. A failing standard error loses remarks and nothing else:
the exit code still tells how the command ended. `io` hands a memoryview to readinto() and write().
"""

import io
import os
import sys
from collections.abc import Callable
from typing import NoReturn, TextIO

from parley.terminal.exits import ExitCode, first_of

CANNOT_READ = "Standard input cannot be read: {reason}."
CANNOT_WRITE = "Standard output cannot be written: {reason}. What the command has done so far is not undone."


class StandardStreamError(Exception):
    """Standard input could not be read, or standard output not be written."""

    def __init__(self, text: str, *, reader_left: bool) -> None:
        """`reader_left` is true if the program at the other end of a pipe has ended."""
        super().__init__(text)
        self.reader_left = reader_left


class _Input(io.FileIO):
    """The bytes of standard input."""

    def readinto(self, buffer: memoryview, /) -> int:  # type: ignore[override]
        try:
            return super().readinto(buffer)
        except OSError as error:
            _fail(CANNOT_READ, error)

    def readall(self) -> bytes:
        try:
            return super().readall()
        except OSError as error:
            _fail(CANNOT_READ, error)


class _Output(io.FileIO):
    """The bytes of standard output."""

    def write(self, data: memoryview, /) -> int:  # type: ignore[override]
        try:
            return super().write(data)
        except OSError as error:
            _fail(CANNOT_WRITE, error)


class _Remarks(io.FileIO):
    """The bytes of standard error. What cannot be written is dropped."""

    def write(self, data: memoryview, /) -> int:  # type: ignore[override]
        try:
            return super().write(data)
        except OSError:
            return data.nbytes


def _fail(text: str, error: OSError) -> NoReturn:
    raise StandardStreamError(
        text.format(reason=error.strerror), reader_left=isinstance(error, BrokenPipeError)
    ) from error


def run_with_standard_streams(command: Callable[[], None]) -> None:
    """Run the command line, which ends with SystemExit, and write what is left of its output.

    If nobody reads the output any more, end quietly with OK. If a stream fails otherwise, say so and end with FAILED.
    """
    _prepare()
    try:
        try:
            command()
        finally:
            sys.stdout.flush()
    except (StandardStreamError, BaseExceptionGroup) as raised:
        error = first_of(StandardStreamError, raised)
        if error is None:
            raise
        _discard_output()
        if error.reader_left:
            sys.exit(ExitCode.OK)
        sys.stderr.write(f"parley: {error}\n")
        sys.exit(ExitCode.FAILED)


def _prepare() -> None:
    """Replace the three streams, in the order of their descriptors: the lowest free one is opened."""
    source = _Input(_descriptor(sys.stdin, os.O_WRONLY), "r", closefd=False)
    sys.stdin = io.TextIOWrapper(io.BufferedReader(source), _encoding(sys.stdin), errors="surrogateescape")
    sink = _Output(_descriptor(sys.stdout, os.O_RDONLY), "w", closefd=False)
    sys.stdout = _writer(sink, _encoding(sys.stdout), line_buffering=sink.isatty())
    remarks = _Remarks(_descriptor(sys.stderr, os.O_WRONLY), "w", closefd=False)
    sys.stderr = _writer(remarks, _encoding(sys.stderr), line_buffering=True)


def _descriptor(stream: TextIO | None, flags: int) -> int:
    """Return the descriptor of a stream, or one whose use fails if the stream was closed: Python then has None."""
    return os.open(os.devnull, flags) if stream is None else stream.fileno()


def _encoding(stream: TextIO | None) -> str:
    return "utf-8" if stream is None else stream.encoding


def _writer(raw: io.FileIO, encoding: str, *, line_buffering: bool) -> TextIO:
    return io.TextIOWrapper(io.BufferedWriter(raw), encoding, errors="backslashreplace", line_buffering=line_buffering)


def _discard_output() -> None:
    """Let the interpreter write what is left to nowhere when it ends."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, sys.stdout.fileno())
    os.close(null)
