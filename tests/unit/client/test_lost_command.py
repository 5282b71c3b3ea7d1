"""`parley lost`, the chat's /lost, and what commands say of a restored cluster."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import AsyncMock, Mock

import pytest

from parley import (
    ConnectionState,
    MessageFailedError,
    MessageStatus,
    OutcomeUnknownError,
    ParleyError,
    StillWaitingError,
)
from parley.chat import SessionNews
from parley.client_state import ClientState
from parley.terminal import lost_commands
from parley.terminal.exits import ExitCode
from tests.support.node import InProcessCluster
from tests.unit.chat import people
from tests.unit.client.test_chat import Shown
from tests.unit.client.test_chat import view as chat_with
from tests.unit.client.test_command import Parley, signed_in
from tests.unit.client.test_restored import noticed, received, restore

ON = ConnectionState.CONNECTED


@asynccontextmanager
async def after_a_loss(tmp_path: Path) -> AsyncIterator[tuple[InProcessCluster, Parley]]:
    """Anna has sent "one", "two" and "three" since the backup, and a listener has compared."""
    async with signed_in(tmp_path) as (cluster, parley):
        assert (await parley("send", "bob", "before")).code == 0
        backup = cluster.back_up()
        for body in ("one", "two", "three"):
            assert (await parley("send", "bob", body)).code == 0
        await restore(cluster, backup)
        done = await parley("fetch")
        assert done.code == 0, done.err
        assert "3 that this device sent" in done.err
        assert "3 messages that you sent are not in the cluster any more" in done.err
        assert (await parley("fetch")).err == "", "a script that fetches each minute says it once"
        yield cluster, parley


async def test_the_list_names_what_is_lost_and_each_message_is_sent_again_once(tmp_path: Path) -> None:
    async with after_a_loss(tmp_path) as (cluster, parley):
        listed = await parley("lost")
        lines = listed.out.splitlines()
        assert [line.split("you → ")[1] for line in lines] == [
            f"bob: {body} (not in the cluster any more)" for body in ("one", "two", "three")
        ]
        assert "--resend N" in listed.err
        records = json.loads((await parley("lost", "--json")).out)
        assert [(one["body"], one["origin"], one["can_be_resent"]) for one in records] == [
            (body, "this_device", True) for body in ("one", "two", "three")
        ]
        one, two, three = (str(record["id"]) for record in records)
        again = await parley("lost", "--resend", two)
        assert (again.code, "✓ sent again: two" in again.err) == (0, True)
        gone = await parley("lost", "--resend", f"{one},{two}")
        assert (gone.code, f"no lost message {two}" in gone.err) == (ExitCode.USAGE, True)
        assert "Removed from this device: 1." in (await parley("lost", "--discard", three)).err
        assert (await parley("lost", "--resend", "all")).code == 0
        assert cluster.bodies_for("bob") == ["before", "two", "one"]
        empty = await parley("lost")
        assert (empty.code, empty.out) == (0, "")
        assert "missing" in empty.err
        both = await parley("lost", "--resend", "all", "--discard", "all")
        assert (both.code, "Nothing was changed" in both.err) == (ExitCode.USAGE, True)


async def test_history_shows_what_is_lost_where_it_stood(tmp_path: Path) -> None:
    async with after_a_loss(tmp_path) as (_, parley):
        assert (await parley("send", "bob", "after")).code == 0
        lines = (await parley("history", "bob")).out.splitlines()
        assert [line.split("bob: ")[1] for line in lines] == [
            "before",
            *(f"{body} (not in the cluster any more)" for body in ("one", "two", "three")),
            "after",
        ]


async def test_a_listener_says_what_is_lost_on_stderr(tmp_path: Path) -> None:
    async with after_a_loss(tmp_path) as (cluster, parley):
        cluster.store(cluster.accounts["bob"], cluster.accounts["anna"], "news")
        done = await parley("listen", "--count", "1")
        assert "news" in done.out
        assert "3 messages that you sent are not in the cluster any more." in done.err
        assert "lost" not in done.out


async def test_a_message_that_is_sent_again_without_a_cluster_waits(tmp_path: Path) -> None:
    async with after_a_loss(tmp_path) as (cluster, parley):
        cluster.nodes[0].faults.lose_results = True
        done = await parley("lost", "--resend", "all", "--timeout", "0.2")
        assert done.code == ExitCode.KEPT
        assert "kept in the outbox" in done.err


class Again:
    """A message that was sent again. Each wait for it costs its whole timeout, on the clock of the test."""

    def __init__(self, local_id: int, clock: list[float], outcome: ParleyError) -> None:
        self.local_id = local_id
        self.view = people.own(local_id, MessageStatus.WAITING)
        self._clock = clock
        self._outcome = outcome

    async def accepted(self, timeout: float) -> None:
        self._clock[0] += timeout
        raise self._outcome


@pytest.mark.parametrize(
    ("outcome", "code"),
    [
        (StillWaitingError("waits"), ExitCode.KEPT),
        (OutcomeUnknownError("who knows"), ExitCode.UNKNOWN),
        (MessageFailedError("refused"), ExitCode.REFUSED),
    ],
)
async def test_the_timeout_is_for_all_messages_and_the_code_is_that_of_their_outcome(
    outcome: ParleyError, code: ExitCode, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [0.0]
    monkeypatch.setattr(lost_commands, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    client = Mock()
    client.lost.messages = AsyncMock(return_value=())
    client.lost.resend = AsyncMock(return_value=[Again(number, clock, outcome) for number in (1, 2, 3)])
    assert await lost_commands._resend(client, Mock(shown=set()), ["all"], 10.0) == code
    assert clock == [10.0]


async def test_the_chat_lists_sends_again_and_discards(tmp_path: Path) -> None:
    async with chat_with(tmp_path) as shown:
        await shown.view.take("before")
        await shown.expect("you → bob: before", "✓")
        backup = shown.cluster.back_up()
        await received(shown.cluster, shown.client, "bob", "answer")
        for body in ("one", "two", "three"):
            await (await shown.client.send("bob", body)).accepted(30)
        await restore(shown.cluster, backup)
        await noticed(shown.cluster, shown.client)
        await shown.expect("restored to an earlier state", "3 that this device sent and 1 that it received")
        await shown.expect("3 messages that you sent are not in the cluster any more", "/lost lists them")
        await shown.view.take("/history")
        await shown.expect("bob: answer (not in the cluster any more)")
        await shown.view.take("/lost")
        numbers = {line.split("bob: ")[1].split(" (")[0]: line.split()[0] for line in lost_lines(shown)}
        await shown.view.take(f"/lost resend {numbers['two']}")
        await shown.expect("you → bob: two", "✓")
        await shown.view.take(f"/lost discard {numbers['one']} {numbers['answer']}")
        await shown.expect("Removed from this device: 2.")
        await shown.view.take(f"/lost resend {numbers['two']}")
        await shown.expect(f"There is no lost message {numbers['two']}", "The list: /lost")
        await shown.view.take("/lost resend")
        await shown.expect("Nothing was changed. Say /lost")
        await shown.view.take("/lost resend all")
        await shown.expect("you → bob: three", "✓")
        shown.lines.clear()
        await shown.view.take("/lost")
        assert shown.lines == ["No message of this device is missing in the cluster."]
        assert shown.cluster.bodies_for("bob") == ["before", "two", "three"]


def lost_lines(shown: Shown) -> list[str]:
    return [line for line in shown.lines if "not in the cluster any more)" in line and line.split()[0].isdecimal()]


def test_each_loss_is_told_once() -> None:
    told: list[str] = []
    news = SessionNews(told.append, "ended", "/lost lists them.")
    for state in (
        ClientState(connection=ON),
        ClientState(connection=ON, notice="restored", lost_sent=2),
        ClientState(connection=ON, notice="restored", lost_sent=1),
    ):
        news.follow(state, has_own=False)
    assert told == [
        "restored",
        "2 messages that you sent are not in the cluster any more. Nothing is sent again by itself. /lost lists them.",
    ]
    news.follow(ClientState(connection=ON), has_own=False)
    news.follow(ClientState(connection=ON, lost_sent=1), has_own=False)
    assert told[-1].startswith("1 message that you sent is not")


async def test_a_channel_is_closed_in_the_chat_and_nobody_is_answered_by_an_old_id(tmp_path: Path) -> None:
    async with chat_with(tmp_path, "") as shown:
        backup = shown.cluster.back_up()
        people = shown.cluster.accounts
        channel = shown.cluster.create_channel(people["bob"], "ops", [people["anna"]])
        shown.cluster.store(people["bob"], people["anna"], "hello")
        await shown.expect("bob: hello")
        await shown.view.take(f"/to #{channel}")
        assert shown.view.title == "ops"
        await restore(shown.cluster, backup)
        await noticed(shown.cluster, shown.client)
        await shown.expect("ops is closed here, because the cluster was restored")
        await shown.view.take("for ops")
        await shown.expect("No recipient was named")
        await shown.view.take("/reply to bob")
        await shown.expect("Nobody has written to you alone")
        assert shown.cluster.bodies_for("bob") == []
