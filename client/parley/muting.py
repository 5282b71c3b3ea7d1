"""Mutes a conversation for the account, and records it on this device."""

from dataclasses import replace

from parley.account import LocalAccount
from parley.device.identity import DeviceIdentity
from parley.errors import RefusedError
from parley.model import NEWEST, Target
from parley.net.cluster_client import ClusterClient


async def set_muted(
    cluster: ClusterClient, account: LocalAccount, who: DeviceIdentity, target: Target, *, muted: bool
) -> None:
    """Mute a conversation, or end that. Raises RefusedError where no conversation has begun."""
    conversation_id = target.conversation_id or await _find(cluster, account, who, target)
    await cluster.channels.set_muted(who.token, conversation_id, muted=muted)
    known = account.known.conversation(conversation_id)
    if known is not None:
        account.learn(conversations=(replace(known, muted=muted),))


async def _find(cluster: ClusterClient, account: LocalAccount, who: DeviceIdentity, target: Target) -> int:
    """Return the id of the conversation with an account, as the cluster knows it: a name may have a new owner."""
    page, accounts = await cluster.history(who.token, who, who.position, target, NEWEST, 1)
    if page.conversation is None:
        raise RefusedError(f"There is no conversation with {target} yet. Nothing was changed. Write a message first.")
    account.learn(accounts=accounts, conversations=(page.conversation,))
    return page.conversation.id
