"""What a node costs that has a certificate of the cluster and was never admitted.

What can go wrong: it makes a node keep bodies without end; it holds calls or connections for ever, and no member gets a
connection; a body is read before the node knows who sends it.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import grpc
import grpc.aio
import pytest

from parley_proto.v1 import peer_pb2 as pb
from parley_proto.v1.peer_pb2_grpc import PeerStub
from parleyd.raft.messages import Message, MessageType
from parleyd.raft.types import NodeId, Term
from parleyd.security.certificates import issue_node_certificate, make_ca
from parleyd.transport import admission, connection_guard, peer_server
from parleyd.transport.admission import REQUIRED
from parleyd.transport.channels import MAX_PEER_CONNECTIONS, MAX_PEER_MESSAGE_BYTES, peer_channel
from parleyd.transport.codec import encode_message
from parleyd.transport.connection_guard import ConnectionGuard
from parleyd.transport.peer_bounds import MAX_BODIES_PER_NAME, MAX_CALLS_PER_NAME, MAX_CONNECTIONS_PER_NAME
from parleyd.transport.peer_server import make_peer_server
from parleyd.transport.service import PeerService
from tests.support.http2 import UNREAD_BYTES, RawConnection
from tests.support.lost_status import lost_its_status
from tests.unit.transport.test_admission import (
    ME,
    OF_TLS,
    Handler,
    certificates,
    make_registry,
    peer,
    says,
    serving,
    vouching,
)
from tests.unit.transport.test_peer_matrix import Port, issuer

STREAMS = {"Deliver", "Forward", "InstallSnapshot"}
LARGE = MAX_PEER_MESSAGE_BYTES - 1024
HEARTBEAT = encode_message(Message(MessageType.HEARTBEAT, NodeId(9), ME, term=Term(4)), 0)


def path_of(rpc: str) -> str:
    return f"/parley.v1.Peer/{rpc}"


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything that waits for a caller waits for a short time."""
    for name in ("BODY_TIMEOUT_S", "MEMBER_BODY_TIMEOUT_S"):
        monkeypatch.setattr(peer_server, name, 0.2)
    monkeypatch.setattr(admission, "BELIEF_TIMEOUT_S", 0.2)
    monkeypatch.setattr(admission, "BELIEF_PAUSE_S", 0.05)


async def test_large_bodies_of_one_name_that_never_end_are_taken_for_a_few_calls_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(peer_server, "BODY_TIMEOUT_S", 60.0)  # however slow this machine is now, all have the time
    async with serving(Handler(), make_registry()[0], certified="n9") as address:
        raw = await RawConnection.open(address)
        streams = [raw.call(path_of("Handshake")) for _ in range(12)]
        sending = [asyncio.ensure_future(raw.send_all_but_the_last_byte(stream, LARGE)) for stream in streams]
        try:
            held = -1
            while raw.most_held > held:  # until nothing more is taken for a second, however slow this machine is
                held = raw.most_held
                await asyncio.wait(sending, timeout=1)
        finally:
            for task in sending:
                task.cancel()
            await raw.close()
    assert raw.most_read == MAX_BODIES_PER_NAME
    assert raw.most_held <= MAX_BODIES_PER_NAME * LARGE + 12 * UNREAD_BYTES, "what is not read has a small window"


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize(
    ("rpc", "caller"),
    [*((rpc, "n9") for rpc in sorted(REQUIRED)), *((rpc, "n2") for rpc in sorted(REQUIRED.keys() - STREAMS))],
)
async def test_a_call_without_a_body_ends(rpc: str, caller: str) -> None:
    who = peer(int(caller[1:]))
    async with serving(Handler(), make_registry()[0], certified=caller) as address, peer_channel(address, None) as one:
        call = one.stream_stream(path_of(rpc), request_serializer=bytes, response_deserializer=bytes)(
            metadata=says(who, to=0 if rpc == "DescribeMember" else 1)
        )
        async with asyncio.timeout(5):
            code = await call.code()
        assert code is not grpc.StatusCode.OK


@pytest.mark.usefixtures("impatient")
async def test_nothing_is_read_of_a_stream_of_a_node_that_nobody_vouches_for() -> None:
    async with serving(Handler(), make_registry()[0], certified="n9") as address, peer_channel(address, None) as one:
        for rpc in sorted(STREAMS):
            stream = one.stream_stream(path_of(rpc), request_serializer=bytes, response_deserializer=bytes)
            async with asyncio.timeout(5):
                while True:
                    call = stream(iter([b"\xff"]), metadata=says(peer(9)))
                    code = await call.code()
                    if not await lost_its_status(call):
                        break
            assert code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.FAILED_PRECONDITION), "not INVALID_ARGUMENT"


async def test_a_call_of_members_only_is_refused_before_its_body_comes() -> None:
    async with serving(Handler(), make_registry()[0], certified="n9") as address, peer_channel(address, None) as one:
        call = one.stream_stream(path_of("Rebuild"), request_serializer=bytes, response_deserializer=bytes)(
            metadata=says(peer(9))
        )
        async with asyncio.timeout(peer_server.BODY_TIMEOUT_S / 2):
            assert await call.code() is grpc.StatusCode.FAILED_PRECONDITION


async def test_calls_of_one_name_beyond_its_share_are_refused_and_free_again_afterwards() -> None:
    async with serving(Handler(), make_registry()[0], certified="n9") as address:
        raw = await RawConnection.open(address)
        try:
            streams = [raw.call(path_of("Join")) for _ in range(MAX_CALLS_PER_NAME + 3)]
            async with asyncio.timeout(peer_server.BODY_TIMEOUT_S / 2):
                await asyncio.gather(*map(raw.until_ended, streams[MAX_CALLS_PER_NAME:]))
            assert not raw.ended & set(streams[:MAX_BODIES_PER_NAME])
        finally:
            await raw.close()
        async with peer_channel(address, None) as channel, asyncio.timeout(5):
            code = None
            while code is not grpc.StatusCode.OK:  # until the node has seen that the connection is gone
                code = await PeerStub(channel).Handshake(pb.HandshakeInfo(self=pb.PeerInfo(name="n9"))).code()
                assert code in (grpc.StatusCode.OK, grpc.StatusCode.RESOURCE_EXHAUSTED)


async def test_a_call_whose_caller_does_not_read_the_answer_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peer_server, "ANSWER_TIMEOUT_S", 0.2)
    service = PeerService(lambda: pb.HandshakeInfo(cluster_id="mine"), certificates("n9", b""))
    async with serving(Handler(), make_registry()[0], service=service) as address, asyncio.timeout(5):
        raw = await RawConnection.open(address, own_window=0)
        try:
            streams = [raw.call(path_of("Handshake")) for _ in range(3)]
            for stream in streams:
                raw.send(stream, pb.HandshakeInfo(self=pb.PeerInfo(name="n9")).SerializeToString())
            for stream in streams[:-1]:  # gRPC refers to the last call until there is another
                await raw.until_ended(stream)
            assert not raw.closed.is_set()
        finally:
            await raw.close()


async def test_a_stream_that_opens_before_its_node_is_known_is_read_once_it_is() -> None:
    registry, _ = make_registry()
    handler = Handler()
    async with (
        serving(handler, registry, certified="n9", known=[peer(9)]) as address,
        peer_channel(address, None) as channel,
        asyncio.timeout(5),
    ):
        call = PeerStub(channel).Forward(metadata=says(peer(9)))
        await call.write(pb.ForwardBatch(requests=[pb.ForwardRequest(request_id=1)]))
        deliver = PeerStub(channel).Deliver(metadata=says(peer(9)))
        await deliver.write(pb.RaftBatch(messages=[HEARTBEAT]))
        await handler.received.get()
        assert handler.proposed == 0, "only members forward commands"
        registry.update(map(peer, (1, 2, 3, 9)), ())
        frame = await call.read()
        assert isinstance(frame, pb.ForwardReplyBatch)
        assert [reply.request_id for reply in frame.replies] == [1]
        deliver.cancel()
        call.cancel()


# ---- connections


@asynccontextmanager
async def guarded_port(folder: Path) -> AsyncIterator[tuple[Port, ssl.SSLContext]]:
    """A peer port of n1 with its guard, and the TLS of n9, which was never admitted."""
    authority = make_ca()
    pairs = {name: issue_node_certificate(*issuer(authority), name, ["127.0.0.1"]) for name in ("n1", "n2", "n9")}
    service = PeerService(
        pb.HandshakeInfo,
        OF_TLS,
    )
    service.start_serving({0: Handler()}, "mine", ME, make_registry()[0], vouching())
    server, own = make_peer_server(service), pairs["n1"]
    number = server.add_secure_port(
        "127.0.0.1:0",
        grpc.ssl_server_credentials(
            [(own.key_pem, own.certificate_pem)], authority.certificate_pem, require_client_auth=True
        ),
    )
    await server.start()
    (folder / "n9.pem").write_bytes(pairs["n9"].certificate_pem + pairs["n9"].key_pem)
    tls = ssl.create_default_context(cadata=authority.certificate_pem.decode())
    tls.check_hostname = False
    tls.load_cert_chain(folder / "n9.pem")
    tls.set_alpn_protocols(["h2"])
    guarding = asyncio.ensure_future(ConnectionGuard(service.connections, number).run())
    try:
        yield Port(f"127.0.0.1:{number}", authority.certificate_pem, Handler(), {**pairs}), tls  # type: ignore[arg-type]
    finally:
        guarding.cancel()
        await asyncio.gather(guarding, return_exceptions=True)
        await server.stop(grace=0)


async def test_a_member_connects_while_a_node_that_was_never_admitted_holds_all_connections(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It held every connection for ever, each with a call, and a restarted member got none."""
    monkeypatch.setattr(connection_guard, "CALM_S", 0.25)
    async with guarded_port(tmp_path) as (port, tls), AsyncExitStack() as held, asyncio.timeout(20):
        raws = []

        async def keep_calling(raw: RawConnection) -> None:
            while not raw.closed.is_set():
                await raw.until_ended(raw.call(path_of("Deliver")))
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(raw.closed.wait(), 0.2)

        for _ in range(MAX_PEER_CONNECTIONS):
            with contextlib.suppress(ConnectionError):  # on a busy machine the guard is at work before all are open
                raws.append(await RawConnection.open(port.address, tls))
                held.push_async_callback(raws[-1].close)
        calling = [asyncio.ensure_future(keep_calling(raw)) for raw in raws]
        held.callback(lambda: [task.cancel() for task in calling])
        member = await held.enter_async_context(port.channel("n2"))
        await PeerStub(member).Handshake(pb.HandshakeInfo(self=pb.PeerInfo(name="n2")), wait_for_ready=True)
        link = PeerStub(member).Deliver(metadata=says(peer(2)))
        closed = [asyncio.ensure_future(raw.closed.wait()) for raw in raws]
        for _, done in zip(raws[MAX_CONNECTIONS_PER_NAME:], asyncio.as_completed(closed), strict=False):
            await done
        assert not link.done()
        link.cancel()
