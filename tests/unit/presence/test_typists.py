"""Who types is told once, soon or never, and only by members."""

from __future__ import annotations

from parley_proto.v1 import peer_pb2 as pb
from parleyd.presence.typists import FRESH_S, MAX_TYPING, Typing, TypistsTo, typing_in
from tests.unit.presence.test_presence import N1, Pair


def test_typing_goes_into_the_next_report_and_into_no_other() -> None:
    pair = Pair()
    pair.deliver()
    pair.one.client_types(Typing(5, 7), pair.now_s)
    pair.one.client_types(Typing(5, 7), pair.now_s)
    report = pair.report()
    assert [*typing_in(report)] == [Typing(5, 7)]
    assert [*typing_in(pair.report())] == []


def test_what_waited_too_long_for_a_link_is_not_told() -> None:
    waiting = TypistsTo()
    waiting.add(Typing(5, 7), 10.0)
    waiting.add(Typing(5, 8), 11.0)
    assert [one.account_id for one in waiting.take(10.5 + FRESH_S)] == [8]


def test_more_than_its_bound_is_not_told_and_costs_nothing() -> None:
    waiting = TypistsTo()
    for account_id in range(1, 2 * MAX_TYPING):
        waiting.add(Typing(5, account_id, to=9), 1.0)
    told = waiting.take(1.0)
    assert len(told) == MAX_TYPING
    assert pb.PresenceReport(typists=told).ByteSize() < 8 * 1024
    report = pb.PresenceReport(typists=[*told, *told])
    assert len([*typing_in(report)]) == MAX_TYPING


def test_what_no_node_sends_is_left_out() -> None:
    reports = [(0, 1, 0), (1, 0, 0), (1 << 63, 1, 0), (1, 1 << 63, 0), (1, 1, 1 << 63), (1, 2, 3)]
    report = pb.PresenceReport(
        typists=[pb.TypingReport(conversation_id=one, account_id=two, to=three) for one, two, three in reports]
    )
    assert [*typing_in(report)] == [Typing(1, 2, 3)]


def test_only_members_are_believed() -> None:
    pair = Pair()
    assert pair.two.is_believed(N1)
    pair.peers.members.discard(N1)
    assert not pair.two.is_believed(N1)
