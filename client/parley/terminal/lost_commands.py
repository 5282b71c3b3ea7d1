"""`parley lost` and the chat's /lost: sent messages that a restored cluster does not have any more."""

import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict
from typing import Annotated, Any

import typer

from parley import (
    BadInputError,
    LostMessage,
    LostOrigin,
    OutgoingMessage,
    ParleyClient,
    ParleyError,
    StillWaitingError,
)
from parley.terminal import text
from parley.terminal.command_line import AsJson, MajorityTimeout, with_connection_options
from parley.terminal.commands import note, say
from parley.terminal.exits import ExitCode
from parley.terminal.failures import Failures
from parley.terminal.message_numbers import message_number
from parley.terminal.options import ConnectionOptions
from parley.terminal.refusals import Refusals, connected

ALL = "all"
MOST = 100_000
NOTHING_TEXT = "No message of this device is missing in the cluster."
HELP = """\
  /lost             what a restored cluster does not have any more; /lost resend N sends one again, /lost discard N
                    removes it; all instead of N"""
_Numbers = list[str] | None


@with_connection_options
async def lost(
    options: ConnectionOptions,
    resend: Annotated[
        _Numbers,
        typer.Option(
            "--resend",
            metavar="N|all",
            help="Send this message again, as a new one. Can be repeated. Default: none.",
            show_default=False,
        ),
    ] = None,
    discard: Annotated[
        _Numbers,
        typer.Option(
            "--discard",
            metavar="N|all",
            help="Remove this message from the list and from this device. Can be repeated. Default: none.",
            show_default=False,
        ),
    ] = None,
    timeout: MajorityTimeout = 10.0,
    as_json: AsJson = False,
) -> int:
    """List what the cluster lost when it was restored from a backup, and this device still has. Needs no connection.

    Nothing in the list is sent by itself. Only what this device sent can be sent again.
    """
    options.must_name_account()
    if resend and discard:
        raise BadInputError("Both --resend and --discard were given. Nothing was changed. Give one of them.")
    if resend:
        async with connected(options, note) as (client, refusals):
            return await _resend(client, refusals, resend, timeout)
    async with options.client(connect=False) as client:
        if discard:
            count = await client.lost.discard([one.id for one in await _named(client, discard, resend=False)])
            note(f"Removed from this device: {count}.")
            return ExitCode.OK
        found = await client.lost.messages(limit=MOST)
    if as_json:
        say(text.as_json([_record(one) for one in found]))
        return ExitCode.OK
    for one in found:
        say(f"{one.id:>5}  {text.lost_line(one)}")
    if any(one.origin is LostOrigin.THIS_DEVICE for one in found):
        note("Send one again: parley lost --resend N. Remove one: parley lost --discard N. Or all: --resend all.")
    elif not found:
        note(NOTHING_TEXT)
    return ExitCode.OK


async def _resend(client: ParleyClient, refusals: Refusals, wanted: Sequence[str], timeout: float) -> int:
    """Send messages again and wait for their results. Return an exit code."""
    again = await client.lost.resend([one.id for one in await _named(client, wanted, resend=True)])
    refusals.shown.update(message.local_id for message in again)
    failures, waiting = Failures(), 0
    until = time.monotonic() + timeout
    for message in again:
        try:
            view = await message.accepted(max(0.0, until - time.monotonic()))
        except StillWaitingError:
            waiting += 1
        except ParleyError as error:
            failures.add(error)
            note(f"✗ {text.indented(message.view.body)}: {error.text}")
        else:
            note(f"{text.MARKS[view.status]} sent again: {text.indented(view.body)} (message {view.message_id})")
    if waiting:
        note(f"Not confirmed within {timeout:g} s: {waiting}. They are kept in the outbox. {text.SENT_LATER}")
    if not again:
        note(NOTHING_TEXT)
    return ExitCode.KEPT if waiting else failures.code


async def _named(
    client: ParleyClient, words: Sequence[str], *, resend: bool, listed_by: str = "parley lost"
) -> list[LostMessage]:
    """Return the messages that are named by number or as all. Those that cannot be sent again are not among all."""
    found = await client.lost.messages(limit=MOST)
    if ALL in words:
        return [one for one in found if not resend or one.can_be_resent]
    numbers = [message_number(word, listed_by) for given in words for word in given.replace(",", " ").split()]
    by_number = {one.id: one for one in found}
    for number in numbers:
        if number not in by_number:
            raise BadInputError(f"There is no lost message {number}. Nothing was changed. The list: {listed_by}.")
    return [by_number[number] for number in dict.fromkeys(numbers)]


def _record(one: LostMessage) -> dict[str, Any]:
    return {**asdict(one), "origin": one.origin.name.lower(), "can_be_resent": one.can_be_resent}


class LostCommands:
    """The list in a chat."""

    def __init__(
        self,
        client: ParleyClient,
        show: Callable[[str], None],
        quiet: Callable[[str], None],
        follow: Callable[[OutgoingMessage], None],
    ) -> None:
        """`show` prints a line, `quiet` a remark. `follow` is told of each message that is sent again."""
        self._client = client
        self._show = show
        self._quiet = quiet
        self._follow = follow

    @property
    def by_name(self) -> dict[str, Callable[[str], Awaitable[None]]]:
        """Return the commands by what is typed."""
        return {"/lost": self._lost}

    async def _lost(self, rest: str) -> None:
        what, _, which = rest.partition(" ")
        words = which.split()
        if what == "resend" and words:
            for message in await self._client.lost.resend([one.id for one in await self._chosen(words, resend=True)]):
                self._follow(message)
        elif what == "discard" and words:
            chosen = await self._chosen(words, resend=False)
            count = await self._client.lost.discard([one.id for one in chosen])
            self._quiet(f"Removed from this device: {count}.")
        elif what:
            raise BadInputError("Nothing was changed. Say /lost, /lost resend N, /lost discard N, or all for N.")
        else:
            found = await self._client.lost.messages(limit=MOST)
            for one in found:
                self._show(f"{one.id:>5}  {text.lost_line(one)}")
            self._quiet("/lost resend N sends one again, /lost discard N removes it." if found else NOTHING_TEXT)

    async def _chosen(self, words: Sequence[str], *, resend: bool) -> list[LostMessage]:
        return await _named(self._client, words, resend=resend, listed_by="/lost")
