"""The identity of this device for one account: device id, session token, and the cursors that belong to them.

A device is a numbered stream of sends, so its id and its numbers are created and removed together. They begin anew only
if the old stream cannot continue: the account was created again under the same name, the cluster has forgotten the
device, or the cluster was restored from an older backup.

These files can be copied. A claim with a higher epoch each time a profile is opened decides which copy sends. A copy
that the cluster refused makes the next claim only when a person signs in on it. The identity is in the meta table. All
functions run on the store's thread.
"""

import secrets
from dataclasses import dataclass

import apsw

from parley.device import outbox
from parley.device.restored import NEW_DEVICE
from parley.device.schema import RECEIVED_TABLES, forget_received, get_meta, next_revision, set_meta
from parley.model import MessageStatus
from parley.wire.claim import NONCE_BYTES, Claim
from parley.wire.position import Position, raised, was_restored

FORGOTTEN_TEXT = (
    "The cluster forgot this device while the message had no answer. It may have been stored. Look before you send it "
    "again."
)
ACCOUNT_AGAIN_TEXT = (
    "The account was deleted and created again while this message had no answer. It is not known whether the old "
    "account sent it. Send it again if it is still needed."
)


@dataclass(frozen=True, slots=True)
class DeviceIdentity:
    """What a session needs to begin. `token` is a secret and empty while signed out.

    `stored_token` is what the file holds instead: the same, or a reference to the keyring (token_store.py).
    """

    device_id: bytes
    token: str
    account_id: int
    cursor: bytes
    position: Position
    out_of_step: bool
    max_message_bytes: int
    claim: Claim
    used_number: int
    stored_token: str = ""

    def __repr__(self) -> str:
        return f"DeviceIdentity(device {self.device_id.hex()[:8]}, account {self.account_id}, token hidden)"


def load(connection: apsw.Connection, proposed: bytes | None = None) -> DeviceIdentity:
    """Return the identity. On first use, the device gets the proposed id, or a new one."""
    device_id = get_meta(connection, "device_id", b"")
    if not device_id:
        device_id = proposed or secrets.token_bytes(16)
        set_meta(connection, "device_id", device_id)
    return DeviceIdentity(
        device_id=device_id,
        token=get_meta(connection, "token", ""),
        account_id=get_meta(connection, "account_id", 0),
        cursor=get_meta(connection, "cursor", b""),
        position=load_position(connection),
        out_of_step=bool(get_meta(connection, "out_of_step", 0)),
        max_message_bytes=get_meta(connection, "max_message_bytes", 65_536),
        claim=Claim(get_meta(connection, "epoch", 0), get_meta(connection, "claim_nonce", b"")),
        used_number=outbox.next_number(connection) - 1,
        stored_token=get_meta(connection, "token", ""),
    )


def open_profile(connection: apsw.Connection) -> DeviceIdentity:
    """Make this copy of the files the one that sends, unless the cluster refused it. Return the identity."""
    if not get_meta(connection, "superseded", 0):
        _claim(connection, above=0)
    return load(connection)


def set_superseded(connection: apsw.Connection) -> None:
    """Record that another copy of these files sends. This one waits until a person signs in on it."""
    set_meta(connection, "superseded", 1)


def signed_in(
    connection: apsw.Connection,
    device_id: bytes,
    token: str,
    account_id: int,
    position: Position,
    *,
    device_epoch: int = 0,
    forgotten: bool = False,
    max_message_bytes: int = 0,
) -> DeviceIdentity:
    """Store the session that a log-in returned for `device_id`. Begin the device anew if account or device changed.

    `device_epoch` is the epoch of the claim that the cluster has. With `forgotten` the cluster does not tell the
    outcome of the old device's messages. `max_message_bytes` is 0 if the node did not tell it. If the cluster was
    restored since this device has seen it, what the device holds stays until both are compared (restored.py).
    """
    before = load(connection)
    if was_restored(before.position, position.generation):
        # The next stream or fetch compares what this device holds with what the cluster has. Nothing is sent before.
        if device_id != before.device_id:
            set_meta(connection, NEW_DEVICE, 1)
            set_meta(connection, "device_id", device_id)
    else:
        if before.account_id not in (0, account_id):
            _forget_account(connection)
        if device_id != before.device_id and forgotten:
            _forget_outcomes(connection, FORGOTTEN_TEXT)
            _begin_numbers(connection, device_id)
        elif device_id != before.device_id:
            _begin_device(connection, device_id)
    _claim(connection, above=device_epoch)
    set_meta(connection, "superseded", None)
    set_meta(connection, "account_id", account_id)
    set_meta(connection, "token", token)
    if max_message_bytes:
        set_meta(connection, "max_message_bytes", max_message_bytes)
    raise_position(connection, position)
    return load(connection)


def signed_out(connection: apsw.Connection, token: str) -> None:
    """Remove a token that is no longer valid, unless another process has stored a newer one."""
    if get_meta(connection, "token", "") == token:
        set_meta(connection, "token", None)


def forget(connection: apsw.Connection, account_id: int) -> bool:
    """Remove everything of a deleted account from this device.

    Return false, and remove nothing, if another process has signed in to a newer account of the same name since.
    """
    if load(connection).account_id not in (0, account_id):
        return False
    for table in (*RECEIVED_TABLES, "outbox", "lost", "drafts", "meta"):
        connection.execute(f"DELETE FROM {table}")  # noqa: S608 - names from the line above
    return True


def load_position(connection: apsw.Connection) -> Position:
    """Return the position in the log that this device has seen."""
    return Position.from_bytes(get_meta(connection, "position", b""))


def raise_position(connection: apsw.Connection, told: Position) -> None:
    """Merge the position of an answer. It never goes back."""
    known = load_position(connection)
    position = raised(known, told)
    if position != known:
        set_meta(connection, "position", position.to_bytes())


def _claim(connection: apsw.Connection, *, above: int) -> None:
    set_meta(connection, "epoch", max(get_meta(connection, "epoch", 0), above) + 1)
    set_meta(connection, "claim_nonce", secrets.token_bytes(NONCE_BYTES))


def set_out_of_step(connection: apsw.Connection) -> None:
    """Record that the cluster has forgotten accepted sends, so the numbers of this device cannot continue."""
    set_meta(connection, "out_of_step", 1)
    set_meta(connection, "token", None)


def cluster_went_back(connection: apsw.Connection) -> None:
    """Forget what the cluster told, because its data is older now. Message ids may come again with other messages.

    The numbers stay. If the cluster has forgotten some of them, that shows when the next messages are sent.
    """
    connection.execute("UPDATE outbox SET message_id = 0, conversation_id = 0 WHERE status > 2")
    connection.execute("UPDATE outbox SET known_index = 1 WHERE status = 1")  # the indices may come again, too
    forget_received(connection)
    set_meta(connection, "position", None)


def _begin_device(connection: apsw.Connection, device_id: bytes) -> None:
    """Begin a new stream of numbers.

    Messages without an outcome were refused as a gap under the old one. They wait again. The cluster went back in time,
    so message ids may come again. Received messages are removed and fetched again.
    """
    connection.execute(
        "UPDATE outbox SET status = ?, number = 0, revision = ?, known_index = 1 WHERE status = ?",
        (int(MessageStatus.WAITING), next_revision(connection), int(MessageStatus.SENDING)),
    )
    cluster_went_back(connection)
    set_meta(connection, "out_of_step", None)
    _begin_numbers(connection, device_id)


def _begin_numbers(connection: apsw.Connection, device_id: bytes) -> None:
    connection.execute("UPDATE outbox SET number = 0 WHERE status > 2")
    set_meta(connection, "next_number", None)
    set_meta(connection, "device_id", device_id)


def _forget_account(connection: apsw.Connection) -> None:
    """Remove what belongs to an older account of the same name: its messages, and the numbers of its device.

    A person decides about messages whose outcome is not known. What waits is sent by the new account. What the old
    account sent is not shown among the new account's messages.
    """
    _forget_outcomes(connection, ACCOUNT_AGAIN_TEXT)
    connection.execute("DELETE FROM outbox WHERE status = ?", (int(MessageStatus.ACCEPTED),))
    forget_received(connection)
    connection.execute("UPDATE outbox SET number = 0, message_id = 0, conversation_id = 0")
    set_meta(connection, "next_number", None)


def _forget_outcomes(connection: apsw.Connection, text: str) -> None:
    """Record for all messages without a result that their outcome is not known. A person decides about each."""
    connection.execute(
        "UPDATE outbox SET status = ?, detail = ?, revision = ? WHERE status = ?",
        (int(MessageStatus.UNKNOWN), text, next_revision(connection), int(MessageStatus.SENDING)),
    )
