"""Whom something counts for, widest first, and a collection in which everybody's items are found and counted."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Iterator
from typing import Generic, TypeVar

T = TypeVar("T", bound=Hashable)

Owner = tuple[Hashable, ...]
"""A network, an address in it, an account there. The first of these are a part of the owner, () is everybody."""


class OwnerTree(Generic[T]):
    """Items of owners, each owner's in the order in which they came. All owners have equally many parts."""

    def __init__(self) -> None:
        self._root: _Branch[T] = _Branch()

    def count(self, part: Owner = ()) -> int:
        """Return the number of items of everybody in this part."""
        branch = self._find(part)
        return 0 if branch is None else branch.count

    def add(self, owner: Owner, item: T) -> None:
        """Add an item after the owner's others."""
        branch = self._root
        branch.count += 1
        for key in owner:
            branch = branch.parts.setdefault(key, _Branch())
            branch.count += 1
        branch.items[item] = None

    def remove(self, owner: Owner, item: T) -> bool:
        """Remove an item. Return false if it is not there."""
        leaf = self._find(owner)
        if leaf is None or item not in leaf.items:
            return False
        del leaf.items[item]
        branch = self._root
        branch.count -= 1
        for key in owner:
            part = branch.parts[key]
            part.count -= 1
            if not part.count:
                del branch.parts[key]
                break
            branch = part
        return True

    def heaviest(self, part: Owner = ()) -> Owner | None:
        """Return who has the most in this part: of its networks the one with the most, of that its addresses..."""
        branch = self._find(part)
        if branch is None or not branch.count:
            return None
        while branch.parts:
            parts = branch.parts
            key = max(parts, key=lambda key: parts[key].count)
            part, branch = (*part, key), parts[key]
        return part

    def items(self, owner: Owner) -> Iterator[T]:
        """Return the items of one owner, the first one first."""
        leaf = self._find(owner)
        return iter(()) if leaf is None else iter(leaf.items)

    def last(self, owner: Owner) -> T:
        """Return the newest item of an owner that has some."""
        leaf = self._find(owner)
        assert leaf is not None
        return next(reversed(leaf.items))

    def take_turn(self) -> T | None:
        """Remove and return the first item of whoever had the last turn longest ago, at each level."""
        if not self._root.count:
            return None
        owner: Owner = ()
        branch = self._root
        while branch.parts:
            key = next(iter(branch.parts))
            branch.parts.move_to_end(key)
            owner, branch = (*owner, key), branch.parts[key]
        item = next(iter(branch.items))
        self.remove(owner, item)
        return item

    def _find(self, part: Owner) -> _Branch[T] | None:
        branch: _Branch[T] | None = self._root
        for key in part:
            branch = None if branch is None else branch.parts.get(key)
        return branch


class _Branch(Generic[T]):
    """What everybody in one part has: a level of parts, or the items of one owner."""

    __slots__ = ("count", "items", "parts")

    def __init__(self) -> None:
        self.count = 0
        self.parts: OrderedDict[Hashable, _Branch[T]] = OrderedDict()
        self.items: dict[T, None] = {}
