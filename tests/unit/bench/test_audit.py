"""The bench must not be easy to please: every message that is lost, doubled or reordered fails the run."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import pytest

from scripts.bench.audit import BODY_BYTES, Audit, MessagesWrongError, Stamp, make_body, read_body
from scripts.bench.inbox import Inbox, Pacer

SENT = {"ann>ben": 4, "eve>ben": 2}


def good_bodies() -> list[str]:
    """All that was sent, in the order of each series."""
    numbers = [("ann>ben", 1), ("eve>ben", 1), ("ann>ben", 2), ("ann>ben", 3), ("eve>ben", 2), ("ann>ben", 4)]
    return [make_body(Stamp(series, number, 7)) for series, number in numbers]


def problems_of(bodies: list[str]) -> list[str]:
    """What an audit of these bodies finds."""
    audit = Audit()
    for body in bodies:
        audit.note(body)
    return audit.problems(SENT)


def test_a_body_has_the_size_of_a_message_and_says_its_stamp() -> None:
    body = make_body(Stamp("ann>ben", 12, 345))
    assert len(body) == BODY_BYTES
    assert read_body(body) == Stamp("ann>ben", 12, 345)


def test_each_message_once_and_in_order_is_no_problem() -> None:
    assert problems_of(good_bodies()) == []


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda bodies: bodies.pop(), "ann>ben: 1 accepted messages did not arrive"),
        (lambda bodies: bodies.pop(0), "ann>ben: 1 messages were lost or late"),
        (lambda bodies: bodies.clear(), "eve>ben: 2 accepted messages did not arrive"),
        (lambda bodies: bodies.append(bodies[0]), "ann>ben: 1 messages arrived twice or late"),
        (lambda bodies: bodies.insert(3, bodies[2]), "ann>ben: 1 messages arrived twice or late"),
        (lambda bodies: bodies.append(bodies.pop(2)), "ann>ben: 1 messages were lost or late"),
        (lambda bodies: bodies.append(make_body(Stamp("ann>ben", 5, 7))), "1 messages arrived that were not accepted"),
        (lambda bodies: bodies.append(make_body(Stamp("joe>ben", 1, 7))), "joe>ben: 1 messages arrived that were not"),
        (lambda bodies: bodies.append("something else"), "1 messages arrived that the bench did not send"),
        (lambda bodies: bodies.append(bodies[0][:-1]), "1 messages arrived that the bench did not send"),
    ],
)
def test_damage_is_found(damage: Callable[[list[str]], object], said: str) -> None:
    bodies = good_bodies()
    damage(bodies)
    assert any(said in problem for problem in problems_of(bodies)), problems_of(bodies)


async def test_an_inbox_waits_for_all_and_reports_a_double(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scripts.bench.inbox.LINGER_S", 0.0)
    inbox = Inbox()
    waiting = asyncio.create_task(inbox.wait_for(SENT))
    inbox.note(good_bodies()[:3])
    await asyncio.sleep(0)
    assert not waiting.done()
    inbox.note(good_bodies()[3:])
    await waiting
    inbox.note(good_bodies()[:1])
    with pytest.raises(MessagesWrongError, match="twice"):
        await inbox.wait_for(SENT)


async def test_an_inbox_gives_up_and_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scripts.bench.inbox.LINGER_S", 0.0)
    monkeypatch.setattr("scripts.bench.inbox.IDLE_S", 0.0)
    inbox = Inbox()
    inbox.note(good_bodies()[:-1])
    with pytest.raises(MessagesWrongError, match="ann>ben: 1 accepted messages did not arrive, from number 4 on"):
        await inbox.wait_for(SENT)


async def test_a_sender_that_is_late_counts_from_the_time_a_message_was_due() -> None:
    began_ns = time.monotonic_ns() - 50_000_000
    pacer = Pacer(5, rate_per_s=200.0, began_ns=began_ns)
    assert await pacer.next_due() == [began_ns + number * 5_000_000 for number in range(5)]
    assert await pacer.next_due() == []
