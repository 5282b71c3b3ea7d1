"""Whether a port that closes unencrypted connections speaks TLS. gRPC says only that the socket was closed."""

import asyncio
import contextlib
import ssl

from parley.errors import TlsError
from parley.net.causes import CLOSED
from parley.net.grpc_errors import CANNOT_BE_REACHED
from parley.wire.endpoints import Endpoint

TIMEOUT_S = 0.5
_CLOSED_SIGNS = (CANNOT_BE_REACHED, CLOSED)


async def needs_tls(problem: str, endpoint: Endpoint, where: str) -> TlsError | None:
    """Return a TlsError if an unencrypted connection ended with this problem, and the port speaks TLS.

    `problem` is the text of an error of from_grpc(). Only a connection that was closed before its first call is tried.
    """
    if not all(sign in problem for sign in _CLOSED_SIGNS) or not await _speaks_tls(endpoint):
        return None
    return TlsError(
        f"{where} speaks TLS, and this client does not encrypt (--insecure). Nothing was sent. Leave out --insecure. "
        "Give the CA of the cluster with --ca FILE."
    )


async def _speaks_tls(endpoint: Endpoint) -> bool:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # nothing is sent
    context.set_alpn_protocols(["h2"])
    try:
        async with asyncio.timeout(TIMEOUT_S):
            _, writer = await asyncio.open_connection(endpoint.host, endpoint.port, ssl=context)
    except (OSError, TimeoutError):
        return False
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    return True
