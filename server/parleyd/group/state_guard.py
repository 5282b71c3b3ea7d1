"""Fences a node whose state differs from the others', and reports divergences.

It passes the reports of this node and its peers to `StateComparison`, and acts on the result. A node that a majority of
the voters outvotes is fenced: it stops leading and serves no clients and no reads. It keeps its log, its vote and its
data directory. The fence is in force at once and is then made durable. It stays until the state is replaced
(rebuild.py). If others differ, or the right state is unknown, this node raises an alarm in log and status.

All methods are called from the loop's thread.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Protocol

import structlog

from parley_proto.v1 import peer_pb2 as pb
from parleyd.group.state_comparison import Judgement, StateComparison, Verdict
from parleyd.machine.limits import GROUP
from parleyd.machine.records import StateHash
from parleyd.raft.types import ConfState, NodeId
from parleyd.storage import fence as fences
from parleyd.storage.fence import Fence


class FencedReplica(Protocol):
    """What the guard needs of this node's replica."""

    def fence(self) -> None:
        """Stop leading and serving, from now on."""


class HashLinks(Protocol):
    """Links to the other members; reports may be lost."""

    def send_hashes(self, hashes: Iterable[pb.StateHash], to: NodeId | None = None) -> None:
        """Send to one member, or to all."""


class DivergenceListener(Protocol):
    """A receiver of changes of the trust in states."""

    def divergence_changed(self) -> None:
        """Report that the fence, or what is known of the members, has changed."""


class StateGuard:
    """Guards one node's state and compares it with the others'."""

    def __init__(
        self, own: NodeId, path: Path, replica: FencedReplica, links: HashLinks, listener: DivergenceListener
    ) -> None:
        """Read the fence at `path`. A fence found there is in force at once."""
        self._own = own
        self._path = path
        self._replica = replica
        self._links = links
        self._listener = listener
        self._comparison = StateComparison(own)
        self._names: Mapping[NodeId, str] = {}
        self._told = ""
        self._save_due = asyncio.Event()
        self._saved = asyncio.Event()
        self._logger = structlog.get_logger("state_guard")
        self._fence = fences.load(path)
        if self._fence is not None:
            self._saved.set()
            self._replica.fence()
            self._log_fence(self._fence)

    # ---- what others see

    @property
    def fence(self) -> Fence | None:
        """Return why this node is fenced; None if it is not."""
        return self._fence

    @property
    def has_divergence(self) -> bool:
        """Return whether any member's state is known to differ, this node's included."""
        return self._fence is not None or not self._comparison.is_clean

    @property
    def needs_rebuild(self) -> bool:
        """Return whether this node's own state is not trusted: outvoted, or different without a known right one."""
        own = self._comparison.judgements.get(self._own)
        return self._fence is not None or (own is not None and own.verdict is not Verdict.AGREES)

    @property
    def untrusted(self) -> frozenset[NodeId]:
        """Return the members that must not lead, because a majority outvotes their state."""
        return frozenset(self._comparison.divergent(Verdict.OUTVOTED))

    @property
    def text(self) -> str:
        """Return the text for operators; empty while all agree."""
        if self._fence is not None:
            return self._fence_text(self._fence)
        texts = [
            f"the state of {self._name(node)} differs from that of a majority of the voters at entry {found.index}; "
            f"it serves no clients. Run: parley cluster rebuild {self._name(node)}"
            for node, found in self._comparison.divergent(Verdict.OUTVOTED).items()
        ]
        undecided = self._comparison.divergent(Verdict.UNDECIDED)
        if undecided:
            names = ", ".join(self._name(node) for node in undecided)
            index = max(found.index for found in undecided.values())
            texts.append(
                f"the states of {names} differ at entry {index}, and none has a majority of the voters, so no node "
                "can decide which is right. Find out which one is wrong, and run: parley cluster rebuild NAME"
            )
        return "; ".join(texts)

    # ---- what happens

    def set_members(self, conf_state: ConfState, names: Mapping[NodeId, str]) -> None:
        """Take over a membership."""
        self._names = dict(names)
        self._comparison.set_members(conf_state, names)
        self._look()

    def applied(self, hashes: Collection[StateHash]) -> None:
        """Take this node's own hashes and report them."""
        if hashes:
            self._links.send_hashes([_encode(one) for one in hashes])
            self._report(self._own, hashes)

    def reported(self, node: NodeId, hashes: Iterable[pb.StateHash]) -> None:
        """Take another member's report."""
        self._report(node, [StateHash(one.index, one.hash) for one in hashes if one.group == GROUP])

    def copied(self, state_hash: StateHash) -> None:
        """Record that a copy of this node's state was made: its receiver will report the same hash."""
        self.applied((state_hash,))

    def peer_connected(self, node: NodeId) -> None:
        """Report again what a member may have missed while it was not connected."""
        history = self._comparison.own_history
        if history:
            self._links.send_hashes([_encode(one) for one in history], node)

    def state_replaced(self, current: StateHash) -> None:
        """Record that a snapshot replaced this node's state; a fence stays."""
        self._comparison.state_replaced(current)
        self._links.send_hashes([_encode(current)])
        self._look()

    async def fence_for_rebuild(self) -> None:
        """Fence this node for an administrator's rebuild; returns when the fence is durable."""
        if self._fence is None:
            self._start_fence(Fence("an administrator requested a rebuild of this node's state"))
        await self._saved.wait()

    async def run(self) -> None:
        """Make each new fence durable. Raises StorageError, which has to stop the node."""
        loop = asyncio.get_running_loop()
        while True:
            await self._save_due.wait()
            self._save_due.clear()
            if self._fence is not None:
                await loop.run_in_executor(None, fences.save, self._path, self._fence)
                self._saved.set()

    # ---- what follows

    def _report(self, node: NodeId, hashes: Iterable[StateHash]) -> None:
        self._comparison.report(node, hashes)
        self._look()

    def _look(self) -> None:
        own = self._comparison.judgements.get(self._own)
        if own is not None and own.verdict is Verdict.OUTVOTED and self._fence is None:
            agreeing = ", ".join(sorted(self._name(node) for node in self._who_has(own)))
            self._start_fence(
                Fence(f"the voters {agreeing} have another state", own.index, own.value.hex(), own.majority.hex())
            )
        self._tell()

    def _who_has(self, own: Judgement) -> list[NodeId]:
        judged = self._comparison.judgements.items()
        return [node for node, found in judged if found.verdict is Verdict.AGREES and found.index >= own.index]

    def _start_fence(self, fence: Fence) -> None:
        self._fence = fence
        self._replica.fence()
        self._log_fence(fence)
        self._save_due.set()
        self._tell()

    def _tell(self) -> None:
        text = self.text
        if text == self._told:
            return
        self._told = text
        if self._fence is None and text:
            self._logger.error("divergence_found", detail=text)
        elif not text:
            self._logger.info("divergence_ended")
        self._listener.divergence_changed()

    def _log_fence(self, fence: Fence) -> None:
        self._logger.error(
            "node_fenced",
            reason=fence.reason,
            index=fence.index,
            own_hash=fence.own_hash,
            majority_hash=fence.majority_hash,
            effect="this node stopped leading and serving; its log and its vote count as before",
            advice="parley cluster rebuild, with this node's name",
        )

    def _fence_text(self, fence: Fence) -> str:
        since = f" at entry {fence.index}" if fence.index else ""
        return (
            f"this node is fenced: {fence.reason}{since}. It does not lead or serve. Its log and its vote "
            f"count as before. Run on another node: parley cluster rebuild {self._name(self._own)}"
        )

    def _name(self, node: NodeId) -> str:
        return self._names.get(node, str(node))


def _encode(one: StateHash) -> pb.StateHash:
    return pb.StateHash(group=GROUP, index=one.index, hash=one.value)
