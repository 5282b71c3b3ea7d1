"""An upgrade from the release before by `parley cluster rolling-restart`, and the way back, which is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from parley import ParleyClient
from parleyd.exits import ExitCode
from parleyd.machine.levels import MAX_LEVEL, release_of
from scripts.cluster_layout import create_layout, plan_private_nodes
from scripts.cluster_local import LocalCluster
from tests.cluster.load import load
from tests.cluster.raw import PASSWORD, bodies, raw_client
from tests.cluster.releases import PREVIOUS_LEVEL, installed
from tests.cluster.test_mixed_releases import START_S, digests, wait_for_level
from tests.cluster.test_rolling_restart import SETTINGS, rolling_restart


@pytest.mark.campaign
@pytest.mark.timeout(300)
async def test_a_cluster_is_upgraded_under_load_by_a_rolling_restart_and_does_not_go_back(tmp_path: Path) -> None:
    release, boss = tmp_path / "release", tmp_path / "boss"
    release.write_text("previous")
    create_layout(tmp_path / "cluster", plan_private_nodes(3), SETTINGS)
    async with LocalCluster(tmp_path / "cluster", start=False) as own:
        own.run_with(installed(release), *own.names)
        own.start(*own.names)
        await own.wait_until_answering(*own.names)
        async with ParleyClient(own.hosts, ca=own.ca_file, state_dir=boss, connect=False) as client:
            await client.register("boss", PASSWORD)  # by the rules of that level, the first account
            await client.login("boss", PASSWORD)
        async with raw_client(own, own.names[0]) as raw:
            for name in ("ann", "ben"):
                await raw.register(name)
            ann, ben = await raw.log_in("ann"), await raw.log_in("ben")
        async with load(own, ann, "ben") as sending:
            await sending.until(50)
            await wait_for_level(own, PREVIOUS_LEVEL, *own.names)
            code, output = await rolling_restart(own, boss)
            assert code == 0, output
            await wait_for_level(own, PREVIOUS_LEVEL, *own.names)  # nothing changes with the release that is installed

            release.write_text("this")
            code, output = await rolling_restart(own, boss)
            assert (code, output.count("was restarted")) == (0, 3), output
            await wait_for_level(own, MAX_LEVEL, *own.names)
            await sending.until(50)

            # The release before, in the same place again: the node that is restarted with it ends.
            release.write_text("previous")
            back = own.others(await own.wait_for_leader())[0]
            code, output = await rolling_restart(own, boss, back, "--timeout", "12")
            assert code == 4, output
            assert f"Stopped at {back}" in output
            assert await own.wait_for_exit(back, START_S) == ExitCode.RELEASE
            assert f"Start this node with Parley {release_of(MAX_LEVEL)} or newer" in own.tail(back)
            before = digests(own, back)
            own.start(back)
            assert await own.wait_for_exit(back, START_S) == ExitCode.RELEASE
            assert digests(own, back) == before, "nothing was changed"

            release.write_text("this")
            own.start(back)
            await own.wait_until_answering(*own.names)
            await sending.until(50)
        await own.wait_until_equal()
        for name in own.names:
            async with raw_client(own, name) as raw:
                seen = bodies(await raw.history(ben, "ann"))
            assert seen == [f"message {number}" for number in range(1, len(seen) + 1)], "each once, in order"
            assert sending.acknowledged <= len(seen) <= sending.acknowledged + 1
