"""The behaviour of a chat without a screen: lines go in, lines come out.

Own messages are shown by `own_messages`. When a node dies, the chat prints one remark after another node has taken
over.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from typing import NoReturn

from parley import (
    EVERYONE,
    BadInputError,
    Changes,
    Conversation,
    HistoryStart,
    Message,
    MessageKind,
    OutgoingMessage,
    ParleyClient,
    ParleyError,
    RefusedError,
    Target,
)
from parley.chat import Chats, SessionNews, Standing, conversation_key, preview
from parley.terminal import text
from parley.terminal.chat_channels import ChannelCommands
from parley.terminal.chat_direct import DirectCommands
from parley.terminal.chat_help import HELP, check_command
from parley.terminal.chat_presence import PresenceCommands
from parley.terminal.chat_status import ChatStatus
from parley.terminal.failures import Failures
from parley.terminal.lost_commands import LostCommands
from parley.terminal.message_numbers import message_count, message_number
from parley.terminal.own_messages import SHOW_AFTER_S, OwnMessages
from parley.terminal.receipt_commands import MEMBERS, find_own, receipt_lines
from parley.terminal.recipient import NOBODY, find_recipient, names_recipient
from parley.terminal.refusals import Refusals
from parley.terminal.send_queue import SendQueue
from parley.terminal.view_commands import ViewCommands

LEAVING = ("/quit", "/q", "/exit")
SESSION_ENDED = "The session has ended. Waiting messages are kept. Leave with /quit and sign in again."


class ChatView:
    """The state of one chat."""

    def __init__(
        self,
        client: ParleyClient,
        show: Callable[[str], None],
        quiet: Callable[[str], None],
        target: Target | None = None,
        *,
        mark_read: bool,
        clock: Callable[[], float] = time.monotonic,
        show_message: Callable[[str], None] | None = None,
    ) -> None:
        """`show` prints a line, `quiet` a remark, `show_message` a message of a conversation. Default: `show`.

        With `mark_read`, shown messages of the open conversation count as read.
        """
        self._client = client
        self._show = show
        self._show_message = show_message or show
        self._quiet = quiet
        self.target = target
        self._mark_read = mark_read
        self.names: tuple[str, ...] = ()
        self.chats = Chats(client.signed_in_as)
        self._own = OwnMessages(
            self.chats, self._show_message, quiet, clock, Refusals(client, quiet), tells_late=show_message is None
        )
        self._sends = SendQueue(
            client, self._own, lambda view: self._show_message(text.own_line(view, self.chats)), quiet
        )
        self._status = ChatStatus(client, show, self.chats, self._own, clock, tells_last=show_message is None)
        self._direct = DirectCommands(client, self._sends.send)
        self._in_history: dict[int, int] = {}
        self._session = SessionNews(quiet, SESSION_ENDED, "/lost lists them.")
        self.changed: Callable[[], None] = lambda: None
        self.followed: Callable[[Changes], None] = lambda change: None
        self.refused: Callable[[str], None] = lambda line: None
        self._commands: dict[str, Callable[[str], Awaitable[None]]] = {
            "/help": self._help,
            "/to": self._talk_to,
            "/history": self._history,
            "/urgent": self._urgent,
            "/conversations": self._conversations,
            "/accounts": self._accounts,
            "/receipts": self._receipts,
            "/waiting": self._waiting,
            "/cancel": self._cancel,
            "/edit": self._edit,
            "/retry": self._retry,
            **self._status.by_name,
            **self._direct.by_name,
            **LostCommands(client, show, quiet, self._follow_again).by_name,
            **ViewCommands(client, quiet, lambda: self.target, self.chats).by_name,
            **PresenceCommands(client, show, quiet, self.chats).by_name,
            **ChannelCommands(client, show, quiet, self.chats, self._open_id, self._go_to_joined).by_name,
        }

    @property
    def commands(self) -> tuple[str, ...]:
        """Return the commands, for completion."""
        return (*self._commands, LEAVING[0])

    @property
    def title(self) -> str:
        """Return the title of the open conversation, empty if none is open."""
        return "" if self.target is None else self.chats.title(self.chats.key_of(self.target))

    @property
    def prompt(self) -> str:
        """Return the text before the line that is being typed."""
        return f"{self._client.signed_in_as} → {self.title}> " if self.target else f"{self._client.signed_in_as}> "

    @property
    def status_line(self) -> str:
        """Return the status line: node, leader, the number of waiting messages, and who types."""
        return self._status.line(self._open_id())

    @property
    def unsettled(self) -> int:
        """Return the number of own messages of this chat without a final result."""
        return self._own.unsettled + len(self.unsent)

    @property
    def failures(self) -> Failures:
        """Return what went wrong in this chat."""
        return self._own.failures

    @property
    def unsent(self) -> tuple[str, ...]:
        """Return the typed texts that are not in the outbox yet, because a text filter is asked."""
        return self._sends.unsent

    # ---- what the person types

    def types(self, line: str) -> None:
        """Tell the others in the open conversation that the person types a message, as the line grows."""
        conversation_id, line = self._open_id(), line.strip()
        if conversation_id and line and (not line.startswith("/") or line.startswith("//")):
            self._client.presence.types(conversation_id)

    async def take(self, line: str) -> bool:
        """Handle one line. Return false if the person wants to leave. An error is printed and the chat continues."""
        line = line.strip()
        if not line:
            return True
        try:
            if line.startswith("/") and not line.startswith("//"):
                return await self._command(line)
            await self._send(line.removeprefix("/") if line.startswith("//") else line)
        except ParleyError as error:
            self._failed(line, error)
        return True

    def _failed(self, line: str, error: ParleyError) -> None:
        self.failures.add(error)
        self._quiet(error.text)
        self.refused(line)
        if names_recipient(line, self.commands):
            self.target = None
            self._quiet(NOBODY)
            self.changed()

    async def _command(self, line: str) -> bool:
        command, _, rest = line.partition(" ")
        if command in LEAVING:
            return False
        check_command(command, rest, self._commands)
        await self._commands[command](rest.strip())
        return True

    async def _help(self, _: str) -> None:
        self._quiet(HELP)

    async def _conversations(self, _: str) -> None:
        await self._list()
        for item in self.chats.items():
            self._show(text.conversation_line(item))

    async def _list(self) -> None:
        conversations = await self._client.conversations()
        self.chats.look_up(self._client, _last_of(conversations), conversations)
        self.chats.take_list(conversations)

    async def _accounts(self, pattern: str) -> None:
        await self.learn_names()
        found = await self._client.list_accounts(pattern)
        self.chats.take_accounts(found)
        self._show("  ".join(self.chats.book.label(account.id) for account in found) or "Nobody.")

    async def _receipts(self, _: str) -> None:
        if self.target is None:
            raise BadInputError("No conversation was named. Name one with /to NAME.")
        own = await find_own(self._client, self.target)
        self._quiet(f"“{preview(own.body, 40)}”")
        for line in receipt_lines(await self._client.receipts(own.conversation_id, own.id, limit=MEMBERS)):
            self._show(line)

    async def _edit(self, rest: str) -> None:
        number, _, body = rest.partition(" ")
        await self._sends.edit(message_number(number), body.strip())

    async def _retry(self, number: str) -> None:
        self._follow_again(await self._client.retry(message_number(number)))

    def _follow_again(self, message: OutgoingMessage) -> None:
        self._own.track(message.view)
        self._sends.grew.set()

    async def _send(self, body: str, *, urgent: bool = False) -> None:
        if self.target is None:
            raise BadInputError("No recipient was named. Name one with /to NAME. /accounts lists the accounts.")
        standing = self._standing()
        if not standing.takes_messages:
            raise RefusedError(f"The message was not sent. {standing.text}")
        await self._sends.send(self.target, body, urgent=urgent)

    async def _urgent(self, body: str) -> None:
        if not body:
            raise BadInputError("/urgent needs a text. Nothing was sent.")
        await self._send(body, urgent=True)

    async def _talk_to(self, typed: str) -> None:
        if not typed:
            raise BadInputError("/to needs a name. /accounts lists the accounts, /conversations your channels.")
        target = await find_recipient(self._client, self.chats, typed)
        if target.conversation_id:
            await self._look_at(target)
        self.target = target
        self._tell_standing()
        self.changed()

    async def _look_at(self, target: Target, *, anew: bool = False) -> None:
        """Learn what a conversation is. Ask the cluster only if it is not known here, or with `anew`."""
        self.chats.look_up(self._client, conversation_ids=(target.conversation_id,))
        if anew or self.chats.conversations.get(self.chats.key_of(target)) is None:
            page = await self._client.history(target, limit=1)
            self.chats.look_up(self._client, page.messages)
            self.chats.load(target, 0, page)

    async def _go_to_joined(self, channel: int) -> None:
        """Talk in a channel that was joined now, before the stream brings the row that says so."""
        await self._look_at(Target(conversation_id=channel), anew=True)
        await self._talk_to(f"#{channel}")

    def _standing(self) -> Standing:
        return Standing.OPEN if self.target is None else self.chats.standing(self.chats.key_of(self.target))

    def _tell_standing(self) -> None:
        if sentence := self._standing().text:
            self._quiet(sentence)

    def _open_id(self) -> int:
        return 0 if self.target is None else self.chats.conversation_id(self.chats.key_of(self.target))

    async def _history(self, rest: str) -> None:
        unread = rest == "unread"
        count = message_count("" if unread else rest)
        if self.target is None:
            raise BadInputError("No conversation was named. Name one with /to NAME.")
        page = await self._client.history(self.target, HistoryStart(first_unread=unread), limit=count)
        conversations = () if page.conversation is None else (page.conversation,)
        self.chats.look_up(self._client, page.messages, conversations)
        self.chats.take_conversations(conversations)
        unread_ids = [message.id for message in page.messages if unread and message.id > page.read_up_to]
        for message_id, line in text.page_lines(page, self.chats, text.chat_line):
            if unread_ids and message_id == unread_ids[0]:
                self._quiet("Not read yet:")
            self._show(line)
        if not page.messages and not page.lost:
            self._quiet(text.no_messages(page, f"{'in' if self.target.conversation_id else 'with'} {self.title}"))
        if page.cached:
            self._quiet(text.from_this_device(page))
        if page.messages:
            last = page.messages[-1]
            self._in_history[last.conversation_id] = last.id
            if self._mark_read:
                await self._client.mark_read(last.conversation_id, last.id)

    async def _waiting(self, _: str) -> None:
        waiting = [handle.view for handle in await self._client.waiting(limit=50)]
        failed = [view for view in await self._client.outgoing() if view.status.needs_person]
        for view in [*failed, *waiting]:
            self._show(f"{view.local_id:>5}  {text.own_line(view, self.chats)}")
        if not waiting and not failed:
            self._quiet("Nothing waits.")

    async def _cancel(self, number: str) -> None:
        local_id = message_number(number)
        view = await self._client.cancel(local_id)
        self._own.forget(local_id)
        self._quiet(f"Withdrawn. Nobody receives it: {text.indented(view.body)}")

    async def learn_names(self) -> None:
        """Fetch account names and channels for completion. Without a connection the known ones stay."""
        try:
            accounts = await self._client.list_accounts(limit=1000)
            await self._list()
        except ParleyError:
            return
        self.chats.take_accounts(accounts)
        channels = [item.title for item in self.chats.items() if item.channel]
        self.names = (*(account.name for account in accounts), *(f"#{title}" for title in sorted(channels)))

    # ---- what comes

    async def receive(self, *, with_history: bool) -> None:
        """Print messages as they come, after the last ones of the first conversation if `with_history` is set."""
        if with_history and self.target is not None:
            await self.take("/history")
            self._tell_standing()
        async with await self._client.messages(include_own=True) as reader:
            async for message in reader:
                self.chats.look_up(self._client, (message,))
                self.chats.take_arrived((message,))
                self._status.typists.wrote((message,))
                if message.id <= self._in_history.get(message.conversation_id, 0):
                    continue
                self._own.flush(everything=True)
                self._direct.came(message)
                self._show_message(self._incoming(message))
                if message.kind is not MessageKind.TEXT and self._is_open(message):
                    self._tell_standing()
                if self._mark_read and self._is_open(message):
                    await self._client.mark_read(message.conversation_id, message.id)

    def _is_open(self, message: Message) -> bool:
        return self.target is not None and self.chats.key_of(self.target).conversation_id == message.conversation_id

    def _incoming(self, message: Message) -> str:
        line = text.chat_line(message, self.chats)
        if message.mine or message.kind is not MessageKind.TEXT or self._is_open(message):
            return line
        channel = self.chats.item(conversation_key(message.conversation_id)).channel
        answer = f"#{message.conversation_id}" if channel else self.chats.book.name(message.sender_id)
        return f"{line}   (answer: /to {answer})"

    async def follow(self) -> None:
        """Print changes of the client's state. Returns when the client is closed."""
        async with aclosing(self._client.watch()) as changes:
            async for change in changes:
                self._session.follow(change.state, has_own=bool(self._own))
                if change.anew:
                    self._begin_anew()
                ids = {one.conversation_id for one in change.outgoing if one.conversation_id}
                ids |= {receipt.conversation_id for receipt in change.receipts}
                self.chats.look_up(self._client, conversations=change.conversations, conversation_ids=ids)
                self.chats.changed(change)
                for view in change.outgoing:
                    self._own.update(view)
                if change.reload or any(view.status.needs_person for view in change.outgoing):
                    await self._own.refusals.tell()
                if change.receipts or change.conversations:
                    self._own.marks_moved()
                if change.typing:
                    self._status.take_typing(change.typing, self.changed)
                self.followed(change)
                self.changed()

    def _begin_anew(self) -> None:
        """Forget what ids meant. Close a channel, because its id may mean another one in a restored cluster."""
        self._direct.begin_anew()
        self._in_history.clear()
        if self.target is not None and not self.target.account and self.target != EVERYONE:
            self._quiet(f"{self.title} is closed here, because the cluster was restored. Open it again: /to NAME.")
            self.target = None

    async def keep_time(self) -> NoReturn:
        """Print own messages when their time has come."""
        while True:
            await self._sends.grew.wait()
            self._own.flush()
            if not self._own:
                self._sends.grew.clear()
            await asyncio.sleep(SHOW_AFTER_S / 3)

    async def keep_sending(self) -> NoReturn:
        """Send what is typed without holding up the next line, for a client that asks a text filter."""
        await self._sends.run()

    async def finish(self) -> None:
        """Store what was typed, and print all settled messages, for a chat that ends."""
        await self._sends.drain()
        self._own.flush(everything=True)
        await self._own.refusals.tell()


def _last_of(conversations: tuple[Conversation, ...]) -> list[Message]:
    return [conversation.last for conversation in conversations if conversation.last is not None]
