"""`parley desktop`: the window in the menu of the desktop, where it opens invitations, too. See desktop_entry.py."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

from parley import BadInputError
from parley.terminal import desktop_entry
from parley.terminal.command_line import with_flags
from parley.terminal.commands import note, say
from parley.terminal.exits import EPILOG
from parley.terminal.json_result import record
from parley.terminal.options import Flags
from parley.terminal.password import VARIABLE

INDEX_TIMEOUT_S = 20.0
_INDEXES = (("update-desktop-database", "applications"), ("update-mime-database", "mime"))
_LATER = "The desktop may notice the change at your next log-in only."

desktop_app = typer.Typer(
    help="Put the window into the menu of your desktop, and take it out again. It opens invitations, too.",
    no_args_is_help=True,
)


@desktop_app.command(name="install", epilog=EPILOG)
@with_flags
async def install(
    flags: Flags,
    program: Annotated[
        Path | None,
        typer.Option("--program", metavar="FILE", help="Start this. Default: this command.", show_default=False),
    ] = None,
) -> None:
    """Write a desktop entry, an icon and a file type into your own folders. Repeat it if `parley` has moved.

    Links parley://... and files *.parley-invite then open with the window.
    """
    root = _root()
    files = desktop_entry.install(root, str(program.absolute()) if program else _this_program())
    _tell(files)
    _refresh(root)
    note("Parley is in the menu of your desktop. To take it out: parley desktop remove.")


@desktop_app.command(name="remove", epilog=EPILOG)
@with_flags
async def remove(flags: Flags) -> None:
    """Remove what `parley desktop install` wrote. Messages, sessions and contexts stay."""
    root = _root()
    files = desktop_entry.remove(root)
    _tell(files)
    if files:
        _refresh(root)
    note("Parley is not in the menu of your desktop any more." if files else "It was not there. Nothing was changed.")


def _root() -> Path:
    if sys.platform in ("win32", "darwin"):
        raise BadInputError("This system has no desktop entries. Nothing was changed. Start the window: parley gui.")
    return desktop_entry.data_home(os.environ)


def _this_program() -> str:
    """Return the path of this command as it was called, because a link to it outlives an upgrade."""
    called = shutil.which(sys.argv[0]) if Path(sys.argv[0]).name == "parley" else shutil.which("parley")
    if called is None:
        raise BadInputError(
            "The path of the command parley is not known. Nothing was changed. Name it: --program FILE."
        )
    return os.path.abspath(called)


def _tell(files: tuple[Path, ...]) -> None:
    record(files=[str(path) for path in files])
    for path in files:
        say(str(path))


def _refresh(root: Path) -> None:
    """Let the desktop read the files at once. A desktop without these programs reads them at the next log-in."""
    environment = {name: value for name, value in os.environ.items() if name != VARIABLE}
    for program, folder in _INDEXES:
        if shutil.which(program) is None:
            note(f"{program} is not installed. {_LATER}")
            continue
        try:
            subprocess.run(  # noqa: S603 - one of two names above, found on the PATH of the person
                [program, str(root / folder)],
                env=environment,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=INDEX_TIMEOUT_S,
                check=True,
            )
        except (OSError, subprocess.SubprocessError) as error:
            note(f"{program} failed ({type(error).__name__}). {_LATER}")
