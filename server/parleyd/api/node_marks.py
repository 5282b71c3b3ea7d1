"""The marks of all streams of this node on their way to the log: one batch of commands at a time, for all of them.

A mark is a small command, and there are more of them than messages: each device of each receiver makes one. If each
stream submitted its own, the leader would spend more on frames and entries than on the marks. So what all streams have
is gathered while a batch is on its way, and for a time after it. The first mark after a pause waits for nothing. While
marks come without a pause, the time grows from INTERVAL_S to MAX_INTERVAL_S, because each batch is an entry that costs
all nodes something, however few marks it has.

`run` does so, as one of the tasks of a serving node. An error of it that is no refusal of a batch ends the node.

An account has ACCOUNT_BATCH marks in a batch, whatever number of devices it has. The others wait for the next one,
behind those of other accounts. Each caller gets the results of its own commands. A caller that leaves does not take its
commands back.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import NoReturn
from weakref import WeakValueDictionary

from parley_proto.v1 import state_pb2
from parleyd.api.commands import Commands
from parleyd.group.errors import OverloadedError, UnavailableError

INTERVAL_S = 0.05
MAX_INTERVAL_S = 0.2
ACCOUNT_BATCH = 128
BATCH_BYTES = 32 * 1024
LOOK_UP_INTERVAL_S = 0.02
STOPPING = "this node stops"
ACCOUNT_WAITING = 128
"""Callers of an account whose commands wait. Each of its 32 streams has two at most, besides those that have left."""


@dataclass(frozen=True, slots=True)
class _Piece:
    """The commands of one caller."""

    commands: Sequence[state_pb2.Command]
    size: int
    outcome: asyncio.Future[Sequence[state_pb2.CommandResult]] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )


class NodeMarks:
    """Gathers the marks of all streams of a node and submits them."""

    def __init__(self, commands: Commands, pause: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
        self._commands = commands
        self._pause = pause
        self._waiting: dict[int, deque[_Piece]] = {}  # by account; the account whose turn is next comes first
        self._arrived = asyncio.Event()
        self._has_ended = False
        self._turns: WeakValueDictionary[int, asyncio.Lock] = WeakValueDictionary()

    async def submit(self, account_id: int, commands: Sequence[state_pb2.Command]) -> Sequence[state_pb2.CommandResult]:
        """Get marks of one account applied, and return their results. Raises as `Commands.submit`."""
        self._commands.check(commands)
        if self._has_ended:
            raise UnavailableError(STOPPING)
        pieces = self._waiting.setdefault(account_id, deque())
        if len(pieces) >= ACCOUNT_WAITING:
            raise OverloadedError("too many marks of this account wait for the log")
        piece = _Piece(commands, sum(command.ByteSize() for command in commands))
        pieces.append(piece)
        self._arrived.set()
        return await piece.outcome

    @asynccontextmanager
    async def look_up_turn(self, account_id: int) -> AsyncIterator[None]:
        """Look marks up while inside: one stream of an account at a time, and one in LOOK_UP_INTERVAL_S."""
        turn = self._turns.setdefault(account_id, asyncio.Lock())
        await turn.acquire()
        try:
            yield
        finally:
            asyncio.get_running_loop().call_later(LOOK_UP_INTERVAL_S, turn.release)

    async def run(self) -> NoReturn:
        """Put what arrives into the log until cancelled. Then all that wait get an UnavailableError."""
        try:
            while True:
                await self._arrived.wait()
                await self._submit_all()
                self._arrived.clear()  # nothing waits, and nothing has arrived since that was seen
        finally:
            self._has_ended = True
            for pieces in self._waiting.values():
                for piece in pieces:
                    _fail(piece.outcome, UnavailableError(STOPPING))
            self._waiting.clear()

    async def _submit_all(self) -> None:
        interval_s = INTERVAL_S
        while self._waiting:
            batch = self._take_batch()
            is_full = bool(self._waiting)
            await self._submit(batch)
            await self._pause(INTERVAL_S if is_full else interval_s)
            interval_s = INTERVAL_S if is_full else min(2 * interval_s, MAX_INTERVAL_S)

    async def _submit(self, pieces: Sequence[_Piece]) -> None:
        commands = [command for piece in pieces for command in piece.commands]
        try:
            results = (await self._commands.submit(commands)).results
        except Exception as error:
            for piece in pieces:
                _fail(piece.outcome, error)
            return
        except asyncio.CancelledError:
            for piece in pieces:
                _fail(piece.outcome, UnavailableError(STOPPING, may_have_happened=True))
            raise
        start = 0
        for piece in pieces:
            end = start + len(piece.commands)
            if not piece.outcome.done():
                piece.outcome.set_result(results[start:end])
            start = end

    def _take_batch(self) -> list[_Piece]:
        """Return what the next batch has: at least one caller's commands, and of each account its share at most."""
        taken: list[_Piece] = []
        room = BATCH_BYTES
        for account_id, pieces in list(self._waiting.items()):
            count = 0
            while pieces and (not taken or pieces[0].size <= room):
                if count and count + len(pieces[0].commands) > ACCOUNT_BATCH:
                    break
                piece = pieces.popleft()
                taken.append(piece)
                room -= piece.size
                count += len(piece.commands)
            if count:
                del self._waiting[account_id]
                if pieces:
                    self._waiting[account_id] = pieces
        return taken


def _fail(outcome: asyncio.Future[Sequence[state_pb2.CommandResult]], error: Exception) -> None:
    if not outcome.done():
        outcome.set_exception(error)
        outcome.exception()  # its caller may have left in this turn of the loop
