"""Receipts of an own message: through the SDK, the command `parley receipts`, the chat's /receipts, and as text."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from parley import Account, BadInputError, MemberReceipt, MessageReceipts, MessageStatus, RefusedError, Target
from parley.chat import missing_lines, receipt_line
from parley.receipts import SHOWN_MEMBERS
from parley_proto.v1 import state_pb2
from tests.support.node import running_cluster
from tests.unit.client.helpers import PASSWORD, make_client, signed_in, until
from tests.unit.client.test_chat import view
from tests.unit.client.test_command import Parley


def some(others: int, delivered: int, read: int, **more: object) -> MessageReceipts:
    """Receipts of a message to user1, user2 ..., of whom the first ones have received and read it."""
    members = tuple(
        MemberReceipt(Account(number, f"user{number}"), delivered=number <= delivered, read=number <= read)
        for number in range(1, others + 1)
    )
    known: dict[str, object] = {"disks_known": True, "on_disk": ("n1", "n2"), "not_on_disk": ("n3",)}
    return MessageReceipts(1, 2, others, delivered, read, members, **{**known, **more})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("receipts", "line"),
    [
        (some(4, 3, 1), "on disk at n1, n2, not yet reported by n3; delivered to 3 of 4; read by user1"),
        (some(4, 0, 0), "on disk at n1, n2, not yet reported by n3; delivered to 0 of 4"),
        (some(2, 2, 0, not_on_disk=()), "on disk at n1, n2; delivered to all 2"),
        (some(2, 2, 2, not_on_disk=()), "on disk at n1, n2; read by all 2"),
        (some(1, 1, 1, not_on_disk=()), "on disk at n1, n2; read"),
        (some(0, 0, 0, not_on_disk=()), "on disk at n1, n2; nobody else was sent it"),
        (
            some(1, 1, 0, disks_known=False, on_disk=(), not_on_disk=()),
            "on a majority's disks, at which nodes is not known now; delivered",
        ),
    ],
)
def test_receipts_are_one_line_of_text(receipts: MessageReceipts, line: str) -> None:
    assert receipt_line(receipts) == line


def test_who_is_missing_is_named_up_to_ten_and_the_others_are_counted() -> None:
    assert missing_lines(some(3, 2, 1)) == (
        "Not delivered yet to user3.",
        "Delivered, but not read yet by user2.",
    )
    assert missing_lines(some(3, 0, 0)) == (), "the counts say it already"
    assert missing_lines(some(3, 3, 3)) == ()
    [away, unread] = missing_lines(some(40, 25, 1))
    assert away == "Not delivered yet to " + ", ".join(f"user{n}" for n in range(26, 36)) + " and 5 more."
    assert unread.endswith("user11 and 14 more.")


async def test_the_sdk_tells_who_has_an_own_message_and_of_no_other_one(tmp_path: Path) -> None:
    async with running_cluster() as cluster, signed_in(cluster, tmp_path / "anna") as anna:
        bob = cluster.add_account("bob", PASSWORD)
        sent = await (await anna.send("bob", "hello")).accepted(timeout=10)
        found = await anna.receipts(sent.conversation_id, sent.message_id)
        [receipt] = found.members
        assert (receipt.account.name, receipt.delivered, receipt.read) == ("bob", False, False)
        assert (found.others, found.delivered, found.disks_known, found.on_disk) == (1, 0, True, ("n1",))
        assert found.log_index > 0
        answer = cluster.store(bob, cluster.accounts["anna"], "hi")
        with pytest.raises(RefusedError, match="Somebody else sent this message"):
            await anna.receipts(answer.conversation_id, answer.id)
        with pytest.raises(BadInputError):
            await anna.receipts(0, -1)


async def test_members_of_several_pages_are_joined_up_to_the_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("parley.net.receipt_calls.MAX_PAGE", 2)
    async with running_cluster() as cluster, signed_in(cluster, tmp_path / "anna") as anna:
        names = [cluster.add_account(f"user{number}").name for number in range(5)]
        channel = await anna.create_channel("Ward A", names)
        message = cluster.store(cluster.accounts["anna"], channel, "x")
        found = await anna.receipts(channel, message.id)
        assert ([one.account.name for one in found.members], found.others) == (names, 5)
        assert len((await anna.receipts(channel, message.id, limit=3)).members) == 3


async def test_the_command_prints_the_receipts_of_the_last_own_message_or_of_a_named_one(tmp_path: Path) -> None:
    async with running_cluster() as cluster:
        anna, bob = cluster.add_account("anna", PASSWORD), cluster.add_account("bob", PASSWORD)
        parley = Parley(tmp_path / "anna", cluster)
        assert (await parley("login", "anna", PARLEY_PASSWORD=PASSWORD)).code == 0
        assert (await parley("receipts", "bob")).code != 0, "nothing was sent yet"
        first = cluster.store(anna, bob, "first")
        cluster.store(anna, bob, "last")
        theirs = cluster.store(bob, anna, "of bob")
        printed = await parley("receipts", "bob")
        assert (printed.code, printed.out) == (0, "on disk at n1; delivered to 0 of 1\n")
        assert "“last”" in printed.err
        record = json.loads((await parley("receipts", "bob", "--message", str(first.id), "--json")).out)
        assert (record["message_id"], record["others"], record["on_disk"]) == (first.id, 1, ["n1"])
        assert record["members"][0]["account"]["name"] == "bob"
        refused = await parley("receipts", "bob", "--message", str(theirs.id))
        assert (refused.code != 0, f"Message {theirs.id} is none of yours" in refused.err) == (True, True)


async def test_the_chat_shows_the_receipts_of_the_last_message_there(tmp_path: Path) -> None:
    async with view(tmp_path, "bob") as shown:
        assert await shown.view.take("/receipts")
        assert shown.has("You have sent no message in this conversation")
        await shown.view.take("hello")
        await shown.expect("you → bob: hello", "✓")
        assert await shown.view.take("/receipts")
        assert shown.has("on disk at n1; delivered to 0 of 1")


async def test_a_message_in_a_large_channel_is_read_only_when_the_last_member_has_read_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("parleyd.delivery.receipt_counts.INTERVAL_S", 0.001)
    async with running_cluster() as cluster:
        async with signed_in(cluster, tmp_path / "anna") as anna:
            names = [cluster.add_account(f"user{number}").name for number in range(SHOWN_MEMBERS)]
            channel = await anna.create_channel("all", names)
            sent = await (await anna.send(Target(conversation_id=channel), "x")).accepted(timeout=10)

            def read(name: str) -> None:
                cluster.store(cluster.accounts[name], cluster.accounts["anna"], "begins a session")
                [(session,)] = cluster.rows(
                    "SELECT max(id) FROM sessions WHERE account_id = ?", (cluster.accounts[name].id,)
                )
                command = state_pb2.MarkRead(session_id=session, conversation_id=channel, up_to=sent.message_id)
                cluster.apply_one(state_pb2.Command(mark_read=command))

            def are_told(readers: int) -> bool:
                found = anna.conversation(channel)
                return found is not None and found.counts is not None and found.counts.read == readers

            for name in names[:-1]:
                read(name)
            await until(lambda: are_told(SHOWN_MEMBERS - 1), "all readers but one are counted")
            [view] = await anna.outgoing(target=Target(conversation_id=channel))
            assert view.status is MessageStatus.ACCEPTED
            read(names[-1])
            await until(lambda: are_told(SHOWN_MEMBERS), "all readers are counted")
            [view] = await anna.outgoing(target=Target(conversation_id=channel))
            assert view.status is MessageStatus.READ
        async with make_client(cluster, tmp_path / "anna", "anna", connect=False) as offline:
            [view] = await offline.outgoing(target=Target(conversation_id=channel))
            assert view.status is MessageStatus.READ, "it is kept on this device"
