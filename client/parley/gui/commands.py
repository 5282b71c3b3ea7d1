"""What a person can ask for. The window knows only this; the bridge carries it out, tests and pictures script it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from parley import Target


@dataclass(frozen=True, slots=True)
class ClusterAddress:
    """Where a cluster is, and how to talk to it."""

    hosts: str = ""
    ca: Path | None = None
    insecure: bool = False


class Commands(Protocol):
    """Every method returns at once; what comes of it arrives as events."""

    def resume(self, address: ClusterAddress, account: str) -> None:
        """Goes on with the remembered session of an account."""

    def sign_in(self, address: ClusterAddress, account: str, password: str, *, register: bool) -> None:
        """Opens a session, after creating the account where that is asked for."""

    def sign_out(self) -> None:
        """Closes the session; waiting messages are kept."""

    def open_conversation(self, target: Target) -> None:
        """Brings the end of a conversation, its own messages and its draft."""

    def load_history(self, target: Target, before_id: int) -> None:
        """Brings the page before a message id; 0 is the end."""

    def send(self, target: Target, body: str) -> None:
        """Puts a message into the outbox."""

    def edit(self, local_id: int, body: str, target: Target) -> None:
        """Changes a waiting message."""

    def cancel(self, local_id: int) -> None:
        """Withdraws a waiting message or puts a failed one out of sight."""

    def retry(self, local_id: int) -> None:
        """Sends a failed message again."""

    def save_draft(self, target: Target, body: str) -> None:
        """Keeps what is half typed."""

    def mark_read(self, conversation_id: int, up_to: int) -> None:
        """The person has seen everything up to a message."""

    def find_accounts(self, prefix: str) -> None:
        """Looks for account names."""
