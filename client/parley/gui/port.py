"""What the window needs of a client: the part of ParleyClient it uses, so that tests can script one."""

from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from parley import Account, Changes, ClientState, Conversation, HistoryPage, Message, Outgoing, Target
from parley.gui.commands import ClusterAddress


class Client(Protocol):
    """What is said of these methods in ParleyClient holds here."""

    @property
    def state(self) -> ClientState:
        """How things stand at this moment."""

    @property
    def signed_in_as(self) -> str:
        """The account in use, or nothing."""

    @property
    def me(self) -> Account | None:
        """The account in use, if it is known."""

    def account(self, account_id: int) -> Account | None:
        """What is known here of an account."""

    def conversation(self, conversation_id: int) -> Conversation | None:
        """What is known here of a conversation."""

    def watch(self) -> AsyncGenerator[Changes, None]:
        """What changes."""

    async def has_session(self) -> bool:
        """Whether a remembered session can be gone on with."""

    async def register(self, name: str, password: str) -> None:
        """Creates an account."""

    async def login(self, name: str, password: str) -> None:
        """Opens a session."""

    async def logout(self) -> int:
        """Closes it."""

    async def list_accounts(self, pattern: str = "", *, limit: int = ...) -> tuple[Account, ...]:
        """Active accounts."""

    async def send(self, target: str | Target, body: str) -> object:
        """Into the outbox."""

    async def edit(self, local_id: int, body: str) -> Outgoing:
        """Changes a waiting message."""

    async def cancel(self, local_id: int) -> Outgoing:
        """Withdraws one."""

    async def retry(self, local_id: int) -> object:
        """Sends a failed one again."""

    async def messages(self, *, include_own: bool = False) -> AsyncIterator[Message]:
        """New messages, each once."""

    async def outgoing(self, *, target: str | Target | None = None, limit: int = 200) -> tuple[Outgoing, ...]:
        """Own messages of this device."""

    async def conversations(self, *, limit: int = 1000) -> tuple[Conversation, ...]:
        """All conversations."""

    async def cached_conversations(self, *, limit: int = 1000) -> tuple[Conversation, ...]:
        """Those this device knows."""

    async def history(self, target: str | Target, *, before_id: int = 0, limit: int = 100) -> HistoryPage:
        """A page of one."""

    async def cached_history(self, target: str | Target, *, before_id: int = 0, limit: int = 100) -> HistoryPage:
        """A page this device knows."""

    async def mark_read(self, conversation_id: int, up_to: int) -> None:
        """The person has read this far."""

    async def save_draft(self, target: str | Target, body: str) -> None:
        """Keeps what is half typed."""

    async def draft(self, target: str | Target) -> str:
        """What was half typed."""


Connect = Callable[[ClusterAddress, str | None], AbstractAsyncContextManager[Client]]
"""Makes a client of the cluster at an address; with an account it goes on with that account's remembered session."""
