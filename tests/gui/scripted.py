"""An SDK by script: a client in memory that says what a test tells it to, on the SDK's own thread like the real one.

It knows no rules of the cluster. Logins, pages of history, lists and results are what the test put there; only the
outbox, the inbox and the drafts, which belong to this device, are remembered.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from typing import Any

from parley import (
    NEWEST,
    Account,
    AccountPresence,
    Changes,
    ClientState,
    ClusterStatus,
    ConnectedAccounts,
    ConnectionState,
    Conversation,
    ConversationKind,
    Device,
    HistoryPage,
    HistoryStart,
    Invitation,
    InvitationNeededError,
    ListedChannel,
    LostMessage,
    LostOrigin,
    Member,
    MemberReceipt,
    Message,
    MessageKind,
    MessageReceipts,
    MessageStatus,
    Node,
    NodeStatus,
    Outgoing,
    ParleyError,
    PresenceState,
    Receipt,
    RefusedError,
    StatePublisher,
    Target,
    UnreachableError,
    WrongPasswordError,
)
from parley.gui.commands import ClusterAddress
from parley.gui.port import Client
from tests.support.cluster_nodes import N1, N2, N3

PASSWORD = "correct horse"
NODES = tuple(Node(f"n{n}", f"127.0.0.{n + 1}:7600", True) for n in (1, 2, 3))
CLUSTER = ClusterStatus((N1, N2, N3))
BASE_MS = 1_760_000_000_000
PEOPLE = (Account(1, "ann"), Account(2, "ben", "Ben Ortiz"), Account(3, "bella"), Account(4, "dana"))
ACCOUNTS = {account.name: account for account in PEOPLE}
WARD = Conversation(70, ConversationKind.CHANNEL, "Ward 4", (Member(1), Member(2), Member(4)), 3)


def direct(name: str) -> Conversation:
    """The direct conversation of ann with somebody."""
    other = ACCOUNTS[name].id
    return Conversation(1000 + other, ConversationKind.DIRECT, "", (Member(1), Member(other)), 2)


KNOWN = {one.id: one for one in (WARD, *(direct(name) for name in ACCOUNTS if name != "ann"))}


def conversation_of(target: Target) -> Conversation:
    """The conversation that a target leads to."""
    return KNOWN[target.conversation_id] if target.conversation_id else direct(target.account)


async def _nothing() -> None:
    pass


class ScriptedSdk:
    """What the device remembers and what the test wants the cluster to say. Tests call tell() from their own thread."""

    def __init__(self) -> None:
        self.loop: asyncio.AbstractEventLoop | None = None
        self.publisher = StatePublisher()
        self.session_of = ""
        self.logged_in: list[tuple[str, str]] = []
        self.registered: list[tuple[str, str, str]] = []
        self.invitation = ""  # the code that registering needs; empty: registration is open
        self.outbox: dict[int, Outgoing] = {}
        self.inbox: list[Message] = []
        self.listed: tuple[Conversation, ...] = ()
        self.channels: tuple[ListedChannel, ...] = ()
        self.asked: list[tuple[str, int, tuple[str, ...]]] = []  # changes of channels
        self.more: dict[int, Account] = {}  # accounts besides PEOPLE
        self.members: dict[int, tuple[Member, ...]] = {}  # all members of a large channel
        self.pages: dict[tuple[Target, int], HistoryPage] = {}
        self.kept_pages: dict[tuple[Target, int], HistoryPage] = {}  # what this device has
        self.held: dict[tuple[Target, int], asyncio.Event] = {}  # pages that come once the event is set
        self.drafts: dict[Target, str] = {}
        self.read: list[tuple[int, int]] = []
        self.presences: dict[int, AccountPresence] = {}
        self.presence_asked: list[int] = []
        self.typed: list[int] = []
        self.hidden = False
        self.hurried = 0
        self.history_asked: list[tuple[str, int]] = []
        self.unreachable = False
        self.refuse_sends: ParleyError | None = None
        self.refuse_drafts: ParleyError | None = None
        self.never_answers = False
        self.refuse_entry: ParleyError | None = None
        self.refuse_login: ParleyError | None = None
        self.incoming: asyncio.Queue[Message] | None = None
        self.entered = 0
        self.never_enters = False
        self.password = PASSWORD
        self.ended_oldest = False
        self.left_nothing = False
        self.administrator = False
        self.display_name = ""
        self.cluster = CLUSTER
        self.cluster_asked = 0
        self.node_fails: Exception | None = None
        self.transferred: list[str] = []
        self.refuse_transfer: ParleyError | None = None
        self.lost: list[LostMessage] = []
        self.refuse_lost: ParleyError | None = None
        self.refuse_lost_list: ParleyError | None = None
        self.lost_list_refused = asyncio.Event()
        self.meanwhile: Callable[[], Awaitable[None]] = _nothing  # what happens while an account leaves nothing
        self.devices = [
            Device("aa" * 16, "ward-pc", BASE_MS, True, True),
            Device("bb" * 16, "old \u202ephone", BASE_MS - 86_400_000, True, False),
            Device("cc" * 16, "", 0, False, False),
        ]
        self._next_local = 1
        self._next_id = 1

    # ---- what tests do, from the window's thread

    def connect(self, address: ClusterAddress, account: str | None) -> AbstractAsyncContextManager[Client]:
        """What the bridge calls."""
        return self._entered(account)

    @asynccontextmanager
    async def _entered(self, account: str | None) -> AsyncGenerator[Client, None]:
        if self.refuse_entry is not None:
            raise self.refuse_entry
        if self.never_enters:
            await asyncio.Event().wait()
        self.loop = asyncio.get_running_loop()
        self.incoming = asyncio.Queue()
        self.entered += 1
        client = ScriptedClient(self)
        if account is not None and self.session_of == account:
            client.signed_in_as = account
        yield client

    def tell(self, doing: Callable[[], Any]) -> None:
        """Does something on the SDK's thread and waits until it is done."""
        assert self.loop is not None

        async def do() -> None:
            doing()

        asyncio.run_coroutine_threadsafe(do(), self.loop).result(5)

    @property
    def lost_sent(self) -> int:
        """How many lost messages this device sent."""
        return sum(one.origin is LostOrigin.THIS_DEVICE for one in self.lost)

    def restored(self, *lost: LostMessage) -> None:
        """The cluster was restored, and the device has compared."""

        def begin_anew() -> None:
            self.lost = list(lost)
            self.inbox.clear()
            self.publisher.begun_anew()
            self.publisher.update(lost_sent=self.lost_sent, notice="The cluster was restored to an earlier state.")

        self.tell(begin_anew)

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

    def message(self, sender: str, body: str, *, conversation: Conversation | None = None) -> Message:
        """The next message of somebody, in the direct conversation with ann if none is named."""
        message_id, self._next_id = self._next_id, self._next_id + 1
        where = conversation or direct(sender)
        at_ms = BASE_MS + message_id * 1000
        return Message(where.id, message_id, MessageKind.TEXT, ACCOUNTS[sender].id, body, at_ms, sender == "ann")

    def arrive(self, sender: str, *bodies: str, conversation: Conversation | None = None) -> None:
        """Messages come in."""
        self.deliver(self.message(sender, body, conversation=conversation) for body in bodies)

    def deliver(self, messages: Iterable[Message]) -> None:
        """These messages come in."""
        incoming = self.incoming
        assert incoming is not None

        def come_in() -> None:
            for message in messages:
                self.inbox.append(message)
                incoming.put_nowait(message)
            self.publisher.changed(inbox=True)

        self.tell(come_in)

    def settle(self, local_id: int, status: MessageStatus, detail: str = "") -> None:
        """What becomes of an own message."""
        self.tell(lambda: self._settle(local_id, status, detail))

    def _settle(self, local_id: int, status: MessageStatus, detail: str) -> None:
        one = replace(self.outbox[local_id], status=status, detail=detail)
        if status is MessageStatus.ACCEPTED:
            stored = self.message("ann", one.body, conversation=conversation_of(one.target))
            one = replace(
                one, message_id=stored.id, conversation_id=stored.conversation_id, sent_at_ms=stored.sent_at_ms
            )
        self.outbox[local_id] = one
        self.publisher.changed(outgoing=(one,))
        self.count()

    def receipt(self, name: str, delivered: int, read: int, *, conversation: Conversation | None = None) -> None:
        """Another member has come further."""
        where = conversation or direct(name)
        receipt = Receipt(where.id, ACCOUNTS[name].id, delivered, read)
        self.tell(lambda: self.publisher.changed(receipts=(receipt,)))

    def count(self) -> None:
        """Messages that wait."""
        waiting = (MessageStatus.WAITING, MessageStatus.SENDING)
        self.publisher.update(waiting=sum(one.status in waiting for one in self.outbox.values()))

    def put(self, target: Target, body: str, *, urgent: bool = False) -> Outgoing:
        """Into the outbox."""
        local_id, self._next_local = self._next_local, self._next_local + 1
        one = Outgoing(local_id, target, body, BASE_MS + 10_000_000 + local_id, MessageStatus.WAITING, urgent=urgent)
        self.outbox[one.local_id] = one
        self.publisher.changed(outgoing=(one,))
        self.count()
        return one


class ScriptedAccount:
    """The requests about the own account."""

    def __init__(self, sdk: ScriptedSdk) -> None:
        self.sdk = sdk

    async def change_password(self, old: str, new: str) -> None:
        if old != self.sdk.password:
            raise WrongPasswordError("The old password is wrong. It stays in force. Try again.")
        self.sdk.password = new

    async def devices(self) -> tuple[Device, ...]:
        return tuple(self.sdk.devices)

    async def sign_out_device(self, device_id: str) -> None:
        self._end(lambda device: device.id == device_id)

    async def sign_out_other_devices(self) -> None:
        self._end(lambda device: not device.current)

    async def set_hidden(self, *, hidden: bool) -> None:
        self.sdk.hidden = hidden

    def _end(self, chosen: Callable[[Device], bool]) -> None:
        self.sdk.devices = [
            replace(device, signed_in=device.signed_in and not chosen(device)) for device in self.sdk.devices
        ]


INVITATION_CODE = "abcde-fghjk-mnpqr"
INVITATION_ENDS_MS = 1_900_000_000_000


class ScriptedAdministration:
    """What an administrator asks for."""

    def __init__(self, sdk: ScriptedSdk, reach: Callable[[], None]) -> None:
        self.sdk = sdk
        self.reach = reach

    async def invitations(self) -> tuple[Invitation, ...]:
        self.reach()
        if not self.sdk.administrator:
            raise RefusedError("ann is no administrator. Nothing was changed.")
        return ()

    async def create_invitation(self, valid_s: int = 0) -> tuple[str, int]:
        self.reach()
        self.sdk.asked.append(("invite", valid_s, ()))
        return INVITATION_CODE, INVITATION_ENDS_MS

    async def withdraw_invitation(self, invitation_id: str) -> None:
        self.reach()
        self.sdk.asked.append(("withdraw", 0, (invitation_id,)))

    async def node_status(self, address: str) -> NodeStatus:
        if self.sdk.node_fails is not None:
            raise self.sdk.node_fails
        return next((node for node in self.sdk.cluster.nodes if node.address == address), NodeStatus(address, "silent"))

    async def suspend_account(self, account: str, reason: str = "") -> None:
        self.reach()
        if account == "nobody":
            raise RefusedError("There is no account nobody. Nothing was changed.")
        self.sdk.asked.append(("suspend", 0, (account, reason)))

    async def release_account(self, account: str) -> None:
        self.reach()
        self.sdk.asked.append(("release", 0, (account,)))

    async def transfer_leadership(self, name: str) -> str:
        self.reach()
        self.sdk.transferred.append(name)
        if self.sdk.refuse_transfer is not None:
            raise self.sdk.refuse_transfer
        nodes = [replace(node, leader=name, term=node.term + 1) for node in self.sdk.cluster.nodes]
        roles = [replace(node, role="leader" if node.name == name else "follower") for node in nodes]
        self.sdk.cluster = ClusterStatus(tuple(roles))
        return name


class ScriptedPresence:
    """Who is there, as a test says it."""

    def __init__(self, sdk: ScriptedSdk, reach: Callable[[], None]) -> None:
        self.sdk = sdk
        self.reach = reach

    async def connected(self, *, limit: int = 10_000) -> ConnectedAccounts:
        self.reach()
        return ConnectedAccounts((), (), 0, self.sdk.hidden)

    async def of(self, account_ids: Sequence[int]) -> tuple[AccountPresence, ...]:
        self.reach()
        self.sdk.presence_asked.extend(account_ids)
        offline = PresenceState.OFFLINE
        return tuple(self.sdk.presences.get(one, AccountPresence(one, offline)) for one in account_ids)

    def types(self, conversation_id: int) -> None:
        self.sdk.typed.append(conversation_id)


class ScriptedLost:
    """What a restored cluster does not have any more, as a test says it."""

    def __init__(self, sdk: ScriptedSdk) -> None:
        self.sdk = sdk

    async def messages(self, *, limit: int = 1000) -> tuple[LostMessage, ...]:
        if self.sdk.refuse_lost_list is not None:
            self.sdk.lost_list_refused.set()
            raise self.sdk.refuse_lost_list
        return tuple(self.sdk.lost)

    async def resend(self, ids: Sequence[int]) -> None:
        for one in self._take(ids):
            assert one.target is not None
            self.sdk.put(one.target, one.body)

    async def discard(self, ids: Sequence[int]) -> int:
        return len(self._take(ids))

    def _take(self, ids: Sequence[int]) -> list[LostMessage]:
        if self.sdk.refuse_lost is not None:
            raise self.sdk.refuse_lost
        taken = [one for one in self.sdk.lost if one.id in ids]
        self.sdk.lost = [one for one in self.sdk.lost if one.id not in ids]
        self.sdk.publisher.update(lost_sent=self.sdk.lost_sent)
        return taken


class ScriptedClient:
    """What the bridge sees."""

    def __init__(self, sdk: ScriptedSdk) -> None:
        self.sdk = sdk
        self.signed_in_as = ""

    @property
    def state(self) -> ClientState:
        return self.sdk.publisher.state

    @property
    def presence(self) -> ScriptedPresence:
        return ScriptedPresence(self.sdk, self.reach)

    @property
    def lost(self) -> ScriptedLost:
        return ScriptedLost(self.sdk)

    @property
    def me(self) -> Account | None:
        return ACCOUNTS.get(self.signed_in_as)

    def account(self, account_id: int) -> Account | None:
        return self.sdk.more.get(account_id) or next((one for one in PEOPLE if one.id == account_id), None)

    def account_named(self, name: str) -> Account | None:
        return next((one for one in (*self.sdk.more.values(), *PEOPLE) if one.name == name.casefold()), None)

    def conversation(self, conversation_id: int) -> Conversation | None:
        return KNOWN.get(conversation_id)

    def watch(self) -> AsyncGenerator[Changes, None]:
        return self.sdk.publisher.watch()

    def connect_now(self) -> None:
        self.sdk.hurried += 1

    async def has_session(self) -> bool:
        return bool(self.signed_in_as)

    async def register(self, name: str, password: str, code: str = "") -> None:
        self.sdk.registered.append((name, password, code))
        if self.sdk.invitation and not code:
            raise InvitationNeededError("This cluster creates accounts by invitation. Nothing was changed.")
        if self.sdk.invitation and code != self.sdk.invitation:
            raise RefusedError("The code is wrong, was used already, or is over. Nothing was changed.")

    async def set_display_name(self, display_name: str) -> None:
        self.reach()
        if len(display_name) > 64:
            raise RefusedError("The display name is too long. Nothing was changed.")
        self.sdk.display_name = display_name

    async def administration(self) -> ScriptedAdministration:
        return ScriptedAdministration(self.sdk, self.reach)

    async def cluster_status(self) -> ClusterStatus:
        self.sdk.cluster_asked += 1
        self.reach()
        return self.sdk.cluster

    async def own_account(self) -> ScriptedAccount:
        self.reach()
        return ScriptedAccount(self.sdk)

    async def login(self, name: str, password: str, *, end_oldest_device: bool = False) -> None:
        self.sdk.ended_oldest = end_oldest_device
        self.sdk.logged_in.append((name, password))
        if self.sdk.never_answers:
            await asyncio.Event().wait()
        if self.sdk.refuse_login is not None and not end_oldest_device:
            raise self.sdk.refuse_login
        self.reach()
        self.signed_in_as = self.sdk.session_of = name

    async def logout(self) -> int:
        self.reach()
        self.signed_in_as = self.sdk.session_of = ""
        return 0

    async def leave_nothing(self) -> bool:
        await self.sdk.meanwhile()
        self.sdk.left_nothing, self.sdk.session_of, self.signed_in_as = True, "", ""
        return not self.sdk.unreachable

    async def list_accounts(self, pattern: str = "", *, limit: int = 100) -> tuple[Account, ...]:
        self.reach()
        named = self.sdk.display_name
        people = [replace(one, display_name=named) if one.name == self.signed_in_as else one for one in PEOPLE]
        return tuple(account for account in people if account.name.startswith(pattern.removesuffix("*")))

    async def list_channels(self) -> tuple[ListedChannel, ...]:
        self.reach()
        return self.sdk.channels

    async def members(self, conversation_id: int) -> tuple[Member, ...]:
        self.reach()
        self.sdk.asked.append(("members", conversation_id, ()))
        return self.sdk.members.get(conversation_id, KNOWN[conversation_id].members)

    async def join_channel(self, conversation_id: int) -> None:
        self.reach()
        self.sdk.asked.append(("join", conversation_id, ()))

    async def mute(self, target: str | Target, *, muted: bool = True) -> None:
        self.reach()
        self.sdk.asked.append(("mute" if muted else "unmute", Target.of(target).conversation_id, ()))

    async def put_away(self, target: str | Target, *, up_to: int | None = None) -> None:
        self.reach()
        self.sdk.asked.append(("put away", Target.of(target).conversation_id, (str(up_to),)))

    async def bring_back(self, target: str | Target) -> None:
        self.reach()
        self.sdk.asked.append(("bring back", Target.of(target).conversation_id, ()))

    async def remove_conversation(self, target: str | Target, *, up_to: int | None = None) -> None:
        self.reach()
        self.sdk.asked.append(("remove conversation", Target.of(target).conversation_id, (str(up_to),)))

    async def leave_channel(self, conversation_id: int) -> None:
        self.reach()
        self.sdk.asked.append(("leave", conversation_id, ()))

    async def add_members(self, conversation_id: int, members: Sequence[str]) -> None:
        self.reach()
        self.sdk.asked.append(("add", conversation_id, tuple(members)))

    async def receipts(self, conversation_id: int, message_id: int) -> MessageReceipts:
        self.reach()
        self.sdk.asked.append(("receipts", conversation_id, (str(message_id),)))
        members = (MemberReceipt(PEOPLE[1], delivered=True, read=True), MemberReceipt(PEOPLE[2], False, False))
        return MessageReceipts(conversation_id, message_id, 2, 1, 1, members, True, ("n1", "n2"), ("n3",))

    async def send(self, target: str | Target, body: str, *, urgent: bool = False) -> Outgoing:
        if self.sdk.refuse_sends is not None:
            raise self.sdk.refuse_sends
        return self.sdk.put(Target.of(target), body, urgent=urgent)

    async def edit(self, local_id: int, body: str) -> Outgoing:
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
        return self.sdk.put(one.target, one.body)

    async def messages(self, *, include_own: bool = False) -> AsyncIterator[Message]:
        return self._read()

    async def _read(self) -> AsyncIterator[Message]:
        assert self.sdk.incoming is not None
        while True:
            yield await self.sdk.incoming.get()

    async def outgoing(self, *, target: str | Target | None = None, limit: int = 200) -> tuple[Outgoing, ...]:
        wanted = None if target is None else Target.of(target)
        return tuple(one for one in self.sdk.outbox.values() if wanted in (None, one.target))

    async def conversations(self, *, limit: int = 1000) -> tuple[Conversation, ...]:
        self.reach()
        return self.sdk.listed[:limit]

    async def cached_conversations(self, *, limit: int = 1000) -> tuple[Conversation, ...]:
        return ()

    async def history(self, target: str | Target, start: HistoryStart = NEWEST, *, limit: int = 100) -> HistoryPage:
        wanted = Target.of(target)
        self.sdk.history_asked.append((str(wanted), start.before_id))
        if held := self.sdk.held.get((wanted, start.before_id)):
            await held.wait()
        if self.sdk.unreachable:
            kept = await self.cached_history(wanted, start, limit=limit)
            return replace(kept, cached_because="No node could be reached.")
        return self.sdk.pages.get((wanted, start.before_id), HistoryPage((), False))

    async def cached_history(
        self, target: str | Target, start: HistoryStart = NEWEST, *, limit: int = 100
    ) -> HistoryPage:
        wanted = Target.of(target)
        if wanted.account and wanted.account not in ACCOUNTS:
            return HistoryPage((), has_older=False, cached=True)
        if (wanted, start.before_id) in self.sdk.kept_pages:
            return self.sdk.kept_pages[wanted, start.before_id]
        where = conversation_of(wanted)
        found = tuple(message for message in self.sdk.inbox if message.conversation_id == where.id)
        return HistoryPage(found, has_older=False, conversation=where if found else None, cached=True)

    async def mark_read(self, conversation_id: int, up_to: int) -> None:
        self.sdk.read.append((conversation_id, up_to))

    async def read_positions(self) -> dict[int, int]:
        return dict(self.sdk.read)

    async def save_draft(self, target: str | Target, body: str) -> None:
        if self.sdk.refuse_drafts is not None:
            raise self.sdk.refuse_drafts
        self.sdk.drafts[Target.of(target)] = body

    async def draft(self, target: str | Target) -> str:
        return self.sdk.drafts.get(Target.of(target), "")

    def reach(self) -> None:
        """Fails while nobody can be reached."""
        if self.sdk.unreachable:
            raise UnreachableError("No node of the cluster could be reached. Nothing is lost.")
