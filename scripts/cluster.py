#!/usr/bin/env python3
"""Runs a Parley cluster on this machine: `scripts/cluster.py --help`. cluster_cli.py does the work.

Any Python can start this file. It continues in the environment that `make setup` made.
"""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def main(module: str = "scripts.cluster_cli", script: str = __file__) -> int:
    """Find an environment with the packages and run the command in it: `main` of a module. `script` was started."""
    sys.path.insert(0, str(ROOT))
    try:
        run_command = importlib.import_module(module).main
    except ModuleNotFoundError as error:
        python = ROOT / ".venv" / "bin" / "python"
        if not python.exists() or Path(sys.prefix) == ROOT / ".venv":
            print(f"The packages Parley needs are not installed ({error}). Run: make setup", file=sys.stderr)
            return 1
        os.execv(python, [str(python), str(Path(script)), *sys.argv[1:]])  # noqa: S606 (no shell is wanted)
    code: int = run_command(sys.argv[1:])
    return code


if __name__ == "__main__":
    sys.exit(main())
