"""Who is connected, as each of three real nodes sees it: soon after a client comes, and after it or its node dies."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable
from contextlib import AsyncExitStack

import pytest

from parley_proto.v1 import accounts_pb2 as pb
from parley_proto.v1 import messaging_pb2
from scripts.cluster_local import LocalCluster
from tests.cluster.raw import Person, Raw, raw_client
from tests.support.raw import until_true

pytestmark = pytest.mark.asyncio(loop_scope="module")

Fresh = Callable[[str], str]
RIGHT_AFTER_S = 2.0
LIMIT_S = 20.0
"""How long a list is awaited before the test fails without a figure."""

CLIENT = """
import asyncio, sys
from pathlib import Path
from scripts.cluster_status import secure_channel
from tests.support.raw import Raw
from parley_proto.v1 import messaging_pb2 as pb

async def main(address, ca, token):
    async with secure_channel(address, Path(ca).read_bytes()) as channel:
        async with Raw(channel).stream((("authorization", f"Bearer {token}"),)) as stream:
            await stream.write(pb.ClientFrame(hello=pb.Hello()))
            await stream.next("welcome")
            print("connected", flush=True)
            await asyncio.Event().wait()

asyncio.run(main(*sys.argv[1:]))
"""


class Watchers:
    """A session of one account on each node, which asks for the list."""

    def __init__(self, cluster: LocalCluster, raws: dict[str, Raw], watcher: Person) -> None:
        self.cluster = cluster
        self.raws = raws
        self.watcher = watcher

    async def listed(self, node: str) -> pb.ListConnectedResponse:
        return await self.raws[node].presence.ListConnected(
            pb.ListConnectedRequest(page_size=1000, seen=self.raws[node].seen),
            metadata=self.watcher.metadata,
            timeout=LIMIT_S,
            wait_for_ready=True,  # a node that was started a moment ago
        )

    async def seconds_until(self, person: Person, nodes: list[str], *, is_listed: bool) -> float:
        """Return how long it took until all these nodes list an account, or do not list it any more."""
        began = time.monotonic()

        async def until(node: str) -> None:
            while any(one.account.id == person.id for one in (await self.listed(node)).accounts) is not is_listed:
                continue  # each look is a call, which gives way

        async with asyncio.timeout(LIMIT_S):
            await asyncio.gather(*map(until, nodes))
        return time.monotonic() - began

    async def until_silent(self, node: str, *silent: str) -> pb.ListConnectedResponse:
        """Return the list of a node, once it has heard from all others except these.

        On a busy machine a node that lives may be late with a report, so one look proves nothing.
        """
        async with asyncio.timeout(LIMIT_S):
            answer = await self.listed(node)
            while [one.name for one in answer.nodes if not one.heard] != [*silent]:
                answer = await self.listed(node)
        return answer


async def watchers(cluster: LocalCluster, fresh: Fresh, stack: AsyncExitStack) -> tuple[Watchers, Person]:
    """Eve, who asks every node, and Ann, who is to be seen."""
    raws = {name: await stack.enter_async_context(raw_client(cluster, name)) for name in cluster.names}
    first = raws[cluster.names[0]]
    people = []
    for name in (fresh("eve"), fresh("ann")):
        await first.register(name)
        people.append(await first.log_in(name))
    for raw in raws.values():
        raw.note(people[1].login.position)
    return Watchers(cluster, raws, people[0]), people[1]


async def test_a_client_is_seen_from_all_nodes_and_gone_within_two_seconds_of_its_kill_9(
    cluster: LocalCluster, fresh: Fresh
) -> None:
    async with AsyncExitStack() as stack:
        watching, ann = await watchers(cluster, fresh, stack)
        node = cluster.names[0]
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", CLIENT, cluster.address(node), str(cluster.ca_file), ann.token,
            stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        try:
            assert process.stdout is not None
            async with asyncio.timeout(LIMIT_S):
                assert await process.stdout.readline() == b"connected\n"
            seen_s = await watching.seconds_until(ann, list(cluster.names), is_listed=True)
            answer = await watching.until_silent(cluster.names[2])
            assert [(one.name, one.clients, one.heard) for one in answer.nodes] == [
                (name, int(name == node), True) for name in cluster.names
            ]
            assert answer.clients == 1
        finally:
            process.kill()
            await process.wait()
        gone_s = await watching.seconds_until(ann, list(cluster.names), is_listed=False)
        print(f"presence: seen everywhere after {seen_s:.2f} s, gone {gone_s:.2f} s after kill -9 of the client")
        assert max(seen_s, gone_s) <= RIGHT_AFTER_S
        assert "client_connected" in cluster.log_text(node)
        assert "client_gone" in cluster.log_text(node)


async def test_all_nodes_show_within_two_seconds_who_is_away_and_who_is_back(
    cluster: LocalCluster, fresh: Fresh
) -> None:
    async with AsyncExitStack() as stack:
        watching, ann = await watchers(cluster, fresh, stack)
        stream = await stack.enter_async_context(watching.raws[cluster.names[0]].session(ann))
        await watching.seconds_until(ann, list(cluster.names), is_listed=True)
        for away in (True, False):
            began = time.monotonic()
            await stream.write(messaging_pb2.ClientFrame(away=messaging_pb2.Away(away=away)))

            async def until(node: str, expected: bool = away) -> None:
                while [one.away for one in (await watching.listed(node)).accounts if one.account.id == ann.id] != [
                    expected
                ]:
                    continue  # each look is a call, which gives way

            async with asyncio.timeout(LIMIT_S):
                await asyncio.gather(*map(until, cluster.names))
            assert time.monotonic() - began <= RIGHT_AFTER_S


@pytest.mark.parametrize("fault", ["kill", "pause"])
async def test_the_clients_of_a_node_that_dies_or_hangs_are_gone_within_two_seconds_and_the_node_is_named(
    cluster: LocalCluster, fresh: Fresh, fault: str
) -> None:
    async with AsyncExitStack() as stack:
        watching, ann = await watchers(cluster, fresh, stack)
        node, *others = cluster.names
        async with watching.raws[node].session(ann):
            await watching.seconds_until(ann, list(cluster.names), is_listed=True)
            getattr(cluster, fault)(node)
            gone_s = await watching.seconds_until(ann, others, is_listed=False)
        print(f"presence: gone {gone_s:.2f} s after {fault} of the node")
        assert gone_s <= RIGHT_AFTER_S
        for other in others:
            await watching.until_silent(other, node)
        if fault == "pause":
            cluster.resume(node)
        else:
            cluster.start(node)
        await cluster.wait_until_answering(*cluster.names)
        answer = await watching.until_silent(others[0])
        if fault == "kill":
            assert answer.clients == 0, "nobody of its former life is back"
        await watching.seconds_until(ann, list(cluster.names), is_listed=False)


async def test_a_node_that_hears_no_other_one_shows_its_own_clients_only_and_says_so_until_the_others_are_back(
    cluster: LocalCluster, fresh: Fresh
) -> None:
    """The smaller part of a partition. The other part is the test of a node that hangs."""
    async with AsyncExitStack() as stack:
        watching, ann = await watchers(cluster, fresh, stack)
        node, *others = cluster.names
        await stack.enter_async_context(watching.raws[node].session(watching.watcher))
        await stack.enter_async_context(watching.raws[others[0]].session(ann))
        await watching.seconds_until(ann, list(cluster.names), is_listed=True)
        for other in others:
            cluster.pause(other)
        gone_s = await watching.seconds_until(ann, [node], is_listed=False)
        answer = await watching.until_silent(node, *others)
        assert [one.account.id for one in answer.accounts] == [watching.watcher.id]
        assert answer.clients == 1
        began = time.monotonic()
        for other in others:
            cluster.resume(other)
        await watching.seconds_until(ann, [node], is_listed=True)
        back_s = time.monotonic() - began
        await watching.until_silent(node)
        print(f"presence: gone {gone_s:.2f} s after the others fell silent, back {back_s:.2f} s after they went on")
        assert max(gone_s, back_s) <= RIGHT_AFTER_S


async def test_typing_and_the_end_of_a_connection_are_known_at_all_nodes_within_two_seconds(
    cluster: LocalCluster, fresh: Fresh
) -> None:
    async with AsyncExitStack() as stack:
        watching, ann = await watchers(cluster, fresh, stack)
        eve = watching.watcher
        first, second, third = cluster.names
        typist = await stack.enter_async_context(watching.raws[first].session(ann))
        reader = await stack.enter_async_context(watching.raws[second].session(eve))
        result = await typist.send_surely(1, eve.name, "hello")
        await reader.messages(1)
        await watching.seconds_until(ann, list(cluster.names), is_listed=True)
        began = time.monotonic()
        await typist.write(
            messaging_pb2.ClientFrame(typist=messaging_pb2.Typing(conversation_id=result.conversation_id))
        )
        told = (await reader.next("typist")).typist
        told_s = time.monotonic() - began
        assert (told.conversation_id, told.account_id) == (result.conversation_id, ann.id)
        before_ms = time.time_ns() // 1_000_000
        cluster.kill(first)
        await watching.seconds_until(ann, [second, third], is_listed=False)
        request = pb.GetPresenceRequest(account_ids=[ann.id])

        async def presence(node: str) -> pb.GetPresenceResponse:
            ask = watching.raws[node].presence.GetPresence
            return await ask(request, metadata=eve.metadata, timeout=LIMIT_S, wait_for_ready=True)

        for node in (second, third):
            answer = await presence(node)
            [gone] = answer.accounts
            assert gone.state == pb.PRESENCE_STATE_OFFLINE
            assert [*answer.unheard] == [first]
            assert abs(gone.last_seen_ms - before_ms) <= 3_000, "the reports tell seconds"
        cluster.start(first)
        await cluster.wait_until_answering(*cluster.names)

        async def is_told() -> None:
            [gone] = (await presence(first)).accounts
            assert abs(gone.last_seen_ms - before_ms) <= 4_000, "the others tell a node that starts"

        await until_true(is_told)
        print(f"presence: typing told on another node after {told_s:.2f} s")
        assert told_s <= RIGHT_AFTER_S
