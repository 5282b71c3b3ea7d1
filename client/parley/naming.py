"""How a person names a conversation: an account name, `#` and the id or title of a channel, a title, or `everyone`.

From level 3 on no account gets the name `everyone`, so the word alone means the conversation of everyone.

A text that can be an account name always means that account, even if a channel has this title. So nobody can choose a
title to receive the messages for somebody else.
"""

from collections.abc import Sequence
from functools import partial

from parley.client import ParleyClient
from parley.device.profile import check_account_name
from parley.errors import BadInputError, UnreachableError
from parley.model import EVERYONE, Account, Conversation, ConversationKind, Target

HOW = (
    "Name an account, a channel (#ID or #TITLE), or everyone. `parley conversations` lists yours, `parley channels` "
    "those that you can join."
)

HISTORY_LINES = 20
MOST_HISTORY_LINES = 1000


async def find_target(client: ParleyClient, typed: str) -> Target:
    """Return the conversation that `typed` names. Look a title up on this device first, then in the cluster."""
    typed = typed.strip()
    name = typed.removeprefix("#").strip()
    if not name:
        raise BadInputError(f"No recipient was named. {HOW}")
    if typed.casefold() == "everyone":  # a channel may have this title, so not with #
        return EVERYONE
    if not typed.startswith("#"):
        try:
            return Target(account=check_account_name(name))
        except BadInputError:
            pass
    elif number := whole_number(name, 2**63 - 1):
        return Target(conversation_id=number)
    for conversations in (client.cached_conversations, client.conversations, partial(_joined, client)):
        found = _called(await conversations(), name)
        if len(found) > 1:
            raise _ambiguous(name, found)
        if found:
            return Target(conversation_id=found[0].id)
    raise BadInputError(f"{name!r} is not an account name, and no channel of yours has this title. {HOW}")


async def _joined(client: ParleyClient) -> tuple[Conversation, ...]:
    """Return the account's channels, with those that it has removed: it is in them still, and may write there."""
    try:
        return tuple(one.channel for one in await client.list_channels() if one.joined)
    except UnreachableError:
        return ()


async def find_account(client: ParleyClient, name: str) -> Account:
    """Return the account of that name. Raises BadInputError if there is none."""
    for account in await client.list_accounts(check_account_name(name), limit=1):
        return account
    raise BadInputError(f"There is no account {name}. Nothing was changed. See: parley accounts")


async def find_channel(client: ParleyClient, typed: str) -> int:
    """Return the id of the channel of the account that `typed` names: a number or a title, with or without #."""
    name = _channel_name(typed)
    number = whole_number(name, 2**63 - 1)
    return number or (await find_target(client, f"#{name}")).conversation_id


async def find_visible_channel(client: ParleyClient, typed: str) -> int:
    """Return the id of the channel that `typed` names. Look a title up among all channels that the account may see."""
    name = _channel_name(typed)
    if number := whole_number(name, 2**63 - 1):
        return number
    found = await client.list_channels(title=name)
    if not found:
        raise BadInputError(
            f"No channel that you may see has exactly the title {name!r}. Nothing was changed. See: parley channels"
        )
    if len(found) > 1:
        raise _ambiguous(name, [listed.channel for listed in found])
    return found[0].channel.id


def _channel_name(typed: str) -> str:
    name = typed.strip().removeprefix("#").strip()
    if not name:
        raise BadInputError("No channel was named. Nothing was changed. Name one: #ID or #TITLE.")
    return name


def _ambiguous(name: str, channels: Sequence[Conversation]) -> BadInputError:
    ids = ", ".join(f"#{channel.id}" for channel in channels)
    return BadInputError(f"{len(channels)} channels have the title {name!r}: {ids}. Name one by its number.")


def whole_number(word: str, most: int) -> int:
    """Return a number from 1 to `most`, or 0 if the word is none. int() refuses signs such as "²" and long texts."""
    number = int(word) if word.isdecimal() and len(word) < 20 else 0
    return number if number <= most else 0


def _called(conversations: tuple[Conversation, ...], title: str) -> list[Conversation]:
    wanted = title.casefold()
    channels = (one for one in conversations if one.kind is ConversationKind.CHANNEL)
    found = [one for one in channels if one.title.strip().casefold() == wanted]
    # Of one that was left, the cluster tells no members.
    return [one for one in found if one.member_count] or found


def message_count(word: str) -> int:
    """Return how many messages of a history are asked for. Raises BadInputError."""
    if not word:
        return HISTORY_LINES
    if not (count := whole_number(word, MOST_HISTORY_LINES)):
        raise BadInputError(f"{word!r} is not a number of messages from 1 to {MOST_HISTORY_LINES}.")
    return count
