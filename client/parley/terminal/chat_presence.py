"""The commands of the chat about who is there."""

from collections.abc import Awaitable, Callable

from parley import ParleyClient
from parley.chat import Chats
from parley.terminal.presence_commands import presence_line, presence_of, who_lines, who_remarks

HELP = """\
  /who [NAME]       who is connected now; with a name, when that account was last here
  /away             show yourself as away while you are connected; /back ends that"""


class PresenceCommands:
    """Lists who is connected, and says whether this person is away."""

    def __init__(
        self, client: ParleyClient, show: Callable[[str], None], quiet: Callable[[str], None], chats: Chats
    ) -> None:
        self._client = client
        self._show = show
        self._quiet = quiet
        self._chats = chats

    @property
    def by_name(self) -> dict[str, Callable[[str], Awaitable[None]]]:
        """Return the commands by what is typed."""
        return {"/who": self._who, "/away": self._away, "/back": self._back}

    async def _who(self, rest: str) -> None:
        if names := rest.split():
            for account, presence in await presence_of(self._client, names):
                self._show(presence_line(account, presence))
            return
        found = await self._client.presence.connected()
        self._chats.take_accounts(tuple(one.account for one in found.accounts))
        for line in who_lines(found):
            self._show(line)
        for line in who_remarks(found):
            self._quiet(line)

    async def _away(self, _: str) -> None:
        self._client.presence.set_away(away=True)
        self._quiet("Others see you as away, if your other devices are away, too. /back ends that.")

    async def _back(self, _: str) -> None:
        self._client.presence.set_away(away=False)
        self._quiet("You are not away any more.")
