"""The files of the dashboard, from the package. A browser loads nothing from elsewhere."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources

CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
"""What every answer of the dashboard carries."""

_TYPES = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}
_PATHS = {
    "/": "dashboard.html",
    "/dashboard.css": "dashboard.css",
    "/dashboard.js": "dashboard.js",
    "/administration.js": "administration.js",
    "/charts.js": "charts.js",
    "/icon.svg": "icon.svg",
}


@dataclass(frozen=True, slots=True)
class Asset:
    """One file."""

    content_type: str
    body: bytes


def load_assets() -> dict[str, Asset]:
    """Return the files by the paths of their addresses."""
    folder = resources.files("parleyd.http") / "files"
    return {path: Asset(_TYPES[name.rpartition(".")[2]], (folder / name).read_bytes()) for path, name in _PATHS.items()}
