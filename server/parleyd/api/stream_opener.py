"""Opens the stream of a device, for Connect and for Fetch: who calls, which copy of its files, and from where on.

The session is checked before anything is read for the device, and again after the stream is registered. So a session
that was closed meanwhile keeps no stream.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import structlog

from parley_proto.v1 import messaging_pb2 as pb
from parley_proto.v1 import model_pb2, state_pb2
from parleyd.api.auth import Authenticator
from parleyd.api.callers import owner_of
from parleyd.api.errors import Context, refusal
from parleyd.api.requests import check_id, check_number
from parleyd.budgets import DeviceShare, Place, StreamBudgets
from parleyd.delivery.cursor import StreamCursor, decode_cursor
from parleyd.delivery.device_hub import DeviceHub
from parleyd.delivery.device_stream import PAGE_MESSAGES, DeviceStream
from parleyd.delivery.records import account_info
from parleyd.delivery.stored_source import StoredSource
from parleyd.group.errors import OverloadedError, UnavailableError
from parleyd.group.readers import StateReaders
from parleyd.machine.features import accounts, devices, settings
from parleyd.machine.features.accounts import AccountCard
from parleyd.machine.features.devices import ClaimRow, DeviceRow
from parleyd.machine.features.sessions import SessionRecord
from parleyd.machine.limits import MAX_SENDS_IN_FLIGHT
from parleyd.machine.reader import StateReader

CURSOR_CHECK_S = 1.0


@dataclass(frozen=True, slots=True)
class Admitted:
    """What the state has about a device when its stream begins."""

    account: AccountCard
    device: DeviceRow
    claim: ClaimRow
    max_message_bytes: int
    last_message_id: int


@dataclass(frozen=True, slots=True)
class OpenStream:
    """A registered stream. With `superseded` another copy of the device's files sends, and this one only reads.

    `stored_up_to` is what the device has by its own cursor, 0 if that names nothing of this cluster.
    """

    session: SessionRecord
    admitted: Admitted
    stream: DeviceStream
    stored_up_to: int
    generation: int
    superseded: bool

    @property
    def delivered_up_to(self) -> int:
        """Return what the cluster knew when the stream began that the device has."""
        return self.admitted.device.delivered_up_to


class StreamOpener:
    """Opens the streams of one node."""

    def __init__(
        self,
        node_name: str,
        readers: StateReaders,
        authenticator: Authenticator,
        hub: DeviceHub,
        budgets: StreamBudgets,
    ) -> None:
        self._node_name = node_name
        self._readers = readers
        self._authenticator = authenticator
        self._hub = hub
        self._budgets = budgets

    @asynccontextmanager
    async def opened(
        self,
        context: Context,
        hello: pb.Hello,
        kind: type[DeviceStream] = DeviceStream,
        page_messages: int = PAGE_MESSAGES,
    ) -> AsyncIterator[OpenStream]:
        """Have a stream of the device registered while inside. An older one of the same copy of its files ends.

        Raises ApiError, and what is wrong with `hello`.
        """
        cursor = decode_cursor(hello.cursor)
        claim = claim_of(hello.claim)
        session = await self._authenticator.session_at(context, hello.seen)
        admitted = await self._readers.run(lambda reader: _admit(reader, session))
        if admitted is None:
            raise refusal(state_pb2.RESULT_CODE_SIGNED_OUT)
        generation = self._authenticator.position(0).generation
        superseded = admitted.claim.supersedes(claim)
        stored_up_to = await self._existing(cursor.message_id(generation), admitted.last_message_id, session.account_id)
        # What the device has received is not what a superseded copy of its files has.
        start = stored_up_to if superseded else self.start_after(admitted.device, stored_up_to)
        stream = kind(
            session.account_id,
            session.device_external_id,
            start,
            StoredSource(self._readers, session.account_id, session.device_external_id),
            generation=generation,
            claim=claim.nonce,
            live=DeviceShare(self._budgets.live, session.account_id, session.device_id),
            place=Place(self._budgets.pages, owner_of(context, session.account_id)),
            page_messages=page_messages,
        )
        self._hub.join(session.session_id, stream)
        try:
            # Checked again: a session that was closed during the admission did not end this stream.
            await self._authenticator.admit(context)
            yield OpenStream(session, admitted, stream, stored_up_to, generation, superseded)
        finally:
            self._hub.leave(stream)

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

    def start_after(self, device: DeviceRow, stored_up_to: int) -> int:
        """Return the message id after which the stream begins;

        the device's cursor may be lower or higher than its file.
        """
        return max(device.delivered_up_to, stored_up_to)

    def welcome(self, opened: OpenStream, delivered_up_to: int) -> pb.Welcome:
        """Build what a device is told first. `delivered_up_to` is what the cluster knows that it has."""
        admitted = opened.admitted
        return pb.Welcome(
            account=account_info(admitted.account),
            last_send_number=admitted.device.last_send_number,
            cursor=StreamCursor.at(opened.generation, delivered_up_to).encode(),
            node_name=self._node_name,
            status=self._hub.status,
            max_message_bytes=admitted.max_message_bytes,
            max_sends_in_flight=MAX_SENDS_IN_FLIGHT,
            superseded=opened.superseded,
            generation=opened.generation,
            takes_away=True,
            takes_typing=True,
        )


def claim_of(wire: model_pb2.DeviceClaim) -> ClaimRow:
    """Return the claim of the copy that calls. Raises InvalidInputError for one that no client makes."""
    check_number("claim.epoch", wire.epoch)
    if wire.epoch or wire.nonce:
        check_id("claim.nonce", wire.nonce)
    return ClaimRow(wire.epoch, wire.nonce)


def _admit(reader: StateReader, session: SessionRecord) -> Admitted | None:
    with reader.consistent():
        cards = accounts.cards(reader, {session.account_id})
        device = devices.by_id(reader, session.device_id)
        if device is None or not cards:
            return None
        claim = devices.claim_of(reader, session.device_id)
        most = settings.all_values(reader)["max_message_bytes"]
        return Admitted(cards[0], device, claim, most, reader.last_message_id())
