"""Removes an account from this machine: its messages, drafts, outbox and session."""

import shutil

from parley.account import LocalAccount
from parley.device import identity
from parley.device.identity import DeviceIdentity
from parley.device.token_store import TokenStore
from parley.errors import UnreachableError
from parley.net.cluster_client import ClusterClient


async def log_out_if_reached(cluster: ClusterClient, token: str) -> bool:
    """End the session. Return false if no majority of the nodes could be told."""
    try:
        await cluster.log_out(token)
    except UnreachableError:
        return False
    return True


async def forget_rows(account: LocalAccount, who: DeviceIdentity, token_store: TokenStore) -> bool:
    """Remove all that the account's file holds, and the token.

    Return false, and leave the rows, if another process has signed in to a newer account of the same name since.
    """
    forgotten = await account.store.write(lambda c: identity.forget(c, who.account_id))
    await token_store.delete(who.stored_token)
    return forgotten


def remove_files(account: LocalAccount) -> None:
    """Remove the folder of an account that is not in use any more. What cannot be removed has no rows any more."""
    shutil.rmtree(account.profile.directory, ignore_errors=True)
