"""Lines that look like a command of another system. The chat asks before it sends one to a person."""

ALONE = {
    "help": "/help",
    "quit": "/quit",
    "exit": "/quit",
    "close": "/quit",
    "logout": "/quit",
    "disconnect": "/quit",
    "list": "/who",
    "who": "/who",
}
IN_CAPITALS = {
    "REGISTER": "parley register NAME, outside the chat",
    "UNREGISTER": "parley unregister, outside the chat",
    "LOGIN": "parley login NAME, outside the chat",
    "CONNECT": "parley login NAME, outside the chat",
    "MESSAGE": "/all TEXT",
    "DM": "/dm NAME TEXT",
    "SEND": "/dm NAME TEXT",
}

WITHOUT_SLASH = ("to", "join", "cancel", "retry")
"""Commands of this chat with one word: without the slash, `to carl` would be sent to whoever was named before."""


class Hints:
    """Remembers the line that was asked about: typed again, it is meant as it is."""

    def __init__(self) -> None:
        self._asked = ""

    def question(self, line: str) -> str:
        """Return what to ask about a line, or an empty text if it is sent as it is."""
        words = line.split()
        meant = ALONE.get(line.lower()) or IN_CAPITALS.get(line.partition(" ")[0])
        if len(words) == 2 and words[0].lower() in WITHOUT_SLASH:
            meant = f"/{words[0].lower()} {words[1]}"
        if meant is None or line == self._asked:
            self._asked = ""
            return ""
        self._asked = line
        return f"Did you mean {meant}? The line was not sent. Type it again to send it as a message."
