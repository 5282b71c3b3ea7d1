"""The entry point: `parley gui` calls `run()`.

It checks first that Qt can be loaded, and states in one line what is missing.
"""

import sys
from pathlib import Path

from parley import TextFilter
from parley.gui import libraries
from parley.gui.commands import ClusterAddress, Invited


def run(
    hosts: str = "",
    ca: Path | None = None,
    account: str = "",
    *,
    insecure: bool = False,
    insecure_network: bool = False,
    state_dir: Path | None = None,
    text_filter: TextFilter | None = None,
    invited: Invited | None = None,
    problem: str = "",
) -> int:
    """Open the window.

    Return its exit code when it is closed. Values that are not given are those of the last sign-in. An invitation is
    filled in, and a problem is shown, on the sign-in page.
    """
    try:
        libraries.check()
    except libraries.MissingError as missing:
        sys.stderr.write(f"{missing}\n{problem}\n" if problem else f"{missing}\n")
        return 1
    from parley.gui.app_window import Beginning, main

    address = ClusterAddress(hosts, ca, insecure, insecure_network)
    return main(address, account, state_dir, text_filter, Beginning(invited, problem))
