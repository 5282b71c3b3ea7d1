"""The command `parley fetch`: prints new messages without a stream, each once, for scripts and cron.

Messages are printed from the device's file, where every command that connects stores them. A message counts as printed
when the next one is printed or the command ends well. So a command that dies prints its last message again.
"""

import time

from parley import MessageReader, ParleyClient
from parley.chat import Chats, lost_notice
from parley.terminal import text
from parley.terminal.commands import note, say
from parley.terminal.options import ConnectionOptions
from parley.terminal.refusals import connected, superseded_text

ROUND_S = 2.0
"""For how long one call waits. A command that sends meanwhile waits as long: this one holds the device, and sends."""
PAGE = 256


async def fetch(options: ConnectionOptions, *, wait: float, limit: int, as_json: bool, own: bool) -> None:
    """Print up to `limit` new messages. Wait up to `wait` seconds for the first one."""
    options.must_name_account()
    async with connected(options, note, connect=False) as (client, _), await client.messages(include_own=own) as reader:
        if reader.durable:
            await _Printer(client, reader, limit, as_json=as_json).run(wait)
        else:
            note("Another parley process shows the messages of this account as they come. Nothing was fetched.")


class _Printer:
    """Prints what is stored, and fetches as long as there is more."""

    def __init__(self, client: ParleyClient, reader: MessageReader, limit: int, *, as_json: bool) -> None:
        self._client = client
        self._reader = reader
        self._left = limit
        self._as_json = as_json
        self._chats = Chats(client.signed_in_as)
        self._notes: set[str] = set()

    async def run(self, wait_s: float) -> None:
        ends_at = time.monotonic() + wait_s
        printed = await self._print()
        while True:
            if self._client.state.waiting:
                await self._client.push()  # which may store a message, too
                printed += await self._print()
            left_s = 0.0 if printed else max(0.0, ends_at - time.monotonic())
            # At the limit one more call acknowledges what is stored. What it brings is printed the next time.
            result = await self._client.fetch(wait=min(left_s, ROUND_S), limit=min(PAGE, max(1, self._left)))
            if result.superseded:
                self._note_once(superseded_text(self._client))
            if self._client.state.notice:
                await self._tell_restored(self._client.state.notice)
            is_at_limit = not self._left
            printed += await self._print()
            has_news = bool(result.received or result.more)
            if is_at_limit or (not has_news and left_s <= ROUND_S):
                break
        if result.is_connected_elsewhere:
            note("Another parley process of this account is connected, and receives its messages. Nothing was fetched.")

    async def _tell_restored(self, notice: str) -> None:
        """Say it in the run that compared, not in each later one."""
        self._note_once(notice)
        if sent := await self._client.lost.count_sent():
            self._note_once(f"{lost_notice(sent)} The list: parley lost.")

    async def _print(self) -> int:
        """Print stored messages, within the limit; return how many."""
        printed = 0
        while self._left and (message := await self._reader.next_stored()) is not None:
            self._chats.look_up(self._client, (message,))
            say(text.message_json(message, self._chats) if self._as_json else text.message_line(message, self._chats))
            self._left -= 1
            printed += 1
        if self._reader.missed:
            self._note_once(
                "Older messages were removed from this device before they were shown. Read them with: parley history."
            )
        return printed

    def _note_once(self, line: str) -> None:
        if line not in self._notes:
            self._notes.add(line)
            note(line)
