"""Who is let in at the peer port, and to whom links lead: both follow the members of the applied state.

What can go wrong: a foreign cluster, a wiped directory, a removed member or a liar gets a message in; a node that
lags refuses the very leader that would bring it up to date; links stay to those that left, or lead to old addresses;
non-members fill the node with links; a fresh node is let in under a name that is taken.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace

import grpc
import grpc.aio
import pytest

from parley_proto.v1 import admin_pb2
from parley_proto.v1 import peer_pb2 as pb
from parley_proto.v1.peer_pb2_grpc import PeerStub
from parleyd.raft.messages import Message, MessageType
from parleyd.raft.types import Index, NodeId, SnapshotMeta, Term
from parleyd.security.tls import (
    peer_certificate_from_auth_context,
    peer_key_from_auth_context,
    peer_name_from_auth_context,
)
from parleyd.storage.errors import IdentityError
from parleyd.storage.identity import PeerInfo, cluster_id_of, new_identity
from parleyd.transport import admission
from parleyd.transport.admission import REQUIRED, CertificateReader
from parleyd.transport.bootstrap import encode_peer_info
from parleyd.transport.channels import peer_channel
from parleyd.transport.codec import encode_message
from parleyd.transport.joining import JoinClient, RemovedError
from parleyd.transport.peer_calls import (
    METADATA_CLUSTER,
    METADATA_FROM,
    METADATA_REMOVED,
    METADATA_SELF,
    METADATA_TO,
)
from parleyd.transport.peer_links import PeerLinks
from parleyd.transport.peer_registry import PeerRegistry
from parleyd.transport.peer_server import make_peer_server
from parleyd.transport.peers import LinkSetup, PeerLink
from parleyd.transport.service import JoinPendingError, JoinRefusedError, PeerService, StateUnavailableError
from parleyd.transport.vouching import Vouching
from tests.support.garbage import left_to_the_collector
from tests.support.logs import complaints
from tests.support.raw import until_so
from tests.support.strikes import waits_for_an_end

ME = NodeId(1)


def peer(number: int, address: str = "") -> PeerInfo:
    return PeerInfo(NodeId(number), f"n{number}", address or f"host{number}:1", f"host{number}:2")


class FakeLink:
    """Stands for a PeerLink: remembers for whom it was made."""

    def __init__(self, made_for: PeerInfo) -> None:
        self.node = made_for.node_id
        self.made_for = made_for


class FakeLinks(PeerLinks):
    """Links that connect nowhere."""

    def __init__(self) -> None:
        super().__init__()
        self.linked: dict[NodeId, PeerInfo] = {}

    def put(self, link: PeerLink) -> None:
        assert isinstance(link, FakeLink)
        self.linked[link.node] = link.made_for

    def drop(self, node: NodeId) -> None:
        del self.linked[node]


def make_registry(members: Sequence[int] = (1, 2, 3)) -> tuple[PeerRegistry, FakeLinks]:
    links = FakeLinks()
    registry = PeerRegistry(ME, links, FakeLink)  # type: ignore[arg-type]
    registry.update(map(peer, members), ())
    return registry, links


# ---- links


def test_links_follow_the_members_and_never_lead_to_the_node_itself() -> None:
    registry, links = make_registry()
    assert set(links.linked) == {2, 3}
    registry.update(map(peer, (1, 3, 4)), [NodeId(2)])
    assert set(links.linked) == {3, 4}


def test_a_member_with_a_new_address_gets_a_new_link_and_the_others_keep_theirs() -> None:
    registry, links = make_registry()
    kept = links.linked[NodeId(3)]
    registry.update([peer(1), peer(2, "moved:1"), peer(3)], ())
    assert links.linked[NodeId(2)].peer_address == "moved:1"
    assert links.linked[NodeId(3)] is kept


def test_a_node_that_was_removed_calls_nobody_and_answers_who_has_not_heard_of_it() -> None:
    registry, links = make_registry()
    registry.update(map(peer, (2, 3)), [ME])
    assert not links.linked
    with registry.track_caller(peer(3)):
        assert set(links.linked) == {3}
    assert not links.linked


def test_a_guest_can_be_answered_for_as_long_as_it_calls() -> None:
    registry, links = make_registry()
    with registry.track_caller(peer(9)):
        with registry.track_caller(peer(9)):
            assert set(links.linked) == {2, 3, 9}
        assert set(links.linked) == {2, 3, 9}
    assert set(links.linked) == {2, 3}


def test_a_guest_that_becomes_a_member_keeps_its_link_and_one_that_was_removed_loses_it() -> None:
    registry, links = make_registry()
    with registry.track_caller(peer(4)), registry.track_caller(peer(5)):
        registry.update(map(peer, (1, 2, 3, 4)), [NodeId(5)])
        assert set(links.linked) == {2, 3, 4}
    assert set(links.linked) == {2, 3, 4}


def test_the_names_of_members_are_known_and_those_of_believed_callers_while_they_call() -> None:
    registry, _ = make_registry((1, 3))
    with registry.track_caller(peer(9)):
        assert [name for name in ("n1", "n2", "n3", "n9") if registry.is_known_name(name)] == ["n1", "n3", "n9"]
    assert not registry.is_known_name("n9")


async def test_dropping_a_link_fails_what_waits_for_it_and_ends_its_task() -> None:
    lost: list[NodeId] = []

    class Events:
        def peer_lost(self, node: NodeId) -> None:
            lost.append(node)

    @contextmanager
    def made() -> Iterator[PeerLink]:
        link = PeerLink(NodeId(2), "n2", ["127.0.0.1:1"], LinkSetup(None, None, Events(), None, lambda: None))  # type: ignore[arg-type]
        link.connected = True
        yield link

    links = PeerLinks()
    with made() as link:
        links.put(link)
        waiting = links.forward(NodeId(2), [], 0)
        assert waiting is not None
        links.drop(NodeId(2))
        with pytest.raises(Exception, match="no member any more"):
            await waiting
    assert lost == [2], "the replica must look for another leader if this one led"
    assert links.forward(NodeId(2), [], 0) is None


# ---- admission


class Handler:
    """Counts what gets in, and answers joins as it is told."""

    def __init__(self, answers: Sequence[pb.JoinReply | Exception] = ()) -> None:
        self.received: asyncio.Queue[Message] = asyncio.Queue()
        self.answers = list(answers)
        self.hashes: list[tuple[NodeId, int]] = []
        self.current_term = 3
        self.proposed = 0
        self.announcements: list[PeerInfo] = []
        self.clocks: list[tuple[NodeId, int]] = []
        self.disks: list[tuple[NodeId, int]] = []
        self.lags: list[tuple[NodeId, int]] = []
        self.clients: list[tuple[NodeId, int]] = []

    def receive(self, message: Message) -> None:
        self.received.put_nowait(message)

    def lag_reported(self, node: NodeId, lag_ms: int) -> None:
        self.lags.append((node, lag_ms))

    def disk_reported(self, node: NodeId, report: pb.DiskReport) -> None:
        self.disks.append((node, report.room))

    def presence_reported(self, node: NodeId, report: pb.PresenceReport) -> None:
        self.clients.append((node, report.clients))

    def state_hash(self, node: NodeId, report: pb.StateHash) -> None:
        self.hashes.append((node, report.index))

    def clock_reported(self, node: NodeId, wall_ms: int) -> None:
        self.clocks.append((node, wall_ms))

    async def fetch_state(self, request: pb.FetchStateRequest, receiver: NodeId) -> AsyncGenerator[pb.SnapshotChunk]:
        if request.min_index > 10:
            raise StateUnavailableError("not applied here yet")
        yield pb.SnapshotChunk(data=b"state")

    async def rebuild(self, request: pb.RebuildRequest) -> pb.RebuildReply:
        return pb.RebuildReply(status=pb.REBUILD_STATUS_RUNNING)

    def forwarded(self, request: pb.ForwardRequest) -> asyncio.Future[pb.ForwardReply]:
        self.proposed += 1
        reply: asyncio.Future[pb.ForwardReply] = asyncio.get_running_loop().create_future()
        reply.set_result(pb.ForwardReply(request_id=request.request_id, status=pb.FORWARD_STATUS_APPLIED))
        return reply

    async def receive_snapshot(self, header: pb.SnapshotHeader, message: Message, data: AsyncIterator[bytes]) -> bool:
        raise AssertionError

    async def change_cluster(self, change: pb.ClusterChange) -> pb.ClusterChangeReply:
        return pb.ClusterChangeReply(status=pb.CHANGE_STATUS_DONE)

    def count_log_in(self, attempt: pb.LogInAttempt) -> pb.LogInVerdict:
        return pb.LogInVerdict(counted=True)

    def list_holders(self, request: pb.ListHoldersRequest) -> pb.ListHoldersReply:
        return pb.ListHoldersReply(known=True, node_ids=[1])

    async def report_status(self) -> admin_pb2.GetStatusResponse:
        return admin_pb2.GetStatusResponse()

    async def announced(self, record: PeerInfo) -> bool:
        self.announcements.append(record)
        return record.peer_address != "no leader:1"

    async def join(self, request: pb.JoinRequest) -> pb.JoinReply:
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


def vouching(*known: PeerInfo) -> Vouching:
    """Two members know these nodes, and nobody else."""

    async def ask(_: PeerInfo, about: NodeId) -> pb.DescribeMemberReply:
        member = next((encode_peer_info(one) for one in known if one.node_id == about), None)
        return pb.DescribeMemberReply(member=member)

    made = Vouching(ME, ask)
    made.update([peer(1), peer(2), peer(3)])
    return made


KEY = b"k" * 32


CERTIFICATE = b"c" * 32
OF_TLS = CertificateReader(peer_name_from_auth_context, peer_key_from_auth_context, peer_certificate_from_auth_context)


def certificates(name: str, key: bytes = KEY) -> CertificateReader:
    return CertificateReader(lambda _: name, lambda _: key, lambda _: CERTIFICATE)


@asynccontextmanager
async def serving(
    handler: Handler,
    registry: PeerRegistry,
    certified: str | None = None,
    service: PeerService | None = None,
    known: Sequence[PeerInfo] = (),
) -> AsyncIterator[str]:
    """A peer port; `certified` is the name in every caller's certificate, and the other members know `known`."""
    service = service or PeerService(pb.HandshakeInfo, None if certified is None else certificates(certified))
    service.start_serving({0: handler}, "mine", ME, registry, vouching(*known))
    server = make_peer_server(service)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(grace=0)


def says(
    caller: PeerInfo, *, cluster: str = "mine", to: int = 1, claims: str = "", record: bytes | None = None
) -> tuple[tuple[str, str | bytes], ...]:
    own = encode_peer_info(caller).SerializeToString() if record is None else record
    return (
        (METADATA_CLUSTER, cluster),
        (METADATA_FROM, claims or str(caller.node_id)),
        (METADATA_TO, str(to)),
        *([(METADATA_SELF, own)] if own else []),
    )


async def refusal(address: str, metadata: tuple[tuple[str, str | bytes], ...]) -> grpc.aio.AioRpcError:
    async with asyncio.timeout(5), peer_channel(address, None) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await PeerStub(channel).Deliver(metadata=metadata)
    return refused.value


@pytest.mark.parametrize(
    ("metadata", "why"),
    [
        (says(peer(2), cluster="other"), "belongs to cluster"),
        (says(peer(2), to=7), "another incarnation"),
        (says(peer(2), claims="3"), "sends no identity"),
        (says(peer(2), claims="x"), "sends no identity"),
        (says(peer(2), record=b""), "sends no identity"),
        (says(peer(2), record=b"\xff\xff"), "sends no identity"),
        ((), "belongs to cluster"),
    ],
    ids=["foreign cluster", "wiped receiver", "two ids", "no number", "no record", "broken record", "says nothing"],
)
async def test_a_caller_that_is_not_who_it_should_be_is_refused_before_anything_is_read(
    metadata: tuple[tuple[str, str | bytes], ...], why: str
) -> None:
    handler = Handler()
    async with serving(handler, make_registry()[0]) as address:
        error = await refusal(address, metadata)
    assert error.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert why in (error.details() or "")
    assert handler.received.empty()


async def test_a_removed_member_is_told_so_in_a_way_programs_understand() -> None:
    registry, _ = make_registry((1, 3))
    registry.update(map(peer, (1, 3)), [NodeId(2)])
    async with serving(Handler(), registry) as address:
        error = await refusal(address, says(peer(2)))
    assert "was removed from this cluster" in (error.details() or "")
    assert METADATA_REMOVED in dict(error.trailing_metadata() or ())


async def test_a_certificate_for_another_node_is_refused_for_members_and_strangers() -> None:
    async with serving(Handler(), make_registry()[0], certified="n3") as address:
        for number in (2, 9):
            error = await refusal(address, says(peer(number)))
            assert error.code() is grpc.StatusCode.PERMISSION_DENIED


async def test_a_node_that_lags_listens_to_a_leader_it_has_not_heard_of_and_can_answer_it() -> None:
    handler = Handler()
    registry, links = make_registry()
    async with (
        serving(handler, registry, certified="n9", known=[peer(9)]) as address,
        peer_channel(address, None) as channel,
    ):
        call = PeerStub(channel).Deliver(metadata=says(peer(9)))
        message = Message(MessageType.HEARTBEAT, sender=NodeId(9), to=ME, term=Term(4))
        await call.write(pb.RaftBatch(messages=[encode_message(message, 0)]))
        assert await asyncio.wait_for(handler.received.get(), 5) == message
        assert links.linked[NodeId(9)] == peer(9)
        call.cancel()


@pytest.fixture
def doubted_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """A node that nobody vouches for is refused after a short time."""
    monkeypatch.setattr(admission, "BELIEF_TIMEOUT_S", 0.1)
    monkeypatch.setattr(admission, "BELIEF_PAUSE_S", 0.05)


@pytest.mark.usefixtures("doubted_soon")
async def test_a_node_that_nobody_vouches_for_is_not_heard_and_gets_no_link() -> None:
    handler = Handler()
    registry, links = make_registry()
    batch = pb.RaftBatch(messages=[encode_message(Message(MessageType.HEARTBEAT, NodeId(9), ME, term=Term(4)), 0)])
    async with serving(handler, registry, certified="n9") as address, peer_channel(address, None) as channel:
        stub = PeerStub(channel)
        async with asyncio.timeout(5):
            with pytest.raises(grpc.aio.AioRpcError, match="no member known here vouches"):
                await stub.Deliver(iter([batch, batch]), metadata=says(peer(9)))
            header = pb.SnapshotHeader(message=batch.messages[0])
            snapshot = stub.InstallSnapshot(iter([pb.SnapshotChunk(header=header)]), metadata=says(peer(9)))
            with pytest.raises(grpc.aio.AioRpcError, match="no member known here vouches"):
                await snapshot
    assert handler.received.empty()
    assert set(links.linked) == {2, 3}


async def test_the_key_of_a_removed_node_lets_no_member_in() -> None:
    registry, _ = make_registry()
    registry.update(map(peer, (1, 2, 3)), (), [KEY])
    async with serving(Handler(), registry, certified="n2") as address:
        error = await refusal(address, says(peer(2)))
    assert "the cluster refuses this key of n2" in (error.details() or "")


async def test_a_key_that_is_replaced_while_its_thief_talks_is_heard_no_longer() -> None:
    handler = Handler()
    registry, _ = make_registry()
    async with serving(handler, registry, certified="n2") as address, peer_channel(address, None) as channel:
        call = PeerStub(channel).Deliver(metadata=says(peer(2)))
        heartbeat = Message(MessageType.HEARTBEAT, NodeId(2), ME, term=Term(4))
        batch = pb.RaftBatch(messages=[encode_message(heartbeat, 0)])
        await call.write(batch)
        await asyncio.wait_for(handler.received.get(), 5)
        registry.update(map(peer, (1, 2, 3)), (), [KEY])
        await call.write(batch)
        with pytest.raises(grpc.aio.AioRpcError, match="the cluster refuses this key of n2"):
            async with asyncio.timeout(5):
                await call
    assert handler.received.empty()


@pytest.mark.parametrize("digest", [KEY, CERTIFICATE], ids=["key", "certificate"])
async def test_a_certificate_that_is_revoked_while_its_thief_talks_is_heard_no_longer(digest: bytes) -> None:
    handler = Handler()
    registry, links = make_registry()
    async with serving(handler, registry, certified="n2") as address, peer_channel(address, None) as channel:
        stub, metadata = PeerStub(channel), says(peer(2))
        delivers, forwards = stub.Deliver(metadata=metadata), stub.Forward(metadata=metadata)
        batch = pb.RaftBatch(messages=[encode_message(Message(MessageType.HEARTBEAT, NodeId(2), ME, term=Term(4)), 0)])
        await delivers.write(batch)
        await asyncio.wait_for(handler.received.get(), 5)
        forward = pb.ForwardBatch(requests=[pb.ForwardRequest(request_id=1)])
        await forwards.write(forward)
        await asyncio.wait_for(forwards.read(), 5)
        registry.update(map(peer, (1, 2, 3)), (), (), [digest])
        await delivers.write(batch)
        with pytest.raises(grpc.aio.AioRpcError, match="an administrator revoked"):
            async with asyncio.timeout(5):
                await delivers
        await forwards.write(forward)
        with pytest.raises(grpc.aio.AioRpcError, match="an administrator revoked"):
            async with asyncio.timeout(5):
                await forwards.read()
        for call in (stub.Handshake(pb.HandshakeInfo(self=encode_peer_info(peer(2)))), stub.Deliver(metadata=metadata)):
            with pytest.raises(grpc.aio.AioRpcError, match="an administrator revoked") as refused:
                await call
            assert refused.value.code() is grpc.StatusCode.PERMISSION_DENIED
    assert handler.received.empty()
    assert handler.proposed == 1
    assert 2 not in links.linked or digest == KEY, "nobody calls a member that calls with a revoked certificate"


def test_a_member_with_a_revoked_key_is_not_called_until_it_has_published_another() -> None:
    registry, links = make_registry()
    old = [peer(1), replace(peer(2), key_digest=KEY), peer(3)]
    registry.update(old, ())
    assert set(links.linked) == {2, 3}
    registry.update(old, (), (), [KEY])
    assert set(links.linked) == {3}
    with registry.track_caller(old[1]):
        assert set(links.linked) == {3}, "not as a caller either"
    registry.update([peer(1), replace(peer(2), key_digest=b"n" * 32), peer(3)], (), [KEY], [KEY])
    assert set(links.linked) == {2, 3}


def test_a_member_that_calls_with_another_certificate_than_the_revoked_one_is_called_again() -> None:
    registry, links = make_registry()
    members = list(map(peer, (1, 2, 3)))
    registry.called_with(NodeId(2), CERTIFICATE)
    registry.update(members, (), (), [CERTIFICATE])
    assert set(links.linked) == {3}
    registry.called_with(NodeId(2), b"n" * 32)
    assert set(links.linked) == {2, 3}
    assert registry.certificates == {2: b"n" * 32}
    registry.update(members[::2], [NodeId(2)])
    assert registry.certificates == {}, "what a former member called with is forgotten"


async def test_a_node_with_a_cluster_answers_nobody_before_it_knows_what_is_revoked() -> None:
    service = PeerService(pb.HandshakeInfo, certificates("n2"), has_cluster=True)
    server = make_peer_server(service)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with peer_channel(f"127.0.0.1:{port}", None) as channel:
            stub, hello = PeerStub(channel), pb.HandshakeInfo(self=encode_peer_info(peer(2)))
            with pytest.raises(grpc.aio.AioRpcError, match="this node starts") as refused:
                await stub.Handshake(hello)
            assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
            registry, _ = make_registry()
            registry.update(map(peer, (1, 2, 3)), (), (), [KEY])
            service.start_serving({0: Handler()}, "mine", ME, registry, vouching())
            service.stop_serving("its state is replaced")
            with pytest.raises(grpc.aio.AioRpcError, match="an administrator revoked"):
                await stub.Handshake(hello)
    finally:
        await server.stop(grace=0)


async def test_a_member_describes_members_to_members_whatever_incarnation_they_mean() -> None:
    registry, _ = make_registry()
    registry.update(map(peer, (1, 2, 3)), [NodeId(4)])
    async with serving(Handler(), registry) as address, peer_channel(address, None) as channel:
        stub, metadata = PeerStub(channel), says(peer(2), to=0)
        known = await stub.DescribeMember(pb.DescribeMemberRequest(node_id=3), metadata=metadata)
        assert (known.member, known.removed) == (encode_peer_info(peer(3)), False)
        for number, removed in ((4, True), (9, False)):
            reply = await stub.DescribeMember(pb.DescribeMemberRequest(node_id=number), metadata=metadata)
            assert (reply.HasField("member"), reply.removed) == (False, removed)
        with pytest.raises(grpc.aio.AioRpcError, match="only members"):
            await stub.DescribeMember(pb.DescribeMemberRequest(node_id=3), metadata=says(peer(9), to=0))


async def test_nobody_vouches_for_a_member_whose_key_or_certificate_is_revoked() -> None:
    registry, _ = make_registry()
    members = [peer(1), peer(2), replace(peer(3), key_digest=KEY), peer(4)]
    registry.update(members, ())
    registry.called_with(NodeId(4), CERTIFICATE)
    registry.update(members, (), (), [KEY, CERTIFICATE])
    async with serving(Handler(), registry) as address, peer_channel(address, None) as channel:
        for number, is_described in ((1, True), (3, False), (4, False)):
            reply = await PeerStub(channel).DescribeMember(
                pb.DescribeMemberRequest(node_id=number), metadata=says(peer(2), to=0)
            )
            assert (reply.HasField("member"), reply.removed) == (is_described, False)


async def test_a_member_announces_its_new_address_and_nobody_elses() -> None:
    handler = Handler()
    async with (
        serving(handler, make_registry()[0], certified="n2") as address,
        peer_channel(address, None) as channel,
        asyncio.timeout(5),
    ):
        stub, metadata = PeerStub(channel), says(peer(2))
        await stub.AnnounceMember(encode_peer_info(peer(3, "moved:1")), metadata=metadata)
        with pytest.raises(grpc.aio.AioRpcError, match="no leader published"):
            await stub.AnnounceMember(encode_peer_info(peer(2, "no leader:1")), metadata=metadata)
    first = handler.announcements[0]
    assert (first.node_id, first.name, first.peer_address, first.key_digest) == (2, "n2", "moved:1", KEY)


def test_every_rpc_has_its_row_in_the_table_of_standings() -> None:
    assert REQUIRED.keys() == {method.name for method in pb.DESCRIPTOR.services_by_name["Peer"].methods}


async def test_a_member_removed_while_it_talks_is_heard_no_longer() -> None:
    handler = Handler()
    registry, _ = make_registry()
    async with serving(handler, registry) as address, peer_channel(address, None) as channel:
        call = PeerStub(channel).Deliver(metadata=says(peer(2)))
        heartbeat = Message(MessageType.HEARTBEAT, NodeId(2), ME, term=Term(4))
        batch = pb.RaftBatch(messages=[encode_message(heartbeat, 0)])
        await call.write(batch)
        await asyncio.wait_for(handler.received.get(), 5)
        registry.update(map(peer, (1, 3)), [NodeId(2)])
        await call.write(batch)
        with pytest.raises(grpc.aio.AioRpcError, match="was removed"):
            async with asyncio.timeout(5):
                await call
    assert handler.received.empty()


async def test_a_message_in_another_nodes_name_is_refused() -> None:
    handler = Handler()
    vote = Message(MessageType.VOTE_RESPONSE, sender=NodeId(2), to=ME, term=Term(4))
    for caller in (peer(3), peer(9)):  # a member, and a node that is none
        known = [peer(9)]
        async with serving(handler, make_registry()[0], known=known) as address, peer_channel(address, None) as channel:
            call = PeerStub(channel).Deliver(metadata=says(caller))
            await call.write(pb.RaftBatch(messages=[encode_message(vote, 0)]))
            await call.done_writing()
            with pytest.raises(grpc.aio.AioRpcError, match="not from the caller"):
                async with asyncio.timeout(5):
                    await call
    assert handler.received.empty()


async def test_a_change_of_the_cluster_is_taken_from_members_only() -> None:
    async with serving(Handler(), make_registry()[0]) as address, peer_channel(address, None) as channel:
        stub = PeerStub(channel)
        done = await stub.ChangeCluster(pb.ClusterChange(), metadata=says(peer(2)))
        assert done.status == pb.CHANGE_STATUS_DONE
        with pytest.raises(grpc.aio.AioRpcError, match="only members"):
            await stub.ChangeCluster(pb.ClusterChange(), metadata=says(peer(9)))


@pytest.mark.usefixtures("doubted_soon")
async def test_commands_are_taken_from_members_only() -> None:
    handler = Handler()
    async with serving(handler, make_registry()[0]) as address, peer_channel(address, None) as channel:
        for caller, is_taken in ((peer(2), True), (peer(9), False)):
            call = PeerStub(channel).Forward(
                iter([pb.ForwardBatch(requests=[pb.ForwardRequest(request_id=1)])]), metadata=says(caller)
            )
            async with asyncio.timeout(5):
                if is_taken:
                    assert [reply.request_id async for batch in call for reply in batch.replies] == [1]
                else:
                    with pytest.raises(grpc.aio.AioRpcError, match="only members"):
                        await call.read()
    assert handler.proposed == 1


async def test_a_member_removed_while_it_forwards_is_heard_no_longer() -> None:
    handler = Handler()
    registry, _ = make_registry()
    async with serving(handler, registry) as address, peer_channel(address, None) as channel, asyncio.timeout(5):
        call = PeerStub(channel).Forward(metadata=says(peer(2)))
        await call.write(pb.ForwardBatch(requests=[pb.ForwardRequest(request_id=1)]))
        await call.read()
        registry.update(map(peer, (1, 3)), [NodeId(2)])
        await call.write(pb.ForwardBatch(requests=[pb.ForwardRequest(request_id=2)]))
        with pytest.raises(grpc.aio.AioRpcError, match="was removed"):
            await call.read()
    assert handler.proposed == 1


@pytest.mark.parametrize(
    "fields",
    [{"term": 2**63 - 1}, {"term": 2**40}, {"term": 4, "commit": 2**63 - 1}, {"type": pb.MESSAGE_TYPE_PROPOSE}],
    ids=str,
)
async def test_a_message_out_of_range_ends_the_connection_and_is_not_handled(fields: dict[str, int]) -> None:
    handler = Handler()
    message = encode_message(Message(MessageType.HEARTBEAT, sender=NodeId(2), to=ME, term=Term(4)), 0)
    message.MergeFrom(pb.RaftMessage(**fields))  # type: ignore[arg-type]
    async with serving(handler, make_registry()[0]) as address, peer_channel(address, None) as channel:
        call = PeerStub(channel).Deliver(iter([pb.RaftBatch(messages=[message])]), metadata=says(peer(2)))
        async with asyncio.timeout(5):
            with pytest.raises(grpc.aio.AioRpcError) as ended:
                await call
    assert ended.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert handler.received.empty()


async def test_a_copy_of_the_state_and_a_rebuild_are_for_members_only() -> None:
    async with serving(Handler(), make_registry()[0]) as address, peer_channel(address, None) as channel:
        stub = PeerStub(channel)
        chunks = [chunk.data async for chunk in stub.FetchState(pb.FetchStateRequest(), metadata=says(peer(2)))]
        assert chunks == [b"state"]
        assert (await stub.Rebuild(pb.RebuildRequest(), metadata=says(peer(2)))).status == pb.REBUILD_STATUS_RUNNING
        with pytest.raises(grpc.aio.AioRpcError, match="not applied here yet") as early:
            await stub.FetchState(pb.FetchStateRequest(min_index=11), metadata=says(peer(2))).read()
        assert early.value.code() is grpc.StatusCode.UNAVAILABLE
        with pytest.raises(grpc.aio.AioRpcError, match="only members"):
            await stub.FetchState(pb.FetchStateRequest(), metadata=says(peer(9))).read()
        with pytest.raises(grpc.aio.AioRpcError, match="only members"):
            await stub.Rebuild(pb.RebuildRequest(), metadata=says(peer(9)))


async def test_state_hashes_and_reports_about_disks_loops_clients_and_clocks_are_taken_from_members_only() -> None:
    handler = Handler()
    batch = pb.RaftBatch(
        state_hashes=[pb.StateHash(index=256), pb.StateHash(index=512)],
        disk=pb.DiskReport(room=pb.DISK_ROOM_LOW),
        presence=pb.PresenceReport(clients=5),
        wall_ms=77,
        loop_lag_ms=0,
    )
    known = [peer(9)]
    async with serving(handler, make_registry()[0], known=known) as address, peer_channel(address, None) as channel:
        for number in (9, 2):
            call = PeerStub(channel).Deliver(metadata=says(peer(number)))
            await call.write(batch)
            await call.done_writing()
            await call
    assert handler.hashes == [(NodeId(2), 256), (NodeId(2), 512)]
    assert handler.disks == [(NodeId(2), pb.DISK_ROOM_LOW)]
    assert handler.clients == [(NodeId(2), 5)]
    assert handler.clocks == [(NodeId(2), 77)]
    assert handler.lags == [(NodeId(2), 0)]


async def test_a_forward_stream_that_this_node_ends_leaves_nothing_to_the_garbage_collector() -> None:
    registry, _ = make_registry()
    async with serving(Handler(), registry) as address, peer_channel(address, None) as channel, asyncio.timeout(10):

        async def removed_while_it_forwards() -> None:
            registry.update(map(peer, (1, 2, 3)), ())
            call = PeerStub(channel).Forward(metadata=says(peer(2)))
            await call.write(pb.ForwardBatch(requests=[pb.ForwardRequest(request_id=1)]))
            await call.read()
            registry.update(map(peer, (1, 3)), [NodeId(2)])
            await call.write(pb.ForwardBatch(requests=[pb.ForwardRequest(request_id=2)]))
            assert await call.code() is grpc.StatusCode.FAILED_PRECONDITION

        await removed_while_it_forwards()
        with left_to_the_collector() as left:
            for _ in range(10):
                await removed_while_it_forwards()
            await until_so(lambda: not any(map(waits_for_an_end, asyncio.all_tasks())))
    assert left.kinds == {}


async def read_all(call: grpc.aio.StreamStreamCall[pb.ForwardBatch, pb.ForwardReplyBatch]) -> None:
    async for _ in call:
        pass


async def test_a_forward_stream_that_a_stopping_node_ends_is_no_error_in_its_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Each planned stop of a leader logged errors with raw tracebacks."""
    handler, service = Handler(), PeerService(pb.HandshakeInfo, None)
    async with (
        serving(handler, make_registry()[0], service=service) as address,
        peer_channel(address, None) as channel,
    ):
        call = PeerStub(channel).Forward(metadata=says(peer(2)))
        await call.write(pb.ForwardBatch(requests=[pb.ForwardRequest(request_id=1)]))
        service.stop_serving("this node stops")
        await call.write(pb.ForwardBatch(requests=[pb.ForwardRequest(request_id=2)]))
        with pytest.raises(grpc.aio.AioRpcError, match="this node stops") as ended:
            await asyncio.wait_for(read_all(call), 5)
        assert ended.value.code() is grpc.StatusCode.UNAVAILABLE
    assert complaints(caplog) == []


async def test_a_node_whose_state_is_replaced_ends_the_streams_that_speak_to_the_old_one() -> None:
    handler, service = Handler(), PeerService(pb.HandshakeInfo, None)
    batch = pb.RaftBatch(messages=[encode_message(Message(MessageType.HEARTBEAT, NodeId(2), ME, term=Term(4)), 0)])
    async with (
        serving(handler, make_registry()[0], service=service) as address,
        peer_channel(address, None) as channel,
    ):
        call = PeerStub(channel).Deliver(metadata=says(peer(2)))
        await call.write(batch)
        await asyncio.wait_for(handler.received.get(), 5)
        service.stop_serving("this node's state is being replaced")
        await call.write(batch)
        with pytest.raises(grpc.aio.AioRpcError) as ended:
            async with asyncio.timeout(5):
                await call
        assert ended.value.code() is grpc.StatusCode.UNAVAILABLE
        error = await refusal(address, says(peer(2)))
        assert error.code() is grpc.StatusCode.UNAVAILABLE
    assert handler.received.empty()


async def test_what_speaks_for_a_log_that_is_not_hosted_here_is_refused_and_nothing_is_done() -> None:
    handler = Handler()
    heartbeat = Message(MessageType.HEARTBEAT, sender=NodeId(2), to=ME, term=Term(4))
    snapshot = Message(MessageType.SNAPSHOT, sender=NodeId(2), to=ME, snapshot=SnapshotMeta(Index(3), Term(1)))
    header = pb.SnapshotHeader(message=encode_message(snapshot, 7))
    async with serving(handler, make_registry()[0]) as address, peer_channel(address, None) as channel:
        stub, metadata = PeerStub(channel), says(peer(2))
        calls: list[Awaitable[object]] = [
            stub.ChangeCluster(pb.ClusterChange(group=7), metadata=metadata),
            stub.Join(pb.JoinRequest(self=encode_peer_info(peer(4)), group=7)),
            stub.Deliver(iter([pb.RaftBatch(messages=[encode_message(heartbeat, 7)])]), metadata=metadata),
            stub.InstallSnapshot(iter([pb.SnapshotChunk(header=header)]), metadata=metadata),
        ]
        for call in calls:
            with pytest.raises(grpc.aio.AioRpcError, match="hosts no Raft group 7") as refused:
                async with asyncio.timeout(5):
                    await call
            assert refused.value.code() is grpc.StatusCode.FAILED_PRECONDITION
        forward = stub.Forward(
            iter([pb.ForwardBatch(requests=[pb.ForwardRequest(request_id=1, group=7)])]), metadata=metadata
        )
        with pytest.raises(grpc.aio.AioRpcError, match="hosts no Raft group 7"):
            async with asyncio.timeout(5):
                await forward.read()
    assert handler.received.empty()


# ---- joining

BOOTSTRAPPED_BY = [peer(1), peer(2)]
WELCOME = pb.JoinReply(
    cluster_id=cluster_id_of(BOOTSTRAPPED_BY), bootstrap_members=[encode_peer_info(one) for one in BOOTSTRAPPED_BY]
)


def join_client(number: int = 4) -> JoinClient:
    return JoinClient(peer(number), lambda _, address: peer_channel(address, None), 0)


async def test_a_fresh_node_asks_until_it_is_let_in_and_learns_the_bootstrap_members() -> None:
    handler = Handler([TimeoutError(), WELCOME])
    async with serving(handler, make_registry()[0]) as address, asyncio.timeout(10):
        bootstrapped = await join_client().join(new_identity("n4"), {"gone": "127.0.0.1:1", "n1": address})
    assert (bootstrapped.cluster_id, list(bootstrapped.bootstrap_members)) == (WELCOME.cluster_id, BOOTSTRAPPED_BY)


async def test_founders_that_do_not_make_up_the_cluster_id_are_not_believed() -> None:
    lie = pb.JoinReply(cluster_id="f" * 32, bootstrap_members=WELCOME.bootstrap_members)
    async with serving(Handler([lie]), make_registry()[0]) as address:
        with pytest.raises(IdentityError, match="do not match its cluster id"):
            await join_client().join(new_identity("n4"), {"n1": address})


async def test_a_fresh_node_waits_until_somebody_admits_it_and_keeps_the_members_of_the_answer() -> None:
    welcome = pb.JoinReply(members=[encode_peer_info(peer(7))])
    welcome.MergeFrom(WELCOME)
    handler = Handler([JoinPendingError("nobody has admitted n4"), welcome])
    client = JoinClient(peer(4), lambda _, address: peer_channel(address, None), 0, lambda: "token")
    async with serving(handler, make_registry()[0]) as address, asyncio.timeout(10):
        await client.join(new_identity("n4"), {"n1": address})
    assert client.members == (peer(7),)


async def test_a_refusal_ends_the_start_with_its_text() -> None:
    handler = Handler([JoinRefusedError("n4 is a member already; parley cluster remove n4")])
    async with serving(handler, make_registry()[0]) as address:
        with pytest.raises(IdentityError, match="parley cluster remove n4"):
            await join_client().join(new_identity("n4"), {"n1": address})


async def test_a_directory_of_another_cluster_is_not_let_in() -> None:
    known = new_identity("n4")
    foreign = type(known)(known.node_id, "n4", "another", (peer(4),))
    async with serving(Handler(), make_registry()[0]) as address:
        with pytest.raises(IdentityError, match="belongs to cluster another"):
            await join_client().become_voter(foreign, lambda: {"n1": address}, lambda: True, lambda _: None)


async def test_a_removed_directory_that_asks_again_is_told_so() -> None:
    registry, _ = make_registry()
    registry.update(map(peer, (1, 2)), [NodeId(4)])
    async with serving(Handler(), registry) as address:
        with pytest.raises(RemovedError):
            await join_client().join(new_identity("n4"), {"n1": address})


async def test_a_certificate_in_another_name_does_not_get_a_node_in() -> None:
    async with serving(Handler(), make_registry()[0], certified="n9") as address:
        with pytest.raises(IdentityError, match="certificate"):
            await join_client().join(new_identity("n4"), {"n1": address})


async def test_a_learner_asks_on_until_it_is_a_voter() -> None:
    behind = pb.JoinReply(cluster_id="mine", waits_for="n4 has not caught up")
    handler = Handler([behind, TimeoutError(), pb.JoinReply(cluster_id="mine", voter=True)])
    identity = new_identity("n4")
    async with serving(handler, make_registry()[0]) as address, asyncio.timeout(10):
        await join_client().become_voter(identity, lambda: {"n1": address}, lambda: False, lambda _: None)
    assert not handler.answers
