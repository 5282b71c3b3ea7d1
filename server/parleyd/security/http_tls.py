"""TLS of http_listen: with an organisation's own certificate, with the node's, or none on a loopback address."""

from __future__ import annotations

import ssl
from pathlib import Path

from parleyd.security.certificate_checks import Pems
from parleyd.security.certificate_files import parse_certificates, read_file
from parleyd.security.certificates import CertificateError
from parleyd.security.node_certificates import NodeCertificates
from parleyd.settings.http_pair import http_pair
from parleyd.settings.table import Settings


class HttpTls:
    """What serves TLS; `context` is None without. `look` takes over files that have changed, in a new context."""

    def __init__(self, settings: Settings, certificates: NodeCertificates | None) -> None:
        """Read the files. `certificates` are the node's, None with `insecure`. Raises CertificateError."""
        self._pair = http_pair(settings)
        self._certificates = certificates
        self._ends: dict[str, float] = {}
        self._ends_of: Pems | None = None
        self.context: ssl.SSLContext | None = None
        self._seen = self._stamps()
        self._read()

    def look(self) -> str:
        """Take over the files if they have changed; in a thread, because a file system may hang.

        Return why not, if they cannot be used; the old ones serve then.
        """
        try:
            seen = self._stamps()
            if seen != self._seen:
                self._read()
                self._seen = seen
        except CertificateError as error:
            return str(error)
        return ""

    def ends(self) -> dict[str, float]:
        """Return the Unix time at which each certificate in use expires: ca, node, http."""
        pems = None if self._certificates is None else self._certificates.current
        if pems is not None and pems is not self._ends_of:
            self._ends |= {
                "ca": _end_of(pems.ca, Path("ca_file")),
                "node": _end_of(pems.certificate, Path("cert_file")),
            }
            self._ends_of = pems
        return self._ends

    def _read(self) -> None:
        if self._pair is not None:
            end = _end_of(read_file(self._pair[0]), self._pair[0])
            self.context = _context_of(*self._pair)
            self._ends["http"] = end

    def _stamps(self) -> list[tuple[int, int, int]]:
        """Return what tells whether the files are others than before."""
        try:
            stats = [path.stat() for path in self._pair or ()]
        except OSError as error:
            raise CertificateError(f"{error.filename} cannot be read: {error.strerror}") from None
        return [(stat.st_ino, stat.st_mtime_ns, stat.st_size) for stat in stats]


def _context_of(certificate: Path, key: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])

    def refuse_password() -> str:
        raise CertificateError(f"{key} is encrypted, and a node starts without a passphrase: give an unencrypted key")

    try:
        context.load_cert_chain(certificate, key, refuse_password)
    except ssl.SSLError as error:
        raise CertificateError(
            f"{certificate} and {key} cannot be used: {error.reason or error}. Give a certificate and its key, both PEM"
        ) from None
    except OSError as error:
        raise CertificateError(f"{certificate} or {key} cannot be read: {error.strerror}") from None
    return context


def _end_of(pem: bytes, path: Path) -> float:
    """Return when the first of the certificates in a file expires."""
    return min(one.not_valid_after_utc.timestamp() for one in parse_certificates(pem, path))
