"""Revoked certificates by the Admin service and by the command line.

What can go wrong: a certificate that a voter calls with is revoked although no majority stays; a name is taken for a
fingerprint; a wrong length is stored.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

import grpc
import grpc.aio
import pytest

from parley_proto.v1 import admin_pb2 as pb
from parley_proto.v1 import state_pb2
from parleyd.api.cluster_view import ClusterView
from parleyd.machine.levels import MAX_LEVEL
from parleyd.raft.types import NodeId
from tests.support.node import InProcessCluster, InProcessNode
from tests.support.raw import PASSWORD, Person, Raw, refused
from tests.unit.client.test_command import Parley

Code = grpc.StatusCode
KEYS = {"n1": b"1" * 32, "n2": b"2" * 32, "n3": b"3" * 32}
CERTIFICATE, STRANGE = b"c" * 32, b"s" * 32


@pytest.fixture
async def cluster(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[InProcessCluster]:
    """Three voters with keys. They have seen n3 call with a certificate."""
    cluster = InProcessCluster(tuple(KEYS))
    for has_keys in (False, True):
        for number, (name, key) in enumerate(KEYS.items(), start=1):
            published = state_pb2.PublishMember(node_id=number, name=name, min_level=1, max_level=MAX_LEVEL)
            published.key_digest = key if has_keys else b""
            cluster.apply_one(state_pb2.Command(publish_member=published))
        cluster.rise()
    view: property = vars(InProcessNode)["view"]
    seen: Mapping[NodeId, bytes] = {NodeId(3): CERTIFICATE}

    def seeing(node: InProcessNode) -> ClusterView:
        known: ClusterView = view.__get__(node)
        return replace(known, certificates=lambda: seen)

    monkeypatch.setattr(InProcessNode, "view", property(seeing))
    for node in cluster.nodes:
        await node.start()
    yield cluster
    await cluster.stop()


@pytest.fixture
async def raw(cluster: InProcessCluster) -> AsyncIterator[Raw]:
    """A client of one of them."""
    async with AsyncExitStack() as stack:
        yield Raw(await stack.enter_async_context(grpc.aio.insecure_channel(cluster.nodes[0].address)))


@pytest.fixture
async def admin(cluster: InProcessCluster, raw: Raw) -> Person:
    """The first account here is an administrator."""
    cluster.add_account("boss", PASSWORD)
    return await raw.log_in("boss")


async def revoked(raw: Raw, who: Person) -> list[tuple[bytes, str]]:
    answer = await raw.admin.ListRevokedCertificates(pb.ListRevokedCertificatesRequest(), metadata=who.metadata)
    assert all(row.revoked_at_ms for row in answer.certificates)
    return [(row.digest, row.node) for row in answer.certificates]


async def test_a_member_is_revoked_by_its_key_and_a_certificate_by_its_digest(raw: Raw, admin: Person) -> None:
    answer = await raw.admin.RevokeCertificate(pb.RevokeCertificateRequest(node="n2"), metadata=admin.metadata)
    assert (answer.digest, answer.node) == (KEYS["n2"], "n2")
    strange = await raw.admin.RevokeCertificate(pb.RevokeCertificateRequest(digest=STRANGE), metadata=admin.metadata)
    assert (strange.digest, strange.node) == (STRANGE, "")
    assert await revoked(raw, admin) == [(KEYS["n2"], "n2"), (STRANGE, "")]
    for _ in range(2):
        await raw.admin.RestoreCertificate(pb.RestoreCertificateRequest(digest=STRANGE), metadata=admin.metadata)
    assert await revoked(raw, admin) == [(KEYS["n2"], "n2")]


@pytest.mark.parametrize("digest", [KEYS["n3"], CERTIFICATE], ids=["key", "certificate that it calls with"])
async def test_what_leaves_no_majority_is_refused_with_the_names(raw: Raw, admin: Person, digest: bytes) -> None:
    await raw.admin.RevokeCertificate(pb.RevokeCertificateRequest(node="n2"), metadata=admin.metadata)
    code, text = await refused(
        raw.admin.RevokeCertificate(pb.RevokeCertificateRequest(digest=digest), metadata=admin.metadata)
    )
    assert code is Code.FAILED_PRECONDITION
    assert "n2, n3" in text
    assert "could not take it back. Nothing was changed" in text
    await raw.admin.RestoreCertificate(pb.RestoreCertificateRequest(digest=KEYS["n2"]), metadata=admin.metadata)
    await raw.admin.RevokeCertificate(pb.RevokeCertificateRequest(digest=digest), metadata=admin.metadata)
    assert await revoked(raw, admin) == [(digest, "n3")]


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        (pb.RevokeCertificateRequest(node="n9"), Code.NOT_FOUND),
        (pb.RevokeCertificateRequest(node="n 9"), Code.INVALID_ARGUMENT),
        (pb.RevokeCertificateRequest(), Code.INVALID_ARGUMENT),
        (pb.RevokeCertificateRequest(digest=b"k" * 31), Code.INVALID_ARGUMENT),
        (pb.RestoreCertificateRequest(digest=b"k" * 33), Code.INVALID_ARGUMENT),
    ],
    ids=["no member", "no name", "nothing", "short", "long"],
)
async def test_what_names_nothing_is_refused(raw: Raw, admin: Person, request_: object, code: Code) -> None:
    is_restore = isinstance(request_, pb.RestoreCertificateRequest)
    call = raw.admin.RestoreCertificate if is_restore else raw.admin.RevokeCertificate
    assert (await refused(call(request_, metadata=admin.metadata)))[0] is code  # type: ignore[arg-type]
    assert await revoked(raw, admin) == []


async def test_a_member_without_a_key_is_revoked_by_the_digest_of_its_certificate_only(
    cluster: InProcessCluster, raw: Raw, admin: Person
) -> None:
    cluster.rewrite(("DELETE FROM member_keys WHERE node_id = 2", ()))
    code, text = await refused(
        raw.admin.RevokeCertificate(pb.RevokeCertificateRequest(node="n2"), metadata=admin.metadata)
    )
    assert (code, "has published no key" in text) == (Code.FAILED_PRECONDITION, True)


async def test_only_administrators_revoke_and_accounts_may_read(
    cluster: InProcessCluster, raw: Raw, admin: Person
) -> None:
    cluster.add_account("ben", PASSWORD)
    ben = await raw.log_in("ben")
    index = cluster.index
    for call in (
        raw.admin.RevokeCertificate(pb.RevokeCertificateRequest(node="n2"), metadata=ben.metadata),
        raw.admin.RestoreCertificate(pb.RestoreCertificateRequest(digest=STRANGE), metadata=ben.metadata),
    ):
        assert (await refused(call))[0] is Code.PERMISSION_DENIED
    assert cluster.index == index
    assert await revoked(raw, ben) == []


async def test_an_administrator_revokes_lists_and_takes_back_from_the_command_line(
    cluster: InProcessCluster, tmp_path: Path
) -> None:
    cluster.add_account("boss", PASSWORD)
    boss = Parley(tmp_path / "boss", cluster)
    await boss("login", "boss", PARLEY_PASSWORD=PASSWORD)
    none = await boss("cluster", "revoked-certs")
    assert (none.code, none.out, "No certificate is revoked" in none.err) == (0, "", True)
    by_name = await boss("cluster", "revoke-cert", "n2")
    assert (by_name.code, "parleyd cert renew n2.pem --new-key" in by_name.err) == (0, True)
    assert (await boss("cluster", "revoke-cert", STRANGE.hex(":").upper())).code == 0
    listed = (await boss("cluster", "revoked-certs")).out.splitlines()
    assert [line.split()[0] for line in listed] == [KEYS["n2"].hex(), STRANGE.hex()]
    assert listed[0].endswith("  n2")
    assert '"node": "n2"' in (await boss("cluster", "revoked-certs", "--json")).out
    refused_ = await boss("cluster", "revoke-cert", "n3")
    assert "no majority" in refused_.err
    assert refused_.code != 0
    assert (await boss("cluster", "unrevoke-cert", "n2")).code != 0
    assert (await boss("cluster", "unrevoke-cert", KEYS["n2"].hex())).code == 0
    assert KEYS["n2"].hex() not in (await boss("cluster", "revoked-certs")).out
