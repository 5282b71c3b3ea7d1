"""Checks the certificates of a node before anything is started.

TLS itself refuses the same files, but only with a handshake failure in another node's log. Here each reason has its own
sentence.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from parleyd.addresses import parse_address
from parleyd.security.certificate_files import is_signed_by, parse_certificates, parse_key, read_file
from parleyd.security.certificates import CertificateError, day, names_in, node_dns_name, nodes_in

WARN_BEFORE_EXPIRY = datetime.timedelta(days=30)
RENEW_ADVICE = "renew it with `parleyd cert renew` and copy it here; a running node takes it over"


@dataclass(frozen=True, slots=True)
class CertificateReport:
    """A certificate that works now, and warnings: what expires soon, and which addresses it does not name."""

    expires_at: datetime.datetime
    names: tuple[str, ...]
    expiry: tuple[str, ...]
    unnamed: tuple[str, ...]

    @property
    def warnings(self) -> tuple[str, ...]:
        """Return all warnings."""
        return (*self.expiry, *self.unnamed)


@dataclass(frozen=True, slots=True)
class CertificateFiles:
    """The files of a node."""

    ca: Path
    certificate: Path
    key: Path


@dataclass(frozen=True, slots=True)
class Pems:
    """What the files of a node held when they were read. So a check and its use are about the same bytes."""

    ca: bytes
    certificate: bytes
    key: bytes

    @classmethod
    def read(cls, files: CertificateFiles) -> Self:
        """Read the files; raise `CertificateError` if one cannot be read."""
        # A renewal writes the key first. Read in the other order, a pair that changes meanwhile does not fit together.
        certificate, key = read_file(files.certificate), read_file(files.key)
        return cls(read_file(files.ca), certificate, key)


def check_node_certificate(
    ca_file: Path,
    cert_file: Path,
    key_file: Path,
    name: str,
    *,
    advertised: Iterable[str] = (),
    now: datetime.datetime | None = None,
) -> CertificateReport:
    """Check that node `name` can serve and connect with the files; raise `CertificateError` with the first fault.

    `advertised` are addresses that clients use. An address that the certificate does not name causes a warning.
    """
    files = CertificateFiles(ca_file, cert_file, key_file)
    return check_pems(Pems.read(files), files, name, advertised=advertised, now=now)


def check_pems(
    pems: Pems,
    files: CertificateFiles,
    name: str,
    *,
    advertised: Iterable[str] = (),
    now: datetime.datetime | None = None,
) -> CertificateReport:
    """Check the same of what was read from `files`."""
    now = now or datetime.datetime.now(datetime.UTC)
    certificate = parse_certificates(pems.certificate, files.certificate)[0]
    key = parse_key(pems.key, files.key)
    if not hasattr(key, "public_key") or key.public_key() != certificate.public_key():
        raise CertificateError(f"{files.key} is not the key of {files.certificate}: use the two files of one run")
    signer = _signer(certificate, parse_certificates(pems.ca, files.ca), files.certificate, files.ca)
    _check_time(certificate, files.certificate, now)
    _check_time(signer, files.ca, now)
    _check_node(certificate, files.certificate, name)
    _check_uses(certificate, files.certificate)
    expires_at = min(certificate.not_valid_after_utc, signer.not_valid_after_utc)
    names = names_in(certificate)
    expiry = tuple(_expiry_warnings(files.certificate, files.ca, certificate, signer, now))
    unnamed = tuple(
        f"{files.certificate} does not name {host}: clients that dial it will refuse the connection; "
        f"make it anew with `parleyd cert node {name} --host {host}`"
        for host in (parse_address(address).host for address in advertised)
        if not _covers(names, host)
    )
    return CertificateReport(expires_at, names, expiry, unnamed)


def first_end(pems: Pems, files: CertificateFiles) -> datetime.datetime:
    """Return when the certificate or its CA ends, whichever is first, also if that is over."""
    return min(one.not_valid_after_utc for one in _own_and_ca(pems, files))


def expiry_warnings(pems: Pems, files: CertificateFiles, now: datetime.datetime) -> tuple[str, ...]:
    """Return what expires within 30 days or has expired, of what a node uses."""
    certificate, signer = _own_and_ca(pems, files)
    return tuple(_expiry_warnings(files.certificate, files.ca, certificate, signer, now))


def _own_and_ca(pems: Pems, files: CertificateFiles) -> tuple[x509.Certificate, x509.Certificate]:
    """Return the node's certificate and that of the CA that signed it."""
    certificate = parse_certificates(pems.certificate, files.certificate)[0]
    return certificate, _signer(certificate, parse_certificates(pems.ca, files.ca), files.certificate, files.ca)


def _signer(
    certificate: x509.Certificate, candidates: Iterable[x509.Certificate], cert_file: Path, ca_file: Path
) -> x509.Certificate:
    for candidate in candidates:
        if not is_signed_by(certificate, candidate):
            continue
        if not _is_ca(candidate):
            raise CertificateError(
                f"{ca_file} signed {cert_file} but is no CA certificate: give the ca.pem of the cluster"
            )
        return candidate
    raise CertificateError(
        f"{cert_file} was not signed by {ca_file}: it belongs to another cluster, or the CA was made anew since"
    )


def _is_ca(certificate: x509.Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return False


def _check_time(certificate: x509.Certificate, path: Path, now: datetime.datetime) -> None:
    if now >= certificate.not_valid_after_utc:
        raise CertificateError(f"{path} expired on {day(certificate.not_valid_after_utc)}: make it anew with --force")
    if now < certificate.not_valid_before_utc:
        raise CertificateError(
            f"{path} is valid only from {certificate.not_valid_before_utc:%Y-%m-%d %H:%M} UTC on, "
            f"and this machine's clock says {now.astimezone(datetime.UTC):%Y-%m-%d %H:%M} UTC: set the clock"
        )


def _check_node(certificate: x509.Certificate, path: Path, name: str) -> None:
    nodes = nodes_in(certificate)
    if len(nodes) > 1:
        raise CertificateError(f"{path} speaks for several nodes ({', '.join(nodes)}): each node needs its own")
    if not nodes:
        raise CertificateError(
            f"{path} names no node ({node_dns_name(name)} is missing): make it with `parleyd cert node {name}`"
        )
    if nodes != (name,):
        raise CertificateError(f"{path} is the certificate of node {nodes[0]}, but this node is {name}")


def _check_uses(certificate: x509.Certificate, path: Path) -> None:
    try:
        uses = set(certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)
    except x509.ExtensionNotFound:
        return  # no limit on its uses
    if not {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH} <= uses:
        raise CertificateError(f"{path} must be for both server and client authentication: a node serves and dials")


def _expiry_warnings(
    cert_file: Path, ca_file: Path, certificate: x509.Certificate, signer: x509.Certificate, now: datetime.datetime
) -> Iterable[str]:
    for path, checked in ((cert_file, certificate), (ca_file, signer)):
        left = checked.not_valid_after_utc - now
        if left <= datetime.timedelta(0):
            yield (
                f"{path} expired on {day(checked.not_valid_after_utc)}: no new connection with this node succeeds: "
                f"{RENEW_ADVICE}"
            )
        elif left <= WARN_BEFORE_EXPIRY:
            yield (
                f"{path} expires on {day(checked.not_valid_after_utc)}, in {left.days} days; "
                f"the node cannot talk to anybody after that: {RENEW_ADVICE}"
            )


def _covers(names: Iterable[str], host: str) -> bool:
    # One wildcard label, as TLS clients handle it. The certificates made here have none.
    wildcard = "*." + host.partition(".")[2]
    return any(name.lower() in (host, wildcard) for name in names)
