"""What every access to a database must name.

The file system, because state.sqlite must not be opened past its checksums. The columns of an INSERT, because a later
release may add a column anywhere.
"""

from __future__ import annotations

import ast
import re

from tests.unit.project.source import ROOT, python_files

LOADS_THE_CHECKSUMS = ROOT / "server/parleyd/page_checksums.py"


def test_each_connection_of_the_server_names_its_file_system() -> None:
    opened = [
        (file.relative_to(ROOT), node.lineno, {keyword.arg for keyword in node.keywords})
        for file in python_files("server")
        if file != LOADS_THE_CHECKSUMS
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("apsw.Connection", "Connection")
    ]
    assert len(opened) >= 5, "nothing is looked at"
    assert not [(str(file), line) for file, line, named in opened if "vfs" not in named]


def test_each_insert_names_its_columns() -> None:
    named: list[str] = []
    positional: list[str] = []
    for file in python_files("server", "client", "scripts"):
        for table, after in re.findall(r"\bINTO\s+(\w+)\s*(\(|\w+)", file.read_text(encoding="utf-8")):
            (named if after == "(" else positional).append(f"{file.relative_to(ROOT)}: {table} {after}")
    assert len(named) >= 30, "nothing is looked at"
    assert not [one for one in positional if one.endswith((" VALUES", " SELECT", " DEFAULT"))]
