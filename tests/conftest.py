"""What all tests share: their time limit, where cluster tests run, and that no test leaves a process behind."""

from __future__ import annotations

import os
import random
import signal
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from scripts.cluster_process import Processes
from tests.leftovers import MARK, end_processes
from tests.scheduling import LastingGroupScheduling
from tests.support.prefork import CLUSTER_COMMANDS, COMMANDS, NODES
from tests.time_limit import TimeLimit

ROOT = Path(__file__).resolve().parent.parent
CLUSTER_TESTS = ROOT / "tests" / "cluster"

# What tests start runs the code of this checkout, wherever the environment's own installation comes from.
os.environ["PYTHONPATH"] = os.pathsep.join(str(ROOT / part) for part in (".", "client", "server", "proto"))

# Tests connect to this machine only. A proxy of the person's shell would be asked for it.
for name in ("http_proxy", "https_proxy", "grpc_proxy"):
    os.environ.pop(name, None)
    os.environ.pop(name.upper(), None)

# A shell that starts the tests in the background has them ignore Ctrl-C, and what they start would inherit this:
# commands that tests end by SIGINT would never end.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# The same for nohup. The tests still ignore the end of the terminal, by a handler, which nobody inherits.
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    os.environ["PARLEY_TESTS_IGNORE_SIGHUP"] = "1"  # for the workers
if os.environ.get("PARLEY_TESTS_IGNORE_SIGHUP"):
    signal.signal(signal.SIGHUP, lambda *_: None)

# Hypothesis measures each example on the clock of the wall, and fails above 200 ms.
hypothesis.settings.register_profile("patient", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("patient")


Processes.fork = staticmethod(NODES.fork)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--shuffle", metavar="SEED", help="Run the files, and the tests in each, in a random order.")


def pytest_configure(config: pytest.Config) -> None:
    worker: dict[str, str] | None = getattr(config, "workerinput", None)
    if worker is None:
        os.environ[MARK] = f"{uuid.uuid4().hex}/"
    else:
        os.environ[MARK] += worker["workerid"]
    if hasattr(signal, "pthread_kill"):  # elsewhere pytest-timeout ends the process
        config.pluginmanager.register(TimeLimit(), "parley-time-limit")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LastingGroupScheduling | None:
    return LastingGroupScheduling(config, log) if config.getoption("dist") == "loadgroup" else None


@pytest.hookimpl(tryfirst=True)  # xdist reads the groups in the same hook
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """A file of cluster tests runs in one worker. In two, each would start a cluster for it."""
    for item in items:
        if item.path.is_relative_to(CLUSTER_TESTS):
            item.add_marker(pytest.mark.xdist_group(item.path.stem))
    if (seed := config.getoption("--shuffle")) is not None:
        dice = random.Random(seed)
        files = {path: dice.random() for path in sorted({item.path for item in items})}
        place = {item: (files[item.path], dice.random()) for item in items}  # whole files, because they share clusters
        items.sort(key=place.__getitem__)


@pytest.fixture(scope="session", autouse=True)
def _no_process_outlives_the_tests() -> Iterator[None]:
    yield
    left = [*CLUSTER_COMMANDS.stop(), *COMMANDS.stop(), *NODES.stop(), *end_processes()]
    assert not left, f"tests left processes behind: {left}"


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Look again when all workers have ended: one that died did not look itself."""
    if not hasattr(session.config, "workerinput") and (left := end_processes()):
        print(f"\nTests left processes behind, which were killed: {left}")
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
