"""How account names are compared, and which people would take for another account or for the cluster itself.

The tables are frozen: names are ASCII, and no Unicode table of a Python release decides. A change needs a new level.
The forms of names count from level 3 on.
"""

from __future__ import annotations

from typing import Final

NAME_RULES_LEVEL: Final = 3

# They mean everybody, or the cluster, or who looks after it.
RESERVED: Final = frozenset(
    {"everyone", "all", "here", "channel", "admin", "administrator", "root", "system", "server", "parley"}
)
# In this order, on lower-case names: what looks like what on most screens.
_ALIKE: Final = (("rn", "m"), ("vv", "w"), ("0", "o"), ("1", "l"), ("i", "l"))


def name_key(name: str) -> str:
    """Return the spelling by which names are compared, which differ by more than letter case.

    Names are ASCII, so this does not depend on a Unicode version.
    """
    return name.lower()


def skeleton(name: str) -> str:
    """Return the form that names which look alike have in common."""
    form = name.lower()
    for written, looks_like in _ALIKE:
        form = form.replace(written, looks_like)
    return form


def skeleton_sql(column: str) -> str:
    """Return the SQL expression for the same form of a lower-case column."""
    expression = column
    for written, looks_like in _ALIKE:
        expression = f"replace({expression}, '{written}', '{looks_like}')"
    return expression


RESERVED_FORMS: Final = frozenset(map(skeleton, RESERVED))
