"""Makes a data directory and a client's profile as this release writes them: `python -m scripts.make_fixture [FOLDER]`.

Run it once for each release and keep the result under tests/fixtures/data/RELEASE: every later release must open it.
One real node and the SDK write the files; expected.json says what they hold. No key and no path of this machine is
kept.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import shutil
import sys
import tempfile
from contextlib import closing
from importlib import metadata
from pathlib import Path
from typing import Any

from parley.client import ParleyClient
from parley.device import identity as devices
from parley.device.profile import StateDirectory
from parley.device.schema import open_database
from parleyd.machine.machine import StateMachine
from parleyd.storage import identity as identities
from parleyd.storage.data_directory import DataDirectory
from parleyd.storage.raft_storage import RaftStorage
from scripts.cluster_local import LocalCluster

ROOT = Path(__file__).resolve().parents[1]
FIXTURES = ROOT / "tests" / "fixtures" / "data"
ACCOUNT, PEER, PASSWORD = "anna", "bob", "correct horse battery"
SENT = ("first", "second, with an umlaut: ü", "third " + "long " * 2000)
WAITING = "waits for the node"
_LEFT_OUT = shutil.ignore_patterns("lock", "*.lock", "last.json")


async def make_fixture(target: Path) -> None:
    """Write `target`, which must not exist."""
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        async with LocalCluster(work / "cluster", nodes=1, settings={"bcrypt_cost": 10}) as cluster:
            await cluster.wait_for_leader()
            client = ParleyClient(cluster.hosts, ca=cluster.ca_file, state_dir=work / "client")
            async with client:
                await client.register(PEER, PASSWORD)
                await client.register(ACCOUNT, PASSWORD)
                await client.login(ACCOUNT, PASSWORD)
                for body in SENT:
                    await (await client.send(PEER, body)).accepted()
                await cluster.stop("n1")
                await client.send(PEER, WAITING)
            shutil.copytree(cluster.layout.data_dir("n1"), target / "node", ignore=_LEFT_OUT)
        shutil.copytree(work / "client", target / "client", ignore=_LEFT_OUT)
    expected = {"node": read_node(target / "node"), "client": read_client(target / "client")}
    (target / "node" / "lock").unlink(missing_ok=True)
    (target / "expected.json").write_text(json.dumps(expected, indent=2) + "\n", encoding="utf-8")


def read_node(folder: Path) -> dict[str, Any]:
    """What a node's data directory holds, read as a start reads it."""
    with DataDirectory.open(folder) as data:
        identity = identities.load(data.identity)
        log = RaftStorage.open(data.raft_db)
        with closing(log), closing(StateMachine.open(data.state_db)) as machine:
            return {
                "name": identity.name if identity else "",
                "cluster_id": identity.cluster_id if identity else "",
                "last_index": log.load().last_index,
                "applied_index": machine.applied_index,
                "state_hash": machine.state_hash.hex(),
            }


def read_client(folder: Path) -> dict[str, Any]:
    """What a client's folder holds."""
    directory = StateDirectory(folder)
    [path] = folder.glob(f"*/{ACCOUNT}/client.sqlite")
    with closing(open_database(path)) as connection:
        rows = connection.execute("SELECT body FROM outbox ORDER BY local_id").fetchall()
        return {
            "device_id": devices.load(connection).device_id.hex(),
            "outbox": [str(body) for (body,) in rows],
            "hosts": len(directory.hosts(path.parent.parent.name).given),
        }


def main() -> int:
    """Exit code 0: the fixture is there."""
    parser = argparse.ArgumentParser(prog="python -m scripts.make_fixture", description=__doc__)
    parser.add_argument("folder", nargs="?", type=Path, default=FIXTURES / metadata.version("parley"))
    target: Path = parser.parse_args().folder
    if target.exists():
        print(f"{target} exists: a fixture is made once for each release and never made again")
        return 1
    asyncio.run(make_fixture(target))
    print(f"wrote {target}; add the release to RELEASED in tests/fixtures/test_fixtures.py")
    return 0


if __name__ == "__main__":
    sys.exit(main())
