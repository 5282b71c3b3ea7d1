"""Fair order by bytes: a source that sends little waits for nobody, one that sends much waits for itself."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from parleyd.group.fair_order import ITEM_BYTES, FairOrder


def drained(order: FairOrder) -> list[int]:
    return [order.next() for _ in range(len(order))]


def test_a_small_item_is_next_whatever_others_have_waiting() -> None:
    order = FairOrder()
    for token in range(100):
        order.add(token % 3, token, 1000)
    assert [order.next() for _ in range(3)] == [0, 1, 2]
    order.add("quiet", 100, 10)
    assert order.next() == 100


def test_sources_get_equal_bytes() -> None:
    order = FairOrder()
    for token in range(10):
        order.add("large", token, 1000 - ITEM_BYTES)
    for token in range(10, 60):
        order.add("small", token, 200 - ITEM_BYTES)
    first = [order.next() for _ in range(12)]
    assert sum(token < 10 for token in first) == 2
    assert sum(token >= 10 for token in first) == 10


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 5000), st.booleans()), max_size=60))
def test_items_of_a_source_keep_their_order_and_none_is_lost(items: list[tuple[int, int, bool]]) -> None:
    order = FairOrder()
    source_of: dict[int, int] = {}
    taken: list[int] = []
    for token, (source, size, takes) in enumerate(items):
        source_of[token] = source
        order.add(source, token, size)
        if takes:
            taken.append(order.next())
    taken += drained(order)
    assert sorted(taken) == list(range(len(items)))
    for source in range(5):
        mine = [token for token in taken if source_of[token] == source]
        assert mine == sorted(mine)
    assert not order._finish
