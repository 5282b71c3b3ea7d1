"""`LocalCluster`: a real cluster on loopback for tests and demos, which start, kill and query it.

Every node is a process over TLS, on addresses that nobody else uses. It ends with the process that made it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from parley_proto.v1 import admin_pb2
from parleyd.cli_admin import leave_claim
from parleyd.security.codes import new_code
from scripts.cluster_layout import (
    Layout,
    NodePlan,
    Settings,
    create_layout,
    load_layout,
    plan_private_nodes,
    with_http,
    with_nodes,
)
from scripts.cluster_process import Processes, ProcessState
from scripts.cluster_status import NodeView, StatusReader

POLL_S = 0.02
START_TIMEOUT_S = 30.0


class LocalCluster:
    """A cluster for `async with LocalCluster(tmp_path) as cluster:`.

    Entering starts all nodes and waits for a leader.
    """

    def __init__(
        self, root: Path, *, nodes: int = 3, settings: Settings | None = None, start: bool = True, http: bool = False
    ) -> None:
        """Use the cluster in the folder if there is one. `settings` are added to every node's file.

        With `http`, nodes have pages for monitoring.
        """
        if (root / "cluster.json").exists():
            self.layout: Layout = load_layout(root)
        else:
            plan = plan_private_nodes(nodes)
            self.layout = create_layout(root, with_http(plan) if http else plan, settings)
        self._processes = Processes(self.layout, die_with_parent=True)
        self._reader = StatusReader(self.layout, self._processes)
        self._start = start

    async def __aenter__(self) -> Self:
        await self._reader.__aenter__()
        if self._start:
            try:
                self.start(*self.names)
                await self.wait_for_leader()
            except BaseException:
                await self.__aexit__(None, None, None)
                raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._reader.__aexit__(kind, error, trace)
        for name in self.names:
            if self._processes.find(name) is not None:
                self._processes.kill(name)

    # ---- who and where

    @property
    def names(self) -> tuple[str, ...]:
        """Return the names of the nodes in order."""
        return self.layout.names

    @property
    def hosts(self) -> list[str]:
        """Return the client addresses of all nodes."""
        return list(self.layout.hosts)

    @property
    def ca_file(self) -> Path:
        """Return the certificate against which clients check the nodes."""
        return self.layout.ca_file

    def address(self, name: str) -> str:
        """Return the client address of a node."""
        return self.layout.node(name).client_address

    def http_address(self, name: str) -> str:
        """Return the address for monitoring of a node."""
        return self.layout.node(name).http_address

    def others(self, name: str) -> list[str]:
        """Return the names of the other nodes."""
        return [other for other in self.names if other != name]

    def pid(self, name: str) -> int:
        """Return the process id of a running node."""
        process = self._processes.find(name)
        if process is None:
            raise RuntimeError(f"{name} does not run: {self.tail(name)}")
        return process.pid

    def is_up(self, name: str) -> bool:
        """Return true if the process runs, paused or not."""
        return self._processes.find(name) is not None

    def log_text(self, name: str) -> str:
        """Return the whole output of a node."""
        return self.layout.log_file(name).read_text(errors="replace")

    def tail(self, name: str, lines: int = 15) -> str:
        """Return the end of a node's log, for error texts."""
        with contextlib.suppress(FileNotFoundError):
            return "\n".join(self.log_text(name).splitlines()[-lines:])
        return "(no log)"

    async def move(self, *nodes: NodePlan) -> None:
        """Take other addresses of nodes, which must be stopped. Whoever calls this changes their settings files."""
        self.layout = with_nodes(self.layout, *nodes)
        self._processes.layout = self.layout
        await self._reader.move(self.layout)

    # ---- what is done to nodes

    def run_with(self, program: Sequence[str], *names: str) -> None:
        """Set what Python runs as these nodes from their next start on, instead of `-m parleyd`."""
        self._processes.programs |= dict.fromkeys(names, program)

    def start(self, *names: str) -> None:
        """Start processes. They serve only later (`wait_for_leader`, `wait_until_answering`)."""
        for name in names:
            self._processes.start(name)

    def kill(self, *names: str) -> None:
        """Kill nodes with SIGKILL. Return when the processes are gone."""
        for name in names:
            self._processes.kill(name)

    def pause(self, name: str) -> None:
        """Send SIGSTOP."""
        self._processes.pause(name)

    def resume(self, name: str) -> None:
        """Send SIGCONT."""
        self._processes.resume(name)

    def terminate(self, name: str) -> None:
        """Send SIGTERM without waiting."""
        self._processes.terminate(name)

    async def stop(self, name: str, timeout_s: float = 15.0) -> int:
        """Send SIGTERM. Return the exit code once the process has ended."""
        self._processes.terminate(name)
        return await self.wait_for_exit(name, timeout_s)

    async def wait_for_exit(self, name: str, timeout_s: float = 15.0) -> int:
        """Return the exit code of a node that ends by itself, negative for a signal."""
        await self.wait_until(lambda: self._processes.exit_code(name) is not None, f"{name} to end", timeout_s)
        code = self._processes.exit_code(name)
        assert code is not None
        return code

    async def restart(self, name: str) -> None:
        """Stop a node as planned, start it, and wait until it answers."""
        await self.stop(name)
        self.start(name)
        await self.wait_until_answering(name)

    async def administrator_code(self, name: str = "") -> str:
        """Return a code that makes an administrator, as `parleyd admin create` does on the machine of a node."""
        folder = self.layout.data_dir(name or next(filter(self.is_up, self.names)))
        code = new_code()
        claim = leave_claim(folder, code)
        await self.wait_until(lambda: not claim.exists(), f"{folder} to hand over the code")
        return code

    # ---- what nodes say

    async def status(self, name: str) -> admin_pb2.GetStatusResponse | None:
        """Return the status of a node, or None if it does not answer."""
        return await self._reader.ask(name) if self._processes.state(name) is ProcessState.UP else None

    async def views(self) -> list[NodeView]:
        """Return the views of all nodes, read at once."""
        return await self._reader.read_all()

    async def wait_for_leader(self, timeout_s: float = START_TIMEOUT_S, *, other_than: str = "") -> str:
        """Return the leader that a majority of all nodes names and that reports that it serves."""
        leader = ""

        def agreed(views: Sequence[NodeView]) -> bool:
            nonlocal leader
            for view in views:
                if view.role == "leader" and view.serving and view.name != other_than:
                    followers = sum(other.leader == view.name and other.term == view.term for other in views)
                    if followers > len(views) // 2:
                        leader = view.name
                        return True
            return False

        await self.wait_for_views(agreed, "a leader that a majority follows", timeout_s)
        return leader

    async def wait_until_answering(self, *names: str, timeout_s: float = START_TIMEOUT_S) -> None:
        """Wait until these nodes answer and have a leader through which commits succeed."""
        await self.wait_for_views(
            lambda views: all(view.serving for view in views if view.name in names),
            f"{', '.join(names)} to serve",
            timeout_s,
        )

    async def wait_until_equal(self, *names: str, timeout_s: float = START_TIMEOUT_S) -> tuple[int, str]:
        """Wait until these nodes (default: all) have applied the same index. Return it with the state hash.

        Raises AssertionError at once if two of them have different states at one index.
        """
        chosen = names or self.names
        found: tuple[int, str] = (0, "")

        def equal(views: Sequence[NodeView]) -> bool:
            nonlocal found
            mine = [view for view in views if view.name in chosen]
            if not all(view.answers for view in mine) or len({view.applied_index for view in mine}) != 1:
                return False
            hashes = {view.name: view.state_hash for view in mine}
            assert len(set(hashes.values())) == 1, f"state differs at index {mine[0].applied_index}: {hashes}"
            found = (mine[0].applied_index, mine[0].state_hash)
            return True

        await self.wait_for_views(equal, f"{', '.join(chosen)} to have applied the same", timeout_s)
        return found

    async def wait_for_views(
        self, condition: Callable[[Sequence[NodeView]], bool], what: str, timeout_s: float = START_TIMEOUT_S
    ) -> list[NodeView]:
        """Ask all nodes again and again until `condition` holds.

        Raise AssertionError with their logs at the deadline.
        """
        deadline = asyncio.get_running_loop().time() + timeout_s
        while True:
            views = await self.views()
            if condition(views):
                return views
            if asyncio.get_running_loop().time() > deadline:
                raise AssertionError(self._report(what, timeout_s, views))
            await asyncio.sleep(POLL_S)

    async def wait_until(self, condition: Callable[[], bool], what: str, timeout_s: float = START_TIMEOUT_S) -> None:
        """Wait for a condition that asks no node. Raise AssertionError with the logs at the deadline."""
        deadline = asyncio.get_running_loop().time() + timeout_s
        while not condition():
            if asyncio.get_running_loop().time() > deadline:
                raise AssertionError(self._report(what, timeout_s, await self.views()))
            await asyncio.sleep(POLL_S)

    def _report(self, what: str, timeout_s: float, views: Iterable[NodeView]) -> str:
        parts = [f"waited {timeout_s:.0f} s for {what}"]
        parts += [f"--- {view.name}: {view}\n{self.tail(view.name)}" for view in views]
        return "\n".join(parts)
