"""ClientGroup: many accounts in one process, as a gateway or a bot needs them.

    async with ClientGroup(["localhost:7600"], ca=Path("ca.pem")) as group:
        async with group.client() as anna, group.client() as ben:
            await anna.login("anna", password)
            await ben.login("ben", other)

The clients share the connections to the nodes (128 sessions on each) and one thread for their files. So 500 accounts
need a handful of connections and one thread. An account may be in use in one client of the group at a time.
"""

import secrets
from collections.abc import Sequence
from pathlib import Path
from random import Random
from types import TracebackType
from typing import Self

from parley.client import DEFAULT_DEADLINE_S, ParleyClient
from parley.connection import ConnectionManagerSettings
from parley.device.profile import FileLock, StateDirectory
from parley.device.token_store import TokenStore
from parley.errors import StoreError
from parley.shared import Shared
from parley.text_filter import TextFilter


class ClientGroup:
    """Makes clients of one cluster. Leave them before the group."""

    def __init__(
        self,
        hosts: str | Sequence[str],
        *,
        ca: Path | None = None,
        insecure: bool = False,
        insecure_network: bool = False,
        state_dir: Path | None = None,
        deadline_s: float = DEFAULT_DEADLINE_S,
        settings: ConnectionManagerSettings | None = None,
        rng: Random | None = None,
        token_store: TokenStore | None = None,
        exclusive: bool = False,
        text_filter: TextFilter | None = None,
    ) -> None:
        """The arguments are those of ParleyClient, and count for all clients of the group.

        With `exclusive`, the group is entered only if no other exclusive group uses the folder.
        """
        self._shared = Shared(
            hosts,
            ca=ca,
            insecure=insecure,
            insecure_network=insecure_network,
            one_thread=True,
            text_filter=text_filter,
        )
        self._directory = StateDirectory(state_dir)
        self._lock = FileLock(self._directory.root / "group.lock") if exclusive else None
        self._deadline_s = deadline_s
        self._settings = settings
        self._rng = rng or Random(secrets.randbits(64))  # noqa: S311 - spreads load, keeps no secret
        self._token_store = token_store

    async def __aenter__(self) -> Self:
        self._directory.make()
        if self._lock is not None and not self._lock.try_acquire():
            raise StoreError(
                f"Another process uses the folder {self._directory.root}. Nothing was changed. End that process, or "
                "name another folder."
            )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._shared.close()
        if self._lock is not None:
            self._lock.release()

    def kept_accounts(self) -> tuple[str, ...]:
        """Return the names, in small letters, of the accounts that have a file in the folder of the group."""
        return self._directory.accounts()

    def client(self, *, account: str | None = None, connect: bool = True, on_behalf_of: str = "") -> ParleyClient:
        """Return a client that is not entered yet. It does not become the last sign-in of this machine.

        `on_behalf_of` is the IP address of the person. Nodes that trust this gateway count log-ins for that address.
        """
        return ParleyClient(
            (),
            account=account,
            state_dir=self._directory.root,
            connect=connect,
            deadline_s=self._deadline_s,
            settings=self._settings,
            rng=Random(self._rng.getrandbits(64)),  # noqa: S311 - spreads load, keeps no secret
            token_store=self._token_store,
            shared=self._shared,
            on_behalf_of=on_behalf_of,
        )
