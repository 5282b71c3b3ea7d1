"""Two machines for `scripts/launch.py`: network namespaces with a wire between them, and an ssh that enters the other.

It needs the right to make namespaces, which `namespace()` gives a process of its own where the system allows it. All
that it starts ends with that process.

`python -m tests.cluster.two_machines FOLDER`: three real nodes from one host list, two of them on the first machine.
It ends with 0 if they serve, if the cluster outlives the second machine, and if a node that is added to the list joins.
"""

from __future__ import annotations

import asyncio
import functools
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

from parley import Administration, ParleyClient, RefusedError
from parleyd.cli_admin import leave_claim
from parleyd.security.codes import new_code
from scripts.cluster_process import ROOT

HERE, THERE = "10.88.0.1", "10.88.0.2"
PASSWORD = "a long enough password"
_WIRE = f"""\
mount -t tmpfs tmpfs /run && mkdir /run/netns && ip netns add there &&
ip link add here0 type veth peer name there0 netns there &&
ip addr add {HERE}/24 dev here0 && ip link set here0 up && ip link set lo up &&
ip -n there addr add {THERE}/24 dev there0 && ip -n there link set there0 up && ip -n there link set lo up"""


@functools.cache
def namespace() -> list[str] | None:
    """Return the beginning of a command that may make namespaces; None if the system allows it to nobody."""
    if shutil.which("unshare") is None or shutil.which("ip") is None:
        return None
    for flags in ("-nmp", "-Urnmp"):
        command = ["unshare", flags, "--fork", "--kill-child", "--mount-proc"]
        tried = subprocess.run([*command, "sh", "-c", _WIRE], capture_output=True, check=False, timeout=20)
        if tried.returncode == 0:
            return command
    return None


def fake_ssh(folder: Path, enter: str = "") -> Path:
    """Make a program `ssh` that runs the command in a folder of the machine. `enter` begins that command."""
    folder.mkdir(parents=True, exist_ok=True)
    program = folder / "ssh"
    program.write_text(
        f"#!{sys.executable}\n"
        "import json, os, pathlib, sys\n"
        f"root = pathlib.Path({str(folder)!r})\n"
        "(root / f'call-{os.getpid()}').write_text(json.dumps(sys.argv[1:]))\n"
        "machine = root / 'machines' / sys.argv[-2]\n"
        "machine.mkdir(parents=True, exist_ok=True)\n"
        "os.chdir(machine)\n"
        f"command = [*{shlex.split(enter)!r}, 'sh', '-c', sys.argv[-1]]\n"
        "os.execvp(command[0], command)\n"
    )
    program.chmod(0o755)
    return program


class Launcher:
    """Runs `scripts/launch.py` with the fake ssh in PATH."""

    def __init__(self, root: Path, enter: str = "") -> None:
        self.root = root
        self.bin = fake_ssh(root / "bin", enter).parent
        self.var = root / "va r"
        self.environment = {**os.environ, "PATH": f"{self.bin}:{os.environ['PATH']}"}

    def __call__(self, command: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run one command to its end."""
        return subprocess.run(
            [sys.executable, str(ROOT / "scripts" / "launch.py"), command, "--var", str(self.var), *arguments],
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=180,
        )

    def list(self, *lines: str) -> Path:
        """Write the host list."""
        file = self.root / "nodes.txt"
        file.write_text("# a list\n\n" + "".join(f"{line}\n" for line in lines))
        return file


def _expect(done: subprocess.CompletedProcess[str], code: int, *texts: str) -> None:
    said = f"{done.stdout}{done.stderr}"
    assert done.returncode == code, (done.returncode, said)
    assert all(text in said for text in texts), (texts, said)


async def main(root: Path) -> None:
    """Start, lose a machine, get it back, grow, stop."""
    launch = Launcher(root, "ip netns exec there")
    node = ("--program", shlex.join([sys.executable, "-m", "parleyd"]))
    lines = [f"{HERE} 7600 2 ssh=none", f"{THERE} 7600 1 ssh=parley@there"]
    listed = launch.list(*lines)
    started = launch("start", "--list", str(listed), *node, "--set", "bcrypt_cost=10")
    _expect(started, 0, "3 of 3 known nodes answer", f"n3 ({THERE}, by ssh parley@there): started")
    assert not (launch.var / "n3" / "data").exists(), "it lives on its own machine"
    assert (launch.bin / "machines" / "parley@there" / "parley-nodes" / "n3" / "data").is_dir()
    _expect(launch("start", *node), 0, "n1", "runs already", "3 of 3")
    await _send(launch, f"{THERE}:7600", "through the second machine")

    _expect(launch("stop", "n3"), 0, "n3", "stopped")
    _expect(launch("status"), 1, "n3", "does not run", "The cluster serves: 2 of 3")
    await _send(launch, f"{HERE}:7601", "while the second machine is away")
    _expect(launch("start", "n3", *node), 0, "3 of 3")

    launch.list(*lines, f"{THERE} 7610 1 ssh=parley@there")
    grown = launch("start", "--list", str(listed), *node, "--wait", "2", "--set", "bcrypt_cost=10")
    _expect(grown, 1, f"parley cluster add n4 {THERE}:7710")
    await _admit(launch, "n4", f"{THERE}:7710")
    _expect(launch("start", *node), 0, "4 of 4 known nodes answer")
    _expect(launch("stop"), 0, "n1", "n2", "n3", "n4")
    _expect(launch("status"), 1, "No node answers")


def _client(launch: Launcher, address: str, name: str) -> ParleyClient:
    return ParleyClient([address], ca=launch.var / "ca" / "ca.pem", state_dir=launch.root / name)


async def _send(launch: Launcher, address: str, body: str) -> None:
    """Send through one node, and wait for the majority."""
    async with _client(launch, address, f"ann-{address}") as client:
        if not (launch.root / "registered").exists():
            await client.register("ann", PASSWORD)
            (launch.root / "registered").touch()
        await client.login("ann", PASSWORD)
        await (await client.send("ann", body)).accepted(60)


async def _admit(launch: Launcher, name: str, peer_address: str) -> None:
    """Become the administrator by a code that is made on a node, and admit the new node."""
    code = new_code()
    claim = leave_claim(launch.var / "n1" / "data", code)
    async with asyncio.timeout(60):
        while claim.exists():  # noqa: ASYNC110 - the node takes it from its disk
            await asyncio.sleep(0.02)
    async with _client(launch, f"{HERE}:7600", "operator") as client:
        await client.register("operator", PASSWORD, code)
        await client.login("operator", PASSWORD)
        await (await client.own_account()).claim_administrator(code)
        administration = await client.administration()
        async with asyncio.timeout(60):
            while not await _added(administration, name, peer_address):  # noqa: ASYNC110 - nothing tells it
                await asyncio.sleep(0.1)  # the node has been started, and is on its way


async def _added(administration: Administration, name: str, peer_address: str) -> bool:
    try:
        await administration.add_member(name, peer_address)
    except RefusedError as error:
        if "No node answers" not in error.text:
            raise
        return False
    return True


if __name__ == "__main__":
    subprocess.run(["sh", "-c", _WIRE], check=True)
    asyncio.run(main(Path(sys.argv[1])))
