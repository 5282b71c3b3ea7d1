"""Account names ignore case, and so do the files of an account: one account is one device, however it is spelled.

What can go wrong: `parley login KIM` after `parley login kim` made a second device with a second outbox, and what
waited in the first one was out of sight.
"""

import json
from contextlib import closing
from pathlib import Path

from parley.device import identity, outbox, schema
from parley.device.profile import Hosts, StateDirectory
from parley.device.schema import set_meta
from parley.terminal.exits import ExitCode
from parley.wire.endpoints import parse_endpoints
from tests.support.node import running_cluster
from tests.unit.client.helpers import PASSWORD
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


def test_a_damaged_file_belongs_to_no_other_spelling(tmp_path: Path) -> None:
    (tmp_path / "c1" / "kim~a77a74aa").mkdir(parents=True)
    (tmp_path / "c1" / "kim~a77a74aa" / "client.sqlite").write_bytes(b"garbage" * 1000)
    assert StateDirectory(tmp_path).profile("c1", "kim").directory.name == "kim"
