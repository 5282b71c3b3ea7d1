"""Writes down every call that changes the disk below one folder: SQLite's through its VFS, ours through `os`.

Nothing is really fsynced: crashes are computed from the trace, and the real files are only there to go on with. The
lock file and SQLite's shared memory are left out, because a start never believes what they say.

A fault makes one call fail, once, before it did anything. SQLite draws its random numbers from here, so that one
workload gives one trace.
"""

from __future__ import annotations

import errno
import io
import itertools
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast
from unittest.mock import patch

import apsw

from parleyd.page_checksums import CHECKSUM_VFS, checksum_vfs
from tests.simulation.storage.disk import FOLDER, Call, Disk, Kind, parent_of, read_back

IGNORED = ("-shm", "lock")
_names = itertools.count()
_NEW_JOURNAL = apsw.SQLITE_OPEN_MAIN_JOURNAL | apsw.SQLITE_OPEN_WAL | apsw.SQLITE_OPEN_SUPER_JOURNAL


@dataclass(frozen=True, slots=True)
class Fault:
    """The call with this number fails once, with this error of the operating system."""

    number: int
    errno: int


class Recorder:
    """The calls below `root` so far, and the disk as they leave it."""

    def __init__(self, root: Path, disk: Disk | None = None, fault: Fault | None = None) -> None:
        self.root = root
        self.calls: list[Call] = []
        self.disk = disk or Disk()
        self.during = ""
        self.failed: Call | None = None
        self.listener: Callable[[], None] = lambda: None
        self._fault = fault
        self._visible = dict(self.disk.names)  # with every change so far, durable or not
        self._inodes = itertools.count(1_000)
        self._descriptors: dict[int, str] = {}

    def relative(self, path: str | os.PathLike[str]) -> str | None:
        """The path below the root, or None for what is not recorded."""
        text = os.path.abspath(os.fspath(path))
        root = str(self.root)
        if text.endswith(IGNORED) or not f"{text}/".startswith(f"{root}/"):
            return None
        return text[len(root) + 1 :]

    def inode_of(self, path: str) -> int:
        """The file that has this name now."""
        return self._visible[path]

    def exists(self, path: str) -> bool:
        """Whether something has this name now."""
        return path in self._visible

    def note(self, kind: Kind, path: str, **details: Any) -> None:
        """Write a call down before it is made; raises where it is to fail."""
        inode = details.pop("inode", self._visible.get(path, FOLDER))
        call = Call(len(self.calls), kind, path, self.during, inode, **details)
        if self._fault is not None and self._fault.number == call.number:
            error = self._fault.errno
            self.failed, self._fault = call, None
            raise OSError(error, os.strerror(error), path)
        self.calls.append(call)
        self.disk.carry_out(call)
        match kind:
            case Kind.CREATE | Kind.MKDIR:
                self._visible[path] = inode
            case Kind.UNLINK:
                del self._visible[path]
            case Kind.RENAME:
                self._visible[call.target] = self._visible.pop(path)
        self.listener()

    def create(self, path: str) -> None:
        """Note a new empty file, unless there is one."""
        if not self.exists(path):
            self.note(Kind.CREATE, path, inode=next(self._inodes))

    def check(self) -> None:
        """The files that are there must be those of the trace: otherwise a call went by unseen."""
        recorded, real = self.disk.image(self.disk.pending), read_back(self.root, IGNORED)
        if recorded != real:
            differ = sorted(p for p in {*recorded, *real} if recorded.get(p, b"-") != real.get(p, b"-"))
            raise AssertionError(f"the trace does not explain {differ}")

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Take over the default VFS and the functions of `os` that change files."""
        vfs = _RecordingVFS(self)
        tokens = (f"{number:016x}" for number in itertools.count(1))
        with ExitStack() as patches:
            patches.callback(apsw.randomness, 0)
            patches.callback(checksum_vfs)
            patches.callback(vfs.unregister)
            patches.callback(_unload_checksums)
            _unload_checksums()
            checksum_vfs()  # over the recording: what it records has its checksums
            for name, function in _os_functions(self).items():
                patches.enter_context(patch.object(os, name, function))
            patches.enter_context(patch.object(secrets, "token_hex", lambda _: next(tokens)))
            apsw.randomness(0)
            yield

    # ---- descriptors

    def opened(self, descriptor: int, path: str) -> None:
        """Remember whose descriptor this is."""
        self._descriptors[descriptor] = path

    def closed(self, descriptor: int) -> None:
        """Forget it."""
        self._descriptors.pop(descriptor, None)

    def path_of(self, descriptor: int) -> str | None:
        """The recorded path behind a descriptor."""
        return self._descriptors.get(descriptor)


class _RecordingVFS(apsw.VFS):
    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        super().__init__(f"recording-{next(_names)}", "unix", makedefault=True)

    def xOpen(self, name: Any, flags: list[int]) -> apsw.VFSFile:
        path = None if name is None else self._recorder.relative(_filename(name))
        if path is None:
            return apsw.VFSFile("unix", name, flags)
        if flags[0] & apsw.SQLITE_OPEN_CREATE:
            with _as_sqlite_error():
                self._recorder.create(path)
        return _RecordedFile(self._recorder, path, name, flags)

    def xDelete(self, filename: str, syncdir: bool) -> None:
        path = self._recorder.relative(filename)
        if path is not None and self._recorder.exists(path):
            with _as_sqlite_error():
                self._recorder.note(Kind.UNLINK, path)
                if syncdir:
                    self._recorder.note(Kind.SYNC_FOLDER, parent_of(path))
        super().xDelete(filename, False)

    def xRandomness(self, numbytes: int) -> bytes:
        return bytes(range(numbytes))


class _RecordedFile(apsw.VFSFile):
    def __init__(self, recorder: Recorder, path: str, name: Any, flags: list[int]) -> None:
        self._recorder = recorder
        self._path = path
        self._inode = recorder.inode_of(path) if recorder.exists(path) else FOLDER
        # SQLite's own unix VFS syncs the folder with the first sync of a journal or WAL that may be new.
        self._folder_due = bool(flags[0] & apsw.SQLITE_OPEN_CREATE and flags[0] & _NEW_JOURNAL)
        super().__init__("unix", name, flags)

    def xWrite(self, data: Any, offset: int) -> None:
        with _as_sqlite_error():
            self._recorder.note(Kind.WRITE, self._path, inode=self._inode, offset=offset, data=bytes(data))
        super().xWrite(data, offset)

    def xTruncate(self, newsize: int) -> None:
        with _as_sqlite_error():
            self._recorder.note(Kind.TRUNCATE, self._path, inode=self._inode, offset=newsize)
        super().xTruncate(newsize)

    def xSync(self, flags: int) -> None:
        with _as_sqlite_error():
            self._recorder.note(Kind.SYNC, self._path, inode=self._inode, syncs_folder=self._folder_due)
        self._folder_due = False


def _unload_checksums() -> None:
    """Let the checksum VFS be loaded again, over what is the default VFS then."""
    if CHECKSUM_VFS in apsw.vfs_names():
        apsw.unregister_vfs(CHECKSUM_VFS)


def _filename(name: Any) -> str:
    return name.filename() if isinstance(name, apsw.URIFilename) else str(name)


@contextmanager
def _as_sqlite_error() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        kind = apsw.FullError if error.errno == errno.ENOSPC else apsw.IOError
        raise kind(str(error)) from error


class _RecordedRaw(io.FileIO):
    """The unbuffered end of a file that Python writes."""

    def __init__(self, descriptor: int, recorder: Recorder, path: str) -> None:
        super().__init__(descriptor, "wb")
        self._recorder = recorder
        self._path = path
        self._inode = recorder.inode_of(path)

    def write(self, data: Any) -> int:
        self._recorder.note(Kind.WRITE, self._path, inode=self._inode, offset=self.tell(), data=bytes(data))
        return super().write(data)

    def close(self) -> None:
        if not self.closed:
            self._recorder.closed(self.fileno())
        super().close()


def _os_functions(recorder: Recorder) -> dict[str, Callable[..., Any]]:
    """Replacements for what server/parleyd/storage and server/parleyd/machine use of `os` to change files."""
    real_open, real_close, real_fsync, real_fdopen = os.open, os.close, os.fsync, os.fdopen
    real_replace, real_unlink, real_mkdir = os.replace, os.unlink, os.mkdir

    def open_(path: Any, flags: int, mode: int = 0o777, **more: Any) -> int:
        recorded = recorder.relative(path)
        if recorded is not None and flags & os.O_CREAT and not (flags & os.O_EXCL and recorder.exists(recorded)):
            if recorder.exists(recorded) and flags & os.O_TRUNC:
                recorder.note(Kind.TRUNCATE, recorded, offset=0)
            recorder.create(recorded)
        descriptor = real_open(path, flags, mode, **more)
        if recorded is not None:
            recorder.opened(descriptor, recorded)
        return descriptor

    def close(descriptor: int) -> None:
        recorder.closed(descriptor)
        real_close(descriptor)

    def fsync(descriptor: int) -> None:
        path = recorder.path_of(descriptor)
        if path is None:
            real_fsync(descriptor)
        else:
            kind = Kind.SYNC_FOLDER if recorder.inode_of(path) == FOLDER else Kind.SYNC
            recorder.note(kind, path)

    def fdopen(descriptor: int, mode: str = "r", buffering: int = -1, *more: Any, **named: Any) -> Any:
        path = recorder.path_of(descriptor)
        if path is None or mode != "wb":
            return real_fdopen(descriptor, mode, buffering, *more, **named)
        raw = _RecordedRaw(descriptor, recorder, path)
        return raw if buffering == 0 else io.BufferedWriter(cast(io.RawIOBase, raw))

    def replace(source: Any, target: Any) -> None:
        path, renamed = recorder.relative(source), recorder.relative(target)
        if path is not None and renamed is not None:
            recorder.note(Kind.RENAME, path, target=renamed)
        real_replace(source, target)

    def unlink(path: Any, **more: Any) -> None:
        recorded = recorder.relative(path)
        if recorded is not None and recorder.exists(recorded):
            recorder.note(Kind.UNLINK, recorded)
        real_unlink(path, **more)

    def mkdir(path: Any, mode: int = 0o777, **more: Any) -> None:
        recorded = recorder.relative(path)
        if recorded is not None and not recorder.exists(recorded) and recorder.exists(parent_of(recorded)):
            recorder.note(Kind.MKDIR, recorded)
        real_mkdir(path, mode, **more)

    return {
        "open": open_,
        "close": close,
        "fsync": fsync,
        "fdopen": fdopen,
        "replace": replace,
        "unlink": unlink,
        "mkdir": mkdir,
    }
