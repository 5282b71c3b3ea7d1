"""The first minutes on a checkout: what is done is said, and each hint is for the cluster that the person has."""

from __future__ import annotations

import argparse
import os
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from scripts import cluster_cli
from scripts.cluster_layout import ClusterError, Layout, NodePlan, load_layout
from scripts.cluster_process import Processes, ProcessState, supervising
from scripts.cluster_status import NodeView
from scripts.cluster_table import change
from tests.unit.project.source import ROOT

STARTING = NodeView("n1", "127.0.0.2:7600", ProcessState.UP, pid=7)
ANSWERING = replace(STARTING, answers=True)
NODES = (NodePlan("n1", "127.0.0.2:7600", "127.0.0.2:7700"), NodePlan("n2", "127.0.0.3:7600", "127.0.0.3:7700"))


def stored(folder: Path) -> Layout:
    """A cluster that was never started."""
    folder.mkdir()
    nodes = [f'{{"name": "{n.name}", "client_address": "{n.client_address}", "peer_address": ""}}' for n in NODES]
    (folder / "cluster.json").write_text(f'{{"nodes": [{", ".join(nodes)}]}}')
    return load_layout(folder)


def test_a_node_is_said_to_answer_when_it_does_and_not_before() -> None:
    """ "n1 is up" was said while no node answered."""
    assert change(None, STARTING) == "n1 starts at 127.0.0.2:7600, pid 7"
    assert change(STARTING, STARTING) == ""
    assert change(STARTING, ANSWERING) == "n1 answers"
    assert change(ANSWERING, ANSWERING) == ""
    assert change(None, ANSWERING) == "n1 answers at 127.0.0.2:7600, pid 7"
    assert change(None, replace(STARTING, state=ProcessState.DOWN, pid=0)) == "n1 is down at 127.0.0.2:7600"


@pytest.mark.parametrize("state", [ProcessState.PAUSED, ProcessState.DOWN, ProcessState.STOPPED])
def test_a_hint_about_a_node_names_its_cluster(state: ProcessState) -> None:
    said = change(ANSWERING, replace(ANSWERING, state=state, answers=False), "scripts/cluster.py --var var5")
    assert "scripts/cluster.py --var var5 " in said


def test_each_hint_for_a_cluster_in_another_folder_names_that_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    usual, other = stored(tmp_path / "var"), stored(tmp_path / "my var5")
    assert usual.script == "scripts/cluster.py"
    assert other.script == f"scripts/cluster.py --var '{tmp_path}/my var5'"
    for layout in (usual, other):
        hints = cluster_cli._guide(layout, restart=False)
        assert any(f"{layout.script} kill n1" in line for line in hints)
        assert any(f"{layout.script} start n1" in line for line in hints)
        assert any(f'eval "$({layout.script} env)"' in line for line in hints)
        with pytest.raises(ClusterError, match=f"{layout.script} start n1"):
            Processes(layout).pause("n1")
        with supervising(layout), pytest.raises(ClusterError, match=f"{layout.script} status"), supervising(layout):
            pass
        with pytest.raises(ClusterError, match=f"{layout.script} destroy"):
            cluster_cli._open_or_create(layout.root, 3)
    (other.root / "cluster.json").write_text("{")
    with pytest.raises(ClusterError, match=f"{other.script} destroy"):
        load_layout(other.root)


def test_the_settings_of_parley_for_a_local_cluster_are_lines_for_a_shell(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    layout = stored(tmp_path / "my var5")
    assert cluster_cli._env(argparse.Namespace(var=layout.root)) == 0
    lines = capsys.readouterr().out
    shown = subprocess.run(
        ["bash", "-c", f'{lines}\necho "$PARLEY_HOSTS|$PARLEY_CA|$PARLEY_STATE_DIR"'],
        check=True,
        capture_output=True,
        text=True,
        env={"PATH": os.environ["PATH"]},
    ).stdout
    hosts, ca, state = shown.strip().split("|")
    assert hosts == "127.0.0.2:7600,127.0.0.3:7600"
    assert ca == str(layout.ca_file)
    assert state.startswith(str(layout.root))


def test_a_password_that_nobody_typed_is_told_once_with_its_place(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "password"
    password = cluster_cli._development_password(file, tell=True)
    assert str(file) in capsys.readouterr().err
    assert cluster_cli._development_password(file, tell=True) == password
    assert capsys.readouterr().err == ""


FAKE_PYTHON = """#!/bin/sh
case "$*" in
*"-m venv"*) mkdir -p "$3/bin" && cp "$0" "$3/bin/python" ;;
*--version*) echo Python 3.11.7 ;;
*-r*)
    echo "Collecting grpcio"
    echo "Installing collected packages: grpcio"
    [ "$PIP_DISABLE_PIP_VERSION_CHECK$PIP_ROOT_USER_ACTION" = 1ignore ] || echo "WARNING: a newer pip, and root" >&2
    [ ! -e fail ] || { echo "ERROR: hashes differ" >&2; exit 1; } ;;
esac
"""


def set_up(folder: Path) -> subprocess.CompletedProcess[str]:
    fake = folder / "python"
    fake.write_text(FAKE_PYTHON)
    fake.chmod(0o755)
    (folder / "requirements-dev.lock").write_text("grpcio==1.0 \\\n    --hash=sha256:00\nrich==1.0\n# via\n")
    return subprocess.run(
        ["bash", str(ROOT / "scripts" / "setup_venv.sh"), ".venv", str(fake)],
        check=False,
        capture_output=True,
        text=True,
        cwd=folder,
    )


def test_the_set_up_says_each_step_before_it_begins_and_warns_of_nothing(tmp_path: Path) -> None:
    """It printed nothing for a minute, and then the installer's warnings."""
    done = set_up(tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert [line[:6] for line in done.stdout.splitlines()] == ["Making", "1 of 3", "2 of 3", "3 of 3", "The en"]
    assert "2 pinned packages" in done.stdout
    again = set_up(tmp_path)
    assert "1 of 3" not in again.stdout


def test_a_set_up_that_fails_says_why_and_ends_with_an_error(tmp_path: Path) -> None:
    (tmp_path / "fail").touch()
    done = set_up(tmp_path)
    assert done.returncode != 0
    assert "ERROR: hashes differ" in done.stderr
    assert "ready" not in done.stdout
