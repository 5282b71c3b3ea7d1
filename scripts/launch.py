#!/usr/bin/env python3
"""Starts the nodes of a host list, here and by ssh: `scripts/launch.py --help`. launch_cli.py does the work."""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
    from scripts.cluster import main

    sys.exit(main("scripts.launch_cli", __file__))
