"""Administrators at the dashboard of a whole node: they sign in as everywhere, and nobody acts in their place."""

from __future__ import annotations

import asyncio
import json
import secrets
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc.aio
import pytest
import pytest_asyncio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from structlog.testing import capture_logs

from parley_proto.v1 import accounts_pb2, admin_pb2, conversations_pb2
from parleyd.api.accounts import AccountsService
from parleyd.backup.verify import verify
from parleyd.console import BODY_BYTES, SESSION_S, SIGN_INS
from parleyd.events.kinds import KINDS
from parleyd.group.runner import GroupRunner
from parleyd.http.guarding import code_of
from parleyd.security.certificate_files import write_ca, write_node
from parleyd.security.codes import digest_of_code, new_code
from parleyd.settings.table import Settings
from parleyd.storage.administrator_claim import AdministratorClaim, waiting_claims, write_claim
from tests.support.pages import Client, Reply, ask
from tests.support.raw import PASSWORD, Person, Raw, refused, until_so, until_true
from tests.unit.http.whole_node import running, settings_in, until_ready

pytestmark = pytest.mark.asyncio(loop_scope="module")

ADMIN, USER = "root-of-n1", "ada"


@dataclass
class Browser:
    """A browser on a node's page. `cookies` and `code` are what it was given."""

    settings: Settings
    cookies: dict[str, str]
    code: str = ""
    tls: ssl.SSLContext | None = None

    @property
    def headers(self) -> tuple[str, ...]:
        """What it sends with everything."""
        jar = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        return (
            f"Origin: {'http' if self.tls is None else 'https'}://{self.settings.http_listen}",
            "Content-Type: application/json",
            *((f"Cookie: {jar}",) if jar else ()),
            *((f"X-Parley-Code: {self.code}",) if self.code else ()),
        )

    async def post(self, path: str, content: dict[str, str] | None = None) -> Reply:
        """Ask for something."""
        body = json.dumps(content or {}).encode()
        client = Client(*await asyncio.open_connection(*address(self.settings), ssl=self.tls))
        try:
            return await client.ask(path, *self.headers, method="POST", body=body, host=self.settings.http_listen)
        finally:
            await client.close()

    async def session(self) -> dict[str, Any]:
        """Who the node says that one is."""
        reply = await ask(self.settings.http_listen, "/session", *self.headers, host=self.settings.http_listen)
        content: dict[str, Any] = json.loads(reply.body)
        return content

    async def sign_in(self, name: str = ADMIN, password: str = PASSWORD) -> Reply:
        """Sign in and keep what is given."""
        reply = await self.post("/session", {"name": name, "password": password})
        if reply.status == 200:
            self.code = json.loads(reply.body)["code"]
            for cookie in reply.cookies:
                key, _, value = cookie.partition(";")[0].partition("=")
                self.cookies[key] = value
        return reply


def address(settings: Settings) -> tuple[str, int]:
    """Where the pages are."""
    host, _, port = settings.http_listen.rpartition(":")
    return host, int(port)


def text_of(reply: Reply) -> str:
    """Why it was refused."""
    return str(json.loads(reply.body)["error"])


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def node(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Settings]:
    """A node with an administrator and a user."""
    settings = settings_in(tmp_path_factory.mktemp("node"))
    async with running(settings):
        await until_ready(settings)
        await make_accounts(settings)
        yield settings


async def make_accounts(settings: Settings) -> None:
    """Make an administrator and a user."""
    code = new_code()
    write_claim(settings.data_dir, AdministratorClaim(digest_of_code(code), 1 << 50))
    await until_so(lambda: not waiting_claims(settings.data_dir))
    async with raw_client(settings) as raw:
        await raw.register(ADMIN, code=code)
        await raw.register(USER)


@asynccontextmanager
async def raw_client(settings: Settings) -> AsyncIterator[Raw]:
    """Stubs on the node's port for clients."""
    async with grpc.aio.insecure_channel(settings.client_listen) as channel:
        yield Raw(channel)


@pytest.fixture
def browser(node: Settings) -> Browser:
    """A browser that was never here."""
    return Browser(node, {})


async def test_an_administrator_signs_in_and_is_known_until_he_signs_out(browser: Browser) -> None:
    assert await browser.session() == {"account": "", "may_sign_in": True, "code": ""}
    reply = await browser.sign_in()
    assert (reply.status, json.loads(reply.body)["account"]) == (200, ADMIN)
    token = browser.cookies["parley-session"]
    assert token not in reply.body.decode()
    session, device = reply.cookies
    assert session == f"parley-session={token}; Path=/; Max-Age={SESSION_S}; HttpOnly; SameSite=Strict"
    assert "HttpOnly; SameSite=Strict" in device
    assert (await browser.session())["account"] == ADMIN
    assert (await browser.session())["code"] == browser.code
    out = await browser.post("/sign-out")
    assert (out.status, out.cookies) == (200, ["parley-session=; Path=/; Max-Age=0; HttpOnly; SameSite=Strict"])
    assert (await browser.session())["account"] == "", "also with the cookie that it should have forgotten"
    assert (await browser.post("/transfer")).status == 401


async def test_over_tls_the_cookies_are_of_tls_alone(tmp_path: Path) -> None:
    write_ca(tmp_path)
    write_node(tmp_path, tmp_path, "web", ["127.0.0.1"])
    pair = {"http_cert_file": tmp_path / "web.pem", "http_key_file": tmp_path / "web.key"}
    settings = settings_in(tmp_path / "data", **pair)
    browser = Browser(settings, {}, tls=ssl.create_default_context(cafile=tmp_path / "ca.pem"))
    async with running(settings):
        await asyncio.sleep(0)  # from its first step on the node has its folder
        await make_accounts(settings)
        reply = await browser.sign_in()
        assert reply.status == 200
        assert all(cookie.startswith("__Host-parley-") and cookie.endswith("; Secure") for cookie in reply.cookies)
        assert (await browser.post("/sign-out")).status == 200


async def test_a_session_is_one_of_the_cluster_that_ends_soon_and_is_listed_as_a_device(
    browser: Browser, node: Settings
) -> None:
    await browser.sign_in()
    await browser.post("/sign-out")
    await browser.sign_in()
    async with raw_client(node) as raw:
        other = await raw.log_in(ADMIN)
        listed = await raw.accounts.ListDevices(accounts_pb2.ListDevicesRequest(), metadata=other.metadata)
        ours = [one for one in listed.devices if one.label == "Browser (dashboard)" and one.signed_in]
        assert ours
        request = accounts_pb2.RevokeDevicesRequest(device_id=ours[-1].device_id)
        assert (await browser.session())["account"] == ADMIN
        for one in ours:
            request = accounts_pb2.RevokeDevicesRequest(device_id=one.device_id)
            await raw.accounts.RevokeDevices(request, metadata=other.metadata)
    assert (await browser.session())["account"] == ""
    reply = await browser.post("/transfer")
    assert (reply.status, text_of(reply)) == (401, "You are not signed in any more. Nothing was done. Sign in again.")


async def test_a_wrong_password_and_a_name_that_nobody_has_are_refused_alike(browser: Browser) -> None:
    wrong, unknown = await browser.sign_in(password="wrong"), await browser.sign_in(name="nobody-here")
    assert (wrong.status, unknown.status) == (401, 401)
    assert text_of(wrong) == text_of(unknown)
    assert not wrong.cookies


async def test_who_is_no_administrator_is_signed_out_at_once(browser: Browser, node: Settings) -> None:
    reply = await browser.sign_in(USER)
    assert reply.status == 403
    assert not reply.cookies
    async with raw_client(node) as raw:
        person = await raw.log_in(USER)
        listed = await raw.accounts.ListDevices(accounts_pb2.ListDevicesRequest(), metadata=person.metadata)
    assert [one.label for one in listed.devices if one.signed_in and not one.current] == []


async def test_the_token_of_a_user_opens_nothing(browser: Browser, node: Settings) -> None:
    async with raw_client(node) as raw:
        browser.cookies["parley-session"] = (await raw.log_in(USER)).token
    assert (await browser.session())["account"] == ""
    assert (await browser.post("/backup")).status == 403
    browser.cookies["parley-session"] = "no-token"
    assert (await browser.post("/backup")).status == 401


async def test_without_the_code_of_the_page_a_cookie_does_nothing(browser: Browser) -> None:
    await browser.sign_in()
    right = browser.code
    for wrong in ("", "0" * 64, right[::-1]):
        browser.code = wrong
        for path in ("/transfer", "/drill", "/backup", "/sign-out"):
            assert (await browser.post(path)).status == 403, path
    browser.code = right
    assert (await browser.session())["account"] == ADMIN


async def test_a_page_of_another_origin_cannot_even_try_a_password(browser: Browser, node: Settings) -> None:
    body = json.dumps({"name": ADMIN, "password": PASSWORD}).encode()
    kind = "Content-Type: application/json"
    for headers in ((kind,), (kind, "Origin: http://evil.example"), (kind, f"Origin: http://{node.client_listen}")):
        reply = await ask(node.http_listen, "/session", *headers, method="POST", body=body, host=node.http_listen)
        assert (reply.status, reply.cookies) == (403, [])
    rebound = (kind, "Origin: http://evil.example")
    reply = await ask(node.http_listen, "/session", *rebound, method="POST", body=body, host="evil.example")
    assert (reply.status, reply.cookies) == (403, [])


async def test_a_request_has_no_rights_of_the_one_before_on_its_connection(browser: Browser, node: Settings) -> None:
    await browser.sign_in()
    client = Client(*await asyncio.open_connection(*address(node)))
    try:
        first = await client.ask("/transfer", *browser.headers, method="POST", body=b"{}", host=node.http_listen)
        assert first.status == 409
        async with raw_client(node) as raw:
            token = (await raw.log_in(USER)).token
        user = Browser(node, {"parley-session": token}, code_of(token))
        second = await client.ask("/transfer", *user.headers, method="POST", body=b"{}", host=node.http_listen)
        assert second.status == 403
    finally:
        await client.close()


async def test_what_the_cluster_refuses_is_refused_in_its_own_words(browser: Browser) -> None:
    await browser.sign_in()
    for path, name, text in (("/transfer", "", "No other voter"), ("/transfer", "n9", "n9"), ("/drill", "", "voter")):
        reply = await browser.post(path, {"name": name})
        assert reply.status in (404, 409)
        assert text in text_of(reply)


async def test_a_drill_of_who_has_lost_the_right_sends_nothing(browser: Browser, node: Settings) -> None:
    """It sent its messages, was refused the transfer, and said that nothing was changed."""
    async with raw_client(node) as raw:
        boss = await raw.log_in(ADMIN)
        await set_administrator(raw, boss, USER, administrator=True)
        assert (await browser.sign_in(USER)).status == 200
        await set_administrator(raw, boss, USER, administrator=False)
        reply = await browser.post("/drill")
        assert (reply.status, "Nothing was changed" in text_of(reply)) == (403, True)
        user = await raw.log_in(USER)
        assert await conversations(raw, user) == 0
        assert [row for row in await audited(raw, boss) if row.actor == USER] == []


async def set_administrator(raw: Raw, boss: Person, account: str, *, administrator: bool) -> None:
    """Give an account the right, or take it away."""
    request = admin_pb2.SetAdministratorRequest(account=account, administrator=administrator)
    await raw.admin.SetAdministrator(request, metadata=boss.metadata)


async def conversations(raw: Raw, person: Person) -> int:
    """How many conversations with messages somebody has."""
    answer = await raw.conversations.ListConversations(
        conversations_pb2.ListConversationsRequest(), metadata=person.metadata
    )
    return sum(one.last_message.id > 0 for one in answer.conversations)


async def audited(raw: Raw, boss: Person) -> list[admin_pb2.AuditRow]:
    """The rows about who asked for what."""
    answer = await raw.admin.ListAudit(admin_pb2.ListAuditRequest(), metadata=boss.metadata)
    return [row for row in answer.rows if row.action.startswith("request.")]


async def test_a_drill_that_ends_early_says_what_it_left_and_is_in_the_audit_log(
    browser: Browser, node: Settings
) -> None:
    await browser.sign_in()
    reply = await browser.post("/drill")
    text = text_of(reply)
    assert (reply.status, "No other voter" in text) == (409, True)
    assert "Nothing was" not in text
    assert int(text.partition("stored by then: ")[2].partition(".")[0]) > 0
    async with raw_client(node) as raw:
        rows = (await audited(raw, await raw.log_in(ADMIN)))[-2:]
    assert [(row.actor, row.action, row.object) for row in rows] == [
        (ADMIN, "request.drill", "n1"),
        (ADMIN, "request.transfer-leadership", ""),
    ]


async def test_a_revoked_certificate_is_in_the_time_line_of_the_page_and_among_the_events(node: Settings) -> None:
    digest = secrets.token_bytes(32)
    with capture_logs() as logs:
        await revoke_and_restore(node, digest)
    told = [(line["event"], line["sha256"]) for line in logs if line["event"] in KINDS and "sha256" in line]
    assert told == [("certificate_revoked", digest.hex()), ("certificate_restored", digest.hex())]


async def revoke_and_restore(node: Settings, digest: bytes) -> None:
    """Revoke a certificate and take that back, and see both on the page."""
    async with raw_client(node) as raw:
        boss = await raw.log_in(ADMIN)
        revoke = admin_pb2.RevokeCertificateRequest(digest=digest)
        await raw.admin.RevokeCertificate(revoke, metadata=boss.metadata)
        await told_on_the_page(node, "A certificate or key was revoked: this node refuses it.")
        restore = admin_pb2.RestoreCertificateRequest(digest=digest)
        await raw.admin.RestoreCertificate(restore, metadata=boss.metadata)
        await told_on_the_page(node, "The revocation of a certificate or key was taken back.")


async def told_on_the_page(node: Settings, text: str) -> None:
    """Wait until the time line of the page has a text."""

    async def check() -> None:
        content = json.loads((await ask(node.http_listen, "/dashboard.json")).body)
        assert text in [told for _, _, told in content["events"]]

    await until_true(check)


async def test_a_backup_from_the_page_is_a_whole_backup(browser: Browser, tmp_path: Path) -> None:
    await browser.sign_in()
    reply = await browser.post("/backup")
    assert reply.status == 200
    assert reply.headers["content-type"] == "application/octet-stream"
    name = reply.headers["content-disposition"].partition('filename="')[2].rstrip('"')
    (tmp_path / name).write_bytes(reply.body)
    assert verify(tmp_path / name, tmp_path).node_name == "n1"
    assert (await browser.post("/backup")).status == 200, "the first one left nothing behind"


async def test_bodies_are_bounded_and_have_to_be_objects(browser: Browser, node: Settings) -> None:
    bodies = (b"[]", b"{", b'{"name": 1}', b'{"name": "\\ud800", "password": "x"}', b"[" * BODY_BYTES, b"\xff\xfe")
    for body, status in ((b"x" * (BODY_BYTES + 1), 413), *((body, 400) for body in bodies)):
        reply = await ask(
            node.http_listen, "/session", *browser.headers, method="POST", body=body, host=node.http_listen
        )
        assert reply.status == status, body[:10]


async def test_guesses_are_delayed_as_on_the_port_for_clients_and_counted_together(
    browser: Browser, node: Settings
) -> None:
    async with raw_client(node) as raw:
        await raw.register("guessed")
        for _ in range(5):
            with pytest.raises(grpc.aio.AioRpcError):
                await raw.accounts.LogIn(
                    accounts_pb2.LogInRequest(name="guessed", password="wrong", device_id=secrets.token_bytes(16))
                )
        statuses = [(await browser.sign_in("guessed", "wrong")).status for _ in range(10)]
        reply = await browser.sign_in("guessed")
        assert (reply.status, "too many wrong passwords" in text_of(reply)) == (409, True)
        assert 409 in statuses
        admin = await raw.log_in(ADMIN)
        await raw.admin.LiftDelay(admin_pb2.LiftDelayRequest(account="guessed"), metadata=admin.metadata)


async def test_sign_ins_at_once_are_bounded_in_sum_over_all(node: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    may_go_on, log_in = asyncio.Event(), AccountsService.LogIn

    async def wait(*given: Any) -> accounts_pb2.LogInResponse:
        await may_go_on.wait()
        return await log_in(*given)

    monkeypatch.setattr(AccountsService, "LogIn", wait)
    most = SIGN_INS * 3 // 4  # from one network
    many = [asyncio.ensure_future(Browser(node, {}).sign_in(f"no-{number}")) for number in range(SIGN_INS * 3)]
    await until_so(lambda: sum(one.done() for one in many) == len(many) - most)
    may_go_on.set()
    statuses = [(await one).status for one in many]
    assert statuses.count(429) == len(many) - most
    assert set(statuses) <= {401, 409, 429}


async def test_a_removed_node_shows_nobody_what_it_has_and_tells_only_how_it_is(
    browser: Browser, node: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A session that was revoked after the removal is live in its state for ever."""
    await browser.sign_in()
    async with raw_client(node) as raw:
        boss = await raw.log_in(ADMIN)
        monkeypatch.setattr(GroupRunner, "retired", property(lambda _: True))
        history = conversations_pb2.GetHistoryRequest(account_name=ADMIN)
        for refusing in (
            raw.conversations.GetHistory(history, metadata=boss.metadata),
            raw.accounts.ListAccounts(accounts_pb2.ListAccountsRequest(), metadata=boss.metadata),
            anext(aiter(raw.admin.Backup(admin_pb2.BackupRequest(), metadata=boss.metadata))),
        ):
            code, text = await refused(refusing)
            assert (code, "was removed from the cluster" in text) == (grpc.StatusCode.UNAVAILABLE, True)
        for path in ("/backup", "/session", "/drill"):
            assert (await browser.post(path)).status == 503
        assert (await raw.admin.GetStatus(admin_pb2.GetStatusRequest())).removed
        stub: Any = health_pb2_grpc.HealthStub(raw.channel)
        await stub.Check(health_pb2.HealthCheckRequest())
        # Who removed it and lost the answer asks again.
        own = admin_pb2.RemoveMemberRequest(name="n1")
        assert (await raw.admin.RemoveMember(own, metadata=boss.metadata)).applied_index == 0
