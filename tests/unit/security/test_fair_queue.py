"""The queue in front of the password checks: whose turn it is, and who has to leave when it is full."""

from __future__ import annotations

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from parleyd.owners import Owner
from parleyd.security.fair_queue import FairQueue
from parleyd.security.passwords import PasswordHasher, PasswordsBusyError

FLOOD, NURSE = ("10.0.0.0/24", "10.0.0.66", "ann"), ("10.0.7.0/24", "10.0.7.7", "ben")
CHEAP = 4


def flood_for(account: str) -> Owner:
    return (*FLOOD[:2], account)


def drain(queue: FairQueue[str]) -> list[str]:
    taken = []
    while (request := queue.take()) is not None:
        taken.append(request)
    return taken


def test_addresses_take_turns_and_so_do_the_accounts_of_one() -> None:
    queue: FairQueue[str] = FairQueue(20)
    for number in range(4):
        assert queue.put(FLOOD, f"ann{number}") is None
    queue.put(flood_for("carl"), "carl")
    queue.put(NURSE, "ben")
    assert drain(queue) == ["ann0", "ben", "carl", "ann1", "ann2", "ann3"]


def test_a_full_queue_makes_room_at_the_cost_of_whoever_has_the_most_in_it() -> None:
    queue: FairQueue[str] = FairQueue(3)
    for number in range(3):
        queue.put(FLOOD, f"ann{number}")
    assert queue.put(FLOOD, "ann3") == "ann3", "nobody pushes itself out"
    assert queue.put(NURSE, "ben") == "ann2"
    assert queue.put(NURSE, "ben2") == "ben2", "two and two would be no fairer"
    assert drain(queue) == ["ann0", "ben", "ann1"]


def test_one_address_with_a_flood_for_one_account_leaves_room_for_its_others() -> None:
    queue: FairQueue[str] = FairQueue(3)
    for number in range(3):
        queue.put(FLOOD, f"ann{number}")
    assert queue.put(flood_for("dana"), "dana") == "ann2"


def test_an_address_gains_nothing_by_naming_many_accounts() -> None:
    queue: FairQueue[str] = FairQueue(4)
    for number in range(4):
        queue.put(flood_for(f"guess{number}"), f"guess{number}")
    assert queue.put(NURSE, "ben") is not None
    assert drain(queue)[1] == "ben"


def test_a_network_gains_nothing_by_many_addresses() -> None:
    queue: FairQueue[str] = FairQueue(64)
    for number in range(70):
        queue.put((FLOOD[0], f"10.0.0.{number}", f"guess{number}"), f"guess{number}")
    assert queue.put(NURSE, "ben") == "guess0"
    assert queue.put((FLOOD[0], "10.0.0.99", "dana"), "dana") == "dana"
    assert drain(queue)[:2] == ["guess1", "ben"]


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3), st.booleans()), max_size=60), st.integers(1, 6))
def test_what_goes_in_comes_out_once_or_is_pushed_out_once(steps: list[tuple[int, int, bool]], capacity: int) -> None:
    queue: FairQueue[int] = FairQueue(capacity)
    inside: set[int] = set()
    for number, (address, account, takes) in enumerate(steps):
        if takes:
            taken = queue.take()
            assert (taken is None) == (not inside)
            inside.discard(-1 if taken is None else taken)
            continue
        pushed_out = queue.put(("a network", address, account), number)
        inside.add(number)
        if pushed_out is not None:
            inside.remove(pushed_out)
        assert len(queue) == len(inside) <= capacity
    rest = []
    while (taken := queue.take()) is not None:
        rest.append(taken)
    assert sorted(rest) == sorted(inside)


async def test_two_hundred_wrong_log_ins_do_not_starve_an_honest_one() -> None:
    hasher = PasswordHasher(CHEAP, workers=1, max_waiting=64)
    hashed = await hasher.hash("correct horse")
    finished: list[str] = []

    async def guess(number: int) -> None:
        try:
            await hasher.verify(f"guess {number}", hashed, FLOOD)
        except PasswordsBusyError:
            finished.append("refused")
        else:
            finished.append("checked")

    flood = [asyncio.ensure_future(guess(number)) for number in range(200)]
    await asyncio.sleep(0)
    assert await hasher.verify("correct horse", hashed, NURSE)
    assert finished.count("checked") <= 3, "it waited for those in progress and for one turn of the flood"
    await asyncio.gather(*flood)
    hasher.close()


async def test_a_caller_that_leaves_at_the_moment_of_its_turn_passes_it_on() -> None:
    hasher = PasswordHasher(CHEAP, workers=1, max_waiting=8)
    hashed = await hasher.hash("correct horse")
    callers = [asyncio.ensure_future(hasher.verify("correct horse", hashed, ("a network", n, n))) for n in range(4)]
    await asyncio.wait(callers[:1])
    callers[1].cancel()
    callers[2].cancel()
    assert await asyncio.wait_for(callers[3], 10)
    assert await hasher.verify("correct horse", hashed), "the worker is free again"
    hasher.close()
