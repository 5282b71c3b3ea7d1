"""What an account does when the cluster's data is older than what this device has seen.

A cluster that was restored from a backup is asked what it has. Then the file changes in one step (device/restored.py),
and only then anything is sent. If the cluster cannot be asked now, the file stays as it is and the next connection
tries again.
"""

from datetime import datetime

from parley.device import restored
from parley.device.identity import DeviceIdentity
from parley.device.restored import Compared, Evidence
from parley.device.store import Store
from parley.errors import RefusedError
from parley.model import HistoryPage, HistoryStart, Target
from parley.net.cluster_client import ClusterClient
from parley.wire.position import Life, Position

MAX_LISTED = 10_000
MAX_ASKED = 256
"""Of so many conversations, the latest ones, a page is asked for if the list does not tell enough."""
PAGE = 256
WENT_BACK_TEXT = (
    "The cluster has older data than this device had seen. Messages sent since then may be missing in it. What this "
    "device had received was fetched again. Tell an administrator."
)


async def ask(store: Store, cluster: ClusterClient, life: Life, who: DeviceIdentity) -> Evidence:
    """Return what the restored cluster has of what this device holds. Raises ParleyError if no node answers."""
    conversations, accounts = await cluster.conversations(who.token, who, Position(), MAX_LISTED)
    last = {one.id: one.last for one in conversations if one.last is not None}
    common = await store.read(lambda c: restored.are_held(c, last.values()))
    settled = {conversation_id for conversation_id, _ in common}
    pages: dict[int, HistoryPage] = {}
    named = {account.id: account for account in accounts}
    for conversation_id, newest_id in await store.read(lambda c: restored.newest_held(c, MAX_ASKED)):
        if conversation_id in settled:
            continue  # the cluster's newest message of it is one that this device holds
        start = HistoryStart(before_id=newest_id + 1)
        try:
            page, found = await cluster.history(
                who.token, who, Position(), Target(conversation_id=conversation_id), start, PAGE
            )
        except RefusedError:  # the cluster has no such conversation, or this account is not in it
            page, found = HistoryPage((), False), ()
        pages[conversation_id] = page
        named.update((account.id, account) for account in found)
    return Evidence(life, conversations, tuple(named.values()), pages)


def notice(compared: Compared) -> str:
    """Return what happened, for a person."""
    lost = []
    if compared.sent:
        lost.append(f"{compared.sent} that this device sent")
    if compared.received:
        lost.append(f"{compared.received} that it received")
    if not lost:
        return (
            "The cluster was restored to an earlier state, from a backup or after it had lost a majority. It has all "
            "messages that this device holds. Later ones of other people may be missing."
        )
    has = f"It has what this device holds up to {_at(compared.has_until_ms)}. " if compared.has_until_ms else ""
    return (
        "The cluster was restored to an earlier state, from a backup or after it had lost a majority. "
        f"{has}Messages from {_at(compared.since_ms)} to "
        f"{_at(compared.until_ms)} are not in the cluster any more: {' and '.join(lost)}. They are kept on this device."
    )


def _at(at_ms: int) -> str:
    return f"{datetime.fromtimestamp(at_ms / 1000).astimezone():%Y-%m-%d %H:%M}"
