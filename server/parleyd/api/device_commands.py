"""The commands of one device: its sends and its delivery mark, whether they come on a stream or in a call.

Each has the claim of the copy of the device's files that made it. A submitted command is completed in every case: the
end of a stream, or of a call, does not take it back from the log. A retry of a send's number finds its result.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from parley_proto.v1 import messaging_pb2 as pb
from parley_proto.v1 import model_pb2, state_pb2
from parleyd.api.auth import Authenticator
from parleyd.api.commands import Commands
from parleyd.api.errors import count_refusal, refusal
from parleyd.api.message_text import normal_sends
from parleyd.api.node_marks import NodeMarks
from parleyd.api.results import explain
from parleyd.api.stream_ends import ended
from parleyd.budgets import DeviceShare
from parleyd.delivery.device_stream import CloseReason
from parleyd.group.errors import NoRoomError, OverloadedError, UnavailableError
from parleyd.group.proposals import AppliedCommands
from parleyd.machine.features.devices import CLAIM_LEVEL
from parleyd.machine.features.sends import TEXT_LEVEL
from parleyd.machine.features.sessions import SessionRecord
from parleyd.machine.limits import MAX_ID
from parleyd.observability.figures import service_figures
from parleyd.security.names import InvalidInputError

MAX_SENDS_PER_FRAME = 1024

RETRY_TEXT = (
    "The cluster did not confirm this message ({reason}). The client sends it again with the same number, so it is "
    "stored once."
)
NO_ROOM_TEXT = (
    "The cluster has no room for more messages now: {reason}. This message waits on its device and is sent when there "
    "is room. An administrator has to make some. Reading works."
)
TOO_MANY_BYTES = "too many bytes of messages wait for the log at this node"

SEND_STATUSES = {
    state_pb2.RESULT_CODE_OK: pb.SEND_STATUS_ACCEPTED,
    state_pb2.RESULT_CODE_FORGOTTEN: pb.SEND_STATUS_UNKNOWN,
    state_pb2.RESULT_CODE_GAP: pb.SEND_STATUS_GAP,
}
"""The meaning of a send's result code for its sender. Every other code refuses the send for good."""
ENDING_CODES = {
    state_pb2.RESULT_CODE_SIGNED_OUT: CloseReason.SIGNED_OUT,
    state_pb2.RESULT_CODE_DEVICE_SUPERSEDED: CloseReason.SUPERSEDED,
}
"""Results of a command as a whole that end the stream. No number was used."""


@dataclass(frozen=True, slots=True)
class SentResults:
    """The result of each send of a batch. `last_send_number` is the device's, 0 if no answer told it."""

    results: Sequence[pb.SendResult]
    position: model_pb2.Position
    last_send_number: int = 0


class DeviceCommands:
    """Submits the commands of one device."""

    def __init__(
        self,
        session: SessionRecord,
        claim: model_pb2.DeviceClaim,
        commands: Commands,
        node_marks: NodeMarks,
        authenticator: Authenticator,
        sends: DeviceShare,
    ) -> None:
        """`claim` says which copy of the device's files is connected. `sends` bounds the bytes without a result."""
        self._session = session
        self._claim = claim
        self._commands = commands
        self._node_marks = node_marks
        self._authenticator = authenticator
        self._share = sends

    # ---- sends

    def take(self, size: int) -> bool:
        """Take room for `size` bytes of sends; return False, and take nothing, if there is none now."""
        return self._share.take(size)

    @property
    def has_unanswered(self) -> bool:
        """Return whether sends that took room here have no result yet."""
        return bool(self._share.in_use)

    async def send(self, sends: Sequence[model_pb2.Send], size: int) -> SentResults:
        """Apply sends in order, and give their room back. A send that breaks a rule uses its number and is refused.

        Raises ApiError if the command was refused as a whole. Then no number was used, unless an earlier attempt has no
        known outcome.
        """
        # Below that level the text is stored as it came, by all nodes.
        texts = normal_sends(sends) if self._commands.level >= TEXT_LEVEL else sends
        command = state_pb2.SendMessages(session_id=self._session.session_id, sends=texts, claim=self._claim_now())
        submitting = asyncio.ensure_future(self._commands.submit([state_pb2.Command(send_messages=command)]))
        submitting.add_done_callback(lambda done: self._submitted(done, size))
        try:
            applied = await asyncio.shield(submitting)
        except NoRoomError as error:
            count_refusal(error)
            return not_taken(sends, str(error), pb.SEND_STATUS_NO_ROOM, NO_ROOM_TEXT)
        except (OverloadedError, UnavailableError) as error:
            count_refusal(error)
            return not_taken(sends, str(error))
        result = applied.results[0]
        if result.code in ENDING_CODES and not applied.after_unknown:
            raise ended(ENDING_CODES[result.code])
        if result.HasField("send_messages"):
            results = [_to_client(stored) for stored in result.send_messages.sends]
            service_figures().accepted += sum(one.status == pb.SEND_STATUS_ACCEPTED for one in results)
            position = self._authenticator.position(applied.index)
            return SentResults(results, position, result.send_messages.last_send_number)
        if result.code == state_pb2.RESULT_CODE_FAILED:
            # No number was used. The numbers after these would be gaps, so the client has to send these again.
            return not_taken(sends, "every node failed to apply it, their logs name the cause")
        # No number was used, so no send has a result.
        raise refusal(result.code, after_unknown=applied.after_unknown)

    def _submitted(self, done: asyncio.Future[AppliedCommands], size: int) -> None:
        # Not before: the end of the stream does not take the sends back from the log, so their bytes count until then.
        self._share.give_back(size)
        if not done.cancelled():
            done.exception()  # nobody waits for it any more if the stream has ended

    # ---- the delivery mark

    async def mark_delivered(self, up_to: int) -> int:
        """Record that the device has stored everything up to a message; return the device's mark, 0 if it was refused.

        Raises OverloadedError or UnavailableError.
        """
        mark = state_pb2.MarkDelivered(session_id=self._session.session_id, up_to=up_to, claim=self._claim_now())
        commands = [state_pb2.Command(mark_delivered=mark)]
        [result] = await self._node_marks.submit(self._session.account_id, commands)
        return result.mark_delivered.delivered_up_to

    def _claim_now(self) -> model_pb2.DeviceClaim | None:
        """Return what to put into a command: nothing before the cluster's level has claims."""
        return self._claim if self._commands.level >= CLAIM_LEVEL else None


def check_sends(sends: Sequence[model_pb2.Send]) -> None:
    """Raise InvalidInputError unless these sends may be one batch."""
    if not sends or len(sends) > MAX_SENDS_PER_FRAME:
        raise InvalidInputError("sends", f"holds {len(sends)} messages; 1 to {MAX_SENDS_PER_FRAME} make a frame")
    previous = 0
    for send in sends:
        if not previous < send.number <= MAX_ID:
            raise InvalidInputError("number", "must be 1 or more and rise within a frame; nothing of it was taken")
        previous = send.number


def too_many_bytes(sends: Sequence[model_pb2.Send]) -> SentResults:
    """Build the results of sends for which there is no room now."""
    service_figures().refusals["send_bytes"] += 1
    return not_taken(sends, TOO_MANY_BYTES)


def not_taken(
    sends: Sequence[model_pb2.Send],
    reason: str,
    status: pb.SendStatus.ValueType = pb.SEND_STATUS_RETRY,
    text: str = RETRY_TEXT,
) -> SentResults:
    """Build the results of sends that the client has to send again."""
    detail = text.format(reason=reason)
    return SentResults(
        [pb.SendResult(number=send.number, status=status, detail=detail) for send in sends], model_pb2.Position()
    )


def _to_client(stored: state_pb2.StoredSendResult) -> pb.SendResult:
    status = SEND_STATUSES.get(stored.code, pb.SEND_STATUS_REJECTED)
    answer = pb.SendResult(number=stored.number, status=status)
    if stored.code == state_pb2.RESULT_CODE_OK:
        answer.message_id = stored.message_id
        answer.conversation_id = stored.conversation_id
        answer.sent_at_ms = stored.sent_at_ms
    else:
        answer.detail = explain(stored.code).text
    return answer
