"""The audit log: which commands leave a row, its hash chain, its bounds.

What can go wrong: a new command of administrators leaves no trace; a retry or a refusal leaves one; a row can be
changed unnoticed; the log grows without a bound, or cannot be checked once its oldest rows are gone; a secret is in it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from parley_proto.v1 import model_pb2
from parley_proto.v1 import state_pb2 as pb
from parleyd.machine.audit_actions import AuditAction, NotAudited
from parleyd.machine.authorisation import ALLOWED, Role
from parleyd.machine.feature import SignedInCommand
from parleyd.machine.features import audit, audit_requests
from parleyd.machine.features.audit import FIRST_HASH, AuditPage, AuditRow, row_hash
from parleyd.machine.features.channels import ROLE_MODERATOR
from parleyd.machine.features.conversations import ROLE_OWNER
from parleyd.machine.levels import MAX_LEVEL, MIN_LEVEL
from parleyd.machine.records import CommittedEntry, MemberRow, MembershipChange
from parleyd.machine.registry import COMMANDS
from tests.unit.machine.harness import (
    START_MS,
    WEEK_MS,
    Node,
    create_channel,
    dump,
    open_session,
    payload,
    register,
)

OK = pb.RESULT_CODE_OK
LATER_MS = START_MS + WEEK_MS
EVERYTHING = 1 << 30
SECRETS = (b"hash", b"other-hash", b"d" * 32, b"t" * 32)


@pytest.fixture
def node(node: Node) -> Node:
    """Ada is an administrator, Bob is not; level 3."""
    node.one(register("ada"))
    node.one(register("bob"))
    node.rise()
    return node


@pytest.fixture
def ada(node: Node) -> int:
    """Her session."""
    return node.login(node.account("ada").id, 1)


def page(node: Node, after: int = 0, limit: int = 10_000, max_bytes: int = EVERYTHING) -> AuditPage:
    return audit.page(node.reader, after, limit, max_bytes)


def rows(node: Node, after: int = 0) -> tuple[AuditRow, ...]:
    return page(node, after).rows


def check(found: AuditPage) -> None:
    """The chain holds from the hash before the first row to the last one."""
    previous = found.previous_hash
    for row in found.rows:
        previous = row_hash(previous, row.number, row.index, row.at_ms, (row.actor, row.action, row.object, row.detail))
        assert row.hash == previous, row
    assert previous == found.last_hash


# ---- every command


@dataclass(frozen=True)
class Example:
    """How a command is made that leaves a row: `before` is applied first; the row's actor, object and detail."""

    make: Callable[[Node, int], pb.Command]
    actor: str
    about: str
    detail: str = ""
    before: Callable[[Node, int], pb.Command] | None = None


def _suspend(node: Node, ada: int) -> pb.Command:
    return pb.Command(suspend_account=pb.SuspendAccount(session_id=ada, account="BOB", reason="left"))


def _offer(node: Node, ada: int) -> pb.Command:
    return pb.Command(offer_administrator=pb.OfferAdministrator(digest=b"d" * 32, expires_at_ms=LATER_MS))


def _revoke_certificate(node: Node, ada: int) -> pb.Command:
    return pb.Command(revoke_certificate=pb.RevokeCertificate(session_id=ada, digest=b"c" * 32, name="n2"))


def _invite_node(node: Node, ada: int) -> pb.Command:
    return pb.Command(invite_node=pb.InviteNode(session_id=ada, token_digest=b"t" * 32, valid_ms=60_000))


def _count(node: Node, ada: int) -> pb.Command:
    return pb.Command(count_failures=pb.CountFailures(account_id=node.account("bob").id, failures=10))


def _bobs_second_device(node: Node, ada: int) -> pb.Command:
    return open_session(node.account("bob").id, 500, 3)


def _channel_of_bob(node: Node, ada: int) -> pb.Command:
    return create_channel(_bob(node), "ward", node.account("ada").id)


def _newest(node: Node) -> int:
    return int(node.reader.rows("SELECT coalesce(max(id), 0) FROM conversations")[0][0])


def _bob(node: Node) -> int:
    return node.login(node.account("bob").id, 2)


EXAMPLES: dict[str, Example] = {
    "register_account": Example(
        lambda node, ada: pb.Command(
            register_account=pb.RegisterAccount(name="carl", password_hash=b"hash", request_id=b"r" * 16)
        ),
        "carl",
        "carl",
    ),
    "delete_account": Example(
        lambda node, ada: pb.Command(
            delete_account=pb.DeleteAccount(token_digest=(500).to_bytes(32, "big"), password_hash=b"hash")
        ),
        "bob",
        "bob",
        before=_bobs_second_device,
    ),
    "set_role": Example(
        lambda node, ada: pb.Command(set_role=pb.SetRole(session_id=ada, account="Bob", administrator=True)),
        "ada",
        "bob",
    ),
    "suspend_account": Example(_suspend, "ada", "bob", "left"),
    "release_account": Example(
        lambda node, ada: pb.Command(release_account=pb.ReleaseAccount(session_id=ada, account="bob")),
        "ada",
        "bob",
        before=_suspend,
    ),
    "import_accounts": Example(
        lambda node, ada: pb.Command(
            import_accounts=pb.ImportAccounts(
                session_id=ada,
                accounts=[
                    pb.NewAccount(name="dora", password_hash=b"other-hash"),
                    pb.NewAccount(name="bob"),
                    pb.NewAccount(name="emil"),
                ],
            )
        ),
        "ada",
        "dora emil",
        "2 accounts, 1 with a password",
    ),
    "invite": Example(
        lambda node, ada: pb.Command(invite=pb.Invite(session_id=ada, digest=b"d" * 32, expires_at_ms=LATER_MS)),
        "ada",
        "",
        f"ends at {LATER_MS} ms",
    ),
    "offer_administrator": Example(_offer, "(node)", "", f"ends at {LATER_MS} ms"),
    "claim_administrator": Example(
        lambda node, ada: pb.Command(
            claim_administrator=pb.ClaimAdministrator(session_id=_bob(node), digest=b"d" * 32)
        ),
        "bob",
        "bob",
        before=_offer,
    ),
    "set_member_role": Example(
        lambda node, ada: pb.Command(
            set_member_role=pb.SetMemberRole(
                session_id=ada, conversation_id=_newest(node), member=node.account("ada").id, role=ROLE_OWNER
            )
        ),
        "ada",
        "ada",
        before=_channel_of_bob,
    ),
    "change_password": Example(
        lambda node, ada: pb.Command(
            change_password=pb.ChangePassword(session_id=ada, old_hash=b"hash", new_hash=b"other-hash")
        ),
        "ada",
        "ada",
    ),
    "reset_password": Example(
        lambda node, ada: pb.Command(
            reset_password=pb.ResetPassword(session_id=ada, account="bob", password_hash=b"other-hash")
        ),
        "ada",
        "bob",
    ),
    "count_failures": Example(_count, "(cluster)", "bob", "10 wrong passwords in a row"),
    "lift_delay": Example(
        lambda node, ada: pb.Command(lift_delay=pb.LiftDelay(session_id=ada, account="bob")),
        "ada",
        "bob",
        before=_count,
    ),
    "raise_level": Example(
        lambda node, ada: pb.Command(raise_level=pb.RaiseLevel(level=MAX_LEVEL + 1, release="9.9")), "", ""
    ),
    "publish_member": Example(
        lambda node, ada: pb.Command(
            publish_member=pb.PublishMember(
                node_id=1,
                name="n1",
                peer_address="10.0.0.9:1",
                client_address="c",
                min_level=MIN_LEVEL,
                max_level=MAX_LEVEL,
                key_digest=b"k" * 32,
            )
        ),
        "n1",
        "n1",
        "peer address p -> 10.0.0.9:1, its first key",
    ),
    "invite_node": Example(_invite_node, "ada", ""),
    "revoke_certificate": Example(_revoke_certificate, "ada", "n2", f"SHA-256 {b'c'.hex() * 32}"),
    "restore_certificate": Example(
        lambda node, ada: pb.Command(restore_certificate=pb.RestoreCertificate(session_id=ada, digest=b"c" * 32)),
        "ada",
        "n2",
        f"SHA-256 {b'c'.hex() * 32}",
        before=_revoke_certificate,
    ),
    "use_join_token": Example(
        lambda node, ada: pb.Command(use_join_token=pb.UseJoinToken(token_digest=b"t" * 32, node_id=9)),
        "(cluster)",
        "",
        "node id 9",
        before=_invite_node,
    ),
    "withdraw_code": Example(
        lambda node, ada: pb.Command(withdraw_code=pb.WithdrawCode(session_id=ada, digest=b"d" * 32)),
        "ada",
        "",
        "of an administrator",
        before=_offer,
    ),
    "set_quota": Example(
        lambda node, ada: pb.Command(set_quota=pb.SetQuota(session_id=ada, account="bob", max_bytes=5)),
        "ada",
        "bob",
        "that of the cluster -> 5",
    ),
    "note_request": Example(
        lambda node, ada: pb.Command(
            note_request=pb.NoteRequest(
                session_id=ada, request_id=b"n" * 16, request=pb.NOTED_REQUEST_REMOVE_MEMBER, node="n3"
            )
        ),
        "ada",
        "n3",
    ),
    "revoke_devices": Example(
        lambda node, ada: pb.Command(revoke_devices=pb.RevokeDevices(session_id=_bob(node))),
        "bob",
        "bob",
        "1 of the own sessions",
        before=_bobs_second_device,
    ),
    "set_time": Example(lambda node, ada: pb.Command(set_time=pb.SetTime(session_id=ada, now_ms=START_MS)), "ada", ""),
    "change_setting": Example(
        lambda node, ada: pb.Command(change_setting=pb.ChangeSetting(session_id=ada, name="registration", value=2)),
        "ada",
        "registration",
        "0 -> 2",
    ),
}
# Their rows are in tests of their own, below: they need a level that does not exist, and a time that goes back.
ELSEWHERE = {"raise_level", "set_time"}


def test_every_command_says_what_it_leaves_and_those_of_administrators_leave_a_row() -> None:
    for name, command in COMMANDS.items():
        audited = not isinstance(command.audits, NotAudited)
        assert audited == (name in EXAMPLES), f"{name} needs an example of its row, or a reason why it leaves none"
        if isinstance(command, SignedInCommand) and ALLOWED[command.action] == {Role.ADMINISTRATOR}:
            assert audited, f"{name} is for administrators, so it leaves a row"


def test_every_action_belongs_to_a_command_or_to_what_no_command_does() -> None:
    of_commands = {
        action
        for command in COMMANDS.values()
        if not isinstance(command.audits, NotAudited)
        for action in command.audits
    }
    assert set(AuditAction) - of_commands == {
        AuditAction.MEMBER_ADDED,
        AuditAction.MEMBER_REMOVED,
        AuditAction.CLUSTER_RESTORED,
        AuditAction.CLUSTER_RECOVERED,
    }


@pytest.mark.parametrize("name", sorted(EXAMPLES.keys() - ELSEWHERE))
def test_a_command_leaves_one_row_and_none_when_it_is_repeated(node: Node, ada: int, name: str) -> None:
    example = EXAMPLES[name]
    if example.before is not None:
        assert node.one(example.before(node, ada), level=MAX_LEVEL).code == OK
    command = example.make(node, ada)
    before = page(node).last_number
    assert node.one(command, level=MAX_LEVEL).code == OK
    found = rows(node, before)
    assert len(found) == 1
    row = found[0]
    audits = COMMANDS[name].audits
    assert not isinstance(audits, NotAudited)
    assert row.action in audits
    assert (row.actor, row.object) == (example.actor, example.about)
    assert example.detail in ("", row.detail)
    assert (row.index, row.at_ms) == (node.machine.applied_index, node.machine.now_ms)
    assert node.one(command, level=MAX_LEVEL).code in (OK, pb.RESULT_CODE_SIGNED_OUT)
    assert rows(node, before) == (row,), "a retry is no second event"
    check(page(node))


@pytest.mark.parametrize("name", sorted(n for n, c in COMMANDS.items() if isinstance(c, SignedInCommand)))
def test_a_refused_command_leaves_no_row(node: Node, ada: int, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    command = COMMANDS[name]
    assert isinstance(command, SignedInCommand)
    monkeypatch.setitem(ALLOWED, command.action, frozenset())
    before = dump(node.path)["audit"]
    asked = EXAMPLES[name].make(node, ada) if name in EXAMPLES else pb.Command()
    getattr(asked, name).session_id = ada
    assert node.one(asked, level=MAX_LEVEL).code == pb.RESULT_CODE_NOT_ALLOWED
    assert dump(node.path)["audit"] == before


def test_no_row_has_a_secret(node: Node, ada: int) -> None:
    for name in sorted(
        EXAMPLES.keys() - ELSEWHERE - {"change_password", "delete_account", "revoke_devices", "set_member_role"}
    ):
        example = EXAMPLES[name]
        for make in (example.before, example.make):
            if make is not None:
                node.one(make(node, ada), level=MAX_LEVEL)
    texts = str([(row.actor, row.action, row.object, row.detail) for row in rows(node)])
    assert len(rows(node)) > 14
    for secret in SECRETS:
        assert secret.decode() not in texts
        assert secret.hex() not in texts


# ---- what no command of a session does


def test_the_level_that_brings_the_log_is_its_first_row(node: Node) -> None:
    row = rows(node)[0]
    assert (row.number, row.actor, row.action, row.object) == (1, "(cluster)", "level.raised", "3")


def test_members_that_come_and_go_are_told_with_the_entry_that_did_it(node: Node) -> None:
    def change(ids: tuple[int, ...], *added: MemberRow) -> None:
        index = node.machine.applied_index + 1
        node.machine.apply([CommittedEntry(index, 1, membership=MembershipChange(b"m", ids, added))])

    before = page(node).last_number
    new = MemberRow(4, "n4", "p", "c", MIN_LEVEL, MAX_LEVEL)
    change((1, 2, 3, 4), new)
    added_at = node.machine.applied_index
    change((1, 2, 3, 4), new)  # the same again, as a joint membership that ends
    change((1, 2, 4))
    assert [(row.action, row.object, row.detail, row.index) for row in rows(node, before)] == [
        ("member.added", "n4", "node id 4", added_at),
        ("member.removed", "n3", "node id 3", added_at + 2),
    ]
    check(page(node))


def test_a_time_that_is_set_back_is_told(node: Node, ada: int) -> None:
    node.apply(at_ms=node.now_ms + 3_600_000, level=MAX_LEVEL)
    before = page(node).last_number
    node.now_ms += 1000
    command = pb.Command(set_time=pb.SetTime(session_id=ada, now_ms=node.now_ms))
    assert node.one(command, at_ms=node.now_ms, level=MAX_LEVEL).code == OK
    [row] = rows(node, before)
    assert (row.actor, row.action, row.at_ms) == ("ada", "time.set", node.machine.now_ms)


def test_only_a_role_in_a_channel_that_the_cluster_role_allows_is_told(node: Node, ada: int) -> None:
    cid = node.one(register("cid"), level=MAX_LEVEL).register_account.account_id
    bob = _bob(node)
    assert node.one(create_channel(bob, "ward", cid), level=MAX_LEVEL).code == OK
    channel, before = _newest(node), page(node).last_number

    def give(session_id: int, role: model_pb2.MemberRole.ValueType) -> None:
        command = pb.SetMemberRole(session_id=session_id, conversation_id=channel, member=cid, role=role)
        assert node.one(pb.Command(set_member_role=command), level=MAX_LEVEL).code == OK

    give(bob, ROLE_MODERATOR)
    assert rows(node, before) == (), "its owner did it"
    give(ada, ROLE_OWNER)
    [row] = rows(node, before)
    assert (row.actor, row.action, row.object) == ("ada", "channel.role-set", "cid")
    assert row.detail == f"channel {channel}: moderator -> owner"


# ---- the chain


def altered(found: AuditPage) -> Iterator[AuditPage]:
    first, second, third = found.rows[:3]
    rest = found.rows[3:]
    yield replace(found, rows=(replace(first, actor="eve"), second, third, *rest))
    yield replace(found, rows=(first, replace(second, at_ms=second.at_ms + 1), third, *rest))
    yield replace(found, rows=(first, third, *rest))
    yield replace(found, rows=(second, first, third, *rest))
    yield replace(found, rows=found.rows[:-1])
    moved = second.actor[-1:] + second.action
    yield replace(found, rows=(first, replace(second, actor=second.actor[:-1], action=moved), third, *rest))


def test_any_change_of_the_rows_breaks_the_chain(node: Node, ada: int) -> None:
    for name in ("suspend_account", "invite", "change_setting"):
        node.one(EXAMPLES[name].make(node, ada), level=MAX_LEVEL)
    found = page(node)
    check(found)
    cases = list(altered(found))
    assert len(cases) == 6
    for case in cases:
        with pytest.raises(AssertionError):
            check(case)


def test_pages_join_without_a_gap(node: Node, ada: int) -> None:
    for number in range(1, 8):
        change_setting(node, ada, "max_account_channels", number)
    whole = page(node)
    joined: list[AuditRow] = []
    previous, after = whole.previous_hash, 0
    while True:
        part = page(node, after, limit=2)
        assert part.previous_hash == previous
        if not part.rows:
            break
        joined += part.rows
        previous, after = part.rows[-1].hash, part.rows[-1].number
    assert tuple(joined) == whole.rows
    assert previous == part.last_hash
    assert len(page(node, max_bytes=1).rows) == 1
    assert page(node, after=1 << 70).rows == ()


# ---- requests that are no commands


@pytest.mark.parametrize("request_", sorted(audit_requests.ACTIONS))
def test_each_request_has_an_action_and_every_number_of_the_wire_a_row(
    node: Node, ada: int, request_: pb.NotedRequest.ValueType
) -> None:
    assert set(pb.NotedRequest.values()) == {0, *audit_requests.ACTIONS}
    command = pb.NoteRequest(session_id=ada, request_id=b"n" * 16, request=request_, node="n1")
    before = page(node).last_number
    assert node.one(pb.Command(note_request=command), level=MAX_LEVEL).code == OK
    assert [row.action for row in rows(node, before)] == [audit_requests.ACTIONS[request_]]


def test_a_request_without_a_kind_or_an_id_is_refused(node: Node, ada: int) -> None:
    kind = pb.NOTED_REQUEST_BACKUP
    for command, code in (
        (pb.NoteRequest(session_id=ada, request_id=b"n" * 16), pb.RESULT_CODE_INVALID_NUMBER),
        (pb.NoteRequest(session_id=ada, request=kind), pb.RESULT_CODE_INVALID_LENGTH),
        (
            pb.NoteRequest(session_id=ada, request=kind, request_id=b"n" * 16, node="n" * 65),
            pb.RESULT_CODE_INVALID_LENGTH,
        ),
    ):
        assert node.one(pb.Command(note_request=command), level=MAX_LEVEL).code == code


def test_ids_of_requests_are_forgotten_with_their_rows(node: Node, ada: int) -> None:
    change_setting(node, ada, "max_audit_rows", 100)
    for number in range(150):
        command = pb.NoteRequest(
            session_id=ada, request_id=number.to_bytes(16, "big"), request=pb.NOTED_REQUEST_BACKUP, node="n1"
        )
        assert node.one(pb.Command(note_request=command), level=MAX_LEVEL).code == OK
    assert len(dump(node.path)["audit_requests"]) in (100, 101)


# ---- bounds


def change_setting(node: Node, ada: int, name: str, value: int) -> None:
    command = pb.ChangeSetting(session_id=ada, name=name, value=value)
    assert node.one(pb.Command(change_setting=command), level=MAX_LEVEL).code == OK


def test_the_oldest_rows_go_and_the_rest_is_still_a_chain(node: Node, ada: int) -> None:
    change_setting(node, ada, "max_audit_rows", 100)
    for number in range(1, 151):
        change_setting(node, ada, "max_account_channels", number)
    found = page(node)
    assert len(found.rows) == 100
    assert found.removed_number == found.last_number - 100 == found.rows[0].number - 1
    assert found.previous_hash != FIRST_HASH
    check(found)
    assert page(node, after=found.removed_number - 5).rows == found.rows, "what is gone is skipped, not refused"


def test_the_log_is_bounded_by_bytes_too(node: Node, ada: int) -> None:
    change_setting(node, ada, "max_audit_bytes", 1 << 20)
    names = [f"{'x' * 55}{number:06}" for number in range(128 * 150)]
    for start in range(0, len(names), 128):
        accounts = [pb.NewAccount(name=name) for name in names[start : start + 128]]
        command = pb.ImportAccounts(session_id=ada, accounts=accounts)
        assert node.one(pb.Command(import_accounts=command), level=MAX_LEVEL).code == OK
    [(_, _, _, _, _, size)] = dump(node.path)["audit_ends"]
    found = page(node)
    assert found.removed_number > 0
    assert size == sum(audit._size((r.actor, r.action, r.object, r.detail)) for r in found.rows)
    assert (1 << 20) - 16_384 < size <= 1 << 20
    check(found)


def test_a_lowered_bound_is_reached_step_by_step(node: Node, ada: int) -> None:
    change_setting(node, ada, "max_audit_rows", 1000)
    for number in range(1, 301):
        change_setting(node, ada, "max_account_channels", number)
    change_setting(node, ada, "max_audit_rows", 100)
    seen = []
    for number in range(5):
        seen.append(len(rows(node)))
        change_setting(node, ada, "max_account_bytes", number + 1)
    assert seen[0] - seen[1] == audit.ROWS_REMOVED_PER_ROW - 1
    assert seen[-1] == 100
    check(page(node))


# ---- levels, replays, failures


def test_below_level_3_there_is_no_log(tmp_path: Path) -> None:
    node = Node(tmp_path / "old.sqlite")
    try:
        session = node.user("ada", 1)
        node.one(pb.Command(change_setting=pb.ChangeSetting(session_id=session, name="max_message_bytes", value=9)))
        assert page(node) == AuditPage((), FIRST_HASH, 0, 0, FIRST_HASH)
    finally:
        node.close()


def test_a_command_that_fails_beside_others_leaves_no_row(
    node: Node, ada: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise ValueError("unforeseen")

    monkeypatch.setattr("parleyd.machine.features.sessions.end_others", fail)
    before = page(node).last_number
    setting = EXAMPLES["change_setting"].make(node, ada)
    done = node.apply(setting, _suspend(node, ada), level=MAX_LEVEL)
    assert [one.code for one in done] == [OK, pb.RESULT_CODE_FAILED]
    assert [row.action for row in rows(node, before)] == ["setting.changed"]
    check(page(node))


def test_two_nodes_and_a_batch_make_the_same_log(node: Node, ada: int, tmp_path: Path) -> None:
    other = Node(tmp_path / "other.sqlite")
    try:
        other.one(register("ada"))
        other.one(register("bob"))
        other.rise()
        assert other.login(other.account("ada").id, 1) == ada
        commands = [EXAMPLES[name].make(node, ada) for name in ("suspend_account", "invite", "change_setting")]
        for one in (node, other):
            index = one.machine.applied_index + 1
            one.machine.apply([CommittedEntry(index, 1, payload(commands, one.now_ms + 1, MAX_LEVEL))])
        assert page(node) == page(other)
        assert len({row.index for row in rows(node)[-3:]}) == 1
    finally:
        other.close()
