"""Logging in: which device id and highest number the cluster is told, and what of its answer is kept.

A device whose data the cluster does not know any more begins as a new one. Its messages whose outcome is unknown are
shown as that.
"""

import asyncio
import secrets
from collections.abc import Callable
from contextlib import suppress

from parley.account import LocalAccount
from parley.device import identity
from parley.device.identity import DeviceIdentity
from parley.device.profile import Profile, StateDirectory
from parley.device.token_store import TokenStore
from parley.errors import ClusterBehindError, NameTakenError, ParleyError, RefusedError, TooManyDevicesError
from parley.net.cluster_client import ClusterClient, SignedIn
from parley.wire.endpoints import KnownEndpoints
from parley.wire.position import Position, was_restored

REFUSED_DEVICE = "The cluster refused a new device. No session was opened. Sign in again."


class LogIn:
    """Opens sessions and stores them for the next start."""

    def __init__(
        self,
        cluster: ClusterClient,
        token_store: TokenStore,
        directory: StateDirectory,
        endpoints: KnownEndpoints,
        make_account: Callable[[Profile], LocalAccount],
    ) -> None:
        self._cluster = cluster
        self._token_store = token_store
        self._directory = directory
        self._endpoints = endpoints
        self._make_account = make_account

    async def first_here(self, account: LocalAccount, password: str, *, end_oldest_device: bool) -> DeviceIdentity:
        """Open an account that is not in use here, and log in to it.

        Without a file, log in before there is one. So a log-in that fails has nothing to remove, and cannot remove the
        file that another process or client has made meanwhile.
        """
        first: SignedIn | None = None
        device_id = secrets.token_bytes(16)
        if not account.profile.database.exists():
            first = await self._cluster.log_in(
                account.profile.account, password, device_id, 0, Position(), end_oldest_device=end_oldest_device
            )
            if first is None:
                raise RefusedError(REFUSED_DEVICE)
        try:
            who = await account.open(device_id)
            if first is not None and who.device_id == device_id and not who.stored_token:
                return await self._keep_session(account, who, device_id, first)
            if first is not None:  # another process has made the file since
                await self._cluster.log_out(first.token)
            return await self.again(account, who, password, end_oldest_device=end_oldest_device)
        except BaseException as error:
            await asyncio.shield(account.close())
            if first is not None and isinstance(error, Exception):  # nothing here keeps its session
                with suppress(ParleyError):
                    await self._cluster.log_out(first.token)
            raise

    async def again(
        self, account: LocalAccount, who: DeviceIdentity, password: str, *, end_oldest_device: bool
    ) -> DeviceIdentity:
        """Log in to an account whose file is open; `who` is what the file says."""
        device_id = secrets.token_bytes(16) if who.out_of_step else who.device_id
        seen = Position() if who.out_of_step else account.position
        used_number = 0 if who.out_of_step else who.used_number
        name = account.profile.account
        try:
            answer = await self._cluster.log_in(
                name, password, device_id, used_number, seen, end_oldest_device=end_oldest_device
            )
        except ClusterBehindError:
            await account.cluster_went_back()
            now = await account.store.write(identity.load)
            return await self.again(account, now, password, end_oldest_device=end_oldest_device)
        forgotten = answer is None
        if answer is None:
            device_id = secrets.token_bytes(16)
            answer = await self._cluster.log_in(name, password, device_id, 0, seen, end_oldest_device=end_oldest_device)
        if answer is None:
            raise RefusedError(REFUSED_DEVICE)
        return await self._keep_session(account, who, device_id, answer, forgotten=forgotten)

    async def profile(self, cluster_id: str, name: str, password: str, current: LocalAccount | None) -> Profile:
        """Return the profile of an account. If this is the restored cluster of an earlier profile, return that one."""
        own = self._directory.profile(cluster_id, name)
        if current is not None and current.profile.account.lower() != name.lower():
            current = None
        former = self._directory.find(name, self._endpoints.all()) if current is None else current.profile
        if own.database.exists() or former is None or former.cluster_id in ("", cluster_id):
            return own
        if current is not None:
            is_continued = await self._continues(current, await current.store.write(identity.load), password)
        else:
            account = self._make_account(former)
            try:
                is_continued = await self._continues(account, await account.open(), password)
            finally:
                await asyncio.shield(account.close())
        if not is_continued:
            return own
        self._directory.remember_restored(cluster_id, former)
        return former

    async def _continues(self, account: LocalAccount, who: DeviceIdentity, password: str) -> bool:
        """Return whether the cluster that answers is the restored one of the account's file, which names another.

        It is if it knows this device, whose id nobody else has, or if it has lived on since the device has seen it. A
        cluster that was made anew at the same addresses has its first life.
        """
        name = account.profile.account
        try:
            # A device that it does not know is refused as a forgotten one, so no session is left behind.
            answer = await self._cluster.log_in(
                name, password, who.device_id, max(1, who.used_number), Position(), end_oldest_device=False
            )
        except (ClusterBehindError, NameTakenError, RefusedError, TooManyDevicesError):
            return False
        if answer is not None:
            await self._cluster.log_out(answer.token)
        is_known = answer is not None and answer.device_epoch > 0
        return is_known or was_restored(who.position, self._cluster.generation)

    async def _keep_session(
        self, account: LocalAccount, who: DeviceIdentity, device_id: bytes, answer: SignedIn, *, forgotten: bool = False
    ) -> DeviceIdentity:
        stored_token = await self._token_store.save(answer.token)
        signed_in = await account.store.write(
            lambda c: identity.signed_in(
                c,
                device_id,
                stored_token,
                answer.account.id,
                answer.position,
                device_epoch=answer.device_epoch,
                forgotten=forgotten,
                max_message_bytes=answer.max_message_bytes,
            )
        )
        await self._token_store.delete(who.stored_token)
        account.signed_in(answer.account, answer.position, signed_in.max_message_bytes, anew=who.out_of_step)
        account.remember_hosts()
        return signed_in
