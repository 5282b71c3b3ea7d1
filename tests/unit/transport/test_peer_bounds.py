"""Who may hold calls and connections of the peer port.

What can go wrong: a certificate that was never admitted, or an address, takes what members or other new nodes need.
"""

from __future__ import annotations

from contextlib import ExitStack

import pytest

from parleyd.budgets import BoundReachedError
from parleyd.sources import Peer
from parleyd.transport.channels import MAX_PEER_CONNECTIONS
from parleyd.transport.peer_bounds import (
    MAX_CALLS_PER_ADDRESS,
    MAX_CALLS_PER_NAME,
    MAX_CONNECTIONS_PER_ADDRESS,
    MAX_CONNECTIONS_PER_MEMBER,
    MAX_CONNECTIONS_PER_NAME,
    MAX_NON_MEMBER_CALLS,
    MAX_NON_MEMBER_CONNECTIONS,
    NON_MEMBER_CONNECTION_S,
    PeerCalls,
    PeerConnections,
)


def connections() -> PeerConnections:
    return PeerConnections({"n1", "n2"}.__contains__)


def test_calls_of_other_nodes_are_bounded_by_name_and_address_and_in_sum_and_a_member_has_a_place() -> None:
    calls = PeerCalls()
    with ExitStack() as taken:

        def take(name: str, address: str) -> None:
            taken.enter_context(calls.one(name, address, is_known=False))

        for _ in range(MAX_CALLS_PER_NAME):
            take("n9", "10.0.0.9")
        with pytest.raises(BoundReachedError):
            take("n9", "10.0.0.8")
        for number in range(MAX_CALLS_PER_ADDRESS - MAX_CALLS_PER_NAME):
            take(f"m{number}", "10.0.0.9")
        with pytest.raises(BoundReachedError):
            take("x", "10.0.0.9")
        for number in range(MAX_NON_MEMBER_CALLS - MAX_CALLS_PER_ADDRESS):
            take(f"o{number}", f"10.0.1.{number}")
        with pytest.raises(BoundReachedError):
            take("y", "10.0.2.1")
        taken.enter_context(calls.one("n2", "10.0.0.9", is_known=True))
    with calls.one("y", "10.0.2.1", is_known=False):
        pass


def test_a_name_keeps_its_newest_connections_and_leaves_others_theirs() -> None:
    held, now = connections(), 0.0
    mine = [("10.0.0.9", port) for port in range(1, MAX_CONNECTIONS_PER_NAME + 4)]
    for now, remote in enumerate(mine):
        held.surplus(mine[: now + 1], now)
        held.called(remote, "n9")
    other: Peer = ("10.0.0.9", 999)
    held.called(other, "n8")
    assert held.surplus([*mine, other], now) == set(mine[:3])


def test_an_address_without_a_name_has_a_share_and_so_have_all_in_sum() -> None:
    one: list[Peer] = [("10.0.0.9", port) for port in range(MAX_CONNECTIONS_PER_ADDRESS + 5)]
    late: Peer = ("10.9.9.9", 1)
    held = connections()
    assert len(held.surplus([*one, late], 0)) >= 5
    assert late not in held.surplus([*one, late], 0)
    many: list[Peer] = [(f"10.0.{network}.1", port) for network in range(40) for port in range(5)]
    ended = held.surplus([*many, late], 1)
    assert len(many) + 1 - len(ended) == MAX_NON_MEMBER_CONNECTIONS
    assert late not in ended


def test_a_connection_whose_certificate_is_revoked_ends_also_that_of_a_member() -> None:
    revoked: set[bytes] = set()
    held = PeerConnections({"n1", "n2"}.__contains__, lambda digests: not revoked.isdisjoint(digests))
    thief, member = ("10.0.0.9", 1), ("10.0.0.2", 1)
    for remote, key in ((thief, b"stolen"), (member, b"own")):
        held.called(remote, "n2")
        held.presented(remote, (key, b"certificate"))
    assert held.surplus([thief, member], 0) == set()
    revoked.add(b"stolen")
    assert held.surplus([thief, member], 1) == {thief}


def test_other_connections_end_after_a_time_and_those_of_members_stay() -> None:
    held = connections()
    member, other, silent = (("10.0.0.1", 1), ("10.0.0.2", 2), ("10.0.0.3", 3))
    held.called(member, "n2")
    held.called(other, "n9")
    assert held.surplus([member, other, silent], 0) == set()
    assert held.surplus([member, other, silent], NON_MEMBER_CONNECTION_S) == set()
    assert held.surplus([member, other, silent], NON_MEMBER_CONNECTION_S + 1) == {other, silent}


def test_connections_of_others_take_none_of_a_members_and_a_members_have_a_bound() -> None:
    held = connections()
    others: list[Peer] = [("10.0.0.2", port) for port in range(500)]
    members: list[Peer] = [("10.0.0.2", port) for port in range(1000, 1000 + MAX_CONNECTIONS_PER_MEMBER)]
    for remote in members:
        held.called(remote, "n2")
    assert not held.surplus([*members, *others], 0) & set(members)
    newer: Peer = ("10.0.0.2", 5000)
    held.called(newer, "n2")
    assert held.surplus([*members, newer], 1) == {members[0]}


def test_a_connection_that_is_gone_is_forgotten() -> None:
    held, again = connections(), ("10.0.0.9", 1)
    held.surplus([again], 0)
    held.surplus([], 1)
    assert held.surplus([again], NON_MEMBER_CONNECTION_S + 1) == set()


def test_the_shares_of_nine_members_and_of_all_others_fit_into_what_grpc_accepts() -> None:
    assert 9 * MAX_CONNECTIONS_PER_MEMBER + MAX_NON_MEMBER_CONNECTIONS <= MAX_PEER_CONNECTIONS


def test_a_member_that_calls_while_the_open_connections_are_listed_is_not_forgotten() -> None:
    """Its connection was nobody's from then on, and ended after half a minute."""
    held, link = connections(), ("10.0.0.1", 7)
    held.called(link, "n1")  # the list of the look that goes on lacks the connection
    assert held.surplus([], 0) == set()
    for now in (2, 4, 2 * NON_MEMBER_CONNECTION_S):
        assert held.surplus([link], now) == set()


def test_a_name_is_forgotten_with_its_connection() -> None:
    held, link = connections(), ("10.0.0.1", 7)
    held.called(link, "n1")
    for now in range(3):
        held.surplus([], now)
    held.surplus([link], 3)
    assert held.surplus([link], 4 + NON_MEMBER_CONNECTION_S) == {link}
