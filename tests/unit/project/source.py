"""Reads the repository for the tests beside it: its files, and what each Python module imports."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]

_NOT_OURS = frozenset((".git", ".venv", "var", "build", "dist", "__pycache__", ".hypothesis"))


def project_files() -> Iterator[Path]:
    """Every file of the project; what tools and running clusters leave behind is not part of it."""
    for entry in sorted(ROOT.iterdir()):
        if entry.name in _NOT_OURS or entry.name.endswith(("_cache", ".egg-info")):
            continue
        files = [entry] if entry.is_file() else sorted(entry.rglob("*"))
        yield from (file for file in files if file.is_file() and not _NOT_OURS & set(file.relative_to(ROOT).parts))


def python_files(*folders: str) -> list[Path]:
    """The Python files we wrote in these folders; generated stubs are left out."""
    return [
        file
        for file in project_files()
        if file.suffix == ".py" and "_pb2" not in file.name and file.relative_to(ROOT).parts[0] in folders
    ]


@dataclass(frozen=True, slots=True)
class Import:
    """One imported module, by its full name, and who imports it."""

    importer: str
    module: str
    line: int

    def __str__(self) -> str:
        return f"{self.importer}:{self.line} imports {self.module}"


def imports_under(folder: str) -> list[Import]:
    """All imports below a folder of the project (or in one file), those inside functions too."""
    root = ROOT / folder
    files = [root] if root.is_file() else sorted(root.rglob("*.py"))
    return [found for file in files for found in imports_of(file.read_text(), str(file.relative_to(ROOT)))]


def imports_of(text: str, name: str) -> list[Import]:
    """The imports of one module's text. `from a import b` counts as a.b, for b may be a module."""
    found = []
    for node in ast.walk(ast.parse(text, filename=name)):
        if isinstance(node, ast.Import):
            found += [Import(name, alias.name, node.lineno) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                found.append(Import(name, "." * node.level + (node.module or ""), node.lineno))
            else:
                found += [Import(name, f"{node.module}.{alias.name}", node.lineno) for alias in node.names]
    return found


def is_within(module: str, package: str) -> bool:
    """Whether `module` is `package` or inside it."""
    return module == package or module.startswith(package + ".")
