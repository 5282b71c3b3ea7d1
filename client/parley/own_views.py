"""What an account sets for its own view of a conversation: muted, put away or removed. This device records it, too.

It also adds to lists of the cluster what only this device has: unread mentions, and what was read here just now.
"""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace

import apsw

from parley.account import LocalAccount
from parley.device import inbox
from parley.device.identity import DeviceIdentity
from parley.errors import RefusedError, UnreachableError
from parley.model import EVERYONE, NEWEST, Conversation, HistoryPage, Target
from parley.net.cluster_client import ClusterClient

READ_POLL_S = 0.05  # a node gathers read positions as long
NONE_TEXT = "There is no {} yet. Nothing was changed. Write a message first."


async def set_muted(
    cluster: ClusterClient, account: LocalAccount, who: DeviceIdentity, target: Target, *, muted: bool
) -> None:
    """Mute a conversation, or end that. Raises RefusedError where no conversation has begun."""
    conversation_id = target.conversation_id or _id_of(await _newest(cluster, account, who, target))
    await cluster.channels.set_muted(who.token, conversation_id, muted=muted)
    known = account.known.conversation(conversation_id)
    if known is not None:
        account.learn(conversations=(replace(known, muted=muted),))


async def put_away(
    cluster: ClusterClient, account: LocalAccount, who: DeviceIdentity, target: Target, up_to: int | None
) -> None:
    """Put a conversation away up to a message, None for the newest one, or bring it back with 0.

    Raises RefusedError where no conversation has begun.
    """
    conversation_id = target.conversation_id
    if up_to is None or not conversation_id:
        page = await _newest(cluster, account, who, target)
        conversation_id = _id_of(page)
        if up_to is None:
            up_to = page.messages[-1].id
    await cluster.channels.set_put_away(who.token, conversation_id, up_to)
    known = account.known.conversation(conversation_id)
    if known is not None:
        mark = max(up_to, known.put_away_up_to) if up_to else 0  # as the cluster keeps it
        account.learn(conversations=(replace(known, put_away_up_to=mark),))


async def remove(
    cluster: ClusterClient, account: LocalAccount, who: DeviceIdentity, target: Target, up_to: int | None
) -> None:
    """Remove a conversation up to a message, None for the newest one. Raises RefusedError where none has begun."""
    conversation_id = target.conversation_id
    if up_to is None or not conversation_id:
        page, accounts = await cluster.history(who.token, who, who.position, target, NEWEST, 1)
        conversation = page.conversation
        if conversation is None or not (page.messages or conversation.removed_up_to):
            raise RefusedError(NONE_TEXT.format(_what(target)))
        account.learn(accounts=accounts, conversations=(conversation,))
        conversation_id = conversation.id
        newest = page.messages[-1].id if page.messages else conversation.removed_up_to
        up_to = newest if up_to is None else up_to
    up_to = await cluster.channels.remove_conversation(who.token, conversation_id, up_to)
    account.learn(removed=((conversation_id, up_to),))


async def with_own_marks(conversations: Sequence[Conversation], account: LocalAccount) -> tuple[Conversation, ...]:
    """Return the cluster's list with what this device knows better: what was read here, and unread mentions.

    A read position is on its way to the cluster for a moment, and as long as there is no connection. Of what the
    cluster counts as unread this device may lack some, for example what came before it. Then it cannot tell how many of
    them were read, and the list stays as it is. A position that was sent and did not arrive is sent again.
    """
    if account.is_restored:
        return tuple(conversations)  # ids of this device may mean other messages now
    listed = {one.id: one for one in conversations}
    last_ids = {one.id: 0 if one.last is None else one.last.id for one in conversations}
    positions = [(one.id, one.read_up_to, last_ids[one.id]) for one in conversations]
    shared = {one.id: one.read_up_to for one in conversations if one.is_shared}
    read, mentions = await account.store.read(
        lambda c: (inbox.read_above(c, positions), inbox.unread_mentions(c, shared))
    )
    missing = []
    for own in read:
        one = listed[own.conversation_id]
        is_all = last_ids[one.id] <= own.up_to
        if is_all or own.between + own.above == one.unread:
            listed[one.id] = replace(one, read_up_to=own.up_to, unread=0 if is_all else own.above)
        if own.is_sent and min(own.up_to, last_ids[one.id]) > one.read_up_to:
            missing.append(one.id)
    if missing:
        await account.store.write(lambda c: inbox.reads_lost(c, missing))
        await account.push_reads()
    return tuple(replace(one, mentions=mentions.get(one.id, ())) for one in listed.values())


def read_here(connection: apsw.Connection, page: HistoryPage, account: LocalAccount) -> int:
    """Return this device's read position of the conversation of a page, or 0."""
    if page.conversation is None or account.is_restored:
        return 0
    return inbox.read_up_to(connection, page.conversation.id)


async def until_read(cluster: ClusterClient, who: DeviceIdentity, target: Target, up_to: int) -> None:
    """Wait until the cluster has this read position of a conversation."""
    while True:
        with suppress(UnreachableError):
            page, _ = await cluster.history(who.token, who, who.position, target, NEWEST, 1)
            if page.read_up_to >= up_to:
                return
        await asyncio.sleep(READ_POLL_S)


def without_removed(page: HistoryPage, account: LocalAccount) -> HistoryPage:
    """Return a page without what was removed while it was on its way."""
    known = None if page.conversation is None else account.known.conversation(page.conversation.id)
    if known is None or not page.messages or page.messages[0].id > known.removed_up_to:
        return page
    kept = tuple(message for message in page.messages if message.id > known.removed_up_to)
    return replace(page, messages=kept, has_older=False)


async def _newest(cluster: ClusterClient, account: LocalAccount, who: DeviceIdentity, target: Target) -> HistoryPage:
    """Return the newest message of a conversation as the cluster has it: a name may have a new owner."""
    page, accounts = await cluster.history(who.token, who, who.position, target, NEWEST, 1)
    if page.conversation is None or not page.messages:
        raise RefusedError(NONE_TEXT.format(_what(target)))
    account.learn(accounts=accounts, conversations=(page.conversation,))
    return page


def _what(target: Target) -> str:
    return "message to everyone" if target == EVERYONE else f"conversation with {target}"


def _id_of(page: HistoryPage) -> int:
    return page.messages[-1].conversation_id
