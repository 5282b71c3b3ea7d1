"""A channel of ada and bob, and cid, who is not in it: for what an account sets for its own view of a conversation."""

from __future__ import annotations

from pathlib import Path

from parley_proto.v1 import state_pb2 as pb
from tests.unit.machine.harness import Node

ADA, BOB, CID = 1, 2, 3
OK, NONE = pb.RESULT_CODE_OK, pb.RESULT_CODE_NO_SUCH_CONVERSATION


class Ward:
    """The scene, at a level."""

    def __init__(self, path: Path, level: int) -> None:
        self.node = Node(path)
        self.sessions = {ADA: self.node.user("ada", 10), BOB: self.node.user("bob", 11), CID: self.node.user("cid", 12)}
        self.node.rise(level)
        self.channel = self.node.channel(self.sessions[ADA], "Ward", BOB)

    def code_of(self, command: pb.Command) -> pb.ResultCode.ValueType:
        return self.node.one(command, level=self.node.reader.level()).code
