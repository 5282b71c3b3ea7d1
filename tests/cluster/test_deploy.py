"""Three nodes start from the written files of scripts/deploy, on machines with their own addresses."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from scripts.cluster_process import ROOT
from tests.cluster.two_machines import namespace


def missing() -> str:
    """Return what this machine lacks; empty if it lacks nothing."""
    for program in ("systemd-analyze", "setpriv"):
        if shutil.which(program) is None:
            return f"{program} is not installed: the restrictions of the unit are not tried on a real node"
    try:
        ctypes.CDLL("libseccomp.so.2")
    except OSError:
        return "libseccomp is not installed: the unit's filter of system calls is not tried on a real node"
    if namespace() is None:
        return "this system lets this user make no network namespaces (unshare -nmp, unshare -Urnmp, ip netns)"
    return ""


def test_nodes_run_from_the_written_files_under_the_restrictions_of_the_unit(tmp_path: Path) -> None:
    if lacks := missing():
        pytest.skip(lacks)
    command = namespace()
    assert command is not None
    done = subprocess.run(
        [*command, sys.executable, "-m", "tests.cluster.three_machines", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert done.returncode == 0, done.stdout + done.stderr
