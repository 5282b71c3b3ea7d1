"""What our core is and says, in the reference's words, so that both can be compared."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from parleyd.raft.events import Persisted
from parleyd.raft.membership import ConfChange, ConfChangeType, Transition, decode_conf_change
from parleyd.raft.messages import Message, MessageType
from parleyd.raft.progress import ProgressState
from parleyd.raft.raft import Raft
from parleyd.raft.types import ConfState, Entry, EntryType, NodeId, Role

MESSAGE_NAMES = {
    MessageType.VOTE: "MsgVote",
    MessageType.VOTE_RESPONSE: "MsgVoteResp",
    MessageType.PRE_VOTE: "MsgPreVote",
    MessageType.PRE_VOTE_RESPONSE: "MsgPreVoteResp",
    MessageType.APPEND: "MsgApp",
    MessageType.APPEND_RESPONSE: "MsgAppResp",
    MessageType.SNAPSHOT: "MsgSnap",
    MessageType.HEARTBEAT: "MsgHeartbeat",
    MessageType.HEARTBEAT_RESPONSE: "MsgHeartbeatResp",
    MessageType.TIMEOUT_NOW: "MsgTimeoutNow",
    MessageType.READ_INDEX: "MsgReadIndex",
    MessageType.READ_INDEX_RESPONSE: "MsgReadIndexResp",
    MessageType.TRANSFER_LEADER: "MsgTransferLeader",
    MessageType.PROPOSE: "MsgProp",
}
ROLE_NAMES = {
    Role.FOLLOWER: "StateFollower",
    Role.PRE_CANDIDATE: "StatePreCandidate",
    Role.CANDIDATE: "StateCandidate",
    Role.LEADER: "StateLeader",
}
PROGRESS_NAMES = {
    ProgressState.PROBE: "StateProbe",
    ProgressState.REPLICATE: "StateReplicate",
    ProgressState.SNAPSHOT: "StateSnapshot",
}
ENTRY_NAMES = {
    EntryType.NORMAL: "EntryNormal",
    EntryType.CONF_CHANGE: "EntryConfChange",
    EntryType.CONF_CHANGE_V2: "EntryConfChangeV2",
}
CHANGE_LETTERS = {
    ConfChangeType.ADD_VOTER: "v",
    ConfChangeType.REMOVE_NODE: "r",
    ConfChangeType.UPDATE_NODE: "u",
    ConfChangeType.ADD_LEARNER: "l",
}


def changes_text(change: ConfChange) -> str:
    """A change in the reference's short hand."""
    return " ".join(f"{CHANGE_LETTERS[single.type]}{single.node}" for single in change.changes)


def entry_text(entry: Entry) -> str:
    """An entry, as in a message."""
    head = f"{entry.term}/{entry.index} {ENTRY_NAMES[entry.type]}"
    if entry.type is EntryType.NORMAL:
        quoted = entry.data.decode().replace("\\", "\\\\").replace('"', '\\"')
        return f'{head} "{quoted}"'
    return f"{head} {changes_text(decode_conf_change(entry.data))}".rstrip()


def _entries_text(entries: tuple[Entry, ...]) -> str:
    return f" Entries:[{', '.join(entry_text(entry) for entry in entries)}]" if entries else ""


def message_text(message: Message) -> str:
    """A message, as on the reference's wire."""
    text = (
        f"{message.sender}->{message.to} {MESSAGE_NAMES[message.type]} Term:{message.term} "
        f"Log:{message.log_term}/{message.index}"
    )
    if message.reject:
        text += f" Rejected (Hint: {message.reject_hint})"
    if message.commit:
        text += f" Commit:{message.commit}"
    text += _entries_text(message.entries)
    if message.snapshot is not None:
        conf = message.snapshot.conf_state
        text += (
            f"\n  Snapshot: Index:{message.snapshot.index} Term:{message.snapshot.term} "
            f"ConfState:Voters:[{_spaced(conf.voters)}] VotersOutgoing:[{_spaced(conf.voters_outgoing)}] "
            f"Learners:[{_spaced(conf.learners)}] LearnersNext:[{_spaced(conf.learners_next)}] "
            f"AutoLeave:{str(conf.auto_leave).lower()}"
        )
    return text


def persisted_texts(node: int, done: Persisted) -> Iterator[str]:
    """What storage tells a node, as the reference's messages to itself."""
    for message in done.messages:
        yield message_text(message)
    if done.last_index or done.snapshot_index:
        yield (
            f"AppendThread->{node} MsgStorageAppendResp Term:{done.term} Log:{done.last_term}/{done.last_index}"
            + (f" Snapshot:{done.snapshot_index}" if done.snapshot_index else "")
        )


def applied_text(node: int, entries: tuple[Entry, ...]) -> str:
    """What the state machine tells a node."""
    return f"ApplyThread->{node} MsgStorageApplyResp Term:0 Log:0/0{_entries_text(entries)}"


def _spaced(nodes: tuple[NodeId, ...]) -> str:
    return " ".join(str(node) for node in nodes)


def config_text(conf: ConfState) -> str:
    """A membership, as the reference prints it."""
    text = f"voters=({_spaced(conf.voters)})"
    if conf.voters_outgoing:
        text += f"&&({_spaced(conf.voters_outgoing)})"
    if conf.learners:
        text += f" learners=({_spaced(conf.learners)})"
    if conf.learners_next:
        text += f" learners_next=({_spaced(conf.learners_next)})"
    return text + (" autoleave" if conf.auto_leave else "")


def node_state(raft: Raft, start: int, entries: list[Entry]) -> dict[str, Any]:
    """Everything the oracle knows about a node, read from ours; the log is the one in storage, after `start`."""
    status = raft.status()
    return {
        "id": status.id,
        "term": status.term,
        "vote": status.voted_for,
        "commit": status.commit_index,
        "applied": status.applied_index,
        "role": ROLE_NAMES[status.role],
        "lead": status.leader,
        "transferee": status.transferee,
        "config": config_text(status.conf_state).removesuffix(" autoleave"),  # the oracle does not show it
        "first": start + 1,
        "log": [[entry.term, ENTRY_NAMES[entry.type], _data(entry)] for entry in entries],
        "progress": {
            str(node): {
                "match": known.match_index,
                "next": known.next_index,
                "state": PROGRESS_NAMES[known.state],
                "inflight": known.inflight,
                "paused": known.paused,
                "pendingSnap": known.pending_snapshot,
                "learner": known.is_learner,
            }
            for node, known in status.progress.items()
        },
    }


def _data(entry: Entry) -> str:
    if entry.type is EntryType.NORMAL:
        return entry.data.decode()
    change = decode_conf_change(entry.data)
    transition = "" if entry.type is EntryType.CONF_CHANGE else f"{change.transition.name} "
    return f"{transition}{changes_text(change)}".strip()


def reference_change_text(kind: str, data: str) -> str:
    """A membership entry of the oracle (protobuf fields of one-byte values) in the same words as ours."""
    raw = data.encode("latin-1")
    if kind == "EntryConfChange":
        fields = _fields(raw)
        return f"{CHANGE_LETTERS[ConfChangeType(fields.get(2, 0))]}{fields[3]}"
    transition, changes = Transition.AUTO, []
    position = 0
    while position < len(raw):
        if raw[position] == 0x12:
            length = raw[position + 1]
            fields = _fields(raw[position + 2 : position + 2 + length])
            changes.append(f"{CHANGE_LETTERS[ConfChangeType(fields.get(1, 0))]}{fields[2]}")
            position += 2 + length
        else:
            transition = Transition(raw[position + 1])
            position += 2
    return f"{transition.name} {' '.join(changes)}".strip()


def _fields(raw: bytes) -> dict[int, int]:
    return {raw[position] >> 3: raw[position + 1] for position in range(0, len(raw), 2)}
