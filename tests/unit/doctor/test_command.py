"""The command `parleyd doctor`: what it looks at, the exit codes, the form for programs."""

from __future__ import annotations

import json
import os
import socket
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from parleyd import cli
from parleyd.doctor.examine import look_at_backups
from parleyd.doctor.facts import BackupsLook
from parleyd.exits import ExitCode
from parleyd.raft.types import NodeId
from parleyd.security.certificate_files import write_ca, write_node
from parleyd.settings.load import load_settings
from parleyd.storage import identity as identities
from parleyd.storage.data_directory import DataDirectory
from parleyd.storage.identity import NodeIdentity
from tests.support.ports import free_ports


@pytest.fixture(autouse=True)
def _clean_surroundings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("PARLEYD_"):
            monkeypatch.delenv(name)


def doctor(*arguments: object) -> Result:
    return CliRunner().invoke(cli.app, ["doctor", *map(str, arguments)], prog_name="parleyd")


def report_of(*arguments: object) -> tuple[int, dict[str, Any], set[tuple[str, str]]]:
    """The exit code, the report, and the rules with their severities."""
    ended = doctor(*arguments, "--json")
    report = json.loads(ended.stdout)
    return ended.exit_code, report, {(row["rule"], row["severity"]) for row in report["findings"]}


def config_in(folder: Path, *, days: int = 400, **more: object) -> Path:
    """A settings file with certificates, of a node that has the machine for itself."""
    write_ca(folder)
    write_node(folder, folder, "n1", ["127.0.0.1"], days=days)
    for_clients, for_peers = free_ports(2)
    values = {
        "name": "n1",
        "data_dir": "data",
        "client_listen": f"127.0.0.1:{for_clients}",
        "peer_listen": f"127.0.0.1:{for_peers}",
        "ca_file": "ca.pem",
        "cert_file": "n1.pem",
        "key_file": "n1.key",
        "disk_reserve_bytes": 2 << 20,
        "log_retain_bytes": 1 << 20,
        "max_connections": 64,
        **more,
    }
    file = folder / "node.toml"
    file.write_text("".join(f"{name} = {json.dumps(value)}\n" for name, value in values.items()))
    return file


def test_a_new_node_with_good_settings_gets_no_warning(tmp_path: Path) -> None:
    code, report, found = report_of("--config", config_in(tmp_path))
    assert code == ExitCode.OK, report
    assert found >= {("settings", "ok"), ("certificate", "ok"), ("data_directory", "note"), ("ports", "ok")}
    assert (report["version"], report["node"], report["running"]) == (1, "n1", False)
    assert report["data_dir"] == str(tmp_path / "data")
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("setting", ["client_listen", "peer_listen", "http_listen"])
def test_a_port_that_is_taken_is_critical(tmp_path: Path, setting: str) -> None:
    """If one of them is taken, the node does not start."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        more: dict[str, Any] = {setting: f"127.0.0.1:{server.getsockname()[1]}"}
        config = config_in(tmp_path, **more)
        code, _, found = report_of("--config", config)
    assert (code, ("ports", "critical") in found) == (ExitCode.CRITICAL, True)


@pytest.mark.parametrize(("days", "severity"), [(20, "warning"), (5, "critical")])
def test_a_certificate_that_ends_soon_is_found_once(tmp_path: Path, days: int, severity: str) -> None:
    code, report, _ = report_of("--config", config_in(tmp_path, days=days))
    rows = [row for row in report["findings"] if row["rule"] == "certificate"]
    assert [row["severity"] for row in rows] == [severity]
    assert code == (ExitCode.WARNING if severity == "warning" else ExitCode.CRITICAL)


def test_a_key_of_another_certificate_is_critical(tmp_path: Path) -> None:
    config = config_in(tmp_path)
    key = (tmp_path / "n1.key").read_bytes()
    write_node(tmp_path, tmp_path, "n1", ["127.0.0.1"], force=True)
    (tmp_path / "n1.key").write_bytes(key)
    _, report, found = report_of("--config", config)
    assert ("certificate", "critical") in found
    assert "is not the key of" in report["findings"][0]["text"]


def test_settings_that_cannot_be_used_are_critical_and_each_is_named(tmp_path: Path) -> None:
    code, report, found = report_of("--config", config_in(tmp_path, tick_ms=-1, heartbeat_ms="x"))
    assert (code, found) == (ExitCode.CRITICAL, {("settings", "critical")})
    assert ["tick_ms" in row["text"] or "heartbeat_ms" in row["text"] for row in report["findings"]] == [True, True]


def test_a_peer_that_does_not_answer_is_a_warning(tmp_path: Path) -> None:
    config = config_in(tmp_path)
    own = next(line for line in config.read_text().splitlines() if line.startswith("peer_listen")).split('"')[1]
    second, third = free_ports(2)
    peers = f'[peers]\nn1 = "{own}"\nn2 = "127.0.0.1:{second}"\nn3 = "127.0.0.1:{third}"\n'
    config.write_text(config.read_text() + peers)
    code, report, _ = report_of("--config", config)
    rows = [row["text"] for row in report["findings"] if row["rule"] == "peers"]
    assert code == ExitCode.WARNING
    assert [text.split()[0] for text in rows] == ["n2", "n3"]


def test_the_newest_backup_of_this_node_counts_and_no_other_file(tmp_path: Path) -> None:
    backups = tmp_path / "backups"
    config = config_in(tmp_path, backup_folder="backups", backup_interval_s=3_600)
    settings = load_settings({}, {}, config).settings
    now_s = 1_800_000_000.0
    backups.mkdir()
    assert look_at_backups(settings, now_s) is None, "this node never started"
    with DataDirectory.open(tmp_path / "data") as data:
        identities.save(data.identity, NodeIdentity(NodeId(1), "n1", "c0ffee00" * 4))
    assert look_at_backups(settings, now_s) == BackupsLook(str(backups), 3_600, None)
    for name, age_s in (
        ("parley-c0ffee00-n1-20270101T000000Z-7.backup", 500.0),
        ("parley-c0ffee00-n1-20270102T000000Z-8.backup", 300.0),
        ("parley-c0ffee00-n1-20270103T000000Z-9.backup", -60.0),  # by a wrong clock
        ("parley-c0ffee00-n2-20270102T000000Z-8.backup", 100.0),
        ("parley-c0ffee00-n1-20270102T000000Z-8.backup.tmp", 100.0),
    ):
        (backups / name).touch()
        os.utime(backups / name, (now_s - age_s, now_s - age_s))
    assert look_at_backups(settings, now_s) == BackupsLook(str(backups), 3_600, 300.0)
    _, _, found = report_of("--config", config)
    assert {severity for rule, severity in found if rule == "backups"} & {"ok", "warning", "critical"}


def test_a_backup_folder_that_is_missing_is_an_error(tmp_path: Path) -> None:
    settings = load_settings({}, {}, config_in(tmp_path)).settings
    with DataDirectory.open(tmp_path / "data") as data:
        identities.save(data.identity, NodeIdentity(NodeId(1), "n1", "c0ffee00" * 4))
    look = look_at_backups(replace(settings, backup_folder=tmp_path / "none", backup_interval_s=3_600), 0.0)
    assert look is not None
    assert "cannot be read" in look.error
    assert look_at_backups(settings, 0.0) == BackupsLook(), "no folder is set"


def test_a_folder_alone_is_looked_at_without_settings(tmp_path: Path) -> None:
    with DataDirectory.open(tmp_path / "data"):
        pass
    code, report, found = report_of(tmp_path / "data")
    assert code == ExitCode.OK, report
    assert {rule for rule, _ in found} >= {"data_directory", "identity", "log", "state", "sync"}
    assert not {rule for rule, _ in found} & {"settings", "ports", "peers", "certificate"}


def test_a_node_that_runs_and_does_not_answer_is_told(tmp_path: Path) -> None:
    config = config_in(tmp_path)
    with DataDirectory.open(tmp_path / "data"):
        code, report, found = report_of("--config", config)
    assert (code, report["running"]) == (ExitCode.CRITICAL, True)
    assert found >= {("node", "warning"), ("ports", "critical")}


def test_the_table_for_people_begins_with_the_worst(tmp_path: Path) -> None:
    ended = doctor("--config", config_in(tmp_path, days=5))
    assert ended.stdout.splitlines()[1].startswith("critical  certificate")
    assert ended.exit_code == ExitCode.CRITICAL
