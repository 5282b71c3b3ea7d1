"""The audit log on the client's side: read page by page, checked, exported, and checked again from the file.

What can go wrong: the client hashes another form than the nodes; a row that was changed, removed or moved passes; a
file that was cut short passes; a hash that was noted earlier is not missed.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

import parley.administration
from parley import AuditChain, AuditError, AuditRow, BadInputError, RefusedError, check_audit_file
from parley.audit_log import FIRST_HASH, hash_of
from parley.terminal import audit_commands
from parley.terminal.exits import ExitCode
from parleyd.machine.features.audit import row_hash
from tests.support.node import InProcessCluster, running_cluster
from tests.unit.client.helpers import PASSWORD, signed_in
from tests.unit.client.test_command import Parley

ROW = AuditRow(7, 1 << 40, 1_700_000_000_000, "ada", "account.suspended", "bób", "left", "")


@asynccontextmanager
async def cluster_with_rows() -> AsyncIterator[InProcessCluster]:
    """A cluster with an administrator, and rows about what was done to anna."""
    async with running_cluster() as cluster:
        cluster.add_account("boss", PASSWORD)
        cluster.add_account("anna", PASSWORD)
        for number in (1, 2, 0):
            cluster.change_setting("registration", number)
        yield cluster


def test_nodes_and_clients_hash_the_same_form() -> None:
    texts = (ROW.actor, ROW.action, ROW.object, ROW.detail)
    assert hash_of(FIRST_HASH, ROW) == row_hash(bytes(32), ROW.number, ROW.index, ROW.time_ms, texts).hex()
    assert hash_of(FIRST_HASH, ROW) == "06ad0d422d26a2d48805c86c83747626a72b541db654706f4fb6ad8160865a94"


# ---- reading


async def test_all_pages_of_the_log_are_one_chain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parley.administration, "AUDIT_PAGE", 2)
    async with cluster_with_rows() as cluster, signed_in(cluster, tmp_path, "boss") as client:
        administration = await client.administration()
        await administration.suspend_account("anna", "left")
        pages = [page async for page in administration.audit()]
        rows = [row for page in pages for row in page.rows]
        assert len(pages) > 2
        assert [row.number for row in rows] == list(range(1, len(rows) + 1))
        assert (rows[-1].actor, rows[-1].action, rows[-1].object) == ("boss", "account.suspended", "anna")
        assert pages[-1].head == rows[-1].hash
        later = [row async for page in administration.audit(since=len(rows)) for row in page.rows]
        assert later == rows[-1:]
        [empty] = [page async for page in administration.audit(since=1000)]
        assert (empty.rows, empty.previous_hash) == ((), rows[-1].hash)


async def test_others_do_not_read_it(tmp_path: Path) -> None:
    async with cluster_with_rows() as cluster, signed_in(cluster, tmp_path) as client:
        pages = (await client.administration()).audit()
        with pytest.raises(RefusedError, match="Only an administrator"):
            await anext(pages)


@pytest.mark.parametrize(
    ("sql", "found"),
    [
        ("UPDATE audit SET actor = 'eve' WHERE number = 3", "row 3 does not match its hash"),
        ("UPDATE audit SET at_ms = at_ms + 1 WHERE number = 2", "row 2 does not match its hash"),
        ("DELETE FROM audit WHERE number = 3", "row 4 follows row 2"),
    ],
)
async def test_a_row_that_was_altered_on_the_disk_of_the_node_is_found(tmp_path: Path, sql: str, found: str) -> None:
    async with cluster_with_rows() as cluster, signed_in(cluster, tmp_path, "boss") as client:
        cluster.machine._connection.execute(sql)
        with pytest.raises(AuditError, match=found):
            async for _ in (await client.administration()).audit():
                pass


async def test_rows_that_come_while_somebody_follows_are_printed_once_and_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: asyncio.Queue[str] = asyncio.Queue()
    monkeypatch.setattr(audit_commands, "FOLLOW_EVERY_S", 0.01)
    monkeypatch.setattr(audit_commands, "say", said.put_nowait)
    async with cluster_with_rows() as cluster, signed_in(cluster, tmp_path, "boss") as client:
        administration = await client.administration()
        [page] = [page async for page in administration.audit()]
        chain = AuditChain(page.head, page.rows[-1].number)
        following = asyncio.create_task(audit_commands._follow(administration, chain, as_json=False))
        try:
            for number in (7, 8):
                cluster.change_setting("max_joined_channels", number)
                async with asyncio.timeout(30):
                    line = await said.get()
                assert line.endswith(f"-> {number}")
            assert (chain.rows, said.empty(), following.done()) == (2, True, False)
        finally:
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)


# ---- files

Lines = list[dict[str, Any]]


def swap(lines: Lines) -> None:
    lines[2], lines[3] = lines[3], lines[2]


def change(lines: Lines) -> None:
    lines[2]["object"] = "somebody"


def remove(lines: Lines) -> None:
    del lines[2]


def remove_first(lines: Lines) -> None:
    del lines[1]


def remove_last(lines: Lines) -> None:
    del lines[-2]


def remove_last_and_say_so(lines: Lines) -> None:
    del lines[-2]
    lines[-1]["rows"] -= 1


def cut(lines: Lines) -> None:
    del lines[-1]


def append(lines: Lines) -> None:
    lines.append(lines[-2])


def add_a_field(lines: Lines) -> None:
    lines[2]["note"] = "x"


def make_a_number_a_text(lines: Lines) -> None:
    lines[2]["number"] = "2"


def half_a_pair(lines: Lines) -> None:
    lines[2]["object"] = "\ud800"


def begin_later(lines: Lines) -> None:
    lines[0]["after"] = 1


DAMAGES: list[Callable[[Lines], None]] = [
    swap,
    change,
    remove,
    remove_first,
    remove_last,
    remove_last_and_say_so,
    cut,
    append,
    add_a_field,
    make_a_number_a_text,
    half_a_pair,
    begin_later,
]


def write(path: Path, lines: Lines) -> None:
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines))


def an_export(path: Path) -> Lines:
    """A file as the command writes it, with four rows."""
    previous, lines = FIRST_HASH, [{"parley_audit": 1, "after": 0, "previous_hash": FIRST_HASH}]
    for number in range(1, 5):
        row = AuditRow(number, number * 10, 1000, "ada", "setting.changed", "registration", f"{number}", "")
        previous = hash_of(previous, row)
        lines.append(
            {
                "number": number,
                "index": number * 10,
                "time_ms": 1000,
                "actor": "ada",
                "action": "setting.changed",
                "object": "registration",
                "detail": f"{number}",
                "hash": previous,
            }
        )
    lines.append({"rows": 4, "head": previous})
    write(path, lines)
    return lines


def test_an_export_that_nobody_altered_is_right(tmp_path: Path) -> None:
    lines = an_export(tmp_path / "audit")
    found = check_audit_file(tmp_path / "audit")
    assert (found.rows, found.first, found.last, found.head) == (4, 1, 4, lines[-1]["head"])
    for expected in (lines[2]["hash"], lines[-1]["head"].upper(), FIRST_HASH):
        assert check_audit_file(tmp_path / "audit", expect=expected) == found


@pytest.mark.parametrize("damage", DAMAGES)
def test_an_export_that_was_altered_is_found(tmp_path: Path, damage: Callable[[Lines], None]) -> None:
    lines = an_export(tmp_path / "audit")
    damage(lines)
    write(tmp_path / "audit", lines)
    with pytest.raises(AuditError, match="not what the cluster recorded"):
        check_audit_file(tmp_path / "audit")


def test_a_log_that_was_made_anew_as_a_whole_is_found_by_a_hash_that_was_kept(tmp_path: Path) -> None:
    kept = an_export(tmp_path / "audit")[-1]["head"]
    lines = an_export(tmp_path / "audit")
    previous = FIRST_HASH
    for line in lines[1:-1]:
        line["actor"] = "eve"
        line["hash"] = previous = hash_of(previous, AuditRow(**{**line, "hash": ""}))
    lines[-1]["head"] = previous
    write(tmp_path / "audit", lines)
    assert check_audit_file(tmp_path / "audit").rows == 4
    with pytest.raises(AuditError, match=f"no row has the hash {kept}"):
        check_audit_file(tmp_path / "audit", expect=kept)


@pytest.mark.parametrize("content", ["", "{}\n", "[]\n", "no json\n", '{"parley_audit": 2}\n'])
def test_what_is_no_export_is_called_so(tmp_path: Path, content: str) -> None:
    (tmp_path / "audit").write_text(content)
    with pytest.raises(BadInputError, match="no exported audit log"):
        check_audit_file(tmp_path / "audit")
    with pytest.raises(BadInputError, match="cannot be read"):
        check_audit_file(tmp_path / "nowhere")


@pytest.mark.parametrize("number", range(6))
@pytest.mark.parametrize("how", ["doubled", "nested", "infinite", "long"])
def test_a_line_that_readers_could_understand_in_two_ways_is_refused_in_words(
    tmp_path: Path, number: int, how: str
) -> None:
    """A reader that takes the first of two values saw another row than the one whose hash was checked."""
    an_export(tmp_path / "audit")
    lines = (tmp_path / "audit").read_text().splitlines()
    doubled = {0: '{"after":7,', 5: '{"rows":9,'}.get(number, '{"actor":"eve",')
    other = {"nested": "[" * 100_000, "infinite": '{"number":Infinity}', "long": '{"number":' + "9" * 5000 + "}"}
    lines[number] = other.get(how, doubled + lines[number][1:])
    (tmp_path / "audit").write_text("\n".join(lines) + "\n")
    refusal = BadInputError if number == 0 and how != "doubled" else AuditError
    with pytest.raises(refusal, match="twice" if how == "doubled" else r"is no row|no exported audit log"):
        check_audit_file(tmp_path / "audit")


@pytest.mark.parametrize(
    "change",
    [
        lambda lines: lines[0].update(note="rows were left out"),
        lambda lines: lines[0].update(parley_audit=True),
        lambda lines: lines[0].update(parley_audit=1.0),
        lambda lines: lines[-1].update(rows=4.0),
    ],
)
def test_the_first_and_the_last_line_have_exactly_what_was_exported(
    tmp_path: Path, change: Callable[[Lines], None]
) -> None:
    lines = an_export(tmp_path / "audit")
    change(lines)
    write(tmp_path / "audit", lines)
    with pytest.raises(AuditError, match="not what the cluster recorded"):
        check_audit_file(tmp_path / "audit")


# ---- the command line


async def test_the_log_is_printed_exported_and_checked_from_the_command_line(tmp_path: Path) -> None:
    async with cluster_with_rows() as cluster:
        boss = Parley(tmp_path / "boss", cluster)
        await boss("login", "boss", PARLEY_PASSWORD=PASSWORD)
        await boss("cluster", "suspend", "anna", "--reason", "left")
        printed = await boss("cluster", "audit")
        assert printed.code == 0
        last = printed.out.splitlines()[-1].split("  ")
        assert last[-4:] == ["boss", "account.suspended", "anna", "left"]
        head = printed.err.partition("Head: ")[2].partition(".")[0]
        as_json = (await boss("cluster", "audit", "--json", "--since", "2")).out.splitlines()
        assert json.loads(as_json[0])["number"] == 2
        assert json.loads(as_json[-1])["hash"] == head

        file = tmp_path / "audit.jsonl"
        assert (await boss("cluster", "audit", "--export", str(file))).code == 0
        assert file.stat().st_mode & 0o777 == 0o600
        assert (await boss("cluster", "audit", "--export", str(file))).code == ExitCode.FAILED
        assert (await boss("cluster", "audit", "--export", str(file), "--force", "--expect", head)).code == 0

        checked = await boss("audit", "verify", str(file), "--expect", head)
        assert (checked.code, head in checked.out) == (0, True)
        assert (await boss("audit", "verify", str(file), "--expect", "ab" * 32)).code == ExitCode.FAILED
        assert (await boss("audit", "verify", str(file), "--expect", "short")).code == ExitCode.USAGE
        assert (await boss("cluster", "audit", "--expect", "ab" * 32)).code == ExitCode.FAILED
        assert (await boss("cluster", "audit", "--follow", "--expect", head)).code == ExitCode.USAGE
        file.write_text(file.read_text().replace('"left"', '"lost"'))
        altered = await boss("audit", "verify", str(file))
        assert (altered.code, "does not match its hash" in altered.err) == (ExitCode.FAILED, True)
        assert (await boss("audit", "verify", str(tmp_path / "nowhere"))).code == ExitCode.USAGE
