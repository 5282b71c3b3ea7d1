"""Devices: numbered streams of sends, each with a cursor of what it has received.

The last MAX_SENDS_IN_FLIGHT results of a device are kept for its retries, each with a digest of the send.

The files of a device can be copied. Which copy is the device is decided when a command is applied: a claim with a
higher epoch replaces the former one, and commands of any other copy are refused and use no number.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from parley_proto.v1 import model_pb2
from parley_proto.v1 import state_pb2 as pb
from parleyd.machine.feature import Feature
from parleyd.machine.limits import CLAIM_NONCE_BYTES, MAX_DEVICES_PER_ACCOUNT, MAX_ID, MAX_SENDS_IN_FLIGHT
from parleyd.machine.rows import Rows

if TYPE_CHECKING:
    from parleyd.machine.reader import StateReader
    from parleyd.machine.state import State

TABLES = """
CREATE TABLE devices(
    id INTEGER PRIMARY KEY,
    external BLOB NOT NULL UNIQUE,
    account_id INTEGER NOT NULL,
    label TEXT NOT NULL,
    delivered_up_to INTEGER NOT NULL,
    last_send_number INTEGER NOT NULL
) STRICT;
CREATE INDEX devices_account ON devices(account_id);
CREATE TABLE device_results(
    device_id INTEGER NOT NULL,
    slot INTEGER NOT NULL,
    number INTEGER NOT NULL,
    digest INTEGER NOT NULL,
    code INTEGER NOT NULL,
    message_id INTEGER NOT NULL,
    conversation_id INTEGER NOT NULL,
    sent_at_ms INTEGER NOT NULL,
    PRIMARY KEY(device_id, slot)
) STRICT, WITHOUT ROWID;
"""


CLAIM_LEVEL = 3
CLAIMS = """
CREATE TABLE device_claims(
    device_id INTEGER PRIMARY KEY,
    epoch INTEGER NOT NULL,
    nonce BLOB NOT NULL
) STRICT;
"""


@dataclass(frozen=True, slots=True)
class DeviceClaimed:
    """Another copy of a device's files is the device from now on; `device_id` is the id that the client made."""

    account_id: int
    device_id: bytes
    nonce: bytes


@dataclass(frozen=True, slots=True)
class ClaimRow:
    """Which copy of a device's files sends for it. Epoch 0 without a nonce: none has claimed it yet."""

    epoch: int = 0
    nonce: bytes = b""

    def supersedes(self, other: ClaimRow) -> bool:
        """Return whether a copy with the claim `other` may not send: this one is newer, or a rival of its epoch."""
        return self != other and other.epoch <= self.epoch


_NOT_CLAIMED = ClaimRow()


@dataclass(slots=True)
class DeviceRow:
    """The receive cursor and the send number of a device. `external` is the id that the client made."""

    id: int
    external: bytes
    account_id: int
    delivered_up_to: int
    last_send_number: int


@dataclass(frozen=True, slots=True)
class KeptResult:
    """The first result of a send, and the digest of the send."""

    digest: int
    code: int
    message_id: int
    conversation_id: int
    sent_at_ms: int


_SELECT = "SELECT id, external, account_id, delivered_up_to, last_send_number FROM devices WHERE id = ?"
_SELECT_CLAIM = "SELECT epoch, nonce FROM device_claims WHERE device_id = ?"


class Devices:
    """The devices that a transaction touches, and the results it adds."""

    def __init__(self, state: State) -> None:
        self._connection = state.connection
        self._meta_of = state
        self._rows: Rows[int, DeviceRow] = Rows(
            state.connection,
            select=_SELECT,
            make=DeviceRow,
            update="UPDATE devices SET delivered_up_to = ?, last_send_number = ? WHERE id = ?",
            values=lambda row: (row.delivered_up_to, row.last_send_number, row.id),
        )
        self._claims: Rows[int, ClaimRow] = Rows(state.connection, select=_SELECT_CLAIM, make=ClaimRow)
        self.caches = (self._rows.known, self._claims.known)
        self._new_results: list[tuple[int, int, int, int, int, int, int, int]] = []

    def get(self, device_id: int) -> DeviceRow:
        """Return the device of a live session: it exists as long as the session may act."""
        found = self._rows.find(device_id)
        if found is None:
            # The same on every node, so this fails the command and does not stop the nodes.
            raise LookupError("a live session has no device")
        return found

    def claim(self, device: DeviceRow, wire: model_pb2.DeviceClaim) -> pb.ResultCode.ValueType:
        """Take the claim of a command, or return the code that refuses the command as a whole."""
        if self._meta_of.level < CLAIM_LEVEL:
            return pb.RESULT_CODE_OK
        if wire.epoch > MAX_ID or len(wire.nonce) != (CLAIM_NONCE_BYTES if wire.epoch else 0):
            return pb.RESULT_CODE_INVALID_LENGTH
        held, claimed = self.held_claim(device.id), ClaimRow(wire.epoch, wire.nonce)
        if held == claimed:
            return pb.RESULT_CODE_OK
        if held.supersedes(claimed):
            return pb.RESULT_CODE_DEVICE_SUPERSEDED
        self._connection.execute(
            "INSERT OR REPLACE INTO device_claims(device_id, epoch, nonce) VALUES(?, ?, ?)",
            (device.id, claimed.epoch, claimed.nonce),
        )
        self._claims.added(device.id, claimed)
        self._meta_of.effects.append(DeviceClaimed(device.account_id, device.external, claimed.nonce))
        return pb.RESULT_CODE_OK

    def held_claim(self, device_id: int) -> ClaimRow:
        """Return the claim of a device, at the level that has claims."""
        held = self._claims.find(device_id)
        if held is None:
            held = _NOT_CLAIMED
            self._claims.added(device_id, held)
        return held

    def use_number(
        self, device: DeviceRow, number: int, digest: int, code: int, message_id: int, conversation_id: int
    ) -> None:
        """Record that the device's send `number` is applied, with this result for its retries.

        The caller reports the device as `changed`, once for all numbers.
        """
        device.last_send_number = number
        slot, now_ms = number % MAX_SENDS_IN_FLIGHT, self._meta_of.meta.now_ms
        self._new_results.append((device.id, slot, number, digest, code, message_id, conversation_id, now_ms))

    def changed(self, device: DeviceRow) -> None:
        """Write the device at the end of the transaction."""
        self._rows.changed(device.id, device)

    def move_cursor(self, device: DeviceRow, up_to: int) -> None:
        """Record that the device has received everything up to this message id."""
        device.delivered_up_to = up_to
        self._rows.changed(device.id, device)

    def result(self, device_id: int, number: int) -> KeptResult | None:
        """Return the first result of an earlier send; None if it is not kept any more."""
        self.flush()
        row = self._connection.execute(
            "SELECT number, digest, code, message_id, conversation_id, sent_at_ms FROM device_results "
            "WHERE device_id = ? AND slot = ?",
            (device_id, number % MAX_SENDS_IN_FLIGHT),
        ).get
        return None if row is None or row[0] != number else KeptResult(*row[1:])

    def flush(self) -> None:
        """Write new results and changed devices."""
        if self._new_results:
            query = (
                "INSERT OR REPLACE INTO device_results(device_id, slot, number, digest, code, message_id, "
                "conversation_id, sent_at_ms) VALUES(?, ?, ?, ?, ?, ?, ?, ?)"
            )
            self._connection.executemany(query, self._new_results)
            self._new_results = []
        self._rows.flush()

    def forget_all(self) -> None:
        """Read everything from the file again."""
        self._rows.forget_all()
        self._claims.forget_all()
        self._new_results.clear()


# ---- for other features


def is_of(state: State, account_id: int, external: bytes) -> bool:
    """Return whether the device has logged in to this account before. The caller has flushed."""
    query = "SELECT 1 FROM devices WHERE external = ? AND account_id = ?"
    return state.connection.execute(query, (external, account_id)).get is not None


def find_or_add(
    state: State, account_id: int, external: bytes, label: str, used_send_number: int
) -> int | pb.CommandResult:
    """Return the id of the account's device, adding a new one, or why it cannot be added. The caller has flushed.

    An unknown device that has used numbers was forgotten. Added again, it would begin with number 1, and what it sends
    again would be stored twice.
    """
    query = "SELECT id, account_id FROM devices WHERE external = ?"
    row = state.connection.execute(query, (external,)).get
    if row is not None:
        if row[1] != account_id:
            return pb.CommandResult(code=pb.RESULT_CODE_DEVICE_OF_ANOTHER)
        return int(row[0])
    if used_send_number and state.level >= CLAIM_LEVEL:
        return pb.CommandResult(code=pb.RESULT_CODE_DEVICE_FORGOTTEN)
    # What any device of the account has received is not new to another one. What none has received is.
    cursor, count = state.connection.execute(
        "SELECT coalesce(max(delivered_up_to), 0), count(*) FROM devices WHERE account_id = ?", (account_id,)
    ).get
    if count >= MAX_DEVICES_PER_ACCOUNT and not _remove_idle(state, account_id):
        return pb.CommandResult(code=pb.RESULT_CODE_TOO_MANY_DEVICES)
    state.meta.last_device_id += 1
    device_id = state.meta.last_device_id
    state.connection.execute(
        "INSERT INTO devices(id, external, account_id, label, delivered_up_to, last_send_number) "
        "VALUES(?, ?, ?, ?, ?, 0)",
        (device_id, external, account_id, label, cursor),
    )
    return device_id


def of_account(state: State, account_id: int) -> list[int]:
    """Return the ids of the account's devices."""
    return state.ids("SELECT id FROM devices WHERE account_id = ? ORDER BY id", (account_id,))


def remove(state: State, device_ids: Sequence[int]) -> None:
    """Remove devices, their claims and the results kept for their retries."""
    keys = [(device_id,) for device_id in device_ids]
    if state.meta.level >= CLAIM_LEVEL:
        state.connection.executemany("DELETE FROM device_claims WHERE device_id = ?", keys)
    state.connection.executemany("DELETE FROM device_results WHERE device_id = ?", keys)
    state.connection.executemany("DELETE FROM devices WHERE id = ?", keys)


def _remove_idle(state: State, account_id: int) -> bool:
    """Remove the logged-out device with the oldest use, to make space."""
    idle = state.ids(
        "SELECT d.id FROM devices d LEFT JOIN sessions s ON s.device_id = d.id "
        "WHERE d.account_id = ? GROUP BY d.id "
        "HAVING coalesce(sum(s.closed = 0 AND s.expires_at_ms > ?), 0) = 0 "
        "ORDER BY coalesce(max(s.id), 0), d.id LIMIT 1",
        (account_id, state.meta.now_ms),
    )
    for device_id in idle:
        # Its sessions have ended. Rows left behind would have no device.
        state.connection.execute("DELETE FROM sessions WHERE device_id = ?", (device_id,))
    remove(state, idle)
    return bool(idle)


FEATURE = Feature("devices", tables={1: TABLES, CLAIM_LEVEL: CLAIMS})


# ---- queries


@dataclass(frozen=True, slots=True)
class DeviceCard:
    """What the owner of a device sees of it. `logged_in_at_ms` is 0 if its last log-in is not kept any more."""

    id: int
    external: bytes
    label: str
    logged_in_at_ms: int
    signed_in: bool


def cards(reader: StateReader, account_id: int, now_ms: int) -> tuple[DeviceCard, ...]:
    """Return the devices of an account, the one that logged in last first."""
    rows = reader.rows(
        "SELECT d.id, d.external, d.label, coalesce(max(s.opened_at_ms), 0), "
        "coalesce(sum(s.closed = 0 AND s.expires_at_ms > ?), 0) FROM devices d "
        "LEFT JOIN sessions s ON s.device_id = d.id WHERE d.account_id = ? GROUP BY d.id "
        "ORDER BY coalesce(max(s.id), 0) DESC, d.id DESC",
        (now_ms, account_id),
    )
    return tuple(DeviceCard(id_, external, label, at_ms, bool(open_)) for id_, external, label, at_ms, open_ in rows)


def belongs_to(reader: StateReader, external: bytes, account_id: int) -> bool:
    """Return whether the device has logged in to this account before."""
    return bool(reader.rows("SELECT 1 FROM devices WHERE external = ? AND account_id = ?", (external, account_id)))


def by_id(reader: StateReader, device_id: int) -> DeviceRow | None:
    """Return the device with that row id (`SessionRecord.device_id`)."""
    rows = reader.rows(_SELECT, (device_id,))
    return DeviceRow(*rows[0]) if rows else None


def claim_of(reader: StateReader, device_id: int) -> ClaimRow:
    """Return the claim of the device with that row id."""
    rows = reader.rows(_SELECT_CLAIM, (device_id,)) if reader.level() >= CLAIM_LEVEL else []
    return ClaimRow(*rows[0]) if rows else ClaimRow()
