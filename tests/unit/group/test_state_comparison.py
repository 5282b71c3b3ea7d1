"""Who is right when state hashes differ: the voters' majority at one index, and nobody without one."""

from __future__ import annotations

from itertools import permutations

from parleyd.group.state_comparison import MAX_REPORTS, StateComparison, Verdict
from parleyd.machine.records import StateHash
from parleyd.raft.types import ConfState, NodeId

A, B, C, D = (NodeId(number) for number in (1, 2, 3, 4))


def comparison(
    own: NodeId = A, voters: tuple[NodeId, ...] = (A, B, C), learners: tuple[NodeId, ...] = ()
) -> StateComparison:
    made = StateComparison(own)
    made.set_members(ConfState(voters=voters, learners=learners), (*voters, *learners))
    return made


def report(made: StateComparison, node: NodeId, index: int, value: bytes) -> None:
    made.report(node, (StateHash(index, value),))


def outvoted(made: StateComparison) -> bool:
    return made.is_outvoted


def clean(made: StateComparison) -> bool:
    return made.is_clean


def verdicts(made: StateComparison) -> dict[NodeId, Verdict]:
    return {node: found.verdict for node, found in made.judgements.items()}


def test_equal_reports_of_a_majority_agree() -> None:
    made = comparison()
    report(made, A, 256, b"x")
    assert not made.judgements
    report(made, B, 256, b"x")
    assert verdicts(made) == {A: Verdict.AGREES, B: Verdict.AGREES}
    assert clean(made)
    assert not outvoted(made)


def test_a_member_against_the_majority_is_outvoted_in_whatever_order_reports_come() -> None:
    for order in permutations(((A, b"x"), (B, b"x"), (C, b"y"))):
        made = comparison()
        for node, value in order:
            report(made, node, 256, value)
        assert verdicts(made) == {A: Verdict.AGREES, B: Verdict.AGREES, C: Verdict.OUTVOTED}
        assert not clean(made)
        assert not outvoted(made)
        assert made.judgements[C].majority == b"x"
        assert made.judgements[C].value == b"y"


def test_this_node_learns_that_it_is_outvoted() -> None:
    made = comparison(own=C)
    report(made, C, 256, b"y")
    report(made, A, 256, b"x")
    assert not outvoted(made)
    report(made, B, 256, b"x")
    assert outvoted(made)


def test_without_a_majority_nobody_is_outvoted() -> None:
    made = comparison(voters=(A, B))
    report(made, A, 256, b"x")
    report(made, B, 256, b"y")
    assert verdicts(made) == {A: Verdict.UNDECIDED, B: Verdict.UNDECIDED}
    assert not outvoted(made)
    assert not clean(made)


def test_a_learner_has_no_say_but_is_judged() -> None:
    made = comparison(own=D, voters=(A, B), learners=(C, D))
    report(made, C, 256, b"y")
    report(made, D, 256, b"y")
    report(made, A, 256, b"x")
    assert not outvoted(made)
    report(made, B, 256, b"x")
    assert outvoted(made)
    assert verdicts(made)[C] is Verdict.OUTVOTED


def test_different_indices_are_never_compared() -> None:
    made = comparison()
    report(made, A, 256, b"x")
    report(made, B, 512, b"y")
    report(made, C, 768, b"z")
    assert not made.judgements


def test_an_outvoted_member_leaves_the_others_undisputed_while_the_third_is_late() -> None:
    made = comparison()
    for node, value in ((A, b"x"), (B, b"x"), (C, b"y")):
        report(made, node, 256, value)
    report(made, A, 512, b"xx")
    report(made, C, 512, b"yy")
    assert verdicts(made) == {A: Verdict.AGREES, B: Verdict.AGREES, C: Verdict.OUTVOTED}


def test_a_rebuilt_member_agrees_again() -> None:
    made = comparison()
    for node, value in ((A, b"x"), (B, b"x"), (C, b"y")):
        report(made, node, 256, value)
    for node in (A, B, C):
        report(made, node, 512, b"xx")
    assert clean(made)


def test_late_reports_of_an_old_index_do_not_undo_a_later_judgement() -> None:
    made = comparison()
    for node in (A, B, C):
        report(made, node, 512, b"xx")
    for node, value in ((A, b"x"), (B, b"x"), (C, b"y")):
        report(made, node, 256, value)
    assert clean(made)


def test_a_joint_membership_needs_both_majorities() -> None:
    made = StateComparison(A)
    made.set_members(ConfState(voters=(A, B, C), voters_outgoing=(A, D, C)), (A, B, C, D))
    report(made, A, 256, b"x")
    report(made, B, 256, b"x")
    report(made, D, 256, b"y")
    assert verdicts(made)[A] is Verdict.UNDECIDED
    report(made, C, 256, b"x")
    assert verdicts(made) == {A: Verdict.AGREES, B: Verdict.AGREES, C: Verdict.AGREES, D: Verdict.OUTVOTED}


def test_a_removed_member_is_forgotten_and_the_rest_judged_anew() -> None:
    made = comparison(voters=(A, B, C, D))
    for node, value in ((A, b"x"), (B, b"x"), (C, b"y")):
        report(made, node, 256, value)
    assert set(verdicts(made).values()) == {Verdict.UNDECIDED}
    made.set_members(ConfState(voters=(A, B, C)), (A, B, C))
    assert verdicts(made)[C] is Verdict.OUTVOTED
    made.set_members(ConfState(voters=(A, B)), (A, B))
    assert clean(made)


def test_a_stranger_reports_nothing() -> None:
    made = comparison()
    report(made, D, 256, b"x")
    assert not made.judgements
    assert made.own_history == ()


def test_the_history_is_bounded_and_keeps_the_latest() -> None:
    made = comparison()
    for number in range(1, MAX_REPORTS + 10):
        report(made, A, 256 * number, b"%d" % number)
    assert len(made.own_history) == MAX_REPORTS
    assert made.own_history[-1].index == 256 * (MAX_REPORTS + 9)
    assert made.own_history[0].index == 256 * 10


def test_a_replaced_state_begins_a_new_history() -> None:
    made = comparison(own=C)
    for node, value in ((A, b"x"), (B, b"x"), (C, b"y")):
        report(made, node, 256, value)
    assert outvoted(made)
    made.state_replaced(StateHash(300, b"s"))
    assert not outvoted(made)
    assert clean(made)
    assert made.own_history == (StateHash(300, b"s"),)
