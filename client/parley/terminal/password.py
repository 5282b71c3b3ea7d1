"""Reads passwords from standard input, from the environment, or from a prompt that does not show them."""

import getpass
import os
import sys

from parley import BadInputError

VARIABLE = "PARLEY_PASSWORD"


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
    password = getpass.getpass(prompt)
    if twice and getpass.getpass("Once more: ") != password:
        raise BadInputError("The two passwords differ. Nothing was done. Try again.")
    return password
