"""Puts into the audit log which administrator asked for what is no command: a change of the nodes, a backup.

It is done before the change, or as a backup begins. Afterwards it would be missing if the outcome is unknown, if the
caller has left, or if the removed node was to note it. If the caller's rights have ended, the log refuses the row, and
then the request is refused, too. Nothing else holds up a request: a cluster without a majority still gives a backup.
What could not be noted is in the log of the node.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from hashlib import sha256

import structlog

from parley_proto.v1 import state_pb2
from parleyd.api.commands import Commands
from parleyd.api.errors import ApiError, refusal
from parleyd.group.errors import OverloadedError, UnavailableError
from parleyd.machine.features.audit import AUDIT_LEVEL
from parleyd.machine.features.sessions import SessionRecord
from parleyd.machine.limits import REQUEST_ID_BYTES

NOTE_TIMEOUT_S = 2.0
ENDED_RIGHTS = (state_pb2.RESULT_CODE_SIGNED_OUT, state_pb2.RESULT_CODE_NOT_ALLOWED)


class NotedRequests:
    """Notes requests of administrators."""

    def __init__(self, commands: Commands, now_ms: Callable[[], int]) -> None:
        """`now_ms` is the time of the cluster."""
        self._commands = commands
        self._now_ms = now_ms

    async def note(
        self,
        session: SessionRecord,
        request: state_pb2.NotedRequest.ValueType,
        node: str = "",
        *,
        once_in_s: int = 0,
    ) -> None:
        """Note a request about a node, with `once_in_s` only once in that time. Below level 3, do nothing.

        Raises ApiError if the session or its right ended before the row would have been applied.
        """
        if self._commands.level < AUDIT_LEVEL:
            return
        request_id = secrets.token_bytes(REQUEST_ID_BYTES)
        if once_in_s:
            text = f"{session.session_id} {request} {node} {self._now_ms() // (once_in_s * 1000)}"
            request_id = sha256(text.encode()).digest()[:REQUEST_ID_BYTES]
        command = state_pb2.NoteRequest(
            session_id=session.session_id, request_id=request_id, request=request, node=node
        )
        try:
            async with asyncio.timeout(NOTE_TIMEOUT_S):
                await self._commands.apply(state_pb2.Command(note_request=command))
        except (ApiError, OverloadedError, UnavailableError, TimeoutError) as error:
            if isinstance(error, ApiError) and error.result in ENDED_RIGHTS:
                raise refusal(error.result) from error  # nothing of the request is done, whatever became of the row
            structlog.get_logger("api").warning(
                "request_not_noted",
                request=state_pb2.NotedRequest.Name(request),
                by=session.account_name,
                node_name=node,
                error=str(error),
            )
