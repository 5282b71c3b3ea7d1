"""A whole node in this process tells the truth about itself, from its start to its end."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
import threading
import time
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from cryptography import x509
from grpc_health.v1 import health_pb2, health_pb2_grpc

from parleyd import monitoring
from parleyd.exits import ExitCode, FatalError
from parleyd.group.runner import GroupRunner
from parleyd.http.catalogue import METRICS, Kind, Metric
from parleyd.http.health import Phase
from parleyd.life import Life
from parleyd.security.certificate_files import load_certificates, write_ca, write_node
from parleyd.security.http_tls import HttpTls
from parleyd.settings.table import Settings
from parleyd.status_publisher import StatusPublisher
from tests.support.pages import Client, ask, families_of, values_of
from tests.support.ports import free_ports
from tests.support.raw import until_so, until_true
from tests.unit.http.ready_files import named_in_ready_files
from tests.unit.http.whole_node import running, settings_in, until_ready


@pytest.fixture
def certificates(tmp_path: Path) -> dict[str, object]:
    """The settings of a node with TLS."""
    write_ca(tmp_path)
    write_node(tmp_path, tmp_path, "n1", ["localhost", "127.0.0.1"])
    files = {"ca_file": "ca.pem", "cert_file": "n1.pem", "key_file": "n1.key"}
    return {"insecure": False, **{setting: tmp_path / name for setting, name in files.items()}}


async def call(settings: Settings) -> None:
    """Make a call that counts."""
    assert settings.ca_file is not None
    credentials = grpc.ssl_channel_credentials(settings.ca_file.read_bytes())
    async with grpc.aio.secure_channel(settings.client_listen, credentials) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        await stub.Check(health_pb2.HealthCheckRequest())


async def test_a_node_tells_every_metric_of_the_catalogue_in_both_formats(
    tmp_path: Path, certificates: dict[str, object]
) -> None:
    settings = settings_in(tmp_path / "data", **certificates)
    async with running(settings):
        await until_ready(settings)
        await call(settings)
        text = (await ask(settings.http_listen, "/metrics")).body.decode()
        openmetrics = await ask(settings.http_listen, "/metrics", "Accept: application/openmetrics-text;version=1.0.0")
    assert openmetrics.headers["content-type"].startswith("application/openmetrics-text")
    values = values_of(text)
    names = {name for name, _ in values}
    assert {name for name in METRICS if {name, f"{name}_count"} & names} == METRICS.keys()
    assert names == {sample for row in METRICS.values() for sample in samples_of(row)}
    assert named_in_ready_files() <= names
    check_method = (("code", "OK"), ("method", "/grpc.health.v1.Health/Check"))
    assert values["parley_calls_total", check_method] == 1
    left_s = values["parley_certificate_expiry_timestamp_seconds", (("certificate", "node"),)] - time.time()
    assert 800 * 86_400 < left_s < 900 * 86_400
    families = {family.name: family for family in families_of(openmetrics.body.decode())}
    assert families["parley_raft_elections"].type == "counter"
    assert families["parley_log_write_seconds"].type == "histogram"
    assert families["parley_build"].type == "info"
    assert values["parley_raft_is_leader", ()] == 1
    assert values["parley_raft_role", (("role", "leader"),)] == 1
    assert values["parley_raft_leaderships_total", ()] == 1
    assert values["parley_raft_leader", (("member", "n1"),)] == 1
    assert values["parley_member_lag_entries", (("member", "n1"),)] == 0
    assert values["parley_node_ready", ()] == 1
    assert values["parley_node_phase", (("phase", "serving"),)] == 1
    assert values["parley_log_write_seconds_count", ()] >= 1
    assert values["parley_disk_free_bytes", ()] > 0
    assert values["process_open_fds", ()] > 3
    assert 10_000 < len(text) < 64_000


def samples_of(row: Metric) -> list[str]:
    """The names of the samples of a metric."""
    if row.kind is not Kind.HISTOGRAM:
        return [row.name]
    return [f"{row.name}_{part}" for part in ("bucket", "sum", "count")]


async def shown_by(settings: Settings) -> int:
    """The serial number of the certificate that the pages are served with, after one answer."""
    host, _, port = settings.http_listen.rpartition(":")
    tls = ssl.create_default_context(cafile=settings.ca_file)
    client = Client(*await asyncio.open_connection(host, int(port), ssl=tls))
    try:
        assert (await client.ask("/healthz")).status == 200
        shown: bytes = client.writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        return x509.load_der_x509_certificate(shown).serial_number
    finally:
        await client.close()


async def test_pages_are_served_with_the_own_certificate_and_later_with_its_renewal_but_with_no_broken_one(
    tmp_path: Path, certificates: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(monitoring, "LOOK_EVERY_S", 0.01)
    own = tmp_path / "own"
    write_node(own, tmp_path, "web", ["127.0.0.1"])
    pair = {"http_cert_file": own / "web.pem", "http_key_file": own / "web.key"}
    settings = settings_in(tmp_path / "data", **certificates, **pair)
    first = load_certificates(own / "web.pem")[0].serial_number

    async def told() -> None:
        assert await shown_by(settings) == load_certificates(own / "web.pem")[0].serial_number

    async with running(settings):
        await asyncio.sleep(0)  # from its first step on the node listens
        await until_true(told)
        text = (own / "web.pem").read_text()
        (own / "web.pem").write_text("broken")
        for _ in range(20):
            assert await shown_by(settings) == first
        (own / "web.pem").write_text(text)
        write_node(own, tmp_path, "web", ["127.0.0.1"], force=True)
        await until_true(told)
        assert await shown_by(settings) != first


async def test_files_on_a_disk_that_hangs_stop_no_more_than_a_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[int] = []

    def noting(_: HttpTls) -> str:
        looks.append(threading.get_ident())
        return ""

    monkeypatch.setattr(monitoring, "LOOK_EVERY_S", 0.01)
    monkeypatch.setattr(HttpTls, "look", noting)
    async with running(settings_in(tmp_path)):
        await until_so(lambda: bool(looks))
    assert threading.get_ident() not in looks


async def test_a_node_without_its_cluster_lives_and_is_not_ready(tmp_path: Path) -> None:
    peer, absent = free_ports(2)
    address = f"127.0.0.1:{peer}"
    settings = settings_in(tmp_path, peer_listen=address, peers={"n1": address, "n2": f"127.0.0.1:{absent}"})
    async with running(settings) as stop, asyncio.timeout(60):
        while True:
            try:
                ready = await ask(settings.http_listen, "/readyz")
                break
            except OSError:
                await asyncio.sleep(0)
        assert ready.status == 503
        assert "waits for the other first members" in json.loads(ready.body)["reasons"][0]
        assert (await ask(settings.http_listen, "/healthz")).status == 200
        values = values_of((await ask(settings.http_listen, "/metrics")).body.decode())
        assert values["parley_node_phase", (("phase", "entering"),)] == 1
        assert values["parley_node_ready", ()] == 0
        stop.end()


async def test_a_member_that_starts_again_never_says_that_it_waits_for_a_cluster(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its pages are there before its log is read, and said that it was in no cluster."""
    begun: list[tuple[Phase, str]] = []

    class Noted(Life):
        def __init__(self, *given: str) -> None:
            super().__init__(*given)
            begun.append((self.phase, self.cluster_id))

    monkeypatch.setattr("parleyd.node.Life", Noted)
    settings = settings_in(tmp_path)
    for _ in range(2):
        async with running(settings):
            await until_ready(settings)
    (first, nothing), (second, cluster) = begun
    assert (first, nothing) == (Phase.ENTERING, "")
    assert second is Phase.STARTING
    assert cluster


async def test_a_node_whose_work_ended_with_an_error_says_that_it_has_to_be_restarted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken, may_end = asyncio.Event(), asyncio.Event()
    close = GroupRunner.close

    async def fail(_: StatusPublisher) -> None:
        await broken.wait()
        raise RuntimeError("broken")

    async def close_late(runner: GroupRunner) -> None:
        await may_end.wait()
        await close(runner)

    monkeypatch.setattr(StatusPublisher, "run", fail)
    monkeypatch.setattr(GroupRunner, "close", close_late)
    settings = settings_in(tmp_path)

    async def watch() -> None:
        async with running(settings):
            try:
                await until_ready(settings)
                broken.set()
                await until_true(told, timeout_s=60)
            finally:
                may_end.set()

    async def told() -> None:
        health = await ask(settings.http_listen, "/healthz")
        assert health.status == 503
        assert "Restart the process" in json.loads(health.body)["reasons"][0]
        assert (await ask(settings.http_listen, "/readyz")).status == 503
        values = values_of((await ask(settings.http_listen, "/metrics")).body.decode())
        assert values["parley_node_phase", (("phase", "failed"),)] == 1

    with pytest.raises(ExceptionGroup):
        await watch()


async def test_a_taken_port_stops_the_start_with_a_text_that_names_the_setting(tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    with socket.socket() as other:
        host, _, port = settings.http_listen.rpartition(":")
        other.bind((host, int(port)))
        other.listen()
        with pytest.raises(FatalError, match=f"http_listen: {settings.http_listen} cannot be listened on") as ended:
            async with running(settings):
                pass
    assert ended.value.exit_code is ExitCode.ADDRESS


async def test_without_the_setting_nothing_is_served(tmp_path: Path) -> None:
    settings = settings_in(tmp_path, http_listen="")
    assert settings.http_listen == ""
    async with running(settings):
        pass


async def test_the_address_is_free_again_after_a_stop(tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    for _ in range(2):
        async with running(settings):
            await until_ready(settings)
    with pytest.raises(OSError, match=r"refused|Connect"):
        await ask(settings.http_listen, "/healthz")
