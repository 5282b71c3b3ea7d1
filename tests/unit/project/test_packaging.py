"""What is installed: dependencies and extras that match the imports, locks that can be trusted, hints that name only
what is ours.

`make dist` builds wheel and sdist and tries them; these tests need no registry.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest

from parleyd import __main__ as entry
from scripts import try_dist
from tests.unit.project.source import ROOT, Import, imports_under, is_within
from tests.unit.project.test_repository import texts

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
EXTRAS: dict[str, list[str]] = PROJECT["project"]["optional-dependencies"]
LOCKS = {
    "requirements-client.lock": (),
    "requirements.lock": ("server",),
    "requirements-dev.lock": tuple(extra for extra in EXTRAS if extra != "peers"),
    "requirements-peers.lock": tuple(EXTRAS),
}
"""The lock files, and the extras that each covers."""

DISTRIBUTION_OF = {
    "PySide6": "pyside6-essentials",
    "aio_pika": "aio-pika",
    "google": "protobuf",
    "grpc": "grpcio",
    "grpc_health": "grpcio-health-checking",
    "grpc_reflection": "grpcio-reflection",
    "nats": "nats-py",
    "prometheus_client": "prometheus-client",
    "prompt_toolkit": "prompt-toolkit",
    "pytest_asyncio": "pytest-asyncio",
    "pytest_timeout": "pytest-timeout",
    "pytestqt": "pytest-qt",
    "xdist": "pytest-xdist",
    "yaml": "pyyaml",
}
"""Import names that are not the names of their distributions."""
OURS = frozenset(("parley", "parley_command", "parleyd", "parley_proto"))


def name_of(requirement: str) -> str:
    """The name in a requirement, in the form the lock files use."""
    return re.split(r"[^A-Za-z0-9._-]", requirement)[0].lower().replace("_", "-")


def declared(*extras: str) -> set[str]:
    """The distributions that an install with these extras asks for."""
    lists = [PROJECT["project"]["dependencies"], *(EXTRAS[extra] for extra in extras)]
    return {name_of(line) for lines in lists for line in lines}


def imported(*folders: str) -> set[str]:
    """The distributions that the code in these folders imports."""
    return {DISTRIBUTION_OF.get(module, module) for module in map(_top, _imports(*folders)) if _is_foreign(module)}


def _imports(*folders: str) -> list[Import]:
    return [found for folder in folders for found in imports_under(folder)]


def _top(found: Import) -> str:
    return found.module.split(".")[0]


def _is_foreign(module: str) -> bool:
    return bool(module) and module not in sys.stdlib_module_names and module not in OURS


# ---- dependencies


def test_a_client_install_brings_what_the_client_imports_and_nothing_else() -> None:
    window = {found.module.split(".")[0] for found in imports_under("client/parley/gui")}
    assert "PySide6" in window, "the window moved: this test is stale"
    assert imported("client", "proto") - declared() == {name_of(line) for line in EXTRAS["gui"]}
    assert declared() <= imported("client", "proto")


def test_the_extra_server_is_what_the_node_imports_besides() -> None:
    assert imported("server") <= declared("server")
    assert {name_of(line) for line in EXTRAS["server"]} == imported("server") - declared()


def test_scripts_and_tests_import_nothing_that_is_not_declared() -> None:
    assert imported("scripts", "tests") - {"scripts", "tests"} <= declared(*EXTRAS)


def test_importing_the_sdk_loads_no_library_of_an_extra_and_no_front_end() -> None:
    # grpc and structlog themselves load grpc_health and rich where they find them: only what parley adds counts.
    code = "import sys, grpc, structlog; before = set(sys.modules); import parley; print(*set(sys.modules) - before)"
    shown = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT / "client"
    )
    added = set(shown.stdout.split())
    assert "parley.client" in added
    extras = {name_of(line) for extra in ("server", "gui") for line in EXTRAS[extra]}
    libraries = {
        module
        for module, names in metadata.packages_distributions().items()
        if extras & {name_of(name) for name in names}
    }
    assert {"bcrypt", "cryptography", "PySide6"} <= libraries
    unwanted = (*libraries, "parleyd", "typer", "prompt_toolkit", "parley.terminal", "parley.gui", "parley.cli")
    assert not [module for module in added for name in unwanted if is_within(module, name)]


def files_beside_the_code() -> list[tuple[str, Path]]:
    """All files under the folders of packages that are no modules, each with its folder."""
    parts = ("client", "server", "proto")
    files = [(part, path) for part in parts for path in (ROOT / part).rglob("*")]
    files = [(part, path) for part, path in files if path.is_file() and path.suffix != ".py"]
    return [(part, path) for part, path in files if "__pycache__" not in path.parts and ".egg-info" not in str(path)]


def test_every_file_beside_the_code_is_in_the_wheel() -> None:
    patterns: list[str] = PROJECT["tool"]["setuptools"]["package-data"]["*"]
    named = files_beside_the_code()
    missing = [path for _, path in named if not any(path.match(pattern) for pattern in patterns)]
    assert len(named) > 20
    assert missing == [], "name them in package-data of pyproject.toml"


def test_the_trial_of_a_wheel_knows_every_package_and_every_file_of_them() -> None:
    """A package and six kinds of files came later, and `make dist` refused every wheel."""
    assert try_dist.SOURCES.keys() == OURS
    held = {str(path.relative_to(ROOT / part).as_posix()) for part, path in files_beside_the_code()}
    assert held <= try_dist.expected_files().keys()
    assert "parley_command/__main__.py" in try_dist.expected_files()


# ---- locks


@pytest.mark.parametrize("name", LOCKS)
def test_lock_pins_every_package_with_hashes(name: str) -> None:
    entries = lock_entries(name)
    assert len(entries) > 10
    assert not [line[:60] for line in entries if not re.match(r"[a-z0-9._-]+==\S+ .*--hash=sha256:[0-9a-f]{64}", line)]


@pytest.mark.parametrize("name", LOCKS)
def test_lock_holds_every_declared_dependency_and_the_build_backend(name: str) -> None:
    wanted = declared(*LOCKS[name]) | {name_of(line) for line in PROJECT["build-system"]["requires"]}
    assert wanted <= pins(name).keys(), f"missing {wanted - pins(name).keys()}: run make lock"


def test_the_smaller_locks_pin_what_the_tests_run_with() -> None:
    tested = pins("requirements-dev.lock").items()
    assert tested <= pins("requirements-peers.lock").items()
    assert pins("requirements.lock").items() <= tested
    assert pins("requirements-client.lock").items() <= pins("requirements.lock").items()


def test_the_clients_lock_has_no_library_of_an_extra() -> None:
    extras = {name_of(line) for extra in ("server", "gui") for line in EXTRAS[extra]}
    assert not extras & pins("requirements-client.lock").keys()


def test_the_lock_and_the_build_ask_for_the_same_backend() -> None:
    assert PROJECT["dependency-groups"]["build"] == PROJECT["build-system"]["requires"]


def lock_entries(name: str) -> list[str]:
    """The requirements of a lock file, a line each."""
    lines = (ROOT / name).read_text().replace("\\\n", " ").splitlines()
    return [line for line in lines if line.strip() and not line.startswith("#")]


def pins(name: str) -> dict[str, tuple[str, tuple[str, ...]]]:
    """The version and the hashes that a lock file has for each distribution."""
    found = {}
    for line in lock_entries(name):
        distribution, _, rest = line.partition("==")
        found[distribution] = (rest.split()[0], tuple(sorted(re.findall(r"sha256:[0-9a-f]{64}", line))))
    return found


# ---- hints

# An installer, then our name where a package's name stands; a path (./parley, parley-0.2.0.whl) is no such name. It
# takes text over a line's end too. The pieces keep this file from finding itself.
INSTALLER = r"\b(?:(?:uv )?pip3? (?:install|download)|pipx (?:install|run)|uv tool (?:install|run)|uv add|uvx)\b"
FOREIGN_HINT = re.compile(
    INSTALLER + r"(?:[ \"'\n]+(?:-{1,2}[a-z][\w.=/-]*|[\w.]+[/.][\w./-]*))*[ \"'\n`]+parley(?:d|[-_]proto)?(?![\w/.-])"
)


def test_no_text_tells_anybody_to_install_our_name_from_an_index() -> None:
    wrong = [f"{name}: {found.group()!r}" for name, text in texts() for found in FOREIGN_HINT.finditer(text)]
    assert not wrong, "on a public index this name may be a stranger's: name the checkout or the wheel"


@pytest.mark.parametrize(
    "hint",
    [
        "pip install " + "parley",
        "pip install 'par" + "ley[gui]'",
        "python -m pip install --upgrade " + '"parley[server]"',
        "pip install -r requirements.lock " + "parleyd",
        "uv tool install " + "parley==0.2.0",
        "pipx install `" + "parley`",
        "Run: pip install\n" + "parley_proto",
    ],
)
def test_a_hint_that_names_our_package_is_found(hint: str) -> None:
    assert FOREIGN_HINT.search(hint)


@pytest.mark.parametrize(
    "hint",
    [
        "pip install '.[gui]'",
        "pip install 'WHEEL[server]', where WHEEL is the path of parley's wheel",
        "pip install --no-deps dist/parley-0.2.0-py3-none-any.whl",
        "pip install ./parley",
        "pip install --require-hashes -r requirements.lock",
        "pip install /srv/parley/wheels/it.whl",
    ],
)
def test_a_hint_that_names_a_file_is_not(hint: str) -> None:
    assert not FOREIGN_HINT.search(hint)


def test_a_node_without_its_extra_says_how_to_get_it_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(entry, "find_spec", lambda name: None if name in ("bcrypt", "grpc_health") else object())
    with pytest.raises(SystemExit) as ended:
        entry.main()
    assert not capsys.readouterr().out
    text = str(ended.value.code)
    assert "\n" not in text
    assert "the extra `server` is not installed (missing: bcrypt, grpc_health)" in text
    assert "pip install '.[server]'" in text


def test_the_node_looks_for_every_library_of_its_extra_that_it_cannot_do_without() -> None:
    looked_for = {DISTRIBUTION_OF.get(module, module) for module in entry.EXTRA_MODULES}
    assert looked_for == {name_of(line) for line in EXTRAS["server"]} - {"uvloop"}


# ---- what the packages carry


@pytest.mark.parametrize("package", ["client/parley", "server/parleyd", "proto/parley_proto"])
def test_the_packages_say_that_they_are_typed(package: str) -> None:
    assert (ROOT / package / "py.typed").is_file()
    assert "py.typed" in PROJECT["tool"]["setuptools"]["package-data"]["*"]


def test_every_folder_with_modules_is_a_package() -> None:
    """setuptools passes over a folder without __init__.py, and its modules would be missing in the wheel."""
    files = [file for folder in ("client", "server", "proto") for file in (ROOT / folder).rglob("*.py")]
    assert not [str(file.relative_to(ROOT)) for file in files if not (file.parent / "__init__.py").exists()]


def test_a_command_that_logs_nothing_does_not_load_the_logger() -> None:
    """structlog and what it loads take a quarter of the time in which a command starts."""
    code = "import sys, parley.cli; print({'structlog', 'rich.console'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"
