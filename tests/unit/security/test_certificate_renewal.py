"""`parleyd cert renew`: the same node, names and key, in files that nobody sees half."""

from __future__ import annotations

import datetime
import os
import shutil
import stat
from pathlib import Path

import pytest
from cryptography import x509
from typer.testing import CliRunner

from parleyd.cli import app
from parleyd.exits import ExitCode
from parleyd.security.certificate_checks import check_node_certificate
from parleyd.security.certificate_files import load_certificates, write_ca, write_node
from parleyd.security.certificates import key_digest, names_in

DAY = datetime.timedelta(days=1)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_ca(tmp_path)
    for name in ("n1", "n2"):
        write_node(tmp_path, tmp_path, name, ["127.0.0.1", "ward-a"], days=40)
    return tmp_path


def renew(*arguments: str | Path) -> str:
    result = CliRunner().invoke(app, ["cert", "renew", *map(str, arguments)])
    assert result.exit_code == ExitCode.OK, result.output
    return result.output


def refusal(*arguments: str | Path) -> str:
    result = CliRunner().invoke(app, ["cert", "renew", *map(str, arguments)])
    assert result.exit_code == ExitCode.CERTIFICATE, result.output
    return " ".join(result.output.split())


def certificate(folder: Path, name: str = "n1") -> x509.Certificate:
    return load_certificates(folder / f"{name}.pem")[0]


def test_a_renewed_certificate_has_the_same_names_and_key_and_lasts_longer(folder: Path) -> None:
    before, key = certificate(folder), (folder / "n1.key").read_bytes()
    output = renew(folder / "n1.pem")
    after = certificate(folder)
    assert names_in(after) == names_in(before)
    assert key_digest(after) == key_digest(before)
    assert after.not_valid_after_utc > before.not_valid_after_utc + 700 * DAY
    assert (folder / "n1.key").read_bytes() == key
    assert stat.S_IMODE((folder / "n1.pem").stat().st_mode) == 0o644
    check_node_certificate(folder / "ca.pem", folder / "n1.pem", folder / "n1.key", "n1")
    assert f"{after.not_valid_after_utc:%Y-%m-%d}" in output


def test_several_are_renewed_without_their_keys_where_the_ca_is_elsewhere(folder: Path, tmp_path: Path) -> None:
    ca = tmp_path / "safe"
    ca.mkdir()
    shutil.move(folder / "ca.key", ca / "ca.key")
    shutil.copy(folder / "ca.pem", ca / "ca.pem")
    for name in ("n1", "n2"):
        (folder / f"{name}.key").unlink()
    before = [certificate(folder, name) for name in ("n1", "n2")]
    renew(folder / "n1.pem", folder / "n2.pem", "--ca", ca)
    assert [certificate(folder, name) for name in ("n1", "n2")] != before
    assert not (folder / "n1.key").exists()


def test_a_new_key_is_made_only_when_asked_and_the_text_says_what_becomes_of_the_old_one(folder: Path) -> None:
    before = certificate(folder)
    assert "refuse the old key" in renew(folder / "n1.pem", "--new-key")
    assert key_digest(certificate(folder)) != key_digest(before)
    assert names_in(certificate(folder)) == names_in(before)
    assert stat.S_IMODE((folder / "n1.key").stat().st_mode) == 0o600
    check_node_certificate(folder / "ca.pem", folder / "n1.pem", folder / "n1.key", "n1")


def test_one_that_cannot_be_renewed_leaves_all_as_they_are(folder: Path) -> None:
    before = (folder / "n1.pem").read_bytes()
    assert "names no node" in refusal(folder / "n1.pem", folder / "ca.pem", "--ca", folder)
    assert "cannot be read" in refusal(folder / "n1.pem", folder / "n9.pem")
    assert "cannot be valid for 0 days" in refusal(folder / "n1.pem", "--days", "0")
    assert (folder / "n1.pem").read_bytes() == before


def test_a_certificate_of_an_unknown_ca_is_renewed_only_where_its_ca_is_named(folder: Path, tmp_path: Path) -> None:
    new = tmp_path / "new"
    write_ca(new)
    old_digest = key_digest(certificate(folder))
    assert "was not signed by the CA" in refusal(folder / "n1.pem", "--ca", new)
    renew(folder / "n1.pem", "--ca", new, "--signed-by", folder / "ca.pem")
    check_node_certificate(new / "ca.pem", folder / "n1.pem", folder / "n1.key", "n1")
    assert key_digest(certificate(folder)) == old_digest


def test_a_write_that_fails_leaves_the_old_certificate(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = (folder / "n1.pem").read_bytes()

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    assert "No space left" in refusal(folder / "n1.pem")
    assert (folder / "n1.pem").read_bytes() == before
    assert [file.name for file in folder.iterdir() if file.name.startswith(".")] == []


def test_a_link_stays_a_link(folder: Path, tmp_path: Path) -> None:
    link = tmp_path / "link.pem"
    link.symlink_to(folder / "n1.pem")
    before = certificate(folder)
    renew(link, "--ca", folder)
    assert link.is_symlink()
    assert certificate(folder) != before
