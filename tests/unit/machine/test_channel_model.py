"""Random changes of a channel against a small model: who is in it, who may do what, and who reads which rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from unittest.mock import patch

from hypothesis import given, settings
from hypothesis import strategies as st

from parley_proto.v1 import state_pb2 as pb
from parleyd.machine.features import channel_counts, conversations, memberships, message_receipts, mutes, put_away
from parleyd.machine.features.channels import ROLE_MODERATOR
from parleyd.machine.features.conversations import ROLE_OWNER
from parleyd.machine.features.history import History
from parleyd.machine.features.memberships import CHANNELS_LEVEL, ROLE_MEMBER
from parleyd.machine.features.message_receipts import MemberReceipt, ReceiptCounts
from parleyd.machine.limits import MAX_ID
from tests.unit.machine.harness import ConversationId, Node, mark_delivered, mark_read, queued, read_back, sends

OK = pb.RESULT_CODE_OK
NOT_FOUND = pb.RESULT_CODE_NO_SUCH_CONVERSATION
REFUSED = pb.RESULT_CODE_NOT_A_MODERATOR
ARCHIVED = pb.RESULT_CODE_CHANNEL_ARCHIVED
LAST_OWNER = pb.RESULT_CODE_LAST_OWNER
PEOPLE = (1, 2, 3, 4)
ADMINISTRATOR = 1  # of the cluster


@dataclass
class Model:
    """What a channel of four people should be; `rows` are the ids of its rows."""

    next_id: int
    roles: dict[int, int] = field(default_factory=lambda: {1: ROLE_OWNER, 2: ROLE_MEMBER})
    rows: list[int] = field(default_factory=list)
    since: dict[int, int] = field(default_factory=lambda: {1: 0, 2: 0})
    past: list[tuple[int, int, int]] = field(default_factory=list)  # account, first and last row that it receives
    kept: list[tuple[int, int, int]] = field(default_factory=list)  # the same, that it may read
    said: dict[int, int] = field(default_factory=dict)  # message -> who sent it
    marks: dict[int, list[int]] = field(default_factory=lambda: {1: [0, 0], 2: [0, 0]})  # delivered, read
    left_at: dict[int, list[int]] = field(default_factory=dict)  # marks of who left
    cursors: dict[int, int] = field(default_factory=dict)
    muted: set[int] = field(default_factory=set)
    put_away: dict[int, int] = field(default_factory=dict)  # account -> up to which row
    removed: dict[int, int] = field(default_factory=dict)  # account -> up to which row
    public: bool = False
    archived: bool = False
    open_history: bool = False

    def row(self) -> int:
        self.rows.append(self.next_id)
        self.next_id += 1
        return self.rows[-1]

    def say(self, who: int) -> int:
        if who not in self.roles:
            return NOT_FOUND
        if self.archived:
            return ARCHIVED
        self.said[self.row()] = who
        return OK

    def hear(self, who: int) -> int:
        """A device of the person receives all that waits for it."""
        self.cursors[who] = self.rows[-1]
        if who in self.roles:
            self.marks[who][0] = self.rows[-1]
        return OK

    def see(self, who: int) -> int:
        """The person reads everything."""
        if who not in self.roles:
            return NOT_FOUND
        self.marks[who] = [self.rows[-1], self.rows[-1]]
        return OK

    def receipts(self, message: int) -> list[MemberReceipt]:
        """The members who were there when it was sent, and have been since."""
        present = [one for one in sorted(self.roles) if self.since[one] <= message and one != self.said[message]]
        return [MemberReceipt(one, *(mark >= message for mark in self.marks[one])) for one in present]

    def join(self, who: int) -> int:
        if who in self.roles:
            return OK
        return self._enter({who}) if self.public else NOT_FOUND

    def _refusal(self, who: int) -> int:
        """The code for somebody who is no owner and no moderator, 0 for others."""
        if who not in self.roles:
            return REFUSED if who == ADMINISTRATOR else NOT_FOUND
        return REFUSED if self.roles[who] == ROLE_MEMBER else 0

    def add(self, who: int, others: set[int]) -> int:
        if refused := self._refusal(who):
            return refused
        return self._enter(others - self.roles.keys())

    def _enter(self, new: set[int]) -> int:
        if new and self.archived:
            return ARCHIVED
        if new:
            before, first = self.rows[-1], self.row()
            for one in new:
                self.roles[one], self.since[one] = ROLE_MEMBER, first
                delivered, read = self.left_at.get(one, (before, before))
                self.marks[one] = [max(delivered, min(self.cursors.get(one, 0), before)), read]
        return OK

    def leave(self, who: int) -> int:
        return self._depart({who}) if who in self.roles else OK

    def remove(self, who: int, others: set[int]) -> int:
        if refused := self._refusal(who):
            return refused
        leaving = others & self.roles.keys()
        if self.roles[who] == ROLE_MODERATOR and any(self.roles[one] != ROLE_MEMBER for one in leaving):
            return REFUSED
        return self._depart(leaving)

    def _depart(self, leaving: set[int]) -> int:
        staying = {one: role for one, role in self.roles.items() if one not in leaving}
        if staying and ROLE_OWNER not in staying.values():
            return LAST_OWNER
        if leaving:
            last = self.row()
            self.kept += [(one, 0 if self.open_history else self.since[one], last) for one in leaving]
            self.left_at |= {one: self.marks.pop(one) for one in leaving}
            self.past += [(one, self.since.pop(one), last) for one in leaving]
            self.roles = staying
        return OK

    def mute(self, who: int, muted: bool) -> int:
        """It may be muted by who was ever in it, and stays so for who comes back."""
        if who not in self.roles and who not in self.left_at:
            return NOT_FOUND
        (self.muted.add if muted else self.muted.discard)(who)
        return OK

    def set_put_away(self, who: int, up_to: int) -> int:
        """The same for what it has put away. A mark moves forward only, up to the last row there is, or goes."""
        if who not in self.roles and who not in self.left_at:
            return NOT_FOUND
        if up_to:
            self.put_away[who] = max(self.put_away.get(who, 0), min(up_to, self._last(who)))
        else:
            self.put_away.pop(who, None)
        return OK

    def remove_it(self, who: int, up_to: int) -> int:
        """The same for what it has removed, up to the last row that was there for it; what was put away is not."""
        if who not in self.roles and who not in self.left_at:
            return NOT_FOUND
        bound = min(up_to, self._last(who))
        if bound > self.removed.get(who, 0):
            self.removed[who] = bound
            if self.put_away.get(who, bound + 1) <= bound:
                del self.put_away[who]
        return OK

    def _last(self, who: int) -> int:
        """The last row that was there for a person: of who left, that of its leaving."""
        return self.rows[-1] if who in self.roles else max(last for one, _, last in self.past if one == who)

    def give_role(self, who: int, other: int, role: int) -> int:
        if who not in self.roles and who != ADMINISTRATOR:
            return NOT_FOUND
        if self.roles.get(who) != ROLE_OWNER and who != ADMINISTRATOR:
            return REFUSED
        if other not in self.roles:
            return pb.RESULT_CODE_NOT_A_MEMBER
        if role != ROLE_OWNER and [one for one, its in self.roles.items() if its == ROLE_OWNER] == [other]:
            return LAST_OWNER
        self.roles[other] = role
        return OK

    def change(self, who: int, name: str, value: bool) -> int:
        if refused := self._refusal(who):
            return refused
        if name == "archived" and value != self.archived:
            self.row()
        setattr(self, name, value)
        return OK

    def received(self, who: int) -> list[int]:
        """The rows that a device of the person receives."""
        spans = [(first, last) for one, first, last in self.past if one == who]
        if who in self.roles:
            spans.append((self.since[who], MAX_ID))
        return self._kept(who, spans)

    def read(self, who: int) -> list[int]:
        """The rows that the person may read."""
        readable = [(first, last) for one, first, last in self.kept if one == who]
        if who in self.roles:
            readable.append((0 if self.open_history else self.since[who], MAX_ID))
        return self._kept(who, readable)

    def _kept(self, who: int, spans: list[tuple[int, int]]) -> list[int]:
        rows = [row for row in self.rows if row > self.removed.get(who, 0)]
        return [row for row in rows if any(first <= row <= last for first, last in spans)]


Person = st.sampled_from(PEOPLE)
Some = st.sets(Person, min_size=1, max_size=3)
Flag = st.sampled_from(["public", "archived", "open_history"])
Role = st.sampled_from([ROLE_MEMBER, ROLE_MODERATOR, ROLE_OWNER])
Actions = st.lists(
    st.one_of(
        st.tuples(st.just("say"), Person),
        st.tuples(st.just("hear"), Person),
        st.tuples(st.just("see"), Person),
        st.tuples(st.just("join"), Person),
        st.tuples(st.just("leave"), Person),
        st.tuples(st.just("add"), Person, Some),
        st.tuples(st.just("remove"), Person, Some),
        st.tuples(st.just("give_role"), Person, Person, Role),
        st.tuples(st.just("mute"), Person, st.booleans()),
        st.tuples(st.just("set_put_away"), Person, st.integers(0, 40)),
        st.tuples(st.just("remove_it"), Person, st.integers(0, 40)),
        st.tuples(st.just("change"), Person, Flag, st.booleans()),
    ),
    min_size=1,
    max_size=40,
)


class Real:
    """The same words, said to a state machine."""

    def __init__(self, node: Node) -> None:
        self.node = node
        node.rise()
        self._sessions = {one: node.user(f"user{one}", 10 + one) for one in PEOPLE}
        self.id = node.channel(self._sessions[1], "ward 3", 2)
        self._numbers = dict.fromkeys(PEOPLE, 0)

    def say(self, who: int) -> int:
        self._numbers[who] += 1
        item = (self._numbers[who], ConversationId(self.id), "x")
        [one] = self.node.one(sends(self._sessions[who], item), level=CHANNELS_LEVEL).send_messages.sends
        return one.code

    def hear(self, who: int) -> int:
        return self._do(mark_delivered(self._sessions[who], MAX_ID))

    def see(self, who: int) -> int:
        return self._do(mark_read(self._sessions[who], self.id, MAX_ID))

    def join(self, who: int) -> int:
        return self._do(
            pb.Command(join_channel=pb.JoinChannel(session_id=self._sessions[who], conversation_id=self.id))
        )

    def leave(self, who: int) -> int:
        leave = pb.LeaveChannel(session_id=self._sessions[who], conversation_id=self.id)
        return self._do(pb.Command(leave_channel=leave))

    def add(self, who: int, others: set[int]) -> int:
        add = pb.AddMembers(session_id=self._sessions[who], conversation_id=self.id, members=sorted(others))
        return self._do(pb.Command(add_members=add))

    def remove(self, who: int, others: set[int]) -> int:
        remove = pb.RemoveMembers(session_id=self._sessions[who], conversation_id=self.id, members=sorted(others))
        return self._do(pb.Command(remove_members=remove))

    def give_role(self, who: int, other: int, role: int) -> int:
        give = pb.SetMemberRole(session_id=self._sessions[who], conversation_id=self.id, member=other)
        give.role = role  # type: ignore[assignment] # one of the enum's numbers
        return self._do(pb.Command(set_member_role=give))

    def change(self, who: int, name: str, value: bool) -> int:
        change = pb.ChangeChannel(session_id=self._sessions[who], conversation_id=self.id)
        setattr(change, name, value)
        return self._do(pb.Command(change_channel=change))

    def mute(self, who: int, muted: bool) -> int:
        mute = pb.SetMuted(session_id=self._sessions[who], conversation_id=self.id, muted=muted)
        return self._do(pb.Command(set_muted=mute))

    def set_put_away(self, who: int, up_to: int) -> int:
        away = pb.SetPutAway(session_id=self._sessions[who], conversation_id=self.id, up_to=up_to)
        return self._do(pb.Command(set_put_away=away))

    def remove_it(self, who: int, up_to: int) -> int:
        remove = pb.RemoveConversation(session_id=self._sessions[who], conversation_id=self.id, up_to=up_to)
        return self._do(pb.Command(remove_conversation=remove))

    def _do(self, command: pb.Command) -> int:
        return self.node.one(command, level=CHANNELS_LEVEL).code


def check_counts(found: channel_counts.SenderCounts, counted: ReceiptCounts) -> None:
    """What a sender is told of its message in a large channel is what the marks of the members say."""
    assert ReceiptCounts(found.others, found.delivered, found.read) == counted
    assert (found.message_id >= found.sent_from) == (counted.others > 0)
    if counted.others:
        assert (found.message_id <= found.delivered_to_all) == (counted.delivered == counted.others)
        assert (found.message_id <= found.read_by_all) == (counted.read == counted.others)


def read_anywhere(node: Node, who: int, channel: int, readable: list[int], place: int) -> None:
    """Read on from the beginning and from a place, and around it."""
    history = History(node.reader, who, channel)
    forward: list[int] = []
    while (page := history.after(forward[-1] if forward else 0, 3)).messages:
        forward += [record.id for record in page.messages]
        assert page.has_newer == (forward != readable)
    assert forward == readable
    above = [one for one in readable if one > place]
    page = history.after(place, 2)
    assert [record.id for record in page.messages] == above[:2]
    assert (page.has_older, page.has_newer) == (any(one <= place for one in readable), len(above) > 2)
    older = [one for one in readable if one < place]
    newer = [one for one in readable if one >= place][: max(2, 4 - len(older))]
    older = older[-(4 - len(newer)) :] if len(newer) < 4 else []
    page = history.around(place, 4)
    assert [record.id for record in page.messages] == older + newer
    assert page.has_older == bool(readable and readable[0] < min(older, default=place))
    assert page.has_newer == bool(readable and readable[-1] > max(newer, default=place - 1))


@settings(max_examples=30, deadline=None)
@given(actions=Actions, cursor=st.integers(0, 30))
def test_a_channel_is_what_a_small_model_says(
    tmp_path_factory: object, actions: list[tuple[object, ...]], cursor: int
) -> None:
    folder: Path = tmp_path_factory.mktemp("channel")  # type: ignore[attr-defined]
    node = Node(folder / "state.sqlite")
    try:
        real = Real(node)
        model = Model(node.reader.last_message_id(), rows=[])
        model.row()
        for name, *arguments in actions:
            does: Callable[..., int] = getattr(real, str(name))
            should: Callable[..., int] = getattr(model, str(name))
            assert does(*arguments) == should(*arguments), (name, arguments)
        members = memberships.members(node.reader, real.id, 0, 10)
        assert {row.account_id: row.role for row in members} == model.roles
        record = conversations.by_id(node.reader, real.id)
        assert record is not None
        assert record.member_count == len(members)
        for message, sender in model.said.items():
            stored = message_receipts.find(node.reader, real.id, message)
            assert stored is not None
            assert stored.sender_id == sender
            expected = model.receipts(message)
            assert list(message_receipts.by_member(node.reader, stored, 0, 10)) == expected
            heard, seen = sum(one.delivered for one in expected), sum(one.read for one in expected)
            counted = ReceiptCounts(len(expected), heard, seen)
            assert message_receipts.counts(node.reader, stored) == counted
            with patch.object(channel_counts, "MARKS_TOLD_UP_TO", 1):
                for found in channel_counts.count(node.reader, real.id, {sender: message}):
                    check_counts(found, counted)
        assert {one for one in PEOPLE if mutes.is_muted(node.reader, one, real.id)} == model.muted
        assert {one: up_to for one in PEOPLE if (up_to := put_away.put_away_up_to(node.reader, one, real.id))} == (
            model.put_away
        )
        assert {one: up_to for one in PEOPLE if (up_to := memberships.removed_up_to(node.reader, real.id, one))} == (
            model.removed
        )
        for who in PEOPLE:
            shown = read_back(node.reader, who, real.id, 0, 100)
            assert [record.id for record in shown] == model.read(who)
            waiting = queued(node.reader, who, cursor, 100, b"")
            assert [record.id for record in waiting] == [row for row in model.received(who) if row > cursor]
            by_pages: list[int] = []
            while page := read_back(node.reader, who, real.id, by_pages[0] if by_pages else 0, 3):
                by_pages = [record.id for record in page] + by_pages
            assert by_pages == model.read(who)
            read_anywhere(node, who, real.id, model.read(who), cursor)
    finally:
        node.close()
