"""Applies what concerns messages: sends in order and once, delivery and reading marks.

A device is a numbered stream. Only its next number is applied; a lower one is a retry and gets its first result; a
higher one is refused, with everything behind it, so that order holds. A send that breaks a rule uses its number up too,
or the device could never go on.
"""

from __future__ import annotations

from parley_proto.v1 import state_pb2 as pb
from parleyd.machine import commands as c
from parleyd.machine.limits import MAX_BODY_BYTES
from parleyd.machine.records import MessageRecord, MessageStored, ReceiptMoved
from parleyd.machine.row_cache import AccountRow, DeviceRow, MarksRow, RowCache

SIGNED_OUT = "this session is closed, expired or unknown; nothing was changed. Log in again"


def send_messages(state: RowCache, command: pb.SendMessages) -> c.CommandResult:
    """Apply the sends of one device; each has a result of its own."""
    session = state.live_session(command.session_id)
    sender = None if session is None else state.account(session.account_id)
    if session is None or sender is None or not sender.active:
        return c.refusal(c.UNAUTHENTICATED, SIGNED_OUT)
    device = state.device(session.device_id)
    results: list[pb.StoredSendResult] = []
    gap = False
    for send in command.sends:
        number = send.number
        next_number = device.last_send_number + 1
        if gap or number > next_number:
            gap = True
            results.append(pb.StoredSendResult(number=number, code=c.GAP))
        elif number == next_number:
            results.append(_send(state, sender, device, send))
        else:
            results.append(_first_result(state, device, number))
    if gap:
        detail = f"an earlier send is missing; send again from number {device.last_send_number + 1} on"
        return c.CommandResult(code=c.GAP, detail=detail, last_send_number=device.last_send_number, sends=results)
    return c.CommandResult(code=c.OK, sends=results)


def mark_delivered(state: RowCache, command: pb.MarkDelivered) -> c.CommandResult:
    """Move the device's cursor, and with it the account's delivery marks where messages were waiting."""
    session = state.live_session(command.session_id)
    if session is None:
        return c.refusal(c.UNAUTHENTICATED, SIGNED_OUT)
    device = state.device(session.device_id)
    cursor = min(command.up_to, state.meta.last_message_id)
    if cursor > device.delivered_up_to:
        state.move_cursor(device, cursor)
        _move_delivery_marks(state, session.account_id, cursor)
    return c.CommandResult(code=c.OK, delivered_up_to=device.delivered_up_to)


def mark_conversation_read(state: RowCache, command: pb.MarkConversationRead) -> c.CommandResult:
    """Move the account's read mark of a conversation; what is read has been delivered."""
    session = state.live_session(command.session_id)
    if session is None:
        return c.refusal(c.UNAUTHENTICATED, SIGNED_OUT)
    conversation = state.conversation(command.conversation_id)
    marks = state.marks(command.conversation_id, session.account_id)
    if conversation is None or marks is None:
        return c.refusal(c.PERMISSION_DENIED, "you are in no such conversation; nothing was changed")
    read_up_to = min(command.up_to, conversation.last_message_id)
    if read_up_to > marks.read_up_to:
        _move(state, marks, max(marks.delivered_up_to, read_up_to), read_up_to)
        if marks.delivered_up_to >= conversation.last_message_id:
            state.undelivered(session.account_id).discard(conversation.id)
    return c.CommandResult(code=c.OK)


def _send(state: RowCache, sender: AccountRow, device: DeviceRow, send: pb.StoredSend) -> pb.StoredSendResult:
    body = send.body
    recipient = state.account_named(send.recipient)
    # A character has 1 to 4 bytes, so most bodies need no encoding to know that they fit.
    if not body or (len(body) > MAX_BODY_BYTES // 4 and len(body.encode()) > MAX_BODY_BYTES):
        return _refused(state, device, send.number, c.INVALID)
    if recipient is None:
        return _refused(state, device, send.number, c.NOT_FOUND)
    conversation = state.direct_conversation(sender.id, recipient.id)
    message_id = state.add_message(conversation, sender.id, device, send.number, body)
    state.use_number(device, send.number, c.OK, message_id, conversation.id)
    now_ms = state.meta.now_ms
    record = MessageRecord(
        conversation.id, message_id, sender.id, sender.name, body, now_ms, device.external, send.number
    )
    state.effects.append(MessageStored(record, conversation.recipients))
    return pb.StoredSendResult(
        number=send.number, code=c.OK, message_id=message_id, conversation_id=conversation.id, sent_at_ms=now_ms
    )


def _refused(state: RowCache, device: DeviceRow, number: int, code: pb.ResultCode.ValueType) -> pb.StoredSendResult:
    state.use_number(device, number, code, 0, 0)
    return pb.StoredSendResult(number=number, code=code, sent_at_ms=state.meta.now_ms)


def _first_result(state: RowCache, device: DeviceRow, number: int) -> pb.StoredSendResult:
    if number == 0:
        return pb.StoredSendResult(number=0, code=c.INVALID)
    stored = state.result(device.id, number)
    if stored is None:
        return pb.StoredSendResult(number=number, code=c.FORGOTTEN)
    code, message_id, conversation_id, sent_at_ms = stored
    return pb.StoredSendResult(
        number=number,
        code=c.as_code(code),
        message_id=message_id,
        conversation_id=conversation_id,
        sent_at_ms=sent_at_ms,
    )


def _move_delivery_marks(state: RowCache, account_id: int, cursor: int) -> None:
    waiting = state.undelivered(account_id)
    for conversation_id in sorted(waiting):
        conversation = state.conversation(conversation_id)
        marks = state.marks(conversation_id, account_id)
        if conversation is None or marks is None:
            continue
        delivered_up_to = min(cursor, conversation.last_message_id)
        if delivered_up_to > marks.delivered_up_to:
            _move(state, marks, delivered_up_to, marks.read_up_to)
        if marks.delivered_up_to >= conversation.last_message_id:
            waiting.discard(conversation_id)


def _move(state: RowCache, marks: MarksRow, delivered_up_to: int, read_up_to: int) -> None:
    state.move_marks(marks, delivered_up_to, read_up_to)
    conversation = state.conversation(marks.conversation_id)
    recipients = () if conversation is None else conversation.recipients
    watchers = tuple(r.account_id for r in recipients if r.account_id != marks.account_id)
    state.effects.append(ReceiptMoved(marks.conversation_id, marks.account_id, delivered_up_to, read_up_to, watchers))
