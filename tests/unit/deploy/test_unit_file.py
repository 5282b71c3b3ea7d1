"""The systemd unit agrees with the program, the settings files and the page for operators."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
import typer.main

from parleyd.cli import app
from parleyd.exits import ExitCode
from parleyd.open_files import RESERVED_FILES
from scripts.cluster_process import ROOT
from tests.support.unit_file import allowed_calls, read_unit
from tests.unit.deploy.files import DEPLOY, NAMES, settings_of

UNIT = DEPLOY / "parleyd.service"
PAGE = (ROOT / "docs" / "OPERATIONS.md").read_text()
# A start may succeed later by itself: another program has the port, or something unforeseen happened.
STARTED_AGAIN = {ExitCode.FAILED, ExitCode.ADDRESS}
# `parleyd start` never ends with these.
OF_OTHER_COMMANDS = {ExitCode.WARNING, ExitCode.CRITICAL}


def one(section: str, key: str) -> str:
    """Return the only value of a key."""
    (value,) = read_unit(UNIT)[section][key]
    return value


def seconds_for_systemd() -> int:
    """Return how long systemd waits for a node that stops."""
    return int(one("Service", "TimeoutStopSec"))


# ---- the unit


def test_the_command_of_the_unit_is_one_of_the_program() -> None:
    program, command, flag, file = shlex.split(one("Service", "ExecStart"))
    assert (Path(program).name, flag, Path(file).name) == ("parleyd", "--config", "node.toml")
    assert command in typer.main.get_command(app).commands  # type: ignore[attr-defined]
    assert one("Service", "ExecReload").split()[1:] == ["-HUP", "$MAINPID"]
    assert one("Service", "KillSignal") == "SIGTERM"


def test_exit_codes_that_a_person_has_to_look_at_are_not_started_again() -> None:
    kept = {ExitCode(int(code)) for code in one("Service", "RestartPreventExitStatus").split()}
    assert kept == set(ExitCode) - {ExitCode.OK} - STARTED_AGAIN - OF_OTHER_COMMANDS
    assert one("Service", "Restart") == "on-failure"
    assert one("Unit", "StartLimitIntervalSec") == "0"
    numbers = ", ".join(str(int(code)) for code in sorted(kept)[:-1]) + f" and {int(max(kept))}"
    assert f"exit codes {numbers}" in PAGE


def test_limits_of_the_unit_fit_the_settings() -> None:
    for name in NAMES:
        settings = settings_of(name)
        assert int(one("Service", "LimitNOFILE")) >= settings.max_connections + RESERVED_FILES
        assert seconds_for_systemd() >= 2 * settings.shutdown_grace_s


def test_the_node_can_write_its_data_directory_and_nothing_else() -> None:
    service = read_unit(UNIT)["Service"]
    assert service["ProtectSystem"] == ["strict"]
    assert "ReadWritePaths" not in service
    for name in NAMES:
        assert settings_of(name).data_dir == Path("/var/lib") / one("Service", "StateDirectory")
    assert one("Service", "StateDirectoryMode") == "0700"
    assert one("Service", "UMask") == "0077"


def test_the_user_is_that_of_the_unit() -> None:
    user = one("Service", "User")
    sysusers = (DEPLOY / "sysusers.conf").read_text().splitlines()[-1]
    assert shlex.split(sysusers) == ["u", user, "-", "Parley node", str(settings_of("alpha").data_dir)]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make users and folders in a root directory")
@pytest.mark.skipif(shutil.which("systemd-sysusers") is None, reason="systemd-sysusers is not installed")
def test_systemd_makes_the_user_and_keeps_the_key_private(tmp_path: Path) -> None:
    folder = tmp_path / Path(shlex.split(one("Service", "ExecStart"))[-1]).parent.relative_to("/")
    folder.mkdir(parents=True)
    folder.chmod(0o777)
    subprocess.run(["systemd-sysusers", f"--root={tmp_path}", str(DEPLOY / "sysusers.conf")], check=True)
    fields = (tmp_path / "etc" / "passwd").read_text().strip().split(":")
    assert (fields[0], fields[5], fields[6]) == (one("Service", "User"), "/var/lib/parley", "/usr/sbin/nologin")
    for name, mode in (("alpha.key", 0o644), ("alpha.pem", 0o600), ("node.toml", 0o666)):
        (folder / name).touch()
        (folder / name).chmod(mode)
    tmpfiles = ["systemd-tmpfiles", f"--root={tmp_path}", "--create", str(DEPLOY / "tmpfiles.conf")]
    subprocess.run(tmpfiles, check=True)
    found = {file.name: (file.stat().st_mode & 0o777, file.stat().st_uid) for file in (folder, *folder.iterdir())}
    assert found == {
        folder.name: (0o755, 0),
        "alpha.key": (0o600, int(fields[2])),
        "alpha.pem": (0o644, 0),
        "node.toml": (0o644, 0),
    }


def test_a_key_of_the_unit_may_stand_twice_and_a_line_without_a_key_is_found(tmp_path: Path) -> None:
    file = tmp_path / "unit"
    file.write_text("[A]\n# no\nX=1\nX=~2 3\n")
    assert read_unit(file) == {"A": {"X": ["1", "~2 3"]}}
    file.write_text("[A]\nX\n")
    with pytest.raises(AssertionError):
        read_unit(file)


# ---- what systemd says to it


@pytest.fixture
def checked(tmp_path: Path) -> Path:
    """Give the unit with a program that exists here, as systemd wants it."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed: systemd has not looked at the unit")
    file = tmp_path / "parleyd.service"
    file.write_text(UNIT.read_text().replace(shlex.split(one("Service", "ExecStart"))[0], "/bin/true"))
    return file


def analyze(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run systemd-analyze to its end."""
    return subprocess.run(["systemd-analyze", *arguments], capture_output=True, text=True, check=False, timeout=60)


def test_systemd_finds_no_fault_in_the_unit(checked: Path) -> None:
    done = analyze("verify", "--man=no", str(checked))
    assert (done.returncode, done.stderr) == (0, "")
    checked.write_text(checked.read_text().replace("ProtectClock", "ProtectClocks"))
    assert "ProtectClocks" in analyze("verify", "--man=no", str(checked)).stderr


def test_systemd_calls_the_unit_well_protected(checked: Path) -> None:
    """The threshold is in tenths. What is left over is the network, which a node needs, and a few more."""
    done = analyze("security", "--offline=true", "--no-pager", "--threshold=15", str(checked))
    if "unrecognized option" in done.stderr:
        pytest.skip("this systemd is too old to judge a unit that is not installed")
    assert done.returncode == 0, done.stdout


def test_the_filter_has_what_a_server_calls_and_not_what_only_root_does(checked: Path) -> None:
    calls = allowed_calls(read_unit(checked)["Service"])
    assert {"accept4", "fsync", "pwrite64", "prlimit64"} <= calls
    assert not calls & {"mount", "ptrace", "setuid", "chroot", "bpf", "init_module", "reboot", "setpriority"}


# ---- the settings


def test_the_settings_files_differ_only_in_the_lines_of_the_node_itself() -> None:
    texts = {name: (DEPLOY / f"{name}.toml").read_text() for name in NAMES}
    head, blank, rest = texts["alpha"].partition("\n\n")
    for name, text in texts.items():
        assert text == head.replace("alpha", name) + blank + rest
        settings = settings_of(name)
        assert settings.name == name
        assert set(settings.peers) == set(NAMES)
        assert settings.peer_advertise == settings.peers[name]
        assert not settings.insecure


def test_the_page_for_operators_shows_these_files_and_has_no_copy_of_the_unit() -> None:
    (shown,) = re.findall(r"```toml\n(name = .*?)```", PAGE, re.DOTALL)
    assert shown == (DEPLOY / "alpha.toml").read_text()
    assert "[Service]" not in PAGE
    named = set(re.findall(r"scripts/deploy/([\w.]+\w)", PAGE))
    assert {"parleyd.service", "sysusers.conf", "tmpfiles.conf", "compose.yaml", "Dockerfile"} <= named
    assert all((DEPLOY / name).is_file() for name in named)
    assert shlex.split(one("Service", "ExecStart"))[-1] in PAGE
