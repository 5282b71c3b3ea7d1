"""The image and the compose file agree with the checkout, the settings files and each other."""

from __future__ import annotations

import http.server
import shlex
import shutil
import socket
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from parleyd.open_files import RESERVED_FILES
from parleyd.settings.load import load_settings
from parleyd.settings.table import Settings
from scripts.cluster_process import ROOT
from scripts.deploy.healthcheck import check
from tests.unit.deploy.files import CERTIFICATES, DEPLOY, NAMES, settings_of

DOCKERFILE = (DEPLOY / "Dockerfile").read_text()
COMPOSE: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())


def instructions() -> list[tuple[str, list[str]]]:
    """Return the instructions of the Dockerfile and their words."""
    text = "\n".join(line for line in DOCKERFILE.splitlines() if not line.startswith("#")).replace("\\\n", " ")
    lines = [line.split(maxsplit=1) for line in text.splitlines() if line.strip()]
    return [(name, shlex.split(rest)) for name, rest in lines]


def copied() -> list[str]:
    """Return what the image takes from the checkout."""
    words = [words for name, words in instructions() if name == "COPY" and not words[0].startswith("--from")]
    return [source for sources in words for source in sources[:-1]]


def of_last_stage(wanted: str) -> list[str]:
    """Return the words of an instruction that counts for the finished image."""
    last = max(position for position, (name, _) in enumerate(instructions()) if name == "FROM")
    (words,) = [words for name, words in instructions()[last:] if name == wanted]
    return words


# ---- the image


def test_the_image_installs_only_what_the_lock_pins() -> None:
    installs = [" ".join(words) for name, words in instructions() if name == "RUN" and "pip" in words]
    assert len(installs) == 2
    assert "--require-hashes" in installs[0]
    assert "-r requirements.lock" in installs[0]
    assert installs[1].count("--no-index") == installs[1].count("--no-deps") == installs[1].count("pip ") == 2


def test_the_image_runs_as_nobody_special_and_keeps_its_data_in_a_volume() -> None:
    user = of_last_stage("USER")[0]
    assert user.split(":")[0].isdigit()
    assert int(user.split(":")[0]) > 0
    assert of_last_stage("VOLUME") == [str(settings_of("alpha").data_dir)]
    assert of_last_stage("STOPSIGNAL") == ["SIGTERM"]
    ports = {address.rpartition(":")[2] for address in (settings_of("alpha").client_listen, "alpha:7700")}
    assert set(of_last_stage("EXPOSE")) == ports


def test_the_wheel_can_be_made_of_what_the_image_copies(tmp_path: Path) -> None:
    for source in copied():
        assert (ROOT / source).exists(), source
        if source.startswith("scripts"):
            continue
        if (ROOT / source).is_dir():
            shutil.copytree(
                ROOT / source, tmp_path / source, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info")
            )
        else:
            shutil.copy(ROOT / source, tmp_path / source)
    made = [sys.executable, "-m", "pip", "wheel", "-q", "--no-index", "--no-deps", "--no-build-isolation"]
    done = subprocess.run(
        [*made, "--wheel-dir", "dist", "."], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=110
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert {"parleyd/cli.py", "parleyd/settings/table.py", "parley_proto/v1/peer_pb2.py"} <= set(names)
    assert any(name.endswith("entry_points.txt") for name in names)


def test_the_build_sees_what_it_copies_and_no_keys() -> None:
    lines = (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines()
    shown = {line[1:] for line in lines if line.startswith("!")}
    assert "*" in lines
    assert shown == set(copied())


# ---- the compose file


def in_container(name: str) -> Settings:
    """Return the settings of a node in its container."""
    return settings_of(name, COMPOSE["services"][name]["environment"])


def mounts(service: str) -> dict[str, str]:
    """Return what stands in each folder of a container."""
    return {entry.split(":")[1]: entry.split(":")[0] for entry in COMPOSE["services"][service]["volumes"]}


@pytest.mark.parametrize("name", NAMES)
def test_the_files_of_a_container_are_where_its_settings_say(name: str) -> None:
    settings, mounted = in_container(name), mounts(name)
    assert mounted[str(settings.data_dir)] == f"{name}-data"
    assert mounted["/etc/parley/node.toml"] == f"./{name}.toml"
    assert "PARLEYD_CONFIG=/etc/parley/node.toml" in of_last_stage("ENV")
    given = COMPOSE["services"][name]["environment"]
    for setting, file in (("CA_FILE", "ca.pem"), ("CERT_FILE", f"{name}.pem"), ("KEY_FILE", f"{name}.key")):
        assert given[f"PARLEYD_{setting}"] == f"{CERTIFICATES}/{file}"
    assert mounted[CERTIFICATES] == f"{name}-certificates"
    assert mounts("certificates")[f"/srv/certificates/{name}"] == f"{name}-certificates"
    assert "ca" not in mounted.values(), "a node has no use for the key of the CA"


@pytest.mark.parametrize("name", NAMES)
def test_clients_of_this_machine_reach_a_container_at_the_address_that_it_tells(name: str) -> None:
    service, settings = COMPOSE["services"][name], in_container(name)
    (published,) = service["ports"]
    outside, inside = published.removeprefix("127.0.0.1:").split(":")
    assert settings.client_advertise == f"localhost:{outside}"
    assert settings.client_listen.endswith(f":{inside}")
    assert service["hostname"] == name == settings.peers[name].split(":")[0]


@pytest.mark.parametrize("name", NAMES)
def test_a_container_may_do_little_and_has_time_to_stop(name: str) -> None:
    service, settings = COMPOSE["services"][name], in_container(name)
    assert (service["read_only"], service["cap_drop"]) == (True, ["ALL"])
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert int(service["stop_grace_period"].removesuffix("s")) >= 2 * settings.shutdown_grace_s
    assert service["ulimits"]["nofile"] >= settings.max_connections + RESERVED_FILES
    assert service["depends_on"]["certificates"]["condition"] == "service_completed_successfully"
    assert (service["pull_policy"], service["build"]["dockerfile"]) == ("build", "scripts/deploy/Dockerfile")
    assert (DEPLOY / service["build"]["context"]).resolve() == ROOT


def test_every_volume_is_declared_and_used() -> None:
    used = {source for name in COMPOSE["services"] for source in mounts(name).values() if not source.startswith(".")}
    assert used == set(COMPOSE["volumes"])
    local = {source for name in COMPOSE["services"] for source in mounts(name).values() if source.startswith(".")}
    assert all((DEPLOY / source).is_file() for source in local)


def test_a_container_makes_its_certificates_with_the_script_that_it_is_given() -> None:
    service = COMPOSE["services"]["certificates"]
    shell, script, folder = service["entrypoint"]
    assert (shell, mounts("certificates")[script]) == ("sh", "./certificates.sh")
    made = [words for name, words in instructions() if name == "RUN" and "groupadd" in words]
    for name in ("ca", *NAMES):
        assert f"{folder}/{name}" in mounts("certificates")
        assert name in (word.rstrip(";") for word in made[0])


# ---- the health check


@pytest.fixture
def page() -> Iterator[tuple[str, list[int]]]:
    """Serve /healthz with a status that the test sets."""
    statuses = [200]

    class Page(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(statuses[0] if self.path == "/healthz" else 404)
            self.end_headers()
            self.wfile.write(b"a reason")

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    with http.server.HTTPServer(("127.0.0.1", 0), Page) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"127.0.0.1:{server.server_port}", statuses
        server.shutdown()
        thread.join()


def node(**given: str) -> Settings:
    """Return settings of a node without more than these."""
    return load_settings({"name": "alpha", "data_dir": "data", "insecure": True, **given}, {}).settings


def test_the_health_check_believes_the_page(page: tuple[str, list[int]]) -> None:
    address, statuses = page
    assert check(node(http_listen=address)) == ""
    statuses[0] = 503
    assert check(node(http_listen=address)) == "a reason"


def test_the_health_check_takes_the_port_where_there_is_no_page() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        address = f"127.0.0.1:{listening.getsockname()[1]}"
        assert check(node(client_listen=address)) == ""
    assert "does not answer" in check(node(client_listen=address))
    assert "does not answer" in check(node(http_listen=address))


def test_the_health_check_asks_the_port_where_the_page_serves_tls(page: tuple[str, list[int]]) -> None:
    """On all addresses it has the node's certificate, unless the node has none."""
    address, statuses = page
    statuses[0] = 503
    everywhere = replace(node(), http_listen=f"0.0.0.0:{address.rpartition(':')[2]}")
    assert check(everywhere) == "a reason"
    assert check(replace(everywhere, insecure=False, cert_file=Path("n.pem"), key_file=Path("n.key"))) == ""


# ---- what Docker says to it


def docker(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command of Docker, or skip if there is none."""
    if shutil.which("docker") is None:
        pytest.skip("docker is not installed: Docker has not looked at the image or the compose file")
    return subprocess.run(["docker", *arguments], cwd=ROOT, capture_output=True, text=True, check=False, timeout=100)


def test_docker_compose_takes_the_file() -> None:
    if docker("compose", "version").returncode:
        pytest.skip("docker compose is not installed: it has not looked at the compose file")
    done = docker("compose", "-f", str(DEPLOY / "compose.yaml"), "config", "--quiet")
    assert done.returncode == 0, done.stderr


def test_docker_finds_no_fault_in_the_dockerfile() -> None:
    """The image is not made here: that needs an index of packages."""
    if docker("info").returncode or docker("buildx", "version").returncode:
        pytest.skip("no Docker daemon with buildx answers: Docker has not looked at the Dockerfile")
    done = docker("build", "--check", "-f", str(DEPLOY / "Dockerfile"), ".")
    if done.returncode and "resolve" in done.stderr:
        pytest.skip("Docker reaches no registry: it has not looked at the Dockerfile")
    assert done.returncode == 0, done.stdout + done.stderr
