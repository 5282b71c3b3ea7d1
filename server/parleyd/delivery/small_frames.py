"""What one device receives beside messages: results of its sends, marks of others, the cluster's status, who types.

Nothing here grows with a slow device. Receipts are marks that only grow, so the highest per member replaces lower ones.
A new status replaces an older one. Results are bounded by the unanswered sends.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence

from parley_proto.v1 import messaging_pb2 as pb
from parley_proto.v1 import model_pb2
from parleyd.delivery import records
from parleyd.delivery.position import merged

RECEIPTS_PER_FRAME = 256
MAX_TYPISTS = 32
"""What more accounts type at once is not told: it is said again three seconds later."""
TYPING_FRESH_S = 2.0
"""A device that reads nothing for longer is not told what was typed meanwhile."""


class SmallFrames:
    """The frames beside messages that wait for one device."""

    def __init__(self, wake: Callable[[], None]) -> None:
        """`wake` is called when something waits."""
        self._wake = wake
        self._results: list[pb.SendResult] = []
        self._results_position = model_pb2.Position()
        self._receipts: dict[tuple[int, int], pb.Receipt] = {}
        self._counts: dict[int, pb.ReceiptCount] = {}
        self._status: pb.ClusterStatusUpdate | None = None
        self._pong: int | None = None
        self._typists: dict[tuple[int, int], float] = {}

    # ---- filled by the hub and by the upward side

    def offer_results(self, results: Sequence[pb.SendResult], position: model_pb2.Position) -> None:
        """Queue results of this device's sends; their number is bounded by the unanswered sends."""
        self._results.extend(results)
        self._results_position = merged(self._results_position, position)
        self._wake()

    def offer_receipt(self, receipt: pb.Receipt) -> None:
        """Queue another member's marks. Those that were read while the device connects may come after newer ones."""
        key = (receipt.conversation_id, receipt.account_id)
        waiting = self._receipts.get(key)
        if waiting is not None:
            delivered_up_to = max(waiting.delivered_up_to, receipt.delivered_up_to)
            receipt = records.receipt(*key, delivered_up_to, max(waiting.read_up_to, receipt.read_up_to))
        self._receipts[key] = receipt
        self._wake()

    def offer_count(self, count: pb.ReceiptCount) -> None:
        """Queue the counts of this account's newest message in a large channel; newer ones replace them."""
        self._counts[count.conversation_id] = count
        self._wake()

    def drop_members(self, conversation_id: int, account_ids: Iterable[int]) -> None:
        """Forget the marks of accounts that are members no longer, and that they type."""
        for account_id in account_ids:
            self._receipts.pop((conversation_id, account_id), None)
            self._typists.pop((conversation_id, account_id), None)

    def offer_status(self, status: pb.ClusterStatusUpdate) -> None:
        """Queue a new condition of the cluster."""
        self._status = status
        self._wake()

    def offer_pong(self, nonce: int) -> None:
        """Queue the answer to a ping; the latest answer replaces earlier ones."""
        self._pong = nonce
        self._wake()

    def offer_typing(self, conversation_id: int, account_id: int) -> None:
        """Queue that another member types."""
        if len(self._typists) < MAX_TYPISTS:
            self._typists[(conversation_id, account_id)] = time.monotonic()
            self._wake()

    # ---- drained by the stream

    @property
    def has_more(self) -> bool:
        """Return whether take() has something to return."""
        waiting = self._results or self._receipts or self._counts or self._typists
        return bool(waiting) or self._status is not None or self._pong is not None

    def take(self) -> list[pb.ServerFrame]:
        """Return the next frames, at most one of each kind but for typists."""
        frames: list[pb.ServerFrame] = []
        if self._results:
            results, self._results = self._results, []
            batch = pb.SendResultBatch(results=results, position=self._results_position)
            frames.append(pb.ServerFrame(results=batch))
        if self._status is not None:
            status, self._status = self._status, None
            frames.append(pb.ServerFrame(status=status))
        if self._receipts or self._counts:
            keys = list(self._receipts)[:RECEIPTS_PER_FRAME]
            receipts = [self._receipts.pop(key) for key in keys]
            counts = [self._counts.pop(channel_id) for channel_id in list(self._counts)[:RECEIPTS_PER_FRAME]]
            frames.append(pb.ServerFrame(receipts=pb.ReceiptBatch(receipts=receipts, counts=counts)))
        if self._typists:
            frames += self._take_typists()
        if self._pong is not None:
            nonce, self._pong = self._pong, None
            frames.append(pb.ServerFrame(pong=pb.Pong(nonce=nonce)))
        return frames

    def _take_typists(self) -> list[pb.ServerFrame]:
        typists, self._typists = self._typists, {}
        fresh_s = time.monotonic() - TYPING_FRESH_S
        return [
            pb.ServerFrame(typist=pb.Typing(conversation_id=conversation_id, account_id=account_id))
            for (conversation_id, account_id), at_s in typists.items()
            if at_s >= fresh_s
        ]


def named_in(frames: Sequence[pb.ServerFrame]) -> tuple[set[int], set[int]]:
    """Return the accounts and the conversations that frames name."""
    accounts: set[int] = set()
    conversations: set[int] = set()
    for frame in frames:
        conversations.update(result.conversation_id for result in frame.results.results if result.conversation_id)
        for receipt in frame.receipts.receipts:
            accounts.add(receipt.account_id)
            conversations.add(receipt.conversation_id)
        conversations.update(count.conversation_id for count in frame.receipts.counts)
        if frame.HasField("typist"):
            accounts.add(frame.typist.account_id)
            conversations.add(frame.typist.conversation_id)
    return accounts, conversations
