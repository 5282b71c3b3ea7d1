"""Accounts suspended over the wire: what they, administrators and others see of it."""

from __future__ import annotations

import grpc
import pytest

from parley_proto.v1 import accounts_pb2 as pb
from parley_proto.v1 import admin_pb2
from tests.support.node import InProcessCluster
from tests.support.raw import PASSWORD, Person, Raw, refused

Code = grpc.StatusCode


@pytest.fixture
async def boss(cluster: InProcessCluster, raw: Raw) -> Person:
    """An administrator beside the account ann."""
    cluster.add_account("boss", PASSWORD)
    cluster.add_account("ann", PASSWORD)
    return await raw.log_in("boss")


async def suspend(raw: Raw, boss: Person, name: str = "ann", reason: str = "") -> None:
    request = admin_pb2.SuspendAccountRequest(account=name, reason=reason)
    await raw.admin.SuspendAccount(request, metadata=boss.metadata)


async def test_a_suspended_account_is_told_why_it_is_not_signed_in_once_its_password_is_right(
    raw: Raw, boss: Person
) -> None:
    ann = await raw.log_in("ann")
    await suspend(raw, boss)
    code, text = await refused(raw.accounts.ListAccounts(pb.ListAccountsRequest(), metadata=ann.metadata))
    assert code is Code.UNAUTHENTICATED
    request = pb.LogInRequest(name="ann", password=PASSWORD, device_id=b"a" * 16)
    code, text = await refused(raw.accounts.LogIn(request))
    assert (code, "has suspended this account" in text) == (Code.PERMISSION_DENIED, True)
    request.password = "wrong"
    code, text = await refused(raw.accounts.LogIn(request))
    assert (code, "suspend" in text) == (Code.UNAUTHENTICATED, False)
    await raw.admin.ReleaseAccount(admin_pb2.ReleaseAccountRequest(account="ann"), metadata=boss.metadata)
    await raw.log_in("ann")


async def test_administrators_alone_see_who_is_suspended_and_why(
    cluster: InProcessCluster, raw: Raw, boss: Person
) -> None:
    cluster.add_account("carl", PASSWORD)
    carl = await raw.log_in("carl")
    await suspend(raw, boss, reason="  left the ward ")
    page = await raw.accounts.ListAccounts(pb.ListAccountsRequest(), metadata=boss.metadata)
    [told] = page.suspended
    assert (told.account_id, told.suspended_by, told.reason) == (cluster.accounts["ann"].id, "boss", "left the ward")
    assert told.since_ms == cluster.machine.now_ms
    page = await raw.accounts.ListAccounts(pb.ListAccountsRequest(), metadata=carl.metadata)
    assert [account.name for account in page.accounts] == ["ann", "boss", "carl"]
    assert not page.suspended


async def test_an_administrator_does_not_suspend_itself(raw: Raw, boss: Person) -> None:
    request = admin_pb2.SuspendAccountRequest(account="Boss")
    code, text = await refused(raw.admin.SuspendAccount(request, metadata=boss.metadata))
    assert (code, "your own account" in text) == (Code.FAILED_PRECONDITION, True)
    request = admin_pb2.SuspendAccountRequest(account="ann", reason="a\nb")
    code, text = await refused(raw.admin.SuspendAccount(request, metadata=boss.metadata))
    assert (code, "at most 200" in text) == (Code.INVALID_ARGUMENT, True)
