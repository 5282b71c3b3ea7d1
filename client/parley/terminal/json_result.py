"""--json of the commands that do something: one object that says what was done. docs/COMMAND_LINE.md has its shape.

Commands that list something have shapes of their own. A command gives values with record(). What it says to people is
in the object, too.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import asdict, dataclass, field

FORMAT = 1
"""Fields are only added. A release that removes or changes one has another number."""


@dataclass(slots=True)
class Result:
    """What one command has done. `exit_code` is that of the process, `error` is empty if it is 0.

    `request_id` is that of the failed request in the logs of the nodes; empty without one.
    """

    command: str
    exit_code: int = 0
    error: str = ""
    values: dict[str, object] = field(default_factory=dict)
    lines: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    request_id: str = ""

    def to_json(self) -> str:
        """Return the object on one line."""
        return json.dumps({"format": FORMAT, **asdict(self)}, ensure_ascii=False)


_present: ContextVar[Result | None] = ContextVar("result of this command", default=None)


def present() -> Result | None:
    """Return the object of the command that runs, or None if it prints text."""
    return _present.get()


def record(**values: object) -> None:
    """Add values for programs. Without --json this does nothing."""
    if (result := _present.get()) is not None:
        result.values.update(values)


@contextmanager
def collected(result: Result) -> Iterator[None]:
    """Collect what is said from here on."""
    token = _present.set(result)
    try:
        yield
    finally:
        _present.reset(token)
