"""ParleyClient, the main class of the SDK.

    async with ParleyClient(["localhost:7600"], ca=Path("ca.pem")) as client:
        await client.login("anna", password)
        message = await client.send("bob", "hello")      # durable on this machine
        await message.accepted()                         # on a majority's disks
        async for incoming in await client.messages():   # each once, across restarts and failovers
            ...

The client belongs to one event loop. Enter and leave it in the same task. Leaving it ends the session. Messages that
were not accepted stay in the outbox. Any program on this machine that uses the account sends them.
"""

import asyncio
import secrets
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from random import Random
from types import TracebackType
from typing import Self

from parley.account import LocalAccount
from parley.administration import Administration
from parley.cancellation import REPEAT_TEXT, unknown_if_cancelled
from parley.client_state import ClientState, ConnectionState
from parley.cluster_model import ClusterPing, ClusterStatus
from parley.connection import ConnectionManagerSettings
from parley.device import drafts, identity, inbox, outbox
from parley.device import lost as lost_messages
from parley.device.identity import DeviceIdentity
from parley.device.profile import Last, Profile, StateDirectory, check_account_name
from parley.device.spellings import kept_elsewhere
from parley.device.token_store import TokenStore
from parley.errors import BadInputError, NotSignedInError, UnreachableError
from parley.fetcher import MAX_FETCHED, Fetcher, FetchResult
from parley.leaving import forget_rows, log_out_if_reached, remove_files
from parley.log_in import LogIn
from parley.lost import LostMessages
from parley.model import (
    NEWEST,
    Account,
    Conversation,
    HistoryPage,
    HistoryStart,
    ListedChannel,
    Member,
    MemberRole,
    Outgoing,
    Target,
)
from parley.net.channel_calls import change_request
from parley.net.cluster_client import ClusterClient
from parley.net.unary_caller import UnaryCaller
from parley.outgoing_message import OutgoingMessage
from parley.own_account import OwnAccount
from parley.own_views import put_away, read_here, remove, set_muted, until_read, with_own_marks, without_removed
from parley.presence import MAX_LISTED, Presence
from parley.reader import MessageReader
from parley.receipt_model import MessageReceipts
from parley.shared import Shared
from parley.state_publisher import AccountVoice, Changes, StatePublisher
from parley.text_filter import TextFilter
from parley.wire.position import Position, merge
from parley.wire.requests import check_numbers, check_start

DEFAULT_DEADLINE_S = 10.0


class ParleyClient:
    """A client of one cluster, signed in as one account at a time."""

    def __init__(
        self,
        hosts: str | Sequence[str],
        *,
        account: str | None = None,
        ca: Path | None = None,
        insecure: bool = False,
        insecure_network: bool = False,
        state_dir: Path | None = None,
        connect: bool = True,
        deadline_s: float = DEFAULT_DEADLINE_S,
        settings: ConnectionManagerSettings | None = None,
        rng: Random | None = None,
        token_store: TokenStore | None = None,
        shared: Shared | None = None,
        on_behalf_of: str = "",
        text_filter: TextFilter | None = None,
    ) -> None:
        """`account` resumes the stored session of that account, even if no node can be reached.

        `insecure` connects without TLS, and only to addresses of this machine unless `insecure_network` is given, too.

        With `connect=False` the client opens no stream, so it sends and receives no messages.
        `token_store` stores the session tokens. Default: the client's file.
        `text_filter` changes the texts of send(), send_many() and edit() before they enter the outbox.
        `shared` and `on_behalf_of` are for ClientGroup.client(). With `shared`, hosts, TLS and
        text filter are those of the group.
        """
        self._account_name = None if account is None else check_account_name(account)
        self._own = shared is None
        self._shared = shared or Shared(
            hosts,
            ca=ca,
            insecure=insecure,
            insecure_network=insecure_network,
            one_thread=False,
            text_filter=text_filter,
        )
        self._connect = connect
        self._token_store = token_store or TokenStore()
        self._settings = settings or ConnectionManagerSettings()
        self._rng = rng or Random(secrets.randbits(64))  # noqa: S311 - spreads load, keeps no secret
        self._directory = StateDirectory(state_dir)
        self._publisher = StatePublisher()
        known = self._shared.known_endpoints
        self._caller = UnaryCaller(known, self._shared.calls, self._rng, self._went_back)
        self._cluster = ClusterClient(self._caller, known, deadline_s, self._answered, on_behalf_of)
        self._log_in = LogIn(self._cluster, self._token_store, self._directory, known, self._make_account)
        self._filter_turn = asyncio.Lock()  # held until the texts are stored, so sends stay in order
        self._account: LocalAccount | None = None
        self._running: asyncio.Task[None] | None = None
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            if self._own:
                stack.push_async_callback(self._shared.close)
            self._tasks = await stack.enter_async_context(asyncio.TaskGroup())
            stack.push_async_callback(self._leave)
            if self._account_name is not None:
                profile = self._directory.find(self._account_name, self._shared.known_endpoints.all())
                if profile is not None:
                    account = self._make_account(profile)
                    await self._use(account, await _open(account))
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        if self._account is not None:
            self._account.end_reading(done=kind is None)
        # The tasks are not told of the caller's error: it belongs to the caller as it is, not in a group with theirs.
        return await self._stack.__aexit__(None, None, None)

    # ---- accounts

    async def register(self, name: str, password: str, code: str = "") -> None:
        """Create an account, once even if an answer is lost. Raises NameTakenError or RefusedError.

        `code` is an invitation, or makes the account an administrator (`parleyd admin create`).
        """
        await self._cluster.register(check_account_name(name), password, code)

    async def login(self, name: str, password: str, *, end_oldest_device: bool = False) -> None:
        """Open a session and store it for the next start. Raises WrongPasswordError for a wrong name or password.

        Raises TooManyDevicesError if the account has no device to spare. With `end_oldest_device` the cluster signs out
        the device that logged in longest ago in this case.
        """
        check_account_name(name)
        cluster_id = await self._cluster.cluster_id()
        with unknown_if_cancelled(REPEAT_TEXT):
            current = self._account
            profile = await self._log_in.profile(cluster_id, name, password, current)
            if current is not None and current.profile.directory == profile.directory:
                who = await current.store.write(identity.load)
                with current.connection.logging_in():
                    await self._log_in.again(current, who, password, end_oldest_device=end_oldest_device)
                current.connection.wake()
                if self.state.connection is ConnectionState.SIGNED_OUT:
                    self._publisher.update(connection=ConnectionState.CONNECTING, problem="")
            else:
                account = self._make_account(profile)
                who = await self._log_in.first_here(account, password, end_oldest_device=end_oldest_device)
                await self._use(account, who)
        self._remember_last(self.signed_in_as)

    def connect_now(self) -> None:
        """Make the connection anew, and without a pause while there is none. For a machine that has just slept."""
        if self._account is not None:
            self._account.connection.hurry()

    def speak_for(self, address: str) -> None:
        """Make the next log-ins for the person at this IP address. For gateways."""
        self._cluster.speak_for(address)

    async def logout(self) -> int:
        """Close the session. Return the number of messages that wait in the outbox until the next log-in."""
        account, who = await self._signed_in()
        with unknown_if_cancelled(REPEAT_TEXT):
            await self._cluster.log_out(who.token)
            await account.store.write(lambda c: identity.signed_out(c, who.stored_token))
            await self._token_store.delete(who.stored_token)
            waiting = await account.store.read(outbox.count_open)
            self._remember_last("")
            again = self._make_account(account.profile)
            await self._use(again, await _open(again))
        return waiting

    async def delete_account(self, password: str) -> None:
        """Delete the account in use and all its data on this machine."""
        account, who = await self._signed_in()
        with unknown_if_cancelled():
            await self._cluster.delete_account(who.token, password)
            await self._forget(account, who)

    async def leave_nothing(self) -> bool:
        """Close the session, and remove all data of the account in use from this machine, also what waits.

        Return false if no majority of the nodes could be told. Then the session ends when it expires.
        """
        account, who = await self._signed_in()
        with unknown_if_cancelled(REPEAT_TEXT):
            ended = await log_out_if_reached(self._cluster, who.token)
            await self._forget(account, who)
        return ended

    async def _forget(self, account: LocalAccount, who: DeviceIdentity) -> None:
        forgotten = await forget_rows(account, who, self._token_store)
        self._remember_last("")
        await self._use(None, None)
        if forgotten:
            remove_files(account)
        self._publisher.update(
            account="", connection=ConnectionState.SIGNED_OUT, waiting=0, node="", address="", problem=""
        )

    @property
    def me(self) -> Account | None:
        """Return the account in use, or None if nobody is signed in or the cluster was never reached."""
        return None if self._account is None else self._account.known.account(self._account.account_id)

    @property
    def signed_in_as(self) -> str:
        """Return the name of the account in use as the cluster spells it, or an empty string."""
        if self._account is None:
            return ""
        return self._account.profile.account if self.me is None else self.me.name

    async def has_session(self) -> bool:
        """Return true if a session is stored. The cluster may have ended it already."""
        if self._account is None:
            return False
        who = await self._account.store.write(identity.load)
        return bool(await self._token_store.load(who.stored_token))

    async def list_accounts(self, pattern: str = "", *, limit: int = MAX_LISTED) -> tuple[Account, ...]:
        """Return active accounts in the order of their names. `pattern` may hold '*' and '?' as in file names."""
        account, who = await self._signed_in()
        found = await self._cluster.accounts(who.token, pattern, who.position, limit)
        account.learn(accounts=found)
        return found

    @property
    def presence(self) -> Presence:
        """Return the requests about who is connected, away or typing."""
        return Presence(self._cluster.presence, self._publisher, self._in_use, self._signed_in)

    def account(self, account_id: int) -> Account | None:
        """Return an account as this device knows it, or None. This sends no request."""
        return None if self._account is None else self._account.known.account(account_id)

    def account_named(self, name: str) -> Account | None:
        """Return the account that has a name now, as this device knows it, or None. This sends no request."""
        return None if self._account is None else self._account.known.account_named(name)

    # ---- messages

    async def send(self, target: str | Target, body: str, *, urgent: bool = False) -> OutgoingMessage:
        """Put a message into the outbox. Return once it is durable on this machine. The client then sends it.

        A string as `target` is the name of an account. The target is stored as it is given and never rewritten. This
        needs no connection. If the call is cancelled, the outbox holds the whole message or nothing.
        """
        return (await self.send_many([(target, body)], urgent=urgent))[0]

    async def send_many(
        self, items: Sequence[tuple[str | Target, str]], *, urgent: bool = False
    ) -> list[OutgoingMessage]:
        """Send (target, body) pairs like send(). All of them are stored, in order, or none."""
        account, targets = self._in_use(), [Target.of(target) for target, _ in items]
        async with self._filtered(account, [body for _, body in items]) as bodies:
            return await account.send(list(zip(targets, bodies, strict=True)), urgent=urgent)

    async def messages(self, *, include_own: bool = False) -> MessageReader:
        """Return a reader of new messages, each once. `include_own` adds those of the account's other devices."""
        return await self._in_use().reader(own=include_own)

    async def fetch(self, *, wait: float = 0.0, limit: int = MAX_FETCHED) -> FetchResult:
        """Store the next messages without a stream. Wait up to `wait` seconds for the first one. messages() reads them.

        This acknowledges what earlier calls stored. For a client that was made with `connect=False`.
        """
        return await self._fetcher().fetch(wait, limit)

    async def push(self) -> int:
        """Send what waits in the outbox without a stream. Return how many messages wait afterwards. See fetch()."""
        return await self._fetcher().push()

    async def outgoing(self, *, target: str | Target | None = None, limit: int = 200) -> tuple[Outgoing, ...]:
        """Return the newest own messages of this device with their status, oldest first.

        With `target`, return those of its conversation, whichever name each message was sent to.
        """
        check_numbers(limit=limit)
        account = self._in_use()
        wanted = None if target is None else Target.of(target)
        views = await account.store.read(lambda c: outbox.listing(c, limit, target=wanted))
        return tuple(account.with_progress(view) for view in views)

    async def waiting(self, *, limit: int = 1000) -> tuple[OutgoingMessage, ...]:
        """Return the messages without a final result, oldest first."""
        check_numbers(limit=limit)
        return await self._in_use().waiting(limit)

    async def untold(self, *, limit: int = 1000) -> tuple[Outgoing, ...]:
        """Return own messages that were refused, or whose outcome is unknown, and that mark_told() did not name yet."""
        check_numbers(limit=limit)
        return tuple(await self._in_use().store.read(lambda c: outbox.untold(c, limit)))

    async def mark_told(self, local_ids: Sequence[int]) -> None:
        """Record that a person was told of the outcome of these messages."""
        if local_ids:
            await self._in_use().store.write(lambda c: outbox.mark_told(c, local_ids))

    async def edit(self, local_id: int, body: str) -> Outgoing:
        """Change a waiting message. Raises TooLateError if it was already sent to the cluster."""
        check_numbers(local_id=local_id)
        account = self._in_use()
        async with self._filtered(account, [body]) as bodies:
            return await account.edit(local_id, bodies[0])

    async def cancel(self, local_id: int) -> Outgoing:
        """Withdraw a waiting message or remove a failed one. Raises TooLateError otherwise."""
        check_numbers(local_id=local_id)
        return await self._in_use().cancel(local_id)

    async def retry(self, local_id: int) -> OutgoingMessage:
        """Send a failed message again, at the end of the outbox."""
        check_numbers(local_id=local_id)
        return await self._in_use().retry(local_id)

    @property
    def lost(self) -> LostMessages:
        """Return the messages that the cluster lost when it was restored, and what can be done with them."""
        return LostMessages(self._in_use())

    # ---- conversations

    async def conversations(self, *, limit: int = 1000) -> tuple[Conversation, ...]:
        """Return the account's conversations, the latest first. Without a connection, return what this device knows."""
        account, who = await self._signed_in()
        try:
            found, accounts = await self._cluster.conversations(who.token, who, who.position, limit)
        except UnreachableError:
            return await self.cached_conversations(limit=limit)
        account.learn(accounts=accounts, conversations=found)
        return await with_own_marks(found, account)

    async def cached_conversations(self, *, limit: int = 1000) -> tuple[Conversation, ...]:
        """Return the conversations that this device knows. This sends no request."""
        check_numbers(limit=limit)
        return tuple(await self._in_use().store.read(lambda c: inbox.conversations(c, limit)))

    def conversation(self, conversation_id: int) -> Conversation | None:
        """Return what a conversation is, and its members, as this device knows them, without a request.

        `last` and `unread` are not filled in.
        """
        return None if self._account is None else self._account.known.conversation(conversation_id)

    async def history(self, target: str | Target, start: HistoryStart = NEWEST, *, limit: int = 100) -> HistoryPage:
        """Return one page of a conversation, oldest first.

        Without a connection, return what this device knows of it.
        """
        account, who = await self._signed_in()
        wanted = Target.of(target)
        check_start(start, limit)
        try:
            page, accounts = await self._cluster.history(who.token, who, who.position, wanted, start, limit)
        except UnreachableError as error:
            kept = await self.cached_history(wanted, start, limit=limit)
            return replace(kept, cached_because=error.text)
        here, lost = await account.store.read(
            lambda c: (read_here(c, page, account), lost_messages.of_page(c, wanted, page, limit))
        )
        if start.first_unread and here > page.read_up_to:  # the cluster looked for it below what was read here
            around = HistoryStart(around_id=min(here, inbox.MAX_ID - 1) + 1)
            return await self.history(wanted, around, limit=limit)
        account.learn(accounts=accounts, conversations=() if page.conversation is None else (page.conversation,))
        return replace(without_removed(page, account), read_up_to=max(page.read_up_to, here), lost=lost)

    async def cached_history(
        self, target: str | Target, start: HistoryStart = NEWEST, *, limit: int = 100
    ) -> HistoryPage:
        """Return one page of a conversation as this device knows it. This sends no request."""
        wanted = Target.of(target)
        check_start(start, limit)
        return await self._in_use().store.read(lambda c: inbox.page(c, wanted, start, limit))

    async def members(self, conversation_id: int) -> tuple[Member, ...]:
        """Return all members of a conversation by account id. Without a connection, return those this device knows."""
        account, who = await self._signed_in()
        try:
            found, accounts = await self._cluster.members(who.token, who.position, conversation_id)
        except UnreachableError:
            known = account.known.conversation(conversation_id)
            return () if known is None else known.members
        account.learn(accounts=accounts)
        return found

    async def receipts(self, conversation_id: int, message_id: int, *, limit: int = MAX_LISTED) -> MessageReceipts:
        """Return who has received and read an own message, and which nodes have it on disk.

        Raises RefusedError for a message of somebody else, and of a channel that this account is in no longer.
        """
        check_numbers(conversation_id=conversation_id, message_id=message_id, limit=limit)
        account, who = await self._signed_in()
        found = await self._cluster.receipts.of_message(who.token, who.position, conversation_id, message_id, limit)
        account.learn(accounts=tuple(one.account for one in found.members if one.account.name))
        return found

    async def mute(self, target: str | Target, *, muted: bool = True) -> None:
        """Mute a conversation for all devices of the account, or end that. It may be repeated.

        Front ends notify only of its messages that are urgent or mention the account. Raises RefusedError where no
        conversation has begun.
        """
        account, who = await self._signed_in()
        await set_muted(self._cluster, account, who, Target.of(target), muted=muted)

    async def put_away(self, target: str | Target, *, up_to: int | None = None) -> None:
        """Put a conversation away for all devices of the account, until something newer comes. It may be repeated.

        `up_to` is the newest message that the person was shown, None the newest that the cluster has. Front ends leave
        the conversation out of the list; a muted one also while newer messages come. Nothing is deleted. Raises
        RefusedError where no conversation has begun.
        """
        check_numbers(up_to=up_to or 0)
        account, who = await self._signed_in()
        await put_away(self._cluster, account, who, Target.of(target), up_to)

    async def bring_back(self, target: str | Target) -> None:
        """Bring a conversation that was put away back into the list. It may be repeated."""
        account, who = await self._signed_in()
        await put_away(self._cluster, account, who, Target.of(target), 0)

    async def remove_conversation(self, target: str | Target, *, up_to: int | None = None) -> None:
        """Remove a conversation with all its messages for all devices of the account, for good. It may be repeated.

        `up_to` is the newest message that the person was shown, None the newest that the cluster has. Something newer
        brings the conversation back without what was removed. Other members keep everything. A member of a channel
        stays one. Own messages that wait are still sent. Drafts are deleted. Raises RefusedError where no conversation
        has begun.
        """
        check_numbers(up_to=up_to or 0)
        account, who = await self._signed_in()
        await remove(self._cluster, account, who, Target.of(target), up_to)

    async def create_channel(self, title: str, members: Sequence[str] = ()) -> int:
        """Create a channel with the caller as its owner. Return its conversation id.

        `members` are names of accounts besides the caller. Raises RefusedError if one of them does not exist.
        """
        _, who = await self._signed_in()
        return await self._cluster.channels.create(who.token, title, members)

    async def list_channels(self, *, title: str = "", limit: int = MAX_LISTED) -> tuple[ListedChannel, ...]:
        """Return the public channels and the account's own, by id. With `title`, only those with exactly this title."""
        check_numbers(limit=limit)
        _, who = await self._signed_in()
        return await self._cluster.channels.listed(who.token, who.position, title, limit)

    async def change_channel(
        self,
        conversation_id: int,
        *,
        title: str | None = None,
        topic: str | None = None,
        public: bool | None = None,
        archived: bool | None = None,
        open_history: bool | None = None,
    ) -> None:
        """Change what is not None. For owners and moderators. An empty topic removes the topic.

        Everybody finds and joins a public channel. Nobody sends to an archived one or joins it. With `open_history`,
        members read what was written before they joined. Like all changes of channels, it may be repeated.
        """
        request = change_request(
            conversation_id, title=title, topic=topic, public=public, archived=archived, open_history=open_history
        )
        _, who = await self._signed_in()
        await self._cluster.channels.change(who.token, request)

    async def join_channel(self, conversation_id: int) -> None:
        """Become a member of a public channel."""
        _, who = await self._signed_in()
        await self._cluster.channels.join(who.token, conversation_id)

    async def leave_channel(self, conversation_id: int) -> None:
        """Leave a channel. What was written until then stays readable. The last owner leaves last."""
        _, who = await self._signed_in()
        await self._cluster.channels.leave(who.token, conversation_id)

    async def add_members(self, conversation_id: int, members: Sequence[str]) -> None:
        """Add accounts to a channel by name, up to 255. For owners and moderators."""
        _, who = await self._signed_in()
        await self._cluster.channels.add_members(who.token, conversation_id, members)

    async def remove_members(self, conversation_id: int, members: Sequence[str]) -> None:
        """Remove members of a channel by name, up to 255. For owners and moderators. Owners remove those, too."""
        _, who = await self._signed_in()
        await self._cluster.channels.remove_members(who.token, conversation_id, members)

    async def set_member_role(self, conversation_id: int, member: str, role: MemberRole) -> None:
        """Set the role of a member of a channel. For owners, and for administrators of the cluster."""
        _, who = await self._signed_in()
        await self._cluster.channels.set_role(who.token, conversation_id, member, role)

    async def set_display_name(self, display_name: str) -> None:
        """Set the name that others see beside the account name; an empty one takes it away.

        Raises RefusedError for one of more than 64 characters or with invisible ones.
        """
        _, who = await self._signed_in()
        await self._cluster.set_display_name(who.token, display_name)

    async def mark_read(self, conversation_id: int, up_to: int) -> None:
        """Record that the person has read a conversation up to this message.

        The client tells the cluster when it can. Raises BadInputError for ids that no cluster assigns.
        """
        if not (0 < conversation_id <= inbox.MAX_ID and 0 <= up_to <= inbox.MAX_ID):
            raise BadInputError(
                f"No conversation {conversation_id} can have a message {up_to}. Nothing was marked as read. Use the "
                "ids of a message that the cluster sent."
            )
        await self._in_use().mark_read(conversation_id, up_to)

    async def read_positions(self) -> dict[int, int]:
        """Return by conversation id up to which message the person has read it, in any program on this machine."""
        return dict(await self._in_use().store.read(inbox.read_positions))

    async def kept_elsewhere(self) -> str:
        """Return a text about messages that wait in folders of other spellings of the account's name, mostly empty."""
        return await asyncio.to_thread(kept_elsewhere, self._in_use().profile)

    async def wait_until_read(self, target: str | Target, up_to: int, *, timeout: float) -> bool:
        """Wait until the cluster has the read position of a conversation. Return false after `timeout` seconds."""
        _, who = await self._signed_in()
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await until_read(self._cluster, who, Target.of(target), up_to)
                return True
        return False

    async def save_draft(self, target: str | Target, body: str) -> None:
        """Store the draft of a conversation. An empty text removes it."""
        wanted = Target.of(target)
        await self._in_use().store.write(lambda c: drafts.save(c, wanted, body))

    async def draft(self, target: str | Target) -> str:
        """Return the draft of a conversation, or an empty string."""
        wanted = Target.of(target)
        return await self._in_use().store.read(lambda c: drafts.load(c, wanted))

    # ---- how things stand

    @property
    def state(self) -> ClientState:
        """Return the present state, for a status line."""
        return self._publisher.state

    def watch(self) -> AsyncGenerator[Changes, None]:
        """Yield at once and then after changes. A slow reader may miss intermediate states but never the last one."""
        return self._publisher.watch()

    async def wait_until(self, *states: ConnectionState, timeout: float | None = None) -> ClientState:
        """Wait for one of the connection states. Raises TimeoutError."""
        async with asyncio.timeout(timeout), aclosing(self.watch()) as changes:
            async for change in changes:
                if change.state.connection in states:
                    return change.state
        return self.state

    async def cluster_status(self) -> ClusterStatus:
        """Ask every known node for its status, all at once. Without a session, nodes tell only who leads and serves."""
        return await self._cluster.status(await self._token_or_none())

    async def ping(self, *, count: int = 5) -> ClusterPing:
        """Measure the round trip of `count` calls to every known node. Needs no session."""
        check_numbers(count=count)
        return await self._cluster.ping(count, await self._token_or_none())

    async def administration(self) -> Administration:
        """Return the requests of an administrator. Raises NotSignedInError without a session."""
        _, who = await self._signed_in()
        return Administration(self._caller, who.token, self.cluster_status)

    async def own_account(self) -> OwnAccount:
        """Return the requests about the own password and devices. Raises NotSignedInError without a session."""
        _, who = await self._signed_in()
        return OwnAccount(self._caller, who.token, self._position)

    # ---- inside

    def _remember_last(self, account: str) -> None:
        if not self._own:
            return  # one of many: no program uses it by default
        hosts = tuple(str(endpoint) for endpoint in self._shared.known_endpoints.configured)
        ca = "" if self._shared.ca is None else str(self._shared.ca.absolute())
        self._directory.remember_last(Last(account, hosts, ca, self._shared.security.insecure))

    def _make_account(self, profile: Profile) -> LocalAccount:
        return LocalAccount(
            profile,
            self._directory,
            self._shared,
            self._caller,
            AccountVoice(self._publisher),
            self._rng,
            self._settings,
            self._token_store,
            self._cluster,
            connect=self._connect,
        )

    async def _use(self, account: LocalAccount | None, who: DeviceIdentity | None) -> None:
        """Replace the present account by an opened one. There is never a moment without an account.

        If this is cancelled, the change is complete and the task of the former account has been told to end.
        """
        if self._account is not None:
            self._account.retire()
        former, self._running, self._account = self._running, None, account
        if account is not None and who is not None:
            account.show(who)
            self._running = self._tasks.create_task(account.run())
        if former is None:
            await asyncio.sleep(0)  # a task that is cancelled before its first step would never close its account
        else:
            former.cancel()
            await asyncio.wait([former])

    async def _leave(self) -> None:
        await self._use(None, None)
        self._publisher.update(connection=ConnectionState.CLOSED, node="", address="")

    def _answered(self, position: Position) -> None:
        """Keep with the account what an answer has shown, so that a restart does not show an older state."""
        if self._account is not None:
            self._account.seen(position)

    async def _position(self) -> Position:
        _, who = await self._signed_in()
        return who.position

    async def _went_back(self) -> None:
        self._cluster.forget_position()
        if self._account is not None:
            await self._account.cluster_went_back()

    @asynccontextmanager
    async def _filtered(self, account: LocalAccount, bodies: list[str]) -> AsyncIterator[list[str]]:
        """Ask the text filter, if there is one, and keep later texts back until the caller has stored these."""
        text_filter = self._shared.text_filter
        if text_filter is None:
            yield bodies
            return
        async with self._filter_turn:
            changed = await text_filter.change(bodies, self.state.max_message_bytes)
            if self._account is not account:
                raise NotSignedInError("The account was changed while the text filter was asked. Nothing was sent.")
            yield changed

    def _fetcher(self) -> Fetcher:
        if self._connect:
            raise BadInputError("This client has a stream, which receives and sends. To fetch, use connect=False.")
        return Fetcher(self._in_use(), self._cluster)

    def _in_use(self) -> LocalAccount:
        if self._account is None:
            name = self._account_name
            raise NotSignedInError(
                f"{f'{name} is not' if name else 'Nobody is'} signed in here. Nothing was changed. Sign in first: "
                f"parley login {name or 'NAME'}"
            )
        return self._account

    async def _signed_in(self) -> tuple[LocalAccount, DeviceIdentity]:
        account = self._in_use()
        who = await account.store.write(identity.load)
        token = await self._token_store.load(who.stored_token)
        who = replace(who, token=token, position=merge(who.position, account.position))
        if not who.token:
            raise NotSignedInError(
                f"{account.profile.account} is not signed in. Waiting messages are kept here. Sign in: parley login "
                f"{account.profile.account}"
            )
        return account, who

    async def _token_or_none(self) -> str:
        try:
            return (await self._signed_in())[1].token
        except NotSignedInError:
            return ""


async def _open(account: LocalAccount) -> DeviceIdentity:
    """Open an account's file. If this is cancelled, close the file again."""
    try:
        return await account.open()
    except BaseException:
        await asyncio.shield(account.close())
        raise
