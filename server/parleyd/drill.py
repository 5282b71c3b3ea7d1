"""A drill: leadership moves to another node while small messages are sent, and what that cost is measured.

It is safe on a cluster that serves people. The leader transfers its leadership, as before a restart, and nothing is
stopped. The messages go from the administrator to himself, one after the other, as those of any device. So their
numbers tell whether one was lost or stored twice. They stay in that conversation.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from itertools import pairwise
from statistics import median
from time import perf_counter

from parley_proto.v1 import model_pb2, state_pb2
from parleyd.api.auth import Authenticator
from parleyd.api.commands import Commands
from parleyd.api.errors import Context, check_result, refusal
from parleyd.api.noted_requests import NotedRequests
from parleyd.group.errors import OverloadedError, UnavailableError
from parleyd.group.readers import StateReaders
from parleyd.machine.authorisation import Action
from parleyd.machine.features import devices, messages
from parleyd.machine.features.sessions import SessionRecord
from parleyd.machine.reader import StateReader

SPACING_S = 0.02
BEFORE_S = 1.0
AFTER_S = 1.5
MAX_PROBES = 300
TRIES_S = 15.0
"""How long a message is sent again without a result. Then the drill ends with an error."""


@dataclass(frozen=True, slots=True)
class DrillReport:
    """What a drill found. `pause_ms` is the longest time between two acknowledgements, `usual_ms` the middle one."""

    before: str
    after: str
    sent: int
    lost: int
    doubled: int
    pause_ms: float
    usual_ms: float


@dataclass(frozen=True, slots=True)
class _Acknowledged:
    number: int
    message_id: int
    conversation_id: int
    at_s: float


class DrillEndedError(Exception):
    """A drill that ended early, for `reason`. `sent` of its messages were acknowledged, and one more may be stored."""

    def __init__(self, sent: int, reason: Exception) -> None:
        super().__init__(str(reason))
        self.sent = sent
        self.reason = reason


class Drill:
    """Runs drills at one node."""

    def __init__(self, commands: Commands, readers: StateReaders, authenticator: Authenticator) -> None:
        self._commands = commands
        self._readers = readers
        self._authenticator = authenticator
        self._requests = NotedRequests(commands, lambda: authenticator.now_ms)

    async def admit(self, call: Context, node: str) -> SessionRecord:
        """Return the session of who may run a drill at this node, and put into the audit log that he does.

        Nothing is sent before. Raises ApiError, BehindError and UnavailableError; nothing was done then.
        """
        session = await self._authenticator.current_session_that_may(call, Action.CHANGE_CLUSTER, about="drill")
        await self._requests.note(session, state_pb2.NOTED_REQUEST_RUN_DRILL, node)
        return session

    async def run(
        self, session: SessionRecord, leader: Callable[[], str], transfer: Callable[[], Awaitable[str]]
    ) -> DrillReport:
        """Send from `session` while `transfer` moves the leadership and returns the new leader.

        Raises DrillEndedError with what ended it early, as what `transfer` raises.
        """
        acknowledged: list[_Acknowledged] = []
        try:
            return await self._measure(session, leader, transfer, acknowledged)
        except Exception as error:
            raise DrillEndedError(len(acknowledged), error) from error

    async def _measure(
        self,
        session: SessionRecord,
        leader: Callable[[], str],
        transfer: Callable[[], Awaitable[str]],
        acknowledged: list[_Acknowledged],
    ) -> DrillReport:
        before, is_over = leader(), asyncio.Event()
        probing = asyncio.ensure_future(self._probe(session, acknowledged, is_over))
        try:
            await asyncio.wait({probing}, timeout=BEFORE_S)
            after = await transfer()
            await asyncio.wait({probing}, timeout=AFTER_S)
            is_over.set()
            await probing
        finally:
            probing.cancel()
            await asyncio.gather(probing, return_exceptions=True)
        await self._authenticator.read_barrier()
        stored = await self._readers.run(lambda reader: _stored(reader, session, acknowledged))
        gaps = [b.at_s - a.at_s for a, b in pairwise(acknowledged)]
        return DrillReport(
            before=before,
            after=after,
            sent=len(acknowledged),
            lost=sum(not stored[one.message_id, one.number] for one in acknowledged),
            doubled=sum(count - 1 for count in _by_number(stored).values()),
            pause_ms=max(gaps, default=0.0) * 1000,
            usual_ms=median(gaps) * 1000 if gaps else 0.0,
        )

    async def _probe(self, session: SessionRecord, acknowledged: list[_Acknowledged], is_over: asyncio.Event) -> None:
        device = await self._readers.run(lambda reader: devices.by_id(reader, session.device_id))
        if device is None:
            raise refusal(state_pb2.RESULT_CODE_SIGNED_OUT)
        for number in range(device.last_send_number + 1, device.last_send_number + 1 + MAX_PROBES):
            body = f"Drill: message {number - device.last_send_number}"
            send = model_pb2.Send(number=number, account_id=session.account_id, body=body)
            stored = await self._send(session, send)
            acknowledged.append(_Acknowledged(number, stored.message_id, stored.conversation_id, perf_counter()))
            if is_over.is_set():
                return
            await asyncio.sleep(SPACING_S)

    async def _send(self, session: SessionRecord, send: model_pb2.Send) -> state_pb2.StoredSendResult:
        """Send one message until it has a result, as a client does: a repeated number is stored once."""
        command = state_pb2.SendMessages(session_id=session.session_id, sends=[send])
        until_s = perf_counter() + TRIES_S
        while True:
            try:
                applied = await self._commands.submit([state_pb2.Command(send_messages=command)])
            except (OverloadedError, UnavailableError):
                if perf_counter() > until_s:
                    raise
                await asyncio.sleep(SPACING_S)
                continue
            result = check_result(applied.results[0]).send_messages.sends[0]
            if result.code != state_pb2.RESULT_CODE_OK:
                raise refusal(result.code)
            return result


def _stored(reader: StateReader, session: SessionRecord, acknowledged: list[_Acknowledged]) -> Counter[tuple[int, int]]:
    """Count the messages of the drill as they are stored, by id and send number."""
    if not acknowledged:
        return Counter()
    first = acknowledged[0]
    found = messages.of_device(reader, first.conversation_id, session.device_external_id, first.message_id)
    return Counter((message_id, number) for message_id, number in found)


def _by_number(stored: Counter[tuple[int, int]]) -> Counter[int]:
    return Counter(number for _, number in stored.elements())
