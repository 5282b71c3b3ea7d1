"""Bytes and places in sum over all callers: one owner never uses what is meant for all, and nothing is lost."""

from __future__ import annotations

import pytest

from parleyd.budgets import BoundReachedError, ByteBudget, Counts, DeviceShare, FairPlaces, Shares


def test_bytes_are_bounded_by_device_by_account_and_by_node() -> None:
    budget = ByteBudget(Shares(node=100, account=60, device=40))
    assert budget.take(1, "a", 30)
    assert not budget.take(1, "a", 11), "the device's share"
    assert budget.take(1, "b", 30)
    assert not budget.take(1, "c", 1), "the account's share"
    assert budget.take(2, "d", 40)
    assert not budget.take(3, "e", 1), "the node's"
    budget.give_back(2, "d", 40)
    assert budget.take(3, "e", 40)
    assert budget.in_use == 100


def test_a_device_may_have_one_piece_that_is_larger_than_its_share() -> None:
    budget = ByteBudget(Shares(node=100, account=60, device=40))
    assert budget.take(1, "a", 50)
    assert not budget.take(1, "a", 1)
    budget.give_back(1, "a", 50)
    assert budget.in_use == 0


def test_bytes_of_owners_that_have_none_are_not_remembered() -> None:
    budget = ByteBudget(Shares(node=10, account=10, device=10))
    for account in range(100):
        assert budget.take(account, account, 10)
        assert not budget.take(account + 1, account + 1, 1)
        budget.give_back(account, account, 10)
    assert not budget._accounts
    assert not budget._devices


def test_a_device_gives_back_what_it_has_in_use() -> None:
    budget = ByteBudget(Shares(node=100, account=60, device=40))
    share, other = DeviceShare(budget, 1, "a"), DeviceShare(budget, 2, "a")
    assert share.take(10)
    assert share.take(20)
    assert other.take(40), "the devices of two accounts are two, whatever their names"
    share.give_back(10)
    assert (share.in_use, budget.in_use) == (20, 60)
    share.close()
    other.close()
    assert (share.in_use, budget.in_use) == (0, 0)


async def test_places_go_to_the_first_waiter_that_may_have_one() -> None:
    places = FairPlaces(2, 1)
    first = places.ask("a")
    a1, a2, b, c = (places.ask(owner) for owner in ("a", "a", "b", "c"))
    assert [place.done() for place in (first, a1, a2, b, c)] == [True, False, False, True, False], (
        "a has its share in use, and does not hold up b"
    )
    places.leave("b", b)
    assert c.done()
    places.leave("a", first)
    assert a1.done()
    places.leave("c", c)
    assert not a2.done(), "a still has one"
    places.leave("a", a1)
    assert a2.done()
    places.leave("a", a2)
    assert places.used == 0


async def test_a_waiter_that_leaves_takes_no_place_and_one_that_got_it_gives_it_on() -> None:
    places = FairPlaces(1, 1)
    first = places.ask("a")
    leaving, cancelled, given, staying = (places.ask(owner) for owner in ("b", "c", "d", "e"))
    places.leave("b", leaving)
    cancelled.cancel()
    places.leave("c", cancelled)
    places.leave("a", first)
    assert given.done()
    places.leave("d", given)
    assert staying.done()
    assert places.used == 1


def test_counts_are_bounded_in_total_and_by_owner() -> None:
    counts = Counts(3, 2)
    with counts.one("a"), counts.one("a"):
        with pytest.raises(BoundReachedError, match="2 are in progress from the same source"), counts.one("a"):
            pass
        with (
            counts.one("b"),
            pytest.raises(BoundReachedError, match="3 are in progress on this node"),
            counts.one("c"),
        ):
            pass
    with counts.one("c"):
        pass
