"""What commands and events tell in the messenger, in a part of the screen of its own, until it is closed. Pure."""

from collections import deque

from parley.chat import safe_body
from parley.terminal.cells import cut, wrap
from parley.terminal.messenger_lines import Line

MAX_NOTES = 2000
HEAD = 1


class Notes:
    """The latest lines. They are bounded: the oldest go first."""

    def __init__(self) -> None:
        """Begin empty."""
        self._notes: deque[tuple[str, str]] = deque(maxlen=MAX_NOTES)
        self._up = 0
        self._hidden = 0

    def __bool__(self) -> bool:
        return bool(self._notes)

    @property
    def has_more(self) -> bool:
        """Return true if not all lines fit."""
        return self._hidden > 0

    def add(self, style: str, line: str) -> None:
        """Add a line, which may have several."""
        self._notes.append((style, safe_body(line)))

    def close(self) -> None:
        """Forget all lines."""
        self._notes.clear()
        self._up = 0

    def scroll(self, by: int) -> None:
        """Show lines further up, or further down if it is negative."""
        self._up = max(0, self._up + by)

    def height(self, room: int, most: int) -> int:
        """Return how many lines are taken, at most `most`."""
        if not self._notes or most <= HEAD:
            return 0
        taken = HEAD
        for style, note in reversed(self._notes):
            taken += len(_lines(style, note, room))
            if taken >= most:
                return most
        return taken

    def draw(self, room: int, height: int) -> list[Line]:
        """Return the latest lines that fit, below a line that says how to close them."""
        if height <= HEAD:
            return []
        lines = [line for style, note in self._notes for line in _lines(style, note, room)]
        body = height - HEAD
        self._hidden = max(0, len(lines) - body)
        self._up = min(self._up, self._hidden)
        end = len(lines) - self._up
        more = f" · PageUp: {self._hidden} lines more" if self._hidden else ""
        head = cut(f"── Esc closes this{more} ", room)
        return [(("class:quiet", head),), *lines[max(0, end - body) : end]]


def _lines(style: str, note: str, room: int) -> list[Line]:
    return [((style, text),) for text in wrap(note, room)]
