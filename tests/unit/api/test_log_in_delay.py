"""Guesses of passwords over the wire: delayed before they are hashed, counted in the log at 10, 30 and 100 only."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import grpc
import pytest
from structlog.testing import capture_logs

from parley_proto.v1 import accounts_pb2 as pb
from parley_proto.v1 import admin_pb2, state_pb2
from parleyd.api.commands import Commands
from parleyd.api.errors import ApiError
from parleyd.api.password_check import DELAYED_LINES_PER_S, Claim, PasswordCheck
from parleyd.group.proposals import AppliedCommands
from parleyd.machine.features import failed_log_ins
from parleyd.machine.features.failed_log_ins import Failures
from parleyd.machine.reader import StateReader
from parleyd.security.log_in_throttle import Attempt, Verdict
from tests.support.node import InProcessCluster
from tests.support.raw import PASSWORD, Person, Raw, refused

Code = grpc.StatusCode
PHONE, STRANGER = b"p" * 16, b"s" * 16


@pytest.fixture
async def boss(cluster: InProcessCluster, raw: Raw) -> Person:
    """An administrator beside the account ann."""
    cluster.add_account("boss", PASSWORD)
    cluster.add_account("ann", PASSWORD)
    return await raw.log_in("boss")


async def guess(raw: Raw, name: str = "ann", password: str = "wrong", device_id: bytes = STRANGER) -> tuple[Code, str]:
    request = pb.LogInRequest(name=name, password=password, device_id=device_id)
    return await refused(raw.accounts.LogIn(request))


async def failures(cluster: InProcessCluster) -> Failures:
    def read(reader: StateReader) -> Failures:
        return failed_log_ins.of_account(reader, cluster.accounts["ann"].id)

    return await cluster.readers.run(read)


async def test_the_right_password_has_to_wait_after_ten_wrong_ones_but_not_on_a_known_device(
    cluster: InProcessCluster, raw: Raw, boss: Person
) -> None:
    await raw.log_in("ann", device_id=PHONE)
    index = cluster.index
    for _ in range(10):
        assert (await guess(raw))[0] is Code.UNAUTHENTICATED
    assert cluster.index == index + 1, "ten wrong guesses are one entry"
    assert await failures(cluster) == Failures(10, 0)
    code, text = await guess(raw, password=PASSWORD)
    assert code is Code.FAILED_PRECONDITION
    assert "was not checked" in text
    assert "Wait 30 seconds" in text
    await raw.log_in("ann", device_id=PHONE)
    await raw.log_in("boss", device_id=b"b" * 16)
    assert await failures(cluster) == Failures(10, 0), "a known device has a count of its own"


async def test_a_log_in_of_the_owner_on_a_known_device_gives_strangers_no_more_guesses(raw: Raw, boss: Person) -> None:
    await raw.log_in("ann", device_id=PHONE)
    for _ in range(10):
        await guess(raw)
    await raw.log_in("ann", device_id=PHONE)
    assert (await guess(raw))[0] is Code.FAILED_PRECONDITION
    assert (await guess(raw, device_id=b"t" * 16))[0] is Code.FAILED_PRECONDITION


async def test_an_administrator_lifts_the_delay(cluster: InProcessCluster, raw: Raw, boss: Person) -> None:
    for _ in range(10):
        await guess(raw)
    assert (await guess(raw, password=PASSWORD))[0] is Code.FAILED_PRECONDITION
    await raw.admin.LiftDelay(admin_pb2.LiftDelayRequest(account="ann"), metadata=boss.metadata)
    await raw.log_in("ann", device_id=STRANGER)


async def test_names_of_nobody_are_delayed_like_those_of_accounts(raw: Raw, boss: Person) -> None:
    answers = [await guess(raw, name="nobody") for _ in range(11)]
    assert [code for code, _ in answers] == [Code.UNAUTHENTICATED] * 10 + [Code.FAILED_PRECONDITION]


async def test_guesses_at_the_same_time_do_not_pass_together(raw: Raw, boss: Person) -> None:
    answers = await asyncio.gather(*(guess(raw) for _ in range(50)))
    assert [code for code, _ in answers].count(Code.UNAUTHENTICATED) == 10


async def test_a_stolen_session_cannot_guess_the_password_either(raw: Raw, boss: Person) -> None:
    codes = []
    for _ in range(12):
        request = pb.DeleteAccountRequest(password="wrong")
        code, _ = await refused(raw.accounts.DeleteAccount(request, metadata=boss.metadata))
        codes.append(code)
    assert codes == [Code.UNAUTHENTICATED] * 10 + [Code.FAILED_PRECONDITION] * 2
    change = pb.ChangePasswordRequest(old_password="wrong", new_password="anything but common")
    code, _ = await refused(raw.accounts.ChangePassword(change, metadata=boss.metadata))
    assert code is Code.FAILED_PRECONDITION


async def test_failures_and_administrators_are_logged_without_secrets(raw: Raw, boss: Person) -> None:
    with capture_logs() as logs:
        await guess(raw, password="my secret guess")
        await guess(raw, name="my-secret-name")
        reset = admin_pb2.ResetPasswordRequest(account="ann", password="a secret for ann")
        await raw.admin.ResetPassword(reset, metadata=boss.metadata)
    failed = [line for line in logs if line["event"] == "login_failed"]
    assert [(line["account"], line["reason"], line["address"]) for line in failed] == [
        ("ann", "wrong_password", "127.0.0.1"),
        ("", "unknown_name", "127.0.0.1"),
    ]
    [action] = [line for line in logs if line["event"] == "admin_action"]
    assert (action["action"], action["by"], action["about"]) == ("reset_password", "boss", "ann")
    assert "secret" not in str(logs)


class Delaying:
    """A throttle that lets nobody through."""

    async def begin(self, attempt: Attempt) -> Verdict:
        return Verdict(30.0, 10, "account")

    async def succeeded(self, attempt: Attempt) -> None:
        raise AssertionError("nothing was checked")

    async def not_checked(self, attempt: Attempt) -> None:
        raise AssertionError("nothing was checked")


class NoLog:
    """A router that takes no command."""

    async def submit(self, commands: Sequence[state_pb2.Command], *, timeout_s: float) -> AppliedCommands:
        raise AssertionError("nothing was counted")


async def test_strangers_do_not_fill_the_log_with_attempts_that_were_delayed(cluster: InProcessCluster) -> None:
    now = [10.0]
    check = PasswordCheck(cluster.passwords, Delaying(), Commands(NoLog(), lambda: 3), lambda: now[0])
    with capture_logs() as logs:
        for _ in range(1000):
            with pytest.raises(ApiError):
                await check.is_right(Claim("ann", None, Failures(), "192.0.2.7"), "wrong")
        now[0] += 1
        with pytest.raises(ApiError):
            await check.is_right(Claim("ann", None, Failures(), "192.0.2.8"), "wrong")
    assert {(line["event"], line["log_level"], line["reason"]) for line in logs} == {
        ("login_failed", "warning", "delayed")
    }
    assert len(logs) == DELAYED_LINES_PER_S + 1
    assert (logs[-1]["address"], logs[-1]["lines_left_out"]) == ("192.0.2.8", 1000 - DELAYED_LINES_PER_S)


async def test_a_password_is_changed_once_and_signs_out_the_other_devices(raw: Raw, boss: Person) -> None:
    other = await raw.log_in("boss")
    request = pb.ChangePasswordRequest(old_password=PASSWORD, new_password="another horse battery")
    for _ in range(2):
        await raw.accounts.ChangePassword(request, metadata=boss.metadata)
    await raw.accounts.ListDevices(pb.ListDevicesRequest(), metadata=boss.metadata)
    code, _ = await refused(raw.accounts.ListDevices(pb.ListDevicesRequest(), metadata=other.metadata))
    assert code is Code.UNAUTHENTICATED
    await raw.log_in("boss", password="another horse battery")
    wrong = pb.ChangePasswordRequest(old_password=PASSWORD, new_password="a third horse battery")
    code, text = await refused(raw.accounts.ChangePassword(wrong, metadata=boss.metadata))
    assert (code, "stays in force" in text) == (Code.UNAUTHENTICATED, True)
    common = pb.ChangePasswordRequest(old_password=PASSWORD, new_password="password1")
    code, text = await refused(raw.accounts.ChangePassword(common, metadata=boss.metadata))
    assert (code, "most common" in text) == (Code.INVALID_ARGUMENT, True)


async def test_nobody_registers_where_registration_is_closed_and_no_password_is_hashed(
    cluster: InProcessCluster, raw: Raw, boss: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster.change_setting("registration", 1)

    async def never(*_: object) -> bytes:
        raise AssertionError("hashed for nothing")

    request = pb.RegisterRequest(name="carl", password=PASSWORD, request_id=bytes(16))
    with monkeypatch.context() as patched:
        patched.setattr(cluster.passwords, "hash", never)
        code, text = await refused(raw.accounts.Register(request))
        assert (code, "by invitation" in text) == (Code.FAILED_PRECONDITION, True)
        request.code = "wrong"
        code, text = await refused(raw.accounts.Register(request))
        assert (code, "code is wrong" in text) == (Code.FAILED_PRECONDITION, True)
    made = await raw.admin.CreateInvitation(admin_pb2.CreateInvitationRequest(), metadata=boss.metadata)
    request.code = made.code.upper().replace("-", " ")
    await raw.accounts.Register(request)
    await raw.log_in("carl")
