"""The call about the receipts of a message, typed."""

from parley.model import Account
from parley.net.channel_calls import MAX_PAGE, Calls, Invoke
from parley.net.unary_caller import bearer
from parley.receipt_model import MemberReceipt, MessageReceipts
from parley.wire import convert
from parley.wire.position import Position
from parley.wire.requests import build
from parley_proto.v1 import conversations_pb2 as pb
from parley_proto.v1.conversations_pb2_grpc import ConversationsStub


class ReceiptCalls:
    """Requests about receipts to whichever node answers."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    async def of_message(
        self, token: str, seen: Position, conversation_id: int, message_id: int, limit: int
    ) -> MessageReceipts:
        """Return the receipts of one message, with at most `limit` members. The counts are as of the first page."""
        found: list[MemberReceipt] = []
        first: pb.GetReceiptsResponse | None = None
        after = 0
        while True:
            request = build(
                pb.GetReceiptsRequest,
                conversation_id=conversation_id,
                message_id=message_id,
                after_account_id=after,
                page_size=max(1, min(MAX_PAGE, limit - len(found))),
                seen=self._calls.seen(seen),
            )
            page = await self._calls.call(_get_receipts(request, token), changes=False)
            self._calls.saw(page.position)
            first = first or page
            found.extend(_members(page))
            after = page.next_after_account_id
            if not after or len(found) >= limit:
                break
        return MessageReceipts(
            conversation_id=conversation_id,
            message_id=message_id,
            others=first.counts.others,
            delivered=first.counts.delivered,
            read=first.counts.read,
            members=tuple(found[:limit]),
            disks_known=first.disks.known,
            on_disk=tuple(first.disks.nodes),
            not_on_disk=tuple(first.disks.others),
            term=first.disks.term,
            log_index=first.disks.log_index,
        )


def _members(page: pb.GetReceiptsResponse) -> list[MemberReceipt]:
    accounts = {account.id: convert.account(account) for account in page.accounts}
    return [
        MemberReceipt(accounts.get(one.account_id, Account(one.account_id, "")), one.delivered, one.read)
        for one in page.members
    ]


def _get_receipts(request: pb.GetReceiptsRequest, token: str) -> Invoke[pb.GetReceiptsResponse]:
    return lambda channel: ConversationsStub(channel).GetReceipts(request, metadata=bearer(token))
