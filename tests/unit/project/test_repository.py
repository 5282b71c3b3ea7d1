"""What a stranger finds: no traces of anybody's machine, a Makefile that explains itself, links that lead somewhere."""

from __future__ import annotations

import ast
import itertools
import re
import subprocess

from tests.unit.project.source import ROOT, project_files, python_files

TEXT_SUFFIXES = frozenset(
    (
        ".py",
        ".pyi",
        ".md",
        ".toml",
        ".txt",
        ".sh",
        ".proto",
        ".lock",
        ".svg",
        ".json",
        ".yaml",
        ".yml",
        ".cfg",
        ".in",
        "",
    )
)

# Written in pieces, so that this file does not contain what it forbids.
MACHINE_PATHS = re.compile(r"(?<![\w.$}])/(?:" + "|".join(("work", "root", "home", "opt", "Users")) + r")/\w")
REGISTRY_HOSTS = re.compile(
    "|".join((r"py" + r"pi\.org", r"python" + r"hosted\.org", r"--(?:extra-)?index" + r"-url[ =]http"))
)
UNFINISHED = re.compile("|".join((r"\bTO" + r"DO\b", r"\bFIX" + r"ME\b", r"\bXX" + r"X\b")))


def texts() -> list[tuple[str, str]]:
    """Every text file of the project with its content."""
    return [
        (str(file.relative_to(ROOT)), file.read_text(errors="replace"))
        for file in project_files()
        if file.suffix in TEXT_SUFFIXES and file.name != "LICENSE"
    ]


def findings(pattern: re.Pattern[str]) -> list[str]:
    """Every line that matches, with where it stands."""
    return [
        f"{name}:{number}: {line.strip()[:120]}"
        for name, text in texts()
        for number, line in enumerate(text.splitlines(), start=1)
        if pattern.search(line)
    ]


def test_no_file_names_a_path_of_somebodys_machine() -> None:
    assert not findings(MACHINE_PATHS)


def test_no_file_names_a_package_registry() -> None:
    assert not findings(REGISTRY_HOSTS)


def test_nothing_is_left_unfinished_in_the_code() -> None:
    assert not [line for line in findings(UNFINISHED) if line.split(":")[0].endswith((".py", ".sh", ".proto"))]


def test_the_patterns_find_what_they_are_for() -> None:
    assert MACHINE_PATHS.search("cd /" + "home/ann/parley")
    assert not MACHINE_PATHS.search("see ./home/ann and $VAR/home/ann")
    assert REGISTRY_HOSTS.search("https://py" + "pi.org/simple")
    assert UNFINISHED.search("# TO" + "DO: later")


def make_targets() -> set[str]:
    """The targets a person may name: those declared phony."""
    return set(re.findall(r"^\.PHONY: ([a-z-]+)$", (ROOT / "Makefile").read_text(), re.MULTILINE))


def test_make_help_lists_every_target() -> None:
    shown = subprocess.run(
        ["make", "--no-print-directory", "-C", str(ROOT), "help"], capture_output=True, text=True, check=True
    ).stdout
    listed = {line.split()[1] for line in shown.splitlines()}
    assert listed == make_targets()
    assert {"run", "test", "verify", "demo", "conformance", "proto", "chat"} <= listed


def test_make_targets_and_rules_are_the_same_set() -> None:
    rules = set(re.findall(r"^([a-z-]+):(?!=)", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert rules == make_targets()


def recipe_of(target: str) -> list[str]:
    """The commands of a target, without make's marks."""
    text = (ROOT / "Makefile").read_text()
    lines = text[re.search(rf"^{target}:(?!=).*$", text, re.MULTILINE).end() :].splitlines()[1:]  # type: ignore[union-attr]
    recipe = [line.strip().lstrip("@") for line in itertools.takewhile(lambda line: line.startswith("\t"), lines)]
    return [line.replace("$(MAKE)", "make") for line in recipe if not line.startswith("echo")]


def test_the_commit_hooks_are_the_checks_of_make_verify() -> None:
    hooks = re.findall(r"^ +entry: (.*)$", (ROOT / ".pre-commit-config.yaml").read_text(), re.MULTILINE)
    assert [entry.removeprefix(".venv/bin/") for entry in hooks] == recipe_of("verify")


def test_no_commit_hook_is_fetched_from_anywhere() -> None:
    sources = re.findall(r"^ *- repo: (.*)$", (ROOT / ".pre-commit-config.yaml").read_text(), re.MULTILINE)
    assert sources == ["local"]


def test_every_module_says_in_its_first_lines_what_it_is() -> None:
    silent = [
        str(file.relative_to(ROOT))
        for file in python_files("server", "client", "scripts")
        if file.read_text().strip() and not ast.get_docstring(ast.parse(file.read_text()))
    ]
    assert not silent


def test_tests_wait_for_events_and_never_sleep() -> None:
    sleeping = []
    for file in (file for file in python_files("tests") if file.name.startswith("test_")):
        for node in ast.walk(ast.parse(file.read_text())):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "sleep"):
                continue
            # sleep(0) lets other tasks run; it waits for nothing.
            if not (node.args and isinstance(node.args[0], ast.Constant) and node.args[0].value == 0):
                sleeping.append(f"{file.relative_to(ROOT)}:{node.lineno}")
    assert not sleeping


def test_every_page_linked_from_the_documents_exists() -> None:
    broken = []
    for page in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / ".github").rglob("*.md")]:
        for target in re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)|src=\"([^\"]+)\"", page.read_text()):
            path = target[0] or target[1]
            if not path.startswith(("http:", "https:", "mailto:")) and not (page.parent / path).exists():
                broken.append(f"{page.relative_to(ROOT)}: {path}")
    assert not broken
