"""Channels: created, and changed from level 3 on. Who joins and leaves them is in channel_members.

Owners and moderators change a channel. To whoever is no member, a private one does not exist. What happens is a row of
the channel's sequence, stored at the cost of whoever does it. Every command may be repeated: what is so already changes
nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias, cast

from parley_proto.v1 import model_pb2
from parley_proto.v1 import state_pb2 as pb
from parleyd.machine.audit_actions import NotAudited
from parleyd.machine.authorisation import Action, Role
from parleyd.machine.feature import Feature, SignedInCommand, result
from parleyd.machine.features.conversations import (
    CHANNEL,
    ROLE_OWNER,
    ConversationRecord,
    ConversationRow,
    with_members,
)
from parleyd.machine.features.memberships import CHANNELS_LEVEL, EVERYONE, ROLE_MEMBER
from parleyd.machine.features.stored_bytes import STORED_BYTES_LEVEL, channel_size, event_size
from parleyd.machine.limits import (
    MAX_ID,
    MAX_MEMBERS_AT_CREATION,
    MAX_TITLE_CHARS,
    MAX_TOPIC_CHARS,
    REQUEST_ID_BYTES,
)
from parleyd.machine.rows import Rows
from parleyd.machine.texts import is_short_text

if TYPE_CHECKING:
    from parleyd.machine.features.sessions import Actor
    from parleyd.machine.reader import StateReader
    from parleyd.machine.state import State

ROLE_MODERATOR = model_pb2.MEMBER_ROLE_MODERATOR

TABLES = """
CREATE TABLE channels(
    conversation_id INTEGER PRIMARY KEY,
    topic TEXT NOT NULL,
    public INTEGER NOT NULL,
    archived INTEGER NOT NULL,
    open_history INTEGER NOT NULL
) STRICT;
CREATE INDEX channels_public ON channels(conversation_id) WHERE public = 1;
"""

_Code: TypeAlias = pb.ResultCode.ValueType


@dataclass(frozen=True, slots=True)
class ChannelChanged:
    """What members see of a channel changed."""

    conversation_id: int


@dataclass(slots=True)
class ChannelRow:
    """What a channel has besides its title."""

    conversation_id: int
    topic: str = ""
    public: bool = False
    archived: bool = False
    open_history: bool = False


_SELECT = "SELECT conversation_id, topic, public, archived, open_history FROM channels WHERE conversation_id = ?"


def _row(conversation_id: int, topic: str, public: int, archived: int, open_history: int) -> ChannelRow:
    return ChannelRow(conversation_id, topic, bool(public), bool(archived), bool(open_history))


class Channels:
    """The channels that a transaction changes or sends to."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._rows: Rows[int, ChannelRow] = Rows(state.connection, select=_SELECT, make=_row)
        self.caches = (self._rows.known,)

    def get(self, conversation_id: int) -> ChannelRow:
        """Return what a channel has; one that was never changed has no row."""
        found = self._rows.find(conversation_id) if self._state.level >= CHANNELS_LEVEL else None
        return found or ChannelRow(conversation_id)

    def put(self, row: ChannelRow) -> None:
        """Store what a channel has."""
        self._state.connection.execute(
            "INSERT OR REPLACE INTO channels(conversation_id, topic, public, archived, open_history) "
            "VALUES(?, ?, ?, ?, ?)",
            (row.conversation_id, row.topic, int(row.public), int(row.archived), int(row.open_history)),
        )
        self._rows.added(row.conversation_id, row)

    def forget_all(self) -> None:
        """Read everything from the file again."""
        self._rows.forget_all()


# ---- commands


class OneChannel:
    """One channel as the caller of a command may change it."""

    def __init__(self, state: State, caller_id: int, conversation: ConversationRow, role: int) -> None:
        self.state = state
        self.caller_id = caller_id
        self.conversation = conversation
        self.role = role
        self.id = conversation.id

    @classmethod
    def of(cls, state: State, actor: Actor, conversation_id: int) -> OneChannel | _Code:
        """Return the channel, or the code that refuses the command. To no member does a conversation exist.

        An administrator's caller role is 0 in a channel that it is not in.
        """
        conversation = state.conversations.find(conversation_id)
        if conversation is None:
            return pb.RESULT_CODE_NO_SUCH_CONVERSATION
        if conversation.kind == EVERYONE:
            return pb.RESULT_CODE_NOT_A_CHANNEL
        channel = cls(state, actor.account.id, conversation, 0)
        channel.role = channel.role_of(actor.account.id)
        if not channel.role and (actor.account.role != Role.ADMINISTRATOR or conversation.kind != CHANNEL):
            return pb.RESULT_CODE_NO_SUCH_CONVERSATION
        return channel if conversation.kind == CHANNEL else pb.RESULT_CODE_NOT_A_CHANNEL

    @property
    def is_owned(self) -> bool:
        """Return whether the caller is an owner."""
        return self.role == ROLE_OWNER

    @property
    def is_moderated(self) -> bool:
        """Return whether the caller is an owner or a moderator."""
        return self.role in (ROLE_OWNER, ROLE_MODERATOR)

    @property
    def title(self) -> str:
        """Return the title."""
        return cast(str, self._value("SELECT title FROM conversations WHERE id = ?", self.id))

    def role_of(self, account_id: int) -> int:
        """Return the role of an account; 0 for one that is no member."""
        query = "SELECT role FROM members WHERE conversation_id = ? AND account_id = ?"
        return cast("int | None", self._value(query, self.id, account_id)) or 0 if 0 < account_id <= MAX_ID else 0

    def owners(self) -> set[int]:
        """Return the accounts that are owners and can act as such."""
        query = (
            "SELECT m.account_id FROM members m JOIN accounts a ON a.id = m.account_id "
            "WHERE m.conversation_id = ? AND m.role = ? AND a.status = 1"
        )
        return set(self.state.ids(query, (self.id, ROLE_OWNER)))

    def has_others(self, account_ids: Sequence[int]) -> bool:
        """Return whether a member besides these can still act."""
        query = (
            "SELECT m.account_id FROM members m JOIN accounts a ON a.id = m.account_id "
            "WHERE m.conversation_id = ? AND a.status = 1 LIMIT ?"
        )
        return bool(set(self.state.ids(query, (self.id, len(account_ids) + 1))) - set(account_ids))

    @property
    def member_count(self) -> int:
        """Return how many members the channel has."""
        return self.conversation.member_count

    def pays_for(self, size: int) -> bool:
        """Return whether the caller has room for so many bytes of events."""
        return size <= self.state.stored_bytes.room(self.caller_id)

    def add_event(self, kind: int, body: str, subjects: Sequence[int] = ()) -> int:
        """Store what happens as a row, at the caller's cost; return its id."""
        self.state.stored_bytes.add(self.caller_id, event_size(body, len(subjects)))
        return self.state.messages.add_event(self.conversation, kind, self.caller_id, body, subjects)

    def _value(self, query: str, *bindings: int) -> object:
        return self.state.connection.execute(query, bindings).get


def create_channel(state: State, actor: Actor, command: pb.CreateChannel) -> pb.CommandResult:
    """Create a channel. A retry by the same account with the same request id returns the first one."""
    if not _is_title(state, command.title):
        return result(pb.RESULT_CODE_INVALID_TITLE)
    if len(command.request_id) != REQUEST_ID_BYTES:
        return result(pb.RESULT_CODE_INVALID_LENGTH)
    owner = actor.account.id
    query = "SELECT id, title FROM conversations WHERE created_by = ? AND request_id = ? AND request_id <> x''"
    row = state.connection.execute(query, (owner, command.request_id)).get
    if row is not None:
        is_same = _was_created_as(state, row[0], row[1], command.title)
        return _created(row[0]) if is_same else result(pb.RESULT_CODE_REQUEST_ID_REUSED)
    refused = refuse_members(state, command.members)
    if refused is not None:
        return result(refused)
    members: dict[int, int] = {**dict.fromkeys(command.members, ROLE_MEMBER), owner: ROLE_OWNER}
    if state.level >= CHANNELS_LEVEL:
        most = state.settings.value("max_channel_members")
        if most and len(members) > most:
            return result(pb.RESULT_CODE_CHANNEL_FULL)
        if not may_join_more(state, members):
            return result(pb.RESULT_CODE_TOO_MANY_JOINED)
    if state.level >= STORED_BYTES_LEVEL:
        refused = _count_channel(state, owner, command.title, len(members))
        if refused is not None:
            return result(refused)
    conversation = state.conversations.add(CHANNEL, (0, 0), command.title, members, owner, command.request_id)
    state.messages.add_event(
        conversation, model_pb2.MESSAGE_KIND_CHANNEL_CREATED, owner, command.title, sorted(members)
    )
    return _created(conversation.id)


def refuse_members(state: State, account_ids: Sequence[int]) -> _Code | None:
    """Return why these accounts cannot all be made members, or None."""
    if len(account_ids) >= MAX_MEMBERS_AT_CREATION:
        return pb.RESULT_CODE_TOO_MANY_MEMBERS
    found = (state.accounts.find(account_id) for account_id in account_ids)
    if any(account is None or not account.active for account in found):
        return pb.RESULT_CODE_NO_SUCH_ACCOUNT
    return None


def may_join_more(state: State, account_ids: Iterable[int]) -> bool:
    """Return whether each of these accounts may be in another channel."""
    most = state.settings.value("max_joined_channels")
    return not most or all(len(state.receipts.channels_of(one)) < most for one in account_ids)


def _was_created_as(state: State, conversation_id: int, title: str, asked: str) -> bool:
    """Return whether a creation with the title `asked` made this channel, as far as it is known."""
    if state.level < CHANNELS_LEVEL:
        return asked == title
    state.flush()
    query = "SELECT kind, body FROM messages WHERE conversation_id = ? ORDER BY id LIMIT 1"
    kind, body = state.connection.execute(query, (conversation_id,)).fetchone() or (0, "")
    return kind != model_pb2.MESSAGE_KIND_CHANNEL_CREATED or body == asked


def _count_channel(state: State, owner: int, title: str, members: int) -> pb.ResultCode.ValueType | None:
    """Count a new channel for its owner, or return why the owner may have no more."""
    most = state.settings.value("max_account_channels")
    if most:
        query = "SELECT count(*) FROM (SELECT 1 FROM conversations WHERE created_by = ? AND request_id <> x'' LIMIT ?)"
        if cast(int, state.connection.execute(query, (owner, most)).get) >= most:
            return pb.RESULT_CODE_TOO_MANY_CHANNELS
    size = channel_size(title, members)
    if size > state.stored_bytes.room(owner):
        return pb.RESULT_CODE_QUOTA_REACHED
    state.stored_bytes.add(owner, size)
    return None


def _created(conversation_id: int) -> pb.CommandResult:
    created = pb.CreateChannelResult(conversation_id=conversation_id)
    return pb.CommandResult(code=pb.RESULT_CODE_OK, create_channel=created)


def change_channel(state: State, actor: Actor, command: pb.ChangeChannel) -> pb.CommandResult:
    """Change what the command names; all of it, or nothing."""
    channel = OneChannel.of(state, actor, command.conversation_id)
    if not isinstance(channel, OneChannel):
        return result(channel)
    if not channel.is_moderated:
        return result(pb.RESULT_CODE_NOT_A_MODERATOR)
    if command.HasField("title") and not _is_title(state, command.title):
        return result(pb.RESULT_CODE_INVALID_TITLE)
    if command.HasField("topic") and not is_short_text(command.topic, MAX_TOPIC_CHARS, state.level):
        return result(pb.RESULT_CODE_INVALID_TOPIC)
    row = state.channels.get(channel.id)
    events: list[tuple[model_pb2.MessageKind.ValueType, str]] = []
    if command.HasField("title") and command.title != channel.title:
        events.append((model_pb2.MESSAGE_KIND_TITLE_CHANGED, command.title))
    if command.HasField("topic") and command.topic != row.topic:
        events.append((model_pb2.MESSAGE_KIND_TOPIC_CHANGED, command.topic))
    if command.HasField("archived") and command.archived != row.archived:
        kind = model_pb2.MESSAGE_KIND_ARCHIVED if command.archived else model_pb2.MESSAGE_KIND_REOPENED
        events.append((kind, ""))
    if not channel.pays_for(sum(event_size(body, 0) for _, body in events)):
        return result(pb.RESULT_CODE_QUOTA_REACHED)
    if command.HasField("title"):
        query = "UPDATE conversations SET title = ? WHERE id = ?"
        state.connection.execute(query, (command.title, channel.id))
    state.channels.put(
        ChannelRow(
            channel.id,
            command.topic if command.HasField("topic") else row.topic,
            command.public if command.HasField("public") else row.public,
            command.archived if command.HasField("archived") else row.archived,
            command.open_history if command.HasField("open_history") else row.open_history,
        )
    )
    for kind, body in events:
        channel.add_event(kind, body)
    if events or state.channels.get(channel.id) != row:
        state.effects.append(ChannelChanged(channel.id))
    return result(pb.RESULT_CODE_OK)


def _is_title(state: State, text: str) -> bool:
    return bool(text) and is_short_text(text, MAX_TITLE_CHARS, state.level)


FEATURE = Feature(
    "channels",
    tables={CHANNELS_LEVEL: TABLES},
    commands={
        "create_channel": SignedInCommand(create_channel, Action.CREATE_CHANNEL, grows=True, audits=NotAudited.CHANNEL),
        "change_channel": SignedInCommand(
            change_channel, Action.CHANGE_CHANNEL, CHANNELS_LEVEL, grows=True, audits=NotAudited.CHANNEL
        ),
    },
)


# ---- queries


def listed(
    reader: StateReader, account_id: int, after_id: int, limit: int, title: str
) -> list[tuple[ConversationRecord, bool]]:
    """Return public channels and the account's own by id, without members, each with whether the account is in it.

    `title`: only channels with exactly this one; empty for all.
    """
    if reader.level() < CHANNELS_LEVEL:
        return []
    bindings = (account_id, min(after_id, MAX_ID), title, limit)
    own = {row[0] for row in reader.rows(_OWN, bindings)}
    public = {row[0] for row in reader.rows(_PUBLIC, bindings)}
    found = [(with_members(reader, one), one in own) for one in sorted(own | public)[:limit]]
    return [(record, joined) for record, joined in found if record is not None]


_OWN = (
    "SELECT c.id FROM members m JOIN conversations c ON c.id = m.conversation_id "
    "WHERE m.account_id = ?1 AND m.conversation_id > ?2 AND c.kind = 2 AND (?3 = '' OR c.title = ?3) "
    "ORDER BY m.conversation_id LIMIT ?4"
)
_PUBLIC = (
    "SELECT c.id FROM channels x JOIN conversations c ON c.id = x.conversation_id "
    "WHERE x.public = 1 AND x.conversation_id > ?2 AND (?3 = '' OR c.title = ?3) "
    "ORDER BY x.conversation_id LIMIT ?4"
)
