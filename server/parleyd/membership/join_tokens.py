"""Join tokens: an administrator makes one, and the first new node that brings it is admitted.

The cluster keeps the SHA-256 of a token. A token that this node has not applied, or that another node used, is turned
down here. So nobody makes the log grow with invented tokens. Apply decides (machine/features/members.py).
"""

from __future__ import annotations

import hashlib

from parley_proto.v1 import state_pb2
from parleyd.group.command_router import CommandRouter
from parleyd.group.errors import OverloadedError, UnavailableError
from parleyd.group.readers import StateReaders
from parleyd.machine.features import members

TOKEN_TIMEOUT_S = 5.0
MAX_TOKEN_CHARS = 64


class JoinTokens:
    """Uses the tokens that new nodes bring."""

    def __init__(self, readers: StateReaders, router: CommandRouter) -> None:
        self._readers = readers
        self._router = router

    async def admit(self, token: str, node_id: int) -> bool:
        """Return whether the token is the node's own from now on; raises TimeoutError if no leader answers."""
        if not token or len(token) > MAX_TOKEN_CHARS:
            return False
        token_digest = hashlib.sha256(token.encode()).digest()
        if not await self._readers.run(lambda reader: members.may_use_token(reader, token_digest, node_id)):
            return False
        command = state_pb2.Command(use_join_token=state_pb2.UseJoinToken(token_digest=token_digest, node_id=node_id))
        try:
            applied = await self._router.submit([command], timeout_s=TOKEN_TIMEOUT_S)
        except (OverloadedError, UnavailableError) as error:
            raise TimeoutError(str(error)) from error
        return applied.results[0].code == state_pb2.RESULT_CODE_OK
