"""Random commands against a simple model: exactly once, in order, cursors and marks, whatever the batching."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from parleyd.machine.queries import StateReader

from parley_proto.v1 import state_pb2 as pb
from parleyd.machine.limits import FIRST_MESSAGE_ID
from parleyd.machine.machine import CommittedEntry, MessageStored, StateMachine
from tests.unit.machine.harness import (
    BOOTSTRAP_MEMBERS,
    START_MS,
    WEEK_MS,
    close_session,
    delete_account,
    dump,
    external,
    mark_delivered,
    mark_read,
    open_session,
    payload,
    publish,
    queued,
    register,
    sends,
)

OK = pb.RESULT_CODE_OK
USERS = ("ada", "bob", "cid")
DEVICES = (11, 12, 21, 31)  # ada has two
OWNER = {11: 1, 12: 1, 21: 2, 31: 3}


@dataclass
class ModelMessage:
    id: int
    pair: tuple[int, int]
    sender: int
    device: int
    body: str


@dataclass
class Model:
    """What three users and four devices, logged in for good, should find."""

    messages: list[ModelMessage] = field(default_factory=list)
    last_number: dict[int, int] = field(default_factory=lambda: dict.fromkeys(DEVICES, 0))
    cursor: dict[int, int] = field(default_factory=lambda: dict.fromkeys(DEVICES, 0))
    delivered: dict[tuple[int, tuple[int, int]], int] = field(default_factory=dict)
    read: dict[tuple[int, tuple[int, int]], int] = field(default_factory=dict)
    results: dict[tuple[int, int], int] = field(default_factory=dict)

    def send(self, device: int, number: int, recipient: str, body: str) -> tuple[int, int]:
        """Code and message id of one send."""
        if (device, number) in self.results:
            message_id = self.results[(device, number)]
            return (OK, message_id) if message_id else (pb.RESULT_CODE_NOT_FOUND, 0)
        if number != self.last_number[device] + 1:
            return (pb.RESULT_CODE_GAP, 0)
        self.last_number[device] = number
        self.results[(device, number)] = 0
        if recipient not in USERS:
            return (pb.RESULT_CODE_NOT_FOUND, 0)
        one, other = OWNER[device], USERS.index(recipient) + 1
        message_id = FIRST_MESSAGE_ID + len(self.messages)
        pair = (min(one, other), max(one, other))
        self.messages.append(ModelMessage(message_id, pair, one, device, body))
        self.results[(device, number)] = message_id
        return (OK, message_id)

    def deliver(self, device: int, up_to: int) -> None:
        cursor = min(up_to, self.last_id())
        if cursor <= self.cursor[device]:
            return
        self.cursor[device] = cursor
        for pair in self.pairs(OWNER[device]):
            key = (OWNER[device], pair)
            self.delivered[key] = max(self.delivered.get(key, 0), min(cursor, self.last_id(pair)))

    def mark_read(self, account: int, pair: tuple[int, int], up_to: int) -> None:
        key = (account, pair)
        self.read[key] = max(self.read.get(key, 0), min(up_to, self.last_id(pair)))
        self.delivered[key] = max(self.delivered.get(key, 0), self.read[key])

    def last_id(self, pair: tuple[int, int] | None = None) -> int:
        return max((m.id for m in self.messages if pair in (None, m.pair)), default=0)

    def pairs(self, account: int) -> list[tuple[int, int]]:
        return sorted({m.pair for m in self.messages if account in m.pair}, key=self.first_id)

    def first_id(self, pair: tuple[int, int]) -> int:
        return min(m.id for m in self.messages if m.pair == pair)


Action = tuple[str, int, int, int]


@st.composite
def actions(draw: st.DrawFn) -> list[Action]:
    """(what, device, a, b): numbers are relative, so that most of them hit something."""
    one = st.tuples(
        st.sampled_from(["send", "send", "send", "retry", "gap", "nobody", "deliver", "read"]),
        st.integers(0, len(DEVICES) - 1),
        st.integers(0, 5),
        st.integers(0, 5),
    )
    return draw(st.lists(one, min_size=1, max_size=40))


def login_entries() -> list[bytes]:
    commands = [register(name) for name in USERS]
    # Before any message, so that every cursor starts at 0.
    commands += [open_session(OWNER[device], device, device) for device in DEVICES]
    return [payload([command], START_MS) for command in commands]


def command_for(model: Model, action: Action, at: int) -> tuple[pb.Command, list[tuple[int, int]] | None]:
    """The command for an action, with the results the model expects of its sends."""
    what, place, a, b = action
    device, session = DEVICES[place], place + 1
    last = model.last_number[device]
    if what in ("send", "retry", "gap", "nobody"):
        first = {"send": last + 1, "retry": max(1, last - a), "gap": last + 2 + a, "nobody": last + 1}[what]
        recipient = "nobody" if what == "nobody" else USERS[b % len(USERS)]
        items = [(first + extra, recipient, f"{at}-{extra}") for extra in range(1 + a % 3)]
        return sends(session, *items), [model.send(device, *item) for item in items]
    up_to = max(0, model.last_id() + 1 - a)
    if what == "deliver":
        model.deliver(device, up_to)
        return mark_delivered(session, up_to), None
    account = OWNER[device]
    pairs = model.pairs(account)
    if not pairs:
        return mark_read(session, 99, up_to), None
    pair = pairs[b % len(pairs)]
    model.mark_read(account, pair, up_to)
    conversation = 1 + sorted({m.pair for m in model.messages}, key=model.first_id).index(pair)
    return mark_read(session, conversation, up_to), None


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
    payloads = login_entries()
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
            first_gap = next((i for i, (code, _) in enumerate(wanted) if code == pb.RESULT_CODE_GAP), len(wanted))
            codes = [(send.code, send.message_id) for send in got[0].sends]  # type: ignore[index]
            assert codes[:first_gap] == wanted[:first_gap]
            assert all(code == pb.RESULT_CODE_GAP for code, _ in codes[first_gap:])
    assert stored == [message.id for message in model.messages], "each message is announced once, in order"
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
        found = queued(reader, account, record.delivered_up_to, 1000, place + 1)
        assert [(m.id, m.body) for m in found] == [
            (m.id, m.body)
            for m in model.messages
            if account in m.pair and m.device != device and m.id > model.cursor[device]
        ]
    for account in OWNER.values():
        conversations = conversations.page(reader, account, 0, 100)
        assert len(conversations) == len(model.pairs(account))
        for conversation in conversations:
            check_conversation(reader, model, account, conversation.conversation_id)


def check_conversation(reader: StateReader, model: Model, account: int, conversation_id: int) -> None:
    (conversation,) = [c for c in conversations.page(reader, account, 0, 100) if c.conversation_id == conversation_id]
    peer = USERS.index(conversation.peer) + 1
    pair = (min(account, peer), max(account, peer))
    wanted = [m for m in model.messages if m.pair == pair]
    history = messages.history(reader, account, conversation_id, 0, 1000)
    assert [(m.id, m.body, m.sender_id, m.device_id) for m in history] == [
        (m.id, m.body, m.sender, external(m.device)) for m in wanted
    ]
    read = model.read.get((account, pair), 0)
    assert conversation.read_up_to == read
    assert conversation.delivered_up_to == model.delivered.get((account, pair), 0)
    assert conversation.peer_delivered_up_to == model.delivered.get((peer, pair), 0)
    assert conversation.peer_read_up_to == model.read.get((peer, pair), 0)
    assert conversation.unread == sum(m.id > read and m.sender != account for m in wanted)


def random_command(rng: random.Random) -> pb.Command:
    """Any command at all, sensible or not."""
    number = rng.choice([0, 1, 2, 3, 4, 2**63 - 1, 2**63, 2**64 - 1])
    small = rng.randrange(1, 6)
    name = rng.choice(["ada", "Bob", "cid", "", "x" * 70, "ö", "a\x00b"])
    match rng.randrange(9):
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
            items = [(rng.choice([1, 2, 3, number]), name, rng.choice(["", "text"])) for _ in range(rng.randrange(4))]
            return sends(rng.choice([small, number]), *items)
        case 6:
            return mark_delivered(rng.choice([small, number]), number)
        case 7:
            return mark_read(rng.choice([small, number]), rng.choice([small, number]), number)
        case _:
            return publish(number, name, name, name)


@pytest.mark.parametrize("seed", range(12))
def test_no_command_at_all_fails_unforeseen_and_two_nodes_always_agree(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    payloads = [
        payload([random_command(rng) for _ in range(rng.randrange(4))], START_MS + rng.randrange(-100, 100))
        for _ in range(120)
    ]
    payloads[rng.randrange(len(payloads))] = rng.randbytes(20)
    one = apply_in_batches(tmp_path / "one", payloads, [1, 2, 30])
    two = apply_in_batches(tmp_path / "two", payloads, [64])
    assert one == two
    assert dump(tmp_path / "one") == dump(tmp_path / "two")
