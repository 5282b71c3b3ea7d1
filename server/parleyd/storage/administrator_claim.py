"""The file by which `parleyd admin create` hands an administrator's code to the node that runs on a data directory.

It has the digest of the code, not the code. Whoever can write it has the node's disk, and so its keys and all data.
The node removes it once the cluster has the digest.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

from parleyd.storage.files import io_errors, write_durably

NAME = "administrator-claim.json"


@dataclass(frozen=True, slots=True)
class AdministratorClaim:
    """The digest of a code, and when it ends (Unix time)."""

    digest: bytes
    expires_at_ms: int


class DamagedClaimError(Exception):
    """The file is no claim. The node removes it; `parleyd admin create` writes another one."""


def write_claim(data_directory: Path, claim: AdministratorClaim) -> None:
    """Write the file, for the user who owns the data directory. A former claim that was not taken yet is replaced."""
    path = data_directory / NAME
    document = {"digest": claim.digest.hex(), "expires_at_ms": claim.expires_at_ms}
    write_durably(path, json.dumps(document).encode())
    owner = data_directory.stat()
    if os.geteuid() == 0:
        with io_errors(f"giving {path} to the owner of the folder"):
            os.chown(path, owner.st_uid, owner.st_gid)


def read_claim(data_directory: Path) -> AdministratorClaim | None:
    """Return the claim that waits, or None. Raises DamagedClaimError, and OSError if it cannot be read now."""
    if not is_waiting(data_directory):  # takes no descriptor, which a process may have run out of
        return None
    try:
        content = (data_directory / NAME).read_bytes()
    except FileNotFoundError:
        return None
    try:
        document = json.loads(content)
        return AdministratorClaim(bytes.fromhex(document["digest"]), int(document["expires_at_ms"]))
    except (ValueError, KeyError, TypeError) as error:
        raise DamagedClaimError(f"{type(error).__name__} in its content") from error


def remove_claim(data_directory: Path) -> None:
    """Remove the file, if it is there."""
    with io_errors(f"removing {data_directory / NAME}"):
        (data_directory / NAME).unlink(missing_ok=True)


def is_waiting(data_directory: Path) -> bool:
    """Return whether a claim waits to be taken by the node."""
    return (data_directory / NAME).exists()
