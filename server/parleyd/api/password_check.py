"""Checks passwords of log-ins and of signed-in callers: the throttle first, then the hash, in a fair order.

A wrong password is logged. Its count enters the replicated log at 10, 30 and 100 only. An attempt that is delayed costs
its caller nothing, so a bounded number of them is logged.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import grpc
import structlog

from parley_proto.v1 import state_pb2
from parleyd.api.callers import owner_at
from parleyd.api.commands import Commands
from parleyd.api.errors import ApiError
from parleyd.group.errors import OverloadedError, UnavailableError
from parleyd.machine.features.accounts import AccountRow
from parleyd.machine.features.failed_log_ins import Failures
from parleyd.machine.names import name_key
from parleyd.request_ids import RequestLog
from parleyd.security.log_in_throttle import KEPT_COUNTS, Attempt, Verdict
from parleyd.security.passwords import PasswordHasher

DELAYED_LINES_PER_S = 5
DELAYED_TEXT = {
    "account": "There were too many wrong passwords for this name. This one was not checked, and nothing was changed. "
    "Wait {wait} and try again. Devices that logged in before are not delayed. An administrator can end the delay: "
    "parley cluster lift-delay NAME.",
    "device": "There were too many wrong passwords from this device. This one was not checked, and nothing was "
    "changed. Wait {wait} and try again. An administrator can end the delay: parley cluster lift-delay NAME.",
    "address": "There were too many wrong passwords from this address. This one was not checked, and nothing was "
    "changed. Wait {wait} and try again. Devices that logged in before are not delayed.",
}


class LogInGuard(Protocol):
    """The throttle of log-ins."""

    async def begin(self, attempt: Attempt) -> Verdict:
        """Count an attempt, and say whether its password may be checked."""

    async def succeeded(self, attempt: Attempt) -> None:
        """Report that the password was right."""

    async def not_checked(self, attempt: Attempt) -> None:
        """Take an attempt back whose password was not checked."""


@dataclass(frozen=True, slots=True)
class Claim:
    """Who claims to know a password. `device` is empty unless it has logged in to the account before."""

    name: str
    account: AccountRow | None
    failures: Failures
    address: str
    device: bytes = b""


class PasswordCheck:
    """Checks the passwords of one node's clients."""

    def __init__(
        self,
        passwords: PasswordHasher,
        guard: LogInGuard,
        commands: Commands,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._passwords = passwords
        self._guard = guard
        self._commands = commands
        self._logger = structlog.get_logger("api")
        self._delayed = RequestLog("api", monotonic, lines_per_s=DELAYED_LINES_PER_S, level=logging.WARNING)

    async def is_right(self, claim: Claim, password: str) -> bool:
        """Return whether the password is the account's. Raises ApiError if it was not checked because of a delay."""
        attempt = Attempt(
            name_key(claim.name), claim.address, claim.device.hex(), claim.failures.count, claim.failures.lifted
        )
        verdict = await self._guard.begin(attempt)
        if verdict.wait_s > 0:
            self._log(claim, verdict, reason="delayed")
            text = DELAYED_TEXT[verdict.why or "account"].format(wait=_duration(verdict.wait_s))
            raise ApiError(grpc.StatusCode.FAILED_PRECONDITION, text)
        account = claim.account
        hashed = account.password_hash if account is not None and account.active else None
        try:
            is_right = await self._passwords.verify(password, hashed, owner_at(attempt.address, attempt.account))
        except BaseException:
            await asyncio.shield(self._guard.not_checked(attempt))
            raise
        if is_right:
            await self._guard.succeeded(attempt)
        else:
            self._log(claim, verdict, reason="wrong_password" if account is not None else "unknown_name")
            if account is not None and not claim.device and verdict.failures in KEPT_COUNTS:
                await self._keep_count(account, verdict.failures, claim.failures.lifted)
        return is_right

    async def _keep_count(self, account: AccountRow, failures: int, lifted: int) -> None:
        command = state_pb2.CountFailures(account_id=account.id, failures=failures, lifted=lifted)
        try:
            await self._commands.apply(state_pb2.Command(count_failures=command))
        except (ApiError, OverloadedError, UnavailableError) as error:
            # The leader goes on counting in memory, so only a change of leader forgets this.
            self._logger.info("failure_count_not_kept", failures=failures, reason=str(error))

    def _log(self, claim: Claim, verdict: Verdict, *, reason: str) -> None:
        # A name that no account has may be a password in the wrong field.
        name = claim.account.name if claim.account is not None else ""
        write = self._delayed.line if verdict.wait_s > 0 else self._logger.warning
        write("login_failed", reason=reason, account=name, address=claim.address, failures=verdict.failures)


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    return f"{minutes} minutes" if seconds > 90 else f"{max(1, round(seconds + 0.5))} seconds"
