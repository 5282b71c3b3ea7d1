"""`parley mute` and `parley unmute`, and the chat's /mute and /unmute."""

from collections.abc import Awaitable, Callable

from parley import BadInputError, ParleyClient, Target, find_target
from parley.terminal.command_line import TargetArgument, with_connection_options
from parley.terminal.commands import note
from parley.terminal.options import ConnectionOptions

MUTED_TEXT = (
    "Muted. Your devices notify you of its urgent messages only. The others are received and counted as before."
)
UNMUTED_TEXT = "No longer muted."
HELP = """\
  /mute             be notified of urgent messages there only; /unmute ends that"""


@with_connection_options
async def mute(options: ConnectionOptions, target: TargetArgument) -> None:
    """Mute a conversation on all your devices: they notify you of its urgent messages only."""
    await _set_muted(options, target, muted=True)


@with_connection_options
async def unmute(options: ConnectionOptions, target: TargetArgument) -> None:
    """End the muting of a conversation."""
    await _set_muted(options, target, muted=False)


async def _set_muted(options: ConnectionOptions, target: str, *, muted: bool) -> None:
    options.must_name_account()
    async with options.client() as client:
        await client.mute(await find_target(client, target), muted=muted)
        note(MUTED_TEXT if muted else UNMUTED_TEXT)


class MuteCommands:
    """Mutes the open conversation of a chat, and ends that."""

    def __init__(self, client: ParleyClient, quiet: Callable[[str], None], target: Callable[[], Target | None]) -> None:
        """`target` returns the open conversation."""
        self._client = client
        self._quiet = quiet
        self._target = target

    @property
    def by_name(self) -> dict[str, Callable[[str], Awaitable[None]]]:
        """Return the commands by what is typed."""
        return {"/mute": lambda _: self._set(muted=True), "/unmute": lambda _: self._set(muted=False)}

    async def _set(self, *, muted: bool) -> None:
        target = self._target()
        if target is None:
            raise BadInputError("No conversation was named. Nothing was changed. Name one with /to NAME.")
        await self._client.mute(target, muted=muted)
        self._quiet(MUTED_TEXT if muted else UNMUTED_TEXT)
