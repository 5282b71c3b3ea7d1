"""From `parley invite` of an administrator to the first message of a new person, who read nothing."""

import asyncio
import json
import os
import signal
import stat
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

import pytest

from parley import OutcomeUnknownError, ParleyError, RefusedError, UnreachableError
from parley.inviting import InvitationFile
from parley.terminal.contexts import Contexts
from parley.terminal.exits import ExitCode
from parley.terminal.invite_command import make_invitation
from parley.terminal.join_command import join_cluster, prepare
from parley.terminal.options import ConnectionOptions
from tests.support.node import InProcessCluster
from tests.unit.client.certificates import Authority
from tests.unit.client.helpers import PASSWORD, signed_in, until
from tests.unit.client.test_command import Parley
from tests.unit.client.test_own_account import cluster_with_boss


async def boss_of(cluster: InProcessCluster, folder: Path) -> Parley:
    boss = Parley(folder, cluster)
    assert (await boss("login", "boss", PARLEY_PASSWORD=PASSWORD)).code == 0
    assert (await boss("cluster", "settings", "registration=1")).code == 0
    return boss


async def test_a_new_person_joins_with_a_link_and_a_password_alone(tmp_path: Path) -> None:
    async with cluster_with_boss() as cluster:
        boss, kim = await boss_of(cluster, tmp_path / "boss"), Parley(tmp_path / "kim")
        invited = await boss("invite", "kim", "--cluster", "ward")
        assert (invited.code, invited.out.count("\n"), "works once" in invited.err) == (0, 1, True), invited
        link = invited.out.strip()
        joined = await kim("join", "-", "--password-stdin", stdin=f"{link}\n{PASSWORD}\n")
        assert joined.code == 0, joined
        assert joined.err.splitlines()[-2:] == ["The account kim was created.", "Signed in as kim."]
        assert "Invitation to ward (127.0.0.1:" in joined.err
        assert link not in joined.err + joined.out
        assert (await kim("send", "boss", "hello")).code == 0
        assert "* ward " in (await kim("context", "list")).out
        again = await kim("join", link)
        assert (again.code, "kim has joined ward already" in again.err) == (0, True)
        eve = Parley(tmp_path / "eve")
        refused = await eve("join", link, PARLEY_PASSWORD=PASSWORD)
        assert refused.code == ExitCode.REFUSED, "it works once"
        assert (await eve("context", "list")).out == "", "nothing of it stays"


async def test_a_file_with_an_invitation_is_secret_and_says_so_to_programs_too(tmp_path: Path) -> None:
    async with cluster_with_boss() as cluster:
        boss, kim = await boss_of(cluster, tmp_path / "boss"), Parley(tmp_path / "kim")
        path = tmp_path / "kim.parley-invite"
        told = json.loads((await boss("invite", "kim", "--file", str(path.with_suffix("")), "--json")).out)
        values = told["values"]
        assert (values["file"], values["link"], values["cluster"]) == (str(path), "", "127.0.0.1"), told
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert json.loads(path.read_text())["code"] not in json.dumps(told)
        taken = await boss("invite", "kim", "--file", str(path))
        assert (taken.code, "Nobody was invited" in taken.err) == (ExitCode.USAGE, True)
        assert len((await boss("cluster", "invitations")).out.splitlines()) == 1
        joined = json.loads((await kim("join", str(path), "--as", "lab", "--json", PARLEY_PASSWORD=PASSWORD)).out)
        assert (joined["exit_code"], joined["values"]["context"], joined["values"]["account"]) == (0, "lab", "kim")


async def test_who_uses_another_cluster_goes_on_there_and_is_told_how_to_use_the_new_one(tmp_path: Path) -> None:
    async with cluster_with_boss() as cluster:
        boss, kim = await boss_of(cluster, tmp_path / "boss"), Parley(tmp_path / "kim")
        link = (await boss("invite", "kim", "--cluster", "ward")).out.strip()
        assert (await kim("context", "add", "lab", "--host", "localhost:1", "--insecure", "--use")).code == 0
        joined = await kim("join", link, PARLEY_PASSWORD=PASSWORD)
        assert (joined.code, joined.err.splitlines()[-1]) == (
            0,
            "Another context is in use. To use this one: parley context use ward.",
        )
        assert (await kim("--context", "ward", "send", "boss", "hello")).code == 0


async def test_only_an_administrator_invites_and_only_with_names_that_exist(tmp_path: Path) -> None:
    async with cluster_with_boss() as cluster:
        cluster.add_account("anna", PASSWORD)
        boss, anna = await boss_of(cluster, tmp_path / "boss"), Parley(tmp_path / "anna", cluster)
        assert (await anna("login", "anna", PARLEY_PASSWORD=PASSWORD)).code == 0
        refused = await anna("invite", "kim", "--file", str(tmp_path / "kim"))
        assert (refused.code, "kim.parley-invite" in os.listdir(tmp_path)) == (ExitCode.REFUSED, False)
        assert (await boss("invite", "k m")).code == ExitCode.USAGE
        assert (await boss("invite", "kim", "--cluster", "../x")).code == ExitCode.USAGE
        known = await boss("invite", "Anna", "--file", str(tmp_path / "anna"))
        assert (known.code, "an account Anna already. Nobody was invited" in known.err) == (ExitCode.USAGE, True)
        assert (await boss("cluster", "invitations")).out == ""


# ---- without the file or the account, nothing is left


async def test_a_file_that_cannot_be_made_invites_nobody(tmp_path: Path) -> None:
    async with cluster_with_boss() as cluster:
        boss = await boss_of(cluster, tmp_path / "boss")
        done = await boss("invite", "kim", "--file", str(tmp_path / "gone" / "kim"))
        assert (done.code, "Nobody was invited" in done.err) == (ExitCode.FAILED, True), done
        assert (await boss("cluster", "invitations")).out == ""


@pytest.mark.parametrize("name", ["", ".", "..", "/", "a" * 300])
async def test_a_name_that_no_file_can_have_invites_nobody(tmp_path: Path, name: str) -> None:
    async with cluster_with_boss() as cluster:
        boss = await boss_of(cluster, tmp_path / "boss")
        done = await boss("invite", "kim", "--file", name)
        assert ("Nobody was invited. Name " in done.err, "Traceback" in done.err) == (True, False), done
        assert done.code in (ExitCode.USAGE, ExitCode.FAILED)
        assert (await boss("cluster", "invitations")).out == ""


async def test_the_commands_that_open_a_file_are_told_as_a_shell_takes_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    async with cluster_with_boss() as cluster:
        boss = await boss_of(cluster, tmp_path / "boss")
        spaced = await boss("invite", "kim", "--file", "for kim")
        assert "parley gui 'for kim.parley-invite', or parley join 'for kim.parley-invite'." in spaced.err
        dashed = await boss("invite", "kim", "--file=-kim")
        assert "parley gui ./-kim.parley-invite, or parley join ./-kim.parley-invite." in dashed.err


async def test_a_broken_link_whose_target_is_gone_counts_as_a_file(tmp_path: Path) -> None:
    (tmp_path / "kim.parley-invite").symlink_to(tmp_path / "gone")
    async with cluster_with_boss() as cluster:
        boss = await boss_of(cluster, tmp_path / "boss")
        done = await boss("invite", "kim", "--file", str(tmp_path / "kim"))
        assert (done.code, "There is a file" in done.err) == (ExitCode.USAGE, True), done


DRAFT = InvitationFile("ward", ("127.0.0.1:7600",), "", "kim", code="", expires_at_ms=0)


def full(*_: object) -> None:
    raise OSError(28, "No space left on device")


async def test_a_file_that_cannot_be_written_takes_its_invitation_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async with cluster_with_boss() as cluster, signed_in(cluster, tmp_path, "boss") as boss:
        administration = await boss.administration()
        monkeypatch.setattr("parley.inviting.invitation_file.os.fsync", full)
        with pytest.raises(ParleyError, match=r"kim cannot be written \(No space left on device\)\. It was removed"):
            await make_invitation(administration, DRAFT, tmp_path / "kim", 7)
        assert (await administration.invitations(), (tmp_path / "kim").exists()) == ((), False)
        assert "The invitation was withdrawn. Nobody was invited." in capsys.readouterr().err


async def test_an_invitation_that_cannot_be_taken_back_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async with cluster_with_boss() as cluster, signed_in(cluster, tmp_path, "boss") as boss:
        administration = await boss.administration()

        def breaks(_: object) -> None:
            cluster.nodes[0].faults.unavailable = "no leader is known"
            monkeypatch.setattr("parley.administration.DEADLINE_S", 0.5)
            full()

        monkeypatch.setattr("parley.inviting.invitation_file.os.fsync", breaks)
        with pytest.raises(ParleyError, match="cannot be written"):
            await make_invitation(administration, DRAFT, tmp_path / "kim", 7)
        cluster.nodes[0].faults.unavailable = ""
        monkeypatch.setattr("parley.administration.DEADLINE_S", 30)
        [left] = await administration.invitations()
        assert f"parley cluster invitations --withdraw {left.id[:12]}\n" in capsys.readouterr().err


async def test_ctrl_c_before_the_answer_leaves_no_file_and_says_what_may_be_left(tmp_path: Path) -> None:
    async with cluster_with_boss() as cluster:
        boss, path = await boss_of(cluster, tmp_path / "boss"), tmp_path / "kim.parley-invite"
        cluster.nodes[0].faults.delay_s = 60
        process = await boss.start("invite", "kim", "--file", str(path))
        await until(path.exists, "the file is made first")
        process.send_signal(signal.SIGINT)
        _, err = await asyncio.wait_for(process.communicate(), 40)
        assert (process.returncode, path.exists()) == (130, False)
        assert b"may or may not have made an invitation. Nobody has its code" in err


def invitation_with_ca(folder: Path) -> Path:
    later_ms = int(time.time() * 1000) + 60_000
    path = folder / "kim.parley-invite"
    ca = Authority("ward").pem.decode()
    made = replace(DRAFT, ca=ca, code="abcdefghj-kmnpqrstu-vwxyz2345", expires_at_ms=later_ms)
    path.write_text(made.to_line())
    return path


async def test_who_ends_at_the_password_finds_the_machine_as_it_was(tmp_path: Path) -> None:
    kim = Parley(tmp_path / "kim")
    done = await kim("join", str(invitation_with_ca(tmp_path)), "--password-stdin")
    assert (done.code, (await kim("context", "list")).out) == (ExitCode.USAGE, ""), done
    assert list((tmp_path / "kim" / "state" / "authorities").iterdir()) == []


@pytest.mark.parametrize("error", [RefusedError("The code is wrong."), UnreachableError("No node answers.")])
async def test_the_ca_of_a_known_cluster_stays_when_another_account_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: ParleyError
) -> None:
    options = ConnectionOptions((), None, insecure=False, account="", state_dir=tmp_path / "state")
    invitation = str(invitation_with_ca(tmp_path))
    monkeypatch.setattr("parley.terminal.commands.register", raising(error))
    first, second = prepare(options, invitation), prepare(options, invitation)
    second.keep("ben")
    for joining in (first, second, prepare(options, invitation)):
        with pytest.raises(type(error)):
            await join_cluster(joining, password_stdin=False)
    ward = Contexts.load(tmp_path / "state").by_name["ward"]
    assert ([str(file) for file in (tmp_path / "state" / "authorities").iterdir()], ward.account) == ([ward.ca], "ben")


async def test_an_account_that_may_exist_keeps_the_cluster_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ConnectionOptions((), None, insecure=False, account="", state_dir=tmp_path / "state")
    monkeypatch.setattr("parley.terminal.commands.register", raising(OutcomeUnknownError("No clear answer.")))
    with pytest.raises(OutcomeUnknownError):
        await join_cluster(prepare(options, str(invitation_with_ca(tmp_path))), password_stdin=False)
    [file] = (tmp_path / "state" / "authorities").iterdir()
    assert Contexts.load(tmp_path / "state").by_name["ward"].ca == str(file)
    assert "may have been created, so ward is kept as a context" in capsys.readouterr().err


def raising(error: ParleyError) -> Callable[..., Awaitable[NoReturn]]:
    async def register(*_: object, **__: object) -> NoReturn:
        raise error

    return register
