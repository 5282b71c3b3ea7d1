"""What ids mean, by names: the accounts and conversations of one life of the cluster. Runs on the store's thread."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import apsw

from parley.device import directory
from parley.device.schema import fetch
from parley.model import EVERYONE, Account, Conversation, ConversationKind, Target


@dataclass(frozen=True, slots=True)
class Identity:
    """What stays the same of a conversation if its id comes again: its kind, and the other account or the title."""

    kind: ConversationKind
    name: str


class Directory:
    """Names by id, as one life of the cluster told them."""

    def __init__(self, names: Mapping[int, str], conversations: Mapping[int, Identity], own_id: int) -> None:
        self._names = names
        self._conversations = conversations
        self._direct = {one.name: id_ for id_, one in conversations.items() if one.kind is ConversationKind.DIRECT}
        self.own_id = own_id

    @classmethod
    def stored(cls, connection: apsw.Connection) -> "Directory":
        """Return the directory of the file. The account may have another id by now, so peers are those of then."""
        names = {account.id: account.name for account in directory.accounts(connection) if not account.deleted}
        identities = {}
        for id_, number, title, peer_id in fetch(connection, "id, kind, title, peer_id", "FROM conversations"):
            kind = ConversationKind(number)
            identities[id_] = Identity(kind, names.get(peer_id, "") if kind is ConversationKind.DIRECT else title)
        return cls(names, identities, directory.own_id(connection))

    @classmethod
    def of(cls, accounts: Iterable[Account], conversations: Iterable[Conversation], own_id: int) -> "Directory":
        """Return the directory of these records."""
        names = {account.id: account.name for account in accounts if not account.deleted}
        identities = {}
        for one in conversations:
            peer = names.get(directory.peer_of(one, own_id), "")
            identities[one.id] = Identity(one.kind, peer if one.kind is ConversationKind.DIRECT else one.title)
        return cls(names, identities, own_id)

    def name(self, account_id: int) -> str:
        """Return the name of an account, empty if it is not known or deleted."""
        return self._names.get(account_id, "")

    def identity(self, conversation_id: int) -> Identity | None:
        """Return what a conversation is, None if it is not known or nothing distinguishes it."""
        if conversation_id == EVERYONE.conversation_id:
            return Identity(ConversationKind.EVERYONE, "")
        found = self._conversations.get(conversation_id)
        return found if found is not None and found.name else None

    def peer(self, conversation_id: int) -> str:
        """Return the name of the other account of a direct conversation, empty for others."""
        found = self._conversations.get(conversation_id)
        return found.name if found is not None and found.kind is ConversationKind.DIRECT else ""

    def direct_with(self, name: str) -> int:
        """Return the direct conversation with an account, 0 if there is none."""
        return self._direct.get(name, 0) if name else 0

    def title(self, conversation_id: int) -> str:
        """Return the name of a conversation for people."""
        if conversation_id == EVERYONE.conversation_id:
            return "everyone"
        found = self._conversations.get(conversation_id)
        return found.name if found is not None and found.name else f"conversation {conversation_id}"

    def title_of(self, target: Target) -> str:
        """Return the name of the conversation of a target for people."""
        if target.conversation_id:
            return self.title(target.conversation_id)
        return target.account or self.name(target.account_id) or str(target)
