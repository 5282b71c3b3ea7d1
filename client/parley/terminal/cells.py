"""Text in the cells of a terminal: how many it takes, cut and wrapped to a number of them. Pure.

A wide character takes two cells, a combining one takes none. Texts have no control characters but newlines and tabs.
"""

from prompt_toolkit.utils import get_cwidth

TAB = "    "
MARK = "…"


def cells(text: str) -> int:
    """Return the number of cells that a text takes."""
    return get_cwidth(text)


def cut(text: str, room: int) -> str:
    """Return a text in one line that takes at most `room` cells. A mark shows that it was cut."""
    line = " ".join(text.split())
    if cells(line) <= room:
        return line
    if room <= 0:
        return ""
    end = _end_of(line, 0, room - 1)
    return line[:end].rstrip() + MARK


def padded(text: str, room: int, *, indent: int = 0) -> str:
    """Return a text behind `indent` spaces, cut or filled with spaces to exactly `room` cells."""
    room = max(0, room)
    line = cut(text, room)
    return " " * indent + line + " " * (room - cells(line))


def wrap(text: str, room: int, first_room: int | None = None) -> list[str]:
    """Return a text in lines of at most `room` cells, broken at spaces where there are any.

    `first_room` is the room in the first line. A line has one character even if that one is wider than the room.
    """
    lines: list[str] = []
    room = max(1, room)
    left = max(1, room if first_room is None else first_room)
    for line in text.replace("\t", TAB).split("\n"):
        start = 0
        while True:
            end = max(_end_of(line, start, left), start + 1)
            left = room
            if end >= len(line):
                lines.append(line[start:])
                break
            space = line.rfind(" ", start + 1, end + 1)
            if space > start:
                lines.append(line[start:space])
                start = space + 1
            else:
                lines.append(line[start:end])
                start = end
    return lines


def _end_of(line: str, start: int, room: int) -> int:
    """Return the end of what fits from `start` on, with the combining characters after it."""
    used = 0
    for at in range(start, len(line)):
        used += get_cwidth(line[at])
        if used > room:
            return at
    return len(line)
