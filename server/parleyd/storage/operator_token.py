"""A secret in the node's data directory: whoever can read it is the operator of this machine.

Scripts on the machine send it with `GetStatus`, which tells strangers only what a client needs. Each start makes a new
one.
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from parleyd.storage.files import io_errors


def write_operator_token(path: Path) -> str:
    """Write a new token that only this user can read, and return it."""
    token = secrets.token_urlsafe(32)
    with io_errors(f"writing {path}"):
        path.unlink(missing_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(token)
    return token
