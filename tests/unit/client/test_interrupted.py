"""A command that a signal ends says what is true of its work: the message is kept, or the request may have happened.

What can go wrong: silence, after which a person types the message again and the other gets it twice.
"""

import asyncio
import signal
from pathlib import Path

import pytest

from parley import MessageStatus, OutcomeUnknownError, Outgoing, ParleyClient, Target
from parley.terminal import text
from parley.terminal.exits import ExitCode
from tests.support.node import InProcessNode, running_cluster
from tests.unit.client.helpers import PASSWORD, until
from tests.unit.client.helpers import signed_in as signed_in_client
from tests.unit.client.terminal import on_terminal
from tests.unit.client.test_command import Parley, signed_in

ENDS = [
    (signal.SIGINT, ExitCode.INTERRUPTED),
    (signal.SIGTERM, ExitCode.TERMINATED),
    (signal.SIGHUP, ExitCode.HUNG_UP),
]
KEPT = (
    f"Interrupted. The message is kept in the outbox. {text.SENT_LATER} Until it is sent to a node, parley outbox "
    "--cancel {} withdraws it.\n"
)
UNKNOWN = "Interrupted. The request may or may not have been carried out. "
FIRST = "where is the ladder?"  # no word of the schema, which is in the file, too
STILL_WAIT = "Messages still wait. They are kept here and sent, once, when you come back."


def is_in_outbox(parley: Parley, body: str) -> bool:
    """Whether the device's file, or its write-ahead log, holds the text."""
    files = Path(parley.environment["PARLEY_STATE_DIR"]).rglob("*.sqlite*")
    return any(body.encode() in file.read_bytes() for file in files if file.exists())


async def ended(process: asyncio.subprocess.Process, number: signal.Signals) -> tuple[int, str]:
    """Send a signal. Return the exit code and what the command said on stderr."""
    process.send_signal(number)
    async with asyncio.timeout(40):
        out, err = await process.communicate()
        code = await process.wait()
    assert out == b""
    return code, err.decode()


@pytest.mark.parametrize(("number", "code"), ENDS)
async def test_an_interrupted_send_says_that_the_message_is_kept_and_it_is_sent_once(
    tmp_path: Path, number: signal.Signals, code: ExitCode
) -> None:
    async with signed_in(tmp_path) as (cluster, parley):
        await cluster.nodes[0].die()
        sending = await parley.start("send", "bob", FIRST)
        await until(lambda: is_in_outbox(parley, FIRST), "the message is stored")
        assert await ended(sending, number) == (code, KEPT.format(1))
        await cluster.nodes[0].start()
        assert (await parley("send", "bob", "second")).code == ExitCode.OK
        assert cluster.bodies_for("bob") == [FIRST, "second"]


async def test_an_interrupted_send_whose_stderr_is_gone_ends_with_its_code(tmp_path: Path) -> None:
    async with signed_in(tmp_path) as (cluster, parley):
        await cluster.nodes[0].die()
        sending = await parley.start("send", "bob", FIRST)
        await until(lambda: is_in_outbox(parley, FIRST), "the message is stored")
        close_stderr(sending)
        sending.send_signal(signal.SIGHUP)
        async with asyncio.timeout(40):
            assert await sending.wait() == ExitCode.HUNG_UP


def close_stderr(process: asyncio.subprocess.Process) -> None:
    """Close the reading end of its pipe."""
    pipe = process._transport.get_pipe_transport(2)  # type: ignore[attr-defined]
    pipe.close()


def test_an_interrupted_send_with_a_result_says_the_result() -> None:
    def told(status: MessageStatus, detail: str = "") -> str:
        view = Outgoing(3, Target(account="bob"), "hello", 0, status, detail=detail, message_id=7)
        return text.interrupted(view, "Later.")

    assert told(MessageStatus.ACCEPTED) == "Interrupted. The message was accepted (message 7)."
    assert told(MessageStatus.READ) == "Interrupted. The message was accepted (message 7)."
    assert told(MessageStatus.FAILED, "No bob.") == "Interrupted. The message was refused and not sent. No bob."
    assert "not known whether" in told(MessageStatus.UNKNOWN)
    for status in (MessageStatus.WAITING, MessageStatus.SENDING):
        assert told(status).startswith("Interrupted. The message is kept in the outbox. Later. ")


CHANGES = [
    (("channel", "create", "Ward 4"), "CreateChannel"),
    (("register", "carl"), "Register"),
    (("login", "anna"), "LogIn"),
    (("logout",), "LogOut"),
    (("password", "--password-stdin"), "ChangePassword"),
    (("unregister", "--yes"), "DeleteAccount"),
    (("display-name", "Anna"), "SetDisplayName"),
    (("cluster", "settings", "max_message_bytes=65536"), "ChangeSetting"),
]


def hang_at(node: InProcessNode, called: str) -> None:
    """Let the node take calls of this name and say nothing."""
    enter = node.enter

    async def enter_or_hang(name: str) -> None:
        node.faults.hang = name == called
        await enter(name)

    node.called.clear()
    node.enter = enter_or_hang  # type: ignore[method-assign]


@pytest.mark.parametrize(("command", "called"), CHANGES)
async def test_an_interrupted_change_says_that_its_outcome_is_unknown(
    tmp_path: Path, command: tuple[str, ...], called: str
) -> None:
    async with signed_in(tmp_path) as (cluster, parley):
        node = cluster.nodes[0]
        hang_at(node, called)
        changing = await parley.start(*command, PARLEY_PASSWORD=PASSWORD)
        assert changing.stdin is not None
        changing.stdin.write(f"{PASSWORD}\n{PASSWORD}2\n".encode())
        await until(lambda: called in node.called, "the node has the request")
        code, err = await ended(changing, signal.SIGINT)
        node.release()
    assert code == ExitCode.INTERRUPTED
    assert err.startswith(UNKNOWN)
    assert err.endswith(("Repeating it is safe.\n", "Check the result before you try again.\n"))


async def test_an_interrupted_read_says_nothing(tmp_path: Path) -> None:
    async with signed_in(tmp_path) as (cluster, parley):
        node = cluster.nodes[0]
        hang_at(node, "ListAccounts")
        reading = await parley.start("accounts")
        await until(lambda: "ListAccounts" in node.called, "the node has the request")
        assert await ended(reading, signal.SIGTERM) == (ExitCode.TERMINATED, "")
        node.release()


@pytest.mark.parametrize(("called", "cause"), [("CreateChannel", OutcomeUnknownError), ("ListAccounts", type(None))])
async def test_a_cancelled_change_has_an_unknown_outcome_as_its_cause(
    tmp_path: Path, called: str, cause: type[object]
) -> None:
    async with running_cluster() as cluster, signed_in_client(cluster, tmp_path) as client:
        node = cluster.nodes[0]
        hang_at(node, called)
        asking = asyncio.ensure_future(client.create_channel("Ward 4") if called == "CreateChannel" else listed(client))
        await until(lambda: called in node.called, "the node has the request")
        asking.cancel()
        with pytest.raises(asyncio.CancelledError) as cancelled:
            await asking
        assert isinstance(cancelled.value.__cause__, cause)
        node.release()


async def listed(client: ParleyClient) -> int:
    return len(await client.list_accounts())


@pytest.mark.parametrize(("number", "code"), ENDS[1:])
async def test_a_chat_that_a_signal_ends_says_that_messages_still_wait(
    tmp_path: Path, number: signal.Signals, code: ExitCode
) -> None:
    async with signed_in(tmp_path) as (cluster, parley):
        await cluster.nodes[0].die()
        async with on_terminal(parley.environment, "chat", "bob", "--lines") as terminal:
            await terminal.shows("anna → bob>")
            terminal.type(f"{FIRST}\r".encode())
            await until(lambda: is_in_outbox(parley, FIRST), "the message is stored")
            terminal.process.send_signal(number)
            assert await terminal.end() == code
            assert STILL_WAIT in terminal.shown
            assert terminal.as_before


async def test_a_piped_chat_that_a_signal_ends_says_that_messages_still_wait(tmp_path: Path) -> None:
    async with signed_in(tmp_path) as (cluster, parley):
        await cluster.nodes[0].die()
        chatting = await parley.start("chat", "bob")
        assert chatting.stdin is not None
        chatting.stdin.write(f"{FIRST}\n".encode())
        await until(lambda: is_in_outbox(parley, FIRST), "the message is stored")
        chatting.send_signal(signal.SIGINT)
        async with asyncio.timeout(40):
            _, err = await chatting.communicate()
        assert (chatting.returncode, STILL_WAIT in err.decode()) == (ExitCode.INTERRUPTED, True), err
