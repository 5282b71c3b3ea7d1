"""What an account sets for its own view of a conversation: `parley mute` and `parley put-away`, and the chat's /mute.

Each has its opposite. All devices of the account learn it.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial

from parley import BadInputError, ParleyClient, Target, find_target
from parley.terminal.command_line import TargetArgument, with_connection_options
from parley.terminal.commands import note
from parley.terminal.options import ConnectionOptions

MUTED_TEXT = (
    "Muted. Your devices notify you of its urgent messages only. The others are received and counted as before."
)
UNMUTED_TEXT = "No longer muted."
PUT_AWAY_TEXT = (
    "Put away. It comes back with the next message in it; if it is muted, only with an urgent one. Nothing was deleted."
)
BROUGHT_BACK_TEXT = "In the list again."
HELP = """\
  /mute             be notified of urgent messages there only; /unmute ends that
  /put-away         the end of your list until something new comes there; /bring-back ends that"""


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
    """Mute a conversation on all your devices: they notify you of its urgent messages only."""
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


async def _change(options: ConnectionOptions, target: str, change: _Change) -> None:
    options.must_name_account()
    async with options.client() as client:
        await change.make(client, await find_target(client, target))
        note(change.done)


class ViewCommands:
    """Changes the view of the open conversation of a chat."""

    def __init__(self, client: ParleyClient, quiet: Callable[[str], None], target: Callable[[], Target | None]) -> None:
        """`target` returns the open conversation."""
        self._client = client
        self._quiet = quiet
        self._target = target

    @property
    def by_name(self) -> dict[str, Callable[[str], Awaitable[None]]]:
        """Return the commands by what is typed."""
        changes = {"/mute": _MUTE, "/unmute": _UNMUTE, "/put-away": _PUT_AWAY, "/bring-back": _BRING_BACK}
        return {name: partial(self._change, change) for name, change in changes.items()}

    async def _change(self, change: _Change, _typed: str) -> None:
        target = self._target()
        if target is None:
            raise BadInputError("No conversation was named. Nothing was changed. Name one with /to NAME.")
        await change.make(self._client, target)
        self._quiet(change.done)
