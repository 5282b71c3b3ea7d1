"""The files of an account with much in them, filled through the client's own store, and a client that lives on them.

No cluster runs. StoredClient answers a request for a page or a list from the same file, so a figure has the store's
work and the window's, and no time of a network.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Self

from parley import (
    NEWEST,
    Account,
    Conversation,
    ConversationKind,
    HistoryPage,
    HistoryStart,
    Member,
    Message,
    MessageKind,
    ParleyClient,
    StateDirectory,
    Target,
)
from parley.device import directory, identity, inbox
from parley.device.profile import Hosts
from parley.device.store import Store
from parley.gui.commands import ClusterAddress
from parley.gui.port import Client, Connect
from parley.wire.position import Position

ADDRESS = "127.0.0.1:1"
ACCOUNT = "ann"
CLUSTER = "bench"
STARTED = "PARLEY_BENCH_STARTED"
"""The variable with the time at which a measured process was started."""
BASE_MS = 1_760_000_000_000
BATCH = 5000
WORDS = ("the", "pump", "on", "ward", "four", "was", "checked", "today", "and", "needs", "a", "new", "seal", "soon")


def direct(number: int) -> Conversation:
    """Return the direct conversation of the account with person `number`, counted from 1."""
    return Conversation(1000 + number, ConversationKind.DIRECT, "", (Member(1), Member(1 + number)), 2)


def message(number: int, message_id: int) -> Message:
    """Return a message in the conversation with person `number`, of 1 to 60 words, every third an own one."""
    mine = message_id % 3 == 0
    words = [WORDS[(message_id + at) % len(WORDS)] for at in range(1 + message_id * 7 % (60 if message_id % 5 else 12))]
    sender = 1 if mine else 1 + number
    at_ms = BASE_MS + message_id * 60_000
    return Message(1000 + number, message_id, MessageKind.TEXT, sender, f"{message_id} {' '.join(words)}", at_ms, mine)


async def fill(root: Path, people: int, each: int) -> None:
    """Make the files of an account that has `each` messages with each of `people`, all shown and read."""
    states = StateDirectory(root)
    profile = states.profile(CLUSTER, ACCOUNT)
    profile.make()
    states.remember_hosts(CLUSTER, Hosts(given=(ADDRESS,)))
    store = Store(profile.database)
    await store.open()
    who = await store.write(identity.load)
    await store.write(lambda c: identity.signed_in(c, who.device_id, "token", 1, Position()))
    everybody = [Account(1, ACCOUNT), *(Account(1 + n, f"person-{n}", f"Person {n}") for n in range(1, people + 1))]
    last = people * each
    talks = [direct(n) for n in range(1, people + 1)]
    read = [replace(one, members=(Member(1, read_up_to=last), one.members[1])) for one in talks]
    await store.write(lambda c: directory.learn(c, everybody, read))
    for batch in _batches(people, each):
        await store.write(partial(inbox.insert, messages=batch, before=b"", after=b""))
    await store.write(lambda c: inbox.mark_shown(c, inbox.last_place(c)))
    await store.close()


def _batches(people: int, each: int) -> Iterator[list[Message]]:
    total = people * each
    for first in range(0, total, BATCH):
        yield [message(1 + at % people, 1 + at) for at in range(first, min(first + BATCH, total))]


class StoredClient(ParleyClient):
    """A client without a stream, which takes its own file for the cluster."""

    entered: StoredClient | None = None

    def __init__(self, root: Path) -> None:
        super().__init__(ADDRESS, account=ACCOUNT, insecure=True, state_dir=root, connect=False)
        self.loop: asyncio.AbstractEventLoop | None = None

    async def __aenter__(self) -> Self:
        self.loop = asyncio.get_running_loop()
        await super().__aenter__()
        StoredClient.entered = self
        return self

    @classmethod
    def last(cls) -> StoredClient:
        """Return the client that was entered last."""
        if cls.entered is None:
            raise RuntimeError("No client was entered.")
        return cls.entered

    async def history(self, target: str | Target, start: HistoryStart = NEWEST, *, limit: int = 100) -> HistoryPage:
        """Return a page of the file as if the cluster had sent it."""
        return replace(await self.cached_history(target, start, limit=limit), cached=False)

    async def conversations(self, *, limit: int = 1000) -> tuple[Conversation, ...]:
        """Return the list of the file."""
        return await self.cached_conversations(limit=limit)

    def arrive(self, messages: Sequence[Message]) -> None:
        """Store messages as the stream does and wake the reader. Return once they are durable.

        Called on the window's thread.
        """
        if self.loop is None:
            raise RuntimeError("The client was not entered.")
        asyncio.run_coroutine_threadsafe(self._take(messages), self.loop).result(60)

    async def _take(self, messages: Sequence[Message]) -> None:
        account = self._in_use()
        stored = await account.store.write(lambda c: inbox.insert(c, messages, before=b"", after=b""))
        account.received(stored)


def connect_to(root: Path) -> Connect:
    """Return what the bridge calls to make its client."""

    def connect(address: ClusterAddress, account: str | None) -> AbstractAsyncContextManager[Client]:
        return StoredClient(root)

    return connect
