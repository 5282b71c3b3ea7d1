"""Trust in states on a serving node: comparison, fence, rebuild, and the level that depends on them.

It is wired here, beside node.py, because it joins the layers: group (guard, rebuild, copies) and membership (levels).
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine

from parley_proto.v1 import peer_pb2 as pb
from parleyd.group.peer_handler import TrustParts
from parleyd.group.rebuild import StateRebuild
from parleyd.group.runner import GroupRunner
from parleyd.group.state_copies import StateCopies
from parleyd.group.state_guard import StateGuard
from parleyd.machine.features import settings
from parleyd.machine.features.levels import LevelRaised
from parleyd.machine.features.settings import SettingChanged
from parleyd.machine.limits import GROUP
from parleyd.machine.machine import ApplyOutcome
from parleyd.machine.reader import StateReader
from parleyd.machine.records import StateHash
from parleyd.membership.levels import LevelRaiser, LevelState
from parleyd.membership.members import ClusterMembers
from parleyd.raft.types import NodeId
from parleyd.storage import lost_entries
from parleyd.storage.data_directory import DataDirectory
from parleyd.transport.peer_links import PeerLinks

REBUILD_TIMEOUT_S = 5.0


class StateTrust:
    """One node's trust in its own state and in the others'."""

    def __init__(
        self,
        own: NodeId,
        data: DataDirectory,
        replica: GroupRunner,
        links: PeerLinks,
        chunk_bytes: int,
        on_change: Callable[[], None],
    ) -> None:
        """Wire the parts; `on_change` is called when the fence, or what is known of a divergence, has changed."""
        self._own = own
        self._replica = replica
        self._links = links
        self._on_change = on_change
        self._raiser = LevelRaiser(replica, self._level_state)
        self._lost_entries = ""
        self._mark = data.lost_entries
        self.guard = StateGuard(own, data.fence, replica, links, self)
        self.rebuild = StateRebuild(replica, self.guard, links, data.snapshots, lambda: self._lost_entries)
        self.parts = TrustParts(
            self.guard, self.rebuild, StateCopies(own, data, chunk_bytes, on_copied=self.guard.copied)
        )

    def work(self) -> dict[str, Coroutine[object, object, None]]:
        """Return the tasks of a serving node, by name."""
        return {
            "fence": self.guard.run(),
            "rebuild": self.rebuild.run(),
            "levels": self._raiser.run(),
            "role": self._follow_role(),
        }

    @property
    def is_fenced(self) -> bool:
        """Return whether no client may see this node's state."""
        return self.guard.fence is not None or bool(self._lost_entries)

    @property
    def is_sound(self) -> bool:
        """Return whether this node's state is one to keep: it is trusted, and the node is a member."""
        return not self.is_fenced and not self._replica.retired

    @property
    def text(self) -> str:
        """Return the text for operators; empty while nothing is wrong."""
        return self._lost_entries or self.guard.text

    # ---- what happens

    def entries_lost(self, detail: str, text: str) -> None:
        """Record durably which entries this node's log lacks that it had confirmed; `text` is for operators.

        Raises StorageError, which stops the node. It takes part in nothing before that, either.
        """
        self._lost_entries = text
        lost_entries.save(self._mark, detail)
        self._on_change()

    def divergence_changed(self) -> None:
        """Record that the guard's view changed."""
        self._replica.set_untrusted(self.guard.untrusted)
        self._raiser.changed()
        self._on_change()

    def members_changed(self, members: ClusterMembers) -> None:
        """Take over the present members."""
        names = {node: row.name for node, row in members.rows.items()}
        self.guard.set_members(self._replica.raft.conf_state, names)
        self._raiser.changed()

    def applied(self, outcome: ApplyOutcome) -> None:
        """Record that applied entries have changed the state."""
        if any(isinstance(effect, SettingChanged | LevelRaised) for effect in outcome.effects):
            self._raiser.changed()
        if outcome.hashes:
            self.guard.applied(outcome.hashes)

    def state_replaced(self) -> None:
        """Record that a snapshot replaced the state."""
        machine = self._replica.machine
        self.guard.state_replaced(StateHash(machine.applied_index, machine.state_hash))
        self._raiser.changed()

    # ---- what administrators ask for

    async def rebuild_member(self, node: NodeId) -> pb.RebuildReply:
        """Make `node`, this one or another, replace its state by the leader's; raises ForwardFailedError."""
        if node == self._own:
            return self.rebuild.request()
        return await self._links.rebuild(node, pb.RebuildRequest(group=GROUP), REBUILD_TIMEOUT_S)

    # ---- levels

    async def _follow_role(self) -> None:
        while True:
            await self._replica.role_change()
            self._raiser.changed()

    async def _level_state(self) -> LevelState:
        level, limit = await self._replica.readers.run(_level_and_limit)
        rows = tuple(self._replica.members.rows.values())
        return LevelState(level, limit, rows, self.guard.has_divergence)


def _level_and_limit(reader: StateReader) -> tuple[int, int]:
    with reader.consistent():
        return reader.level(), settings.all_values(reader)["level_limit"]
