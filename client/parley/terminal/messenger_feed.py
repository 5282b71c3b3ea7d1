"""What the messenger asks the SDK for: the list, pages of history, drafts. It folds the answers into `Chats`.

Requests run beside each other and beside the person. What cannot be fetched is asked for again after a reconnect.
"""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from parley import (
    Changes,
    ConnectionState,
    Conversation,
    HistoryPage,
    HistoryStart,
    ParleyClient,
    ParleyError,
    Target,
)
from parley.chat import Chats, conversation_key

PAGE = 100
OWN_PER_CONVERSATION = 2000
OPEN_LISTED = 10_000
LOST_LISTED = 1000
SAVE_DRAFT_S = 2.0
ANSWERING = (ConnectionState.CONNECTED, ConnectionState.SHARED)


class MessengerFeed:
    """Fetches for one messenger. Its tasks belong to a group, which ends with the screen."""

    def __init__(self, client: ParleyClient, chats: Chats, changed: Callable[[], None]) -> None:
        """`changed` draws the screen again."""
        self._client = client
        self._chats = chats
        self._changed = changed
        self._group: asyncio.TaskGroup | None = None
        self._requests: set[asyncio.Task[None]] = set()
        self._has_listed = False
        self._lost_sent = 0
        self._read: dict[int, int] = {}

    @property
    def answering(self) -> bool:
        """Return true while the cluster can be asked."""
        return self._client.state.connection in ANSWERING

    def begin(self, group: asyncio.TaskGroup) -> None:
        """Carry out requests in this group from now on, and fetch what this device knows."""
        self._group = group
        self._chats.take_answering(answering=self.answering)
        self._do(self._begin())

    def end(self) -> None:
        """Begin no more requests, and cancel those that ask the cluster. What is stored here is stored first."""
        self._group = None
        for task in self._requests:
            task.cancel()

    def follow(self, change: Changes) -> None:
        """Fetch what a change of the client asks for. The change itself is in `Chats` already."""
        if change.anew or change.reload:
            self._do(self._list_own())
        if change.anew or change.state.lost_sent != self._lost_sent:
            self._lost_sent = change.state.lost_sent
            self._do(self._list_lost())
        connected = change.state.connection in ANSWERING
        if connected != self._chats.paging.answering:
            self._chats.take_answering(answering=connected)
        if connected and (not self._has_listed or change.reload or change.anew):
            self._do(self._list())
        if change.others:  # another program of this account received, wrote or read something
            self._do(self._look_at_others())
        self._has_listed = connected

    def open(self, target: Target, *, fetch: bool, opened: Callable[[str], None]) -> None:
        """Load the end of a conversation and its draft, with which `opened` is called."""
        self._do(self._open(target, fetch=fetch, opened=opened))

    def load(self, target: Target, before_id: int) -> None:
        """Load the page before a message, from this device if the cluster cannot be asked."""
        self._do(self._load(target, before_id, kept=not self._chats.paging.answering))

    def mark_read(self, conversation_id: int, up_to: int) -> None:
        """Tell the cluster what the person has read."""
        self._do(self._client.mark_read(conversation_id, up_to), stores=True)

    def keep_draft(self, target: Target, body: str) -> None:
        """Store the draft of a conversation. An empty text removes it."""
        self._do(self._client.save_draft(target, body), stores=True)

    async def save_draft(self, target: Target, body: str) -> None:
        """Store a draft when the screen ends."""
        async with asyncio.timeout(SAVE_DRAFT_S):
            await self._client.save_draft(target, body)

    # ---- inside

    def _do(self, work: Coroutine[Any, Any, None], *, stores: bool = False) -> None:
        if self._group is None:
            work.close()
            return
        task = self._group.create_task(self._attempt(work))
        if not stores:
            self._requests.add(task)
            task.add_done_callback(self._requests.discard)

    async def _attempt(self, work: Coroutine[Any, Any, None]) -> None:
        """Do something without which the screen can go on."""
        try:
            await work
        except ParleyError:
            return  # the status line says why: no node, no majority, or no session
        self._changed()

    async def _begin(self) -> None:
        self._take_list(await self._client.cached_conversations())
        await self._list_own()
        await self._list_lost()

    async def _list_own(self) -> None:
        self._chats.take_outgoing(await self._client.outgoing(limit=OPEN_LISTED))

    async def _list_lost(self) -> None:
        self._chats.take_lost(await self._client.lost.messages(limit=LOST_LISTED))

    async def _list(self) -> None:
        self._take_list(await self._client.conversations())

    def _take_list(self, conversations: tuple[Conversation, ...]) -> None:
        last = [conversation.last for conversation in conversations if conversation.last is not None]
        self._chats.look_up(self._client, last, conversations)
        self._chats.take_list(conversations)

    async def _look_at_others(self) -> None:
        before, self._read = self._read, await self._client.read_positions()
        for conversation_id, up_to in self._read.items() - before.items():
            self._chats.saw(conversation_key(conversation_id), up_to)
        await self._list()

    async def _open(self, target: Target, *, fetch: bool, opened: Callable[[str], None]) -> None:
        opened(await self._client.draft(target))
        if fetch:
            self._take_page(target, 0, await self._client.cached_history(target, limit=PAGE))
        self._chats.take_outgoing(await self._client.outgoing(target=target, limit=OWN_PER_CONVERSATION))
        self._changed()
        if fetch:
            await self._load(target, 0)

    async def _load(self, target: Target, before_id: int, *, kept: bool = False) -> None:
        try:
            read = self._client.cached_history if kept else self._client.history
            page = await read(target, HistoryStart(before_id), limit=PAGE)
        except ParleyError:
            self._chats.load_failed(target, before_id)
        else:
            self._take_page(target, before_id, page)

    def _take_page(self, target: Target, before_id: int, page: HistoryPage) -> None:
        conversations = () if page.conversation is None else (page.conversation,)
        self._chats.look_up(self._client, page.messages, conversations)
        self._chats.load(target, before_id, page)
