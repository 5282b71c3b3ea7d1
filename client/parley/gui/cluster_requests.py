"""What the window asks about the cluster, on the SDK's loop. Each request ends: the SDK bounds each of its calls."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from random import Random

from parley import (
    ClientState,
    ConnectionState,
    Node,
    NotSignedInError,
    ParleyError,
    RefusedError,
    parse_endpoints,
)
from parley.chat import people_note
from parley.gui.commands import ClusterAddress
from parley.gui.defects import as_parley_error
from parley.gui.events import (
    ChannelsListed,
    ClusterNoted,
    ClusterTold,
    Event,
    InvitationMade,
    InvitationWithdrawn,
    LeaderTold,
    MembersTold,
    RightsTold,
    SuspensionTold,
)
from parley.gui.port import Client
from parley.inviting import draft_invitation, read_ca

LOOK_EVERY_S = 1.0
CHECK_EVERY_S = 300.0
CHECK_AGAIN_S = 30.0
CHECK_AFTER_S = (1.0, 10.0)


async def ask_rights(client: Client) -> Event:
    """Return whether the account is an administrator: only those may list invitations."""
    try:
        await (await client.administration()).invitations()
    except RefusedError:
        return RightsTold(administrator=False)
    return RightsTold(administrator=True)


async def ask_status(client: Client) -> Event:
    """Return what all nodes tell."""
    return ClusterTold(await client.cluster_status())


async def list_channels(client: Client) -> Event:
    """Return the channels that the account may see."""
    return ChannelsListed(await client.list_channels())


async def list_members(client: Client, conversation_id: int) -> Event:
    """Return the members of a channel, nobody if no node tells them. They are asked for while somebody types."""
    try:
        found = [client.account(member.account_id) for member in await client.members(conversation_id)]
    except NotSignedInError:
        raise
    except ParleyError:
        found = []
    return MembersTold(conversation_id, tuple(one for one in found if one is not None))


async def transfer(client: Client, name: str) -> Event:
    """Transfer leadership. Return the leader."""
    return LeaderTold(await (await client.administration()).transfer_leadership(name))


async def set_suspended(client: Client, name: str, reason: str, *, suspended: bool) -> Event:
    """Suspend an account, or release it. Return that it was done."""
    administration = await client.administration()
    if suspended:
        await administration.suspend_account(name, reason)
    else:
        await administration.release_account(name)
    return SuspensionTold(name, suspended)


async def invite(client: Client, address: ClusterAddress, name: str) -> Event:
    """Make an invitation for a new person to the cluster at this address."""
    hosts = [str(endpoint) for endpoint in parse_endpoints([address.hosts])]
    draft = await draft_invitation(client, name, hosts, read_ca(address.ca))
    code, expires_at_ms = await (await client.administration()).create_invitation()
    return InvitationMade(replace(draft, code=code, expires_at_ms=expires_at_ms))


async def withdraw(client: Client, invitation_id: str, name: str) -> Event:
    """Take an invitation back."""
    await (await client.administration()).withdraw_invitation(invitation_id)
    return InvitationWithdrawn(name)


class NoteTimes:
    """When the window asks the connected node whether there is something to tell.

    It asks soon after the nodes or the connection changed, at a random moment, so that many windows that reconnect at
    once do not ask at once. Else it asks every CHECK_EVERY_S, and every CHECK_AGAIN_S while there is something to tell.
    """

    def __init__(self, rng: Random) -> None:
        self._rng = rng
        self._left_s = CHECK_EVERY_S
        self._seen: tuple[str, tuple[Node, ...]] = ("", ())

    def is_due(self, state: ClientState, elapsed_s: float) -> bool:
        """Return whether to ask now. `elapsed_s` is the time since the last call."""
        self._left_s -= elapsed_s
        here = (state.address, state.nodes)
        if here != self._seen:
            self._seen = here
            self._left_s = min(self._left_s, self._rng.uniform(*CHECK_AFTER_S))
        return self._left_s <= 0 and state.connection is ConnectionState.CONNECTED

    def asked(self, *, is_something_told: bool) -> None:
        """Record that the node was asked."""
        self._left_s = CHECK_AGAIN_S if is_something_told else CHECK_EVERY_S


async def follow_note(client: Client, put: Callable[[Event], None]) -> None:
    """Send what people should know of the cluster, as the connected node tells it, until cancelled."""
    times, told = NoteTimes(Random()), ""  # noqa: S311 - no secret
    while True:
        await asyncio.sleep(LOOK_EVERY_S)
        if times.is_due(client.state, LOOK_EVERY_S):
            note = await ask_note(client)
            if note is not None and note != told:
                told = note
                put(ClusterNoted(note))
            times.asked(is_something_told=bool(told))


async def ask_note(client: Client) -> str | None:
    """Return what people should know, or None if the node does not answer. A defect here ends no session."""
    try:
        status = await (await client.administration()).node_status(client.state.address)
    except Exception as error:
        as_parley_error(error)
        return None
    return None if status.error else people_note(status)
