"""Tests the wheel and the sdist that `make dist` built: their content, and their installation.

Everything runs in new virtual environments in a temporary folder, away from the checkout, with the packages that the
lock files name. The first error ends the run with a text and exit code 1.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tarfile
import tempfile
import venv
import zipfile
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SOURCES = {
    "parley": ROOT / "client",
    "parley_command": ROOT / "client",
    "parleyd": ROOT / "server",
    "parley_proto": ROOT / "proto",
}
"""The packages of the wheel, and the folder that holds each."""
COMMAND_TIMEOUT_S = 600.0

# Run in an environment that has the server's libraries. grpc and structlog themselves load grpc_health and rich where
# they find them, so what counts is what `import parley` adds.
IMPORT_CHECK = """
import re, sys
from importlib import metadata

import grpc, structlog
before = set(sys.modules)
import parley
added = {name.split(".")[0] for name in set(sys.modules) - before}

requirements = [line for line in metadata.requires("parley") or [] if "extra ==" in line]
extras = {re.split(r"[^A-Za-z0-9._-]", line)[0].lower().replace("_", "-") for line in requirements}
modules = metadata.packages_distributions().items()
unwanted = {name for name, dists in modules if extras & {dist.lower().replace("_", "-") for dist in dists}}
loaded = (unwanted | {"parleyd", "typer", "rich", "prompt_toolkit"}) & added
sys.exit(f"import parley loads {sorted(loaded)}" if loaded else 0)
"""


class TrialError(Exception):
    """The distribution is wrong. The text states what is wrong."""


class Environment:
    """A new virtual environment and its commands. They run in an empty folder without PYTHONPATH."""

    def __init__(self, folder: Path) -> None:
        venv.create(folder / "venv", with_pip=True)
        self._bin = folder / "venv" / ("Scripts" if os.name == "nt" else "bin")
        self._work = folder / "empty"
        self._work.mkdir()

    def pip(self, *arguments: str) -> None:
        """Run pip, which has to succeed."""
        self.succeed("python", "-m", "pip", "--quiet", "--disable-pip-version-check", *arguments)

    def succeed(self, command: str, *arguments: str) -> str:
        """Run a command that has to end with 0. Return its output."""
        ended = self.run(command, *arguments)
        if ended.returncode != 0:
            shown = " ".join((command, *arguments)).splitlines()[0]
            raise TrialError(f"`{shown}` ended with {ended.returncode}:\n{ended.stdout}{ended.stderr}")
        return ended.stdout

    def run(self, command: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a command of this environment. Raise TrialError if it does not exist."""
        program = self._bin / command
        if not program.with_suffix(".exe" if os.name == "nt" else "").exists():
            raise TrialError(f"the command {command} was not installed")
        return run([str(program), *arguments], self._work)


def run(command: Sequence[str], folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a program in a folder, without this checkout on its import path."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}
    return subprocess.run(
        command, cwd=folder, env=environ, capture_output=True, text=True, timeout=COMMAND_TIMEOUT_S, check=False
    )


def members_of(wheel: Path) -> dict[str, bytes]:
    """Return every file of a wheel with its content."""
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def expected_files() -> dict[str, bytes]:
    """Return the files of this checkout that the wheel has to hold, by their name in the wheel."""
    return {
        str(file.relative_to(folder).as_posix()): file.read_bytes()
        for package, folder in SOURCES.items()
        for file in sorted((folder / package).rglob("*"))
        if file.is_file() and "__pycache__" not in file.parts
    }


def check_contents(wheel: Path) -> int:
    """Check that the wheel holds our packages, whole, and nothing else. Return the number of their files."""
    found = members_of(wheel)
    name, version = wheel.name.split("-")[:2]
    ours = {path: content for path, content in found.items() if not path.startswith(f"{name}-{version}.dist-info/")}
    expected = expected_files()
    if strange := sorted(ours.keys() - expected.keys()):
        raise TrialError(f"the wheel has files that the checkout has not: {', '.join(strange[:10])}")
    if missing := sorted(expected.keys() - ours.keys()):
        raise TrialError(f"the wheel lacks {', '.join(missing[:10])}")
    if other := sorted(path for path in ours if ours[path] != expected[path]):
        raise TrialError(f"the wheel has other content in {', '.join(other[:10])}")
    for kind in ("_pb2.py", "_pb2.pyi", "_pb2_grpc.py", ".proto", "py.typed"):
        if not any(path.endswith(kind) for path in ours):
            raise TrialError(f"the wheel has no file that ends with {kind}")
    return len(ours)


def check_sdist(sdist: Path, wheel: Path, folder: Path) -> None:
    """Check that the sdist alone builds the same wheel."""
    with tarfile.open(sdist) as archive:
        archive.extractall(folder)  # noqa: S202 (our own archive; Python 3.11.2 has no filter="data")
    unpacked = folder / sdist.name.removesuffix(".tar.gz")
    command = [sys.executable, "-m", "build", "--no-isolation", "--wheel", "--outdir", str(folder), str(unpacked)]
    ended = run(command, folder)
    if ended.returncode != 0:
        raise TrialError(f"the sdist does not build:\n{ended.stdout}{ended.stderr}")
    here, there = members_of(wheel), members_of(folder / wheel.name)
    if differing := sorted(name for name in here.keys() | there.keys() if here.get(name) != there.get(name)):
        raise TrialError(f"the sdist builds another wheel; these differ: {', '.join(differing[:10])}")


def check_client(environment: Environment, wheel: Path) -> None:
    """Install the wheel with the client's packages alone. Check both commands and the hints for the extras."""
    environment.pip("install", "--require-hashes", "-r", str(ROOT / "requirements-client.lock"))
    environment.pip("install", "--no-index", "--no-deps", str(wheel))
    environment.pip("check")
    environment.succeed("python", "-c", "import parley")
    environment.succeed("parley", "--help")
    version = wheel.name.split("-")[1]
    if (told := environment.succeed("parley", "version").strip()) != f"parley {version}":
        raise TrialError(f"`parley version` prints {told!r}; the wheel is {version}")
    check_hint(environment, "server", "parleyd", "--help")
    check_hint(environment, "gui", "parley", "gui", "--host", "localhost:1", "--insecure")


def check_hint(environment: Environment, extra: str, command: str, *arguments: str) -> None:
    """Check that a command without its extra reports it in one line, with an installable name that is ours."""
    ended = environment.run(command, *arguments)
    lines = ended.stderr.splitlines()
    shown = " ".join((command, *arguments))
    if ended.returncode != 1 or len(lines) != 1 or ended.stdout:
        raise TrialError(f"`{shown}` without {extra} ended with {ended.returncode}:\n{ended.stdout}{ended.stderr}")
    for part in (f"`{extra}`", f"'.[{extra}]'", f"'WHEEL[{extra}]'"):
        if part not in lines[0]:
            raise TrialError(f"`{shown}` without {extra} does not say {part}: {lines[0]}")


def check_server(environment: Environment, wheel: Path) -> None:
    """Add the server's packages, then follow the hint without an index. Nothing may be missing."""
    environment.pip("install", "--require-hashes", "-r", str(ROOT / "requirements.lock"))
    environment.pip("install", "--no-index", f"{wheel}[server]")
    environment.pip("check")
    environment.succeed("parleyd", "--help")
    environment.succeed("parleyd", "cert", "ca", "--out", "certs")
    environment.succeed("python", "-c", "import parleyd.node")
    environment.succeed("python", "-c", IMPORT_CHECK)


def only(folder: Path, pattern: str) -> Path:
    """Return the one file that matches."""
    found = sorted(folder.glob(pattern))
    if len(found) != 1:
        raise TrialError(f"{folder} has {len(found)} files {pattern} where one is expected; run: make dist")
    return found[0].resolve()


def try_all(folder: Path) -> None:
    """Try the distribution in `folder`. Raises TrialError at the first error."""
    wheel, sdist = only(folder, "*.whl"), only(folder, "*.tar.gz")
    print(f"{wheel.name}: {check_contents(wheel)} files, those of {', '.join(SOURCES)}")
    with tempfile.TemporaryDirectory(prefix="parley-dist-") as name:
        work = Path(name)
        (work / "sdist").mkdir()
        check_sdist(sdist, wheel, work / "sdist")
        print(f"{sdist.name}: builds the same wheel")
        (work / "client").mkdir()
        environment = Environment(work / "client")
        check_client(environment, wheel)
        print("the client's packages alone: parley runs; parleyd and parley gui name their missing extras")
        check_server(environment, wheel)
        print("with the server's packages: parleyd runs; import parley loads none of them")


def main() -> int:
    """Try the distribution in a folder."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, nargs="?", default=ROOT / "dist", help="what to try (default: dist)")
    try:
        try_all(parser.parse_args().folder)
    except TrialError as error:
        print(f"make dist: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
