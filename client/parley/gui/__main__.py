"""`python -m parley.gui`: opens the window without the command `parley`."""

import argparse
import sys
from pathlib import Path

from parley.gui.app import run


def main() -> int:
    """Read the command line and open the window."""
    parser = argparse.ArgumentParser(prog="parley gui", description="Opens the window.")
    parser.add_argument("--host", action="append", default=[], help="host:port or host:first-last; may be repeated")
    parser.add_argument("--ca", type=Path, help="certificate of the cluster")
    parser.add_argument("--account", default="", help="who to be")
    parser.add_argument("--insecure", action="store_true", help="for test clusters without encryption")
    parser.add_argument("--state-dir", type=Path, help="where outbox and inbox are kept")
    given = parser.parse_args()
    return run(
        ",".join(given.host),
        given.ca,
        given.account,
        insecure=given.insecure,
        insecure_network=given.insecure,
        state_dir=given.state_dir,
    )


if __name__ == "__main__":
    sys.exit(main())
