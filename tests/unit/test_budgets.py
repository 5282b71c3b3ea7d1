"""Bytes and places in sum over all callers: one owner never uses what is meant for all, and nothing is lost."""

from __future__ import annotations

from parleyd.budgets import ByteBudget, DeviceShare, FairPlaces, Place, Shares
from parleyd.owners import Owner


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


def somebody(account: str, address: str = "here", network: str = "near") -> Owner:
    return network, address, account


async def test_a_waiter_whose_account_has_its_share_does_not_hold_up_others() -> None:
    places = FairPlaces(2, (2, 2, 1))
    a, b, c = map(somebody, "abc")
    first = places.ask(a)
    a1, a2, b1, c1 = (places.ask(owner) for owner in (a, a, b, c))
    assert [place.done() for place in (first, a1, a2, b1, c1)] == [True, False, False, True, False]
    places.leave(b, b1)
    assert c1.done()
    places.leave(a, first)
    assert a1.done()
    places.leave(c, c1)
    assert not a2.done(), "a still has one"
    places.leave(a, a1)
    assert a2.done()
    places.leave(a, a2)
    assert places.used == 0


async def test_a_waiter_that_leaves_takes_no_place_and_one_that_got_it_gives_it_on() -> None:
    places = FairPlaces(1, (1, 1, 1))
    a, b, c, d, e = map(somebody, "abcde")
    first = places.ask(a)
    leaving, cancelled, given, staying = (places.ask(owner) for owner in (b, c, d, e))
    places.leave(b, leaving)
    cancelled.cancel()
    places.leave(c, cancelled)
    places.leave(a, first)
    assert given.done()
    places.leave(d, given)
    assert staying.done()
    assert places.used == 1


async def test_neither_an_address_nor_a_network_has_all_places() -> None:
    places = FairPlaces(4, (3, 2, 1))
    owners = [somebody("a"), somebody("b"), somebody("c"), somebody("d", "there"), somebody("e", "away")]
    assert [places.ask(owner).done() for owner in owners] == [True, True, False, True, False]
    assert places.ask(somebody("f", "elsewhere", "far")).done()


async def test_who_has_the_fewest_places_goes_first_and_then_whose_turn_is_longest_ago() -> None:
    places = FairPlaces(3, (3, 3, 3))
    a, b, c = somebody("a"), somebody("b", "there"), somebody("c", "away", "far")
    held = [places.ask(owner) for owner in (a, a, b)]
    waiting = {owner: places.ask(owner) for owner in (a, b, c)}
    places.leave(a, held[0])
    assert [place.done() for place in waiting.values()] == [False, False, True], "its network has none"
    places.leave(c, waiting[c])
    assert [place.done() for place in waiting.values()][:2] == [True, False], "a had its last turn before b"


async def test_a_newcomer_goes_before_those_who_had_a_turn() -> None:
    places = FairPlaces(1, (1, 1, 1))
    a, b = somebody("a"), somebody("b")
    first, again, new = places.ask(a), places.ask(a), places.ask(b)
    places.leave(a, first)
    assert [again.done(), new.done()] == [False, True]


async def test_newcomers_without_end_do_not_hold_up_one_that_waits_for_its_next_turn() -> None:
    places = FairPlaces(1, (1, 1, 1))
    a = somebody("a")
    held, again = places.ask(a), places.ask(a)
    owner = a
    for number in range(10):
        newcomer = somebody(str(number))
        place = places.ask(newcomer)
        places.leave(owner, held)
        if again.done():
            return
        owner, held = newcomer, place
    raise AssertionError("ten newcomers have had a turn")


async def test_a_place_is_wanted_from_those_who_keep_it_from_a_waiter() -> None:
    places = FairPlaces(3, (3, 3, 1))
    a, b = somebody("a"), somebody("b")
    places.ask(a)
    places.ask(b)
    assert not places.is_wanted_from(a)
    places.ask(a)
    assert (places.is_wanted_from(a), places.is_wanted_from(b)) == (True, False), "b has nothing that a lacks"
    assert places.used == 2


async def test_owners_that_have_left_are_not_remembered() -> None:
    places = FairPlaces(1, (1, 1, 1))
    for number in range(100):
        with Place(places, somebody(str(number))) as place, Place(places, somebody("w")) as waiting:
            assert place.ask().done()
            assert not waiting.ask().done()
            assert (place.is_held, place.is_wanted(), waiting.is_awaited, waiting.is_wanted()) == (
                True,
                True,
                True,
                False,
            )
    assert not places._turns
    assert not places._held
    assert not places._used
    assert not places._waiting
