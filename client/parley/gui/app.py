"""The entry point: `parley gui` calls `run()`.

It checks first that Qt can be loaded, and states in one line what is missing.
"""

import sys
from pathlib import Path

from parley import TextFilter
from parley.gui import libraries
from parley.gui.commands import ClusterAddress


def run(
    hosts: str = "",
    ca: Path | None = None,
    account: str = "",
    *,
    insecure: bool = False,
    insecure_network: bool = False,
    state_dir: Path | None = None,
    text_filter: TextFilter | None = None,
) -> int:
    """Open the window.

    Return its exit code when it is closed. Values that are not given are those of the last sign-in.
    """
    try:
        libraries.check()
    except libraries.MissingError as missing:
        sys.stderr.write(f"{missing}\n")
        return 1
    from parley.gui.app_window import main

    return main(ClusterAddress(hosts, ca, insecure, insecure_network), account, state_dir, text_filter)
