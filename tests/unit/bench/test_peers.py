"""The comparison with other systems: what counts as lost, repeats of a send, the ratios, and etcd's wire."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from scripts.bench.audit import MessagesWrongError, Stamp, make_body, read_body
from scripts.bench.scale import TINY
from scripts.bench_peers import arrivals
from scripts.bench_peers.arrivals import Arrivals
from scripts.bench_peers.etcd_wire import MESSAGES
from scripts.bench_peers.peer import PeerFailedError, Place, Start
from scripts.bench_peers.report import make_report, readable
from scripts.bench_peers.run import PARLEY, System
from scripts.bench_peers.sending import PeerSender
from scripts.bench_peers.servers import Servers
from scripts.bench_peers.workloads import ROWS, runs_of


def body(number: int) -> str:
    return make_body(Stamp("ann", number, 1))


# ---- what arrived


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrivals, "IDLE_S", 0.05)
    monkeypatch.setattr(arrivals, "LINGER_S", 0.0)


async def reading() -> None:
    await asyncio.Event().wait()


async def test_repeats_and_disorder_are_no_loss_at_a_peer() -> None:
    found, task = Arrivals(), asyncio.create_task(reading())
    for number in (2, 1, 2, 3):
        found.note(body(number))
    await found.wait_for({"ann": 3}, task)
    assert (found.repeated, len(found.took_ms)) == (1, 3)
    task.cancel()


async def test_a_lost_message_of_a_peer_fails() -> None:
    found, task = Arrivals(), asyncio.create_task(reading())
    for number in (1, 3, 3):
        found.note(body(number))
    with pytest.raises(MessagesWrongError, match="1 accepted messages did not arrive"):
        await found.wait_for({"ann": 3}, task)
    task.cancel()


async def test_a_receiver_that_ends_is_reported_at_once() -> None:
    async def fail() -> None:
        raise ConnectionResetError("gone")

    with pytest.raises(ConnectionResetError):
        await Arrivals().wait_for({"ann": 1}, asyncio.create_task(fail()))


# ---- sending


class Queue:
    """A peer that refuses some attempts, each once."""

    def __init__(self, refuses: Sequence[int] = ()) -> None:
        self.accepted: list[tuple[str, str]] = []
        self._refuses = set(refuses)

    async def send(self, body: str, ident: str) -> None:
        stamp = read_body(body)
        assert stamp is not None
        if stamp.number in self._refuses:
            self._refuses.discard(stamp.number)
            raise ConnectionError("no leader")
        self.accepted.append((stamp.series, ident))

    async def close(self) -> None:
        self.accepted.clear()


async def test_a_paced_sender_repeats_a_refused_message_under_its_first_name() -> None:
    queue = Queue(refuses=[2])
    sender = PeerSender("ann", queue)
    assert len(await sender.pace(3, 1000.0)) == sender.accepted == 3
    assert sorted(queue.accepted) == [("ann", f"ann/{number:012}") for number in (1, 2, 3)]


async def test_a_sender_without_a_pace_fails_with_its_peer() -> None:
    with pytest.raises(ExceptionGroup):
        await PeerSender("ann", Queue(refuses=[2])).send(3, 1)


# ---- the report


def system(name: str, **rows: float) -> System:
    return System(name, "fsync", runs={row: [{"per_s": value}, {"per_s": value * 2}] for row, value in rows.items()})


def test_ratios_are_those_of_the_medians_and_a_row_without_figures_has_none() -> None:
    systems = [
        system(PARLEY, raw=100.0, queue=5.0),
        replace(system("nats", raw=400.0), failed={"queue": "2 accepted messages did not arrive"}),
        replace(system("etcd"), missing="etcd is not installed."),
    ]
    report = make_report(systems, TINY)
    assert report["parley_to"] == {"nats": {"raw": {"per_s": 0.25}, "queue": {}}, "etcd": {"raw": {}, "queue": {}}}
    assert report["failed"] == ["nats queue"]
    lines = readable(report).splitlines()
    assert "etcd : not measured. etcd is not installed." in lines
    assert next(line.split() for line in lines if line.startswith("raw,")) == [
        "raw,",
        "per",
        "s",
        "150",
        "600",
        "(0.25)",
        "n/a",
    ]
    assert lines[-1] == "FAILED: nats queue: 2 accepted messages did not arrive"


def test_every_row_is_one_of_parleys_and_faults_have_their_own_number_of_runs() -> None:
    assert set(ROWS) == {
        *("raw-1", "raw-64", "raw-256", "raw-1024", "raw-crowd"),
        *("end-to-end", "queue", "leader-killed"),
    }
    scale = replace(TINY, runs=3, kills=7)
    assert (runs_of("raw-1", scale), runs_of("leader-killed", scale)) == (3, 7)


# ---- servers


class Nothing:
    """A peer whose program does not exist, or ends at once."""

    name = "nothing"
    durability = "none"
    remarks: Sequence[str] = ()

    def __init__(self, program: str) -> None:
        self.programs: Sequence[str] = (program,)

    def prepare(self, places: Sequence[Place]) -> Sequence[Start]:
        return ()

    def start(self, place: Place, places: Sequence[Place]) -> Start:
        return Start(("sh", "-c", f"echo {place.name} has no data; exit 3"))

    async def create_queue(self, addresses: Sequence[str], queue: str) -> None:
        raise ConnectionError("nobody")

    def __getattr__(self, name: str) -> object:
        raise AttributeError(name)


@pytest.mark.parametrize(
    ("program", "why"), [("no-such-server", "is not installed"), ("sh", r"(s\d) ended by itself. \1 has no data")]
)
async def test_a_peer_that_does_not_start_says_why(tmp_path: Path, program: str, why: str) -> None:
    with pytest.raises(PeerFailedError, match=why):
        async with Servers.started(Nothing(program), tmp_path):  # type: ignore[arg-type]
            pass


# ---- the wire of etcd


def test_etcds_messages_have_its_field_numbers() -> None:
    put = MESSAGES["PutRequest"](key=b"k", value=b"v")
    assert put.SerializeToString() == b"\x0a\x01k\x12\x01v"
    event = b"\x12\x06\x0a\x01k\x2a\x01v"
    watched = MESSAGES["WatchResponse"].FromString(b"\x5a" + bytes([len(event)]) + event)
    assert [pair.kv.value for pair in watched.events] == [b"v"]
    assert MESSAGES["StatusResponse"].FromString(b"\x0a\x02\x10\x07\x20\x07").leader == 7
