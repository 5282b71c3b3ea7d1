"""The command `parley` as a script meets it: results on stdout, remarks on stderr, exit codes."""

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from parley import BadInputError, Last, StateDirectory, TlsError
from parley.terminal.exits import EPILOG, ExitCode
from parley.terminal.options import ConnectionOptions, Flags, resolve_options
from parleyd.machine.records import MemberRow
from tests.leftovers import MARK
from tests.support.node import InProcessCluster, running_cluster
from tests.support.prefork import COMMANDS
from tests.unit.client.certificates import Authority
from tests.unit.client.helpers import PASSWORD, until


@dataclass
class Done:
    """How a command ended."""

    code: int
    out: str
    err: str


class Parley:
    """Runs the command with its own state folder, without anything of the caller's environment."""

    def __init__(self, state_dir: Path, cluster: InProcessCluster | None = None) -> None:
        self.environment = {
            "PATH": os.environ["PATH"],
            **{name: os.environ[name] for name in ("PYTHONPATH", MARK)},
            "PYTHONUTF8": "1",
            "HOME": str(state_dir),
            "PARLEY_STATE_DIR": str(state_dir / "state"),
            "COLUMNS": "200",
        }
        if cluster is not None:
            self.environment["PARLEY_HOSTS"] = ",".join(node.address for node in cluster.nodes)
            self.environment["PARLEY_INSECURE"] = "yes"

    async def start(self, *arguments: str, **environment: str) -> asyncio.subprocess.Process:
        pipe = asyncio.subprocess.PIPE
        own = {**self.environment, **environment}
        return await COMMANDS.start(*arguments, stdin=pipe, stdout=pipe, stderr=pipe, env=own)

    @asynccontextmanager
    async def running(self, *arguments: str, **environment: str) -> AsyncIterator[asyncio.subprocess.Process]:
        """A command that the test talks with; it is ended with the test, and what it says on stderr is read."""
        process = await self.start(*arguments, **environment)
        assert process.stderr is not None
        said = asyncio.ensure_future(process.stderr.read())
        try:
            yield process
        except BaseException as error:
            error.add_note(f"parley {' '.join(arguments)} (exit code {process.returncode}, None while it runs)")
            raise
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
            sys.stderr.write((await said).decode())  # pytest shows it where the test fails

    async def __call__(self, *arguments: str, stdin: str = "", **environment: str) -> Done:
        process = await self.start(*arguments, **environment)
        try:
            async with asyncio.timeout(40):
                out, err = await process.communicate(stdin.encode())
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        assert process.returncode is not None
        assert b"Traceback" not in err, err.decode()
        return Done(process.returncode, out.decode(), err.decode())


@asynccontextmanager
async def signed_in(tmp_path: Path) -> AsyncIterator[tuple[InProcessCluster, Parley]]:
    async with running_cluster() as cluster:
        cluster.add_account("bob", PASSWORD)
        cluster.add_account("anna", PASSWORD)
        parley = Parley(tmp_path, cluster)
        done = await parley("login", "anna", PARLEY_PASSWORD=PASSWORD)
        assert (done.code, done.out, done.err) == (0, "", "Signed in as anna.\n")
        yield cluster, parley


async def test_an_account_is_registered_used_and_deleted(tmp_path: Path) -> None:
    async with running_cluster() as cluster:
        parley = Parley(tmp_path, cluster)
        assert (await parley("register", "anna", "--password-stdin", stdin=PASSWORD + "\n")).code == 0
        taken = await parley("register", "anna", "--password-stdin", stdin=PASSWORD + "\n")
        assert (taken.code, "exists already" in taken.err) == (ExitCode.REFUSED, True)
        wrong = await parley("login", "anna", "--password-stdin", stdin="wrong password\n")
        assert (wrong.code, "Check both" in wrong.err) == (ExitCode.NOT_SIGNED_IN, True)
        assert (await parley("login", "anna", "--password-stdin", stdin=PASSWORD + "\n")).code == 0
        assert (await parley("accounts", "a*")).out == "anna\n"
        (account,) = json.loads((await parley("accounts", "--json")).out)
        assert (account["name"], account["display_name"]) == ("anna", "")
        unasked = await parley("unregister", "--password-stdin", stdin=PASSWORD + "\n")
        assert (unasked.code, "--yes" in unasked.err) == (ExitCode.USAGE, True)
        assert (await parley("unregister", "--yes", PARLEY_PASSWORD=PASSWORD)).code == 0
        assert cluster.accounts == {}
        assert (await parley("accounts")).code == ExitCode.NOT_SIGNED_IN


async def test_an_urgent_message_is_shown_as_urgent_wherever_it_is_read(tmp_path: Path) -> None:
    async with signed_in(tmp_path) as (cluster, parley):
        bob = cluster.add_account("carl", PASSWORD)
        sent = await parley("send", "anna", "fire", "--urgent")
        assert sent.code == 0, sent.err
        cluster.store(bob, cluster.accounts["anna"], "calm")
        shown = (await parley("history", "anna", "--peek")).out
        assert shown.endswith("Urgent: fire\n")
        listed = json.loads((await parley("history", "anna", "--peek", "--json")).out)
        assert [one["urgent"] for one in listed] == [True]
        assert "Urgent: fire" in (await parley("conversations")).out
        cluster.rise()
        calm = json.loads((await parley("history", "carl", "--peek", "--json")).out)
        assert [one["urgent"] for one in calm] == [False]


async def test_a_message_is_sent_from_an_argument_or_from_standard_input(tmp_path: Path) -> None:
    async with signed_in(tmp_path) as (cluster, parley):
        sent = await parley("send", "bob", "hello")
        assert (sent.code, sent.out, f"message {cluster.messages[0].id}" in sent.err) == (0, "", True)
        sent = await parley("send", "bob", "--json", stdin="two\nlines\n")
        assert json.loads(sent.out)["status"] == "accepted"
        assert (await parley("send", "bob", "-", stdin="dash")).code == 0
        assert cluster.bodies_for("bob") == ["hello", "two\nlines", "dash"]
        assert len(cluster.devices) == 1, "every command is the same device"


async def test_a_refused_or_empty_message_ends_with_its_code(tmp_path: Path) -> None:
    async with signed_in(tmp_path) as (_, parley):
        refused = await parley("send", "ghost", "boo")
        assert (refused.code, "no such account" in refused.err) == (ExitCode.REFUSED, True)
        empty = await parley("send", "bob", "")
        assert (empty.code, "empty" in empty.err) == (ExitCode.USAGE, True)


async def test_a_message_that_cannot_go_out_is_kept_and_sent_by_the_next_command(tmp_path: Path) -> None:
    async with signed_in(tmp_path) as (cluster, parley):
        node = cluster.nodes[0]
        await node.die()
        kept = await parley("send", "bob", "first", "--timeout", "0.3")
        assert (kept.code, "kept in the outbox" in kept.err) == (ExitCode.KEPT, True)
        assert ". The message is kept" in kept.err
        await node.start()
        assert (await parley("send", "bob", "second")).code == 0
        assert cluster.bodies_for("bob") == ["first", "second"]


async def test_a_session_that_ended_keeps_the_message_and_says_what_to_do(tmp_path: Path) -> None:
    async with signed_in(tmp_path) as (cluster, parley):
        cluster.end_sessions()
        ended = await parley("send", "bob", "hello")
        assert (ended.code, "parley login" in ended.err) == (ExitCode.NOT_SIGNED_IN, True)
        again = await parley("login", "anna", PARLEY_PASSWORD=PASSWORD)
        assert "1 message waits" in again.err
        assert (await parley("send", "bob", "there")).code == 0
        assert cluster.bodies_for("bob") == ["hello", "there"]


async def test_sending_beside_a_listening_process_works_and_keeps_one_order(tmp_path: Path) -> None:
    async with signed_in(tmp_path) as (cluster, parley):
        async with parley.running("listen") as listening:
            await until(lambda: cluster.nodes[0].sessions == 1, "the listener has the session")
            for i in range(3):
                assert (await parley("send", "bob", f"m{i}")).code == 0
            assert cluster.nodes[0].sessions == 1
            listening.send_signal(signal.SIGINT)
            async with asyncio.timeout(40):
                assert await listening.wait() == ExitCode.INTERRUPTED
        assert cluster.bodies_for("bob") == ["m0", "m1", "m2"]


async def test_listening_shows_each_message_once_over_several_runs(tmp_path: Path) -> None:
    async with signed_in(tmp_path) as (cluster, parley):
        bob, anna = cluster.accounts["bob"], cluster.accounts["anna"]
        for i in range(5):
            cluster.store(bob, anna, f"m{i}")
        first = await parley("listen", "--count", "2", "--json")
        assert [json.loads(line)["body"] for line in first.out.splitlines()] == ["m0", "m1"]
        rest = await parley("listen", "--count", "3")
        assert [line.split(" ", 1)[1][-7:] for line in rest.out.splitlines()] == ["bob: m2", "bob: m3", "bob: m4"]
        nothing = await parley("listen", "--count", "1", "--timeout", "3")  # to be connected takes a part of it
        assert (nothing.code, nothing.out, "0 of 1" in nothing.err) == (ExitCode.FAILED, "", True)
        assert (await parley("listen", "--timeout", "3")).code == 0


async def test_what_others_write_cannot_command_the_terminal(tmp_path: Path) -> None:
    async with signed_in(tmp_path) as (cluster, parley):
        cluster.store(cluster.accounts["bob"], cluster.accounts["anna"], "\x1b]0;owned\x07 red\x1b[31m\nsecond line")
        shown = (await parley("listen", "--count", "1")).out
        assert "\x1b" not in shown
        assert "\x07" not in shown
        assert shown.endswith("\n    second line\n")


async def test_conversations_and_history_show_what_is_new_until_it_was_read(tmp_path: Path) -> None:
    async with signed_in(tmp_path) as (cluster, parley):
        bob, anna = cluster.accounts["bob"], cluster.accounts["anna"]
        ids = [cluster.store(bob, anna, f"m{i}").id for i in range(3)]
        assert "3 new  bob" in (await parley("conversations")).out
        (conversation,) = json.loads((await parley("conversations", "--unread", "--json")).out)
        assert (conversation["peer"], conversation["unread"]) == ("bob", 3)
        page = await parley("history", "bob", "-n", "2", "--peek")
        assert [line[-2:] for line in page.out.splitlines()] == ["m1", "m2"]
        assert f"--before {ids[1]}" in page.err
        assert json.loads((await parley("history", "bob", "--before", str(ids[1]), "--json")).out)[0]["body"] == "m0"
        on = await parley("history", "bob", "--after", str(ids[0]), "-n", "1", "--peek")
        assert [line[-2:] for line in on.out.splitlines()] == ["m1"]
        assert f"--before {ids[1]}" in on.err
        assert f"--after {ids[1]}" in on.err
        around = await parley("history", "bob", "--around", str(ids[1]), "-n", "2", "--peek")
        assert [line[-2:] for line in around.out.splitlines()] == ["m0", "m1"]
        unread = await parley("history", "bob", "--unread", "-n", "4", "--peek")
        assert [line[-2:] for line in unread.out.splitlines()] == ["m0", "m1", "m2"]
        two = await parley("history", "bob", "--unread", "--after", "1")
        assert (two.code, "Two places" in two.err) == (2, True)
        assert (await parley("conversations", "--unread")).out != ""
        assert (await parley("history", "bob", "--read")).code == 0
        read = await parley("conversations", "--unread")
        assert (read.out, read.err) == ("", "Nothing new.\n")


async def test_a_channel_is_created_listed_written_in_and_read(tmp_path: Path) -> None:
    async with signed_in(tmp_path) as (cluster, parley):
        created = await parley("channel", "create", "Ward 4", "bob")
        assert (created.code, created.out[0]) == (0, "#"), created.err
        number = created.out.strip()
        for target in (number, "#Ward 4", "ward 4"):
            assert (await parley("send", target, f"to {target}")).code == 0
        channel = int(number.removeprefix("#"))
        cluster.store(cluster.accounts["bob"], channel, "from bob")
        assert cluster.bodies_for("bob") == [f"to {number}", "to #Ward 4", "to ward 4"]
        assert f"1 new  Ward 4 ({number}, 2 members)" in (await parley("conversations")).out
        shown = (await parley("history", "#Ward 4", "--peek")).out.splitlines()
        assert "You created the channel “Ward 4”." in shown[0]
        assert shown[-1].endswith("bob in Ward 4: from bob")
        heard = json.loads((await parley("listen", "--count", "1", "--json")).out)
        assert (heard["kind"], heard["sender"], heard["title"], heard["peer"]) == ("text", "bob", "Ward 4", "")


async def test_a_name_never_leads_to_a_channel_that_is_called_like_an_account(tmp_path: Path) -> None:
    async with signed_in(tmp_path) as (cluster, parley):
        carl = cluster.add_account("carl", PASSWORD)
        cluster.create_channel(carl, "bob", [cluster.accounts["anna"]])
        assert (await parley("send", "bob", "secret")).code == 0
        assert cluster.bodies_for("bob") == ["secret"]
        cluster.create_channel(carl, "twice", [cluster.accounts["anna"]])
        cluster.create_channel(carl, "Twice", [cluster.accounts["anna"]])
        for target, hint in (
            ("#twice", "2 channels have the title"),
            ("#nowhere", "no channel"),
            ("a b", "no channel"),
        ):
            refused = await parley("send", target, "x")
            assert (refused.code, hint in refused.err) == (ExitCode.USAGE, True), refused.err


async def test_the_settings_of_the_cluster_are_listed_and_changed(tmp_path: Path) -> None:
    async with running_cluster() as cluster:
        parley = Parley(tmp_path, cluster)
        cluster.add_account("anna", PASSWORD)  # the first account is an administrator
        assert (await parley("login", "anna", PARLEY_PASSWORD=PASSWORD)).code == 0
        assert "max_message_bytes = " in (await parley("cluster", "settings")).out
        changed = await parley("cluster", "settings", "max_message_bytes=2048")
        assert (changed.code, changed.err) == (0, "max_message_bytes is 2048 now, on all nodes.\n")
        listed = json.loads((await parley("cluster", "settings", "--json")).out)
        assert [one["value"] for one in listed if one["name"] == "max_message_bytes"] == [2048]
        wrong = await parley("cluster", "settings", "max_message_bytes=many")
        assert (wrong.code, "Nothing was changed" in wrong.err) == (ExitCode.USAGE, True)
        refused = await parley("cluster", "settings", "max_message_bytes=0")
        assert refused.code == ExitCode.REFUSED, refused.err


async def test_a_node_that_is_a_member_already_is_not_called_a_learner(tmp_path: Path) -> None:
    """`parley cluster add n1 ...` called the leader a learner that becomes a voter later."""
    async with running_cluster() as cluster:
        parley = Parley(tmp_path, cluster)
        cluster.add_account("anna", PASSWORD)
        assert (await parley("login", "anna", PARLEY_PASSWORD=PASSWORD)).code == 0
        present = await parley("cluster", "add", "n1", "127.0.0.1:1")
        assert present.code == 0, present.err
        assert present.err.startswith("n1 is a member already. Nothing was changed.")
        cluster.waiting["n2"] = MemberRow(99, "n2", "", "")
        assert "n2 is a learner now" in (await parley("cluster", "add", "n2", "127.0.0.1:1")).err


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("settings", ""), ExitCode.USAGE, "Nothing was changed"),
        (("remove", ""), ExitCode.USAGE, "the name is empty"),
        (("transfer", ""), ExitCode.USAGE, "the name is empty"),
        (("add", "n9", "127.0.0.9"), ExitCode.USAGE, "has no port"),
        (("add", "n9", "127.0.0.9:99999"), ExitCode.USAGE, "not a valid port"),
        (("add", "n9", "127.0.0.9:1-2"), ExitCode.USAGE, "not one address"),
        (("promote", "n1"), ExitCode.OK, "n1 is a voter already. Nothing was changed."),
        (("claim", "WRONG"), ExitCode.OK, "anna is an administrator. If it was one before, the code was not used."),
    ],
)
async def test_an_administrator_is_told_what_was_wrong_and_what_was_not_done(
    tmp_path: Path, arguments: tuple[str, ...], code: ExitCode, says: str
) -> None:
    async with signed_in(tmp_path) as (cluster, parley):
        cluster.rewrite(("UPDATE accounts SET role = 1 WHERE name = 'anna'", ()))
        done = await parley("cluster", *arguments)
        assert (done.code, says in " ".join(done.err.split())) == (code, True), done.err


async def test_the_time_of_the_cluster_is_set_only_with_a_confirmation(tmp_path: Path) -> None:
    async with running_cluster() as cluster:
        parley = Parley(tmp_path, cluster)
        cluster.add_account("anna", PASSWORD)
        cluster.rewrite(("UPDATE meta SET now_ms = now_ms + 315360000000", ()))  # ten years
        assert (await parley("login", "anna", PARLEY_PASSWORD=PASSWORD)).code == 0
        before = cluster.machine.now_ms
        asked = await parley("cluster", "set-time")
        assert (asked.code, "Nothing was changed" in asked.err) == (ExitCode.USAGE, True)
        assert "The time of the cluster is 20" in asked.err
        assert cluster.machine.now_ms == before
        done = await parley("cluster", "set-time", "--yes")
        assert done.code == 0, done.err
        assert before - cluster.machine.now_ms > 315_000_000_000


async def test_the_cluster_status_needs_no_account_and_tells_scripts_whether_it_serves(tmp_path: Path) -> None:
    async with running_cluster(("n1", "n2")) as cluster:
        parley = Parley(tmp_path, cluster)
        table = await parley("cluster", "status")
        assert table.code == 0
        assert "The cluster serves: 2 of 2 known nodes answer, n1 leads." in table.out
        for node in cluster.nodes:
            node.faults.no_majority = True
        status = await parley("cluster", "status", "--json")
        assert (status.code, json.loads(status.out)["serving"]) == (ExitCode.UNREACHABLE, False)
        for node in cluster.nodes:
            await node.die()
        dead = await parley("cluster", "status")
        assert (dead.code, "No node answers" in dead.out) == (ExitCode.UNREACHABLE, True)


async def test_a_wrong_ca_ends_with_its_own_code(tmp_path: Path) -> None:
    right, wrong = Authority("right"), Authority("wrong")
    (tmp_path / "right.pem").write_bytes(right.pem)
    (tmp_path / "wrong.pem").write_bytes(wrong.pem)
    async with running_cluster(credentials=right.server("127.0.0.1")) as cluster:
        cluster.add_account("anna", PASSWORD)
        parley = Parley(tmp_path)
        host = cluster.nodes[0].address
        wrong_ca = await parley(
            "login", "anna", "--host", host, "--ca", str(tmp_path / "wrong.pem"), PARLEY_PASSWORD=PASSWORD
        )
        assert (wrong_ca.code, "--ca FILE" in wrong_ca.err) == (ExitCode.TLS, True)
        assert wrong_ca.err.count("\n") == 1, "gRPC adds no line of its own"
        status = await parley("cluster", "status", "--host", host, "--ca", str(tmp_path / "wrong.pem"))
        assert (status.code, status.err) == (ExitCode.TLS, "")
        right_ca = str(tmp_path / "right.pem")
        assert (await parley("login", "anna", "--host", host, "--ca", right_ca, PARLEY_PASSWORD=PASSWORD)).code == 0
        assert (await parley("accounts")).out == "anna\n", "hosts and CA are remembered with the session"
        kept = await parley("send", "anna", "x", "--timeout", "1", "--ca", str(tmp_path / "wrong.pem"))
        assert (kept.code, "kept in the outbox" in kept.err) == (ExitCode.TLS, True)


@pytest.mark.parametrize(
    ("arguments", "code", "hint"),
    [
        (("send", "bob", "x"), ExitCode.NOT_SIGNED_IN, "parley login"),
        (("login", "anna", "--host", "non sense"), ExitCode.USAGE, "not a host name"),
        (("login", "anna", "--host", "http://127.0.0.2:7600"), ExitCode.USAGE, "is a URL"),
        (("login", "anna"), ExitCode.USAGE, "--host"),
        (("login", "anna", "--host", "127.0.0.1:1", "--config", "/nowhere.toml"), ExitCode.USAGE, "no settings file"),
        (("chat",), ExitCode.USAGE, "--host"),
        (("frobnicate",), ExitCode.USAGE, "frobnicate"),
        (("send",), ExitCode.USAGE, "target"),
    ],
)
async def test_wrong_usage_is_told_without_a_traceback(
    tmp_path: Path, arguments: tuple[str, ...], code: ExitCode, hint: str
) -> None:
    done = await Parley(tmp_path)(*arguments, PARLEY_PASSWORD=PASSWORD)
    assert (done.code, hint.lower() in done.err.lower()) == (code, True), done.err


async def test_a_password_is_needed_and_where_to_give_it_is_said(tmp_path: Path) -> None:
    async with running_cluster() as cluster:
        done = await Parley(tmp_path, cluster)("login", "anna")
        assert (done.code, "PARLEY_PASSWORD" in done.err) == (ExitCode.USAGE, True)


async def test_help_lists_the_exit_codes(tmp_path: Path) -> None:
    shown = " ".join((await Parley(tmp_path)("--help")).out.split())
    for code in ExitCode:
        assert f" {code.value} " in shown
    assert EPILOG.split(";")[1].strip() in shown


# ---- where settings come from


def options(tmp_path: Path, flags: Flags | None = None, **environment: str) -> ConnectionOptions:
    return resolve_options(flags or Flags(), {"PARLEY_STATE_DIR": str(tmp_path / "state"), **environment})


def test_a_flag_wins_over_the_environment_over_the_file_over_what_is_remembered(tmp_path: Path) -> None:
    StateDirectory(tmp_path / "state").remember_last(Last("last", ("last:1",), "", True))
    file = tmp_path / "config.toml"
    file.write_text('hosts = ["file:1"]\naccount = "file"\nca = "ca.pem"\n')
    assert options(tmp_path).hosts == ("last:1",)
    assert options(tmp_path).insecure
    from_file = options(tmp_path, PARLEY_CONFIG=str(file))
    assert (from_file.hosts, from_file.account, from_file.ca) == (("file:1",), "file", tmp_path / "ca.pem")
    from_environment = options(
        tmp_path, PARLEY_CONFIG=str(file), PARLEY_HOSTS="env:1, env:2", PARLEY_ACCOUNT="env", PARLEY_CA="/env.pem"
    )
    assert (from_environment.hosts, from_environment.account) == (("env:1", "env:2"), "env")
    assert from_environment.ca == Path("/env.pem")
    flags = Flags(hosts=("flag:1",), account="flag", ca=Path("flag.pem"), config=file)
    from_flags = options(tmp_path, flags, PARLEY_HOSTS="env:1", PARLEY_ACCOUNT="env")
    assert (from_flags.hosts, from_flags.account, from_flags.ca) == (("flag:1",), "flag", Path("flag.pem"))


@pytest.mark.parametrize("source", ["flag", "environment", "file"])
def test_a_host_without_a_port_is_at_the_usual_one(tmp_path: Path, source: str) -> None:
    hosts = ("alpha", "beta:7", "[::1]", "gamma:1-3", "[::1]:8")
    (tmp_path / "c.toml").write_text(f"hosts = {json.dumps(hosts)}\n")
    found = {
        "flag": lambda: options(tmp_path, Flags(hosts=hosts)),
        "environment": lambda: options(tmp_path, PARLEY_HOSTS=", ".join(hosts)),
        "file": lambda: options(tmp_path, PARLEY_CONFIG=str(tmp_path / "c.toml")),
    }[source]()
    assert found.hosts == ("alpha:7600", "beta:7", "[::1]:7600", "gamma:1-3", "[::1]:8")


@pytest.mark.parametrize("source", ["flag", "environment", "file"])
def test_no_insecure_wins_over_what_was_remembered(tmp_path: Path, source: str) -> None:
    StateDirectory(tmp_path / "state").remember_last(Last("anna", ("localhost:1",), "", True))
    (tmp_path / "c.toml").write_text("insecure = false\n")
    given = {
        "flag": lambda: options(tmp_path, Flags(insecure=False)),
        "environment": lambda: options(tmp_path, PARLEY_INSECURE="no"),
        "file": lambda: options(tmp_path, PARLEY_CONFIG=str(tmp_path / "c.toml")),
    }
    assert options(tmp_path).insecure
    assert not given[source]().insecure


def test_a_connection_that_others_can_read_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for host, told in (("localhost:1", False), ("10.0.0.1:1", True)):
        options(tmp_path, Flags(hosts=(host,), insecure=True)).client()
        assert ("Not encrypted" in capsys.readouterr().err) is told


def test_what_was_remembered_as_insecure_counts_on_this_machine_only(tmp_path: Path) -> None:
    state = StateDirectory(tmp_path / "state")
    state.remember_last(Last("anna", ("localhost:1", "127.8.9.1:2", "[::1]:3"), "", True))
    options(tmp_path).client()
    for host in ("10.0.0.1:7600", "ward.example:7600", "[fe80::1]:7600", "0.0.0.0:7600"):
        state.remember_last(Last("anna", ("localhost:1", host), "", True))
        with pytest.raises(BadInputError, match="Nothing was sent") as refused:
            options(tmp_path).client()
        assert host in refused.value.text
        for given in (options(tmp_path, Flags(insecure=True)), options(tmp_path, PARLEY_INSECURE="1")):
            given.client()


def test_what_was_remembered_for_one_cluster_is_not_used_for_another(tmp_path: Path) -> None:
    StateDirectory(tmp_path / "state").remember_last(Last("anna", ("old:1", "old:2"), "/old.pem", False))
    assert options(tmp_path, Flags(hosts=("old:2",))).ca == Path("/old.pem")
    assert options(tmp_path, Flags(hosts=("new:1",))).ca is None


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("hosts = 5", "list of strings"),
        ("host = ['a:1']", "unknown settings"),
        ("account = 5", "must be a string"),
        ("insecure = 'yes'", "true or false"),
        ("not toml", "cannot be read"),
        ("hosts = " + "[" * 5_000, "nested too deeply"),
        ("ca = '~nobody-has-this-name/ca.pem'", "~nobody-has-this-name"),
        ("state_dir = '~nobody-has-this-name'", "~nobody-has-this-name"),
    ],
)
def test_a_wrong_settings_file_is_named_with_what_is_wrong(tmp_path: Path, text: str, hint: str) -> None:
    (tmp_path / "c.toml").write_text(text)
    with pytest.raises(BadInputError, match=hint):
        options(tmp_path, PARLEY_CONFIG=str(tmp_path / "c.toml"))


def test_a_byte_order_mark_does_not_belong_to_the_settings(tmp_path: Path) -> None:
    """Editors on Windows begin a text with one."""
    (tmp_path / "c.toml").write_bytes(b"\xef\xbb\xbfaccount = 'anna'\n")
    assert options(tmp_path, PARLEY_CONFIG=str(tmp_path / "c.toml")).account == "anna"


@pytest.mark.parametrize("name", ["PARLEY_CA", "PARLEY_STATE_DIR", "PARLEY_CONFIG"])
def test_the_home_of_nobody_in_the_environment_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(BadInputError, match="~nobody-has-this-name"):
        options(tmp_path, None, **{name: "~nobody-has-this-name/x"})


@pytest.mark.parametrize("ca", ["~nobody-has-this-name/ca.pem", "x" * 5_000, "a\0b"])
async def test_a_ca_that_cannot_be_read_is_told_wherever_its_path_comes_from(tmp_path: Path, ca: str) -> None:
    state = StateDirectory(tmp_path / "state")
    state.remember_last(Last("anna", ("localhost:1",), ca, False))
    with pytest.raises(TlsError, match="cannot be read"):
        await options(tmp_path).client().__aenter__()


def test_a_wrong_switch_in_the_environment_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="yes or no"):
        options(tmp_path, PARLEY_INSECURE="maybe")
