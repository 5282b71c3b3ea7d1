"""What a browser's request has to be before a node does anything for it, and the cookies that it keeps. Pure.

A page of another origin can make a browser send requests with the cookies of this one. So a request that changes
something names its origin, which has to be this address, and carries a code that only this page was told. A name that
an attacker lets point at a loopback address is no name of it.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
from collections.abc import Iterator
from urllib.parse import SplitResult, urlsplit

from parleyd.http.pages import Answer, Request, refusal

CODE_HEADER = "x-parley-code"
MAX_COOKIE_CHARS = 64
DEVICE_S = 400 * 86_400
"""What browsers keep a cookie for at most."""

NOT_PRIVATE = (
    "Signing in needs TLS, or a loopback address. Nothing was done. Use a tunnel (ssh -L 7800:127.0.0.1:7800 NODE), or "
    "give the node http_cert_file and http_key_file."
)
OTHER_NAME = (
    "This address may be called localhost or by its number only. Nothing was done. Open the page under that name."
)
OTHER_ORIGIN = "This request comes from another page. Nothing was done. Use the buttons of this node's own page."
NOT_JSON = "This request has to be JSON (Content-Type: application/json). Nothing was done."
OLD_CODE = "This page is out of date. Nothing was done. Load it again."


def refuse_stranger(request: Request) -> Answer | None:
    """Return why nobody may sign in or act by such a request; None if somebody may."""
    host = request.headers.get("host", "")
    if not request.is_tls:
        if not _is_loopback(request.host):
            return refusal(403, NOT_PRIVATE)
        if not _names_loopback(host):
            return refusal(403, OTHER_NAME)
    if request.method == "POST":
        origin = request.headers.get("origin", "")
        is_same = _split(origin).netloc.lower() == host.lower() and bool(host)
        if not is_same or request.headers.get("sec-fetch-site", "same-origin") != "same-origin":
            return refusal(403, OTHER_ORIGIN)
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
            return refusal(415, NOT_JSON)
    return None


def code_of(token: str) -> str:
    """Return the code that a signed-in page has to send with everything that it asks for."""
    return hmac.new(token.encode(), b"parley dashboard", hashlib.sha256).hexdigest()


def has_code(request: Request, token: str) -> bool:
    """Return whether a request carries the code of its session."""
    sent = request.headers.get(CODE_HEADER, "").encode(errors="replace")  # a header may have bytes that are no text
    return hmac.compare_digest(sent, code_of(token).encode())


def cookie_of(request: Request, name: str) -> str:
    """Return the value of one of our cookies; empty without it."""
    full = _full_name(name, is_tls=request.is_tls)
    return next((value for known, value in _cookies(request) if known == full), "")[:MAX_COOKIE_CHARS]


def set_cookie(request: Request, name: str, value: str, max_age_s: int) -> str:
    """Return a header that makes the browser keep a value that no script reads; an age of 0 removes it."""
    secure = "; Secure" if request.is_tls else ""
    full = _full_name(name, is_tls=request.is_tls)
    return f"{full}={value}; Path=/; Max-Age={max_age_s}; HttpOnly; SameSite=Strict{secure}"


def _full_name(name: str, *, is_tls: bool) -> str:
    # A browser takes a name that begins so from the host itself over TLS only.
    return f"__Host-parley-{name}" if is_tls else f"parley-{name}"


def _cookies(request: Request) -> Iterator[tuple[str, str]]:
    for part in request.headers.get("cookie", "").split(";"):
        name, _, value = part.strip().partition("=")
        yield name, value


def _split(url: str) -> SplitResult:
    try:
        return urlsplit(url)
    except ValueError:  # a bracket that is not closed
        return urlsplit("")


def _names_loopback(host: str) -> bool:
    name = _split(f"//{host}").hostname or ""
    return name == "localhost" or _is_loopback(name)


def _is_loopback(host: str) -> bool:
    try:
        ip = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    mapped = ip.ipv4_mapped if isinstance(ip, ipaddress.IPv6Address) else None
    return (mapped or ip).is_loopback
