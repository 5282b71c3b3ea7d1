"""Which requests of a browser may sign in or act, and the cookies that a node gives."""

from __future__ import annotations

import pytest

from parleyd.http.guarding import code_of, cookie_of, has_code, refuse_stranger, set_cookie
from parleyd.http.pages import Request

GOOD = {"host": "localhost:7800", "origin": "http://localhost:7800", "content-type": "application/json"}


def post(caller: str = "127.0.0.1", *, is_tls: bool = False, **changed: str) -> Request:
    """A request that may act, apart from what is changed."""
    headers = {**GOOD, **{name.replace("_", "-"): value for name, value in changed.items()}}
    return Request("POST", "/session", headers, caller, 50_000, is_tls)


@pytest.mark.parametrize(
    "request_",
    [
        post(),
        post("::1"),
        post("::ffff:127.0.0.1"),
        post(host="127.0.0.1:7800", origin="http://127.0.0.1:7800"),
        post(host="[::1]:7800", origin="http://[::1]:7800"),
        post(sec_fetch_site="same-origin"),
        post(content_type="application/json; charset=utf-8"),
        post("10.0.0.9", is_tls=True, host="alpha:7800", origin="https://alpha:7800"),
    ],
)
def test_a_request_of_the_own_page_may_act(request_: Request) -> None:
    assert refuse_stranger(request_) is None


@pytest.mark.parametrize(
    ("request_", "status", "text"),
    [
        (post("10.0.0.9"), 403, "needs TLS"),
        (post("not an address"), 403, "needs TLS"),
        (post(host="evil.example:7800", origin="http://evil.example:7800"), 403, "localhost"),
        (post(host="127.0.0.1.evil.example", origin="http://127.0.0.1.evil.example"), 403, "localhost"),
        (post(origin="http://localhost:7801"), 403, "another page"),
        (post(origin="http://evil.example"), 403, "another page"),
        (post(origin="null"), 403, "another page"),
        (post(origin="http://["), 403, "another page"),
        (post(host="["), 403, "localhost"),
        (post(origin=""), 403, "another page"),
        (post("10.0.0.9", is_tls=True, host="", origin=""), 403, "another page"),
        (post(sec_fetch_site="cross-site"), 403, "another page"),
        (post(sec_fetch_site="same-site"), 403, "another page"),
        (post(content_type="text/plain"), 415, "JSON"),
        (post(content_type="application/x-www-form-urlencoded"), 415, "JSON"),
    ],
)
def test_a_request_from_elsewhere_is_refused(request_: Request, status: int, text: str) -> None:
    refused = refuse_stranger(request_)
    assert refused is not None
    assert refused.status == status
    assert text in refused.body.decode()


def test_a_cookie_is_read_by_no_script_and_sent_by_no_other_page() -> None:
    plain = set_cookie(post(), "session", "abc", 60)
    assert plain == "parley-session=abc; Path=/; Max-Age=60; HttpOnly; SameSite=Strict"
    secure = set_cookie(post(is_tls=True), "session", "abc", 60)
    assert secure == "__Host-parley-session=abc; Path=/; Max-Age=60; HttpOnly; SameSite=Strict; Secure"


def test_over_tls_a_cookie_that_plain_http_could_have_set_counts_for_nothing() -> None:
    sent = "other=1; parley-session=forged; __Host-parley-session=right"
    assert cookie_of(post(is_tls=True, cookie=sent), "session") == "right"
    assert cookie_of(post(cookie=sent), "session") == "forged"
    assert cookie_of(post(), "session") == ""


def test_the_code_of_one_session_is_of_no_use_with_another() -> None:
    assert has_code(post(x_parley_code=code_of("one")), "one")
    assert not has_code(post(x_parley_code=code_of("one")), "other")
    assert not has_code(post(), "one")
    assert not has_code(post(x_parley_code="é"), "one")
    assert not has_code(post(x_parley_code="\udcff"), "one")
