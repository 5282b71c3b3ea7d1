"""Three machines for the files of scripts/deploy: network namespaces on one bridge, with the names of the files.

Each node is started by the command of the unit, from its settings file as it is. The unit's restrictions hold as far as
they need no systemd: those of tests/support/unit_file.py, no capabilities, and only /var/lib can be written.
All that is started ends with this process, if it is the first one of a process namespace.

`python -m tests.cluster.three_machines FOLDER` ends with 0 if the nodes serve, are healthy, and obey signals.
"""

from __future__ import annotations

import asyncio
import os
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from parley import ParleyClient
from scripts.cluster_process import ROOT
from tests.support.unit_file import read_unit

DEPLOY = ROOT / "scripts" / "deploy"
UNIT = DEPLOY / "parleyd.service"
NAMES = {"alpha": "10.89.0.1", "beta": "10.89.0.2", "gamma": "10.89.0.3"}
HERE = "10.89.0.9"
PASSWORD = "a long enough password"

_BRIDGE = f"""\
mount -t tmpfs tmpfs /run && mkdir /run/netns && ip link set lo up &&
ip link add hub type bridge && ip addr add {HERE}/24 dev hub && ip link set hub up"""
_MACHINE = """\
ip netns add {name} && ip link add {name}0 type veth peer name wire0 netns {name} &&
ip link set {name}0 master hub up && ip -n {name} link set lo up &&
ip -n {name} addr add {address}/24 dev wire0 && ip -n {name} link set wire0 up"""
# ProtectSystem=strict and StateDirectory.
_DISK = "mount --bind {disk} /var/lib && mount -o remount,bind,ro / && exec {command}"


def make_network(root: Path) -> None:
    """Make the machines, and the names by which they know each other."""
    script = " && ".join([_BRIDGE, *(_MACHINE.format(name=name, address=NAMES[name]) for name in NAMES)])
    hosts = root / "hosts"
    hosts.write_text("127.0.0.1 localhost\n" + "".join(f"{address} {name}\n" for name, address in NAMES.items()))
    subprocess.run(["sh", "-c", f"{script} && mount --bind {shlex.quote(str(hosts))} /etc/hosts"], check=True)


class Machine:
    """One machine with its folder /etc/parley, its disk and its node."""

    def __init__(self, root: Path, name: str) -> None:
        self.name = name
        self.settings = root / "certificates" / name / "node.toml"
        self.log = root / f"{name}.log"
        self._disk = root / f"{name}-disk"
        (self._disk / "parley").mkdir(parents=True, mode=0o700)
        shutil.copy(DEPLOY / f"{name}.toml", self.settings)
        self._node: asyncio.subprocess.Process | None = None

    @property
    def data(self) -> Path:
        """Return the data directory as it is seen from outside."""
        return self._disk / "parley"

    async def start(self) -> None:
        """Do as the unit says."""
        program, *arguments = shlex.split(read_unit(UNIT)["Service"]["ExecStart"][-1])
        assert Path(program).name == "parleyd"
        assert arguments[-1] == "/etc/parley/node.toml"
        node = [sys.executable, "-m", "parleyd", *arguments[:-1], str(self.settings)]
        restricted = [sys.executable, "-m", "tests.support.unit_file", str(UNIT), *node]
        bare = ["setpriv", "--bounding-set=-all", "--inh-caps=-all", *restricted]
        script = _DISK.format(disk=shlex.quote(str(self._disk)), command=shlex.join(bare))
        entered = ["ip", "netns", "exec", self.name, "unshare", "-m", "sh", "-c", script]
        with self.log.open("ab") as log:
            self._node = await asyncio.create_subprocess_exec(*entered, cwd=ROOT, stdout=log, stderr=log)

    async def health(self) -> tuple[int, str]:
        """Ask as the image does: exit code and words."""
        asked = await asyncio.create_subprocess_exec(
            *("ip", "netns", "exec", self.name, sys.executable, str(DEPLOY / "healthcheck.py")),
            cwd=ROOT,
            env={**os.environ, "PARLEYD_CONFIG": str(self.settings)},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        said, _ = await asked.communicate()
        assert asked.returncode is not None
        return asked.returncode, said.decode()

    def signal(self, number: signal.Signals) -> None:
        """Send the node a signal. All programs before it have become it."""
        assert self._node is not None
        self._node.send_signal(number)

    async def end(self) -> int:
        """Return the exit code of a node that was told to stop."""
        assert self._node is not None
        async with asyncio.timeout(60):
            return await self._node.wait()

    def logged(self, event: str) -> bool:
        """Return whether the node's log has an event."""
        return event in self.log.read_text()


def make_certificates(root: Path) -> None:
    """Run the script of the compose file, twice: what exists stays."""
    (root / "certificates").mkdir()
    bin_folder = root / "bin"
    bin_folder.mkdir()
    (bin_folder / "parleyd").write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m parleyd "$@"\n')
    (bin_folder / "parleyd").chmod(0o755)
    paths = {**os.environ, "PATH": f"{bin_folder}:{os.environ['PATH']}"}
    for _ in range(2):
        subprocess.run(["sh", str(DEPLOY / "certificates.sh"), str(root / "certificates")], env=paths, check=True)


async def _until(true: Callable[[], bool], what: str) -> None:
    try:
        async with asyncio.timeout(60):
            while not true():  # noqa: ASYNC110 - a file of another process
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise AssertionError(what) from None


async def main(root: Path) -> None:
    """Start, send, ask for health, read settings again, stop."""
    machines = [Machine(root, name) for name in NAMES]
    for machine in machines:
        code, said = await machine.health()
        assert code == 1, said
        assert "does not answer" in said
        await machine.start()
    await _until(lambda: all((machine.data / "operator.token").exists() for machine in machines), "no cluster was made")

    hosts = [f"{name}:7600" for name in NAMES]
    ca = root / "certificates" / "ca" / "ca.pem"
    async with asyncio.timeout(90), ParleyClient(hosts, ca=ca, state_dir=root / "ann") as client:
        await client.register("ann", PASSWORD)
        await client.login("ann", PASSWORD)
        await (await client.send("ann", "from the files as they are")).accepted(60)

    for machine in machines:
        assert await machine.health() == (0, "healthy\n"), machine.name
        assert (machine.data.stat().st_mode & 0o777) == 0o700
        assert not machine.logged("open_file_limit_low")
        text = machine.settings.read_text()
        machine.settings.write_text(f'log_level = "warning"\n{text}')
        machine.signal(signal.SIGHUP)
        await _until(lambda: machine.logged("log_level_reloaded"), "ExecReload has no effect")  # noqa: B023
        assert not machine.logged("Traceback"), machine.log.read_text()
    for machine in machines:
        machine.signal(signal.SIGTERM)
    assert [await machine.end() for machine in machines] == [0, 0, 0]


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    make_certificates(folder)
    make_network(folder)
    try:
        asyncio.run(main(folder))
    except BaseException:
        for file in folder.glob("*.log"):
            print(f"--- {file.name}", file.read_text()[-3000:], sep="\n")
        raise
