"""The audit log over the wire: pages, bounds, and which administrator asked for a change of the nodes."""

from __future__ import annotations

from typing import Any

import grpc
import pytest
from structlog.testing import capture_logs

from parley_proto.v1 import admin_pb2 as pb
from parley_proto.v1 import peer_pb2
from parleyd.api import admission, noted_requests
from parleyd.api.patience import Patience
from parleyd.machine.features.audit import AUDIT_LEVEL
from parleyd.machine.levels import MAX_LEVEL
from parleyd.machine.records import MemberRow
from tests.support.node import InProcessCluster, InProcessNode
from tests.support.raw import PASSWORD, Person, Raw, refused, until_so

Code = grpc.StatusCode


@pytest.fixture
async def boss(cluster: InProcessCluster, raw: Raw) -> Person:
    """An administrator."""
    cluster.add_account("boss", PASSWORD)
    return await raw.log_in("boss")


def add_member(cluster: InProcessCluster, name: str) -> None:
    """A member that does not run."""
    row = "INSERT INTO cluster_members SELECT node_id + 7, ?, peer_address, client_address, min_level, max_level"
    cluster.rewrite((f"{row} FROM cluster_members", (name,)))


async def page(raw: Raw, boss: Person, after: int = 0, size: int = 0) -> pb.ListAuditResponse:
    request = pb.ListAuditRequest(after_number=after, page_size=size)
    return await raw.admin.ListAudit(request, metadata=boss.metadata)


async def asked(raw: Raw, boss: Person) -> list[tuple[str, str, str]]:
    """Who asked for what about which node."""
    found = (await page(raw, boss)).rows
    return [(row.actor, row.action, row.object) for row in found if row.action.startswith("request.")]


async def test_pages_follow_each_other_and_tell_the_newest_row(
    cluster: InProcessCluster, raw: Raw, boss: Person
) -> None:
    for number in range(1, 5):
        cluster.change_setting("max_joined_channels", number)
    whole = await page(raw, boss)
    assert [row.number for row in whole.rows] == list(range(1, whole.last_number + 1))
    assert (whole.removed_number, whole.previous_hash, whole.last_hash) == (0, bytes(32), whole.rows[-1].hash)
    part = await page(raw, boss, after=2, size=2)
    assert list(part.rows) == list(whole.rows[2:4])
    assert part.previous_hash == whole.rows[1].hash
    assert part.position.groups[0].index == cluster.index
    end = await page(raw, boss, after=whole.last_number)
    assert (list(end.rows), end.previous_hash) == ([], whole.last_hash)


async def test_bad_pages_are_refused(raw: Raw, boss: Person) -> None:
    for request in (pb.ListAuditRequest(page_size=1001), pb.ListAuditRequest(after_number=1 << 63)):
        code, _ = await refused(raw.admin.ListAudit(request, metadata=boss.metadata))
        assert code is Code.INVALID_ARGUMENT


async def test_reading_is_no_action_of_an_administrator(raw: Raw, boss: Person) -> None:
    with capture_logs() as logs:
        await page(raw, boss)
    assert not [line for line in logs if line["event"] == "admin_action"]


async def test_reading_events_is_no_action_of_an_administrator(raw: Raw, boss: Person) -> None:
    """`parley cluster events --follow` listed its own reads."""
    with capture_logs() as logs:
        async for _ in raw.admin.FollowEvents(pb.FollowEventsRequest(), metadata=boss.metadata):
            pass
    assert not [line for line in logs if line["event"] == "admin_action"]


async def test_what_is_refused_after_it_was_told_is_told_as_refused(
    cluster: InProcessCluster, raw: Raw, boss: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster.add_account("ann", PASSWORD)
    ann = await raw.log_in("ann")
    setting = pb.ChangeSettingRequest(name="max_joined_channels", value=7)
    with capture_logs() as logs:
        await raw.admin.ChangeSetting(setting, metadata=boss.metadata)
        code, _ = await refused(raw.admin.ChangeSetting(setting, metadata=ann.metadata))
        assert code is Code.PERMISSION_DENIED
        reset = pb.LiftDelayRequest(account="nobody")
        await refused(raw.admin.LiftDelay(reset, metadata=boss.metadata))
        # A node that has not heard of the end of ann's rights.
        monkeypatch.setattr("parleyd.api.auth.is_allowed", lambda role, action: True)
        code, _ = await refused(raw.admin.ChangeSetting(setting, metadata=ann.metadata))
        assert code is Code.PERMISSION_DENIED
    told = [
        (line["event"], line["by"], line["action"], line.get("code"))
        for line in logs
        if line["event"].startswith("admin_action")
    ]
    assert told == [
        ("admin_action", "boss", "change_settings", None),
        ("admin_action", "boss", "lift_delay", None),
        ("admin_action_failed", "boss", "lift_delay", "NOT_FOUND"),
        ("admin_action", "ann", "change_settings", None),
        ("admin_action_failed", "ann", "change_settings", "PERMISSION_DENIED"),
    ]


async def test_who_asked_for_a_change_of_the_nodes_is_told(cluster: InProcessCluster, raw: Raw, boss: Person) -> None:
    add_member(cluster, "n2")
    await raw.admin.PromoteMember(pb.PromoteMemberRequest(name="n2"), metadata=boss.metadata)
    await raw.admin.RemoveMember(pb.RemoveMemberRequest(name="n2"), metadata=boss.metadata)
    await raw.admin.TransferLeadership(pb.TransferLeadershipRequest(name="n1"), metadata=boss.metadata)
    await raw.admin.TransferLeadership(pb.TransferLeadershipRequest(), metadata=boss.metadata)
    code, _ = await refused(raw.admin.RestartNode(pb.RestartNodeRequest(name="n2"), metadata=boss.metadata))
    assert code is Code.FAILED_PRECONDITION
    await raw.admin.RestartNode(pb.RestartNodeRequest(name="n1"), metadata=boss.metadata)
    async for _ in raw.admin.Backup(pb.BackupRequest(), metadata=boss.metadata):
        pass
    assert await asked(raw, boss) == [
        ("boss", "request.promote-member", "n2"),
        ("boss", "request.remove-member", "n2"),
        ("boss", "request.transfer-leadership", "n1"),
        ("boss", "request.transfer-leadership", ""),
        ("boss", "request.restart-node", "n1"),
        ("boss", "request.backup", "n1"),
    ]


CHANGES = [
    ("AddMember", pb.AddMemberRequest(name="n4", peer_address="127.0.0.1:1"), "request.add-member"),
    ("PromoteMember", pb.PromoteMemberRequest(name="n3"), "request.promote-member"),
    ("RemoveMember", pb.RemoveMemberRequest(name="n3"), "request.remove-member"),
    ("RemoveMember", pb.RemoveMemberRequest(name="n1"), "request.remove-member"),
    ("TransferLeadership", pb.TransferLeadershipRequest(name="n3"), "request.transfer-leadership"),
]
"""Changes of a cluster in which n3 is a learner and n4 waits to be added."""


@pytest.fixture
def newcomers(cluster: InProcessCluster) -> None:
    """A learner n3, and n4, which waits to be added."""
    add_member(cluster, "n3")
    cluster.waiting["n4"] = MemberRow(4, "n4", "", "")


@pytest.mark.usefixtures("newcomers")
@pytest.mark.parametrize(("method", "request_", "action"), CHANGES)
async def test_who_changes_the_nodes_is_told_before_because_it_may_be_impossible_after(
    cluster: InProcessCluster, raw: Raw, boss: Person, method: str, request_: Any, action: str
) -> None:
    """The node that was asked is n1. If the removed one led, nobody may lead until the time for the row is over."""
    index = cluster.index
    answer = await getattr(raw.admin, method)(request_, metadata=boss.metadata)
    assert await asked(raw, boss) == [("boss", action, request_.name)]
    assert (answer.applied_index, cluster.index) == (index + 1, index + 1)


@pytest.mark.usefixtures("newcomers")
@pytest.mark.parametrize(("method", "request_", "action"), CHANGES)
async def test_a_change_without_a_known_outcome_has_its_row(
    cluster: InProcessCluster, raw: Raw, boss: Person, method: str, request_: Any, action: str
) -> None:
    """It may be made, and who asks again is told that it is done already."""
    cluster.change_status = peer_pb2.CHANGE_STATUS_OUTCOME_UNKNOWN
    code, _ = await refused(getattr(raw.admin, method)(request_, metadata=boss.metadata))
    assert code is Code.ABORTED
    assert await asked(raw, boss) == [("boss", action, request_.name)]


@pytest.mark.usefixtures("newcomers")
@pytest.mark.parametrize(("method", "request_", "action"), CHANGES)
async def test_a_change_whose_caller_leaves_has_its_row(
    cluster: InProcessCluster, node: InProcessNode, raw: Raw, boss: Person, method: str, request_: Any, action: str
) -> None:
    cluster.changes_end.clear()
    call = getattr(raw.admin, method)(request_, metadata=boss.metadata)
    await until_so(lambda: len(cluster.changes) == 1)  # it is on its way to the leader
    call.cancel()
    await until_so(lambda: node.places()["calls"][0] == 0)
    assert await asked(raw, boss) == [("boss", action, request_.name)]


async def test_what_changed_nothing_leaves_no_row(cluster: InProcessCluster, raw: Raw, boss: Person) -> None:
    await raw.admin.PromoteMember(pb.PromoteMemberRequest(name="n1"), metadata=boss.metadata)
    for name in ("n8", "n9"):  # no members
        await raw.admin.PromoteMember(pb.PromoteMemberRequest(name=name), metadata=boss.metadata)
        await raw.admin.RemoveMember(pb.RemoveMemberRequest(name=name), metadata=boss.metadata)
        await raw.admin.TransferLeadership(pb.TransferLeadershipRequest(name=name), metadata=boss.metadata)
    await raw.admin.AddMember(pb.AddMemberRequest(name="n1", peer_address="127.0.0.1:1"), metadata=boss.metadata)
    assert await asked(raw, boss) == []


REQUESTS = [
    *((method, request_) for method, request_, _ in CHANGES),
    ("RestartNode", pb.RestartNodeRequest(name="n1")),
    ("RebuildMember", pb.RebuildMemberRequest(name="n3")),
]
"""All that an administrator can ask of the nodes and that is no command."""
OF_OTHERS = [one for one in REQUESTS if one != ("RemoveMember", pb.RemoveMemberRequest(name="n1"))]
"""Without the removal of the node that is asked. It may be done, and then no majority answers: the log alone checks."""


def made(cluster: InProcessCluster) -> list[peer_pb2.ClusterChange]:
    """The changes that reached the leader; a permit to restart changes nothing yet."""
    return [change for change in cluster.changes if not change.HasField("restart")]


@pytest.mark.usefixtures("newcomers")
@pytest.mark.parametrize(("method", "request_"), [*REQUESTS, ("Backup", pb.BackupRequest())])
async def test_the_log_refuses_whose_rights_have_ended_also_what_is_no_command(
    cluster: InProcessCluster, raw: Raw, monkeypatch: pytest.MonkeyPatch, method: str, request_: Any
) -> None:
    """The node believes that ann has the right. The row about her request is applied where it is known."""
    cluster.add_account("boss", PASSWORD)
    cluster.add_account("ann", PASSWORD)
    ann = await raw.log_in("ann")
    monkeypatch.setattr("parleyd.api.auth.is_allowed", lambda role, action: True)
    call = getattr(raw.admin, method)(request_, metadata=ann.metadata)
    code, text = await refused(anext(aiter(call)) if method == "Backup" else call)
    assert (code, "Nothing was changed" in text) == (Code.PERMISSION_DENIED, True)
    assert (made(cluster), cluster.restarted) == ([], [])


@pytest.mark.usefixtures("newcomers")
@pytest.mark.parametrize(("method", "request_"), OF_OTHERS)
@pytest.mark.parametrize("level", [AUDIT_LEVEL - 1, AUDIT_LEVEL])
async def test_who_is_suspended_before_the_request_has_arrived_changes_nothing(
    cluster: InProcessCluster,
    node: InProcessNode,
    raw: Raw,
    boss: Person,
    monkeypatch: pytest.MonkeyPatch,
    method: str,
    request_: Any,
    level: int,
) -> None:
    """Its session was looked up when the call began. Below that level, the log has no row that would refuse it."""
    monkeypatch.setattr(admission, "BODY_PATIENCE", Patience(60, 60))
    monkeypatch.setattr(noted_requests, "AUDIT_LEVEL", AUDIT_LEVEL if level >= AUDIT_LEVEL else MAX_LEVEL + 1)
    cluster.add_account("eve", PASSWORD)
    eve = await raw.log_in("eve")
    right = pb.SetAdministratorRequest(account="eve", administrator=True)
    await raw.admin.SetAdministrator(right, metadata=boss.metadata)
    serialize = type(request_).SerializeToString
    held: Any = raw.channel.stream_stream(f"/parley.v1.Admin/{method}", serialize)(metadata=eve.metadata)
    await until_so(lambda: node.places()["requests"][0] == 1)  # the node waits for the request
    await raw.admin.SuspendAccount(pb.SuspendAccountRequest(account="eve"), metadata=boss.metadata)
    await held.write(request_)
    code, _ = await refused(held.read())
    assert code is Code.UNAUTHENTICATED
    assert (made(cluster), cluster.restarted) == ([], [])


@pytest.mark.usefixtures("newcomers")
@pytest.mark.parametrize(("method", "request_"), OF_OTHERS)
async def test_without_a_majority_nobody_changes_the_nodes(
    cluster: InProcessCluster, node: InProcessNode, raw: Raw, boss: Person, method: str, request_: Any
) -> None:
    node.faults.no_majority = True
    code, text = await refused(getattr(raw.admin, method)(request_, metadata=boss.metadata))
    assert (code, "Nothing was changed" in text) == (Code.UNAVAILABLE, True)
    assert (cluster.changes, cluster.restarted) == ([], [])


async def test_a_removed_node_tells_without_a_majority_what_became_of_its_own_removal(
    cluster: InProcessCluster, node: InProcessNode, raw: Raw, boss: Person
) -> None:
    node.faults.no_majority = True
    node.replica.retired = True
    await raw.admin.RemoveMember(pb.RemoveMemberRequest(name="n1"), metadata=boss.metadata)
    assert [change.remove.name for change in cluster.changes] == ["n1"]


async def test_a_backup_needs_no_majority_for_its_row(
    cluster: InProcessCluster, node: InProcessNode, raw: Raw, boss: Person
) -> None:
    node.faults.no_majority = True
    with capture_logs() as logs:
        chunks = [chunk async for chunk in raw.admin.Backup(pb.BackupRequest(), metadata=boss.metadata)]
    assert sum(len(chunk.data) for chunk in chunks) > 0
    [told] = [line for line in logs if line["event"] == "request_not_noted"]
    assert (told["by"], told["request"]) == ("boss", "NOTED_REQUEST_BACKUP")
    node.faults.no_majority = False
    assert await asked(raw, boss) == []
