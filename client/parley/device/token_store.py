"""Stores session tokens in the system's keyring, or in the client's own file, which only its owner can read.

The file holds either the token or a reference to the keyring, never both. Another program on this machine can use the
reference if the keyring is open to it. Otherwise (another login, a cron job) it counts as signed out, and a new log-in
replaces the session. The keyring is another program and may ask the person. So it is called on a thread, never inside
a transaction, and its answer is cached.
"""

import asyncio
import contextlib
import secrets

from parley.log import logger

SERVICE = "parley"
REFERENCE = "keyring:"
KEYRING_TIMEOUT_S = 30.0
REAL_KEYRING = 1.0


class TokenStore:
    """Stores tokens.

    Without `use_keyring` new tokens go to the file. References to the keyring are read in any case.
    """

    def __init__(self, *, use_keyring: bool = False) -> None:
        """Make the store. It does not access the keyring yet."""
        self._use_keyring = use_keyring
        self._known: dict[str, str] = {}

    async def save(self, token: str) -> str:
        """Return what to write into the file: a reference if the keyring stored the token, otherwise the token."""
        if not self._use_keyring:
            return token
        reference = REFERENCE + secrets.token_hex(16)
        try:
            async with asyncio.timeout(KEYRING_TIMEOUT_S):
                taken = await asyncio.to_thread(_put, reference, token)
        except Exception as error:  # keyrings are plug-ins and raise what they like
            logger().info("keyring_save_failed", reason=type(error).__name__)
            return token
        if taken:
            self._known[reference] = token
        return reference if taken else token

    async def load(self, stored_token: str) -> str:
        """Return the token behind what the file holds, or an empty string if the keyring does not return it."""
        if not stored_token.startswith(REFERENCE):
            return stored_token
        if stored_token not in self._known:
            found: str | None = None
            try:
                async with asyncio.timeout(KEYRING_TIMEOUT_S):
                    found = await asyncio.to_thread(_get, stored_token)
            except Exception as error:  # keyrings are plug-ins and raise what they like
                logger().info("keyring_load_failed", reason=type(error).__name__)
            if not found:
                return ""
            self._known[stored_token] = found
        return self._known[stored_token]

    async def delete(self, stored_token: str) -> None:
        """Remove a token that is no longer valid, if it is still there."""
        if stored_token.startswith(REFERENCE):
            self._known.pop(stored_token, None)
            with contextlib.suppress(Exception):
                async with asyncio.timeout(KEYRING_TIMEOUT_S):
                    await asyncio.to_thread(_delete, stored_token)


def _put(reference: str, token: str) -> bool:
    import keyring  # an extra, and slow to load

    if getattr(keyring.get_keyring(), "priority", 0) < REAL_KEYRING:
        return False  # none, or one that is itself a file without protection
    keyring.set_password(SERVICE, reference, token)
    return keyring.get_password(SERVICE, reference) == token


def _get(reference: str) -> str | None:
    import keyring

    return keyring.get_password(SERVICE, reference)


def _delete(reference: str) -> None:
    import keyring

    keyring.delete_password(SERVICE, reference)
