"""SyncClient: what ParleyClient promises, from code without asyncio."""

import asyncio
import threading
from pathlib import Path

import pytest

from parley import MessageFailedError, ParleyError, StillWaitingError, SyncClient, WrongPasswordError
from tests.support.node import InProcessCluster, running_cluster
from tests.unit.client.helpers import PASSWORD


def client_of(cluster: InProcessCluster, folder: Path, account: str | None = None) -> SyncClient:
    return SyncClient([node.address for node in cluster.nodes], account=account, insecure=True, state_dir=folder)


def add_people(cluster: InProcessCluster) -> None:
    for name in ("ann", "ben"):
        cluster.add_account(name, PASSWORD)


async def test_messages_are_sent_read_and_found_again_after_a_restart(tmp_path: Path) -> None:
    def script(cluster: InProcessCluster) -> None:
        with client_of(cluster, tmp_path / "a") as ann, client_of(cluster, tmp_path / "b") as ben:
            ann.login("ann", PASSWORD)
            ben.login("ben", PASSWORD)
            assert ann.send("ben", "one").message_id > 0
            assert [sent.body for sent in ann.send_many([("ben", "two"), ("ben", "three")])] == ["two", "three"]
            messages = ben.messages(timeout=10)
            assert [next(messages).body for _ in range(3)] == ["one", "two", "three"]
            assert [message.body for message in ben.history("ann").messages] == ["one", "two", "three"]
            assert [one.last.body for one in ann.conversations() if one.last] == ["three"]
            assert [account.name for account in ann.list_accounts("b*")] == ["ben"]
            assert ann.state.account == "ann"
            assert ann.run(lambda client: client.outgoing(limit=1))[0].body == "three"
        with client_of(cluster, tmp_path / "b", "ben") as ben:
            assert ben.has_session()
            assert [message.body for message in ben.messages(timeout=0.2)] == [], "all were handled"
            assert ben.logout() == 0

    async with running_cluster() as cluster:
        add_people(cluster)
        await asyncio.to_thread(script, cluster)


async def test_a_message_whose_handling_fails_comes_again(tmp_path: Path) -> None:
    def script(cluster: InProcessCluster) -> None:
        with client_of(cluster, tmp_path / "b") as ben:
            ben.login("ben", PASSWORD)
        with pytest.raises(ZeroDivisionError), client_of(cluster, tmp_path / "b", "ben") as ben:  # noqa: PT012
            for message in ben.messages(timeout=10):
                if message.body == "two":
                    raise ZeroDivisionError
        with client_of(cluster, tmp_path / "b", "ben") as ben:
            messages = ben.messages(timeout=10)
            assert next(messages).body == "two"
            messages.close()
            assert [message.body for message in messages] == []

    async with running_cluster() as cluster:
        add_people(cluster)
        for body in ("one", "two"):
            cluster.store(cluster.accounts["ann"], cluster.accounts["ben"], body)
        await asyncio.to_thread(script, cluster)


async def test_errors_are_those_of_the_client(tmp_path: Path) -> None:
    def script(cluster: InProcessCluster) -> None:
        outside = client_of(cluster, tmp_path)
        for call in (lambda: outside.send("ben", "x"), lambda: outside.state):
            with pytest.raises(ParleyError, match="not open"):
                call()
        with pytest.raises(ParleyError), client_of(cluster, tmp_path, "no name"):
            pass
        with client_of(cluster, tmp_path) as ann:
            with pytest.raises(WrongPasswordError):
                ann.login("ann", "something else")
            ann.login("ann", PASSWORD)
            with pytest.raises(MessageFailedError):
                ann.send("nobody", "hello")
            cluster.nodes[0].faults.hang = True
            with pytest.raises(StillWaitingError):
                ann.send("ben", "kept", timeout=0.05)
            cluster.nodes[0].release()
        with pytest.raises(ParleyError, match="not open"):
            ann.send("ben", "x")

    async with running_cluster() as cluster:
        add_people(cluster)
        await asyncio.to_thread(script, cluster)


async def test_no_thread_is_left_behind(tmp_path: Path) -> None:
    def script(cluster: InProcessCluster) -> None:
        before = set(threading.enumerate())
        for _ in range(3):
            with client_of(cluster, tmp_path) as ann:
                ann.login("ann", PASSWORD)
        left = [thread for thread in set(threading.enumerate()) - before if thread.name.startswith("parley")]
        assert left == []

    async with running_cluster() as cluster:
        add_people(cluster)
        await asyncio.to_thread(script, cluster)


async def test_calls_of_several_threads_do_not_disturb_each_other(tmp_path: Path) -> None:
    def script(cluster: InProcessCluster) -> None:
        with client_of(cluster, tmp_path) as ann:
            ann.login("ann", PASSWORD)
            threads = [
                threading.Thread(target=lambda name=name: [ann.send("ben", f"{name}.{n}") for n in range(5)])
                for name in range(4)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(60)

    async with running_cluster() as cluster:
        add_people(cluster)
        await asyncio.to_thread(script, cluster)
        assert sorted(cluster.bodies_for("ben")) == [f"{name}.{n}" for name in range(4) for n in range(5)]


async def test_an_interrupt_ends_what_was_begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C in a notebook must not leave a call behind that goes on."""
    began, ended = threading.Event(), threading.Event()

    async def endless(_: object) -> None:
        began.set()
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            ended.set()

    def script(cluster: InProcessCluster) -> None:
        with client_of(cluster, tmp_path) as ann:
            monkeypatch.setattr("concurrent.futures.Future.result", interrupted)
            try:
                with pytest.raises(KeyboardInterrupt):
                    ann.run(endless)
            finally:
                monkeypatch.undo()
            assert ended.wait(10)

    def interrupted(*_: object) -> None:
        assert began.wait(10)
        raise KeyboardInterrupt

    async with running_cluster() as cluster:
        await asyncio.to_thread(script, cluster)
