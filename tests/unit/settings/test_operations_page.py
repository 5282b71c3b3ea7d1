"""docs/OPERATIONS.md says of every setting and exit code what the program does."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from parleyd.exits import EXIT_CODE_MEANINGS, ExitCode
from parleyd.settings.load import load_settings
from parleyd.settings.table import SETTINGS, Setting

PAGE = (Path(__file__).parents[3] / "docs" / "OPERATIONS.md").read_text()


def default_of(setting: Setting) -> str:
    if setting.required:
        return "required"
    if setting.default in (None, "", {}, ()):
        return ""
    return f"`{setting.kind.to_toml(setting.default)}`"


def row_of(setting: Setting) -> str:
    """The line that the page must have; after a change of the table, put it there."""
    return f"| `{setting.name}` | {default_of(setting)} | {setting.kind.allowed} | {setting.help} |"


@pytest.mark.parametrize("setting", SETTINGS.values(), ids=SETTINGS)
def test_every_setting_is_on_the_page_as_the_program_has_it(setting: Setting) -> None:
    assert row_of(setting) in PAGE.splitlines()


def test_the_page_has_no_setting_that_does_not_exist() -> None:
    _, _, section = PAGE.partition("## Every setting")
    named = re.findall(r"^\| `([a-z_]+)` \|", section.partition("\n## ")[0], re.MULTILINE)
    assert named == list(SETTINGS)


@pytest.mark.parametrize("code", ExitCode)
def test_every_exit_code_is_on_the_page(code: ExitCode) -> None:
    assert re.search(rf"^\| {code.value} \| {re.escape(EXIT_CODE_MEANINGS[code])} \|", PAGE, re.MULTILINE)


def test_the_settings_file_on_the_page_works_once_the_certificates_are_there(tmp_path: Path) -> None:
    (example,) = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
    for name in ("ca.pem", "alpha.pem", "alpha.key"):
        (tmp_path / name).touch(mode=0o600)
    config = tmp_path / "node.toml"
    config.write_text(example)
    loaded = load_settings({}, {}, config)
    assert loaded.warnings == ()
    assert list(loaded.settings.peers) == ["alpha", "beta", "gamma"]
