"""Whether a node that is no member here is believed.

What can go wrong: an invented id is believed, or one in another's name or with another key; a removed node is; nobody
who could vouch answers, and the node is believed; each message asks again; the table of answers grows without bound; a
joiner trusts the members of long ago; a certified caller with invented ids makes this node ask without end.
"""

from __future__ import annotations

import asyncio

import pytest
from structlog.testing import capture_logs

from parley_proto.v1 import peer_pb2 as pb
from parleyd.raft.types import NodeId
from parleyd.storage.identity import PeerInfo
from parleyd.transport.bootstrap import encode_peer_info
from parleyd.transport.vouching import MAX_VERDICTS, Vouching

ME = NodeId(1)
KEY, OTHER_KEY = b"k" * 32, b"o" * 32


def peer(number: int, name: str = "", key: bytes = KEY) -> PeerInfo:
    return PeerInfo(NodeId(number), name or f"n{number}", f"host{number}:1", f"host{number}:2", key_digest=key)


class Members:
    """The other members: what each of them answers, and how often they were asked."""

    def __init__(self, **answers: pb.DescribeMemberReply | None) -> None:
        self.answers = answers
        self.asked: list[tuple[str, NodeId]] = []
        self.vouching = Vouching(ME, self.ask)
        self.vouching.update([peer(1), peer(2), peer(3)])

    async def ask(self, voucher: PeerInfo, about: NodeId) -> pb.DescribeMemberReply | None:
        self.asked.append((voucher.name, about))
        return self.answers.get(voucher.name)

    async def believe(self, caller: PeerInfo, key: bytes = KEY) -> bool:
        return await self.vouching.is_believed(caller, key)


def knows(member: PeerInfo) -> pb.DescribeMemberReply:
    return pb.DescribeMemberReply(member=encode_peer_info(member))


async def test_a_node_is_believed_if_one_member_knows_its_id_name_and_key() -> None:
    members = Members(n2=None, n3=knows(peer(9)))
    assert await members.believe(peer(9))


async def test_another_id_another_name_another_key_and_silence_are_not_believed() -> None:
    assert not await Members(n2=knows(peer(9))).believe(peer(9, "n8"))
    assert not await Members(n2=knows(peer(9))).believe(peer(9), OTHER_KEY)
    assert not await Members(n2=pb.DescribeMemberReply(), n3=None).believe(peer(9))
    assert not await Members(n2=pb.DescribeMemberReply(removed=True)).believe(peer(9))
    assert not await Members().believe(peer(9))


async def test_without_published_keys_id_and_name_count() -> None:
    assert await Members(n2=knows(peer(9, key=b""))).believe(peer(9), b"")
    assert await Members(n2=knows(peer(9, key=b""))).believe(peer(9), KEY)
    assert not await Members(n2=knows(peer(9))).believe(peer(9), b"")


async def test_nobody_vouches_for_itself() -> None:
    members = Members(n9=knows(peer(9)))
    members.vouching.introduce([peer(9, "n8")])
    assert not await members.believe(peer(9))


async def test_an_answer_is_kept_for_a_time_and_asked_again_after_it(monkeypatch: object) -> None:
    members = Members(n2=knows(peer(9)), n3=None)
    for _ in range(3):
        assert await members.believe(peer(9))
    assert len(members.asked) == 2
    members.answers = {}
    members.vouching._believed = dict.fromkeys(members.vouching._believed, asyncio.get_running_loop().time())
    assert not await members.believe(peer(9))


async def test_the_answers_kept_are_bounded() -> None:
    members = Members()
    for number in range(100, 100 + 2 * MAX_VERDICTS):
        await members.believe(peer(number))
        members.answers = {"n2": knows(peer(number + 1000))}
        await members.believe(peer(number + 1000))
        members.answers = {}
    assert len(members.vouching._believed) == MAX_VERDICTS
    assert MAX_VERDICTS - 1 <= len(members.vouching._doubted) <= MAX_VERDICTS


async def test_a_certificate_that_nobody_vouches_for_is_asked_about_once_whatever_ids_it_invents() -> None:
    members = Members(n3=knows(peer(9)))
    with capture_logs() as logs:
        for number in range(100, 150):
            assert not await members.believe(peer(number, "mallory", OTHER_KEY), OTHER_KEY)
    assert len(members.asked) == 2, "each of the two members once"
    assert [line["event"] for line in logs] == ["unknown_node_checked"]
    assert await members.believe(peer(9)), "another certificate is asked about"


async def test_while_a_certificate_is_asked_about_nobody_asks_again(monkeypatch: pytest.MonkeyPatch) -> None:
    members, may_answer = Members(n2=knows(peer(9))), asyncio.Event()
    ask = members.ask

    async def slow(voucher: PeerInfo, about: NodeId) -> pb.DescribeMemberReply | None:
        await may_answer.wait()
        return await ask(voucher, about)

    monkeypatch.setattr(members.vouching, "_ask", slow)
    asking = asyncio.create_task(members.believe(peer(9)))
    await asyncio.sleep(0)
    assert not any([await members.believe(peer(number, "n9")) for number in range(9, 60)])
    may_answer.set()
    assert await asking
    assert {about for _, about in members.asked} == {9}
    assert await members.believe(peer(9))


async def test_a_joiner_believes_the_members_of_the_answer_until_its_own_log_has_it() -> None:
    members = Members(n7=knows(peer(8)))
    members.vouching.update([peer(2), peer(3)])  # the bootstrap members, long gone
    members.vouching.introduce([peer(7)])
    assert await members.believe(peer(7))
    assert not await members.believe(peer(7), OTHER_KEY)
    assert await members.believe(peer(8)), "a present member vouches for one that joined after the answer"
    members.vouching.update([peer(1), peer(2)])
    members.vouching.introduce([peer(7)])
    assert not await members.believe(peer(7))
