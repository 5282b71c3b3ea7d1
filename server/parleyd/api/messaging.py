"""The Messaging service: admits Connect streams, and reads conversations back."""

from __future__ import annotations

import asyncio

import grpc
import grpc.aio

from parley_proto.v1 import messaging_pb2 as pb
from parley_proto.v1.messaging_pb2_grpc import MessagingServicer
from parleyd.api.accounts import page_size
from parleyd.api.auth import SIGNED_OUT_TEXT, Authenticator
from parleyd.api.client_stream import MAX_SENDS_IN_FLIGHT, ClientStream, ClientStreamLimits
from parleyd.api.errors import ApiError, Context, abort, translate, unary
from parleyd.delivery.device_hub import DeviceHub
from parleyd.delivery.device_stream import DeviceStream, Page
from parleyd.delivery.records import receipt, to_proto
from parleyd.group.command_router import CommandRouter
from parleyd.group.readers import StateReaders
from parleyd.machine.queries import ConversationRecord, DeviceRecord, SessionRecord
from parleyd.security.names import InvalidInputError, validate_account_name

HELLO_TIMEOUT_S = 10.0
MISSED_RECEIPTS = 200
"""Conversations whose marks a device is told when it connects; older ones come with ListConversations."""


class MessagingService(MessagingServicer):
    """Sending and receiving over one stream per device, history and conversations by page."""

    def __init__(
        self,
        node_name: str,
        router: CommandRouter,
        readers: StateReaders,
        authenticator: Authenticator,
        hub: DeviceHub,
        limits: ClientStreamLimits,
        max_clients: int,
    ) -> None:
        self._node_name = node_name
        self._router = router
        self._readers = readers
        self._authenticator = authenticator
        self._hub = hub
        self._limits = limits
        self._max_clients = max_clients
        self._sessions = 0  # also those that have not said hello yet

    async def Connect(  # type: ignore[override]  # noqa: N802 - the reader/writer form of a stream handler
        self, request_iterator: object, context: Context
    ) -> None:
        """Serve one device until either side ends."""
        self._sessions += 1
        try:
            await self._serve(context)
        except grpc.aio.AbortError:
            raise
        except BaseExceptionGroup as group:
            await self._end(context, _first(group))
        except Exception as error:
            await self._end(context, error)
        finally:
            self._sessions -= 1

    async def _end(self, context: Context, error: BaseException) -> None:
        match error:
            case Exception():
                await abort(context, translate(error))
            case _:
                raise error

    async def _serve(self, context: Context) -> None:
        if self._sessions > self._max_clients:
            raise ApiError(
                grpc.StatusCode.RESOURCE_EXHAUSTED, "this node serves as many clients as it may; try another"
            )
        try:
            async with asyncio.timeout(HELLO_TIMEOUT_S):
                first = await context.read()
        except TimeoutError:
            raise ApiError(grpc.StatusCode.DEADLINE_EXCEEDED, "a session says hello within ten seconds") from None
        if first is grpc.aio.EOF:
            return
        if first.WhichOneof("frame") != "hello":
            raise ApiError(grpc.StatusCode.INVALID_ARGUMENT, "the first frame of a session says hello")
        check_id_bound("received_up_to", first.hello.received_up_to)
        await self._authenticator.wait_for(first.hello.seen_index)
        session = await self._authenticator.session(context)
        device = await self._readers.run(lambda reader: reader.device(session.device_id))
        if device is None:
            raise ApiError(grpc.StatusCode.UNAUTHENTICATED, SIGNED_OUT_TEXT)
        stream = self._open(session, max(device.delivered_up_to, first.hello.received_up_to))
        try:
            # Once more: a session closed while this stream was on its way in was not there to be told.
            await self._authenticator.session(context)
            await context.write(pb.ServerFrame(welcome=self._welcome(session, device)))
            marks = await self._readers.run(lambda reader: reader.peer_marks(session.account_id, MISSED_RECEIPTS))
            for mark in marks:
                stream.offer_receipt(
                    receipt(mark.conversation_id, mark.account_id, mark.delivered_up_to, mark.read_up_to)
                )
            await ClientStream(session, stream, self._router, self._limits, context).run()
        finally:
            self._hub.leave(session.session_id, stream)

    def _open(self, session: SessionRecord, cursor: int) -> DeviceStream:
        async def fetch(after_id: int, limit: int) -> Page:
            page = await self._readers.run(
                lambda reader: reader.queued_page(session.account_id, after_id, limit, session.device_id)
            )
            return Page([to_proto(record, record.peer) for record in page.messages], page.up_to, page.more)

        stream = DeviceStream(
            session.account_id, session.device_external_id, cursor, fetch, max_live_bytes=self._limits.max_live_bytes
        )
        self._hub.join(session.session_id, stream)
        return stream

    def _welcome(self, session: SessionRecord, device: DeviceRecord) -> pb.Welcome:
        return pb.Welcome(
            account_id=session.account_id,
            account=session.account_name,
            last_send_number=device.last_send_number,
            delivered_up_to=device.delivered_up_to,
            node_name=self._node_name,
            status=self._hub.status,
            max_message_bytes=self._limits.max_message_bytes,
            max_sends_in_flight=MAX_SENDS_IN_FLIGHT,
        )

    @unary
    async def ListConversations(  # noqa: N802
        self, request: pb.ListConversationsRequest, context: Context
    ) -> pb.ListConversationsResponse:
        """The caller's conversations, the latest first."""
        limit = page_size("page_size", request.page_size)
        check_id_bound("before_message_id", request.before_message_id)
        await self._authenticator.wait_for(request.seen_index)
        session = await self._authenticator.session(context)
        applied_index, conversations = await self._readers.run(
            lambda reader: (
                reader.applied_index(),
                reader.conversations(session.account_id, request.before_message_id, limit + 1),
            )
        )
        shown = conversations[:limit]
        more = len(conversations) > limit
        return pb.ListConversationsResponse(
            conversations=[_conversation(record) for record in shown],
            next_before_message_id=shown[-1].last_message.id if more else 0,
            applied_index=applied_index,
        )

    @unary
    async def GetHistory(  # noqa: N802
        self, request: pb.GetHistoryRequest, context: Context
    ) -> pb.GetHistoryResponse:
        """One page of one conversation the caller is in."""
        limit = page_size("limit", request.limit)
        check_id_bound("before_id", request.before_id)
        await self._authenticator.wait_for(request.seen_index)
        session = await self._authenticator.session(context)
        conversation_id = await self._conversation_of(request, session)
        if conversation_id == 0:
            return pb.GetHistoryResponse(applied_index=await self._readers.run(lambda reader: reader.applied_index()))
        applied_index, messages = await self._readers.run(
            lambda reader: (
                reader.applied_index(),
                reader.history(session.account_id, conversation_id, request.before_id, limit + 1),
            )
        )
        shown = messages[-limit:]
        return pb.GetHistoryResponse(
            messages=[to_proto(record, record.peer) for record in shown],
            more=len(messages) > limit,
            applied_index=applied_index,
            conversation_id=conversation_id,
        )

    async def _conversation_of(self, request: pb.GetHistoryRequest, session: SessionRecord) -> int:
        """The conversation asked for, or 0 where the two have never spoken; raises ApiError."""
        if request.WhichOneof("which") == "peer":
            validate_account_name(request.peer, "peer")
            found = await self._readers.run(lambda reader: reader.conversation_with(session.account_id, request.peer))
            return found or 0
        check_id_bound("conversation_id", request.conversation_id)
        if not await self._readers.run(lambda reader: reader.is_member(request.conversation_id, session.account_id)):
            raise ApiError(grpc.StatusCode.NOT_FOUND, "you are in no such conversation")
        return request.conversation_id


def check_id_bound(field: str, value: int) -> None:
    """Raise InvalidInputError for an id no cluster can have given out."""
    if value >= 1 << 63:
        raise InvalidInputError(field, "is not an id any cluster gave out")


def _conversation(record: ConversationRecord) -> pb.Conversation:
    return pb.Conversation(
        id=record.conversation_id,
        peer=record.peer,
        peer_deleted=record.peer_deleted,
        last_message=to_proto(record.last_message, record.peer),
        unread=record.unread,
        read_up_to=record.read_up_to,
        peer_delivered_up_to=record.peer_delivered_up_to,
        peer_read_up_to=record.peer_read_up_to,
    )


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The error that ended the stream; what its other tasks raised came after it."""
    error = group.exceptions[0]
    return _first(error) if isinstance(error, BaseExceptionGroup) else error
