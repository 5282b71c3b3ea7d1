"""Lines of the log become events, whatever the level of the log, and each one is told once."""

from __future__ import annotations

import io
import re
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from parleyd.events.event import MAX_VALUE_CHARACTERS, bounded
from parleyd.events.journal import MIN_BYTES, read_journal
from parleyd.events.journal_writer import JournalKeeper, JournalWriter
from parleyd.events.kinds import KINDS
from parleyd.events.ring import EventRing
from parleyd.events.source import EventSource
from parleyd.observability.logs import configure_logging
from tests.unit.project.source import ROOT, python_files


@pytest.fixture
def source() -> Iterator[EventSource]:
    """A source that sees the log of this process, of which only errors are written."""
    made = EventSource(wall_ms=iter(range(1_000, 9_000)).__next__)
    configure_logging("error", "json", node="n1", stream=io.StringIO(), tap=made.tap)
    yield made
    structlog.reset_defaults()


def test_an_event_is_kept_below_the_level_of_the_log_with_the_fields_of_its_kind(source: EventSource) -> None:
    structlog.get_logger("group").info("role_changed", role="leader", term=3, leader="n1", secret="x")
    structlog.get_logger("group").info("something_else", term=3)
    structlog.get_logger("peers").bind(peer="n2", other=1).warning("peer_disconnected", reason="it ended")
    [changed, broken] = source.ring.read().events
    assert (changed.kind, changed.fields) == ("role_changed", {"role": "leader", "term": 3, "leader": "n1"})
    assert (changed.start, changed.number, changed.at_ms) == (1_000, 1, 1_001)
    assert (broken.kind, broken.fields, broken.number) == ("peer_disconnected", {"peer": "n2", "reason": "it ended"}, 2)


def test_the_journal_has_the_history_from_before_it_was_opened_and_nothing_else(
    source: EventSource, tmp_path: Path
) -> None:
    path = tmp_path / "journal.ring"
    log = structlog.get_logger("node")
    log.info("node_started", release="1", process=5)
    log.info("peer_connected", peer="n2", address="x")
    source.keep_journal(JournalWriter(JournalKeeper(path, MIN_BYTES)))
    log.info("role_changed", role="leader", term=1, leader="n1")
    log.info("backup_written", file="x", bytes=1)
    source.close()
    log.info("vote_given", term=1, candidate="n1")  # after the end; nothing fails
    assert [record.event.kind for record in read_journal(path).records] == ["node_started", "role_changed"]
    assert [event.number for event in source.ring.read().events] == [1, 2, 3, 4, 5]


def test_events_of_several_threads_have_numbers_without_gaps(source: EventSource) -> None:
    def work() -> None:
        for term in range(200):
            structlog.get_logger("x").info("vote_given", term=term, candidate="n1")

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [event.number for event in source.ring.read().events] == [*range(1, 801)]


def test_a_reader_gets_what_came_after_and_hears_how_much_it_missed() -> None:
    source = EventSource()
    source.ring = EventRing(capacity=3)
    for term in range(1, 6):
        source.record("vote_given", {"term": term, "candidate": "n1"})
    everything = source.ring.read()
    assert ([event.number for event in everything.events], everything.missed) == ([3, 4, 5], 2)
    assert source.ring.read(after=1).missed == 1
    later = source.ring.read(after=3)
    assert ([event.number for event in later.events], later.missed) == ([4, 5], 0)
    assert [event.number for event in source.ring.read(after=2, limit=1).events] == [3]
    assert source.ring.read(after=9).events == ()


def test_a_listener_is_called_after_each_event_until_it_ends() -> None:
    source, heard = EventSource(), []
    end = source.ring.listen(lambda: heard.append(source.ring.last_number))
    source.record("clocks_agreed", {})
    end()
    source.record("clocks_agreed", {})
    assert heard == [1]


def test_values_are_bounded() -> None:
    assert bounded(["n1", "n2"]) == "n1, n2"
    assert bounded({"n1": 5}) == "n1 5"
    assert bounded([*range(1000)]) == ", ".join(map(str, range(16))) + ", ..."
    assert len(str(bounded("x" * 10_000))) == MAX_VALUE_CHARACTERS
    assert (bounded(True), bounded(7), bounded(1.5)) == (True, 7, "1.5")


def test_each_kind_is_logged_somewhere_with_its_fields() -> None:
    """Otherwise an event is lost when somebody renames its line."""
    texts = [file.read_text() for file in python_files("server") if "events/kinds.py" not in str(file)]
    missing = [kind for kind in KINDS if not any(f'"{kind}"' in text for text in texts)]
    assert missing == []
    for kind, known in KINDS.items():
        for name in known.fields:
            assert any(f'"{kind}"' in text and re.search(rf'\b{name}=|"{name}"', text) for text in texts), (
                f"{kind} has no {name}"
            )


def test_the_operations_page_names_each_kind() -> None:
    page = (ROOT / "docs" / "OPERATIONS.md").read_text()
    assert [kind for kind in KINDS if f"`{kind}`" not in page] == []
