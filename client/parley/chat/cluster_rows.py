"""What the cluster panel of the window shows: one row for each node, and what an administrator can do there.

A cell is empty where it is not known. Everything that a node tells is made safe here.
"""

import shlex
from collections.abc import Iterable
from dataclasses import dataclass

from parley.chat.cluster_text import level_lines, levels_of, node_role, published_levels, trouble_lines, verdict
from parley.chat.safe_text import safe_name
from parley.chat.status_text import plural
from parley.cluster_model import ClusterMember, ClusterStatus, NodeStatus

DOWN = "does not answer"


@dataclass(frozen=True, slots=True)
class NodeRow:
    """A node. `behind` counts the entries that it lacks, `reaches` names the nodes that it is connected to.

    `can_lead` is true if leadership can be transferred to it, as far as its own answer tells.
    """

    name: str
    role: str
    address: str
    behind: str
    term: str
    reaches: str
    release: str
    levels: str
    answers: bool
    can_lead: bool

    @property
    def cells(self) -> tuple[str, ...]:
        """Return the texts in the order of COLUMNS."""
        return (
            self.name,
            self.role,
            self.address,
            self.behind,
            self.term,
            self.reaches,
            self.release,
            self.levels,
        )

    @property
    def spoken(self) -> str:
        """Return the row for screen readers."""
        named = zip(COLUMNS[2:], self.cells[2:], strict=True)
        return ", ".join([f"{self.name} {self.role}", *(f"{column} {cell}" for column, cell in named if cell)])


COLUMNS = ("Node", "Role", "Address", "Behind", "Term", "Reaches", "Release", "Levels")


def node_rows(status: ClusterStatus) -> tuple[NodeRow, ...]:
    """Return the rows, by name."""
    rows = [_silent(node, status) if node.error else _answering(node, status) for node in status.nodes]
    return tuple(sorted(rows, key=lambda row: (not row.name, row.name, row.address)))


def _answering(node: NodeStatus, status: ClusterStatus) -> NodeRow:
    role = node_role(node)
    is_whole = bool(node.version)  # without a session a node tells only its role
    return NodeRow(
        safe_name(node.name),
        safe_name(f"{role}, not serving" if not node.serving and role != "no member" else role),
        safe_name(node.address),
        _behind(_last_entry(status), node.applied_index) if is_whole else "",
        str(node.term) if is_whole else "",
        safe_name(_reaches(node)),
        safe_name(node.version),
        levels_of(node),
        answers=True,
        can_lead=role == "follower" and node.serving and not node.divergence,
    )


def _silent(node: NodeStatus, status: ClusterStatus) -> NodeRow:
    """Return the row of a node that does not answer here: what the others say of it."""
    told = {
        other.name: member
        for other in status.nodes
        for member in other.members
        if member.client_address == node.address
    }
    name = next((member.name for member in told.values()), "")
    reached_by = [other for other, member in told.items() if member.connected]
    position = max((member.match_index for member in told.values()), default=0)
    return NodeRow(
        safe_name(name),
        DOWN,
        safe_name(node.address),
        _behind(_last_entry(status), position) if position else "",
        "",
        safe_name(f"reached by {', '.join(reached_by)}" if reached_by else "reached by no node" if told else ""),
        "",
        published_levels(node.address, status),
        answers=False,
        can_lead=False,
    )


def _last_entry(status: ClusterStatus) -> int:
    return max((node.commit_index for node in status.nodes), default=0)


def _behind(last: int, position: int) -> str:
    """Return how far a node is behind. Nodes answer one after the other, so a few entries mean nothing under load."""
    lacking = last - position
    return f"{lacking} entries" if lacking > 1 else "1 entry" if lacking == 1 else "0"


def _reaches(node: NodeStatus) -> str:
    others: list[ClusterMember] = [member for member in node.members if member.name != node.name]
    if not others:
        return ""
    missing = [member.name for member in others if not member.connected]
    if not missing:
        return "all others"
    if len(missing) == len(others):
        return "no other"
    return f"{', '.join(member.name for member in others if member.connected)}; not {', '.join(missing)}"


def panel_lines(status: ClusterStatus, now_s: float) -> tuple[str, ...]:
    """Return the sentences below the table, the verdict first. `now_s` is Unix time."""
    silent = [
        f"{row.name or row.address} does not answer: {node.error}."
        for row in node_rows(status)
        for node in status.nodes
        if node.error and safe_name(node.address) == row.address
    ]
    lines: Iterable[str] = (
        verdict(status),
        *silent,
        *update_lines(status),
        *level_lines(status),
        *trouble_lines(status, now_s),
    )
    return tuple(map(safe_name, lines))


def update_lines(status: ClusterStatus) -> list[str]:
    """Return what an administrator has to know while nodes support different levels, or the level is to rise."""
    supported = {member.name: member.max_level for node in status.nodes for member in node.members if member.max_level}
    supported |= {node.name: node.max_level for node in status.nodes if node.max_level}
    level = max((node.level for node in status.nodes), default=0)
    newest, lowest = max(supported.values(), default=0), min(supported.values(), default=0)
    if lowest < newest:
        older = ", ".join(sorted(name for name, maximum in supported.items() if maximum < newest))
        return [
            f"Releases are mixed. The level can rise to {newest} once every node supports it, and abilities of the new "
            f"release wait for that. Still to be updated: {older}."
        ]
    if 0 < level < lowest:
        return [
            f"Every node supports level {lowest}. The cluster rises to it by itself, unless the setting level_limit or "
            "a divergence holds it back."
        ]
    return []


# ---- what an administrator does


def transfer_text(name: str, leader: str) -> str:
    """Return what happens when leadership is transferred."""
    old = f"instead of {safe_name(leader)}" if leader else "if the cluster has a leader now"
    stays = safe_name(leader) or "the present leader"
    return (
        f"{safe_name(name)} becomes the leader, {old}. New messages wait during the change, usually for less than a "
        f"second, and are then sent once each. Nothing is lost. If {safe_name(name)} has not caught up, {stays} goes "
        "on leading, and the panel says so."
    )


def add_command(account: str) -> str:
    """Return the command that lets one new node join."""
    return f"parley cluster invite-node --account {shlex.quote(safe_name(account))}"


def remove_command(name: str, account: str) -> str:
    """Return the command that removes a node."""
    return f"parley cluster remove {shlex.quote(safe_name(name))} --account {shlex.quote(safe_name(account))}"


# ---- what everybody is told


def people_note(node: NodeStatus) -> str:
    """Return what people should know of the cluster, as one node tells it: an update or a repair. Mostly empty."""
    if node.divergence:
        return "a node is being repaired, or needs it"
    supported = {member.max_level for member in node.members if member.max_level}
    if len(supported) > 1:  # a level that stays behind although all support it is held back on purpose
        return "nodes are being updated"
    return ""


def reached_text(node: str, up: int, total: int) -> str:
    """Return the one line for people: which node is connected, and how many can be reached from there."""
    if not node:
        return "Connected to no node"
    return f"Connected to {safe_name(node)}; {up} of {plural(total, 'node')} reachable from there"
