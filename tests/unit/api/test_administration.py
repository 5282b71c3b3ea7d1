"""Administration: who may change the cluster, what its status says, and its settings."""

from __future__ import annotations

import time

import grpc
import pytest

from parley_proto.v1 import admin_pb2 as pb
from parley_proto.v1 import messaging_pb2
from parleyd.machine.features.settings import SETTINGS
from parleyd.machine.levels import MAX_LEVEL, MIN_LEVEL
from tests.support.node import InProcessCluster, InProcessNode
from tests.support.raw import PASSWORD, Person, Raw, refused

Code = grpc.StatusCode
TEN_YEARS_MS = 10 * 365 * 86_400_000


@pytest.fixture
async def admin(cluster: InProcessCluster, raw: Raw) -> Person:
    """The first account here is an administrator."""
    cluster.add_account("boss", PASSWORD)
    return await raw.log_in("boss")


@pytest.fixture
async def ben(cluster: InProcessCluster, raw: Raw, admin: Person) -> Person:
    """Somebody else."""
    cluster.add_account("ben", PASSWORD)
    return await raw.log_in("ben")


async def test_the_status_tells_accounts_levels_and_members(
    cluster: InProcessCluster, node: InProcessNode, raw: Raw
) -> None:
    one, two = cluster.add_account("ann", PASSWORD), cluster.add_account("ben")
    ann = await raw.log_in("ann")
    cluster.store(one, two, "hello")
    status = await raw.admin.GetStatus(pb.GetStatusRequest(), metadata=ann.metadata)
    assert (status.level, status.min_level, status.max_level) == (MAX_LEVEL, MIN_LEVEL, MAX_LEVEL)
    assert (status.applied_index, status.messages_total) == (cluster.index, 1)
    assert (status.leader, status.serving, status.state_hash) == ("n1", True, cluster.machine.state_hash)
    [member] = status.members
    assert (member.name, member.client_address, member.voter) == ("n1", node.address, True)
    assert (member.min_level, member.max_level) == (MIN_LEVEL, MAX_LEVEL)


@pytest.mark.parametrize(
    "metadata",
    [(), (("authorization", "Bearer " + "A" * 43),), (("authorization", "x"),), (("x-parley-operator", ""),)],
    ids=["none", "unknown", "malformed", "no operator"],
)
async def test_the_status_tells_strangers_what_a_client_needs_to_find_the_leader_and_no_more(
    cluster: InProcessCluster, node: InProcessNode, raw: Raw, metadata: tuple[tuple[str, str], ...]
) -> None:
    status = await raw.admin.GetStatus(pb.GetStatusRequest(), metadata=metadata)
    member = pb.MemberStatus(name="n1", client_address=node.address, voter=True, connected=True)
    assert status == pb.GetStatusResponse(
        cluster_id=cluster.cluster_id, node_name="n1", role="leader", leader="n1", serving=True, members=[member]
    )


@pytest.mark.parametrize(
    ("method", "request_"),
    [
        ("InviteNode", pb.InviteNodeRequest()),
        ("AddMember", pb.AddMemberRequest(name="n2", peer_address="127.0.0.1:1")),
        ("PromoteMember", pb.PromoteMemberRequest(name="n2")),
        ("RemoveMember", pb.RemoveMemberRequest(name="n2")),
        ("TransferLeadership", pb.TransferLeadershipRequest()),
        ("RestartNode", pb.RestartNodeRequest(name="n1")),
        ("RebuildMember", pb.RebuildMemberRequest(name="n1")),
        ("SetAdministrator", pb.SetAdministratorRequest(account="ben", administrator=True)),
        ("ChangeSetting", pb.ChangeSettingRequest(name="max_message_bytes", value=1)),
        ("ImportAccounts", pb.ImportAccountsRequest(accounts=[pb.AccountToImport(name="dora")])),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_only_an_administrator_changes_anything(
    cluster: InProcessCluster, raw: Raw, ben: Person, method: str, request_: object
) -> None:
    index = cluster.index
    call = getattr(raw.admin, method)
    code, text = await refused(call(request_, metadata=ben.metadata))
    assert code is Code.PERMISSION_DENIED
    assert "parley cluster grant ben" in text
    code, _ = await refused(call(request_))
    assert code is Code.UNAUTHENTICATED
    assert (cluster.index, cluster.changes) == (index, [])


async def test_changes_of_the_members_go_to_the_leader_as_they_were_asked_for(
    cluster: InProcessCluster, raw: Raw, admin: Person
) -> None:
    await raw.admin.PromoteMember(pb.PromoteMemberRequest(name="n2"), metadata=admin.metadata)
    await raw.admin.RemoveMember(pb.RemoveMemberRequest(name="n3", force=True), metadata=admin.metadata)
    answer = await raw.admin.TransferLeadership(pb.TransferLeadershipRequest(name="n1"), metadata=admin.metadata)
    assert answer.applied_index == cluster.index, "the last entry says who asked for it, before the change"
    promote, remove, transfer = cluster.changes
    assert (promote.promote.name, remove.remove.name, remove.remove.force) == ("n2", "n3", True)
    assert transfer.transfer.name == "n1"


async def test_a_node_restarts_itself_only_and_only_if_the_leader_permits_it(
    cluster: InProcessCluster, raw: Raw, admin: Person
) -> None:
    code, text = await refused(raw.admin.RestartNode(pb.RestartNodeRequest(name="n2"), metadata=admin.metadata))
    assert code is Code.FAILED_PRECONDITION
    assert "This is n1, not n2" in text
    assert (cluster.restarted, cluster.changes) == ([], [])
    await raw.admin.RestartNode(pb.RestartNodeRequest(name="n1"), metadata=admin.metadata)
    [change] = cluster.changes
    assert (change.restart.name, cluster.restarted) == ("n1", ["n1"])


async def test_a_node_that_does_not_answer_is_not_added(cluster: InProcessCluster, raw: Raw, admin: Person) -> None:
    request = pb.AddMemberRequest(name="n2", peer_address="127.0.0.1:1")
    code, text = await refused(raw.admin.AddMember(request, metadata=admin.metadata))
    assert code is Code.FAILED_PRECONDITION
    assert "No node answers at 127.0.0.1:1" in text
    assert cluster.changes == []


async def test_administrators_make_others_administrators_and_one_always_stays(
    raw: Raw, admin: Person, ben: Person
) -> None:
    async def set_role(who: Person, account: str, *, administrator: bool) -> object:
        request = pb.SetAdministratorRequest(account=account, administrator=administrator)
        return await raw.admin.SetAdministrator(request, metadata=who.metadata)

    code, _ = await refused(set_role(admin, "boss", administrator=False))
    assert code is Code.FAILED_PRECONDITION
    code, _ = await refused(set_role(admin, "nobody", administrator=True))
    assert code is Code.NOT_FOUND
    await set_role(admin, "ben", administrator=True)
    await set_role(ben, "boss", administrator=False)
    code, _ = await refused(set_role(admin, "ben", administrator=False))
    assert code is Code.PERMISSION_DENIED


async def test_settings_are_listed_to_everybody_and_changed_within_their_bounds(
    cluster: InProcessCluster, raw: Raw, admin: Person, ben: Person
) -> None:
    async def values() -> dict[str, int]:
        answer = await raw.admin.ListSettings(pb.ListSettingsRequest(seen=raw.seen), metadata=ben.metadata)
        assert answer.position == cluster.position
        return {setting.name: setting.value for setting in answer.settings}

    defaults = {name: setting.default for name, setting in SETTINGS.items()}
    assert await values() == defaults

    async def change(name: str, value: int) -> object:
        request = pb.ChangeSettingRequest(name=name, value=value)
        return await raw.admin.ChangeSetting(request, metadata=admin.metadata)

    await change("max_message_bytes", 10)
    assert await values() == {**defaults, "max_message_bytes": 10}
    for name, value in (("max_message_bytes", 0), ("max_message_bytes", 1 << 40), ("no_such_setting", 1)):
        code, text = await refused(change(name, value))
        assert code is Code.INVALID_ARGUMENT
        assert "parley cluster settings" in text
    async with raw.session(ben) as stream:
        assert stream.welcome.max_message_bytes == 10
        await stream.send((1, "boss", "x" * 10), (2, "boss", "x" * 11), (3, "boss", "y"))
        results = await stream.results(3)
    accepted, rejected = messaging_pb2.SEND_STATUS_ACCEPTED, messaging_pb2.SEND_STATUS_REJECTED
    assert [result.status for result in results] == [accepted, rejected, accepted]
    assert "max_message_bytes" in results[1].detail
    assert cluster.bodies_for("boss") == ["x" * 10, "y"]


async def test_an_administrator_sets_the_time_that_a_wrong_clock_has_moved(
    cluster: InProcessCluster, raw: Raw, admin: Person, ben: Person
) -> None:
    now_ms = time.time_ns() // 1_000_000
    cluster.rewrite(("UPDATE meta SET now_ms = now_ms + ?", (TEN_YEARS_MS,)))

    async def set_time(who: Person, told_ms: int) -> pb.SetClusterTimeResponse:
        return await raw.admin.SetClusterTime(pb.SetClusterTimeRequest(now_ms=told_ms), metadata=who.metadata)

    # Every session has expired, so the administrator logs in once more. That is possible at any time of the cluster.
    again = await raw.log_in("boss")
    user = await raw.log_in("ben")
    assert (await refused(set_time(user, now_ms)))[0] is Code.PERMISSION_DENIED
    code, text = await refused(set_time(again, now_ms + TEN_YEARS_MS))
    assert code is Code.FAILED_PRECONDITION
    assert "clock" in text
    mended = await set_time(again, now_ms)
    assert mended.before_ms - mended.after_ms > TEN_YEARS_MS - 60_000
    status = await raw.admin.GetStatus(pb.GetStatusRequest(), metadata=again.metadata)
    assert abs(status.cluster_time_ms - now_ms) < 60_000
    await raw.admin.ListSettings(pb.ListSettingsRequest(), metadata=ben.metadata)  # lives again
