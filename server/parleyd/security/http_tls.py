"""TLS of http_listen: with an organisation's own certificate, with the node's, or none on a loopback address."""

from __future__ import annotations

import ssl
from pathlib import Path

from parleyd.addresses import parse_address
from parleyd.security.certificate_files import load_certificates
from parleyd.security.certificates import CertificateError
from parleyd.settings.table import Settings


def http_pair(settings: Settings) -> tuple[Path, Path] | None:
    """Return certificate and key of http_listen: its own, or this node's. None: without TLS.

    An address that only this machine reaches needs none.
    """
    if settings.http_cert_file is not None and settings.http_key_file is not None:
        return settings.http_cert_file, settings.http_key_file
    is_open = bool(settings.http_listen) and not parse_address(settings.http_listen).is_loopback
    if not is_open or settings.insecure or settings.cert_file is None or settings.key_file is None:
        return None
    return settings.cert_file, settings.key_file


class HttpTls:
    """What serves TLS, and the ends of all certificates of this node. `look` takes over files that have changed.

    `context` is None without TLS. `ends` are the Unix times at which the certificates expire, by ca, node, http.
    """

    def __init__(self, settings: Settings) -> None:
        """Read the files. Raises CertificateError."""
        self._pair = http_pair(settings)
        files = {} if settings.insecure else {"ca": settings.ca_file, "node": settings.cert_file}
        files["http"] = None if self._pair is None else self._pair[0]
        self._files = {name: path for name, path in files.items() if path is not None}
        self.ends: dict[str, float] = {}
        self.context: ssl.SSLContext | None = None
        if self._pair is not None:
            self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self.context.minimum_version = ssl.TLSVersion.TLSv1_2
            self.context.set_alpn_protocols(["http/1.1"])
        self._seen = self._stamps()
        self._read()

    def look(self) -> str:
        """Take over the files if they have changed. Return why not, if they cannot be used; the old ones serve then."""
        try:
            seen = self._stamps()
            if seen != self._seen:
                self._read()
                self._seen = seen
        except CertificateError as error:
            return str(error)
        return ""

    def _read(self) -> None:
        ends = {
            name: min(one.not_valid_after_utc.timestamp() for one in load_certificates(path))
            for name, path in self._files.items()
        }
        if self.context is not None and self._pair is not None:
            _load_into(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), self._pair)  # what does not fit stays outside
            _load_into(self.context, self._pair)
        self.ends = ends

    def _stamps(self) -> list[tuple[int, int, int]]:
        """Return what tells whether the files are others than before."""
        paths = [*self._files.values(), *(self._pair or ())]
        try:
            stats = [path.stat() for path in paths]
        except OSError as error:
            raise CertificateError(f"{error.filename} cannot be read: {error.strerror}") from None
        return [(stat.st_ino, stat.st_mtime_ns, stat.st_size) for stat in stats]


def _load_into(context: ssl.SSLContext, pair: tuple[Path, Path]) -> None:
    certificate, key = pair

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
