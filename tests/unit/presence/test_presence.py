"""What nodes report to each other of their clients: nobody stays who is gone, and nobody is lost."""

from __future__ import annotations

from parley_proto.v1 import peer_pb2 as pb
from parleyd.presence.last_seen import LastSeen
from parleyd.presence.presence import SILENT_AFTER_S, Presence
from parleyd.presence.reports import MAX_REPORTED, ReportsFrom
from parleyd.raft.types import NodeId

N1, N2, N3 = NodeId(1), NodeId(2), NodeId(3)


class Peers:
    """Members and links as a test sets them."""

    def __init__(self, *members: NodeId) -> None:
        self.members = set(members)
        self.down: set[NodeId] = set()

    def is_member(self, node: NodeId) -> bool:
        return node in self.members

    def connected(self, node: NodeId) -> bool:
        return node not in self.down


class Pair:
    """Two members, n1 with clients and n2 that looks at them, and one clock."""

    def __init__(self, max_listed: int = 10_000) -> None:
        self.now_s = 100.0
        self.peers = Peers(N1, N2, N3)
        self.max_listed = max_listed
        self.one = Presence(N1, 11, self.peers, max_listed)
        self.two = Presence(N2, 22, self.peers, max_listed)

    def report(self) -> pb.PresenceReport:
        report = self.one.next_report(N2, self.now_s)
        assert report is not None
        return report

    def deliver(self, report: pb.PresenceReport | None = None) -> bool:
        return self.two.received(N1, report or self.report(), self.now_s)

    def answer(self) -> None:
        """n2 reports to n1."""
        report = self.two.next_report(N1, self.now_s)
        assert report is not None
        self.one.received(N2, report, self.now_s)

    def has_more(self) -> bool:
        return self.one.has_more

    def seen(self) -> list[int]:
        return [one.account_id for one in self.two.page(0, 100_000, self.now_s)]

    def restart_one(self, epoch: int) -> None:
        self.one = Presence(N1, epoch, self.peers, self.max_listed)


def test_a_client_is_seen_from_another_node_with_the_time_since_when() -> None:
    pair = Pair()
    pair.one.client_connected(7, pair.now_s - 60)
    pair.deliver()
    [seen] = pair.two.page(0, 10, pair.now_s)
    assert (seen.account_id, seen.since_s) == (7, pair.now_s - 60)
    assert pair.two.clients_of(N1, pair.now_s) == 1


def test_after_the_first_report_only_changes_are_sent() -> None:
    pair = Pair()
    pair.one.client_connected(7, pair.now_s)
    pair.deliver()
    pair.one.client_connected(8, pair.now_s)
    pair.one.client_gone(7, pair.now_s)
    report = pair.report()
    assert (report.begins, list(report.online), list(report.gone)) == (False, [8], [7])
    pair.deliver(report)
    assert pair.seen() == [8]
    assert not pair.has_more()


def test_who_comes_and_goes_between_two_reports_is_never_seen_and_who_goes_and_comes_stays() -> None:
    pair = Pair()
    pair.one.client_connected(7, pair.now_s)
    pair.deliver()
    pair.one.client_connected(8, pair.now_s)
    pair.one.client_gone(8, pair.now_s)
    pair.one.client_gone(7, pair.now_s)
    pair.one.client_connected(7, pair.now_s)
    pair.deliver()
    assert pair.seen() == [7]


def test_a_silent_member_leaves_the_list_and_is_back_with_its_next_report() -> None:
    pair = Pair()
    pair.one.client_connected(7, pair.now_s)
    pair.deliver()
    pair.now_s += SILENT_AFTER_S - 0.01
    assert pair.seen() == [7]
    pair.now_s += 0.02
    assert pair.seen() == []
    assert pair.two.clients_of(N1, pair.now_s) is None
    pair.deliver()
    assert pair.seen() == [7], "nothing had to be sent anew"


def test_a_member_whose_link_broke_leaves_the_list_at_once() -> None:
    pair = Pair()
    pair.one.client_connected(7, pair.now_s)
    pair.deliver()
    pair.peers.down.add(N1)
    assert pair.seen() == []
    assert pair.two.clients_of(N1, pair.now_s) is None


def test_a_lost_report_is_noticed_with_the_next_one_and_the_set_is_sent_anew() -> None:
    pair = Pair()
    pair.one.client_connected(7, pair.now_s)
    pair.deliver()
    pair.one.client_gone(7, pair.now_s)
    pair.report()  # lost
    assert pair.deliver(), "n2 lacks something and says so at once"
    pair.answer()
    report = pair.report()
    assert report.begins
    assert not pair.deliver(report)
    assert pair.seen() == []
    pair.answer()
    assert not pair.report().begins, "it is asked for once"


def test_reports_that_come_twice_or_late_change_nothing_and_are_no_sign_of_life() -> None:
    pair = Pair()
    pair.one.client_connected(7, pair.now_s)
    first = pair.report()
    pair.one.client_gone(7, pair.now_s)
    second = pair.report()
    pair.deliver(first)
    pair.deliver(second)
    pair.now_s += SILENT_AFTER_S + 0.1
    pair.deliver(first)
    pair.deliver(second)
    assert pair.seen() == []
    assert pair.two.clients_of(N1, pair.now_s) is None


def test_a_restarted_member_has_no_client_of_its_former_life() -> None:
    pair = Pair()
    for account_id in (7, 8):
        pair.one.client_connected(account_id, pair.now_s)
    pair.deliver()
    pair.restart_one(12)
    pair.one.client_connected(8, pair.now_s)
    pair.deliver()
    assert pair.seen() == [8]


def test_a_report_of_a_former_life_that_comes_late_is_corrected() -> None:
    pair = Pair()
    pair.one.client_connected(7, pair.now_s)
    late = pair.report()
    pair.restart_one(12)
    pair.one.client_connected(8, pair.now_s)
    pair.deliver()
    pair.deliver(late)
    assert pair.deliver()
    pair.answer()
    pair.deliver()
    assert pair.seen() == [8]


def test_a_new_connection_begins_the_set_anew() -> None:
    pair = Pair()
    pair.one.client_connected(7, pair.now_s)
    pair.deliver()
    pair.one.link_began(N2)
    assert pair.has_more()
    assert pair.report().begins


def test_an_account_on_two_nodes_is_listed_once_since_the_first_and_goes_with_the_last() -> None:
    pair = Pair()
    pair.one.client_connected(7, 90.0)
    pair.two.client_connected(7, 95.0)
    pair.deliver()
    [seen] = pair.two.page(0, 10, pair.now_s)
    assert seen.since_s == 90.0
    pair.one.client_gone(7, pair.now_s)
    pair.deliver()
    [seen] = pair.two.page(0, 10, pair.now_s)
    assert seen.since_s == 95.0
    pair.two.client_gone(7, pair.now_s)
    assert pair.seen() == []


def test_nobody_but_members_is_sent_or_believed_anything() -> None:
    pair = Pair()
    pair.one.client_connected(7, pair.now_s)
    pair.deliver()
    pair.peers.members.discard(N1)
    assert pair.two.next_report(N1, pair.now_s) is None
    assert not pair.deliver(pb.PresenceReport(epoch=11, sequence=9, again=True))
    assert pair.seen() == []
    assert pair.two.clients_of(N1, pair.now_s) is None


def test_five_thousand_clients_take_two_reports_of_bounded_size() -> None:
    pair = Pair()
    for account_id in range(1, 5001):
        pair.one.client_connected(account_id, pair.now_s)
    first = pair.report()
    assert len(first.online) == MAX_REPORTED
    assert first.ByteSize() < 64 * 1024
    assert pair.has_more()
    pair.deliver(first)
    assert pair.two.clients_of(N1, pair.now_s) == 5000, "the count needs no list"
    pair.deliver()
    assert not pair.has_more()
    assert pair.seen() == list(range(1, 5001))
    assert [one.account_id for one in pair.two.page(4000, 3, pair.now_s)] == [4001, 4002, 4003]


def test_a_slow_peer_costs_the_set_and_not_what_happened_meanwhile() -> None:
    pair = Pair(max_listed=4)
    pair.deliver()
    for account_id in range(1, 1001):
        pair.one.client_connected(account_id, pair.now_s)
        pair.one.client_gone(account_id, pair.now_s)
    pair.one.client_connected(7, pair.now_s)
    report = pair.report()
    assert len(report.gone) <= 8
    pair.deliver(report)
    assert pair.seen() == [7]


def test_a_member_that_reports_too_much_or_impossible_ids_gets_its_bound() -> None:
    heard = ReportsFrom(3, LastSeen(3))
    ids = [0, 1 << 63, 5, 4, 3, 2]
    heard.take(pb.PresenceReport(epoch=1, sequence=1, begins=True, online=ids, online_s=[0] * 6), 1.0)
    assert list(heard.after(0)) == [3, 4, 5]
    heard.take(pb.PresenceReport(epoch=1, sequence=2, online=[9], online_s=[]), 2.0)
    assert list(heard.after(0)) == [3, 4, 5], "an account without a time is none"


def test_a_node_that_restarts_at_once_brings_nobody_of_its_former_life_back() -> None:
    pair = Pair()
    pair.one.client_connected(7, pair.now_s)
    pair.deliver()
    pair.peers.down.add(N1)
    assert pair.seen() == []
    pair.now_s += SILENT_AFTER_S / 2
    pair.restart_one(12)
    pair.peers.down.clear()
    pair.two.link_began(N1)
    assert (pair.seen(), pair.two.clients_of(N1, pair.now_s)) == ([], None)
    pair.deliver()
    assert (pair.seen(), pair.two.clients_of(N1, pair.now_s)) == ([], 0)


def test_a_link_that_breaks_and_is_back_shows_who_was_there_with_the_next_report() -> None:
    pair = Pair()
    pair.one.client_connected(7, pair.now_s)
    pair.deliver()
    pair.two.link_began(N1)
    assert pair.seen() == []
    pair.deliver()
    assert pair.seen() == [7]


def test_who_is_away_is_seen_from_another_node_and_who_is_back_too() -> None:
    pair = Pair()
    pair.one.client_connected(7, pair.now_s)
    pair.one.client_connected(8, pair.now_s)
    pair.deliver()
    pair.one.client_away(7, away=True)
    report = pair.report()
    assert (list(report.online), list(report.away), list(report.gone)) == ([7], [7], [])
    pair.deliver(report)

    def away() -> list[bool]:
        return [one.away for one in pair.two.page(0, 10, pair.now_s)]

    assert away() == [True, False]
    pair.two.client_connected(7, pair.now_s)
    assert away() == [False, False], "at another node it is there"
    pair.two.client_gone(7, pair.now_s)
    assert away() == [True, False]
    pair.one.client_away(7, away=False)
    pair.deliver()
    assert away() == [False, False]


def test_a_set_that_begins_anew_has_who_is_away_and_nobody_else_is() -> None:
    pair = Pair()
    for account_id in (7, 8):
        pair.one.client_connected(account_id, pair.now_s)
        pair.one.client_away(account_id, away=True)
    pair.deliver()
    pair.one.client_away(8, away=False)
    pair.one.link_began(N2)
    pair.deliver()
    assert [(one.account_id, one.away) for one in pair.two.page(0, 10, pair.now_s)] == [(7, True), (8, False)]
    pair.restart_one(12)
    pair.one.client_connected(7, pair.now_s)
    pair.deliver()
    assert [(one.account_id, one.away) for one in pair.two.page(0, 10, pair.now_s)] == [(7, False)]


def test_a_report_cannot_make_accounts_away_that_it_does_not_list() -> None:
    pair = Pair()
    pair.one.client_connected(7, pair.now_s)
    pair.deliver()
    report = pair.report()
    report.away.extend([8, 9])
    pair.deliver(report)
    pair.one.client_connected(8, pair.now_s)
    pair.deliver()
    assert [(one.account_id, one.away) for one in pair.two.page(0, 10, pair.now_s)] == [(7, False), (8, False)]
