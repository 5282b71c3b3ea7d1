"""Two CAs and the certificates these tests need, made once: elliptic keys are cheap, but not free."""

from __future__ import annotations

from pathlib import Path

import pytest

from parleyd.security.certificate_files import write_ca, write_node


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `ours` and `foreign`: each a CA, n1 and n2."""
    root = tmp_path_factory.mktemp("certificates")
    for cluster in ("ours", "foreign"):
        write_ca(root / cluster)
        for name in ("n1", "n2"):
            write_node(root / cluster, root / cluster, name, ["127.0.0.1", "localhost"])
    return root
