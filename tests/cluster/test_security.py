"""Who is let in, and what is written down: TLS on every port, sessions that end, logs without secrets."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from pathlib import Path

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from parley_proto.v1 import accounts_pb2, admin_pb2, admin_pb2_grpc, messaging_pb2, peer_pb2, peer_pb2_grpc
from parleyd.exits import ExitCode
from parleyd.security.certificates import issue_node_certificate
from scripts.cluster_layout import Layout, create_layout, plan_private_nodes
from scripts.cluster_local import LocalCluster
from tests.abuse.measure import term_of
from tests.cluster.conftest import FAST
from tests.cluster.daemon import parleyd
from tests.cluster.raw import PASSWORD, raw_client, refused
from tests.support.raw import ANSWER_S, eventually

pytestmark = pytest.mark.asyncio(loop_scope="module")

Fresh = Callable[[str], str]


@pytest.fixture(scope="module")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> Layout:
    """The folder of another cluster, which has a CA and node names just like ours."""
    return create_layout(tmp_path_factory.mktemp("foreign"), plan_private_nodes(3), FAST)


async def test_a_wrong_password_and_an_unknown_name_get_the_same_answer(cluster: LocalCluster, fresh: Fresh) -> None:
    async with raw_client(cluster, cluster.names[0]) as raw:
        name = fresh("ann")
        await raw.register(name)
        answers = [
            await refused(
                raw.accounts.LogIn(
                    accounts_pb2.LogInRequest(name=who, password=password, device_id=b"d" * 16), timeout=10
                )
            )
            for who, password in ((name, "wrong password"), (fresh("nobody"), PASSWORD), ("", ""), (name, "x" * 5000))
        ]
    assert {code for code, _ in answers} == {grpc.StatusCode.UNAUTHENTICATED}
    assert len({text for _, text in answers}) == 1, "the text must not say which of the two was wrong"


async def test_an_expired_session_ends_its_stream_and_is_refused_on_every_node(tmp_path: Path, fresh: Fresh) -> None:
    async with (
        LocalCluster(tmp_path, nodes=1, settings={**FAST, "session_ttl_s": 2}) as lone,
        raw_client(lone, "n1") as raw,
    ):
        name = fresh("ann")
        await raw.register(name)
        ann = await raw.log_in(name)
        async with raw.session(ann) as stream:
            code, text = await stream.refusal()
        assert code is grpc.StatusCode.UNAUTHENTICATED
        assert "expired" in text
        code, _ = await refused(
            raw.accounts.ListAccounts(accounts_pb2.ListAccountsRequest(), metadata=ann.metadata, timeout=10)
        )
        assert code is grpc.StatusCode.UNAUTHENTICATED
        again = await raw.log_in(name, device_id=ann.device_id)
        async with raw.session(again) as stream:
            assert stream.welcome.account.name == name


async def test_logging_out_ends_the_stream_and_the_token_everywhere(cluster: LocalCluster, fresh: Fresh) -> None:
    here, there = cluster.names[:2]
    async with raw_client(cluster, here) as raw, raw_client(cluster, there) as other:
        name = fresh("ann")
        await raw.register(name)
        ann = await raw.log_in(name)
        async with raw.session(ann) as stream:
            answer = await other.accounts.LogOut(accounts_pb2.LogOutRequest(), metadata=ann.metadata, timeout=10)
            code, _ = await stream.refusal()
            assert code is grpc.StatusCode.UNAUTHENTICATED
        request = accounts_pb2.ListAccountsRequest(seen=answer.position)
        for node in (raw, other):
            code, _ = await refused(node.accounts.ListAccounts(request, metadata=ann.metadata, timeout=10))
            assert code is grpc.StatusCode.UNAUTHENTICATED


async def test_a_client_that_trusts_another_ca_says_nothing_to_a_node(cluster: LocalCluster, foreign: Layout) -> None:
    credentials = grpc.ssl_channel_credentials(root_certificates=foreign.ca_file.read_bytes())
    async with grpc.aio.secure_channel(cluster.hosts[0], credentials) as channel:
        code, text = await refused(
            admin_pb2_grpc.AdminStub(channel).GetStatus(admin_pb2.GetStatusRequest(), timeout=10)
        )
    assert code is grpc.StatusCode.UNAVAILABLE
    assert "certificate" in text.lower()


async def test_an_unencrypted_client_gets_nowhere(cluster: LocalCluster) -> None:
    async with grpc.aio.insecure_channel(cluster.hosts[0]) as channel:
        code, _ = await refused(admin_pb2_grpc.AdminStub(channel).GetStatus(admin_pb2.GetStatusRequest(), timeout=10))
    assert code is grpc.StatusCode.UNAVAILABLE


async def handshake(
    cluster: LocalCluster, node: str, certificate: tuple[bytes, bytes] | None
) -> peer_pb2.HandshakeInfo | tuple[grpc.StatusCode, str]:
    """Call a node's peer port with some certificate (or none), trusting the cluster's CA."""
    chain, key = certificate or (None, None)
    credentials = grpc.ssl_channel_credentials(cluster.ca_file.read_bytes(), key, chain)
    options = (("grpc.ssl_target_name_override", f"{node}.node.parley"),)
    async with grpc.aio.secure_channel(cluster.layout.node(node).peer_address, credentials, options) as channel:
        call = peer_pb2_grpc.PeerStub(channel).Handshake(peer_pb2.HandshakeInfo(), timeout=10)
        try:
            return await call
        except grpc.aio.AioRpcError as error:
            return error.code(), error.details() or ""


async def test_the_peer_port_refuses_whoever_has_no_certificate_of_this_cluster(
    cluster: LocalCluster, foreign: Layout
) -> None:
    stranger = foreign.folder("n2")
    for certificate in (None, ((stranger / "node.pem").read_bytes(), (stranger / "node.key").read_bytes())):
        answer = await handshake(cluster, "n1", certificate)
        assert isinstance(answer, tuple), "a node without a certificate of this cluster got an answer"
        assert answer[0] is grpc.StatusCode.UNAVAILABLE


async def test_the_peer_port_greets_its_own_but_no_node_outside_the_membership(cluster: LocalCluster) -> None:
    own = cluster.layout.folder("n2")
    answer = await handshake(cluster, "n1", ((own / "node.pem").read_bytes(), (own / "node.key").read_bytes()))
    # The greeting claims nothing, so it is read; that it was read at all shows that the handshake went through.
    assert not isinstance(answer, tuple) or answer[0] is not grpc.StatusCode.UNAVAILABLE

    authority = x509.load_pem_x509_certificate(cluster.ca_file.read_bytes())
    key = serialization.load_pem_private_key((cluster.layout.root / "ca" / "ca.key").read_bytes(), password=None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    outsider = issue_node_certificate(authority, key, "n9", ["127.0.0.1"])
    credentials = grpc.ssl_channel_credentials(cluster.ca_file.read_bytes(), outsider.key_pem, outsider.certificate_pem)
    options = (("grpc.ssl_target_name_override", "n1.node.parley"),)
    async with grpc.aio.secure_channel(cluster.layout.node("n1").peer_address, credentials, options) as channel:
        call = peer_pb2_grpc.PeerStub(channel).Deliver(
            metadata=(("x-parley-cluster", "0" * 32), ("x-parley-from", "1"), ("x-parley-to", "2"))
        )
        async with asyncio.timeout(10):
            code, text = await call.code(), await call.details()
    assert code in (grpc.StatusCode.FAILED_PRECONDITION, grpc.StatusCode.PERMISSION_DENIED)
    assert text


async def test_a_node_with_another_clusters_certificate_does_not_start(tmp_path: Path, foreign: Layout) -> None:
    own = create_layout(tmp_path, plan_private_nodes(3), FAST)
    stranger = foreign.folder("n1")
    ended = await parleyd(
        "start",
        "--config",
        str(own.config_file("n1")),
        "--cert-file",
        str(stranger / "node.pem"),
        "--key-file",
        str(stranger / "node.key"),
    )
    assert ended.code == ExitCode.CERTIFICATE
    assert "Nothing was started" in ended.output
    assert "CA" in ended.output


async def test_no_secret_and_no_message_is_ever_in_a_log(cluster: LocalCluster, fresh: Fresh) -> None:
    secret_body = f"the secret body {secrets.token_hex(8)}"
    async with raw_client(cluster, cluster.names[1]) as raw:
        name = fresh("ann")
        await raw.register(name)
        ann = await raw.log_in(name)
        async with raw.session(ann) as stream:
            await stream.send_surely(1, name, secret_body)
            await stream.send_surely(2, "no-such-account", secret_body)
            await stream.write(messaging_pb2.ClientFrame(sends=messaging_pb2.SendBatch()))
            await stream.refusal()
        wrong = accounts_pb2.LogInRequest(name=name, password="wrong " + PASSWORD, device_id=b"d" * 16)
        await refused(raw.accounts.LogIn(wrong, timeout=10))
        bad = accounts_pb2.RegisterRequest(name="bad name", password=PASSWORD, request_id=b"r" * 16)
        await refused(raw.accounts.Register(bad, timeout=10))
    for node in cluster.names:
        await cluster.restart(node)  # what is written on the way down counts too
    for node in cluster.names:
        text = cluster.log_text(node)
        assert node in text, "an empty log proves nothing"
        for secret in (secret_body, PASSWORD, ann.token, "$2b$"):
            assert secret not in text


async def test_guesses_at_several_nodes_count_together_and_survive_the_leader(
    cluster: LocalCluster, fresh: Fresh
) -> None:
    name, device = fresh("ann"), b"k" * 16

    async def log_in(node: str, password: str, device_id: bytes) -> tuple[grpc.StatusCode, str]:
        request = accounts_pb2.LogInRequest(name=name, password=password, device_id=device_id)
        async with raw_client(cluster, node) as raw:
            try:
                await eventually(lambda: raw.accounts.LogIn(request, timeout=ANSWER_S))
            except grpc.aio.AioRpcError as error:
                return error.code(), error.details() or ""
        return grpc.StatusCode.OK, ""

    async with raw_client(cluster, cluster.names[0]) as raw:
        await raw.register(name)
        await raw.log_in(name, device_id=device)
    term = await term_of(cluster)
    for number in range(40):
        code, _ = await log_in(cluster.names[number % 3], "wrong", b"w" * 16)
        # Counts below ten are in the leader's memory. If a starved machine has elected another one, they begin anew.
        if code is grpc.StatusCode.FAILED_PRECONDITION or (number == 9 and await term_of(cluster) == term):
            break
        assert code is grpc.StatusCode.UNAUTHENTICATED
    for node in cluster.names:
        code, text = await log_in(node, PASSWORD, b"w" * 16)
        assert (code, "was not checked" in text) == (grpc.StatusCode.FAILED_PRECONDITION, True)
    leader = await cluster.wait_for_leader()
    cluster.kill(leader)
    other = await cluster.wait_for_leader(other_than=leader)
    code, text = await log_in(other, PASSWORD, b"w" * 16)
    assert (code, "was not checked" in text) == (grpc.StatusCode.FAILED_PRECONDITION, True)
    assert (await log_in(other, PASSWORD, device))[0] is grpc.StatusCode.OK, "a device that logged in before"
