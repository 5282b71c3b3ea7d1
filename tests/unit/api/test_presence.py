"""Who is listed as connected, who is hidden, and what a page costs."""

from __future__ import annotations

import grpc
import pytest

from parley_proto.v1 import accounts_pb2 as pb
from parley_proto.v1 import messaging_pb2, peer_pb2
from parleyd.presence.presence import Presence
from parleyd.raft.types import NodeId
from tests.support.node import InProcessCluster, InProcessNode
from tests.support.raw import PASSWORD, Person, Raw, refused, until_so, until_true


async def people(cluster: InProcessCluster, raw: Raw, *names: str) -> list[Person]:
    for name in names:
        cluster.add_account(name, PASSWORD)
    return [await raw.log_in(name) for name in names]


async def connected(raw: Raw, person: Person, **fields: int) -> pb.ListConnectedResponse:
    request = pb.ListConnectedRequest()
    for field, value in fields.items():
        setattr(request, field, value)
    return await raw.presence.ListConnected(request, metadata=person.metadata, timeout=10)


def names(answer: pb.ListConnectedResponse) -> list[str]:
    return [one.account.name for one in answer.accounts]


async def test_an_account_is_listed_while_it_has_a_stream(
    cluster: InProcessCluster, node: InProcessNode, raw: Raw
) -> None:
    ann, ben = await people(cluster, raw, "ann", "ben")
    assert names(await connected(raw, ann)) == []
    async with raw.session(ben):
        answer = await connected(raw, ann)
        assert names(answer) == ["ben"]
        assert answer.accounts[0].since_ms > 0
        assert [(one.name, one.clients, one.heard) for one in answer.nodes] == [(node.name, 1, True)]
        assert (answer.clients, answer.hidden) == (1, False)
    await until_so(lambda: node.hub.connected == 0)
    answer = await connected(raw, ann)
    assert (names(answer), answer.clients) == ([], 0)


async def test_an_account_is_away_while_all_its_streams_say_so(
    cluster: InProcessCluster, node: InProcessNode, raw: Raw
) -> None:
    ann, ben = await people(cluster, raw, "ann", "ben")
    other_device = await raw.log_in("ben")

    async def until_away(*, away: bool) -> None:
        async def check() -> None:
            assert [one.away for one in (await connected(raw, ann)).accounts] == [away]

        await until_true(check)

    async with raw.session(ben) as stream:
        assert stream.welcome.takes_away
        await until_away(away=False)
        await stream.write(messaging_pb2.ClientFrame(away=messaging_pb2.Away(away=True)))
        await until_away(away=True)
        async with raw.session(other_device):
            await until_away(away=False)
        await until_so(lambda: node.hub.connected == 1)
        await until_away(away=True)
        await stream.write(messaging_pb2.ClientFrame(away=messaging_pb2.Away()))
        await until_away(away=False)
        await stream.write(messaging_pb2.ClientFrame(away=messaging_pb2.Away(away=True)))
        await until_away(away=True)
    await until_so(lambda: node.hub.connected == 0)
    async with raw.session(ben):
        await until_away(away=False)


async def test_a_hidden_account_counts_and_only_itself_sees_it_listed(cluster: InProcessCluster, raw: Raw) -> None:
    boss, ben = await people(cluster, raw, "boss", "ben")
    cluster.rewrite(("UPDATE accounts SET role = 1 WHERE name = 'boss'", ()))
    await raw.presence.SetHidden(pb.SetHiddenRequest(hidden=True), metadata=ben.metadata)
    async with raw.session(ben), raw.session(boss):
        answer = await connected(raw, boss)
        assert (names(answer), answer.clients, answer.hidden) == (["boss"], 2, False)
        own = await connected(raw, ben)
        assert (names(own), own.hidden) == (["boss", "ben"], True)
        await raw.presence.SetHidden(pb.SetHiddenRequest(hidden=False), metadata=ben.metadata)
        assert names(await connected(raw, boss)) == ["boss", "ben"]


async def test_pages_go_on_where_the_last_one_ended_and_name_no_account_that_hides(
    cluster: InProcessCluster, raw: Raw
) -> None:
    ann, ben, eve = await people(cluster, raw, "ann", "ben", "eve")
    await raw.presence.SetHidden(pb.SetHiddenRequest(hidden=True), metadata=ben.metadata)
    async with raw.session(ann), raw.session(ben), raw.session(eve):
        pages, after, named = [], 0, set()
        while True:
            answer = await connected(raw, ann, page_size=1, after_account_id=after)
            pages.append(names(answer))
            after = answer.next_after_account_id
            named.add(after)
            if not after:
                break
        assert pages == [["ann"], ["eve"]]
        assert named == {ann.id, 0}, "not even by the place where the next page begins"


async def test_one_page_passes_over_any_number_of_hidden_accounts(
    cluster: InProcessCluster, node: InProcessNode, raw: Raw
) -> None:
    ann, ben, eve = await people(cluster, raw, "ann", "ben", "eve")
    hidden = range(eve.id + 1, 3_000)
    values = ", ".join(f"({one})" for one in (eve.id, *hidden))
    cluster.rewrite((f"INSERT INTO hidden_accounts(account_id) VALUES {values}", ()))
    cluster.add_account("zoe", PASSWORD)
    cluster.rewrite(("UPDATE accounts SET id = 4000 WHERE name = 'zoe'", ()))
    for one in (ben.id, eve.id, *hidden, 4_000):
        node.clients.client_connected(one)
    answer = await connected(raw, ann, page_size=1, after_account_id=ben.id)
    assert (names(answer), answer.next_after_account_id) == (["zoe"], 0)


async def test_a_deleted_account_is_not_listed_although_a_node_still_reports_it(
    cluster: InProcessCluster, node: InProcessNode, raw: Raw
) -> None:
    ann, ben = await people(cluster, raw, "ann", "ben")
    node.clients.client_connected(ben.id)
    node.clients.client_connected(999)
    assert names(await connected(raw, ann)) == ["ben"], "an account that this node does not know has no name yet"
    await raw.accounts.DeleteAccount(pb.DeleteAccountRequest(password=PASSWORD), metadata=ben.metadata)
    assert names(await connected(raw, ann)) == []


async def test_the_stream_of_a_closed_session_leaves_the_list(
    cluster: InProcessCluster, node: InProcessNode, raw: Raw
) -> None:
    ann, ben = await people(cluster, raw, "ann", "ben")
    async with raw.session(ben):
        await raw.accounts.LogOut(pb.LogOutRequest(), metadata=ben.metadata)
        await until_so(lambda: node.hub.connected == 0)
        assert names(await connected(raw, ann)) == []


@pytest.mark.parametrize("fields", [{"page_size": 1001}, {"after_account_id": 1 << 63}])
async def test_impossible_pages_are_refused(cluster: InProcessCluster, raw: Raw, fields: dict[str, int]) -> None:
    [ann] = await people(cluster, raw, "ann")
    status, _ = await refused(connected(raw, ann, **fields))
    assert status is grpc.StatusCode.INVALID_ARGUMENT


async def presence(raw: Raw, person: Person, *account_ids: int) -> list[pb.AccountPresence]:
    request = pb.GetPresenceRequest(account_ids=account_ids)
    return [*(await raw.presence.GetPresence(request, metadata=person.metadata, timeout=10)).accounts]


async def test_of_each_account_is_told_whether_it_is_here_away_or_when_it_was_last(
    cluster: InProcessCluster, node: InProcessNode, raw: Raw
) -> None:
    ann, ben = await people(cluster, raw, "ann", "ben")
    [never] = await presence(raw, ann, ben.id)
    assert (never.state, never.since_ms, never.last_seen_ms) == (pb.PRESENCE_STATE_OFFLINE, 0, 0)
    async with raw.session(ben) as stream:
        own, here = await presence(raw, ann, ann.id, ben.id)
        assert (own.account_id, own.state) == (ann.id, pb.PRESENCE_STATE_OFFLINE)
        assert (here.account_id, here.state, here.last_seen_ms) == (ben.id, pb.PRESENCE_STATE_ONLINE, 0)
        assert here.since_ms > 0
        await stream.write(messaging_pb2.ClientFrame(away=messaging_pb2.Away(away=True)))

        async def is_away() -> None:
            [found] = await presence(raw, ann, ben.id)
            assert (found.state, found.since_ms // 1000) == (pb.PRESENCE_STATE_AWAY, here.since_ms // 1000)

        await until_true(is_away)
    await until_so(lambda: node.hub.connected == 0)
    [gone] = await presence(raw, ann, ben.id)
    assert (gone.state, gone.since_ms) == (pb.PRESENCE_STATE_OFFLINE, 0)
    assert gone.last_seen_ms >= here.since_ms


async def test_an_account_that_hides_looks_like_one_that_was_never_there(
    cluster: InProcessCluster, node: InProcessNode, raw: Raw
) -> None:
    ann, ben, eve = await people(cluster, raw, "ann", "ben", "eve")
    await raw.presence.SetHidden(pb.SetHiddenRequest(hidden=True), metadata=ben.metadata)
    unknown = eve.id + 1
    async with raw.session(ben), raw.session(eve):
        await raw.accounts.DeleteAccount(pb.DeleteAccountRequest(password=PASSWORD), metadata=eve.metadata)
        for one in await presence(raw, ann, ben.id, eve.id, unknown):
            assert one == pb.AccountPresence(account_id=one.account_id, state=pb.PRESENCE_STATE_OFFLINE)
        [own] = await presence(raw, ben, ben.id)
        assert own.state == pb.PRESENCE_STATE_ONLINE
    await until_so(lambda: node.hub.connected == 0)
    [gone] = await presence(raw, ann, ben.id)
    assert gone.last_seen_ms == 0


@pytest.mark.parametrize("ids", [[], [1 << 63], [1] * 257])
async def test_impossible_questions_about_presence_are_refused(
    cluster: InProcessCluster, raw: Raw, ids: list[int]
) -> None:
    [ann] = await people(cluster, raw, "ann")
    status, _ = await refused(presence(raw, ann, *ids))
    assert status is grpc.StatusCode.INVALID_ARGUMENT


class Known:
    """One other member, whose link is up."""

    def is_member(self, _: NodeId) -> bool:
        return True

    def connected(self, _: NodeId) -> bool:
        return True


def test_a_page_of_ten_thousand_reported_accounts_has_what_was_asked_for() -> None:
    presence = Presence(NodeId(1), 1, Known())
    ids = range(1, 10_001)
    for start in range(0, 10_000, 4_000):
        part = ids[start : start + 4_000]
        report = peer_pb2.PresenceReport(
            epoch=2, sequence=start // 4_000 + 1, begins=start == 0, online=part, online_s=[0] * len(part)
        )
        presence.received(NodeId(2), report, 0.0)
    page = presence.page(9_000, 3, 0.0)
    assert [one.account_id for one in page] == [9_001, 9_002, 9_003]
