"""What happens in a chat, free of any screen: lines go in, lines come out.

An own message is shown once, when it is known what became of it: with ✓ when it is on a majority's disks, with ✓✓ if
it was delivered within a moment. One that takes longer is announced as waiting first, so that nobody types it twice.
When a node dies, the chat prints one remark after another node has taken over.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import NoReturn

from parley.client import ParleyClient
from parley.errors import BadInputError, ParleyError
from parley.model import ConnectionState, Message, MessageStatus, Outgoing
from parley.state_publisher import Changes
from parley.terminal import text

SHOW_AFTER_S = 0.3
ANNOUNCE_WAITING_S = 1.0
MAX_TRACKED = 500
HISTORY_LINES = 20

HELP = """\
Type a line and Enter: it is sent to the one named in the prompt. Commands:
  /to NAME          talk to somebody else
  /history [N]      the last N messages with them
  /conversations    your conversations, and what is new
  /accounts [PAT]   who is there; * and ? as in file names
  /waiting          messages that wait here, with their numbers
  /cancel N         withdraw a waiting message, or put a failed one away
  /edit N TEXT      change a waiting message
  /retry N          send a failed message again
  /status           how the cluster fares
  /quit             leave; what waits is kept and sent next time
A line that begins with // is sent with one / less.
✓ on a majority's disks   ✓✓ delivered   … waits here   ✗ failed"""


@dataclass(slots=True)
class _Sent:
    """An own message of this chat that has not been shown for good."""

    view: Outgoing
    typed_at: float
    accepted_at: float | None = None
    announced: bool = False


class ChatView:
    """One chat."""

    def __init__(
        self,
        client: ParleyClient,
        show: Callable[[str], None],
        quiet: Callable[[str], None],
        peer: str = "",
        *,
        mark_read: bool,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`show` prints a line, `quiet` a remark. With `mark_read` what is shown of the open conversation counts as
        read."""
        self._client = client
        self._show = show
        self._quiet = quiet
        self.peer = peer
        self._mark_read = mark_read
        self._clock = clock
        self.names: tuple[str, ...] = ()
        self._sent: dict[int, _Sent] = {}
        self._undelivered: dict[int, Outgoing] = {}
        self._work = asyncio.Event()
        self._in_history: dict[str, int] = {}
        self._lost = ""
        self._told_no_majority = False
        self._last_status: MessageStatus | None = None
        self.changed: Callable[[], None] = lambda: None
        self._commands: dict[str, Callable[[str], Awaitable[None]]] = {
            "/help": self._help,
            "/to": self._talk_to,
            "/history": self._history,
            "/conversations": self._conversations,
            "/accounts": self._accounts,
            "/waiting": self._waiting,
            "/cancel": self._cancel,
            "/edit": self._edit,
            "/retry": self._retry,
            "/status": self._status,
        }

    @property
    def commands(self) -> tuple[str, ...]:
        """What begins with a slash, for completion."""
        return (*self._commands, "/quit")

    @property
    def prompt(self) -> str:
        """What stands before the line being typed."""
        return f"{self._client.signed_in_as} → {self.peer}> " if self.peer else f"{self._client.signed_in_as}> "

    @property
    def status_line(self) -> str:
        """The status line: node, leader and what waits."""
        last = f" · last message {text.MARKS[self._last_status]}" if self._last_status is not None else ""
        return text.harmless(self._client.state.line(self._clock())) + last

    @property
    def unsettled(self) -> int:
        """Own messages of this chat without a final result."""
        return sum(1 for sent in self._sent.values() if sent.accepted_at is None)

    # ---- what the person types

    async def take(self, line: str) -> bool:
        """Handles one line; false when the person wants to leave. What goes wrong is said, and the chat goes on."""
        line = line.strip()
        if not line:
            return True
        try:
            if line.startswith("/") and not line.startswith("//"):
                return await self._command(line)
            await self._send(line.removeprefix("/") if line.startswith("//") else line)
        except ParleyError as error:
            self._quiet(error.text)
        return True

    async def _command(self, line: str) -> bool:
        command, _, rest = line.partition(" ")
        if command in ("/quit", "/q", "/exit"):
            return False
        action = self._commands.get(command)
        if action is None:
            self._quiet(f"{command} is no command. /help lists them; // begins a line with a slash.")
        else:
            await action(rest.strip())
        return True

    async def _help(self, _: str) -> None:
        self._quiet(HELP)

    async def _conversations(self, _: str) -> None:
        for conversation in await self._client.conversations():
            self._show(text.conversation_line(conversation))

    async def _accounts(self, pattern: str) -> None:
        await self.learn_names()
        self._show("  ".join(await self._client.list_accounts(pattern)) or "Nobody.")

    async def _status(self, _: str) -> None:
        for line in text.cluster_lines(await self._client.cluster_status()):
            self._show(line)

    async def _edit(self, rest: str) -> None:
        number, _, body = rest.partition(" ")
        self._show(text.own_line(await self._client.edit(_number(number), body.strip())))

    async def _retry(self, number: str) -> None:
        self._track((await self._client.retry(_number(number))).view)

    async def _send(self, body: str) -> None:
        if not self.peer:
            self._quiet("To whom? /to NAME says it; /accounts lists who is there.")
            return
        self._track((await self._client.send(self.peer, body)).view)

    async def _talk_to(self, name: str) -> None:
        if not name:
            raise BadInputError("/to needs a name; /accounts lists who is there.")
        if self.names and name.lower() not in (known.lower() for known in self.names):
            await self.learn_names()
            if name.lower() not in (known.lower() for known in self.names):
                self._quiet(f"There is no account {text.harmless(name)} so far.")
                return
        self.peer = name
        self.changed()

    async def _history(self, rest: str) -> None:
        count = _number(rest, HISTORY_LINES)
        if not self.peer:
            raise BadInputError("With whom? /to NAME says it.")
        page = await self._client.history(self.peer, limit=count)
        for message in page.messages:
            self._show(text.message_line(message))
        if page.messages:
            self._in_history[self.peer.lower()] = page.messages[-1].id
        else:
            self._quiet(f"Nothing was said with {self.peer} yet.")
        if page.cached:
            self._quiet("(from this device: no node could be reached)")
        if self._mark_read and page.messages:
            await self._client.mark_read(page.conversation_id, page.messages[-1].id)

    async def _waiting(self, _: str) -> None:
        waiting = [handle.view for handle in await self._client.waiting(limit=50)]
        failed = [view for view in await self._client.outgoing() if view.status is MessageStatus.FAILED]
        for view in [*failed, *waiting]:
            self._show(f"{view.local_id:>5}  {text.own_line(view)}")
        if not waiting and not failed:
            self._quiet("Nothing waits.")

    async def _cancel(self, number: str) -> None:
        local_id = _number(number)
        view = await self._client.cancel(local_id)
        self._sent.pop(local_id, None)
        self._quiet(f"Withdrawn, nobody gets it: {text.indented(view.body)}")

    async def learn_names(self) -> None:
        """Fetches account names for completion; without a connection the known ones stay."""
        try:
            self.names = await self._client.list_accounts(limit=1000)
        except ParleyError:
            return

    # ---- what comes

    async def receive(self, *, with_history: bool) -> None:
        """Shows messages as they come, after the last ones of the conversation with the one named first."""
        if with_history and self.peer:
            await self.take("/history")
        async with await self._client.messages(include_own=True) as reader:
            async for message in reader:
                if message.id <= self._in_history.get(message.peer.lower(), 0):
                    continue
                self._flush(everything=True)
                self._show(self._incoming(message))
                if self._mark_read and message.peer.lower() == self.peer.lower():
                    await self._client.mark_read(message.conversation_id, message.id)

    def _incoming(self, message: Message) -> str:
        elsewhere = not message.mine and message.peer.lower() != self.peer.lower()
        hint = f"   (answer: /to {message.peer})" if elsewhere else ""
        return text.message_line(message) + hint

    async def follow(self) -> None:
        """Follows the state of the client; ends when it is closed."""
        async with aclosing(self._client.watch()) as changes:
            async for change in changes:
                self._follow_session(change)
                for view in change.outgoing:
                    self._outgoing(view)
                for receipt in change.receipts:
                    self._delivered(receipt.conversation_id, receipt.delivered_up_to, receipt.read_up_to)
                self.changed()

    async def keep_time(self) -> NoReturn:
        """Shows own messages when their moment has come."""
        while True:
            await self._work.wait()
            self._flush()
            if not self._sent:
                self._work.clear()
            await asyncio.sleep(SHOW_AFTER_S / 3)

    def _follow_session(self, change: Changes) -> None:
        state = change.state
        if state.connection is ConnectionState.SEARCHING and state.lost:
            self._lost = state.lost
        elif state.connection is ConnectionState.CONNECTED:
            if self._lost:
                self._quiet(f"({self._lost} was lost, now on {state.node})")
            elif self._told_no_majority:
                self._quiet("(a majority is back)")
            self._lost, self._told_no_majority = "", False
        elif state.connection is ConnectionState.NO_MAJORITY and not self._told_no_majority and self._sent:
            self._told_no_majority = True
            self._quiet("(no majority: what you write is kept here and sent by itself)")
        elif state.connection is ConnectionState.SIGNED_OUT:
            self._quiet("The session has ended. What waits is kept. Leave with /quit and sign in again.")

    # ---- own messages

    def _track(self, view: Outgoing) -> None:
        if len(self._sent) < MAX_TRACKED:
            self._sent[view.local_id] = _Sent(view, self._clock())
        self._last_status = view.status
        self._work.set()

    def _outgoing(self, view: Outgoing) -> None:
        sent = self._sent.get(view.local_id)
        if sent is None:
            return
        sent.view = view
        self._last_status = view.status
        if view.status in (MessageStatus.WAITING, MessageStatus.SENDING):
            return
        if sent.accepted_at is None:
            sent.accepted_at = self._clock()
        if view.status is not MessageStatus.ACCEPTED:
            self._flush()

    def _delivered(self, conversation_id: int, delivered_up_to: int, read_up_to: int) -> None:
        late = None
        for sent in list(self._sent.values()):
            if sent.view.conversation_id == conversation_id and 0 < sent.view.message_id <= delivered_up_to:
                status = MessageStatus.READ if sent.view.message_id <= read_up_to else MessageStatus.DELIVERED
                self._outgoing(_with_status(sent.view, status))
        self._flush()
        for local_id, view in list(self._undelivered.items()):
            if view.conversation_id == conversation_id and view.message_id <= delivered_up_to:
                del self._undelivered[local_id]
                late = view
        if late is not None:
            self._last_status = MessageStatus.DELIVERED
            body = text.harmless(late.body).replace("\n", " ")
            self._quiet(f"✓✓ {text.harmless(late.recipient)} has now got “{body[:40]}”")

    def _flush(self, *, everything: bool = False) -> None:
        """Shows what is settled, in the order it was typed, once a moment has passed or its delivery is known."""
        now = self._clock()
        for local_id, sent in list(self._sent.items()):
            if sent.accepted_at is None:
                if not sent.announced and now - sent.typed_at >= ANNOUNCE_WAITING_S:
                    sent.announced = True
                    self._show(text.own_line(sent.view))
                continue
            if sent.view.status is MessageStatus.ACCEPTED and not everything and now - sent.accepted_at < SHOW_AFTER_S:
                continue
            del self._sent[local_id]
            self._show(text.own_line(sent.view))
            if sent.view.status is MessageStatus.FAILED:
                self._quiet(f"It was not sent. /retry {local_id} sends it again, /cancel {local_id} puts it away.")
            elif sent.view.status is MessageStatus.ACCEPTED and len(self._undelivered) < MAX_TRACKED:
                self._undelivered[local_id] = sent.view

    def finish(self) -> None:
        """Shows what is settled now, for a chat that ends."""
        self._flush(everything=True)


def _with_status(view: Outgoing, status: MessageStatus) -> Outgoing:
    return Outgoing(
        view.local_id,
        view.recipient,
        view.body,
        view.created_at_ms,
        status,
        view.number,
        view.message_id,
        view.conversation_id,
        view.sent_at_ms,
        view.detail,
    )


def _number(word: str, default: int | None = None) -> int:
    if not word and default is not None:
        return default
    if not word.isdigit() or not 0 < int(word) < 2**31:
        raise BadInputError(f"{word!r} is not a number; /waiting shows them.")
    return int(word)
