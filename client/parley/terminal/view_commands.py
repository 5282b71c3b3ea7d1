"""What an account sets for its own view of a conversation: `parley mute` and `parley put-away`, and the chat's /mute.

Each has its opposite. Only a removal has none, so it asks first. All devices of the account learn what is set.
"""

import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Annotated

import typer

from parley import FINAL, BadInputError, ParleyClient, Target, find_target
from parley.chat import Chats, plural
from parley.terminal.command_line import TargetArgument, with_connection_options
from parley.terminal.commands import note
from parley.terminal.options import ConnectionOptions
from parley.terminal.password import confirm
from parley.terminal.recipient import find_recipient

MUTED_TEXT = (
    "Muted. Your devices notify you only of its messages that are urgent or mention you. The others are received and "
    "counted as before."
)
UNMUTED_TEXT = "No longer muted."
PUT_AWAY_TEXT = (
    "Put away. It comes back with the next message in it; if it is muted, only with one that is urgent or mentions "
    "you. Nothing was deleted."
)
BROUGHT_BACK_TEXT = "In the list again."
REMOVES_TEXT = (
    "This removes {} with all its messages up to now for you, on all your devices, for good. The others keep "
    "everything. If it is a channel, you stay a member. A newer message brings it back, without what was removed."
)
REMOVED_TEXT = "Removed on all your devices. The others keep everything. A newer message brings it back."
STILL_SENT_TEXT = "{} of yours waits there and is still sent."
STILL_SENT_MANY_TEXT = "{} of yours wait there and are still sent."
HELP = """\
  /mute [NAME]      be notified of urgent messages there only; /unmute ends that
  /put-away [NAME]  the end of your list until something new comes there; /bring-back ends that
  /remove-conversation  what was written there leaves all your devices, for good; it asks first"""


@dataclass(frozen=True, slots=True)
class _Change:
    make: Callable[[ParleyClient, Target], Awaitable[None]]
    done: str


_MUTE = _Change(lambda client, target: client.mute(target), MUTED_TEXT)
_UNMUTE = _Change(lambda client, target: client.mute(target, muted=False), UNMUTED_TEXT)
_PUT_AWAY = _Change(lambda client, target: client.put_away(target), PUT_AWAY_TEXT)
_BRING_BACK = _Change(lambda client, target: client.bring_back(target), BROUGHT_BACK_TEXT)


@with_connection_options
async def mute(options: ConnectionOptions, target: TargetArgument) -> None:
    """Mute a conversation on all your devices: they notify you only if a message is urgent or mentions you."""
    await _change(options, target, _MUTE)


@with_connection_options
async def unmute(options: ConnectionOptions, target: TargetArgument) -> None:
    """End the muting of a conversation."""
    await _change(options, target, _UNMUTE)


@with_connection_options
async def put_away(options: ConnectionOptions, target: TargetArgument) -> None:
    """Put a conversation away on all your devices, until something new comes in it. Nothing is deleted."""
    await _change(options, target, _PUT_AWAY)


@with_connection_options
async def bring_back(options: ConnectionOptions, target: TargetArgument) -> None:
    """Bring a conversation that was put away back into the list."""
    await _change(options, target, _BRING_BACK)


@with_connection_options
async def remove_conversation(
    options: ConnectionOptions,
    target: TargetArgument,
    yes: Annotated[bool, typer.Option("--yes", help="Remove without a question. Default: ask.")] = False,
) -> None:
    """Remove a conversation and its messages up to now on all your devices, for good. The others keep everything."""
    options.must_name_account()
    if not yes and not sys.stdin.isatty():
        raise BadInputError(
            f"This removes {target} with all its messages for you, for good. Nothing was removed yet. To remove it "
            "without a question, add --yes."
        )
    async with options.client() as client:
        found = await find_target(client, target)
        shown = (await client.history(found, limit=1)).messages
        if not yes:
            note(REMOVES_TEXT.format(target))
            if not confirm("Remove it? Type yes: "):
                note("Nothing was removed.")
                return
        await _remove(client, found, shown[-1].id if shown else 0, note)


async def _remove(client: ParleyClient, target: Target, newest: int, tell: Callable[[str], None]) -> None:
    """Remove what was shown up to the newest message. What came after the question stays."""
    await client.remove_conversation(target, up_to=newest or None)
    tell(REMOVED_TEXT)
    waiting = [one for one in await client.outgoing(target=target) if one.status not in FINAL]
    if waiting:
        words = STILL_SENT_TEXT if len(waiting) == 1 else STILL_SENT_MANY_TEXT
        tell(words.format(plural(len(waiting), "message")))


async def _change(options: ConnectionOptions, target: str, change: _Change) -> None:
    options.must_name_account()
    async with options.client() as client:
        await change.make(client, await find_target(client, target))
        note(change.done)


class ViewCommands:
    """Changes the view of the open conversation of a chat, or of the one that is named."""

    def __init__(
        self,
        client: ParleyClient,
        quiet: Callable[[str], None],
        target: Callable[[], Target | None],
        chats: Chats,
    ) -> None:
        """`target` returns the open conversation, `chats` has what the person was shown of it."""
        self._client = client
        self._quiet = quiet
        self._target = target
        self._chats = chats

    @property
    def by_name(self) -> dict[str, Callable[[str], Awaitable[None]]]:
        """Return the commands by what is typed."""
        changes = {"/mute": _MUTE, "/unmute": _UNMUTE, "/put-away": _PUT_AWAY, "/bring-back": _BRING_BACK}
        by_name: dict[str, Callable[[str], Awaitable[None]]] = {"/remove-conversation": self._remove}
        return by_name | {name: partial(self._change, change) for name, change in changes.items()}

    async def _change(self, change: _Change, typed: str) -> None:
        target = await find_recipient(self._client, self._chats, typed) if typed else self._open()
        await change.make(self._client, target)
        self._quiet(change.done)

    async def _remove(self, typed: str) -> None:
        target = self._open()
        if typed not in ("", "yes"):
            raise BadInputError(
                "/remove-conversation removes the open conversation. Nothing was removed. Go there first: /to NAME"
            )
        if not typed:
            title = self._chats.title(self._chats.key_of(target))
            self._quiet(f"{REMOVES_TEXT.format(title)} To do it: /remove-conversation yes")
            return
        await _remove(
            self._client, target, self._chats.conversations.look(self._chats.key_of(target)).newest, self._quiet
        )

    def _open(self) -> Target:
        target = self._target()
        if target is None:
            raise BadInputError("No conversation was named. Nothing was changed. Name one with /to NAME.")
        return target
