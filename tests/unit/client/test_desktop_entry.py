"""The window in the menu of a desktop: written into the person's own folders, and taken out without a trace."""

import configparser
import re
import shutil
import subprocess
from pathlib import Path
from xml.etree import ElementTree

import pytest

from parley import BadInputError, ParleyError
from parley.inviting import LINK, SUFFIX
from parley.terminal import desktop_entry
from parley.terminal.exits import ExitCode
from tests.unit.client.test_command import Parley
from tests.unit.client.test_named_file import KINDS

PLAIN = "/srv/kim/.local/bin/parley"
ODD = [
    "/srv/a b/parley",
    '/x/"q"/parley',
    "/x/$HOME/`id`/parley",
    "/x/100%u/parley",
    "/x/back\\slash/parley",
    "/caf\u00e9/parley",
]


def started(text: str) -> list[str]:
    """What a desktop starts by an entry: the value of the string first, then its quotation, then its codes."""
    entry = configparser.RawConfigParser(strict=True)
    entry.optionxform = str  # type: ignore[assignment,method-assign]
    entry.read_string(text)
    value = entry["Desktop Entry"]["Exec"].replace("\\\\", "\\")
    found = re.fullmatch(r'"((?:\\.|[^"\\`$])*)"((?: \S+)*)', value)
    assert found is not None, value
    return [re.sub(r"\\(.)", r"\1", found[1]).replace("%%", "%"), *found[2].split()]


@pytest.mark.parametrize("program", [PLAIN, *ODD])
def test_the_entry_starts_this_program_and_nothing_else(program: str) -> None:
    assert started(desktop_entry.entry_text(program)) == [program, "gui", "%u"]


@pytest.mark.parametrize("program", ["parley", "/x/\nExec=evil", "/x/\x1b[2J", "/caf\udce9"])
def test_a_path_that_cannot_stand_in_an_entry_is_refused(program: str) -> None:
    with pytest.raises(BadInputError, match="Nothing was changed"):
        desktop_entry.entry_text(program)


@pytest.mark.skipif(shutil.which("desktop-file-validate") is None, reason="desktop-file-validate is not installed")
@pytest.mark.parametrize("program", [PLAIN, *ODD])
def test_the_entry_is_valid_by_the_tool_of_freedesktop(tmp_path: Path, program: str) -> None:
    (tmp_path / "parley.desktop").write_text(desktop_entry.entry_text(program), encoding="utf-8")
    done = subprocess.run(
        ["desktop-file-validate", str(tmp_path / "parley.desktop")], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "")


def test_the_entry_the_type_and_the_icon_fit_together(tmp_path: Path) -> None:
    entry, icon, kind = (path.read_text() for path in desktop_entry.install(tmp_path, PLAIN))
    [found] = ElementTree.fromstring(kind)
    name = found.attrib["type"]
    patterns = [one.attrib["pattern"] for one in found if one.tag.endswith("glob")]
    assert (name, patterns) == (desktop_entry.TYPE, [f"*{SUFFIX}"])
    assert f"MimeType=x-scheme-handler/{LINK.partition(':')[0]};{name};" in entry
    assert ElementTree.fromstring(icon).tag.endswith("svg")
    assert "Icon=parley\n" in entry


def files_in(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir())


def test_what_is_installed_is_removed_again_and_both_can_be_repeated(tmp_path: Path) -> None:
    (tmp_path / "applications").mkdir()
    (tmp_path / "applications" / "other.desktop").write_text("[Desktop Entry]\n")
    first = desktop_entry.install(tmp_path, PLAIN)
    assert desktop_entry.install(tmp_path, "/elsewhere/parley") == first
    assert started(first[0].read_text())[0] == "/elsewhere/parley"
    assert desktop_entry.remove(tmp_path) == first
    assert desktop_entry.remove(tmp_path) == ()
    assert files_in(tmp_path) == ["applications/other.desktop"]


@pytest.mark.parametrize("place", ["applications/parley.desktop", "icons/hicolor/scalable/apps/parley.svg"])
def test_a_file_that_somebody_else_made_stays(tmp_path: Path, place: str) -> None:
    path = tmp_path / place
    path.parent.mkdir(parents=True)
    path.write_text("mine")
    with pytest.raises(BadInputError, match=r"another program made this\. Nothing was changed"):
        desktop_entry.install(tmp_path, PLAIN)
    assert files_in(tmp_path) == [place]
    assert desktop_entry.remove(tmp_path) == ()
    assert path.read_text() == "mine"


@pytest.mark.parametrize("kind", KINDS)
def test_only_a_regular_file_is_read_replaced_or_removed(tmp_path: Path, kind: str) -> None:
    """A pipe was waited for, for ever."""
    desktop_entry.install(tmp_path, PLAIN)
    path = tmp_path / desktop_entry.ENTRY
    path.unlink()
    KINDS[kind](path)
    before = path.lstat().st_ino
    with pytest.raises(BadInputError, match=r"another program made this\. Nothing was changed"):
        desktop_entry.install(tmp_path, PLAIN)
    assert path not in desktop_entry.remove(tmp_path)
    assert path.lstat().st_ino == before


def test_a_folder_that_cannot_be_written_is_told_and_leaves_no_half_file(tmp_path: Path) -> None:
    (tmp_path / "mime").write_text("a file, where a folder belongs")
    with pytest.raises(ParleyError, match="cannot be written"):
        desktop_entry.install(tmp_path, PLAIN)
    assert not [name for name in files_in(tmp_path) if name.endswith(".tmp")]
    desktop_entry.remove(tmp_path)
    assert files_in(tmp_path) == ["mime"]


def test_the_folder_is_that_of_the_person(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/srv/kim")
    assert desktop_entry.data_home({}) == Path("/srv/kim/.local/share")
    assert desktop_entry.data_home({"XDG_DATA_HOME": "/data"}) == Path("/data")
    assert desktop_entry.data_home({"XDG_DATA_HOME": "relative"}) == Path("/srv/kim/.local/share")


async def test_the_command_says_what_it_wrote_and_removed(tmp_path: Path) -> None:
    parley = Parley(tmp_path)
    done = await parley("desktop", "install", "--program", PLAIN, XDG_DATA_HOME=str(tmp_path / "data"))
    assert (done.code, len(done.out.splitlines())) == (0, 3), done
    removed = await parley("desktop", "remove", XDG_DATA_HOME=str(tmp_path / "data"))
    assert (removed.code, removed.out) == (0, done.out)
    nothing = await parley("desktop", "remove", XDG_DATA_HOME=str(tmp_path / "data"))
    assert (nothing.code, nothing.out, nothing.err) == (0, "", "It was not there. Nothing was changed.\n")
    refused = await parley("desktop", "install", "--program", "a\nb", XDG_DATA_HOME=str(tmp_path / "data"))
    assert refused.code == ExitCode.USAGE
