"""The status line of the chat, and its commands about the cluster: node and leader, who types, the last own message."""

import asyncio
import time
from collections.abc import Awaitable, Callable

from parley import ParleyClient, Typing
from parley.chat import SHOWN_S, Chats, Typists, safe_name, status_line, typing_text
from parley.terminal import text
from parley.terminal.cluster_text import cluster_lines
from parley.terminal.own_messages import OwnMessages
from parley.terminal.ping_command import ping_lines

ALWAYS_NEWS_S = 60.0
HELP = """\
  /status           the state of the cluster
  /ping             the round trip to each node"""


class ChatStatus:
    """Tells how things stand."""

    def __init__(
        self,
        client: ParleyClient,
        show: Callable[[str], None],
        chats: Chats,
        own: OwnMessages,
        clock: Callable[[], float] = time.monotonic,
        *,
        tells_last: bool = True,
    ) -> None:
        """`show` prints a line. With `tells_last`, the status line has the mark of the last own message."""
        self._client = client
        self._show = show
        self._chats = chats
        self._own = own
        self._clock = clock
        self._tells_last = tells_last
        self.typists = Typists(clock)

    @property
    def by_name(self) -> dict[str, Callable[[str], Awaitable[None]]]:
        """Return the commands by what is typed."""
        return {"/status": self._status, "/ping": self._ping}

    def line(self, conversation_id: int) -> str:
        """Return the status line while this conversation is open."""
        names = [safe_name(self._chats.book.name(account_id)) for account_id in self.typists.of(conversation_id)]
        typing = f" · {typing_text(names)}" if names else ""
        mark = self._own.last_status if self._tells_last else None
        last = f" · last message {text.MARKS[mark]}" if mark is not None else ""
        state = self._client.state
        return (
            safe_name(status_line(state, state.last_heard, self._clock(), ALWAYS_NEWS_S, names_leader=True).text)
            + last
            + typing
        )

    def take_typing(self, typing: tuple[Typing, ...], changed: Callable[[], None]) -> None:
        """Show who types now. `changed` draws the line; it is called again when the text ends."""
        self.typists.take(typing)
        asyncio.get_running_loop().call_later(SHOWN_S, changed)

    async def _status(self, _: str) -> None:
        for line in cluster_lines(await self._client.cluster_status()):
            self._show(line)

    async def _ping(self, _: str) -> None:
        for line in ping_lines(await self._client.ping()):
            self._show(line)
