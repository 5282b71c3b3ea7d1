"""The command `parleyd`: exit codes, texts, and that what it prints can be used again."""

from __future__ import annotations

import errno
import json
import logging
import os
import subprocess
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import pytest
import structlog
from typer.testing import CliRunner, Result

from parleyd import cli, cli_admin
from parleyd.events.source import EventSource
from parleyd.exits import EXIT_CODE_MEANINGS, ExitCode, FatalError
from parleyd.security.certificates import CertificateError
from parleyd.security.codes import digest_of_code
from parleyd.settings.load import load_settings
from parleyd.settings.table import SETTINGS, Settings
from parleyd.storage.administrator_claim import read_claim, refuse_claim, waiting_claims
from parleyd.storage.errors import IdentityError, StorageDamagedError


@pytest.fixture(autouse=True)
def _clean_surroundings(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in list(os.environ):
        if name.startswith("PARLEYD_"):
            monkeypatch.delenv(name)
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def parleyd(*arguments: object) -> Result:
    return CliRunner().invoke(cli.app, [str(argument) for argument in arguments], prog_name="parleyd")


@pytest.fixture
def node(monkeypatch: pytest.MonkeyPatch) -> Callable[[bool | BaseException], list[Settings]]:
    """Put a node in place of the real one, which ends as told; what it was started with is collected.

    True: an administrator restarts it.
    """

    def put(ending: bool | BaseException) -> list[Settings]:
        started: list[Settings] = []

        async def run_node(settings: Settings, reload: Callable[[], None], events: EventSource) -> bool:
            started.append(settings)
            if isinstance(ending, BaseException):
                raise ending
            return ending

        module = types.ModuleType("parleyd.node")
        vars(module)["run_node"] = run_node
        monkeypatch.setitem(sys.modules, "parleyd.node", module)
        return started

    return put


def insecure(folder: Path) -> list[object]:
    return ["--name", "n1", "--data-dir", folder, "--insecure"]


# ---- config


def test_config_prints_a_file_that_gives_the_same_settings(tmp_path: Path) -> None:
    peers = ["--peer", "n1=127.0.0.1:7700", "--peer", "n2=127.0.0.2:7700", "--peer", "n3=[::1]:7700"]
    first = parleyd("config", *insecure(tmp_path / 'with "quotes" # and é'), *peers, "--heartbeat-ms", 75)
    assert first.exit_code == ExitCode.OK
    written = tmp_path / "node.toml"
    written.write_text(first.stdout)
    expected = load_settings(
        {
            "name": "n1",
            "data_dir": str(tmp_path / 'with "quotes" # and é'),
            "insecure": True,
            "heartbeat_ms": "75",
            "peers": ["n1=127.0.0.1:7700", "n2=127.0.0.2:7700", "n3=[::1]:7700"],
        },
        {},
    )
    assert load_settings({}, {}, written).settings == expected.settings


def test_config_says_where_each_setting_comes_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "node.toml"
    file.write_text('name = "n1"\ndata_dir = "d"\nmax_clients = 5\n')
    monkeypatch.setenv("PARLEYD_LOG_LEVEL", "debug")
    shown = parleyd("config", "--config", file, "--insecure").stdout.splitlines()
    assert f"max_clients = 5  # {file}: max_clients" in shown
    assert 'log_level = "debug"  # environment variable PARLEYD_LOG_LEVEL' in shown
    assert "insecure = true  # flag --insecure" in shown
    assert "heartbeat_ms = 50  # default" in shown
    assert "# ca_file is not set" in shown


def test_config_as_json_has_every_setting_with_its_origin(tmp_path: Path) -> None:
    shown = json.loads(parleyd("config", "--json", *insecure(tmp_path), "--heartbeat-ms", 100).stdout)
    assert list(shown["settings"]) == list(SETTINGS) == list(shown["origins"])
    assert shown["settings"]["peers"] == {"n1": "127.0.0.1:7700"}
    assert shown["settings"]["data_dir"] == str(tmp_path)
    assert shown["origins"]["heartbeat_ms"] == "flag --heartbeat-ms"
    assert "one late heartbeat" in shown["warnings"][0]


def test_config_warns_on_stderr_only(tmp_path: Path) -> None:
    result = parleyd("config", *insecure(tmp_path), "--heartbeat-ms", 100)
    assert "warning: election_timeout_min_ms" in result.stderr
    assert "late heartbeat" not in result.stdout


def test_the_environment_may_name_the_settings_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "node.toml"
    file.write_text('name = "n7"\ndata_dir = "d"\ninsecure = true\n')
    monkeypatch.setenv("PARLEYD_CONFIG", str(file))
    assert 'name = "n7"' in parleyd("config").stdout


@pytest.mark.parametrize("command", ["start", "config"])
def test_wrong_settings_are_one_block_on_stderr(command: str, tmp_path: Path) -> None:
    result = parleyd(command, "--name", "N1", "--data-dir", tmp_path, "--insecure", "--heartbeat-ms", "x")
    assert result.exit_code == ExitCode.USAGE
    assert result.stdout == ""
    assert result.stderr.startswith("parleyd: 2 settings are wrong:")
    assert "name = 'N1'  (flag --name)" in result.stderr
    assert "heartbeat_ms = 'x'  (flag --heartbeat-ms)" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("arguments", [["start", "--no-such-flag"], ["no-such-command"], ["cert", "node", "n1"]])
def test_wrong_usage_ends_with_the_code_for_it(arguments: list[str]) -> None:
    assert parleyd(*arguments).exit_code == ExitCode.USAGE


@pytest.mark.parametrize("command", ["start", "config"])
def test_every_setting_is_a_flag_with_its_help(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "1000")
    shown = parleyd(command, "--help").stdout
    for setting in SETTINGS.values():
        assert f"{setting.flag} " in shown
        assert setting.help in shown
    for code, meaning in EXIT_CODE_MEANINGS.items():
        assert f"{code.value} {meaning}" in shown


def test_help_lists_the_commands_and_the_exit_codes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "1000")
    shown = parleyd("--help").stdout
    assert all(command in shown for command in ("start", "config", "cert", "version"))
    assert all(meaning in shown for meaning in EXIT_CODE_MEANINGS.values())


# ---- start


def test_start_runs_the_node_with_the_settings_and_ends_as_it_does(
    node: Callable[[bool], list[Settings]], tmp_path: Path
) -> None:
    started = node(False)
    assert parleyd("start", *insecure(tmp_path), "--heartbeat-ms", 75).exit_code == 0
    assert [(settings.name, settings.heartbeat_ms) for settings in started] == [("n1", 75)]


def test_a_node_that_is_restarted_replaces_its_process_by_one_with_the_same_arguments(
    node: Callable[[bool], list[Settings]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replaced: list[tuple[str, list[str]]] = []

    def execv(program: str, arguments: list[str]) -> NoReturn:
        replaced.append((program, arguments))
        raise SystemExit(0)  # as a program that is replaced, it does nothing after this

    monkeypatch.setattr(os, "execv", execv)
    monkeypatch.setattr(sys, "orig_argv", ["python", "-m", "parleyd", "start", "--name", "n1"])
    node(True)
    assert parleyd("start", *insecure(tmp_path)).exit_code == 0
    assert replaced == [(sys.executable, [sys.executable, "-m", "parleyd", "start", "--name", "n1"])]


def warnings_in(stderr: str) -> list[dict[str, str]]:
    """The lines of the log above level info."""
    lines = [json.loads(line) for line in stderr.splitlines() if line.startswith("{")]
    return [line for line in lines if line["level"] != "info"]


def test_insecure_is_loud(node: Callable[[bool], list[Settings]], tmp_path: Path) -> None:
    node(False)
    result = parleyd("start", *insecure(tmp_path))
    assert "INSECURE: this node runs without TLS" in result.stderr
    (line,) = warnings_in(result.stderr)
    assert line["level"] == "warning"
    assert line["event"] == "insecure_mode_enabled"


def test_insecure_beyond_this_machine_starts_nothing(node: Callable[[bool], list[Settings]], tmp_path: Path) -> None:
    started = node(False)
    result = parleyd("start", *insecure(tmp_path), "--client-listen", "10.0.0.1:7600")
    assert result.exit_code == ExitCode.USAGE
    assert "add insecure_network if you mean it" in result.stderr
    assert started == []


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (FatalError(ExitCode.ADDRESS, "127.0.0.1:7600 is taken."), ExitCode.ADDRESS, "127.0.0.1:7600 is taken."),
        (StorageDamagedError("raft.sqlite: damaged."), ExitCode.STORAGE, "raft.sqlite: damaged."),
        (IdentityError("another node's."), ExitCode.STORAGE, "another node's."),
        (
            CertificateError("n1.key cannot be read"),
            ExitCode.CERTIFICATE,
            "n1.key cannot be read. Nothing was started.",
        ),
        (
            ExceptionGroup("tasks", [ValueError("x"), ExceptionGroup("inner", [StorageDamagedError("torn.")])]),
            ExitCode.STORAGE,
            "torn.",
        ),
        (ValueError("surprise"), ExitCode.FAILED, "an unexpected error: ValueError: surprise"),
    ],
)
def test_what_stops_a_node_has_a_code_and_one_text(
    error: Exception, code: ExitCode, text: str, node: Callable[[BaseException], list[Settings]], tmp_path: Path
) -> None:
    node(error)
    result = parleyd("start", *insecure(tmp_path))
    assert result.exit_code == code
    outside_the_log = [line for line in result.stderr.splitlines() if not line.startswith(("{", "*"))]
    assert outside_the_log[0].startswith("parleyd: ")
    assert text in outside_the_log[0]
    assert "Traceback" not in "\n".join(outside_the_log)


def test_a_log_for_people_says_once_what_stops_a_node(
    node: Callable[[BaseException], list[Settings]], tmp_path: Path
) -> None:
    """It was the last line of the log, and then once more."""
    node(FatalError(ExitCode.ADDRESS, "127.0.0.1:7600 is taken."))
    for log_format, times in (("console", 1), ("json", 2)):  # a program reads the record
        result = parleyd("start", *insecure(tmp_path), "--log-format", log_format)
        assert result.exit_code == ExitCode.ADDRESS
        assert result.stderr.count("127.0.0.1:7600 is taken.") == times, result.stderr


def test_a_node_starts_with_the_certificates_the_command_makes(
    node: Callable[[bool], list[Settings]], tmp_path: Path
) -> None:
    started = node(False)
    assert parleyd("cert", "ca", "--out", tmp_path).exit_code == 0
    assert parleyd("cert", "node", "n1", "--host", "127.0.0.1", "--out", tmp_path).exit_code == 0
    files = ["--ca-file", tmp_path / "ca.pem", "--cert-file", tmp_path / "n1.pem", "--key-file", tmp_path / "n1.key"]
    result = parleyd("start", "--name", "n1", "--data-dir", tmp_path / "data", *files)
    assert result.exit_code == 0
    assert len(started) == 1
    assert all(line.startswith("{") for line in result.stderr.splitlines())  # no banner
    assert warnings_in(result.stderr) == []


def test_a_node_with_the_certificate_of_another_does_not_start(
    node: Callable[[bool], list[Settings]], tmp_path: Path
) -> None:
    started = node(False)
    parleyd("cert", "ca", "--out", tmp_path)
    parleyd("cert", "node", "n2", "--host", "127.0.0.1", "--out", tmp_path)
    files = ["--ca-file", tmp_path / "ca.pem", "--cert-file", tmp_path / "n2.pem", "--key-file", tmp_path / "n2.key"]
    result = parleyd("start", "--name", "n1", "--data-dir", tmp_path / "data", *files)
    assert result.exit_code == ExitCode.CERTIFICATE
    assert "is the certificate of node n2, but this node is n1" in result.stderr
    assert started == []


def test_a_certificate_that_misses_the_advertised_host_is_warned_about(
    node: Callable[[bool], list[Settings]], tmp_path: Path
) -> None:
    node(False)
    parleyd("cert", "ca", "--out", tmp_path)
    parleyd("cert", "node", "n1", "--host", "ward-a", "--out", tmp_path)
    files = ["--ca-file", tmp_path / "ca.pem", "--cert-file", tmp_path / "n1.pem", "--key-file", tmp_path / "n1.key"]
    result = parleyd("start", "--name", "n1", "--data-dir", tmp_path / "data", *files)
    (line,) = warnings_in(result.stderr)
    assert "does not name 127.0.0.1" in line["detail"]


# ---- cert


def test_cert_says_what_each_file_is_for(tmp_path: Path) -> None:
    result = parleyd("cert", "ca", "--out", tmp_path)
    assert f"{tmp_path}/ca.pem  give it to every node and every client" in result.stdout
    result = parleyd("cert", "node", "n1", "--host", "10.0.0.1", "--host", "ward-a", "--out", tmp_path)
    assert "for n1.node.parley, 10.0.0.1, ward-a" in result.stdout


def test_the_ca_may_be_kept_elsewhere(tmp_path: Path) -> None:
    parleyd("cert", "ca", "--out", tmp_path / "safe")
    result = parleyd("cert", "node", "n1", "--host", "a", "--out", tmp_path / "n1", "--ca", tmp_path / "safe")
    assert result.exit_code == 0
    assert sorted(path.name for path in (tmp_path / "n1").iterdir()) == ["n1.key", "n1.pem"]


def test_certificates_are_replaced_only_with_force(tmp_path: Path) -> None:
    parleyd("cert", "ca", "--out", tmp_path)
    before = (tmp_path / "ca.key").read_bytes()
    result = parleyd("cert", "ca", "--out", tmp_path)
    assert result.exit_code == ExitCode.CERTIFICATE
    assert "add --force" in result.stderr
    assert (tmp_path / "ca.key").read_bytes() == before
    assert parleyd("cert", "ca", "--out", tmp_path, "--force").exit_code == 0
    assert (tmp_path / "ca.key").read_bytes() != before


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["n1", "--host", "a"], "parleyd cert ca --out"),
        (["N1", "--host", "a"], "the node name must be"),
        (["n1", "--host", "n2.node.parley"], "identify nodes"),
        (["n1", "--host", "a", "--days", "0"], "cannot be valid for 0 days"),
    ],
)
def test_a_certificate_that_cannot_be_made_says_why(arguments: list[str], text: str, tmp_path: Path) -> None:
    if "ca --out" not in text:
        parleyd("cert", "ca", "--out", tmp_path)
    result = parleyd("cert", "node", *arguments, "--out", tmp_path)
    assert result.exit_code == ExitCode.CERTIFICATE
    assert text in result.stderr


def test_show_tells_whose_certificate_it_is(tmp_path: Path) -> None:
    parleyd("cert", "ca", "--out", tmp_path)
    parleyd("cert", "node", "n1", "--host", "10.0.0.1", "--out", tmp_path)
    shown = parleyd("cert", "show", tmp_path / "n1.pem").stdout
    assert "node         n1\n" in shown
    assert "names        n1.node.parley, 10.0.0.1\n" in shown
    assert "none: not a node certificate" in parleyd("cert", "show", tmp_path / "ca.pem").stdout
    missing = parleyd("cert", "show", tmp_path / "nothing.pem")
    assert missing.exit_code == ExitCode.CERTIFICATE
    assert "No such file" in missing.stderr


# ---- as a process


def test_python_m_server_is_parleyd(tmp_path: Path) -> None:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "parleyd", *arguments], capture_output=True, text=True, check=False
        )

    told = run("version")
    assert told.returncode == ExitCode.OK
    assert told.stdout.startswith("parleyd ")
    refused = run("start", "--name", "n1", "--data-dir", str(tmp_path))
    assert refused.returncode == ExitCode.USAGE
    assert refused.stderr.startswith("parleyd: 3 settings are wrong:")
    assert "Usage: parleyd " in run("--help").stdout


def test_a_node_without_an_open_stderr_ends_with_the_right_code(tmp_path: Path) -> None:
    """It exited with 1 without a word, whatever else was right or wrong."""
    unusable = tmp_path / "no-certificate"
    unusable.write_text("x")
    unusable.chmod(0o600)
    files = [part for flag in ("--ca-file", "--cert-file", "--key-file") for part in (flag, str(unusable))]
    start = [sys.executable, "-m", "parleyd", "start", "--name", "n1", "--data-dir", str(tmp_path / "data"), *files]
    ended = subprocess.run(["sh", "-c", 'exec "$0" "$@" 2>&-', *start], check=False, timeout=60)
    assert ended.returncode == ExitCode.CERTIFICATE


def test_no_file_of_a_node_takes_the_place_of_a_closed_standard_stream() -> None:
    """Libraries write to descriptor 2, which would be a database."""
    program = (
        "import os, sys\n"
        "from parleyd.standard_streams import open_standard_streams\n"
        "open_standard_streams()\n"
        "sys.stderr.write('nobody reads this')\n"
        "sys.exit(os.open(os.devnull, os.O_RDONLY))\n"
    )
    ended = subprocess.run(
        ["sh", "-c", 'exec "$0" "$@" <&- >&- 2>&-', sys.executable, "-c", program], check=False, timeout=60
    )
    assert ended.returncode == 3


# ---- administrators


def test_an_administrators_code_is_printed_alone_and_the_node_takes_its_digest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "identity.json").touch()
    taken: list[str] = []

    def take(_: float) -> None:  # the node, which looks into its data directory
        [claim] = waiting_claims(tmp_path)
        taken.append(claim.read_text())
        claim.unlink()

    monkeypatch.setattr(cli_admin, "sleep", take)
    result = parleyd("admin", "create", tmp_path)
    assert result.exit_code == 0
    [code] = result.stdout.split()
    assert json.loads(taken[0])["digest"] == digest_of_code(code).hex()
    assert "parley register NAME --code CODE" in result.stderr


def test_a_code_waits_for_a_node_that_does_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "identity.json").touch()
    (tmp_path / "node.toml").write_text('name = "n1"\ndata_dir = "data"\ninsecure = true\n')
    monkeypatch.setattr(cli_admin, "WAIT_S", 0.0)
    result = parleyd("admin", "create", "--config", tmp_path / "node.toml")
    assert result.exit_code == 0
    assert "as soon as this node runs" in result.stderr
    assert len(waiting_claims(tmp_path / "data")) == 1


def test_two_codes_for_a_node_that_does_not_run_both_reach_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second one took the place of the first, which was called valid all the same."""
    (tmp_path / "identity.json").touch()
    monkeypatch.setattr(cli_admin, "WAIT_S", 0.0)
    codes = [parleyd("admin", "create", tmp_path).stdout.strip() for _ in range(2)]
    assert {read_claim(path).digest for path in waiting_claims(tmp_path)} == set(map(digest_of_code, codes))


def test_a_code_that_the_cluster_refuses_is_not_called_valid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "identity.json").touch()
    monkeypatch.setattr(cli_admin, "sleep", lambda _: refuse_claim(waiting_claims(tmp_path)[0]))
    result = parleyd("admin", "create", tmp_path)
    assert result.exit_code == ExitCode.FAILED
    assert "refused the code" in result.stderr
    assert "valid" not in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["identity.json"]


def test_a_code_that_cannot_be_stored_is_called_worthless(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The text was that of a node whose disk has failed."""
    (tmp_path / "identity.json").touch()

    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    result = parleyd("admin", "create", tmp_path)
    assert result.exit_code == ExitCode.STORAGE
    assert "worth nothing" in result.stderr
    assert "The node stops" not in result.stderr


def test_a_code_is_made_for_a_nodes_data_directory_only(tmp_path: Path) -> None:
    result = parleyd("admin", "create", tmp_path)
    assert result.exit_code == ExitCode.USAGE
    assert "no data directory" in result.stderr
    assert list(tmp_path.iterdir()) == []
