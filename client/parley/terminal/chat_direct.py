"""The commands of the chat that send to somebody else than the one in the prompt, and stay there."""

import time
from collections.abc import Awaitable, Callable

from parley import EVERYONE, BadInputError, Message, ParleyClient, Target, find_target
from parley.chat import CHANGED_TEXT, LastWriter

HELP = """\
  /all TEXT         write to everyone, and stay here
  /dm NAME TEXT     write to somebody else, and stay here; also /whisper
  /reply TEXT       answer who wrote to you alone last"""


class DirectCommands:
    """Sends single messages."""

    def __init__(self, client: ParleyClient, send: Callable[[Target, str], Awaitable[None]]) -> None:
        """`send` sends a message."""
        self._client = client
        self._send_to = send
        self._last = LastWriter()

    @property
    def by_name(self) -> dict[str, Callable[[str], Awaitable[None]]]:
        """Return the commands by what is typed."""
        return {"/all": self._all, "/dm": self._dm, "/whisper": self._dm, "/reply": self._reply}

    def came(self, message: Message) -> None:
        """Remember who wrote to this account alone."""
        self._last.came(message, self._client.conversation(message.conversation_id), time.monotonic())

    def begin_anew(self) -> None:
        """Forget who wrote, because ids of conversations may mean others now."""
        self._last.forget()

    async def _all(self, body: str) -> None:
        await self._send(EVERYONE, body, "/all")

    async def _dm(self, typed: str) -> None:
        name, _, body = typed.partition(" ")
        if not name:
            raise BadInputError("/dm needs a name and a text. Nothing was sent.")
        await self._send(await find_target(self._client, name), body.strip(), "/dm")

    async def _reply(self, body: str) -> None:
        if self._last.target is None:
            raise BadInputError("Nobody has written to you alone since this chat began. Nothing was sent.")
        if self._last.has_just_changed(time.monotonic()):
            raise BadInputError(CHANGED_TEXT)
        await self._send(self._last.target, body, "/reply")

    async def _send(self, target: Target, body: str, command: str) -> None:
        if not body:
            raise BadInputError(f"{command} needs a text. Nothing was sent.")
        await self._send_to(target, body)
