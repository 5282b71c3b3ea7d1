"""A node whose files are damaged says what is wrong and what to do, and does not start from them."""

from __future__ import annotations

from pathlib import Path

import pytest

from scripts.cluster_local import LocalCluster
from server.exits import ExitCode
from tests.cluster.conftest import FAST
from tests.cluster.raw import raw_client


@pytest.mark.parametrize("name", ["raft.sqlite", "state.sqlite", "identity.json"])
async def test_a_damaged_file_stops_the_start_with_a_text_that_helps(tmp_path: Path, name: str) -> None:
    async with LocalCluster(tmp_path, nodes=1, settings=FAST) as lone:
        await lone.wait_for_leader()
        async with raw_client(lone, "n1") as raw:
            await raw.register("ann")
        assert await lone.stop("n1") == 0
        damaged = lone.layout.data_dir("n1") / name
        content = bytearray(damaged.read_bytes())
        middle = len(content) // 2
        content[8:24] = b"\xa5" * 16
        content[middle : middle + 16] = b"\xa5" * 16
        damaged.write_bytes(content)
        lone.start("n1")
        assert await lone.wait_for_exit("n1") == ExitCode.STORAGE
        said = lone.tail("n1")
        assert "nobody foresaw" not in said
        assert name.split(".", maxsplit=1)[0] in said
        assert "parley cluster remove" in said or "estore" in said
