"""The throttle across nodes, and the way of an administrator's code from a data directory into the cluster."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from parley_proto.v1 import peer_pb2 as pb
from parley_proto.v1 import state_pb2
from parleyd.administrator_claims import AdministratorClaims
from parleyd.cli_admin import leave_claim
from parleyd.group.errors import UnavailableError
from parleyd.group.proposals import AppliedCommands
from parleyd.log_in_guard import LogInGuard
from parleyd.raft.types import NO_NODE, Index, NodeId
from parleyd.security.codes import digest_of_code, new_code
from parleyd.security.log_in_throttle import Attempt
from parleyd.storage.administrator_claim import waiting_claims, was_refused
from parleyd.storage.data_directory import DataDirectory
from parleyd.transport.peer_calls import ForwardFailedError

ANN = Attempt("ann", "10.0.0.66")
ONE, TWO = NodeId(1), NodeId(2)


class Pair:
    """Two nodes that can ask each other."""

    def __init__(self) -> None:
        self.leader = ONE
        self.linked = True
        self.asked = 0
        self.guards = {node: LogInGuard(node, lambda: self.leader, self._ask, lambda: 0.0) for node in (ONE, TWO)}

    async def _ask(self, node: NodeId, attempt: pb.LogInAttempt, timeout_s: float) -> pb.LogInVerdict:
        self.asked += 1
        if not self.linked:
            raise ForwardFailedError("no link", sent=False)
        return self.guards[node].answer(pb.LogInAttempt.FromString(attempt.SerializeToString()))


async def fail(guard: LogInGuard, count: int) -> None:
    for _ in range(count):
        assert (await guard.begin(ANN)).wait_s == 0


async def test_guesses_at_several_nodes_count_together() -> None:
    pair = Pair()
    await fail(pair.guards[ONE], 5)
    await fail(pair.guards[TWO], 5)
    verdicts = [await guard.begin(ANN) for guard in pair.guards.values()]
    assert [(verdict.wait_s, verdict.failures, verdict.why) for verdict in verdicts] == [(30, 10, "account")] * 2
    assert pair.asked == 6


async def test_the_leader_hears_of_successes_and_of_what_was_not_checked() -> None:
    pair = Pair()
    await fail(pair.guards[TWO], 9)
    await pair.guards[TWO].not_checked(ANN)
    assert (await pair.guards[ONE].begin(ANN)).failures == 9
    await pair.guards[TWO].succeeded(ANN)
    assert (await pair.guards[ONE].begin(ANN)).failures == 1


@pytest.mark.parametrize("why", ["no link", "no leader", "it does not lead"])
async def test_without_an_answer_of_a_leader_the_nodes_own_counts_decide(why: str) -> None:
    pair = Pair()
    if why == "no link":
        pair.linked = False
    else:
        pair.leader = NO_NODE if why == "no leader" else NodeId(3)
        pair.guards[NodeId(3)] = LogInGuard(NodeId(3), lambda: NO_NODE, pair._ask)
    await fail(pair.guards[TWO], 10)
    assert (await pair.guards[TWO].begin(ANN)).wait_s == 30
    await pair.guards[TWO].succeeded(ANN)
    assert (await pair.guards[TWO].begin(ANN)).wait_s == 0


# ---- an administrator's code


class Log:
    """What is proposed, and what becomes of it."""

    def __init__(self, code: state_pb2.ResultCode.ValueType = state_pb2.RESULT_CODE_OK, *, up: bool = True) -> None:
        self.code = code
        self.up = up
        self.proposed: list[state_pb2.Command] = []

    async def submit(self, commands: Sequence[state_pb2.Command], *, timeout_s: float) -> AppliedCommands:
        if not self.up:
            raise UnavailableError("no leader")
        self.proposed += commands
        return AppliedCommands(Index(1), (state_pb2.CommandResult(code=self.code),))


async def test_a_code_reaches_the_cluster_once_and_only_as_a_digest(tmp_path: Path) -> None:
    log, levels = Log(), [2]
    claims = AdministratorClaims(tmp_path, log, lambda: levels[-1])
    await claims.look()
    code = new_code()
    claim = leave_claim(tmp_path, code)
    assert claim.stat().st_mode & 0o777 == 0o600
    assert code not in claim.read_text()
    await claims.look()
    assert claim.exists(), "below level 3 it waits"
    levels.append(3)
    log.up = False
    await claims.look()
    assert claim.exists(), "without a majority it waits"
    log.up = True
    for _ in range(2):
        await claims.look()
    assert not claim.exists()
    [command] = log.proposed
    assert command.offer_administrator.digest == digest_of_code(code)


@pytest.mark.parametrize(
    "content", [b"", b"[]", b"{}", b'{"digest": 5}', b"\xff", b'{"digest": "zz", "expires_at_ms": 1}']
)
async def test_a_damaged_claim_is_removed_and_holds_up_no_other(tmp_path: Path, content: bytes) -> None:
    leave_claim(tmp_path, new_code()).write_bytes(content)
    good = new_code()
    leave_claim(tmp_path, good)
    log = Log()
    await AdministratorClaims(tmp_path, log, lambda: 3).look()
    assert waiting_claims(tmp_path) == []
    assert [command.offer_administrator.digest for command in log.proposed] == [digest_of_code(good)]


async def test_a_claim_that_cannot_be_read_now_stays_and_is_logged_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: Path) -> bytes:
        raise OSError(errno.EMFILE, "Too many open files")

    log = Log()
    claims = AdministratorClaims(tmp_path, log, lambda: 3)
    with capture_logs() as logged:
        monkeypatch.setattr(Path, "read_bytes", fail)
        await claims.look()
        assert logged == [], "nobody has claimed anything"
        claim = leave_claim(tmp_path, new_code())
        await claims.look()
        await claims.look()
    assert [line["event"] for line in logged] == ["administrator_claim_not_read"]
    assert claim.exists()
    monkeypatch.undo()
    await claims.look()
    assert not claim.exists()


async def test_a_claim_that_the_cluster_refuses_is_not_repeated(tmp_path: Path) -> None:
    claim = leave_claim(tmp_path, new_code())
    log = Log(state_pb2.RESULT_CODE_TOO_MANY_CODES)
    claims = AdministratorClaims(tmp_path, log, lambda: 3)
    await claims.look()
    await claims.look()
    assert len(log.proposed) == 1
    assert [was_refused(claim), was_refused(claim), waiting_claims(tmp_path)] == [True, False, []]


def test_a_claim_is_stored_although_a_node_that_starts_tidies_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The start removed the half written file, and the claim failed with a text about a failed disk."""
    real = os.fsync

    def tidy(descriptor: int) -> None:
        real(descriptor)
        monkeypatch.undo()
        DataDirectory.open(tmp_path).close()

    monkeypatch.setattr(os, "fsync", tidy)
    claim = leave_claim(tmp_path, new_code())
    assert waiting_claims(tmp_path) == [claim]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to somebody")
def test_a_claim_of_root_belongs_to_the_owner_of_the_data_directory(tmp_path: Path) -> None:
    os.chown(tmp_path, 12345, 12346)
    found = leave_claim(tmp_path, new_code()).stat()
    assert (found.st_uid, found.st_gid) == (12345, 12346)


async def test_a_claim_that_is_removed_by_hand_meanwhile_does_not_end_the_node(tmp_path: Path) -> None:
    """The text was that of a node whose disk has failed."""
    claim = leave_claim(tmp_path, new_code())

    class Slow(Log):
        async def submit(self, commands: Sequence[state_pb2.Command], *, timeout_s: float) -> AppliedCommands:
            claim.unlink()
            return await super().submit(commands, timeout_s=timeout_s)

    await AdministratorClaims(tmp_path, Slow(state_pb2.RESULT_CODE_TOO_MANY_CODES), lambda: 3).look()
    assert waiting_claims(tmp_path) == []


async def test_a_claim_that_cannot_be_read_holds_up_no_other(tmp_path: Path) -> None:
    (tmp_path / "administrator-claim-.json").mkdir()  # the first by name, and reading it is an OSError
    good = new_code()
    claim = leave_claim(tmp_path, good)
    log = Log()
    await AdministratorClaims(tmp_path, log, lambda: 3).look()
    assert not claim.exists()
    assert [command.offer_administrator.digest for command in log.proposed] == [digest_of_code(good)]


async def test_a_process_without_a_file_descriptor_left_looks_again_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> list[Path]:
        raise OSError(errno.EMFILE, "Too many open files")

    claim = leave_claim(tmp_path, new_code())
    claims = AdministratorClaims(tmp_path, Log(), lambda: 3)
    monkeypatch.setattr(Path, "glob", fail)
    await claims.look()
    monkeypatch.undo()
    await claims.look()
    assert not claim.exists()
