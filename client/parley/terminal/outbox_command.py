"""The command `parley outbox`: what waits on this machine, and what was refused. It needs a node only to send."""

import asyncio
from collections.abc import Sequence
from contextlib import aclosing
from typing import Annotated

import typer

from parley import (
    ConnectionState,
    MessageStatus,
    NotSignedInError,
    Outgoing,
    ParleyClient,
    ParleyError,
    StillWaitingError,
)
from parley.chat import Chats
from parley.terminal import text
from parley.terminal.command_line import AsJson, with_connection_options
from parley.terminal.commands import note, say
from parley.terminal.failures import Failures
from parley.terminal.message_numbers import message_number
from parley.terminal.options import ConnectionOptions
from parley.terminal.outage import raise_for_tls
from parley.terminal.refusals import connected

MOST = 1000
EVERY = 1_000_000  # more than an outbox holds
ALL = "all"
LISTED_BY = "parley outbox"


@with_connection_options
async def outbox(
    options: ConnectionOptions,
    cancel: Annotated[
        list[str] | None,
        typer.Option("--cancel", metavar="N", help="Withdraw message N, or 'all' that wait. Can be repeated."),
    ] = None,
    retry: Annotated[
        list[str] | None, typer.Option("--retry", metavar="N", help="Send the refused message N again, as a new one.")
    ] = None,
    send: Annotated[bool, typer.Option("--send", help="Send what waits now.")] = False,
    timeout: Annotated[
        float, typer.Option("--timeout", min=0.0, help="With --send, wait at most this many seconds.")
    ] = 10.0,
    as_json: AsJson = False,
) -> int:
    """List the messages that wait on this machine, and those that were refused. --cancel withdraws one.

    A message waits while no majority of the nodes is up. It goes out, once, with the next parley send, listen, fetch
    or chat, or with --send. A message that a node already has cannot be withdrawn.
    """
    options.must_name_account()
    failures = Failures()
    if cancel or retry:
        async with options.client(connect=False) as client:
            await _change(client, cancel or (), retry or (), failures)
    if send:
        await _send(options, timeout, failures)
    elif not (cancel or retry):
        async with options.client(connect=False) as client:
            await _list(client, as_json=as_json)
    return failures.code


async def _change(client: ParleyClient, cancel: Sequence[str], retry: Sequence[str], failures: Failures) -> None:
    waiting = [handle.view for handle in await client.waiting(limit=EVERY)] if ALL in cancel else []
    numbers = [str(view.local_id) for view in waiting if view.status is MessageStatus.WAITING]
    numbers += [word for word in cancel if word != ALL]
    for word in numbers:
        try:
            view = await client.cancel(message_number(word, LISTED_BY))
            note(f"Withdrawn. Nobody receives it: {text.indented(view.body)}")
        except ParleyError as error:
            failures.add(error)
            note(f"{word}: {error.text}")
    for word in retry:
        try:
            handle = await client.retry(message_number(word, LISTED_BY))
            note(f"It waits as message {handle.view.local_id} now.")
        except ParleyError as error:
            failures.add(error)
            note(f"{word}: {error.text}")
    if not (numbers or retry):
        note("Nothing waits.")


async def _list(client: ParleyClient, *, as_json: bool) -> None:
    waiting = [handle.view for handle in await client.waiting(limit=MOST)]
    refused = [view for view in await client.outgoing(limit=MOST) if view.status.needs_person]
    if as_json:
        say(text.as_json([text.own_record(view) for view in (*refused, *waiting)]))
        return
    chats = Chats(client.signed_in_as)
    for view in (*refused, *waiting):
        say(_line(client, chats, view))
    if refused:
        note("To send a refused message again: parley outbox --retry N. To remove it: parley outbox --cancel N.")
    if waiting:
        note(f"{text.waiting(client.state.waiting)}. {text.SENT_LATER} To withdraw one: parley outbox --cancel N.")
    if not (refused or waiting):
        note("Nothing waits.")
    if told := await client.kept_elsewhere():
        note(told)


def _line(client: ParleyClient, chats: Chats, view: Outgoing) -> str:
    chats.look_up(client, conversation_ids={view.conversation_id, view.target.conversation_id} - {0})
    return f"{view.local_id:>5}  {text.own_line(view, chats)}"


async def _send(options: ConnectionOptions, timeout: float, failures: Failures) -> None:
    """Send what waits. Raises StillWaitingError if something is left after `timeout` seconds."""
    async with connected(options, note) as (client, _):
        waiting = await client.waiting(limit=EVERY)
        if not waiting:
            note("Nothing waits.")
            return
        try:
            async with asyncio.timeout(timeout), asyncio.TaskGroup() as group:
                checking = group.create_task(raise_for_tls(client))
                await _until_nothing_waits(client)
                checking.cancel()
        except TimeoutError:
            why = client.state.problem or "the cluster has not confirmed it."
            raise StillWaitingError(
                f"{text.waiting(client.state.waiting)} still after {timeout:g} s: {why} {text.SENT_LATER}"
            ) from None
        if client.state.waiting:
            raise NotSignedInError(
                f"The session has ended. What waits is kept. Sign in: parley login {client.signed_in_as}"
            )
        for handle in waiting:
            failures.settled(handle.view)
        note("Nothing waits any more.")


async def _until_nothing_waits(client: ParleyClient) -> None:
    """Return when all messages have a result, or the session has ended."""
    async with aclosing(client.watch()) as changes:
        async for change in changes:
            if not change.state.waiting or change.state.connection is ConnectionState.SIGNED_OUT:
                return
