"""`parley who` and `parley presence`: who is connected, and whether others see that you are."""

from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any

import typer

from parley import Account, AccountPresence, ConnectedAccounts, ParleyClient, PresenceState, find_account
from parley.chat import account_label, plural, presence_text, safe_name
from parley.terminal import text
from parley.terminal.command_line import AsJson, with_connection_options
from parley.terminal.commands import note, say
from parley.terminal.options import ConnectionOptions

HIDDEN_TEXT = "You are hidden: others do not see you here. To change that: parley presence shown"


class _Presence(StrEnum):
    SHOWN = "shown"
    HIDDEN = "hidden"


@with_connection_options
async def who(
    options: ConnectionOptions,
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="[NAME]...", help="Tell when these accounts were last here.", show_default=False),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List the accounts that are connected now, and count the clients of each node."""
    options.must_name_account()
    async with options.client() as client:
        if names:
            told = await presence_of(client, names)
            records = [presence_record(account, presence) for account, presence in told]
            say(text.as_json(records) if as_json else "\n".join(presence_line(*one) for one in told))
            return
        found = await client.presence.connected()
    if as_json:
        say(text.as_json(who_record(found)))
        return
    for line in who_lines(found):
        say(line)
    for line in who_remarks(found):
        note(line)


@with_connection_options
async def presence(
    options: ConnectionOptions,
    visible: Annotated[
        _Presence, typer.Argument(metavar="shown|hidden", help="Let others see you, or not.", show_default=False)
    ],
) -> None:
    """Let others see when you are connected, were last, or type, or hide it. Hidden accounts still count as clients."""
    options.must_name_account()
    hidden = visible is _Presence.HIDDEN
    async with options.client() as client:
        await (await client.own_account()).set_hidden(hidden=hidden)
        note("Others do not see that you are connected." if hidden else "Others see when you are connected.")


async def presence_of(client: ParleyClient, names: Sequence[str]) -> list[tuple[Account, AccountPresence]]:
    """Return whether these accounts are there. Raises BadInputError for a name that no account has."""
    accounts = [await find_account(client, name) for name in names]
    return list(zip(accounts, await client.presence.of([account.id for account in accounts]), strict=True))


def presence_line(account: Account, presence: AccountPresence) -> str:
    """Return one line about an account that was asked for by its name."""
    why = "a node was not heard from" if presence.state is PresenceState.OFFLINE else "the cluster is newer than parley"
    known = presence_text(presence, datetime.now().astimezone().date()) or f"not known, because {why}"
    return f"{account_label(account)}: {known}"


def presence_record(account: Account, presence: AccountPresence) -> dict[str, Any]:
    """Return the same as a record for programs. `last_seen_ms` is null if it is not known."""
    return {
        "id": account.id,
        "name": account.name,
        "state": presence.state.name.lower(),
        "since_ms": presence.since_ms or None,
        "last_seen_ms": presence.last_seen_ms or None,
        "all_heard": presence.all_heard,
    }


def who_lines(found: ConnectedAccounts) -> list[str]:
    """Return one line for each connected account: since when, its names, and whether it is away."""
    return [
        f"{text.time_text(one.since_ms)}  {account_label(one.account)}{' (away)' if one.away else ''}"
        for one in found.accounts
    ]


def who_remarks(found: ConnectedAccounts) -> list[str]:
    """Return the counts, the nodes that could not be heard from, and whether the own account is hidden."""
    counts = ", ".join(f"{safe_name(node.name)} {node.clients}" for node in found.nodes if node.heard)
    remarks = [f"{plural(found.clients, 'client')} connected ({counts})." if counts else "No node was heard from."]
    if found.unheard:
        names = ", ".join(map(safe_name, found.unheard))
        remarks.append(f"Not heard from: {names}. Accounts that are connected only there are not listed.")
    return [*remarks, HIDDEN_TEXT] if found.hidden else remarks


def who_record(found: ConnectedAccounts) -> dict[str, Any]:
    """Return the list as a record for programs."""
    return {
        "accounts": [
            {
                "id": one.account.id,
                "name": one.account.name,
                "display_name": one.account.display_name,
                "since_ms": one.since_ms,
                "away": one.away,
            }
            for one in found.accounts
        ],
        "nodes": [asdict(node) for node in found.nodes],
        "clients": found.clients,
        "hidden": found.hidden,
    }
