"""The format and the release of the client's files. Older files are migrated when they are opened.

A migration and the new format number are one transaction. So a killed process leaves the old file or the new one. Only
this device reads its files, so the cluster need not agree. A file of a newer release is refused and left unchanged,
because it may hold waiting messages.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, cast

import apsw

from parley.device import mentioned
from parley.errors import StoreError

UNRELEASED_FORMAT = 1  # of Parley 0.1
FIRST_FORMAT = 2
NOTES_FORMAT = FIRST_FORMAT  # of hosts.json and last.json
_MARK = "CREATE TABLE format (version INTEGER NOT NULL, release TEXT NOT NULL)"
_told = logging.getLogger("parley.files")
EMPTY_TEXT = (
    "The file %s exists and holds nothing. It is used as a new one. If messages waited in it, they are lost on this "
    "device and were not sent. The cluster still has all accepted messages. Sign in again: parley login NAME."
)


@dataclass(frozen=True, slots=True)
class Migration:
    """One change of the tables. `version` is the format after it."""

    version: int
    change: Callable[[apsw.Connection], None]


def _add_known_index(connection: apsw.Connection) -> None:
    # What waits since before this format may be older than anything: 1 is the lowest index of all.
    connection.execute("ALTER TABLE outbox ADD COLUMN known_index INTEGER NOT NULL DEFAULT 1")


def _add_told(connection: apsw.Connection) -> None:
    # Of what was refused before this format, some was told and some not. Telling it once more does no harm.
    connection.execute("ALTER TABLE outbox ADD COLUMN told INTEGER NOT NULL DEFAULT 0")


def _add_channel_columns(connection: apsw.Connection) -> None:
    # Channels did not change before this format: none had a topic or was archived. The cluster reports what is set.
    connection.execute("ALTER TABLE conversations ADD COLUMN topic TEXT NOT NULL DEFAULT ''")
    for column in ("public", "archived", "open_history"):
        connection.execute(f"ALTER TABLE conversations ADD COLUMN {column} INTEGER NOT NULL DEFAULT 0")


def _add_receipt_counts(connection: apsw.Connection) -> None:
    # Before this format each member's marks were told, whatever the size of a channel. The cluster reports both anew.
    connection.execute("ALTER TABLE members ADD COLUMN first_message_id INTEGER NOT NULL DEFAULT 0")
    connection.execute("ALTER TABLE conversations ADD COLUMN counts TEXT NOT NULL DEFAULT ''")


def _add_urgent(connection: apsw.Connection) -> None:
    # No message was urgent before this format.
    for table in ("outbox", "inbox"):
        connection.execute(f"ALTER TABLE {table} ADD COLUMN urgent INTEGER NOT NULL DEFAULT 0")


def _add_muted(connection: apsw.Connection) -> None:
    # Nothing was muted before this format. The cluster reports what is.
    connection.execute("ALTER TABLE conversations ADD COLUMN muted INTEGER NOT NULL DEFAULT 0")


LOST = """CREATE TABLE lost (
        id INTEGER PRIMARY KEY AUTOINCREMENT, generation INTEGER NOT NULL, origin INTEGER NOT NULL,
        conversation TEXT NOT NULL, sender TEXT NOT NULL, body TEXT NOT NULL, sent_at_ms INTEGER NOT NULL,
        conversation_id INTEGER NOT NULL, after_id INTEGER NOT NULL,
        target_kind INTEGER NOT NULL, target TEXT NOT NULL, urgent INTEGER NOT NULL)"""
LOST_INDEXES = (
    "CREATE INDEX lost_conversation ON lost (conversation_id)",
    "CREATE INDEX lost_sent ON lost (id) WHERE origin = 1",  # counted after each change of the file
)


def _add_lost(connection: apsw.Connection) -> None:
    # Before this format a device forgot what a restored cluster lacks.
    for statement in (LOST, *LOST_INDEXES):
        connection.execute(statement)


def _add_put_away(connection: apsw.Connection) -> None:
    # Nothing was put away before this format. The cluster reports what is.
    connection.execute("ALTER TABLE conversations ADD COLUMN put_away_up_to INTEGER NOT NULL DEFAULT 0")


def _add_removed(connection: apsw.Connection) -> None:
    # Nothing was removed before this format. The cluster reports what is.
    connection.execute("ALTER TABLE conversations ADD COLUMN removed_up_to INTEGER NOT NULL DEFAULT 0")


def _add_mentions(connection: apsw.Connection) -> None:
    connection.execute(f"ALTER TABLE inbox ADD COLUMN {mentioned.COLUMN}")
    connection.execute(mentioned.INDEX)
    mentioned.mark_stored(connection)


MIGRATIONS: tuple[Migration, ...] = (
    Migration(3, _add_known_index),
    Migration(4, _add_told),
    Migration(5, _add_channel_columns),
    Migration(6, _add_receipt_counts),
    Migration(7, _add_urgent),
    Migration(8, _add_muted),
    Migration(9, _add_lost),
    Migration(10, _add_put_away),
    Migration(11, _add_removed),
    Migration(12, _add_mentions),
)


def current_format() -> int:
    """Return the newest format of the client's database that this release knows."""
    return FIRST_FORMAT + len(MIGRATIONS)


def own_release() -> str:
    """Return the number of this release, as files hold it."""
    try:
        return metadata.version("parley")
    except metadata.PackageNotFoundError:  # run from a source tree
        return "unknown"


def check_owner(connection: apsw.Connection, path: Path) -> None:
    """Raise StoreError for the file of another program, before anything in it is changed."""
    has_tables, has_mark = connection.execute(
        "SELECT count(*) > 0, coalesce(max(name = 'format'), 0) FROM sqlite_schema WHERE type = 'table'"
    ).fetchall()[0]
    if has_tables and not has_mark and _version_of(connection) != UNRELEASED_FORMAT:
        raise StoreError(
            f"The file {path} is a database of another program, so nothing in it was changed. If it replaced a file of "
            "Parley, messages that waited there were not sent. Move it away and sign in again. The cluster still has "
            "all accepted messages."
        )


def bring_up_to_date(connection: apsw.Connection, path: Path, schema: tuple[str, ...], *, existed: bool) -> None:
    """Make the tables in an empty file or migrate an older one, in the caller's transaction.

    Say so if an empty file `existed`. A first start that crashed leaves one, but another one held an outbox once.
    Raises StoreError for the file of another release, before anything in it is changed.
    """
    version = _version_of(connection)
    if version == current_format():
        return
    if version == UNRELEASED_FORMAT:
        raise StoreError(
            f"{path}: written by Parley 0.1, which was never released; this release does not open it. Nothing was "
            "changed. Start with an empty folder: move this one away or name another one with --state-dir."
        )
    if version > current_format():
        release = _release_of(connection)
        writer, needed = (f"release {release}", release) if release else ("a newer release", "that release")
        raise StoreError(
            f"{path}: written by {writer} (format {version}; release {own_release()} knows formats up to "
            f"{current_format()}). Nothing is wrong with the data, and nothing was changed. Start with {needed} or "
            "newer."
        )
    if version == 0:
        if existed:
            _told.warning(EMPTY_TEXT, path)
        for statement in (*schema, _MARK):
            connection.execute(statement)
    else:
        for migration in MIGRATIONS[version - FIRST_FORMAT :]:
            migration.change(connection)
    connection.execute("DELETE FROM format")
    connection.execute("INSERT INTO format(version, release) VALUES (?, ?)", (current_format(), own_release()))
    connection.execute(f"PRAGMA user_version={current_format()}")


def _version_of(connection: apsw.Connection) -> int:
    return int(cast(int, connection.execute("PRAGMA user_version").fetchall()[0][0]))


def marked(document: dict[str, Any]) -> dict[str, Any]:
    """Return the notes in `document` with their format and release."""
    return {"format": NOTES_FORMAT, "release": own_release(), **document}


def is_newer(document: dict[str, Any]) -> bool:
    """Return true for notes of a newer release. They are not read and never overwritten."""
    version = document.get("format", NOTES_FORMAT)
    return not isinstance(version, int) or version > NOTES_FORMAT


def _release_of(connection: apsw.Connection) -> str:
    try:
        rows = connection.execute("SELECT release FROM format").fetchall()
    except apsw.SQLError:
        return ""
    return str(rows[0][0]) if rows else ""
