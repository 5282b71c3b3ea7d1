"""`make gui`: opens the window with the flags for the local cluster."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import NoReturn

from scripts.cluster_layout import ClusterError, load_layout

ROOT = Path(__file__).resolve().parent.parent


def main() -> NoReturn:
    """Replace this process by `parley gui`."""
    parser = argparse.ArgumentParser(description="Opens the window on the cluster of `make run`.")
    parser.add_argument("--var", type=Path, default=Path("var"), help="where the cluster lives (default: var)")
    parser.add_argument("--account", default="", help="who to be; shares everything with: make chat ACCOUNT=...")
    given = parser.parse_args()
    try:
        layout = load_layout(given.var.absolute())
    except ClusterError as error:
        sys.exit(str(error))
    home = layout.root / "clients" / (given.account or "window")
    os.environ |= {
        "PARLEY_HOSTS": ",".join(layout.hosts),
        "PARLEY_CA": str(layout.ca_file),
        "PARLEY_STATE_DIR": str(home / "state"),
    }
    password = home / "password"
    if given.account and password.exists():
        os.environ.setdefault("PARLEY_PASSWORD", password.read_text().strip())
    account = ["--account", given.account] if given.account else []
    os.chdir(ROOT)
    os.execv(sys.executable, [sys.executable, "-m", "parley.cli", "gui", *account])  # noqa: S606 (no shell is wanted)


if __name__ == "__main__":
    main()
