"""The throttle of log-ins: who has to wait how long, and who never has to."""

from __future__ import annotations

import pytest

from parleyd.security.log_in_throttle import ADDRESS_BURST, KEPT_COUNTS, STEPS, Attempt, LogInThrottle

STRANGER = Attempt("ann", "10.0.0.66")
PHONE = Attempt("ann", "10.0.0.7", device="phone")
HOUR_S = 3600.0


def fail(throttle: LogInThrottle, attempt: Attempt, count: int, now_s: float = 0.0) -> float:
    """Fail as often and as early as the throttle allows; return the time of the last attempt."""
    for _ in range(count):
        verdict = throttle.begin(attempt, now_s)
        if verdict.wait_s:
            now_s += verdict.wait_s
            assert throttle.begin(attempt, now_s).wait_s == 0
    return now_s


def test_ten_failures_are_free_and_then_each_attempt_waits_longer() -> None:
    throttle = LogInThrottle()
    assert fail(throttle, STRANGER, 10) == 0
    assert throttle.begin(STRANGER, 0).wait_s == 30
    at_s = fail(throttle, STRANGER, 20)
    assert at_s == 20 * 30
    assert throttle.begin(STRANGER, at_s).wait_s == 300
    at_s = fail(throttle, STRANGER, 70, at_s)
    assert throttle.begin(STRANGER, at_s).wait_s == HOUR_S


def test_an_attempt_that_has_to_wait_does_not_count() -> None:
    throttle = LogInThrottle()
    fail(throttle, STRANGER, 10)
    for _ in range(1000):
        assert throttle.begin(STRANGER, 0).failures == 10
    assert throttle.begin(STRANGER, 30).wait_s == 0


def test_attempts_at_the_same_time_do_not_pass_together() -> None:
    throttle = LogInThrottle()
    verdicts = [throttle.begin(STRANGER, 0) for _ in range(200)]
    assert sum(verdict.wait_s == 0 for verdict in verdicts) == 10


def test_a_device_that_logged_in_before_is_never_delayed_by_others() -> None:
    throttle = LogInThrottle()
    same_address = Attempt("ann", STRANGER.address, device="phone")
    at_s = fail(throttle, STRANGER, 100)
    for number in range(ADDRESS_BURST):
        throttle.begin(Attempt(f"other{number}", STRANGER.address), at_s)
    assert throttle.begin(STRANGER, at_s).wait_s > 0
    assert throttle.begin(PHONE, at_s).wait_s == 0
    assert throttle.begin(same_address, at_s).wait_s == 0


def test_a_device_that_logged_in_before_waits_for_its_own_failures() -> None:
    throttle = LogInThrottle()
    fail(throttle, PHONE, 10)
    assert throttle.begin(PHONE, 0).wait_s == 30
    assert throttle.begin(STRANGER, 0).wait_s == 0, "which delay nobody else"


def test_a_success_ends_the_count_and_an_attempt_not_checked_is_taken_back() -> None:
    throttle = LogInThrottle()
    fail(throttle, STRANGER, 9)
    throttle.succeeded(STRANGER, 0)
    assert throttle.begin(STRANGER, 0).failures == 1
    fail(throttle, STRANGER, 8)
    throttle.begin(STRANGER, 0)
    throttle.not_checked(STRANGER, 0)
    assert throttle.begin(STRANGER, 0).failures == 10


def test_many_accounts_from_one_address_wait_and_the_count_of_the_address_sinks() -> None:
    throttle = LogInThrottle()
    for number in range(ADDRESS_BURST):
        assert throttle.begin(Attempt(f"a{number}", "10.0.0.66"), 0).wait_s == 0
    verdict = throttle.begin(Attempt("one more", "10.0.0.66"), 0)
    assert (verdict.why, verdict.wait_s) == ("address", 6)
    assert throttle.begin(Attempt("one more", "10.0.0.67"), 0).wait_s == 0
    assert throttle.begin(Attempt("one more", "10.0.0.66"), 6).wait_s == 0
    assert throttle.begin(Attempt("two more", "10.0.0.66"), 6).wait_s == 6


def test_honest_log_ins_do_not_fill_the_count_of_their_address() -> None:
    throttle = LogInThrottle()
    for number in range(10 * ADDRESS_BURST):
        attempt = Attempt(f"nurse{number}", "10.0.0.1")
        assert throttle.begin(attempt, 0).wait_s == 0
        throttle.succeeded(attempt, 0)


@pytest.mark.parametrize("kept", KEPT_COUNTS)
def test_a_new_leader_goes_on_with_the_kept_count_and_a_lifted_delay_is_gone(kept: int) -> None:
    throttle = LogInThrottle()
    attempt = Attempt("ann", "10.0.0.66", kept=kept)
    delay_s = next(delay_s for at, delay_s in STEPS if kept >= at)
    assert throttle.begin(attempt, 0).wait_s == delay_s
    assert throttle.begin(Attempt("ann", "10.0.0.66", lifted=1), 0).wait_s == 0


def test_memory_is_bounded() -> None:
    throttle = LogInThrottle(max_counts=10)
    for number in range(1000):
        throttle.begin(Attempt(f"a{number}", f"10.0.{number // 256}.{number % 256}"), 0)
    assert len(throttle._counts) == len(throttle._addresses) == 10
