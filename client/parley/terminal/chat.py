"""Implements `parley chat`: signs in, then connects a chat view to a screen until the person leaves."""

import asyncio
import os
import sys

from prompt_toolkit.utils import is_dumb_terminal

from parley import (
    BadInputError,
    NameTakenError,
    ParleyClient,
    TlsError,
    UnreachableError,
    WrongPasswordError,
    find_target,
)
from parley.terminal.chat_view import ChatView
from parley.terminal.exits import ExitCode
from parley.terminal.messenger import MessengerScreen
from parley.terminal.options import ConnectionOptions
from parley.terminal.outage import fails_with_tls
from parley.terminal.password import VARIABLE, read_password, typed_password
from parley.terminal.refusals import superseded_text
from parley.terminal.screen import DumbScreen, PlainScreen, PromptScreen, TerminalScreen
from parley.terminal.signals import Interrupted, prompting
from parley.terminal.text import indented
from parley.terminal.typed_lines import TypedLines

LAST_MESSAGES_S = 10.0
EARLIER_LINES = 100


async def chat(
    options: ConnectionOptions,
    to: str,
    *,
    create: bool,
    in_lines: bool = False,
    screen: TerminalScreen | None = None,
) -> int:
    """Run a chat. Return KEPT if messages of this chat still wait. A signal that ends it hides no waiting message.

    It takes the whole screen of a terminal that can move its cursor, unless `in_lines` is set.
    """
    async with options.client(connect=True) as client:
        interactive = sys.stdin.isatty() and sys.stdout.isatty()
        await sign_in(options, client, create=create)
        if screen is None:
            screen = await _screen(client, in_lines=in_lines) if interactive else PlainScreen()
        target = await find_target(client, to) if to else None
        messenger = screen if isinstance(screen, MessengerScreen) else None
        view = ChatView(
            client,
            screen.show,
            screen.quiet,
            target,
            mark_read=screen.interactive and messenger is None,
            show_message=messenger.show_message if messenger else None,
        )
        typed = TypedLines(view, screen)
        try:
            await _run(
                client, view, screen, typed, in_background=screen.interactive and options.text_filter is not None
            )
        except asyncio.CancelledError as error:
            remarks = [f"Not taken any more: {indented(line)}" for line in typed.left]
            remarks += [f"Not sent, because the text filter had not answered: {indented(body)}" for body in view.unsent]
            if await client.waiting(limit=1):
                remarks.append(_still_waiting(client))
            if remarks:
                raise error from Interrupted("\n".join(remarks))
            raise
        if await client.waiting(limit=1):
            screen.quiet(_still_waiting(client))
        if view.failures.code and not screen.interactive:
            return view.failures.code  # a person has seen it
        return ExitCode.KEPT if view.unsettled else ExitCode.OK


def _still_waiting(client: ParleyClient) -> str:
    later = "They are kept here and sent, once, when you come back."
    why = f" {client.state.problem}" if client.state.problem and not client.state.superseded else ""
    return f"Messages still wait. {superseded_text(client) if client.state.superseded else later}{why}"


async def _run(
    client: ParleyClient, view: ChatView, screen: TerminalScreen, typed: TypedLines, *, in_background: bool
) -> None:
    async with asyncio.TaskGroup() as group:
        messenger = screen if isinstance(screen, MessengerScreen) else None
        tasks = [group.create_task(messenger.work(client, view))] if messenger else []
        tasks += [
            group.create_task(view.receive(with_history=screen.interactive and messenger is None)),
            group.create_task(view.follow()),
            group.create_task(view.keep_time()),
            group.create_task(view.learn_names()),
        ]
        if in_background:
            tasks.append(group.create_task(view.keep_sending()))
        await typed.take_all()
        if not screen.interactive:
            await _settled(client, view)
        await view.finish()
        for task in tasks:
            task.cancel()


async def _settled(client: ParleyClient, view: ChatView) -> None:
    """Wait a bounded time for the results of a script's last lines, and of what waited before.

    It ends if TLS fails with every node.
    """
    try:
        async with asyncio.timeout(LAST_MESSAGES_S):
            while view.unsettled or client.state.waiting:
                if client.state.tls_trouble and await fails_with_tls(client):
                    view.failures.add(TlsError(client.state.problem))
                    return
                await asyncio.sleep(0.02)
    except TimeoutError:
        return


async def sign_in(options: ConnectionOptions, client: ParleyClient, *, create: bool) -> None:
    """Resume the stored session or open a new one. Ask for what is missing, and offer to register."""
    if await client.has_session():
        return
    name = options.account or _ask("Account: ")
    password = read_password(f"Password of {name}: ", from_stdin=False)
    try:
        await client.login(name, password)
    except WrongPasswordError as wrong:
        if not create and not _wants_account(name):
            raise
        try:
            await client.register(name, password)
        except NameTakenError:
            if not sys.stdin.isatty():
                raise wrong from None
            print_note(f"The account {name} exists, with another password.")
            await client.login(name, typed_password(f"Password of {name}: "))
            return
        await client.login(name, password)
        print_note(f"The account {name} was created.")


def _wants_account(name: str) -> bool:
    """Ask the person whether to create the account. A script uses --register instead."""
    if VARIABLE in os.environ or not sys.stdin.isatty():
        return False
    print_note(f"The name {name} or the password is wrong, or there is no such account.")
    return _ask(f"Register {name} as a new account with this password? [y/N] ").lower() in ("y", "yes")


def _ask(question: str) -> str:
    if not sys.stdin.isatty():
        raise BadInputError("No account was named. Name one with --account NAME or PARLEY_ACCOUNT.")
    sys.stderr.write(question)
    sys.stderr.flush()
    with prompting():
        return sys.stdin.readline().strip()


def print_note(line: str) -> None:
    """Print a remark before the screen exists."""
    sys.stderr.write(line + "\n")


async def _screen(client: ParleyClient, *, in_lines: bool) -> TerminalScreen:
    """Return the screen for a person: a plain one if the terminal cannot move its cursor."""
    if is_dumb_terminal():
        return DumbScreen()
    earlier = await _earlier(client)
    return PromptScreen(earlier) if in_lines else MessengerScreen(earlier)


async def _earlier(client: ParleyClient) -> list[str]:
    """Return the texts of the latest own messages, for the arrow keys.

    They come from the outbox, so no other file exists.
    """
    try:
        return [view.body for view in await client.outgoing(limit=EARLIER_LINES) if "\n" not in view.body]
    except UnreachableError:
        return []
