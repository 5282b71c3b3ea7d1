"""The files by which `parleyd admin create` hands administrators' codes to the node that runs on a data directory.

Each has the digest of a code, not the code. Whoever can write one has the node's disk, and so its keys and all data.
The node removes it once the cluster has the digest, and renames it if the cluster refused.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from parleyd.storage.files import io_errors, replace_durably

REFUSED_SUFFIX = ".refused"
_PREFIX = "administrator-claim-"
_SUFFIX = ".json"
_NAME_DIGITS = 16
_ATTEMPTS = 3


@dataclass(frozen=True, slots=True)
class AdministratorClaim:
    """The digest of a code, and when it ends (Unix time)."""

    digest: bytes
    expires_at_ms: int


class DamagedClaimError(Exception):
    """The file is no claim. The node removes it; `parleyd admin create` writes another one."""


def write_claim(data_directory: Path, claim: AdministratorClaim) -> Path:
    """Write a claim, for the user who owns the data directory, and return its file. Raises OSError."""
    path = data_directory / f"{_PREFIX}{claim.digest.hex()[:_NAME_DIGITS]}{_SUFFIX}"
    document = {"digest": claim.digest.hex(), "expires_at_ms": claim.expires_at_ms}
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            replace_durably(path, json.dumps(document).encode())
            break
        except FileNotFoundError:  # a node that starts removes what is half written
            if attempt == _ATTEMPTS or not data_directory.is_dir():
                raise
    if os.geteuid() == 0:
        owner = data_directory.stat()
        os.chown(path, owner.st_uid, owner.st_gid)
    return path


def waiting_claims(data_directory: Path) -> list[Path]:
    """Return the files of the claims that wait for the node."""
    return sorted(data_directory.glob(f"{_PREFIX}*{_SUFFIX}"))


def read_claim(path: Path) -> AdministratorClaim:
    """Return a claim. Raises DamagedClaimError, and OSError if it cannot be read now."""
    content = path.read_bytes()
    try:
        document = json.loads(content)
        return AdministratorClaim(bytes.fromhex(document["digest"]), int(document["expires_at_ms"]))
    except (ValueError, KeyError, TypeError) as error:
        raise DamagedClaimError(f"{type(error).__name__} in its content") from error


def remove_claim(path: Path) -> None:
    """Remove a claim that was taken, or that is damaged."""
    with io_errors(f"removing {path}"):
        path.unlink(missing_ok=True)


def refuse_claim(path: Path) -> None:
    """Record for `parleyd admin create`, which waits, that the cluster refused the code."""
    with io_errors(f"renaming {path}"), suppress(FileNotFoundError):
        path.replace(path.with_suffix(REFUSED_SUFFIX))


def was_refused(path: Path) -> bool:
    """Return whether the cluster refused the claim of this file, and forget it."""
    refused = path.with_suffix(REFUSED_SUFFIX)
    was = refused.exists()
    refused.unlink(missing_ok=True)
    return was
