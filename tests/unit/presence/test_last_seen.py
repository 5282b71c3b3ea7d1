"""When somebody was last connected: kept while nodes restart one by one, and never later than the truth by a report."""

from __future__ import annotations

from parleyd.presence.last_seen import LastSeen
from parleyd.presence.presence import SILENT_AFTER_S, Presence
from tests.unit.presence.test_presence import N1, N2, Pair


def seen_by_two(pair: Pair, account_id: int = 7) -> float | None:
    return pair.two.last_seen_s(account_id, pair.now_s)


def test_other_nodes_know_when_the_last_connection_of_an_account_ended() -> None:
    pair = Pair()
    pair.one.client_connected(7, pair.now_s)
    pair.one.client_connected(7, pair.now_s)
    pair.deliver()
    pair.one.client_gone(7, pair.now_s)
    assert pair.one.last_seen_s(7, pair.now_s) is None, "another device of it is connected"
    pair.now_s += 10
    pair.one.client_gone(7, pair.now_s)
    pair.now_s += 30
    pair.deliver()
    assert pair.one.last_seen_s(7, pair.now_s) == pair.now_s - 30
    assert seen_by_two(pair) == pair.now_s - 30
    assert pair.two.connected(7, pair.now_s) is None


def test_an_account_at_a_node_that_fell_silent_was_last_seen_with_its_last_report() -> None:
    pair = Pair()
    pair.one.client_connected(7, pair.now_s)
    pair.deliver()
    heard_s = pair.now_s
    pair.now_s += SILENT_AFTER_S - 0.1
    assert pair.two.connected(7, pair.now_s) is not None
    assert seen_by_two(pair) is None
    pair.now_s += 60
    assert pair.two.connected(7, pair.now_s) is None
    assert seen_by_two(pair) == heard_s
    pair.restart_one(12)  # its process had died
    pair.deliver()
    assert seen_by_two(pair) == heard_s, "the new set does not have it"


def test_an_account_at_a_node_whose_link_broke_was_last_seen_with_its_last_report() -> None:
    pair = Pair()
    pair.one.client_connected(7, pair.now_s)
    pair.deliver()
    heard_s = pair.now_s
    pair.now_s += 0.5
    pair.two.link_began(N1)
    assert seen_by_two(pair) == heard_s


def test_a_member_that_was_removed_leaves_when_its_clients_were_seen() -> None:
    pair = Pair()
    pair.one.client_connected(7, pair.now_s)
    pair.deliver()
    heard_s = pair.now_s
    pair.now_s += 5
    pair.peers.members.discard(N1)
    assert seen_by_two(pair) == heard_s
    pair.peers.members.add(N1)
    pair.restart_one(12)
    pair.deliver()
    assert seen_by_two(pair) == heard_s


def test_a_node_that_starts_is_told_of_those_who_went_before() -> None:
    pair = Pair()
    pair.one.client_connected(7, pair.now_s)
    pair.deliver()
    pair.one.client_gone(7, pair.now_s)
    gone_s = pair.now_s
    pair.deliver()
    pair.now_s += 100
    pair.two = Presence(N2, 23, pair.peers, pair.max_listed)
    assert seen_by_two(pair) is None
    pair.one.link_began(N2)
    pair.deliver()
    assert seen_by_two(pair) == gone_s


def test_who_is_connected_again_was_seen_now_and_not_before() -> None:
    pair = Pair()
    pair.one.client_connected(7, pair.now_s)
    pair.one.client_gone(7, pair.now_s)
    pair.now_s += 100
    pair.one.client_connected(7, pair.now_s)
    pair.one.link_began(N2)
    report = pair.report()
    assert (list(report.online), list(report.gone)) == ([7], [])
    pair.deliver(report)
    found = pair.two.connected(7, pair.now_s)
    assert found is not None
    assert found.since_s == pair.now_s


def test_what_a_report_says_of_impossible_accounts_or_without_a_time_is_not_kept() -> None:
    pair = Pair()
    pair.deliver()
    report = pair.report()
    report.gone.extend([0, 1 << 63, 5, 6])
    report.gone_s.extend([1, 1, 1])
    pair.deliver(report)
    assert [seen_by_two(pair, one) is not None for one in (0, 1 << 63, 5, 6)] == [False, False, True, False]


def test_the_latest_end_counts_and_beyond_the_bound_who_was_seen_longest_ago_is_forgotten() -> None:
    seen = LastSeen(8)
    seen.note(1, 50.0)
    seen.note(1, 40.0)
    assert seen.at_s(1) == 50.0
    for account_id in range(2, 11):
        seen.note(account_id, 10.0 + account_id)
    assert [seen.at_s(each) is not None for each in range(1, 11)] == [True, False, False] + [True] * 7
    seen.connected((1, 10, 99))
    assert (seen.at_s(1), seen.at_s(10)) == (None, None)
    assert seen.newest(2) == [9, 8]


def test_reports_back_and_forth_never_make_the_time_later() -> None:
    pair = Pair()
    pair.one.client_connected(7, pair.now_s)
    pair.deliver()
    pair.now_s += 0.9
    pair.one.client_gone(7, pair.now_s)
    gone_s = pair.now_s
    for _ in range(50):
        pair.now_s += 0.7
        pair.one.link_began(N2)
        pair.two.link_began(N1)
        pair.deliver()
        pair.answer()
    assert pair.one.last_seen_s(7, pair.now_s) == gone_s
    assert gone_s - 1 <= (seen_by_two(pair) or 0.0) <= gone_s


def test_who_was_forgotten_meanwhile_is_told_as_gone_without_a_time() -> None:
    pair = Pair(max_listed=4)
    for account_id in range(1, 5):
        pair.one.client_connected(account_id, pair.now_s)
        pair.one.client_gone(account_id, pair.now_s)
    pair.one.link_began(N2)
    reports = pair.one._sent.get(N2)
    assert reports is None
    pair.deliver()
    pair.now_s += 1000
    pair.one._own_changed((99, 3))
    report = pair.report()
    assert ([*report.gone], len(report.gone_s)) == ([3, 99], 1)
    pair.deliver(report)
    assert seen_by_two(pair, 99) is None


def test_a_node_whose_process_died_is_told_of_its_former_clients() -> None:
    pair = Pair()
    pair.answer()  # n2 has sent its set already
    pair.one.client_connected(7, pair.now_s)
    pair.deliver()
    heard_s = pair.now_s
    pair.now_s += 3
    pair.restart_one(12)
    pair.answer()  # before n2 hears of the new process
    assert pair.one.last_seen_s(7, pair.now_s) is None
    assert pair.deliver(), "n2 has something to tell"
    pair.answer()
    assert pair.one.last_seen_s(7, pair.now_s) == heard_s


def test_people_who_are_connected_take_no_room_from_those_who_left() -> None:
    pair = Pair(max_listed=4)
    pair.two.client_connected(50, pair.now_s)
    pair.two.client_gone(50, pair.now_s)
    for account_id in range(1, 5):
        pair.one.client_connected(account_id, pair.now_s)
    for _ in range(20):
        pair.now_s += 1
        pair.deliver()
        pair.one.link_began(N2)
        pair.now_s += 1
        pair.deliver()
    assert seen_by_two(pair, 50) is not None
    assert [pair.two._last_seen.at_s(each) for each in range(1, 5)] == [None] * 4


def test_the_ends_take_reports_of_bounded_size_and_are_told_once() -> None:
    pair = Pair()
    for account_id in range(1, 6001):
        pair.one.client_connected(account_id, pair.now_s)
        pair.one.client_gone(account_id, pair.now_s)
    first = pair.report()
    assert first.ByteSize() < 64 * 1024
    assert pair.has_more()
    pair.deliver(first)
    pair.deliver()
    assert not pair.has_more()
    assert all(seen_by_two(pair, each) is not None for each in (1, 6000))
