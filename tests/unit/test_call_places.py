"""Calls in progress: bounded at each level of their owner, and those that wait for their clients give way."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack

import pytest

from parleyd import call_places
from parleyd.budgets import BoundReachedError
from parleyd.call_places import CallPlaces, HeldPlace, PlaceTakenError
from parleyd.owners import Owner

HERE, THERE = ("net", "here", "ann"), ("net", "there", "ben")
AWAY = ("far", "away", "carl")


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A call that waits gives way at once."""
    monkeypatch.setattr(call_places, "SURE_S", 0.0)


async def waiting(places: CallPlaces, owner: Owner, events: list[str], name: str) -> None:
    with places.one(owner) as place:
        try:
            async with place.waits():
                await asyncio.Event().wait()
        except PlaceTakenError:
            events.append(name)


async def begin(places: CallPlaces, owner: Owner, events: list[str], name: str) -> asyncio.Task[None]:
    task = asyncio.ensure_future(waiting(places, owner, events, name))
    await asyncio.sleep(0)
    return task


@pytest.mark.parametrize(
    ("shares", "owner", "text"),
    [
        ((5, 5, 5), AWAY, "4 are in progress on this node"),
        ((4, 5, 5), THERE, "4 are in progress from the same source"),
        ((5, 4, 5), HERE, "4 are in progress from the same source"),
        ((5, 5, 4), HERE, "4 are in progress from the same source"),
    ],
    ids=["node", "network", "address", "account"],
)
async def test_a_call_beyond_a_bound_is_refused_and_takes_nothing(
    shares: tuple[int, ...], owner: Owner, text: str
) -> None:
    places = CallPlaces(4 if 4 not in shares else 100, shares)
    with ExitStack() as held:
        for _ in range(4):
            held.enter_context(places.one(HERE))
        for _ in range(2):
            with pytest.raises(BoundReachedError, match=text), places.one(owner):
                pass
    with places.one(owner):
        pass
    assert not places._used


async def test_an_account_is_one_wherever_it_is() -> None:
    places = CallPlaces(10, (10, 10, 1))
    with places.one(HERE), pytest.raises(BoundReachedError), places.one(("far", "away", HERE[2])):
        pass


async def test_a_newcomer_takes_the_place_that_waits_longest_of_whoever_has_the_most() -> None:
    places, events = CallPlaces(4, (4, 4, 4)), list[str]()
    calls = [
        await begin(places, owner, events, name)
        for owner, name in ((AWAY, "away"), (HERE, "first"), (HERE, "second"), (THERE, "there"))
    ]
    with places.one(("new", "new", "new")):
        await asyncio.wait([calls[1]], timeout=5)
        assert events == ["first"]
        assert [call.done() for call in calls] == [False, True, False, False]
    for call in calls:
        call.cancel()
    await asyncio.gather(*calls, return_exceptions=True)
    assert not places._used
    assert places._waiting.count() == 0


async def test_at_the_share_of_an_address_only_its_own_calls_give_way() -> None:
    places, events = CallPlaces(10, (10, 2, 10)), list[str]()
    calls = [await begin(places, owner, events, owner[2]) for owner in (AWAY, AWAY, HERE)]
    with places.one(HERE):
        with places.one(HERE):
            await asyncio.wait([calls[2]], timeout=5)
            assert events == ["ann"]
        assert not calls[0].done()
    for call in calls:
        call.cancel()
    await asyncio.gather(*calls, return_exceptions=True)


async def test_a_call_that_this_node_works_for_gives_way_to_nobody() -> None:
    places = CallPlaces(1, (1, 1, 1))
    with places.one(HERE) as place:
        async with place.waits():
            pass
        with pytest.raises(BoundReachedError), places.one(AWAY):
            pass


async def test_a_call_that_waits_for_its_client_has_a_short_time_in_any_case(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(call_places, "SURE_S", 60.0)
    places = CallPlaces(1, (1, 1, 1))
    with places.one(HERE) as place:
        async with place.waits():
            with pytest.raises(BoundReachedError), places.one(AWAY):
                pass


async def test_a_place_counts_once_for_a_call_that_lost_it_and_goes_on() -> None:
    places = CallPlaces(1, (1, 1, 1))

    async def loses_it(place: HeldPlace) -> None:
        async with place.waits():
            with places.one(AWAY):
                pass
            await asyncio.Event().wait()

    with places.one(HERE) as place:
        with pytest.raises(PlaceTakenError):
            await loses_it(place)
        async with place.waits():
            with places.one(AWAY), pytest.raises(BoundReachedError), places.one(THERE):
                pass
    assert not places._used
