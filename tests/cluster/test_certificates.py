"""Certificates and the CA change on real nodes under load: no restart, no election, nothing lost or doubled."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import ssl
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, cast

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from parley_proto.v1 import admin_pb2, admin_pb2_grpc, peer_pb2
from parleyd.exits import ExitCode
from parleyd.security.certificate_files import write_ca
from scripts.cluster_local import LocalCluster
from tests.abuse.measure import term_of
from tests.cluster.conftest import FAST, PATIENT
from tests.cluster.daemon import parleyd
from tests.cluster.load import load
from tests.cluster.peer_caller import Caller, keys_count, node_ids, pair_of, peer_stub
from tests.cluster.raw import bodies, raw_client, refused, until_true

Fresh = Callable[[str], str]


async def presented_at(address: str) -> bytes:
    """Return the certificate that a port presents to a new connection."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    host, _, port = address.rpartition(":")
    _, writer = await asyncio.open_connection(host, int(port), ssl=context)
    presented: bytes = writer.get_extra_info("ssl_object").getpeercert(True)
    writer.close()
    return presented


def certificate_of(cluster: LocalCluster, name: str) -> bytes:
    file = cluster.layout.folder(name) / "node.pem"
    return x509.load_pem_x509_certificate(file.read_bytes()).public_bytes(Encoding.DER)


async def renew(cluster: LocalCluster, names: Sequence[str], *arguments: str) -> None:
    files = [str(cluster.layout.folder(name) / "node.pem") for name in names]
    ended = await parleyd("cert", "renew", *files, *arguments)
    assert ended.code == ExitCode.OK, ended.output


def reloads(cluster: LocalCluster, name: str) -> int:
    return cluster.log_text(name).count("certificate_reloaded")


async def reloaded(cluster: LocalCluster, times: int, *names: str) -> None:
    """Wait until these nodes have taken over something so often, without being asked."""
    await cluster.wait_until(
        lambda: all(reloads(cluster, name) == times for name in names or cluster.names),
        f"{', '.join(names or cluster.names)} to take over the files",
        30,
    )


@pytest.mark.campaign
async def test_renewed_certificates_and_a_new_ca_are_taken_over_by_running_nodes_under_load(
    tmp_path: Path, fresh: Fresh
) -> None:
    async with LocalCluster(tmp_path, settings={**FAST, **PATIENT}) as own, raw_client(own, "n1") as raw:
        ann_name, ben_name = fresh("ann"), fresh("ben")
        for name in (ann_name, ben_name):
            await raw.register(name)
        ann, ben = await raw.log_in(ann_name), await raw.log_in(ben_name)
        pids, term = [own.pid(name) for name in own.names], await term_of(own)
        async with load(own, ann, ben_name) as sending:
            await sending.until(20)

            # The same key, on all nodes at once.
            before = [certificate_of(own, name) for name in own.names]
            await renew(own, own.names, "--ca", str(tmp_path / "ca"))
            await reloaded(own, 1)
            for name, old in zip(own.names, before, strict=True):
                node, new = own.layout.node(name), certificate_of(own, name)
                assert new != old
                assert await presented_at(node.client_address) == new
                assert await presented_at(node.peer_address) == new
            await sending.until(20)

            # The CA, in three steps. All nodes and clients have one ca.pem here.
            old_ca, new_ca = tmp_path / "ca" / "ca.pem", tmp_path / "new"
            write_ca(new_ca)
            only_old = old_ca.read_bytes()
            (tmp_path / "both").write_bytes(only_old + (new_ca / "ca.pem").read_bytes())
            shutil.copy(tmp_path / "both", old_ca)
            await reloaded(own, 2)
            await renew(own, own.names, "--ca", str(new_ca), "--signed-by", str(old_ca))
            await reloaded(own, 3)
            shutil.copy(new_ca / "ca.pem", old_ca)
            await reloaded(own, 4)
            await sending.until(20)
            assert [own.pid(name) for name in own.names] == pids, "no node was restarted"
            assert await term_of(own) == term, "no election"

            credentials = grpc.ssl_channel_credentials(only_old)
            async with grpc.aio.secure_channel(own.hosts[0], credentials) as channel:
                code, _ = await refused(
                    admin_pb2_grpc.AdminStub(channel).GetStatus(admin_pb2.GetStatusRequest(), timeout=10)
                )
            assert code is grpc.StatusCode.UNAVAILABLE, "who has only the old CA is out"

            # New connections between the nodes, in both directions. Who watches this cluster has only the old CA.
            assert await own.stop("n3") == ExitCode.OK
            own.start("n3")
            await until_true(lambda: check_serving(own, "n3"))
            await sending.until(20)
        async with raw_client(own, "n3") as other:
            seen = bodies(await other.history(ben, ann_name))
        sent = sending.acknowledged
        assert seen[:sent] == [f"message {number}" for number in range(1, sent + 1)]
        assert len(seen) <= sent + 1, "one send may have been stored whose answer the load did not wait for"


async def check_serving(cluster: LocalCluster, name: str) -> None:
    async with raw_client(cluster, name) as raw:
        status = await raw.admin.GetStatus(admin_pb2.GetStatusRequest(), timeout=2)
    assert status.serving
    assert all(member.connected for member in status.members)


async def test_a_wrong_certificate_is_refused_by_a_running_node_which_says_so_when_it_is_asked(tmp_path: Path) -> None:
    async with LocalCluster(tmp_path, nodes=1, settings=FAST) as own:
        folder, before = own.layout.folder("n1"), certificate_of(own, "n1")
        write_ca(tmp_path / "foreign")
        await renew(own, ["n1"], "--ca", str(tmp_path / "foreign"), "--signed-by", str(own.ca_file))
        os.kill(own.pid("n1"), signal.SIGHUP)
        await own.wait_until(lambda: "certificate_not_reloaded" in own.log_text("n1"), "the refusal")
        assert "was not signed by" in own.log_text("n1")
        assert await presented_at(own.address("n1")) == before
        await renew(own, ["n1"], "--ca", str(tmp_path / "ca"), "--signed-by", str(tmp_path / "foreign" / "ca.pem"))
        os.kill(own.pid("n1"), signal.SIGHUP)
        await reloaded(own, 1)
        assert await presented_at(own.address("n1")) == certificate_of(own, "n1") != before

        # So is a new key, and the mode of its file is kept.
        await renew(own, ["n1"], "--ca", str(tmp_path / "ca"), "--new-key")
        assert (folder / "node.key").stat().st_mode & 0o077 == 0
        os.kill(own.pid("n1"), signal.SIGHUP)
        await own.wait_until(lambda: "key_changed" in own.log_text("n1"), "the new key")
        assert await presented_at(own.address("n1")) == certificate_of(own, "n1")


@pytest.mark.campaign
async def test_all_nodes_take_new_keys_under_load_without_a_restart_and_refuse_the_old_ones(
    tmp_path: Path, fresh: Fresh
) -> None:
    async with LocalCluster(tmp_path, settings={**FAST, **PATIENT}) as own, raw_client(own, "n1") as raw:
        await until_true(partial(keys_count, own))
        ann_name, ben_name = fresh("ann"), fresh("ben")
        for name in (ann_name, ben_name):
            await raw.register(name)
        ann, ben = await raw.log_in(ann_name), await raw.log_in(ben_name)
        pids, term, ids = [own.pid(name) for name in own.names], await term_of(own), await node_ids(own, "n1")
        async with load(own, ann, ben_name) as sending:
            await sending.until(20)
            for number, name in enumerate(own.names, start=1):
                thief = Caller(ids[name], name, pair_of(own.layout, name))
                await renew(own, [name], "--ca", str(tmp_path / "ca"), "--new-key")
                os.kill(own.pid(name), signal.SIGHUP)
                await own.wait_until(lambda named=name: "key_changed" in own.log_text(named), f"the key of {name}", 30)  # type: ignore[misc]
                assert await presented_at(own.layout.node(name).peer_address) == certificate_of(own, name)
                await until_true(partial(is_refused, own, own.others(name)[0], thief))
                await sending.until(20 * (number + 1))
                await until_true(partial(check_serving, own, name))
        assert [own.pid(name) for name in own.names] == pids, "no node was restarted"
        assert await term_of(own) == term, "no election"
        seen = bodies(await raw.history(ben, ann_name))
        sent = sending.acknowledged
        assert seen[:sent] == [f"message {number}" for number in range(1, sent + 1)]
        assert len(seen) <= sent + 1


async def is_refused(cluster: LocalCluster, node: str, thief: Caller) -> None:
    """A node takes no call of a key that its owner has replaced."""
    async with peer_stub(cluster, node, thief) as (stub, metadata):
        with pytest.raises(grpc.aio.AioRpcError, match="the cluster refuses this key"):
            await cast("Any", stub).DescribeMember(
                peer_pb2.DescribeMemberRequest(), metadata=metadata, wait_for_ready=True, timeout=10
            )
