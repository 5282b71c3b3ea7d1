"""An SDK by script: a client in memory that says what a test tells it to, on the SDK's own thread like the real one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from typing import Any

from parley.errors import NotSignedInError, ParleyError, TooLateError, UnreachableError, WrongPasswordError
from parley.gui.commands import ClusterAddress
from parley.gui.port import Client
from parley.model import (
    ClientState,
    ConnectionState,
    Conversation,
    HistoryPage,
    Message,
    MessageStatus,
    Node,
    Outgoing,
    Receipt,
)
from parley.state_publisher import Changes, StatePublisher

PASSWORD = "correct horse"
NODES = tuple(Node(f"n{n}", f"127.0.0.{n + 1}:7600", True) for n in (1, 2, 3))
BASE_MS = 1_760_000_000_000


class ScriptedSdk:
    """Everything a cluster and a file would remember. Tests read it and call tell() from their own thread."""

    def __init__(self) -> None:
        self.loop: asyncio.AbstractEventLoop | None = None
        self.publisher = StatePublisher()
        self.accounts = {"ann": PASSWORD, "ben": PASSWORD, "bella": PASSWORD, "dana": PASSWORD}
        self.session_of = ""
        self.messages: list[Message] = []
        self.outbox: dict[int, Outgoing] = {}
        self.listed: dict[str, Conversation] = {}
        self.drafts: dict[str, str] = {}
        self.read: list[tuple[int, int]] = []
        self.history_asked: list[tuple[str, int]] = []
        self.unreachable = False
        self.refuse_sends: ParleyError | None = None
        self.refuse_entry: ParleyError | None = None
        self.incoming: asyncio.Queue[Message] | None = None
        self.entered = 0
        self._next_local = 1

    # ---- what tests do, from the window's thread

    def connect(self, address: ClusterAddress, account: str | None) -> AbstractAsyncContextManager[Client]:
        """What the bridge calls."""
        return self._entered(account)

    @asynccontextmanager
    async def _entered(self, account: str | None) -> AsyncGenerator[Client, None]:
        if self.refuse_entry is not None:
            raise self.refuse_entry
        self.loop = asyncio.get_running_loop()
        self.incoming = asyncio.Queue()
        self.entered += 1
        client = ScriptedClient(self)
        if account is not None and self.session_of == account:
            client.account = account
        yield client

    def tell(self, doing: Callable[[], Any]) -> None:
        """Does something on the SDK's thread and waits until it is done."""
        assert self.loop is not None

        async def do() -> None:
            doing()

        asyncio.run_coroutine_threadsafe(do(), self.loop).result(5)

    def state(self, **changes: Any) -> None:
        """How things stand with the cluster."""
        self.tell(lambda: self._state(**changes))

    def _state(self, **changes: Any) -> None:
        self.publisher.heard()
        self.publisher.update(**changes)

    def connected(self, node: str = "n2") -> None:
        """All is well."""
        self.state(
            connection=ConnectionState.CONNECTED, node=node, leader="n1", nodes=NODES, has_majority=True, lost="",
            trying="", problem="", caught_up=True, account=self.session_of,
        )  # fmt: skip

    def arrive(self, peer: str, *bodies: str, mine: bool = False) -> None:
        """Messages come in."""

        def come_in() -> None:
            for body in bodies:
                self._incoming(self.stored(peer, body, mine=mine))

        self.tell(come_in)

    def _incoming(self, message: Message) -> None:
        assert self.incoming is not None
        self.incoming.put_nowait(message)
        self.publisher.changed(inbox=True)

    def settle(self, local_id: int, status: MessageStatus, detail: str = "") -> None:
        """What becomes of an own message."""
        self.tell(lambda: self._settle(local_id, status, detail))

    def _settle(self, local_id: int, status: MessageStatus, detail: str) -> None:
        one = replace(self.outbox[local_id], status=status, detail=detail)
        if status is MessageStatus.ACCEPTED:
            stored = self.stored(one.recipient, one.body, mine=True)
            one = replace(
                one, message_id=stored.id, conversation_id=stored.conversation_id, sent_at_ms=stored.sent_at_ms
            )
        self.outbox[local_id] = one
        self.publisher.changed(outgoing=(one,))
        self.count()

    def receipt(self, peer: str, delivered: int, read: int) -> None:
        """The other party has come further."""
        self.tell(lambda: self.publisher.changed(receipts=(Receipt(conversation_id(peer), delivered, read),)))

    def stored(self, peer: str, body: str, *, mine: bool = False, at_ms: int = 0) -> Message:
        """A message the cluster has from now on."""
        number = len(self.messages) + 1
        message = Message(
            number, conversation_id(peer), "ann" if mine else peer, peer, body, at_ms or BASE_MS + number * 1000, mine
        )
        self.messages.append(message)
        return message

    def list_conversation(self, peer: str, *, unread: int = 0, read_up_to: int = 0) -> None:
        """A line of the list, as the cluster would give it."""
        mine = [m for m in self.messages if m.peer == peer]
        self.listed[peer] = Conversation(
            conversation_id(peer), peer, False, mine[-1] if mine else None, unread, read_up_to, 0, 0
        )

    def count(self) -> None:
        """Messages that wait."""
        self.publisher.update(
            waiting=sum(o.status in (MessageStatus.WAITING, MessageStatus.SENDING) for o in self.outbox.values())
        )

    def put(self, recipient: str, body: str) -> Outgoing:
        """Into the outbox."""
        one = Outgoing(
            self._next_local, recipient, body, BASE_MS + 10_000_000 + self._next_local, MessageStatus.WAITING
        )
        self._next_local += 1
        self.outbox[one.local_id] = one
        self.publisher.changed(outgoing=(one,))
        self.count()
        return one


def conversation_id(peer: str) -> int:
    """One for each name."""
    return 1000 + sum(peer.encode())


class ScriptedClient:
    """What the bridge sees."""

    def __init__(self, sdk: ScriptedSdk) -> None:
        self.sdk = sdk
        self.account = ""

    @property
    def state(self) -> ClientState:
        return self.sdk.publisher.state

    @property
    def signed_in_as(self) -> str:
        return self.account

    def watch(self) -> AsyncGenerator[Changes, None]:
        return self.sdk.publisher.watch()

    async def has_session(self) -> bool:
        return bool(self.account)

    async def register(self, name: str, password: str) -> None:
        self.reach()
        if name in self.sdk.accounts:
            raise ParleyError(f"The name {name} is taken. Choose another one.")
        self.sdk.accounts[name] = password

    async def login(self, name: str, password: str) -> None:
        self.reach()
        if self.sdk.accounts.get(name) != password:
            raise WrongPasswordError("The cluster does not know this name with this password.")
        self.account = self.sdk.session_of = name

    async def logout(self) -> int:
        self.reach()
        self.account = self.sdk.session_of = ""
        return 0

    async def list_accounts(self, pattern: str = "", *, limit: int = 100) -> tuple[str, ...]:
        self.reach()
        if not self.account:
            raise NotSignedInError("Nobody is signed in.")
        prefix = pattern.removesuffix("*")
        return tuple(sorted(name for name in self.sdk.accounts if name.startswith(prefix)))[:limit]

    async def send(self, recipient: str, body: str) -> Outgoing:
        if self.sdk.refuse_sends is not None:
            raise self.sdk.refuse_sends
        return self.sdk.put(recipient, body)

    async def edit(self, local_id: int, body: str) -> Outgoing:
        if self.sdk.outbox[local_id].status is not MessageStatus.WAITING:
            raise TooLateError("This message has been handed to the cluster already. Nothing was changed.")
        one = self.sdk.outbox[local_id] = replace(self.sdk.outbox[local_id], body=body)
        self.sdk.publisher.changed(outgoing=(one,))
        return one

    async def cancel(self, local_id: int) -> Outgoing:
        one = self.sdk.outbox.pop(local_id)
        self.sdk.publisher.changed(removed=(local_id,))
        self.sdk.count()
        return one

    async def retry(self, local_id: int) -> Outgoing:
        one = await self.cancel(local_id)
        return self.sdk.put(one.recipient, one.body)

    async def messages(self, *, include_own: bool = False) -> AsyncIterator[Message]:
        return self._read()

    async def _read(self) -> AsyncIterator[Message]:
        assert self.sdk.incoming is not None
        while True:
            yield await self.sdk.incoming.get()

    async def outgoing(self, *, peer: str | None = None, limit: int = 200) -> tuple[Outgoing, ...]:
        found = [one for one in self.sdk.outbox.values() if peer is None or one.recipient == peer]
        return tuple(found[-limit:])

    async def conversations(self, *, limit: int = 1000) -> tuple[Conversation, ...]:
        self.reach()
        return tuple(self.sdk.listed.values())

    async def cached_conversations(self, *, limit: int = 1000) -> tuple[Conversation, ...]:
        return ()

    async def history(self, peer: str, *, before: int = 0, limit: int = 100) -> HistoryPage:
        self.sdk.history_asked.append((peer, before))
        if self.sdk.unreachable:
            return await self.cached_history(peer, before=before, limit=limit)
        found = [m for m in self.sdk.messages if m.peer == peer and (not before or m.id < before)]
        return HistoryPage(tuple(found[-limit:]), len(found) > limit, conversation_id(peer))

    async def cached_history(self, peer: str, *, before: int = 0, limit: int = 100) -> HistoryPage:
        return HistoryPage((), False, 0, cached=True)

    async def mark_read(self, conversation: int, up_to: int) -> None:
        self.sdk.read.append((conversation, up_to))

    async def save_draft(self, peer: str, body: str) -> None:
        self.sdk.drafts[peer] = body

    async def draft(self, peer: str) -> str:
        return self.sdk.drafts.get(peer, "")

    def reach(self) -> None:
        """Fails while nobody can be reached."""
        if self.sdk.unreachable:
            raise UnreachableError("No node of the cluster could be reached. Nothing is lost.")
