"""The chat: what is typed, what is shown, and that both stay whole; in a terminal and through pipes."""

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest
from prompt_toolkit.completion import CompleteEvent
from prompt_toolkit.document import Document
from prompt_toolkit.input import PipeInput, create_pipe_input
from prompt_toolkit.output import DummyOutput

from parley import EVERYONE, Account, ConnectionState, Message, MessageKind, MessageStatus, ParleyClient, Target
from parley.chat import Chats
from parley.terminal.chat import chat
from parley.terminal.chat_help import HELP
from parley.terminal.chat_view import ChatView
from parley.terminal.exits import ExitCode
from parley.terminal.options import ConnectionOptions
from parley.terminal.own_messages import OwnMessages
from parley.terminal.refusals import Refusals
from parley.terminal.screen import PromptScreen, Words
from parley.terminal.text import message_line
from parley_proto.v1 import messaging_pb2 as pb
from tests.support.node import InProcessCluster, InProcessNode, running_cluster
from tests.unit.client.helpers import PASSWORD, make_client, signed_in, until
from tests.unit.client.records import outgoing
from tests.unit.client.test_command import Parley


class Shown:
    """A chat view over a fake cluster, and everything it showed."""

    def __init__(self, cluster: InProcessCluster, client: ParleyClient, peer: str) -> None:
        self.cluster = cluster
        self.client = client
        self.lines: list[str] = []
        target = Target(account=peer) if peer else None
        self.view = ChatView(client, self.lines.append, self.lines.append, target, mark_read=True)

    def has(self, *parts: str) -> bool:
        return any(all(part in line for part in parts) for line in self.lines)

    async def expect(self, *parts: str) -> None:
        await until(lambda: self.has(*parts), f"{parts} among {self.lines}")

    def node(self) -> InProcessNode:
        return next(node for node in self.cluster.nodes if node.name == self.client.state.node)


@asynccontextmanager
async def view(
    tmp_path: Path, peer: str = "bob", *, nodes: int = 1, history: bool = False, deadline_s: float = 30.0
) -> AsyncIterator[Shown]:
    async with running_cluster([f"n{i + 1}" for i in range(nodes)]) as cluster:
        cluster.add_account("bob", PASSWORD)
        cluster.add_account("carl", PASSWORD)
        async with signed_in(cluster, tmp_path, deadline_s=deadline_s) as client:
            await client.wait_until(ConnectionState.CONNECTED, timeout=5)
            shown = Shown(cluster, client, peer)
            async with asyncio.TaskGroup() as group:
                tasks = [
                    group.create_task(shown.view.receive(with_history=history)),
                    group.create_task(shown.view.follow()),
                    group.create_task(shown.view.keep_time()),
                ]
                await shown.view.learn_names()
                yield shown
                for task in tasks:
                    task.cancel()


async def test_an_own_message_is_shown_once_with_its_mark(tmp_path: Path) -> None:
    async with view(tmp_path) as shown:
        await shown.view.take("hello")
        await shown.expect("you → bob: hello", "✓")
        assert sum("hello" in line for line in shown.lines) == 1


async def test_a_delivered_message_gets_its_second_mark_at_once_or_in_a_later_remark(tmp_path: Path) -> None:
    async with view(tmp_path) as shown:
        await shown.view.take("while away")
        await shown.expect("while away", "✓")
        async with signed_in(shown.cluster, tmp_path / "b", "bob") as bob:
            await shown.expect("✓✓ bob has now received “while away”")
            await bob.wait_until(ConnectionState.CONNECTED, timeout=5)
            await shown.view.take("while there")
            await shown.expect("while there", "✓✓")


def test_a_result_that_came_before_the_message_was_followed_settles_it() -> None:
    shown: list[str] = []
    refusals = Refusals(cast(ParleyClient, None), shown.append)
    own = OwnMessages(Chats("anna"), shown.append, shown.append, lambda: 0.0, refusals)
    own.track(replace(outgoing(1, "one"), status=MessageStatus.ACCEPTED, message_id=5))
    assert own.unsettled == 0
    own.flush(everything=True)
    assert [line.split("you → ")[1] for line in shown] == ["bob: one ✓"]


async def test_a_message_that_cannot_go_out_is_announced_as_waiting_and_shown_again_when_it_went(
    tmp_path: Path,
) -> None:
    async with view(tmp_path) as shown:
        shown.node().faults.lose_results = True
        await shown.view.take("slow")
        await shown.expect("you → bob: slow", "…")
        assert "1 message waiting" in shown.view.status_line
        shown.node().faults.lose_results = False
        shown.cluster.broadcast(
            pb.ServerFrame(results=pb.SendResultBatch(results=[next(iter(shown.cluster.devices.values())).result(1)]))
        )
        await shown.expect("you → bob: slow", "✓")


async def test_a_refused_message_says_why_and_can_be_sent_again(tmp_path: Path) -> None:
    async with view(tmp_path, "dora") as shown:
        await shown.view.take("are you there?")
        await shown.expect("✗", "There is no such account")
        await shown.expect("/retry 1")
        shown.cluster.add_account("dora", PASSWORD)
        await shown.view.take("/retry 1")
        await shown.expect("are you there?", "✓")
        assert shown.cluster.bodies_for("dora") == ["are you there?"]


@pytest.mark.parametrize("word", ["x", "0", "²", "1001", "9" * 5000])
async def test_a_word_that_is_no_number_here_is_a_sentence(tmp_path: Path, word: str) -> None:
    async with view(tmp_path) as shown:
        await shown.view.take(f"/history {word}")
        assert "is not a number of messages from 1 to 1000." in shown.lines[-1]
        await shown.view.take(f"/to #{word}")
        await shown.view.take(f"/cancel {word}")
        assert "is not a number" in shown.lines[-1] or "no such message" in shown.lines[-1]


async def test_waiting_messages_can_be_listed_changed_and_withdrawn(tmp_path: Path) -> None:
    async with view(tmp_path) as shown:
        await shown.node().die()
        await shown.client.wait_until(ConnectionState.SEARCHING, timeout=5)
        for line in ("first", "second", "third", "/waiting", "/edit 1 FIRST", "/cancel 2", "/cancel 77", "/edit x y"):
            await shown.view.take(line)
        assert shown.has("    2  ", "second", "…")
        assert shown.has("Withdrawn. Nobody receives it: second")
        assert shown.has("no such message")
        assert shown.has("'x' is not a number")
        await shown.cluster.nodes[0].start()
        await shown.expect("FIRST", "✓")
        await shown.expect("third", "✓")
        assert shown.cluster.bodies_for("bob") == ["FIRST", "third"]


async def test_a_failover_costs_one_quiet_line_and_the_status_line_clears(tmp_path: Path) -> None:
    async with view(tmp_path, nodes=3) as shown:
        node = shown.node()
        await node.die()
        await shown.expect(f"({node.name} was lost, now on ")
        assert sum(node.name in line for line in shown.lines) == 1
        assert "lost" not in shown.view.status_line
        await shown.view.take("after it")
        await shown.expect("after it", "✓")


async def test_no_majority_is_told_once_when_something_waits_for_it(tmp_path: Path) -> None:
    async with view(tmp_path) as shown:
        shown.node().faults.no_majority = True
        shown.cluster.announce()
        await shown.client.wait_until(ConnectionState.NO_MAJORITY, timeout=5)
        await shown.view.take("patience")
        await shown.expect("no majority: your messages are kept here")
        shown.node().faults.no_majority = False
        shown.cluster.announce()
        await shown.expect("a majority is back")
        await shown.expect("patience", "✓")


async def test_incoming_messages_are_shown_read_and_say_how_to_answer(tmp_path: Path) -> None:
    async with view(tmp_path) as shown:
        accounts = shown.cluster.accounts
        seen = shown.cluster.store(accounts["bob"], accounts["anna"], "from bob")
        shown.cluster.store(accounts["carl"], accounts["anna"], "from carl")
        await shown.expect("bob: from bob")
        await shown.expect("carl: from carl", "/to carl")
        conversation = shown.cluster.conversation_id(accounts["bob"], accounts["anna"])
        await until(lambda: len(shown.cluster.reads) == 1, "a read mark")
        assert shown.cluster.reads == {(conversation, accounts["anna"].id): seen.id}


async def test_history_at_the_start_is_not_shown_twice(tmp_path: Path) -> None:
    async with running_cluster() as cluster:
        bob, anna = cluster.add_account("bob", PASSWORD), cluster.add_account("anna", PASSWORD)
        cluster.store(bob, anna, "old")
    async with view(tmp_path, history=True) as shown:
        accounts = shown.cluster.accounts
        await shown.expect("There are no messages with bob")
        shown.cluster.store(accounts["bob"], accounts["anna"], "one")
        await shown.expect("bob: one")
        await shown.view.take("/history")
        shown.cluster.store(accounts["bob"], accounts["anna"], "two")
        await shown.expect("bob: two")
        assert [sum(body in line for line in shown.lines) for body in ("bob: one", "bob: two")] == [2, 1]


async def test_the_history_from_the_first_unread_message_says_where_it_begins(tmp_path: Path) -> None:
    async with view(tmp_path) as shown:
        accounts = shown.cluster.accounts
        for body in ("one", "two", "three"):
            shown.cluster.store(accounts["carl"], accounts["anna"], body)
            await shown.expect(f"carl: {body}")
        await shown.view.take("/to carl")
        shown.lines.clear()
        await shown.view.take("/history unread")
        first = next(place for place, line in enumerate(shown.lines) if "Not read yet" in line)
        assert "carl: one" in shown.lines[first + 1]
        shown.lines.clear()
        await until(lambda: len(shown.cluster.reads) == 1, "a read mark")
        await shown.view.take("/history unread")
        assert not shown.has("Not read yet"), "what was shown is read"


async def test_an_urgent_line_is_sent_as_urgent(tmp_path: Path) -> None:
    async with view(tmp_path) as shown:
        await shown.view.take("/urgent fire")
        await shown.expect("Urgent: fire")
        await until(lambda: shown.cluster.bodies_for("bob") == ["fire"], "the message")
        [(priority,)] = shown.cluster.rows("SELECT priority FROM messages")
        assert priority == 1
        await shown.view.take("/urgent")
        await shown.expect("/urgent needs a text")


async def test_unread_messages_come_with_the_history_at_the_start_once(tmp_path: Path) -> None:
    async with running_cluster() as cluster:
        bob, anna = cluster.add_account("bob", PASSWORD), cluster.add_account("anna", PASSWORD)
        cluster.store(bob, anna, "while away")
        async with signed_in(cluster, tmp_path) as client:
            shown = Shown(cluster, client, "bob")
            task = asyncio.ensure_future(shown.view.receive(with_history=True))
            await shown.expect("while away")
            cluster.store(bob, anna, "now")
            await shown.expect("now")
            task.cancel()
            await asyncio.wait([task])
            assert sum("while away" in line for line in shown.lines) == 1


async def test_commands_answer_and_mistakes_are_explained(tmp_path: Path) -> None:
    async with view(tmp_path, "") as shown:
        for line in (
            "nobody is named",
            "/to ghost",
            "/nonsense",
            "/help",
            "/accounts b*",
            "/status",
            "",
            "/to",
            "/all",
            "/conversations",
        ):
            assert await shown.view.take(line)
        assert shown.has("No recipient was named")
        assert shown.has("There is no account ghost.")
        assert shown.has("/nonsense is not a command")
        assert HELP in shown.lines
        assert "bob" in shown.lines
        assert shown.has("The cluster serves")
        assert shown.has("/to needs a name")
        assert shown.has("/all needs a text")
        await shown.view.take("/all fire drill at ten")
        await shown.expect("you → Everyone: fire drill at ten")
        await shown.view.take("/dm bob see you there")
        await shown.expect("you → bob: see you there")
        await shown.view.take("/to everyone")
        assert shown.view.prompt == "anna → Everyone> "
        await shown.view.take("/to bob")
        assert shown.view.prompt == "anna → bob> "
        await shown.view.take("//not a command")
        await shown.expect("you → bob: /not a command")
        assert not await shown.view.take("/quit")


async def test_an_answer_goes_to_who_wrote_to_this_account_alone(tmp_path: Path) -> None:
    async with view(tmp_path, "") as shown, signed_in(shown.cluster, tmp_path / "b", "bob") as bob:
        await shown.view.take("/reply hello")
        assert shown.has("Nobody has written to you alone")
        await bob.send("anna", "are you there?")
        await shown.expect("bob: are you there?")
        await bob.send(EVERYONE, "lunch")
        await shown.expect("bob in Everyone: lunch")
        await shown.view.take("/reply yes")
        await shown.expect("you → bob: yes")
        assert shown.cluster.bodies_for("bob")[-1] == "yes"
        for line in ("/reply", "/dm", "/dm bob", "/all"):
            await shown.view.take(line)
        assert sum("Nothing was sent" in line for line in shown.lines) == 5
        carl = shown.cluster.accounts["carl"]
        shown.cluster.store(carl, shown.cluster.accounts["anna"], "look here")
        await shown.expect("carl: look here")
        await shown.view.take("/reply yes, ben")
        assert shown.has("Somebody else has just written to you alone")
        await shown.view.take("/reply yes, carl")
        await shown.expect("you → carl: yes, carl")


def test_escape_sequences_and_writing_direction_of_others_do_no_harm() -> None:
    chats = Chats("anna")
    chats.take_accounts((Account(1, "anna"), Account(2, "bob", "\x1bBob\u202e")))
    body = "\x1b[2J\x9b31m\u202eevil\r\nnext\x7f"
    line = message_line(Message(7, 1, MessageKind.TEXT, 2, body, 0, False), chats)
    assert not set("\x1b\x9b\u202e\x7f\r") & set(line)
    assert "(bob): " in line
    assert "evil\n    next" in line


# ---- channels


async def test_a_channel_says_who_wrote_how_to_answer_and_how_many_have_it(tmp_path: Path) -> None:
    async with view(tmp_path) as shown:
        cluster, accounts = shown.cluster, shown.cluster.accounts
        channel = cluster.create_channel(accounts["bob"], "Ward 4", [accounts["anna"], accounts["carl"]])
        cluster.store(accounts["bob"], channel, "who is on duty?")
        await shown.expect("Ward 4: bob created the channel “Ward 4”.")
        await shown.expect("bob in Ward 4: who is on duty?", f"(answer: /to #{channel})")
        await shown.view.take("/to #ward 4")
        assert shown.view.prompt == "anna → Ward 4> "
        await shown.view.take("I am")
        await shown.expect("you → Ward 4: I am ✓ delivered to 0 of 2")
        for number, name in enumerate(("bob", "carl")):
            async with signed_in(cluster, tmp_path / name, name) as member:
                await member.wait_until(ConnectionState.CONNECTED, timeout=5)
                if not number:
                    await until(lambda: delivered_to(cluster, channel, "bob"), "bob has it")
                    assert not shown.has("now received")
                else:
                    await shown.expect("✓✓ all members of Ward 4 have now received “I am”")


def delivered_to(cluster: InProcessCluster, channel: int, name: str) -> bool:
    last = cluster.messages[-1].id
    query = "SELECT delivered_up_to FROM members WHERE conversation_id = ? AND account_id = ?"
    [(mark,)] = cluster.rows(query, (channel, cluster.accounts[name].id))
    return bool(mark >= last)


# ---- a terminal


def completions(words: Words, typed: str) -> list[str]:
    return [c.text for c in words.get_completions(Document(typed), CompleteEvent(completion_requested=True))]


async def test_commands_and_names_are_completed(tmp_path: Path) -> None:
    async with view(tmp_path) as shown:
        words = Words(shown.view)
        assert completions(words, "/h") == ["/help", "/history"]
        assert completions(words, "/to b") == ["bob"]
        assert completions(words, "/to ") == ["anna", "bob", "carl"]
        assert completions(words, "hello b") == []
        shown.view.names = ("anna", "bob", "#Nights")
        for command in ("/dm", "/whisper", "/invite", "/remove"):
            assert completions(words, f"{command} ") == ["anna", "bob"]
        assert completions(words, "/dm b") == ["bob"]
        assert completions(words, "/dm bob and then b") == []
        assert completions(words, "/join ") == completions(words, "/to #n") == ["#Nights"]
        assert completions(words, "/topic b") == []


@asynccontextmanager
async def terminal(
    tmp_path: Path, cluster: InProcessCluster
) -> AsyncIterator[tuple[PipeInput, "asyncio.Task[int]", list[str]]]:
    shown: list[str] = []

    class Recording(PromptScreen):
        def show(self, line: str) -> None:
            shown.append(line)

        def quiet(self, line: str) -> None:
            shown.append(line)

    async with make_client(cluster, tmp_path) as client:
        await client.login("anna", PASSWORD)
    options = ConnectionOptions(tuple(node.address for node in cluster.nodes), None, True, "anna", tmp_path)
    with create_pipe_input() as keys:
        screen = Recording(keys=keys, output=DummyOutput())
        task = asyncio.ensure_future(chat(options, "bob", create=False, screen=screen))
        try:
            yield keys, task, shown
        finally:
            task.cancel()
            await asyncio.wait([task])


async def test_typed_lines_are_sent_and_ctrl_d_leaves(tmp_path: Path) -> None:
    async with running_cluster() as cluster:
        cluster.add_account("bob", PASSWORD)
        cluster.add_account("anna", PASSWORD)
        async with terminal(tmp_path, cluster) as (keys, task, shown):
            keys.send_text("hello\r")
            await until(lambda: cluster.bodies_for("bob") == ["hello"], "it arrived")
            keys.send_text("half")
            cluster.store(cluster.accounts["bob"], cluster.accounts["anna"], "in between")
            await until(lambda: any("in between" in line for line in shown), "it was shown")
            keys.send_text(" typed\r")
            await until(lambda: cluster.bodies_for("bob")[1:] == ["half typed"], "the line stayed whole")
            keys.send_text("thrown away\x03")
            await until(lambda: any("/quit leaves" in line for line in shown), "Ctrl-C empties the line")
            keys.send_text("/to b\t\r\x1b[A\r/quit\r")
            assert await asyncio.wait_for(task, 10) == ExitCode.OK
        assert cluster.bodies_for("bob") == ["hello", "half typed"]


async def test_leaving_with_something_waiting_says_that_it_is_kept(tmp_path: Path) -> None:
    async with running_cluster() as cluster:
        cluster.add_account("bob", PASSWORD)
        cluster.add_account("anna", PASSWORD)
        async with terminal(tmp_path, cluster) as (keys, task, shown):
            cluster.nodes[0].faults.no_majority = True
            cluster.announce()
            keys.send_text("kept\r")
            await until(lambda: any("no majority" in line for line in shown), "it was told")
            keys.send_text("\x04")
            assert await asyncio.wait_for(task, 10) == ExitCode.KEPT
            assert any("are kept here and sent, once" in line for line in shown)


async def test_a_command_of_another_system_is_asked_about_before_it_is_sent(tmp_path: Path) -> None:
    async with running_cluster() as cluster:
        cluster.add_account("bob", PASSWORD)
        cluster.add_account("anna", PASSWORD)
        async with terminal(tmp_path, cluster) as (keys, _, shown):

            async def type_line(line: str, answer: str) -> None:
                before = len(shown)
                keys.send_text(f"{line}\r")
                await until(lambda: any(answer in one for one in shown[before:]), f"{answer!r} after {line!r}: {shown}")

            await type_line("help", "Did you mean /help?")
            await type_line("Quit", "Did you mean /quit?")
            await type_line("REGISTER bob", "Did you mean parley register NAME")
            await type_line("help me, please", "you → bob: help me, please")
            await type_line("help", "Did you mean /help?")
            await type_line("help", "you → bob: help")
            await type_line("to carl", "Did you mean /to carl?")
            await type_line("Cancel 3", "Did you mean /cancel 3?")
            await type_line("Registered mail is here", "you → bob: Registered mail")
            assert cluster.bodies_for("bob") == ["help me, please", "help", "Registered mail is here"]


# ---- pipes


@pytest.fixture
async def piped(tmp_path: Path) -> AsyncIterator[tuple[InProcessCluster, Parley]]:
    async with running_cluster() as cluster:
        cluster.add_account("bob", PASSWORD)
        yield cluster, Parley(tmp_path, cluster)


async def test_a_script_can_chat_and_register_on_the_way(piped: tuple[InProcessCluster, Parley]) -> None:
    cluster, parley = piped
    done = await parley(
        "chat", "bob", "--account", "anna", "--register", stdin="one\ntwo\n/history\n", PARLEY_PASSWORD=PASSWORD
    )
    assert done.code == 0, done.err
    assert cluster.bodies_for("bob") == ["one", "two"]
    own = [line.split("you → ")[1] for line in done.out.splitlines() if line.endswith("✓")]
    assert own == ["bob: one ✓", "bob: two ✓"], done.out
    again = await parley("chat", "--to", "bob", stdin="three\n/quit\nnever sent\n")
    assert (again.code, cluster.bodies_for("bob")) == (0, ["one", "two", "three"])


async def test_a_script_without_the_right_password_ends_without_registering(
    piped: tuple[InProcessCluster, Parley],
) -> None:
    cluster, parley = piped
    done = await parley("chat", "--account", "anna", stdin="x\n", PARLEY_PASSWORD=PASSWORD)
    assert done.code == ExitCode.NOT_SIGNED_IN
    taken = await parley("chat", "--account", "bob", "--register", stdin="x\n", PARLEY_PASSWORD="wrong password")
    assert taken.code == ExitCode.NOT_SIGNED_IN
    assert list(cluster.accounts) == ["bob"]


async def test_two_piped_chats_talk_to_each_other(piped: tuple[InProcessCluster, Parley], tmp_path: Path) -> None:
    cluster, anna = piped
    bob = Parley(tmp_path / "bob", cluster)
    (tmp_path / "bob").mkdir()
    async with bob.running("chat", "anna", "--account", "bob", PARLEY_PASSWORD=PASSWORD) as listening:
        assert listening.stdout is not None
        assert listening.stdin is not None
        sent = await anna(
            "chat", "bob", "--account", "anna", "--register", stdin="hello bob\n", PARLEY_PASSWORD=PASSWORD
        )
        assert sent.code == 0
        line = await asyncio.wait_for(listening.stdout.readline(), 40)
        assert line.decode().endswith("anna: hello bob\n")
        listening.stdin.write(b"hello anna\n")
        line = await asyncio.wait_for(listening.stdout.readline(), 40)
        assert "you → anna: hello anna" in line.decode()
        listening.send_signal(signal.SIGINT)
        assert await asyncio.wait_for(listening.wait(), 40) == ExitCode.INTERRUPTED


async def test_the_end_of_the_session_is_said_once(tmp_path: Path) -> None:
    """It was said again for each line of a script."""
    async with view(tmp_path) as shown:
        shown.cluster.end_sessions()
        await shown.expect("The session has ended")
        for number in range(3):
            await shown.view.take(f"line {number}")
            await shown.expect(f"line {number}")
        assert sum("The session has ended" in line for line in shown.lines) == 1
