"""Random commands against a simple model: exactly once, in order, cursors and marks, whatever the batching."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from parley_proto.v1 import state_pb2 as pb
from parleyd.machine.features import conversations, devices
from parleyd.machine.features.messages import MessageStored
from parleyd.machine.limits import FIRST_MESSAGE_ID
from parleyd.machine.machine import StateMachine
from parleyd.machine.reader import StateReader
from parleyd.machine.records import CommittedEntry
from tests.unit.machine.harness import (
    BOOTSTRAP_MEMBERS,
    START_MS,
    WEEK_MS,
    AccountId,
    ConversationId,
    Target,
    change_setting,
    close_session,
    create_channel,
    delete_account,
    dump,
    external,
    mark_delivered,
    mark_read,
    open_session,
    payload,
    publish,
    queued,
    raise_level,
    read_back,
    register,
    sends,
    set_role,
)

OK = pb.RESULT_CODE_OK
GAP = pb.RESULT_CODE_GAP
USERS = ("ada", "bob", "cid")
DEVICES = (11, 12, 21, 31)  # ada has two
OWNER = {11: 1, 12: 1, 21: 2, 31: 3}
CHANNEL_MEMBERS = (1, 2)  # cid is not in it


@dataclass
class ModelConversation:
    id: int
    members: tuple[int, ...]
    rows: list[ModelRow] = field(default_factory=list)

    def last_id(self) -> int:
        return self.rows[-1].id


@dataclass
class ModelRow:
    id: int
    sender: int
    device: int
    body: str


@dataclass
class ModelSend:
    target: Target
    body: str
    code: int
    message_id: int


def channel_with_its_first_row() -> list[ModelConversation]:
    return [ModelConversation(1, CHANNEL_MEMBERS, [ModelRow(FIRST_MESSAGE_ID, 1, 0, "all")])]


@dataclass
class Model:
    """What three users and four devices, logged in for good, should find; a channel was there before any message."""

    conversations: list[ModelConversation] = field(default_factory=channel_with_its_first_row)
    last_number: dict[int, int] = field(default_factory=lambda: dict.fromkeys(DEVICES, 0))
    cursor: dict[int, int] = field(default_factory=lambda: dict.fromkeys(DEVICES, 0))
    delivered: dict[tuple[int, int], int] = field(default_factory=dict)
    read: dict[tuple[int, int], int] = field(default_factory=dict)
    sends: dict[tuple[int, int], ModelSend] = field(default_factory=dict)

    def send(self, device: int, number: int, target: Target, body: str) -> tuple[int, int]:
        """Code and message id of one send."""
        before = self.sends.get((device, number))
        if before is not None:
            same = (before.target, before.body) == (target, body)
            return (before.code, before.message_id) if same else (pb.RESULT_CODE_MISMATCH, 0)
        if number != self.last_number[device] + 1:
            return (GAP, 0)
        self.last_number[device] = number
        found = self.conversation_for(OWNER[device], target)
        code, message_id = (OK, self.last_id() + 1) if isinstance(found, ModelConversation) else (found, 0)
        if isinstance(found, ModelConversation):
            found.rows.append(ModelRow(message_id, OWNER[device], device, body))
        self.sends[(device, number)] = ModelSend(target, body, code, message_id)
        return (code, message_id)

    def conversation_for(self, sender: int, target: Target) -> ModelConversation | int:
        match target:
            case ConversationId(conversation_id):
                mine = [c for c in self.of(sender) if c.id == conversation_id]
                return mine[0] if mine else pb.RESULT_CODE_NO_SUCH_CONVERSATION
            case AccountId(account_id) if account_id in OWNER.values():
                return self.direct(sender, account_id)
            case str() if target in USERS:
                return self.direct(sender, USERS.index(target) + 1)
            case None:
                return pb.RESULT_CODE_INVALID_TARGET
        return pb.RESULT_CODE_NO_SUCH_ACCOUNT

    def direct(self, one: int, other: int) -> ModelConversation:
        members = tuple(sorted({one, other}))
        for conversation in self.conversations[1:]:
            if conversation.members == members:
                return conversation
        self.conversations.append(ModelConversation(len(self.conversations) + 1, members))
        return self.conversations[-1]

    def deliver(self, device: int, up_to: int) -> None:
        cursor = min(up_to, self.last_id())
        if cursor <= self.cursor[device]:
            return
        self.cursor[device] = cursor
        for conversation in self.of(OWNER[device]):
            key = (OWNER[device], conversation.id)
            self.delivered[key] = max(self.delivered.get(key, 0), min(cursor, conversation.last_id()))

    def mark_read(self, account: int, conversation: ModelConversation, up_to: int) -> None:
        key = (account, conversation.id)
        self.read[key] = max(self.read.get(key, 0), min(up_to, conversation.last_id()))
        self.delivered[key] = max(self.delivered.get(key, 0), self.read[key])

    def last_id(self) -> int:
        return max(c.last_id() for c in self.conversations if c.rows)

    def of(self, account: int) -> list[ModelConversation]:
        return [c for c in self.conversations if account in c.members]

    def rows(self) -> list[ModelRow]:
        return sorted((row for c in self.conversations for row in c.rows), key=lambda row: row.id)


Action = tuple[str, int, int, int]


@st.composite
def actions(draw: st.DrawFn) -> list[Action]:
    """(what, device, a, b): numbers are relative, so that most of them hit something."""
    one = st.tuples(
        st.sampled_from(["send", "send", "send", "retry", "reuse", "gap", "nobody", "deliver", "read"]),
        st.integers(0, len(DEVICES) - 1),
        st.integers(0, 5),
        st.integers(0, 11),
    )
    return draw(st.lists(one, min_size=1, max_size=40))


def first_entries() -> list[bytes]:
    commands = [register(name) for name in USERS]
    # Before any message, so that every cursor starts at 0.
    commands += [open_session(OWNER[device], device, device) for device in DEVICES]
    commands.append(create_channel(1, "all", 2))
    return [payload([command], START_MS) for command in commands]


def target_for(b: int) -> Target:
    """Accounts by name and by id, the channel, and any other conversation, the sender's own or not."""
    by_account: list[Target] = [*USERS, AccountId(1), AccountId(2), AccountId(3)]
    return by_account[b] if b < len(by_account) else ConversationId(b - len(by_account) + 1)


def items_for(model: Model, what: str, device: int, a: int, b: int, at: int) -> list[tuple[int, Target, str]]:
    last = model.last_number[device]
    fresh = [(extra, "nobody" if what == "nobody" else target_for(b), f"{at}-{extra}") for extra in range(1 + a % 3)]
    if what == "retry":
        kept = [(number, model.sends.get((device, number))) for number in range(max(1, last - a), last + 1)]
        return [(number, sent.target, sent.body) for number, sent in kept if sent is not None]
    first = {"send": last + 1, "reuse": max(1, last - a), "gap": last + 2 + a, "nobody": last + 1}[what]
    return [(first + extra, target, body) for extra, target, body in fresh]


def command_for(model: Model, action: Action, at: int) -> tuple[pb.Command, list[tuple[int, int]] | None]:
    """The command for an action, with the results the model expects of its sends."""
    what, place, a, b = action
    device, session = DEVICES[place], place + 1
    if what not in ("deliver", "read"):
        items = items_for(model, what, device, a, b, at)
        return sends(session, *items), [model.send(device, *item) for item in items]
    up_to = max(0, model.last_id() + 1 - a)
    if what == "deliver":
        model.deliver(device, up_to)
        return mark_delivered(session, up_to), None
    account = OWNER[device]
    mine = model.of(account)
    if not mine:
        return mark_read(session, 99, up_to), None
    conversation = mine[b % len(mine)]
    model.mark_read(account, conversation, up_to)
    return mark_read(session, conversation.id, up_to), None


def apply_in_batches(
    path: Path, payloads: Sequence[bytes], sizes: Sequence[int]
) -> tuple[bytes, list[object], list[int]]:
    """Apply all payloads as entries in transactions of the given sizes, in turn; reopen now and then."""
    machine = StateMachine.create(path, BOOTSTRAP_MEMBERS, b"m")
    results: list[object] = []
    stored: list[int] = []
    turn = 0
    while machine.applied_index < len(payloads):
        start = machine.applied_index
        batch = payloads[start : start + sizes[turn % len(sizes)]]
        entries = [CommittedEntry(start + 1 + place, 1, data) for place, data in enumerate(batch)]
        outcome = machine.apply(entries)
        assert not outcome.failures
        results.extend(outcome.results)
        stored.extend(effect.message.id for effect in outcome.effects if isinstance(effect, MessageStored))
        turn += 1
        if turn % 37 == 0:
            machine.close()
            machine = StateMachine.open(path)
    state_hash = machine.state_hash
    machine.close()
    return state_hash, results, stored


@settings(max_examples=40, deadline=None)
@given(plan=actions(), sizes=st.lists(st.integers(1, 9), min_size=1, max_size=4))
def test_machine_agrees_with_the_model_in_any_batching(
    tmp_path_factory: pytest.TempPathFactory, plan: list[Action], sizes: list[int]
) -> None:
    folder = tmp_path_factory.mktemp("model")
    model = Model()
    payloads = first_entries()
    expected: list[list[tuple[int, int]] | None] = [None] * len(payloads)
    for at, action in enumerate(plan):
        command, outcome = command_for(model, action, at)
        payloads.append(payload([command], START_MS + at))
        expected.append(outcome)

    alone = apply_in_batches(folder / "alone", payloads, [1])
    batched = apply_in_batches(folder / "batched", payloads, sizes)
    assert alone == batched
    assert dump(folder / "alone") == dump(folder / "batched")

    _, results, stored = batched
    for wanted, got in zip(expected, results, strict=True):
        if wanted is not None:
            first_gap = next((i for i, (code, _) in enumerate(wanted) if code == GAP), len(wanted))
            codes = [(send.code, send.message_id) for send in got[0].send_messages.sends]  # type: ignore[index]
            assert codes[:first_gap] == wanted[:first_gap]
            assert all(code == GAP for code, _ in codes[first_gap:])
    assert stored == [row.id for row in model.rows()], "each row is announced once, in order"
    writer = StateMachine.open(folder / "batched")
    reader = StateReader.open(folder / "batched")
    check_views(reader, model)
    reader.close()
    writer.close()


def check_views(reader: StateReader, model: Model) -> None:
    """What every device and account is shown is what the model says."""
    for place, device in enumerate(DEVICES):
        account = OWNER[device]
        record = devices.by_id(reader, place + 1)
        assert record is not None
        assert (record.last_send_number, record.delivered_up_to) == (model.last_number[device], model.cursor[device])
        found = queued(reader, account, record.delivered_up_to, 1000, external(device))
        mine = {row.id for conversation in model.of(account) for row in conversation.rows}
        assert [(m.id, m.body) for m in found] == [
            (row.id, row.body)
            for row in model.rows()
            if row.id in mine and row.device != device and row.id > model.cursor[device]
        ]
    for account in OWNER.values():
        summaries = list(conversations.page(reader, account, 0, 100))
        latest_first = sorted(model.of(account), key=ModelConversation.last_id, reverse=True)
        assert [summary.conversation.id for summary in summaries] == [c.id for c in latest_first]
        for summary, conversation in zip(summaries, latest_first, strict=True):
            check_conversation(reader, model, account, summary, conversation)


def check_conversation(
    reader: StateReader,
    model: Model,
    account: int,
    summary: conversations.ConversationSummary,
    conversation: ModelConversation,
) -> None:
    history = read_back(reader, account, conversation.id, 0, 1000)
    assert [(m.id, m.body, m.sender_id, m.device_id) for m in history] == [
        (row.id, row.body, row.sender, external(row.device) if row.device else b"") for row in conversation.rows
    ]
    assert [(m.account_id, m.delivered_up_to, m.read_up_to) for m in summary.conversation.members] == [
        (member, model.delivered.get((member, conversation.id), 0), model.read.get((member, conversation.id), 0))
        for member in conversation.members
    ]
    read = model.read.get((account, conversation.id), 0)
    assert summary.read_up_to == read
    texts = [row for row in conversation.rows if row.device]
    assert summary.unread == sum(row.id > read and row.sender != account for row in texts)


def random_command(rng: random.Random) -> pb.Command:
    """Any command at all, sensible or not."""
    number = rng.choice([0, 1, 2, 3, 4, 2**63 - 1, 2**63, 2**64 - 1])
    small = rng.randrange(1, 6)
    name = rng.choice(["ada", "Bob", "cid", "", "x" * 70, "ö", "a\x00b"])
    match rng.randrange(13):
        case 0:
            return register(name, rng.choice([b"hash", b""]), rng.choice([b"", b"r" * 16, b"odd"]))
        case 1:
            expiry = rng.choice([START_MS + WEEK_MS, START_MS + 50, 0, -5])
            return open_session(rng.choice([small, number]), rng.randrange(20), small, expires_at_ms=expiry)
        case 2:
            return close_session(rng.randrange(20))
        case 3:
            return delete_account(rng.randrange(20), rng.choice([b"hash", b"wrong", b"wrong"]))
        case 4 | 5:
            targets: list[Target] = [name, AccountId(small), AccountId(number), ConversationId(number), None]
            items = [
                (rng.choice([1, 2, 3, number]), rng.choice(targets), rng.choice(["", "text"]))
                for _ in range(rng.randrange(4))
            ]
            return sends(rng.choice([small, number]), *items)
        case 6:
            return mark_delivered(rng.choice([small, number]), number)
        case 7:
            return mark_read(rng.choice([small, number]), rng.choice([small, number]), number)
        case 8:
            request = rng.choice([b"r" * 16, b"s" * 16, b"", b"odd"])
            title = rng.choice(["all", "", name])
            return create_channel(small, title, small, rng.choice([1, number]), request_id=request)
        case 9:
            value = rng.choice([0, 1, 5, -1, 1 << 40])
            return change_setting(small, rng.choice(["max_message_bytes", "level_limit", name]), value)
        case 10:
            return set_role(small, name, administrator=rng.choice([True, False]))
        case 11:
            return raise_level(rng.choice([0, 1]))
        case _:
            return publish(number, name, name, name, levels=rng.choice([(1, 1), (1, 9), (0, 1), (2, 3)]))


@pytest.mark.parametrize("seed", range(12))
def test_no_command_at_all_fails_unforeseen_and_two_nodes_always_agree(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    payloads = [
        payload(
            [random_command(rng) for _ in range(rng.randrange(4))],
            START_MS + rng.randrange(-100, 100),
            level=rng.choice([1, 1, 1, 0]),
        )
        for _ in range(120)
    ]
    payloads[rng.randrange(len(payloads))] = rng.randbytes(20)
    one = apply_in_batches(tmp_path / "one", payloads, [1, 2, 30])
    two = apply_in_batches(tmp_path / "two", payloads, [64])
    assert one == two
    assert dump(tmp_path / "one") == dump(tmp_path / "two")
