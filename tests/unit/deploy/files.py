"""The files of scripts/deploy, and the settings of a node that is installed by them."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from parleyd.settings.load import load_settings
from parleyd.settings.table import Settings
from scripts.cluster_process import ROOT

DEPLOY = ROOT / "scripts" / "deploy"
NAMES = ("alpha", "beta", "gamma")
CERTIFICATES = "/etc/parley/certificates"
"""The folder of a container's certificates."""


def settings_of(name: str, environment: Mapping[str, str] | None = None) -> Settings:
    """Return a node's settings, read as the node does: beside the certificates that the file names.

    The folder of a container's certificates stands for the folder of the settings file.
    """
    with tempfile.TemporaryDirectory() as folder:
        file = Path(shutil.copy(DEPLOY / f"{name}.toml", folder))
        for needed in ("ca.pem", f"{name}.pem", f"{name}.key"):
            (Path(folder) / needed).touch(mode=0o600)
        given = {key: value.replace(CERTIFICATES, folder) for key, value in (environment or {}).items()}
        loaded = load_settings({}, given, file)
    assert loaded.warnings == ()
    return loaded.settings
