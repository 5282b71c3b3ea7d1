"""Runs one client for the window on the SDK's event loop: watches it, reads its messages, and carries out requests.

This module does not use Qt. Every request of a person is a coroutine here. Results leave through `put`. A request that
fails becomes a Refused event with the SDK's text and the text that the person typed.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import aclosing, suppress
from dataclasses import replace

from parley import (
    Account,
    Changes,
    ClientState,
    ConnectionState,
    Conversation,
    HistoryPage,
    HistoryStart,
    InvitationNeededError,
    Message,
    NotSignedInError,
    ParleyError,
    Target,
    TooManyDevicesError,
)
from parley.chat import named_in
from parley.gui import cluster_requests, events
from parley.gui.commands import ClusterAddress, SignInForm
from parley.gui.defects import as_parley_error, leaves
from parley.gui.events import Action, Event
from parley.gui.port import Client, Connect
from parley.gui.session_end import SessionEnd

PAGE = 100
OWN_PER_CONVERSATION = 2000
LISTED = 10_000
COMPLETIONS = 20
LOST_LISTED = 1000
HEARD_EVERY_S = 1.0
LIST_AGAIN_EVERY_S = 1.0
GATHER = 256


class ClientWorker:
    """One client from its entry to its exit, in one task."""

    def __init__(
        self,
        connect: Connect,
        address: ClusterAddress,
        account: str | None,
        put: Callable[[Event], None],
        wait_for_capacity: Callable[[], Awaitable[None]],
    ) -> None:
        """Make the worker. It does nothing before run()."""
        self._connect = connect
        self.address = address
        self._account = account
        self._put = put
        self._wait_for_capacity = wait_for_capacity
        self._ready: asyncio.Future[Client] = asyncio.get_running_loop().create_future()
        self._leaving = asyncio.Event()
        self._following: asyncio.Task[None] | None = None
        self._end = SessionEnd(put)
        self._told: dict[int, Account] = {}
        self._told_conversations: set[int] = set()
        self._stale = asyncio.Event()
        self._draft_turn = asyncio.Lock()  # a message leaves the draft in two steps
        self._draft_of: Target | None = None  # the conversation whose draft was asked for last

    async def run(self) -> None:
        """Enter the client, serve until leave(), and leave it."""
        try:
            async with self._connect(self.address, self._account) as client:
                self._ready.set_result(client)
                try:
                    await self._leaving.wait()
                finally:
                    await self._stop_following()
        except Exception as error:
            failure = as_parley_error(error)
            if self._ready.done():
                self._put(events.SignedOut(failure.text))
            else:
                self._ready.set_exception(failure)

    def leave(self) -> None:
        """End run()."""
        self._leaving.set()

    @property
    def is_ready(self) -> bool:
        """Return true once the client was entered, or could not be."""
        return self._ready.done()

    async def client(self) -> Client:
        """Return the client once it has been entered. Raises ParleyError if it cannot be entered."""
        return await asyncio.shield(self._ready)

    # ---- who speaks

    async def resume(self) -> bool:
        """Resume the stored session. Return false if there is none."""
        client = await self.client()
        if not client.signed_in_as or not await client.has_session():
            return False
        await self._follow(client)
        return True

    async def sign_in(self, form: SignInForm) -> None:
        """Sign in, after creating the account if the form says so. Raises ParleyError."""
        client = await self.client()
        if form.register:
            await client.register(form.account, form.password, form.invitation)
        await client.login(form.account, form.password, end_oldest_device=form.end_oldest)
        await self._follow(client)

    async def sign_out(self, *, leave_nothing: bool = False) -> None:
        client = await self.client()
        with self._end.wanted():
            ended = await client.leave_nothing() if leave_nothing else await client.logout() >= 0
        await self._stop_following()
        self._put(events.SignedOut("" if ended else events.SESSION_LEFT))

    # ---- following

    async def _follow(self, client: Client) -> None:
        await self._stop_following()
        self._told, self._told_conversations = {}, set()
        self._put(events.SignedIn(client.signed_in_as))
        self._following = asyncio.create_task(self._follow_all(client))

    async def _stop_following(self) -> None:
        task, self._following = self._following, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])

    async def _follow_all(self, client: Client) -> None:
        try:
            # The reader begins before any list is read, so that nothing falls between the two.
            reader = await client.messages(include_own=True)
            async with asyncio.TaskGroup() as group:
                group.create_task(self._watch(client))
                group.create_task(self._read(client, reader))
                group.create_task(self._tick(client))
                group.create_task(cluster_requests.follow_note(client, self._put))
                group.create_task(self._list_again(client))
        except* Exception as errors:
            told = {as_parley_error(error).text for error in leaves(errors)}
            self._end.tell(" ".join(sorted(told)))

    async def _watch(self, client: Client) -> None:
        """Send all changes as events. Send the lists whenever a session begins."""
        listed = lived = False
        lost_sent, read = 0, dict[int, int]()
        async with asyncio.TaskGroup() as group, aclosing(client.watch()) as changes:
            self._put_list(client, await client.cached_conversations(limit=LISTED))
            self._put(events.OwnListed(await client.outgoing(limit=LISTED)))
            await self._list_lost(client)
            async for change in changes:
                await self._wait_for_capacity()  # what happens meanwhile comes together in the next change
                if change.anew:  # the window forgets first, then it is told again what the others name
                    self._told, self._told_conversations = {}, set()
                    self._put(events.Changed(Changes(change.state, anew=True)))
                self._put_changes(client, replace(change, anew=False))
                if change.anew or change.state.lost_sent != lost_sent:
                    lost_sent = change.state.lost_sent
                    await self._list_lost(client)
                if change.reload:
                    self._put(events.OwnListed(await client.outgoing(limit=LISTED)))
                shared = change.state.connection is ConnectionState.SHARED
                connected = shared or change.state.connection is ConnectionState.CONNECTED
                if (connected and not listed) or change.reload:
                    group.create_task(self._list(client))
                if change.others:  # another window received, wrote or read something
                    before, read = read, await client.read_positions()
                    self._put(events.ReadHere(dict(read.items() - before.items())))
                    self._stale.set()
                    if self._draft_of is not None:
                        group.create_task(self.load_draft(self._draft_of))
                listed = connected
                if lived and change.state.connection is ConnectionState.SIGNED_OUT:
                    # All that follows ends with it: nothing of this account is told to whoever signs in next.
                    raise NotSignedInError("Your session has ended. Waiting messages are kept here. Sign in again.")
                lived = lived or change.state.connection is not ConnectionState.SIGNED_OUT

    def _put_changes(self, client: Client, change: Changes) -> None:
        if change == Changes(change.state, inbox=change.inbox, reload=change.reload, others=change.others):
            self._put(events.StateChanged(change.state))
            return
        self._told |= {account.id: account for account in change.accounts}
        self._told_conversations |= {conversation.id for conversation in change.conversations}
        named = {one.conversation_id for one in change.outgoing if one.conversation_id}
        named |= {receipt.conversation_id for receipt in change.receipts}
        self._teach(client, conversations=change.conversations, named=named)
        self._put(events.Changed(change))

    async def _list_again(self, client: Client) -> None:
        """Send the list anew, now and then, while another window of this account is at work."""
        while True:
            await self._stale.wait()
            self._stale.clear()
            for _ in range(2):  # what the other one has read may have been on its way to the cluster
                with suppress(ParleyError):
                    self._put_list(client, await client.conversations(limit=LISTED))
                await asyncio.sleep(LIST_AGAIN_EVERY_S)

    async def _list(self, client: Client) -> None:
        try:
            self._put_list(client, await client.conversations(limit=LISTED))
        except ParleyError as error:
            if not self._end.is_wanted:
                self._put(events.Refused(Action.OTHER, error.text))

    async def _list_lost(self, client: Client) -> None:
        self._put(events.LostListed(await client.lost.messages(limit=LOST_LISTED)))

    def _put_list(self, client: Client, conversations: tuple[Conversation, ...]) -> None:
        last = [conversation.last for conversation in conversations if conversation.last is not None]
        self._teach(client, messages=last, conversations=conversations)
        self._put(events.ConversationsListed(conversations))

    def _teach(
        self,
        client: Client,
        *,
        messages: Sequence[Message] = (),
        conversations: Sequence[Conversation] = (),
        named: Iterable[int] = (),
    ) -> None:
        """Send the accounts and conversations that the next event names, unless they were sent before."""
        unknown = {*named, *(message.conversation_id for message in messages)} - self._told_conversations
        accounts, found = named_in(
            client, messages=messages, conversations=conversations, conversation_ids=sorted(unknown)
        )
        found = [one for one in found if one.id in unknown]
        self._told_conversations |= {conversation.id for conversation in found}
        fresh = {one.id: one for one in accounts if self._told.get(one.id) != one}
        self._told |= fresh
        if fresh or found:
            self._put(events.Learned(tuple(fresh.values()), tuple(found)))

    async def _read(self, client: Client, reader: AsyncIterator[Message]) -> None:
        """Send new messages. Collect them while they arrive faster than the window draws."""
        gathered: list[Message] = []
        async for message in reader:
            gathered.append(message)
            if len(gathered) == 1:
                asyncio.get_running_loop().call_soon(self._flush, client, gathered)
            if len(gathered) >= GATHER:
                self._flush(client, gathered)
                await asyncio.sleep(0)
            await self._wait_for_capacity()

    def _flush(self, client: Client, gathered: list[Message]) -> None:
        if gathered:
            self._teach(client, messages=gathered)
            self._put(events.Arrived(tuple(gathered)))
            gathered.clear()

    async def _tick(self, client: Client) -> None:
        """Send `last_heard` now and then. It changes all the time and does not wake watchers."""
        before: ClientState | None = None
        while True:
            state = client.state
            if state != before:
                self._put(events.StateChanged(state))
            before = state
            await asyncio.sleep(HEARD_EVERY_S)

    # ---- one conversation

    async def open_conversation(self, target: Target) -> None:
        """Send what this device knows of a conversation, then what the cluster knows."""
        self._draft_of = target
        client = await self.client()
        draft, cached, own = await asyncio.gather(
            client.draft(target),
            client.cached_history(target, limit=PAGE),
            client.outgoing(target=target, limit=OWN_PER_CONVERSATION),
        )
        self._put_page(client, target, 0, cached)
        self._put(events.OwnListed(own))
        self._put(events.DraftLoaded(target, draft))
        await self.load_history(target, 0)

    async def load_draft(self, target: Target) -> None:
        self._draft_of = target
        client = await self.client()
        async with self._draft_turn:
            self._put(events.DraftLoaded(target, await client.draft(target)))

    async def load_history(self, target: Target, before_id: int, *, kept: bool = False) -> None:
        client = await self.client()
        try:
            read = client.cached_history if kept else client.history
            page = await read(target, HistoryStart(before_id), limit=PAGE)
        except ParleyError:
            self._put(events.HistoryFailed(target, before_id))
        else:
            self._put_page(client, target, before_id, page)

    def _put_page(self, client: Client, target: Target, before_id: int, page: HistoryPage) -> None:
        self._teach(
            client, messages=page.messages, conversations=() if page.conversation is None else (page.conversation,)
        )
        self._put(events.HistoryLoaded(target, before_id, page))

    async def send(self, target: Target, body: str, *, urgent: bool = False) -> None:
        """Put a message into the outbox, then remove the draft."""
        client = await self.client()
        async with self._draft_turn:
            await client.send(target, body, urgent=urgent)
            try:
                await client.save_draft(target, "")
            except ParleyError as error:  # the message waits: given back to the field, it would be sent twice
                self._put(events.Refused(Action.OTHER, error.text))

    async def change_lost(self, *, resend: Sequence[int] = (), discard: Sequence[int] = ()) -> None:
        """Send lost messages again, or remove some, and list the others."""
        client = await self.client()
        if resend:
            await client.lost.resend(resend)
        if discard:
            await client.lost.discard(discard)
        await self._list_lost(client)

    # ---- channels

    async def join_channel(self, conversation_id: int) -> None:
        client = await self.client()
        await client.join_channel(conversation_id)
        self._put(events.ChannelJoined(conversation_id))

    async def ask_receipts(self, conversation_id: int, message_id: int) -> None:
        client = await self.client()
        self._put(events.ReceiptsTold(await client.receipts(conversation_id, message_id)))

    # ---- who is there

    async def say_typing(self, conversation_id: int) -> None:
        client = await self.client()
        client.presence.types(conversation_id)

    async def ask_presence(self, account_id: int) -> None:
        """Send whether an account is there, or None if no node can be reached."""
        client = await self.client()
        try:
            [presence] = await client.presence.of([account_id])
        except ParleyError:
            self._put(events.PresenceTold(account_id, None))
        else:
            self._put(events.PresenceTold(account_id, presence))

    # ---- the account

    async def change_password(self, old: str, new: str) -> None:
        client = await self.client()
        await (await client.own_account()).change_password(old, new)
        self._put(events.PasswordChanged())

    async def list_devices(self, *, sign_out: str | None = None) -> None:
        """Send the devices of the account, after signing one out, or all others for an empty id."""
        client = await self.client()
        account = await client.own_account()
        if sign_out:
            await account.sign_out_device(sign_out)
        elif sign_out is not None:
            await account.sign_out_other_devices()
        self._put(events.DevicesListed(await account.devices()))

    async def find_accounts(self, prefix: str) -> None:
        """Send accounts whose names begin with `prefix`, or none if no node can be reached."""
        client = await self.client()
        try:
            accounts = await client.list_accounts(f"{prefix}*", limit=COMPLETIONS)
        except NotSignedInError:
            raise
        except ParleyError:
            accounts = ()
        self._put(events.AccountsFound(prefix, tuple(one for one in accounts if one.name != client.signed_in_as)))

    async def attempt(
        self, action: Action, doing: Awaitable[object], target: Target | None = None, body: str = ""
    ) -> bool:
        """Await a request. Send a Refused event and return false if it fails."""
        try:
            await doing
        except TooManyDevicesError as error:
            self._put(events.Refused(Action.SIGN_IN_ANYWAY, error.text))
            return False
        except InvitationNeededError as error:
            self._put(events.Refused(Action.REGISTER_INVITED, error.text))
            return False
        except Exception as error:
            self._put(events.Refused(action, as_parley_error(error).text, target, body))
            return False
        return True
