"""Unread counts and the list of conversations: right whatever happened, and cheap however much there is."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from parley_proto.v1 import model_pb2
from parley_proto.v1 import state_pb2 as pb
from parleyd.machine.features import conversations, unread
from parleyd.machine.features.history import History
from parleyd.machine.features.memberships import EVERYONE_ID
from parleyd.machine.features.messages import TEXT
from parleyd.machine.reader import StateReader
from tests.unit.machine.harness import ConversationId, Item, Node, Target, change_setting, mark_read, sends, set_role

DAY_MS = 24 * 3600 * 1000
PEOPLE = ("ada", "bob", "cid")
LEVEL = 3
MANY = 3_000


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    node = Node(tmp_path / "state.sqlite")
    yield node
    node.close()


class Team:
    """Three people with a channel, who write, read, leave, come back and forget, by a random generator."""

    def __init__(self, node: Node, random: random.Random) -> None:
        self.node = node
        self.random = random
        self.sessions = {name: node.user(name, place) for place, name in enumerate(PEOPLE, start=1)}
        self.ids = {name: node.account(name).id for name in PEOPLE}
        self.numbers = dict.fromkeys(PEOPLE, 0)
        self.channel = 0

    def rise(self) -> None:
        self.node.rise()
        self.channel = self.node.one(
            pb.Command(
                create_channel=pb.CreateChannel(
                    session_id=self.sessions["ada"],
                    title="ward",
                    members=[self.ids["bob"], self.ids["cid"]],
                    request_id=b"c" * 16,
                )
            ),
            level=LEVEL,
        ).create_channel.conversation_id
        self.do(pb.Command(set_role=set_role(self.sessions["ada"], "ada", administrator=True).set_role))
        self.change_channel(public=True)

    def do(self, *commands: pb.Command) -> None:
        self.node.apply(*commands, level=self.node.machine.level)

    def change_channel(self, *, public: bool | None = None, open_history: bool | None = None) -> None:
        change = pb.ChangeChannel(
            session_id=self.sessions["ada"], conversation_id=self.channel, public=public, open_history=open_history
        )
        self.do(pb.Command(change_channel=change))

    def item(self, name: str) -> Item:
        self.numbers[name] += 1
        targets: list[Target] = [*PEOPLE]
        if self.channel:
            targets += [ConversationId(self.channel), ConversationId(EVERYONE_ID)]
        return self.numbers[name], self.random.choice(targets), "text"

    def step(self) -> None:
        name = self.random.choice(PEOPLE)
        session = self.sessions[name]
        match self.random.randrange(8):
            case 0 | 1 | 2:
                texts = [self.item(name) for _ in range(self.random.randint(1, 4))]
                self.do(sends(session, *texts))
            case 3 | 4:
                rows = self.node.reader.rows("SELECT id FROM conversations")
                if rows:
                    place = self.random.randint(0, self.node.reader.last_message_id())
                    self.do(mark_read(session, self.random.choice(rows)[0], place))
            case 5 if self.channel:
                self.do(
                    self.random.choice(
                        [
                            pb.Command(join_channel=pb.JoinChannel(session_id=session, conversation_id=self.channel)),
                            pb.Command(leave_channel=pb.LeaveChannel(session_id=session, conversation_id=self.channel)),
                        ]
                    )
                )
            case 6 if self.channel:
                self.change_channel(open_history=self.random.random() < 0.5)
            case 7 if self.channel and self.random.random() < 0.2:
                self.do(change_setting(self.sessions["ada"], "retention_days", 1))
                self.node.now_ms += self.random.randrange(DAY_MS)
                self.do()

    def check(self) -> None:
        reader = self.node.reader
        for account_id in self.ids.values():
            listed = [one.conversation.id for one in conversations.page(reader, account_id, 0, 100)]
            ordered = sorted(listed, key=lambda one: last_of(reader, one), reverse=True)
            assert listed == ordered
            by_pages: list[int] = []
            before = 0
            while page := list(conversations.page(reader, account_id, before, 2)):
                by_pages += [one.conversation.id for one in page]
                before = page[-1].conversation.last_message_id
            assert by_pages == listed
            for (conversation_id,) in reader.rows("SELECT id FROM conversations"):
                history = History(reader, account_id, conversation_id)
                mark = history.read_up_to()
                expected = [
                    record.id
                    for record in history.before(0, 100_000, 1 << 30).messages
                    if record.kind == TEXT and record.sender_id != account_id and record.id > mark
                ]
                assert unread.count(reader, conversation_id, account_id, mark) == len(expected)


def last_of(reader: StateReader, conversation_id: int) -> int:
    [(last,)] = reader.rows("SELECT last_message_id FROM conversations WHERE id = ?", (conversation_id,))
    return int(last)


@pytest.mark.parametrize("seed", range(12))
def test_what_is_counted_is_what_the_history_has_of_others_above_the_mark(node: Node, seed: int) -> None:
    team = Team(node, random.Random(seed))
    rises_at = seed * 5  # what was written below level 3 is counted when the level rises
    for step in range(100):
        if step == rises_at:
            team.rise()
        team.step()
        if step % 10 == 9 and node.machine.level >= LEVEL:
            team.check()


def steps(reader: StateReader, query: Callable[[], object]) -> int:
    """The steps of SQLite's machine that a query takes."""
    taken = 0

    def step() -> bool:
        nonlocal taken
        taken += 1
        return False

    reader._connection.set_progress_handler(step, 1)
    query()
    reader._connection.set_progress_handler(None)
    return taken


def test_a_count_costs_the_same_for_ten_messages_and_for_ten_thousand(node: Node) -> None:
    ada, _ = node.user("ada", 1), node.user("bob", 2)
    node.rise()
    bob = node.account("bob").id
    costs = []
    for first in range(1, 10_001, 1_000):
        texts = [(number, "bob", "x") for number in range(first, first + 1_000)]
        node.one(sends(ada, *texts), level=LEVEL)
        [(conversation,)] = node.reader.rows("SELECT id FROM conversations WHERE kind = 1")
        count = partial(unread.count, node.reader, conversation, bob, 0)
        assert count() == first + 999
        costs.append(steps(node.reader, count))
    assert max(costs) - min(costs) <= 10, costs


def test_a_page_of_the_list_costs_what_it_has_however_many_conversations_there_are(node: Node) -> None:
    ada = node.user("ada", 1)
    node.rise()
    account_id = node.account("ada").id
    costs = []
    for first in range(0, 3 * MANY, MANY):
        names = [f"friend{one}" for one in range(first, first + MANY)]
        for place in range(0, MANY, 1_000):
            some = names[place : place + 1_000]
            node.apply(
                *(
                    pb.Command(register_account=pb.RegisterAccount(name=name, password_hash=b"x", request_id=b""))
                    for name in some
                )
            )
            items = [(first + place + number, name, "x") for number, name in enumerate(some, start=1)]
            node.one(sends(ada, *items), level=LEVEL)
        costs.append(steps(node.reader, lambda: conversations.latest(node.reader, account_id, 0, 100)))
    assert max(costs) <= 40 * (100 + 2 * 1_024), "40 for each row of the page, of its last step and of the first"


def test_below_level_3_a_count_ends_at_its_bound(node: Node) -> None:
    ada, _ = node.user("ada", 1), node.user("bob", 2)
    node.send(ada, *[(number, "bob", "x") for number in range(1, 151)])
    bob = node.account("bob").id
    assert next(conversations.page(node.reader, bob, 0, 1)).unread == unread.SCANNED
    node.rise()
    assert next(conversations.page(node.reader, bob, 0, 1)).unread == 150


def test_rows_of_nobody_count_for_nobody(node: Node) -> None:
    """An administrator who is no member changes a channel: the row has a sender that is in no list of members."""
    ada, bob = node.user("ada", 1), node.user("bob", 2)
    node.rise()
    channel = node.channel(ada, "ward")
    assert bob
    node.one(sends(ada, (1, ConversationId(channel), "x")), level=LEVEL)
    assert unread.count(node.reader, channel, node.account("ada").id, 0) == 0
    assert unread.count(node.reader, channel, node.account("bob").id, 0) == 0
    [(kind, ordinal, own)] = node.reader.rows(
        "SELECT kind, ordinal, sender_ordinal FROM messages WHERE conversation_id = ? ORDER BY id LIMIT 1", (channel,)
    )
    assert (kind, ordinal, own) == (model_pb2.MESSAGE_KIND_CHANNEL_CREATED, 0, 0)


def test_counts_begin_again_when_retention_has_removed_all_rows(node: Node) -> None:
    """A node that has the old count cached and one that was started meanwhile store the same."""
    ada, _ = node.user("ada", 1), node.user("bob", 2)
    node.rise()
    node.one(set_role(ada, "ada", administrator=True), level=LEVEL)
    node.one(change_setting(ada, "retention_days", 1), level=LEVEL)
    node.one(sends(ada, (1, "bob", "x"), (2, "bob", "y")), level=LEVEL)
    node.now_ms += 3 * DAY_MS
    while node.reader.rows("SELECT 1 FROM messages"):
        node.now_ms += DAY_MS
        node.apply(level=LEVEL)
    node.one(sends(ada, (3, "bob", "z")), level=LEVEL)
    assert node.reader.rows("SELECT ordinal, sender_ordinal FROM messages") == [(1, 1)]
