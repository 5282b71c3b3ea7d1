"""What the rules of `parley cluster doctor` ask of the answers of the nodes. Pure."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median_low

from parley import ClusterMember, NodeStatus


@dataclass(frozen=True, slots=True)
class Facts:
    """The answers of one look at the cluster, and the time of this machine."""

    nodes: tuple[NodeStatus, ...]
    now_ms: int

    @property
    def answered(self) -> tuple[NodeStatus, ...]:
        """Return the nodes that answered."""
        return tuple(node for node in self.nodes if not node.error)

    @property
    def whole(self) -> tuple[NodeStatus, ...]:
        """Return the nodes that told everything. To strangers a node tells only who leads and who the members are."""
        return tuple(node for node in self.answered if node.version)

    @property
    def own(self) -> tuple[NodeStatus, ...]:
        """Return the nodes that answered and belong to the cluster that most of the answers name."""
        return tuple(node for node in self.answered if node.cluster_id == self.cluster_id)

    @property
    def cluster_id(self) -> str:
        """Return the cluster that most of the answers name."""
        ids = Counter(node.cluster_id for node in self.answered)
        return ids.most_common(1)[0][0] if ids else ""

    @property
    def leader(self) -> NodeStatus | None:
        """Return the answer of the leader of the highest term."""
        leaders = [node for node in self.own if node.role == "leader"]
        return max(leaders, key=lambda node: node.term, default=None)

    @property
    def members(self) -> tuple[ClusterMember, ...]:
        """Return the members as the leader has them, else as the node does that has applied most."""
        source = self.leader or max(
            (node for node in self.own if not node.removed),
            key=lambda node: (node.term, node.applied_index),
            default=None,
        )
        return source.members if source is not None else ()

    @property
    def voters(self) -> tuple[ClusterMember, ...]:
        """Return the members that have a vote."""
        return tuple(member for member in self.members if member.voter)

    @property
    def silent(self) -> tuple[tuple[ClusterMember, str], ...]:
        """Return the members that did not answer, each with the reason."""
        names = {node.name for node in self.own}
        errors = {node.address: node.error for node in self.nodes if node.error}
        unknown = "it has not told the cluster an address for clients"
        return tuple(
            (member, errors.get(member.client_address, unknown)) for member in self.members if member.name not in names
        )

    @property
    def silent_strangers(self) -> tuple[NodeStatus, ...]:
        """Return the addresses that did not answer and are of no member."""
        known = {member.client_address for member in self.members}
        return tuple(node for node in self.nodes if node.error and node.address not in known)

    @property
    def voters_up(self) -> int:
        """Return the number of voters that answered."""
        return len({node.name for node in self.own} & {voter.name for voter in self.voters})

    @property
    def majority(self) -> int:
        """Return the number of voters that a decision needs."""
        return len(self.voters) // 2 + 1

    def clocks(self) -> dict[str, float]:
        """Return how far each clock is ahead of that of most nodes, in ms, less what the call leaves open."""
        told = [node for node in self.whole if node.clock_offset_ms is not None]
        offsets = {node.name: node.clock_offset_ms or 0.0 for node in told}
        if len(offsets) < 2:
            return {}
        middle = median_low(sorted(offsets.values()))
        slack = max(node.round_trip_ms for node in told)
        return {name: _less(offset - middle, slack) for name, offset in offsets.items()}


def facts_of(nodes: Sequence[NodeStatus], now_ms: int) -> Facts:
    """Return the facts of these answers."""
    return Facts(tuple(nodes), now_ms)


def _less(value: float, slack: float) -> float:
    """Return a difference that is certain if each of both values may be wrong by half of `slack`."""
    return max(value - slack, 0.0) if value > 0 else min(value + slack, 0.0)
