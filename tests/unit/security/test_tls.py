"""Who gets through a real handshake, on loopback: the right node does, and nobody else."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import grpc.aio
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from parleyd.security.certificate_files import load_ca
from parleyd.security.certificates import CertificateError
from parleyd.security.node_certificates import NodeCertificates
from parleyd.security.tls import (
    client_server_credentials,
    peer_channel_credentials,
    peer_channel_options,
    peer_name_from_auth_context,
    peer_server_credentials,
)
from parleyd.settings.table import Settings

METHOD = "/parley.test.Who/AmI"
NOBODY = b"nobody"


def settings_of(folder: Path, name: str, **changes: object) -> Settings:
    made = Settings(
        name, folder, ca_file=folder / "ca.pem", cert_file=folder / f"{name}.pem", key_file=folder / f"{name}.key"
    )
    return dataclasses.replace(made, **changes)  # type: ignore[arg-type]


def certificates_of(folder: Path, name: str, **changes: object) -> NodeCertificates | None:
    return NodeCertificates.of(settings_of(folder, name, **changes))


class WhoAmI(grpc.GenericRpcHandler):
    """Answers with the name of the node that calls."""

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[bytes, bytes]:
        async def answer(_: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
            return (peer_name_from_auth_context(context.auth_context()) or NOBODY.decode()).encode()

        return grpc.unary_unary_rpc_method_handler(answer)


@asynccontextmanager
async def serving(credentials: grpc.ServerCredentials | None, host: str = "127.0.0.1") -> AsyncIterator[str]:
    server = grpc.aio.server(handlers=(WhoAmI(),))
    address = f"{host}:0"
    port = server.add_secure_port(address, credentials) if credentials else server.add_insecure_port(address)
    await server.start()
    try:
        yield f"{host}:{port}"
    finally:
        await server.stop(None)


async def ask(
    address: str, credentials: grpc.ChannelCredentials | None, options: Sequence[tuple[str, str]] = ()
) -> bytes:
    channel = (
        grpc.aio.secure_channel(address, credentials, options=options)
        if credentials
        else grpc.aio.insecure_channel(address)
    )
    async with channel:
        call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(METHOD)
        return await call(b"", timeout=10)


async def refusal(
    address: str, credentials: grpc.ChannelCredentials | None, options: Sequence[tuple[str, str]] = ()
) -> str:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await ask(address, credentials, options)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    return caught.value.details() or ""


@pytest.fixture
def ours(certificates: Path) -> Path:
    return certificates / "ours"


async def test_a_node_is_known_to_the_other_by_name_whatever_the_address(ours: Path) -> None:
    async with serving(peer_server_credentials(certificates_of(ours, "n1")), "127.0.0.7") as address:
        assert (
            await ask(address, peer_channel_credentials(certificates_of(ours, "n2")), peer_channel_options("n1"))
            == b"n2"
        )


async def test_a_dialler_refuses_another_node_of_the_same_cluster(ours: Path) -> None:
    async with serving(peer_server_credentials(certificates_of(ours, "n1"))) as address:
        credentials = peer_channel_credentials(certificates_of(ours, "n2"))
        assert "Hostname Verification" in await refusal(address, credentials, peer_channel_options("n3"))


async def test_a_peer_with_a_certificate_of_a_foreign_ca_is_refused(certificates: Path, ours: Path) -> None:
    # The foreign node even trusts our CA: it is the called node that refuses.
    foreign = certificates_of(certificates / "foreign", "n2", ca_file=ours / "ca.pem")
    async with serving(peer_server_credentials(certificates_of(ours, "n1"))) as address:
        await refusal(address, peer_channel_credentials(foreign), peer_channel_options("n1"))


async def test_a_node_refuses_to_dial_into_a_foreign_cluster(certificates: Path, ours: Path) -> None:
    foreign = certificates_of(certificates / "foreign", "n1", ca_file=ours / "ca.pem")
    async with serving(peer_server_credentials(foreign)) as address:
        credentials = peer_channel_credentials(certificates_of(ours, "n2"))
        assert "certificate" in (await refusal(address, credentials, peer_channel_options("n1"))).lower()


async def test_a_caller_without_a_certificate_is_refused_on_the_peer_port(ours: Path) -> None:
    ca_only = grpc.ssl_channel_credentials((ours / "ca.pem").read_bytes())
    async with serving(peer_server_credentials(certificates_of(ours, "n1"))) as address:
        await refusal(address, ca_only, peer_channel_options("n1"))
        await refusal(address, None)


async def test_a_certificate_of_the_ca_without_a_node_is_no_peer(ours: Path) -> None:
    credentials = client_certificate(ours, [x509.DNSName("ward-a"), x509.UniformResourceIdentifier("n2.node.parley")])
    async with serving(peer_server_credentials(certificates_of(ours, "n1"))) as address:
        assert await ask(address, credentials, peer_channel_options("n1")) == NOBODY


async def test_a_certificate_that_speaks_for_two_nodes_is_no_peer(ours: Path) -> None:
    names: list[x509.GeneralName] = [x509.DNSName(f"{name}.node.parley") for name in ("n2", "n3")]
    async with serving(peer_server_credentials(certificates_of(ours, "n1"))) as address:
        assert await ask(address, client_certificate(ours, names), peer_channel_options("n1")) == NOBODY


async def test_a_certificate_that_may_only_serve_does_not_dial(ours: Path) -> None:
    credentials = client_certificate(ours, [x509.DNSName("n2.node.parley")], ExtendedKeyUsageOID.SERVER_AUTH)
    async with serving(peer_server_credentials(certificates_of(ours, "n1"))) as address:
        await refusal(address, credentials, peer_channel_options("n1"))


async def test_clients_need_no_certificate_and_check_the_host(ours: Path) -> None:
    ca_only = grpc.ssl_channel_credentials((ours / "ca.pem").read_bytes())
    async with serving(client_server_credentials(certificates_of(ours, "n1"))) as address:
        assert await ask(address, ca_only) == NOBODY
        assert await ask(address.replace("127.0.0.1", "localhost"), ca_only) == NOBODY
    async with serving(client_server_credentials(certificates_of(ours, "n1")), "127.0.0.7") as address:
        assert "Hostname Verification" in await refusal(address, ca_only)


async def test_a_client_refuses_a_node_of_another_ca(certificates: Path, ours: Path) -> None:
    foreign_ca = grpc.ssl_channel_credentials((certificates / "foreign" / "ca.pem").read_bytes())
    async with serving(client_server_credentials(certificates_of(ours, "n1"))) as address:
        assert "certificate" in (await refusal(address, foreign_ca)).lower()


async def test_insecure_has_no_credentials_and_knows_no_names(tmp_path: Path) -> None:
    settings = Settings("n1", tmp_path, insecure=True)
    certificates = NodeCertificates.of(settings)
    assert client_server_credentials(certificates) is None
    assert peer_server_credentials(certificates) is None
    assert peer_channel_credentials(certificates) is None
    async with serving(None) as address:
        assert await ask(address, None) == NOBODY


def test_without_files_there_are_no_credentials(tmp_path: Path) -> None:
    with pytest.raises(CertificateError, match="is not set"):
        NodeCertificates.of(Settings("n1", tmp_path))
    with pytest.raises(CertificateError, match="cannot be read"):
        certificates_of(tmp_path, "n1")


@pytest.mark.parametrize(
    "auth_context",
    [
        {},
        {"peer_dns": [b"n1.node.parley"]},
        {"transport_security_type": [b"insecure"], "peer_dns": [b"n1.node.parley"]},
        {"transport_security_type": [b"ssl"], "peer_dns": [b"\xff.node.parley"]},
        {"transport_security_type": [b"ssl"], "x509_subject_alternative_name": [b"n1.node.parley"]},
        {"transport_security_type": [b"ssl"], "x509_common_name": [b"n1.node.parley"]},
    ],
)
def test_a_name_counts_only_as_dns_name_of_a_tls_certificate(auth_context: dict[str, list[bytes]]) -> None:
    assert peer_name_from_auth_context(auth_context) is None


def client_certificate(
    folder: Path, names: list[x509.GeneralName], use: x509.ObjectIdentifier = ExtendedKeyUsageOID.CLIENT_AUTH
) -> grpc.ChannelCredentials:
    """What our CA would sign if somebody used it by hand, for purposes of their own."""
    ca, ca_key = load_ca(folder)
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([]))
        .issuer_name(ca.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(ca.not_valid_before_utc)
        .not_valid_after(ca.not_valid_after_utc)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.ExtendedKeyUsage([use]), critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    return grpc.ssl_channel_credentials(
        (folder / "ca.pem").read_bytes(),
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()),
        certificate.public_bytes(pem),
    )
