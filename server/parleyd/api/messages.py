"""The Messaging service: streams of devices, and the calls of devices that cannot hold one."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import grpc
import grpc.aio

from parley_proto.v1 import messaging_pb2 as pb
from parley_proto.v1 import model_pb2
from parleyd.api import stream_ends
from parleyd.api.admission import NO_BODY_TEXT
from parleyd.api.auth import Authenticator
from parleyd.api.client_stream import ClientStream
from parleyd.api.commands import Commands
from parleyd.api.device_commands import DeviceCommands, check_sends, too_many_bytes
from parleyd.api.errors import ApiError, Context, unary
from parleyd.api.fetch import MAX_FETCHED, FetchCall, FetchStream, check_fetch
from parleyd.api.frame_rates import FrameRates
from parleyd.api.marks import AppliedMarks, IgnoredMarks, ReadMarks
from parleyd.api.node_marks import NodeMarks
from parleyd.api.patience import nobody_waits, write
from parleyd.api.stream_opener import StreamOpener, claim_of
from parleyd.api.stream_person import StreamPerson, Typists
from parleyd.budgets import DeviceShare, StreamBudgets
from parleyd.call_errors import ungrouped
from parleyd.delivery.device_hub import DeviceHub
from parleyd.delivery.encoding import serialize_frame
from parleyd.delivery.records import receipt
from parleyd.group.readers import StateReaders
from parleyd.machine.features import channel_counts, memberships, receipts
from parleyd.machine.features.sessions import SessionRecord
from parleyd.machine.reader import StateReader
from parleyd.presence.clients import ConnectedClients

HELLO_TIMEOUT_S = 5.0
MISSED_RECEIPTS = 200
"""Marks that a device receives when it connects; older ones come with ListConversations."""

NO_HELLO = "The stream had no hello within five seconds, so it ends. Nothing was changed. Connect again."
FIRST_FRAME = "The first frame of a stream must be a hello. The stream ends. Update the client."


class MessagingService:
    """Serves sending and receiving: over one stream per device, or by single calls."""

    def __init__(
        self,
        node_name: str,
        commands: Commands,
        readers: StateReaders,
        authenticator: Authenticator,
        hub: DeviceHub,
        clients: ConnectedClients,
        budgets: StreamBudgets,
        node_marks: NodeMarks,
    ) -> None:
        self._commands = commands
        self._readers = readers
        self._authenticator = authenticator
        self._hub = hub
        self._budgets = budgets
        self._node_marks = node_marks
        self._frame_rates = FrameRates()
        self._typists = Typists(readers, clients)
        self.opener = StreamOpener(node_name, readers, authenticator, hub, budgets)

    async def Connect(self, _: object, context: Context) -> None:  # noqa: N802
        """Serve one device until either side ends."""
        await ungrouped(self._serve(context))

    async def Fetch(self, _: object, context: Context) -> None:  # noqa: N802
        """Answer with the next messages of a device. Served like a stream, so that the page is bounded like one."""
        await ungrouped(self._fetch(context))

    @unary
    async def Push(self, request: pb.PushRequest, context: Context) -> pb.PushResponse:  # noqa: N802
        """Apply numbered sends of a device."""
        check_sends(request.sends)
        claim_of(request.claim)
        session = await self._authenticator.session(context)
        device = self._device(session, request.claim)
        size = request.ByteSize()
        if device.take(size):
            sent = await device.send(request.sends, size)
        else:
            sent = too_many_bytes(request.sends)
        return pb.PushResponse(results=sent.results, position=sent.position, last_send_number=sent.last_send_number)

    async def _serve(self, context: Context) -> None:
        first = await _first_message(context)
        if first is None:
            return
        if first.WhichOneof("frame") != "hello":
            raise ApiError(grpc.StatusCode.INVALID_ARGUMENT, FIRST_FRAME)
        async with self.opener.opened(context, first.hello) as opened:
            session, stream = opened.session, opened.stream
            welcome = pb.ServerFrame(welcome=self.opener.welcome(opened, opened.delivered_up_to))
            await write(context, welcome, stream_ends.PAGE_PATIENCE, nobody_waits)
            missed = await self._readers.run(lambda reader: _missed(reader, session))
            self._hub.add_channels(stream, missed.channels)
            self._hub.receipt_counts.connected(session.account_id, missed.newest)
            for mark in missed.marks:
                stream.small_frames.offer_receipt(
                    receipt(mark.conversation_id, mark.account_id, mark.delivered_up_to, mark.read_up_to)
                )
            ignored_marks = IgnoredMarks(session.account_id)
            read_marks = self._read_marks(session, ignored_marks)
            try:
                await ClientStream(
                    session,
                    stream,
                    self._device(session, first.hello.claim),
                    self._authenticator,
                    context,
                    delivered_up_to=opened.delivered_up_to,
                    read_marks=read_marks,
                    ignored_marks=ignored_marks,
                    frame_rate=self._frame_rates.of(session.account_id),
                    person=StreamPerson(stream, self._hub, self._typists),
                ).run()
            finally:
                read_marks.close()

    async def _fetch(self, context: Context) -> None:
        request = await _first_message(context)
        if request is None:
            raise ApiError(grpc.StatusCode.INVALID_ARGUMENT, NO_BODY_TEXT)
        check_fetch(request)
        hello, limit = request.hello, request.limit or MAX_FETCHED
        async with self.opener.opened(context, hello, FetchStream, limit) as opened:
            session, stream = opened.session, opened.stream
            channels = await self._readers.run(lambda reader: memberships.channels_of(reader, session.account_id))
            self._hub.add_channels(stream, channels)
            call = FetchCall(opened, self._device(session, hello.claim), self._authenticator)
            rate = self._frame_rates.of(session.account_id)
            fetched = await call.run(request.wait_ms / 1000, rate)
            fetched.answer.welcome.CopyFrom(self.opener.welcome(opened, fetched.delivered_up_to))
            # The page keeps its place until it is written: a client that reads nothing makes this node keep the page.
            await write(context, fetched.answer, stream_ends.PAGE_PATIENCE, stream.is_page_wanted)

    def _device(self, session: SessionRecord, claim: model_pb2.DeviceClaim) -> DeviceCommands:
        share = DeviceShare(self._budgets.sends, session.account_id, session.device_id)
        return DeviceCommands(session, claim, self._commands, self._node_marks, self._authenticator, share)

    def _read_marks(self, session: SessionRecord, ignored: IgnoredMarks) -> ReadMarks:
        state = AppliedMarks(self._readers, self._authenticator, session.account_id)
        share = DeviceShare(self._budgets.marks, session.account_id, session.device_id)
        return ReadMarks(session, self._node_marks, state, share, ignored)


def add_messaging_to_server(service: MessagingService, server: grpc.aio.Server) -> None:
    """Register the service; unlike the generated function it sends frames that are encoded already unchanged."""
    name = pb.DESCRIPTOR.services_by_name["Messaging"].full_name
    connect: Any = service.Connect  # the type stubs have only the generator form of handlers
    fetch: Any = service.Fetch
    push: Any = service.Push
    handlers: dict[str, Any] = {
        "Connect": grpc.stream_stream_rpc_method_handler(connect, pb.ClientFrame.FromString, serialize_frame),
        # On the wire a stream of one message each way is a single call.
        "Fetch": grpc.stream_stream_rpc_method_handler(
            fetch, pb.FetchRequest.FromString, pb.FetchResponse.SerializeToString
        ),
        "Push": grpc.unary_unary_rpc_method_handler(push, pb.PushRequest.FromString, pb.PushResponse.SerializeToString),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(name, handlers),))


async def _first_message(context: Context) -> Any:
    """Return the first message of the client, or None if the client ended the call without one."""
    try:
        async with asyncio.timeout(HELLO_TIMEOUT_S):
            first = await context.read()
    except TimeoutError:
        raise ApiError(grpc.StatusCode.DEADLINE_EXCEEDED, NO_HELLO) from None
    return None if first is grpc.aio.EOF else first


@dataclass(frozen=True, slots=True)
class _Missed:
    """The account's channels, marks of others, and the device's newest messages in large channels."""

    channels: tuple[int, ...]
    marks: tuple[receipts.Marks, ...]
    newest: dict[int, int]


def _missed(reader: StateReader, session: SessionRecord) -> _Missed:
    """Return what the device may have missed besides messages."""
    with reader.consistent():
        return _Missed(
            memberships.channels_of(reader, session.account_id),
            receipts.of_others(reader, session.account_id, MISSED_RECEIPTS),
            channel_counts.newest_of_device(reader, session.device_id),
        )
