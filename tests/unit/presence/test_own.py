"""The accounts that have a device connected to this node: counted by device, listed up to a bound."""

from __future__ import annotations

from parleyd.presence.own import OwnClients


def listed(own: OwnClients) -> list[int]:
    ascending = list(own.after(0))
    assert ascending == sorted(own.listed)
    return ascending


def test_an_account_is_listed_from_its_first_device_to_its_last() -> None:
    own = OwnClients(10)
    assert own.connected(7, 1.0) == (7,)
    assert own.connected(7, 2.0) == ()
    assert (own.count, own.since_s(7)) == (2, 1.0)
    assert own.gone(7) == ()
    assert listed(own) == [7]
    assert own.gone(7) == (7,)
    assert (own.count, listed(own), own.since_s(7)) == (0, [], None)


def test_a_device_that_was_not_counted_changes_nothing() -> None:
    own = OwnClients(10)
    assert own.gone(7) == ()
    assert own.count == 0


def test_accounts_above_the_bound_are_counted_and_listed_when_there_is_room() -> None:
    own = OwnClients(2)
    for account_id in (5, 4, 3, 2):
        own.connected(account_id, float(account_id))
    assert (own.count, listed(own)) == (4, [4, 5])
    assert own.since_s(3) is None
    assert own.gone(2) == (), "nobody saw it"
    assert own.gone(5) == (5, 3)
    assert (own.count, listed(own), own.since_s(3)) == (2, [3, 4], 3.0)


def test_five_thousand_accounts_are_read_from_any_place() -> None:
    own = OwnClients(10_000)
    for account_id in range(5000, 0, -1):
        own.connected(account_id, 0.0)
    page = own.after(4990)
    assert [next(page) for _ in range(10)] == list(range(4991, 5001))


def test_an_account_is_away_while_all_its_devices_are() -> None:
    own = OwnClients(10)
    own.connected(7, 1.0)
    assert own.set_away(7, away=True) == (7,)
    assert own.is_away(7)
    assert own.connected(7, 2.0) == (7,), "a new device is not away"
    assert not own.is_away(7)
    assert own.set_away(7, away=True) == (7,)
    assert own.set_away(7, away=False) == (7,)
    assert own.gone(7, away=False) == (7,), "the one that was there has gone"
    assert own.is_away(7)
    assert own.gone(7, away=True) == (7,)
    assert not own.is_away(7)
    assert own.connected(7, 3.0) == (7,)
    assert not own.is_away(7), "nothing is left of the former device"


def test_who_is_not_listed_changes_nothing_by_being_away() -> None:
    own = OwnClients(1)
    own.connected(1, 0.0)
    own.connected(2, 0.0)
    assert own.set_away(2, away=True) == ()
    assert own.connected(2, 0.0) == ()
    assert own.gone(2, away=False) == ()
    assert own.gone(1) == (1, 2)
    assert own.is_away(2), "it is listed as it is"
