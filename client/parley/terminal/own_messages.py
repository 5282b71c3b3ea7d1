"""The own messages of one chat until they are shown for good.

An own message is shown once, when its result is known: with ✓ when it is on a majority's disks, with ✓✓ if it was
delivered shortly afterwards. A message that takes longer is first announced as waiting, so that nobody types it twice.
"""

from collections.abc import Callable
from dataclasses import dataclass

from parley import FINAL, MessageStatus, Outgoing
from parley.chat import Chats, preview
from parley.terminal import text
from parley.terminal.failures import Failures
from parley.terminal.refusals import Refusals

SHOW_AFTER_S = 0.3
ANNOUNCE_WAITING_S = 1.0
MAX_TRACKED = 500
DELIVERED = (MessageStatus.DELIVERED, MessageStatus.READ)


@dataclass(slots=True)
class _Sent:
    """An own message of this chat that has not been shown for good."""

    view: Outgoing
    typed_at: float
    accepted_at: float | None = None
    announced: bool = False


class OwnMessages:
    """The messages that this chat has sent, in the order in which they were typed."""

    def __init__(
        self,
        chats: Chats,
        show: Callable[[str], None],
        quiet: Callable[[str], None],
        clock: Callable[[], float],
        refusals: Refusals,
        *,
        tells_late: bool = True,
    ) -> None:
        """`show` prints a line, `quiet` a remark. `chats` holds the marks of other members.

        With `tells_late`, a delivery after a message was shown is a remark. A screen that draws the mark needs none.
        """
        self.refusals = refusals
        self.failures = Failures()
        self._chats = chats
        self._show = show
        self._quiet = quiet
        self._clock = clock
        self._tells_late = tells_late
        self._sent: dict[int, _Sent] = {}
        self._beyond: set[int] = set()
        """Local ids of unsettled messages beyond MAX_TRACKED: they are not shown, but their results count."""
        self._undelivered: dict[int, Outgoing] = {}
        self.last_status: MessageStatus | None = None

    def __len__(self) -> int:
        return len(self._sent)

    @property
    def unsettled(self) -> int:
        """Return the number of own messages without a final result."""
        return sum(1 for sent in self._sent.values() if sent.accepted_at is None) + len(self._beyond)

    def track(self, view: Outgoing) -> None:
        """Follow a message that was typed."""
        if len(self._sent) < MAX_TRACKED:
            self._sent[view.local_id] = _Sent(view, self._clock())
        else:
            self._beyond.add(view.local_id)
        self.last_status = view.status
        self.update(view)  # the result may have come before the message was followed

    def forget(self, local_id: int) -> None:
        """Forget a message that was withdrawn."""
        self._sent.pop(local_id, None)
        self._beyond.discard(local_id)

    def update(self, view: Outgoing) -> None:
        """Record a newer state of a message."""
        if view.local_id in self._beyond and view.status in FINAL:
            self._beyond.discard(view.local_id)
            self.failures.settled(view)
        sent = self._sent.get(view.local_id)
        if sent is None:
            return
        sent.view = view = self._chats.progress(view)
        self.last_status = view.status
        if view.status in (MessageStatus.WAITING, MessageStatus.SENDING):
            return
        if sent.accepted_at is None:
            sent.accepted_at = self._clock()
            self.failures.settled(view)
        if view.status is not MessageStatus.ACCEPTED:
            self.flush()

    def marks_moved(self) -> None:
        """Record that the marks of other members moved. Print a remark for messages that were shown before."""
        for sent in list(self._sent.values()):
            if sent.view.status is MessageStatus.ACCEPTED:
                self.update(sent.view)
        self.flush()
        late = None
        for local_id, view in list(self._undelivered.items()):
            if self._chats.progress(view).status in DELIVERED:
                del self._undelivered[local_id]
                late = view
        if late is not None:
            self.last_status = MessageStatus.DELIVERED
        if late is not None and self._tells_late:
            key = self._chats.conversations.key_of_own(late)
            item = self._chats.item(key)
            who = f"all members of {item.title} have" if item.channel else f"{item.title} has"
            self._quiet(f"✓✓ {who} now received “{preview(late.body, 40)}”")

    def flush(self, *, everything: bool = False) -> None:
        """Print settled messages in the order in which they were typed.

        Wait SHOW_AFTER_S for a delivery, unless `everything`.
        """
        now = self._clock()
        for local_id, sent in list(self._sent.items()):
            if sent.accepted_at is None:
                if not sent.announced and now - sent.typed_at >= ANNOUNCE_WAITING_S:
                    sent.announced = True
                    self._show(text.own_line(sent.view, self._chats))
                continue
            if sent.view.status is MessageStatus.ACCEPTED and not everything and now - sent.accepted_at < SHOW_AFTER_S:
                continue
            del self._sent[local_id]
            self._show(text.own_line(sent.view, self._chats))
            if sent.view.status.needs_person:
                self.refusals.shown.add(local_id)
            if sent.view.status is MessageStatus.FAILED:
                self._quiet(f"It was not sent. /retry {local_id} sends it again, /cancel {local_id} removes it.")
            elif sent.view.status is MessageStatus.UNKNOWN:
                self._quiet(
                    f"It may have been sent. Look before you send it again: /retry {local_id}. "
                    f"/cancel {local_id} removes it."
                )
            elif sent.view.status is MessageStatus.ACCEPTED and len(self._undelivered) < MAX_TRACKED:
                self._undelivered[local_id] = sent.view
