"""The cluster's single calls, typed: one method per request, each safe to repeat.

Registering carries a request id, reads repeat by nature, a second log-in only opens a second session, and closing a
closed session is fine. What a repeated deletion means is sorted out in delete_account(). channel_calls.py has the calls
about channels.
"""

import asyncio
import platform
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import grpc

from parley.cluster_model import ClusterPing, ClusterStatus, NodeStatus
from parley.device.identity import DeviceIdentity
from parley.errors import NotSignedInError, RefusedError, WrongPasswordError
from parley.model import Account, Conversation, HistoryPage, HistoryStart, Member, Message, Target
from parley.net.channel_calls import ChannelCalls
from parley.net.ping_calls import ping_nodes
from parley.net.presence_calls import PresenceCalls
from parley.net.receipt_calls import ReceiptCalls
from parley.net.unary_caller import UnaryCaller, bearer, new_request_id
from parley.wire import convert
from parley.wire.endpoints import Endpoint, KnownEndpoints
from parley.wire.position import Position, merge
from parley.wire.requests import build
from parley_proto.v1 import accounts_pb2, admin_pb2, conversations_pb2, model_pb2
from parley_proto.v1.accounts_pb2_grpc import AccountsStub
from parley_proto.v1.admin_pb2_grpc import AdminStub
from parley_proto.v1.conversations_pb2_grpc import ConversationsStub

MAX_PAGE = 1000
FORWARDED_FOR = "x-forwarded-for"

T = TypeVar("T")
Invoke = Callable[[grpc.aio.Channel], Awaitable[T]]


@dataclass(frozen=True, slots=True)
class SignedIn:
    """The answer to a log-in. `token` is a secret."""

    token: str
    account: Account
    position: Position
    device_epoch: int = 0
    max_message_bytes: int = 0

    def __repr__(self) -> str:
        return f"SignedIn(account {self.account.id}, token hidden)"


class ClusterClient:
    """Requests to whichever node answers. Remembers the position it got answers from."""

    def __init__(
        self,
        caller: UnaryCaller,
        known_endpoints: KnownEndpoints,
        deadline_s: float,
        on_position: Callable[[Position], None],
        on_behalf_of: str = "",
    ) -> None:
        """`deadline_s` bounds each request over all its attempts. `on_position` gets the position of each answer.

        `on_behalf_of` is the address of the person for whom a gateway calls.
        """
        self._origin: tuple[tuple[str, str], ...] = ()
        self.speak_for(on_behalf_of)
        self._on_position = on_position
        self._caller = caller
        self._known_endpoints = known_endpoints
        self._deadline_s = deadline_s
        self._position = Position()
        self.channels = ChannelCalls(self)
        self.presence = PresenceCalls(self)
        self.receipts = ReceiptCalls(self)

    def forget_position(self) -> None:
        """Forget what was seen, because the cluster's data is older now."""
        self._position = Position()

    @property
    def generation(self) -> int:
        """Return the highest generation of the cluster that an answer told."""
        return self._position.generation

    # ---- accounts

    async def cluster_id(self) -> str:
        """Return the id of the cluster of the hosts. This needs no session."""
        answer = await self._read(lambda channel: AdminStub(channel).GetStatus(admin_pb2.GetStatusRequest()))
        return answer.cluster_id

    async def register(self, name: str, password: str, code: str) -> None:
        """Create an account, once however often the answer is lost."""
        request = build(
            accounts_pb2.RegisterRequest, name=name, password=password, request_id=new_request_id(), code=code
        )
        answer = await self.call(lambda channel: AccountsStub(channel).Register(request, metadata=self._origin))
        self.saw(answer.position)

    async def log_in(
        self,
        name: str,
        password: str,
        device_id: bytes,
        used_number: int,
        seen: Position,
        *,
        end_oldest_device: bool,
    ) -> SignedIn | None:
        """Open a session. Raises WrongPasswordError for a wrong name or password, and TooManyDevicesError.

        `used_number` is the device's highest send number. Return None if the cluster has forgotten such a device: it
        needs a new id.
        """
        request = build(
            accounts_pb2.LogInRequest,
            name=name,
            password=password,
            device_id=device_id,
            device_label=platform.node()[:64],
            seen=self.seen(seen),
            used_send_number=used_number,
            end_oldest_device=end_oldest_device,
        )
        try:
            answer = await self.call(
                lambda channel: AccountsStub(channel).LogIn(request, metadata=self._origin),
                confirm_signed_out=False,
                repeatable=True,
            )
        except NotSignedInError as error:
            raise WrongPasswordError(
                f"The cluster does not know {name} with this password. Nothing was changed. Check both and try again; "
                "new here? parley register."
            ) from error
        self.saw(answer.position)
        if answer.device_forgotten:
            return None
        return SignedIn(
            answer.token,
            convert.account(answer.account),
            Position.from_wire(answer.position),
            answer.device_epoch,
            answer.max_message_bytes,
        )

    async def log_out(self, token: str) -> None:
        """Close the session, if it is open."""
        request = accounts_pb2.LogOutRequest()
        try:
            await self.call(
                lambda channel: AccountsStub(channel).LogOut(request, metadata=bearer(token)), repeatable=True
            )
        except NotSignedInError:
            return

    async def delete_account(self, token: str, password: str) -> None:
        """Delete the account of the session.

        A refusal after a lost answer may mean that the account is gone already: then its session is gone, too.
        """
        request = build(accounts_pb2.DeleteAccountRequest, password=password)
        try:
            await self.call(
                lambda channel: AccountsStub(channel).DeleteAccount(request, metadata=bearer(token)),
                confirm_signed_out=False,
            )
        except NotSignedInError as error:
            if not error.after_unknown or await self._session_lives(token):
                raise WrongPasswordError(
                    "The password is wrong, or the session has ended. The account was not deleted. Try again."
                ) from error

    async def _session_lives(self, token: str) -> bool:
        try:
            await self.accounts(token, "", Position(), 1)
        except NotSignedInError:
            return False
        return True

    async def accounts(self, token: str, pattern: str, seen: Position, limit: int) -> tuple[Account, ...]:
        """Return active accounts in order of their names."""
        found: list[Account] = []
        after = ""
        while len(found) < limit:
            request = build(
                accounts_pb2.ListAccountsRequest,
                pattern=pattern,
                page_size=min(MAX_PAGE, limit - len(found)),
                after_name=after,
                seen=self.seen(seen),
            )
            page = await self._read(_list_accounts(request, token))
            self.saw(page.position)
            found.extend(convert.listed_accounts(page))
            after = page.next_after_name
            if not after:
                break
        return tuple(found)

    # ---- conversations

    async def conversations(
        self, token: str, who: DeviceIdentity, seen: Position, limit: int
    ) -> tuple[tuple[Conversation, ...], tuple[Account, ...]]:
        """Return the caller's conversations, the latest first, and the accounts they name."""
        found: list[Conversation] = []
        accounts: list[Account] = []
        page_token = b""
        while len(found) < limit:
            request = build(
                conversations_pb2.ListConversationsRequest,
                page_size=min(MAX_PAGE, limit - len(found)),
                page_token=page_token,
                seen=self.seen(seen),
            )
            page = await self._read(_list_conversations(request, token))
            self.saw(page.position)
            found.extend(convert.summary(wire, who.account_id, who.device_id) for wire in page.conversations)
            accounts.extend(convert.accounts(page.accounts))
            page_token = page.next_page_token
            if not page_token:
                break
        return tuple(found), tuple(accounts)

    async def history(
        self, token: str, who: DeviceIdentity, seen: Position, target: Target, start: HistoryStart, limit: int
    ) -> tuple[HistoryPage, tuple[Account, ...]]:
        """Return up to `limit` messages of a conversation, oldest first, and the accounts they name.

        A node bounds its pages in bytes, so long messages take several calls. A page around a message takes one, and
        may be shorter. Raises RefusedError where there is no account of the name that is asked about.
        """
        messages: list[Message] = []
        accounts: dict[int, Account] = {}
        is_forward, is_around = start.after_id is not None, start.around_id is not None or start.first_unread
        has_older = has_newer = True
        while True:
            request = convert.history_request(target, start, limit - len(messages))
            request.seen.CopyFrom(self.seen(seen))
            answer = await self._read(_get_history(request, token))
            self.saw(answer.position)
            found = [convert.message(wire, who.account_id, who.device_id) for wire in answer.messages]
            has_older = answer.has_older if not (messages and is_forward) else has_older
            has_newer = answer.has_newer if not messages or is_forward else has_newer
            messages = messages + found if is_forward else found + messages
            accounts.update((account.id, account) for account in convert.accounts(answer.accounts))
            goes_on = has_newer if is_forward else has_older
            if is_around or not goes_on or not found or len(messages) >= limit:
                break
            start = HistoryStart(after_id=found[-1].id) if is_forward else HistoryStart(before_id=found[0].id)
        conversation = convert.conversation(answer.conversation) if answer.conversation.id else None
        named = tuple(accounts.values())
        if target.account and conversation is None and not _names(named, target.account):
            raise RefusedError(f"There is no account {target.account}. Nothing was changed. Check the name.")
        page = HistoryPage(tuple(messages), has_older, conversation, has_newer=has_newer, read_up_to=answer.read_up_to)
        return page, named

    def speak_for(self, address: str) -> None:
        """Make the next log-ins for the person at this address; empty: for the caller's own."""
        self._origin = ((FORWARDED_FOR, address),) if address else ()

    async def members(
        self, token: str, seen: Position, conversation_id: int
    ) -> tuple[tuple[Member, ...], tuple[Account, ...]]:
        """Return all members of a conversation by account id, and their accounts."""
        found: list[Member] = []
        accounts: list[Account] = []
        after = 0
        while True:
            request = build(
                conversations_pb2.ListMembersRequest,
                conversation_id=conversation_id,
                after_account_id=after,
                page_size=MAX_PAGE,
                seen=self.seen(seen),
            )
            page = await self._read(_list_members(request, token))
            self.saw(page.position)
            found.extend(map(convert.member, page.members))
            accounts.extend(convert.accounts(page.accounts))
            after = page.next_after_account_id
            if not after:
                return tuple(found), tuple(accounts)

    async def set_display_name(self, token: str, display_name: str) -> None:
        """Set the name that is shown beside the caller's account name; an empty one takes it away."""
        request = build(accounts_pb2.SetDisplayNameRequest, display_name=display_name)
        answer = await self.call(
            lambda channel: AccountsStub(channel).SetDisplayName(request, metadata=bearer(token)), repeatable=True
        )
        self.saw(answer.position)

    async def status(self, token: str = "") -> ClusterStatus:
        """Ask every known node about itself, all at once, and those they name besides.

        Without the token of a session, nodes tell only what a client needs to find the leader.
        """
        ask = partial(self._caller.status_of, token=token)
        endpoints = self._known_endpoints.all()
        answers = dict(zip(endpoints, await asyncio.gather(*map(ask, endpoints)), strict=True))
        members = {m.name: m.client_address for answer in answers.values() for m in answer.members if m.client_address}
        if self._known_endpoints.learn(members):
            more = [endpoint for endpoint in self._known_endpoints.all() if endpoint not in answers]
            answers.update(zip(more, await asyncio.gather(*map(ask, more)), strict=True))
        found = _one_per_node(answers, self._known_endpoints)
        elsewhere = _elsewhere(found, self._known_endpoints)
        return ClusterStatus(tuple(one for one in found if one not in elsewhere), elsewhere)

    async def ping(self, count: int, token: str = "") -> ClusterPing:
        """Measure `count` round trips to every node of status()."""
        return await ping_nodes(self._caller, await self.status(token), count, token)

    # ---- for the calls about channels, too

    async def call(
        self,
        invoke: Invoke[T],
        *,
        confirm_signed_out: bool = True,
        changes: bool = True,
        repeatable: bool = False,
        answer_s: float = 0.0,
    ) -> T:
        """Send one request and return its answer. UnaryCaller.call() documents the flags."""
        return await self._caller.call(
            invoke,
            deadline_s=self._deadline_s,
            confirm_signed_out=confirm_signed_out,
            changes=changes,
            repeatable=repeatable,
            answer_s=answer_s,
        )

    def seen(self, seen: Position) -> model_pb2.Position:
        """Return the position that an answer must have reached: `seen`, or what this client has seen."""
        return merge(seen, self._position).to_wire()

    def saw(self, position: model_pb2.Position) -> None:
        """Record the position of an answer."""
        seen = Position.from_wire(position)
        self._position = merge(self._position, seen)
        self._on_position(seen)

    async def _read(self, invoke: Invoke[T]) -> T:
        return await self.call(invoke, changes=False)


def _list_accounts(request: accounts_pb2.ListAccountsRequest, token: str) -> Invoke[accounts_pb2.ListAccountsResponse]:
    return lambda channel: AccountsStub(channel).ListAccounts(request, metadata=bearer(token))


def _list_conversations(
    request: conversations_pb2.ListConversationsRequest, token: str
) -> Invoke[conversations_pb2.ListConversationsResponse]:
    return lambda channel: ConversationsStub(channel).ListConversations(request, metadata=bearer(token))


def _get_history(
    request: conversations_pb2.GetHistoryRequest, token: str
) -> Invoke[conversations_pb2.GetHistoryResponse]:
    return lambda channel: ConversationsStub(channel).GetHistory(request, metadata=bearer(token))


def _list_members(
    request: conversations_pb2.ListMembersRequest, token: str
) -> Invoke[conversations_pb2.ListMembersResponse]:
    return lambda channel: ConversationsStub(channel).ListMembers(request, metadata=bearer(token))


def _names(accounts: Sequence[Account], name: str) -> bool:
    return any(account.name.lower() == name.lower() for account in accounts)


def _one_per_node(answers: dict[Endpoint, NodeStatus], known_endpoints: KnownEndpoints) -> tuple[NodeStatus, ...]:
    """Return one status per node. Leave out silent addresses of nodes that answered at another address."""
    by_name: dict[str, NodeStatus] = {}
    for answer in answers.values():
        if answer.name:
            by_name.setdefault(answer.name, answer)
    silent = [
        a for endpoint, a in answers.items() if not a.name and known_endpoints.names.get(endpoint, "") not in by_name
    ]
    return (*sorted(by_name.values(), key=lambda answer: answer.name), *silent)


def _elsewhere(found: Sequence[NodeStatus], known_endpoints: KnownEndpoints) -> tuple[NodeStatus, ...]:
    """Return what does not answer and has the address of no member. Nothing while an address of a member is unknown."""
    members = {member.name for one in found for member in one.members}
    if not members or not members <= known_endpoints.learned.keys():
        return ()
    addresses = {str(endpoint) for endpoint in known_endpoints.learned.values()}
    return tuple(one for one in found if one.error and not one.tls_trouble and one.address not in addresses)
