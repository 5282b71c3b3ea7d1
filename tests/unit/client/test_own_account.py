"""The own password, the own devices, codes, and what administrators do for accounts: SDK and command line."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from parley import (
    ConnectionState,
    MessageFailedError,
    NotSignedInError,
    RefusedError,
    TooManyDevicesError,
    WrongPasswordError,
)
from parley.terminal.exits import ExitCode
from parleyd.machine.limits import MAX_DEVICES_PER_ACCOUNT
from tests.support.node import InProcessCluster, running_cluster
from tests.unit.client.helpers import PASSWORD, make_client, signed_in
from tests.unit.client.test_command import Parley

NEW = "another horse battery"


@asynccontextmanager
async def cluster_with_boss() -> AsyncIterator[InProcessCluster]:
    """A cluster with an administrator besides whoever the test adds."""
    async with running_cluster() as cluster:
        cluster.add_account("boss", PASSWORD)
        yield cluster


# ---- the SDK


async def test_a_changed_password_counts_at_once_and_other_devices_are_signed_out(tmp_path: Path) -> None:
    async with cluster_with_boss() as cluster, signed_in(cluster, tmp_path / "other") as other:
        await other.wait_until(ConnectionState.CONNECTED, timeout=5)
        async with signed_in(cluster, tmp_path / "here") as client:
            account = await client.own_account()
            with pytest.raises(WrongPasswordError, match="stays in force"):
                await account.change_password("wrong", NEW)
            with pytest.raises(RefusedError, match="most common"):
                await account.change_password(PASSWORD, "password1")
            cluster.nodes[0].faults.lose_answers = 1
            await account.change_password(PASSWORD, NEW)
            await other.wait_until(ConnectionState.SIGNED_OUT, timeout=5)
            assert [device.current for device in await account.devices() if device.signed_in] == [True]
            with pytest.raises(WrongPasswordError):
                await other.login("anna", PASSWORD)
            await other.login("anna", NEW)


async def test_a_session_that_has_ended_is_not_called_a_wrong_password(tmp_path: Path) -> None:
    async with cluster_with_boss() as cluster, signed_in(cluster, tmp_path) as client:
        account = await client.own_account()
        cluster.end_sessions()
        with pytest.raises(NotSignedInError) as ended:
            await account.change_password(PASSWORD, NEW)
        assert not isinstance(ended.value, WrongPasswordError)


async def test_a_device_is_signed_out_by_its_owner(tmp_path: Path) -> None:
    async with (
        cluster_with_boss() as cluster,
        signed_in(cluster, tmp_path / "lost") as lost,
        signed_in(cluster, tmp_path / "here") as client,
    ):
        account = await client.own_account()
        here, there = await account.devices()
        assert (here.current, there.current, there.signed_in) == (True, False, True)
        await lost.wait_until(ConnectionState.CONNECTED, timeout=5)
        await account.sign_out_device(there.id)
        await lost.wait_until(ConnectionState.SIGNED_OUT, timeout=5)
        with pytest.raises(RefusedError, match="no such device"):
            await account.sign_out_device("00" * 16)


async def test_an_account_whose_devices_are_all_lost_logs_in_by_ending_the_oldest(tmp_path: Path) -> None:
    async with cluster_with_boss() as cluster:
        cluster.add_account("anna", PASSWORD)
        for number in range(MAX_DEVICES_PER_ACCOUNT):
            async with make_client(cluster, tmp_path / str(number), connect=False) as client:
                await client.login("anna", PASSWORD)
        async with make_client(cluster, tmp_path / "new", connect=False) as client:
            with pytest.raises(TooManyDevicesError, match="Nothing was changed"):
                await client.login("anna", PASSWORD)
            await client.login("anna", PASSWORD, end_oldest_device=True)
            assert len(await (await client.own_account()).devices()) == MAX_DEVICES_PER_ACCOUNT
        async with make_client(cluster, tmp_path / "0", "anna", connect=False) as oldest:
            with pytest.raises(NotSignedInError):
                await oldest.list_accounts()


async def test_what_waits_for_a_name_never_reaches_its_new_owner(tmp_path: Path) -> None:
    async with cluster_with_boss() as cluster:
        cluster.change_setting("name_reserved_days", 0)
        former = cluster.add_account("bob", PASSWORD)
        async with signed_in(cluster, tmp_path) as client:
            cluster.nodes[0].faults.retry = 1_000_000
            message = await client.send("bob", "for the old bob alone")
            cluster.delete_account(former)
            cluster.add_account("bob", PASSWORD)
            cluster.nodes[0].faults.retry = 0
            with pytest.raises(MessageFailedError, match="may mean somebody else now"):
                await message.accepted(10)
            again = await client.retry(message.local_id)
            await again.accepted(10)
        assert cluster.bodies_for("bob") == ["for the old bob alone"], "once, after a person asked for it again"


async def test_a_suspension_ends_the_streams_on_all_nodes_and_loses_nothing(tmp_path: Path) -> None:
    async with running_cluster(("n1", "n2")) as cluster:
        cluster.add_account("boss", PASSWORD)
        async with (
            signed_in(cluster, tmp_path / "boss", "boss", nodes=[0]) as boss,
            signed_in(cluster, tmp_path / "one", nodes=[0]) as one,
            signed_in(cluster, tmp_path / "two", nodes=[1], seed=2) as two,
        ):
            for client in (one, two):
                await client.wait_until(ConnectionState.CONNECTED, timeout=5)
            administration = await boss.administration()
            await administration.suspend_account("anna", "left")
            for client in (one, two):
                await client.wait_until(ConnectionState.SIGNED_OUT, timeout=5)
            [listed] = await boss.list_accounts("anna")
            assert listed.suspended is not None
            assert (listed.suspended.suspended_by, listed.suspended.reason) == ("boss", "left")
            await (await boss.send("anna", "for later")).accepted(10)
            with pytest.raises(RefusedError, match="has suspended this account"):
                await one.login("anna", PASSWORD)
            await administration.release_account("anna")
            await one.login("anna", PASSWORD)
            message = await anext(await one.messages())
            assert message.body == "for later"
            assert (await boss.list_accounts("anna"))[0].suspended is None


# ---- the command line


async def test_password_and_devices_from_the_command_line(tmp_path: Path) -> None:
    async with cluster_with_boss() as cluster:
        cluster.add_account("anna", PASSWORD)
        here, there = Parley(tmp_path / "here", cluster), Parley(tmp_path / "there", cluster)
        for parley in (there, here):
            assert (await parley("login", "anna", PARLEY_PASSWORD=PASSWORD)).code == 0
        listed = (await here("devices", "list")).out.splitlines()
        assert ["this device" in listed[0], "signed in" in listed[1]] == [True, True]
        done = await here("devices", "revoke", listed[1].split()[0])
        assert (done.code, "Signed out" in done.err) == (0, True)
        assert (await there("accounts")).code == ExitCode.NOT_SIGNED_IN
        assert (await here("devices", "revoke", "--others")).code == 0
        for arguments in (("devices", "revoke"), ("devices", "revoke", "ff", "--others"), ("devices", "revoke", "zz")):
            assert (await here(*arguments)).code == ExitCode.USAGE
        assert (await here("password", "--password-stdin", stdin=f"wrong\n{NEW}\n")).code == ExitCode.NOT_SIGNED_IN
        assert (await here("password", "--password-stdin", stdin=f"{PASSWORD}\n")).code == ExitCode.USAGE
        changed = await here("password", "--password-stdin", stdin=f"{PASSWORD}\n{NEW}\n")
        assert (changed.code, "is changed" in changed.err) == (0, True)
        assert (await there("login", "anna", PARLEY_PASSWORD=NEW)).code == 0


async def test_administrators_suspend_list_and_release_from_the_command_line(tmp_path: Path) -> None:
    async with cluster_with_boss() as cluster:
        cluster.add_account("anna", PASSWORD)
        boss, anna = Parley(tmp_path / "boss", cluster), Parley(tmp_path / "anna", cluster)
        await boss("login", "boss", PARLEY_PASSWORD=PASSWORD)
        await anna("login", "anna", PARLEY_PASSWORD=PASSWORD)
        assert (await anna("cluster", "suspend", "boss")).code == ExitCode.REFUSED
        assert (await boss("cluster", "suspend", "boss")).code == ExitCode.REFUSED
        done = await boss("cluster", "suspend", "anna", "--reason", "left the ward")
        assert done.code == 0
        assert said_in(
            done.err, "Nothing of it is deleted", "what others send to it is kept", "parley cluster release anna"
        )
        ended = await anna("accounts")
        assert ended.code == ExitCode.NOT_SIGNED_IN
        refused = await anna("login", "anna", PARLEY_PASSWORD=PASSWORD)
        assert refused.code == ExitCode.REFUSED
        assert said_in(refused.err, "has suspended this account", "keeps the account", "Ask an administrator", "log in")
        first, second = (await boss("accounts")).out.splitlines()
        assert re.fullmatch(r"anna  suspended since \S+ \S+ by boss: left the ward", first)
        assert second == "boss"
        released = await boss("cluster", "release", "anna")
        assert released.code == 0
        assert said_in(released.err, "can log in: parley login anna", "what others sent to it meanwhile")
        assert (await anna("login", "anna", PARLEY_PASSWORD=PASSWORD)).code == 0
        assert "suspended" not in (await anna("accounts")).out


async def test_administrators_list_and_withdraw_invitations_from_the_command_line(tmp_path: Path) -> None:
    async with cluster_with_boss() as cluster:
        boss, anna = Parley(tmp_path / "boss", cluster), Parley(tmp_path / "anna", cluster)
        await boss("login", "boss", PARLEY_PASSWORD=PASSWORD)
        await boss("cluster", "settings", "registration=1")
        assert (await boss("cluster", "invitations")).out == ""
        codes = [(await boss("cluster", "invite", "--days", days)).out.strip() for days in ("1", "2")]
        first, second = (await boss("cluster", "invitations")).out.splitlines()
        assert re.fullmatch(r"[0-9a-f]{12}  until \S+ \S+  for an account", first)
        assert not any(code in first + second for code in codes)
        done = await boss("cluster", "invitations", "--withdraw", first.split()[0])
        assert (done.code, "Withdrawn" in done.err) == (0, True)
        assert (await boss("cluster", "invitations", "--withdraw", first.split()[0])).code == ExitCode.USAGE
        assert (await boss("cluster", "invitations")).out.splitlines() == [second]
        refused = await anna("register", "anna", "--code", codes[0], PARLEY_PASSWORD=PASSWORD)
        assert (refused.code, "code is wrong" in refused.err) == (ExitCode.REFUSED, True)
        assert (await anna("register", "anna", "--code", codes[1], PARLEY_PASSWORD=PASSWORD)).code == 0


async def test_administrators_give_an_account_a_quota_from_the_command_line(tmp_path: Path) -> None:
    async with cluster_with_boss() as cluster:
        cluster.add_account("anna", PASSWORD)
        boss = Parley(tmp_path / "boss", cluster)
        await boss("login", "boss", PARLEY_PASSWORD=PASSWORD)
        shown = await boss("cluster", "quota", "anna")
        assert shown.out.strip() == "anna: 0 bytes stored, 1073741824 bytes (the setting max_account_bytes)"
        changed = await boss("cluster", "quota", "anna", "--set", "0")
        assert (changed.out.strip(), changed.err) == ("anna: 0 bytes stored, no limit (its own quota)", "")
        assert "the setting" in (await boss("cluster", "quota", "anna", "--set", "default")).out
        for wrong in ("-1", "5 GB", "1.5", "", "9" * 30, "9" * 5000):
            assert (await boss("cluster", "quota", "anna", "--set", wrong)).code == ExitCode.USAGE
        assert (await boss("cluster", "quota", "nobody")).code == ExitCode.REFUSED


async def test_a_quota_below_what_is_stored_is_told_to_the_administrator_and_to_the_account(tmp_path: Path) -> None:
    async with cluster_with_boss() as cluster:
        cluster.add_account("anna", PASSWORD)
        boss, anna = Parley(tmp_path / "boss", cluster), Parley(tmp_path / "anna", cluster)
        for parley, name in ((boss, "boss"), (anna, "anna")):
            await parley("login", name, PARLEY_PASSWORD=PASSWORD)
        assert (await anna("send", "boss", "before")).code == 0
        for words in (("--set", "1"), (), ("--json",)):
            told = await boss("cluster", "quota", "anna", *words)
            assert told.code == 0
            assert said_in(told.err, "anna has no room left", "is kept", "are refused", "quota anna --set BYTES")
        refused = await anna("send", "boss", "after")
        assert refused.code == ExitCode.REFUSED
        assert said_in(refused.err, "was not stored", "earlier ones are kept", "still receive", "Ask an administrator")
        assert (await boss("send", "anna", "hello")).code == 0
        assert "hello" in (await anna("fetch")).out


def said_in(text: str, *parts: str) -> bool:
    """Fail with the text if a part is missing."""
    assert all(part in text for part in parts), text
    return True


@pytest.mark.parametrize(
    "words", [("accounts",), ("send", "boss", "hello"), ("fetch",), ("outbox",), ("devices", "list")]
)
async def test_an_account_that_is_not_signed_in_here_is_named_with_how_it_signs_in(
    tmp_path: Path, words: tuple[str, ...]
) -> None:
    async with cluster_with_boss() as cluster:
        boss = Parley(tmp_path, cluster)
        await boss("login", "boss", PARLEY_PASSWORD=PASSWORD)
        done = await boss("-a", "eve", *words)
        assert done.code == ExitCode.NOT_SIGNED_IN
        assert said_in(done.err, "eve is not signed in here. Nothing was changed.", "parley login eve")
        assert (await boss("logout")).code == 0
        if words != ("outbox",):  # which tells of this device also without a session
            assert said_in((await boss("-a", "boss", *words)).err, "parley login boss")


async def test_administrators_invite_reset_and_lift_from_the_command_line(tmp_path: Path) -> None:
    async with cluster_with_boss() as cluster:
        boss, anna = Parley(tmp_path / "boss", cluster), Parley(tmp_path / "anna", cluster)
        await boss("login", "boss", PARLEY_PASSWORD=PASSWORD)
        assert (await boss("cluster", "settings", "registration=1")).code == 0
        refused = await anna("register", "anna", PARLEY_PASSWORD=PASSWORD)
        assert (refused.code, "--code CODE" in refused.err) == (ExitCode.REFUSED, True)
        invited = await boss("cluster", "invite", "--days", "2")
        code = invited.out.strip()
        assert re.fullmatch(r"\w{9}-\w{9}-\w{9}", code)
        assert (await anna("register", "anna", "--code", code, PARLEY_PASSWORD=PASSWORD)).code == 0
        for _ in range(10):
            await anna("login", "anna", PARLEY_PASSWORD="wrong password")
        delayed = await anna("login", "anna", PARLEY_PASSWORD=PASSWORD)
        assert (delayed.code, "was not checked" in delayed.err) == (ExitCode.REFUSED, True)
        assert (await boss("cluster", "lift-delay", "anna")).code == 0
        assert (await anna("login", "anna", PARLEY_PASSWORD=PASSWORD)).code == 0
        reset = await boss("cluster", "reset-password", "anna", "--password-stdin", stdin=f"{NEW}\n")
        assert reset.code == 0
        assert (await anna("accounts")).code == ExitCode.NOT_SIGNED_IN
        assert (await anna("login", "anna", PARLEY_PASSWORD=NEW)).code == 0
        claimed = await anna("cluster", "claim", code)
        assert (claimed.code, "was used already" in claimed.err) == (ExitCode.REFUSED, True)
        assert (await anna("cluster", "lift-delay", "boss")).code == ExitCode.REFUSED
