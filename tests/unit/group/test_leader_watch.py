"""When a leader counts as silent, before the election timeout has passed."""

from __future__ import annotations

from parleyd.group.leader_watch import MEMORY_MS, NO_SUSPICION, LeaderWatch, SilenceBounds
from parleyd.raft.types import NO_NODE, Index, NodeId

LEADER, OTHER = NodeId(2), NodeId(3)
TICK_MS, HEARTBEAT_MS, LEAST_MS = 25, 50, 150
BOUNDS = SilenceBounds(TICK_MS, HEARTBEAT_MS, LEAST_MS, 250, 500)
KNOWN_WELL_MS = 2_000


class Followed:
    """A watch, the time, and a leader that is heard or not."""

    def __init__(self, bounds: SilenceBounds = BOUNDS) -> None:
        self.now_ms = 1_000.0
        self.watch = LeaderWatch(bounds, self.now_ms)

    def punctual(self, duration_ms: float, leader: NodeId = LEADER) -> None:
        until_ms = self.now_ms + duration_ms
        while self.now_ms < until_ms:
            assert not self.tick(leader)
            if self.now_ms % HEARTBEAT_MS == 0:
                self.watch.heard(leader, self.now_ms)

    def tick(self, leader: NodeId = LEADER, after_ms: float = TICK_MS) -> bool:
        self.now_ms += after_ms
        return self.watch.ticked(leader, self.now_ms)

    def silence_ms(self, leader: NodeId = LEADER, at_most_ms: float = 1_000) -> float:
        """Return how long the silence lasts until the leader is suspected."""
        began_ms = self.now_ms
        while not self.tick(leader):
            if self.now_ms - began_ms >= at_most_ms:
                return at_most_ms
        return self.now_ms - began_ms

    def gap(self, duration_ms: float) -> None:
        for _ in range(int(duration_ms / TICK_MS)):
            self.tick()
        self.watch.heard(LEADER, self.now_ms)


def test_the_highest_commit_index_that_a_leader_told_is_kept() -> None:
    watch = LeaderWatch(NO_SUSPICION, 0)
    for leader, commit in ((LEADER, 5), (LEADER, 3), (OTHER, 7), (OTHER, 0)):
        watch.heard(leader, 1, Index(commit))
    assert watch.commit == 7


def test_a_punctual_leader_is_suspected_after_the_heartbeats_it_may_miss() -> None:
    one = Followed()
    one.punctual(KNOWN_WELL_MS)
    assert one.silence_ms() == LEAST_MS


def test_a_long_gap_makes_the_watch_as_patient_as_twice_the_gap() -> None:
    one = Followed()
    one.punctual(KNOWN_WELL_MS)
    one.gap(100)
    one.punctual(KNOWN_WELL_MS)
    assert one.silence_ms() == 200


def test_where_gaps_are_long_the_election_timeout_decides() -> None:
    one = Followed()
    one.punctual(KNOWN_WELL_MS)
    one.gap(125)
    one.punctual(KNOWN_WELL_MS)
    assert one.watch.patience_ms is None
    assert one.silence_ms(at_most_ms=1_000) == 1_000


def test_a_gap_is_forgotten_after_a_while_and_not_before() -> None:
    one = Followed()
    one.punctual(KNOWN_WELL_MS)
    one.gap(125)
    one.punctual(MEMORY_MS)
    assert one.watch.patience_ms is None
    one.punctual(MEMORY_MS + KNOWN_WELL_MS)
    assert one.watch.patience_ms == LEAST_MS


def test_a_silence_that_was_wrongly_suspected_counts_as_a_gap_when_the_leader_is_heard_again() -> None:
    one = Followed()
    one.punctual(KNOWN_WELL_MS)
    assert one.silence_ms() == LEAST_MS
    one.tick(NO_NODE)  # the group has forgotten its leader
    one.watch.heard(LEADER, one.now_ms)
    assert one.watch.patience_ms is None


def test_a_late_timer_of_this_node_counts_as_a_gap() -> None:
    one = Followed()
    one.punctual(KNOWN_WELL_MS)
    one.tick(after_ms=TICK_MS + 50)
    one.watch.heard(LEADER, one.now_ms)
    assert one.watch.patience_ms == 200


def test_a_pause_of_the_whole_process_is_not_silence_of_the_leader() -> None:
    one = Followed()
    one.punctual(KNOWN_WELL_MS)
    assert not one.tick(after_ms=60_000), "the leader's messages are still in the sockets"
    one.watch.heard(LEADER, one.now_ms)
    one.punctual(KNOWN_WELL_MS)
    assert one.silence_ms() == LEAST_MS, "a fault says nothing about how punctual messages are otherwise"


def test_a_new_leader_is_not_suspected_before_it_is_known_well() -> None:
    one = Followed()
    one.punctual(KNOWN_WELL_MS)
    one.watch.heard(OTHER, one.now_ms)
    one.punctual(400, OTHER)
    assert one.silence_ms(OTHER) == 1_000
    one.watch.heard(OTHER, one.now_ms)
    one.punctual(KNOWN_WELL_MS, OTHER)
    assert one.silence_ms(OTHER) == LEAST_MS


def test_a_node_without_a_leader_or_that_leads_suspects_nobody() -> None:
    one = Followed()
    one.punctual(KNOWN_WELL_MS)
    assert one.silence_ms(NO_NODE) == 1_000
    assert one.silence_ms(NodeId(1)) == 1_000


def test_the_watch_can_be_turned_off() -> None:
    one = Followed(SilenceBounds(TICK_MS, HEARTBEAT_MS, 0, 250, 500))
    one.punctual(KNOWN_WELL_MS)
    assert one.silence_ms() == 1_000
