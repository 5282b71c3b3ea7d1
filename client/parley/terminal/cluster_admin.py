"""What `parley cluster add, promote, remove, transfer, rebuild, grant, revoke` do. Scripts have the exit code."""

from parley.terminal.commands import note
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


async def rebuild(options: ConnectionOptions, name: str) -> None:
    """Have a member's state replaced by the leader's."""
    options.must_name_account()
    async with options.client() as client:
        await (await client.administration()).rebuild_member(name)
    note(f"The state of {name} agrees with that of the other nodes.")


async def set_administrator(options: ConnectionOptions, account: str, *, administrator: bool) -> None:
    """Grants or revokes."""
    options.must_name_account()
    async with options.client() as client:
        await (await client.administration()).set_administrator(account, administrator=administrator)
    note(f"{account} is {'an' if administrator else 'no'} administrator now.")
