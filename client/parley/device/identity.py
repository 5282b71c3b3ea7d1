"""Who this device is for one account: device id, session token, cursors that belong to them. Kept in the meta table.

A device is a numbered stream of sends, so its id and its numbers live and die together. They are begun anew only
where the old stream cannot go on: the account was made again under the same name, or the cluster was restored from
an older backup. All functions run on the store's thread.
"""

import secrets
from dataclasses import dataclass

import apsw

from parley.device.outbox import next_revision
from parley.device.schema import get_meta, set_meta
from parley.model import MessageStatus


@dataclass(frozen=True, slots=True)
class DeviceIdentity:
    """What a session needs to begin. `token` is a secret; empty means signed out.

    `stored_token` is what the file holds in its place, the same or a reference to the keyring (token_store.py).
    """

    device_id: bytes
    token: str
    account_id: int
    received_up_to: int
    seen_index: int
    out_of_step: bool
    max_message_bytes: int
    stored_token: str = ""

    def __repr__(self) -> str:
        return f"DeviceIdentity(device {self.device_id.hex()[:8]}, account {self.account_id}, token hidden)"


def load(connection: apsw.Connection) -> DeviceIdentity:
    """Reads the identity; makes the device id on first use."""
    device_id = get_meta(connection, "device_id")
    if device_id is None:
        device_id = secrets.token_bytes(16)
        set_meta(connection, "device_id", device_id)
    return DeviceIdentity(
        device_id=bytes(device_id),
        token=get_meta(connection, "token") or "",
        account_id=int(get_meta(connection, "account_id") or 0),
        received_up_to=int(get_meta(connection, "received_up_to") or 0),
        seen_index=int(get_meta(connection, "seen_index") or 0),
        out_of_step=bool(get_meta(connection, "out_of_step")),
        max_message_bytes=int(get_meta(connection, "max_message_bytes") or 65536),
        stored_token=get_meta(connection, "token") or "",
    )


def signed_in(
    connection: apsw.Connection, device_id: bytes, token: str, account_id: int, applied_index: int
) -> DeviceIdentity:
    """Stores the session a log-in gave for `device_id`; begins the device anew where account or device changed."""
    before = load(connection)
    if before.account_id not in (0, account_id):
        _forget_account(connection)
    if device_id != before.device_id:
        _begin_device(connection, device_id)
    set_meta(connection, "account_id", account_id)
    set_meta(connection, "token", token)
    raise_seen_index(connection, applied_index)
    return load(connection)


def signed_out(connection: apsw.Connection, token: str) -> None:
    """Drops a token that is no longer good, unless another process has put a newer one in its place."""
    if get_meta(connection, "token") == token:
        set_meta(connection, "token", None)


def forget(connection: apsw.Connection) -> None:
    """Removes everything of a deleted account from this device."""
    for table in ("outbox", "inbox", "marks", "reads", "drafts", "meta"):
        connection.execute(f"DELETE FROM {table}")  # noqa: S608 - names from the line above


def raise_seen_index(connection: apsw.Connection, index: int) -> None:
    """Moves the highest log index seen forward, never back."""
    if index > int(get_meta(connection, "seen_index") or 0):
        set_meta(connection, "seen_index", index)


def set_out_of_step(connection: apsw.Connection) -> None:
    """The cluster has forgotten sends it had accepted: this device's numbers cannot go on."""
    set_meta(connection, "out_of_step", 1)
    set_meta(connection, "token", None)


def _begin_device(connection: apsw.Connection, device_id: bytes) -> None:
    """A fresh stream of numbers. What had no outcome under the old one was refused as a gap there: it waits again.

    The cluster went back in time, so message ids may come again: what was received is forgotten and fetched anew.
    """
    connection.execute(
        "UPDATE outbox SET status = ?, number = 0, revision = ? WHERE status = ?",
        (int(MessageStatus.WAITING), next_revision(connection), int(MessageStatus.SENDING)),
    )
    connection.execute("UPDATE outbox SET number = 0, message_id = 0, conversation_id = 0 WHERE status > 2")
    for table in ("inbox", "marks", "reads"):
        connection.execute(f"DELETE FROM {table}")  # noqa: S608 - names from the line above
    for key in ("next_number", "out_of_step", "received_up_to", "shown_up_to", "seen_index"):
        set_meta(connection, key, None)
    set_meta(connection, "device_id", device_id)


def _forget_account(connection: apsw.Connection) -> None:
    """The account of this name is a new one: the old one's messages and unknown outcomes are not its own."""
    connection.execute(
        "UPDATE outbox SET status = ?, detail = ?, revision = ? WHERE status = ?",
        (
            int(MessageStatus.FAILED),
            "The account was deleted and made again while this message had no answer; whether the old account sent it "
            "is not known. Send it again if it still matters.",
            next_revision(connection),
            int(MessageStatus.SENDING),
        ),
    )
    for table in ("inbox", "marks", "reads"):
        connection.execute(f"DELETE FROM {table}")  # noqa: S608 - names from the line above
    connection.execute("UPDATE outbox SET message_id = 0, conversation_id = 0")
    for key in ("received_up_to", "shown_up_to"):
        set_meta(connection, key, None)
