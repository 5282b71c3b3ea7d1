"""From `parley invite` of an administrator to the first message of a new person, who read nothing."""

import asyncio
import json
import os
import signal
import stat
from pathlib import Path

import pytest

from parley import ParleyError
from parley.terminal.exits import ExitCode
from parley.terminal.invitation_file import InvitationFile
from parley.terminal.invite_command import make_invitation
from tests.support.node import InProcessCluster
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
        eve = await Parley(tmp_path / "eve")("join", link, PARLEY_PASSWORD=PASSWORD)
        assert eve.code == ExitCode.REFUSED, "it works once"


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


DRAFT = InvitationFile("ward", ("127.0.0.1:7600",), "", "kim", code="", expires_at_ms=0)


def full(*_: object) -> None:
    raise OSError(28, "No space left on device")


async def test_a_file_that_cannot_be_written_takes_its_invitation_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async with cluster_with_boss() as cluster, signed_in(cluster, tmp_path, "boss") as boss:
        administration = await boss.administration()
        monkeypatch.setattr("parley.terminal.invitation_file.os.fsync", full)
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

        monkeypatch.setattr("parley.terminal.invitation_file.os.fsync", breaks)
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
