"""The entry point of `parleyd` and of `python -m parleyd`.

The client and the node are one distribution, and the node's libraries are its extra `server`. This module imports
none of them, so that it can report in one line that they are missing.
"""

import signal
import sys
from importlib.util import find_spec

from parleyd.standard_streams import open_standard_streams, run_with_standard_streams

EXTRA_MODULES = ("aiohttp", "bcrypt", "cryptography", "grpc_health", "grpc_reflection", "prometheus_client")
"""Modules of the extra `server` that a node cannot run without. It can run without uvloop."""


def missing_modules() -> list[str]:
    """Return the modules of the extra `server` that are not installed."""
    return [name for name in EXTRA_MODULES if find_spec(name) is None]


def explain(missing: list[str]) -> str:
    """Return the line that installs the extra. A package of our name on a public index may be foreign."""
    return (
        f"parleyd: the extra `server` is not installed (missing: {', '.join(missing)}). "
        "Run in a checkout: pip install '.[server]', or with the path of Parley's wheel: pip install 'WHEEL[server]'"
    )


def _take_signals() -> None:
    """Handle signals until the node does (node.py). Loading the libraries takes a second.

    A stop that is asked for meanwhile is a planned one. SIGHUP, SIGUSR1 and SIGUSR2 would end the process.
    """
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _stop_before_the_start)
    for number in (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)


def _stop_before_the_start(_: int, __: object) -> None:
    sys.exit(0)


def main() -> None:
    """Run `parleyd`; without the extra `server`, print how to install it and exit with 1."""
    open_standard_streams()
    if sys.argv[1:2] == ["start"]:
        _take_signals()
    missing = missing_modules()
    if missing:
        sys.exit(explain(missing))
    from parleyd.cli import main as run

    run_with_standard_streams(run)


if __name__ == "__main__":
    main()
