"""The id of a request: made here for each call, sent with every attempt of it, and named in its error.

Nodes put it on the lines of their logs that the request causes, so one search tells its way.
"""

import secrets
from collections.abc import Callable
from typing import Any, cast

import grpc

REQUEST_ID_KEY = "x-parley-request-id"


def new_request_name() -> str:
    """Return a new id. It is no secret, and proves nothing."""
    return secrets.token_hex(8)


def named(channel: grpc.aio.Channel, name: str) -> grpc.aio.Channel:
    """Return the channel for the unary calls of one request: each has the request's id in its metadata."""
    return cast(grpc.aio.Channel, _NamedChannel(channel, name))


class _NamedChannel:
    """What stubs ask of a channel."""

    def __init__(self, channel: grpc.aio.Channel, name: str) -> None:
        self._channel = channel
        self._metadata = ((REQUEST_ID_KEY, name),)

    def __getattr__(self, attribute: str) -> Any:
        return getattr(self._channel, attribute)

    def unary_unary(self, *arguments: Any, **options: Any) -> Callable[..., Any]:
        """Return the method of a stub."""
        call = self._channel.unary_unary(*arguments, **options)

        def called(request: Any, *, metadata: Any = None, **options: Any) -> Any:
            return call(request, metadata=(*(metadata or ()), *self._metadata), **options)

        return called
