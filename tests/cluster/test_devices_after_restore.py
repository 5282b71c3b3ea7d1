"""Devices after a real restore: what the cluster lost is kept, listed and sent again once, under the new cluster id."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from parleyd.exits import ExitCode
from scripts.cluster_local import LocalCluster
from tests.cluster.conftest import FAST
from tests.cluster.raw import PASSWORD
from tests.cluster.test_data_comes_back import command_of, on_stopped, two_people
from tests.cluster.test_membership import wipe
from tests.unit.client.test_command import Parley

pytestmark = pytest.mark.asyncio


def on_new_device(cluster: LocalCluster, folder: Path) -> Parley:
    """The command `parley` with a folder of its own."""
    folder.mkdir()
    return command_of(cluster, folder)


async def signed_in_on(cluster: LocalCluster, folder: Path, name: str) -> Parley:
    """The command `parley` on a device where this person has signed in."""
    parley = on_new_device(cluster, folder)
    await done(parley, "login", name, PARLEY_PASSWORD=PASSWORD)
    return parley


async def done(parley: Parley, *arguments: str, **environment: str) -> str:
    """Run a command that must succeed. Return what it prints on both streams."""
    ended = await parley(*arguments, **environment)
    assert ended.code == 0, ended.err
    return ended.out + ended.err


@pytest.mark.campaign
async def test_devices_keep_what_a_restored_cluster_lost_and_send_it_again_once(tmp_path: Path) -> None:
    file = tmp_path / "monday.backup"
    async with LocalCluster(tmp_path / "cluster", nodes=1, settings=FAST) as cluster:
        await two_people(cluster)
        ann = await signed_in_on(cluster, tmp_path / "ann", "ann")
        ben = await signed_in_on(cluster, tmp_path / "ben", "ben")
        await done(ann, "send", "ben", "before")
        await done(ann, "cluster", "backup", str(file))
        later = await signed_in_on(cluster, tmp_path / "later", "ben")  # which is not in the backup
        await done(ann, "send", "ben", "lost of ann")
        await done(ben, "send", "ann", "lost of ben")
        await done(later, "send", "ann", "lost of a new device")
        assert "lost of ben" in await done(ann, "fetch")

        await cluster.stop("n1")
        wipe(cluster, "n1")
        restored = await on_stopped(cluster, "n1", "restore", str(file))
        assert restored.code == ExitCode.OK, restored.output
        cluster.start("n1")
        await cluster.wait_until_answering("n1")

        assert "1 that this device sent and 2 that it received" in await done(ann, "fetch")
        assert "restored" not in await done(ann, "fetch"), "it is said once"
        listed = await done(ann, "lost")
        assert [body in listed for body in ("lost of ann", "lost of ben", "lost of a new device")] == [True] * 3
        history = (await ann("history", "ben")).out.splitlines()
        assert [line.endswith("(not in the cluster any more)") for line in history] == [False, True, True, True]

        await done(ann, "lost", "--resend", "all")
        await done(later, "login", "ben", PARLEY_PASSWORD=PASSWORD)
        assert "1 that this device sent" in await done(later, "fetch")
        await done(later, "lost", "--resend", "all")
        for device in (ann, ben, later):
            await done(device, "fetch")
        stored = json.loads((await ben("history", "ann", "--json")).out)
        assert [message["body"] for message in stored] == ["before", "lost of ann", "lost of a new device"]
        assert "lost of ben" in await done(ben, "lost")
