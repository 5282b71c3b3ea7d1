"""A backup at the client: it is on the disk complete and checked, or there is no file, however the transfer ends.

What can go wrong: a node that dies in the middle or is busy; an account that is no administrator; a file that exists; a
disk that fills up; Ctrl-C; a file that is altered later. The client and the node read the same form.
"""

import asyncio
import errno
import json
import os
import signal
from collections.abc import AsyncGenerator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from parley import (
    BackupError,
    BadInputError,
    OverloadedError,
    RefusedError,
    UnreachableError,
    check_backup,
)
from parley import backup_file as client_side
from parley.cluster_model import ClusterStatus, NodeStatus
from parley.net import backup_calls
from parley.terminal.exits import ExitCode
from parley_proto.v1 import admin_pb2 as pb
from parleyd.backup import backup_file as node_side
from parleyd.backup.making import Backups
from parleyd.backup.verify import verify
from tests.support.node import InProcessCluster, running_cluster
from tests.unit.backup import test_backup_file as forms
from tests.unit.client.helpers import PASSWORD, administrator, make_client, until
from tests.unit.client.test_command import Parley


def files_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} - {"state"}


def both_agree(path: Path) -> None:
    """The client's description is that of the node's program, which looks into the state."""
    info, header = check_backup(path), verify(path, path.parent)
    assert (info.index, info.term, info.state_hash) == (header.index, header.term, header.state_hash)
    assert (info.node, info.level, info.content_bytes) == (header.node_name, header.level, header.content_bytes)
    assert info.file_bytes == path.stat().st_size


async def test_a_follower_makes_the_backup_and_it_is_sound(tmp_path: Path) -> None:
    file = tmp_path / "one.backup"
    async with administrator(tmp_path) as (cluster, client):
        told: list[tuple[int, int]] = []
        info = await (await client.administration()).back_up(file, progress=lambda done, of: told.append((done, of)))
        assert info.node in ("n2", "n3")
        assert info.is_current
        assert info.index == cluster.index
        assert told[-1] == (info.content_bytes, info.content_bytes)
    both_agree(file)
    assert file.stat().st_mode & 0o777 == 0o600
    assert files_in(tmp_path) == {file.name}


async def test_a_named_node_makes_it_and_an_unknown_name_is_refused(tmp_path: Path) -> None:
    async with administrator(tmp_path) as (_, client):
        administration = await client.administration()
        assert (await administration.back_up(tmp_path / "leader", node="n1")).node == "n1"
        with pytest.raises(BadInputError, match="n1, n2, n3"):
            await administration.back_up(tmp_path / "other", node="n9")
    assert files_in(tmp_path) == {"leader"}


async def test_the_leader_makes_it_where_it_is_alone(tmp_path: Path) -> None:
    async with administrator(tmp_path, ("n1",)) as (_, client):
        assert (await (await client.administration()).back_up(tmp_path / "one")).node == "n1"


def test_followers_that_serve_come_first() -> None:
    leader, slow, lost, good = (
        NodeStatus(f"h{number}:1", name=f"n{number}", leader="n1", serving=True, applied_index=10)
        for number in range(1, 5)
    )
    down = NodeStatus("h9:1", error="no answer")
    status = ClusterStatus((leader, replace(slow, applied_index=3), replace(lost, serving=False), good, down))
    assert [node.name for node in backup_calls.sources(status, "")] == ["n4", "n2", "n3", "n1"]
    with pytest.raises(UnreachableError, match="No node answers"):
        backup_calls.sources(ClusterStatus((down,)), "")


async def test_an_account_that_is_no_administrator_gets_nothing(tmp_path: Path) -> None:
    async with administrator(tmp_path) as (cluster, _):
        cluster.add_account("ben", PASSWORD)
        async with make_client(cluster, tmp_path / "state", connect=False) as client:
            await client.login("ben", PASSWORD)
            with pytest.raises(RefusedError, match="administrator"):
                await (await client.administration()).back_up(tmp_path / "one")
        assert files_in(tmp_path) == set()


async def test_an_existing_file_is_replaced_only_by_force(tmp_path: Path) -> None:
    file = tmp_path / "one.backup"
    file.write_text("kept")
    async with administrator(tmp_path) as (_, client):
        administration = await client.administration()
        with pytest.raises(BackupError, match="exists already"):
            await administration.back_up(file)
        assert file.read_text() == "kept"
        await administration.back_up(file, force=True)
    both_agree(file)
    assert files_in(tmp_path) == {file.name}


# ---- what ends a transfer


def break_off(monkeypatch: pytest.MonkeyPatch, cluster: InProcessCluster, names: set[str]) -> None:
    """These nodes die in the middle of a backup."""
    whole = Backups.stream
    dying: list[asyncio.Future[None]] = []

    async def cut(self: Backups) -> AsyncGenerator[pb.BackupChunk]:
        left = 2
        async for chunk in whole(self):
            if self._identity.name in names and not left:
                # Not in this call, which ends with the node.
                dying.append(asyncio.ensure_future(cluster.node(self._identity.name).die()))
                await asyncio.Event().wait()
            left -= bool(chunk.data)
            yield chunk

    monkeypatch.setattr(Backups, "stream", cut)
    monkeypatch.setattr("parleyd.backup.making.CHUNK_BYTES", 4096)


async def test_the_next_node_begins_again_where_one_dies_in_the_middle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with administrator(tmp_path) as (cluster, client):
        administration = await client.administration()
        break_off(monkeypatch, cluster, {"n2"})
        assert (await administration.back_up(tmp_path / "one")).node == "n3"
    both_agree(tmp_path / "one")
    assert files_in(tmp_path) == {"one"}


async def test_a_node_that_dies_in_the_middle_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with administrator(tmp_path) as (cluster, client):
        administration = await client.administration()
        break_off(monkeypatch, cluster, {"n2"})
        with pytest.raises(UnreachableError, match="No file was written"):
            await administration.back_up(tmp_path / "one", node="n2")
    assert files_in(tmp_path) == set()


async def test_a_node_that_makes_a_backup_already_refuses_a_second_one(tmp_path: Path) -> None:
    file = tmp_path / "one"
    async with administrator(tmp_path, ("n1",)) as (_, client):
        administration = await client.administration()
        begun, go_on = asyncio.Event(), asyncio.Event()
        whole = Backups.stream

        async def held(self: Backups) -> AsyncGenerator[pb.BackupChunk]:
            async for chunk in whole(self):
                begun.set()
                await go_on.wait()
                yield chunk

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Backups, "stream", held)
            first = asyncio.ensure_future(administration.back_up(file))
            await begun.wait()
            patch.setattr(Backups, "stream", whole)
            with pytest.raises(OverloadedError, match="one at a time"):
                await administration.back_up(tmp_path / "two")
            go_on.set()
            await first
    assert files_in(tmp_path) == {"one"}


async def test_a_disk_that_fills_up_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    async with administrator(tmp_path) as (_, client):
        administration = await client.administration()
        monkeypatch.setattr(client_side, "os", SimpleNamespace(**{**vars(os), "fsync": full}))
        with pytest.raises(BackupError, match="No space left"):
            await administration.back_up(tmp_path / "one")
        monkeypatch.undo()
    assert files_in(tmp_path) == set()


async def test_a_backup_that_is_cancelled_leaves_no_file_and_the_node_is_free_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with administrator(tmp_path, ("n1",)) as (_, client):
        administration = await client.administration()
        begun = asyncio.Event()
        with monkeypatch.context() as patch:
            whole = Backups.stream

            async def endless(self: Backups) -> AsyncGenerator[pb.BackupChunk]:
                async for chunk in whole(self):
                    yield chunk
                    if chunk.data:
                        begun.set()
                        await asyncio.Event().wait()

            patch.setattr(Backups, "stream", endless)
            running = asyncio.ensure_future(administration.back_up(tmp_path / "one"))
            await begun.wait()
            running.cancel()
            with pytest.raises(asyncio.CancelledError):
                await running
        assert files_in(tmp_path) == set()


def test_what_was_altered_on_its_way_is_never_named_a_backup(tmp_path: Path) -> None:
    content = forms.write(tmp_path / "whole", forms.header_of(forms.CONTENT)).read_bytes()
    writer = client_side.BackupWriter(tmp_path / "one", force=False)
    writer.write(content[:-1])
    with pytest.raises(BackupError, match="end is missing"):
        writer.finish()
    writer.discard()
    assert files_in(tmp_path) == {"whole"}


def test_what_a_killed_command_left_is_replaced_and_a_file_of_another_kind_stays(tmp_path: Path) -> None:
    left = tmp_path / "one.tmp"
    for content in (b"", b"PAR", b"PARLEYBK and more"):
        left.write_bytes(content)
        client_side.BackupWriter(tmp_path / "one", force=False).discard()
        assert not left.exists()
    left.write_bytes(b"notes")
    with pytest.raises(BackupError, match="stays as it is"):
        client_side.BackupWriter(tmp_path / "one", force=False)
    assert left.read_bytes() == b"notes"


# ---- the form


def test_what_follows_the_compressed_part_is_refused_and_not_kept(tmp_path: Path) -> None:
    path = forms.with_a_rest(forms.write(tmp_path / "one", forms.header_of(forms.CONTENT)), 20_000_000)

    def read() -> None:
        with pytest.raises(BackupError, match="not what its header announces"):
            check_backup(path)

    assert forms.kept_bytes(read) < 5_000_000


@pytest.mark.parametrize("part", forms.PARTS)
@pytest.mark.parametrize("how", ["altered", "cut short"])
def test_the_client_finds_what_the_node_finds(tmp_path: Path, part: str, how: str) -> None:
    path = forms.write(tmp_path / "one", forms.header_of(forms.CONTENT))
    check_backup(path)
    place = forms.parts_of(path)[part]
    content = bytearray(path.read_bytes())
    content[place] ^= 0x10
    path.write_bytes(content if how == "altered" else content[:place])
    with pytest.raises(BackupError):
        check_backup(path)


def test_both_sides_have_the_same_form() -> None:
    for name in ("MAGIC", "END", "FORMAT", "MAX_HEADER_BYTES"):
        assert getattr(client_side, name) == getattr(node_side, name)
    assert (client_side._HEAD.format, client_side._TAIL.format) == (node_side._HEAD.format, node_side._TAIL.format)


# ---- the command


async def test_the_commands_write_and_check_a_backup(tmp_path: Path) -> None:
    async with running_cluster(("n1", "n2")) as cluster:
        cluster.add_account("boss", PASSWORD)
        parley = Parley(tmp_path, cluster)
        assert (await parley("login", "boss", PARLEY_PASSWORD=PASSWORD)).code == 0
        file = tmp_path / "one.backup"
        made = await parley("cluster", "backup", str(file), "--json")
        assert made.code == 0, made.err
        assert json.loads(made.out)["node"] == "n2"
        assert "Written" in made.err
        again = await parley("cluster", "backup", str(file))
        assert again.code == ExitCode.FAILED
        assert "exists already" in again.err
        checked = await parley("backup", "verify", str(file))
        assert checked.code == 0, checked.err
        assert "made by n2" in checked.out
        assert "parleyd backup verify" in checked.err
        os.truncate(file, 100)
        assert (await parley("backup", "verify", str(file))).code == ExitCode.FAILED
        missing = await parley("backup", "verify", str(tmp_path / "none"))
        assert missing.code == ExitCode.FAILED
        assert "cannot be read" in missing.err


async def test_an_interrupted_command_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun = asyncio.Event()
    whole = Backups.stream

    async def endless(self: Backups) -> AsyncGenerator[pb.BackupChunk]:
        async for chunk in whole(self):
            yield chunk
            if chunk.data:
                begun.set()
                await asyncio.Event().wait()

    (tmp_path / "backups").mkdir()
    async with running_cluster(("n1",)) as cluster:
        cluster.add_account("boss", PASSWORD)
        parley = Parley(tmp_path, cluster)
        assert (await parley("login", "boss", PARLEY_PASSWORD=PASSWORD)).code == 0
        monkeypatch.setattr(Backups, "stream", endless)
        async with parley.running("cluster", "backup", str(tmp_path / "backups" / "one")) as command:
            await begun.wait()
            await until(lambda: files_in(tmp_path / "backups") == {"one.tmp"}, "the file is begun")
            command.send_signal(signal.SIGINT)
            assert await command.wait() == ExitCode.INTERRUPTED
        assert files_in(tmp_path / "backups") == set()
