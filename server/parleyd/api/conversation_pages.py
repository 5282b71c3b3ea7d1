"""Pages of an account's conversations, and of the messages in one. All of a page belongs to one state."""

from __future__ import annotations

from parley_proto.v1 import conversations_pb2 as pb
from parley_proto.v1 import model_pb2, state_pb2
from parleyd.api.errors import refusal
from parleyd.api.requests import page_token
from parleyd.delivery.position import position_of
from parleyd.delivery.records import (
    MAX_ACCOUNT_INFO_BYTES,
    accounts_named,
    accounts_of,
    conversation_info,
    message,
)
from parleyd.machine.features import accounts, conversations, memberships, messages
from parleyd.machine.features.conversations import ConversationSummary
from parleyd.machine.features.history import History, HistoryPage
from parleyd.machine.features.messages import MessageRecord
from parleyd.machine.reader import StateReader


def listed(
    reader: StateReader, account_id: int, before_id: int, limit: int, most_bytes: int
) -> pb.ListConversationsResponse:
    """Return a page that ends at the first of its bounds. It costs what it holds, and one conversation more."""
    with reader.consistent():
        response = pb.ListConversationsResponse(position=position_of(reader))
        named: set[int] = set()
        size = last_id = 0
        for one in conversations.page(reader, account_id, before_id, limit + 1):
            last = messages.by_id(reader, one.conversation.id, one.conversation.last_message_id)
            names = accounts_of(() if last is None else (last,), (one.conversation,))
            summary = _summary(conversation_info(reader, one.conversation, account_id), one, last)
            size += summary.ByteSize() + MAX_ACCOUNT_INFO_BYTES * len(names - named)
            shown = len(response.conversations)
            if shown == limit or (shown and size > most_bytes):
                response.next_page_token = page_token(last_id)
                break
            last_id = one.conversation.last_message_id
            named |= names
            response.conversations.append(summary)
        response.accounts.extend(accounts_named(reader, named))
        return response


def _summary(
    info: model_pb2.ConversationInfo, record: ConversationSummary, last: MessageRecord | None
) -> pb.ConversationSummary:
    summary = pb.ConversationSummary(info=info, unread=record.unread, read_up_to=record.read_up_to)
    if last is not None:
        summary.last_message.CopyFrom(message(last))
    return summary


def history(
    reader: StateReader, account_id: int, request: pb.GetHistoryRequest, limit: int, most_bytes: int
) -> pb.GetHistoryResponse:
    """Return a page of the conversation of the request. Raises ApiError if the account was never in it."""
    with reader.consistent():
        asked_about: set[int] = {account_id}
        if request.WhichOneof("which") == "conversation_id":
            conversation_id = request.conversation_id
            if not _was_in(reader, conversation_id, account_id):
                raise refusal(state_pb2.RESULT_CODE_NO_SUCH_CONVERSATION)
        else:
            conversation_id = _direct(reader, account_id, request, asked_about)
        history = History(reader, account_id, conversation_id)
        page = _history_page(history, request, limit, most_bytes)
        conversation = conversations.as_seen_by(reader, conversation_id, account_id)
        return pb.GetHistoryResponse(
            messages=[message(record) for record in page.messages],
            has_older=page.has_older,
            has_newer=page.has_newer,
            read_up_to=history.read_up_to(),
            conversation=None if conversation is None else conversation_info(reader, conversation, account_id),
            accounts=accounts_named(
                reader, asked_about | accounts_of(page.messages, () if conversation is None else (conversation,))
            ),
            position=position_of(reader),
        )


def _was_in(reader: StateReader, conversation_id: int, account_id: int) -> bool:
    """Return whether the account is in a conversation, or was, also if it has removed all of it."""
    return bool(
        memberships.readable(reader, conversation_id, account_id)
        or memberships.removed_up_to(reader, conversation_id, account_id)
    )


def _history_page(history: History, request: pb.GetHistoryRequest, limit: int, most_bytes: int) -> HistoryPage:
    match request.WhichOneof("start"):
        case "after_id":
            return history.after(request.after_id, limit, most_bytes)
        case "around_id":
            return history.around(request.around_id, limit, most_bytes)
        case "first_unread" if request.first_unread:
            return history.around(history.read_up_to() + 1, limit, most_bytes)
        case _:
            return history.before(request.before_id, limit, most_bytes)


def _direct(reader: StateReader, account_id: int, request: pb.GetHistoryRequest, asked_about: set[int]) -> int:
    """Return the direct conversation with the account of the request, or 0 if the two have none."""
    if request.WhichOneof("which") == "account_id":
        asked_about.add(request.account_id)
        return conversations.direct_with(reader, account_id, request.account_id) or 0
    other = accounts.by_name(reader, request.account_name)
    if other is not None:
        asked_about.add(other.id)
    return conversations.direct_with_name(reader, account_id, request.account_name) or 0
