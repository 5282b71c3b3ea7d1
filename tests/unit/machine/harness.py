"""A state machine with short ways to feed it, and to look at all of it."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import apsw

from parley_proto.v1 import model_pb2
from parley_proto.v1 import state_pb2 as pb
from parleyd.machine.effects import Effect
from parleyd.machine.features import accounts, memberships, waiting
from parleyd.machine.features.history import History
from parleyd.machine.features.messages import PAGE_BYTES, MessageRecord
from parleyd.machine.features.receipts import Marks
from parleyd.machine.levels import MAX_LEVEL, MIN_LEVEL
from parleyd.machine.machine import ApplyOutcome, StateMachine
from parleyd.machine.reader import StateReader
from parleyd.machine.records import CommittedEntry, MemberRow
from parleyd.page_checksums import checksum_vfs

START_MS = 1_000_000
WEEK_MS = 7 * 24 * 3600 * 1000
# The replicated tables; `checkpoints` is each node's own.
TABLES = "SELECT name FROM sqlite_schema WHERE type = 'table' AND name <> 'checkpoints' ORDER BY name"
BOOTSTRAP_MEMBERS = [MemberRow(i, f"n{i}", f"10.0.0.{i}:7000", f"10.0.0.{i}:7001") for i in (1, 2, 3)]


@dataclass(frozen=True, slots=True)
class AccountId:
    """A send's target: an account by id."""

    account_id: int


@dataclass(frozen=True, slots=True)
class ConversationId:
    """A send's target: a conversation by id."""

    conversation_id: int


Target = str | AccountId | ConversationId | None
Item = tuple[int, Target, str]


def queued(
    reader: StateReader, account_id: int, after_id: int, limit: int, exclude_device_id: bytes
) -> list[MessageRecord]:
    """The next messages for a device, page after page; fewer than `limit` means that there are no more."""
    found: list[MessageRecord] = []
    more = True
    while more and len(found) < limit:
        page = waiting.queued_page(reader, account_id, after_id, limit - len(found), exclude_device_id)
        found.extend(page.messages)
        after_id, more = page.up_to, page.more
    return found


def read_back(
    reader: StateReader,
    account_id: int,
    conversation_id: int,
    before_id: int,
    limit: int,
    max_bytes: int = PAGE_BYTES,
) -> tuple[MessageRecord, ...]:
    """The messages of a page of history."""
    with reader.consistent():
        return History(reader, account_id, conversation_id).before(before_id, limit, max_bytes).messages


def marks(node: Node, conversation_id: int) -> list[Marks]:
    """How far each member of a conversation has come."""
    members = memberships.members(node.reader, conversation_id, 0, 1000)
    return [Marks(conversation_id, row.account_id, row.delivered_up_to, row.read_up_to) for row in members]


def message_count(reader: StateReader) -> int:
    """Messages stored over the cluster's life."""
    return reader.summary().message_count


def register(name: str, password_hash: bytes = b"hash", request_id: bytes = b"") -> pb.Command:
    return pb.Command(
        register_account=pb.RegisterAccount(name=name, password_hash=password_hash, request_id=request_id)
    )


def open_session(
    account_id: int,
    token: int,
    device: int,
    *,
    password_hash: bytes = b"hash",
    expires_at_ms: int = START_MS + WEEK_MS,
    label: str = "",
) -> pb.Command:
    return pb.Command(
        open_session=pb.OpenSession(
            account_id=account_id,
            password_hash=password_hash,
            token_digest=digest(token),
            device_id=external(device),
            device_label=label,
            expires_at_ms=expires_at_ms,
        )
    )


def close_session(token: int) -> pb.Command:
    return pb.Command(close_session=pb.CloseSession(token_digest=digest(token)))


def delete_account(token: int, password_hash: bytes = b"hash") -> pb.Command:
    return pb.Command(delete_account=pb.DeleteAccount(token_digest=digest(token), password_hash=password_hash))


def send(number: int, target: Target, body: str) -> model_pb2.Send:
    match target:
        case str():
            return model_pb2.Send(number=number, account_name=target, body=body)
        case AccountId(account_id):
            return model_pb2.Send(number=number, account_id=account_id, body=body)
        case ConversationId(conversation_id):
            return model_pb2.Send(number=number, conversation_id=conversation_id, body=body)
        case None:
            return model_pb2.Send(number=number, body=body)


def sends(session_id: int, *items: Item) -> pb.Command:
    return pb.Command(send_messages=pb.SendMessages(session_id=session_id, sends=[send(*item) for item in items]))


def create_channel(session_id: int, title: str, *members: int, request_id: bytes = b"c" * 16) -> pb.Command:
    return pb.Command(
        create_channel=pb.CreateChannel(session_id=session_id, title=title, members=members, request_id=request_id)
    )


def set_role(session_id: int, account: str, *, administrator: bool) -> pb.Command:
    return pb.Command(set_role=pb.SetRole(session_id=session_id, account=account, administrator=administrator))


def change_setting(session_id: int, name: str, value: int) -> pb.Command:
    return pb.Command(change_setting=pb.ChangeSetting(session_id=session_id, name=name, value=value))


def raise_level(level: int, release: str = "") -> pb.Command:
    return pb.Command(raise_level=pb.RaiseLevel(level=level, release=release))


def mark_delivered(session_id: int, up_to: int) -> pb.Command:
    return pb.Command(mark_delivered=pb.MarkDelivered(session_id=session_id, up_to=up_to))


def mark_read(session_id: int, conversation_id: int, up_to: int) -> pb.Command:
    return pb.Command(mark_read=pb.MarkRead(session_id=session_id, conversation_id=conversation_id, up_to=up_to))


def publish(
    node_id: int, name: str = "n", peer: str = "p", client: str = "c", *, levels: tuple[int, int] = (1, 1)
) -> pb.Command:
    return pb.Command(
        publish_member=pb.PublishMember(
            node_id=node_id,
            name=name,
            peer_address=peer,
            client_address=client,
            min_level=levels[0],
            max_level=levels[1],
        )
    )


def digest(token: int) -> bytes:
    return token.to_bytes(32, "big")


def external(device: int) -> bytes:
    return device.to_bytes(16, "big")


def payload(commands: Sequence[pb.Command], at_ms: int, level: int = MIN_LEVEL) -> bytes:
    return pb.CommandBatch(level=level, proposed_at_ms=at_ms, commands=commands).SerializeToString()


def dump(path: Path) -> dict[str, list[tuple[object, ...]]]:
    """All replicated rows."""
    with closing(apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY, vfs=checksum_vfs())) as connection:
        return {
            table: connection.execute(f"SELECT * FROM {table}").fetchall() for (table,) in connection.execute(TABLES)
        }


class Node:
    """One state machine fed with commands; time goes on by a second per entry unless told otherwise."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.machine = StateMachine.create(path, BOOTSTRAP_MEMBERS, b"membership")
        self.now_ms = START_MS
        self.last = ApplyOutcome(0, (), (), MIN_LEVEL)
        self._reader: StateReader | None = None
        self._tokens = 0

    def apply(self, *commands: pb.Command, at_ms: int | None = None, level: int = MIN_LEVEL) -> list[pb.CommandResult]:
        """Apply one entry and give back its results."""
        self.now_ms += 1000
        entry = CommittedEntry(
            self.machine.applied_index + 1, 1, payload(commands, self.now_ms if at_ms is None else at_ms, level)
        )
        self.last = self.machine.apply([entry])
        if self.machine.has_long_wal:
            self.machine.shorten_wal()
        return list(self.last.results[0])

    def one(self, command: pb.Command, at_ms: int | None = None, level: int = MIN_LEVEL) -> pb.CommandResult:
        return self.apply(command, at_ms=at_ms, level=level)[0]

    def rise(self, level: int = MAX_LEVEL) -> None:
        """Raise the cluster to a level that all members support."""
        self.apply(*(publish(row.node_id, row.name, levels=(MIN_LEVEL, level)) for row in BOOTSTRAP_MEMBERS))
        for one in range(self.machine.level + 1, level + 1):
            assert self.one(raise_level(one), level=self.machine.level).code == pb.RESULT_CODE_OK

    def effects(self) -> tuple[Effect, ...]:
        """What the entry applied last changed."""
        return self.last.effects

    def send(self, session_id: int, *items: Item) -> list[pb.StoredSendResult]:
        return list(self.one(sends(session_id, *items)).send_messages.sends)

    def register(self, name: str) -> int:
        """Register an account; gives its id."""
        return self.one(register(name)).register_account.account_id

    def user(self, name: str, device: int) -> int:
        """Register (if need be) and log in; gives the session id."""
        self.one(register(name))
        return self.login(self.account(name).id, device)

    def login(self, account_id: int, device: int) -> int:
        self._tokens += 1
        result = self.one(open_session(account_id, 1000 + self._tokens, device))
        assert result.code == pb.RESULT_CODE_OK, result
        return result.open_session.session_id

    def channel(self, session_id: int, title: str, *members: int, request_id: bytes = b"c" * 16) -> int:
        """Make a channel; gives its id."""
        result = self.one(create_channel(session_id, title, *members, request_id=request_id))
        assert result.code == pb.RESULT_CODE_OK, result
        return result.create_channel.conversation_id

    def account(self, name: str) -> accounts.AccountRow:
        """The active account of that name, which there is."""
        found = accounts.by_name(self.reader, name)
        assert found is not None
        return found

    @property
    def token(self) -> int:
        """The token of the session opened last."""
        return 1000 + self._tokens

    @property
    def reader(self) -> StateReader:
        if self._reader is None:
            self._reader = StateReader.open(self.path)
        return self._reader

    def reopen(self) -> None:
        self.close()
        self.machine = StateMachine.open(self.path)

    def close(self) -> None:
        if self._reader is not None:
            self._reader.close()
            self._reader = None
        self.machine.close()
