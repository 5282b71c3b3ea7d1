"""Accounts, sessions, devices: what is allowed, what a retry gets, what is bounded."""

from __future__ import annotations

import pytest

from parley_proto.v1 import state_pb2 as pb
from parleyd.machine.features import accounts, conversations, devices, members, messages, sessions
from parleyd.machine.features.accounts import AccountChanged, AccountDeleted
from parleyd.machine.features.members import MembersChanged
from parleyd.machine.features.sessions import SessionsClosed
from parleyd.machine.limits import EXPIRED_SESSIONS_PER_STEP, MAX_DEVICES_PER_ACCOUNT
from parleyd.machine.records import MemberRow, Members
from tests.unit.machine.harness import (
    BOOTSTRAP_MEMBERS,
    START_MS,
    Node,
    close_session,
    delete_account,
    digest,
    dump,
    external,
    mark_delivered,
    open_session,
    publish,
    queued,
    register,
    sends,
)

OK = pb.RESULT_CODE_OK
LATER_MS = START_MS + 10**9
REQUEST = b"r" * 16


# ---- registering


def test_registered_account_can_be_found_by_name_whatever_its_case(node: Node) -> None:
    result = node.one(register("Ada", b"secret"))
    assert result.code == OK
    account = node.account("aDA")
    assert (account.id, account.name, account.password_hash) == (result.register_account.account_id, "Ada", b"secret")


def test_taken_name_is_refused_whatever_its_case(node: Node) -> None:
    node.one(register("ada", request_id=REQUEST))
    assert node.one(register("ADA", request_id=b"s" * 16)).code == pb.RESULT_CODE_NAME_TAKEN
    assert node.one(register("ada")).code == pb.RESULT_CODE_NAME_TAKEN


def test_retried_registration_gets_its_first_result(node: Node) -> None:
    first = node.one(register("ada", request_id=REQUEST))
    assert node.one(register("ada", b"hash of another salt", request_id=REQUEST)) == first
    assert len(accounts.matching(node.reader, "", "", 10)) == 1


def test_retried_registration_of_an_account_deleted_meanwhile_makes_no_second_one(node: Node) -> None:
    first = node.one(register("ada", request_id=REQUEST))
    node.login(first.register_account.account_id, 1)
    node.one(delete_account(node.token))
    assert node.one(register("ada", request_id=REQUEST)) == first
    assert accounts.by_name(node.reader, "ada") is None


def test_request_id_of_another_name_is_refused(node: Node) -> None:
    node.one(register("ada", request_id=REQUEST))
    assert node.one(register("bob", request_id=REQUEST)).code == pb.RESULT_CODE_REQUEST_ID_REUSED
    assert accounts.by_name(node.reader, "bob") is None


def test_two_registrations_of_one_name_in_one_entry_make_one_account(node: Node) -> None:
    first, second = node.apply(register("ada"), register("Ada"))
    assert (first.code, second.code) == (OK, pb.RESULT_CODE_NAME_TAKEN)


@pytest.mark.parametrize("name", ["", "-ada", "a b", "ä", "a" * 65, "a\n", "a\x00", "*", "a[b", ".a"])
def test_name_against_the_rules_is_refused(node: Node, name: str) -> None:
    assert node.one(register(name)).code == pb.RESULT_CODE_INVALID_NAME


@pytest.mark.parametrize("name", ["a", "0", "a" * 64, "A.b_c-d"])
def test_name_within_the_rules_is_taken(node: Node, name: str) -> None:
    assert node.one(register(name)).code == OK


@pytest.mark.parametrize(
    "command", [register("ada", b""), register("ada", b"x" * 300), register("ada", b"x", b"short")]
)
def test_registration_with_odd_bytes_is_refused(node: Node, command: pb.Command) -> None:
    assert node.one(command).code == pb.RESULT_CODE_INVALID_LENGTH


def test_name_of_a_deleted_account_is_a_new_account(node: Node) -> None:
    node.user("ada", 1)
    old = accounts.by_name(node.reader, "ada")
    node.one(delete_account(node.token))
    new = node.one(register("ada"))
    assert old is not None
    assert new.code == OK
    assert new.register_account.account_id != old.id
    gone = accounts.by_id(node.reader, old.id)
    assert gone is not None
    assert (gone.active, gone.password_hash) == (False, b"")


# ---- opening sessions


def test_session_is_found_by_its_token_digest(node: Node) -> None:
    account = node.one(register("ada")).register_account.account_id
    result = node.one(open_session(account, token=5, device=7, label="laptop"))
    session = sessions.with_account(node.reader, digest(5))
    assert session is not None
    assert (session.session_id, session.account_id, session.account_name) == (
        result.open_session.session_id,
        account,
        "ada",
    )
    assert (session.device_external_id, session.closed, session.account_active) == (external(7), False, True)
    device = devices.by_id(node.reader, session.device_id)
    assert device is not None
    assert (device.external, device.account_id) == (external(7), account)
    assert [row[3] for row in dump(node.path)["devices"]] == ["laptop"]
    assert (device.last_send_number, device.delivered_up_to) == (0, 0)
    assert sessions.with_account(node.reader, digest(6)) is None


def test_password_changed_meanwhile_opens_no_session(node: Node) -> None:
    account = node.one(register("ada", b"now")).register_account.account_id
    assert node.one(open_session(account, 1, 1, password_hash=b"before")).code == pb.RESULT_CODE_CREDENTIALS_CHANGED
    assert dump(node.path)["sessions"] == dump(node.path)["devices"] == []


@pytest.mark.parametrize("account_id", [0, 99, 2**63, 2**64 - 1])
def test_unknown_account_opens_no_session(node: Node, account_id: int) -> None:
    assert node.one(open_session(account_id, 1, 1)).code == pb.RESULT_CODE_CREDENTIALS_CHANGED


def test_session_of_odd_sizes_or_a_past_expiry_is_refused(node: Node) -> None:
    account = node.one(register("ada")).register_account.account_id
    short_token, short_device = open_session(account, 1, 1), open_session(account, 1, 1)
    short_token.open_session.token_digest = b"short"
    short_device.open_session.device_id = b"short"
    past = open_session(account, 1, 1, expires_at_ms=node.now_ms)
    long_label = open_session(account, 1, 1, label="x" * 65)
    for command in (short_token, short_device, long_label):
        assert node.one(command).code == pb.RESULT_CODE_INVALID_LENGTH
    assert node.one(past).code == pb.RESULT_CODE_INVALID_EXPIRY


def test_retried_log_in_gets_the_same_session(node: Node) -> None:
    account = node.one(register("ada")).register_account.account_id
    first = node.one(open_session(account, 5, 7))
    assert node.one(open_session(account, 5, 7)) == first
    assert not node.effects()


def test_retried_log_in_after_the_log_out_opens_nothing(node: Node) -> None:
    account = node.one(register("ada")).register_account.account_id
    node.apply(open_session(account, 5, 7), close_session(5))
    assert node.one(open_session(account, 5, 7)).code == pb.RESULT_CODE_SIGNED_OUT
    assert node.one(open_session(account, 6, 7)).code == OK


def test_device_of_another_account_is_refused(node: Node) -> None:
    node.user("ada", device=7)
    bob = node.one(register("bob")).register_account.account_id
    assert node.one(open_session(bob, 50, device=7)).code == pb.RESULT_CODE_DEVICE_OF_ANOTHER


def test_newer_session_of_a_device_ends_the_older_and_says_so(node: Node) -> None:
    old = node.user("ada", device=7)
    node.send(old, (1, "ada", "note"))
    account = node.account("ada")
    result = node.one(open_session(account.id, 50, device=7))
    assert SessionsClosed(account.id, (old,)) in node.effects()
    assert result.open_session.last_send_number == 1
    assert node.one(sends(old, (2, "ada", "late"))).code == pb.RESULT_CODE_SIGNED_OUT
    assert node.send(result.open_session.session_id, (2, "ada", "next"))[0].code == OK


def test_sessions_of_other_devices_go_on(node: Node) -> None:
    one = node.user("ada", device=7)
    account = node.account("ada")
    node.login(account.id, device=8)
    assert node.send(one, (1, "ada", "still here"))[0].code == OK


def test_log_in_again_and_again_keeps_a_bounded_number_of_rows(node: Node) -> None:
    account = node.one(register("ada")).register_account.account_id
    for _ in range(20):
        node.login(account, device=7)
        node.one(close_session(node.token))
    assert len(dump(node.path)["sessions"]) <= 2
    assert len(dump(node.path)["devices"]) == 1


# ---- what a new device starts from


def test_first_device_gets_everything_queued_since_the_registration(node: Node) -> None:
    bob = node.user("bob", 1)
    ada = node.one(register("ada")).register_account.account_id
    node.send(bob, (1, "ada", "hello"))
    assert node.one(open_session(ada, 50, 2)).open_session.delivered_up_to == 0


def test_second_device_starts_from_what_any_device_of_the_account_has(node: Node) -> None:
    bob = node.user("bob", 1)
    first = node.user("ada", 2)
    ada = node.account("ada")
    ids = [result.message_id for result in node.send(bob, *[(n, "ada", "hello") for n in (1, 2, 3)])]
    node.one(mark_delivered(first, ids[1]))
    second = node.one(open_session(ada.id, 50, 3)).open_session
    assert second.delivered_up_to == ids[1]
    found = queued(node.reader, ada.id, second.delivered_up_to, 10, external(3))
    assert [message.id for message in found] == ids[2:]


def test_new_device_starts_from_what_was_delivered_in_the_same_entry(node: Node) -> None:
    phone = node.user("ada", 1)
    bob = node.user("bob", 2)
    (first,) = node.send(bob, (1, "ada", "hello"))
    node.one(mark_delivered(phone, first.message_id))
    (result,) = node.send(bob, (2, "ada", "hello again"))
    _, opened = node.apply(mark_delivered(phone, result.message_id), open_session(1, 50, 3))
    assert opened.open_session.delivered_up_to == result.message_id


# ---- bounds


def test_logged_out_device_used_longest_ago_makes_room_for_a_new_one(node: Node) -> None:
    account = node.one(register("ada")).register_account.account_id
    tokens = []
    for device in range(1, MAX_DEVICES_PER_ACCOUNT + 1):
        node.login(account, device)
        tokens.append(node.token)
    node.apply(close_session(tokens[4]), close_session(tokens[2]))
    session = node.login(account, 100)
    assert session
    externals = {row[1] for row in dump(node.path)["devices"]}
    assert len(externals) == MAX_DEVICES_PER_ACCOUNT
    assert external(3) not in externals
    assert external(5) in externals


def test_too_many_logged_in_devices_are_refused_until_one_logs_out(node: Node) -> None:
    account = node.one(register("ada")).register_account.account_id
    for device in range(1, MAX_DEVICES_PER_ACCOUNT + 1):
        node.login(account, device)
    result = node.one(open_session(account, 5000, 100))
    assert result.code == pb.RESULT_CODE_TOO_MANY_DEVICES
    node.one(close_session(1003))
    assert node.one(open_session(account, 5002, 101)).code == OK
    assert node.one(open_session(account, 5001, 1)).code == OK


def test_results_of_a_removed_device_are_removed_with_it(node: Node) -> None:
    first = node.user("ada", 1)
    node.send(first, (1, "ada", "note"))
    node.one(close_session(node.token))
    ada = node.account("ada")
    for device in range(2, MAX_DEVICES_PER_ACCOUNT + 2):
        node.login(ada.id, device)
    assert dump(node.path)["device_results"] == []


def test_expired_sessions_are_purged_in_bounded_steps(node: Node) -> None:
    count = EXPIRED_SESSIONS_PER_STEP + 10
    for number in range(count):
        account = node.register(f"user{number}")
        node.one(open_session(account, number, 100 + number, expires_at_ms=node.now_ms + 10**8))
    assert len(dump(node.path)["sessions"]) == count
    account = node.one(register("late")).register_account.account_id
    left = []
    for token in (9000, 9001):
        node.one(open_session(account, token, 99, expires_at_ms=2 * LATER_MS), at_ms=LATER_MS)
        left.append(len(dump(node.path)["sessions"]))
    assert left == [count - EXPIRED_SESSIONS_PER_STEP + 1, 2]


def test_expired_session_may_do_nothing(node: Node) -> None:
    session = node.user("ada", 1)
    assert node.one(sends(session, (1, "ada", "x")), at_ms=LATER_MS).code == pb.RESULT_CODE_SIGNED_OUT
    assert node.one(mark_delivered(session, 1), at_ms=LATER_MS).code == pb.RESULT_CODE_SIGNED_OUT


def test_session_expiry_is_the_states_time_and_not_the_nodes_clock(node: Node) -> None:
    # By any real clock the session, which ends in 1970, is long over; by the time of the state it is not.
    account = node.one(register("ada")).register_account.account_id
    opened = node.one(open_session(account, 1, 1))
    assert (opened.code, opened.open_session.session_id) == (OK, 1)
    (sent,) = node.apply(sends(opened.open_session.session_id, (1, "ada", "x")))
    assert sent.code == OK
    assert node.one(sends(1, (2, "ada", "y")), at_ms=LATER_MS).code == pb.RESULT_CODE_SIGNED_OUT


def test_clock_that_runs_backwards_revives_no_session(node: Node) -> None:
    session = node.user("ada", 1)
    node.one(register("other"), at_ms=LATER_MS)
    assert node.one(sends(session, (1, "ada", "x")), at_ms=START_MS).code == pb.RESULT_CODE_SIGNED_OUT


# ---- closing and deleting


def test_closed_session_may_do_nothing_and_closing_again_is_fine(node: Node) -> None:
    session = node.user("ada", 1)
    assert node.one(close_session(node.token)).code == OK
    assert node.effects() == (SessionsClosed(1, (session,)),)
    assert node.one(close_session(node.token)).code == OK
    assert node.effects() == ()
    assert node.one(sends(session, (1, "ada", "x"))).code == pb.RESULT_CODE_SIGNED_OUT
    assert node.one(close_session(424242)).code == OK


def test_close_and_send_in_one_entry_are_taken_in_order(node: Node) -> None:
    session = node.user("ada", 1)
    results = node.apply(sends(session, (1, "ada", "x")), close_session(node.token), sends(session, (2, "ada", "y")))
    assert [result.code for result in results] == [OK, OK, pb.RESULT_CODE_SIGNED_OUT]


def test_deleted_account_loses_sessions_and_devices_and_keeps_its_messages_for_others(node: Node) -> None:
    bob = node.user("bob", 1)
    phone = node.user("ada", 2)
    ada = node.account("ada")
    laptop = node.login(ada.id, 3)
    node.send(phone, (1, "bob", "bye"))
    assert node.one(delete_account(node.token)).code == OK
    assert node.effects() == (
        SessionsClosed(ada.id, (phone, laptop)),
        AccountDeleted(ada.id),
        AccountChanged(ada.id),
    )
    assert node.one(sends(phone, (2, "bob", "x"))).code == pb.RESULT_CODE_SIGNED_OUT
    assert node.send(bob, (1, "ada", "are you there?"))[0].code == pb.RESULT_CODE_NO_SUCH_ACCOUNT
    tables = dump(node.path)
    assert [row[1] for row in tables["devices"]] == [external(1)]
    (summary,) = conversations.page(node.reader, 1, 0, 10)
    assert [row.account_id for row in summary.conversation.members] == [1, ada.id]
    (card,) = accounts.cards(node.reader, {ada.id})
    assert (card.name, card.deleted) == ("ada", True)
    last = messages.by_id(node.reader, summary.conversation.id, summary.conversation.last_message_id)
    assert last is not None
    assert last.body == "bye"
    assert accounts.by_name(node.reader, "ada") is None


def test_account_that_sends_and_is_deleted_in_one_entry_leaves_no_device_behind(node: Node) -> None:
    ada = node.user("ada", 1)
    sent, deleted = node.apply(sends(ada, (1, "ada", "farewell")), delete_account(node.token))
    assert (sent.code, deleted.code) == (OK, OK)
    tables = dump(node.path)
    assert tables["device_results"] == tables["devices"] == []
    assert len(tables["messages"]) == 1


def test_retried_deletion_is_fine(node: Node) -> None:
    node.user("ada", 1)
    assert node.one(delete_account(node.token)).code == OK
    assert node.one(delete_account(node.token)).code == OK
    assert node.effects() == ()
    session = sessions.with_account(node.reader, digest(node.token))
    assert session is not None
    assert (session.closed, session.account_active) == (True, False)


def test_retried_deletion_spares_a_new_account_of_the_same_name(node: Node) -> None:
    node.user("ada", 1)
    token = node.token
    node.one(delete_account(token))
    node.one(register("ada"))
    node.one(delete_account(token))
    assert accounts.by_name(node.reader, "ada") is not None


def test_deletion_needs_a_live_session_and_the_current_password(node: Node) -> None:
    node.user("ada", 1)
    assert node.one(delete_account(777)).code == pb.RESULT_CODE_SIGNED_OUT
    assert node.one(delete_account(node.token, b"wrong")).code == pb.RESULT_CODE_CREDENTIALS_CHANGED
    node.one(close_session(node.token))
    assert node.one(delete_account(node.token)).code == pb.RESULT_CODE_SIGNED_OUT
    assert accounts.by_name(node.reader, "ada") is not None


# ---- members


def test_founders_are_members_until_they_publish_something_else(node: Node) -> None:
    assert members.current(node.reader) == Members(tuple(BOOTSTRAP_MEMBERS), ())
    moved = MemberRow(2, "n2", "host:1", "host:2")
    node.one(publish(2, "n2", "host:1", "host:2"))
    now = Members((BOOTSTRAP_MEMBERS[0], moved, BOOTSTRAP_MEMBERS[2]), ())
    assert node.effects() == (MembersChanged(now),)
    assert members.current(node.reader) == now


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (publish(0), pb.RESULT_CODE_INVALID_NAME),
        (publish(2**63), pb.RESULT_CODE_INVALID_NAME),
        (publish(4, ""), pb.RESULT_CODE_INVALID_NAME),
        (publish(4, "n" * 65), pb.RESULT_CODE_INVALID_NAME),
        (publish(4, peer="x" * 256), pb.RESULT_CODE_INVALID_ADDRESS),
        (publish(4, client="x" * 256), pb.RESULT_CODE_INVALID_ADDRESS),
    ],
)
def test_member_that_makes_no_sense_is_refused(node: Node, command: pb.Command, code: pb.ResultCode.ValueType) -> None:
    assert node.one(command).code == code
    assert members.current(node.reader) == Members(tuple(BOOTSTRAP_MEMBERS), ())
