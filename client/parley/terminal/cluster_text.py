"""The status of the cluster for a terminal: a table of the nodes, level, divergences, full disks, a verdict."""

import time

from parley import ClusterPing, ClusterStatus, GenerationKind, NodeStatus
from parley.chat import level_lines, levels_of, node_role, published_levels, trouble_lines, verdict
from parley.terminal import text

COLUMNS = ("NODE", "ADDRESS", "ROLE", "TERM", "COMMIT", "APPLIED", "CLIENTS", "MSG/S", "LEVELS", "SERVING")

SIGN_IN = "Sign in to see terms, indices, levels and clients: nodes show them to accounts only."


def cluster_lines(status: ClusterStatus) -> list[str]:
    """Return the lines of `parley cluster status`. The column LEVELS holds the levels that a node's release supports.

    For a node that does not answer, the levels are those it published last, as another node reports them.
    """
    rows = [COLUMNS, *(_row(node, status) for node in status.nodes)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(COLUMNS) - 1)]
    lines = ["  ".join([*(cell.ljust(w) for cell, w in zip(row, widths, strict=False)), row[-1]]) for row in rows]
    hints = [SIGN_IN] if any(node.name and not node.version for node in status.nodes) else []
    troubles = trouble_lines(status, time.time())
    said = [*level_lines(status), *generation_lines(status), *troubles, *hints, *elsewhere_lines(status)]
    return text.safe_lines((*lines, "", *said, verdict(status)))


def _row(node: NodeStatus, status: ClusterStatus) -> tuple[str, ...]:
    if node.error:
        levels = published_levels(node.address, status)
        return ("?", node.address, "down", "", "", "", "", "", levels, f"no: {node.error}")
    numbers = (node.term, node.commit_index, node.applied_index, node.connected_clients)
    is_whole = bool(node.version)  # to strangers a node tells only its role
    return (
        node.name,
        node.address,
        node_role(node),
        *(str(number) if is_whole else "" for number in numbers),
        f"{node.messages_per_second:.0f}" if is_whole else "",
        levels_of(node),
        "yes" if node.serving else "no",
    )


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


def elsewhere_lines(status: ClusterStatus | ClusterPing) -> list[str]:
    """Return a sentence about addresses that were given, where no member of the cluster is."""
    if not status.elsewhere:
        return []
    first, more = status.elsewhere[0].address, len(status.elsewhere) - 1
    also = f" and {more} other address{'es' if more > 1 else ''}" if more else ""
    return [f"Nothing answers at {first}{also}. No member of the cluster has such an address."]
