"""What an account sets for its own view of a conversation: muted, or put away. This device records it as well."""

from dataclasses import replace

from parley.account import LocalAccount
from parley.device.identity import DeviceIdentity
from parley.errors import RefusedError
from parley.model import NEWEST, HistoryPage, Target
from parley.net.cluster_client import ClusterClient


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


async def _newest(cluster: ClusterClient, account: LocalAccount, who: DeviceIdentity, target: Target) -> HistoryPage:
    """Return the newest message of a conversation as the cluster has it: a name may have a new owner."""
    page, accounts = await cluster.history(who.token, who, who.position, target, NEWEST, 1)
    if page.conversation is None or not page.messages:
        raise RefusedError(f"There is no conversation with {target} yet. Nothing was changed. Write a message first.")
    account.learn(accounts=accounts, conversations=(page.conversation,))
    return page


def _id_of(page: HistoryPage) -> int:
    return page.messages[-1].conversation_id
