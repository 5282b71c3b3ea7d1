"""Sends: the messages of a device, in its order and each once.

A device is a numbered stream. Only its next number is applied. A lower number is a retry and gets its first result. A
higher number is refused, with everything after it, so that the order holds. A send that breaks a rule uses its number
too, because the device could not continue otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias
from zlib import crc32

from parley_proto.v1 import model_pb2
from parley_proto.v1 import state_pb2 as pb
from parleyd.machine.audit_actions import NotAudited
from parleyd.machine.authorisation import Action, Role
from parleyd.machine.feature import Feature, SignedInCommand, result
from parleyd.machine.features.accounts import DELETED
from parleyd.machine.features.conversations import CHANNEL, DIRECT
from parleyd.machine.features.memberships import CHANNELS_LEVEL, EVERYONE_ID
from parleyd.machine.features.messages import NORMAL, TEXT
from parleyd.machine.features.stored_bytes import ROW_BYTES
from parleyd.machine.limits import MAX_ID
from parleyd.machine.names import NAME_RULES_LEVEL, name_key

if TYPE_CHECKING:
    from parleyd.machine.features.accounts import AccountRow
    from parleyd.machine.features.conversations import ConversationRow
    from parleyd.machine.features.devices import DeviceRow
    from parleyd.machine.features.messages import Appender
    from parleyd.machine.features.sessions import Actor
    from parleyd.machine.state import State

TEXT_LEVEL = 3
"""The first level at which nodes change a text before it enters the log, and say what it was."""

PRIORITY_LEVEL = 3
"""The first level at which a message may be urgent. A priority that this release does not know is a normal one."""
URGENT = model_pb2.MESSAGE_PRIORITY_URGENT

_Code: TypeAlias = pb.ResultCode.ValueType


def send_messages(state: State, actor: Actor, command: pb.SendMessages) -> pb.CommandResult:
    """Apply the sends of one device; each has a result of its own."""
    device = state.devices.get(actor.device_id)
    refused = state.devices.claim(device, command.claim)
    if refused != pb.RESULT_CODE_OK:
        return result(refused)
    sends = _Sends(state, actor.account, device)
    now_ms = state.meta.now_ms
    outcome = pb.CommandResult(code=pb.RESULT_CODE_OK)
    results = outcome.send_messages.sends
    gap = False
    for send in command.sends:
        number = send.number
        next_number = device.last_send_number + 1
        stored = results.add()  # fields set one by one take half of the time of arguments
        stored.number = number
        if gap or number > next_number:
            gap = True
            stored.code = pb.RESULT_CODE_GAP
        elif number == next_number:
            sends.apply(number, send, stored)
            stored.sent_at_ms = now_ms
        else:
            stored.CopyFrom(_first_result(state, device, send))
    sends.finish()
    if gap:
        outcome.code = pb.RESULT_CODE_GAP
    outcome.send_messages.last_send_number = device.last_send_number
    return outcome


@dataclass(slots=True)
class _Target:
    """What the sends of one command to one target share.

    `appender` adds the sends where they belong, or is the code that refuses them; None as long as no send needed it.
    """

    length: int
    checksum: int
    appender: Appender | _Code | None = None

    @classmethod
    def of(cls, kind: str | None, value: str | int) -> _Target:
        """Begin the digest with the target, as the client gave it."""
        # The length separates the parts: a name may have spaces here, because a name of no account is hashed too.
        content = f"{kind} {len(str(value))} {value}".encode()
        return cls(len(content), crc32(content))

    def digest(self, body: bytes) -> int:
        """Return length and checksum of a send: its target and its body.

        A device that finds two contents with one digest harms only itself, so the checksum may be weak but must be
        cheap.
        """
        return (self.length + len(body)) << 32 | crc32(body, self.checksum)


class _Sends:
    """The sends of one command. What they share is looked up once: it takes half of the time of their apply."""

    def __init__(self, state: State, sender: AccountRow, device: DeviceRow) -> None:
        self._state = state
        self._sender = sender
        self._device = device
        self._first_number = device.last_send_number
        self._max_bytes = state.settings.value("max_message_bytes")
        self._room = state.stored_bytes.room(sender.id)
        self._urgent = URGENT if state.level >= PRIORITY_LEVEL else None
        self._stored = 0
        self._count = 0
        self._targets: dict[tuple[str | None, str | int, int], _Target] = {}
        self._appenders: dict[int, Appender] = {}  # by conversation, which may be the target by name and by id

    def apply(self, number: int, send: model_pb2.Send, stored: pb.StoredSendResult) -> None:
        """Store the device's next send; fill in its code, message id and conversation id."""
        body = send.body
        encoded = body.encode()
        target = self._target(send)
        appender = self._appender(send, target, len(encoded))
        digest = _original_digest(self._state, send) or target.digest(encoded)
        if isinstance(appender, int):
            stored.code = appender
            self._state.devices.use_number(self._device, number, digest, appender, 0, 0)
            return
        self._stored += ROW_BYTES + len(encoded)
        self._count += 1
        priority = URGENT if send.priority == self._urgent else NORMAL
        message_id = appender.add(TEXT, body, send_number=number, priority=priority)
        stored.code = pb.RESULT_CODE_OK
        stored.message_id = message_id
        stored.conversation_id = appender.conversation_id
        self._state.devices.use_number(
            self._device, number, digest, pb.RESULT_CODE_OK, message_id, appender.conversation_id
        )

    def finish(self) -> None:
        """Record what the sends changed together: numbers, counts, conversations, and the bytes of the account."""
        for appender in self._appenders.values():
            appender.finish()
        self._state.meta.message_count += self._count
        if self._device.last_send_number != self._first_number:
            self._state.devices.changed(self._device)
        if self._stored:
            self._state.stored_bytes.add(self._sender.id, self._stored)

    def _target(self, send: model_pb2.Send) -> _Target:
        kind, value = _named(send)
        key = (kind, value, send.known_index)
        found = self._targets.get(key)
        if found is None:
            found = self._targets[key] = _Target.of(kind, value)
        return found

    def _appender(self, send: model_pb2.Send, target: _Target, size: int) -> Appender | _Code:
        """Return what adds to the conversation of the send, or the code that refuses it."""
        if not 0 < size <= self._max_bytes:
            return pb.RESULT_CODE_INVALID_BODY
        found = target.appender
        if found is None:
            found = target.appender = self._resolve(send)
        if not isinstance(found, int) and self._stored + ROW_BYTES + size > self._room:
            return pb.RESULT_CODE_QUOTA_REACHED
        return found

    def _resolve(self, send: model_pb2.Send) -> Appender | _Code:
        conversation = _resolve(self._state, self._sender, send)
        if isinstance(conversation, int):
            return conversation
        if conversation.id not in self._appenders:
            self._appenders[conversation.id] = self._state.messages.appender(
                conversation, self._sender.id, self._device.external
            )
        return self._appenders[conversation.id]


def _resolve(state: State, sender: AccountRow, send: model_pb2.Send) -> ConversationRow | _Code:
    """Return the conversation of a send, created now if the pair has none, or the code that refuses it."""
    match send.WhichOneof("target"):
        case "account_name":
            if _is_for_a_former_owner(state, send):
                return pb.RESULT_CODE_NAME_CHANGED_OWNER
            account = state.accounts.named(send.account_name)
        case "account_id":
            account = state.accounts.find(send.account_id)
        case "conversation_id":
            return _resolve_conversation(state, sender, send.conversation_id)
        case _:
            return pb.RESULT_CODE_INVALID_TARGET
    if account is None or not account.active:
        return pb.RESULT_CODE_NO_SUCH_ACCOUNT
    return state.conversations.direct(sender.id, account.id)


def _is_for_a_former_owner(state: State, send: model_pb2.Send) -> bool:
    """Return whether the name may have meant another account when the send was queued on its device.

    If no account of the name was deleted since, the name had one owner at most: the account that has it now.
    """
    if state.level < NAME_RULES_LEVEL or not send.known_index:
        return False
    query = "SELECT 1 FROM accounts WHERE name_key = ? AND status = ? AND deleted_at_index > ? LIMIT 1"
    bindings = (name_key(send.account_name), DELETED, min(send.known_index, MAX_ID))
    return state.connection.execute(query, bindings).get is not None


def _resolve_conversation(state: State, sender: AccountRow, conversation_id: int) -> ConversationRow | _Code:
    if conversation_id == EVERYONE_ID and state.level >= CHANNELS_LEVEL:
        if sender.role != Role.ADMINISTRATOR and not state.settings.value("everyone_writers"):
            return pb.RESULT_CODE_ADMINISTRATORS_WRITE
        return state.conversations.everyone()
    conversation = state.conversations.find(conversation_id)
    if conversation is None or state.receipts.marks(conversation_id, sender.id) is None:
        return pb.RESULT_CODE_NO_SUCH_CONVERSATION
    if conversation.kind == CHANNEL and state.channels.get(conversation_id).archived:
        return pb.RESULT_CODE_CHANNEL_ARCHIVED
    if conversation.kind == DIRECT:
        other = state.accounts.find(conversation.high if sender.id == conversation.low else conversation.low)
        if other is None or not other.active:
            return pb.RESULT_CODE_NO_SUCH_ACCOUNT
    return conversation


def _first_result(state: State, device: DeviceRow, send: model_pb2.Send) -> pb.StoredSendResult:
    if send.number == 0:
        return pb.StoredSendResult(number=0, code=pb.RESULT_CODE_INVALID_NUMBER)
    kept = state.devices.result(device.id, send.number)
    if kept is None:
        return pb.StoredSendResult(number=send.number, code=pb.RESULT_CODE_FORGOTTEN)
    if kept.digest != (_original_digest(state, send) or digest_of(send)):
        return pb.StoredSendResult(number=send.number, code=pb.RESULT_CODE_MISMATCH)
    return pb.StoredSendResult(
        number=send.number,
        code=kept.code,  # type: ignore[arg-type] # a code of this release or, after a downgrade, of a later one
        message_id=kept.message_id,
        conversation_id=kept.conversation_id,
        sent_at_ms=kept.sent_at_ms,
    )


def _original_digest(state: State, send: model_pb2.Send) -> int:
    """Return the digest of the text that the client sent, if a node has changed it; otherwise 0."""
    return send.original_digest if state.level >= TEXT_LEVEL and send.original_digest <= MAX_ID else 0


def digest_of(send: model_pb2.Send) -> int:
    """Return what tells the content of a send from others."""
    return _Target.of(*_named(send)).digest(send.body.encode())


def _named(send: model_pb2.Send) -> tuple[str | None, str | int]:
    """Return the kind of a send's target, and the target."""
    kind = send.WhichOneof("target")
    return kind, "" if kind is None else getattr(send, kind)


FEATURE = Feature(
    "sends",
    commands={
        "send_messages": SignedInCommand(send_messages, Action.SEND_MESSAGES, grows=True, audits=NotAudited.CONTENT)
    },
)
