"""The Conversations service: list them, read them back, see their members, make channels and change them."""

from __future__ import annotations

from collections.abc import Sequence

import grpc

from parley_proto.v1 import conversations_pb2 as pb
from parley_proto.v1 import state_pb2
from parley_proto.v1.conversations_pb2_grpc import ConversationsServicer
from parleyd.api.admin_actions import log_admin_action
from parleyd.api.auth import Authenticator
from parleyd.api.commands import Commands
from parleyd.api.conversation_pages import history, listed
from parleyd.api.errors import ApiError, Context, refusal, unary
from parleyd.api.receipts import MessageReceipts
from parleyd.api.requests import (
    before_message_id,
    check_id,
    check_number,
    entries_within_page,
    page_bytes,
    page_size,
)
from parleyd.delivery.position import position_of
from parleyd.delivery.records import (
    MAX_ACCOUNT_INFO_BYTES,
    MAX_CHANNEL_INFO_BYTES,
    MAX_MEMBER_INFO_BYTES,
    accounts_named,
    conversation_info,
    member_info,
)
from parleyd.group.readers import StateReaders
from parleyd.machine.authorisation import Action, Role
from parleyd.machine.features import accounts, channels, memberships
from parleyd.machine.features.conversations import ROLE_OWNER
from parleyd.machine.features.sessions import SessionRecord
from parleyd.machine.limits import MAX_MEMBERS_AT_CREATION
from parleyd.machine.reader import StateReader
from parleyd.security.names import InvalidInputError, validate_account_name

_ChannelRequest = (
    pb.ChangeChannelRequest
    | pb.JoinChannelRequest
    | pb.LeaveChannelRequest
    | pb.AddMembersRequest
    | pb.RemoveMembersRequest
    | pb.SetMemberRoleRequest
)

LIST_ENTRIES = 100
LIST_BYTES = 256 * 1024


class ConversationsService(ConversationsServicer):
    """Converts requests about conversations into commands and queries."""

    def __init__(
        self, commands: Commands, readers: StateReaders, authenticator: Authenticator, receipts: MessageReceipts
    ) -> None:
        self._receipts = receipts
        self._commands = commands
        self._readers = readers
        self._authenticator = authenticator

    @unary
    async def ListConversations(  # noqa: N802
        self, request: pb.ListConversationsRequest, context: Context
    ) -> pb.ListConversationsResponse:
        """Return the caller's conversations, the latest first."""
        limit = min(page_size("page_size", request.page_size), LIST_ENTRIES)
        most_bytes = min(page_bytes(), LIST_BYTES)
        before_id = before_message_id(request.page_token)
        session = await self._authenticator.session_at(context, request.seen)
        return await self._readers.run(lambda reader: listed(reader, session.account_id, before_id, limit, most_bytes))

    @unary
    async def GetHistory(self, request: pb.GetHistoryRequest, context: Context) -> pb.GetHistoryResponse:  # noqa: N802
        """Return one page of a conversation of the caller."""
        limit = page_size("limit", request.limit)
        if (start := request.WhichOneof("start")) is not None and start != "first_unread":
            check_number(start, getattr(request, start))
        match request.WhichOneof("which"):
            case "account_name":
                validate_account_name(request.account_name, "account_name")
            case "account_id":
                check_number("account_id", request.account_id)
            case "conversation_id":
                check_number("conversation_id", request.conversation_id)
            case _:
                raise InvalidInputError("which", "is missing; name a conversation or an account")
        most_bytes = page_bytes()
        session = await self._authenticator.session_at(context, request.seen)
        return await self._readers.run(lambda reader: history(reader, session.account_id, request, limit, most_bytes))

    @unary
    async def ListMembers(  # noqa: N802
        self, request: pb.ListMembersRequest, context: Context
    ) -> pb.ListMembersResponse:
        """Return one page of the members of a conversation of the caller."""
        limit = page_size("page_size", request.page_size)
        limit = entries_within_page(limit, MAX_MEMBER_INFO_BYTES + MAX_ACCOUNT_INFO_BYTES)
        check_number("conversation_id", request.conversation_id)
        check_number("after_account_id", request.after_account_id)
        session = await self._authenticator.session_at(context, request.seen)
        return await self._readers.run(lambda reader: _members(reader, session.account_id, request, limit))

    @unary
    async def GetReceipts(  # noqa: N802
        self, request: pb.GetReceiptsRequest, context: Context
    ) -> pb.GetReceiptsResponse:
        """Return who has received and read a message of the caller, and where it is on disk."""
        return await self._receipts.get(request, context)

    @unary
    async def CreateChannel(  # noqa: N802
        self, request: pb.CreateChannelRequest, context: Context
    ) -> pb.CreateChannelResponse:
        """Create a channel with the caller as its owner."""
        check_id("request_id", request.request_id)
        if len(request.members) >= MAX_MEMBERS_AT_CREATION:
            raise refusal(state_pb2.RESULT_CODE_TOO_MANY_MEMBERS)
        for name in request.members:
            validate_account_name(name, "members")
        session = await self._authenticator.session_that_may(context, Action.CREATE_CHANNEL)
        command = state_pb2.CreateChannel(
            session_id=session.session_id,
            title=request.title,
            members=await self._account_ids(request.members),
            request_id=request.request_id,
        )
        index, result = await self._commands.apply(state_pb2.Command(create_channel=command))
        return pb.CreateChannelResponse(
            conversation_id=result.create_channel.conversation_id, position=self._authenticator.position(index)
        )

    @unary
    async def ListChannels(  # noqa: N802
        self, request: pb.ListChannelsRequest, context: Context
    ) -> pb.ListChannelsResponse:
        """Return one page of the public channels and the caller's own."""
        limit = entries_within_page(page_size("page_size", request.page_size), MAX_CHANNEL_INFO_BYTES)
        check_number("after_conversation_id", request.after_conversation_id)
        session = await self._authenticator.session_at(context, request.seen)
        return await self._readers.run(lambda reader: _channels(reader, session.account_id, request, limit))

    @unary
    async def ChangeChannel(  # noqa: N802
        self, request: pb.ChangeChannelRequest, context: Context
    ) -> pb.ChannelResponse:
        """Change what the request names."""
        session = await self._changer(request, context)
        given = {field.name: value for field, value in request.ListFields()}
        command = state_pb2.ChangeChannel(session_id=session.session_id, **given)
        return await self._change(state_pb2.Command(change_channel=command))

    @unary
    async def JoinChannel(self, request: pb.JoinChannelRequest, context: Context) -> pb.ChannelResponse:  # noqa: N802
        """Make the caller a member of a public channel."""
        session = await self._changer(request, context, Action.JOIN_CHANNEL)
        command = state_pb2.JoinChannel(session_id=session.session_id, conversation_id=request.conversation_id)
        return await self._change(state_pb2.Command(join_channel=command))

    @unary
    async def LeaveChannel(  # noqa: N802
        self, request: pb.LeaveChannelRequest, context: Context
    ) -> pb.ChannelResponse:
        """End the caller's membership."""
        session = await self._changer(request, context, Action.JOIN_CHANNEL)
        command = state_pb2.LeaveChannel(session_id=session.session_id, conversation_id=request.conversation_id)
        return await self._change(state_pb2.Command(leave_channel=command))

    @unary
    async def AddMembers(self, request: pb.AddMembersRequest, context: Context) -> pb.ChannelResponse:  # noqa: N802
        """Make accounts members."""
        session = await self._changer(request, context)
        command = state_pb2.AddMembers(
            session_id=session.session_id,
            conversation_id=request.conversation_id,
            members=await self._members_named(request.members),
        )
        return await self._change(state_pb2.Command(add_members=command))

    @unary
    async def RemoveMembers(  # noqa: N802
        self, request: pb.RemoveMembersRequest, context: Context
    ) -> pb.ChannelResponse:
        """End the memberships of accounts."""
        session = await self._changer(request, context)
        command = state_pb2.RemoveMembers(
            session_id=session.session_id,
            conversation_id=request.conversation_id,
            members=await self._members_named(request.members),
        )
        return await self._change(state_pb2.Command(remove_members=command))

    @unary
    async def SetMemberRole(  # noqa: N802
        self, request: pb.SetMemberRoleRequest, context: Context
    ) -> pb.ChannelResponse:
        """Give a member a role."""
        session = await self._changer(request, context)
        [member] = await self._members_named([request.member])
        if session.role == Role.ADMINISTRATOR:
            key = (request.conversation_id, session.account_id)
            role = await self._readers.run(lambda reader: memberships.role_of(reader, *key))
            if role != ROLE_OWNER:
                log_admin_action(session.account_name, Action.CHANGE_CHANNEL, request.member)
        command = state_pb2.SetMemberRole(
            session_id=session.session_id,
            conversation_id=request.conversation_id,
            member=member,
            role=request.role,
        )
        return await self._change(state_pb2.Command(set_member_role=command))

    @unary
    async def SetMuted(self, request: pb.SetMutedRequest, context: Context) -> pb.SetMutedResponse:  # noqa: N802
        """Mute a conversation for the caller, or end that."""
        check_number("conversation_id", request.conversation_id)
        session = await self._authenticator.session_that_may(context, Action.MUTE_CONVERSATION)
        command = state_pb2.SetMuted(
            session_id=session.session_id, conversation_id=request.conversation_id, muted=request.muted
        )
        index, _ = await self._commands.apply(state_pb2.Command(set_muted=command))
        return pb.SetMutedResponse(position=self._authenticator.position(index))

    @unary
    async def SetPutAway(self, request: pb.SetPutAwayRequest, context: Context) -> pb.SetPutAwayResponse:  # noqa: N802
        """Put a conversation away for the caller, or bring it back."""
        check_number("conversation_id", request.conversation_id)
        check_number("up_to", request.up_to)
        session = await self._authenticator.session_that_may(context, Action.PUT_CONVERSATION_AWAY)
        command = state_pb2.SetPutAway(
            session_id=session.session_id, conversation_id=request.conversation_id, up_to=request.up_to
        )
        index, _ = await self._commands.apply(state_pb2.Command(set_put_away=command))
        return pb.SetPutAwayResponse(position=self._authenticator.position(index))

    @unary
    async def RemoveConversation(  # noqa: N802
        self, request: pb.RemoveConversationRequest, context: Context
    ) -> pb.RemoveConversationResponse:
        """Remove a conversation for the caller up to a message."""
        check_number("conversation_id", request.conversation_id)
        check_number("up_to", request.up_to)
        if not request.up_to:
            raise InvalidInputError("up_to", "is missing; name the newest message that the person has been shown")
        session = await self._authenticator.session_that_may(context, Action.REMOVE_CONVERSATION)
        command = state_pb2.RemoveConversation(
            session_id=session.session_id, conversation_id=request.conversation_id, up_to=request.up_to
        )
        index, result = await self._commands.apply(state_pb2.Command(remove_conversation=command))
        return pb.RemoveConversationResponse(
            position=self._authenticator.position(index), removed_up_to=result.remove_conversation.removed_up_to
        )

    async def _changer(
        self, request: _ChannelRequest, context: Context, action: Action = Action.CHANGE_CHANNEL
    ) -> SessionRecord:
        """Check a request that changes a channel; return the caller's session."""
        check_number("conversation_id", request.conversation_id)
        return await self._authenticator.session_that_may(context, action)

    async def _members_named(self, names: Sequence[str]) -> list[int]:
        if not 0 < len(names) < MAX_MEMBERS_AT_CREATION:
            raise InvalidInputError("members", f"holds {len(names)} names; give 1 to {MAX_MEMBERS_AT_CREATION - 1}")
        for name in names:
            validate_account_name(name, "members")
        return await self._account_ids(names)

    async def _change(self, command: state_pb2.Command) -> pb.ChannelResponse:
        index, _ = await self._commands.apply(command)
        return pb.ChannelResponse(position=self._authenticator.position(index))

    async def _account_ids(self, names: Sequence[str]) -> list[int]:
        """Return the ids of these accounts; raises ApiError NOT_FOUND that names the missing ones."""
        found = await self._readers.run(lambda reader: _ids_of(reader, names))
        if None in found.values():
            # An account may be newer than this node's state. Look again in state that is known to be current.
            await self._authenticator.read_barrier()
            found = await self._readers.run(lambda reader: _ids_of(reader, names))
        missing = [name for name, account_id in found.items() if account_id is None]
        if missing:
            raise ApiError(
                grpc.StatusCode.NOT_FOUND,
                f"There is no account {', '.join(missing[:10])}. Nothing was changed. Check the names.",
            )
        return [account_id for account_id in found.values() if account_id is not None]


def _channels(
    reader: StateReader, account_id: int, request: pb.ListChannelsRequest, limit: int
) -> pb.ListChannelsResponse:
    with reader.consistent():
        found = channels.listed(reader, account_id, request.after_conversation_id, limit + 1, request.title)
        shown = found[:limit]
        return pb.ListChannelsResponse(
            channels=[
                pb.ListedChannel(info=conversation_info(reader, record, account_id), joined=joined)
                for record, joined in shown
            ],
            next_after_conversation_id=shown[-1][0].id if len(found) > limit else 0,
            position=position_of(reader),
        )


def _ids_of(reader: StateReader, names: Sequence[str]) -> dict[str, int | None]:
    rows = {name: accounts.by_name(reader, name) for name in names}
    return {name: None if row is None else row.id for name, row in rows.items()}


def _members(
    reader: StateReader, account_id: int, request: pb.ListMembersRequest, limit: int
) -> pb.ListMembersResponse:
    with reader.consistent():
        if not memberships.is_member(reader, request.conversation_id, account_id):
            raise refusal(state_pb2.RESULT_CODE_NO_SUCH_CONVERSATION)
        found = memberships.members(reader, request.conversation_id, request.after_account_id, limit + 1)
        shown = found[:limit]
        return pb.ListMembersResponse(
            members=[member_info(record) for record in shown],
            accounts=accounts_named(reader, (record.account_id for record in shown)),
            next_after_account_id=shown[-1].account_id if len(found) > limit else 0,
            position=position_of(reader),
        )
