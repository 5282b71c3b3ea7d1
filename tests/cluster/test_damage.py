"""A node whose files are damaged says what is wrong and what to do, and does not start from them."""

from __future__ import annotations

import shutil
import zlib
from contextlib import closing
from pathlib import Path

import apsw
import grpc
import psutil
import pytest

from parley_proto.v1.messaging_pb2 import SEND_STATUS_ACCEPTED
from parleyd.exits import ExitCode
from scripts.cluster_local import LocalCluster
from tests.cluster.conftest import FAST
from tests.cluster.raw import bodies, raw_client


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
        assert "unexpected error" not in said
        assert name.split(".", maxsplit=1)[0] in said
        assert "parley cluster remove" in said or "estore" in said


async def test_a_bit_that_flips_in_a_message_stops_the_node_that_reads_it(tmp_path: Path) -> None:
    async with LocalCluster(tmp_path, nodes=1, settings=FAST) as lone:
        async with raw_client(lone, "n1") as raw:
            await raw.register("ann")
            ann = await raw.log_in("ann")
            async with raw.session(ann) as stream:
                await stream.send_surely(1, "ann", "see you at nine")
        assert await lone.stop("n1") == 0
        state = lone.layout.data_dir("n1") / "state.sqlite"
        content = bytearray(state.read_bytes())
        content[content.rindex(b"see you at nine") + 11] ^= 1
        state.write_bytes(content)
        lone.start("n1")
        await lone.wait_for_leader()
        async with raw_client(lone, "n1") as raw:
            with pytest.raises(grpc.aio.AioRpcError):
                await raw.history(ann, "ann")
        assert await lone.wait_for_exit("n1") == ExitCode.STORAGE
        said = lone.tail("n1")
        assert "does not match its checksum" in said
        assert "parley cluster remove" in said
        assert "unexpected error" not in said


async def test_a_directory_of_a_newer_release_stops_the_start_and_stays_as_it_is(tmp_path: Path) -> None:
    async with LocalCluster(tmp_path, nodes=1, settings=FAST) as lone:
        assert await lone.stop("n1") == 0
        log = lone.layout.data_dir("n1") / "raft.sqlite"
        with closing(apsw.Connection(str(log))) as connection:
            checksum = zlib.crc32(b"7 9.1.0")
            connection.execute("UPDATE format SET version = 7, release = '9.1.0', checksum = ?", (checksum,))
        before = log.read_bytes()
        lone.start("n1")
        assert await lone.wait_for_exit("n1") == ExitCode.RELEASE
        assert "written by release 9.1.0" in lone.tail("n1")
        assert "unexpected error" not in lone.tail("n1")
        assert log.read_bytes() == before


async def test_a_node_whose_disk_takes_no_more_stops_at_once_and_loses_nothing_it_acknowledged(tmp_path: Path) -> None:
    async with LocalCluster(tmp_path, nodes=1, settings=FAST) as lone:
        await lone.wait_for_leader()
        async with raw_client(lone, "n1") as raw:
            await raw.register("ann")
            ann = await raw.log_in("ann")
            async with raw.session(ann) as stream:
                for number in range(1, 11):
                    assert (await stream.send_surely(number, "ann", f"kept {number}")).status == SEND_STATUS_ACCEPTED
                written = (lone.layout.data_dir("n1") / "raft.sqlite-wal").stat().st_size
                # From here on no file of this process may grow: what a full disk or a quota does.
                psutil.Process(lone.pid("n1")).rlimit(psutil.RLIMIT_FSIZE, (written, written))
                await stream.send((11, "ann", "x" * 60_000))
                assert await lone.wait_for_exit("n1") == ExitCode.STORAGE
        assert "unexpected error" not in lone.tail("n1")
        lone.start("n1")
        await lone.wait_for_leader()
        async with raw_client(lone, "n1") as raw:
            kept = bodies(await raw.history(ann, "ann"))
    assert kept[:10] == [f"kept {number}" for number in range(1, 11)]


async def test_a_node_whose_disk_lost_confirmed_entries_votes_no_more_also_after_a_restart(
    tmp_path: Path,
) -> None:
    """An older copy of the folder stands for the disk: it is whole, and the leader knows that there was more."""
    async with LocalCluster(tmp_path, settings=FAST) as own:
        leader = await own.wait_for_leader()
        name = own.others(leader)[0]
        folder, older = own.layout.data_dir(name), tmp_path / "older"
        async with raw_client(own, leader) as raw:
            await raw.register("ann")
            await own.wait_until_equal()
            assert await own.stop(name) == 0
            # A disk that loses something keeps the place of the directory. A copy would be refused.
            shutil.copytree(folder, older, ignore=shutil.ignore_patterns("place.json"))
            own.start(name)
            await raw.register("ben")
            await own.wait_until_equal()
            assert await own.stop(name) == 0
            shutil.rmtree(folder)
            older.rename(folder)
            own.start(name)
            await own.wait_until(lambda: "log_entries_lost" in own.log_text(name), "the node knows it")
            await own.wait_until((folder / "lost-entries").exists, "and keeps it")
            own.kill(name)
            own.start(name)
            assert await own.wait_for_exit(name) == ExitCode.STORAGE
            said = own.tail(name)
            assert "the disk lost entries of the log" in said
            assert "parley cluster remove" in said
            await raw.register("cid")  # the others go on
