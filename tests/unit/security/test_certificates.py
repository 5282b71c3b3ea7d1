"""Certificates: what is made, what is written, what is refused at start and in which words."""

from __future__ import annotations

import datetime
import os
import stat
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from parleyd.security import certificate_files
from parleyd.security.certificate_checks import CertificateReport, check_node_certificate
from parleyd.security.certificate_files import load_ca, load_certificates, load_key, write_ca, write_node
from parleyd.security.certificates import (
    CertificateError,
    Issued,
    issue_node_certificate,
    make_ca,
    names_in,
    node_of_dns_name,
    nodes_in,
)

NOW = datetime.datetime(2026, 6, 1, 12, tzinfo=datetime.UTC)
DAY = datetime.timedelta(days=1)


class Forge:
    """A CA in memory that also makes certificates no command of ours would make."""

    def __init__(self, folder: Path, *, days: int = 3650) -> None:
        self.folder = folder
        self.ca = make_ca(days=days, now=NOW)
        self.certificate = x509.load_pem_x509_certificate(self.ca.certificate_pem)
        key = serialization.load_pem_private_key(self.ca.key_pem, None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        self.key = key
        (folder / "ca.pem").write_bytes(self.ca.certificate_pem)

    def issue(self, name: str = "n1", *hosts: str, days: int = 825) -> Issued:
        return issue_node_certificate(self.certificate, self.key, name, hosts or ["ward-a"], days=days, now=NOW)

    def put(self, issued: Issued) -> None:
        (self.folder / "n1.pem").write_bytes(issued.certificate_pem)
        (self.folder / "n1.key").write_bytes(issued.key_pem)

    def sign(self, *extensions: x509.ExtensionType) -> Issued:
        key = ec.generate_private_key(ec.SECP256R1())
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([]))
            .issuer_name(self.certificate.subject)
            .public_key(key.public_key())
            .serial_number(1)
            .not_valid_before(NOW - DAY)
            .not_valid_after(NOW + 365 * DAY)
        )
        for extension in extensions:
            builder = builder.add_extension(extension, critical=False)
        pem = serialization.Encoding.PEM
        key_pem = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        return Issued(builder.sign(self.key, hashes.SHA256()).public_bytes(pem), key_pem, NOW + 365 * DAY)

    def check(
        self, *, name: str = "n1", now: datetime.datetime = NOW, advertised: tuple[str, ...] = ()
    ) -> CertificateReport:
        ca, certificate, key = (self.folder / file for file in ("ca.pem", "n1.pem", "n1.key"))
        return check_node_certificate(ca, certificate, key, name, advertised=advertised, now=now)

    def refusal(self, *, name: str = "n1", now: datetime.datetime = NOW) -> str:
        with pytest.raises(CertificateError) as caught:
            self.check(name=name, now=now)
        return str(caught.value)


@pytest.fixture
def forge(tmp_path: Path) -> Forge:
    return Forge(tmp_path)


def test_a_fresh_certificate_works_at_once_even_where_the_clock_is_behind(forge: Forge) -> None:
    forge.put(forge.issue("n1", "ward-a", "10.0.0.1", "2001:DB8::1"))
    assert forge.check(now=NOW - datetime.timedelta(minutes=59)).warnings == ()
    report = forge.check(advertised=("ward-a:7600", "10.0.0.1:7600", "[2001:db8::1]:7600"))
    assert report.warnings == ()
    assert report.names == ("n1.node.parley", "ward-a", "10.0.0.1", "2001:db8::1")
    assert report.expires_at == NOW + 825 * DAY


def test_a_node_certificate_serves_and_dials_and_signs_nothing(forge: Forge) -> None:
    certificate = x509.load_pem_x509_certificate(forge.issue().certificate_pem)
    uses = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert set(uses) == {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH}
    assert not certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert nodes_in(certificate) == ("n1",)


def test_a_node_certificate_never_outlives_the_ca(tmp_path: Path) -> None:
    assert Forge(tmp_path, days=100).issue(days=825).expires_at == NOW + 100 * DAY


def test_an_expired_ca_issues_nothing(tmp_path: Path) -> None:
    ca = Forge(tmp_path, days=1)
    with pytest.raises(CertificateError, match="CA expired on 2026-06-02"):
        issue_node_certificate(ca.certificate, ca.key, "n1", ["a"], now=NOW + 2 * DAY)


@pytest.mark.parametrize("host", ["n2.node.parley", "N2.NODE.PARLEY", "x.n2.node.parley"])
def test_no_host_can_pose_as_a_node(forge: Forge, host: str) -> None:
    with pytest.raises(CertificateError, match="identify nodes"):
        forge.issue("n1", host)


@pytest.mark.parametrize("host", ["", "a:80", "*.example", "a b", "10.0.0.256"])
def test_hosts_that_are_none_are_refused(forge: Forge, host: str) -> None:
    with pytest.raises(CertificateError, match="without a port"):
        forge.issue("n1", host)


def test_a_certificate_needs_a_host_a_name_and_a_life(forge: Forge) -> None:
    with pytest.raises(CertificateError, match="no host is given"):
        issue_node_certificate(forge.certificate, forge.key, "n1", [], now=NOW)
    with pytest.raises(CertificateError, match="the node name must be"):
        forge.issue("N1", "a")
    with pytest.raises(CertificateError, match="cannot be valid for 0 days"):
        forge.issue(days=0)


@pytest.mark.parametrize(
    ("dns_name", "node"),
    [
        ("n1.node.parley", "n1"),
        ("ward-a.node.parley", "ward-a"),
        ("*.node.parley", None),
        (".node.parley", None),
        ("node.parley", None),
        ("a.n1.node.parley", None),
        ("n1.node.parley.example", None),
        ("n1.node.parley.node.parley", None),
        ("n1.node.parleyx", None),
        ("N1.node.parley", None),
        ("n1", None),
    ],
)
def test_only_an_exact_name_stands_for_a_node(dns_name: str, node: str | None) -> None:
    assert node_of_dns_name(dns_name) == node


# ---- judged at start


def test_an_expired_certificate_is_refused_with_the_day(forge: Forge) -> None:
    forge.put(forge.issue(days=10))
    assert "n1.pem expired on 2026-06-11" in forge.refusal(now=NOW + 10 * DAY)


def test_an_expired_ca_is_refused_with_the_day(tmp_path: Path) -> None:
    forge = Forge(tmp_path, days=10)
    forge.put(forge.issue())
    assert "expired on 2026-06-11" in forge.refusal(now=NOW + 11 * DAY)


def test_a_certificate_from_the_future_points_at_the_clock(forge: Forge) -> None:
    forge.put(forge.issue())
    assert "set the clock" in forge.refusal(now=NOW - DAY)


def test_thirty_days_before_the_end_a_warning_comes(forge: Forge) -> None:
    forge.put(forge.issue(days=60))
    assert forge.check(now=NOW + 29 * DAY).warnings == ()
    (warning,) = forge.check(now=NOW + 31 * DAY).warnings
    assert "n1.pem expires on 2026-07-31, in 29 days" in warning


def test_an_ageing_ca_is_warned_about_too(tmp_path: Path) -> None:
    forge = Forge(tmp_path, days=20)
    forge.put(forge.issue(days=20))
    assert ["ca.pem" in warning for warning in forge.check().warnings] == [False, True]


def test_an_address_the_certificate_does_not_name_is_warned_about(forge: Forge) -> None:
    forge.put(forge.issue("n1", "ward-a"))
    (warning,) = forge.check(advertised=("ward-b:7600",)).warnings
    assert "does not name ward-b" in warning
    assert "--host ward-b" in warning


def test_the_key_of_another_certificate_is_refused(forge: Forge) -> None:
    forge.put(forge.issue())
    (forge.folder / "n1.key").write_bytes(forge.issue().key_pem)
    assert "is not the key of" in forge.refusal()


def test_a_certificate_of_a_foreign_ca_is_refused(forge: Forge) -> None:
    forge.put(forge.issue())
    (forge.folder / "ca.pem").write_bytes(make_ca(now=NOW).certificate_pem)
    assert "was not signed by" in forge.refusal()


def test_a_ca_made_anew_under_the_same_name_is_told_apart(forge: Forge) -> None:
    impostor_key = ec.generate_private_key(ec.SECP256R1())
    real, forge.key = forge.key, impostor_key
    forge.put(forge.issue())
    forge.key = real
    assert "was not signed by" in forge.refusal()


def test_a_bundle_of_old_and_new_ca_accepts_both(forge: Forge) -> None:
    forge.put(forge.issue())
    (forge.folder / "ca.pem").write_bytes(make_ca(now=NOW).certificate_pem + forge.ca.certificate_pem)
    assert forge.check().warnings == ()


def test_the_certificate_of_another_node_is_refused_with_both_names(forge: Forge) -> None:
    forge.put(forge.issue("n2"))
    assert "is the certificate of node n2, but this node is n1" in forge.refusal()


def test_a_certificate_without_a_node_is_refused(forge: Forge) -> None:
    forge.put(forge.sign(x509.SubjectAlternativeName([x509.DNSName("ward-a")])))
    assert "names no node (n1.node.parley is missing)" in forge.refusal()
    forge.put(forge.sign())
    assert "names no node" in forge.refusal()


def test_a_certificate_for_two_nodes_is_refused(forge: Forge) -> None:
    names = [x509.DNSName(f"{name}.node.parley") for name in ("n1", "n2")]
    forge.put(forge.sign(x509.SubjectAlternativeName(names)))
    assert "speaks for several nodes (n1, n2)" in forge.refusal()


def test_a_certificate_that_may_only_serve_is_refused(forge: Forge) -> None:
    names = x509.SubjectAlternativeName([x509.DNSName("n1.node.parley")])
    forge.put(forge.sign(names, x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])))
    assert "both server and client" in forge.refusal()
    forge.put(forge.sign(names))
    assert forge.check().warnings == ()  # no limit on its uses


def test_a_node_cannot_sign_for_other_nodes(forge: Forge) -> None:
    node = forge.issue("n2")
    certificate = x509.load_pem_x509_certificate(node.certificate_pem)
    key = serialization.load_pem_private_key(node.key_pem, None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    forge.put(issue_node_certificate(certificate, key, "n1", ["ward-a"], now=NOW))
    assert "was not signed by" in forge.refusal()
    (forge.folder / "ca.pem").write_bytes(node.certificate_pem)
    assert "is no CA certificate" in forge.refusal()


@pytest.mark.parametrize(
    ("file", "content", "expected"),
    [
        ("ca.pem", None, "cannot be read: No such file"),
        ("n1.pem", None, "cannot be read: No such file"),
        ("n1.key", None, "cannot be read: No such file"),
        ("n1.pem", b"", "not a certificate in PEM form"),
        ("n1.pem", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "not a certificate"),
        ("n1.key", b"hello", "not a private key in PEM form"),
    ],
)
def test_files_that_are_missing_or_damaged_are_named(
    forge: Forge, file: str, content: bytes | None, expected: str
) -> None:
    forge.put(forge.issue())
    (forge.folder / file).unlink()
    if content is not None:
        (forge.folder / file).write_bytes(content)
    refusal = forge.refusal()
    assert expected in refusal
    assert str(forge.folder / file) in refusal


def test_an_encrypted_key_is_refused_because_nobody_types_its_passphrase(forge: Forge) -> None:
    issued = forge.issue()
    forge.put(issued)
    key = serialization.load_pem_private_key(issued.key_pem, None)
    (forge.folder / "n1.key").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )
    assert "is encrypted" in forge.refusal()


# ---- as files


def test_what_was_written_is_what_a_node_needs(tmp_path: Path) -> None:
    write_ca(tmp_path / "ca")
    made = write_node(tmp_path / "n1", tmp_path / "ca", "n1", ["ward-a"])
    report = check_node_certificate(
        tmp_path / "ca" / "ca.pem", made.certificate, made.key, "n1", advertised=["ward-a:7600"]
    )
    assert report.warnings == ()
    assert sorted(path.name for path in tmp_path.rglob("*.*")) == ["ca.key", "ca.pem", "n1.key", "n1.pem"]


@pytest.mark.parametrize("umask", [0o000, 0o077])
def test_keys_are_private_and_certificates_public_whatever_the_umask(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        made = write_ca(tmp_path)
    finally:
        os.umask(before)
    assert stat.S_IMODE(made.key.stat().st_mode) == 0o600
    assert stat.S_IMODE(made.certificate.stat().st_mode) == 0o644


def test_nothing_is_replaced_without_force(tmp_path: Path) -> None:
    first = write_ca(tmp_path).issued
    with pytest.raises(CertificateError, match="add --force"):
        write_ca(tmp_path)
    assert (tmp_path / "ca.key").read_bytes() == first.key_pem
    assert (tmp_path / "ca.pem").read_bytes() == first.certificate_pem
    second = write_ca(tmp_path, force=True).issued
    assert (tmp_path / "ca.key").read_bytes() == second.key_pem != first.key_pem


@pytest.mark.parametrize("left", ["ca.key", "ca.pem"])
def test_half_of_a_pair_is_reported_not_completed(tmp_path: Path, left: str) -> None:
    (tmp_path / left).write_text("precious")
    with pytest.raises(CertificateError, match=f"{left} exists without"):
        write_ca(tmp_path)
    assert (tmp_path / left).read_text() == "precious"
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("links", [True, False])
def test_a_file_that_appears_meanwhile_is_not_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool
) -> None:
    monkeypatch.setattr(certificate_files, "_refuse_to_replace", lambda *_: (tmp_path / "ca.key").write_text("other"))
    if not links:
        monkeypatch.setattr(os, "link", _no_links)
    with pytest.raises(CertificateError, match=r"ca\.key exists\. Nothing was replaced"):
        write_ca(tmp_path)
    assert (tmp_path / "ca.key").read_text() == "other"
    assert [path.name for path in tmp_path.iterdir()] == ["ca.key"]


def test_a_folder_without_hard_links_will_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "link", _no_links)
    write_ca(tmp_path)
    assert load_ca(tmp_path)[0].subject
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ca.key", "ca.pem"]


def _no_links(*_: object, **__: object) -> None:
    raise PermissionError(1, "Operation not permitted")


def test_a_write_that_fails_leaves_no_part_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(CertificateError, match="No space left"):
        write_ca(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_ca_must_be_there_and_belong_together(tmp_path: Path) -> None:
    with pytest.raises(CertificateError, match="parleyd cert ca --out"):
        load_ca(tmp_path)
    write_ca(tmp_path)
    (tmp_path / "ca.key").write_bytes(make_ca().key_pem)
    with pytest.raises(CertificateError, match="is not the key of"):
        write_node(tmp_path, tmp_path, "n1", ["a"])


def test_a_node_cannot_take_the_name_of_the_ca_files(tmp_path: Path) -> None:
    before = write_ca(tmp_path).issued
    with pytest.raises(CertificateError, match="cannot be named ca"):
        write_node(tmp_path, tmp_path, "ca", ["a"], force=True)
    assert (tmp_path / "ca.key").read_bytes() == before.key_pem


def test_certificates_are_loaded_with_all_names(certificates: Path) -> None:
    (certificate,) = load_certificates(certificates / "ours" / "n1.pem")
    assert names_in(certificate) == ("n1.node.parley", "localhost", "127.0.0.1")
    assert isinstance(load_key(certificates / "ours" / "n1.key"), ec.EllipticCurvePrivateKey)
