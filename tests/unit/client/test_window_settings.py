"""The settings of the window without Qt: the file, do-not-disturb, and what notifications say."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pytest

from parley.chat import forget_zone
from parley.gui.quiet import in_an_hour, is_quiet, lets_through, quiet_words, until_morning
from parley.gui.window_settings import FILE_NAME, REFUSED_NAME, UNTIL_SWITCHED_OFF, Preview, WindowSettings, load, save

NOON = 1_775_000_000_000
CHOSEN = WindowSettings(
    text_percent=130, notify=False, preview=Preview.NONE, sound=True, quiet_until_ms=NOON, urgent_when_quiet=False
)


def test_settings_survive_a_restart_and_the_first_start_has_the_usual_ones(tmp_path: Path) -> None:
    root = tmp_path / "new" / "state"
    assert load(root) == (WindowSettings(), "")
    assert save(root, CHOSEN) == ""
    assert load(root) == (CHOSEN, "")
    assert [one.name for one in root.iterdir()] == [FILE_NAME]


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (b"", "Expecting value"),
        (b"not json", "Expecting value"),
        (b"[]", "holds no settings"),
        (b"\xff\xfe", "it is not in UTF-8"),
        (b'{"notify": 1}', "notify is 1"),
        (b'{"notify": "yes"}', "notify is 'yes'"),
        (b'{"text_percent": 100.0}', "text_percent is 100.0"),
        (b'{"text_percent": 5000}', "text_percent is 5000"),
        (b'{"text_percent": true}', "text_percent is True"),
        (b'{"quiet_until_ms": -7}', "quiet_until_ms is no time that can be meant"),
        (b'{"quiet_until_ms": 1e400}', "quiet_until_ms is inf"),
        (b'{"quiet_until_ms": 99999999999999999999}', "quiet_until_ms is no time that can be meant"),
        (b'{"preview": []}', "preview is [], which is not one of all, names, none"),
        (b'{"preview": "some"}', "some"),
        (b'{"sound": null}', "sound is None"),
        (b"[" * 4000, "nested too deeply"),
        (b" " * 5000 + b"{}", "it is larger than 4096 bytes"),
    ],
)
def test_a_file_that_cannot_be_meant_is_put_aside_in_words(tmp_path: Path, damage: bytes, reason: str) -> None:
    path = tmp_path / FILE_NAME
    path.write_bytes(damage)
    settings, problem = load(tmp_path)
    assert settings == WindowSettings()
    assert str(path) in problem
    assert reason in problem
    assert "usual settings" in problem
    assert (tmp_path / REFUSED_NAME).read_bytes() == damage
    assert load(tmp_path) == (WindowSettings(), ""), "it is told once"


def test_a_byte_order_mark_and_settings_of_later_releases_do_no_harm(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_bytes(b'\xef\xbb\xbf{"sound": true, "of the future": {"a": 1}}')
    assert load(tmp_path) == (WindowSettings(sound=True), "")


def test_settings_that_cannot_be_read_or_stored_are_told_of(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).mkdir()
    settings, problem = load(tmp_path)
    assert settings == WindowSettings()
    assert "cannot be read" in problem
    assert "could not be stored" in save(tmp_path, CHOSEN)
    assert [one.name for one in tmp_path.iterdir()] == [FILE_NAME], "no part is left"


def test_do_not_disturb_holds_back_what_is_not_urgent_until_it_ends() -> None:
    usual = WindowSettings()
    hour = replace(usual, quiet_until_ms=in_an_hour(NOON))
    always = replace(usual, quiet_until_ms=UNTIL_SWITCHED_OFF)
    strict = replace(always, urgent_when_quiet=False)
    off = replace(usual, notify=False)
    later = NOON + 3_600_000
    assert [lets_through(one, NOON, urgent=False) for one in (usual, hour, always, strict, off)] == [True, *[False] * 4]
    assert [lets_through(one, NOON, urgent=True) for one in (usual, hour, always, strict, off)] == [
        *[True] * 3,
        False,
        False,
    ]
    assert not lets_through(hour, later - 1, urgent=False)
    assert lets_through(hour, later, urgent=False)
    assert not is_quiet(hour, later)
    assert is_quiet(always, later * 10)


@pytest.fixture
def berlin() -> Iterator[None]:
    """The machine is in a zone that changes to summer time in the night to 2026-03-29."""
    before = os.environ.get("TZ")
    os.environ["TZ"] = "Europe/Berlin"
    time.tzset()
    forget_zone()
    yield
    os.environ.pop("TZ")
    if before is not None:
        os.environ["TZ"] = before
    time.tzset()
    forget_zone()


@pytest.mark.parametrize(
    ("now", "morning"),
    [
        ("2026-03-10T22:30", "2026-03-11T08:00"),
        ("2026-03-10T07:59", "2026-03-11T08:00"),
        ("2026-03-10T02:00", "2026-03-10T08:00"),
        ("2026-03-28T23:00", "2026-03-29T08:00"),
        ("2026-12-31T12:00", "2027-01-01T08:00"),
    ],
)
def test_tomorrow_morning_is_eight_o_clock_on_this_machine(berlin: None, now: str, morning: str) -> None:
    now_ms = round(datetime.fromisoformat(now).timestamp() * 1000)
    found = until_morning(now_ms)
    assert found == round(datetime.fromisoformat(morning).timestamp() * 1000)
    quiet = WindowSettings(quiet_until_ms=found)
    same_day = now[:10] == morning[:10]
    assert quiet_words(quiet, now_ms) == ("until 08:00" if same_day else f"until {morning.replace('T', ' ')}")
    assert quiet_words(quiet, found) == ""
