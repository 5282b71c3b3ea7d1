"""The commands of `parley`. cli.py declares their flags. Results go to stdout, everything else to stderr.

A change is reported before the client is closed, so a signal meanwhile hides no result.
"""

import asyncio
import shlex
import sys
from collections.abc import Callable, Sequence
from contextlib import aclosing, suppress
from dataclasses import asdict
from typing import TypeVar

from parley import (
    BadInputError,
    ConnectionState,
    Conversation,
    ConversationKind,
    HistoryStart,
    Message,
    NotSignedInError,
    Outgoing,
    OutgoingMessage,
    ParleyClient,
    ParleyError,
    StillWaitingError,
    TlsError,
    TooManyDevicesError,
    UnreachableError,
    find_target,
)
from parley.chat import Chats, Standing, StorageNews, account_label, safe_body, safe_name
from parley.terminal import text
from parley.terminal.cluster_text import cluster_lines
from parley.terminal.exits import ExitCode
from parley.terminal.json_result import present, record
from parley.terminal.options import ConnectionOptions
from parley.terminal.outage import Outage, fails_with_tls, raise_for_tls, said_after, said_if_slow
from parley.terminal.password import confirm, read_body, read_password
from parley.terminal.refusals import Refusals, connected, superseded_text
from parley.terminal.signals import Interrupted

T = TypeVar("T")

READ_TIMEOUT_S = 3.0


def say(line: str) -> None:
    """Print a result to stdout."""
    if (result := present()) is not None:
        result.lines.append(line)
        return
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def note(line: str) -> None:
    """Print a remark for people to stderr. Texts of files and of others in it send no commands to a terminal."""
    if (result := present()) is not None:
        result.notes.append(line)
    sys.stderr.write(safe_body(line) + "\n")


async def register(
    options: ConnectionOptions, name: str, *, code: str, password_stdin: bool, then: Callable[[], None] = lambda: None
) -> None:
    """Create an account, call `then`, and sign in, unless another account is in use on this machine."""
    password = read_password(f"Password for the new account {name}: ", from_stdin=password_stdin, twice=True)
    async with options.client(resume=False) as client:
        async with said_if_slow(note):
            await client.register(name, password, code)
        then()
        if options.account and options.account.lower() != name.lower():
            note(
                f"The account {name} was created. {options.account} is still in use here. To change that: parley login "
                f"{name}"
            )
            return
        note(f"The account {name} was created.")
        await client.login(name, password)
        _keep_account(options, client)
        note(f"Signed in as {client.signed_in_as}.")


async def login(options: ConnectionOptions, name: str, *, password_stdin: bool, end_oldest: bool) -> None:
    """Sign in and store the session for later commands. Offer to end a device if the account has too many."""
    password = read_password(f"Password of {name}: ", from_stdin=password_stdin)
    async with options.client(resume=False) as client:
        try:
            async with said_if_slow(note):
                await client.login(name, password, end_oldest_device=end_oldest)
        except TooManyDevicesError as error:
            if not sys.stdin.isatty():
                raise
            note(f"parley: {error.text}")
            if not confirm("Sign out the device that logged in longest ago? Type yes: "):
                raise
            await client.login(name, password, end_oldest_device=True)
        waiting = client.state.waiting
        later = f" {text.waiting(waiting)} from an earlier session. {text.SENT_LATER}"
        _keep_account(options, client)
        note(f"Signed in as {client.signed_in_as}." + (later if waiting else ""))
        if told := await client.kept_elsewhere():
            note(told)


def _keep_account(options: ConnectionOptions, client: ParleyClient) -> None:
    """Make the account that of the context. The log-in holds even if the file cannot be written."""
    record(account=client.signed_in_as, waiting=client.state.waiting)
    try:
        options.keep_account(client.signed_in_as)
    except ParleyError as error:
        note(f"The context does not name this account: {error.text}")


async def logout(options: ConnectionOptions) -> None:
    """End the session. Waiting messages stay in the outbox."""
    name = options.must_name_account()
    async with options.client() as client:
        try:
            async with said_after(2.0, "Waiting for a majority of the nodes, which ends the session ...", note):
                waiting = await client.logout()
        except UnreachableError as error:
            raise type(error)(f"{name} is still signed in. {error.text}") from error
        later = f" {text.waiting(waiting)} in the outbox until you sign in again."
        record(account=name, waiting=waiting)
        note(f"{name} is signed out." + (later if waiting else ""))


async def unregister(options: ConnectionOptions, *, password_stdin: bool, yes: bool) -> None:
    """Delete the account, after a question unless `yes` is set."""
    name = options.must_name_account()
    if not yes:
        if not sys.stdin.isatty():
            raise BadInputError(
                f"This deletes the account {name} for good. Nothing was deleted yet. To delete it without a "
                "question, add --yes."
            )
        note(f"This deletes the account {name} and everything queued for it, for good.")
    password = read_password(f"Password of {name}, to delete it: ", from_stdin=password_stdin)
    async with options.client() as client:
        await client.delete_account(password)
        note(f"The account {name} is deleted.")


async def accounts(options: ConnectionOptions, pattern: str, *, as_json: bool) -> int:
    """List accounts. Return FAILED if there is none, as for a search without a result."""
    options.must_name_account()
    async with options.client() as client:
        found = await client.list_accounts(pattern)
    if as_json:
        say(text.as_json([asdict(account) for account in found]))
    else:
        for account in found:
            say(f"{account_label(account)}{text.suspension_text(account)}")
    if found:
        return ExitCode.OK
    note(f"No account has a name like {safe_name(pattern)}." if pattern else "There are no accounts.")
    return ExitCode.FAILED


async def send(
    options: ConnectionOptions, to: str, body: str | None, *, timeout: float, as_json: bool, urgent: bool = False
) -> None:
    """Send one message and wait until it is on a majority's disks."""
    options.must_name_account()
    if body is None or body == "-":
        body = read_body()
    view = await _send_and_wait(options, to, body, timeout, urgent=urgent)
    if as_json:
        say(text.as_json(text.own_record(view)))
    else:
        note(f"{text.MARKS[view.status]} sent to {to} (message {view.message_id})")


async def _send_and_wait(
    options: ConnectionOptions, to: str, body: str, timeout: float, *, urgent: bool = False
) -> Outgoing:
    """Send one message. If a signal ends this when the message is stored, say what becomes of the message."""
    storing: asyncio.Task[OutgoingMessage] | None = None
    try:
        async with connected(options, note) as (client, refusals):
            target = await find_target(client, to)
            storing = asyncio.create_task(client.send(target, body, urgent=urgent))
            message = await _even_if_cancelled(storing)
            refusals.shown.add(message.local_id)
            view = await _accepted(client, message, timeout)
            await _tell_if_alone(client, view.conversation_id)
            return view
    except asyncio.CancelledError as error:
        if storing is None or storing.cancelled() or storing.exception() is not None:
            raise
        later = superseded_text(client) if client.state.superseded else text.SENT_LATER
        raise error from Interrupted(text.interrupted(storing.result().view, later))


async def _tell_if_alone(client: ParleyClient, conversation_id: int) -> None:
    """Say that a channel has no other member. What this device knows may be old, so ask the cluster then."""
    known = client.conversation(conversation_id)
    if known is None or known.kind is not ConversationKind.CHANNEL or known.member_count != 1:
        return
    with suppress(ParleyError):  # the message is accepted, and that is what the command reports
        if len(await client.members(conversation_id)) == 1:
            note(Standing.ALONE.text)


async def _even_if_cancelled(task: asyncio.Task[T]) -> T:
    """Return the result of a task. If this is cancelled, let the task end first."""
    try:
        return await asyncio.shield(task)
    finally:
        await asyncio.wait([task])


async def _accepted(client: ParleyClient, message: OutgoingMessage, timeout: float) -> Outgoing:
    """Wait for the result. Stop early if the session ends or another copy of the device's files sends."""
    async with asyncio.TaskGroup() as group:
        hopeless = group.create_task(_wait_until_hopeless(client))
        accepted = group.create_task(_result(message, timeout))
        await asyncio.wait([hopeless, accepted], return_when=asyncio.FIRST_COMPLETED)
        hopeless.cancel()
        if not accepted.done():
            accepted.cancel()
    outcome = None if accepted.cancelled() else accepted.result()
    if outcome is None or isinstance(outcome, StillWaitingError):
        if client.state.superseded:
            raise StillWaitingError(f"The message was not sent. {superseded_text(client)}")
        if client.state.tls_trouble:
            raise TlsError(f"{client.state.problem} The message is kept in the outbox.")
    if outcome is None:
        raise NotSignedInError(
            "The session has ended before the cluster confirmed the message. It is kept in the outbox. Sign in "
            f"(parley login {client.signed_in_as}). {text.SENT_LATER}"
        )
    if isinstance(outcome, StillWaitingError):
        why = client.state.problem or "the cluster has not confirmed it."
        raise StillWaitingError(
            f"Not confirmed within {timeout:g} s: {why} The message is kept in the outbox. {text.SENT_LATER}"
        )
    if isinstance(outcome, Exception):
        raise outcome
    return outcome


async def _wait_until_hopeless(client: ParleyClient) -> None:
    """Return when the message cannot be sent before a person signs in."""
    async with aclosing(client.watch()) as changes:
        async for change in changes:
            state = change.state
            if state.connection in (ConnectionState.SIGNED_OUT, ConnectionState.CLOSED):
                return
            if state.connection is ConnectionState.CONNECTED and state.superseded:
                return
            if state.tls_trouble and await fails_with_tls(client):
                return


async def _result(message: OutgoingMessage, timeout: float) -> Outgoing | Exception:
    """Return the outcome as a value, so that a failure does not end the task group."""
    try:
        return await message.accepted(timeout)
    except Exception as error:
        return error


async def listen(options: ConnectionOptions, *, count: int, timeout: float | None, as_json: bool, own: bool) -> int:
    """Print messages as they come, each once, until `count` messages came or `timeout` seconds passed."""
    options.must_name_account()
    shown, has_said_missed = 0, False
    async with connected(options, note) as (client, refusals), asyncio.TaskGroup() as group:
        chats = Chats(client.signed_in_as)
        outage = Outage(client, note)
        watching = [
            group.create_task(work) for work in (_watch_session(client, refusals), raise_for_tls(client), outage.tell())
        ]
        try:
            async with asyncio.timeout(timeout), await client.messages(include_own=own) as reader:
                if not reader.durable:
                    note("Another parley process listens already. This one shows messages that arrive from now on.")
                async for message in reader:
                    chats.look_up(client, (message,))
                    say(text.message_json(message, chats) if as_json else text.message_line(message, chats))
                    if reader.missed and not has_said_missed:
                        has_said_missed = True
                        note(
                            f"Up to {reader.missed} older messages were removed from this device before they were "
                            "shown. Read them with: parley history."
                        )
                    shown += 1
                    if shown == count:
                        break
        except TimeoutError:
            if shown < count:
                note(f"{shown} of {count} messages came within {timeout:g} s.")
            if error := outage.error():
                raise error from None
            if shown < count:
                return ExitCode.FAILED
        finally:
            for task in watching:
                task.cancel()
    return ExitCode.OK


async def _watch_session(client: ParleyClient, refusals: Refusals) -> None:
    """Raise when the session has ended. Print remarks: the connected node changes, a kept message was refused."""
    lost = ""
    storage = StorageNews(note, "The list: parley lost.")
    async with aclosing(client.watch()) as changes:
        async for change in changes:
            state = change.state
            storage.follow(state)
            if change.reload or any(view.status.needs_person for view in change.outgoing):
                await refusals.tell()
            if state.connection is ConnectionState.SIGNED_OUT:
                raise NotSignedInError(
                    f"The session has ended. Nothing is lost. Sign in again: parley login {client.signed_in_as}"
                )
            if state.connection is ConnectionState.SEARCHING and state.lost and not lost:
                lost = state.lost
            elif state.connection is ConnectionState.CONNECTED and lost:
                note(f"({lost} lost, now on {state.node})")
                lost = ""


async def conversations(options: ConnectionOptions, *, unread_only: bool, as_json: bool) -> None:
    """Print the conversations, the latest first."""
    options.must_name_account()
    async with options.client() as client:
        found = _fold(client, await client.conversations()).items()
    if unread_only:
        found = [item for item in found if item.unread]
    if as_json:
        say(text.as_json([text.conversation_record(item) for item in found]))
        return
    for item in found:
        say(text.conversation_line(item))
    if not found:
        note("Nothing new." if unread_only else "There are no conversations yet. Begin one: parley send NAME TEXT")


def _fold(client: ParleyClient, conversations: Sequence[Conversation], messages: Sequence[Message] = ()) -> Chats:
    chats = Chats(client.signed_in_as)
    last = [conversation.last for conversation in conversations if conversation.last is not None]
    chats.look_up(client, [*messages, *last], conversations)
    chats.take_list(conversations)
    return chats


async def set_display_name(options: ConnectionOptions, name: str) -> None:
    """Sets the name shown beside the account name."""
    options.must_name_account()
    async with options.client() as client:
        await client.set_display_name(name)
        note("The display name is set." if name.strip() else "The display name is gone.")


async def history(
    options: ConnectionOptions, where: str, start: HistoryStart, *, limit: int, read: bool, as_json: bool
) -> None:
    """Print a page of a conversation, oldest first."""
    options.must_name_account()
    async with connected(options, note, connect=read) as (client, _):
        target = await find_target(client, where)
        page = await client.history(target, start, limit=limit)
        chats = _fold(client, () if page.conversation is None else (page.conversation,), page.messages)
        if as_json:
            say(text.as_json([text.message_record(message, chats) for message in page.messages]))
        else:
            for _, line in text.page_lines(page, chats):
                say(line)
        if not page.messages and not page.lost:
            note(text.no_messages(page, "there" if target.conversation_id else f"with {safe_name(where)}"))
        if page.has_older and page.messages:
            note(f"Print older messages: parley history {shlex.quote(where)} --before {page.messages[0].id}")
        if page.has_newer and page.messages:
            note(f"Print newer messages: parley history {shlex.quote(where)} --after {page.messages[-1].id}")
        if page.cached:
            note(text.from_this_device(page))
        if read and page.messages and page.conversation is not None and page.conversation.member_count:
            up_to = page.messages[-1].id
            await client.mark_read(page.conversation.id, up_to)
            if not await client.wait_until_read(target, up_to, timeout=READ_TIMEOUT_S):
                note("The cluster does not know yet that you have read this. This device keeps it and sends it again.")


async def cluster_status(options: ConnectionOptions, *, as_json: bool) -> int:
    """Print the status of all nodes. Return UNREACHABLE (4) if no node serves, TLS (6) if TLS failed with all."""
    async with options.client() as client:
        status = await client.cluster_status()
    if as_json:
        nodes, elsewhere = ([text.node_json(node) for node in found] for found in (status.nodes, status.elsewhere))
        record = {"serving": status.serving, "leader": status.leader, "nodes": nodes, "elsewhere": elsewhere}
        say(text.as_json(record))
    else:
        for line in cluster_lines(status):
            say(line)
    if status.nodes and all(node.tls_trouble for node in status.nodes):
        return ExitCode.TLS
    return ExitCode.OK if status.serving else ExitCode.UNREACHABLE
