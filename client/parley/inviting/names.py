"""Names of clusters on a person's machine."""

import re

from parley.errors import BadInputError

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def is_context_name(name: str) -> bool:
    """Return whether a context may have this name."""
    return _NAME.fullmatch(name) is not None


def check_context_name(name: str) -> str:
    """Return the name if a context may have it. Raise BadInputError otherwise."""
    if not is_context_name(name):
        raise BadInputError(
            f"{name!r} cannot be the name of a context. Nothing was changed. Use 1 to 64 letters, digits, '.', "
            "'_' and '-'. Begin with a letter or digit."
        )
    return name
