"""One connection from its greeting to its end: who may ask for what, and when.

A task reads and answers, one request after the other. While an account is logged in, others pass messages on, tell what
the cluster refused, and watch for another connection of the account. A message counts as shown when the next one is
written. So what a connection did not take comes again at the next log-in.
"""

import asyncio
import secrets
from collections.abc import Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass

from parley import (
    OutcomeUnknownError,
    ParleyError,
    WrongPasswordError,
    check_account_name,
)
from parley.chat import SessionNews, plural, preview
from parley.gateway.accounts import AccountsInUse, Hold
from parley.gateway.connection import Connection, EndedError
from parley.gateway.limits import Failures, Places
from parley.gateway.lines import TooLong, text_of
from parley.gateway.log import log
from parley.gateway.member import Member
from parley.gateway.refusals import BUSY, refusal_of
from parley.gateway.requests import BEFORE_LOG_IN, COMMANDS, Kind, Request, Wrong, parse
from parley.gateway.settings import GatewaySettings
from parley.gateway.styles import Style, style_named

SECRET_BYTES = 12
PREVIEW = 40
LAST_WORDS_S = 2.0
GOODBYE = "Goodbye."
FIRST = "Before you log in, only REGISTER, LOGIN, HELP and CLOSE are taken."
NOT_ENCRYPTED = "This line is not encrypted. Others on the network can read what you type."
HELP = (
    "A line is sent to the open conversation, which is everyone at first. Commands:",
    *(command.usage for command in COMMANDS.values()),
    "A line that begins with // is sent with one / less.",
)


@dataclass(frozen=True, slots=True)
class Services:
    """What all sessions of a gateway share."""

    settings: GatewaySettings
    accounts: AccountsInUse
    places: Places
    failures: Failures
    stopping: asyncio.Event


class Session:
    """One connection. `run` returns the reason of its end."""

    def __init__(self, number: int, connection: Connection, services: Services) -> None:
        """`number` identifies the connection in the log."""
        self._number = number
        self._connection = connection
        self._services = services
        self._style: Style = style_named(services.settings.style)
        self._member: Member | None = None
        self._hold: Hold | None = None
        self._companions: list[asyncio.Task[None]] = []
        self._log_in_by: float | None = None

    async def run(self) -> str:
        """Serve the connection until it ends."""
        reason = "defect"
        try:
            async with asyncio.TaskGroup() as self._tasks:
                self._tasks.create_task(self._serve())
                self._tasks.create_task(self._end_when(self._services.stopping, "gateway_stops", "The gateway stops."))
        except* EndedError as ended:
            reason = str(ended.exceptions[0])
        except* ParleyError as failed:
            log("session_failed", client=self._number, error=str(failed.exceptions[0]))
        finally:
            if self._hold is not None:
                self._hold.end()
        return reason

    async def _serve(self) -> None:
        await self._greet()
        self._must_log_in()
        async with aclosing(self._connection.lines(lambda: self._log_in_by)) as lines:
            async for line in lines:
                await self._take(line)

    def _must_log_in(self) -> None:
        self._log_in_by = asyncio.get_running_loop().time() + self._services.settings.log_in_s

    async def _greet(self) -> None:
        count = self._services.places.taken
        if self._style.is_compact:
            await self._say([f"READY {count}"])
            return
        settings = self._services.settings
        new = "type one word for a new name, or LOGIN NAME SECRET" if settings.allow_secrets else ""
        how = new or "LOGIN NAME PASSWORD, or REGISTER NAME PASSWORD for a new one"
        await self._say(
            [
                f"Welcome to Parley. {plural(count, 'client')} connected here, with you.",
                *([] if settings.is_encrypted else [NOT_ENCRYPTED]),
                f"What is your name? Say {how}. HELP tells more.",
            ]
        )

    async def _take(self, line: bytes | TooLong) -> None:
        if isinstance(line, TooLong):
            most = self._services.settings.max_line_bytes
            log("line_refused", client=self._number, reason="too_long")
            await self._refuse(Wrong("line-too-long", f"A line has at most {most} bytes. Nothing was sent."))
            return
        asked = parse(text_of(line), is_compact=self._style.is_compact)
        if asked is None:
            return
        kind = asked.kind.value if isinstance(asked, Request) else asked.code
        account = "" if self._member is None else self._member.name
        log("command", client=self._number, account=account, kind=kind, bytes=len(line))
        try:
            await (self._before_log_in(asked) if self._member is None else self._as_member(self._member, asked))
        except ParleyError as error:
            await self._refuse(refusal_of(error))
        except TimeoutError:
            await self._refuse(BUSY)

    async def _both(self, request: Request) -> None:
        """Carry out what may be asked for at any time."""
        match request.kind:
            case Kind.HELP:
                await self._say(self._style.rows(HELP, ""))
            case Kind.STYLE:
                self._style = style_named(request.text)
                await self._say(self._style.done(request.text, f"The style is {request.text} now."))
            case Kind.CLOSE:
                await self._say(self._style.done("", GOODBYE))
                raise EndedError("closed")
            case _:
                raise AssertionError(f"{request.kind} is for some time only")

    # ---- before the log-in

    async def _before_log_in(self, asked: Request | Wrong) -> None:
        match asked:
            case Wrong(code="bad-parameters" | "bad-name"):
                await self._refuse(asked)
            case Request(kind=Kind.REGISTER):
                await self._register(asked.name, asked.text, asked.code)
            case Request(kind=Kind.LOG_IN):
                await self._log_in(asked.name, asked.text)
            case Request(kind=Kind.TEXT) if not self._style.is_compact:
                await self._answer_name(asked.text)
            case Request(kind=kind) if kind in BEFORE_LOG_IN:
                await self._both(asked)
            case _:
                await self._refuse(Wrong("not-logged-in", f"Nothing was sent: you have no name yet. {FIRST}"))

    async def _answer_name(self, text: str) -> None:
        """Take a bare line as the answer to the question for a name."""
        if " " in text:
            await self._refuse(Wrong("bad-name", f"Screen name must be one word. {FIRST}"))
            return
        name = check_account_name(text)
        if self._services.settings.allow_secrets:
            await self._register(name, "")
            return
        how = f"LOGIN {name} PASSWORD if it is yours, REGISTER {name} PASSWORD if it is new"
        await self._refuse(Wrong("password-needed", f"The name needs a password. Say {how}."))

    async def _register(self, name: str, password: str, code: str = "") -> None:
        name = check_account_name(name)
        secret = ""
        if not password:
            if not self._services.settings.allow_secrets:
                await self._refuse(
                    Wrong("password-needed", f"The name needs a password: REGISTER {name} PASSWORD. Nothing was done.")
                )
                return
            password = secret = secrets.token_urlsafe(SECRET_BYTES)
        try:
            await self._services.accounts.register(name, password, code, self._connection.address)
        except OutcomeUnknownError:
            if secret:
                await self._say(self._style.secret(name, secret))
            raise
        if secret:
            await self._say(self._style.secret(name, secret))
        await self._log_in(name, password)

    async def _log_in(self, name: str, password: str) -> None:
        now = asyncio.get_running_loop().time
        wait_s = self._services.failures.wait_s(self._connection.address, now())
        if wait_s > 0:
            seconds = plural(int(wait_s) + 1, "second")
            await self._refuse(Wrong("too-many-failures", f"Too many log-ins have failed. Try again in {seconds}."))
            return
        try:
            hold = await self._services.accounts.log_in(name, password, self._connection.address)
        except WrongPasswordError:
            self._services.failures.add(self._connection.address, now())
            raise
        self._hold, self._log_in_by = hold, None
        self._member = member = Member(hold.client)
        log("logged_in", client=self._number, account=member.name)
        await self._welcome(member)
        self._companions = [
            self._tasks.create_task(work)
            for work in (
                self._pass_on(member),
                self._follow(member),
                self._end_when(hold.replaced, "taken_over", "Another connection has logged in with your name."),
            )
        ]

    async def _welcome(self, member: Member) -> None:
        try:
            count = (await member.client.presence.connected(limit=1)).clients
        except ParleyError:
            count = 0  # who just logged in can send without this number
        clients = f" {plural(count, 'client')} connected in the cluster." if count else ""
        hello = f"Welcome, {member.name}.{clients} You write to everyone."
        await self._say(self._style.done(f"{member.name} {count}", hello))

    # ---- as a member

    async def _as_member(self, member: Member, asked: Request | Wrong) -> None:
        match asked:
            case Wrong():
                await self._refuse(asked)
            case Request(kind=Kind.REGISTER | Kind.LOG_IN):
                await self._refuse(Wrong("logged-in", f"You are {member.name} already. Log out first: LOGOUT."))
            case Request(kind=Kind.LOG_OUT):
                await self._end_use()
                await self._say(self._style.done("", "You have logged out. What waits is still sent."))
            case Request(kind=Kind.UNREGISTER):
                await self._unregister(member, asked.text)
            case Request(kind=Kind.PING):
                await self._say(self._style.done("pong", "pong"))
            case Request(kind=Kind.HELP | Kind.STYLE | Kind.CLOSE):
                await self._both(asked)
            case Request():
                await self._say(await member.carry_out(asked, self._style))

    async def _unregister(self, member: Member, password: str) -> None:
        name = member.name
        now = asyncio.get_running_loop().time
        if self._services.failures.wait_s(self._connection.address, now()) > 0:
            await self._refuse(Wrong("too-many-failures", "Too many log-ins have failed. Try again later."))
            return
        try:
            member.is_leaving = True
            await member.client.delete_account(password)
        except WrongPasswordError:
            self._services.failures.add(self._connection.address, now())
            raise
        finally:
            member.is_leaving = False
        await self._end_use()
        await self._say(self._style.done("", f"The account {name} is deleted."))

    async def _end_use(self) -> None:
        """Give the account back. The connection may log in again."""
        companions, self._companions = self._companions, []
        for task in companions:
            task.cancel()
        if companions:
            await asyncio.wait(companions)
        if self._hold is not None:
            self._hold.end()
        self._hold = self._member = None
        self._must_log_in()

    # ---- beside the requests

    async def _pass_on(self, member: Member) -> None:
        """Write each message that comes, those of before first."""
        async with await member.client.messages() as reader:
            async for message in reader:
                shown = member.came(message)
                await self._say(self._style.message(member.messages, shown))

    async def _follow(self, member: Member) -> None:
        """Tell what becomes of the connection to the cluster, and which messages the cluster refused."""
        remarks: list[str] = []
        news = SessionNews(remarks.append, "Your session has ended. What waits is kept. Log out and in again.")
        async with aclosing(member.client.watch()) as changes:
            first = True
            async for change in changes:
                if member.is_leaving:
                    continue
                if change.anew:
                    member.begin_anew()
                news.follow(change.state, has_own=change.state.waiting > 0)
                for remark in remarks:
                    await self._say(self._style.notice(remark))
                remarks.clear()
                if first or change.reload or any(view.status.needs_person for view in change.outgoing):
                    await self._tell_refused(member)
                first = False

    async def _tell_refused(self, member: Member) -> None:
        """Tell each message that was accepted here and refused by the cluster, once."""
        for view in await member.client.untold():
            what = f"“{preview(view.body, PREVIEW)}”: {view.detail or 'it is not known whether it was sent.'}"
            await self._say(self._style.not_sent(view.local_id, what))
            await member.client.mark_told([view.local_id])

    async def _end_when(self, event: asyncio.Event, reason: str, sentence: str) -> None:
        await event.wait()
        with suppress(TimeoutError):
            async with asyncio.timeout(LAST_WORDS_S):
                await self._say(self._style.notice(f"{sentence} {GOODBYE}"))
        raise EndedError(reason)

    async def _refuse(self, wrong: Wrong) -> None:
        await self._say(self._style.refused(wrong.code, wrong.text))

    async def _say(self, lines: Sequence[str]) -> None:
        await self._connection.say(lines)
