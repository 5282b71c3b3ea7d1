"""`parley receipts` and the chat's /receipts: who has an own message, and which nodes have it on disk."""

from dataclasses import asdict
from typing import Annotated

import typer

from parley import (
    BadInputError,
    HistoryStart,
    Message,
    MessageKind,
    MessageReceipts,
    ParleyClient,
    Target,
    find_target,
)
from parley.chat import missing_lines, preview, receipt_line
from parley.terminal import text
from parley.terminal.command_line import AsJson, TargetArgument, with_connection_options
from parley.terminal.commands import note, say
from parley.terminal.options import ConnectionOptions

PAGE = 100
LOOKED_AT = 1_000
"""Messages of a conversation that are looked through for the last own one."""
MEMBERS = 1_000
"""Members that a text names from. The counts are of all."""


@with_connection_options
async def receipts(
    options: ConnectionOptions,
    to: TargetArgument,
    message: Annotated[
        int,
        typer.Option(
            "--message",
            min=0,
            help="The id of one of your messages there, as `parley history --json` prints it. Default: your last one.",
            show_default=False,
        ),
    ] = 0,
    as_json: AsJson = False,
) -> None:
    """Show who has received and read a message of yours, and which nodes have it on disk."""
    options.must_name_account()
    async with options.client() as client:
        target = await find_target(client, to)
        own = await find_own(client, target, message)
        found = await client.receipts(own.conversation_id, own.id, limit=MEMBERS)
    if as_json:
        say(text.as_json(asdict(found)))
        return
    note(f"Message {own.id}: “{preview(own.body, 40)}”")
    for line in receipt_lines(found):
        say(line)


async def find_own(client: ParleyClient, target: Target, message_id: int = 0) -> Message:
    """Return the own message of that id, or with 0 the last one. Raises BadInputError if there is none."""
    before = message_id + 1 if message_id else 0
    looked_at = 0
    while looked_at < LOOKED_AT:
        page = await client.history(target, HistoryStart(before), limit=1 if message_id else PAGE)
        for one in reversed(page.messages):
            if message_id and one.id != message_id:
                break
            if one.mine and one.kind is MessageKind.TEXT:
                return one
        if message_id or not page.has_older or not page.messages:
            break
        before = page.messages[0].id
        looked_at += len(page.messages)
    if message_id:
        raise BadInputError(f"Message {message_id} is none of yours in this conversation. Nothing was changed.")
    if not page.has_older:
        raise BadInputError("You have sent no message in this conversation. Nothing was changed.")
    raise BadInputError(
        f"None of the last {LOOKED_AT} messages of this conversation is yours. Nothing was changed. Name an older one: "
        "parley receipts TARGET --message ID."
    )


def receipt_lines(found: MessageReceipts) -> tuple[str, ...]:
    """Return the receipts of a message, as the command and the chat print them."""
    return (receipt_line(found), *missing_lines(found))
