"""The calls about channels and about the own view of a conversation, typed: one method per request, safe to repeat.

Making a channel carries a request id. The other changes have no second effect if they are repeated.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol, TypeVar

import grpc

from parley.errors import BadInputError
from parley.model import ListedChannel, MemberRole
from parley.net.unary_caller import bearer, new_request_id
from parley.wire import convert
from parley.wire.position import Position
from parley.wire.requests import build
from parley_proto.v1 import conversations_pb2 as pb
from parley_proto.v1 import model_pb2
from parley_proto.v1.conversations_pb2_grpc import ConversationsStub

MAX_PAGE = 1000

T = TypeVar("T")
Invoke = Callable[[grpc.aio.Channel], Awaitable[T]]


class Calls(Protocol):
    """The part of ClusterClient that sends one request, and keeps the position of its answer."""

    async def call(self, invoke: Invoke[T], *, changes: bool = True, repeatable: bool = False) -> T: ...

    def seen(self, seen: Position) -> model_pb2.Position: ...

    def saw(self, position: model_pb2.Position) -> None: ...


class ChannelCalls:
    """Requests about channels to whichever node answers."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    async def create(self, token: str, title: str, members: Sequence[str]) -> int:
        """Create a channel, once even if an answer is lost. Return its conversation id."""
        request = build(pb.CreateChannelRequest, title=title, members=members, request_id=new_request_id())
        answer = await self._calls.call(
            lambda channel: ConversationsStub(channel).CreateChannel(request, metadata=bearer(token))
        )
        self._calls.saw(answer.position)
        return answer.conversation_id

    async def listed(self, token: str, seen: Position, title: str, limit: int) -> tuple[ListedChannel, ...]:
        """Return the public channels and the caller's own by id; with a title, only those that have exactly this."""
        found: list[ListedChannel] = []
        after = 0
        while len(found) < limit:
            request = build(
                pb.ListChannelsRequest,
                after_conversation_id=after,
                page_size=min(MAX_PAGE, limit - len(found)),
                title=title,
                seen=self._calls.seen(seen),
            )
            page = await self._calls.call(_list_channels(request, token), changes=False)
            self._calls.saw(page.position)
            found.extend(map(convert.listed_channel, page.channels))
            after = page.next_after_conversation_id
            if not after:
                break
        return tuple(found)

    async def change(self, token: str, request: pb.ChangeChannelRequest) -> None:
        await self._change(lambda channel: ConversationsStub(channel).ChangeChannel(request, metadata=bearer(token)))

    async def join(self, token: str, conversation_id: int) -> None:
        request = build(pb.JoinChannelRequest, conversation_id=conversation_id)
        await self._change(lambda channel: ConversationsStub(channel).JoinChannel(request, metadata=bearer(token)))

    async def leave(self, token: str, conversation_id: int) -> None:
        request = build(pb.LeaveChannelRequest, conversation_id=conversation_id)
        await self._change(lambda channel: ConversationsStub(channel).LeaveChannel(request, metadata=bearer(token)))

    async def add_members(self, token: str, conversation_id: int, members: Sequence[str]) -> None:
        request = build(pb.AddMembersRequest, conversation_id=conversation_id, members=members)
        await self._change(lambda channel: ConversationsStub(channel).AddMembers(request, metadata=bearer(token)))

    async def remove_members(self, token: str, conversation_id: int, members: Sequence[str]) -> None:
        request = build(pb.RemoveMembersRequest, conversation_id=conversation_id, members=members)
        await self._change(lambda channel: ConversationsStub(channel).RemoveMembers(request, metadata=bearer(token)))

    async def set_role(self, token: str, conversation_id: int, member: str, role: MemberRole) -> None:
        request = build(
            pb.SetMemberRoleRequest,
            conversation_id=conversation_id,
            member=member,
            role=model_pb2.MemberRole.ValueType(role),
        )
        await self._change(lambda channel: ConversationsStub(channel).SetMemberRole(request, metadata=bearer(token)))

    async def set_muted(self, token: str, conversation_id: int, *, muted: bool) -> None:
        request = build(pb.SetMutedRequest, conversation_id=conversation_id, muted=muted)
        answer = await self._calls.call(
            lambda channel: ConversationsStub(channel).SetMuted(request, metadata=bearer(token)), repeatable=True
        )
        self._calls.saw(answer.position)

    async def set_put_away(self, token: str, conversation_id: int, up_to: int) -> None:
        request = build(pb.SetPutAwayRequest, conversation_id=conversation_id, up_to=up_to)
        answer = await self._calls.call(
            lambda channel: ConversationsStub(channel).SetPutAway(request, metadata=bearer(token)), repeatable=True
        )
        self._calls.saw(answer.position)

    async def remove_conversation(self, token: str, conversation_id: int, up_to: int) -> int:
        """Remove a conversation up to a message. Return up to which message it is removed now."""
        request = build(pb.RemoveConversationRequest, conversation_id=conversation_id, up_to=up_to)
        answer = await self._calls.call(
            lambda channel: ConversationsStub(channel).RemoveConversation(request, metadata=bearer(token)),
            repeatable=True,
        )
        self._calls.saw(answer.position)
        return answer.removed_up_to

    async def _change(self, invoke: Invoke[pb.ChannelResponse]) -> None:
        answer = await self._calls.call(invoke, repeatable=True)
        self._calls.saw(answer.position)


def change_request(
    conversation_id: int,
    *,
    title: str | None,
    topic: str | None,
    public: bool | None,
    archived: bool | None,
    open_history: bool | None,
) -> pb.ChangeChannelRequest:
    """Return the request that changes what is not None. Raises BadInputError if that is nothing."""
    if all(value is None for value in (title, topic, public, archived, open_history)):
        raise BadInputError("Nothing to change was named. Nothing was sent. Name at least one property of the channel.")
    return build(
        pb.ChangeChannelRequest,
        conversation_id=conversation_id,
        title=title,
        topic=topic,
        public=public,
        archived=archived,
        open_history=open_history,
    )


def _list_channels(request: pb.ListChannelsRequest, token: str) -> Invoke[pb.ListChannelsResponse]:
    return lambda channel: ConversationsStub(channel).ListChannels(request, metadata=bearer(token))
