"""Whether others see when the own account is connected, as the window asks and changes it on the SDK's loop."""

from parley.gui.events import Event, HiddenTold
from parley.gui.port import Client


async def ask(client: Client) -> Event:
    """Return whether the account is hidden."""
    return HiddenTold((await client.presence.connected(limit=1)).hidden)


async def change(client: Client, *, hidden: bool) -> Event:
    """Hide the account or show it."""
    await (await client.own_account()).set_hidden(hidden=hidden)
    return HiddenTold(hidden)
