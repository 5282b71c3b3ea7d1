"""Certificates and keys as files: written completely or not at all, and never over an older one unless requested.

Crash rules: each file appears complete under its name (temporary file, fsync, link or rename, fsync of the folder). A
key is written before its certificate. So an interrupted run leaves at most a key without a certificate, which the next
run reports.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from parleyd.security.certificates import (
    CA_DAYS,
    NODE_DAYS,
    CertificateError,
    Issued,
    issue_node_certificate,
    make_ca,
    renew_node_certificate,
)

CA_NAME = "ca"
_MAX_FILE_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class WrittenPair:
    """The two files that were made."""

    certificate: Path
    key: Path
    issued: Issued


def write_ca(directory: Path, *, days: int = CA_DAYS, force: bool = False) -> WrittenPair:
    """Make a CA in `directory`: ca.pem for every node and client, and ca.key only for whoever adds nodes."""
    return _write_pair(directory, CA_NAME, make_ca(days=days), force)


def write_node(
    directory: Path,
    ca_directory: Path,
    name: str,
    hosts: Sequence[str],
    *,
    days: int = NODE_DAYS,
    force: bool = False,
) -> WrittenPair:
    """Make NAME.pem and NAME.key in `directory`, signed by the CA in `ca_directory`."""
    if name == CA_NAME:
        raise CertificateError(f"a node cannot be named {CA_NAME}: its files would have the names of the CA's")
    certificate, key = load_ca(ca_directory)
    return _write_pair(directory, name, issue_node_certificate(certificate, key, name, hosts, days=days), force)


def plan_renewal(
    file: Path, ca_directory: Path, *, signed_by: Path | None = None, days: int = NODE_DAYS, new_key: bool = False
) -> WrittenPair:
    """Make a new certificate for the node of `file`, and write nothing yet; raise `CertificateError`.

    A CA in `signed_by` must have signed the old one: the default is the CA that signs. Otherwise anybody could hand in
    a certificate with a key of their own.
    """
    certificates = load_certificates(file)
    if len(certificates) != 1:
        raise CertificateError(f"{file} has {len(certificates)} certificates, not one node's. Nothing was changed")
    ca_certificate, ca_key = load_ca(ca_directory)
    trusted = load_certificates(signed_by or _paths(ca_directory, CA_NAME)[0])
    if not any(is_signed_by(certificates[0], ca) for ca in trusted):
        raise CertificateError(
            f"{file} was not signed by the CA in {signed_by or ca_directory}. Nothing was changed. If a CA signed it "
            "that you trust, give that CA's certificate: --signed-by ca.pem"
        )
    try:
        issued = renew_node_certificate(ca_certificate, ca_key, certificates[0], days=days, new_key=new_key)
    except CertificateError as error:
        raise CertificateError(f"{file} cannot be renewed: {error}") from None
    # The file itself, not a link to it, is replaced.
    return WrittenPair(file.resolve(), file.resolve().with_suffix(".key"), issued)


def write_renewal(renewed: WrittenPair) -> None:
    """Replace the files of a renewed certificate: first its key, if that is new. A reader finds old or new files."""
    try:
        if renewed.issued.key_pem:
            _write(renewed.key, renewed.issued.key_pem, 0o600, force=True, like=renewed.certificate)
        _write(renewed.certificate, renewed.issued.certificate_pem, 0o644, force=True, like=renewed.certificate)
    except OSError as error:
        raise CertificateError(f"cannot write to {renewed.certificate.parent}: {error.strerror}") from None


def is_signed_by(certificate: x509.Certificate, ca: x509.Certificate) -> bool:
    """Return whether this CA signed the certificate."""
    try:
        certificate.verify_directly_issued_by(ca)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def load_ca(directory: Path) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    """Load the CA that `write_ca` made; raise `CertificateError` if it is missing, damaged or inconsistent."""
    certificate_file, key_file = _paths(directory, CA_NAME)
    if not certificate_file.exists() and not key_file.exists():
        raise CertificateError(f"there is no CA in {directory}: make one with `parleyd cert ca --out {directory}`")
    certificate = load_certificates(certificate_file)[0]
    key = load_key(key_file)
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != certificate.public_key():
        raise CertificateError(f"{key_file} is not the key of {certificate_file}: use the two files of one run")
    return certificate, key


def load_certificates(path: Path) -> list[x509.Certificate]:
    """Load every certificate of a PEM file, at least one."""
    return parse_certificates(read_file(path), path)


def parse_certificates(data: bytes, path: Path) -> list[x509.Certificate]:
    """Return every certificate in what `path` holds, at least one."""
    try:
        return x509.load_pem_x509_certificates(data)
    except ValueError:
        raise CertificateError(f"{path} is not a certificate in PEM form") from None


def load_key(path: Path) -> object:
    """Load a private key of any kind that is not encrypted."""
    return parse_key(read_file(path), path)


def parse_key(data: bytes, path: Path) -> object:
    """Return the private key in what `path` holds."""
    try:
        return serialization.load_pem_private_key(data, password=None)
    except TypeError:
        raise CertificateError(
            f"{path} is encrypted, and a node starts without a passphrase: give an unencrypted key"
        ) from None
    except ValueError:
        raise CertificateError(f"{path} is not a private key in PEM form") from None


def read_file(path: Path) -> bytes:
    """Return what a file holds, at most a megabyte of it."""
    try:
        with path.open("rb") as file:
            return file.read(_MAX_FILE_BYTES)
    except OSError as error:
        raise CertificateError(f"{path} cannot be read: {error.strerror}") from None


def _paths(directory: Path, stem: str) -> tuple[Path, Path]:
    return directory / f"{stem}.pem", directory / f"{stem}.key"


def _write_pair(directory: Path, stem: str, issued: Issued, force: bool) -> WrittenPair:
    certificate, key = _paths(directory, stem)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        if not force:
            _refuse_to_replace(certificate, key)
        _write(key, issued.key_pem, 0o600, force)
        _write(certificate, issued.certificate_pem, 0o644, force)
    except FileExistsError as error:
        raise CertificateError(f"{error.filename2 or error.filename} exists. Nothing was replaced") from None
    except OSError as error:
        raise CertificateError(f"cannot write to {directory}: {error.strerror}") from None
    return WrittenPair(certificate, key, issued)


def _refuse_to_replace(certificate: Path, key: Path) -> None:
    there = [path for path in (certificate, key) if path.exists()]
    if len(there) == 2:
        raise CertificateError(f"{certificate} and {key.name} exist; to replace them for good add --force")
    if there:
        other = key if there == [certificate] else certificate
        raise CertificateError(
            f"{there[0]} exists without {other.name}, as after a run that was cut off; "
            "look whether something uses it, then add --force to make both anew"
        )


def _write(path: Path, data: bytes, mode: int, force: bool, *, like: Path | None = None) -> None:
    """Write a file. It belongs to the owner of `like`, which counts where root renews what a node's user reads."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with open(descriptor, "wb") as file:
            os.fchmod(descriptor, mode)  # the umask may have removed permissions
            if like is not None and os.geteuid() == 0:
                owner = like.stat()
                os.fchown(descriptor, owner.st_uid, owner.st_gid)
            file.write(data)
            file.flush()
            os.fsync(descriptor)
        if force:
            temporary.replace(path)
        else:
            _publish_new(temporary, path)
        _sync_directory(path.parent)
    finally:
        with suppress(FileNotFoundError):
            temporary.unlink()


def _publish_new(temporary: Path, path: Path) -> None:
    try:
        os.link(temporary, path)
    except FileExistsError:
        raise
    except OSError:
        # There are no hard links here (a memory stick, some network folders). A rename is atomic too, but would
        # replace.
        if path.exists():
            raise FileExistsError(None, "exists", str(path)) from None
        temporary.replace(path)


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
