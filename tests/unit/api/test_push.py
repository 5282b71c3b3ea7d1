"""Push applies numbered sends once each, however often they are pushed, and tells each time what became of them.

What can go wrong: the answer is lost; the call is cancelled while the log works; a number is missing or used for
something else; the files of the device were copied; no majority answers; too many bytes wait; a batch breaks the rules.
"""

from __future__ import annotations

import weakref
from typing import Any

import grpc
import pytest

from parley_proto.v1 import messaging_pb2 as pb
from parley_proto.v1 import model_pb2
from parleyd.api import admission
from parleyd.api.patience import write
from parleyd.budgets import ByteBudget, Shares
from tests.support.node import InProcessCluster, InProcessNode
from tests.support.raw import PASSWORD, Person, Raw, refused, until_so

Code = grpc.StatusCode
ACCEPTED, RETRY, GAP, REJECTED = (
    pb.SEND_STATUS_ACCEPTED,
    pb.SEND_STATUS_RETRY,
    pb.SEND_STATUS_GAP,
    pb.SEND_STATUS_REJECTED,
)
FORMER, PRESENT = (model_pb2.DeviceClaim(epoch=epoch, nonce=bytes([epoch]) * 16) for epoch in (1, 2))


@pytest.fixture
async def ann(cluster: InProcessCluster, raw: Raw) -> Person:
    cluster.add_account("ann", PASSWORD)
    cluster.add_account("ben", PASSWORD)
    return await raw.log_in("ann")


def push(raw: Raw, person: Person, *sends: tuple[int, str], claim: model_pb2.DeviceClaim | None = None) -> Any:
    """The call, which is awaited for its answer."""
    request = pb.PushRequest(
        sends=[model_pb2.Send(number=number, account_name="ben", body=body) for number, body in sends], claim=claim
    )
    return raw.messaging.Push(request, metadata=person.metadata, timeout=20)


def statuses(answer: pb.PushResponse) -> list[tuple[int, int]]:
    return [(result.number, result.status) for result in answer.results]


async def test_a_push_again_finds_the_first_results(cluster: InProcessCluster, raw: Raw, ann: Person) -> None:
    first = await push(raw, ann, (1, "one"), (2, "two"))
    assert statuses(first) == [(1, ACCEPTED), (2, ACCEPTED)]
    assert (first.last_send_number, first.position) == (2, cluster.position)
    again = await push(raw, ann, (1, "one"), (2, "two"), (3, "three"))
    assert list(again.results)[:2] == list(first.results)
    assert cluster.bodies_for("ben") == ["one", "two", "three"]


async def test_a_lost_answer_is_found_by_the_same_number(
    cluster: InProcessCluster, node: InProcessNode, raw: Raw, ann: Person
) -> None:
    node.faults.lose_answers = 1
    assert (await refused(push(raw, ann, (1, "one"))))[0] is Code.INTERNAL
    [result] = (await push(raw, ann, (1, "one"))).results
    assert (result.status, result.message_id) == (ACCEPTED, cluster.messages[0].id)
    assert cluster.bodies_for("ben") == ["one"]


async def test_a_cancelled_push_goes_on_and_gives_its_room_back(
    cluster: InProcessCluster, node: InProcessNode, raw: Raw, ann: Person
) -> None:
    node.faults.delay_s = 0.05
    call = push(raw, ann, (1, "one"))
    await until_so(lambda: node.stream_budgets.sends.in_use > 0)
    call.cancel()
    await until_so(lambda: node.stream_budgets.sends.in_use == 0)
    assert cluster.bodies_for("ben") == ["one"]
    assert statuses(await push(raw, ann, (1, "one"), (2, "two"))) == [(1, ACCEPTED), (2, ACCEPTED)]
    assert cluster.bodies_for("ben") == ["one", "two"]


async def test_numbers_keep_the_order_and_their_content(cluster: InProcessCluster, raw: Raw, ann: Person) -> None:
    gap = await push(raw, ann, (2, "two"), (3, "three"))
    assert (statuses(gap), gap.last_send_number) == ([(2, GAP), (3, GAP)], 0)
    await push(raw, ann, (1, "one"))
    [other] = (await push(raw, ann, (1, "something else"))).results
    assert (other.status, "another message" in other.detail) == (REJECTED, True)
    assert cluster.bodies_for("ben") == ["one"]


async def test_a_push_and_a_stream_share_the_numbers_and_neither_ends_the_other(
    cluster: InProcessCluster, raw: Raw, ann: Person
) -> None:
    async with raw.session(ann) as stream:
        assert statuses(await push(raw, ann, (1, "one"))) == [(1, ACCEPTED)]
        assert (await stream.send_surely(2, "ben", "two")).status == ACCEPTED
        assert statuses(await push(raw, ann, (2, "two"), (3, "three"))) == [(2, ACCEPTED), (3, ACCEPTED)]
    assert cluster.bodies_for("ben") == ["one", "two", "three"]


async def test_a_copy_of_the_devices_files_pushes_nothing(cluster: InProcessCluster, raw: Raw, ann: Person) -> None:
    await push(raw, ann, (1, "one"), claim=FORMER)
    await push(raw, ann, (2, "two"), claim=PRESENT)
    code, text = await refused(push(raw, ann, (3, "copied"), claim=FORMER))
    assert (code, "Another copy" in text) == (Code.ABORTED, True)
    assert statuses(await push(raw, ann, (3, "three"), claim=PRESENT)) == [(3, ACCEPTED)]
    assert cluster.bodies_for("ben") == ["one", "two", "three"]


async def test_what_the_cluster_does_not_confirm_is_pushed_again(
    cluster: InProcessCluster, node: InProcessNode, raw: Raw, ann: Person
) -> None:
    node.faults.no_majority = True
    answer = await push(raw, ann, (1, "one"))
    assert (statuses(answer), answer.last_send_number) == ([(1, RETRY)], 0)
    assert "with the same number" in answer.results[0].detail
    node.faults.no_majority = False
    assert statuses(await push(raw, ann, (1, "one"))) == [(1, ACCEPTED)]


async def test_a_push_without_room_takes_nothing(
    cluster: InProcessCluster, node: InProcessNode, raw: Raw, ann: Person
) -> None:
    sends = node.stream_budgets.sends
    assert isinstance(sends, ByteBudget)
    sends._shares = Shares(node=100, account=100, device=100)
    answer = await push(raw, ann, (1, "x" * 200))
    assert (statuses(answer), "too many bytes" in answer.results[0].detail) == ([(1, RETRY)], True)
    assert (cluster.bodies_for("ben"), sends.in_use) == ([], 0)


async def test_the_longest_message_fits_and_a_larger_request_is_refused(
    cluster: InProcessCluster, raw: Raw, ann: Person
) -> None:
    cluster.change_setting("max_message_bytes", 1 << 20)
    assert statuses(await push(raw, ann, (1, "x" * (1 << 20)))) == [(1, ACCEPTED)]
    code, text = await refused(push(raw, ann, (2, "x" * (1 << 20)), (3, "x" * 70_000)))
    assert (code, "Nothing was changed" in text) == (Code.INVALID_ARGUMENT, True)
    assert len(cluster.bodies_for("ben")) == 1


@pytest.mark.parametrize(
    ("request_", "text"),
    [
        (pb.PushRequest(), "holds 0 messages"),
        (pb.PushRequest(sends=[model_pb2.Send(number=n) for n in range(1, 1026)]), "holds 1025 messages"),
        (pb.PushRequest(sends=[model_pb2.Send(number=2), model_pb2.Send(number=1)]), "must be 1 or more and rise"),
        (pb.PushRequest(sends=[model_pb2.Send()]), "must be 1 or more and rise"),
        (pb.PushRequest(sends=[model_pb2.Send(number=1)], claim=model_pb2.DeviceClaim(epoch=1)), "claim.nonce"),
    ],
    ids=["empty", "many", "falling", "zero", "claim"],
)
async def test_a_batch_that_breaks_the_rules_is_refused_as_a_whole(
    cluster: InProcessCluster, raw: Raw, ann: Person, request_: pb.PushRequest, text: str
) -> None:
    index = cluster.index
    code, told = await refused(raw.messaging.Push(request_, metadata=ann.metadata))
    assert (code, text in told, cluster.index) == (Code.INVALID_ARGUMENT, True, index)


class Noted:
    """A request that can be seen to be gone."""

    def __init__(self, request: pb.PushRequest) -> None:
        self._request = request

    def __getattr__(self, name: str) -> Any:
        return getattr(self._request, name)


async def test_the_messages_of_a_push_are_not_kept_until_its_answer_is_read(
    monkeypatch: pytest.MonkeyPatch, raw: Raw, ann: Person
) -> None:
    read = admission.AdmissionInterceptor._read
    requests: list[weakref.ref[Noted]] = []
    kept: list[bool] = []

    async def noted(self: admission.AdmissionInterceptor, *args: Any) -> Any:
        request = Noted(await read(self, *args))
        requests.append(weakref.ref(request))
        return request

    async def observed(*args: Any) -> None:
        kept.append(requests[-1]() is not None)
        await write(*args)

    monkeypatch.setattr(admission.AdmissionInterceptor, "_read", noted)
    monkeypatch.setattr(admission, "write", observed)
    await push(raw, ann, (1, "one"))
    assert kept == [False]
