"""Positions: the newest counts, another life of the cluster does not compare, and nonsense is refused."""

from __future__ import annotations

import pytest

from parley_proto.v1 import model_pb2 as pb
from parleyd.delivery.position import (
    InvalidPositionError,
    NewerGenerationError,
    index_of,
    merged,
    position,
    wanted_index,
)


def test_the_index_that_was_seen_is_waited_for() -> None:
    assert wanted_index(position(2, 17), generation=2) == 17
    assert wanted_index(pb.Position(), generation=2) == 0


def test_a_position_from_before_the_cluster_was_restored_asks_for_nothing() -> None:
    assert wanted_index(position(1, 1 << 40), generation=2) == 0


def test_a_node_that_was_not_restored_answers_nobody_who_saw_the_restored_cluster() -> None:
    with pytest.raises(NewerGenerationError):
        wanted_index(position(3, 1), generation=2)


@pytest.mark.parametrize(
    "seen",
    [
        pb.Position(generation=1 << 63),
        pb.Position(groups=[pb.GroupIndex(group=1, index=1)]),
        pb.Position(groups=[pb.GroupIndex(index=1 << 63)]),
        pb.Position(groups=[pb.GroupIndex()] * 257),
    ],
    ids=["generation", "group", "index", "count"],
)
def test_a_position_that_no_node_gave_out_is_refused(seen: pb.Position) -> None:
    with pytest.raises(InvalidPositionError, match="Nothing was changed"):
        wanted_index(seen, generation=0)


def test_the_newer_of_two_positions_stays() -> None:
    assert index_of(merged(position(1, 5), position(1, 4))) == 5
    assert index_of(merged(position(1, 5), position(2, 4))) == 4
    assert index_of(merged(pb.Position(), position(0, 4))) == 4
