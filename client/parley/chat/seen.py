"""Which messages of the open conversation were on the screen, and up to which one the person left out none."""

from collections.abc import Iterable

from parley.chat.rows import Row
from parley.chat.thread import Thread


class Seen:
    """The messages that were on the screen since the conversation was opened. A thread bounds their number."""

    def __init__(self) -> None:
        self._ids: set[int] = set()

    def add(self, rows: Iterable[Row]) -> None:
        """Record rows that are on the screen."""
        self._ids.update(row.message_id for row in rows)

    def up_to(self, thread: Thread, read_up_to: int, unread: int) -> int:
        """Return the id up to which the person has seen everything above `read_up_to`.

        `unread` is the number of unread messages that the cluster counts. If rows between `read_up_to` and the loaded
        ones may be missing, the result is `read_up_to`: a read mark covers all messages below it.
        """
        if not thread.reaches(read_up_to) and (not unread or thread.count_unread(read_up_to) < unread):
            return read_up_to
        position = read_up_to
        for row in thread.rows_above(read_up_to):
            if row.counts_as_unread and row.message_id not in self._ids:
                break
            position = row.message_id
        return position
