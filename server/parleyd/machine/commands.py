"""What a log entry says, and how a result is written: the protobuf edge of the state machine."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import cast

from google.protobuf.message import DecodeError

from parley_proto.v1 import state_pb2 as pb

Command = pb.Command
CommandBatch = pb.CommandBatch
CommandResult = pb.CommandResult

OK = pb.RESULT_CODE_OK
ALREADY_EXISTS = pb.RESULT_CODE_ALREADY_EXISTS
NOT_FOUND = pb.RESULT_CODE_NOT_FOUND
UNAUTHENTICATED = pb.RESULT_CODE_UNAUTHENTICATED
PERMISSION_DENIED = pb.RESULT_CODE_PERMISSION_DENIED
INVALID = pb.RESULT_CODE_INVALID
GAP = pb.RESULT_CODE_GAP
FORGOTTEN = pb.RESULT_CODE_FORGOTTEN
FAILED = pb.RESULT_CODE_FAILED
CONFLICT = pb.RESULT_CODE_CONFLICT


def decode_batch(payload: bytes) -> CommandBatch | None:
    """Decode an entry's payload; None where it is none, which every node finds alike."""
    try:
        return CommandBatch.FromString(payload)
    except DecodeError:
        return None


def refusal(code: pb.ResultCode.ValueType, detail: str) -> CommandResult:
    """A result of a command that changed nothing."""
    return CommandResult(code=code, detail=detail)


def as_code(number: int) -> pb.ResultCode.ValueType:
    """A code read back from a table; codes newer than this release pass through."""
    return cast("pb.ResultCode.ValueType", number)


def canonical(results: Sequence[CommandResult]) -> bytes:
    """Results as bytes for the state hash: all numbers, and no texts, which may be reworded between releases."""
    numbers: list[int] = [len(results)]
    for result in results:
        numbers += (
            result.code,
            result.account_id,
            result.session_id,
            result.last_send_number,
            result.delivered_up_to,
            len(result.sends),
        )
        for send in result.sends:
            numbers += (send.number, send.code, send.message_id, send.conversation_id, send.sent_at_ms)
    return struct.pack(f"<{len(numbers)}Q", *numbers)
