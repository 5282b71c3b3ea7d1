"""Which copy of a device's files is the device is decided in the log; a device that was forgotten is never doubled.

What can go wrong: two copies send under the same numbers and one of them is told what the other one did; a forgotten
device begins again with number 1 and stores a message twice.
"""

from __future__ import annotations

import pytest

from parley_proto.v1 import model_pb2
from parley_proto.v1 import state_pb2 as pb
from parleyd.machine.features.devices import CLAIM_LEVEL, DeviceClaimed, claim_of
from parleyd.machine.limits import MAX_DEVICES_PER_ACCOUNT, MAX_ID
from tests.unit.machine.harness import Node, close_session, dump, external, mark_delivered, open_session, sends

OK, SUPERSEDED = pb.RESULT_CODE_OK, pb.RESULT_CODE_DEVICE_SUPERSEDED


def claim(epoch: int, letter: str) -> model_pb2.DeviceClaim:
    return model_pb2.DeviceClaim(epoch=epoch, nonce=letter.encode() * 16)


def claimed(command: pb.Command, one: model_pb2.DeviceClaim) -> pb.Command:
    content = command.send_messages if command.HasField("send_messages") else command.mark_delivered
    content.claim.CopyFrom(one)
    return command


def at_level(node: Node) -> int:
    """The session of ada's phone, at the level that has claims."""
    session = node.user("ada", 1)
    node.rise(CLAIM_LEVEL)
    return session


def one(node: Node, command: pb.Command) -> pb.CommandResult:
    return node.one(command, level=CLAIM_LEVEL)


def test_the_first_copy_that_is_applied_is_the_device_and_the_other_uses_no_number(node: Node) -> None:
    session = at_level(node)
    first = one(node, claimed(sends(session, (1, "ada", "from one")), claim(1, "a")))
    assert first.code == OK
    other = one(node, claimed(sends(session, (2, "ada", "from the other")), claim(1, "b")))
    assert other == pb.CommandResult(code=SUPERSEDED)
    again = one(node, claimed(sends(session, (2, "ada", "two")), claim(1, "a")))
    assert [result.code for result in again.send_messages.sends] == [OK]


def test_a_higher_epoch_is_taken_and_ends_what_came_before(node: Node) -> None:
    session = at_level(node)
    one(node, claimed(sends(session, (1, "ada", "x")), claim(1, "a")))
    assert one(node, claimed(sends(session, (2, "ada", "y")), claim(2, "b"))).code == OK
    assert DeviceClaimed(1, external(1), b"b" * 16) in node.effects()
    for older in (claim(1, "a"), claim(2, "a"), claim(1, "b"), model_pb2.DeviceClaim()):
        assert one(node, claimed(sends(session, (3, "ada", "z")), older)).code == SUPERSEDED
    assert one(node, claimed(sends(session, (3, "ada", "z")), claim(2, "b"))).code == OK
    assert not any(isinstance(effect, DeviceClaimed) for effect in node.effects()), "the same claim goes on"
    held = claim_of(node.reader, 1)
    assert (held.epoch, held.nonce) == (2, b"b" * 16)


def test_a_retry_of_a_superseded_copy_is_not_told_what_became_of_the_others_message(node: Node) -> None:
    session = at_level(node)
    one(node, claimed(sends(session, (1, "ada", "same")), claim(2, "a")))
    assert one(node, claimed(sends(session, (1, "ada", "same")), claim(1, "b"))).code == SUPERSEDED


def test_a_superseded_copy_does_not_say_what_the_device_has_received(node: Node) -> None:
    session = at_level(node)
    sent = one(node, claimed(sends(session, (1, "ada", "x")), claim(2, "a"))).send_messages.sends[0]
    assert one(node, claimed(mark_delivered(session, sent.message_id), claim(1, "b"))).code == SUPERSEDED
    delivered = one(node, claimed(mark_delivered(session, sent.message_id), claim(2, "a")))
    assert delivered.mark_delivered.delivered_up_to == sent.message_id


def test_a_device_without_claims_goes_on_until_one_is_made(node: Node) -> None:
    session = at_level(node)
    assert one(node, sends(session, (1, "ada", "x"))).code == OK
    assert one(node, claimed(sends(session, (2, "ada", "y")), claim(1, "a"))).code == OK
    assert one(node, sends(session, (3, "ada", "z"))).code == SUPERSEDED


def test_a_claim_means_nothing_below_its_level(node: Node) -> None:
    session = node.user("ada", 1)
    node.rise(CLAIM_LEVEL - 1)
    for number, each in enumerate((claim(2, "a"), claim(1, "b")), start=1):
        result = node.one(claimed(sends(session, (number, "ada", "x")), each), level=CLAIM_LEVEL - 1)
        assert result.code == OK


@pytest.mark.parametrize(
    "wrong",
    [
        model_pb2.DeviceClaim(epoch=1, nonce=b"short"),
        model_pb2.DeviceClaim(epoch=1),
        model_pb2.DeviceClaim(epoch=MAX_ID + 1, nonce=b"a" * 16),
        model_pb2.DeviceClaim(epoch=1, nonce=b"a" * 1000),
        model_pb2.DeviceClaim(nonce=b"a" * 16),
    ],
)
def test_a_claim_of_the_wrong_form_changes_nothing(node: Node, wrong: model_pb2.DeviceClaim) -> None:
    session = at_level(node)
    assert one(node, claimed(sends(session, (1, "ada", "x")), wrong)).code == pb.RESULT_CODE_INVALID_LENGTH
    assert dump(node.path)["device_claims"] == []


def test_a_log_in_tells_the_epoch_to_claim_above(node: Node) -> None:
    session = at_level(node)
    one(node, claimed(sends(session, (1, "ada", "x")), claim(7, "a")))
    opened = one(node, open_session(1, 77, 1)).open_session
    assert opened.device_epoch == 7


# ---- forgotten devices


def log_in(node: Node, token: int, device: int, used: int, level: int = CLAIM_LEVEL) -> pb.CommandResult:
    command = open_session(1, token, device)
    command.open_session.used_send_number = used
    return node.one(command, level=level)


def test_a_device_that_was_forgotten_does_not_begin_again_with_used_numbers(node: Node) -> None:
    session = at_level(node)
    one(node, claimed(sends(session, (1, "ada", "once")), claim(1, "a")))
    one(node, close_session(node.token))
    for device in range(2, MAX_DEVICES_PER_ACCOUNT + 2):
        assert log_in(node, 100 + device, device, 0).code == OK
    refused = log_in(node, 500, 1, 1)
    assert refused == pb.CommandResult(code=pb.RESULT_CODE_DEVICE_FORGOTTEN)
    tables = dump(node.path)
    assert external(1) not in {row[1] for row in tables["devices"]}
    assert tables["device_claims"] == [], "what the device had went with it"


def test_a_device_that_the_cluster_knows_logs_in_with_any_number_it_has_used(node: Node) -> None:
    at_level(node)
    assert log_in(node, 500, 1, 12).code == OK


def test_a_new_device_begins_without_used_numbers(node: Node) -> None:
    at_level(node)
    assert log_in(node, 500, 9, 0).code == OK


def test_below_the_level_an_unknown_device_is_added_as_before(node: Node) -> None:
    node.user("ada", 1)
    assert log_in(node, 500, 9, 3, level=1).code == OK
