"""The desktop entry of the window: its text, and the files it is made of, below the data folder of the person.

    applications/parley.desktop                  the entry, for links parley://… and for files *.parley-invite
    icons/hicolor/scalable/apps/parley.svg       the icon
    mime/packages/parley.xml                     the type of the files

Each file says in its first lines who made it. A file of that name that somebody else made is never replaced or removed,
and neither is a link, a pipe or a folder.
"""

import os
from collections.abc import Mapping
from importlib import resources
from pathlib import Path

from parley import BadInputError, ParleyError, replace_private

MARK = "Made by: parley desktop install"
MARK_WITHIN_BYTES = 400
TYPE = "application/x-parley-invite"
ENTRY = "applications/parley.desktop"
_COPIED = {"icons/hicolor/scalable/apps/parley.svg": "parley.svg", "mime/packages/parley.xml": "parley-invite.xml"}


def data_home(environment: Mapping[str, str]) -> Path:
    """Return the folder for data of the person. A relative XDG_DATA_HOME counts as none."""
    named = environment.get("XDG_DATA_HOME", "")
    return Path(named) if os.path.isabs(named) else Path.home() / ".local" / "share"


def entry_text(program: str) -> str:
    """Return the desktop entry that starts a program. Raises BadInputError if its path cannot stand in one."""
    if not program.isprintable() or not os.path.isabs(program):
        raise BadInputError(f"{program!a} cannot be started by a desktop. Nothing was changed. Name another path.")
    return f"""[Desktop Entry]
# {MARK}
Type=Application
Version=1.4
Name=Parley
GenericName=Messages
Comment=Write and read messages on your own cluster
TryExec={_escaped(program)}
Exec={_escaped(_quoted(program))} gui %u
Icon=parley
Terminal=false
Categories=Network;InstantMessaging;Qt;
Keywords=chat;message;messenger;
MimeType=x-scheme-handler/parley;{TYPE};
StartupWMClass=parley
"""


def install(root: Path, program: str) -> tuple[Path, ...]:
    """Write all files. Raises BadInputError, before anything is changed, if one of them belongs to somebody else."""
    contents = {ENTRY: entry_text(program)}
    for place, name in _COPIED.items():
        contents[place] = (resources.files("parley.terminal") / "files" / name).read_text(encoding="utf-8")
    foreign = [str(root / place) for place in contents if not _may_change(root / place)]
    if foreign:
        raise BadInputError(
            f"{', '.join(foreign)}: another program made this. Nothing was changed. Move it away first."
        )
    for place, content in contents.items():
        _write(root / place, content)
    return tuple(root / place for place in contents)


def remove(root: Path) -> tuple[Path, ...]:
    """Remove the files that install() wrote. Return those that were there. Raises ParleyError if one stays."""
    ours = [root / place for place in (ENTRY, *_COPIED) if _exists(root / place) and _may_change(root / place)]
    for path in ours:
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise ParleyError(f"{path} cannot be removed ({error.strerror}). Run the command again.") from error
    return tuple(ours)


def _exists(path: Path) -> bool:
    return os.path.lexists(path)


def _may_change(path: Path) -> bool:
    if not _exists(path):
        return True
    if path.is_symlink() or not path.is_file():  # a pipe would be waited for
        return False
    try:
        with open(path, "rb") as file:
            return MARK.encode() in file.read(MARK_WITHIN_BYTES)
    except OSError:
        return False


def _quoted(program: str) -> str:
    """Return an argument of Exec: in quotation marks, and with what means something there taken literally."""
    inside = "".join(f"\\{char}" if char in '"`$\\' else char for char in program)
    return f'"{inside}"'.replace("%", "%%")


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\")


def _write(path: Path, content: str) -> None:
    try:
        replace_private(path, content)
    except OSError as error:
        raise ParleyError(
            f"{path} cannot be written ({error.strerror}). Run the command again, or: parley desktop remove."
        ) from error
