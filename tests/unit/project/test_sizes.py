"""Modules and classes stay small enough to be read at once. What is larger has its reason here, and a bound too."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
MAX_LINES = 400
MAX_ATTRIBUTES = 15

LONG_MODULES = {
    "client/parley/client.py": (720, "the face of the SDK: one short method for each thing a caller can do"),
    "client/parley/account.py": (510, "what one signed-in account does; a part would need nearly all of its state"),
    "server/parleyd/group/group.py": (460, "the decisions of a replica; a quarter of it are imports and inputs"),
    "server/parleyd/group/runner.py": (480, "the only shell around these decisions, one short method for each effect"),
    "server/parleyd/settings/table.py": (520, "a table: one row for each setting"),
}

LARGE_CLASSES = {
    "ChatView": (18, "the parts of one chat, and the hooks by which a screen learns what to draw"),
    "ParleyClient": (19, "the parts of a client; most are handed to the account that signs in"),
    "LocalAccount": (20, "what an account has while it is in use: file, connection, stream, what it knows"),
    "ConnectionManager": (21, "the states of a connection that keeps itself up; each is of a single method or two"),
    "StreamProtocol": (16, "the whole state of a client's session, without input and output"),
    "MainWindow": (19, "Qt: a reference to each widget it shows"),
    "SignInPage": (17, "Qt: a reference to each field"),
    "ChatPage": (22, "Qt: a reference to each widget it shows"),
    "DeviceStream": (19, "what one device has been sent and is owed; split, the parts share a cursor"),
    "Core": (22, "the state of a Raft server, by the names of the paper (figure 2) and of the reference"),
    "PeerLink": (18, "one link: its three streams, what waits on them, and what was measured"),
}


def modules() -> list[Path]:
    """All hand-written modules."""
    files = [path for part in ("server", "client", "scripts") for path in (ROOT / part).rglob("*.py")]
    return [path for path in files if not any(name.startswith(".") or name == "build" for name in path.parts[-6:])]


def attributes(class_: ast.ClassDef) -> set[str]:
    """The names that its methods assign on self."""
    return {
        node.attr
        for node in ast.walk(class_)
        if isinstance(node, ast.Attribute)
        and isinstance(node.ctx, ast.Store)
        and isinstance(node.value, ast.Name)
        and node.value.id == "self"
    }


def test_modules_have_a_size_that_can_be_read_or_a_reason() -> None:
    lines = {path.relative_to(ROOT).as_posix(): len(path.read_text().splitlines()) for path in modules()}
    assert len(lines) > 200
    too_long = {name: count for name, count in lines.items() if count > LONG_MODULES.get(name, (MAX_LINES, ""))[0]}
    assert too_long == {}, "split it, or say in LONG_MODULES why it has to be that long"
    needless = [name for name in LONG_MODULES if lines.get(name, 0) <= MAX_LINES]
    assert needless == [], "these need no reason any more"


def test_classes_have_few_attributes_or_a_reason() -> None:
    classes = [
        node for path in modules() for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ClassDef)
    ]
    counts = {class_.name: len(attributes(class_)) for class_ in classes}
    assert len(counts) > 300
    too_large = {name: n for name, n in counts.items() if n > LARGE_CLASSES.get(name, (MAX_ATTRIBUTES, ""))[0]}
    assert too_large == {}, "split it, or say in LARGE_CLASSES why it has that many"
    needless = [name for name in LARGE_CLASSES if counts.get(name, 0) <= MAX_ATTRIBUTES]
    assert needless == [], "these need no reason any more"


@pytest.mark.parametrize(("source", "expected"), [("class A:\n def f(self): self.a = self.b", {"a"})])
def test_what_is_assigned_counts(source: str, expected: set[str]) -> None:
    [class_] = ast.parse(source).body
    assert isinstance(class_, ast.ClassDef)
    assert attributes(class_) == expected
