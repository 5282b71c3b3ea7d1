"""The display name of the account, on the SDK's loop."""

from parley import RefusedError
from parley.gui.events import Event, NameTold
from parley.gui.port import Client


async def ask(client: Client) -> Event:
    """Return the display name as the cluster has it."""
    name = client.signed_in_as
    found = [one for one in await client.list_accounts(name) if one.name.casefold() == name.casefold()]
    if not found:
        raise RefusedError(f"The cluster lists no account {name}. Nothing was changed. Sign in again.")
    return NameTold(found[0].display_name)


async def change(client: Client, name: str) -> Event:
    """Change it, and return it."""
    await client.set_display_name(name)
    return NameTold(name, changed=True)
