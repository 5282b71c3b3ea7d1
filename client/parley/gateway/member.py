"""What a logged-in account asks for: it sends, lists, and moves between conversations.

A message counts as accepted here when it is in the outbox of the account, on the disk of the gateway.
"""

import time
from datetime import datetime

from parley import (
    EVERYONE,
    BadInputError,
    ConnectionState,
    ConversationKind,
    Message,
    MessageKind,
    ParleyClient,
    RefusedError,
    Target,
    check_account_name,
    find_visible_channel,
)
from parley.chat import CHANGED_TEXT, AccountBook, LastWriter, channel_line, line_time, named_in, row_text
from parley.gateway.requests import Kind, Request, Wrong
from parley.gateway.styles import EVERYONE_PLACE, Shown, Style

NOBODY = "No registered clients."
MAX_ROWS = 1000
MUST_JOIN = (
    "The cluster was restored from a backup, so your channel may be another one. Nothing was done. Say /join with its "
    "title or number, or /join everyone."
)


class Member:
    """One account that uses a connection. The open conversation is `everyone` at first."""

    def __init__(self, client: ParleyClient) -> None:
        self.client = client
        self.messages = 0
        """How many messages this session was shown."""
        self.is_leaving = False
        """True while the account is being deleted: that its session ends is no news then."""
        self._open: Target | None = EVERYONE
        """Where a line goes. None: the channel may be another one, because the cluster was restored."""
        self._last_writer = LastWriter()

    @property
    def name(self) -> str:
        """Return the name of the account."""
        return self.client.signed_in_as if self.client.me is None else self.client.me.name

    def came(self, message: Message) -> Shown:
        """Count a message, and remember who wrote to this account alone."""
        self._last_writer.came(message, self.client.conversation(message.conversation_id), time.monotonic())
        if message.kind is MessageKind.TEXT:
            self.messages += 1
        return self._shown(message)

    def begin_anew(self) -> None:
        """Forget what ids meant, because the cluster was restored. A channel is used only after a new JOIN."""
        self._last_writer.forget()
        if self._open != EVERYONE:
            self._open = None

    async def carry_out(self, request: Request, style: Style) -> list[str]:
        """Carry a request out, and return the answer. Raises ParleyError."""
        match request.kind:
            case Kind.TEXT | Kind.LEAVE | Kind.HISTORY:
                if self._open is None:
                    return style.refused("no-channel", MUST_JOIN)
                return await self._in_open(self._open, request, style)
            case Kind.ALL:
                return await self._send(EVERYONE, request.text, style)
            case Kind.DIRECT:
                found = await self._find(request.name)
                return (
                    _refused(found, style) if isinstance(found, Wrong) else await self._send(found, request.text, style)
                )
            case Kind.REPLY:
                return await self._reply(request.text, style)
            case Kind.CONNECTED:
                found_now = await self.client.presence.connected(limit=MAX_ROWS)
                names = [one.account.name for one in found_now.accounts if one.account != self.client.me]
                return style.rows(names, "" if names else NOBODY)
            case Kind.ACCOUNTS:
                accounts = await self.client.list_accounts(request.name, limit=MAX_ROWS)
                return style.rows(
                    [account.name for account in accounts], "" if accounts else "No account has such a name."
                )
            case Kind.CHANNELS:
                channels = await self.client.list_channels(limit=MAX_ROWS)
                return style.rows([channel_line(one) for one in channels], "" if channels else "There are no channels.")
            case Kind.JOIN:
                return await self._join(request.name, style)
            case _:
                raise AssertionError(f"{request.kind} is not a request of a member")

    # ---- inside

    async def _in_open(self, place: Target, request: Request, style: Style) -> list[str]:
        """Carry out a request for the open conversation."""
        match request.kind:
            case Kind.LEAVE:
                return await self._leave(place, style)
            case Kind.HISTORY:
                return await self._history(place, request.count, style)
            case _:
                return await self._send(place, request.text, style)

    async def _send(self, target: Target, body: str, style: Style) -> list[str]:
        sent = await self.client.send(target, body)
        return style.done(str(sent.local_id), "")

    async def _reply(self, body: str, style: Style) -> list[str]:
        last = self._last_writer.target
        if last is None:
            return style.refused("nobody-to-answer", "Nobody has written to you alone yet. Nothing was sent.")
        if self._last_writer.has_just_changed(time.monotonic()):
            return style.refused("writer-changed", CHANGED_TEXT)
        return await self._send(last, body, style)

    async def _find(self, typed: str) -> Target | Wrong:
        """Return the account of a name. Without a connection the name itself: if it is wrong, the cluster refuses."""
        try:
            name = check_account_name(typed)
        except BadInputError:
            return Wrong(
                "unknown-name", "An account name is one word of letters, digits, '.', '_' and '-'. Nothing was sent."
            )
        if name.lower() == self.client.signed_in_as.lower():
            return Wrong("own-name", "That is you. The gateway keeps no notes to yourself. Nothing was sent.")
        if self.client.state.connection is not ConnectionState.CONNECTED:
            return Target(account=name)
        found = await self.client.list_accounts(name, limit=1)
        if not found:
            return Wrong("unknown-name", f"There is no account {name}. Nothing was sent. /accounts lists the accounts.")
        return Target(account_id=found[0].id)

    async def _join(self, where: str, style: Style) -> list[str]:
        if where.casefold() == EVERYONE_PLACE:
            self._open = EVERYONE
            return style.done(EVERYONE_PLACE, "You write to everyone now.")
        channel = await find_visible_channel(self.client, where)
        try:
            await self.client.join_channel(channel)
        except RefusedError:
            if not await self._is_member(channel):
                raise
        self._open = Target(conversation_id=channel)
        page = await self.client.history(self._open, limit=1)  # which tells the title, too
        title = page.conversation.title if page.conversation is not None else ""
        return style.done(f"#{channel}", f"You write to #{channel} {title} now. /join everyone goes back.")

    async def _is_member(self, channel: int) -> bool:
        """Return whether a channel that cannot be joined, because it is private, is one of the account's."""
        listed = await self.client.list_channels()
        return any(one.channel.id == channel and one.joined for one in listed)

    async def _leave(self, place: Target, style: Style) -> list[str]:
        if place == EVERYONE:
            return style.refused("no-channel", "You write to everyone, which nobody leaves. Nothing was changed.")
        left = place.conversation_id
        await self.client.leave_channel(left)
        self._open = EVERYONE
        return style.done(f"#{left}", f"You have left #{left}, and write to everyone now.")

    async def _history(self, place: Target, count: int, style: Style) -> list[str]:
        page = await self.client.history(place, limit=count)
        today = datetime.now().astimezone().date()
        shown = [self._shown(message, line_time(message.sent_at_ms, today)) for message in page.messages]
        remark = "(from the gateway: no node answers)" if page.cached else "" if shown else "There are no messages yet."
        return style.history(shown, remark)

    def _shown(self, message: Message, at: str = "") -> Shown:
        place = self._place(message.conversation_id)
        if message.kind is not MessageKind.TEXT:
            book = AccountBook(self.name)
            book.add(named_in(self.client, messages=[message])[0])
            return Shown("", place, row_text(message, book), at)
        sender = self.client.account(message.sender_id)
        name = f"account {message.sender_id}" if sender is None else sender.name
        return Shown(name, place, message.body, at, message.urgent)

    def _place(self, conversation_id: int) -> str:
        if conversation_id == EVERYONE.conversation_id:
            return EVERYONE_PLACE
        known = self.client.conversation(conversation_id)
        if known is not None and known.kind is ConversationKind.DIRECT:
            return ""
        return f"#{conversation_id} {known.title}" if known is not None else f"#{conversation_id}"


def _refused(wrong: Wrong, style: Style) -> list[str]:
    return style.refused(wrong.code, wrong.text)
