"""A call that this node makes of its own services, for a browser: the same checks, bounds and texts as on the wire.

What a call finds out about its caller is kept in the context of its task (api/auth.py). Each request of a browser has a
task of its own (http/server.py).
"""

from __future__ import annotations

from typing import Any, NoReturn, cast

import grpc
import grpc.aio

from parleyd.api.errors import Context
from parleyd.request_ids import begin_request


class CallRefusedError(grpc.aio.AbortError):
    """A service has ended the call with a status and a text."""

    def __init__(self, status: grpc.StatusCode, text: str) -> None:
        super().__init__(text)
        self.status = status
        self.text = text


class _LocalCall:
    """What services ask of the context of a call."""

    def __init__(self, host: str, port: int, token: str) -> None:
        self._peer = f"ipv6:[{host}]:{port}" if ":" in host else f"ipv4:{host}:{port}"
        self._token = token

    def peer(self) -> str:
        return self._peer

    def invocation_metadata(self) -> tuple[tuple[str, str], ...]:
        return (("authorization", f"Bearer {self._token}"),) if self._token else ()

    async def abort(self, status: grpc.StatusCode, text: str = "", trailing_metadata: Any = ()) -> NoReturn:
        raise CallRefusedError(status, text)


def local_call(host: str, port: int, token: str = "") -> Context:
    """Return the context of a call from this address, with the token of its caller's session if there is one.

    What this task logs from now on has a request id, as for a call on the wire.
    """
    begin_request((), is_carried=True)
    return cast(Context, _LocalCall(host, port, token))
