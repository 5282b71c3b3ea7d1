"""The entry point: `run()` is what `parley gui` calls. Looks for Qt first: what is missing is said in one line."""

import os
import sys
from pathlib import Path

from parley.gui import libraries
from parley.gui.commands import ClusterAddress

os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # before grpc is imported: its remarks are not for people


def run(
    hosts: str = "",
    ca: Path | None = None,
    account: str = "",
    *,
    insecure: bool = False,
    state_dir: Path | None = None,
) -> int:
    """Opens the window and returns its exit code when it is closed; what is not given is remembered."""
    try:
        libraries.check()
    except libraries.MissingError as missing:
        sys.stderr.write(f"{missing}\n")
        return 1
    from parley.gui.app_window import main

    return main(ClusterAddress(hosts, ca, insecure), account, state_dir)
