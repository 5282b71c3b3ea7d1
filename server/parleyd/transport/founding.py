"""How a cluster comes to be, exactly once.

Each node draws a random incarnation when it makes its data directory, and that number is its Raft id. The first
members tell each other theirs (`Greet`); when a node has heard all of them it computes the cluster id, a digest of the
incarnations and names, and writes both to its identity file. Only then does its Raft start.

What this buys: no node votes before it knows all founders, so a directory that was wiped afterwards carries a number
nobody counts. It finds a founded cluster it does not belong to and stops, instead of electing itself in an empty one.
The price: the very first start needs every first member up once. Later starts need only a majority.

A crash between two founders' writes is harmless: the one that did not write asks again, is told the founders, finds
its own number among them and adopts the cluster.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from dataclasses import replace

import grpc
import grpc.aio
import structlog

from parley_proto.v1 import peer_pb2 as pb
from parley_proto.v1.peer_pb2_grpc import PeerStub
from parleyd.raft.types import NodeId
from parleyd.storage.errors import IdentityError
from parleyd.storage.identity import Founder, Identity, cluster_id_of

ASK_AGAIN_S = 0.1
GREET_TIMEOUT_S = 2.0
SAY_AGAIN_S = 5.0


def greeting_of(identity: Identity, own: Founder, first_members: Mapping[str, str]) -> pb.Greeting:
    """What this node says of itself."""
    return pb.Greeting(
        self=encode_founder(own),
        cluster_id=identity.cluster_id,
        founders=[encode_founder(founder) for founder in identity.founders],
        first_members=sorted(first_members),
    )


async def found_cluster(
    identity: Identity,
    own: Founder,
    first_members: Mapping[str, str],
    make_channel: Callable[[str, str], grpc.aio.Channel],
) -> Identity:
    """Wait until all first members are known, or one of them says the cluster is founded already.

    Raises IdentityError when the others mean another cluster, another set of members, or do not know this directory.
    """
    own_greeting = greeting_of(identity, own, first_members)
    others = {name: address for name, address in first_members.items() if name != own.name}
    logger = structlog.get_logger("founding")
    last_said: frozenset[str] | None = None
    say_again_at = 0.0
    while True:
        greetings = await _greet_all(own_greeting, others, make_channel)
        for name, greeting in greetings.items():
            _check(name, greeting, own_greeting)
            if greeting.cluster_id:
                return _adopt(identity, own, name, greeting)
        if len(greetings) == len(others):
            founders = tuple(
                sorted(
                    [own, *(decode_founder(g.self) for g in greetings.values())], key=lambda founder: founder.node_id
                )
            )
            return replace(identity, cluster_id=cluster_id_of(founders), founders=founders)
        missing = frozenset(others) - frozenset(greetings)
        now = asyncio.get_running_loop().time()
        if missing != last_said or now >= say_again_at:
            logger.info(
                "waiting for the other first members; the first start of a cluster needs all of them up once",
                missing=sorted(missing),
            )
            last_said, say_again_at = missing, now + SAY_AGAIN_S
        await asyncio.sleep(ASK_AGAIN_S)


async def _greet_all(
    own: pb.Greeting, others: Mapping[str, str], make_channel: Callable[[str, str], grpc.aio.Channel]
) -> dict[str, pb.Greeting]:
    answers = await asyncio.gather(*(greet(own, name, address, make_channel) for name, address in others.items()))
    return {name: answer for name, answer in zip(others, answers, strict=True) if answer is not None}


async def greet(
    own: pb.Greeting, name: str, address: str, make_channel: Callable[[str, str], grpc.aio.Channel]
) -> pb.Greeting | None:
    """Ask the node at `address` who it is; None where it does not answer. Raises IdentityError where it refuses."""
    channel = make_channel(name, address)
    try:
        stub = PeerStub(channel)
        async with asyncio.timeout(GREET_TIMEOUT_S):
            return await stub.Greet(own)
    except grpc.aio.AioRpcError as error:
        if error.code() is grpc.StatusCode.PERMISSION_DENIED:
            raise IdentityError(f"{name} at {address} refuses this node: {error.details()}") from error
        return None
    except TimeoutError:
        return None
    finally:
        with contextlib.suppress(Exception):
            await channel.close(grace=None)


def _check(name: str, greeting: pb.Greeting, own: pb.Greeting) -> None:
    if greeting.self.name != name:
        raise IdentityError(
            f"the node at the address of {name} says it is {greeting.self.name}. Nothing was started. "
            "Correct the peers setting of this node or the name setting of that one."
        )
    if not greeting.cluster_id and list(greeting.first_members) != list(own.first_members):
        raise IdentityError(
            f"{name} was told to found a cluster of {', '.join(greeting.first_members)}, this node one of "
            f"{', '.join(own.first_members)}. Nothing was started. Give every first member the same peers setting."
        )


def _adopt(identity: Identity, own: Founder, name: str, greeting: pb.Greeting) -> Identity:
    founders = tuple(decode_founder(founder) for founder in greeting.founders)
    if cluster_id_of(founders) != greeting.cluster_id:
        raise IdentityError(f"{name} names founders that do not make up its cluster id. Nothing was started.")
    if own.node_id not in {founder.node_id for founder in founders}:
        raise IdentityError(
            f"the cluster of {name} exists already and does not know this data directory, which is new or was wiped. "
            "It was not started, so that it cannot vote a second time in place of the directory that was lost; no "
            "message is lost while a majority of the other nodes has its data. Restore the old data directory, or "
            f"remove the old member (parley cluster remove {own.name}) and start this node with --join in the place "
            "of --peer."
        )
    return replace(identity, cluster_id=greeting.cluster_id, founders=founders)


def encode_founder(founder: Founder) -> pb.Founder:
    """The wire form of a node's record."""
    return pb.Founder(
        node_id=founder.node_id,
        name=founder.name,
        peer_address=founder.peer_address,
        client_address=founder.client_address,
    )


def decode_founder(encoded: pb.Founder) -> Founder:
    """The reverse of `encode_founder`."""
    return Founder(
        node_id=NodeId(encoded.node_id),
        name=encoded.name,
        peer_address=encoded.peer_address,
        client_address=encoded.client_address,
    )
