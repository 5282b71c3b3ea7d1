"""The Messaging service: admits Connect streams."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import grpc
import grpc.aio
import structlog

from parley_proto.v1 import messaging_pb2 as pb
from parley_proto.v1 import state_pb2
from parleyd.api.auth import Authenticator
from parleyd.api.callers import owner_of
from parleyd.api.client_stream import PAGE_PATIENCE, ClientStream
from parleyd.api.commands import Commands
from parleyd.api.errors import ApiError, Context, refusal
from parleyd.api.frame_rates import FrameRates
from parleyd.api.marks import AppliedMarks, IgnoredMarks, ReadMarks
from parleyd.api.node_marks import NodeMarks
from parleyd.api.patience import nobody_waits, write
from parleyd.api.requests import check_id, check_number
from parleyd.budgets import DeviceShare, Place, StreamBudgets
from parleyd.delivery.cursor import StreamCursor, decode_cursor
from parleyd.delivery.device_hub import DeviceHub
from parleyd.delivery.device_stream import DeviceStream
from parleyd.delivery.encoding import serialize_frame
from parleyd.delivery.records import account_info, receipt
from parleyd.delivery.stored_source import StoredSource
from parleyd.group.errors import OverloadedError, UnavailableError
from parleyd.group.readers import StateReaders
from parleyd.machine.features import accounts, devices, memberships, receipts, settings
from parleyd.machine.features.accounts import AccountCard
from parleyd.machine.features.devices import ClaimRow, DeviceRow
from parleyd.machine.features.sessions import SessionRecord
from parleyd.machine.limits import MAX_SENDS_IN_FLIGHT
from parleyd.machine.reader import StateReader
from parleyd.owners import Owner

HELLO_TIMEOUT_S = 5.0
CURSOR_CHECK_S = 1.0
MISSED_RECEIPTS = 200
"""Marks that a device receives when it connects; older ones come with ListConversations."""

NO_HELLO = "The stream had no hello within five seconds, so it ends. Nothing was changed. Connect again."
FIRST_FRAME = "The first frame of a stream must be a hello. The stream ends. Update the client."


@dataclass(frozen=True, slots=True)
class _Admitted:
    """What the state has about a device when its stream begins."""

    account: AccountCard
    device: DeviceRow
    claim: ClaimRow
    max_message_bytes: int
    last_message_id: int


class MessagingService:
    """Serves sending and receiving over one stream per device."""

    def __init__(
        self,
        node_name: str,
        commands: Commands,
        readers: StateReaders,
        authenticator: Authenticator,
        hub: DeviceHub,
        budgets: StreamBudgets,
    ) -> None:
        self._node_name = node_name
        self._commands = commands
        self._readers = readers
        self._authenticator = authenticator
        self._hub = hub
        self._budgets = budgets
        self._node_marks = NodeMarks(commands)
        self._frame_rates = FrameRates()

    async def Connect(self, _: object, context: Context) -> None:  # noqa: N802
        """Serve one device until either side ends."""
        try:
            await self._serve(context)
        except BaseExceptionGroup as group:
            raise _first(group) from None

    async def _serve(self, context: Context) -> None:
        try:
            async with asyncio.timeout(HELLO_TIMEOUT_S):
                first = await context.read()
        except TimeoutError:
            raise ApiError(grpc.StatusCode.DEADLINE_EXCEEDED, NO_HELLO) from None
        if first is grpc.aio.EOF:
            return
        if first.WhichOneof("frame") != "hello":
            raise ApiError(grpc.StatusCode.INVALID_ARGUMENT, FIRST_FRAME)
        hello = first.hello
        cursor = decode_cursor(hello.cursor)
        claim = _claim_in(hello)
        session = await self._authenticator.session_at(context, hello.seen)
        admitted = await self._readers.run(lambda reader: _admit(reader, session))
        if admitted is None:
            raise refusal(state_pb2.RESULT_CODE_SIGNED_OUT)
        generation = self._authenticator.position(0).generation
        superseded = admitted.claim.supersedes(claim)
        stored_up_to = await self._existing(cursor.message_id(generation), admitted.last_message_id, session.account_id)
        # What the device has received is not what a superseded copy of its files has.
        start = stored_up_to if superseded else self._start_after(admitted.device, stored_up_to)
        stream = self._open(session, start, generation, claim.nonce, owner_of(context, session.account_id))
        ignored_marks = IgnoredMarks(session.account_id)
        read_marks = self._read_marks(session, ignored_marks)
        try:
            # Checked again: a session that was closed during the admission did not end this stream.
            await self._authenticator.admit(context)
            welcome = pb.ServerFrame(welcome=self._welcome(admitted, generation, superseded=superseded))
            await write(context, welcome, PAGE_PATIENCE, nobody_waits)
            channels, marks = await self._readers.run(lambda reader: _missed(reader, session.account_id))
            self._hub.add_channels(stream, channels)
            for mark in marks:
                stream.offer_receipt(
                    receipt(mark.conversation_id, mark.account_id, mark.delivered_up_to, mark.read_up_to)
                )
            await ClientStream(
                session,
                stream,
                self._commands,
                self._authenticator,
                context,
                DeviceShare(self._budgets.sends, session.account_id, session.device_id),
                delivered_up_to=admitted.device.delivered_up_to,
                claim=hello.claim,
                read_marks=read_marks,
                ignored_marks=ignored_marks,
                node_marks=self._node_marks,
                frame_rate=self._frame_rates.of(session.account_id),
            ).run()
        finally:
            read_marks.close()
            self._hub.leave(stream)

    def _read_marks(self, session: SessionRecord, ignored: IgnoredMarks) -> ReadMarks:
        state = AppliedMarks(self._readers, self._authenticator, session.account_id)
        share = DeviceShare(self._budgets.marks, session.account_id, session.device_id)
        return ReadMarks(session, self._node_marks, state, share, ignored)

    async def _existing(self, stored_up_to: int, newest: int, account_id: int) -> int:
        """Return the device's own cursor, or 0 if it is beyond every message of the cluster.

        `newest` is the newest message that this node had applied at the admission. The cluster may have newer ones. If
        this node does not find that out in time, it trusts the cursor: a wrong one only concerns the device that sent
        it.
        """
        if stored_up_to <= newest:
            return stored_up_to
        try:
            async with asyncio.timeout(CURSOR_CHECK_S):
                await self._authenticator.read_barrier()
        except (TimeoutError, OverloadedError, UnavailableError):
            return stored_up_to
        if stored_up_to <= await self._readers.run(StateReader.last_message_id):
            return stored_up_to
        structlog.get_logger("api").info("cursor_ignored", account_id=account_id, message_id=stored_up_to)
        return 0

    def _start_after(self, device: DeviceRow, stored_up_to: int) -> int:
        """Return the message id after which the stream begins;

        the device's cursor may be lower or higher than its file.
        """
        return max(device.delivered_up_to, stored_up_to)

    def _open(self, session: SessionRecord, start: int, generation: int, claim: bytes, owner: Owner) -> DeviceStream:
        stream = DeviceStream(
            session.account_id,
            session.device_external_id,
            start,
            StoredSource(self._readers, session.account_id, session.device_external_id),
            generation=generation,
            claim=claim,
            live=DeviceShare(self._budgets.live, session.account_id, session.device_id),
            place=Place(self._budgets.pages, owner),
        )
        self._hub.join(session.session_id, stream)
        return stream

    def _welcome(self, admitted: _Admitted, generation: int, *, superseded: bool) -> pb.Welcome:
        return pb.Welcome(
            account=account_info(admitted.account),
            last_send_number=admitted.device.last_send_number,
            cursor=StreamCursor.at(generation, admitted.device.delivered_up_to).encode(),
            node_name=self._node_name,
            status=self._hub.status,
            max_message_bytes=admitted.max_message_bytes,
            max_sends_in_flight=MAX_SENDS_IN_FLIGHT,
            superseded=superseded,
            generation=generation,
        )


def add_messaging_to_server(service: MessagingService, server: grpc.aio.Server) -> None:
    """Register the service; unlike the generated function it sends frames that are encoded already unchanged."""
    descriptor = pb.DESCRIPTOR.services_by_name["Messaging"]
    connect: Any = service.Connect  # the type stubs have only the generator form of handlers
    handler: Any = grpc.stream_stream_rpc_method_handler(
        connect, request_deserializer=pb.ClientFrame.FromString, response_serializer=serialize_frame
    )
    generic = grpc.method_handlers_generic_handler(descriptor.full_name, {"Connect": handler})
    server.add_generic_rpc_handlers((generic,))


def _admit(reader: StateReader, session: SessionRecord) -> _Admitted | None:
    with reader.consistent():
        cards = accounts.cards(reader, {session.account_id})
        device = devices.by_id(reader, session.device_id)
        if device is None or not cards:
            return None
        claim = devices.claim_of(reader, session.device_id)
        most = settings.all_values(reader)["max_message_bytes"]
        return _Admitted(cards[0], device, claim, most, reader.last_message_id())


def _claim_in(hello: pb.Hello) -> ClaimRow:
    """Return the claim of the copy that connects. Raises InvalidInputError for one that no client makes."""
    check_number("claim.epoch", hello.claim.epoch)
    if hello.claim.epoch or hello.claim.nonce:
        check_id("claim.nonce", hello.claim.nonce)
    return ClaimRow(hello.claim.epoch, hello.claim.nonce)


def _missed(reader: StateReader, account_id: int) -> tuple[tuple[int, ...], tuple[receipts.Marks, ...]]:
    """Return the account's channels, and the marks of others that the device may have missed."""
    with reader.consistent():
        return (
            memberships.channels_of(reader, account_id),
            receipts.of_others(reader, account_id, MISSED_RECEIPTS),
        )


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """Return the error that ended the stream; the other tasks' errors came after it."""
    error = group.exceptions[0]
    return _first(error) if isinstance(error, BaseExceptionGroup) else error
