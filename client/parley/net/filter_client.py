"""Asks the text filter. One call for each send, with a time limit and without a retry."""

import asyncio
from collections.abc import Iterator, Sequence

import grpc

from parley.errors import BadInputError, TextFilterError
from parley.log import logger
from parley.net.causes import in_brackets
from parley.net.channel import ChannelPool, load_security
from parley.outgoing_message import check_body
from parley.text_filter import MAX_TIMEOUT_MS, TextFilter, WhenFilterFails
from parley.wire.endpoints import parse_endpoints
from parley_proto.v1 import text_filter_pb2 as pb
from parley_proto.v1.text_filter_pb2_grpc import TextFilterStub

MAX_TEXTS = 256
MAX_BYTES = 1 << 20


class FilterClient:
    """The filter of one client, or of all clients of a group."""

    def __init__(self, settings: TextFilter) -> None:
        """Read the settings. Raise BadInputError or TlsError if they cannot be used."""
        endpoints = parse_endpoints([settings.address])
        if len(endpoints) != 1:
            raise BadInputError(f"{settings.address!r} is not one address of a text filter. Write host:port.")
        if not 1 <= settings.timeout_ms <= MAX_TIMEOUT_MS:
            raise BadInputError(f"The time limit of a text filter is 1 to {MAX_TIMEOUT_MS} ms.")
        (self._endpoint,) = endpoints
        is_open = self._endpoint.is_loopback and settings.ca is None
        self._pool = ChannelPool(load_security(settings.ca, insecure=is_open, insecure_network=False))
        self._settings = settings
        self._has_told = False

    async def close(self) -> None:
        """Close the connection."""
        await self._pool.close()

    async def change(self, texts: Sequence[str], limit: int) -> list[str]:
        """Return the texts to send. `limit` is the longest text in bytes.

        Raises BadInputError if a text, or what became of it, cannot be sent. If the filter fails, returns the texts as
        they are or raises TextFilterError, as it is set.
        """
        for text in texts:
            check_body(text, limit)
        try:
            async with asyncio.timeout(self._settings.timeout_ms / 1000):
                changed = [text for part in _parts(texts) for text in await self._ask(part)]
        except TimeoutError:
            return self._failed(texts, "timeout", f"did not answer within {self._settings.timeout_ms} ms")
        except grpc.aio.AioRpcError as error:
            code = error.code().name
            return self._failed(texts, code, f"gave no answer{in_brackets(error.details() or '')}")
        except _UselessAnswerError as error:
            return self._failed(texts, "useless_answer", str(error))
        for text in changed:
            self._check(text, limit)
        self._has_told = False
        return changed

    async def _ask(self, texts: Sequence[str]) -> Sequence[str]:
        stub = TextFilterStub(self._pool.get(self._endpoint))
        answer = await stub.FilterTexts(pb.FilterTextsRequest(texts=texts))
        found: Sequence[str] = getattr(answer, "texts", ())  # gRPC gives None for bytes that are no answer
        if len(found) != len(texts):
            raise _UselessAnswerError(f"returned {len(found)} texts for {len(texts)}")
        return found

    def _check(self, text: str, limit: int) -> None:
        where = f"The text filter at {self._endpoint} changed the message"
        if not text.strip():
            raise BadInputError(f"{where} and left nothing of it. Nothing was sent. Write another text.")
        try:
            check_body(text, limit)
        except BadInputError as error:
            raise BadInputError(f"{where}, and the result cannot be sent. {error.text}") from None

    def _failed(self, texts: Sequence[str], kind: str, reason: str) -> list[str]:
        """Send or refuse, as it is set. The log gets the kind only: the reason may quote a text."""
        where = f"The text filter at {self._endpoint} {reason}."
        if self._settings.when_fails is WhenFilterFails.REFUSE:
            raise TextFilterError(
                f"{where} Nothing was sent. Send the text again when the filter works. To send without it, change the "
                "setting of the filter."
            )
        logger().warning("text_filter_failed", address=str(self._endpoint), reason=kind)
        if not self._has_told and self._settings.on_unfiltered is not None:
            self._settings.on_unfiltered(f"{where} Messages are sent unfiltered until it works again.")
        self._has_told = True
        return list(texts)


class _UselessAnswerError(Exception):
    """The filter answered something that belongs to no question."""


def _parts(texts: Sequence[str]) -> Iterator[Sequence[str]]:
    """Yield the texts in parts that one request holds."""
    start, size = 0, 0
    for at, text in enumerate(texts):
        own = len(text.encode())
        if at > start and (at - start == MAX_TEXTS or size + own > MAX_BYTES):
            yield texts[start:at]
            start, size = at, 0
        size += own
    if start < len(texts):
        yield texts[start:]
