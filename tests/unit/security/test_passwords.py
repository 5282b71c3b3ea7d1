"""Passwords: what counts as the same one, the bound on work in flight, callers that go away."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator

import bcrypt
import pytest
import structlog

from parleyd.security import passwords
from parleyd.security.names import InvalidInputError
from parleyd.security.passwords import PasswordHasher, PasswordsBusyError

CHEAP = 4


@pytest.fixture
async def hasher() -> AsyncIterator[PasswordHasher]:
    made = PasswordHasher(CHEAP)
    yield made
    made.close()


@pytest.mark.parametrize(
    "password", ["correct horse", "a" * 72, "a" * 1024, "pässwörd", "🔑" * 8, "pass\0word", "\0" * 8]
)
async def test_a_password_is_verified_against_its_hash(hasher: PasswordHasher, password: str) -> None:
    hashed = await hasher.hash(password)
    assert hashed.startswith(b"$2b$04$")
    assert await hasher.verify(password, hashed)


@pytest.mark.parametrize(
    ("password", "other"),
    [
        ("a" * 72, "a" * 73),
        ("a" * 80 + "x", "a" * 80 + "y"),
        ("pass\0word", "pass\0w0rd"),
        ("pass word", "pass word\0"),
        ("pass word", "Pass word"),
        ("pässword", "passwörd"),
        ("pass word", ""),
    ],
)
async def test_passwords_that_differ_anywhere_are_different(hasher: PasswordHasher, password: str, other: str) -> None:
    assert not await hasher.verify(other, await hasher.hash(password))


async def test_composed_and_decomposed_letters_are_the_same_password(hasher: PasswordHasher) -> None:
    assert await hasher.verify("cafe\u0301 noir", await hasher.hash("caf\u00e9 noir"))


async def test_one_password_has_a_new_hash_each_time(hasher: PasswordHasher) -> None:
    assert await hasher.hash("correct horse") != await hasher.hash("correct horse")


@pytest.mark.parametrize("password", ["short", "a" * 1025, "é" * 513, "broken\udc80surrogate"])
async def test_passwords_outside_the_rules_are_not_hashed(hasher: PasswordHasher, password: str) -> None:
    with pytest.raises(InvalidInputError):
        await hasher.hash(password)


@pytest.mark.parametrize("password", ["short", "a" * 1025, "broken\udc80surrogate"])
async def test_passwords_outside_the_rules_do_not_verify(hasher: PasswordHasher, password: str) -> None:
    assert not await hasher.verify(password, await hasher.hash("correct horse"))


async def test_a_password_from_before_a_stricter_rule_still_verifies(hasher: PasswordHasher) -> None:
    old = bcrypt.hashpw(passwords._prepare("old"), bcrypt.gensalt(CHEAP))
    assert await hasher.verify("old", old)


@pytest.mark.parametrize("kept", [None, b""], ids=["unknown account", "no password"])
async def test_an_unknown_account_costs_one_check_of_the_same_cost(
    hasher: PasswordHasher, monkeypatch: pytest.MonkeyPatch, kept: bytes | None
) -> None:
    checked: list[bytes] = []

    def check(prepared: bytes, hashed: bytes) -> bool:
        checked.append(hashed)
        return True

    monkeypatch.setattr(bcrypt, "checkpw", check)
    assert not await hasher.verify("correct horse", kept)
    (hashed,) = checked
    assert hashed.startswith(b"$2b$04$")


async def test_a_damaged_hash_is_no_match_and_takes_the_time_of_one(
    hasher: PasswordHasher, monkeypatch: pytest.MonkeyPatch
) -> None:
    checked: list[bytes] = []
    check = bcrypt.checkpw

    def count(prepared: bytes, hashed: bytes) -> bool:
        checked.append(hashed)
        return check(prepared, hashed)

    monkeypatch.setattr(bcrypt, "checkpw", count)
    assert not await hasher.verify("correct horse", b"not a hash")
    assert [hashed[:7] for hashed in checked] == [b"not a h", b"$2b$04$"]


async def test_a_damaged_hash_is_no_match_and_is_logged(hasher: PasswordHasher) -> None:
    with structlog.testing.capture_logs() as logs:
        assert not await hasher.verify("correct horse", b"not a hash")
    assert logs[0]["event"] == "password_hash_unreadable"


@pytest.mark.parametrize("cost", [3, 17])
def test_a_cost_out_of_bounds_is_refused(cost: int) -> None:
    with pytest.raises(ValueError, match="not from 4 to 16"):
        PasswordHasher(cost)


class Gate:
    """Stands in for bcrypt: every check waits until the gate is opened."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.started = threading.Semaphore(0)
        self.open = threading.Event()
        self.calls = 0
        monkeypatch.setattr(bcrypt, "checkpw", self._check)

    def _check(self, prepared: bytes, hashed: bytes) -> bool:
        self.calls += 1
        self.started.release()
        assert self.open.wait(10)
        return True

    async def wait_for_start(self) -> None:
        assert await asyncio.to_thread(self.started.acquire, timeout=10)


async def let_others_run() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_callers_beyond_the_bound_are_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    gate = Gate(monkeypatch)
    hasher = PasswordHasher(CHEAP, workers=1, max_waiting=2)
    try:
        running = asyncio.create_task(hasher.verify("correct horse", b"h"))
        await gate.wait_for_start()
        queued = [asyncio.create_task(hasher.verify("correct horse", b"h")) for _ in range(2)]
        await let_others_run()
        with pytest.raises(PasswordsBusyError, match=r"Nothing was changed\. Try again"):
            await hasher.verify("correct horse", b"h")
        gate.open.set()
        assert await asyncio.gather(running, *queued) == [True, True, True]
        assert await hasher.verify("correct horse", b"h")  # room again
    finally:
        gate.open.set()
        hasher.close()


async def test_a_caller_cancelled_while_it_waits_leaves_the_queue(monkeypatch: pytest.MonkeyPatch) -> None:
    gate = Gate(monkeypatch)
    hasher = PasswordHasher(CHEAP, workers=1, max_waiting=1)
    try:
        running = asyncio.create_task(hasher.verify("correct horse", b"h"))
        await gate.wait_for_start()
        waiting = asyncio.create_task(hasher.verify("correct horse", b"h"))
        await let_others_run()
        waiting.cancel()
        await asyncio.wait([waiting])
        in_its_place = asyncio.create_task(hasher.verify("correct horse", b"h"))
        await let_others_run()
        gate.open.set()
        assert await running
        assert await in_its_place
        assert gate.calls == 2
    finally:
        gate.open.set()
        hasher.close()


async def test_a_caller_cancelled_while_its_hash_runs_keeps_the_worker_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    gate = Gate(monkeypatch)
    hasher = PasswordHasher(CHEAP, workers=1, max_waiting=1)
    try:
        running = asyncio.create_task(hasher.verify("correct horse", b"h"))
        await gate.wait_for_start()
        running.cancel()
        await asyncio.wait([running])
        waiting = asyncio.create_task(hasher.verify("correct horse", b"h"))
        await let_others_run()
        for _ in range(100):  # a flood of calls that give up cannot get work past the bound
            with pytest.raises(PasswordsBusyError):
                await hasher.verify("correct horse", b"h")
        assert gate.calls == 1
        gate.open.set()
        assert await waiting
        assert gate.calls == 2
    finally:
        gate.open.set()
        hasher.close()


async def test_the_event_loop_goes_on_while_passwords_are_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    gate = Gate(monkeypatch)
    hasher = PasswordHasher(CHEAP, workers=2)
    try:
        both = [asyncio.create_task(hasher.verify("correct horse", b"h")) for _ in range(2)]
        await gate.wait_for_start()
        await gate.wait_for_start()  # two at once, and this task still runs
        assert not any(task.done() for task in both)
        gate.open.set()
        assert await asyncio.gather(*both) == [True, True]
    finally:
        gate.open.set()
        hasher.close()


async def test_a_closed_hasher_refuses_as_busy(hasher: PasswordHasher) -> None:
    hasher.close()
    for _ in range(5):  # and gives the worker back each time
        with pytest.raises(PasswordsBusyError):
            await hasher.verify("correct horse", None)


async def test_a_hash_from_elsewhere_is_kept_if_it_costs_as_much_as_the_nodes_own() -> None:
    hasher = PasswordHasher(5)
    try:
        made = (await hasher.hash("correct horse")).decode()
        assert await hasher.verify("correct horse", hasher.validate_hash(made))
        assert hasher.validate_hash("") == b""
        ends_wrongly = made[:28] + "B" + made[29:]  # no salt of 16 bytes ends so, and bcrypt does not read it
        for wrong in (
            made.replace("$05$", "$04$"),
            made.replace("$05$", "$17$"),
            made[:-1],
            made + "a",
            "secret",
            ends_wrongly,
        ):
            with pytest.raises(InvalidInputError) as refused:
                hasher.validate_hash(wrong)
            assert "secret" not in str(refused.value)
    finally:
        hasher.close()
