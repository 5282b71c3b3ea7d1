"""The dashboard of three real nodes in a real browser: by keyboard, light, dark, on a phone, while the leader dies."""

from __future__ import annotations

import re
import secrets
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from scripts.chromium import MISSING, Tab, browser_tab, find_chromium
from scripts.cluster_local import LocalCluster
from tests.cluster.conftest import FAST
from tests.cluster.raw import raw_client
from tests.support.raw import PASSWORD

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.campaign, pytest.mark.timeout(300)]

CHECK = (Path(__file__).resolve().parents[1] / "support" / "accessibility.js").read_text()
FAULTY = (
    "data:text/html,<title> </title><body style='background:white'><h1>A</h1><h3>B</h3><button></button>"
    "<input><svg role=img width=9 height=9></svg><p style='color:silver'>pale</p><p id=a></p><p id=a></p>"
    "<button style='width:9px;height:9px'>x</button>"
)
LINKS = """
import("/charts.js").then(({ linkBetween }) => {
  const node = (name, ...reaches) => ({ name, answers: true, reaches }), silent = (name) => ({ name, answers: false });
  return [[node("a", "b"), node("b", "a")], [node("a", "b"), node("b")], [node("a"), node("b")],
    [node("a", "b"), silent("b")], [node("a"), silent("b")], [silent("a"), silent("b")],
  ].map((pair) => linkBetween(...pair));
})
"""
LIVE = "document.body.dataset.state === 'live'"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[LocalCluster]:
    """A cluster whose nodes have pages."""
    async with LocalCluster(tmp_path_factory.mktemp("cluster"), settings=FAST, http=True) as running:
        yield running


async def focus(tab: Tab, wanted: str) -> None:
    """Press Tab until an element has the focus."""
    for _ in range(20):
        if await tab.evaluate("document.activeElement.id") == wanted:
            return
        await tab.press("Tab", 9)
    raise AssertionError(f"{wanted} is not reached by keyboard")


async def test_people_see_and_steer_the_cluster_in_a_browser(cluster: LocalCluster) -> None:
    program = find_chromium()
    if program is None:
        pytest.skip(MISSING)
    name = f"root-{secrets.token_hex(4)}"
    leader = await cluster.wait_for_leader()
    page, other = cluster.others(leader)
    async with raw_client(cluster, page) as raw:
        await raw.register(name, code=await cluster.administrator_code())
    async with browser_tab(program) as tab:
        await tab.open(FAULTY)
        found = " ".join(await tab.evaluate(CHECK))
        for fault in ("language", "title", "skips a level", "has no name", "contrast", "twice", "too small", "main"):
            assert fault in found, "the check has to be able to fail"

        # ---- what strangers see, in every form
        await tab.look(width=1200, height=2400)
        await tab.open(f"http://{cluster.http_address(page)}/")
        await tab.until(f"{LIVE} && document.querySelectorAll('.edge.up').length === 3")
        summary = await tab.evaluate("document.getElementById('summary').textContent")
        assert re.fullmatch(rf"{leader} leads in term \d+\. 3 of 3 nodes answer, 1 more may fail\.", summary)
        assert await tab.evaluate(f"document.querySelector('.node.leader .name').textContent === '{leader}'")
        links = await tab.evaluate(LINKS)
        assert links == ["up", "one-way", "down", "up", "down", "down"]
        for width, dark in ((1200, False), (1200, True), (390, False), (390, True)):
            await tab.look(width=width, height=5000, dark=dark)
            await tab.until("document.getElementById('rate').firstChild.viewBox.baseVal.width <= innerWidth")
            assert await tab.evaluate(CHECK) == [], (width, dark)
        assert name not in await tab.evaluate("document.documentElement.outerHTML")

        # ---- an administrator, by keyboard alone
        await tab.until("!document.getElementById('open-sign-in').hidden")
        await focus(tab, "open-sign-in")
        await tab.press("Enter", 13)
        assert await tab.evaluate("document.activeElement.id") == "name"
        assert await tab.evaluate(CHECK) == []
        await tab.type(name)
        await focus(tab, "password")
        await tab.type("wrong")
        await tab.press("Enter", 13)
        await tab.until("document.getElementById('sign-in-error').textContent.includes('is wrong')")
        await tab.type(PASSWORD)
        await tab.press("Enter", 13)
        await tab.until("!document.getElementById('administration').hidden")
        assert await tab.evaluate("document.cookie") == ""
        assert await tab.evaluate(CHECK) == []
        await focus(tab, "drill")
        await tab.press("Enter", 13)
        await tab.until("document.getElementById('outcome').textContent.includes('messages')")
        told = await tab.evaluate("document.getElementById('outcome').textContent")
        assert "0 were lost and 0 doubled" in told, told
        assert f"went from {leader} to" in told, told
        await tab.until(f"{LIVE} && !document.getElementById('summary').textContent.startsWith('{leader} leads')")

        # ---- the leader dies
        leader = await cluster.wait_for_leader()
        if leader == page:
            await tab.evaluate(f"document.getElementById('target').value = '{other}'")
            await focus(tab, "target")
            await focus(tab, "drill")  # its button stands before it
            await tab.evaluate("document.getElementById('transfer-form').requestSubmit()")
            await tab.until(f"document.getElementById('outcome').textContent === '{other} leads now.'")
            leader = other
        cluster.kill(leader)
        await tab.until(f"document.querySelector('.node.silent .name').textContent === '{leader}'")
        await tab.until(f"/^n. leads/.test(document.getElementById('summary').textContent) && {LIVE}")
        await tab.until(f"document.getElementById('events').textContent.includes('{leader} is not reached')")
        assert "no more may fail" in await tab.evaluate("document.getElementById('summary').textContent")
        await focus(tab, "sign-out")
        await tab.press("Enter", 13)
        await tab.until("document.getElementById('administration').hidden")

        # ---- the node of the page dies
        cluster.kill(page)
        await tab.until("!document.getElementById('stale').hidden")
        hosts = {url.split("/")[2] for url in tab.requested if url.startswith("http")}
        assert hosts == {cluster.http_address(page)}
        refusals = [problem for problem in tab.problems if "ERR_" not in problem and "401" not in problem]
        assert refusals == [], "the page broke its own policy, or a script failed"
