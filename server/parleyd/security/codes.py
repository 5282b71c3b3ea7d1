"""One-time codes: invitations, and those that make an administrator. The cluster stores only a digest.

A code has 130 bits of entropy, so a plain SHA-256 is enough, and it cannot be guessed. It is written in groups of
letters and digits that people do not mistake for each other. Letter case, spaces and hyphens do not matter.
"""

from __future__ import annotations

import hashlib
import secrets

_ALPHABET = "abcdefghjkmnpqrstuvwxyz23456789"
_CHARS = 27
_GROUP = 9
MAX_TYPED_CHARS = 200


def new_code() -> str:
    """Make a code."""
    chars = "".join(secrets.choice(_ALPHABET) for _ in range(_CHARS))
    return "-".join(chars[at : at + _GROUP] for at in range(0, _CHARS, _GROUP))


def digest_of_code(code: str) -> bytes:
    """Return the digest under which the cluster stores a code. A text that is no code has one, too."""
    normal = "".join(code[:MAX_TYPED_CHARS].split()).replace("-", "").lower()
    return hashlib.sha256(normal.encode("utf-8", "replace")).digest()
