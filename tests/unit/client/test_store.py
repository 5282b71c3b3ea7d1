"""The store: one thread, group commits, claims that are handed out only after their commit, several processes."""

import asyncio
import threading
from pathlib import Path

import apsw
import pytest

from parley.device import outbox, schema
from parley.device import store as store_module
from parley.device.store import Store
from parley.errors import OutboxFullError, StoreError, TooLateError
from parley.model import MessageStatus, Outgoing
from parley.state_publisher import StatePublisher
from tests.unit.client.records import BOB


def drain(store: Store) -> None:
    """Blocks this loop, which the store's thread does not need, until all queued so far is committed."""
    done = threading.Event()
    store.post(lambda _: None)
    store.post(lambda _: done.set())
    assert done.wait(5)


async def test_a_claim_is_handed_out_after_the_senders_were_told(tmp_path: Path) -> None:
    store = Store(tmp_path / "s.sqlite")
    await store.open()
    order: list[str] = []
    claim = asyncio.ensure_future(store.claim(10))
    await asyncio.sleep(0)
    drain(store)
    added = store.start_write(lambda c: outbox.add(c, [(BOB, "hello")], 1))
    added.add_done_callback(lambda _: order.append("added"))
    claim.add_done_callback(lambda _: order.append("claimed"))
    await added
    assert not claim.done(), "an operation that does not say that it adds wakes no claim"
    await store.write(lambda c: outbox.add(c, [(BOB, "again")], 1), adds=True)
    assert [message.body for message in await claim] == ["hello", "again"]
    assert order == ["added", "claimed"]
    await store.close()


async def test_a_claim_made_before_anything_waited_never_overtakes_the_commit_that_fulfils_it(tmp_path: Path) -> None:
    store = Store(tmp_path / "s.sqlite")
    await store.open()
    order: list[str] = []
    claim = asyncio.ensure_future(store.claim(10))
    claim.add_done_callback(lambda _: order.append("claimed"))
    await asyncio.sleep(0)
    drain(store)  # the thread looked for sends and found none, but this loop has not heard of it yet
    adding = asyncio.ensure_future(store.write(lambda c: outbox.add(c, [(BOB, "hello")], 1), adds=True))
    adding.add_done_callback(lambda _: order.append("added"))
    coroutine_started = asyncio.ensure_future(asyncio.sleep(0))
    await coroutine_started
    drain(store)
    await asyncio.gather(claim, adding)
    assert order == ["added", "claimed"]
    await store.close()


async def test_a_refused_operation_leaves_the_others_of_its_transaction_alone(tmp_path: Path) -> None:
    store = Store(tmp_path / "s.sqlite")
    await store.open()
    (message,) = await store.write(lambda c: outbox.add(c, [(BOB, "one")], 1))
    await store.write(lambda c: outbox.claim(c, 1))
    results = await asyncio.gather(
        store.write(lambda c: outbox.add(c, [(BOB, "two")], 1)),
        store.write(lambda c: outbox.cancel(c, message.local_id)),
        store.write(lambda c: outbox.add(c, [(BOB, "three")], 1)),
        return_exceptions=True,
    )
    assert isinstance(results[1], TooLateError)
    assert [m.body for m in await store.read(lambda c: outbox.listing(c, 10))] == ["one", "two", "three"]
    await store.close()


async def test_a_failing_operation_undoes_its_whole_transaction_and_the_thread_goes_on(tmp_path: Path) -> None:
    store = Store(tmp_path / "s.sqlite")
    await store.open()

    def broken(connection: apsw.Connection) -> None:
        outbox.add(connection, [(BOB, "half done")], 1)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await store.write(broken)
    assert await store.read(lambda c: outbox.listing(c, 10)) == []
    await store.write(lambda c: outbox.add(c, [(BOB, "fine")], 1))
    assert [m.body for m in await store.read(lambda c: outbox.listing(c, 10))] == ["fine"]
    await store.close()


async def test_an_operation_cancelled_before_it_began_does_not_run(tmp_path: Path) -> None:
    store = Store(tmp_path / "s.sqlite")
    await store.open()
    busy = threading.Event()
    store.post(lambda _: busy.wait(5))
    task = asyncio.ensure_future(store.write(lambda c: outbox.add(c, [(BOB, "never")], 1)))
    await asyncio.sleep(0)
    task.cancel()
    busy.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await store.read(lambda c: outbox.listing(c, 10)) == []
    await store.close()


async def test_what_another_process_commits_is_noticed_and_claimed(tmp_path: Path) -> None:
    noticed = asyncio.Event()
    store = Store(tmp_path / "s.sqlite", foreign_poll_s=0.01, on_foreign_change=noticed.set)
    await store.open()
    claim = asyncio.ensure_future(store.claim(10))
    other = schema.open_database(tmp_path / "s.sqlite")
    with other:
        outbox.add(other, [(BOB, "from elsewhere")], 1)
    await asyncio.wait_for(noticed.wait(), 5)
    assert [m.status for m in await asyncio.wait_for(claim, 5)] == [MessageStatus.SENDING]
    other.close()
    await store.close()


async def test_a_full_disk_fails_the_write_and_says_so(tmp_path: Path) -> None:
    store = Store(tmp_path / "s.sqlite")
    await store.open()
    await store.write(lambda c: outbox.add(c, [(BOB, "kept")], 1))
    await store.read(lambda c: c.execute("PRAGMA max_page_count=1").fetchall())
    with pytest.raises(StoreError, match="Free some disk space"):
        await store.write(lambda c: outbox.add(c, [(BOB, "x" * 60_000)] * 20, 1))
    assert [m.body for m in await store.read(lambda c: outbox.listing(c, 10))] == ["kept"]
    await store.close()


async def test_a_file_of_a_newer_version_is_left_alone(tmp_path: Path) -> None:
    connection = apsw.Connection(str(tmp_path / "s.sqlite"))
    connection.execute("PRAGMA user_version=999")
    connection.close()
    with pytest.raises(StoreError, match="newer release"):
        await Store(tmp_path / "s.sqlite").open()


async def test_a_file_of_the_first_release_is_refused_in_words_and_left_alone(tmp_path: Path) -> None:
    connection = apsw.Connection(str(tmp_path / "s.sqlite"))
    connection.execute("CREATE TABLE outbox (recipient TEXT)")
    connection.execute("PRAGMA user_version=1")
    with pytest.raises(StoreError, match=r"written by Parley 0\.1"):
        await Store(tmp_path / "s.sqlite").open()
    assert [row[0] for row in connection.execute("SELECT name FROM sqlite_schema")] == ["outbox"]
    connection.close()


async def test_the_file_is_only_for_its_owner(tmp_path: Path) -> None:
    store = Store(tmp_path / "s.sqlite")
    await store.open()
    assert (tmp_path / "s.sqlite").stat().st_mode & 0o777 == 0o600
    await store.close()
    with pytest.raises(StoreError, match="closed"):
        await store.read(lambda c: None)


async def test_a_version_that_cannot_be_read_once_does_not_end_the_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A failing PRAGMA data_version killed the thread, and every later call waited for ever."""
    store = Store(tmp_path / "s.sqlite", foreign_poll_s=0)
    await store.open()
    read, failed = store_module._data_version, threading.Event()

    def fail_once(connection: apsw.Connection) -> int:
        if not failed.is_set():
            failed.set()
            raise apsw.IOError("the disk fails")
        return read(connection)

    monkeypatch.setattr(store_module, "_data_version", fail_once)
    assert await asyncio.to_thread(failed.wait, 5)
    async with asyncio.timeout(5):
        await store.write(lambda c: outbox.add(c, [(BOB, "one")], 1))
        await store.close()


async def test_when_the_thread_ends_by_a_defect_every_caller_is_answered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(tmp_path / "s.sqlite")
    await store.open()
    claim = asyncio.ensure_future(store.claim(10))
    await asyncio.sleep(0)
    drain(store)

    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("a defect")

    monkeypatch.setattr(store, "_run", broken)
    async with asyncio.timeout(5):
        for call in (store.read(lambda _: 1), claim, store.read(lambda _: 1), store.claim(1)):
            with pytest.raises(StoreError, match="a defect"):
                await call
        await store.close()


async def store_whose_first_claim_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, retry_s: float
) -> tuple[Store, threading.Event]:
    """A store in which a message waits, and an event that tells that a claim has failed."""
    monkeypatch.setattr(store_module, "CLAIM_RETRY_S", retry_s)
    store = Store(tmp_path / "s.sqlite")
    await store.open()
    await store.write(lambda c: outbox.add(c, [(BOB, "one")], 1))
    claim_rows, failed = outbox.claim, threading.Event()

    def fail_once(connection: apsw.Connection, limit: int) -> list[Outgoing]:
        if not failed.is_set():
            failed.set()
            raise apsw.FullError("the disk is full")
        return claim_rows(connection, limit)

    monkeypatch.setattr(outbox, "claim", fail_once)
    return store, failed


async def test_after_a_failed_transaction_what_waits_is_claimed_without_another_push(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, _ = await store_whose_first_claim_fails(tmp_path, monkeypatch, retry_s=0.0)
    async with asyncio.timeout(5):
        assert [message.body for message in await store.claim(10)] == ["one"]
    await store.close()


async def test_a_claim_that_failed_is_tried_again_whatever_succeeds_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Any other transaction made the store forget it: messages waited, connected, until somebody sent another one."""
    store, failed = await store_whose_first_claim_fails(tmp_path, monkeypatch, retry_s=0.2)
    async with asyncio.timeout(5):
        claim = asyncio.ensure_future(store.claim(10))
        await asyncio.to_thread(failed.wait)
        await store.read(lambda _: None)
        assert [message.body for message in await claim] == ["one"]
    await store.close()


async def test_a_withdrawn_claim_is_answered_with_nothing_and_the_next_one_gets_what_was_added_meanwhile(
    tmp_path: Path,
) -> None:
    store = Store(tmp_path / "s.sqlite")
    await store.open()
    claim = asyncio.ensure_future(store.claim(10))
    await store.read(lambda _: None)
    store.withdraw_claim()
    assert await asyncio.wait_for(claim, 5) == []
    await store.write(lambda c: outbox.add(c, [(BOB, "hello")], 1), adds=True)
    (message,) = await store.read(lambda c: outbox.listing(c, 10))
    assert message.status is MessageStatus.WAITING
    assert [m.body for m in await asyncio.wait_for(store.claim(10), 5)] == ["hello"]
    await store.close()


async def test_a_withdrawal_never_takes_a_claim_that_was_made_after_it(tmp_path: Path) -> None:
    store = Store(tmp_path / "s.sqlite")
    await store.open()
    store.withdraw_claim()
    claim = asyncio.ensure_future(store.claim(10))
    await store.write(lambda c: outbox.add(c, [(BOB, "hello")], 1), adds=True)
    assert [m.body for m in await asyncio.wait_for(claim, 5)] == ["hello"]
    await store.close()


async def test_claimed_messages_that_are_returned_wait_as_before_and_get_the_same_numbers_again(tmp_path: Path) -> None:
    store = Store(tmp_path / "s.sqlite")
    await store.open()
    await store.write(lambda c: outbox.add(c, [(BOB, body) for body in ("one", "two", "three")], 1))
    one, two, three = await store.claim(3)
    returned = await store.write(lambda c: outbox.unclaim(c, [two, three]))
    assert [(m.body, m.status, m.number) for m in returned] == [
        ("two", MessageStatus.WAITING, 0),
        ("three", MessageStatus.WAITING, 0),
    ]
    await store.write(lambda c: outbox.cancel(c, two.local_id))
    assert [(m.body, m.number) for m in await store.claim(3)] == [("three", one.number + 1)]
    await store.close()


async def test_numbers_that_are_not_the_newest_are_never_given_back(tmp_path: Path) -> None:
    """A number of a message that went to a node, or a gap below one, would be the end of the device's order."""
    store = Store(tmp_path / "s.sqlite")
    await store.open()
    await store.write(lambda c: outbox.add(c, [(BOB, body) for body in ("one", "two", "three")], 1))
    one, two, three = await store.claim(3)
    for wrong in ([one], [one, two], [one, three]):
        with pytest.raises(StoreError):
            await store.write(lambda c, wrong=wrong: outbox.unclaim(c, wrong))  # type: ignore[misc]
    assert [m.number for m in await store.read(outbox.unanswered)] == [one.number, two.number, three.number]
    await store.close()


async def test_additions_that_wait_together_are_stored_in_their_order_and_one_that_does_not_fit_is_refused_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "MAX_OPEN", 610)
    store = Store(tmp_path / "s.sqlite")
    await store.open()
    free = threading.Event()
    store.post(lambda _: free.wait(5))  # what follows gathers meanwhile
    sizes = {"a": 1, "b": 600, "c": 100, "d": 2, "e": 7, "f": 8}
    additions = [
        outbox.Addition([(BOB, f"{name}{i}") for i in range(size)], 5, known_index=9, urgent=name == "d")
        for name, size in sizes.items()
    ]
    adding = asyncio.gather(*map(store.add, additions[:3]), return_exceptions=True)
    await asyncio.sleep(0)  # they are in the queue now
    between = store.start_write(lambda c: outbox.listing(c, 1000))
    more = asyncio.gather(*map(store.add, additions[3:]), return_exceptions=True)
    await asyncio.sleep(0)
    free.set()
    found = [*await adding, *await more]
    assert [isinstance(one, OutboxFullError) for one in found] == [False, False, True, False, False, True]
    told = [message for one in found if isinstance(one, list) for message in one]
    assert [message.body for message in told] == [body for i in (0, 1, 3, 4) for _, body in additions[i].items]
    assert await store.read(lambda c: outbox.listing(c, 1000)) == told, "each is told as the file has it"
    assert [len(page) for page in (await between, told)] == [601, 610], "what is between them finds those before"
    await store.close()


async def test_the_state_shows_when_a_node_was_heard_last_and_what_changed_since() -> None:
    times = iter((1.0, 2.0))
    publisher = StatePublisher(lambda: next(times))
    shown = [publisher.state]
    publisher.heard()
    shown.append(publisher.state)
    publisher.update(waiting=3)
    shown.append(publisher.state)
    publisher.heard()
    shown.append(publisher.state)
    assert [(one.waiting, one.last_heard) for one in shown] == [(0, None), (0, 1.0), (3, 1.0), (3, 2.0)]
