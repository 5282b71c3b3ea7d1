"""Rules for names, passwords and search patterns, with a text for each refusal.

Account names are ASCII only, so that no two names look alike on a screen (homographs). The state machine checks that
names differ in more than case, because only it has all of them.
"""

from __future__ import annotations

import re

from parleyd.security.common_passwords import is_common

MAX_ACCOUNT_NAME = 64
MAX_NODE_NAME = 32
MIN_PASSWORD_CHARACTERS = 8
MAX_PASSWORD_BYTES = 1024

_ACCOUNT_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*", re.ASCII)
_NODE_NAME = re.compile(r"[a-z]([a-z0-9-]*[a-z0-9])?", re.ASCII)
_PATTERN = re.compile(r"[A-Za-z0-9._*?-]*", re.ASCII)


class InvalidInputError(ValueError):
    """Input that a person can correct: the field and the fault; it never quotes a secret."""

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field} {problem}")
        self.field = field
        self.problem = problem


def validate_account_name(name: str, field: str = "name") -> str:
    """Return `name` if it may be the name of an account; raise `InvalidInputError` if not."""
    if not name:
        raise InvalidInputError(field, f"is empty; give 1 to {MAX_ACCOUNT_NAME} characters")
    if len(name) > MAX_ACCOUNT_NAME:
        raise InvalidInputError(field, f"has {len(name)} characters; at most {MAX_ACCOUNT_NAME} are allowed")
    if not _ACCOUNT_NAME.fullmatch(name):
        raise InvalidInputError(
            field,
            "may hold only the letters a to z and A to Z, digits, '.', '_' and '-', and starts with a letter or digit",
        )
    return name


def validate_node_name(name: str, field: str = "name") -> str:
    """Return `name` if it may be the name of a node; raise `InvalidInputError` if not.

    Node names are DNS labels because a node's certificate contains its name as one (certificates.py).
    """
    if len(name) > MAX_NODE_NAME or not _NODE_NAME.fullmatch(name):
        raise InvalidInputError(
            field,
            f"must be 1 to {MAX_NODE_NAME} lower-case letters, digits and '-', "
            "start with a letter and not end with '-', for example n1 or ward-a",
        )
    return name


def validate_password(password: str, field: str = "password", account: str = "") -> str:
    """Return `password` if the account may have it from now on; raise `InvalidInputError` if not."""
    # Bytes first: counting the characters of a very long text is work that an attacker could cause.
    if not password_is_readable(password):
        raise InvalidInputError(
            field, f"must be text of at most {MAX_PASSWORD_BYTES} bytes; non-ASCII letters take 2 to 4 bytes each"
        )
    if len(password) < MIN_PASSWORD_CHARACTERS:
        raise InvalidInputError(
            field, f"has {len(password)} characters; at least {MIN_PASSWORD_CHARACTERS} are required"
        )
    if not password.strip():
        raise InvalidInputError(field, "is blank; choose one with letters or other signs that can be seen")
    if account and password.lower() == account.lower():
        raise InvalidInputError(field, "is the name of the account; choose another one")
    if is_common(password):
        raise InvalidInputError(
            field, "is one of the most common passwords, which are guessed first; choose a longer or rarer one"
        )
    return password


def password_is_readable(password: str) -> bool:
    """Return whether `password` can be hashed at all, whatever the rules for new passwords are."""
    try:
        return len(password.encode()) <= MAX_PASSWORD_BYTES
    except UnicodeEncodeError:
        return False


def validate_pattern(pattern: str, field: str = "pattern") -> str:
    """Return `pattern` if it can be matched against account names; '*' is any run, '?' one character."""
    if len(pattern) > MAX_ACCOUNT_NAME:
        raise InvalidInputError(field, f"has {len(pattern)} characters; at most {MAX_ACCOUNT_NAME} are allowed")
    if not _PATTERN.fullmatch(pattern):
        raise InvalidInputError(
            field, "may hold only what account names are made of (letters, digits, '.', '_', '-') and '*' and '?'"
        )
    return pattern
