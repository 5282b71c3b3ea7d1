"""The cluster's single calls, typed: one method per request, each safe to repeat.

A register carries a request id, reads repeat by nature, a second log-in only opens a second session, and closing a
closed session is fine. What a repeated deletion means is sorted out in unregister().
"""

import asyncio
import platform
import secrets

from parley.errors import NotSignedInError, WrongPasswordError
from parley.model import ClusterStatus, Conversation, HistoryPage, NodeStatus
from parley.net.unary_caller import UnaryCaller
from parley.wire import convert
from parley.wire.endpoints import Endpoint, KnownEndpoints
from parley_proto.v1 import (
    accounts_pb2,
    accounts_pb2_grpc,
    admin_pb2,
    admin_pb2_grpc,
    messaging_pb2,
    messaging_pb2_grpc,
)

MAX_PAGE = 1000


class ClusterClient:
    """Requests to whichever node answers. Remembers the highest log index it got an answer from."""

    def __init__(self, caller: UnaryCaller, known_endpoints: KnownEndpoints, deadline_s: float) -> None:
        """`deadline_s` bounds each request over all its attempts."""
        self._caller = caller
        self._known_endpoints = known_endpoints
        self._deadline_s = deadline_s
        self.seen_index = 0

    async def cluster_id(self) -> str:
        """Which cluster the hosts belong to; needs no session."""
        answer = await self._caller.call(
            lambda channel: admin_pb2_grpc.AdminStub(channel).GetStatus(admin_pb2.GetStatusRequest()),
            deadline_s=self._deadline_s,
        )
        return answer.cluster_id

    async def register(self, name: str, password: str) -> None:
        """Creates an account, once however often the answer is lost."""
        request = accounts_pb2.RegisterRequest(name=name, password=password, request_id=secrets.token_bytes(16))
        answer = await self._caller.call(
            lambda channel: accounts_pb2_grpc.AccountsStub(channel).Register(request), deadline_s=self._deadline_s
        )
        self.saw(answer.applied_index)

    async def log_in(self, name: str, password: str, device_id: bytes, seen_index: int) -> accounts_pb2.LogInResponse:
        """Opens a session. Raises WrongPasswordError for a wrong name or password."""
        request = accounts_pb2.LogInRequest(
            name=name,
            password=password,
            device_id=device_id,
            device_label=platform.node()[:64],
            seen_index=max(seen_index, self.seen_index),
        )
        try:
            answer = await self._caller.call(
                lambda channel: accounts_pb2_grpc.AccountsStub(channel).LogIn(request),
                deadline_s=self._deadline_s,
                confirm_signed_out=False,
            )
        except NotSignedInError as error:
            raise WrongPasswordError(
                f"The cluster does not know {name} with this password. Nothing was changed. Check both and try again; "
                "new here? parley register."
            ) from error
        self.saw(answer.applied_index)
        return answer

    async def log_out(self, token: str) -> None:
        """Closes the session; one that is closed already is fine."""
        try:
            await self._caller.call(
                lambda channel: accounts_pb2_grpc.AccountsStub(channel).LogOut(
                    accounts_pb2.LogOutRequest(), metadata=bearer(token)
                ),
                deadline_s=self._deadline_s,
            )
        except NotSignedInError:
            return

    async def unregister(self, token: str, password: str) -> None:
        """Deletes the account of the session.

        A refusal after a lost answer may mean that the account is gone already: then its session is gone, too.
        """
        request = accounts_pb2.UnregisterRequest(password=password)
        try:
            await self._caller.call(
                lambda channel: accounts_pb2_grpc.AccountsStub(channel).Unregister(request, metadata=bearer(token)),
                deadline_s=self._deadline_s,
                confirm_signed_out=False,
            )
        except NotSignedInError as error:
            if not error.after_unknown or await self._session_lives(token):
                raise WrongPasswordError(
                    "The password is wrong, or the session has ended. The account was not deleted. Try again."
                ) from error

    async def _session_lives(self, token: str) -> bool:
        try:
            await self._accounts_page(token, "", 1, "", self.seen_index)
        except NotSignedInError:
            return False
        return True

    async def accounts(self, token: str, pattern: str, seen_index: int, limit: int) -> tuple[str, ...]:
        """Names of active accounts in order."""
        names: list[str] = []
        after = ""
        while len(names) < limit:
            page = await self._accounts_page(token, pattern, min(MAX_PAGE, limit - len(names)), after, seen_index)
            names.extend(info.name for info in page.accounts)
            after = page.next_after_name
            if not after:
                break
        return tuple(names)

    async def _accounts_page(
        self, token: str, pattern: str, page_size: int, after: str, seen_index: int
    ) -> accounts_pb2.ListAccountsResponse:
        request = accounts_pb2.ListAccountsRequest(
            pattern=pattern, page_size=page_size, after_name=after, seen_index=max(seen_index, self.seen_index)
        )
        answer = await self._caller.call(
            lambda channel: accounts_pb2_grpc.AccountsStub(channel).ListAccounts(request, metadata=bearer(token)),
            deadline_s=self._deadline_s,
        )
        self.saw(answer.applied_index)
        return answer

    async def conversations(self, token: str, own_id: int, seen_index: int, limit: int) -> tuple[Conversation, ...]:
        """The caller's conversations, the latest first."""
        found: list[Conversation] = []
        before = 0
        while len(found) < limit:
            page = await self._conversations_page(token, min(MAX_PAGE, limit - len(found)), before, seen_index)
            found.extend(convert.conversation(wire, own_id) for wire in page.conversations)
            before = page.next_before_message_id
            if not before:
                break
        return tuple(found)

    async def _conversations_page(
        self, token: str, page_size: int, before: int, seen_index: int
    ) -> messaging_pb2.ListConversationsResponse:
        request = messaging_pb2.ListConversationsRequest(
            page_size=page_size, before_message_id=before, seen_index=max(seen_index, self.seen_index)
        )
        answer = await self._caller.call(
            lambda channel: messaging_pb2_grpc.MessagingStub(channel).ListConversations(
                request, metadata=bearer(token)
            ),
            deadline_s=self._deadline_s,
        )
        self.saw(answer.applied_index)
        return answer

    async def history(
        self, token: str, own_id: int, device_id: bytes, seen_index: int, peer: str, before: int, limit: int
    ) -> HistoryPage:
        """One page of the conversation with `peer`, oldest first."""
        request = messaging_pb2.GetHistoryRequest(
            peer=peer, before_id=before, limit=limit, seen_index=max(seen_index, self.seen_index)
        )
        answer = await self._caller.call(
            lambda channel: messaging_pb2_grpc.MessagingStub(channel).GetHistory(request, metadata=bearer(token)),
            deadline_s=self._deadline_s,
        )
        self.saw(answer.applied_index)
        messages = tuple(convert.message(wire, own_id, device_id) for wire in answer.messages)
        return HistoryPage(messages, answer.more, answer.conversation_id)

    async def status(self) -> ClusterStatus:
        """Asks every known node about itself, all at once, and those they name besides."""
        endpoints = self._known_endpoints.all()
        answers = dict(zip(endpoints, await asyncio.gather(*map(self._caller.status_of, endpoints)), strict=True))
        members = {m.name: m.client_address for answer in answers.values() for m in answer.members if m.client_address}
        if self._known_endpoints.learn(members):
            more = [endpoint for endpoint in self._known_endpoints.all() if endpoint not in answers]
            answers.update(zip(more, await asyncio.gather(*map(self._caller.status_of, more)), strict=True))
        return ClusterStatus(_one_per_node(answers, self._known_endpoints))

    def saw(self, index: int) -> None:
        """An answer came from this log index."""
        self.seen_index = max(self.seen_index, index)


def _one_per_node(answers: dict[Endpoint, NodeStatus], known_endpoints: KnownEndpoints) -> tuple[NodeStatus, ...]:
    """A node may be known by several addresses; a silent address of a node that answered elsewhere is left out."""
    by_name: dict[str, NodeStatus] = {}
    for answer in answers.values():
        if answer.name:
            by_name.setdefault(answer.name, answer)
    silent = [
        a for endpoint, a in answers.items() if not a.name and known_endpoints.names.get(endpoint, "") not in by_name
    ]
    return (*sorted(by_name.values(), key=lambda answer: answer.name), *silent)


def bearer(token: str) -> tuple[tuple[str, str], ...]:
    """The metadata that carries a session token."""
    return (("authorization", f"Bearer {token}"),)
