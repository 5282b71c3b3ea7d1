"""Passwords: hashed with bcrypt, off the event loop, in a bounded pool.

Risks and rules:

- bcrypt uses 72 bytes and stops at a NUL. Its input is base64(SHA-256(password)), 44 bytes without a NUL.
- Different keyboards send the same letters composed or decomposed. Both are hashed in the composed form (NFC).
- A flood of log-ins must not use up the node: `workers` threads, `max_waiting` callers, then `PasswordsBusyError` for
  whoever has the most waiting. Networks take turns, addresses in them and accounts do (fair_queue.py).
- A cancelled caller leaves the queue. If its hash runs, the worker counts as busy until the thread is done, so
  cancelled calls cannot exceed the bound.
- An unknown account must take the time of a known one: `verify(password, None)` checks against an unused hash, and so
  does an empty hash, which an account without a password has.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import re
import secrets
import unicodedata
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import bcrypt
import structlog

from parleyd.owners import Owner
from parleyd.security.fair_queue import FairQueue
from parleyd.security.names import InvalidInputError, password_is_readable, validate_password

NOBODY: Owner = ("", "", "")
BCRYPT_COST_MIN = 4
BCRYPT_COST_MAX = 16
# A salt of 16 bytes ends with one of four characters: bcrypt reads no other.
_HASH = re.compile(r"\$2[aby]\$(\d\d)\$[./A-Za-z0-9]{21}[.Oeu][./A-Za-z0-9]{31}", re.ASCII)
_BCRYPT_BYTES = 23
_BCRYPT_CHARACTERS = 31

_T = TypeVar("_T")
_log = structlog.get_logger(__name__)


class PasswordsBusyError(Exception):
    """Too many passwords are being checked at once. Nothing was done. A retry after a moment is safe."""

    def __init__(self) -> None:
        super().__init__("this node is checking too many passwords at once. Nothing was changed. Try again in a moment")


class PasswordHasher:
    """Hashes and verifies passwords; belongs to one event loop."""

    def __init__(self, cost: int = 12, *, workers: int = 2, max_waiting: int = 64) -> None:
        if not BCRYPT_COST_MIN <= cost <= BCRYPT_COST_MAX:
            raise ValueError(f"bcrypt cost {cost} is not from {BCRYPT_COST_MIN} to {BCRYPT_COST_MAX}")
        self._cost = cost
        self._free = workers
        self._waiting: FairQueue[asyncio.Future[None]] = FairQueue(max_waiting)
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="passwords")
        self._nobodys_hash = _hash_of_nobody(cost)

    async def hash(self, password: str, caller: Owner = NOBODY) -> bytes:
        """Return the bcrypt hash of a new password; raise `InvalidInputError` if the rules refuse it."""
        prepared = _prepare(validate_password(password))
        return await self._run(lambda: bcrypt.hashpw(prepared, bcrypt.gensalt(self._cost)), caller)

    async def verify(self, password: str, hashed: bytes | None, caller: Owner = NOBODY) -> bool:
        """Return whether `password` matches `hashed`; None or empty: there is no such password."""
        if not password_is_readable(password):
            return False  # no account can have it, so the quick answer reveals nothing about this one
        prepared = _prepare(password)
        matches = await self._run(lambda: _check(prepared, hashed or self._nobodys_hash, self._nobodys_hash), caller)
        return matches and bool(hashed)

    def validate_hash(self, hashed: str, field: str = "password_hash") -> bytes:
        """Return a hash from elsewhere, or empty for no password; raise `InvalidInputError` if it cannot be kept.

        A hash that is cheaper to guess than this node's own would be the weakest one.
        """
        if not hashed:
            return b""
        form = _HASH.fullmatch(hashed)
        if form is None:
            raise InvalidInputError(field, "is no bcrypt hash; give one of the form $2b$12$ and 53 more characters")
        if not self._cost <= int(form[1]) <= BCRYPT_COST_MAX:
            raise InvalidInputError(
                field, f"has the cost {int(form[1])}; this node takes {self._cost} (bcrypt_cost) to {BCRYPT_COST_MAX}"
            )
        return hashed.encode()

    def close(self) -> None:
        """Accept no more work; a hash in progress ends by itself within a second."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def _run(self, work: Callable[[], _T], caller: Owner) -> _T:
        await self._take_turn(caller)
        try:
            running = asyncio.get_running_loop().run_in_executor(self._pool, work)
        except RuntimeError:  # closed: the node is stopping
            self._pass_turn_on()
            raise PasswordsBusyError from None
        running.add_done_callback(self._finished)
        return await asyncio.shield(running)

    async def _take_turn(self, caller: Owner) -> None:
        """Wait for a free worker. Raises PasswordsBusyError if there is no place to wait."""
        if self._free:
            self._free -= 1
            return
        turn = asyncio.get_running_loop().create_future()
        pushed_out = self._waiting.put(caller, turn)
        if pushed_out is turn:
            raise PasswordsBusyError
        if pushed_out is not None and not pushed_out.done():
            pushed_out.set_exception(PasswordsBusyError())
        try:
            await turn
        except asyncio.CancelledError:
            self._waiting.remove(caller, turn)
            if not turn.cancelled() and turn.exception() is None:
                self._pass_turn_on()  # it came at the same moment
            raise

    def _pass_turn_on(self) -> None:
        while (turn := self._waiting.take()) is not None:
            if not turn.done():  # its caller may have left just now
                turn.set_result(None)
                return
        self._free += 1

    def _finished(self, running: asyncio.Future[_T]) -> None:
        self._pass_turn_on()
        if not running.cancelled():
            running.exception()  # the caller may have left; asyncio would report it as never retrieved


def _prepare(password: str) -> bytes:
    composed = unicodedata.normalize("NFC", password).encode()
    return base64.b64encode(hashlib.sha256(composed).digest())


def _hash_of_nobody(cost: int) -> bytes:
    """Return a hash that no known password has, of the time to check of all others.

    To hash a random password would take a quarter of a second of each start.
    """
    return bcrypt.gensalt(cost) + base64.b64encode(secrets.token_bytes(_BCRYPT_BYTES), b"./")[:_BCRYPT_CHARACTERS]


def _check(prepared: bytes, hashed: bytes, nobodys: bytes) -> bool:
    try:
        return bcrypt.checkpw(prepared, hashed)
    except ValueError:
        _log.error("password_hash_unreadable", effect="its account cannot log in until the password is set anew")
        bcrypt.checkpw(prepared, nobodys)  # a quick answer would tell that the account exists
        return False
