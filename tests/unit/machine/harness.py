"""A state machine with short ways to feed it, and to look at all of it."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import cast

import apsw

from parley_proto.v1 import state_pb2 as pb
from parleyd.machine.machine import ApplyOutcome, CommittedEntry, Effect, MemberRow, StateMachine
from parleyd.machine.queries import MarksRecord, StateReader
from parleyd.machine.records import MessageRecord
from parleyd.machine.schema import open_reader
from parleyd.page_checksums import checksum_vfs

START_MS = 1_000_000
WEEK_MS = 7 * 24 * 3600 * 1000
BOOTSTRAP_MEMBERS = [MemberRow(i, f"n{i}", f"10.0.0.{i}:7000", f"10.0.0.{i}:7001") for i in (1, 2, 3)]

# The replicated tables; `checkpoints` is each node's own.
TABLES = (
    "meta",
    "accounts",
    "devices",
    "device_results",
    "sessions",
    "conversations",
    "members",
    "messages",
    "cluster_members",
    "removed_members",
)


def queued(
    reader: StateReader, account_id: int, after_id: int, limit: int, exclude_device_id: int
) -> list[MessageRecord]:
    """The next messages for a device, page after page; fewer than `limit` means that there are no more."""
    found: list[MessageRecord] = []
    more = True
    while more and len(found) < limit:
        page = reader.queued_page(account_id, after_id, limit - len(found), exclude_device_id)
        found.extend(page.messages)
        after_id, more = page.up_to, page.more
    return found


def marks(node: Node, conversation_id: int) -> list[MarksRecord]:
    """How far each member of a conversation has come."""
    query = "SELECT conversation_id, account_id, delivered_up_to, read_up_to FROM members WHERE conversation_id = ?"
    with closing(open_reader(node.path)) as connection:
        rows = cast("list[tuple[int, int, int, int]]", connection.execute(query, (conversation_id,)).fetchall())
    return [MarksRecord(*row) for row in rows]


def message_count(reader: StateReader) -> int:
    """Messages stored over the cluster's life."""
    return reader.summary()[1]


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


def sends(session_id: int, *items: tuple[int, str, str]) -> pb.Command:
    stored = [pb.StoredSend(number=number, recipient=recipient, body=body) for number, recipient, body in items]
    return pb.Command(send_messages=pb.SendMessages(session_id=session_id, sends=stored))


def mark_delivered(session_id: int, up_to: int) -> pb.Command:
    return pb.Command(mark_delivered=pb.MarkDelivered(session_id=session_id, up_to=up_to))


def mark_read(session_id: int, conversation_id: int, up_to: int) -> pb.Command:
    return pb.Command(
        mark_conversation_read=pb.MarkConversationRead(
            session_id=session_id, conversation_id=conversation_id, up_to=up_to
        )
    )


def publish(node_id: int, name: str = "n", peer: str = "p", client: str = "c") -> pb.Command:
    return pb.Command(
        publish_member=pb.PublishMember(node_id=node_id, name=name, peer_address=peer, client_address=client)
    )


def digest(token: int) -> bytes:
    return token.to_bytes(32, "big")


def external(device: int) -> bytes:
    return device.to_bytes(16, "big")


def payload(commands: Sequence[pb.Command], at_ms: int) -> bytes:
    return pb.CommandBatch(proposed_at_ms=at_ms, commands=commands).SerializeToString()


def dump(path: Path) -> dict[str, list[tuple[object, ...]]]:
    """All replicated rows."""
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY, vfs=checksum_vfs())
    try:
        return {table: connection.execute(f"SELECT * FROM {table}").fetchall() for table in TABLES}
    finally:
        connection.close()


class Node:
    """One state machine fed with commands; time goes on by a second per entry unless told otherwise."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.machine = StateMachine.create(path, BOOTSTRAP_MEMBERS, b"membership")
        self.now_ms = START_MS
        self.last = ApplyOutcome(0, (), ())
        self._reader: StateReader | None = None
        self._tokens = 0

    def apply(self, *commands: pb.Command, at_ms: int | None = None) -> list[pb.CommandResult]:
        """Apply one entry and give back its results."""
        self.now_ms += 1000
        entry = CommittedEntry(
            self.machine.applied_index + 1, 1, payload(commands, self.now_ms if at_ms is None else at_ms)
        )
        self.last = self.machine.apply([entry])
        return list(self.last.results[0])

    def one(self, command: pb.Command, at_ms: int | None = None) -> pb.CommandResult:
        return self.apply(command, at_ms=at_ms)[0]

    def effects(self) -> tuple[Effect, ...]:
        """What the entry applied last changed."""
        return self.last.effects

    def send(self, session_id: int, *items: tuple[int, str, str]) -> list[pb.StoredSendResult]:
        return list(self.one(sends(session_id, *items)).sends)

    def user(self, name: str, device: int) -> int:
        """Register (if need be) and log in; gives the session id."""
        self.one(register(name))
        account = self.reader.account_by_name(name)
        assert account is not None
        return self.login(account.account_id, device)

    def login(self, account_id: int, device: int) -> int:
        self._tokens += 1
        result = self.one(open_session(account_id, 1000 + self._tokens, device))
        assert result.code == pb.RESULT_CODE_OK, result
        return result.session_id

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
