"""Who joins and leaves channels, and with which role. Level 3.

Everybody joins a public channel. Owners and moderators add members and remove them. Owners give roles, and only they
remove owners and moderators. An administrator of the cluster gives roles too, because an owner's account may be gone.
A channel with members never loses its last owner by a command, except by the deletion of that account.

Who joins and leaves is a row of the channel's sequence, stored at the cost of whoever does it. Every command may be
repeated: what is so already changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias, cast

from parley_proto.v1 import model_pb2
from parley_proto.v1 import state_pb2 as pb
from parleyd.machine.audit_actions import AuditAction, NotAudited
from parleyd.machine.authorisation import Action, Role
from parleyd.machine.feature import Feature, SignedInCommand, result
from parleyd.machine.features import audit
from parleyd.machine.features.channels import ROLE_MODERATOR, ChannelChanged, OneChannel, may_join_more, refuse_members
from parleyd.machine.features.conversations import CHANNEL, ROLE_OWNER
from parleyd.machine.features.memberships import CHANNELS_LEVEL, ROLE_MEMBER
from parleyd.machine.features.stored_bytes import event_size, membership_size
from parleyd.machine.limits import MAX_CHANNELS_LEFT, MAX_MEMBERS_AT_CREATION, MAX_PAST_MEMBERSHIPS

if TYPE_CHECKING:
    from parleyd.machine.features.sessions import Actor
    from parleyd.machine.state import State

ROLES: Final[dict[int, str]] = {ROLE_MEMBER: "member", ROLE_OWNER: "owner", ROLE_MODERATOR: "moderator"}
"""With their names in the audit log."""

TABLES = """
-- What an account received before it left, from where on it may read, its marks, and the title that it knew.
CREATE TABLE past_memberships(
    account_id INTEGER NOT NULL,
    conversation_id INTEGER NOT NULL,
    first_message_id INTEGER NOT NULL,
    last_message_id INTEGER NOT NULL,
    readable_from INTEGER NOT NULL,
    delivered_up_to INTEGER NOT NULL,
    read_up_to INTEGER NOT NULL,
    title TEXT NOT NULL,
    PRIMARY KEY(account_id, conversation_id, last_message_id)
) STRICT, WITHOUT ROWID;
"""

_Code: TypeAlias = pb.ResultCode.ValueType


@dataclass(frozen=True, slots=True)
class MembersJoined:
    """Accounts became members of a channel. The row that says so follows."""

    conversation_id: int
    account_ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class MembersLeft:
    """Accounts are members of a channel no longer. They still get the row that says so, which came before."""

    conversation_id: int
    account_ids: tuple[int, ...]


# ---- commands


def join_channel(state: State, actor: Actor, command: pb.JoinChannel) -> pb.CommandResult:
    """Make the caller a member of a public channel."""
    found = state.conversations.find(command.conversation_id)
    account_id = actor.account.id
    if found is None or found.kind != CHANNEL:
        return result(pb.RESULT_CODE_NO_SUCH_CONVERSATION)
    if state.receipts.marks(found.id, account_id) is not None:
        return result(pb.RESULT_CODE_OK)
    if not state.channels.get(found.id).public:
        return result(pb.RESULT_CODE_NO_SUCH_CONVERSATION)
    return result(_enter(OneChannel(state, account_id, found, ROLE_MEMBER), [account_id]))


def leave_channel(state: State, actor: Actor, command: pb.LeaveChannel) -> pb.CommandResult:
    """End the caller's membership. It is possible at any time, unless it would leave others without an owner."""
    channel = OneChannel.of(state, actor, command.conversation_id)
    if channel == pb.RESULT_CODE_NO_SUCH_CONVERSATION:
        return result(pb.RESULT_CODE_OK)
    if not isinstance(channel, OneChannel):
        return result(channel)
    if not channel.role:  # an administrator of the cluster
        return result(pb.RESULT_CODE_OK)
    return result(_depart(channel, [actor.account.id]))


def leave_all(state: State, account_id: int) -> None:
    """End the memberships of an account that is deleted: nobody waits for it, and no list has it."""
    query = (
        "SELECT m.conversation_id FROM members m JOIN conversations c ON c.id = m.conversation_id "
        "WHERE m.account_id = ? AND c.kind = ? ORDER BY m.conversation_id LIMIT ?"
    )
    for channel_id in state.ids(query, (account_id, CHANNEL, MAX_CHANNELS_LEFT)):
        conversation = state.conversations.find(channel_id)
        assert conversation is not None
        _depart(OneChannel(state, account_id, conversation, ROLE_MEMBER), [account_id])
    state.connection.execute("DELETE FROM past_memberships WHERE account_id = ?", (account_id,))


def add_members(state: State, actor: Actor, command: pb.AddMembers) -> pb.CommandResult:
    """Make accounts members; those that are members already stay what they are."""
    channel = OneChannel.of(state, actor, command.conversation_id)
    if not isinstance(channel, OneChannel):
        return result(channel)
    if not channel.is_moderated:
        return result(pb.RESULT_CODE_NOT_A_MODERATOR)
    refused = refuse_members(state, command.members)
    if refused is not None:
        return result(refused)
    new = sorted({one for one in command.members if state.receipts.marks(channel.id, one) is None})
    return result(_enter(channel, new))


def remove_members(state: State, actor: Actor, command: pb.RemoveMembers) -> pb.CommandResult:
    """End memberships; of accounts that are no members there is nothing to end."""
    channel = OneChannel.of(state, actor, command.conversation_id)
    if not isinstance(channel, OneChannel):
        return result(channel)
    if len(command.members) >= MAX_MEMBERS_AT_CREATION:
        return result(pb.RESULT_CODE_TOO_MANY_MEMBERS)
    leaving = {one: role for one in command.members if (role := channel.role_of(one))}
    needed = channel.is_moderated if set(leaving.values()) <= {ROLE_MEMBER} else channel.is_owned
    if not needed:
        return result(pb.RESULT_CODE_NOT_A_MODERATOR)
    return result(_depart(channel, sorted(leaving)))


def set_member_role(state: State, actor: Actor, command: pb.SetMemberRole) -> pb.CommandResult:
    """Give a member a role. The audit log tells it if the caller may do so only as an administrator of the cluster."""
    if command.role not in ROLES:
        return result(pb.RESULT_CODE_INVALID_ROLE)
    channel = OneChannel.of(state, actor, command.conversation_id)
    if not isinstance(channel, OneChannel):
        return result(channel)
    if not channel.is_owned and actor.account.role != Role.ADMINISTRATOR:
        return result(pb.RESULT_CODE_NOT_A_MODERATOR)
    role = channel.role_of(command.member)
    if not role:
        return result(pb.RESULT_CODE_NOT_A_MEMBER)
    if role == command.role:
        return result(pb.RESULT_CODE_OK)
    if role == ROLE_OWNER and channel.owners() == {command.member}:
        return result(pb.RESULT_CODE_LAST_OWNER)
    state.connection.execute(
        "UPDATE members SET role = ? WHERE conversation_id = ? AND account_id = ?",
        (command.role, channel.id, command.member),
    )
    state.effects.append(ChannelChanged(channel.id))
    if not channel.is_owned:
        member = state.accounts.find(command.member)
        assert member is not None
        detail = f"channel {channel.id}: {ROLES[role]} -> {ROLES[command.role]}"
        audit.record(state, actor.account.name, AuditAction.CHANNEL_ROLE_SET, member.name, detail)
    return result(pb.RESULT_CODE_OK)


def _enter(channel: OneChannel, account_ids: list[int]) -> _Code:
    """Make accounts members that are none yet."""
    state = channel.state
    if not account_ids:
        return pb.RESULT_CODE_OK
    if state.channels.get(channel.id).archived:
        return pb.RESULT_CODE_CHANNEL_ARCHIVED
    most = state.settings.value("max_channel_members")
    if most and channel.member_count + len(account_ids) > most:
        return pb.RESULT_CODE_CHANNEL_FULL
    if not may_join_more(state, account_ids):
        return pb.RESULT_CODE_TOO_MANY_JOINED
    size = len(account_ids) * membership_size(channel.title)
    if not channel.pays_for(size + event_size("", len(account_ids))):
        return pb.RESULT_CODE_QUOTA_REACHED
    state.flush()  # cursors and marks that wait to be written
    marks_of_all = [_marks_of(channel, one) for one in account_ids]
    if None in marks_of_all:
        return pb.RESULT_CODE_LEFT_TOO_OFTEN
    state.stored_bytes.add(channel.caller_id, size)
    first_message_id = state.meta.last_message_id + 1  # the row that says so
    state.connection.executemany(
        "INSERT INTO members(conversation_id, account_id, role, joined_at_ms, first_message_id, delivered_up_to, "
        "read_up_to) VALUES(?, ?, ?, ?, ?, ?, ?)",
        [
            (channel.id, one, ROLE_MEMBER, state.meta.now_ms, first_message_id, *marks)
            for one, marks in zip(account_ids, marks_of_all, strict=True)
            if marks is not None
        ],
    )
    _count_members(channel, len(account_ids))
    state.receipts.joined(channel.id, account_ids)
    state.effects.append(MembersJoined(channel.id, tuple(account_ids)))
    channel.add_event(model_pb2.MESSAGE_KIND_MEMBERS_JOINED, "", account_ids)
    state.effects.append(ChannelChanged(channel.id))
    return pb.RESULT_CODE_OK


def _marks_of(channel: OneChannel, account_id: int) -> tuple[int, int] | None:
    """Return the marks with which an account enters, or None if it has left too often.

    Nothing that is there waits for a newcomer. For who comes back, something may: the marks are those of the time
    before, or what its devices have received since.
    """
    connection, last_message_id = channel.state.connection, channel.conversation.last_message_id
    past = connection.execute(
        "SELECT last_message_id, delivered_up_to, read_up_to FROM past_memberships "
        "WHERE account_id = ? AND conversation_id = ? ORDER BY last_message_id",
        (account_id, channel.id),
    ).fetchall()
    if not past:
        return last_message_id, last_message_id
    query = "SELECT coalesce(max(delivered_up_to), 0) FROM devices WHERE account_id = ?"
    cursor = cast(int, connection.execute(query, (account_id,)).get)
    oldest, latest = cast("tuple[int, int, int]", past[0]), cast("tuple[int, int, int]", past[-1])
    if len(past) >= MAX_PAST_MEMBERSHIPS and cursor < oldest[0]:
        return None  # the oldest is to be forgotten, and a device has not received what belongs to it
    return max(latest[1], min(cursor, last_message_id)), latest[2]


def _depart(channel: OneChannel, account_ids: list[int]) -> _Code:
    """End the memberships of members."""
    state = channel.state
    if not account_ids:
        return pb.RESULT_CODE_OK
    owners = channel.owners()  # a channel without one has none to lose
    if owners and owners <= set(account_ids) and channel.has_others(account_ids):
        return pb.RESULT_CODE_LAST_OWNER
    title, is_open = channel.title, state.channels.get(channel.id).open_history
    last_message_id = channel.add_event(model_pb2.MESSAGE_KIND_MEMBERS_LEFT, "", account_ids)
    state.flush()  # marks that wait to be written
    for account_id in account_ids:
        state.connection.execute(
            "INSERT INTO past_memberships(account_id, conversation_id, first_message_id, last_message_id, "
            "readable_from, delivered_up_to, read_up_to, title) "
            "SELECT account_id, conversation_id, first_message_id, ?, iif(?, 0, first_message_id), delivered_up_to, "
            "read_up_to, ? FROM members WHERE conversation_id = ? AND account_id = ?",
            (last_message_id, is_open, title, channel.id, account_id),
        )
        state.connection.execute(
            "DELETE FROM past_memberships WHERE account_id = ?1 AND conversation_id = ?2 AND last_message_id <= "
            "(SELECT last_message_id FROM past_memberships WHERE account_id = ?1 AND conversation_id = ?2 "
            "ORDER BY last_message_id DESC LIMIT 1 OFFSET ?3)",
            (account_id, channel.id, MAX_PAST_MEMBERSHIPS),
        )
    state.connection.executemany(
        "DELETE FROM members WHERE conversation_id = ? AND account_id = ?",
        [(channel.id, account_id) for account_id in account_ids],
    )
    _count_members(channel, -len(account_ids))
    state.receipts.left(channel.id, account_ids)
    state.effects += (MembersLeft(channel.id, tuple(account_ids)), ChannelChanged(channel.id))
    return pb.RESULT_CODE_OK


def _count_members(channel: OneChannel, by: int) -> None:
    channel.state.connection.execute(
        "UPDATE conversations SET member_count = member_count + ? WHERE id = ?", (by, channel.id)
    )
    channel.conversation.member_count += by


FEATURE = Feature(
    "channel_members",
    tables={CHANNELS_LEVEL: TABLES},
    commands={
        "join_channel": SignedInCommand(
            join_channel, Action.JOIN_CHANNEL, CHANNELS_LEVEL, grows=True, audits=NotAudited.CHANNEL
        ),
        "leave_channel": SignedInCommand(leave_channel, Action.JOIN_CHANNEL, CHANNELS_LEVEL, audits=NotAudited.CHANNEL),
        "add_members": SignedInCommand(
            add_members, Action.CHANGE_CHANNEL, CHANNELS_LEVEL, grows=True, audits=NotAudited.CHANNEL
        ),
        "remove_members": SignedInCommand(
            remove_members, Action.CHANGE_CHANNEL, CHANNELS_LEVEL, audits=NotAudited.CHANNEL
        ),
        "set_member_role": SignedInCommand(
            set_member_role, Action.CHANGE_CHANNEL, CHANNELS_LEVEL, audits=(AuditAction.CHANNEL_ROLE_SET,)
        ),
    },
)
