"""A text filter in Python: a function from text to text, served by gRPC."""

from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import grpc

from parley.errors import BadInputError, TlsError
from parley.net.channel import MAX_FRAME_BYTES
from parley.wire.endpoints import parse_endpoints
from parley_proto.v1 import text_filter_pb2 as pb
from parley_proto.v1.text_filter_pb2_grpc import TextFilterServicer, add_TextFilterServicer_to_server

MAX_CALLS = 64
STOP_S = 1.0


class TextFilterServer:
    """Serves a text filter: `async with TextFilterServer(str.upper, "127.0.0.1:7650"):`. It has no state."""

    def __init__(
        self, change: Callable[[str], str], listen: str, *, cert: Path | None = None, key: Path | None = None
    ) -> None:
        """`change` is called for each text, on the event loop. An error in it counts as a filter that is down.

        Port 0 of 'host:0' is any free port. Without `cert` and `key`, only an address of this machine is served, so no
        text is readable on the network. Raises BadInputError or TlsError otherwise.
        """
        host, _, port = listen.rpartition(":")
        (endpoint, *more) = parse_endpoints([f"{host}:{port if port != '0' else 1}"])
        if more:
            raise BadInputError(f"{listen!r} is not one address. Write host:port, for example 127.0.0.1:7650.")
        if (cert is None) != (key is None):
            raise BadInputError("A certificate needs its key, and a key its certificate. Give both or none.")
        if cert is None and not endpoint.is_loopback:
            raise BadInputError(
                f"Texts could be read on the network at {listen}. Nothing is served. Give --cert and --key, or an "
                "address of this machine such as 127.0.0.1:7650."
            )
        self._credentials = None if cert is None or key is None else _credentials(cert, key)
        self._host, self._listen, self.port = host, listen, 0
        self._change = change

    @property
    def address(self) -> str:
        """Return the address on which it listens, with the port that it has."""
        return f"{self._host}:{self.port}"

    async def __aenter__(self) -> Self:
        options = (("grpc.max_receive_message_length", MAX_FRAME_BYTES), ("grpc.so_reuseport", 0))
        self._server = grpc.aio.server(options=options, maximum_concurrent_rpcs=MAX_CALLS)
        add_TextFilterServicer_to_server(_Service(self._change), self._server)
        try:
            if self._credentials is None:
                self.port = self._server.add_insecure_port(self._listen)
            else:
                self.port = self._server.add_secure_port(self._listen, self._credentials)
        except RuntimeError:
            raise BadInputError(
                f"{self._listen} cannot be used: another program listens there, or this machine has no such address."
            ) from None
        await self._server.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._server.stop(STOP_S)


class _Service(TextFilterServicer):
    def __init__(self, change: Callable[[str], str]) -> None:
        self._change = change

    async def FilterTexts(self, request: pb.FilterTextsRequest, context: Any) -> pb.FilterTextsResponse:  # noqa: N802
        return pb.FilterTextsResponse(texts=[self._change(text) for text in request.texts])


def _credentials(cert: Path, key: Path) -> grpc.ServerCredentials:
    try:
        return grpc.ssl_server_credentials([(key.read_bytes(), cert.read_bytes())])
    except OSError as error:
        raise TlsError(f"{error.filename} cannot be read ({error.strerror}). Nothing is served.") from error
