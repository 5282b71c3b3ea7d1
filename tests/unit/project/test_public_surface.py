"""`import parley` is the SDK: what front ends, scripts and programs of others need is exported there."""

from __future__ import annotations

import ast
from pathlib import Path

import parley
from tests.unit.project.source import ROOT, is_within, python_files

FRONT_ENDS = ("parley.terminal", "parley.gui", "parley.gateway", "parley.cli")
MAX_PRIVATE_NAMES = 6
"""How many names front ends and scripts still take from inside the SDK. It only falls; at 0 this becomes a rule."""


def exported_by_the_root() -> set[str]:
    """The names that `parley/__init__.py` imports."""
    tree = ast.parse((ROOT / "client/parley/__init__.py").read_text())
    return {
        alias.asname or alias.name for node in tree.body if isinstance(node, ast.ImportFrom) for alias in node.names
    }


def names_from_inside() -> set[str]:
    """The names that front ends and scripts import from submodules of the SDK."""
    users = [file for file in python_files("client", "scripts") if _is_outside(file)]
    return {
        alias.name
        for file in users
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("parley.")
        if not any(is_within(node.module, end) for end in FRONT_ENDS)
        for alias in node.names
    }


def _is_outside(file: Path) -> bool:
    top, *parts = file.relative_to(ROOT).with_suffix("").parts
    return top == "scripts" or any(is_within(".".join(parts), end) for end in FRONT_ENDS)


def test_all_that_the_root_imports_is_public_and_in_order() -> None:
    assert parley.__all__ == sorted(parley.__all__)
    assert set(parley.__all__) == exported_by_the_root()
    assert all(hasattr(parley, name) for name in parley.__all__)


def test_front_ends_take_no_more_from_inside_the_sdk_than_before() -> None:
    private = names_from_inside() - exported_by_the_root()
    assert len(private) <= MAX_PRIVATE_NAMES, f"export them in parley/__init__.py: {sorted(private)}"
