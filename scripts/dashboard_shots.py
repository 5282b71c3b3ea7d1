"""Draws the pictures of the dashboard in docs/images: three real nodes, messages on their way, a real browser.

`make dashboard-shots` installs Chromium if it can. Pictures: light, dark after the leader was killed, a phone, and an
administrator after a drill.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import math
import random
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from parley import ParleyClient
from scripts.chromium import MISSING, Tab, browser_tab, find_chromium
from scripts.cluster_local import LocalCluster
from scripts.cluster_process import ROOT

TALK_S = 45.0
"""How long messages are sent before the first picture, so that the charts have something to show."""
NAME, PASSWORD = "dana", "pictures of the dashboard"
WIDE, TALL, PHONE = 1160, 1000, 390


async def draw(program: str, out: Path, talk_s: float) -> list[Path]:
    """Draw all pictures into a folder; return their files."""
    with tempfile.TemporaryDirectory(prefix="parley-shots-") as folder:
        async with LocalCluster(Path(folder) / "cluster", settings={"bcrypt_cost": 10}, http=True) as cluster:
            leader = await cluster.wait_for_leader()
            page = cluster.others(leader)[0]
            async with (
                ParleyClient([cluster.address(page)], ca=cluster.ca_file, state_dir=Path(folder) / "client") as client,
                browser_tab(program) as tab,
            ):
                await client.register(NAME, PASSWORD, await cluster.administrator_code())
                await client.login(NAME, PASSWORD)
                talking = asyncio.ensure_future(_talk(client))
                try:
                    await tab.look(width=WIDE, height=TALL)
                    await tab.open(f"http://{cluster.http_address(page)}/")
                    await asyncio.sleep(talk_s)
                    return await _draw(tab, cluster, page, out)
                finally:
                    talking.cancel()
                    with contextlib.suppress(asyncio.CancelledError):
                        await talking


async def _draw(tab: Tab, cluster: LocalCluster, page: str, out: Path) -> list[Path]:
    live = "document.body.dataset.state === 'live'"
    await tab.until(f"{live} && document.querySelectorAll('.edge.up').length === 3")
    files = [await _write(tab, out / "dashboard-light.png")]
    await tab.look(width=PHONE, height=844)
    await tab.until("document.getElementById('rate').firstChild.viewBox.baseVal.width <= innerWidth")
    files.append(await _write(tab, out / "dashboard-phone.png", whole=True))
    await tab.look(width=WIDE, height=TALL)
    await _sign_in(tab)
    await tab.evaluate("document.getElementById('drill').click()")
    await tab.until("document.getElementById('outcome').textContent.includes('messages')")
    await asyncio.sleep(2)
    files.append(await _write(tab, out / "dashboard-administrator.png", whole=True))
    leader = await cluster.wait_for_leader()
    if leader == page:  # it has to live, because its page is drawn
        leader = cluster.others(page)[0]
        await tab.evaluate(f"document.getElementById('target').value = '{leader}'")
        await tab.evaluate("document.getElementById('transfer-form').requestSubmit()")
        await tab.until(f"document.getElementById('outcome').textContent === '{leader} leads now.'")
    await tab.evaluate("document.getElementById('sign-out').click()")
    await tab.until("document.getElementById('administration').hidden")
    cluster.kill(leader)
    await tab.look(width=WIDE, height=TALL, dark=True)
    await tab.until(f"document.querySelector('.node.silent .name').textContent === '{leader}' && {live}")
    await tab.until("/^n. leads/.test(document.getElementById('summary').textContent)")
    await asyncio.sleep(6)
    files.append(await _write(tab, out / "dashboard-dark.png"))
    return files


async def _sign_in(tab: Tab) -> None:
    await tab.evaluate("document.getElementById('open-sign-in').click()")
    for name, value in (("name", NAME), ("password", PASSWORD)):
        await tab.evaluate(f"document.getElementById('{name}').value = '{value}'")
    await tab.evaluate("document.getElementById('sign-in-form').requestSubmit()")
    await tab.until("!document.getElementById('administration').hidden")


async def _write(tab: Tab, path: Path, *, whole: bool = False) -> Path:
    picture = await tab.picture(whole=whole)
    await asyncio.to_thread(path.write_bytes, picture)
    return path


async def _talk(client: ParleyClient) -> None:
    """Send messages at a pace that rises and falls, as people's does."""
    number = 0
    while True:
        pause_s = 0.03 + 0.025 * math.sin(number / 150) + random.uniform(0, 0.02)  # noqa: S311 - a pace, no secret
        await client.send_many([(NAME, f"{number}")] * random.randint(1, 3))  # noqa: S311
        number += 1
        await asyncio.sleep(pause_s)


def main(arguments: Sequence[str]) -> int:
    """Draw, and return the exit code."""
    parser = argparse.ArgumentParser(prog="make dashboard-shots", description="Draw the pictures of the dashboard.")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "images", help="folder of the pictures")
    parser.add_argument("--talk", type=float, default=TALK_S, help="seconds of messages before the first picture")
    options = parser.parse_args(arguments)
    program = find_chromium()
    if program is None:
        print(MISSING, file=sys.stderr)
        return 1
    options.out.mkdir(parents=True, exist_ok=True)
    for file in asyncio.run(draw(program, options.out, options.talk)):
        print(f"{file}: {file.stat().st_size // 1024} KiB")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
