"""Members come and go while the cluster serves: growth, replacement, removal, hand-over, and everything cut short."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import pytest

from parley_proto.v1 import admin_pb2, admin_pb2_grpc
from parley_proto.v1.messaging_pb2 import SEND_STATUS_ACCEPTED
from parleyd.exits import ExitCode
from parleyd.machine.levels import NODE_KEYS_LEVEL
from scripts.cluster_layout import Layout, Settings, create_layout, plan_private_nodes
from scripts.cluster_local import LocalCluster
from scripts.cluster_process import ROOT
from tests.cluster.conftest import FAST
from tests.cluster.raw import PASSWORD, Person, Raw, eventually, raw_client, refused, until_true

pytestmark = pytest.mark.asyncio

ANSWER_S = 15.0
TRANSFER_ATTEMPTS = 4
PRECONDITION = grpc.StatusCode.FAILED_PRECONDITION


def give_table(layout: Layout, name: str, table: str, members: list[str]) -> None:
    """Let one node's settings say whom it bootstraps a cluster with ([peers]) or which one it joins ([join])."""
    file = layout.config_file(name)
    settings = file.read_text().partition(f"[{'peers' if '[peers]' in file.read_text() else 'join'}]")[0]
    rows = [f"{member} = {json.dumps(layout.node(member).peer_address)}" for member in members]
    if table == "join" and "join_token_file" not in settings:
        settings = f"join_token_file = {json.dumps(str(token_file(layout, name)))}\n{settings}"
    file.write_text("\n".join([settings, f"[{table}]", *rows, ""]))


def token_file(layout: Layout, name: str) -> Path:
    """Where a node that joins finds its token, once somebody has written it there."""
    return layout.folder(name) / "join-token"


async def invite(cluster: LocalCluster, asked: str, person: Person, *names: str) -> None:
    """Give new nodes tokens, one each."""
    async with operator_at(cluster, asked, person) as operator:
        for name in names:
            token_file(cluster.layout, name).write_text(await operator.invite() + "\n")


@asynccontextmanager
async def running(
    root: Path, *, bootstrap_members: int, joiners: int = 0, settings: Settings | None = None
) -> AsyncIterator[LocalCluster]:
    """A cluster of its first members, and settings for more nodes that may join."""
    layout = create_layout(root, plan_private_nodes(bootstrap_members + joiners), {**FAST, **(settings or {})})
    first, later = list(layout.names[:bootstrap_members]), layout.names[bootstrap_members:]
    for name in first:
        give_table(layout, name, "peers", first)
    for name in later:
        give_table(layout, name, "join", first)
    async with LocalCluster(root, start=False) as cluster:
        cluster.start(*first)
        await cluster.wait_until_answering(*first)
        yield cluster


class Operator:
    """An administrator, asking one node."""

    def __init__(self, raw: Raw, person: Person) -> None:
        self._stub = admin_pb2_grpc.AdminStub(raw.channel)
        self._metadata = person.metadata

    async def _change(
        self, ask: Callable[[], Awaitable[admin_pb2.ClusterChangeResponse]]
    ) -> admin_pb2.ClusterChangeResponse:
        """Repeat a change, as its text advises, while its outcome is unknown: a starved leader loses its leadership."""
        return await eventually(ask, while_it_says=(grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.ABORTED))

    async def remove(self, name: str, *, force: bool = False) -> admin_pb2.ClusterChangeResponse:
        """Remove a member."""
        request = admin_pb2.RemoveMemberRequest(name=name, force=force)
        return await self._change(lambda: self._stub.RemoveMember(request, metadata=self._metadata, timeout=ANSWER_S))

    async def invite(self) -> str:
        """Return a join token; the first entries of a new cluster raise its level first."""

        async def ask() -> str:
            return (
                await self._stub.InviteNode(admin_pb2.InviteNodeRequest(), metadata=self._metadata, timeout=ANSWER_S)
            ).token

        token = ""

        async def is_given() -> None:
            nonlocal token
            try:
                token = await eventually(ask)
            except grpc.aio.AioRpcError as error:
                raise AssertionError(error.details()) from error

        await until_true(is_given, timeout_s=15)
        return token

    async def promote(self, name: str) -> admin_pb2.ClusterChangeResponse:
        """Make a learner a voter."""
        request = admin_pb2.PromoteMemberRequest(name=name)
        return await self._change(lambda: self._stub.PromoteMember(request, metadata=self._metadata, timeout=ANSWER_S))

    async def add(self, name: str, address: str) -> admin_pb2.ClusterChangeResponse:
        """Add a node that waits."""
        request = admin_pb2.AddMemberRequest(name=name, peer_address=address)
        return await self._change(lambda: self._stub.AddMember(request, metadata=self._metadata, timeout=ANSWER_S))

    async def transfer(self, name: str = "") -> admin_pb2.ClusterChangeResponse:
        """Hand leadership over."""
        request = admin_pb2.TransferLeadershipRequest(name=name)

        async def transfer() -> admin_pb2.ClusterChangeResponse:
            for _ in range(TRANSFER_ATTEMPTS - 1):
                try:
                    return await self._stub.TransferLeadership(request, metadata=self._metadata, timeout=ANSWER_S)
                except grpc.aio.AioRpcError as error:
                    if "in time" not in (error.details() or ""):  # a node waited for a processor, and did not win
                        raise
            return await self._stub.TransferLeadership(request, metadata=self._metadata, timeout=ANSWER_S)

        return await eventually(transfer)

    async def set_administrator(self, account: str, *, administrator: bool) -> admin_pb2.SetAdministratorResponse:
        """Grant or revoke."""
        request = admin_pb2.SetAdministratorRequest(account=account, administrator=administrator)
        return await eventually(lambda: self._stub.SetAdministrator(request, metadata=self._metadata, timeout=ANSWER_S))


async def first_person(cluster: LocalCluster, raw: Raw, name: str = "ann") -> Person:
    """An administrator, logged in."""
    await raw.register(name, code=await cluster.administrator_code())
    return await raw.log_in(name)


async def until_members(cluster: LocalCluster, asked: str, voters: set[str], learners: set[str] | None = None) -> None:
    """Until `asked` says that exactly these are voters and learners, with no change half done."""
    expected = voters, learners or set()

    async def as_expected() -> None:
        status = await cluster.status(asked)
        found = None
        if status is not None and not status.joint:
            found = {m.name for m in status.members if m.voter}, {m.name for m in status.members if m.learner}
        assert found == expected, f"{status}\n{cluster.tail(asked)}"

    await until_true(as_expected, timeout_s=30)


async def a_leader(cluster: LocalCluster) -> str:
    """Whoever leads, also where not all nodes of the layout run."""
    views = await cluster.wait_for_views(
        lambda views: any(view.role == "leader" and view.serving for view in views), "a leader"
    )
    return next(view.name for view in views if view.role == "leader" and view.serving)


async def talk(cluster: LocalCluster, node: str, person: Person, count: int = 5) -> None:
    """Messages go through this node."""
    async with raw_client(cluster, node) as raw, raw.session(person) as stream:
        first = stream.welcome.last_send_number + 1
        for number in range(first, first + count):
            sent = await stream.send_surely(number, person.name, f"{number}")
            assert sent.status == SEND_STATUS_ACCEPTED


@asynccontextmanager
async def operator_at(cluster: LocalCluster, node: str, person: Person) -> AsyncIterator[Operator]:
    """The administrator, asking this node."""
    async with raw_client(cluster, node) as raw:
        yield Operator(raw, person)


async def until_logged(cluster: LocalCluster, name: str, text: str) -> None:
    """Until a node's log says so."""
    await cluster.wait_until(lambda: text in cluster.log_text(name), f"{name} to say {text!r}")


def wipe(cluster: LocalCluster, name: str) -> None:
    """Lose a node's disk."""
    shutil.rmtree(cluster.layout.data_dir(name))


async def test_one_node_grows_to_three_with_messages_flowing_and_shrinks_back_to_one(tmp_path: Path) -> None:
    async with running(tmp_path, bootstrap_members=1, joiners=2) as cluster:
        async with raw_client(cluster, "n1") as raw:
            ann = await first_person(cluster, raw)
            await invite(cluster, "n1", ann, "n2", "n3")
            cluster.start("n2", "n3")
            talking = asyncio.create_task(talk(cluster, "n1", ann, 100))
            await until_members(cluster, "n1", {"n1", "n2", "n3"})
            await talking
            await cluster.wait_until_equal()
            async with raw.session(ann) as stream:
                told = stream.welcome.status
                while {node.client_address for node in told.nodes} != set(cluster.hosts):
                    told = (await stream.next("status")).status
        leader = await cluster.wait_for_leader()
        cluster.kill(leader)
        await cluster.wait_for_leader(other_than=leader)
        await talk(cluster, cluster.others(leader)[0], ann)
        cluster.start(leader)
        await cluster.wait_until_equal()
        async with operator_at(cluster, "n1", ann) as operator:
            for name, left in (("n3", {"n1", "n2"}), ("n2", {"n1"})):
                await operator.remove(name)
                await until_members(cluster, "n1", left)
                await until_logged(cluster, name, "node_removed")
            code, text = await refused(operator.remove("n1"))
            assert (code, "only voter" in text) == (PRECONDITION, True)
        await talk(cluster, "n1", ann)
        assert (await cluster.stop("n1")) == 0
        assert "leadership_transfer_timed_out" not in cluster.log_text("n1").rpartition("shutdown_started")[2]


async def test_a_fourth_and_a_fifth_join_under_load_while_the_leader_is_killed(tmp_path: Path) -> None:
    async with running(tmp_path, bootstrap_members=3, joiners=2) as cluster:
        leader = await a_leader(cluster)
        node = next(name for name in ("n1", "n2", "n3") if name != leader)
        async with raw_client(cluster, node) as raw:
            ann = await first_person(cluster, raw)
        talking = asyncio.create_task(talk(cluster, node, ann, 400))
        await invite(cluster, node, ann, "n4", "n5")
        cluster.start("n4", "n5")
        await until_logged(cluster, "n4", "cluster_joined")
        cluster.kill(leader)
        everybody = set(cluster.names)
        await until_members(cluster, node, everybody)
        cluster.start(leader)
        await talking
        await cluster.wait_until_equal()
        async with raw_client(cluster, "n5") as raw:
            assert len(await raw.history(ann, "ann")) == 400


async def test_the_leader_is_removed_and_left_running_disturbs_nobody(tmp_path: Path) -> None:
    async with running(tmp_path, bootstrap_members=3) as cluster:
        leader = await a_leader(cluster)
        node, other = cluster.others(leader)
        async with raw_client(cluster, node) as raw:
            ann = await first_person(cluster, raw)
            async with operator_at(cluster, node, ann) as operator:
                await operator.remove(leader)
                await operator.remove(leader)  # again, as somebody would whose first answer was lost
            await until_members(cluster, node, {node, other})
            await until_logged(cluster, leader, "node_removed")
            before = await cluster.status(node)
            await talk(cluster, node, ann, 200)
            after = await cluster.status(node)
        assert before is not None
        assert after is not None
        assert (after.term, after.leader) == (before.term, before.leader)
        gone = await cluster.status(leader)
        assert gone is not None
        assert (gone.removed, gone.serving) == (True, False)
        # Started again it learns the same from its log or from the others, and still disturbs nobody.
        cluster.kill(leader)
        cluster.start(leader)
        await cluster.wait_until(
            lambda: cluster.log_text(leader).count("node_removed") == 2, f"{leader} to learn it again"
        )
        final = await cluster.status(node)
        assert final is not None
        assert final.term == after.term


async def test_the_leader_that_is_asked_for_its_own_removal_tells_the_truth_at_once(tmp_path: Path) -> None:
    async with running(tmp_path, bootstrap_members=3) as cluster:
        leader = await a_leader(cluster)
        async with raw_client(cluster, leader) as raw:
            ann = await first_person(cluster, raw)
            request = admin_pb2.RemoveMemberRequest(name=leader)
            stub = admin_pb2_grpc.AdminStub(raw.channel)
            for _ in range(2):  # asked again, the removed node still knows what became of it
                await stub.RemoveMember(request, metadata=ann.metadata, timeout=9)
            other = cluster.others(leader)[0]
            code, text = await refused(
                stub.RemoveMember(admin_pb2.RemoveMemberRequest(name=other), metadata=ann.metadata, timeout=9)
            )
        assert (code, "was removed from the cluster" in text) == (grpc.StatusCode.UNAVAILABLE, True)
        await until_members(cluster, other, set(cluster.others(leader)))


async def test_who_stays_of_two_needs_nothing_of_the_removed_leader_once_its_removal_is_told(tmp_path: Path) -> None:
    async with running(tmp_path, bootstrap_members=2) as cluster:
        leader = await a_leader(cluster)
        (other,) = cluster.others(leader)
        async with raw_client(cluster, other) as raw:
            ann = await first_person(cluster, raw)
            await talk(cluster, other, ann, 50)
            async with operator_at(cluster, other, ann) as operator:
                await operator.remove(leader)
        # docs/adr/0006: destroyed as soon as the removal is told, and the other dies before it can do anything more.
        cluster.kill(leader, other)
        wipe(cluster, leader)
        cluster.start(other)
        await until_members(cluster, other, {other})
        assert await a_leader(cluster) == other
        async with raw_client(cluster, other) as raw:
            assert len(await raw.history(ann, "ann")) == 50


async def test_a_wiped_member_is_refused_until_it_is_removed_and_then_rejoins_with_the_same_name(
    tmp_path: Path,
) -> None:
    settings = {"log_retain_entries": 100}  # so that it needs a snapshot
    async with running(tmp_path, bootstrap_members=3, settings=settings) as cluster:
        leader = await a_leader(cluster)
        lost, kept = cluster.others(leader)
        async with raw_client(cluster, kept) as raw:
            ann = await first_person(cluster, raw)
            await talk(cluster, kept, ann, 400)
        cluster.kill(lost)
        wipe(cluster, lost)
        give_table(cluster.layout, lost, "join", [leader, kept])
        cluster.start(lost)
        assert await cluster.wait_for_exit(lost) == ExitCode.STORAGE
        assert f"parley cluster remove {lost}" in cluster.tail(lost)
        async with operator_at(cluster, kept, ann) as operator:
            await operator.remove(lost)
        await invite(cluster, kept, ann, lost)
        cluster.start(lost)
        await until_members(cluster, kept, set(cluster.names))
        await cluster.wait_until_equal()
        async with raw_client(cluster, lost) as raw:
            assert len(await raw.history(ann, "ann")) == 400
        # What it was told must last.
        cluster.kill(lost)
        cluster.start(lost)
        await cluster.wait_until_equal()


async def test_a_joiner_killed_at_any_moment_goes_on_when_it_is_started_again(tmp_path: Path) -> None:
    async with running(tmp_path, bootstrap_members=1, joiners=1) as cluster:
        async with raw_client(cluster, "n1") as raw:
            ann = await first_person(cluster, raw)
            await talk(cluster, "n1", ann, 50)
        await invite(cluster, "n1", ann, "n2")
        data = cluster.layout.data_dir("n2")
        cluster.kill("n1")
        moments: list[Callable[[], bool]] = [
            lambda: "join_pending" in cluster.log_text("n2"),  # drew its incarnation, knows no cluster
            (data / "raft.sqlite").exists,  # was told the cluster, is making its files
            # Wrote its identity, now or just before it was killed, which no line of the log may tell.
            lambda: any(event in cluster.log_text("n2") for event in ("cluster_joined", "serving_started")),
        ]
        for number, reached in enumerate(moments):
            cluster.start("n2")
            await cluster.wait_until(reached, f"moment {number}")
            cluster.kill("n2")
            if number == 0:
                cluster.start("n1")
                await cluster.wait_until_answering("n1")
        cluster.start("n2")
        await until_members(cluster, "n1", {"n1", "n2"})
        await cluster.wait_until_equal()
        await talk(cluster, "n2", ann)


async def test_leadership_goes_to_the_node_that_was_named_whoever_is_asked(tmp_path: Path) -> None:
    async with running(tmp_path, bootstrap_members=3) as cluster:
        leader = await a_leader(cluster)
        target, asked = cluster.others(leader)
        async with raw_client(cluster, asked) as raw:
            ann = await first_person(cluster, raw)
            await raw.register("ben")
            ben = await raw.log_in("ben")
        async with operator_at(cluster, asked, ann) as operator:
            assert (await operator.transfer(target)).leader == target
            assert (await operator.transfer(target)).leader == target
            assert (await operator.transfer()).leader != target
            code, _ = await refused(operator.transfer("n9"))
            assert code is grpc.StatusCode.NOT_FOUND
        async with operator_at(cluster, asked, ben) as other:
            code, text = await refused(other.transfer(target))
            assert (code, "parley cluster grant ben" in text) == (grpc.StatusCode.PERMISSION_DENIED, True)
            async with operator_at(cluster, target, ann) as operator:
                await operator.set_administrator("ben", administrator=True)
            assert (await other.transfer(target)).leader == target
            await other.set_administrator("ann", administrator=False)
            code, text = await refused(other.set_administrator("ben", administrator=False))
            assert (code, "only administrator" in text) == (PRECONDITION, True)
        await cluster.wait_until_equal()


async def test_a_node_that_lags_believes_a_leader_that_it_does_not_know_because_a_member_vouches(
    tmp_path: Path,
) -> None:
    async with running(tmp_path, bootstrap_members=3, joiners=1) as cluster:
        leader = await a_leader(cluster)
        asleep, kept = cluster.others(leader)[:2]
        async with raw_client(cluster, kept) as raw:
            ann = await first_person(cluster, raw)
        await invite(cluster, kept, ann, "n4")
        cluster.kill(asleep)
        cluster.start("n4")
        await until_members(cluster, kept, {"n1", "n2", "n3", "n4"})
        async with operator_at(cluster, kept, ann) as operator:
            assert (await operator.transfer("n4")).leader == "n4"
        cluster.start(asleep)
        await cluster.wait_until_equal()
        assert '"believed": true' in cluster.log_text(asleep)


async def test_a_node_joins_where_all_first_members_are_gone(tmp_path: Path) -> None:
    async with running(tmp_path, bootstrap_members=1, joiners=3) as cluster:
        async with raw_client(cluster, "n1") as raw:
            ann = await first_person(cluster, raw)
        await invite(cluster, "n1", ann, "n2", "n3", "n4")
        cluster.start("n2", "n3")
        await until_members(cluster, "n1", {"n1", "n2", "n3"})
        async with operator_at(cluster, "n2", ann) as operator:
            await operator.remove("n1")
        await until_members(cluster, "n2", {"n2", "n3"})
        cluster.kill("n1")
        wipe(cluster, "n1")
        give_table(cluster.layout, "n4", "join", ["n2", "n3"])
        cluster.start("n4")
        for name in ("n2", "n4"):
            await until_members(cluster, name, {"n2", "n3", "n4"})


async def test_a_node_that_moves_alone_announces_its_new_address_and_comes_back(tmp_path: Path) -> None:
    async with running(tmp_path, bootstrap_members=3) as cluster:
        leader = await a_leader(cluster)
        moved, other = cluster.others(leader)
        file = cluster.layout.config_file(moved)
        old = cluster.layout.node(moved).peer_address
        new = f"{old.rpartition(':')[0]}:{int(old.rpartition(':')[2]) + 500}"
        cluster.kill(moved)
        file.write_text(file.read_text().replace(old, new))  # where it listens, and its own entry among the peers
        cluster.start(moved)

        async def is_known() -> None:
            for asked in (leader, other):
                status = await cluster.status(asked)
                assert status is not None
                found = next(member for member in status.members if member.name == moved)
                assert (found.peer_address, found.connected) == (new, True)

        await until_true(is_known, timeout_s=30)
        await cluster.wait_until_equal()


async def until_level(cluster: LocalCluster, asked: str, level: int) -> None:
    """Until the cluster has the level."""

    async def has_level() -> None:
        status = await cluster.status(asked)
        assert status is not None
        assert status.level >= level

    await until_true(has_level, timeout_s=15)


async def test_a_removed_key_and_name_come_back_only_when_an_administrator_says_so(tmp_path: Path) -> None:
    async with running(tmp_path, bootstrap_members=3) as cluster:
        leader = await a_leader(cluster)
        gone, kept = cluster.others(leader)
        await until_level(cluster, leader, NODE_KEYS_LEVEL)
        async with raw_client(cluster, kept) as raw:
            ann = await first_person(cluster, raw)
        async with operator_at(cluster, kept, ann) as operator:
            await operator.remove(gone)
            cluster.kill(gone)
            wipe(cluster, gone)  # a new id, with the key and the name of before
            give_table(cluster.layout, gone, "join", [leader, kept])
            cluster.start(gone)
            await cluster.wait_until(
                lambda: f"{gone}, or the key of its certificate, was removed" in cluster.log_text(gone), "the reason"
            )
            await until_members(cluster, kept, {leader, kept})
            token_file(cluster.layout, gone).write_text("A" * 43)
            await operator.add(gone, cluster.layout.node(gone).peer_address)
            await until_members(cluster, kept, set(cluster.names))
        await cluster.wait_until_equal()


async def test_a_node_that_nobody_admitted_is_told_how_it_is_admitted(tmp_path: Path) -> None:
    async with running(tmp_path, bootstrap_members=1, joiners=2) as cluster:
        async with raw_client(cluster, "n1") as raw:
            ann = await first_person(cluster, raw)
        await invite(cluster, "n1", ann, "n2")
        token_file(cluster.layout, "n3").write_text(token_file(cluster.layout, "n2").read_text())
        cluster.start("n2")
        await until_members(cluster, "n1", {"n1", "n2"})
        cluster.start("n3")  # with a token that was used
        await cluster.wait_until(lambda: "Nobody has admitted n3" in cluster.log_text("n3"), "the reason")
        before = await cluster.status("n1")
        await invite(cluster, "n1", ann, "n3")
        await until_members(cluster, "n1", {"n1", "n2", "n3"})
        assert before is not None
        assert {member.name for member in before.members} == {"n1", "n2"}


async def parley(cluster: LocalCluster, *arguments: str, asked: str = "n1") -> tuple[int, str]:
    """Run one command of the client, as ann would; its exit code and all it says."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "parley.cli",
        *arguments,
        cwd=ROOT,
        env={
            **{key: value for key, value in os.environ.items() if not key.startswith("PARLEY")},
            "PARLEY_HOSTS": cluster.address(asked),
            "PARLEY_CA": str(cluster.ca_file),
            "PARLEY_STATE_DIR": str(cluster.layout.root / "client"),
            "PARLEY_PASSWORD": PASSWORD,
        },
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    async with asyncio.timeout(40):
        output, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, output.decode()


async def test_a_person_looks_after_the_members_from_the_command_line(tmp_path: Path) -> None:
    async with running(tmp_path, bootstrap_members=1, joiners=1) as cluster:
        code = await cluster.administrator_code()
        for line in (f"register ann --code {code}", "login ann"):
            ended, said = await parley(cluster, *line.split())
            assert ended == 0, said
        await until_level(cluster, "n1", NODE_KEYS_LEVEL)
        ended, said = await parley(cluster, "cluster", "invite-node")
        assert ended == 0, said
        token_file(cluster.layout, "n2").write_text(said.splitlines()[0])
        cluster.start("n2")
        await until_members(cluster, "n1", {"n1", "n2"})
        for line, answer in (
            ("cluster promote n2", "n2 is a voter"),
            ("cluster transfer n2", "n2 leads"),
            ("cluster grant ann", "an administrator"),
            ("cluster remove n2", "n2 is no member"),
            ("cluster status", "n1"),
            ("cluster audit", "request.transfer-leadership  n2"),
            ("cluster audit", "request.remove-member  n2"),
            ("cluster audit", "(cluster)  member.removed  n2"),
            ("cluster audit", "ann  account.registered  ann  with the code of an administrator"),
        ):
            ended, said = await parley(cluster, *line.split())
            assert (ended, answer in said) == (0, True), said
        for line, answer in (
            ("cluster remove n1", "only voter"),
            ("cluster remove n7", "no member n7"),
            ("cluster revoke ann", "only administrator"),
            (f"cluster add n2 {cluster.layout.node('n2').peer_address}", "was removed"),
        ):
            ended, said = await parley(cluster, *line.split())
            assert (ended, answer in said) == (5, True), said


async def test_changes_that_are_not_in_order_are_refused_with_what_to_do(tmp_path: Path) -> None:
    async with running(tmp_path, bootstrap_members=3, joiners=1) as cluster:
        leader = await a_leader(cluster)
        silent, node = (name for name in ("n1", "n2", "n3") if name != leader)
        async with raw_client(cluster, leader) as raw:
            ann = await first_person(cluster, raw)
        async with operator_at(cluster, leader, ann) as operator:
            cluster.kill(silent)
            code, text = await refused(operator.remove(node))
            assert code is PRECONDITION
            assert silent in text
            code, text = await refused(operator.add("n4", cluster.layout.node("n4").peer_address))
            assert (code, "No node answers" in text) == (PRECONDITION, True)
            again = await operator.add(node, cluster.layout.node(node).peer_address)
            assert again.applied_index == 0, "what is a member already is not added again"
            await operator.remove(silent)
            await until_members(cluster, leader, {leader, node})
            code, _ = await refused(operator.promote(silent))
            assert code is grpc.StatusCode.NOT_FOUND


async def test_a_data_directory_of_another_cluster_is_not_let_in(tmp_path: Path) -> None:
    async with running(tmp_path, bootstrap_members=1, joiners=1) as cluster:
        give_table(cluster.layout, "n2", "peers", ["n2"])  # bootstraps a cluster of its own
        cluster.start("n2")
        await until_logged(cluster, "n2", "cluster_bootstrapped")
        cluster.kill("n2")
        give_table(cluster.layout, "n2", "join", ["n1"])
        cluster.start("n2")
        assert await cluster.wait_for_exit("n2") == ExitCode.STORAGE
        assert "belongs to cluster" in cluster.tail("n2")
        await until_members(cluster, "n1", {"n1"})


@pytest.mark.campaign
async def test_what_is_said_of_a_member_that_is_down_is_true(tmp_path: Path) -> None:
    async with running(tmp_path, bootstrap_members=3) as cluster:
        code = await cluster.administrator_code()
        for line in (f"register ann --code {code}", "login ann"):
            ended, said = await parley(cluster, *line.split())
            assert ended == 0, said
        await cluster.wait_for_leader()
        cluster.kill("n3")
        await cluster.wait_for_leader()
        for line, ended_with, answer in (
            ("cluster rebuild n3", 5, "This request changed nothing."),
            (f"cluster add n3 {cluster.layout.node('n3').peer_address}", 5, "n3 is a member already"),
            ("cluster promote n3", 0, "n3 is a voter already."),
        ):
            began = asyncio.get_running_loop().time()
            ended, said = await parley(cluster, *line.split())
            assert (ended, answer in said) == (ended_with, True), said
            assert asyncio.get_running_loop().time() - began < 20, line
