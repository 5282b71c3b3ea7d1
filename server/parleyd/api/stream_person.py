"""What one stream says of its person: whether it is away, and in which conversation it types.

Who is told of typing is looked up on the node of the typist: the other member of a direct conversation, or the members
of a channel that is not large. Typing in the conversation of everyone and in large channels is not told, and neither is
that of an account that hides. A look-up is skipped while the last one of the stream is less than INTERVAL_S ago, while
one of the account is under way, or MAX_LOOK_UPS of the node: the client says it again in three seconds.
"""

from __future__ import annotations

import asyncio
import time
from functools import partial

from parleyd.delivery.device_hub import DeviceHub
from parleyd.delivery.device_stream import DeviceStream
from parleyd.group.errors import TooManyReadsError
from parleyd.group.readers import StateReaders
from parleyd.machine.features import conversations, hidden_accounts
from parleyd.machine.features.conversations import CHANNEL, SHOWN_MEMBERS
from parleyd.machine.features.memberships import EVERYONE_ID, is_member, members
from parleyd.machine.reader import StateReader
from parleyd.presence.clients import ConnectedClients
from parleyd.presence.typists import FRESH_S, Typing

INTERVAL_S = 0.3
MAX_LOOK_UPS = 16


class Typists:
    """Looks up whom to tell that an account types, and tells it. One for each node."""

    def __init__(self, readers: StateReaders, clients: ConnectedClients) -> None:
        self._readers = readers
        self._clients = clients
        self._looked_up_for: set[int] = set()

    async def tell(self, account_id: int, conversation_id: int) -> None:
        """Tell the other members that an account types, unless this node has enough to do."""
        if account_id in self._looked_up_for or len(self._looked_up_for) >= MAX_LOOK_UPS:
            return
        began_s = time.monotonic()
        self._looked_up_for.add(account_id)
        try:
            typing = await self._readers.run(partial(_looked_up, account_id, conversation_id))
        except TooManyReadsError:
            return
        finally:
            self._looked_up_for.discard(account_id)
        if typing is not None and time.monotonic() - began_s <= FRESH_S:
            self._clients.client_types(typing)


class StreamPerson:
    """The person at the device of one stream."""

    def __init__(self, stream: DeviceStream, hub: DeviceHub, typists: Typists) -> None:
        self._stream = stream
        self._hub = hub
        self._typists = typists
        self._next_s = float("-inf")

    def set_away(self, *, away: bool) -> None:
        """Note whether the person is away."""
        self._hub.set_away(self._stream, away=away)

    def types(self, conversation_id: int, tasks: asyncio.TaskGroup) -> None:
        """Tell the other members of a conversation that the person types. What comes too often is ignored."""
        now_s = asyncio.get_running_loop().time()
        if now_s >= self._next_s:
            self._next_s = now_s + INTERVAL_S
            tasks.create_task(self._typists.tell(self._stream.account_id, conversation_id), name="typing")


def _looked_up(account_id: int, conversation_id: int, reader: StateReader) -> Typing | None:
    """Return what to tell; None if nobody is to be told."""
    with reader.consistent():
        if conversation_id == EVERYONE_ID or not is_member(reader, conversation_id, account_id):
            return None
        found = conversations.with_members(reader, conversation_id)
        if found is None or found.archived or found.member_count > SHOWN_MEMBERS:
            return None
        if hidden_accounts.among(reader, {account_id}):
            return None
        if found.kind == CHANNEL:
            return Typing(conversation_id, account_id)
        pair = members(reader, conversation_id, 0, 2)
    others = [member.account_id for member in pair if member.account_id != account_id]
    return Typing(conversation_id, account_id, others[0]) if others else None
