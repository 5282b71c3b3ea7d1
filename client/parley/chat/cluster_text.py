"""What the nodes report about the cluster, in sentences. Terminal and window show the same ones.

Texts of nodes are in them as they came. Who shows a line makes it safe first.
"""

from parley.chat.status_text import plural
from parley.cluster_model import ClusterMember, ClusterStatus, NodeStatus

DAY_S = 86_400
WARN_BEFORE_S = 30 * DAY_S
NO_TLS = "There is no TLS connection to any node, so it is not known whether the cluster serves. See the reason above."


def node_role(node: NodeStatus) -> str:
    """Return the Raft role, "learner" for a member without a vote, and "no member" for a removed node."""
    own = next((member for member in node.members if member.name == node.name), None)
    if own is None:
        return "no member" if node.members else node.role
    return node.role if own.voter else "learner"


def levels_of(source: NodeStatus | ClusterMember) -> str:
    """Return the supported levels as text, empty where they are not known."""
    if not source.max_level:
        return ""
    return str(source.max_level) if source.min_level == source.max_level else f"{source.min_level}-{source.max_level}"


def published_levels(address: str, status: ClusterStatus) -> str:
    members = (member for node in status.nodes for member in node.members)
    return next((levels_of(member) for member in members if member.client_address == address), "")


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


def trouble_lines(status: ClusterStatus, now_s: float) -> list[str]:
    """Return a sentence for each thing that an operator has to look at. `now_s` is Unix time."""
    return [
        *divergence_lines(status),
        *disk_lines(status),
        *snapshot_lines(status),
        *clock_lines(status),
        *certificate_lines(status, now_s),
    ]


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
