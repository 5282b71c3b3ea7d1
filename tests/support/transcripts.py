"""Line clients on plain sockets, and transcripts of dialogues as docs/GATEWAY.md has them.

In a transcript, `anna> text` is typed by anna, who connects with her first line. `anna< text` is the next line that she
gets. `anna.` says that her connection has ended. `{n}` stands for a number, `{time}` for a time of day, `{any}` for any
text, and `{secret}` for a word that is the same wherever it stands.
"""

from __future__ import annotations

import asyncio
import re
import socket
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from parley.gateway.accounts import SIGN_IN_S

ROOT = Path(__file__).resolve().parents[2]
LIMIT_S = SIGN_IN_S + 10.0  # a log-in may wait so long for its turn
_LINE = re.compile(r"(?P<who>[a-z]+)(?P<way>[<>.]) ?(?P<text>.*)")
_BLOCK = re.compile(r"^```transcript ?(?P<kind>\w*)\n(?P<lines>.*?)^```$", re.MULTILINE | re.DOTALL)
_WILD = {"{n}": r"\d+", "{time}": r"\d\d:\d\d", "{any}": r".*"}
GREETING = re.compile(r"(Welcome to Parley\.|This line is not encrypted\.|What is your name\?|READY)")
NODE_NEWS = re.compile(r"(\* |NOTICE )\(")


class LineClient:
    """A client of the gateway: a socket that writes and reads lines."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self._early: deque[str] = deque()  # lines that came before an answer, and that nobody has read

    async def say(self, *lines: str) -> None:
        self.writer.write("".join(f"{line}\n" for line in lines).encode())
        await self.writer.drain()

    async def line(self) -> str:
        """Return the next line that is no news of a node; an empty text at the end of the connection."""
        return self._early.popleft() if self._early else await self._next()

    async def _next(self) -> str:
        async with asyncio.timeout(LIMIT_S):
            while NODE_NEWS.match(line := (await self.reader.readline()).decode()):
                continue
        return line.removesuffix("\n")

    async def until(self, pattern: str) -> str:
        """Return the first line that begins with a pattern."""
        while not re.match(pattern, line := await self.line()):
            assert line, f"the connection ended before {pattern}"
        return line

    async def ask(self, line: str) -> str:
        """Say one line of the compact style. Return its OK or ERROR."""
        await self.say(line)
        return await self.until("OK|ERROR")

    async def ask_and_keep(self, line: str) -> str:
        """The same, and keep for later what comes before the answer: messages that others send at the same time."""
        await self.say(line)
        while not re.match("OK|ERROR", came := await self._next()):
            assert came, "the connection ended before an answer"
            self._early.append(came)
        return came

    async def is_at_end(self) -> bool:
        return await self.line() == ""


@asynccontextmanager
async def line_client(port: int, *, compact: bool = False, receive_bytes: int = 0) -> AsyncIterator[LineClient]:
    """A connected client. `receive_bytes` is the kernel's buffer for what it does not read."""
    plain = socket.socket()
    if receive_bytes:
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
    plain.setblocking(False)
    await asyncio.get_running_loop().sock_connect(plain, ("127.0.0.1", port))
    reader, writer = await asyncio.open_connection(sock=plain, limit=1 << 20)
    client = LineClient(reader, writer)
    try:
        if compact:
            assert await client.ask("STYLE compact") == "OK compact"
        yield client
    finally:
        writer.transport.abort()


@dataclass(frozen=True)
class Transcript:
    """One dialogue of a page."""

    name: str
    kind: str
    lines: tuple[re.Match[str], ...]


def transcripts_of(page: str) -> list[Transcript]:
    """The transcripts of a page, named by the headings above them."""
    text = (ROOT / page).read_text()
    found = []
    for block in _BLOCK.finditer(text):
        heading = re.findall(r"^#+ (.*)$", text[: block.start()], re.MULTILINE)[-1]
        lines = tuple(_LINE.fullmatch(line.rstrip()) for line in block["lines"].splitlines())
        assert all(lines), f"a line of {heading} is none of a transcript"
        found.append(Transcript(heading, block["kind"], tuple(line for line in lines if line)))
    return found


async def play(transcript: Transcript, port: int, before_list: Callable[[], Awaitable[None]]) -> None:
    """Have the dialogue. `before_list` waits until everybody is listed who should be."""
    people: dict[str, LineClient] = {}
    secret = ""
    greeted = {line["who"] for line in transcript.lines if line["way"] == "<" and "Welcome to Parley" in line["text"]}
    async with AsyncExitStack() as stack:
        for number, line in enumerate(transcript.lines, 1):
            who, way, text = line["who"], line["way"], line["text"]
            if who not in people:
                people[who] = await stack.enter_async_context(line_client(port))
                if who not in greeted:
                    await people[who].until("What is your name")
            if way == ">":
                if text.split()[:1] in (["LIST"], ["/users"]):
                    await before_list()
                await people[who].say(text.replace("{secret}", secret))
                continue
            got = await people[who].line()
            pattern = re.escape(text)
            for wild, means in _WILD.items():
                pattern = pattern.replace(re.escape(wild), means)
            pattern = pattern.replace(re.escape("{secret}"), r"(?P<secret>\S+)", 1)
            pattern = pattern.replace(re.escape("{secret}"), "(?P=secret)")
            match = re.fullmatch(pattern, got)
            assert match, f"{transcript.name}, line {number}: {line[0]!r} but got {got!r}"
            secret = match.groupdict().get("secret") or secret
