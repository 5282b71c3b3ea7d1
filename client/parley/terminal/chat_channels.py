"""The commands of the chat about channels. What they change is shown as a row of the channel, as if others did it."""

from collections.abc import Awaitable, Callable

from parley import BadInputError, ConversationKind, ParleyClient, find_visible_channel
from parley.chat import Chats, channel_line, conversation_key, safe_name

HELP = """\
  /channels         the public channels and your own
  /join #TITLE      become a member of a public channel, and write there; also /join #ID
  /leave            leave the channel that is named in the prompt
  /invite NAME      add somebody to that channel, /remove NAME removes somebody
  /topic TEXT       set its topic; without a text, show it
  /rename TITLE     change its title"""


class ChannelCommands:
    """Finds, joins and leaves channels, and changes the open one."""

    def __init__(
        self,
        client: ParleyClient,
        show: Callable[[str], None],
        quiet: Callable[[str], None],
        chats: Chats,
        open_conversation: Callable[[], int],
        go_to_joined: Callable[[int], Awaitable[None]],
    ) -> None:
        """`open_conversation` returns the id of the open conversation or 0, `go_to_joined` opens a channel."""
        self._client = client
        self._show = show
        self._quiet = quiet
        self._chats = chats
        self._open_conversation = open_conversation
        self._go_to_joined = go_to_joined

    @property
    def by_name(self) -> dict[str, Callable[[str], Awaitable[None]]]:
        """Return the commands by what is typed."""
        return {
            "/channels": self._list,
            "/join": self._join,
            "/leave": self._leave,
            "/invite": self._invite,
            "/remove": self._remove,
            "/topic": self._topic,
            "/rename": self._rename,
        }

    async def _list(self, _: str) -> None:
        found = await self._client.list_channels()
        for listed in found:
            self._show(channel_line(listed))
        if not found:
            self._quiet("There are no channels yet. Create one: parley channel create TITLE")

    async def _join(self, typed: str) -> None:
        channel = await find_visible_channel(self._client, typed)
        await self._client.join_channel(channel)
        await self._go_to_joined(channel)

    async def _leave(self, typed: str) -> None:
        if typed:
            raise BadInputError(
                "/leave leaves the channel in the prompt. Nothing was changed. Go there first: /to #TITLE"
            )
        await self._client.leave_channel(self._channel())

    async def _invite(self, typed: str) -> None:
        channel, names = self._channel(), _names(typed, "/invite")
        await self._client.add_members(channel, names)
        self._quiet(f"In {self._title(channel)} now: {_joined(names)}.")

    async def _remove(self, typed: str) -> None:
        channel, names = self._channel(), _names(typed, "/remove")
        await self._client.remove_members(channel, names)
        self._quiet(f"No longer in {self._title(channel)}: {_joined(names)}.")

    async def _topic(self, topic: str) -> None:
        channel = self._channel()
        if topic:
            await self._client.change_channel(channel, topic=topic)
            return
        present = self._chats.item(conversation_key(channel)).topic
        remove = f"To remove it: parley channel topic '#{channel}' ''"
        self._quiet(f"The topic is “{present}”. {remove}" if present else "The channel has no topic.")

    async def _rename(self, title: str) -> None:
        if not title:
            raise BadInputError("/rename needs the new title. Nothing was changed.")
        await self._client.change_channel(self._channel(), title=title)

    def _channel(self) -> int:
        """Return the id of the open channel."""
        conversation_id = self._open_conversation()
        known = self._chats.conversations.look(conversation_key(conversation_id)).conversation
        if not conversation_id or (known is not None and known.kind is not ConversationKind.CHANNEL):
            raise BadInputError("No channel is open here. Nothing was changed. Go to one first: /to #TITLE")
        return conversation_id

    def _title(self, channel: int) -> str:
        return self._chats.title(conversation_key(channel))


def _names(typed: str, command: str) -> list[str]:
    names = typed.replace(",", " ").split()
    if not names:
        raise BadInputError(f"{command} needs the name of an account. Nothing was changed. /accounts lists them.")
    return names


def _joined(names: list[str]) -> str:
    return ", ".join(map(safe_name, names))
