"""The known bugs stay applicable, and what runs them tells a kill from an accident.

What can go wrong: a patch that no longer applies, a killer that is gone or fails anyway, a kill that is none (the
patched code does not run, falls over by chance, or hangs), a patch that stays in the copy, a pattern that hides all.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.mutants import runner
from tests.mutants.runner import (
    ACCIDENT,
    BROKEN,
    KILLED,
    ROOT,
    SURVIVED,
    TIMEOUT,
    Mutant,
    all_mutants,
    judge,
    read_mutant,
    run_all,
    try_mutant,
)

MUTANTS = all_mutants()
PRODUCT = """def double(number):
    numbers = [number, number]
    return sum(numbers)
"""
TESTS = """from server.thing import double


def test_two_is_doubled():
    assert double(2) == 4


def test_nothing_much():
    assert double is not None
"""
DOUBLED, NOTHING = "tests/test_thing.py::test_two_is_doubled", "tests/test_thing.py::test_nothing_much"


def test_there_are_at_least_a_hundred_known_bugs_of_different_kinds() -> None:
    assert len(MUTANTS) >= 100
    assert len({mutant.bug for mutant in MUTANTS}) == len(MUTANTS)


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_known_bug_still_applies_and_its_killers_exist(mutant: Mutant) -> None:
    check = ["git", "apply", "--check", str(mutant.patch)]
    done = subprocess.run(check, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stderr == ""
    for killer in mutant.killers:
        file, _, name = killer.partition("::")
        assert f"def {name.split('[')[0]}(" in (ROOT / file).read_text()


def test_a_header_that_lacks_a_line_is_refused(tmp_path: Path) -> None:
    patch = tmp_path / "bug.patch"
    patch.write_text("# Bug: something\n# Killer: tests/x.py::test_y\n--- a/server/x\n+++ b/server/x\n")
    with pytest.raises(ValueError, match="one From:"):
        read_mutant(patch)


def test_a_patch_of_a_test_is_refused(tmp_path: Path) -> None:
    patch = tmp_path / "bug.patch"
    patch.write_text("# Bug: b\n# From: f\n# Killer: tests/x.py::test_y\n--- a/tests/x.py\n+++ b/tests/x.py\n")
    with pytest.raises(ValueError, match="something else than server/"):
        read_mutant(patch)


# ---- what a failure is worth


def report(kind: str, message: str) -> str:
    return f'<testsuites><testsuite><testcase><{kind} message="{message}"/></testcase></testsuite></testsuites>'


@pytest.mark.parametrize(
    ("kind", "message", "outcome"),
    [
        ("failure", "assert 1 == 2", KILLED),
        ("failure", "AssertionError: the leader stays", KILLED),
        ("failure", "Failed: DID NOT RAISE &lt;class 'StorageError'&gt;", KILLED),
        ("failure", "parleyd.raft.errors.InvariantError: two leaders", KILLED),
        ("failure", "TimeoutError", KILLED),
        ("failure", "IndexError: tuple index out of range", ACCIDENT),
        ("failure", "KeyError: 3", ACCIDENT),
        ("failure", "ValueError: not enough values to unpack (expected 1, got 0)", ACCIDENT),
        ("failure", "AttributeError: 'NoneType' object has no attribute 'index'", ACCIDENT),
        ("failure", "ExceptionGroup: unhandled errors in a TaskGroup (1 sub-exception)", ACCIDENT),
        ("failure", "NameError: name 'y' is not defined", BROKEN),
        ("failure", "ImportError: cannot import name 'x'", BROKEN),
        ("error", "failed on setup with &quot;AssertionError: x&quot;", BROKEN),
        ("error", "collection failure", BROKEN),
        ("skipped", "", BROKEN),
    ],
)
def test_only_a_statement_is_a_kill(kind: str, message: str, outcome: str) -> None:
    assert judge(report(kind, message)).outcome == outcome


# ---- in a small tree


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    folder = tmp_path / "tree"
    for path, text in {"server/thing.py": PRODUCT, "tests/test_thing.py": TESTS}.items():
        (folder / path).parent.mkdir(parents=True)
        (folder / path).write_text(text)
    (folder / "server" / "__init__.py").touch()
    return folder


def bug(folder: Path, line: str, *killers: str) -> Mutant:
    """A patch that puts `line` in the place of the product's last one."""
    patch = folder / "bug.patch"
    header = ["# Bug: b", "# From: f", *(f"# Killer: {killer}" for killer in killers), "#"]
    body = ["--- a/server/thing.py", "+++ b/server/thing.py", "@@ -2,2 +2,2 @@", "     numbers = [number, number]"]
    patch.write_text("\n".join([*header, *body, "-    return sum(numbers)", f"+    {line}", ""]))
    return read_mutant(patch)


@pytest.mark.parametrize(
    ("line", "killers", "outcome"),
    [
        ("return max(numbers)", [DOUBLED], KILLED),
        ("return max(numbers)", [NOTHING, DOUBLED], KILLED),
        ("return max(numbers)", [NOTHING], SURVIVED),
        ("return numbers[2]", [DOUBLED], ACCIDENT),
        ("return numbers[2]", [DOUBLED, NOTHING], ACCIDENT),
        ("return nubmers", [DOUBLED], BROKEN),
        ("return )", [DOUBLED], BROKEN),
        ("return max(numbers)", ["tests/test_thing.py::test_gone"], BROKEN),
    ],
)
def test_a_mutant_is_called_after_what_its_killers_say(
    tree: Path, tmp_path: Path, line: str, killers: list[str], outcome: str
) -> None:
    tried = try_mutant(tree, bug(tmp_path, line, *killers))
    assert tried.outcome == outcome
    assert tried.killed_by == (killers[-1] if outcome == KILLED else "")
    assert (tree / "server" / "thing.py").read_text() == PRODUCT, "the patch is taken back"


def test_a_killer_that_never_ends_is_no_kill_and_is_ended(tree: Path, tmp_path: Path) -> None:
    tried = try_mutant(tree, bug(tmp_path, "__import__('threading').Event().wait()", DOUBLED), timeout_s=3)
    assert tried.outcome == TIMEOUT
    assert tried.seconds < 20


def test_a_patch_that_does_not_apply_is_told(tree: Path, tmp_path: Path) -> None:
    mutant = bug(tmp_path, "return max(numbers)", DOUBLED)
    (tree / "server" / "thing.py").write_text("nothing of it is left\n")
    tried = try_mutant(tree, mutant)
    assert tried.outcome == BROKEN
    assert "no longer applies" in tried.detail


def test_a_killer_that_fails_without_any_patch_stops_everything(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tree / "tests" / "test_thing.py").write_text(TESTS.replace("== 4", "== 5"))
    monkeypatch.setattr(runner, "ROOT", tree)
    with pytest.raises(SystemExit, match=r"without any mutant.*: test_\w+: "):
        run_all([bug(tmp_path, "return max(numbers)", DOUBLED)])
