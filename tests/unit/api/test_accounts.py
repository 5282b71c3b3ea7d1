"""Accounts: what each call answers, refuses and repeats."""

from __future__ import annotations

import secrets
import time

import grpc
import pytest

from parley_proto.v1 import accounts_pb2 as pb
from parley_proto.v1 import state_pb2
from parleyd.delivery.cursor import decode_cursor
from parleyd.security.codes import digest_of_code, new_code
from tests.support.node import InProcessCluster, InProcessNode
from tests.support.raw import PASSWORD, Raw, index_of, refused

Code = grpc.StatusCode


async def test_a_registration_is_repeated_safely_and_its_name_is_taken_for_others(raw: Raw) -> None:
    request = pb.RegisterRequest(name="ann", password=PASSWORD, request_id=secrets.token_bytes(16))
    first = await raw.accounts.Register(request)
    again = await raw.accounts.Register(request)
    assert first.account_id == again.account_id == 1
    assert index_of(again.position) > index_of(first.position) > 0
    other = pb.RegisterRequest(name="ANN", password=PASSWORD, request_id=secrets.token_bytes(16))
    code, text = await refused(raw.accounts.Register(other))
    assert code is Code.ALREADY_EXISTS
    assert "Choose another name" in text


async def test_a_registration_by_a_code_is_repeated_safely(cluster: InProcessCluster, raw: Raw) -> None:
    """The code is used up by then, and the first answer may be lost."""
    code = new_code()
    offer = state_pb2.OfferAdministrator(
        digest=digest_of_code(code), expires_at_ms=time.time_ns() // 1_000_000 + 60_000
    )
    cluster.apply_one(state_pb2.Command(offer_administrator=offer))
    request = pb.RegisterRequest(name="ann", password=PASSWORD, request_id=secrets.token_bytes(16), code=code)
    first = await raw.accounts.Register(request)
    assert (await raw.accounts.Register(request)).account_id == first.account_id
    other = pb.RegisterRequest(name="ben", password=PASSWORD, request_id=secrets.token_bytes(16), code=code)
    assert (await refused(raw.accounts.Register(other)))[0] is Code.FAILED_PRECONDITION


@pytest.mark.parametrize(
    ("request_", "problem"),
    [
        (pb.RegisterRequest(name="a b", password=PASSWORD, request_id=bytes(16)), "name"),
        (pb.RegisterRequest(name="ann", password="short", request_id=bytes(16)), "password"),
        (pb.RegisterRequest(name="ann", password=PASSWORD, request_id=b"x"), "request_id"),
    ],
    ids=["name", "password", "request id"],
)
async def test_a_registration_that_breaks_the_rules_is_refused(
    cluster: InProcessCluster, raw: Raw, request_: pb.RegisterRequest, problem: str
) -> None:
    code, text = await refused(raw.accounts.Register(request_))
    assert code is Code.INVALID_ARGUMENT
    assert problem in text
    assert cluster.accounts == {}


async def test_a_log_in_says_where_the_device_stands(cluster: InProcessCluster, raw: Raw) -> None:
    ann, ben = cluster.add_account("ann", PASSWORD), cluster.add_account("ben", PASSWORD)
    me = await raw.log_in("BEN")
    assert (me.login.account.id, me.login.account.name) == (ben.id, "ben")
    assert (me.login.last_send_number, decode_cursor(me.login.cursor).message_id(0)) == (0, 0)
    message = cluster.store(ann, ben, "hello")
    async with raw.session(me) as stream:
        await stream.until_caught_up()
        await stream.send((1, "ann", "back"))
        await stream.results(1)
        await stream.delivered(stream.cursor)
    again = await raw.log_in("ben", device_id=me.device_id)
    assert again.login.last_send_number == 1
    assert decode_cursor(again.login.cursor).message_id(0) == message.id


@pytest.mark.parametrize(("name", "password"), [("ann", "wrong password"), ("nobody", PASSWORD)])
async def test_a_log_in_never_says_whether_name_or_password_is_wrong(
    cluster: InProcessCluster, raw: Raw, name: str, password: str
) -> None:
    cluster.add_account("ann", PASSWORD)
    request = pb.LogInRequest(name=name, password=password, device_id=bytes(16))
    code, text = await refused(raw.accounts.LogIn(request))
    assert code is Code.UNAUTHENTICATED
    assert text.startswith("The name or the password is wrong.")


async def test_logging_out_ends_the_session_and_may_be_repeated(cluster: InProcessCluster, raw: Raw) -> None:
    cluster.add_account("ann", PASSWORD)
    ann = await raw.log_in("ann")
    for _ in range(2):
        await raw.accounts.LogOut(pb.LogOutRequest(), metadata=ann.metadata)
    code, text = await refused(raw.accounts.ListAccounts(pb.ListAccountsRequest(), metadata=ann.metadata))
    assert code is Code.UNAUTHENTICATED
    assert "Log in again" in text
    assert not cluster.knows_token(ann.token)


async def test_an_account_is_deleted_with_its_password_and_a_retry_finds_it_deleted(
    cluster: InProcessCluster, raw: Raw
) -> None:
    cluster.add_account("boss", PASSWORD)
    cluster.add_account("ann", PASSWORD)
    ann = await raw.log_in("ann")
    wrong = pb.DeleteAccountRequest(password="another password")
    code, text = await refused(raw.accounts.DeleteAccount(wrong, metadata=ann.metadata))
    assert code is Code.UNAUTHENTICATED
    assert "not deleted" in text
    for _ in range(2):
        await raw.accounts.DeleteAccount(pb.DeleteAccountRequest(password=PASSWORD), metadata=ann.metadata)
    assert list(cluster.accounts) == ["boss"]


async def test_the_only_administrator_may_not_leave_others_behind(cluster: InProcessCluster, raw: Raw) -> None:
    cluster.add_account("ann", PASSWORD)
    cluster.add_account("ben", PASSWORD)
    ann = await raw.log_in("ann")
    request = pb.DeleteAccountRequest(password=PASSWORD)
    code, text = await refused(raw.accounts.DeleteAccount(request, metadata=ann.metadata))
    assert code is Code.FAILED_PRECONDITION
    assert "only administrator" in text


async def test_accounts_are_listed_by_pattern_and_page(cluster: InProcessCluster, raw: Raw) -> None:
    for name in ("dora", "Anna", "annika", "ben"):
        cluster.add_account(name, PASSWORD)
    ben = await raw.log_in("ben")

    async def page(**fields: object) -> tuple[list[str], str]:
        answer = await raw.accounts.ListAccounts(
            pb.ListAccountsRequest(seen=raw.seen, **fields),  # type: ignore[arg-type] # a test's shorthand
            metadata=ben.metadata,
        )
        assert answer.position == cluster.position
        return [account.name for account in answer.accounts], answer.next_after_name

    assert await page(page_size=3) == (["Anna", "annika", "ben"], "ben")
    assert await page(page_size=3, after_name="ben") == (["dora"], "")
    assert await page(pattern="ANN*") == (["Anna", "annika"], "")
    code, text = await refused(page(page_size=1001))
    assert code is Code.INVALID_ARGUMENT
    assert "1001" in text


async def test_without_a_majority_nothing_is_promised_and_reads_go_on(
    cluster: InProcessCluster, node: InProcessNode, raw: Raw
) -> None:
    cluster.add_account("ann", PASSWORD)
    ann = await raw.log_in("ann")
    node.faults.no_majority = True
    request = pb.RegisterRequest(name="ben", password=PASSWORD, request_id=bytes(16))
    code, text = await refused(raw.accounts.Register(request))
    assert code is Code.UNAVAILABLE
    assert "Nothing was changed" in text, "no majority was asked to register anybody"
    assert await raw.accounts.ListAccounts(pb.ListAccountsRequest(), metadata=ann.metadata)
    node.faults.no_majority = False
    node.faults.overloaded = 1
    code, text = await refused(raw.accounts.Register(request))
    assert code is Code.RESOURCE_EXHAUSTED
    assert "Nothing was changed" in text
    assert "ben" not in cluster.accounts


async def test_a_position_that_no_node_gave_out_is_refused(cluster: InProcessCluster, raw: Raw) -> None:
    cluster.add_account("ann", PASSWORD)
    ann = await raw.log_in("ann")

    async def refusal_of(generation: int, group: int, index: int) -> tuple[grpc.StatusCode, str]:
        request = pb.ListAccountsRequest()
        request.seen.generation = generation
        request.seen.groups.add(group=group, index=index)
        return await refused(raw.accounts.ListAccounts(request, metadata=ann.metadata))

    for wrong in ((0, 1, 1), (0, 0, 1 << 63), (1 << 63, 0, 1)):
        code, text = await refusal_of(*wrong)
        assert code is Code.INVALID_ARGUMENT, wrong
        assert text.startswith("seen ")
    code, text = await refusal_of(1, 0, 1)
    assert (code, "before the cluster was restored" in text) == (Code.UNAVAILABLE, True)
