"""Session tokens: random, shown to their owner once, kept by the cluster only as a digest.

A token has 256 bits of entropy, so a plain SHA-256 is enough: there is nothing to guess, and looking a digest up
in an index leaks nothing useful through timing.
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
    """A text that no cluster ever gave out as a token; the text itself is not quoted."""

    def __init__(self) -> None:
        super().__init__("this is not a session token; log in again to get one")


def new_token() -> tuple[str, bytes]:
    """Make a token for its owner and the digest for the cluster."""
    token = base64.urlsafe_b64encode(secrets.token_bytes(TOKEN_BYTES)).rstrip(b"=").decode()
    return token, digest(token)


def digest(token: str) -> bytes:
    """Return what the cluster knows a token by; raise `MalformedTokenError` before any look-up for other texts."""
    if not _TOKEN.fullmatch(token):
        raise MalformedTokenError
    return hashlib.sha256(token.encode()).digest()
