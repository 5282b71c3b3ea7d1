"""`parley channel`: create, find, join, leave and change channels.

Every change may be repeated: done twice, it is done once. So the texts say how things are now.
"""

import shlex
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from enum import StrEnum
from typing import Annotated

import typer

from parley import MemberRole, ParleyClient, ParleyError, find_channel, find_visible_channel
from parley.chat import account_label, channel_line, safe_name
from parley.terminal import text
from parley.terminal.command_line import AsJson, with_connection_options
from parley.terminal.commands import note, say
from parley.terminal.completion import complete_channel, complete_name
from parley.terminal.exits import EPILOG
from parley.terminal.json_result import record
from parley.terminal.options import ConnectionOptions

channel_app = typer.Typer(help="Create, find, join, leave and change channels.", epilog=EPILOG, no_args_is_help=True)

_Channel = Annotated[
    str,
    typer.Argument(
        metavar="CHANNEL",
        help="Name the channel: #ID or #TITLE.",
        show_default=False,
        autocompletion=complete_channel,
    ),
]
_Names = Annotated[
    list[str],
    typer.Argument(metavar="NAME...", help="Name the accounts.", show_default=False, autocompletion=complete_name),
]


@asynccontextmanager
async def _own_channel(options: ConnectionOptions, channel: str) -> AsyncIterator[tuple[ParleyClient, int]]:
    """Connect as the account, and find the one of its channels that is named so."""
    options.must_name_account()
    async with options.client() as client:
        found = await find_channel(client, channel)
        record(conversation_id=found)
        yield client, found


class _Role(StrEnum):
    MEMBER = "member"
    MODERATOR = "moderator"
    OWNER = "owner"


@channel_app.command(epilog=EPILOG)
@with_connection_options
async def create(
    options: ConnectionOptions,
    title: Annotated[str, typer.Argument(metavar="TITLE", help="Give the channel this title.", show_default=False)],
    members: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="NAME...",
            help="Add these accounts besides yours.",
            show_default=False,
            autocompletion=complete_name,
        ),
    ] = None,
    topic: Annotated[str, typer.Option("--topic", metavar="TEXT", help="Set this topic. Default: none.")] = "",
    public: Annotated[
        bool, typer.Option("--public", help="Let everybody find and join the channel. Default: members add others.")
    ] = False,
    open_history: Annotated[
        bool,
        typer.Option(
            "--open-history",
            help="Let members read what was written before they joined. Default: from the joining on.",
        ),
    ] = False,
) -> None:
    """Create a channel with you as its owner, and print its number."""
    options.must_name_account()
    async with options.client() as client:
        channel = await client.create_channel(title, members or [])
        say(f"#{channel}")
        record(conversation_id=channel)
        if topic or public or open_history:
            try:
                await client.change_channel(
                    channel, topic=topic or None, public=public or None, open_history=open_history or None
                )
            except ParleyError:
                note(f"The channel #{channel} was created, without the options. `parley channel` can set them later.")
                raise
        note(f"The channel was created. Write in it with: {_chat(channel)}")


@channel_app.command(name="list", epilog=EPILOG)
@with_connection_options
async def list_channels(
    options: ConnectionOptions,
    title: Annotated[
        str, typer.Option("--title", metavar="TITLE", help="List only channels with exactly this title. Default: all.")
    ] = "",
    as_json: AsJson = False,
) -> None:
    """List the public channels and your own."""
    options.must_name_account()
    async with options.client() as client:
        found = await client.list_channels(title=title)
    if as_json:
        say(text.as_json([text.channel_record(listed) for listed in found]))
        return
    for listed in found:
        say(channel_line(listed))
    if not found:
        note(
            "No channel has this title."
            if title
            else "There are no channels yet. Create one: parley channel create TITLE"
        )


@channel_app.command(epilog=EPILOG)
@with_connection_options
async def join(options: ConnectionOptions, channel: _Channel) -> None:
    """Become a member of a public channel. `parley channels` lists them."""
    await join_channel(options, channel)


async def join_channel(options: ConnectionOptions, channel: str) -> None:
    """Become a member of a public channel."""
    options.must_name_account()
    async with options.client() as client:
        found = await find_visible_channel(client, channel)
        await client.join_channel(found)
        record(conversation_id=found)
        note(f"You are a member of channel #{found} now. Write in it with: {_chat(found)}")


@channel_app.command(epilog=EPILOG)
@with_connection_options
async def leave(options: ConnectionOptions, channel: _Channel) -> None:
    """Leave a channel. What was written until then stays readable."""
    async with _own_channel(options, channel) as (client, found):
        await client.leave_channel(found)
        note(f"You are no longer in channel #{found}. Read what was written until then: parley history '#{found}'")


@channel_app.command(epilog=EPILOG)
@with_connection_options
async def add(options: ConnectionOptions, channel: _Channel, names: _Names) -> None:
    """Add accounts to a channel. For owners and moderators."""
    async with _own_channel(options, channel) as (client, found):
        await client.add_members(found, names)
        note(f"In channel #{found} now: {_joined(names)}.")


@channel_app.command(epilog=EPILOG)
@with_connection_options
async def remove(options: ConnectionOptions, channel: _Channel, names: _Names) -> None:
    """Remove members from a channel. For owners and moderators. They keep what was written until now."""
    async with _own_channel(options, channel) as (client, found):
        await client.remove_members(found, names)
        note(f"No longer in channel #{found}: {_joined(names)}.")


@channel_app.command(epilog=EPILOG)
@with_connection_options
async def members(options: ConnectionOptions, channel: _Channel, as_json: AsJson = False) -> None:
    """List the members of a channel with their roles."""
    async with _own_channel(options, channel) as (client, found):
        known = [(member, client.account(member.account_id)) for member in await client.members(found)]
    if as_json:
        records = [
            {
                "account_id": member.account_id,
                "name": "" if account is None else account.name,
                "role": member.role.name.lower(),
            }
            for member, account in known
        ]
        say(text.as_json(records))
        return
    for member, account in known:
        role = "" if member.role in (MemberRole.MEMBER, MemberRole.UNKNOWN) else f"  {member.role.name.lower()}"
        say((f"account {member.account_id}" if account is None else account_label(account)) + role)


@channel_app.command(epilog=EPILOG)
@with_connection_options
async def role(
    options: ConnectionOptions,
    channel: _Channel,
    name: Annotated[
        str,
        typer.Argument(metavar="NAME", help="Name the member.", show_default=False, autocompletion=complete_name),
    ],
    new_role: Annotated[
        _Role, typer.Argument(metavar="ROLE", help="Set this role: member, moderator or owner.", show_default=False)
    ],
) -> None:
    """Set the role of a member. For owners, and for administrators of the cluster.

    Moderators add and remove members and change the channel. Owners also set roles. An administrator names the channel
    by its #ID.
    """
    async with _own_channel(options, channel) as (client, found):
        await client.set_member_role(found, name, MemberRole[new_role.name])
        note(f"The role of {safe_name(name)} in channel #{found} is {new_role.value} now.")


# ---- what a channel is


@channel_app.command(epilog=EPILOG)
@with_connection_options
async def rename(
    options: ConnectionOptions,
    channel: _Channel,
    title: Annotated[str, typer.Argument(metavar="TITLE", help="Give the channel this title.", show_default=False)],
) -> None:
    """Change the title of a channel. For owners and moderators, like the commands below."""
    async with _own_channel(options, channel) as (client, found):
        await client.change_channel(found, title=title)
        note(f"The title of channel #{found} is “{safe_name(title)}” now.")


@channel_app.command(epilog=EPILOG)
@with_connection_options
async def topic(
    options: ConnectionOptions,
    channel: _Channel,
    topic: Annotated[str, typer.Argument(metavar="TEXT", help="The topic; '' removes it.", show_default=False)],
) -> None:
    """Set the topic of a channel."""
    async with _own_channel(options, channel) as (client, found):
        await client.change_channel(found, topic=topic)
        note(
            f"The topic of channel #{found} is “{safe_name(topic)}” now."
            if topic
            else f"Channel #{found} has no topic now."
        )


@channel_app.command(epilog=EPILOG)
@with_connection_options
async def public(options: ConnectionOptions, channel: _Channel) -> None:
    """Let everybody find and join a channel."""
    async with _own_channel(options, channel) as (client, found):
        await client.change_channel(found, public=True)
        note(f"Channel #{found} is public now. Everybody finds it and may join it.")


@channel_app.command(epilog=EPILOG)
@with_connection_options
async def private(options: ConnectionOptions, channel: _Channel) -> None:
    """Show a channel to its members only. Owners and moderators add others."""
    async with _own_channel(options, channel) as (client, found):
        await client.change_channel(found, public=False)
        note(f"Channel #{found} is private now. Only its members see it.")


@channel_app.command(name="open-history", epilog=EPILOG)
@with_connection_options
async def open_history(
    options: ConnectionOptions,
    channel: _Channel,
    off: Annotated[bool, typer.Option("--off", help="Let members read only from their joining on.")] = False,
) -> None:
    """Let members read what was written before they joined."""
    async with _own_channel(options, channel) as (client, found):
        await client.change_channel(found, open_history=not off)
        note(f"Members of channel #{found} read {'from their joining on' if off else 'its whole history'} now.")


@channel_app.command(epilog=EPILOG)
@with_connection_options
async def archive(options: ConnectionOptions, channel: _Channel) -> None:
    """End the writing in a channel. It stays readable, and nobody joins it."""
    async with _own_channel(options, channel) as (client, found):
        await client.change_channel(found, archived=True)
        note(f"Channel #{found} is archived now. To write in it again: parley channel reopen '#{found}'")


@channel_app.command(epilog=EPILOG)
@with_connection_options
async def reopen(options: ConnectionOptions, channel: _Channel) -> None:
    """Let members write in an archived channel again."""
    async with _own_channel(options, channel) as (client, found):
        await client.change_channel(found, archived=False)
        note(f"Channel #{found} is open again.")


def _chat(channel: int) -> str:
    return f"parley chat {shlex.quote(f'#{channel}')}"


def _joined(names: list[str]) -> str:
    return ", ".join(map(safe_name, names))
