"""Reads what a person types: a password, from standard input, the environment or a prompt without echo; a message."""

import getpass
import os
import sys
from collections.abc import Callable

from parley import BadInputError
from parley.terminal.signals import prompting

VARIABLE = "PARLEY_PASSWORD"


def read_two_passwords(old_prompt: str, new_prompt: str, *, from_stdin: bool) -> tuple[str, str]:
    """Return the old and the new password: two lines of standard input, or what is typed. Raise BadInputError."""
    old = read_password(old_prompt, from_stdin=from_stdin)
    return old, read_new_password(new_prompt, from_stdin=from_stdin)


def read_new_password(prompt: str, *, from_stdin: bool) -> str:
    """Return a password that is to be set. The environment has the one in force, so it is not asked."""
    if from_stdin:
        return _line_of_stdin()
    if not sys.stdin.isatty():
        raise BadInputError("A new password is needed. Give it with --password-stdin.")
    return _typed_twice(prompt)


def read_body() -> str:
    """Return a message from standard input. On a terminal, say so. A signal ends the read."""
    is_typed = sys.stdin.isatty()
    if is_typed:
        sys.stderr.write("Type the message. Ctrl-D on an empty line sends it, Ctrl-C sends nothing.\n")
    try:
        with prompting():
            return sys.stdin.read().removesuffix("\n")
    except SystemExit:
        sys.stderr.write("\nNothing was sent.\n" if is_typed else "Nothing was sent.\n")
        raise


def _line_of_stdin() -> str:
    with prompting():
        line = sys.stdin.readline()
    if not line:
        raise BadInputError("--password-stdin was given, but standard input has no password left.")
    return line.rstrip("\r\n")


def confirm(question: str) -> bool:
    """Ask a question that only `yes` answers."""
    return _answer(lambda: input(question)).strip() == "yes"


def _typed_twice(prompt: str) -> str:
    password = typed_password(prompt)
    if typed_password("Once more: ") != password:
        raise BadInputError("The two passwords differ. Nothing was done. Try again.")
    return password


def read_password(prompt: str, *, from_stdin: bool, twice: bool = False) -> str:
    """Return the password. Raise BadInputError if there is no terminal to ask on."""
    if from_stdin:
        return _line_of_stdin()
    given = os.environ.get(VARIABLE)
    if given:
        return given
    if not sys.stdin.isatty():
        raise BadInputError(f"A password is needed. Give it with --password-stdin or {VARIABLE}.")
    return _typed_twice(prompt) if twice else typed_password(prompt)


def typed_password(prompt: str) -> str:
    """Return the password that a person types, whatever the environment has."""
    return _answer(lambda: getpass.getpass(prompt))


def _answer(ask: Callable[[], str]) -> str:
    """Return what a person types. Raise BadInputError if that is nothing, or no text."""
    try:
        with prompting():
            return ask()
    except (EOFError, SystemExit) as error:
        sys.stderr.write("\n")  # the prompt is still on this line
        if isinstance(error, SystemExit):
            raise
        raise BadInputError("Nothing was typed. Nothing was done. Run the command again.") from None
    except UnicodeDecodeError:
        raise BadInputError(
            "What was typed contains bytes that are not valid UTF-8. Nothing was done. Check that the terminal uses "
            "UTF-8."
        ) from None
