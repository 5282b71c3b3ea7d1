"""A campaign of the window: two people type in a channel while the node of one of them is killed, again and again.

Then there is no majority, one window is closed and opened again with messages that wait, and the nodes come back. What
is measured goes to build/gui-channel.json.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from PySide6.QtCore import QTimer
from pytestqt.qtbot import QtBot

from parley import ParleyClient, Target
from parley.gui.commands import ClusterAddress
from tests.gui.test_real_cluster import BUILD, PASSWORD, TYPE_EVERY_MS, ClusterInThread, Person

KILLS = 7
BEFORE, AFTER = 6, 20
WAITING = 3
MEDIAN_S = 0.2


async def make_channel(hosts: Sequence[str], ca: Path, state_dir: Path) -> int:
    async with ParleyClient(hosts, ca=ca, state_dir=state_dir, connect=False) as client:
        await client.register("maker", PASSWORD)
        await client.login("maker", PASSWORD)
        return await client.create_channel("Ward 4", ["ann", "ben"])


def texts(person: Person) -> list[str]:
    """The messages on the screen, without the rows that tell what happened to the channel."""
    model = person.window.chat.rows
    rows = [model.row(at) for at in range(model.rowCount())]
    return [row.body for row in rows if not row.event]


def without_gap(person: Person) -> list[str]:
    """The messages on the screen below the lowest line that says that some above are not loaded."""
    rows = person.window.chat.rows.rows
    lowest = max((at for at, row in enumerate(rows) if row.gap_above), default=0)
    return [row.body for row in rows[lowest:] if not row.event]


def pause_s(person: Person, killed_at: float) -> float:
    """How long it took after a kill until a message that was typed later was on a majority's disks."""
    later = [text for text, at in person.typed_at.items() if at > killed_at]
    return min(person.accepted_at[text] for text in later if text in person.accepted_at) - killed_at


@pytest.mark.campaign
@pytest.mark.timeout(900)
def test_kills_in_a_channel_lose_and_double_nothing_and_sending_works_again_at_once(
    qtbot: QtBot, closing: Callable[[Any], Any], tmp_path: Path
) -> None:
    running: ClusterInThread = closing(ClusterInThread(tmp_path / "cluster"))
    cluster = running.cluster
    address = ClusterAddress(", ".join(cluster.hosts), cluster.ca_file)
    people: dict[str, Person] = {
        name: closing(Person(qtbot, name, "", address, tmp_path / name)) for name in ("ann", "ben")
    }

    def until(condition: Callable[[], bool], timeout_s: float = 90) -> None:
        def looked() -> bool:
            for person in people.values():
                person.look()
            return condition()

        try:
            qtbot.waitUntil(looked, timeout=round(timeout_s * 1000))
        except qtbot.TimeoutError:
            raise AssertionError("\n".join(person.report() for person in people.values())) from None

    def ready(count: int) -> bool:
        return all(one.connected and one.window.app_state.client_state.nodes_up == count for one in people.values())

    def type_together(count: int) -> None:
        goal = {name: len(person.typed) + count for name, person in people.items()}

        def type_on() -> None:
            for name, person in people.items():
                if len(person.typed) < goal[name]:
                    person.type_one()

        timer = QTimer()
        timer.timeout.connect(type_on)
        timer.start(TYPE_EVERY_MS)
        try:
            until(lambda: all(len(person.typed) == goal[name] for name, person in people.items()))
        finally:
            timer.stop()

    def nothing_is_lost_or_doubled() -> None:
        """Ben's window has everything, once and in order. Ann's, which may have begun later, has the end of it."""
        typed = {name: list(person.typed) for name, person in people.items()}
        every = sorted(text for own in typed.values() for text in own)
        last = {text for own in typed.values() for text in own[-WAITING:]}
        ann, ben = people["ann"], people["ben"]
        until(lambda: sorted(texts(ben)) == every and last <= set(without_gap(ann)))
        until(lambda: ann.all_accepted() and ben.all_accepted())
        seen, rest = texts(ben), iter(texts(ben))
        assert all(text in rest for text in texts(ann)), "both see one order, and nothing twice"
        whole = without_gap(ann)
        assert whole == seen[-len(whole) :], "nothing is left out unless the window says so"
        for name, own in typed.items():
            assert [text for text in seen if text.startswith(name)] == own, "a sender's messages keep their order"

    until(lambda: ready(3))
    channel = running.run(make_channel(cluster.hosts, cluster.ca_file, tmp_path / "maker"))
    for person in people.values():
        person.window.open_conversation(Target(conversation_id=channel))
    kills = []
    for _ in range(KILLS):
        until(lambda: ready(3))
        state = people["ann"].window.app_state.client_state
        node, leader = state.node, state.leader
        type_together(BEFORE)
        cluster.kill(node)
        killed_at = time.monotonic()
        type_together(AFTER)
        nothing_is_lost_or_doubled()
        kills.append({"killed": node, "it_led": node == leader, "s": round(pause_s(people["ann"], killed_at), 3)})
        cluster.start(node)

    until(lambda: ready(3))
    down = cluster.names[:2]
    cluster.kill(*down)
    until(lambda: not any(person.window.status.text.startswith("Connected to") for person in people.values()))
    for _ in range(WAITING):
        for person in people.values():
            person.type_one()
    until(lambda: all(one.window.app_state.client_state.waiting == WAITING for one in people.values()))
    before = people["ann"]
    before.stop()
    after: Person = closing(Person(qtbot, "ann", "", address, tmp_path / "ann", is_new=False))
    after.typed, after.typed_at = before.typed, before.typed_at
    people["ann"] = after
    until(lambda: after.window.app_state.client_state.waiting == WAITING)
    after.window.open_conversation(Target(conversation_id=channel))
    cluster.start(*down)
    nothing_is_lost_or_doubled()

    median = statistics.median(float(str(one["s"])) for one in kills)
    figures = {
        "kills": kills,
        "until_sending_again_median_s": round(median, 3),
        "messages": sum(len(person.typed) for person in people.values()),
        "waiting_over_a_restart": WAITING,
        "lost": 0,
        "doubled": 0,
    }
    BUILD.mkdir(exist_ok=True)
    (BUILD / "gui-channel.json").write_text(json.dumps(figures, indent=2) + "\n")
    assert median < MEDIAN_S, figures
