"""Contexts name clusters. What can go wrong: a command goes to another cluster than the one that was meant.

That is also so if a damaged file of contexts is taken for none.
"""

import json
import os
from pathlib import Path

import pytest

from parley import BadInputError, ParleyError
from parley.terminal.contexts import Context, Contexts
from parley.terminal.exits import ExitCode
from parley.terminal.options import Flags, resolve_options
from tests.support.node import InProcessCluster, running_cluster
from tests.unit.client.helpers import PASSWORD
from tests.unit.client.test_command import Parley
from tests.unit.client.test_new_person import completed

WARD = Context(("w1:7600", "w2:7600"), "/ward.pem", account="kim")
LAB = Context(("localhost:7700",), insecure=True)


def kept(folder: Path, current: str = "") -> dict[str, str]:
    """Store both contexts. Return an environment that finds them."""
    Contexts(folder / "contexts.json", {"ward": WARD, "lab": LAB}, current).save()
    return {"PARLEY_STATE_DIR": str(folder)}


@pytest.mark.parametrize("environment", [{}, {"PARLEY_HOSTS": "other:1", "PARLEY_CA": "/o.pem", "PARLEY_ACCOUNT": "x"}])
@pytest.mark.parametrize("by_flag", [True, False])
def test_a_named_context_gives_hosts_ca_and_account_together(
    tmp_path: Path, environment: dict[str, str], *, by_flag: bool
) -> None:
    named = {} if by_flag else {"PARLEY_CONTEXT": "ward"}
    flags = Flags(context="ward" if by_flag else None)
    options = resolve_options(flags, {**kept(tmp_path, "lab"), **environment, **named})
    assert (options.hosts, options.ca, options.insecure) == (WARD.hosts, Path("/ward.pem"), False)
    assert (options.account, options.context) == ("kim", "ward")


def test_flags_take_precedence_over_a_context(tmp_path: Path) -> None:
    environment = kept(tmp_path)
    options = resolve_options(Flags(hosts=("w9",), ca=Path("/x.pem"), account="bob", context="ward"), environment)
    assert (options.hosts, options.ca, options.account) == (("w9:7600",), Path("/x.pem"), "bob")
    insecure = resolve_options(Flags(insecure=True, context="ward"), environment)
    assert (insecure.ca, insecure.insecure) == (None, True)
    secure = resolve_options(Flags(ca=Path("/x.pem"), context="lab"), environment)
    assert (secure.ca, secure.insecure) == (Path("/x.pem"), False)


def test_another_host_of_a_flag_never_meets_the_ca_of_a_context_of_the_environment(tmp_path: Path) -> None:
    options = resolve_options(Flags(hosts=("other:1",)), {**kept(tmp_path, "ward"), "PARLEY_CONTEXT": "ward"})
    assert (options.hosts, options.ca, options.context) == (("other:1",), None, "")
    options = resolve_options(Flags(hosts=("w2",)), {**kept(tmp_path), "PARLEY_CONTEXT": "ward"})
    assert (options.hosts, options.ca) == (("w2:7600",), Path("/ward.pem"))


def test_the_context_in_use_counts_after_the_settings_file_and_before_the_last_log_in(tmp_path: Path) -> None:
    environment = kept(tmp_path, "lab")
    (tmp_path / "last.json").write_text(json.dumps({"account": "bob", "hosts": ["w1:7600"], "ca": "/ward.pem"}))
    options = resolve_options(Flags(), environment)
    assert (options.hosts, options.insecure, options.insecure_given) == (LAB.hosts, True, True)
    assert (options.account, options.context) == ("", "lab"), "bob is an account of another cluster"
    (tmp_path / "c.toml").write_text('hosts = ["w1"]\n')
    options = resolve_options(Flags(), {**environment, "PARLEY_CONFIG": str(tmp_path / "c.toml")})
    assert (options.hosts, options.ca, options.context) == (("w1:7600",), Path("/ward.pem"), ""), "the last log-in"


def test_the_account_of_the_last_log_in_counts_in_a_context_of_the_same_cluster(tmp_path: Path) -> None:
    (tmp_path / "last.json").write_text(json.dumps({"account": "bob", "hosts": ["localhost:7700"], "insecure": True}))
    assert resolve_options(Flags(context="lab"), kept(tmp_path)).account == "bob"
    assert resolve_options(Flags(), kept(tmp_path, "lab")).account == "bob"


def test_a_context_that_does_not_exist_is_told_with_those_that_do(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match=r"no context 'wrad' \(PARLEY_CONTEXT\).*Known are: lab, ward"):
        resolve_options(Flags(), {**kept(tmp_path), "PARLEY_CONTEXT": "wrad"})


def test_a_pipe_in_the_place_of_the_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "contexts.json")
    with pytest.raises(BadInputError, match=r"contexts.json with the contexts cannot be used: .*it is no file"):
        Contexts.load(tmp_path)


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        "{}",
        '{"format": 2}',
        '{"format": 1, "contexts": []}',
        '{"format": 1, "contexts": {}, "current": "gone"}',
        '{"format": 1, "contexts": {"a b": {"hosts": ["h"]}}}',
        '{"format": 1, "contexts": {"ward": {"hosts": []}}}',
        '{"format": 1, "contexts": {"ward": {"hosts": [1]}}}',
        '{"format": 1, "contexts": {"ward": {"hosts": ["h"], "insecure": "yes"}}}',
        '{"format": 1, "contexts": {"ward": {"hosts": ["h"], "cat": "x"}}}',
        '{"format": 1, "contexts": {"ward": {"hosts": ["h"]}, "ward": {"hosts": ["evil"]}}}',
        "[" * 100_000,
        "caf\udce9",
    ],
)
async def test_a_damaged_file_is_told_in_words_and_stays_as_it_is(tmp_path: Path, text: str) -> None:
    """Without its contexts, a message could go to another cluster."""
    parley = Parley(tmp_path)
    path = tmp_path / "state" / "contexts.json"
    write(path, text)
    with pytest.raises(BadInputError, match=r"contexts.json with the contexts cannot be used"):
        resolve_options(Flags(), {"PARLEY_STATE_DIR": str(tmp_path / "state")})
    if text in ("{", "[]"):
        for words in (("send", "bob", "hello"), ("context", "list"), ("context", "remove", "ward")):
            done = await parley(*words)
            assert (done.code, "was not changed" in done.err, "Traceback" in done.err) == (ExitCode.USAGE, True, False)
    assert path.read_bytes() == text.encode(errors="surrogateescape")


@pytest.mark.parametrize("link", ["state/contexts.json", "state"])
async def test_a_link_to_nothing_is_no_missing_file(tmp_path: Path, link: str) -> None:
    """The disk with the file may not be mounted. Without its contexts, a message could go to another cluster."""
    parley = Parley(tmp_path)
    (tmp_path / link).parent.mkdir(exist_ok=True)
    (tmp_path / link).symlink_to(tmp_path / "gone")
    done = await parley("context", "list")
    assert (done.code, "cannot be used" in done.err, "not there" in done.err) == (ExitCode.USAGE, True, True)


def test_the_settings_file_may_not_be_a_link_to_nothing_either(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platformdirs.user_config_path", lambda *_, **__: tmp_path)
    resolve_options(Flags(), {"PARLEY_STATE_DIR": str(tmp_path)})
    (tmp_path / "config.toml").symlink_to(tmp_path / "gone")
    with pytest.raises(BadInputError, match=r"settings file .*config\.toml cannot be read: .* link to something"):
        resolve_options(Flags(), {"PARLEY_STATE_DIR": str(tmp_path)})


def test_a_file_that_is_a_link_stays_one_and_its_target_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "contexts.json").symlink_to(tmp_path / "dotfiles")
    (tmp_path / "dotfiles").write_text('{"format": 1}')
    kept(tmp_path)
    assert (tmp_path / "contexts.json").is_symlink()
    assert set(Contexts.load(tmp_path).by_name) == {"ward", "lab"}
    assert {path.name for path in tmp_path.iterdir()} == {"contexts.json", "dotfiles"}


async def test_what_the_file_holds_sends_no_commands_to_the_terminal(tmp_path: Path) -> None:
    parley = Parley(tmp_path)
    evil = "\x1b]0;owned\x07\x9b2J\u202e"
    ward = {"hosts": [f"h{evil}:1"], "ca": f"/{evil}.pem", "account": f"kim{evil}"}
    document = {"format": 1, "current": "ward", "contexts": {"ward": ward}}
    write(tmp_path / "state" / "contexts.json", json.dumps(document))
    said = [await parley(*words) for words in (("context", "list"), ("context", "show"), ("send", "bob", "hello"))]
    ward["hosts"] = ["localhost:1"]
    write(tmp_path / "state" / "contexts.json", json.dumps(document))
    said.append(await parley("send", "bob", "hello"))
    del ward["account"]
    ward[evil] = "x"
    write(tmp_path / "state" / "contexts.json", json.dumps(document))
    said.append(await parley("context", "list"))
    for done in said:
        assert done.out + done.err
        assert not set(evil) - set("]0;owned2J") & set(done.out + done.err), done
    assert "h\N{REPLACEMENT CHARACTER}]0;owned" in said[0].out


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode(errors="surrogateescape"))


def test_a_file_that_cannot_be_replaced_stays_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept(tmp_path)
    before = (tmp_path / "contexts.json").read_text()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("parley.terminal.contexts.os.fsync", full)
    with pytest.raises(ParleyError, match="as it was before"):
        Contexts.load(tmp_path).without("ward").save()
    assert (tmp_path / "contexts.json").read_text() == before
    assert [path.name for path in tmp_path.iterdir()] == ["contexts.json"]


async def test_contexts_are_added_listed_used_shown_and_removed(tmp_path: Path) -> None:
    parley = Parley(tmp_path)
    write(tmp_path / "ca.pem", "a CA")
    ca = str(tmp_path / "ca.pem")
    assert (await parley("context", "list")).err.startswith("There is no context.")
    assert (await parley("context", "show")).code == 1
    added = await parley("context", "add", "ward", "--hosts", "w1,w2", "--ca", ca)
    assert (added.code, added.err) == (0, "Added ward. To use it: parley context use ward.\n"), added
    again = await parley("context", "add", "ward", "--host", "w3", "--ca", ca)
    assert (again.code, "--replace" in again.err) == (ExitCode.USAGE, True)
    both = await parley("context", "add", "lab", "--host", "l1", "--ca", ca, "--insecure")
    neither = await parley("context", "add", "lab", "--host", "l1")
    nowhere = await parley("context", "add", "lab", "--insecure")
    missing = await parley("context", "add", "lab", "--host", "l1", "--ca", "gone.pem")
    assert [done.code for done in (both, neither, nowhere, missing)] == [ExitCode.USAGE] * 4
    assert (await parley("context", "add", "lab", "--host", "localhost", "--insecure", "--use", "-a", "bob")).code == 0
    assert (await parley("context", "list")).out.splitlines() == [
        "* lab  localhost:7600  not encrypted  account bob",
        f"  ward  w1:7600,w2:7600  CA {ca}",
    ]
    record = {"name": "ward", "hosts": ["w1:7600", "w2:7600"], "ca": ca, "insecure": False, "account": ""}
    assert json.loads((await parley("context", "show", "ward", "--json")).out) == {**record, "current": False}
    assert (await parley("context", "use", "ward")).code == 0
    assert json.loads((await parley("context", "show", "--json")).out) == {**record, "current": True}
    assert [one["name"] for one in json.loads((await parley("context", "list", "--json")).out)] == ["lab", "ward"]
    assert "No context is in use." in (await parley("context", "remove", "ward")).err
    assert (await parley("context", "use", "ward")).code == ExitCode.USAGE
    assert (await parley("context", "use", "--none")).code == 0


async def test_two_clusters_are_used_side_by_side_each_with_its_account(tmp_path: Path) -> None:
    async with running_cluster() as ward, running_cluster() as lab:
        lab.cluster_id = "1ab"
        parley = Parley(tmp_path)
        for name, cluster, account in (("ward", ward, "kim"), ("lab", lab, "bob")):
            cluster.add_account(account, PASSWORD)
            host = cluster.nodes[0].address
            assert (await parley("context", "add", name, "--host", host, "--insecure")).code == 0
            done = await parley("--context", name, "login", account, PARLEY_PASSWORD=PASSWORD)
            assert done.code == 0, done
        assert (await parley("--context", "ward", "send", "kim", "to the ward")).code == 0
        assert (await parley("send", "bob", "to the lab", PARLEY_CONTEXT="lab")).code == 0
        assert (await parley("context", "use", "ward")).code == 0
        assert (await parley("send", "kim", "again")).code == 0
        assert bodies(ward) == ["to the ward", "again"]
        assert bodies(lab) == ["to the lab"]


def bodies(cluster: InProcessCluster) -> list[str]:
    return [body for (body,) in cluster.rows("SELECT body FROM messages ORDER BY id")]


async def test_the_shell_completes_contexts_accounts_and_channels_of_the_context_that_is_named(tmp_path: Path) -> None:
    async with running_cluster() as ward:
        parley = Parley(tmp_path)
        kim, ben = ward.add_account("kim", PASSWORD), ward.add_account("ben", PASSWORD)
        channel = ward.create_channel(ben, "Nights", [kim])
        ward.store(ben, channel, "hello")
        host = ward.nodes[0].address
        for name in ("ward", "wing"):
            assert (await parley("context", "add", name, "--host", host, "--insecure")).code == 0
        assert (await parley("--context", "ward", "login", "kim", PARLEY_PASSWORD=PASSWORD)).code == 0
        assert (await parley("--context", "ward", "fetch")).code == 0
        del parley.environment["PARLEY_STATE_DIR"]
        state = ("--state-dir", str(tmp_path / "state"))
        assert await completed(parley, *state, "--context", "w") == ["ward", "wing"]
        assert await completed(parley, *state, "context", "use", "wi") == ["wing"]
        assert await completed(parley, *state, "--account", "k") == ["kim"]
        named = (*state, "--context", "ward")
        assert await completed(parley, *named, "send", "be") == ["ben"]
        assert await completed(parley, *named, "send", "\\#N") == ["#Nights"]
        assert await completed(parley, *named, "join", "\\#N") == ["#Nights"]
        assert await completed(parley, *named, "channel", "add", "\\#Nights", "be") == ["ben"]
