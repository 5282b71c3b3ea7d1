"""The parts that decide without doing: addresses, failover policy, the window of unanswered sends."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parley.errors import BadInputError
from parley.wire.endpoints import MAX_ENDPOINTS, Endpoint, KnownEndpoints, parse_endpoints, usable_learned
from parley.wire.policy import FailoverPolicy, PolicySettings
from parley.wire.send_window import MAX_FRAME_BYTES, MAX_SENDS_PER_FRAME, SendWindow
from tests.unit.client.records import outgoing

# ---- addresses


@pytest.mark.parametrize(
    ("specs", "expected"),
    [
        (["localhost:7001"], ["localhost:7001"]),
        (["localhost:7001-7003"], ["localhost:7001", "localhost:7002", "localhost:7003"]),
        (["[::1]:7001-7002"], ["[::1]:7001", "[::1]:7002"]),
        (["a:1,b:2", "a:1"], ["a:1", "b:2"]),
        (["A.Example:7001", "a.example:7001"], ["a.example:7001"]),
        ([" a:1 , ,b:2,"], ["a:1", "b:2"]),
    ],
)
def test_addresses_are_read_as_people_write_them(specs: list[str], expected: list[str]) -> None:
    assert [str(endpoint) for endpoint in parse_endpoints(specs)] == expected


@pytest.mark.parametrize(
    ("spec", "hint"),
    [
        ("localhost", "no port"),
        ("localhost:", "not a port"),
        (":7001", "no port"),
        ("localhost:0", "1 to 65535"),
        ("localhost:70000", "1 to 65535"),
        ("localhost:7003-7001", "reverse order"),
        ("localhost:1-65535", "shorter range"),
        ("::1:7001", "brackets"),
        ("[::zz]:7001", "IPv6"),
        ("bad host:7001", "not a host"),
        ("host:seven", "not a port"),
    ],
)
def test_a_bad_address_is_quoted_back_with_what_is_wrong(spec: str, hint: str) -> None:
    with pytest.raises(BadInputError, match=hint):
        parse_endpoints([spec])


@given(st.text(max_size=40))
def test_any_text_is_either_read_or_refused_in_words(text: str) -> None:
    try:
        found = parse_endpoints([text])
    except BadInputError:
        return
    assert parse_endpoints(str(endpoint) for endpoint in found) == found


def test_more_addresses_than_the_bound_are_refused() -> None:
    with pytest.raises(BadInputError, match="more than"):
        parse_endpoints([f"h{i}:1" for i in range(MAX_ENDPOINTS + 1)])


def test_wildcard_and_empty_addresses_of_nodes_are_not_learned() -> None:
    assert [usable_learned(a) for a in ("", "0.0.0.0:7001", "[::]:7001", "nonsense", "a:1-3")] == [None] * 5


def test_learned_members_follow_the_configured_ones_and_are_replaced_by_newer_news() -> None:
    known_endpoints = KnownEndpoints(parse_endpoints(["a:1"]))
    assert known_endpoints.learn({"n1": "a:1", "n2": "b:1", "n3": "c:1"})
    assert [str(e) for e in known_endpoints.all()] == ["a:1", "b:1", "c:1"]
    assert not known_endpoints.learn({"n1": "a:1", "n2": "b:1", "n3": "c:1"})
    assert not known_endpoints.learn({}), "news without any address forgets nothing"
    assert known_endpoints.learn({"n2": "b:1", "n4": "d:1"})
    assert [str(e) for e in known_endpoints.all()] == ["a:1", "b:1", "d:1"]
    assert known_endpoints.name_of(Endpoint("d", 1)) == "n4"


def test_without_encryption_no_address_of_another_machine_is_learned() -> None:
    known_endpoints = KnownEndpoints(parse_endpoints(["localhost:1"]), loopback_only=True)
    assert known_endpoints.learn({"n1": "127.0.0.1:1", "n2": "10.0.0.2:1", "n3": "ward.example:1", "n4": "[::1]:4"})
    assert [str(e) for e in known_endpoints.all()] == ["localhost:1", "127.0.0.1:1", "[::1]:4"]


# ---- policy

ENDPOINTS = tuple(Endpoint(f"h{i}", 1) for i in range(5))


def fail_all(policy: FailoverPolicy, count: int) -> list[tuple[Endpoint, float]]:
    tried = []
    for _ in range(count):
        attempt = policy.next_attempt()
        assert attempt is not None
        tried.append((attempt.endpoint, attempt.delay_s))
        policy.failed(attempt.endpoint)
    return tried


@given(st.integers(1, 5), st.integers(0, 2**32))
def test_every_node_is_tried_once_without_delay_before_any_is_tried_again(count: int, seed: int) -> None:
    policy = FailoverPolicy(ENDPOINTS[:count], Random(seed))
    first = fail_all(policy, count)
    assert {endpoint for endpoint, _ in first} == set(ENDPOINTS[:count])
    assert all(delay == 0 for _, delay in first)


@given(st.integers(1, 5), st.integers(0, 2**32))
def test_delays_grow_to_the_bound_and_come_once_a_round(count: int, seed: int) -> None:
    settings = PolicySettings()
    policy = FailoverPolicy(ENDPOINTS[:count], Random(seed), settings)
    tried = fail_all(policy, count * 12)
    for turn, (_, delay) in enumerate(tried):
        turn_round = turn // count
        cap = 0.0 if turn_round == 0 else min(settings.max_backoff_s, settings.first_backoff_s * 2 ** (turn_round - 1))
        assert 0 <= delay <= cap
        assert delay == 0 or turn % count == 0


def test_a_node_that_works_is_kept() -> None:
    policy = FailoverPolicy(ENDPOINTS, Random(1))
    fail_all(policy, 2)
    attempt = policy.next_attempt()
    assert attempt is not None
    policy.succeeded(attempt.endpoint)
    for _ in range(3):
        again = policy.next_attempt()
        assert again is not None
        assert (again.endpoint, again.delay_s) == (attempt.endpoint, 0.0)


def test_losing_a_node_that_worked_for_long_begins_a_fresh_round() -> None:
    policy = FailoverPolicy(ENDPOINTS[:2], Random(1))
    fail_all(policy, 9)
    assert policy.round == 4
    attempt = policy.next_attempt()
    assert attempt is not None
    policy.succeeded(attempt.endpoint)
    policy.failed(attempt.endpoint, lived_s=60)
    following = policy.next_attempt()
    assert following is not None
    assert (policy.round, following.delay_s) == (0, 0.0)
    assert following.endpoint != attempt.endpoint


def test_nodes_that_accept_and_drop_do_not_make_the_client_spin() -> None:
    policy = FailoverPolicy(ENDPOINTS[:3], Random(1))
    delays = []
    for _ in range(60):
        attempt = policy.next_attempt()
        assert attempt is not None
        delays.append(attempt.delay_s)
        policy.succeeded(attempt.endpoint)
        policy.failed(attempt.endpoint, lived_s=0.01)
    assert sum(delays) > 3


def test_a_node_that_serves_is_preferred_over_the_order() -> None:
    policy = FailoverPolicy(ENDPOINTS, Random(1))
    attempt = policy.next_attempt()
    assert attempt is not None
    policy.failed(attempt.endpoint)
    better = policy.endpoints[-1]
    policy.prefer(better)
    following = policy.next_attempt()
    assert following is not None
    assert following.endpoint == better


def test_other_addresses_of_a_dead_node_wait_for_the_next_round() -> None:
    policy = FailoverPolicy(ENDPOINTS[:3], Random(1))
    first, second, third = policy.endpoints
    policy.update(ENDPOINTS[:3], {first: "n1", second: "n1", third: "n2"})
    assert [endpoint for endpoint, _ in fail_all(policy, 2)] == [first, third]


@given(st.lists(st.sampled_from(["fail", "succeed", "drop", "learn", "prefer"]), max_size=60), st.integers(0, 2**32))
def test_the_policy_always_names_a_known_node_and_a_bounded_delay(steps: list[str], seed: int) -> None:
    rng = Random(seed)
    policy = FailoverPolicy(ENDPOINTS[:3], rng)
    known = ENDPOINTS[:3]
    for step in steps:
        attempt = policy.next_attempt()
        assert attempt is not None
        assert attempt.endpoint in known
        assert 0 <= attempt.delay_s <= 2.0
        match step:
            case "fail":
                policy.failed(attempt.endpoint)
            case "succeed":
                policy.succeeded(attempt.endpoint)
            case "drop":
                policy.succeeded(attempt.endpoint)
                policy.failed(attempt.endpoint, lived_s=rng.choice([0.0, 10.0]))
            case "learn":
                known = tuple(rng.sample(ENDPOINTS, rng.randint(1, 5)))
                policy.update(known, {})
            case _:
                policy.prefer(rng.choice(ENDPOINTS))


# ---- window


def test_frames_keep_to_their_bounds_and_to_the_order() -> None:
    window = SendWindow(10_000, (), Random(1))
    window.add(outgoing(i) for i in range(1, 3000))
    frames = []
    while frame := window.next_frame():
        frames.append([m.number for m in frame])
    assert [n for frame in frames for n in frame] == list(range(1, 3000))
    assert max(map(len, frames)) <= MAX_SENDS_PER_FRAME


def test_large_messages_go_up_in_smaller_frames_but_always_at_least_one() -> None:
    window = SendWindow(100, (), Random(1))
    window.add(outgoing(i, "x" * 100_000) for i in range(1, 4))
    window.add([outgoing(4, "x" * (MAX_FRAME_BYTES + 1))])
    assert [[m.number for m in window.next_frame()] for _ in range(3)] == [[1, 2], [3], [4]]


def test_what_was_taken_back_is_not_sent_under_the_number_that_another_message_has_now() -> None:
    """A writer that hung had not framed it. The withdrawn text went out, and another message was shown as accepted."""
    window = SendWindow(10, (), Random(1))
    window.add([outgoing(5, "withdrawn"), outgoing(6, "waits")])
    assert [message.body for message in window.take_back()] == ["withdrawn", "waits"]
    window.add([outgoing(5, "waits")])
    assert [(message.number, message.body) for message in window.next_frame()] == [(5, "waits")]


def test_nothing_new_goes_up_while_something_must_be_sent_again() -> None:
    window = SendWindow(10, [outgoing(1), outgoing(2)], Random(1))
    assert [m.number for m in window.next_frame()] == [1, 2]
    assert window.push_back(1, gap=False) is not None
    assert window.push_back(2, gap=True) is None, "resending is under way already"
    window.add([outgoing(3)])
    assert window.next_frame() == []
    assert window.capacity == 0
    window.resume()
    assert [m.number for m in window.next_frame()] == [1, 2, 3]


def test_gaps_at_the_lowest_number_are_counted_until_something_is_settled() -> None:
    window = SendWindow(10, [outgoing(5), outgoing(6)], Random(1))
    for _ in range(3):
        window.next_frame()
        window.push_back(5, gap=True)
        window.push_back(6, gap=True)
        window.resume()
    assert window.gap_rounds == 3
    assert window.settle(5) is not None
    assert (window.gap_rounds, window.rounds) == (0, 0)
    assert window.settle(5) is None


@given(st.data())
def test_every_send_is_settled_once_whatever_the_node_answers(data: st.DataObject) -> None:
    """A model of the node: the next number is applied, a higher one is a gap, anything may be asked for again."""
    rng = Random(data.draw(st.integers(0, 2**32)))
    window = SendWindow(data.draw(st.integers(1, 8)), (), rng)
    total, claimed, applied, settled = 30, 0, 0, []
    held = False
    for _ in range(2000):
        capacity = window.capacity
        if capacity and claimed < total:
            fresh = min(capacity, total - claimed)
            window.add(outgoing(claimed + 1 + i) for i in range(fresh))
            claimed += fresh
        for message in window.next_frame():
            answer = rng.choice(["take", "take", "take", "retry", "lose"])
            if answer == "lose":
                held = window.push_back(message.number, gap=False) is not None or held
            elif answer == "retry" or message.number > applied + 1:
                held = window.push_back(message.number, gap=answer != "retry") is not None or held
            else:
                applied = max(applied, message.number)
                if window.settle(message.number) is not None:
                    settled.append(message.number)
        if held:
            window.resume()
            held = False
        if len(settled) == total:
            break
    assert settled == list(range(1, total + 1))
    assert applied == total
