"""A refused change of the members is shown to a person as it is: whole sentences, with capital letter and full stop."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from parleyd.membership import changes, router, rules

SHOWN = {"ChangeRefusedError", "NoSuchMemberError", "NotYetError", "NotAdmittedError"}


def texts_of(source: str) -> list[str]:
    """Return the text of each error that is raised, with {} for each value in it."""
    raised = [node.exc for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Raise)]
    calls = [call for call in raised if isinstance(call, ast.Call) and isinstance(call.func, ast.Name)]
    shown = [call.args[0] for call in calls if isinstance(call.func, ast.Name) and call.func.id in SHOWN]
    texts = ["".join(_part(part) for part in getattr(text, "values", [text])) for text in shown]
    return [text for text in texts if text != "{}"]


def _part(part: ast.expr) -> str:
    return str(part.value) if isinstance(part, ast.Constant) else "{}"


@pytest.mark.parametrize("module", [rules, changes])
def test_a_refused_change_is_told_in_whole_sentences(module: object) -> None:
    texts = texts_of(Path(str(getattr(module, "__file__", ""))).read_text())
    assert len(texts) > 3
    assert [text for text in texts if not text.endswith(".") or text[0].islower()] == []


@pytest.mark.parametrize("module", [changes, router])
def test_what_became_of_a_change_is_told_in_whole_sentences(module: object) -> None:
    texts = {name: text for name, text in vars(module).items() if name.endswith("_TEXT")}
    assert len(texts) > 1
    assert {name for name, text in texts.items() if not text.endswith(".") or text[0].islower()} == set()
