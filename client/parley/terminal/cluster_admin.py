"""What `parley cluster add, promote, remove, transfer, grant, revoke, settings` do. Scripts have the exit code."""

from dataclasses import asdict

from parley import BadInputError
from parley.terminal import text
from parley.terminal.commands import note, say
from parley.terminal.options import ConnectionOptions


async def add(options: ConnectionOptions, name: str, peer_address: str) -> None:
    """Adds a waiting node."""
    options.must_name_account()
    async with options.client() as client:
        await (await client.administration()).add_member(name, peer_address)
    note(f"{name} is a learner now: it receives everything, and votes once it has caught up.")


async def promote(options: ConnectionOptions, name: str) -> None:
    """Makes a learner a voter."""
    options.must_name_account()
    async with options.client() as client:
        await (await client.administration()).promote_member(name)
    note(f"{name} is a voter now.")


async def remove(options: ConnectionOptions, name: str, *, force: bool) -> None:
    """Removes a member."""
    options.must_name_account()
    async with options.client() as client:
        await (await client.administration()).remove_member(name, force=force)
    note(f"{name} is no member any more. Its data directory is never let in again; to bring it back, start it empty.")


async def transfer(options: ConnectionOptions, name: str) -> None:
    """Hands leadership over."""
    options.must_name_account()
    async with options.client() as client:
        leader = await (await client.administration()).transfer_leadership(name)
    note(f"{leader} leads now.")


async def set_administrator(options: ConnectionOptions, account: str, *, administrator: bool) -> None:
    """Grants or revokes."""
    options.must_name_account()
    async with options.client() as client:
        await (await client.administration()).set_administrator(account, administrator=administrator)
    note(f"{account} is {'an' if administrator else 'no'} administrator now.")


async def settings(options: ConnectionOptions, change: str, *, as_json: bool) -> None:
    """Lists the settings of the cluster, or changes one."""
    options.must_name_account()
    name, value = _parse_change(change) if change else ("", 0)
    async with options.client() as client:
        administration = await client.administration()
        if name:
            await administration.change_setting(name, value)
        found = await administration.settings()
    if as_json:
        say(text.as_json([asdict(setting) for setting in found]))
        return
    if name:
        note(f"{name} is {value} now, on all nodes.")
        return
    for line in text.setting_lines(found):
        say(line)


def _parse_change(change: str) -> tuple[str, int]:
    name, equals, value = (part.strip() for part in change.partition("="))
    try:
        return name, int(value if name and equals else "")
    except ValueError:
        raise BadInputError(
            f"{change!r} changes no setting. Nothing was changed. Write a name and a number: max_message_bytes=65536."
        ) from None
