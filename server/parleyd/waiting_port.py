"""The client port while a node has no cluster yet: each call is refused with what the node waits for.

A client that was told "connection refused" looked for a mistake in its address. The port is closed again before the
node serves.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import grpc.aio

from parleyd.api.errors import ApiError, abort
from parleyd.client_port import server_options
from parleyd.listening import listen
from parleyd.security.node_certificates import NodeCertificates
from parleyd.security.tls import client_server_credentials
from parleyd.settings.table import Settings

FOUNDING_TEXT = (
    "This node waits for the other first nodes, to make the cluster with them. Nothing was done. The first start needs "
    "all of them: {names}."
)
JOINING_TEXT = (
    "This node waits until the cluster admits it. Nothing was done. An administrator admits it: parley cluster add."
)


@asynccontextmanager
async def waiting_port(settings: Settings, certificates: NodeCertificates | None) -> AsyncIterator[None]:
    """Refuse calls of clients while the body runs. Raises FatalError if the port cannot be listened on."""
    text = JOINING_TEXT if settings.join else FOUNDING_TEXT.format(names=", ".join(sorted(settings.peers)))
    server = grpc.aio.server(options=server_options(settings))
    server.add_generic_rpc_handlers((_Refusal(text),))
    listen(server, settings.client_listen, client_server_credentials(certificates), "client_listen")
    await server.start()
    try:
        yield
    finally:
        await server.stop(grace=0)


class _Refusal(grpc.GenericRpcHandler):
    """Answers every method, of calls and of streams, before it reads anything."""

    def __init__(self, text: str) -> None:
        self._error = ApiError(grpc.StatusCode.UNAVAILABLE, text)

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Any, Any]:
        """Return the handler of any method."""

        async def refuse(_: object, context: Any) -> None:
            await abort(context, self._error)

        return grpc.stream_stream_rpc_method_handler(refuse)
