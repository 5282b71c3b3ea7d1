"""Every result code has a status and a text, and a command above the cluster's level never reaches the log."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import grpc
import pytest

from parley_proto.v1 import state_pb2
from parleyd.api.commands import Commands
from parleyd.api.errors import ApiError, check_result
from parleyd.api.results import EXPLANATIONS, UNKNOWN_CODE, explain
from parleyd.group.proposals import AppliedCommands
from parleyd.machine import registry
from parleyd.raft.types import Index


@pytest.mark.parametrize("name", state_pb2.ResultCode.keys())
def test_every_code_has_a_row_that_says_what_happened_and_what_to_do(name: str) -> None:
    row = EXPLANATIONS[state_pb2.ResultCode.Value(name)]
    is_ok = name == "RESULT_CODE_OK"
    assert (row.status is grpc.StatusCode.OK) == is_ok
    sentences = [sentence for sentence in row.text.split(". ") if sentence]
    assert is_ok or len(sentences) >= 3, "what happened, the effect on the data, what to do"
    assert row.text.endswith(".")


def test_the_table_has_no_row_for_what_is_no_code() -> None:
    assert set(EXPLANATIONS) == set(state_pb2.ResultCode.values())
    assert explain(9999) is UNKNOWN_CODE


def test_a_result_that_is_not_ok_ends_the_call_with_its_row() -> None:
    with pytest.raises(ApiError) as refusal:
        check_result(state_pb2.CommandResult(code=state_pb2.RESULT_CODE_NAME_TAKEN))
    row = explain(state_pb2.RESULT_CODE_NAME_TAKEN)
    assert (refusal.value.status, str(refusal.value)) == (row.status, row.text)


async def test_a_refusal_after_an_attempt_without_a_known_outcome_does_not_claim_that_nothing_was_changed() -> None:
    class AfterUnknown:
        async def submit(self, commands: Sequence[state_pb2.Command], *, timeout_s: float) -> AppliedCommands:
            code = state_pb2.RESULT_CODE_NOT_ALLOWED
            return AppliedCommands(Index(1), (state_pb2.CommandResult(code=code),), after_unknown=True)

    with pytest.raises(ApiError, match="may have been carried out") as refusal:
        await Commands(AfterUnknown(), lambda: 1).apply(state_pb2.Command(close_session=state_pb2.CloseSession()))
    assert refusal.value.may_have_happened
    assert refusal.value.status is grpc.StatusCode.PERMISSION_DENIED


class Log:
    """A router that notes what reaches it."""

    def __init__(self) -> None:
        self.commands: list[state_pb2.Command] = []

    async def submit(self, commands: Sequence[state_pb2.Command], *, timeout_s: float) -> AppliedCommands:
        self.commands += commands
        return AppliedCommands(Index(1), (state_pb2.CommandResult(code=state_pb2.RESULT_CODE_OK),))


async def test_a_command_above_the_clusters_level_is_refused_with_the_level_it_needs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    level, log = 1, Log()
    commands = Commands(log, lambda: level)
    command = state_pb2.Command(close_session=state_pb2.CloseSession())
    later = dataclasses.replace(registry.COMMANDS["close_session"], level=2)
    monkeypatch.setitem(registry.COMMANDS, "close_session", later)
    with pytest.raises(ApiError, match="needs level 2, and the cluster has level 1") as refusal:
        await commands.apply(command)
    assert refusal.value.status is grpc.StatusCode.FAILED_PRECONDITION
    assert log.commands == []
    level = 2
    await commands.apply(command)
    assert log.commands == [command]
