"""The quota of an account and the removal of old messages: counted once, equal on all nodes, bounded."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from parley_proto.v1 import state_pb2 as pb
from parleyd.machine.features import waiting
from parleyd.machine.features.stored_bytes import (
    CONVERSATIONS_PER_ENTRY,
    DAY_MS,
    ROW_BYTES,
    ROWS_PER_ENTRY,
    SWEEP_INTERVAL_MS,
    channel_size,
    stored_size,
)
from parleyd.machine.machine import StateMachine
from parleyd.machine.records import CommittedEntry
from tests.unit.machine.harness import (
    BOOTSTRAP_MEMBERS,
    START_MS,
    Node,
    Target,
    change_setting,
    create_channel,
    dump,
    open_session,
    payload,
    publish,
    raise_level,
    read_back,
    register,
    sends,
    set_role,
)

OK, QUOTA = pb.RESULT_CODE_OK, pb.RESULT_CODE_QUOTA_REACHED
LEVEL = 3
FOR_EVER_MS = START_MS + 1000 * DAY_MS


def join(node: Node, name: str, device: int) -> int:
    """Register and log in for a long time; the first account becomes an administrator, below level 3."""
    node.one(register(name))
    node._tokens += 1
    opened = node.one(open_session(node.account(name).id, node.token, device, expires_at_ms=FOR_EVER_MS))
    return opened.open_session.session_id


@pytest.fixture
def ada(node: Node) -> int:
    """The session of an administrator."""
    return join(node, "ada", 1)


@pytest.fixture
def bob(node: Node, ada: int) -> int:
    """The session of a member, in a cluster of level 3."""
    session = join(node, "bob", 2)
    node.rise(LEVEL)
    return session


def put(node: Node, session: int, first: int, bodies: Sequence[str], to: Target = "ada") -> list[int]:
    """Send bodies under numbers from `first` on; their codes."""
    items = [(first + place, to, body) for place, body in enumerate(bodies)]
    return [one.code for one in node.one(sends(session, *items), level=LEVEL).send_messages.sends]


def limit(node: Node, administrator: int, **settings: int) -> None:
    for name, value in settings.items():
        assert node.one(change_setting(administrator, name, value), level=LEVEL).code == OK


def tick(node: Node, days: float) -> None:
    """Let time pass, and one entry come."""
    node.now_ms += int(days * DAY_MS)
    node.apply(level=LEVEL)


def counted(node: Node, name: str) -> int:
    rows = node.reader.rows("SELECT bytes FROM stored_bytes WHERE account_id = ?", (node.account(name).id,))
    return rows[0][0] if rows else 0


def bodies(node: Node) -> list[str]:
    return [row[0] for row in node.reader.rows("SELECT body FROM messages ORDER BY id")]


# ---- quota


def test_an_account_stores_up_to_its_quota_and_others_are_not_concerned(node: Node, ada: int, bob: int) -> None:
    limit(node, ada, max_account_bytes=2 * (ROW_BYTES + 10))
    assert put(node, bob, 1, ["0123456789", "0123456789", "x"]) == [OK, OK, QUOTA]
    assert put(node, ada, 1, ["from another"], to="bob") == [OK]
    assert counted(node, "bob") == 2 * (ROW_BYTES + 10)
    limit(node, ada, max_account_bytes=1 << 20)
    assert put(node, bob, 4, ["more"]) == [OK], "the refused one used its number"
    assert put(node, bob, 3, ["x"]) == [QUOTA], "a retry gets its first result and is not counted"
    assert counted(node, "bob") == 2 * (ROW_BYTES + 10) + ROW_BYTES + 4


# ---- channels


def create(node: Node, session: int, number: int, *members: int, title: str = "ward") -> int:
    """Create a channel; the code."""
    command = create_channel(session, title, *members, request_id=number.to_bytes(16, "big"))
    return node.one(command, level=LEVEL).code


def test_an_account_creates_channels_up_to_a_bound_and_others_are_not_concerned(node: Node, ada: int, bob: int) -> None:
    limit(node, ada, max_account_channels=2)
    assert [create(node, bob, number) for number in (1, 2, 3)] == [OK, OK, pb.RESULT_CODE_TOO_MANY_CHANNELS]
    assert create(node, bob, 2) == OK, "a retry gets its first result"
    assert create(node, ada, 1) == OK
    limit(node, ada, max_account_channels=3)
    assert create(node, bob, 3) == OK
    limit(node, ada, max_account_channels=0)
    assert [create(node, bob, number) for number in range(4, 9)] == [OK] * 5, "0 is no limit"


def test_channels_of_direct_conversations_and_of_others_do_not_count(node: Node, ada: int, bob: int) -> None:
    limit(node, ada, max_account_channels=1)
    put(node, bob, 1, ["hello"])
    assert create(node, ada, 1, node.account("bob").id) == OK
    assert create(node, bob, 1) == OK


def test_titles_and_members_of_a_channel_count_in_the_quota_of_its_creator(node: Node, ada: int, bob: int) -> None:
    member = node.account("ada").id
    assert create(node, bob, 1, member, title="\N{GRINNING FACE}") == OK
    assert counted(node, "bob") == channel_size("\N{GRINNING FACE}", 2) > 2 * ROW_BYTES
    assert counted(node, "ada") == 0
    limit(node, ada, max_account_bytes=2 * counted(node, "bob"))
    assert create(node, bob, 2, member, title="wards") == pb.RESULT_CODE_QUOTA_REACHED
    assert create(node, bob, 2, member, title="ward") == OK
    assert create(node, bob, 3) == pb.RESULT_CODE_QUOTA_REACHED
    assert put(node, bob, 1, ["x"]) == [QUOTA], "messages and channels have one quota"


def test_the_removal_of_old_rows_gives_no_bytes_of_channels_back(node: Node, ada: int, bob: int) -> None:
    create(node, bob, 1)
    before = counted(node, "bob")
    limit(node, ada, retention_days=1)
    tick(node, 2)
    assert counted(node, "bob") == before, "the channel is still there"


def test_channels_have_no_bound_below_level_3(node: Node, ada: int) -> None:
    for number in range(1, 4):
        assert node.one(create_channel(ada, "ward", request_id=number.to_bytes(16, "big"))).code == OK
    node.rise(LEVEL)
    assert counted(node, "ada") == 0
    limit(node, ada, max_account_channels=3)
    assert create(node, ada, 9) == pb.RESULT_CODE_TOO_MANY_CHANNELS, "they count as channels"


@pytest.mark.parametrize("title", [" ", "   ", "\N{NO-BREAK SPACE}\N{IDEOGRAPHIC SPACE}", "\N{ZERO WIDTH SPACE} "])
def test_a_title_that_shows_nothing_is_refused(node: Node, ada: int, bob: int, title: str) -> None:
    assert create(node, bob, 1, title=title) == pb.RESULT_CODE_INVALID_TITLE


def test_bytes_are_counted_and_not_characters(node: Node, ada: int, bob: int) -> None:
    put(node, bob, 1, ["\N{GRINNING FACE}"])
    assert counted(node, "bob") == ROW_BYTES + 4 == stored_size("\N{GRINNING FACE}")


def test_a_quota_of_0_is_none(node: Node, ada: int, bob: int) -> None:
    limit(node, ada, max_account_bytes=0)
    assert put(node, bob, 1, ["x" * 60_000] * 3) == [OK] * 3


def test_what_was_stored_below_level_3_does_not_count(node: Node, ada: int) -> None:
    bob = join(node, "bob", 2)
    node.one(sends(bob, (1, "ada", "old")))
    node.rise(LEVEL)
    assert counted(node, "bob") == 0
    limit(node, ada, retention_days=1)
    put(node, bob, 2, ["new"])
    tick(node, 2)
    assert bodies(node) == []
    assert counted(node, "bob") == 0, "removing the old one took nothing away"


# ---- retention


def test_nothing_is_removed_by_default(node: Node, ada: int, bob: int) -> None:
    put(node, bob, 1, ["kept"])
    tick(node, 400)
    assert bodies(node) == ["kept"]


def test_messages_older_than_the_retention_are_removed_and_their_bytes_are_free(node: Node, ada: int, bob: int) -> None:
    limit(node, ada, retention_days=30)
    put(node, bob, 1, ["old", "old too"])
    tick(node, 20)
    put(node, bob, 3, ["young"])
    tick(node, 11)
    assert bodies(node) == ["young"]
    assert counted(node, "bob") == stored_size("young")
    conversation = node.reader.rows("SELECT id FROM conversations")[0][0]
    account_id = node.account("ada").id
    shown = read_back(node.reader, account_id, conversation, 0, 10)
    assert [message.body for message in shown] == ["young"]
    assert not read_back(node.reader, account_id, conversation, shown[0].id, 1)
    tick(node, 40)
    assert bodies(node) == []
    assert waiting.queued_page(node.reader, account_id, 0, 10, b"").messages == (), "nothing waits for a device"
    assert put(node, bob, 4, ["again"]) == [OK]
    page = waiting.queued_page(node.reader, node.account("ada").id, 0, 10, b"")
    assert [message.body for message in page.messages] == ["again"], "a device that was away goes on"


def test_a_sweep_removes_a_bounded_number_of_rows_with_each_entry(node: Node, ada: int, bob: int) -> None:
    limit(node, ada, max_account_bytes=0, retention_days=1)
    count = 2 * ROWS_PER_ENTRY + 10
    for first in range(1, count + 1, 100):
        put(node, bob, first, ["x"] * min(100, count + 1 - first))
    left = []
    tick(node, 3)
    while bodies(node):
        left.append(len(bodies(node)))
        tick(node, 0)
    assert left == [count - ROWS_PER_ENTRY, count - 2 * ROWS_PER_ENTRY]


def test_a_sweep_costs_the_same_however_many_young_rows_there_are(node: Node, ada: int, bob: int) -> None:
    limit(node, ada, max_account_bytes=0)
    first, steps = 1, []
    for count in (1_000, 9_000):
        for _ in range(count // 100):
            put(node, bob, first, ["x"] * 100)
            first += 100
        limit(node, ada, retention_days=30)
        tick(node, 1)
        steps.append(steps_of(node, lambda: tick(node, 1)))
        limit(node, ada, retention_days=0)
    assert steps[1] < 2 * steps[0]


def steps_of(node: Node, work: Callable[[], None]) -> int:
    """The steps of SQLite's virtual machine that the state needs for this, in tens."""
    steps = itertools.count()
    connection = node.machine._connection
    connection.set_progress_handler(lambda: next(steps) < 0, 10)
    work()
    connection.set_progress_handler(None)
    return next(steps)


def set_time_back(node: Node, administrator: int, days: float) -> None:
    node.now_ms -= int(days * DAY_MS)
    command = pb.Command(set_time=pb.SetTime(session_id=administrator, now_ms=node.now_ms))
    assert node.one(command, level=LEVEL).code == OK


def test_rows_of_the_future_are_old_so_many_days_after_the_time_was_set_back(node: Node, ada: int, bob: int) -> None:
    limit(node, ada, max_account_bytes=0, retention_days=30)
    tick(node, 400)
    for first in (1, 101, 201):
        put(node, bob, first, ["of the future"] * 100)
    set_time_back(node, ada, 400)
    tick(node, 0.5)
    assert put(node, bob, 301, ["of today"]) == [OK]
    tick(node, 29)
    assert len(bodies(node)) == 301, "they are no older than the others"
    tick(node, 0.6)
    assert len(bodies(node)) == 301 - ROWS_PER_ENTRY, "no more with one entry than of other rows"
    tick(node, 0)
    assert bodies(node) == ["of today"]
    assert counted(node, "bob") == stored_size("of today"), "their bytes are free"
    tick(node, 0.5)
    assert bodies(node) == []


def test_a_sweep_goes_through_all_conversations_and_then_rests(node: Node, ada: int, bob: int) -> None:
    limit(node, ada, retention_days=1)
    names = [f"m{number}" for number in range(CONVERSATIONS_PER_ENTRY + 3)]
    for name in names:
        node.one(register(name), level=LEVEL)
    for number, name in enumerate(names, start=1):
        put(node, bob, number, ["old"], to=name)
    tick(node, 2)
    assert len(bodies(node)) == 3
    tick(node, 0)
    assert bodies(node) == []
    [(at, not_before_ms)] = node.reader.rows("SELECT conversation_id, not_before_ms FROM retention")
    assert (at, not_before_ms) == (0, node.now_ms + SWEEP_INTERVAL_MS)


def test_nodes_remove_the_same_rows_whatever_entries_they_apply_together(tmp_path: Path) -> None:
    at_ms = [START_MS]

    def entry(index: int, *commands: pb.Command, level: int = LEVEL, days: float = 0) -> CommittedEntry:
        at_ms[0] += 1000 + int(days * DAY_MS)
        return CommittedEntry(index, 1, payload(commands, at_ms[0], level))

    def account(number: int) -> list[pb.Command]:
        return [register(f"m{number}"), open_session(number, number, number, expires_at_ms=FOR_EVER_MS)]

    publishing = [publish(row.node_id, row.name, levels=(1, LEVEL)) for row in BOOTSTRAP_MEMBERS]
    entries = [entry(1, *account(1), *account(2), *publishing, sends(2, (1, "m1", "below")), level=1)]
    entries += [entry(2, raise_level(2), level=1), entry(3, sends(2, (2, "m1", "at two")), raise_level(3), level=2)]
    entries += [entry(4, change_setting(1, "retention_days", 1), sends(2, (3, "m1", "at three")))]
    entries += [entry(4 + n, sends(2, (3 + n, "m1", "x")), days=0.4) for n in (1, 2, 3)]
    entries += [entry(8 + n, days=1) for n in range(4)]
    dumps = []
    for place, size in enumerate((1, 3, len(entries))):
        machine = StateMachine.create(tmp_path / f"{place}", BOOTSTRAP_MEMBERS, b"m")
        for start in range(0, len(entries), size):
            assert not machine.apply(entries[start : start + size]).failures
        machine.close()
        dumps.append(dump(tmp_path / f"{place}"))
    assert dumps[0] == dumps[1] == dumps[2]
    assert dumps[0]["messages"] == []


def test_only_an_administrator_changes_quota_and_retention(node: Node, ada: int, bob: int) -> None:
    for name in ("max_account_bytes", "retention_days"):
        refused = node.one(change_setting(bob, name, 1), level=LEVEL)
        assert refused.code == pb.RESULT_CODE_NOT_ALLOWED
    assert node.one(set_role(ada, "bob", administrator=True), level=LEVEL).code == OK


def test_the_sends_of_one_command_share_the_room_that_is_left(node: Node, ada: int, bob: int) -> None:
    limit(node, ada, max_account_bytes=3 * stored_size("four") - 1)
    assert put(node, bob, 1, ["four"] * 4) == [OK, OK, QUOTA, QUOTA]
    assert counted(node, "bob") == 2 * stored_size("four")
