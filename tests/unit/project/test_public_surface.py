"""`parley`, `parley.chat` and `parley.inviting` are the SDK: what front ends, scripts and others need is there."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

import parley
import parley.chat
import parley.inviting
from tests.unit.project.source import ROOT, imports_under, is_within, python_files

FRONT_ENDS = ("parley.terminal", "parley.gui", "parley.gateway", "parley.cli")
PUBLIC = {"parley": parley, "parley.chat": parley.chat, "parley.inviting": parley.inviting}
IMPURE = ("asyncio", "grpc", "os", "pathlib", "prompt_toolkit", "socket", "threading", "PySide6", "parley_proto")


def imported_by_the_root_of(package: str) -> set[str]:
    """The names that the `__init__.py` of a package imports."""
    tree = ast.parse((ROOT / "client" / package.replace(".", "/") / "__init__.py").read_text())
    return {
        alias.asname or alias.name for node in tree.body if isinstance(node, ast.ImportFrom) for alias in node.names
    }


def names_from_inside() -> set[str]:
    """What front ends and scripts import from the SDK and its wire that is not public."""
    found = set()
    for file in python_files("client", "scripts"):
        if not _is_outside(file):
            continue
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names if is_within(alias.name, "parley")} - set(PUBLIC)
            elif isinstance(node, ast.ImportFrom) and node.module and is_within(node.module, "parley"):
                found |= {f"{node.module}.{alias.name}" for alias in node.names if not _is_public(node.module, alias)}
    return found


def _is_public(module: str, alias: ast.alias) -> bool:
    ours = any(is_within(f"{module}.{alias.name}", end) for end in FRONT_ENDS)
    return ours or (module in PUBLIC and alias.name in PUBLIC[module].__all__)


def _is_outside(file: Path) -> bool:
    top, *parts = file.relative_to(ROOT).with_suffix("").parts
    return top == "scripts" or any(is_within(".".join(parts), end) for end in FRONT_ENDS)


@pytest.mark.parametrize("package", PUBLIC)
def test_all_that_the_root_imports_is_public(package: str) -> None:
    module = PUBLIC[package]
    assert len(module.__all__) == len(set(module.__all__))
    assert set(module.__all__) == imported_by_the_root_of(package)
    assert all(hasattr(module, name) for name in module.__all__)


def test_front_ends_and_scripts_use_only_public_names_of_the_sdk() -> None:
    assert names_from_inside() == set(), "export them in parley, parley.chat or parley.inviting"


def test_front_ends_do_not_know_the_wire() -> None:
    ends = [f"client/{end.replace('.', '/')}" for end in FRONT_ENDS]
    found = [one for end in ends if (ROOT / end).exists() for one in imports_under(end)] + imports_under(
        "client/parley/cli.py"
    )
    assert not [one for one in found if is_within(one.module, "parley_proto") or is_within(one.module, "grpc")]


def test_what_folds_conversations_is_pure() -> None:
    found = imports_under("client/parley/chat")
    assert found
    assert not [one for one in found for name in IMPURE if is_within(one.module, name)]


def test_the_sdk_leaves_nothing_in_the_environment_of_the_programs_that_are_started_from_it() -> None:
    """A node that was started by a program with the SDK wrote lines of gRPC's core into its log."""
    environment = {key: value for key, value in os.environ.items() if key != "GRPC_VERBOSITY"}
    code = "import os; before = dict(os.environ); import parley; assert dict(os.environ) == before, os.environ"
    subprocess.run([sys.executable, "-c", code], env=environment, check=True, timeout=60)
