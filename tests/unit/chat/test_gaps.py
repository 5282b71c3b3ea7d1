"""Where a thread has a gap, it says so. Own messages never stand together as if nobody had written between them."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import apsw
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from parley import Account, HistoryPage, HistoryStart, LostMessage, LostOrigin, Message, MessageStatus, Outgoing, Target
from parley.chat import Chats, Edit, Row, Thread, spoken, thread
from parley.chat.thread_rows import BETWEEN_TEXT, EARLIER_TEXT
from parley.device import directory, identity, inbox, outbox
from parley.device.schema import SCHEMA
from parley.terminal import text
from parley.wire.position import Position
from tests.unit.chat import people
from tests.unit.chat.people import ANN, BEN, PEOPLE, WITH_BEN, direct
from tests.unit.chat.test_thread import apply, message, new_thread, own, page

TO_BEN = Target(account="ben")


def kept(*numbers: int, of: tuple[int, int] = (0, 0), more: bool = False) -> HistoryPage:
    """A page of this device, in which messages from one id on and below another have no gap."""
    found = tuple(message(number) for number in numbers)
    return HistoryPage(found, more, cached=True, gapless_from=of[0], gapless_below=of[1])


def accepted(*numbers: int) -> list[Outgoing]:
    """Own messages of this device; each has 100 + its id as its local id."""
    return [own(100 + number, MessageStatus.ACCEPTED, number) for number in numbers]


def shown(thread: Thread) -> list[int | str]:
    """The ids of the rows, and what is missing above them."""
    rows: list[int | str] = []
    for row in thread.rows:
        rows += [row.gap_above] if row.gap_above else []
        rows.append(row.message_id)
    return rows


def test_own_messages_older_than_what_is_loaded_have_no_row_until_their_page_comes() -> None:
    for listed_first in (True, False):
        thread = new_thread()
        if listed_first:
            thread.update(accepted(1, 3, 7, 9))
        thread.load(kept(6, 7, 8, of=(6, 9), more=True), 0)
        if not listed_first:
            thread.update(accepted(1, 3, 7, 9))
        assert shown(thread) == [6, 7, 8, 9], "9 is newer than the page"
        thread.load(kept(3, 4, 5, of=(3, 6), more=True), 6)
        assert shown(thread) == [3, 4, 5, 6, 7, 8, 9]
        assert thread.rows[0].local_id == 103
        thread.load(page(*range(1, 10)), 0)
        assert shown(thread) == [1, 2, 3, 4, 5, 6, 7, 8, 9]


def test_what_waits_or_was_refused_is_always_shown_and_stays_when_it_is_accepted() -> None:
    thread = new_thread()
    thread.update([own(1, MessageStatus.WAITING), own(2, MessageStatus.FAILED)])
    assert len(thread.rows) == 2
    thread.update([own(1, MessageStatus.ACCEPTED, 30)])
    assert len(thread.rows) == 2
    thread.load(page(*range(20, 31), more=True), 0)
    thread.update([own(3, MessageStatus.WAITING)])
    thread.update([own(3, MessageStatus.ACCEPTED, 31)])
    assert shown(thread) == [*range(20, 32), 0]


def test_a_message_that_was_stored_long_before_its_result_came_stands_in_the_part_that_is_not_loaded() -> None:
    thread = new_thread()
    thread.load(page(*range(20, 31), more=True), 0)
    thread.update([own(3, MessageStatus.SENDING)])
    thread.update([own(3, MessageStatus.ACCEPTED, 4)])
    assert shown(thread) == [*range(20, 31)]
    thread.load(page(*range(1, 20)), 20)
    assert shown(thread) == [*range(1, 31)]


def test_a_gap_between_what_this_device_has_and_the_page_of_the_cluster_is_told_until_it_is_loaded() -> None:
    thread = new_thread()
    thread.load(kept(1, 2, of=(1, 3)), 0)
    thread.load(page(8, 9, more=True), 0)
    assert shown(thread) == [1, 2, BETWEEN_TEXT, 8, 9]
    assert spoken(thread.rows[2]).startswith(f"{BETWEEN_TEXT}. ")
    assert thread.rows[1].last
    assert thread.rows[2].first
    thread.load(page(6, 7, more=True), 8)
    assert shown(thread) == [1, 2, BETWEEN_TEXT, 6, 7, 8, 9]
    thread.load(page(2, 3, 4, 5, more=True), 6)
    assert shown(thread) == [1, 2, 3, 4, 5, 6, 7, 8, 9]


def test_messages_that_arrive_close_the_gap_after_a_long_time_offline() -> None:
    thread = new_thread()
    thread.load(kept(1, 2, of=(1, 3)), 0)
    thread.load(page(8, 9, more=True), 0)
    thread.arrive([message(3), message(5)])
    assert shown(thread) == [1, 2, 3, 5, BETWEEN_TEXT, 8, 9]
    thread.arrive([message(7), message(8)])
    assert shown(thread) == [1, 2, 3, 5, 7, 8, 9]


def test_own_messages_after_the_newest_received_one_do_not_hide_what_others_wrote_before_them() -> None:
    thread = new_thread()
    thread.load(kept(1, 2, 9, of=(1, 3)), 0)
    thread.load(page(8, 9, more=True), 0)
    assert shown(thread) == [1, 2, BETWEEN_TEXT, 8, 9]


def test_lost_rows_stand_above_the_gap_and_are_never_left_out() -> None:
    thread = new_thread()
    thread.load(page(8, 9, more=True), 0)
    thread.set_lost([people_lost(3)])
    assert [row.lost for row in thread.rows] == [True, False, False]
    assert thread.rows[1].gap_above == BETWEEN_TEXT


def people_lost(after_id: int) -> LostMessage:
    return LostMessage(1, LostOrigin.OTHERS, "ben", "ben", "lost", 5000, WITH_BEN, after_id, TO_BEN)


# ---- pages of this device while the cluster cannot be asked


def offline() -> Chats:
    made = Chats("ann")
    made.take_accounts(PEOPLE)
    made.take_conversations((direct(),))
    made.take_answering(answering=False)
    made.open("ben")
    return made


def rows_of(made: Chats) -> list[int | str]:
    found = made.thread(made.key_of("ben"))
    assert found is not None
    return shown(found)


def test_without_the_cluster_older_pages_of_this_device_are_loaded_and_their_end_is_told() -> None:
    made = offline()
    key = made.key_of("ben")
    made.load(TO_BEN, 0, kept(*range(60, 80), of=(60, 80), more=True))
    assert made.wants_history(key, 0) == 60
    assert made.wants_history(key, 0) is None, "once at a time"
    made.load(TO_BEN, 60, kept(*range(40, 60), of=(40, 60)))
    assert made.wants_history(key, 0) is None
    assert rows_of(made) == [EARLIER_TEXT, *range(40, 80)]
    made.take_answering(answering=True)
    assert rows_of(made) == [*range(40, 80)]
    made.load(TO_BEN, 0, page(*range(70, 81), more=True))
    assert made.wants_history(key, 0) == 70
    made.load(TO_BEN, 70, page(*range(1, 70)))
    assert rows_of(made) == [*range(1, 81)]


def test_a_thread_of_the_cluster_goes_on_with_what_this_device_has_when_the_connection_breaks() -> None:
    made = offline()
    made.take_answering(answering=True)
    key = made.key_of("ben")
    made.load(TO_BEN, 0, page(*range(60, 80), more=True))
    made.take_answering(answering=False)
    assert made.wants_history(key, 0) == 60
    made.load(TO_BEN, 60, kept(50, 51, of=(50, 52)))
    assert rows_of(made) == [EARLIER_TEXT, 50, 51, BETWEEN_TEXT, *range(60, 80)]
    made.take_answering(answering=True)
    assert made.wants_history(key, 0) == 60, "the cluster has what is between"


def test_a_page_that_the_cluster_could_not_return_is_not_asked_for_again_and_older_ones_of_this_device_are() -> None:
    made = offline()
    made.take_answering(answering=True)
    key = made.key_of("ben")
    made.load(TO_BEN, 0, page(*range(60, 80), more=True))
    assert made.wants_history(key, 0) == 60
    without_majority = kept(58, 59, of=(58, 60), more=True)
    made.load(TO_BEN, 60, replace(without_majority, cached_because="No node answered."))
    assert made.wants_history(key, 0) == 58
    made.load_failed(TO_BEN, 58)
    assert made.wants_history(key, 0) is None
    made.take_answering(answering=True)
    assert made.wants_history(key, 0) == 60


def test_a_new_conversation_shows_what_was_sent_into_it() -> None:
    made = offline()
    made.load(TO_BEN, 0, HistoryPage((), has_older=False, cached=True))
    made.take_outgoing([own(1, MessageStatus.ACCEPTED, 5)])
    assert rows_of(made) == [5]


def test_a_printed_page_of_this_device_says_what_may_be_missing() -> None:
    whole = kept(1, 2, 3, of=(1, 4))
    assert text.from_this_device(whole).endswith("It has no older ones of this conversation.")
    patchy = kept(1, 2, 3, of=(3, 4), more=True)
    assert "Some messages before 1970-01-01" in text.from_this_device(patchy)
    assert text.no_messages(kept(), "with ben") == "This device has no messages with ben."
    assert text.no_messages(page(), "with ben") == "There are no messages with ben."


# ---- a random test with the file of a device


class World:
    """A conversation in the cluster, the file of a device that receives it, and a thread on the screen."""

    LIMIT = 3

    def __init__(self) -> None:
        self.cluster: list[tuple[str, Message]] = []  # who wrote it: ben, this device, or another device of ann
        self.file = apsw.Connection(":memory:")
        for statement in SCHEMA:
            self.file.execute(statement)
        identity.signed_in(self.file, identity.load(self.file).device_id, "t", ANN.id, Position())
        directory.learn(self.file, PEOPLE, [direct()])
        self.streamed = self.listed = 0
        self.removed = set[int]()
        self.open()

    def open(self) -> None:
        self.were_stored = set[int]()  # own messages that a page had before their result came
        self.thread, self.mirror, self.listed = new_thread(), list[Row](), 0
        self.do(self.thread.update(outbox.open_messages(self.file, 99)))
        self.do(self.thread.load(self.page_here(0), 0))
        self.own(3)

    def do(self, edits: list[Edit]) -> None:
        apply(self.mirror, edits)

    def write(self, who: str) -> None:
        """Somebody's message is stored by the cluster. This device does not know of it yet."""
        id_, number = len(self.cluster) + 1, 0
        if who == "here":
            outbox.add(self.file, [(TO_BEN, f"m{id_}")], 1)
            (one,) = outbox.claim(self.file, 1)
            number = one.number
            self.do(self.thread.update([one]))
        sender: Account = BEN if who == "ben" else ANN
        stored = people.message(id_, sender=sender)
        self.cluster.append((who, replace(stored, number=number)))

    def answer(self, count: int) -> None:
        """The results of own messages come."""
        stored = {message.number: message for who, message in self.cluster if who == "here"}
        for one in outbox.unanswered(self.file)[:count]:
            found = stored[one.number]
            result = Outgoing(
                one.local_id, one.target, one.body, 1, MessageStatus.ACCEPTED, one.number, found.id, WITH_BEN,
                found.sent_at_ms,
            )  # fmt: skip
            outbox.settle(self.file, [result])
            settled = outbox.get(self.file, one.local_id)
            assert settled is not None
            self.do(self.thread.update([settled]))

    def stream(self, count: int) -> None:
        """The next messages arrive. The stream leaves out what this device sent."""
        waiting = [message for who, message in self.cluster[self.streamed :] if who != "here"][:count]
        if waiting:
            cursor = inbox.load_cursor(self.file)
            inbox.insert(self.file, waiting, before=cursor, after=cursor + b".")
            inbox.mark_shown(self.file, inbox.last_place(self.file))
            self.streamed = waiting[-1].id
            self.do(self.thread.arrive(waiting))

    def page(self, _: int) -> None:
        before_id = 0 if self.thread.verified_from is None else self.thread.wants_before(0)
        if before_id is None:
            return
        found = [message for _, message in self.cluster if not before_id or message.id < before_id]
        if not before_id:
            self.listed = len(self.cluster)
        self.do(self.thread.load(HistoryPage(tuple(found[-self.LIMIT :]), len(found) > self.LIMIT), before_id))

    def page_here(self, before_id: int) -> HistoryPage:
        return inbox.page(self.file, Target(conversation_id=WITH_BEN), HistoryStart(before_id), self.LIMIT)

    def older_here(self, _: int) -> None:
        before_id = self.thread.wants_kept_before(0)
        if before_id is not None:
            self.do(self.thread.load(self.page_here(before_id), before_id))

    def own(self, count: int) -> None:
        self.do(self.thread.update(outbox.listing(self.file, count)))

    def prune(self, _: int) -> None:
        self.write("ben")
        self.stream(99)  # thousands of own messages are not removed before anything older arrives
        before = self.held()
        inbox.prune(self.file)
        outbox.prune(self.file)
        self.removed |= before - self.held()

    def held(self) -> set[int]:
        return {int(row[0]) for row in self.file.execute("SELECT id FROM inbox UNION SELECT message_id FROM outbox")}

    def trim(self, _: int) -> None:
        self.thread.trim()
        self.mirror = list(self.thread.rows)

    def check(self) -> None:
        rows = self.thread.rows
        assert self.mirror == rows
        ids = [row.message_id for row in rows if row.message_id]
        assert ids == sorted(set(ids))
        stored = {message.number: message.id for who, message in self.cluster if who == "here"}
        under_way = {one.local_id: stored[one.number] for one in outbox.unanswered(self.file)}
        assert {row.local_id for row in rows if not row.message_id} <= set(under_way)
        self.were_stored |= {one for one, id_ in under_way.items() if id_ in ids}
        assert {*under_way} <= {row.local_id for row in rows} | self.were_stored
        told = False  # a row below says that messages above it are not loaded
        for above, below in reversed([*pairwise(rows)]):
            if below.message_id and not below.gap_above:
                missing = set(range(above.message_id + 1, below.message_id)) - {*under_way.values()}
                on_the_way = {one for one in missing if one > self.streamed}
                excused = self.removed | on_the_way if told else {one for one in on_the_way if one > self.listed}
                assert missing <= excused, (shown(self.thread), self.streamed, self.listed, self.removed)
            told = told or bool(below.gap_above)


DEEDS = st.tuples(
    st.sampled_from(("answer", "stream", "stream", "page", "page", "older_here", "own", "prune", "trim")),
    st.integers(1, 6),
)
AUTHORS = st.lists(st.sampled_from(("ben", "here", "here", "elsewhere")), min_size=1, max_size=6)
WRITES = st.tuples(st.just("write"), AUTHORS)
STEPS = st.lists(st.one_of(DEEDS, WRITES, st.tuples(st.just("open"), st.just(0))), min_size=10, max_size=40)


@settings(max_examples=300, deadline=None)
@given(STEPS)
def test_between_two_rows_nothing_is_missing_unless_the_thread_says_so(
    steps: list[tuple[str, int | list[str]]],
) -> None:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(thread, "KEEP_ROWS", 4)
        patched.setattr(inbox, "KEEP_MESSAGES", 6)
        patched.setattr(outbox, "KEEP_SETTLED", 7)
        world = World()
        for name, given_ in steps:
            if name == "open":
                world.open()
            elif isinstance(given_, list):
                for who in given_:
                    world.write(who)
            else:
                getattr(world, name)(given_)
            world.check()
        world.stream(99)
        world.answer(99)
        for _ in range(99):
            world.page(0)
        world.check()
        rows = world.thread.rows
        assert [row.message_id for row in rows][-len(world.cluster) :] == [*range(1, len(world.cluster) + 1)]
        assert not any(row.gap_above for row in rows)
