"""What a new person is sent: a link or a small file with the hosts of a cluster, its CA, and an invitation.

    {"format": "parley-invite", "version": 1, "cluster": "ward", "hosts": ["alpha:7600"], "ca": "-----BEGIN ...",
     "account": "kim", "code": "abcdefghj-...", "expires_at_ms": 1796000000000}

A file named `….parley-invite` holds this object in one line. A link is `parley://invite/` and the same bytes in
base64url. Brackets, quotation marks and the end of a sentence around a link do not count. Both come from outside, so
the size is bounded, every value is checked, and what is wrong is told without the value. The code is a secret until it
is used.
"""

import base64
import binascii
import hashlib
import json
import os
import re
import ssl
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from parley.device.profile import check_account_name
from parley.errors import BadInputError, ParleyError
from parley.inviting.names import check_context_name
from parley.private_file import read_private
from parley.strict_json import JsonError, parse_json
from parley.wire.endpoints import parse_endpoints

FORMAT = "parley-invite"
VERSION = 1
SUFFIX = ".parley-invite"
LINK = "parley://invite/"
MAX_BYTES = 32_768
MAX_HOSTS = 32
MAX_CERTIFICATES = 4
_KEYS = {"format", "version", "cluster", "hosts", "ca", "account", "code", "expires_at_ms"}
_HOST = re.compile(r"[A-Za-z0-9._:\[\]%-]{1,255}")
_CODE = re.compile(r"[A-Za-z0-9-]{1,64}")
_CERTIFICATE = re.compile(r"-----BEGIN CERTIFICATE-----\s+([A-Za-z0-9+/=\s]+?)-----END CERTIFICATE-----")
_AROUND_LINK = " \t\r\n<>()[]{}\"'`.,;:!?\u2026\u201c\u201d\u201e\u2018\u2019\u00ab\u00bb"
_MAX_TIME_MS = 4_102_444_800_000  # the year 2100
NOTHING_DONE = "Nothing was done. Ask who invited you for another one."


@dataclass(frozen=True, slots=True)
class InvitationFile:
    """A checked invitation. `ca` is PEM, and empty only if all hosts are this machine."""

    cluster: str
    hosts: tuple[str, ...]
    ca: str
    account: str
    code: str = field(repr=False)
    expires_at_ms: int

    @property
    def id(self) -> str:
        """Return the id under which the cluster lists the code."""
        return hashlib.sha256(self.code.replace("-", "").encode()).hexdigest()

    @property
    def fingerprints(self) -> tuple[str, ...]:
        """Return the SHA-256 of each certificate of the CA, as other programs write it."""
        return fingerprints(self.ca) if self.ca else ()

    def to_line(self) -> str:
        """Return the content of the file."""
        return json.dumps(
            {
                "format": FORMAT,
                "version": VERSION,
                "cluster": self.cluster,
                "hosts": list(self.hosts),
                "ca": self.ca,
                "account": self.account,
                "code": self.code,
                "expires_at_ms": self.expires_at_ms,
            }
        )

    def to_link(self) -> str:
        """Return the link."""
        return LINK + base64.urlsafe_b64encode(self.to_line().encode()).decode().rstrip("=")


@contextmanager
def new_file(path: Path, effect: str) -> Iterator[Callable[[InvitationFile], None]]:
    """Make a file that only its owner can read. Yield what fills it. It is removed if that, or the block, fails.

    Raises ParleyError if there is one of that name, or it cannot be made or filled. `effect` says what that means for
    the invitation if there is no file.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise ParleyError(f"{path} cannot be made ({error.strerror}). {effect} Name another file.") from error

    def fill(invitation: InvitationFile) -> None:
        try:
            with open(descriptor, "w", encoding="utf-8", closefd=False) as file:
                file.write(invitation.to_line() + "\n")
                file.flush()
                os.fsync(descriptor)
        except OSError as error:
            raise ParleyError(f"{path} cannot be written ({error.strerror}). It was removed.") from error

    try:
        yield fill
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    finally:
        os.close(descriptor)


def is_invitation(word: str) -> bool:
    """Return whether a word names an invitation, and not a channel: a link, a file by its ending, or - for stdin."""
    return (
        word == "-" or _link_in(word) is not None or word.lower().startswith("file:") or word.lower().endswith(SUFFIX)
    )


def read_invitation(word: str) -> InvitationFile:
    """Read the invitation that a link holds, a file, or a line of standard input for `-`. Raises BadInputError."""
    if word == "-":
        return parse_text(sys.stdin.readline(MAX_BYTES * 2).strip())
    if (link := _link_in(word)) is not None:
        return parse_text(link)
    return parse_text(_read_file(_local_path(word)))


def parse_text(text: str) -> InvitationFile:
    """Check the text of a link or of a file. Raises BadInputError that says what is wrong."""
    text = text.removeprefix("\ufeff").strip()
    if (link := _link_in(text)) is not None:
        text = _unpack(link)
    if len(text.encode(errors="surrogatepass")) > MAX_BYTES:
        raise _refused(f"it is larger than {MAX_BYTES} bytes")
    try:
        document = parse_json(text)
    except JsonError:
        raise _refused("it is not whole, or no invitation") from None
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise _refused("it is no invitation")
    return _check(document)


def fingerprints(pem: str) -> tuple[str, ...]:
    """Return the SHA-256 of each certificate in a PEM text, as pairs of digits with colons."""
    return tuple(hashlib.sha256(der).digest().hex(":").upper() for der in certificates(pem))


def certificates(pem: str) -> tuple[bytes, ...]:
    """Return the certificates of a PEM text. Raises ValueError if it holds none, too many, or one that is broken."""
    found = tuple(base64.b64decode("".join(body.split()), validate=True) for body in _CERTIFICATE.findall(pem))
    if not 1 <= len(found) <= MAX_CERTIFICATES:
        raise ValueError(f"{len(found)} certificates, where 1 to {MAX_CERTIFICATES} are expected")
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=to_pem(found))
    except (ssl.SSLError, ValueError) as error:
        raise ValueError("a certificate that cannot be read") from error
    return found


def to_pem(found: tuple[bytes, ...]) -> str:
    """Return certificates as PEM, without anything between them."""
    return "".join(ssl.DER_cert_to_PEM_cert(der) for der in found)


def _link_in(text: str) -> str | None:
    """Return the link without what stands around it, or None if the text is no link."""
    bare = text.strip(_AROUND_LINK)
    return bare if bare.lower().startswith("parley:") else None


def _unpack(link: str) -> str:
    if not link.lower().startswith(LINK):  # letter case counts neither in a scheme nor in a host
        raise _refused(f"a link begins with {LINK}")
    body = link[len(LINK) :].rstrip("/=")
    if len(body) > MAX_BYTES * 4 // 3 + 4:
        raise _refused(f"it is larger than {MAX_BYTES} bytes")
    try:
        if not re.fullmatch(r"[A-Za-z0-9_-]+", body):
            raise ValueError("a character that no link has")
        return base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)).decode()
    except (ValueError, binascii.Error):
        raise _refused("the link is not whole. Copy all of it, or ask for a file") from None


def _local_path(word: str) -> Path:
    if not word.lower().startswith("file:"):
        return Path(word)
    parts = urlsplit(word)
    if parts.netloc not in ("", "localhost"):
        raise _refused("it is a file of another machine. Copy it to this one")
    return Path(unquote(parts.path))


def _read_file(path: Path) -> str:
    try:
        raw = read_private(path, MAX_BYTES)
    except OSError as error:
        raise BadInputError(
            f"The invitation {str(path)!a} cannot be read ({error.strerror}). Nothing was done."
        ) from error
    except ValueError as error:
        raise _refused(str(error)) from None
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise _refused("it is not whole, or no invitation") from None


def _check(document: dict[str, Any]) -> InvitationFile:
    version = document.get("version")
    if type(version) is not int or version < 1:
        raise _refused("its version is no whole number from 1 on")
    if version != VERSION:
        shown = version if version < 1000 else "a later one"
        raise BadInputError(
            f"The version of this invitation is {shown}, and this release of Parley reads version {VERSION}. Nothing "
            "was done. Install a newer release, or ask for an invitation of this version."
        )
    if set(document) != _KEYS:
        raise _refused("values are missing, or are there that this version does not have")
    texts = {key: document[key] for key in ("cluster", "ca", "account", "code")}
    hosts, expires_at_ms = document["hosts"], document["expires_at_ms"]
    if not all(isinstance(value, str) for value in texts.values()):
        raise _refused("a value has the wrong type")
    if type(expires_at_ms) is not int or not 0 <= expires_at_ms <= _MAX_TIME_MS:
        raise _refused("the time until which it is valid is no time")
    if not _CODE.fullmatch(texts["code"]):
        raise _refused("its code is no code")
    try:
        check_context_name(texts["cluster"])
        check_account_name(texts["account"])
    except BadInputError:
        raise _refused("its cluster or its account has a name that is not allowed") from None
    checked = _check_hosts(hosts)
    ca = _check_ca(texts["ca"], checked)
    return InvitationFile(texts["cluster"], checked, ca, texts["account"], texts["code"], expires_at_ms)


def _check_hosts(hosts: object) -> tuple[str, ...]:
    if not isinstance(hosts, list) or not 1 <= len(hosts) <= MAX_HOSTS:
        raise _refused(f"it has no hosts, or more than {MAX_HOSTS}")
    if not all(isinstance(host, str) and _HOST.fullmatch(host) for host in hosts):
        raise _refused("a host is no address")
    try:
        parse_endpoints(hosts)
    except BadInputError:
        raise _refused("a host is no address") from None
    return tuple(hosts)


def _check_ca(pem: str, hosts: tuple[str, ...]) -> str:
    if not pem:
        if all(endpoint.is_loopback for endpoint in parse_endpoints(hosts)):
            return ""
        raise _refused("it has no CA, so others on the network could read everything")
    if _CERTIFICATE.sub("", pem).strip():
        raise _refused("its CA holds more than certificates")
    try:
        return to_pem(certificates(pem))
    except ValueError:
        raise _refused("its CA is no certificate") from None


def _refused(why: str) -> BadInputError:
    return BadInputError(f"This invitation cannot be used: {why}. {NOTHING_DONE}")
