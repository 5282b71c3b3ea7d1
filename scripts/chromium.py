"""Headless Chromium for tests and pictures of the dashboard, driven through its own debugging protocol.

No library and no driver is needed beside the browser: the protocol is JSON over a websocket.
"""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
MISSING = (
    "There is no Chromium here, so nothing was tried in a browser. Install it: apt-get install chromium "
    "(Debian, Ubuntu), dnf install chromium (Fedora)."
)
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-extensions",
    "--hide-scrollbars",
    "--force-color-profile=srgb",
    "--remote-debugging-port=0",
)
START_S = 90.0
CALL_S = 60.0
CLOSE_S = 10.0


class ChromiumError(Exception):
    """The browser or the page reported a fault."""


def find_chromium() -> str | None:
    """Return the path of a browser, or None."""
    return next((path for name in PROGRAMS if (path := shutil.which(name))), None)


class Tab:
    """One page. `problems` are errors and refusals by the content security policy that the page has reported."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.problems: list[str] = []
        self.requested: list[str] = []
        self._socket = socket
        self._numbers = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}

    async def read(self) -> None:
        """Take what the browser says, until it ends."""
        async for message in self._socket:
            content = json.loads(message.data)
            if "id" in content:
                self._waiting.pop(content["id"]).set_result(content)
            else:
                self._note(content["method"], content["params"])

    def _note(self, event: str, told: dict[str, Any]) -> None:
        match event:
            case "Runtime.exceptionThrown":
                self.problems.append(str(told["exceptionDetails"]))
            case "Log.entryAdded" if told["entry"]["level"] == "error":
                self.problems.append(f"{told['entry']['text']} {told['entry'].get('url', '')}")
            case "Network.requestWillBeSent":
                self.requested.append(told["request"]["url"])

    async def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Call a method of the protocol; raises ChromiumError."""
        number = next(self._numbers)
        self._waiting[number] = asyncio.get_running_loop().create_future()
        await self._socket.send_json({"id": number, "method": method, "params": parameters})
        async with asyncio.timeout(CALL_S):
            answer = await self._waiting[number]
        if "error" in answer:
            raise ChromiumError(f"{method}: {answer['error']}")
        result: dict[str, Any] = answer["result"]
        return result

    async def evaluate(self, expression: str) -> Any:
        """Return the value of an expression in the page, awaited if it is a promise; raises ChromiumError."""
        answer = await self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in answer:
            raise ChromiumError(str(answer["exceptionDetails"]))
        return answer["result"].get("value")

    async def open(self, url: str) -> None:
        """Show a page."""
        answer = await self.call("Page.navigate", url=url)
        if answer.get("errorText"):
            raise ChromiumError(f"{url}: {answer['errorText']}")
        await self.until("document.readyState === 'complete' && location.href !== 'about:blank'")

    async def until(self, expression: str, timeout_s: float = 60.0) -> None:
        """Wait until an expression is true in the page; raises ChromiumError with the page's text."""
        code = (
            f"new Promise((done, fail) => {{ const end = Date.now() + {timeout_s * 1000}; const look = () => "
            f"{{ let is = false; try {{ is = ({expression}); }} catch {{ /* not yet */ }} if (is) done(true); "
            "else if (Date.now() > end) done(false); else setTimeout(look, 50); }; look(); })"
        )
        if not await self.evaluate(code):
            text = await self.evaluate("document.body.innerText")
            raise ChromiumError(f"never true: {expression}\n{text}\n{self.problems}")

    async def press(self, key: str, code: int) -> None:
        """Press a key, as a person does."""
        text = {"text": "\r"} if key == "Enter" else {"text": " "} if key == " " else {}
        for kind, more in (("keyDown", text), ("keyUp", {})):
            await self.call("Input.dispatchKeyEvent", type=kind, key=key, windowsVirtualKeyCode=code, **more)

    async def type(self, text: str) -> None:
        """Type into what has the focus."""
        await self.call("Input.insertText", text=text)

    async def look(self, *, width: int, height: int = 900, dark: bool = False, scale: float = 1) -> None:
        """Show the page in a window of this size, light or dark."""
        mobile = width < 500
        await self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=scale, mobile=mobile
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        await self.call("Emulation.setEmulatedMedia", features=[scheme])

    async def picture(self, *, whole: bool) -> bytes:
        """Return a picture of the whole page, or of what the window shows, as PNG."""
        answer = await self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        return base64.b64decode(answer["data"])


@asynccontextmanager
async def browser_tab(program: str) -> AsyncIterator[Tab]:
    """A browser with one page and a folder of its own, while inside."""
    with tempfile.TemporaryDirectory(prefix="parley-chromium-", ignore_cleanup_errors=True) as folder:
        process = await asyncio.create_subprocess_exec(
            program,
            *FLAGS,
            f"--user-data-dir={folder}",
            "about:blank",
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
        try:
            port = await _port(Path(folder) / "DevToolsActivePort", process)
            async with aiohttp.ClientSession() as session:
                async with session.get(f"http://127.0.0.1:{port}/json/list") as reply:
                    target = next(one for one in await reply.json() if one["type"] == "page")
                async with session.ws_connect(target["webSocketDebuggerUrl"], max_msg_size=1 << 28) as socket:
                    tab = Tab(socket)
                    reading = asyncio.ensure_future(tab.read())
                    try:
                        for domain in ("Page", "Runtime", "Log", "Network"):
                            await tab.call(f"{domain}.enable")
                        yield tab
                    finally:
                        reading.cancel()
        finally:
            if process.returncode is None:
                process.terminate()
            try:
                async with asyncio.timeout(CLOSE_S):
                    await process.wait()
            except TimeoutError:
                process.kill()
                await process.wait()


async def _port(file: Path, process: asyncio.subprocess.Process) -> int:
    async with asyncio.timeout(START_S):
        while True:
            if process.returncode is not None:
                raise ChromiumError(f"the browser ended with {process.returncode} before it could be used")
            if lines := _read(file):
                return int(lines[0])
            await asyncio.sleep(0.05)


def _read(file: Path) -> list[str]:
    return file.read_text().split() if file.exists() else []
