"""The source of stored data for a stream: pages of a device's queue, and accounts and conversations by id."""

from __future__ import annotations

from parley_proto.v1 import messaging_pb2 as pb
from parleyd.delivery.device_stream import FRAME_BYTES, Page
from parleyd.delivery.encoding import encode_message
from parleyd.delivery.records import directory
from parleyd.group.readers import StateReaders
from parleyd.machine.features import waiting
from parleyd.machine.reader import StateReader


class StoredSource:
    """The stored data for one device; messages are encoded on the reader's thread."""

    def __init__(self, readers: StateReaders, account_id: int, device_id: bytes) -> None:
        self._readers = readers
        self._account_id = account_id
        self._device_id = device_id

    async def page(self, after_id: int, limit: int) -> Page:
        """Return the next messages for the device, without its own."""

        def read(reader: StateReader) -> Page:
            page = waiting.queued_page(
                reader, self._account_id, after_id, limit, self._device_id, max_bytes=FRAME_BYTES
            )
            return Page([encode_message(record) for record in page.messages], page.up_to, page.more, page.removed)

        return await self._readers.run(read)

    async def directory(self, account_ids: set[int], conversation_ids: set[int]) -> pb.Directory:
        """Return these accounts and conversations."""
        return await self._readers.run(
            lambda reader: directory(reader, self._account_id, account_ids, conversation_ids)
        )
