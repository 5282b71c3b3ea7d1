"""What went wrong in a command of several messages, as an exit code: a script sees no remark."""

from parley import MessageStatus, Outgoing, ParleyError
from parley.terminal.exits import ExitCode, code_of


class Failures:
    """Remembers the exit code of the first failure."""

    def __init__(self) -> None:
        self.code = ExitCode.OK

    def add(self, error: ParleyError) -> None:
        """Record that a line had no effect."""
        self._add(code_of(error))

    def settled(self, view: Outgoing) -> None:
        """Record the result of a message, if it is a failure."""
        if view.status.needs_person:
            self._add(ExitCode.UNKNOWN if view.status is MessageStatus.UNKNOWN else ExitCode.REFUSED)

    def _add(self, code: ExitCode) -> None:
        self.code = self.code or code
