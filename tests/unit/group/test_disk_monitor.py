"""The monitor of this node's disk: what its group, its members and its operators hear, and how often."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from parley_proto.v1 import peer_pb2 as pb
from parleyd.group.disk_monitor import REPORT_EVERY, DiskMonitor, decode_room
from parleyd.group.member_room import Room
from parleyd.raft.types import NodeId
from parleyd.storage.data_directory import DataDirectory
from parleyd.storage.disk_space import DiskSpace

RESERVE_BYTES = 1_000
ME = NodeId(1)


@dataclass
class Disk:
    """The disk that is measured, and everything that is said about it."""

    free_bytes: int | OSError = 5_000
    reported: list[Room] = field(default_factory=list)
    sent: list[Room] = field(default_factory=list)
    changes: int = 0

    def __post_init__(self) -> None:
        data = DataDirectory(Path("no such folder"), -1, DiskSpace(Path(), RESERVE_BYTES, self._measure))
        self.monitor = DiskMonitor(ME, data, self, self, self._changed)

    def _measure(self, _: Path) -> int:
        if isinstance(self.free_bytes, OSError):
            raise self.free_bytes
        return self.free_bytes

    def _changed(self) -> None:
        self.changes += 1

    def report_room(self, node: NodeId, room: Room) -> None:
        assert node == ME
        self.reported.append(room)

    def send_disk(self, report: pb.DiskReport) -> None:
        self.sent.append(decode_room(report))


async def test_members_hear_of_enough_room_at_first_and_then_now_and_then() -> None:
    disk = Disk()
    for _ in range(2 * REPORT_EVERY + 1):
        await disk.monitor.measure()
    assert disk.sent == [Room.ENOUGH] * 3
    assert disk.reported == [Room.ENOUGH] * (2 * REPORT_EVERY + 1), "this node's own group hears it each time"
    assert not disk.changes


async def test_members_hear_at_once_and_each_time_of_a_disk_that_is_short_of_room_and_at_once_of_its_end() -> None:
    disk = Disk()
    await disk.monitor.measure()
    for disk.free_bytes in (999, 999, 499, 499, 5_000, 5_000):
        await disk.monitor.measure()
    assert disk.sent == [Room.ENOUGH, Room.LOW, Room.LOW, Room.FULL, Room.FULL, Room.ENOUGH]
    assert disk.changes == 3


async def test_a_disk_that_does_not_say_its_room_counts_as_full(capsys: pytest.CaptureFixture[str]) -> None:
    disk = Disk(free_bytes=OSError("no answer"))
    await disk.monitor.measure()
    assert disk.reported == [Room.FULL]
    assert "reserve of 1000" in disk.monitor.text
    assert "disk_not_measured" in capsys.readouterr().out
