"""Settings of a node: files, environment and flags with any values.

They are refused with a list of all problems, or they are within the bounds of the table. Settings that are taken can be
printed, and what `parleyd config` prints is a file with the same settings.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from parleyd.cli import _as_json, _as_toml
from parleyd.settings.kinds import AddressMap, Choice, FilePath, HostPort, Integer, IpAddresses, quote
from parleyd.settings.load import LoadedSettings, SettingsError, load_settings
from parleyd.settings.table import ENVIRONMENT_PREFIX, SETTINGS, Setting
from tests.fuzz.engine import Target

WORDS = [
    "", "n1", "N1", "n2=127.0.0.1:7700", "n1=127.0.0.1:7700,n2=127.0.0.1:7701", "127.0.0.1:7600", "[::1]:7600",
    "0.0.0.0:1", "::", "localhost:65536", "a.b:1", "[fe80::1%eth0]:1", "true", "off", "0", "-1", "1_000", " 5 ",
    "9" * 18, "9" * 5000,
    "10.0.0.5, fd00::5", "~", "~nobody-has-this-name/x", "/", ".", "x" * 5000, "a\0b", "a\nb", "\udc80",
    "info", "DEBUG", "auto", "\u017f", "\u0661",
]  # fmt: skip
TEXTS = st.sampled_from(WORDS) | st.text(max_size=20) | st.integers(-5, 1 << 40).map(str)
NAMES = st.sampled_from([*SETTINGS, "config", "no_such_setting", "peers.n1"])
SOUND_TEXT: dict[type, Callable[[Any], st.SearchStrategy[str]]] = {
    Integer: lambda kind: st.integers(kind.least, kind.most).map(str),
    Choice: lambda kind: st.sampled_from(kind.words),
    HostPort: lambda _: st.integers(1, 65_535).map("127.0.0.1:{}".format),
    FilePath: lambda _: st.sampled_from(["a", "b/c", "/nowhere/d", 'q"\\ \x7f\x1b']),
    IpAddresses: lambda _: st.sampled_from(["", "10.0.0.5", "fd00::5,10.0.0.1"]),
    AddressMap: lambda _: st.sampled_from(["n1=127.0.0.1:7700", "n1=127.0.0.1:7700,n2=127.0.0.1:7701"]),
}


def sound(setting: Setting) -> st.SearchStrategy[str]:
    """A text that the setting's kind allows."""
    made = SOUND_TEXT.get(type(setting.kind), lambda _: st.sampled_from(["true", "false", "n1"]))
    return made(setting.kind)


@st.composite
def given_texts(draw: st.DrawFn) -> dict[str, str]:
    """Some settings with texts, most of them allowed."""
    names = draw(st.lists(NAMES, max_size=5))
    return {
        name: draw(sound(SETTINGS[name]) | TEXTS if name in SETTINGS and draw(st.integers(0, 3)) else TEXTS)
        for name in names
    }


TOML_VALUES = st.recursive(
    st.integers(-(1 << 70), 1 << 70).map(str)
    | st.sampled_from(["true", "1.5", "inf", "nan", "1979-05-27", "07:32:00", "1979-05-27T07:32:00Z", "0x10", "{}"])
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=20).map(quote),
    lambda inner: (
        st.lists(inner, max_size=3).map(lambda values: f"[{', '.join(values)}]")
        | st.tuples(st.sampled_from(["n1", "n2", '"a b"', '""']), inner).map(lambda pair: f"{{{pair[0]} = {pair[1]}}}")
    ),
    max_leaves=4,
)
LINES = st.tuples(NAMES, TOML_VALUES).map(lambda pair: f"{pair[0]} = {pair[1]}") | st.sampled_from(
    ["[peers]", "[join]", "[peers.n1]", "[[peers]]", 'n1 = "127.0.0.1:7700"', "# x", "a" * 1000, "=", '"""']
)
DEEP = st.builds(
    lambda opening, depth: f"name = {opening * depth}", st.sampled_from(["[", "{a=", "a."]), st.just(2_000)
)
FILES = st.binary(max_size=100) | (st.lists(LINES, max_size=6).map("\n".join) | DEEP).map(lambda text: text.encode())


@dataclass(frozen=True)
class Given:
    """What a node is started with; a file or none."""

    flags: dict[str, object]
    environ: dict[str, str]
    file: bytes | None


FLAG_VALUES = TEXTS | st.none() | st.booleans() | st.lists(TEXTS, max_size=3)
GIVEN = st.builds(
    Given,
    flags=given_texts().map(lambda texts: {name: text for name, text in texts.items() if name in SETTINGS})
    | st.dictionaries(st.sampled_from(list(SETTINGS)), FLAG_VALUES, max_size=4),
    environ=given_texts().map(lambda texts: {ENVIRONMENT_PREFIX + name.upper(): text for name, text in texts.items()}),
    file=st.none() | FILES,
)
COMPLETE = {"name": "n1", "data_dir": "data", "insecure": True}


def fits_flag(setting: Setting, value: object) -> bool:
    """Whether the command line can give such a value."""
    if setting.is_switch:
        return isinstance(value, bool | None)
    return isinstance(value, list | None) if setting.is_repeatable else isinstance(value, str | None)


def check_given(given: Given) -> None:
    """Settings are refused in words, or sound and printable."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "node.toml"
        if given.file is not None:
            file.write_bytes(given.file)
        flags = {name: value for name, value in given.flags.items() if fits_flag(SETTINGS[name], value)}
        for more in ({}, COMPLETE):
            try:
                loaded = load_settings({**more, **flags}, given.environ, file if given.file is not None else None)
            except SettingsError as refused:
                str(refused).encode()
                continue
            check_bounds(loaded)
            check_printing(loaded, file)


def check_bounds(loaded: LoadedSettings) -> None:
    """Every value is one that its kind takes from a file."""
    for name, setting in SETTINGS.items():
        value: Any = getattr(loaded.settings, name)
        if isinstance(setting.kind, Integer):
            assert setting.kind.least <= value <= setting.kind.most
        elif isinstance(setting.kind, Choice):
            assert value in setting.kind.words


def check_printing(loaded: LoadedSettings, file: Path) -> None:
    """`parleyd config` prints what was taken, and its text is a file with the same settings."""
    json.dumps(_as_json(loaded), ensure_ascii=False).encode()
    "\n".join(loaded.warnings).encode()
    file.write_text("\n".join(_as_toml(loaded)))
    again = load_settings({}, {}, file)
    assert again.settings == loaded.settings


TARGETS = (Target("settings", GIVEN, check_given),)
