"""Every database that the server opens names its file system: state.sqlite must not be opened past its checksums."""

from __future__ import annotations

import ast

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
