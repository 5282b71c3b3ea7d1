"""The CA, certificate and key that a running node uses, and how it takes over files that have changed.

- The files are read every few seconds and at SIGHUP. New connections use what was taken over, on both ports and to
  other nodes. Open connections stay as they are.
- Files with a fault are not taken over. The node goes on with what it has, and a log event says why.
- A new key is taken over if somebody permits it, who then has the cluster told (key_change.py). The cluster knows the
  key by its digest and bars the one before. A node that does not serve yet takes a new key at its start only.
- The CA file keeps a CA that was in it before. So a node never leaves the others from one moment to the next.
"""

from __future__ import annotations

import asyncio
import datetime
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

import structlog
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes

from parleyd.security.certificate_checks import CertificateFiles, Pems, check_pems, expiry_warnings, first_end
from parleyd.security.certificate_files import parse_certificates
from parleyd.security.certificates import CertificateError, day, key_digest
from parleyd.settings.table import Settings

LOOK_EVERY_S = 5.0
WARN_EVERY = datetime.timedelta(days=1)

REFUSED_EFFECT = "the node goes on with the certificate, key and CA that it has; a restart would fail or change them"


def _given(file: Path | None, setting: str) -> Path:
    if file is None:
        raise CertificateError(f"{setting} is not set: give certificates, made with `parleyd cert`")
    return file


def _needs_a_start(_: frozenset[bytes]) -> str:
    return "a node that does not serve yet takes a new key at its start only: restart this node"


def _nobody() -> None:
    """Tell nobody."""


def _utc_now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)


class NodeCertificates:
    """What a node presents and trusts. `current` may be read in any thread, all else belongs to one task."""

    def __init__(
        self,
        name: str,
        files: CertificateFiles,
        *,
        advertised: Iterable[str] = (),
        now: Callable[[], datetime.datetime] = _utc_now,
    ) -> None:
        """Read the files. They were checked at the start of the process, so this only reads."""
        self.current = Pems.read(files)
        self._name = name
        self._files = files
        self._advertised = tuple(advertised)
        self._now = now
        self._warned_at = now()  # the start warns, too
        self._refusal = ""
        self._refused_at = now()
        self._is_reported = False
        self._why_not_key: Callable[[frozenset[bytes]], str] = _needs_a_start
        self._key_changed: Callable[[], None] = _nobody
        self._logger = structlog.get_logger("certificates")

    @classmethod
    def of(cls, settings: Settings) -> Self | None:
        """Read the files of the settings; None with `insecure`. Raises `CertificateError`."""
        if settings.insecure:
            return None
        files = CertificateFiles(
            _given(settings.ca_file, "ca_file"),
            _given(settings.cert_file, "cert_file"),
            _given(settings.key_file, "key_file"),
        )
        return cls(settings.name, files, advertised=(settings.client_advertise,))

    @property
    def key_digest(self) -> bytes:
        """Return the digest of this node's key."""
        return key_digest(parse_certificates(self.current.certificate, self._files.certificate)[0])

    @property
    def digest(self) -> bytes:
        """Return the SHA-256 of the certificate that this node presents."""
        certificate = parse_certificates(self.current.certificate, self._files.certificate)[0]
        return certificate.fingerprint(hashes.SHA256())

    @property
    def expires_at(self) -> datetime.datetime:
        """Return when what this node uses ends: its certificate or its CA, whichever is first; any thread."""
        return first_end(self.current, self._files)

    @contextmanager
    def taking_keys(self, why_not: Callable[[frozenset[bytes]], str], changed: Callable[[], None]) -> Iterator[None]:
        """Take new keys over while inside. Both are called in the thread that looks at the files.

        `why_not` returns why a certificate with a new key is refused, by the digests of it and its key; empty if it is
        not. `changed` is called after one was taken over.
        """
        self._why_not_key, self._key_changed = why_not, changed
        try:
            yield
        finally:
            self._why_not_key, self._key_changed = _needs_a_start, _nobody

    async def run(self, asked: asyncio.Event) -> None:
        """Look at the files every few seconds, and at once when `asked` is set."""
        while True:
            try:
                async with asyncio.timeout(LOOK_EVERY_S):
                    await asked.wait()
            except TimeoutError:
                pass
            is_asked = asked.is_set()
            asked.clear()
            # In a thread, because a file system may hang.
            await asyncio.to_thread(self.look, asked=is_asked)

    def look(self, *, asked: bool = False) -> None:
        """Take over the files if they have changed and are right; log why not.

        Certificate and key are two files, so one look may find them half-way through a renewal. A fault is logged when
        the next look finds it, too, or if somebody `asked`. Then it is logged once a day.
        """
        try:
            found = Pems.read(self._files)
            if found != self.current:
                self._take_over(found)
            elif asked:
                self._logger.info("certificate_unchanged")
            self._refusal = ""
        except CertificateError as error:
            self._refuse(str(error), asked=asked)
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:  # of the library, about strange certificates
            self._refuse(f"the files cannot be used: {error}", asked=asked)
        self._warn()

    def _take_over(self, found: Pems) -> None:
        now = self._now()
        report = check_pems(found, self._files, self._name, advertised=self._advertised, now=now)
        certificate = parse_certificates(found.certificate, self._files.certificate)[0]
        has_new_key = key_digest(certificate) != self.key_digest
        fingerprint = certificate.fingerprint(hashes.SHA256())
        if has_new_key and (why_not := self._why_not_key(frozenset({fingerprint, key_digest(certificate)}))):
            raise CertificateError(f"{self._files.certificate} has a new key, and {why_not}")
        if not self._shares_a_ca(found):
            raise CertificateError(
                f"{self._files.ca} has none of the CAs that this node trusts now, so nodes and clients with the CA of "
                "before would be refused: put the old and the new CA into the file first, on every node"
            )
        self.current = found
        self._logger.warning(  # visible at most levels
            "certificate_reloaded",
            expires=day(report.expires_at),
            sha256=fingerprint.hex(),
            cas=len(parse_certificates(found.ca, self._files.ca)),
            new_key=has_new_key,
        )
        if has_new_key:
            self._key_changed()
        for warning in report.warnings:
            self._logger.warning("certificate_warning", detail=warning)
        self._warned_at = now

    def _shares_a_ca(self, found: Pems) -> bool:
        # By key: a CA that was itself renewed for its key signs what the one before signed.
        known = {key_digest(ca) for ca in parse_certificates(self.current.ca, self._files.ca)}
        return any(key_digest(ca) in known for ca in parse_certificates(found.ca, self._files.ca))

    def _refuse(self, reason: str, *, asked: bool) -> None:
        now = self._now()
        is_new = reason != self._refusal
        if is_new:
            self._refusal, self._is_reported = reason, False
        is_due = not self._is_reported or now - self._refused_at >= WARN_EVERY
        if asked or (is_due and not is_new):
            self._refused_at, self._is_reported = now, True
            self._logger.error("certificate_not_reloaded", reason=reason, effect=REFUSED_EFFECT)

    def _warn(self) -> None:
        now = self._now()
        if now - self._warned_at < WARN_EVERY:
            return
        self._warned_at = now
        for warning in expiry_warnings(self.current, self._files, now):
            self._logger.warning("certificate_warning", detail=warning)
