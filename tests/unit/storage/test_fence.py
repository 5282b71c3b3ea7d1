"""The mark of a node that is not trusted survives restarts, and counts even if it cannot be read."""

from __future__ import annotations

from pathlib import Path

import pytest

from parleyd.storage import fence as fences
from parleyd.storage.fence import UNREADABLE, Fence


def test_a_mark_comes_back_as_it_was_saved_until_it_is_cleared(tmp_path: Path) -> None:
    path = tmp_path / "fenced.json"
    assert fences.load(path) is None
    saved = Fence("outvoted by n1, n2", 512, "aa", "bb")
    fences.save(path, saved)
    assert fences.load(path) == saved
    fences.clear(path)
    assert fences.load(path) is None
    fences.clear(path)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"fence": {}}', b'{"fence": {"reason": "x", "index": "y"}}'])
def test_a_mark_that_cannot_be_read_still_counts(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "fenced.json"
    path.write_bytes(content)
    assert fences.load(path) == Fence(UNREADABLE)
