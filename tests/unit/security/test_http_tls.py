"""Which certificate the pages for monitoring are served with, and when with none."""

from __future__ import annotations

import contextlib
import dataclasses
import ssl
import time
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from parleyd.security.certificate_files import load_certificates, load_key, write_ca, write_node
from parleyd.security.certificates import CertificateError
from parleyd.security.http_tls import HttpTls
from parleyd.security.node_certificates import NodeCertificates
from parleyd.settings.http_pair import http_pair
from parleyd.settings.table import Settings
from tests.unit.security.test_tls import settings_of


def http_server_context(settings: Settings) -> ssl.SSLContext | None:
    """What serves TLS."""
    return HttpTls(settings, None).context


def certificate_ends(settings: Settings) -> dict[str, float]:
    """When the certificates in use expire."""
    return HttpTls(settings, NodeCertificates.of(settings)).ends()


def served_by(context: ssl.SSLContext | None, ca: Path) -> int:
    """The serial number of the certificate that a client is shown, without any network."""
    assert context is not None
    client = ssl.create_default_context(cafile=ca)
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    server_side = context.wrap_bio(to_server, to_client, server_side=True)
    client_side = client.wrap_bio(to_client, to_server, server_hostname="localhost")
    for _ in range(4):
        for side in (client_side, server_side):
            with contextlib.suppress(ssl.SSLWantReadError):
                side.do_handshake()
    shown = client_side.getpeercert(binary_form=True)
    assert shown is not None
    return x509.load_der_x509_certificate(shown).serial_number


def own_pair(certificates: Path) -> dict[str, object]:
    """An organisation's own certificate, of a foreign CA."""
    folder = certificates / "foreign"
    return {"http_cert_file": folder / "n2.pem", "http_key_file": folder / "n2.key"}


def test_on_loopback_there_is_no_tls_unless_an_own_certificate_is_given(certificates: Path) -> None:
    settings = settings_of(certificates / "ours", "n1", http_listen="127.0.0.1:7800")
    assert http_server_context(settings) is None
    own = dataclasses.replace(settings, **own_pair(certificates))  # type: ignore[arg-type]
    assert isinstance(http_server_context(own), ssl.SSLContext)


@pytest.mark.parametrize("address", ["0.0.0.0:7800", "10.0.0.1:7800", "[::]:7800", "alpha:7800"])
def test_elsewhere_the_nodes_certificate_serves_or_an_own_one(certificates: Path, address: str) -> None:
    settings = settings_of(certificates / "ours", "n1", http_listen=address)
    assert http_pair(settings) == (settings.cert_file, settings.key_file)
    context = http_server_context(settings)
    assert context is not None
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2
    own = dataclasses.replace(settings, **own_pair(certificates))  # type: ignore[arg-type]
    assert http_pair(own) == (own.http_cert_file, own.http_key_file)


def test_with_insecure_there_is_no_tls_unless_an_own_certificate_is_given(certificates: Path) -> None:
    settings = Settings("n1", certificates, insecure=True, insecure_network=True, http_listen="0.0.0.0:7800")
    assert http_server_context(settings) is None
    own = dataclasses.replace(settings, **own_pair(certificates))  # type: ignore[arg-type]
    assert http_server_context(own) is not None
    assert list(certificate_ends(own)) == ["http"]


def test_a_pair_that_does_not_fit_is_refused_with_both_names(certificates: Path) -> None:
    pair = {**own_pair(certificates), "http_key_file": certificates / "ours" / "n1.key"}
    settings = settings_of(certificates / "ours", "n1", http_listen="127.0.0.1:7800", **pair)
    with pytest.raises(CertificateError, match=r"n2\.pem and .*n1\.key cannot be used"):
        http_server_context(settings)


def test_an_encrypted_key_is_refused_and_nobody_is_asked_for_its_password(certificates: Path, tmp_path: Path) -> None:
    encrypted = tmp_path / "n2.key"
    key = load_key(certificates / "foreign" / "n2.key")
    encrypted.write_bytes(
        key.private_bytes(  # type: ignore[attr-defined]
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )
    pair = {**own_pair(certificates), "http_key_file": encrypted}
    settings = settings_of(certificates / "ours", "n1", http_listen="127.0.0.1:7800", **pair)
    with pytest.raises(CertificateError, match="is encrypted"):
        http_server_context(settings)


def test_a_file_that_is_missing_is_refused(certificates: Path, tmp_path: Path) -> None:
    pair = {**own_pair(certificates), "http_cert_file": tmp_path / "none.pem"}
    settings = settings_of(certificates / "ours", "n1", http_listen="127.0.0.1:7800", **pair)
    with pytest.raises(CertificateError, match="cannot be read"):
        http_server_context(settings)


def test_the_ends_of_all_certificates_in_use_are_told(certificates: Path) -> None:
    settings = settings_of(certificates / "ours", "n1", http_listen="127.0.0.1:7800", **own_pair(certificates))
    left = {name: (ends - time.time()) / 86_400 for name, ends in certificate_ends(settings).items()}
    assert left.keys() == {"ca", "node", "http"}
    assert 3_600 < left["ca"] < 3_700
    assert 820 < left["node"] < 826


def test_a_renewed_certificate_serves_new_connections_and_a_broken_one_does_not(tmp_path: Path) -> None:
    write_ca(tmp_path)
    write_node(tmp_path, tmp_path, "n1", ["localhost"])
    tls = HttpTls(settings_of(tmp_path, "n1", http_listen="0.0.0.0:7800"), None)
    first = load_certificates(tmp_path / "n1.pem")[0].serial_number
    assert served_by(tls.context, tmp_path / "ca.pem") == first
    assert tls.look() == ""

    (tmp_path / "n1.pem").write_text("broken")
    assert "is not a certificate" in tls.look()
    assert served_by(tls.context, tmp_path / "ca.pem") == first

    (tmp_path / "n1.pem").unlink()
    assert "cannot be read" in tls.look()

    write_node(tmp_path, tmp_path, "n1", ["localhost"], days=20, force=True)
    assert tls.look() == ""
    renewed = load_certificates(tmp_path / "n1.pem")[0].serial_number
    assert renewed != first
    assert served_by(tls.context, tmp_path / "ca.pem") == renewed
    assert (tls.ends()["http"] - time.time()) / 86_400 < 21


def test_the_end_of_the_nodes_certificate_is_that_of_the_one_in_use(tmp_path: Path) -> None:
    write_ca(tmp_path)
    write_node(tmp_path, tmp_path, "n1", ["localhost"])
    settings = settings_of(tmp_path, "n1", http_listen="127.0.0.1:7800")
    certificates = NodeCertificates.of(settings)
    assert certificates is not None
    tls = HttpTls(settings, certificates)
    before = tls.ends()["node"]
    write_node(tmp_path, tmp_path, "n1", ["localhost"], days=20, force=True)  # with a new key, which needs a start
    certificates.look()
    assert tls.look() == ""
    assert tls.ends()["node"] == before
    restarted = HttpTls(settings, NodeCertificates.of(settings))
    assert restarted.ends()["node"] < before


def test_without_tls_there_is_nothing_to_look_at(certificates: Path) -> None:
    assert HttpTls(settings_of(certificates / "ours", "n1", http_listen="127.0.0.1:7800"), None).look() == ""
