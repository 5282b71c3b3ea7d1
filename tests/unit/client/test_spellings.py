"""Account names ignore case, and so do the files of an account: one account is one device, however it is spelled.

What can go wrong: `parley login KIM` after `parley login kim` made a second device with a second outbox, and what
waited in the first one was out of sight.
"""

import json
import threading
from contextlib import closing
from pathlib import Path

import apsw
import pytest

from parley import ConnectionState
from parley.chat import StorageNews, status_line
from parley.device import identity, outbox, schema
from parley.device.profile import Hosts, StateDirectory
from parley.device.schema import set_meta
from parley.device.spellings import kept_elsewhere
from parley.terminal.exits import ExitCode
from parley.wire.endpoints import parse_endpoints
from tests.support.node import running_cluster
from tests.unit.client.helpers import PASSWORD, make_client, signed_in, until
from tests.unit.client.records import BOB
from tests.unit.client.test_command import Parley

HOST = parse_endpoints(["localhost:7600"])


def make_file(directory: Path, owner: str = "", waits: str = "") -> None:
    """Make a client's file, of an account whose name the cluster spells `owner`."""
    directory.mkdir(parents=True)
    with closing(schema.open_database(directory / "client.sqlite")) as connection, connection:
        identity.load(connection)
        if owner:
            set_meta(connection, "account_id", 7)
            connection.execute("INSERT INTO accounts VALUES (7, ?, '', 0, 1)", (owner,))
        if waits:
            outbox.add(connection, [(BOB, waits)], 1)


def only_folder(root: Path) -> Path:
    """Return the folder of the only account that has files here."""
    [database] = root.glob("**/client.sqlite")
    return database.parent


async def test_every_spelling_of_a_name_is_one_device_with_one_outbox(tmp_path: Path) -> None:
    async with running_cluster() as cluster:
        cluster.add_account("bob", PASSWORD)
        cluster.add_account("Kim", PASSWORD)
        parley = Parley(tmp_path, cluster)
        for spelling in ("kim", "KIM", "Kim"):
            done = await parley("login", spelling, PARLEY_PASSWORD=PASSWORD)
            assert (done.code, done.err) == (ExitCode.OK, "Signed in as Kim.\n"), done
            sent = await parley("send", "bob", f"from {spelling}", "--account", spelling)
            assert sent.code == ExitCode.OK, sent
        assert len(cluster.devices) == 1
        await cluster.nodes[0].die()
        assert (await parley("send", "bob", "kept", "--account", "kim", "--timeout", "0.1")).code == ExitCode.KEPT
        for spelling in ("kim", "KIM", "Kim"):
            [one] = json.loads((await parley("outbox", "--json", "--account", spelling)).out)
            assert one["body"] == "kept"


def test_all_spellings_have_one_folder_whose_name_is_that_of_the_account(tmp_path: Path) -> None:
    state = StateDirectory(tmp_path)
    folders = {state.profile("c1", spelling).directory for spelling in ("kim", "KIM", "Kim")}
    assert folders == {tmp_path / "c1" / "kim"}
    assert state.profile("c1", "Kim.").directory != state.profile("c1", "Kim").directory
    make_file(tmp_path / "c1" / "kim")
    assert state.accounts() == ("kim",)


def test_the_folder_that_an_earlier_release_made_for_a_spelling_is_found_by_every_spelling(tmp_path: Path) -> None:
    """It was named after the letters, capital or not, and a digest of them."""
    state = StateDirectory(tmp_path)
    state.profile("c1", "other").make()
    state.remember_hosts("c1", Hosts(("localhost:7600",)))
    make_file(tmp_path / "c1" / "kim_1~a77a74aa", "Kim.1", "waits")  # not the digest of any of the spellings below
    make_file(tmp_path / "c1" / "kim_1~bbbbbbbb", "KIM-1")
    make_file(tmp_path / "c1" / "kim_1~cccccccc")
    for spelling in ("kim.1", "KIM.1", "Kim.1"):
        assert state.profile("c1", spelling).directory.name == "kim_1~a77a74aa"
        found = state.find(spelling, HOST)
        assert found is not None
        assert found.directory.name == "kim_1~a77a74aa"
    assert state.profile("c1", "kim_1").directory.name == "kim_1"
    assert state.find("kim_1", HOST) is None


def test_two_folders_of_an_earlier_release_for_one_account_keep_their_spellings(tmp_path: Path) -> None:
    state = StateDirectory(tmp_path)
    make_file(tmp_path / "c1" / "kim~d25949ef", "Kim")
    make_file(tmp_path / "c1" / "kim", "Kim")
    names = {spelling: state.profile("c1", spelling).directory.name for spelling in ("kim", "Kim", "KIM")}
    assert names == {"kim": "kim", "Kim": "kim~d25949ef", "KIM": "kim"}


@pytest.mark.parametrize(
    ("used", "other", "named"),
    [
        ("kim", "kim~d25949ef", "Kim"),
        ("Kim", "kim", "kim"),
        ("kim", "kim~28004a88", "KiM"),
    ],
)
def test_what_waits_in_another_folder_of_the_account_is_told_with_the_spelling_that_opens_it(
    tmp_path: Path, used: str, other: str, named: str
) -> None:
    state = StateDirectory(tmp_path)
    for folder in {"kim", "kim~d25949ef", other}:
        make_file(tmp_path / "c1" / folder, "Kim", waits="over there" if folder == other else "")
    make_file(tmp_path / "c1" / "kim_~cccccccc", "kim_", waits="of somebody else")
    told = kept_elsewhere(state.profile("c1", used))
    assert told.startswith(f"1 message of this account waits in another folder: {tmp_path / 'c1' / other}")
    assert f"parley outbox --send --account {named}" in told
    assert state.profile("c1", named).directory.name == other


@pytest.mark.parametrize("folders", [("kim",), ("kim", "kim~d25949ef"), ("kim~d25949ef",)])
def test_without_waiting_messages_elsewhere_nothing_is_told(tmp_path: Path, folders: tuple[str, ...]) -> None:
    state = StateDirectory(tmp_path)
    for folder in folders:
        make_file(tmp_path / "c1" / folder, "Kim", waits="here" if len(folders) == 1 else "")
    assert kept_elsewhere(state.profile("c1", "kim")) == ""


def test_a_folder_whose_spelling_cannot_be_found_out_is_named_all_the_same(tmp_path: Path) -> None:
    make_file(tmp_path / "c1" / "kim")
    make_file(tmp_path / "c1" / "kim~00000000", "Kim", waits="over there")
    told = kept_elsewhere(StateDirectory(tmp_path).profile("c1", "kim"))
    assert "kim~00000000" in told
    assert "spelled" in told


async def test_messages_in_the_folder_of_another_spelling_are_told_of_and_sent_by_the_command_that_is_named(
    tmp_path: Path,
) -> None:
    async with running_cluster() as cluster:
        cluster.add_account("bob", PASSWORD)
        cluster.add_account("Kim", PASSWORD)
        parley = Parley(tmp_path, cluster)
        await parley("login", "kim", PARLEY_PASSWORD=PASSWORD)
        make_file(only_folder(tmp_path).with_name("kim~d25949ef"), "Kim", waits="over there")
        told = await parley("outbox", "--account", "kim")
        assert "parley outbox --send --account Kim" in told.err
        again = await parley("login", "kim", PARLEY_PASSWORD=PASSWORD)
        assert "1 message of this account waits in another folder" in again.err
        [one] = json.loads((await parley("outbox", "--json", "--account", "Kim")).out)
        assert one["body"] == "over there"
        assert (await parley("login", "Kim", PARLEY_PASSWORD=PASSWORD)).code == ExitCode.OK
        assert (await parley("outbox", "--send", "--account", "Kim")).code == ExitCode.OK
        assert cluster.bodies_for("bob") == ["over there"]
        assert "another folder" not in (await parley("outbox", "--account", "kim")).err


async def test_window_and_chat_are_told_of_messages_in_another_folder(tmp_path: Path) -> None:
    async with running_cluster() as cluster, signed_in(cluster, tmp_path, "kim") as kim:
        assert await kim.kept_elsewhere() == ""
        make_file(only_folder(tmp_path).with_name("kim~d25949ef"), "Kim", waits="over there")
        async with make_client(cluster, tmp_path, "kim") as again:
            told = await again.kept_elsewhere()
            assert "another folder" in told
            await until(lambda: again.state.kept_elsewhere == told, "it is told")
            await until(lambda: again.state.node != "", "it shows the state of the connected process")
            assert again.state.connection is ConnectionState.SHARED
            assert again.state.kept_elsewhere == told, "the connected process, which began before, knows nothing of it"
            assert told in status_line(again.state, None, 0.0).text
            news: list[str] = []
            StorageNews(news.append).follow(again.state)
            assert news == [told]


def test_a_damaged_file_belongs_to_no_other_spelling(tmp_path: Path) -> None:
    (tmp_path / "c1" / "kim~a77a74aa").mkdir(parents=True)
    (tmp_path / "c1" / "kim~a77a74aa" / "client.sqlite").write_bytes(b"garbage" * 1000)
    assert StateDirectory(tmp_path).profile("c1", "kim").directory.name == "kim"


def test_a_file_that_another_program_is_closing_is_read_a_moment_later(tmp_path: Path) -> None:
    state = StateDirectory(tmp_path)
    make_file(tmp_path / "c1" / "kim", "Kim")
    make_file(tmp_path / "c1" / "kim~d25949ef", "Kim", waits="over there")
    holder = apsw.Connection(str(tmp_path / "c1" / "kim~d25949ef" / "client.sqlite"))
    holder.execute("PRAGMA locking_mode=EXCLUSIVE")
    holder.execute("BEGIN EXCLUSIVE")
    told: list[str] = []
    reading = threading.Thread(target=lambda: told.append(kept_elsewhere(state.profile("c1", "kim"))))
    reading.start()
    reading.join(0.2)
    assert reading.is_alive(), "it waits for the other"
    holder.execute("ROLLBACK")
    holder.close()
    reading.join()
    assert told[0].startswith("1 message of this account waits in another folder")
