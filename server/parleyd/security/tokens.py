"""Session tokens: random, sent to their owner once, and stored in the cluster only as a digest.

A token has 256 bits of entropy, so a plain SHA-256 is enough. It cannot be guessed, and the timing of an index look-up
reveals nothing useful.
"""

from __future__ import annotations

import base64
import hashlib
import re
import secrets

TOKEN_BYTES = 32
DIGEST_BYTES = 32

_TOKEN = re.compile(r"[A-Za-z0-9_-]{43}", re.ASCII)


class MalformedTokenError(ValueError):
    """A text that is not a token of any cluster; the text itself is not quoted."""

    def __init__(self) -> None:
        super().__init__("this is not a session token; log in again to get one")


def new_token() -> tuple[str, bytes]:
    """Make a token for its owner and the digest for the cluster."""
    token = base64.urlsafe_b64encode(secrets.token_bytes(TOKEN_BYTES)).rstrip(b"=").decode()
    return token, digest(token)


def digest(token: str) -> bytes:
    """Return the digest under which the cluster stores a token; raise `MalformedTokenError` for other texts."""
    if not _TOKEN.fullmatch(token):
        raise MalformedTokenError
    return hashlib.sha256(token.encode()).digest()
