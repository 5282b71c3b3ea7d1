"""The status of the cluster for a terminal: a table of the nodes, level, divergences, full disks, a verdict."""

import time

from parley import ClusterMember, ClusterPing, ClusterStatus, GenerationKind, NodeStatus
from parley.chat import plural
from parley.terminal import text

DAY_S = 86_400
WARN_BEFORE_S = 30 * DAY_S
COLUMNS = ("NODE", "ADDRESS", "ROLE", "TERM", "COMMIT", "APPLIED", "CLIENTS", "MSG/S", "LEVELS", "SERVING")

NO_TLS = "There is no TLS connection to any node, so it is not known whether the cluster serves. See the reason above."
SIGN_IN = "Sign in to see terms, indices, levels and clients: nodes show them to accounts only."


def cluster_lines(status: ClusterStatus) -> list[str]:
    """Return the lines of `parley cluster status`. The column LEVELS holds the levels that a node's release supports.

    For a node that does not answer, the levels are those it published last, as another node reports them.
    """
    rows = [COLUMNS, *(_row(node, status) for node in status.nodes)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(COLUMNS) - 1)]
    lines = ["  ".join([*(cell.ljust(w) for cell, w in zip(row, widths, strict=False)), row[-1]]) for row in rows]
    hints = [SIGN_IN] if any(node.name and not node.version for node in status.nodes) else []
    troubles = [
        *divergence_lines(status),
        *disk_lines(status),
        *snapshot_lines(status),
        *clock_lines(status),
        *certificate_lines(status, time.time()),
    ]
    said = [*level_lines(status), *generation_lines(status), *troubles, *hints, *elsewhere_lines(status)]
    return text.safe_lines((*lines, "", *said, verdict(status)))


def _row(node: NodeStatus, status: ClusterStatus) -> tuple[str, ...]:
    if node.error:
        levels = _published_levels(node.address, status)
        return ("?", node.address, "down", "", "", "", "", "", levels, f"no: {node.error}")
    numbers = (node.term, node.commit_index, node.applied_index, node.connected_clients)
    is_whole = bool(node.version)  # to strangers a node tells only its role
    return (
        node.name,
        node.address,
        _role(node),
        *(str(number) if is_whole else "" for number in numbers),
        f"{node.messages_per_second:.0f}" if is_whole else "",
        _range(node),
        "yes" if node.serving else "no",
    )


def _role(node: NodeStatus) -> str:
    """Return the Raft role, "learner" for a member without a vote, and "no member" for a removed node."""
    own = next((member for member in node.members if member.name == node.name), None)
    if own is None:
        return "no member" if node.members else node.role
    return node.role if own.voter else "learner"


def _range(source: NodeStatus | ClusterMember) -> str:
    """Return the supported levels as text, empty where they are not known."""
    if not source.max_level:
        return ""
    return str(source.max_level) if source.min_level == source.max_level else f"{source.min_level}-{source.max_level}"


def _published_levels(address: str, status: ClusterStatus) -> str:
    members = (member for node in status.nodes for member in node.members)
    return next((_range(member) for member in members if member.client_address == address), "")


def level_lines(status: ClusterStatus) -> list[str]:
    """Return a sentence about the level of the cluster and one for each node that has not reached it."""
    answered = [node for node in status.nodes if node.level]
    if not answered:
        return []
    level = max(node.level for node in answered)
    behind = [node for node in answered if node.level < level]
    return [
        f"The level of the cluster is {level}.",
        *(f"{node.name} is still at level {node.level}." for node in behind),
    ]


def generation_lines(status: ClusterStatus) -> list[str]:
    """Return a sentence about a restore or a recovery, if there was one."""
    newest = max(status.nodes, key=lambda node: node.generation, default=None)
    if newest is None or not newest.generation:
        return []
    for one in newest.generations[-1:]:
        how = "restored from a backup" if one.kind is GenerationKind.RESTORED else "recovered from one node"
        when = text.time_text(one.began_at_ms)
        return [f"The cluster was {how} on {when}. Nothing of its former life after entry {one.after_index} is in it."]
    return ["The cluster was restored from a backup or recovered from one node."]


def divergence_lines(status: ClusterStatus) -> list[str]:
    """Return each reported divergence once, with the names of the nodes that report it."""
    reporters: dict[str, list[str]] = {}
    for node in status.nodes:
        if node.divergence:
            reporters.setdefault(node.divergence, []).append(node.name)
    return [f"Divergence, reported by {', '.join(names)}: {text}" for text, names in reporters.items()]


def snapshot_lines(status: ClusterStatus) -> list[str]:
    """Return a sentence for each node whose snapshots a peer does not install."""
    return [f"{node.name} reports: {node.snapshots}." for node in status.nodes if node.snapshots]


def clock_lines(status: ClusterStatus) -> list[str]:
    """Return what the leader reports about wrong clocks."""
    return [f"{node.clock[:1].upper()}{node.clock[1:]}." for node in status.nodes if node.clock]


def disk_lines(status: ClusterStatus) -> list[str]:
    """Return a sentence for each node whose disk is nearly full."""
    return [f"The disk of {node.name} is nearly full: {node.disk}." for node in status.nodes if node.disk]


def certificate_lines(status: ClusterStatus, now_s: float) -> list[str]:
    """Return a sentence for each node whose certificate or CA ends within 30 days."""
    left_s = (
        (node.name, node.certificate_expires_at_ms / 1000 - now_s)
        for node in status.nodes
        if node.certificate_expires_at_ms
    )
    return [
        f"The certificate of {name}, or its CA, {_when(seconds)}. Renew it: parleyd cert renew."
        for name, seconds in left_s
        if seconds <= WARN_BEFORE_S
    ]


def _when(seconds: float) -> str:
    return "has expired" if seconds <= 0 else f"expires in {plural(int(seconds // DAY_S), 'day')}"


def elsewhere_lines(status: ClusterStatus | ClusterPing) -> list[str]:
    """Return a sentence about addresses that were given, where no member of the cluster is."""
    if not status.elsewhere:
        return []
    first, more = status.elsewhere[0].address, len(status.elsewhere) - 1
    also = f" and {more} other address{'es' if more > 1 else ''}" if more else ""
    return [f"Nothing answers at {first}{also}. No member of the cluster has such an address."]


def verdict(status: ClusterStatus) -> str:
    """Return one sentence that says whether the cluster accepts messages."""
    up = sum(1 for node in status.nodes if not node.error)
    known = len(status.nodes)
    refused = next((node.refused for node in status.nodes if node.refused), "")
    if status.serving and refused:
        leads = f"{up} of {known} known nodes answer, {status.leader or 'nobody'} leads."
        return f"{refused[:1].upper()}{refused[1:]}. {leads}"
    if status.serving:
        return f"The cluster serves: {up} of {known} known nodes answer, {status.leader or 'nobody'} leads."
    if up:
        return f"No majority: {up} of {known} known nodes answer. Nothing can be sent until more of them are up."
    if status.nodes and all(node.tls_trouble for node in status.nodes):
        return NO_TLS
    return "No node answers. Check the addresses, and whether the nodes run."
