"""Watches the free space of this node's disk, and reports it to its group, to members and to operators."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

import structlog

from parley_proto.v1 import peer_pb2 as pb
from parleyd.group.member_room import Intake, Room, room_of
from parleyd.raft.types import NodeId
from parleyd.storage.data_directory import DataDirectory

INTERVAL_S = 0.5
REPORT_EVERY = 4
"""Members hear of enough room at every fourth measurement, because each report costs all of them. Everything else they
hear at once, and at every measurement."""

_EFFECTS = {
    Room.LOW: "this node passes leadership on, and makes and receives no copies of the state",
    Room.FULL: "this node appends nothing and does not lead, until there is room again",
}
INTAKE_TEXTS = {
    Intake.EVERYTHING: "",
    Intake.NO_GROWTH: "the disks of a majority of the nodes are nearly full, so the cluster accepts nothing that makes "
    "the data grow: no messages, accounts and channels; reading, acknowledgements, log-outs and deletions go on",
    Intake.NOTHING: "the leader's disk, or the disks of a majority of the nodes, are full, so the cluster accepts "
    "nothing, also no log-outs and deletions; reading goes on",
}
"""What the cluster does not accept because of its disks, for operators. The leader decides it."""

_TO_WIRE = {Room.ENOUGH: pb.DISK_ROOM_ENOUGH, Room.LOW: pb.DISK_ROOM_LOW, Room.FULL: pb.DISK_ROOM_FULL}
_FROM_WIRE = {pb.DISK_ROOM_LOW: Room.LOW, pb.DISK_ROOM_FULL: Room.FULL}


class RoomListener(Protocol):
    """This node's replica."""

    def report_room(self, node: NodeId, room: Room) -> None:
        """Record the room on the disk of `node`."""


class DiskLinks(Protocol):
    """Links to the other members; reports may be lost."""

    def send_disk(self, report: pb.DiskReport) -> None:
        """Send to all members."""


class DiskMonitor:
    """Measures at intervals. `on_change` is called when the room has another name than before."""

    def __init__(
        self,
        own: NodeId,
        data: DataDirectory,
        replica: RoomListener,
        links: DiskLinks,
        on_change: Callable[[], None],
    ) -> None:
        self._own = own
        self._space = data.space
        self._reusable_bytes = data.reusable_bytes
        self._replica = replica
        self._links = links
        self._on_change = on_change
        self._room = Room.ENOUGH
        self._free_bytes = 0
        self._unreported = REPORT_EVERY  # measurements since the last report
        self._logger = structlog.get_logger("disk")

    @property
    def free_bytes(self) -> int:
        """Return the free bytes at the last measurement; 0 before the first."""
        return self._free_bytes

    @property
    def reserve_bytes(self) -> int:
        """Return how many free bytes are kept for running."""
        return self._space.reserve_bytes

    @property
    def room(self) -> Room:
        """Return the room at the last measurement."""
        return self._room

    @property
    def text(self) -> str:
        """Return the text for operators; empty while there is enough room."""
        if self._room is Room.ENOUGH:
            return ""
        return (
            f"{self._free_bytes} bytes are free on this node's disk, less than the reserve of "
            f"{self._space.reserve_bytes} (disk_reserve_bytes): {_EFFECTS[self._room]}"
        )

    async def run(self) -> None:
        """Measure until cancelled. A disk that does not answer the question is reported as full."""
        while True:
            await self.measure()
            await asyncio.sleep(INTERVAL_S)

    async def measure(self) -> None:
        """Measure once, and report what was found."""
        self._free_bytes, reusable_bytes = await asyncio.to_thread(self._look)
        room = room_of(self._free_bytes, self._space.reserve_bytes, reusable_bytes)
        self._replica.report_room(self._own, room)
        was, self._room = self._room, room
        self._report(is_news=room is not was or room is not Room.ENOUGH)
        if room is not was:
            self._log()
            self._on_change()

    def _look(self) -> tuple[int, int]:
        """Return the free bytes of the disk and those inside the state's file. Runs on a thread."""
        try:
            free_bytes = self._space.free_bytes()
        except OSError as error:
            self._logger.error("disk_not_measured", error=str(error))
            free_bytes = 0
        return free_bytes, self._reusable_bytes()

    def _report(self, *, is_news: bool) -> None:
        """Send a report to the members, unless they know from one of the last."""
        self._unreported += 1
        if not is_news and self._unreported < REPORT_EVERY:
            return
        self._unreported = 0
        self._links.send_disk(
            pb.DiskReport(
                room=_TO_WIRE[self._room], free_bytes=self._free_bytes, reserve_bytes=self._space.reserve_bytes
            )
        )

    def _log(self) -> None:
        figures = {"free_bytes": self._free_bytes, "reserve_bytes": self._space.reserve_bytes}
        if self._room is Room.ENOUGH:
            self._logger.info("disk_space_returned", **figures)
            return
        event = "disk_space_ran_low" if self._room is Room.LOW else "disk_space_ran_out"
        advice = "make room on the disk of the data directory"
        self._logger.error(event, effect=_EFFECTS[self._room], advice=advice, **figures)


def decode_room(report: pb.DiskReport) -> Room:
    """Return the room that a member reports; a value of a later release counts as enough."""
    return _FROM_WIRE.get(report.room, Room.ENOUGH)
