"""A cluster is bootstrapped once, by all its first members, and never without a directory that was lost.

What can go wrong: a member is late; a crash between two members' writes; a wiped directory comes back; two nodes are
told different members; an address leads to the wrong node; a node lies about the bootstrap members.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import grpc
import grpc.aio
import pytest

from parley_proto.v1 import peer_pb2 as pb
from parley_proto.v1.peer_pb2_grpc import PeerStub
from parleyd.storage.errors import IdentityError
from parleyd.storage.identity import NodeIdentity, PeerInfo, new_identity
from parleyd.transport.bootstrap import bootstrap_cluster, handshake_info_of
from parleyd.transport.channels import peer_channel
from parleyd.transport.peer_server import make_peer_server
from parleyd.transport.service import PeerService


@dataclass
class FirstMember:
    """One node before its Raft runs: an identity and a port that answers Handshake."""

    name: str
    identity: NodeIdentity
    address: str = ""
    members: dict[str, str] | None = None

    @property
    def own(self) -> PeerInfo:
        return PeerInfo(self.identity.node_id, self.name, self.address, f"client-of-{self.name}:1")

    def info(self) -> pb.HandshakeInfo:
        return handshake_info_of(self.identity, self.own, self.members or {})

    async def bootstrap(self) -> NodeIdentity:
        async with asyncio.timeout(10):
            self.identity = await bootstrap_cluster(self.identity, self.own, self.members or {}, channel)
        return self.identity


def channel(_: str, address: str) -> grpc.aio.Channel:
    return peer_channel(address, None)


@asynccontextmanager
async def listening(*members: FirstMember) -> AsyncIterator[None]:
    servers = []
    for member in members:
        server = make_peer_server(PeerService(member.info, None))
        member.address = member.address or f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
        servers.append(server)
        await server.start()
    addresses = {member.name: member.address for member in members}
    for member in members:
        member.members = member.members or addresses
    try:
        yield
    finally:
        for server in servers:
            await server.stop(grace=0)


def three() -> list[FirstMember]:
    return [FirstMember(name, new_identity(name)) for name in ("n1", "n2", "n3")]


async def test_all_first_members_agree_on_one_cluster_whoever_is_first() -> None:
    members = three()
    async with listening(*members):
        bootstrapped = await asyncio.gather(*(member.bootstrap() for member in members))
    assert len({identity.cluster_id for identity in bootstrapped}) == 1
    assert bootstrapped[0].bootstrap_members == bootstrapped[1].bootstrap_members == bootstrapped[2].bootstrap_members
    assert {member.name for member in bootstrapped[0].bootstrap_members} == {"n1", "n2", "n3"}
    assert {member.client_address for member in bootstrapped[0].bootstrap_members} == {
        f"client-of-n{i}:1" for i in (1, 2, 3)
    }


async def test_a_single_node_founds_a_cluster_of_its_own() -> None:
    member = FirstMember("n1", new_identity("n1"), address="127.0.0.1:1", members={"n1": "127.0.0.1:1"})
    assert (await member.bootstrap()).has_cluster


async def test_nobody_founds_a_cluster_while_a_first_member_is_missing() -> None:
    members = three()
    async with listening(*members):
        members[0].members = {**(members[0].members or {}), "n4": "127.0.0.1:1"}
        members[1].members = members[2].members = members[0].members
        bootstrap = [asyncio.ensure_future(member.bootstrap()) for member in members]
        done, pending = await asyncio.wait(bootstrap, timeout=0.5)
        for each in bootstrap:
            each.cancel()
        await asyncio.gather(*bootstrap, return_exceptions=True)
    assert not done
    assert len(pending) == 3


async def test_a_member_that_crashed_before_writing_adopts_what_the_others_bootstrapped() -> None:
    members = three()
    async with listening(*members):
        first = await members[0].bootstrap()
        late = await members[2].bootstrap()
    assert late.cluster_id == first.cluster_id


async def test_a_wiped_directory_is_refused_by_a_cluster_that_exists() -> None:
    members = three()
    async with listening(*members):
        await asyncio.gather(*(member.bootstrap() for member in members))
        wiped = FirstMember("n2", new_identity("n2"), members[1].address, members[1].members)
        with pytest.raises(IdentityError, match=r"does not have this data directory.*No message is lost"):
            await wiped.bootstrap()


async def test_members_that_were_told_different_members_say_so() -> None:
    members = three()
    async with listening(*members):
        members[1].members = {"n1": members[0].address, "n2": members[1].address}
        with pytest.raises(IdentityError, match="same peers setting"):
            await members[0].bootstrap()


async def test_an_address_that_leads_to_another_node_is_named() -> None:
    members = three()
    async with listening(*members):
        wrong = dict(members[0].members or {})
        wrong["n2"], wrong["n3"] = wrong["n3"], wrong["n2"]
        members[0].members = wrong
        with pytest.raises(IdentityError, match="says it is"):
            await members[0].bootstrap()


async def test_founders_that_do_not_make_up_the_cluster_id_are_not_believed() -> None:
    members = three()
    async with listening(*members):
        bootstrapped = await members[0].bootstrap()
        members[0].identity = NodeIdentity(bootstrapped.node_id, "n1", "f" * 32, bootstrapped.bootstrap_members)
        with pytest.raises(IdentityError, match="do not match its cluster id"):
            await members[1].bootstrap()


async def test_until_the_node_runs_its_peer_port_takes_no_raft_messages() -> None:
    [member, *_] = members = three()
    async with listening(*members):
        connection = channel("n1", member.address)
        stub = PeerStub(connection)
        call = stub.Deliver(metadata=(("x-parley-cluster", "x"),))
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await call
        await connection.close(grace=None)
    assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
