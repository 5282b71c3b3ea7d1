"""Every caller learns what became of exactly its own commands, or that it is lost, or that nobody knows."""

from __future__ import annotations

import asyncio

import pytest

from parley_proto.v1 import state_pb2
from parleyd.group.errors import LostError, OutcomeUnknownError
from parleyd.group.proposals import AppliedCommands, Proposal, ProposalTable
from parleyd.raft.types import Index, Term


def command(up_to: int) -> state_pb2.Command:
    return state_pb2.Command(mark_delivered=state_pb2.MarkDelivered(session_id=1, up_to=up_to))


def result(letter: str) -> state_pb2.CommandResult:
    registered = state_pb2.RegisterAccountResult(account_id=ord(letter))
    return state_pb2.CommandResult(code=state_pb2.RESULT_CODE_OK, register_account=registered)


def proposal(*up_to: int, size_bytes: int = 10) -> Proposal:
    outcome: asyncio.Future[AppliedCommands] = asyncio.get_running_loop().create_future()
    return Proposal([command(each) for each in up_to], outcome, size_bytes)


async def test_callers_that_come_together_share_an_entry_and_get_their_own_results() -> None:
    table = ProposalTable(max_entry_bytes=1000)
    one, two = proposal(1, 2), proposal(3)
    table.gathered += [one, two]
    [(payload, proposals)] = table.take_entries(77, 1)
    batch = state_pb2.CommandBatch.FromString(payload)
    assert (batch.level, batch.proposed_at_ms) == (1, 77)
    assert [each.mark_delivered.up_to for each in batch.commands] == [1, 2, 3]
    table.proposed(Index(5), Term(2), proposals)
    table.applied(Index(5), Term(2), [result("a"), result("b"), result("c")])
    assert one.outcome.result() == AppliedCommands(Index(5), (result("a"), result("b")))
    assert two.outcome.result() == AppliedCommands(Index(5), (result("c"),))
    assert table.in_flight == 0


async def test_an_entry_is_no_larger_than_its_bound_unless_one_caller_alone_is() -> None:
    table = ProposalTable(max_entry_bytes=25)
    table.gathered += [proposal(n, size_bytes=10) for n in range(3)] + [proposal(3, size_bytes=99)]
    sizes = [len(proposals) for _, proposals in table.take_entries(0, 1)]
    assert sizes == [2, 1, 1]


async def test_a_caller_that_left_before_anything_was_proposed_is_not_proposed() -> None:
    table = ProposalTable(max_entry_bytes=1000)
    gone, stays = proposal(1), proposal(2)
    table.gathered += [gone, stays]
    gone.outcome.cancel()
    [(payload, _)] = table.take_entries(0, 1)
    assert [each.mark_delivered.up_to for each in state_pb2.CommandBatch.FromString(payload).commands] == [2]


async def test_a_caller_that_left_later_does_not_shift_the_results_of_others() -> None:
    table = ProposalTable(max_entry_bytes=1000)
    gone, stays = proposal(1, 2), proposal(3)
    table.proposed(Index(1), Term(1), [gone, stays])
    gone.outcome.cancel()
    table.applied(Index(1), Term(1), [result("a"), result("b"), result("c")])
    assert stays.outcome.result().results == (result("c"),)


async def test_a_proposal_is_lost_when_another_term_holds_its_index() -> None:
    table = ProposalTable(max_entry_bytes=1000)
    overwritten = proposal(1)
    table.proposed(Index(9), Term(3), [overwritten])
    table.applied(Index(9), Term(4), [result("x")])
    with pytest.raises(LostError):
        overwritten.outcome.result()


async def test_an_entry_proposed_anew_at_the_same_index_loses_the_older_one() -> None:
    table = ProposalTable(max_entry_bytes=1000)
    older, newer = proposal(1), proposal(2)
    table.proposed(Index(9), Term(3), [older])
    table.proposed(Index(9), Term(5), [newer])
    assert older.outcome.done(), "or its caller waits forever"
    with pytest.raises(LostError):
        older.outcome.result()
    table.applied(Index(9), Term(5), [result("b")])
    assert newer.outcome.result().results == (result("b"),)


async def test_nobody_knows_what_became_of_an_entry_a_snapshot_skipped() -> None:
    table = ProposalTable(max_entry_bytes=1000)
    skipped, later = proposal(1), proposal(2)
    table.proposed(Index(3), Term(1), [skipped])
    table.proposed(Index(8), Term(1), [later])
    table.skipped_to(Index(5))
    with pytest.raises(OutcomeUnknownError):
        skipped.outcome.result()
    assert not later.outcome.done()


async def test_everyone_who_waits_is_told_when_the_node_stops() -> None:
    table = ProposalTable(max_entry_bytes=1000)
    gathered, in_flight = proposal(1), proposal(2)
    table.gathered.append(gathered)
    table.proposed(Index(1), Term(1), [in_flight])
    table.fail_all(lambda: OutcomeUnknownError("stopping"))
    for each in (gathered, in_flight):
        with pytest.raises(OutcomeUnknownError):
            each.outcome.result()
