"""The collection behind every bound that knows networks, addresses and accounts."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from parleyd.owners import Owner, OwnerTree

OWNERS = st.tuples(st.integers(0, 2), st.integers(0, 2), st.integers(0, 2))


def test_the_heaviest_is_found_from_the_widest_part_down() -> None:
    tree: OwnerTree[int] = OwnerTree()
    for number, owner in enumerate([("a", "x"), ("a", "y"), ("a", "z"), ("b", "x"), ("b", "x")]):
        tree.add(owner, number)
    assert tree.heaviest() == ("a", "x"), "network a has three, though nobody in it has as much as one in b"
    assert tree.heaviest(("b",)) == ("b", "x")
    assert tree.heaviest(("c",)) is None
    assert (tree.count(), tree.count(("a",)), tree.count(("b", "x")), tree.count(("c", "x"))) == (5, 3, 2, 0)


def test_everybody_has_a_turn_at_each_level() -> None:
    tree: OwnerTree[str] = OwnerTree()
    for item in ("ax1", "ax2", "ay1", "bx1", "ax3"):
        tree.add((item[0], item[1]), item)
    assert [tree.take_turn() for _ in range(6)] == ["ax1", "bx1", "ay1", "ax2", "ax3", None]


@given(st.lists(st.tuples(OWNERS, st.booleans()), max_size=60))
def test_what_is_removed_leaves_nothing_behind(steps: list[tuple[Owner, bool]]) -> None:
    tree: OwnerTree[int] = OwnerTree()
    inside: dict[int, Owner] = {}
    for number, (owner, adds) in enumerate(steps):
        if adds or not inside:
            tree.add(owner, number)
            inside[number] = owner
        else:
            first = next(iter(inside))
            assert tree.remove(inside.pop(first), first)
            assert not tree.remove(owner, -1)
        for level in range(4):
            assert tree.count(owner[:level]) == sum(each[:level] == owner[:level] for each in inside.values())
    for item, owner in inside.items():
        assert item in list(tree.items(owner))
        tree.remove(owner, item)
    assert not tree._root.parts
