"""The marks of one Connect stream: which of them enter the log.

An entry takes room on the disks of all nodes, also while they are nearly full. So a read mark is looked up in this
node's state first. It enters the log if it changes something there. A mark above the ids that this node has applied may
name something newer. Then the node applies all that is committed before it looks that mark up. What is still unknown
was invented, and is ignored.

Each mark is looked up once, and a batch has at most BATCH of them. The streams of an account look theirs up in turn.
Marks that wait have a bound in sum over all streams, in bytes (budgets.py). Those that enter the log do so together
with the marks of the node's other streams (node_marks.py).
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from itertools import islice
from typing import Protocol

import structlog

from parley_proto.v1 import messaging_pb2 as pb
from parley_proto.v1 import state_pb2
from parleyd.api.auth import Authenticator
from parleyd.api.node_marks import NodeMarks
from parleyd.api.results import code_name
from parleyd.budgets import DeviceShare
from parleyd.group.errors import OverloadedError, UnavailableError
from parleyd.group.readers import StateReaders
from parleyd.machine.features import receipts
from parleyd.machine.features.receipts import MarkedStates
from parleyd.machine.features.sessions import SessionRecord
from parleyd.machine.limits import MAX_ID

MARK_BYTES = 128
"""What a waiting mark counts in the budget: its entries in two tables and its command."""
BATCH = 128
RETRY_INTERVAL_S = 0.1


class IgnoredMarks:
    """Logs a wrong mark, once per stream. A client repeats its marks after each stream, so none may end one."""

    def __init__(self, account_id: int) -> None:
        self._account_id = account_id
        self._has_logged = False

    def note(self, kind: str, reason: str) -> None:
        """Log that a mark was ignored, unless one was logged before."""
        if not self._has_logged:
            self._has_logged = True
            structlog.get_logger("api").info("mark_ignored", kind=kind, reason=reason, account_id=self._account_id)


class MarkedState(Protocol):
    """What the node knows of an account's conversations."""

    async def look_up(self, marks: Mapping[int, int]) -> MarkedStates:
        """Return the conversations of these marks of which the account is a member, as this node has applied them."""

    async def catch_up(self) -> None:
        """Apply everything that is committed now. Raises OverloadedError or UnavailableError."""


class AppliedMarks:
    """The state of this node, for one account."""

    def __init__(self, readers: StateReaders, authenticator: Authenticator, account_id: int) -> None:
        self._readers = readers
        self._authenticator = authenticator
        self._account_id = account_id

    async def look_up(self, marks: Mapping[int, int]) -> MarkedStates:
        """Return the conversations of these marks of which the account is a member, as this node has applied them."""
        return await self._readers.run(lambda reader: receipts.read_states(reader, self._account_id, marks))

    async def catch_up(self) -> None:
        """Apply everything that is committed now. Raises OverloadedError or UnavailableError."""
        await self._authenticator.read_barrier()


class ReadMarks:
    """The read marks of one stream; only the highest one of a conversation counts."""

    def __init__(
        self,
        session: SessionRecord,
        node_marks: NodeMarks,
        state: MarkedState,
        share: DeviceShare,
        ignored: IgnoredMarks,
    ) -> None:
        self._session_id = session.session_id
        self._account_id = session.account_id
        self._node_marks = node_marks
        self._state = state
        self._share = share
        self._ignored = ignored
        self._waiting: dict[int, int] = {}
        self._added = asyncio.Event()
        self._finished = asyncio.Event()

    async def note(self, mark: pb.Read) -> None:
        """Take a mark. At the bound, wait for this stream's own marks; without any, ignore it."""
        conversation_id = mark.conversation_id
        if mark.up_to > MAX_ID or conversation_id > MAX_ID:
            self._ignored.note("read", "IMPOSSIBLE_ID")
            return
        while conversation_id not in self._waiting and not self._share.take(MARK_BYTES):
            if not self._share.in_use:
                self._ignored.note("read", "TOO_MANY_MARKS")
                return
            self._finished.clear()
            await self._finished.wait()
        self._raise(conversation_id, mark.up_to)

    async def run(self) -> None:
        """Put the marks that change something into the log, one batch at a time, until cancelled."""
        while True:
            await self._added.wait()
            self._added.clear()
            async with self._node_marks.look_up_turn(self._account_id):
                marks = self._take_batch()
                try:
                    effective = await self._effective(marks)
                except (OverloadedError, UnavailableError):
                    effective = None
            if effective is not None and await self._is_submitted(effective):
                self._finish(len(marks))
            else:
                self._take_back(marks)
                await asyncio.sleep(RETRY_INTERVAL_S)

    def close(self) -> None:
        """Give back what the marks have in use, after the end of the stream."""
        self._share.close()

    def _take_batch(self) -> dict[int, int]:
        """Return the marks that have waited longest; the others wait for the next batch."""
        marks = {one: self._waiting.pop(one) for one in list(islice(self._waiting, BATCH))}
        if self._waiting:
            self._added.set()
        return marks

    def _raise(self, conversation_id: int, up_to: int) -> None:
        self._waiting[conversation_id] = max(up_to, self._waiting.get(conversation_id, 0))
        self._added.set()

    def _take_back(self, marks: Mapping[int, int]) -> None:
        """Try these marks again, with those that arrived meanwhile."""
        twice = len(marks.keys() & self._waiting.keys())
        for conversation_id, up_to in marks.items():
            self._raise(conversation_id, up_to)
        self._finish(twice)

    def _finish(self, count: int) -> None:
        self._share.give_back(count * MARK_BYTES)
        self._finished.set()

    async def _effective(self, marks: Mapping[int, int]) -> dict[int, int]:
        """Return the marks that change something, by the state of all that is committed."""
        found = await self._state.look_up(marks)
        known = found.known
        if found.beyond:
            await self._state.catch_up()
            # No id is above 0. So all of them are looked up now, except in conversations that nobody has created.
            newer = await self._state.look_up(dict.fromkeys(found.beyond, 0))
            known = {**known, **newer.known}
        for conversation_id, up_to in marks.items():
            if conversation_id not in known:
                self._ignored.note("read", code_name(state_pb2.RESULT_CODE_NO_SUCH_CONVERSATION))
            elif conversation_id in found.beyond and not known[conversation_id].is_moved_by(up_to):
                self._ignored.note("read", "NO_SUCH_MESSAGE")
        return {one: up_to for one, up_to in marks.items() if one in known and known[one].is_moved_by(up_to)}

    async def _is_submitted(self, marks: Mapping[int, int]) -> bool:
        """Put these marks into the log; return false if they have to be tried again."""
        if not marks:
            return True
        commands = [
            state_pb2.Command(
                mark_read=state_pb2.MarkRead(session_id=self._session_id, conversation_id=conversation_id, up_to=up_to)
            )
            for conversation_id, up_to in marks.items()
        ]
        try:
            results = await self._node_marks.submit(self._account_id, commands)
        except (OverloadedError, UnavailableError):
            return False
        for result in results:
            if result.code != state_pb2.RESULT_CODE_OK:
                self._ignored.note("read", code_name(result.code))
        return True
