"""A running node takes over changed certificates, and goes on with the present ones where they have a fault."""

from __future__ import annotations

import asyncio
import datetime
import shutil
import ssl
from collections.abc import AsyncIterator, Callable, MutableMapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from structlog.testing import capture_logs

from parleyd.security.certificate_checks import CertificateFiles
from parleyd.security.certificate_files import load_ca, write_ca, write_node
from parleyd.security.certificates import issue_node_certificate, renew_node_certificate
from parleyd.security.node_certificates import WARN_EVERY, NodeCertificates
from parleyd.security.tls import (
    client_server_credentials,
    peer_channel_credentials,
    peer_channel_options,
    peer_server_credentials,
)
from tests.unit.security.test_tls import ask, refusal, serving

NOW = datetime.datetime.now(datetime.UTC)
DAY = datetime.timedelta(days=1)


class Machine:
    """The files of node n1, and the clock."""

    def __init__(self, folder: Path, ca: Path, name: str = "n1") -> None:
        folder.mkdir()
        self.files = CertificateFiles(folder / "ca.pem", folder / f"{name}.pem", folder / f"{name}.key")
        shutil.copy(ca / "ca.pem", self.files.ca)
        for file in (self.files.certificate, self.files.key):
            shutil.copy(ca / file.name, file)
        self.ca, self.name, self.now = ca, name, NOW

    def node(self) -> NodeCertificates:
        return NodeCertificates(self.name, self.files, advertised=["127.0.0.1:1"], now=lambda: self.now)

    def renew(self, ca: Path | None = None, *, days: int = 900) -> None:
        """Put a certificate for the same key."""
        old = x509.load_pem_x509_certificate(self.files.certificate.read_bytes())
        certificate, key = load_ca(ca or self.ca)
        renewed = renew_node_certificate(certificate, key, old, days=days, now=NOW)
        self.files.certificate.write_bytes(renewed.certificate_pem)


@pytest.fixture
def machine(tmp_path: Path, certificates: Path) -> Machine:
    return Machine(tmp_path / "n1", certificates / "ours")


def looked(node: NodeCertificates, *, asked: bool = False) -> list[MutableMapping[str, Any]]:
    with capture_logs() as logs:
        node.look(asked=asked)
    return logs


def test_a_renewed_certificate_is_taken_over_and_logged_with_last_day_and_digest(machine: Machine) -> None:
    node = machine.node()
    assert looked(node) == []
    machine.renew()
    [event] = looked(node)
    assert event["event"] == "certificate_reloaded"
    assert event["expires"] == f"{NOW + 900 * DAY:%Y-%m-%d}"
    assert len(event["sha256"]) == 64
    assert node.current.certificate == machine.files.certificate.read_bytes()
    assert looked(node) == [], "it is told once"


def refused(machine: Machine, node: NodeCertificates) -> str:
    """Return the reason, which is logged at the second look."""
    before = node.current
    assert looked(node) == [], "the first look may find the files half-way through a renewal"
    [event] = looked(node)
    assert event["event"] == "certificate_not_reloaded"
    assert looked(node) == [], "the same fault is not logged at each look"
    assert node.current is before
    reason: str = event["reason"]
    return reason


def test_a_certificate_of_another_key_file_is_refused(machine: Machine, certificates: Path) -> None:
    node = machine.node()
    shutil.copy(certificates / "ours" / "n2.key", machine.files.key)
    assert "is not the key of" in refused(machine, node)


def test_a_certificate_of_another_node_is_refused(machine: Machine, certificates: Path) -> None:
    node = machine.node()
    shutil.copy(certificates / "ours" / "n2.key", machine.files.key)
    shutil.copy(certificates / "ours" / "n2.pem", machine.files.certificate)
    assert "is the certificate of node n2" in refused(machine, node)


def test_a_certificate_of_another_ca_is_refused(machine: Machine, certificates: Path) -> None:
    node = machine.node()
    machine.renew(certificates / "foreign")
    assert "was not signed by" in refused(machine, node)


def test_a_certificate_that_has_expired_is_refused(machine: Machine) -> None:
    node = machine.node()
    machine.renew(days=3)
    machine.now += 4 * DAY
    assert "expired" in refused(machine, node)


def test_a_file_that_is_missing_or_cut_off_is_refused(machine: Machine) -> None:
    node = machine.node()
    whole = machine.files.certificate.read_bytes()
    machine.files.certificate.write_bytes(whole[:200])
    assert "not a certificate in PEM form" in refused(machine, node)
    machine.files.certificate.unlink()
    assert "cannot be read" in refused(machine, node)
    machine.files.certificate.write_bytes(whole)
    assert looked(node) == []


def with_new_key(machine: Machine) -> None:
    certificate, key = load_ca(machine.ca)
    issued = issue_node_certificate(certificate, key, "n1", ["127.0.0.1"])
    machine.files.key.write_bytes(issued.key_pem)
    machine.files.certificate.write_bytes(issued.certificate_pem)


def test_a_node_that_does_not_serve_takes_a_new_key_at_its_start_and_the_text_says_so(machine: Machine) -> None:
    node = machine.node()
    digest = node.key_digest
    with node.taking_keys(lambda _: "", lambda: None):
        pass
    with_new_key(machine)
    assert "restart this node" in refused(machine, node)
    assert node.key_digest == digest, "the cluster knows the node by this key"
    assert machine.node().key_digest != digest, "a start takes it"


def test_a_new_key_is_taken_over_if_it_is_permitted_and_told_once(machine: Machine) -> None:
    node, told = machine.node(), []
    asked: list[frozenset[bytes]] = []

    def why_not(digests: frozenset[bytes]) -> str:
        asked.append(digests)
        return ""

    with node.taking_keys(why_not, lambda: told.append(node.key_digest)):
        machine.renew()
        assert [event["new_key"] for event in looked(node)] == [False]
        assert (asked, told) == ([], []), "it is the same key"
        with_new_key(machine)
        assert [event["new_key"] for event in looked(node)] == [True]
        assert looked(node) == []
    new = machine.node()
    assert told == [new.key_digest] == [node.key_digest]
    assert asked == [{new.key_digest, new.digest}]


def test_a_new_key_that_the_cluster_refuses_is_not_taken_over(machine: Machine) -> None:
    node, told = machine.node(), []
    with node.taking_keys(lambda _: "it was revoked", lambda: told.append(1)):
        with_new_key(machine)
        assert "has a new key, and it was revoked" in refused(machine, node)
    assert not told


def test_a_whole_other_cluster_is_refused_even_for_the_same_key(machine: Machine, certificates: Path) -> None:
    node = machine.node()
    shutil.copy(certificates / "foreign" / "ca.pem", machine.files.ca)
    machine.renew(certificates / "foreign")
    assert "has none of the CAs that this node trusts" in refused(machine, node)


def test_files_that_are_half_new_for_a_moment_are_taken_over_without_an_error(
    machine: Machine, certificates: Path
) -> None:
    node = machine.node()
    own = machine.files.key.read_bytes()
    shutil.copy(certificates / "ours" / "n2.key", machine.files.key)
    assert looked(node) == []
    machine.files.key.write_bytes(own)
    machine.renew()
    assert [event["event"] for event in looked(node)] == ["certificate_reloaded"]


def test_whoever_asks_gets_an_answer_at_once(machine: Machine, certificates: Path) -> None:
    node = machine.node()
    assert [event["event"] for event in looked(node, asked=True)] == ["certificate_unchanged"]
    shutil.copy(certificates / "ours" / "n2.key", machine.files.key)
    for _ in range(2):
        assert [event["event"] for event in looked(node, asked=True)] == ["certificate_not_reloaded"]


def test_a_fault_that_stays_is_logged_once_a_day(machine: Machine) -> None:
    node = machine.node()
    machine.files.key.unlink()
    refused(machine, node)
    machine.now += WARN_EVERY
    assert [event["event"] for event in looked(node)] == ["certificate_not_reloaded"]
    assert looked(node) == []


def test_a_running_node_warns_daily_from_30_days_before_the_end_and_after_it(machine: Machine) -> None:
    machine.renew(days=32)
    node = machine.node()
    machine.now += DAY
    assert looked(node) == [], "31 days are left"
    machine.now += DAY + datetime.timedelta(minutes=1)
    [event] = looked(node)
    assert (event["event"], "in 29 days" in event["detail"]) == ("certificate_warning", True)
    assert looked(node) == [], "once a day"
    machine.now += DAY
    assert "in 28 days" in looked(node)[0]["detail"]
    machine.now += 40 * DAY
    assert "no new connection with this node succeeds" in looked(node)[0]["detail"]
    machine.now = NOW + 2 * DAY
    machine.renew()
    assert [event["event"] for event in looked(node)] == ["certificate_reloaded"]
    machine.now += 40 * DAY
    assert looked(node) == []


async def test_the_files_are_looked_at_when_somebody_asks(machine: Machine) -> None:
    node, asked = machine.node(), asyncio.Event()
    before = node.current
    with capture_logs():
        running = asyncio.create_task(node.run(asked))
        machine.renew()
        asked.set()
        async with asyncio.timeout(4):
            while node.current is before:  # noqa: ASYNC110 - the work of a thread
                await asyncio.sleep(0)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


# ---- connections


@asynccontextmanager
async def open_connection(
    address: str, credentials: grpc.ChannelCredentials | None
) -> AsyncIterator[grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]]:
    assert credentials is not None
    async with grpc.aio.secure_channel(address, credentials, options=peer_channel_options("n1")) as channel:
        yield channel.unary_unary("/parley.test.Who/AmI")


async def presented_by(address: str) -> bytes:
    """Return the certificate that a server presents to a new connection, without asking who signed it."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    host, _, port = address.rpartition(":")
    _, writer = await asyncio.open_connection(host, int(port), ssl=context)
    presented: bytes = writer.get_extra_info("ssl_object").getpeercert(True)
    writer.close()
    return presented


def certificate_in(file: Path) -> bytes:
    return x509.load_pem_x509_certificate(file.read_bytes()).public_bytes(Encoding.DER)


async def test_new_connections_get_the_renewed_certificate_and_open_ones_go_on(machine: Machine) -> None:
    node = machine.node()
    async with (
        serving(client_server_credentials(node)) as address,
        open_connection(address, peer_channel_credentials(node)) as call,
    ):
        await call(b"", timeout=10)
        old = certificate_in(machine.files.certificate)
        assert await presented_by(address) == old
        machine.renew()
        looked(node)
        assert await presented_by(address) == certificate_in(machine.files.certificate) != old
        await call(b"", timeout=10)


async def test_the_ca_changes_in_three_steps_and_each_pair_of_neighbours_understands_each_other(
    tmp_path: Path, certificates: Path
) -> None:
    old, new, both = certificates / "ours", tmp_path / "new", tmp_path / "both.pem"
    write_ca(new)
    both.write_bytes((old / "ca.pem").read_bytes() + (new / "ca.pem").read_bytes())
    called, caller = Machine(tmp_path / "n1", old), Machine(tmp_path / "n2", old, "n2")
    nodes = {machine: machine.node() for machine in (called, caller)}
    steps: tuple[Callable[[Machine], object], ...] = (
        lambda machine: shutil.copy(both, machine.files.ca),
        lambda machine: machine.renew(new),
        lambda machine: shutil.copy(new / "ca.pem", machine.files.ca),
    )
    async with serving(peer_server_credentials(nodes[called])) as address:

        async def understood() -> bool:
            return await ask(address, peer_channel_credentials(nodes[caller]), peer_channel_options("n1")) == b"n2"

        before = peer_channel_credentials(nodes[caller])
        assert await understood()
        for step in steps:
            for machine in (called, caller):
                step(machine)
                assert [event["event"] for event in looked(nodes[machine])] == ["certificate_reloaded"]
                assert await understood()
        await refusal(address, before, peer_channel_options("n1"))


async def test_a_refused_certificate_reaches_no_connection(machine: Machine, certificates: Path) -> None:
    node = machine.node()
    async with serving(peer_server_credentials(node)) as address:
        machine.renew(certificates / "foreign")
        refused(machine, node)
        other = Machine(machine.files.ca.parent / "n2", certificates / "ours", "n2").node()
        assert await ask(address, peer_channel_credentials(other), peer_channel_options("n1")) == b"n2"


def test_write_node_still_makes_what_a_node_reads(tmp_path: Path) -> None:
    write_ca(tmp_path)
    write_node(tmp_path, tmp_path, "n1", ["127.0.0.1"])
    node = NodeCertificates("n1", CertificateFiles(tmp_path / "ca.pem", tmp_path / "n1.pem", tmp_path / "n1.key"))
    assert looked(node) == []
