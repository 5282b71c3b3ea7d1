"""Proposals: what a leader appends to its log, and why it refuses (Raft §5.3, thesis §3.10).

Only a leader that is still a member accepts any, and none while it transfers leadership. The size of the accepted
entries that are not applied is bounded.
"""

from __future__ import annotations

from parleyd.raft import reconfigure, replication
from parleyd.raft.core import Core
from parleyd.raft.errors import PeerProtocolError
from parleyd.raft.membership import decode_conf_change
from parleyd.raft.messages import Message
from parleyd.raft.types import NO_INDEX, NO_NODE, EntryType, Index, Role
from parleyd.raft.update import Proposed, Refusal


def propose(core: Core, payloads: tuple[bytes, ...]) -> Proposed:
    """Append `payloads`, all or none."""
    refusal = _refusal(core)
    if refusal is None and payloads:
        if replication.append_entries(core, [(EntryType.NORMAL, payload) for payload in payloads]):
            replication.broadcast_append(core)
        else:
            refusal = Refusal.OVERLOADED
    return _answer(core, len(payloads), refusal)


def propose_conf_change(core: Core, data: bytes, kind: EntryType) -> Proposed:
    """Append a membership change; one that does not fit becomes an empty entry. ValueError: unreadable."""
    decode_conf_change(data)
    refusal = _refusal(core)
    if refusal is None:
        appended, taken = reconfigure.append_conf_change(core, data, kind)
        if appended:
            refusal = None if taken else Refusal.CONF_CHANGE_PENDING
            replication.broadcast_append(core)
        else:
            refusal = Refusal.OVERLOADED
    return _answer(core, 1, refusal)


def take_forwarded(core: Core, message: Message) -> None:
    """Append what another server forwards. A refusal sends no answer; the sender's timeout handles it."""
    if _refusal(core) is not None:
        return
    first = message.entries[0]
    if first.type is EntryType.NORMAL:
        replication.append_entries(core, [(entry.type, entry.data) for entry in message.entries])
    else:
        reconfigure.append_conf_change(core, first.data, first.type)
    replication.broadcast_append(core)


def check_forwarded(message: Message) -> None:
    """Refuse a forwarded proposal that no correct server sends, before anything is changed."""
    special = [entry for entry in message.entries if entry.type is not EntryType.NORMAL]
    if not message.entries or (special and len(message.entries) > 1):
        raise PeerProtocolError(f"node {message.sender} forwarded an empty proposal or a mixed one")
    for entry in special:
        try:
            decode_conf_change(entry.data)
        except ValueError as error:
            raise PeerProtocolError(f"node {message.sender} proposed an unreadable change: {error}") from error


def _refusal(core: Core) -> Refusal | None:
    if core.role is not Role.LEADER or core.id not in core.progress:
        return Refusal.NOT_LEADER
    return Refusal.TRANSFERRING if core.transferee != NO_NODE else None


def _answer(core: Core, count: int, refusal: Refusal | None) -> Proposed:
    first = Index(core.log.last_index - count + 1) if refusal is None else NO_INDEX
    return Proposed(first_index=first, term=core.current_term, count=count, refusal=refusal)
