"""The messenger over a fake cluster with keys from a test, and its screen as text."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from prompt_toolkit.data_structures import Size
from prompt_toolkit.input import PipeInput, create_pipe_input
from prompt_toolkit.output import DummyOutput

from parley.terminal.chat import chat
from parley.terminal.messenger import MessengerScreen
from parley.terminal.options import ConnectionOptions
from tests.support.node import InProcessCluster, running_cluster
from tests.unit.client.helpers import PASSWORD, make_client, until


class SizedOutput(DummyOutput):
    """A terminal that shows nothing and has the size that a test gives it."""

    def __init__(self, columns: int, rows: int) -> None:
        self.size = Size(rows=rows, columns=columns)

    def get_size(self) -> Size:
        return self.size


class Screen:
    """The person's end."""

    def __init__(
        self, cluster: InProcessCluster, keys: PipeInput, output: SizedOutput, screen: MessengerScreen
    ) -> None:
        self.cluster = cluster
        self.keys = keys
        self.task: asyncio.Task[int]
        self._output = output
        self._screen = screen

    @property
    def drawn(self) -> int:
        """How often the screen was drawn."""
        assert self._screen._desk is not None
        return self._screen._desk.app.render_counter

    @property
    def lines(self) -> list[str]:
        """What is on the screen."""
        desk = self._screen._desk
        drawn = desk.app.renderer.last_rendered_screen if desk is not None else None
        if drawn is None:
            return []
        size = self._output.size
        return [
            "".join(drawn.data_buffer[row][column].char for column in range(size.columns)).rstrip()
            for row in range(min(size.rows, drawn.height))
        ]

    @property
    def field(self) -> str:
        """What is in the field."""
        assert self._screen._desk is not None
        return self._screen._desk._field.text

    @property
    def chooses(self) -> bool:
        """Return true while the keys go to the list."""
        assert self._screen._desk is not None
        return self._screen._desk.in_list

    def has(self, *parts: str) -> bool:
        return any(all(part in line for part in parts) for line in self.lines)

    async def shows(self, *parts: str) -> None:
        await until(lambda: self.has(*parts) or self.task.done(), _Wanted(f"{parts} on the screen:", self))
        if self.task.done():
            self.task.result()
        assert self.has(*parts), f"{parts} is not in:\n{self}"

    async def shows_at_the_end(self, *parts: str) -> None:
        """Go to the end until it is there: a thread that opens with unread messages shows where these begin."""
        drawn = -1

        def shown() -> bool:
            nonlocal drawn
            if not self.has(*parts) and self.drawn != drawn:
                drawn = self.drawn
                self.type("\x1b[F")
            return self.has(*parts)

        await until(lambda: shown() or self.task.done(), _Wanted(f"{parts} at the end:", self))
        await self.shows(*parts)

    async def hides(self, *parts: str) -> None:
        await until(lambda: not self.has(*parts), _Wanted(f"{parts} is gone:", self))

    def type(self, text: str) -> None:
        self.keys.send_text(text)

    def resize(self, columns: int, rows: int) -> None:
        self._output.size = Size(rows=rows, columns=columns)
        assert self._screen._desk is not None
        self._screen._desk.app._on_resize()

    def store(self, sender: str, body: str) -> None:
        """Somebody writes to the person."""
        accounts = self.cluster.accounts
        self.cluster.store(accounts[sender], accounts["anna"], body)

    def read_up_to(self, name: str = "anna") -> int:
        """The highest read mark of an account."""
        query = "SELECT max(read_up_to) FROM members WHERE account_id = ?"
        [(mark,)] = self.cluster.rows(query, (self.cluster.accounts[name].id,))
        return int(mark or 0)

    def __str__(self) -> str:
        return "\n".join(self.lines)


@dataclass(frozen=True)
class _Wanted:
    """What never happened, and the screen when the test gave up."""

    text: str
    screen: Screen

    def __str__(self) -> str:
        return f"{self.text}\n{self.screen}"


@asynccontextmanager
async def messenger(
    tmp_path: Path, to: str = "bob", *, columns: int = 80, rows: int = 24, nodes: int = 1
) -> AsyncIterator[Screen]:
    """A messenger of anna, in a cluster with bob and carl."""
    async with running_cluster([f"n{i + 1}" for i in range(nodes)]) as cluster:
        for name in ("bob", "carl", "anna"):
            cluster.add_account(name, PASSWORD)
        async with on_screen(tmp_path, cluster, to, columns=columns, rows=rows) as screen:
            yield screen


@asynccontextmanager
async def on_screen(
    tmp_path: Path, cluster: InProcessCluster, to: str, *, columns: int = 80, rows: int = 24
) -> AsyncIterator[Screen]:
    """A messenger of anna over a cluster that is there."""
    async with make_client(cluster, tmp_path) as client:
        await client.login("anna", PASSWORD)
    options = ConnectionOptions(tuple(node.address for node in cluster.nodes), None, True, "anna", tmp_path)
    with create_pipe_input() as keys:
        output = SizedOutput(columns, rows)
        messenger_screen = MessengerScreen(keys=keys, output=output)
        screen = Screen(cluster, keys, output, messenger_screen)
        screen.task = asyncio.ensure_future(chat(options, to, create=False, screen=messenger_screen))
        try:
            await screen.shows("Connected to")
            yield screen
        finally:
            screen.task.cancel()
            await asyncio.wait([screen.task])
