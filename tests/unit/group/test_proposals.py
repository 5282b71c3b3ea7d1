"""Every caller learns what became of exactly its own commands, or that it is lost, or that nobody knows."""

from __future__ import annotations

from parley_proto.v1 import model_pb2, state_pb2
from parleyd.group.errors import ProposalFailure
from parleyd.group.proposals import AppliedCommands, Proposal, ProposalTable
from parleyd.raft.types import Index, Term

LOST, SKIPPED, STOPPED = ProposalFailure.LOST, ProposalFailure.SKIPPED, ProposalFailure.STOPPED


def command(up_to: int, padding: int = 0) -> state_pb2.Command:
    if padding:
        return state_pb2.Command(register_account=state_pb2.RegisterAccount(name="x" * padding))
    return state_pb2.Command(mark_delivered=state_pb2.MarkDelivered(session_id=1, up_to=up_to))


def result(delivered_up_to: int) -> state_pb2.CommandResult:
    marked = state_pb2.MarkDeliveredResult(delivered_up_to=delivered_up_to)
    return state_pb2.CommandResult(code=state_pb2.RESULT_CODE_OK, mark_delivered=marked)


def proposal(token: int, *up_to: int) -> Proposal:
    return Proposal(token, [command(each) for each in up_to], 10)


def test_callers_that_come_together_share_an_entry_and_get_their_own_results() -> None:
    table = ProposalTable(max_entry_bytes=1000)
    table.gather(1, [command(1), command(2)])
    table.gather(2, [command(3)])
    [(payload, proposals)] = table.take_entries(77, 1)
    batch = state_pb2.CommandBatch.FromString(payload)
    assert batch.proposed_at_ms == 77
    assert [each.mark_delivered.up_to for each in batch.commands] == [1, 2, 3]
    assert list(table.proposed(Index(5), Term(2), proposals)) == []
    assert dict(table.applied(Index(5), Term(2), [result(1), result(2), result(3)])) == {
        1: AppliedCommands(Index(5), (result(1), result(2))),
        2: AppliedCommands(Index(5), (result(3),)),
    }
    assert (table.in_flight, table.waiting) == (0, 0)


def test_an_entry_is_no_larger_than_its_bound_unless_one_caller_alone_is() -> None:
    table = ProposalTable(max_entry_bytes=command(1).ByteSize() * 5 // 2)
    for token in range(3):
        table.gather(token, [command(token)])
    table.gather(3, [command(3, padding=99)])
    assert [len(proposals) for _, proposals in table.take_entries(0, 1)] == [2, 1, 1]


def test_what_waits_is_bounded_in_bytes_and_one_caller_may_always_wait() -> None:
    size = command(0, padding=99).ByteSize()
    table = ProposalTable(max_entry_bytes=1000, max_waiting_bytes=2 * size)
    assert table.gather(1, [command(0, padding=99)] * 3), "one alone"
    assert not table.gather(2, [command(0)])
    table.withdraw(1)
    assert table.gather(2, [command(0, padding=99)])
    assert table.gather(3, [command(0, padding=99)])
    assert not table.gather(4, [command(0)])
    table.take_entries(0, 1)
    assert table.gather(4, [command(0, padding=99)])
    list(table.fail_all(STOPPED))
    assert table.gather(5, [command(0, padding=99)] * 2)


def of_session(session_id: int, up_to: int, padding: int = 0) -> state_pb2.Command:
    sends = [model_pb2.Send(number=up_to, body="x" * padding)]
    return state_pb2.Command(send_messages=state_pb2.SendMessages(session_id=session_id, sends=sends))


def numbers(entries: list[tuple[bytes, list[Proposal]]]) -> list[tuple[int, int]]:
    """Session and number of everything that was taken, in order."""
    commands = [each for payload, _ in entries for each in state_pb2.CommandBatch.FromString(payload).commands]
    return [(each.send_messages.session_id, each.send_messages.sends[0].number) for each in commands]


def test_sessions_take_turns_and_the_commands_of_each_stay_in_order() -> None:
    table = ProposalTable(max_entry_bytes=10_000)
    for token, (session, number) in enumerate(((1, 1), (1, 2), (1, 3), (1, 4), (2, 1), (3, 1), (3, 2))):
        assert table.gather(token, [of_session(session, number)])
    table.withdraw(1)
    assert numbers(table.take_entries(0, 1)) == [(1, 1), (2, 1), (3, 1), (3, 2), (1, 3), (1, 4)]
    assert table.waiting == 0


def test_a_small_command_waits_for_the_entry_before_it_and_shares_the_next_one() -> None:
    size = of_session(1, 1).ByteSize()
    table = ProposalTable(max_entry_bytes=10_000, enough_bytes=3 * size)
    term = Term(2)
    assert table.gather(1, [of_session(1, 1)])
    [(_, proposals)] = table.take_entries(0, 1, term)
    list(table.proposed(Index(5), term, proposals))
    for number in (2, 3):
        assert table.gather(number, [of_session(1, number)])
        assert table.take_entries(0, 1, term) == []
    list(table.applied(Index(5), term, [result(1)]))
    [(payload, proposals)] = table.take_entries(0, 1, term)
    assert numbers([(payload, proposals)]) == [(1, 2), (1, 3)]
    list(table.proposed(Index(6), term, proposals))
    for number in (4, 5, 6):
        assert table.gather(number, [of_session(1, number)])
    [(payload, proposals)] = table.take_entries(0, 1, term)
    assert numbers([(payload, proposals)]) == [(1, 4), (1, 5), (1, 6)], "enough for an entry of their own"
    list(table.proposed(Index(7), term, proposals))
    assert table.gather(7, [of_session(1, 7)])
    table.withdraw(7)
    assert table.gather(8, [of_session(1, 8)])
    assert table.take_entries(0, 1, term) == []
    assert numbers(table.take_entries(0, 1, Term(3))) == [(1, 8)], "what an older term left may never be applied"


def test_what_is_beyond_the_pipeline_waits_until_something_is_applied_and_nobody_is_held_up() -> None:
    size = of_session(1, 1, padding=1000).ByteSize()
    table = ProposalTable(max_entry_bytes=10_000, max_pipeline_bytes=2 * size)
    term = Term(2)
    for number in range(1, 7):
        assert table.gather(number, [of_session(1, number, padding=1000)])
    [(payload, proposals)] = table.take_entries(0, 1, term)
    assert numbers([(payload, proposals)]) == [(1, 1), (1, 2)]
    list(table.proposed(Index(5), term, proposals))
    assert table.gather(7, [of_session(2, 1)])
    assert table.take_entries(0, 1, term) == [], "two are on their way"
    list(table.applied(Index(5), term, [result(1), result(2)]))
    [(payload, proposals)] = table.take_entries(0, 1, term)
    assert numbers([(payload, proposals)]) == [(2, 1), (1, 3), (1, 4)], "another session's small command is next"
    list(table.proposed(Index(6), term, proposals))
    assert table.take_entries(0, 1, term) == []
    assert numbers(table.take_entries(0, 1, Term(3))) == [(1, 5), (1, 6)], "what an older term left does not count"


def test_a_caller_that_left_before_anything_was_proposed_is_not_proposed() -> None:
    table = ProposalTable(max_entry_bytes=1000)
    table.gather(1, [command(1)])
    table.gather(2, [command(2)])
    table.withdraw(1)
    [(payload, _)] = table.take_entries(0, 1)
    assert [each.mark_delivered.up_to for each in state_pb2.CommandBatch.FromString(payload).commands] == [2]


def test_a_caller_that_left_later_does_not_shift_the_results_of_others() -> None:
    table = ProposalTable(max_entry_bytes=1000)
    list(table.proposed(Index(1), Term(1), [proposal(1, 1, 2), proposal(2, 3)]))
    table.withdraw(1)
    answers = dict(table.applied(Index(1), Term(1), [result(1), result(2), result(3)]))
    assert answers[2] == AppliedCommands(Index(1), (result(3),))


def test_a_proposal_is_lost_when_another_term_holds_its_index() -> None:
    table = ProposalTable(max_entry_bytes=1000)
    list(table.proposed(Index(9), Term(3), [proposal(1, 1)]))
    assert list(table.applied(Index(9), Term(4), [result(4)])) == [(1, LOST)]


def test_an_entry_proposed_anew_at_the_same_index_loses_the_older_one() -> None:
    table = ProposalTable(max_entry_bytes=1000)
    list(table.proposed(Index(9), Term(3), [proposal(1, 1)]))
    told = list(table.proposed(Index(9), Term(5), [proposal(2, 2)]))
    assert told == [(1, LOST)], "or its caller waits forever"
    assert list(table.applied(Index(9), Term(5), [result(2)])) == [(2, AppliedCommands(Index(9), (result(2),)))]


def test_nobody_knows_what_became_of_an_entry_a_snapshot_skipped() -> None:
    table = ProposalTable(max_entry_bytes=1000)
    list(table.proposed(Index(3), Term(1), [proposal(1, 1)]))
    list(table.proposed(Index(8), Term(1), [proposal(2, 2)]))
    assert list(table.skipped_to(Index(5))) == [(1, SKIPPED)]
    assert table.in_flight == 1


def test_everyone_who_waits_is_told_when_the_node_stops() -> None:
    table = ProposalTable(max_entry_bytes=1000)
    table.gather(1, [command(1)])
    list(table.proposed(Index(1), Term(1), [proposal(2, 2)]))
    assert list(table.fail_all(STOPPED)) == [(1, STOPPED), (2, STOPPED)]
    assert (table.in_flight, table.waiting) == (0, 0)
