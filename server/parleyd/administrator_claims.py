"""Takes the codes that `parleyd admin create` leaves in the data directory into the cluster, while the node runs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn, Protocol

import structlog

from parley_proto.v1 import state_pb2
from parleyd.group.errors import OverloadedError, UnavailableError
from parleyd.group.proposals import AppliedCommands
from parleyd.machine.features.codes import CODES_LEVEL
from parleyd.storage.administrator_claim import (
    AdministratorClaim,
    DamagedClaimError,
    read_claim,
    refuse_claim,
    remove_claim,
    waiting_claims,
)

LOOK_INTERVAL_S = 1.0
SUBMIT_TIMEOUT_S = 10.0


class Submitter(Protocol):
    """The router to the leader."""

    async def submit(self, commands: Sequence[state_pb2.Command], *, timeout_s: float) -> AppliedCommands:
        """Have `commands` applied; raises OverloadedError or UnavailableError."""


class AdministratorClaims:
    """Looks for claims again and again."""

    def __init__(self, data_directory: Path, submitter: Submitter, level: Callable[[], int]) -> None:
        self._data_directory = data_directory
        self._submitter = submitter
        self._level = level
        self._unread = ""  # why the claim could not be read, as logged last
        self._logger = structlog.get_logger("node")

    async def run(self) -> NoReturn:
        """Take claims until cancelled. A claim waits as long as the cluster cannot take it."""
        while True:
            await self.look()
            await asyncio.sleep(LOOK_INTERVAL_S)

    async def look(self) -> None:
        """Take the claims that wait, if the cluster can take them."""
        if self._level() < CODES_LEVEL:
            return
        unread = ""
        try:
            # To list a folder takes a descriptor, which the process may have run out of.
            paths = await asyncio.to_thread(waiting_claims, self._data_directory)
        except OSError as error:
            paths, unread = [], str(error)
        for path in paths:
            try:
                claim = await asyncio.to_thread(read_claim, path)
            except DamagedClaimError as error:
                self._logger.warning("administrator_claim_refused", reason=str(error))
                await asyncio.to_thread(remove_claim, path)
            except OSError as error:
                unread = unread or str(error)
            else:
                await self._take(path, claim)
        self._log_unread(unread)

    def _log_unread(self, reason: str) -> None:
        """Log why a claim cannot be read, unless that was logged last. Empty: all were read."""
        was, self._unread = self._unread, reason
        if reason not in ("", was):
            self._logger.warning("administrator_claim_not_read", reason=reason, effect="the node tries again")

    async def _take(self, path: Path, claim: AdministratorClaim) -> None:
        offer = state_pb2.OfferAdministrator(digest=claim.digest, expires_at_ms=claim.expires_at_ms)
        try:
            applied = await self._submitter.submit(
                [state_pb2.Command(offer_administrator=offer)], timeout_s=SUBMIT_TIMEOUT_S
            )
        except (OverloadedError, UnavailableError):
            return
        code = applied.results[0].code
        if code == state_pb2.RESULT_CODE_OK:
            self._logger.warning("administrator_code_offered", expires_at_ms=claim.expires_at_ms)
            await asyncio.to_thread(remove_claim, path)
        else:
            self._logger.warning("administrator_claim_refused", reason=state_pb2.ResultCode.Name(code))
            await asyncio.to_thread(refuse_claim, path)
