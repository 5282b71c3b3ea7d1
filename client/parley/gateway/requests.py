"""What a line asks for. Pure: the grammar is the table COMMANDS, and any text has a meaning or one clear refusal.

Bare commands are written in capitals or in small letters, the others begin with a slash. In the plain style, any other
line is a text for the open conversation, and a line that begins with two slashes is a text that begins with one. In
small letters, a bare command that takes nothing is one only if it stands alone: "help me" is a text.
"""

import re
from dataclasses import dataclass
from enum import Enum, StrEnum, auto

MAX_HISTORY = 100
HISTORY = 20


class Kind(StrEnum):
    """What may be asked for. The value is its name in logs."""

    REGISTER = "register"
    UNREGISTER = "unregister"
    LOG_IN = "log_in"
    LOG_OUT = "log_out"
    ALL = "all"
    DIRECT = "direct"
    REPLY = "reply"
    TEXT = "text"
    CONNECTED = "connected"
    ACCOUNTS = "accounts"
    CHANNELS = "channels"
    JOIN = "join"
    LEAVE = "leave"
    HISTORY = "history"
    PING = "ping"
    STYLE = "style"
    HELP = "help"
    CLOSE = "close"


class Takes(Enum):
    """The parameters of a command."""

    NOTHING = auto()
    TEXT = auto()
    NAME_AND_TEXT = auto()
    NEW_NAME = auto()
    NAME_AND_PASSWORD = auto()
    PASSWORD = auto()
    CHANNEL = auto()
    COUNT = auto()
    PATTERN = auto()
    STYLE = auto()


@dataclass(frozen=True, slots=True)
class Command:
    """One row of the grammar."""

    kind: Kind
    takes: Takes
    usage: str


@dataclass(frozen=True, slots=True)
class Request:
    """What a line asks for. `name` is an account, a channel or a pattern; `text` a message, a password or a style.

    `code` is that of an invitation.
    """

    kind: Kind
    name: str = ""
    text: str = ""
    count: int = 0
    code: str = ""

    def __repr__(self) -> str:
        return f"Request({self.kind}, text hidden)"


@dataclass(frozen=True, slots=True)
class Wrong:
    """Why a line asks for nothing: a code for programs and a sentence for people."""

    code: str
    text: str


COMMANDS: dict[str, Command] = {
    "REGISTER": Command(Kind.REGISTER, Takes.NEW_NAME, "REGISTER NAME [PASSWORD [CODE]]"),
    "UNREGISTER": Command(Kind.UNREGISTER, Takes.PASSWORD, "UNREGISTER PASSWORD"),
    "LOGIN": Command(Kind.LOG_IN, Takes.NAME_AND_PASSWORD, "LOGIN NAME PASSWORD"),
    "CONNECT": Command(Kind.LOG_IN, Takes.NAME_AND_PASSWORD, "CONNECT NAME PASSWORD"),
    "LOGOUT": Command(Kind.LOG_OUT, Takes.NOTHING, "LOGOUT"),
    "DISCONNECT": Command(Kind.LOG_OUT, Takes.NOTHING, "DISCONNECT"),
    "MESSAGE": Command(Kind.ALL, Takes.TEXT, "MESSAGE TEXT"),
    "DM": Command(Kind.DIRECT, Takes.NAME_AND_TEXT, "DM NAME TEXT"),
    "SEND": Command(Kind.DIRECT, Takes.NAME_AND_TEXT, "SEND NAME TEXT"),
    "LIST": Command(Kind.CONNECTED, Takes.NOTHING, "LIST"),
    "STYLE": Command(Kind.STYLE, Takes.STYLE, "STYLE plain, STYLE compact, or STYLE compact places"),
    "HELP": Command(Kind.HELP, Takes.NOTHING, "HELP"),
    "CLOSE": Command(Kind.CLOSE, Takes.NOTHING, "CLOSE"),
    "/ping": Command(Kind.PING, Takes.NOTHING, "/ping"),
    "/users": Command(Kind.CONNECTED, Takes.NOTHING, "/users"),
    "/who": Command(Kind.CONNECTED, Takes.NOTHING, "/who"),
    "/accounts": Command(Kind.ACCOUNTS, Takes.PATTERN, "/accounts [PATTERN]"),
    "/all": Command(Kind.ALL, Takes.TEXT, "/all TEXT"),
    "/whisper": Command(Kind.DIRECT, Takes.NAME_AND_TEXT, "/whisper NAME TEXT"),
    "/dm": Command(Kind.DIRECT, Takes.NAME_AND_TEXT, "/dm NAME TEXT"),
    "/reply": Command(Kind.REPLY, Takes.TEXT, "/reply TEXT"),
    "/channels": Command(Kind.CHANNELS, Takes.NOTHING, "/channels"),
    "/join": Command(Kind.JOIN, Takes.CHANNEL, "/join #TITLE, /join #NUMBER, or /join everyone"),
    "/leave": Command(Kind.LEAVE, Takes.NOTHING, "/leave"),
    "/history": Command(Kind.HISTORY, Takes.COUNT, f"/history [NUMBER up to {MAX_HISTORY}]"),
    "/help": Command(Kind.HELP, Takes.NOTHING, "/help"),
    "/disconnect": Command(Kind.CLOSE, Takes.NOTHING, "/disconnect"),
    "/quit": Command(Kind.CLOSE, Takes.NOTHING, "/quit"),
}
NEEDS = {
    Takes.NAME_AND_TEXT: "needs a name and a text",
    Takes.NEW_NAME: "needs a name",
    Takes.NAME_AND_PASSWORD: "needs a name and a password",
    Takes.PASSWORD: "needs your password",
    Takes.CHANNEL: "needs a channel",
    Takes.COUNT: "needs a number",
    Takes.STYLE: "needs a style",
}
BEFORE_LOG_IN = frozenset((Kind.REGISTER, Kind.LOG_IN, Kind.HELP, Kind.CLOSE, Kind.STYLE))
_CODE = re.compile(r"[a-z0-9]{9}-?[a-z0-9]{9}-?[a-z0-9]{9}", re.ASCII | re.IGNORECASE)
STYLES = ("plain", "compact", "compact places")


def parse(text: str, *, is_compact: bool) -> Request | Wrong | None:
    """Return what a line asks for, why it asks for nothing, or None for an empty line."""
    text = text.strip()
    if not text:
        return None
    if text.startswith("//"):
        return Request(Kind.TEXT, text=text[1:])
    word, _, rest = text.partition(" ")
    rest = rest.strip()
    command = COMMANDS.get(word.lower() if word.startswith("/") else word.upper())
    is_bare = not word.startswith("/")
    if command is not None and is_bare and not is_compact:
        is_written_as_one = word == word.upper() or (word == word.lower() and not _is_sentence(command, rest))
        command = command if is_written_as_one else None
    if command is not None:
        return _with_parameters(command, rest)
    if is_bare and not is_compact:
        return Request(Kind.TEXT, text=text)
    return Wrong("unknown-command", f"{shown(word)} is not a command. Nothing was sent. HELP lists the commands.")


def shown(word: str) -> str:
    """Return the beginning of a word that a person typed, for an answer."""
    return word if len(word) <= 32 else word[:32] + "…"


def _is_sentence(command: Command, rest: str) -> bool:
    return bool(rest) and command.takes is Takes.NOTHING


def _with_parameters(command: Command, rest: str) -> Request | Wrong:
    name, _, text = rest.partition(" ")
    text = text.strip()
    match command.takes:
        case Takes.NOTHING:
            return _usage(command, "takes nothing after it") if rest else Request(command.kind)
        case Takes.TEXT:
            return Request(command.kind, text=rest) if rest else _no_text(command)
        case Takes.NAME_AND_TEXT if name:
            return Request(command.kind, name, text) if text else _no_text(command)
        case Takes.NEW_NAME if name:
            return _new_name(command, name, text)
        case Takes.NAME_AND_PASSWORD if text:
            return Request(command.kind, name, text)
        case Takes.PASSWORD if rest:
            return Request(command.kind, text=rest)
        case Takes.CHANNEL if rest:
            return Request(command.kind, rest)
        case Takes.PATTERN:
            return Request(command.kind, rest)
        case Takes.COUNT:
            return _count(command, rest)
        case Takes.STYLE if (style := " ".join(rest.lower().split())) in STYLES:
            return Request(command.kind, text=style)
    return _usage(command, NEEDS[command.takes])


def _new_name(command: Command, name: str, rest: str) -> Request | Wrong:
    """Return a registration. What follows the password is taken for a code only if it looks like one."""
    password, _, code = rest.partition(" ")
    if code and not _CODE.fullmatch(code.strip()):
        return Wrong(
            "bad-name",
            "Screen name must be one word. A password here is one word, too. An invitation is 27 letters and digits, "
            "as in xxxxxxxxx-xxxxxxxxx-xxxxxxxxx.",
        )
    return Request(command.kind, name, password, code=code.strip())


def _count(command: Command, rest: str) -> Request | Wrong:
    if not rest:
        return Request(command.kind, count=HISTORY)
    if rest.isascii() and rest.isdecimal() and len(rest) < 10 and 0 < int(rest) <= MAX_HISTORY:
        return Request(command.kind, count=int(rest))
    return _usage(command, NEEDS[command.takes])


def _usage(command: Command, what: str) -> Wrong:
    word = command.usage.partition(" ")[0]
    return Wrong("bad-parameters", f"{word} {what}. Nothing was done. Usage: {command.usage}")


def _no_text(command: Command) -> Wrong:
    return Wrong("empty-text", f"The text is empty. Nothing was sent. Usage: {command.usage}")
