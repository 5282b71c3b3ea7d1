"""A checksum on every page of state.sqlite: SQLite's checksum VFS, as a layer over the default file system.

The VFS writes a checksum into the last 8 bytes of each page that goes into the database file, and compares it at each
read. A mismatch is an error of the statement that read the page, never a wrong value. apsw brings the VFS as an
extension of SQLite; it is loaded once per process and named explicitly, so other databases are not affected.
A page costs about 0.6 microseconds when it is read from the file or written to it, and nothing while it is cached.

Limits. A page in the write-ahead log has the log's own checksum, which SQLite compares when it opens the log. A page
full of zeros, a page of another place and a page of an earlier time have a correct checksum.

https://sqlite.org/cksumvfs.html
"""

from __future__ import annotations

import threading
from pathlib import Path

import apsw
import apsw.sqlite_extra

CHECKSUM_VFS = "cksmvfs"
CHECKSUM_BYTES = 8
_EXTENSION = "cksumvfs"
_loading = threading.Lock()


class ChecksumsUnavailableError(Exception):
    """This installation of apsw has no checksum VFS."""


def checksum_vfs() -> str:
    """Return the name of the checksum VFS, which is loaded over the default VFS at the first call."""
    with _loading:
        before = apsw.vfs_names()
        if CHECKSUM_VFS not in before:
            try:
                connection = apsw.Connection(":memory:")
                try:
                    apsw.sqlite_extra.load(connection, _EXTENSION)
                finally:
                    connection.close()
            except (LookupError, apsw.sqlite_extra.NotAvailable, apsw.ExtensionLoadingError) as error:
                raise ChecksumsUnavailableError(
                    f"SQLite's checksum VFS is missing from apsw {apsw.apsw_version()} ({error}). The data is "
                    "unchanged. Install apsw from its wheel, which contains the extension."
                ) from error
            apsw.set_default_vfs(before[0])  # the extension makes itself the default
    return CHECKSUM_VFS


def reserve_checksums(connection: apsw.Connection) -> None:
    """Make space for checksums in a database that is still empty, and begin to write them."""
    connection.reserve_bytes("main", CHECKSUM_BYTES)
    # The VFS computes checksums from the first page on that it sees written. That must be page 1.
    connection.pragma("user_version", 0)


def verifies_pages(connection: apsw.Connection) -> bool:
    """Return whether each page that this connection reads from the database file is compared with its checksum."""
    return connection.pragma("checksum_verification") in (1, "1")


def is_page_damage(error: BaseException) -> bool:
    """Return whether SQLite reports a page that does not match its checksum."""
    # An error raised by a VFS written in Python has no result code.
    return isinstance(error, apsw.IOError) and getattr(error, "extendedresult", 0) == apsw.SQLITE_IOERR_DATA


def page_damage_text(path: Path | str) -> str:
    """Return the text for a file with a damaged page."""
    return f"a page of {path} does not match its checksum: the disk altered it"
