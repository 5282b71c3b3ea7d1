"""Level 3: who becomes an administrator, who may register under which name, passwords, devices, and failed log-ins."""

from __future__ import annotations

import string

import apsw
import pytest
from hypothesis import given
from hypothesis import strategies as st

from parley_proto.v1 import state_pb2 as pb
from parleyd.machine.authorisation import Role
from parleyd.machine.features import accounts, audit, codes, devices, failed_log_ins, sessions
from parleyd.machine.features.accounts import BY_INVITATION, CLOSED, DAY_MS
from parleyd.machine.features.failed_log_ins import Failures
from parleyd.machine.features.sessions import SessionsClosed
from parleyd.machine.limits import MAX_CODES, MAX_DEVICES_PER_ACCOUNT
from parleyd.machine.names import RESERVED, skeleton, skeleton_sql
from tests.unit.machine.harness import (
    START_MS,
    Node,
    change_setting,
    delete_account,
    digest,
    external,
    open_session,
    register,
    send,
    set_role,
)

OK = pb.RESULT_CODE_OK
LEVEL = 3
LATER_MS = START_MS + 10**9
CODE = b"c" * 32
INVITATION = b"i" * 32


@pytest.fixture
def node(node: Node) -> Node:
    """A cluster of level 3 without an account."""
    node.rise(LEVEL)
    return node


def run(node: Node, at_ms: int | None = None, **command: object) -> pb.CommandResult:
    return node.one(pb.Command(**command), at_ms=at_ms, level=LEVEL)  # type: ignore[arg-type]


def code_of(node: Node, at_ms: int | None = None, **command: object) -> pb.ResultCode.ValueType:
    return run(node, at_ms, **command).code


def registered(node: Node, name: str, invitation: bytes = b"", at_ms: int | None = None) -> pb.ResultCode.ValueType:
    command = pb.RegisterAccount(name=name, password_hash=b"hash", invitation_digest=invitation)
    return code_of(node, at_ms, register_account=command)


def signed_in(node: Node, name: str, device: int, invitation: bytes = b"") -> int:
    assert registered(node, name, invitation) == OK
    return log_in(node, name, device)


def log_in(node: Node, name: str, device: int, *, end_oldest: bool = False) -> int:
    node._tokens += 1
    command = open_session(node.account(name).id, node.token, device, expires_at_ms=LATER_MS)
    command.open_session.end_oldest_device = end_oldest
    result = node.one(command, level=LEVEL)
    assert result.code == OK, pb.ResultCode.Name(result.code)
    return result.open_session.session_id


def offer(node: Node, code: bytes = CODE, expires_at_ms: int = LATER_MS) -> pb.ResultCode.ValueType:
    return code_of(node, offer_administrator=pb.OfferAdministrator(digest=code, expires_at_ms=expires_at_ms))


@pytest.fixture
def ada(node: Node) -> int:
    """The session of an administrator."""
    offer(node)
    return signed_in(node, "ada", 1, CODE)


# ---- the first administrator


def test_whoever_registers_first_is_no_administrator(node: Node) -> None:
    signed_in(node, "ada", 1)
    assert node.account("ada").role == Role.USER


def test_below_level_3_whoever_registers_first_still_is_one(node: Node) -> None:
    node.one(register("ada"), level=2)
    assert node.account("ada").role == Role.ADMINISTRATOR


def test_a_code_of_a_node_makes_one_administrator_once(node: Node) -> None:
    assert offer(node) == offer(node) == OK
    assert registered(node, "ada", CODE) == OK
    assert node.account("ada").role == Role.ADMINISTRATOR
    assert registered(node, "bob", CODE) == pb.RESULT_CODE_INVALID_CODE
    assert accounts.by_name(node.reader, "bob") is None


def test_a_node_that_missed_the_answer_makes_no_code_valid_again(node: Node, ada: int) -> None:
    withdrawn = b"e" * 32
    assert offer(node, withdrawn) == OK
    assert code_of(node, withdraw_code=pb.WithdrawCode(session_id=ada, digest=withdrawn)) == OK
    last_row = audit.page(node.reader, 0, 100, 1 << 20).last_number
    for code in (CODE, withdrawn):
        assert offer(node, code) == OK, "the node needs to offer it no more"
        assert codes.role_of(node.reader, code, node.now_ms) is None
        assert registered(node, "bob", code) == pb.RESULT_CODE_INVALID_CODE
        assert code_of(node, withdraw_code=pb.WithdrawCode(session_id=ada, digest=code)) == OK
    assert codes.waiting(node.reader, node.now_ms) == ()
    assert audit.page(node.reader, 0, 100, 1 << 20).last_number == last_row, "nothing was changed"


def test_codes_that_were_used_leave_room_and_are_forgotten_when_they_end(node: Node, ada: int) -> None:
    kept = "SELECT count(*) FROM codes"
    for number in range(MAX_CODES + 1):
        code = number.to_bytes(32, "big")
        assert offer(node, code) == OK
        assert code_of(node, withdraw_code=pb.WithdrawCode(session_id=ada, digest=code)) == OK
    assert node.reader.rows(kept) == [(MAX_CODES + 2,)]
    node.now_ms = LATER_MS
    assert offer(node, b"n" * 32, LATER_MS + 10_000) == OK
    assert node.reader.rows(kept) == [(1,)]


def test_an_account_that_is_there_claims_it_and_a_retry_finds_it_done(node: Node) -> None:
    ada, bob = signed_in(node, "ada", 1), signed_in(node, "bob", 2)
    claim = pb.ClaimAdministrator(session_id=ada, digest=CODE)
    assert code_of(node, claim_administrator=claim) == pb.RESULT_CODE_INVALID_CODE
    offer(node)
    assert code_of(node, claim_administrator=claim) == code_of(node, claim_administrator=claim) == OK
    assert node.account("ada").role == Role.ADMINISTRATOR
    other = pb.ClaimAdministrator(session_id=bob, digest=CODE)
    assert code_of(node, claim_administrator=other) == pb.RESULT_CODE_INVALID_CODE


def test_a_code_that_was_withdrawn_makes_nobody_anything(node: Node, ada: int) -> None:
    assert offer(node, b"e" * 32) == OK
    invited = pb.Invite(session_id=ada, digest=b"i" * 32, expires_at_ms=LATER_MS - 1)
    assert code_of(node, invite=invited) == OK
    found = codes.waiting(node.reader, node.now_ms)
    assert [(one.digest, one.role) for one in found] == [
        (b"i" * 32, Role.USER),
        (b"e" * 32, Role.ADMINISTRATOR),
    ]
    for digest_of in (b"e" * 32, b"i" * 32):
        command = pb.WithdrawCode(session_id=ada, digest=digest_of)
        assert code_of(node, withdraw_code=command) == code_of(node, withdraw_code=command) == OK
        assert registered(node, "eve", digest_of) == pb.RESULT_CODE_INVALID_CODE
    assert codes.waiting(node.reader, node.now_ms) == ()
    short = pb.WithdrawCode(session_id=ada, digest=b"e")
    assert code_of(node, withdraw_code=short) == pb.RESULT_CODE_INVALID_LENGTH
    bob = signed_in(node, "bob", 2)
    others = pb.WithdrawCode(session_id=bob, digest=b"e" * 32)
    assert code_of(node, withdraw_code=others) == pb.RESULT_CODE_NOT_ALLOWED


def test_codes_that_are_over_are_not_listed(node: Node, ada: int) -> None:
    assert offer(node, b"e" * 32, expires_at_ms=node.now_ms + 5000) == OK
    assert len(codes.waiting(node.reader, node.now_ms)) == 1
    assert codes.waiting(node.reader, node.now_ms + 5000) == ()


def test_a_code_ends_by_itself(node: Node) -> None:
    offer(node, expires_at_ms=node.now_ms + 5000)
    assert registered(node, "ada", CODE, at_ms=node.now_ms + 6000) == pb.RESULT_CODE_INVALID_CODE
    assert offer(node, expires_at_ms=1) == pb.RESULT_CODE_INVALID_EXPIRY
    assert offer(node, code=b"short") == pb.RESULT_CODE_INVALID_LENGTH


def test_the_last_administrator_stays_whatever_it_asks_for(node: Node, ada: int) -> None:
    assert node.one(delete_account(node.token), level=LEVEL).code == pb.RESULT_CODE_LAST_ADMINISTRATOR
    assert node.one(set_role(ada, "ada", administrator=False), level=LEVEL).code == pb.RESULT_CODE_LAST_ADMINISTRATOR
    signed_in(node, "bob", 2)
    node.one(set_role(ada, "bob", administrator=True), level=LEVEL)
    assert node.one(delete_account(node.token), level=LEVEL).code == OK, "bob goes"
    assert node.one(set_role(ada, "ada", administrator=False), level=LEVEL).code == pb.RESULT_CODE_LAST_ADMINISTRATOR


# ---- who may register


def test_an_invitation_registers_one_account_and_makes_no_administrator(node: Node, ada: int) -> None:
    node.one(change_setting(ada, "registration", BY_INVITATION), level=LEVEL)
    assert registered(node, "bob") == pb.RESULT_CODE_NOT_INVITED
    assert registered(node, "bob", b"x" * 32) == pb.RESULT_CODE_INVALID_CODE
    invite = pb.Invite(session_id=ada, digest=INVITATION, expires_at_ms=LATER_MS)
    assert code_of(node, invite=invite) == OK
    assert registered(node, "bob", INVITATION) == OK
    assert node.account("bob").role == Role.USER
    assert registered(node, "carl", INVITATION) == pb.RESULT_CODE_INVALID_CODE


def test_an_invitation_is_no_administrators_code(node: Node, ada: int) -> None:
    bob = signed_in(node, "bob", 2)
    run(node, invite=pb.Invite(session_id=ada, digest=INVITATION, expires_at_ms=LATER_MS))
    claim = pb.ClaimAdministrator(session_id=bob, digest=INVITATION)
    assert code_of(node, claim_administrator=claim) == pb.RESULT_CODE_INVALID_CODE
    assert registered(node, "carl", INVITATION) == OK, "and it was not used up"


def test_only_administrators_invite(node: Node, ada: int) -> None:
    bob = signed_in(node, "bob", 2)
    invite = pb.Invite(session_id=bob, digest=CODE, expires_at_ms=LATER_MS)
    assert code_of(node, invite=invite) == pb.RESULT_CODE_NOT_ALLOWED


def test_where_registration_is_closed_only_a_code_of_a_node_registers(node: Node, ada: int) -> None:
    invitation, administrator = b"i" * 32, b"a" * 32
    run(node, invite=pb.Invite(session_id=ada, digest=invitation, expires_at_ms=LATER_MS))
    offer(node, administrator)
    node.one(change_setting(ada, "registration", CLOSED), level=LEVEL)
    for code in (b"", invitation, b"x" * 32):
        assert registered(node, "bob", code) == pb.RESULT_CODE_REGISTRATION_CLOSED
        assert (
            accounts.registration_refusal(node.reader, codes.role_of(node.reader, code, node.now_ms), code)
            == pb.RESULT_CODE_REGISTRATION_CLOSED
        )
    assert registered(node, "bob", administrator) == OK


def test_codes_are_bounded_and_invitations_leave_room_for_those_of_nodes(node: Node, ada: int) -> None:
    invites = [
        pb.Command(invite=pb.Invite(session_id=ada, digest=number.to_bytes(32, "big"), expires_at_ms=LATER_MS))
        for number in range(MAX_CODES + 1)
    ]
    results = node.apply(*invites, level=LEVEL)
    assert [result.code for result in results].count(OK) == MAX_CODES
    assert results[-1].code == pb.RESULT_CODE_TOO_MANY_CODES
    assert offer(node) == OK


# ---- names


@pytest.mark.parametrize("name", [*sorted(RESERVED), "Admin", "adm1n", "R00T", "a11", "n1", "N2", "nl", "Sy5tem"])
def test_names_that_mean_everybody_or_the_cluster_are_reserved(node: Node, name: str) -> None:
    expected = OK if name == "Sy5tem" else pb.RESULT_CODE_NAME_RESERVED
    assert registered(node, name) == expected


@pytest.mark.parametrize(
    ("there", "new"),
    [
        ("bill", "b1ll"),
        ("bill", "BIII"),
        ("noor", "n00r"),
        ("marnie", "mamie"),
        ("vvendy", "wendy"),
        ("anna1", "annal"),
    ],
)
def test_a_name_that_looks_like_another_one_is_refused_and_the_other_way_round(
    node: Node, there: str, new: str
) -> None:
    assert registered(node, there) == OK
    assert registered(node, new) == pb.RESULT_CODE_NAME_LOOKS_ALIKE
    assert registered(node, there) == pb.RESULT_CODE_NAME_TAKEN


def test_accounts_from_before_keep_their_names_and_count_for_the_names_of_others(tmp_path: object) -> None:
    from pathlib import Path

    node = Node(Path(str(tmp_path)) / "state.sqlite")
    for name in ("admin", "bill", "b1ll"):
        assert node.one(register(name)).code == OK
    node.rise(LEVEL)
    assert {name: node.account(name).name for name in ("admin", "bill", "b1ll")} == {
        "admin": "admin",
        "bill": "bill",
        "b1ll": "b1ll",
    }
    assert registered(node, "bi1l") == pb.RESULT_CODE_NAME_LOOKS_ALIKE
    node.close()


@given(st.text(string.ascii_letters + string.digits + "._-", min_size=1, max_size=64))
def test_the_form_of_a_name_is_the_same_in_sql_and_has_itself_as_its_form(name: str) -> None:
    connection = apsw.Connection(":memory:")
    assert connection.execute(f"SELECT {skeleton_sql('?')}", (name.lower(),)).get == skeleton(name)
    assert skeleton(name) == skeleton(name.swapcase())


def test_the_name_of_a_deleted_account_stays_reserved_for_the_days_of_the_setting(node: Node, ada: int) -> None:
    signed_in(node, "bill", 2)
    node.one(delete_account(node.token), level=LEVEL)
    for name in ("bill", "Bill", "b1ll"):
        assert registered(node, name) == pb.RESULT_CODE_NAME_RESERVED
    node.one(change_setting(ada, "name_reserved_days", 2), level=LEVEL)
    assert registered(node, "bill", at_ms=node.now_ms + DAY_MS) == pb.RESULT_CODE_NAME_RESERVED
    assert registered(node, "bill", at_ms=node.now_ms + 2 * DAY_MS) == OK


# ---- a name that changed its owner


def test_what_was_queued_for_a_former_owner_never_reaches_the_new_one(node: Node, ada: int) -> None:
    node.one(change_setting(ada, "name_reserved_days", 0), level=LEVEL)
    queued_at = node.machine.applied_index
    signed_in(node, "bob", 2)
    queued_later = node.machine.applied_index
    node.one(delete_account(node.token), level=LEVEL)
    after_deletion = node.machine.applied_index
    signed_in(node, "bob", 3)

    def sent(number: int, known_index: int, level: int = LEVEL) -> pb.ResultCode.ValueType:
        one = send(number, "bob", "for you alone")
        one.known_index = known_index
        command = pb.Command(send_messages=pb.SendMessages(session_id=ada, sends=[one]))
        return node.one(command, level=level).send_messages.sends[0].code

    assert sent(1, queued_at) == pb.RESULT_CODE_NAME_CHANGED_OWNER
    assert sent(2, queued_later) == pb.RESULT_CODE_NAME_CHANGED_OWNER
    assert sent(3, after_deletion) == OK, "the device knew that the former one was deleted"
    assert sent(4, 0) == OK, "it was not queued"
    assert sent(1, after_deletion) == pb.RESULT_CODE_NAME_CHANGED_OWNER, "a retry gets its first result"


def test_a_name_that_had_no_owner_before_may_be_written_to_before_it_is_known(node: Node, ada: int) -> None:
    queued_at = node.machine.applied_index
    signed_in(node, "bob", 2)
    one = send(1, "bob", "welcome")
    one.known_index = queued_at
    command = pb.Command(send_messages=pb.SendMessages(session_id=ada, sends=[one]))
    assert node.one(command, level=LEVEL).send_messages.sends[0].code == OK


# ---- passwords


def test_a_changed_password_signs_out_the_other_devices_and_a_retry_finds_it_done(node: Node) -> None:
    here = signed_in(node, "ada", 1)
    there = log_in(node, "ada", 2)
    change = pb.ChangePassword(session_id=here, old_hash=b"hash", new_hash=b"new")
    assert code_of(node, change_password=change) == OK
    assert node.effects() == (SessionsClosed(1, (there,)),)
    assert code_of(node, change_password=change) == OK
    assert node.effects() == ()
    assert node.account("ada").password_hash == b"new"
    stale = pb.ChangePassword(session_id=here, old_hash=b"hash", new_hash=b"newer")
    assert code_of(node, change_password=stale) == pb.RESULT_CODE_CREDENTIALS_CHANGED
    other = pb.ChangePassword(session_id=there, old_hash=b"new", new_hash=b"newer")
    assert code_of(node, change_password=other) == pb.RESULT_CODE_SIGNED_OUT
    assert node.one(open_session(1, 99, 2), level=LEVEL).code == pb.RESULT_CODE_CREDENTIALS_CHANGED
    for bad in (b"", b"x" * 256):
        odd = pb.ChangePassword(session_id=here, old_hash=b"new", new_hash=bad)
        assert code_of(node, change_password=odd) == pb.RESULT_CODE_INVALID_LENGTH


def test_an_administrator_gives_a_new_password_and_signs_everything_out(node: Node, ada: int) -> None:
    bob = signed_in(node, "bob", 2)
    run(node, count_failures=pb.CountFailures(account_id=2, failures=30))
    reset = pb.ResetPassword(session_id=ada, account="bob", password_hash=b"new")
    assert code_of(node, reset_password=reset) == OK
    assert node.effects() == (SessionsClosed(2, (bob,)),)
    assert node.account("bob").password_hash == b"new"
    assert failed_log_ins.of_account(node.reader, 2) == Failures(0, 1)
    assert code_of(node, reset_password=reset) == OK
    nobody = pb.ResetPassword(session_id=ada, account="nobody", password_hash=b"new")
    assert code_of(node, reset_password=nobody) == pb.RESULT_CODE_NO_SUCH_ACCOUNT
    carl = signed_in(node, "carl", 3)
    by_carl = pb.ResetPassword(session_id=carl, account="ada", password_hash=b"new")
    assert code_of(node, reset_password=by_carl) == pb.RESULT_CODE_NOT_ALLOWED


# ---- devices


def test_devices_are_listed_with_the_latest_log_in_first(node: Node) -> None:
    signed_in(node, "ada", 1)
    log_in(node, "ada", 2)
    node.one(pb.Command(close_session=pb.CloseSession(token_digest=digest(node.token))), level=LEVEL)
    log_in(node, "ada", 1)
    found = devices.cards(node.reader, 1, node.now_ms)
    assert [(card.external, card.signed_in) for card in found] == [(external(1), True), (external(2), False)]
    assert found[0].logged_in_at_ms == node.now_ms
    assert not any(card.signed_in for card in devices.cards(node.reader, 1, LATER_MS))
    assert devices.cards(node.reader, 2, node.now_ms) == ()


def test_one_device_or_all_others_are_signed_out_and_keep_their_numbers(node: Node) -> None:
    here = signed_in(node, "ada", 1)
    second, third = log_in(node, "ada", 2), log_in(node, "ada", 3)
    node.one(pb.Command(send_messages=pb.SendMessages(session_id=second, sends=[send(1, "ada", "x")])), level=LEVEL)
    revoke = pb.RevokeDevices(session_id=here, device_id=external(2))
    assert code_of(node, revoke_devices=revoke) == OK
    assert node.effects() == (SessionsClosed(1, (second,)),)
    assert code_of(node, revoke_devices=revoke) == OK
    assert code_of(node, revoke_devices=pb.RevokeDevices(session_id=here)) == OK
    assert node.effects() == (SessionsClosed(1, (third,)),)
    assert [card.signed_in for card in devices.cards(node.reader, 1, node.now_ms)] == [False, False, True]
    result = node.one(open_session(1, 999, 2, expires_at_ms=LATER_MS), level=LEVEL)
    assert result.open_session.last_send_number == 1


def test_nobody_signs_out_a_device_of_somebody_else(node: Node) -> None:
    signed_in(node, "ada", 1)
    bob = signed_in(node, "bob", 2)
    revoke = pb.RevokeDevices(session_id=bob, device_id=external(1))
    assert code_of(node, revoke_devices=revoke) == pb.RESULT_CODE_NO_SUCH_DEVICE
    session = sessions.with_account(node.reader, digest(node.token - 1))
    assert session is not None
    assert not session.closed


def test_an_account_without_a_device_to_spare_may_end_the_one_that_logged_in_longest_ago(node: Node) -> None:
    signed_in(node, "ada", 0)
    for device in range(1, MAX_DEVICES_PER_ACCOUNT):
        log_in(node, "ada", device)
    log_in(node, "ada", 0)  # so device 1 is the one that logged in longest ago
    new = open_session(1, 999, 77, expires_at_ms=LATER_MS)
    assert node.one(new, level=LEVEL).code == pb.RESULT_CODE_TOO_MANY_DEVICES
    log_in(node, "ada", 5, end_oldest=True)
    assert len(devices.cards(node.reader, 1, node.now_ms)) == MAX_DEVICES_PER_ACCOUNT, "a known device needs no place"
    log_in(node, "ada", 77, end_oldest=True)
    there = {card.external for card in devices.cards(node.reader, 1, node.now_ms)}
    assert external(77) in there
    assert external(1) not in there
    assert external(0) in there


def test_a_device_that_is_signed_out_already_is_ended_first(node: Node) -> None:
    signed_in(node, "ada", 0)
    for device in range(1, MAX_DEVICES_PER_ACCOUNT):
        log_in(node, "ada", device)
    node.one(pb.Command(close_session=pb.CloseSession(token_digest=digest(node.token))), level=LEVEL)
    log_in(node, "ada", 77, end_oldest=True)
    there = {card.external for card in devices.cards(node.reader, 1, node.now_ms) if card.signed_in}
    assert there == {external(device) for device in (*range(MAX_DEVICES_PER_ACCOUNT - 1), 77)}


# ---- failed log-ins


def test_failures_are_kept_until_a_log_in_or_an_administrator_ends_them(node: Node, ada: int) -> None:
    bob = signed_in(node, "bob", 2)
    count = pb.CountFailures(account_id=2, failures=10)
    assert code_of(node, count_failures=count) == OK
    assert failed_log_ins.of_account(node.reader, 2) == Failures(10, 0)
    run(node, count_failures=pb.CountFailures(account_id=2, failures=30))
    assert code_of(node, count_failures=count) == OK
    assert failed_log_ins.of_account(node.reader, 2) == Failures(30, 0), "it never sinks by counting"
    log_in(node, "bob", 2)
    assert failed_log_ins.of_account(node.reader, 2) == Failures(30, 0), "a known device has a count of its own"
    log_in(node, "bob", 3)
    assert failed_log_ins.of_account(node.reader, 2) == Failures(0, 1)
    run(node, count_failures=count)
    assert failed_log_ins.of_account(node.reader, 2) == Failures(0, 1), "it was counted before the log-in"
    run(node, count_failures=pb.CountFailures(account_id=2, failures=10, lifted=1))
    assert code_of(node, lift_delay=pb.LiftDelay(session_id=bob, account="bob")) == pb.RESULT_CODE_SIGNED_OUT
    assert code_of(node, lift_delay=pb.LiftDelay(session_id=ada, account="bob")) == OK
    assert failed_log_ins.of_account(node.reader, 2) == Failures(0, 2)
    nobody = pb.LiftDelay(session_id=ada, account="nobody")
    assert code_of(node, lift_delay=nobody) == pb.RESULT_CODE_NO_SUCH_ACCOUNT
    assert code_of(node, count_failures=pb.CountFailures(account_id=99)) == pb.RESULT_CODE_NO_SUCH_ACCOUNT


def test_a_deleted_account_leaves_no_count(node: Node, ada: int) -> None:
    signed_in(node, "bob", 2)
    run(node, count_failures=pb.CountFailures(account_id=2, failures=10))
    node.one(delete_account(node.token), level=LEVEL)
    assert failed_log_ins.of_account(node.reader, 2) == Failures()
