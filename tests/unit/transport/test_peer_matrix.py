"""The whole matrix of peer RPC and caller, over real TLS: who gets what, and that nothing else is done.

A new RPC without a row fails, and so does a row without an RPC.
"""

from __future__ import annotations

import asyncio
import datetime
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any, cast

import grpc
import grpc.aio
import pytest
import pytest_asyncio
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from parley_proto.v1 import admin_pb2
from parley_proto.v1 import peer_pb2 as pb
from parley_proto.v1.peer_pb2_grpc import PeerStub
from parleyd.raft.messages import Message, MessageType
from parleyd.raft.types import Index, NodeId, SnapshotMeta, Term
from parleyd.security.certificates import Issued, issue_node_certificate, key_digest, make_ca
from parleyd.security.tls import peer_channel_options
from parleyd.storage.identity import PeerInfo
from parleyd.transport import admission
from parleyd.transport.bootstrap import encode_peer_info
from parleyd.transport.channels import peer_channel
from parleyd.transport.codec import encode_message
from parleyd.transport.peer_server import make_peer_server
from parleyd.transport.service import JoinPendingError, PeerService
from tests.support.logs import complaints
from tests.unit.transport.test_admission import ME, OF_TLS, Handler, make_registry, peer, says, vouching

Code = grpc.StatusCode
OK, REFUSED, DENIED, LATER = Code.OK, Code.FAILED_PRECONDITION, Code.PERMISSION_DENIED, Code.UNAVAILABLE
NO_CONNECTION = Code.UNAVAILABLE  # the handshake fails, no handler hears of it

REMOVED = peer(4)
CALLERS = (
    "no certificate",
    "foreign CA",
    "no node name",
    "other's name",
    "revoked certificate",
    "revoked key",
    "never admitted",
    "removed",
    "member",
)
MATRIX: dict[str, tuple[Code, ...]] = {
    #          no certificate  foreign CA     no name  other's revoked revoked never removed  member
    "Handshake": (NO_CONNECTION, NO_CONNECTION, DENIED, DENIED, DENIED, DENIED, OK, OK, OK),
    "Deliver": (NO_CONNECTION, NO_CONNECTION, DENIED, DENIED, DENIED, DENIED, LATER, REFUSED, OK),
    "InstallSnapshot": (NO_CONNECTION, NO_CONNECTION, DENIED, DENIED, DENIED, DENIED, LATER, REFUSED, OK),
    "Forward": (NO_CONNECTION, NO_CONNECTION, DENIED, DENIED, DENIED, DENIED, REFUSED, REFUSED, OK),
    "Join": (NO_CONNECTION, NO_CONNECTION, DENIED, DENIED, DENIED, DENIED, LATER, REFUSED, OK),
    "ChangeCluster": (NO_CONNECTION, NO_CONNECTION, DENIED, DENIED, DENIED, DENIED, REFUSED, REFUSED, OK),
    "CountLogIn": (NO_CONNECTION, NO_CONNECTION, DENIED, DENIED, DENIED, DENIED, REFUSED, REFUSED, OK),
    "FetchState": (NO_CONNECTION, NO_CONNECTION, DENIED, DENIED, DENIED, DENIED, REFUSED, REFUSED, OK),
    "Rebuild": (NO_CONNECTION, NO_CONNECTION, DENIED, DENIED, DENIED, DENIED, REFUSED, REFUSED, OK),
    "AnnounceMember": (NO_CONNECTION, NO_CONNECTION, DENIED, DENIED, DENIED, DENIED, REFUSED, REFUSED, OK),
    "ListHolders": (NO_CONNECTION, NO_CONNECTION, DENIED, DENIED, DENIED, DENIED, REFUSED, REFUSED, OK),
    "ReportStatus": (NO_CONNECTION, NO_CONNECTION, DENIED, DENIED, DENIED, DENIED, REFUSED, REFUSED, OK),
    "DescribeMember": (NO_CONNECTION, NO_CONNECTION, DENIED, DENIED, DENIED, DENIED, REFUSED, REFUSED, OK),
}
# What the node behind the port is asked to do. Handshake and DescribeMember change nothing anywhere.
DOES_SOMETHING = MATRIX.keys() - {"Handshake", "DescribeMember"}


class Recorder(Handler):
    """Records what gets past the checks."""

    def __init__(self) -> None:
        super().__init__()
        self.done: list[str] = []

    def receive(self, message: Message) -> None:
        self.done.append("Deliver")

    async def receive_snapshot(self, header: pb.SnapshotHeader, message: Message, data: AsyncIterator[bytes]) -> bool:
        self.done.append("InstallSnapshot")
        return True

    def forwarded(self, request: pb.ForwardRequest) -> asyncio.Future[pb.ForwardReply]:
        self.done.append("Forward")
        return super().forwarded(request)

    async def change_cluster(self, change: pb.ClusterChange) -> pb.ClusterChangeReply:
        self.done.append("ChangeCluster")
        return await super().change_cluster(change)

    def count_log_in(self, attempt: pb.LogInAttempt) -> pb.LogInVerdict:
        self.done.append("CountLogIn")
        return pb.LogInVerdict()

    def list_holders(self, request: pb.ListHoldersRequest) -> pb.ListHoldersReply:
        self.done.append("ListHolders")
        return pb.ListHoldersReply()

    async def report_status(self) -> admin_pb2.GetStatusResponse:
        self.done.append("ReportStatus")
        return admin_pb2.GetStatusResponse()

    async def fetch_state(self, request: pb.FetchStateRequest, receiver: NodeId) -> Any:
        self.done.append("FetchState")
        yield pb.SnapshotChunk(data=b"state")

    async def announced(self, record: PeerInfo) -> bool:
        self.done.append("AnnounceMember")
        return True

    async def rebuild(self, request: pb.RebuildRequest) -> pb.RebuildReply:
        self.done.append("Rebuild")
        return await super().rebuild(request)

    async def join(self, request: pb.JoinRequest) -> pb.JoinReply:
        if request.self.node_id != 2:  # a member that asks again, as after a lost answer
            raise JoinPendingError("nobody has admitted it")
        self.done.append("Join")
        return pb.JoinReply(voter=True)


@dataclass(frozen=True)
class Port:
    """A peer port, and the certificates to call it with."""

    address: str
    ca: bytes
    handler: Recorder
    pairs: dict[str, Issued | None]

    def channel(self, caller: str) -> grpc.aio.Channel:
        """Open a connection with the caller's certificate."""
        pair = self.pairs[caller]
        credentials = grpc.ssl_channel_credentials(
            self.ca, None if pair is None else pair.key_pem, None if pair is None else pair.certificate_pem
        )
        return peer_channel(self.address, credentials, [*peer_channel_options("n1")])


def issuer(authority: Issued) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    key = serialization.load_pem_private_key(authority.key_pem, password=None)
    return x509.load_pem_x509_certificate(authority.certificate_pem), cast(ec.EllipticCurvePrivateKey, key)


def nameless(authority: Issued) -> Issued:
    """A certificate of the CA that names no node."""
    certificate, ca_key = issuer(authority)
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.datetime.now(datetime.UTC)
    built = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([]))
        .issuer_name(certificate.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("n2.example.org")]), critical=True)
        .sign(ca_key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    key_pem = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return Issued(built.public_bytes(pem), key_pem, built.not_valid_after_utc)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def port() -> AsyncIterator[Port]:
    """One peer port of n1 for all cells: its members are n1, n2 and n3, and n4 was removed."""
    authority, foreign = make_ca(), make_ca()

    def node(name: str, by: Issued = authority) -> Issued:
        return issue_node_certificate(*issuer(by), name, ["127.0.0.1"])

    registry, _ = make_registry()
    revoked, revoked_key = node("n2"), node("n2")
    loaded = [x509.load_pem_x509_certificate(one.certificate_pem) for one in (revoked, revoked_key)]
    digests = (loaded[0].fingerprint(hashes.SHA256()), key_digest(loaded[1]))
    registry.update(map(peer, (1, 2, 3)), [REMOVED.node_id], (), digests)
    handler = Recorder()
    service = PeerService(
        pb.HandshakeInfo,
        OF_TLS,
    )
    service.start_serving({0: handler}, "mine", ME, registry, vouching())
    server = make_peer_server(service)
    own, ca = node("n1"), authority.certificate_pem
    credentials = grpc.ssl_server_credentials([(own.key_pem, own.certificate_pem)], ca, require_client_auth=True)
    number = server.add_secure_port("127.0.0.1:0", credentials)
    await server.start()
    patches = pytest.MonkeyPatch()
    patches.setattr(admission, "BELIEF_TIMEOUT_S", 0.1)
    patches.setattr(admission, "BELIEF_PAUSE_S", 0.05)
    pairs = {
        "no certificate": None,
        "foreign CA": node("n2", foreign),
        "no node name": nameless(authority),
        "other's name": node("n3"),
        "revoked certificate": revoked,
        "revoked key": revoked_key,
        "never admitted": node("n9"),
        "removed": node("n4"),
        "member": node("n2"),
    }
    yield Port(f"127.0.0.1:{number}", ca, handler, pairs)
    patches.undo()
    await server.stop(grace=0)


def claims(caller: str) -> PeerInfo:
    """Whom a caller says it is: a member, where nothing else is its point."""
    return {"never admitted": peer(9), "removed": REMOVED}.get(caller, peer(2))


def calls(stub: PeerStub, who: PeerInfo) -> dict[str, Callable[[], Awaitable[object]]]:
    """One call of each RPC, complete enough to do something if it is let in."""
    metadata, record, any_stub = says(who), encode_peer_info(who), cast("Any", stub)
    heartbeat = encode_message(Message(MessageType.HEARTBEAT, who.node_id, ME, Term(4)), 0)
    snapshot = Message(MessageType.SNAPSHOT, who.node_id, ME, Term(4), snapshot=SnapshotMeta(Index(3), Term(1)))
    header = pb.SnapshotChunk(header=pb.SnapshotHeader(message=encode_message(snapshot, 0)))

    async def read_all(call: Any) -> object:
        return [item async for item in call]

    return {
        "Handshake": lambda: any_stub.Handshake(pb.HandshakeInfo(self=record)),
        "Deliver": lambda: any_stub.Deliver(iter([pb.RaftBatch(messages=[heartbeat])]), metadata=metadata),
        "InstallSnapshot": lambda: any_stub.InstallSnapshot(iter([header]), metadata=metadata),
        "Forward": lambda: read_all(
            any_stub.Forward(iter([pb.ForwardBatch(requests=[pb.ForwardRequest(request_id=1)])]), metadata=metadata)
        ),
        "Join": lambda: any_stub.Join(pb.JoinRequest(self=record)),
        "ChangeCluster": lambda: any_stub.ChangeCluster(pb.ClusterChange(), metadata=metadata),
        "CountLogIn": lambda: any_stub.CountLogIn(pb.LogInAttempt(), metadata=metadata),
        "ListHolders": lambda: any_stub.ListHolders(pb.ListHoldersRequest(), metadata=metadata),
        "ReportStatus": lambda: any_stub.ReportStatus(pb.ReportStatusRequest(), metadata=metadata),
        "FetchState": lambda: read_all(any_stub.FetchState(pb.FetchStateRequest(), metadata=metadata)),
        "Rebuild": lambda: any_stub.Rebuild(pb.RebuildRequest(), metadata=metadata),
        "AnnounceMember": lambda: any_stub.AnnounceMember(record, metadata=metadata),
        "DescribeMember": lambda: any_stub.DescribeMember(pb.DescribeMemberRequest(node_id=3), metadata=metadata),
    }


async def outcome(call: Callable[[], Awaitable[object]]) -> Code:
    """How one call ends. The port has no INTERNAL of its own: gRPC gives it, rarely, where a refusal meets a write."""
    for _ in range(3):
        try:
            async with asyncio.timeout(10):
                await call()
        except grpc.aio.AioRpcError as error:
            if error.code() is not Code.INTERNAL:
                return error.code()
            print(error)
        else:
            return Code.OK
    return Code.INTERNAL


def test_every_peer_rpc_has_its_row() -> None:
    rpcs = {method.name for method in pb.DESCRIPTOR.services_by_name["Peer"].methods}
    assert rpcs == MATRIX.keys() == calls(cast("PeerStub", None), peer(2)).keys()
    assert {len(row) for row in MATRIX.values()} == {len(CALLERS)}


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("rpc", MATRIX)
@pytest.mark.parametrize("caller", CALLERS)
async def test_each_caller_gets_of_each_rpc_what_its_standing_gives(port: Port, rpc: str, caller: str) -> None:
    port.handler.done.clear()
    async with port.channel(caller) as channel:
        ended = await outcome(calls(PeerStub(channel), claims(caller))[rpc])
    assert ended is MATRIX[rpc][CALLERS.index(caller)]
    is_done = caller == "member" and rpc in DOES_SOMETHING
    assert port.handler.done == ([rpc] if is_done else [])


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("rpc", MATRIX)
async def test_bytes_that_are_no_message_get_a_status_and_no_traceback(
    port: Port, rpc: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with port.channel("member") as channel:
        path, content = f"/parley.v1.Peer/{rpc}", iter([b"\xff"])
        call = channel.stream_stream(path, request_serializer=bytes, response_deserializer=bytes)
        with pytest.raises(grpc.aio.AioRpcError) as ended:
            async for _ in call(content, metadata=says(peer(2))):
                pass
    assert ended.value.code() is Code.INVALID_ARGUMENT
    assert complaints(caplog) == []
