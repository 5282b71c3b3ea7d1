"""Tests of the window, without a display. They need pytest-qt, which the rest of the tests is spared (see Makefile)."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest

os.environ["QT_QPA_PLATFORM"] = "offscreen"
os.environ["QT_ACCESSIBILITY"] = "1"


def pytest_ignore_collect(config: pytest.Config) -> bool | None:
    """Without pytest-qt nothing here can run; pytest_terminal_summary says so."""
    return None if config.pluginmanager.hasplugin("pytest-qt") else True


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Nobody should think that these were run when they were not."""
    if not config.pluginmanager.hasplugin("pytest-qt"):
        terminalreporter.write_line("tests/gui was left out; it runs with: make test-gui")


@pytest.fixture(scope="session")
def qapp_args() -> list[str]:
    """What pytest-qt starts Qt with."""
    return ["parley-tests"]


@pytest.fixture(autouse=True)
def styled(request: pytest.FixtureRequest) -> None:
    """The style people see, for tests that use Qt."""
    if "qtbot" in request.fixturenames:
        from parley.gui.theme import LIGHT, apply_theme

        app: Any = request.getfixturevalue("qapp")
        if app.style().objectName() != "fusion":
            app.setStyle("Fusion")
            apply_theme(app, LIGHT)


@pytest.fixture
def as_before(qapp: Any) -> Iterator[None]:
    """The other tests have light colours, the usual text, and a window that begins at the left."""
    from parley.gui.theme import LIGHT, apply_theme

    font, direction = qapp.font(), qapp.layoutDirection()
    yield
    qapp.setFont(font)
    qapp.setLayoutDirection(direction)
    apply_theme(qapp, LIGHT)


@pytest.fixture
def closing() -> Iterator[Callable[[Any], Any]]:
    """Registers what must be stopped at the end, whatever happens."""
    kept: list[Any] = []

    def keep(one: Any) -> Any:
        kept.append(one)
        return one

    yield keep
    for one in reversed(kept):
        one.stop()
