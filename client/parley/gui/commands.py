"""The commands that a person can give. The bridge carries them out. Tests and screenshots script them."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from parley import Target


@dataclass(frozen=True, slots=True)
class ClusterAddress:
    """The address of a cluster, and how to connect to it."""

    hosts: str = ""
    ca: Path | None = None
    insecure: bool = False
    insecure_network: bool = False  # asked for now, so it counts for other machines, too


@dataclass(frozen=True, slots=True)
class SignInForm:
    """What a person entered to sign in.

    With `register` the account is created first, with the code of an `invitation` if the cluster asks for one. With
    `end_oldest`, the device that logged in longest ago is signed out if the account has none to spare.
    """

    address: ClusterAddress
    account: str
    password: str = field(repr=False)
    register: bool = False
    end_oldest: bool = False
    invitation: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class Invited:
    """What an invitation fills in. `about` and the CA's `fingerprints` have to be seen before a password is typed.

    `keep` stores the cluster under its name, with the account. It raises ParleyError.
    """

    account: str
    code: str = field(repr=False)
    about: str
    fingerprints: tuple[str, ...]
    keep: Callable[[str], None]


class Commands(Protocol):
    """The commands of the window. Every method returns at once. Results arrive as events."""

    def resume(self, address: ClusterAddress, account: str) -> None:
        """Resume the stored session of an account."""

    def sign_in(self, form: SignInForm) -> None:
        """Open a session, after creating the account if the form says so."""

    def cancel_sign_in(self) -> None:
        """End the attempt to sign in or to resume a session, wherever it waits."""

    def sign_out(self) -> None:
        """Close the session. Waiting messages are kept."""

    def unlock(self, password: str) -> None:
        """Let the cluster check the password of the account in use."""

    def change_account(self) -> None:
        """Leave the account without closing its session. Waiting messages are kept."""

    def leave_nothing(self) -> None:
        """Close the session, and remove everything of the account from this machine."""

    def open_conversation(self, target: Target) -> None:
        """Load the end of a conversation, its own messages and its draft."""

    def load_history(self, target: Target, before_id: int, *, kept: bool = False) -> None:
        """Load the page before a message id. 0 means the end. With `kept`, read what this device has."""

    def send(self, target: Target, body: str, *, urgent: bool = False) -> None:
        """Put a message into the outbox."""

    def edit(self, local_id: int, body: str, target: Target) -> None:
        """Change a waiting message."""

    def cancel(self, local_id: int) -> None:
        """Withdraw a waiting message or remove a failed one."""

    def retry(self, local_id: int) -> None:
        """Send a failed message again."""

    def resend_lost(self, ids: list[int]) -> None:
        """Send messages again that the cluster does not have any more, and list the others."""

    def discard_lost(self, ids: list[int]) -> None:
        """Remove messages that the cluster does not have any more, and list the others."""

    def load_draft(self, target: Target) -> None:
        """Load the stored draft of a conversation, which another window may have changed."""

    def save_draft(self, target: Target, body: str) -> None:
        """Store a draft."""

    def mark_read(self, conversation_id: int, up_to: int) -> None:
        """Record that the person has read everything up to a message."""

    def change_password(self, old: str, new: str) -> None:
        """Change the password and sign out the other devices."""

    def list_devices(self) -> None:
        """List the devices of the account."""

    def sign_out_device(self, device_id: str) -> None:
        """Sign out a device of the account, and list all again."""

    def sign_out_other_devices(self) -> None:
        """Sign out all other devices of the account, and list all again."""

    def ask_display_name(self) -> None:
        """Ask for the display name of the account."""

    def set_display_name(self, name: str) -> None:
        """Change the display name of the account. An empty one removes it."""

    def ask_rights(self) -> None:
        """Ask whether the account is an administrator."""

    def ask_cluster(self) -> None:
        """Ask all nodes for their status."""

    def transfer_leadership(self, name: str) -> None:
        """Make a node the leader."""

    def list_channels(self) -> None:
        """List the channels that the account may see."""

    def join_channel(self, conversation_id: int) -> None:
        """Become a member of a channel."""

    def list_members(self, conversation_id: int) -> None:
        """List the members of a channel."""

    def leave_channel(self, conversation_id: int) -> None:
        """Leave a channel."""

    def add_member(self, conversation_id: int, name: str) -> None:
        """Add an account to a channel."""

    def set_suspended(self, name: str, reason: str, *, suspended: bool) -> None:
        """Suspend an account, or release it."""

    def invite(self, name: str) -> None:
        """Make an invitation for a new person."""

    def withdraw_invitation(self, invitation_id: str, name: str) -> None:
        """Take back the invitation that was made for a person."""

    def mute(self, target: Target, *, muted: bool) -> None:
        """Mute a conversation, or end that."""

    def put_away(self, target: Target, up_to: int) -> None:
        """Put a conversation away up to a message."""

    def bring_back(self, target: Target) -> None:
        """Bring a conversation that was put away back into the list."""

    def remove_conversation(self, target: Target, up_to: int) -> None:
        """Remove a conversation up to a message."""

    def ask_receipts(self, conversation_id: int, message_id: int) -> None:
        """Ask who has an own message, and which nodes have it on disk."""

    def say_typing(self, conversation_id: int) -> None:
        """Tell the others in a conversation that the person types."""

    def ask_presence(self, account_id: int) -> None:
        """Ask whether an account is there."""

    def connect_now(self) -> None:
        """Connect anew, because the machine has slept."""

    def ask_hidden(self) -> None:
        """Ask whether the account is hidden from others."""

    def set_hidden(self, hidden: bool) -> None:
        """Hide the account from others, or show it again."""

    def find_accounts(self, prefix: str) -> None:
        """Search for account names."""
