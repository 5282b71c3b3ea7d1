"""Reads passwords from standard input, from the environment, or from a prompt that does not show them."""

import getpass
import os
import sys

from parley import BadInputError

VARIABLE = "PARLEY_PASSWORD"


def read_two_passwords(old_prompt: str, new_prompt: str, *, from_stdin: bool) -> tuple[str, str]:
    """Return the old and the new password: two lines of standard input, or what is typed. Raise BadInputError."""
    if from_stdin:
        return read_password("", from_stdin=True), read_password("", from_stdin=True)
    if not sys.stdin.isatty():
        raise BadInputError("The old and the new password are needed. Give them as two lines with --password-stdin.")
    return getpass.getpass(old_prompt), _new_password(new_prompt)


def confirm(question: str) -> bool:
    """Ask a question that only `yes` answers."""
    return input(question).strip() == "yes"


def _new_password(prompt: str) -> str:
    password = getpass.getpass(prompt)
    if getpass.getpass("Once more: ") != password:
        raise BadInputError("The two passwords differ. Nothing was done. Try again.")
    return password


def read_password(prompt: str, *, from_stdin: bool, twice: bool = False) -> str:
    """Return the password. Raise BadInputError if there is no terminal to ask on."""
    if from_stdin:
        line = sys.stdin.readline()
        if not line:
            raise BadInputError("--password-stdin was given, but standard input is empty.")
        return line.rstrip("\r\n")
    given = os.environ.get(VARIABLE)
    if given:
        return given
    if not sys.stdin.isatty():
        raise BadInputError(f"A password is needed. Give it with --password-stdin or {VARIABLE}.")
    return _new_password(prompt) if twice else getpass.getpass(prompt)
