"""GetReceipts: what the sender of one message may know about it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import grpc

from parley_proto.v1 import conversations_pb2 as pb
from parley_proto.v1 import state_pb2
from parleyd.api.auth import Authenticator
from parleyd.api.cluster_view import ClusterView
from parleyd.api.errors import ApiError, Context, refusal
from parleyd.api.requests import check_number, entries_within_page, page_size
from parleyd.delivery.position import position_of
from parleyd.delivery.records import MAX_ACCOUNT_INFO_BYTES, accounts_named
from parleyd.group.readers import StateReaders
from parleyd.machine.features import memberships, message_receipts
from parleyd.machine.features.message_receipts import StoredMessage
from parleyd.machine.reader import StateReader

# A member: an account, and with it an id, two flags, tags and lengths.
_ENTRY_BYTES = MAX_ACCOUNT_INFO_BYTES + 24
NO_MESSAGE_TEXT = (
    "There is no such message that you may read in this conversation. Nothing was changed. Check the ids of "
    "conversation and message."
)
NOT_THE_SENDER_TEXT = (
    "Somebody else sent this message, and only the sender of a message sees its receipts. Nothing was changed."
)


@dataclass(frozen=True, slots=True)
class MessageReceipts:
    """Answers for one message: members by their marks, nodes by the leader's match indices.

    `holders` returns the node ids of the members that have an entry on disk, or None if that is not known.
    """

    readers: StateReaders
    authenticator: Authenticator
    view: ClusterView
    holders: Callable[[int], Awaitable[frozenset[int] | None]]

    async def get(self, request: pb.GetReceiptsRequest, context: Context) -> pb.GetReceiptsResponse:
        """Return one page of the members; the first page has the counts and the nodes too."""
        limit = entries_within_page(page_size("page_size", request.page_size), _ENTRY_BYTES)
        check_number("conversation_id", request.conversation_id)
        check_number("message_id", request.message_id)
        check_number("after_account_id", request.after_account_id)
        session = await self.authenticator.session_at(context, request.seen)
        answer, message = await self.readers.run(lambda reader: _read(reader, session.account_id, request, limit))
        if not request.after_account_id:
            answer.disks.CopyFrom(await self._disks(message))
        return answer

    async def _disks(self, message: StoredMessage) -> pb.DiskReceipt:
        index = message.entry_index
        holders = await self.holders(index) if index else None
        receipt = pb.DiskReceipt(known=holders is not None, term=message.entry_term, log_index=index)
        if holders is None:
            return receipt
        for member in self.view.members():
            (receipt.nodes if member.node_id in holders else receipt.others).append(member.name)
        return receipt


def _read(
    reader: StateReader, account_id: int, request: pb.GetReceiptsRequest, limit: int
) -> tuple[pb.GetReceiptsResponse, StoredMessage]:
    with reader.consistent():
        if not memberships.is_member(reader, request.conversation_id, account_id):
            raise refusal(state_pb2.RESULT_CODE_NO_SUCH_CONVERSATION)
        message = message_receipts.find(reader, request.conversation_id, request.message_id)
        spans = memberships.readable(reader, request.conversation_id, account_id)
        if message is None or not any(span.first <= message.id <= span.last for span in spans):
            raise ApiError(grpc.StatusCode.NOT_FOUND, NO_MESSAGE_TEXT)
        if message.sender_id != account_id:
            raise ApiError(grpc.StatusCode.PERMISSION_DENIED, NOT_THE_SENDER_TEXT)
        found = message_receipts.by_member(reader, message, request.after_account_id, limit + 1)
        shown = found[:limit]
        answer = pb.GetReceiptsResponse(
            members=[
                pb.MemberReceipt(account_id=one.account_id, delivered=one.delivered, read=one.read) for one in shown
            ],
            accounts=accounts_named(reader, (one.account_id for one in shown)),
            next_after_account_id=shown[-1].account_id if len(found) > limit else 0,
            position=position_of(reader),
        )
        if not request.after_account_id:
            counted = message_receipts.counts(reader, message)
            answer.counts.others = counted.others
            answer.counts.delivered = counted.delivered
            answer.counts.read = counted.read
        return answer, message
