"""What a node counts of its service, for monitoring."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc.aio
import pytest

from parley_proto.v1 import accounts_pb2, admin_pb2
from parley_proto.v1 import messaging_pb2 as pb
from parleyd.api.admission import CallLimits
from parleyd.api.errors import REFUSALS, count_refusal
from parleyd.budgets import BoundReachedError
from parleyd.group.errors import NoRoomError, OverloadedError, TooManyReadsError
from parleyd.node_figures import REASONS
from parleyd.observability.figures import ServiceFigures, count_for
from tests.support.node import InProcessCluster, InProcessNode
from tests.support.raw import Raw, refused, until_so
from tests.unit.api.test_fetch import WAIT_MS, fetch, waiting

ACCEPTED = pb.SEND_STATUS_ACCEPTED


async def test_ended_calls_count_by_method_and_code(node: InProcessNode, raw: Raw) -> None:
    await raw.register("ann")
    await refused(raw.register("ann"))
    await refused(raw.accounts.ListAccounts(accounts_pb2.ListAccountsRequest()))
    ended = {
        ("/parley.v1.Accounts/Register", "OK"): 1,
        ("/parley.v1.Accounts/Register", "ALREADY_EXISTS"): 1,
        ("/parley.v1.Accounts/ListAccounts", "UNAUTHENTICATED"): 1,
    }
    await until_so(lambda: node.figures.calls == ended)  # a client may have its answer a moment before


async def test_a_method_that_does_not_exist_counts_nothing(node: InProcessNode, raw: Raw) -> None:
    """Strangers choose such names, and each would be a label."""
    for method in ("/parley.v1.Accounts/NoSuch", "/x/y"):
        call: Any = raw.channel.unary_unary(method)
        await refused(call(b""))
    assert node.figures.calls == {}


async def test_a_call_whose_client_leaves_counts_as_cancelled(node: InProcessNode, raw: Raw) -> None:
    """A stream may count as OK then: gRPC tells that its requests have ended, sometimes before that they never will."""
    await raw.register("ann")
    ann = await raw.log_in("ann")
    call = fetch(raw, ann, wait_ms=WAIT_MS)
    async with waiting(node, call):
        call.cancel()
    await until_so(lambda: ("/parley.v1.Messaging/Fetch", "CANCELLED") in node.figures.calls)


async def test_messages_count_when_they_are_accepted_and_for_each_device_when_they_are_handed_to_it(
    cluster: InProcessCluster, node: InProcessNode, raw: Raw
) -> None:
    for name in ("ann", "ben"):
        await raw.register(name)
    ann, ben = await raw.log_in("ann"), await raw.log_in("ben")
    async with raw.session(ann) as sending, raw.session(ben) as receiving:
        await receiving.until_caught_up()
        await sending.send((1, "ben", "x"), (2, "ben", "y"), (3, "nobody", "z"))
        assert [result.status for result in await sending.results(3)][:2] == [ACCEPTED, ACCEPTED]
        await receiving.messages(2)
    assert node.figures.accepted == 2
    assert node.figures.delivered == 2
    assert node.hub.stored == 2


@pytest.mark.parametrize(("fault", "reason"), [("no_majority", "no_majority"), ("overloaded", "commands")])
async def test_refused_messages_count_by_reason(node: InProcessNode, raw: Raw, fault: str, reason: str) -> None:
    for name in ("ann", "ben"):
        await raw.register(name)
    async with raw.session(await raw.log_in("ann")) as stream:
        setattr(node.faults, fault, True)
        await stream.send((1, "ben", "x"))
        await stream.results(1)
    assert node.figures.refusals == {reason: 1}
    assert node.figures.accepted == 0


async def test_a_call_beyond_the_bound_counts_and_the_places_show_the_bound(node: InProcessNode) -> None:
    await node.die()
    node.call_limits = CallLimits(calls=2)
    await node.start()
    assert node.places()["public_calls"] == (0, 1)
    async with grpc.aio.insecure_channel(node.address) as channel:
        node.faults.hang = True
        raw = Raw(channel)
        first = asyncio.ensure_future(raw.register("ann"))
        await until_so(lambda: node.places()["public_calls"] == (1, 1))
        await refused(raw.admin.GetStatus(admin_pb2.GetStatusRequest()))
        assert node.figures.refusals == {"calls": 1}
        first.cancel()
        await asyncio.wait([first])


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (NoRoomError("x"), "disk"),
        (TooManyReadsError("x"), "reads"),
        (OverloadedError("x"), "commands"),
        (BoundReachedError("x"), "calls"),
    ],
)
async def test_a_refusal_counts_as_the_most_special_kind_that_it_is(error: Exception, reason: str) -> None:
    figures = ServiceFigures()
    count_for(figures)
    count_refusal(error)
    count_refusal(ValueError())
    assert figures.refusals == {reason: 1}


def test_the_reasons_that_monitoring_shows_are_all_that_are_counted() -> None:
    assert {*REASONS} == {*REFUSALS.values(), "send_bytes"}
