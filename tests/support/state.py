"""A cluster's replicated state without consensus: what is proposed is applied at once, by the real state machine.

Tests look at the state and change it through this object; everything here is synchronous. It belongs to one event loop.
"""

from __future__ import annotations

import secrets
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import apsw
import bcrypt

from parley_proto.v1 import messaging_pb2, model_pb2, state_pb2
from parleyd.api import device_commands
from parleyd.delivery import position, records
from parleyd.group.proposals import AppliedCommands
from parleyd.group.readers import StateReaders
from parleyd.machine.effects import Effect
from parleyd.machine.features import accounts, conversations, messages
from parleyd.machine.features.codes import CODES_LEVEL
from parleyd.machine.levels import MAX_LEVEL
from parleyd.machine.machine import StateMachine
from parleyd.machine.reader import StateReader
from parleyd.machine.records import CommittedEntry, MemberRow
from parleyd.raft.types import Index
from parleyd.security import passwords
from parleyd.storage.data_directory import DataDirectory
from parleyd.storage.disk_space import DiskSpace

PASSWORD: Final = "correct horse"
SUPPORT_DEVICE: Final = b"test-support"  # begins the device ids of `store`, which no client has
BCRYPT_COST: Final = 4
WEEK_MS: Final = 7 * 24 * 3600 * 1000
NO_LOCK: Final = -1

_hashes: dict[str, bytes] = {}


@dataclass(frozen=True, slots=True)
class Account:
    """A registered account."""

    id: int
    name: str


class Device:
    """A client's device as the cluster knows it; every look is a fresh one."""

    def __init__(self, state: InProcessState, row_id: int, account_id: int, device_id: bytes) -> None:
        self._state = state
        self._row_id = row_id
        self.account_id = account_id
        self.device_id = device_id

    @property
    def delivered_up_to(self) -> int:
        """The message id up to which it has everything."""
        return self._column("delivered_up_to")

    @property
    def last_send_number(self) -> int:
        """The highest number of its sends that was applied."""
        return self._column("last_send_number")

    def result(self, number: int) -> messaging_pb2.SendResult:
        """The kept result of an accepted send, as its sender is told it."""
        [(message_id, conversation_id, sent_at_ms)] = self._state.rows(
            "SELECT message_id, conversation_id, sent_at_ms FROM device_results WHERE device_id = ? AND number = ?",
            (self._row_id, number),
        )
        return messaging_pb2.SendResult(
            number=number,
            status=messaging_pb2.SEND_STATUS_ACCEPTED,
            message_id=message_id,
            conversation_id=conversation_id,
            sent_at_ms=sent_at_ms,
        )

    def set_last_send_number(self, number: int) -> None:
        """Pretend that the cluster applied more of its sends than there were, or forgot some."""
        self._state.rewrite(
            ("UPDATE devices SET last_send_number = ? WHERE id = ?", (number, self._row_id)),
            ("DELETE FROM device_results WHERE device_id = ?", (self._row_id,)),
        )

    def _column(self, name: str) -> int:
        [(value,)] = self._state.rows(f"SELECT {name} FROM devices WHERE id = ?", (self._row_id,))
        return int(value)


class InProcessState:
    """The state that all nodes of an in-process cluster share."""

    def __init__(self, members: Sequence[MemberRow]) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="parley-test-"))
        self._path = self._folder / "state.sqlite"
        (self._folder / "snapshots").mkdir()
        self.data = DataDirectory(self._folder, NO_LOCK, DiskSpace(self._folder, 0))
        """For copies of the state. Nobody else uses the folder."""
        self.machine = StateMachine.create(self._path, members, b"membership")
        self.readers = StateReaders(self._path)
        self.resent_differently: list[int] = []
        self.listeners: list[Callable[[Sequence[Effect]], None]] = []
        self._looking = StateReader.open(self._path)
        self._sessions: dict[int, tuple[int, int]] = {}  # account id -> (session of `store`, its last number)

    async def close(self) -> None:
        """Close and remove the files."""
        await self.readers.close()
        self._looking.close()
        self.machine.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    # ---- what goes in

    def apply(self, commands: Sequence[state_pb2.Command]) -> AppliedCommands:
        """Apply commands in one entry, tell every listener, and return their results."""
        batch = state_pb2.CommandBatch(
            level=self.machine.level, proposed_at_ms=time.time_ns() // 1_000_000, commands=commands
        )
        index = self.machine.applied_index + 1
        outcome = self.machine.apply([CommittedEntry(index, 1, batch.SerializeToString())])
        assert not outcome.failures, outcome.failures
        for listener in list(self.listeners):
            listener(outcome.effects)
        for result in outcome.results[0]:
            for sent in result.send_messages.sends:
                if sent.code == state_pb2.RESULT_CODE_MISMATCH:
                    self.resent_differently.append(sent.number)
        return AppliedCommands(Index(index), outcome.results[0])

    def apply_one(self, command: state_pb2.Command) -> state_pb2.CommandResult:
        """Apply one command that must succeed."""
        [result] = self.apply([command]).results
        assert result.code == state_pb2.RESULT_CODE_OK, state_pb2.ResultCode.Name(result.code)
        return result

    def rise(self) -> None:
        """Raise the level as far as all members support it, as a leader does."""
        while (level := self.machine.level) < MAX_LEVEL:
            raised = state_pb2.RaiseLevel(level=level + 1)
            if self.apply([state_pb2.Command(raise_level=raised)]).results[0].code != state_pb2.RESULT_CODE_OK:
                return

    def add_account(self, name: str, password: str = PASSWORD, request_id: bytes = b"") -> Account:
        """Register an account. The first one is an administrator."""
        command = state_pb2.RegisterAccount(name=name, password_hash=_hash(password), request_id=request_id)
        if self.machine.level >= CODES_LEVEL and not self.rows("SELECT 1 FROM accounts LIMIT 1"):
            offer = state_pb2.OfferAdministrator(digest=bytes(32), expires_at_ms=time.time_ns() // 1_000_000 + WEEK_MS)
            self.apply_one(state_pb2.Command(offer_administrator=offer))
            command.invitation_digest = bytes(32)
        result = self.apply_one(state_pb2.Command(register_account=command))
        return Account(result.register_account.account_id, name)

    def delete_account(self, account: Account) -> None:
        """Delete an account, as one of its own devices would."""
        token_digest = secrets.token_bytes(32)
        self._open_session(account.id, token_digest)
        row = accounts.by_id(self._looking, account.id)
        assert row is not None
        command = state_pb2.DeleteAccount(token_digest=token_digest, password_hash=row.password_hash)
        self.apply_one(state_pb2.Command(delete_account=command))
        self._sessions.pop(account.id, None)

    def store(self, sender: Account, recipient: Account | int, body: str) -> model_pb2.Message:
        """Send a message to an account or, by its id, to a conversation, from a device that is no client's."""
        if sender.id not in self._sessions:
            session_id, last_number = self._open_session(sender.id, secrets.token_bytes(32))
        else:
            session_id, last_number = self._sessions[sender.id]
        send = model_pb2.Send(number=last_number + 1, body=body)
        if isinstance(recipient, int):
            send.conversation_id = recipient
        else:
            send.account_id = recipient.id
        command = state_pb2.SendMessages(session_id=session_id, sends=[send])
        [sent] = self.apply_one(state_pb2.Command(send_messages=command)).send_messages.sends
        assert sent.code == state_pb2.RESULT_CODE_OK, state_pb2.ResultCode.Name(sent.code)
        self._sessions[sender.id] = session_id, last_number + 1
        record = messages.by_id(self._looking, sent.conversation_id, sent.message_id)
        assert record is not None
        return records.message(record)

    def create_channel(self, owner: Account, title: str, members: Iterable[Account]) -> int:
        """Make a channel; its conversation id."""
        if owner.id not in self._sessions:
            self._sessions[owner.id] = self._open_session(owner.id, secrets.token_bytes(32))
        command = state_pb2.CreateChannel(
            session_id=self._sessions[owner.id][0],
            title=title,
            members=[member.id for member in members],
            request_id=secrets.token_bytes(16),
        )
        return self.apply_one(state_pb2.Command(create_channel=command)).create_channel.conversation_id

    def change_setting(self, name: str, value: int) -> None:
        """Change a setting by the session of an administrator."""
        administrator = Account(1, "")
        if administrator.id not in self._sessions:
            self._sessions[1] = self._open_session(administrator.id, secrets.token_bytes(32))
        command = state_pb2.ChangeSetting(session_id=self._sessions[1][0], name=name, value=value)
        self.apply_one(state_pb2.Command(change_setting=command))

    def end_sessions(self) -> None:
        """Close every session of every client, as if all had logged out elsewhere."""
        digests = self.rows(
            "SELECT s.token_digest FROM sessions s JOIN devices d ON d.id = s.device_id "
            "WHERE s.closed = 0 AND substr(d.external, 1, ?) <> ?",
            (len(SUPPORT_DEVICE), SUPPORT_DEVICE),
        )
        for (token_digest,) in digests:
            command = state_pb2.CloseSession(token_digest=token_digest)
            self.apply_one(state_pb2.Command(close_session=command))

    def rewrite(self, *statements: tuple[str, tuple[int | bytes | str, ...]]) -> None:
        """Change the state behind the state machine's back."""
        with closing(apsw.Connection(str(self._path))) as connection, connection:
            for query, bindings in statements:
                connection.execute(query, bindings)
        self.machine._state.forget_all()

    def back_up(self) -> Path:
        """Copy the state. The file lives as long as this object."""
        path = self._folder / f"backup-{secrets.token_hex(4)}.sqlite"
        with closing(apsw.Connection(str(self._path))) as source, closing(apsw.Connection(str(path))) as target:
            _copy(source, target)
        return path

    def restore(self, backup: Path) -> None:
        """Replace the state by that of a backup. The cluster begins its next life."""
        generation = self.machine.generation + 1
        with closing(apsw.Connection(str(backup))) as source, closing(apsw.Connection(str(self._path))) as target:
            _copy(source, target)
            target.execute("UPDATE meta SET generation = ?", (generation,))
        self.machine._state.forget_all()
        self.machine._publish_position()
        self._sessions.clear()

    # ---- what is there

    @property
    def index(self) -> int:
        """The last applied entry."""
        return self.machine.applied_index

    @property
    def position(self) -> model_pb2.Position:
        """The position of an answer that knows everything."""
        return position.position(self.machine.generation, self.index)

    @property
    def accounts(self) -> dict[str, Account]:
        """The active accounts by name, in order of their ids."""
        rows = self.rows("SELECT id, name FROM accounts WHERE status = 1 ORDER BY id")
        return {name: Account(account_id, name) for account_id, name in rows}

    @property
    def devices(self) -> dict[tuple[int, bytes], Device]:
        """The clients' devices by account id and device id."""
        rows = self.rows("SELECT id, account_id, external FROM devices ORDER BY id")
        return {
            (account_id, device_id): Device(self, row_id, account_id, device_id)
            for row_id, account_id, device_id in rows
            if not device_id.startswith(SUPPORT_DEVICE)
        }

    @property
    def messages(self) -> list[model_pb2.Message]:
        """Every stored row of every conversation, by id."""
        ids = self.rows("SELECT conversation_id, id FROM messages ORDER BY id")
        found = [messages.by_id(self._looking, conversation_id, message_id) for conversation_id, message_id in ids]
        return [records.message(record) for record in found if record is not None]

    @property
    def reads(self) -> dict[tuple[int, int], int]:
        """The read marks by (conversation id, account id)."""
        rows = self.rows("SELECT conversation_id, account_id, read_up_to FROM members WHERE read_up_to > 0")
        return {(conversation_id, account_id): read_up_to for conversation_id, account_id, read_up_to in rows}

    def bodies_for(self, name: str) -> list[str]:
        """What others said in the account's conversations, in order."""
        query = (
            "SELECT t.body FROM accounts a JOIN members m ON m.account_id = a.id "
            "JOIN messages t ON t.conversation_id = m.conversation_id AND t.sender_id <> a.id AND t.kind = ? "
            "WHERE a.name_key = ? AND a.status = 1 ORDER BY t.id"
        )
        return [body for (body,) in self.rows(query, (model_pb2.MESSAGE_KIND_TEXT, name.lower()))]

    def conversation_id(self, one: Account, other: Account) -> int:
        """The direct conversation of two accounts, 0 where they have never spoken."""
        return conversations.direct_with(self._looking, one.id, other.id) or 0

    def knows_token(self, token: str) -> bool:
        """Whether the token is of an open session."""
        token_digest = sha256(token.encode()).digest()
        return bool(self.rows("SELECT 1 FROM sessions WHERE token_digest = ? AND closed = 0", (token_digest,)))

    def rows(self, query: str, bindings: tuple[int | str | bytes, ...] = ()) -> list[tuple[Any, ...]]:
        """The rows of any query."""
        return self._looking.rows(query, bindings)

    def _open_session(self, account_id: int, token_digest: bytes) -> tuple[int, int]:
        """A session of the account's support device: its id, and the last number of the device."""
        row = accounts.by_id(self._looking, account_id)
        assert row is not None
        command = state_pb2.OpenSession(
            account_id=account_id,
            password_hash=row.password_hash,
            token_digest=token_digest,
            device_id=SUPPORT_DEVICE + account_id.to_bytes(16 - len(SUPPORT_DEVICE), "big"),
            expires_at_ms=time.time_ns() // 1_000_000 + WEEK_MS,
        )
        opened = self.apply_one(state_pb2.Command(open_session=command)).open_session
        return opened.session_id, opened.last_send_number


def _copy(source: apsw.Connection, target: apsw.Connection) -> None:
    with target.backup("main", source, "main") as copying:
        while not copying.done:
            copying.step()


def retry_text(reason: str) -> str:
    """What a sender is told of a message that was not taken."""
    return device_commands.RETRY_TEXT.format(reason=reason)


def _hash(password: str) -> bytes:
    if password not in _hashes:
        _hashes[password] = bcrypt.hashpw(passwords._prepare(password), bcrypt.gensalt(BCRYPT_COST))
    return _hashes[password]
