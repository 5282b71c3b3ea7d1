"""What a node publishes of itself, and what it says when the cluster refuses it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

from structlog.testing import capture_logs

from parley_proto.v1 import state_pb2
from parleyd.group.proposals import AppliedCommands
from parleyd.machine.levels import NODE_KEYS_LEVEL
from parleyd.membership.addresses import AddressPublisher
from parleyd.raft.types import Index, NodeId
from parleyd.storage.identity import PeerInfo


async def test_a_refused_publication_is_told_once_and_not_repeated() -> None:
    own = PeerInfo(NodeId(2), "n2", "host:1", "host:2", key_digest=b"k" * 32)
    asked: list[state_pb2.Command] = []

    async def submit(commands: list[state_pb2.Command], timeout_s: float) -> AppliedCommands:
        asked.extend(commands)
        refused = state_pb2.CommandResult(code=state_pb2.RESULT_CODE_NOT_ALLOWED)
        return AppliedCommands(Index(7), (refused,))

    async def wait_applied(index: Index) -> None:
        assert index == 7

    runner = SimpleNamespace(
        members=SimpleNamespace(rows={own.node_id: object()}),
        level=NODE_KEYS_LEVEL,
        role=SimpleNamespace(leader=NodeId(1)),
        wait_applied=wait_applied,
    )
    router = SimpleNamespace(submit=submit)
    with capture_logs() as logged:
        await AddressPublisher(own, cast(Any, runner), cast(Any, router), cast(Any, None)).run()
    assert [command.publish_member.key_digest for command in asked] == [own.key_digest]
    assert [(line["event"], line["code"]) for line in logged] == [("publication_refused", "NOT_ALLOWED")]
    assert "parleyd cert node" in logged[0]["advice"]
