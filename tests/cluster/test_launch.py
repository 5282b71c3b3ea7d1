"""`scripts/launch.py`: one host list starts nodes on this machine and, by ssh, on others."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from parleyd.settings.load import load_settings
from scripts.cluster_layout import ClusterError
from scripts.cluster_process import ROOT
from scripts.launch_cli import main
from scripts.launch_files import load, make_files, settle
from scripts.launch_list import ListedNode, from_flags, read_list
from tests.cluster import two_machines
from tests.cluster.two_machines import Launcher

NO_NAMESPACES = "this system lets this user make no network namespaces (unshare -nmp, unshare -Urnmp, ip netns)"

# Stands for a node: it shows up in the list of processes as one, ends on SIGTERM, and keeps what it was started with.
STAND_IN = """\
#!/bin/sh
echo "up with $*"
trap 'exit 0' TERM
while :; do sleep 0.02; done
"""


def listed(tmp_path: Path, *lines: str) -> list[ListedNode]:
    file = tmp_path / "list"
    file.write_text("\n".join(lines))
    return list(read_list(file))


# ---- the list


def test_a_line_names_a_machine_its_first_port_and_its_nodes(tmp_path: Path) -> None:
    nodes = listed(tmp_path, "# machines", "", "alpha 7600 2", "beta 7600 ssh=parley@beta program='/srv/a b/parleyd'")
    assert nodes == [
        ListedNode("n1", "alpha", 7600, "alpha"),
        ListedNode("n2", "alpha", 7601, "alpha"),
        ListedNode("n3", "beta", 7600, "parley@beta", "/srv/a b/parleyd"),
    ]
    assert nodes[1].plan.peer_address == "alpha:7701"
    assert from_flags("alpha,beta", "7600,7600", "2,1")[:2] == tuple(nodes[:2])


def test_loopback_addresses_and_those_without_ssh_are_this_machine(tmp_path: Path) -> None:
    assert [node.ssh for node in listed(tmp_path, "127.0.0.1 7600 2", "localhost 7610", "::1 7600")] == [""] * 4
    assert [node.ssh for node in listed(tmp_path, "alpha 7600 ssh=none", "beta 7600")] == ["", "beta"]


@pytest.mark.parametrize(
    ("lines", "hint"),
    [
        (["alpha"], "Line 1 .* too few"),
        (["alpha 7600 1 2"], "too many words"),
        (["alpha 7600 color=red"], "too few or too many"),
        (["alpha 7600 ssh=-oProxyCommand=x"], "not a name for ssh"),
        (["alpha 7600 'ssh=a b'"], "not a name for ssh"),
        (["alpha 7600 program='x"], "Line 1 .* wrong"),
        (["alpha 0"], "--ports is not a number"),
        (["alpha 7600", "alpha 7600"], "alpha:7600, alpha:7700 would be taken by two"),
        (["alpha 7600", "alpha 7700"], "alpha:7700 would be taken by two"),
        (["alpha 65500"], "ports end at 65435"),
        (["alpha 7600 8"], "The list has 8 nodes"),
        ([""], "The list has 0 nodes"),
        (["localhost 7600", "alpha 7600"], "addresses of this machine only"),
    ],
)
def test_a_wrong_list_is_refused_before_anything_is_done(tmp_path: Path, lines: list[str], hint: str) -> None:
    with pytest.raises(ClusterError, match=hint):
        listed(tmp_path, *lines)


# ---- the files


def test_every_node_gets_a_certificate_and_settings_that_parleyd_takes(tmp_path: Path) -> None:
    nodes = listed(tmp_path, "alpha 7600 2", "10.0.0.2 7600")
    make_files(settle(tmp_path / "var", nodes), {"bcrypt_cost": 11})
    settings = load_settings({}, {}, tmp_path / "var" / "n2" / "node.toml").settings
    assert (settings.name, settings.client_advertise, settings.bcrypt_cost) == ("n2", "alpha:7601", 11)
    assert settings.data_dir == tmp_path / "var" / "n2" / "data"
    assert settings.cert_file is not None
    assert settings.cert_file.exists()
    texts = [(tmp_path / "var" / node.name / "node.toml").read_text() for node in nodes]
    assert 'client_listen = "0.0.0.0:7601"' in texts[1]
    assert 'client_listen = "10.0.0.2:7600"' in texts[2]
    assert all(text.endswith('[peers]\nn1 = "alpha:7700"\nn2 = "alpha:7701"\nn3 = "10.0.0.2:7700"\n') for text in texts)


def test_a_second_start_makes_nothing_anew_and_a_new_node_joins(tmp_path: Path) -> None:
    root = tmp_path / "var"
    make_files(settle(root, listed(tmp_path, "alpha 7600")), {})
    before = {file: file.read_bytes() for file in root.rglob("*") if file.is_file() and file.name != "launch.json"}
    make_files(settle(root, listed(tmp_path, "alpha 7600 2 ssh=root@alpha")), {})
    assert {file: file.read_bytes() for file in before} == before
    assert (root / "n2" / "node.toml").read_text().endswith('[join]\nn1 = "alpha:7700"\n')
    launch = load(root)
    assert launch is not None
    assert ([node.name for node in launch.joining], launch.nodes[0].ssh) == (["n2"], "root@alpha")
    with pytest.raises(ClusterError, match="has other nodes than the list: n1 alpha:7600"):
        settle(root, listed(tmp_path, "beta 7600", "alpha 7600"))
    with pytest.raises(ClusterError, match="other nodes"):
        settle(root, listed(tmp_path, "alpha 7600"))


# ---- the commands


@pytest.fixture
def launch(tmp_path: Path) -> Launcher:
    """A launcher whose machines are folders, with odd names wherever a name is free."""
    program = tmp_path / "no de"
    program.write_text(STAND_IN)
    program.chmod(0o755)
    made = Launcher(tmp_path)
    made.list("alpha 7600 2", f"beta 7600 ssh=parley@beta program={shlex.quote(str(program))}")
    return made


def calls(launch: Launcher) -> list[list[str]]:
    """What the fake ssh was called with since the last look."""
    found = []
    for file in launch.bin.glob("call-*"):
        found.append(json.loads(file.read_text()))
        file.unlink()
    return sorted(found)


def test_a_dry_run_prints_exactly_what_a_run_does(launch: Launcher, tmp_path: Path) -> None:
    directory = 'it\'s $HOME/"here"'
    program = shlex.quote(str(tmp_path / "no de"))
    flags = ("--list", str(tmp_path / "nodes.txt"), "--dir", directory, "--program", program)
    dry = launch("start", "--dry-run", *flags)
    assert (dry.returncode, dry.stderr) == (0, "")
    assert not launch.var.exists(), "a dry run makes nothing"
    lines = dry.stdout.splitlines()
    assert len(lines) == 6, lines
    for line in lines:
        *_, ssh, option, mode, end, who, remote = shlex.split(line)
        assert (ssh, option, mode, end) == ("ssh", "-o", "BatchMode=yes", "--")
        assert who in ("alpha", "parley@beta")
        shell, flag, script = shlex.split(remote)
        assert (shell, flag) == ("sh", "-c")
        assert shlex.quote(f"{directory}/n")[:-2] in script
    assert shlex.split(lines[0])[:5] == ["tar", "-C", str(launch.var / "n1"), "-cf", "-"]

    try:
        launch("start", *flags, "--wait", "0")
        really = calls(launch)
        there = launch.bin / "machines" / "parley@beta" / directory / "n3"
        assert (there / "log").read_text() == f"up with start --config {there}/node.toml\n"
        assert (there / "n3.key").stat().st_mode & 0o077 == 0
        status = launch("status", "--dir", directory)
        assert [line.split("): ")[1].split(",")[0] for line in status.stdout.splitlines()[:3]] == ["runs"] * 3
        assert launch("stop", "--dir", directory).stdout.count("stopped") == 3
        calls(launch)
        for line in lines:
            subprocess.run(["sh", "-c", line], env=launch.environment, check=True)
        assert calls(launch) == really
    finally:
        launch("stop", "--dir", directory)
    gone = launch("status", "--dir", directory)
    assert gone.returncode == 1
    assert gone.stdout.count("does not run; last line of its log: up with start") == 3


def test_no_secret_is_in_a_command(launch: Launcher, tmp_path: Path) -> None:
    make_files(settle(launch.var, read_list(tmp_path / "nodes.txt")), {})
    printed = launch("start", "--dry-run").stdout
    for key in launch.var.rglob("*.key"):
        secret = key.read_text().splitlines()[1]
        assert secret not in printed


def test_a_machine_that_is_not_reached_is_named_and_nothing_is_started(launch: Launcher, tmp_path: Path) -> None:
    done = launch("start", "--list", str(tmp_path / "nodes.txt"), "--ssh", "false")
    assert done.returncode == 1
    assert done.stdout.count("ended with code 1") == 3
    assert "n3 (beta, by ssh parley@beta)" in done.stdout
    assert not list(tmp_path.rglob("pid"))


def test_errors_are_one_text_and_no_traceback(
    launch: Launcher, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for arguments, hint in (
        (("status",), "has no cluster"),
        (("stop",), "has no cluster"),
        (("start",), "has no cluster"),
        (("start", "--list", str(tmp_path / "none")), "cannot be read"),
        (("start", "--hosts", "a,b", "--ports", "1"), "--hosts has 2 entries"),
        (("start", "--hosts", "a", "--ports", "1", "--list", "x"), "Both --list and --hosts"),
        (("start", "--list", str(tmp_path / "nodes.txt"), "n9"), "no node n9"),
        (("start", "--list", str(tmp_path / "nodes.txt"), "--set", "x"), "not NAME=VALUE"),
        (("start", "--list", str(tmp_path / "nodes.txt"), "--ssh", "'"), "not a command"),
    ):
        assert main([*arguments, "--var", str(launch.var)]) == 1, arguments
        said = capsys.readouterr()
        assert said.out == ""
        assert hint in said.err


@pytest.mark.campaign
def test_real_nodes_of_one_list_run_on_two_machines(tmp_path: Path) -> None:
    command = two_machines.namespace()
    if command is None:
        pytest.skip(NO_NAMESPACES)
    done = subprocess.run(
        [*command, sys.executable, "-m", "tests.cluster.two_machines", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert done.returncode == 0, done.stdout + done.stderr
