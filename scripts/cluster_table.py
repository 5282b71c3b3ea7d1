"""Shows a running cluster: a live table on a terminal, plain lines elsewhere.

Both are made from the same views. Changes between two rounds are printed as events.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from scripts.cluster_process import ProcessState
from scripts.cluster_status import NodeView

EVENTS_SHOWN = 6
PLAIN_EVERY_S = 5.0
SCRIPT = "scripts/cluster.py"

_COLUMNS = ("node", "address", "role", "term", "commit", "applied", "clients", "msg/s", "pid")
_NUMERIC = frozenset(("term", "commit", "applied", "clients", "msg/s", "pid"))
_STYLES = {"leader": "bold green", "follower": "green", "down": "bold red", "stopped": "dim", "paused": "bold yellow"}


class Screen:
    """Shows one round after the other. Use it as a context manager, so that the terminal is restored."""

    def __init__(
        self, console: Console, guide: Sequence[str], last_words: Callable[[str], str], script: str = SCRIPT
    ) -> None:
        """`guide` is text that stands above the table, or before the first plain line.

        `last_words` returns the last lines of a node that ended. `script` is what a person types to reach this cluster.
        """
        self._script = script
        self._console = console
        self._guide = guide
        self._last_words = last_words
        self._events: deque[str] = deque(maxlen=EVENTS_SHOWN)
        self._seen: dict[str, NodeView] = {}
        self._leader = ""
        self._last_plain_s = 0.0
        self._live = Live(console=console, auto_refresh=False) if console.is_terminal else None

    def __enter__(self) -> Screen:
        if self._live is not None:
            self._live.start()
        else:
            self._console.print("\n".join(self._guide), highlight=False, soft_wrap=True)
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    def show(self, views: Sequence[NodeView]) -> None:
        changes = self._changes(views)
        if self._live is not None:
            for change in changes:
                self._events.append(f"{_clock()}  {change}")
            self._live.update(self._picture(views), refresh=True)
            return
        for change in changes:
            self._console.print(f"{_clock()} {change}", highlight=False, soft_wrap=True)
        if changes or time.monotonic() - self._last_plain_s >= PLAIN_EVERY_S:
            self._last_plain_s = time.monotonic()
            self._console.print(f"{_clock()} {plain_line(views)}", highlight=False, soft_wrap=True)

    def stream(self, lines: Sequence[str]) -> None:
        """Print events of the nodes, above the table where there is one."""
        for line in lines:
            self._console.print(line, markup=False, highlight=False, soft_wrap=True)

    def note(self, text: str) -> None:
        """Print one line outside the rounds."""
        if self._live is not None:
            self._events.append(f"{_clock()}  {text}")
        else:
            self._console.print(f"{_clock()} {text}", highlight=False, soft_wrap=True)

    def _changes(self, views: Sequence[NodeView]) -> list[str]:
        changes = []
        for view in views:
            before = self._seen.get(view.name)
            self._seen[view.name] = view
            if text := change(before, view, self._script):
                changes.append(text)
                if view.state is ProcessState.DOWN and (words := self._last_words(view.name)):
                    changes.append(f"{view.name} said: {words}")
        leaders = [view for view in views if view.role == "leader" and view.serving]
        leader = max(leaders, key=lambda view: view.term, default=None)
        name = leader.name if leader is not None else ""
        if leader is not None and name != self._leader:
            changes.append(f"{name} leads (term {leader.term})")
        if leader is None and self._leader:
            changes.append("no leader: sends wait until one is elected")
        self._leader = name
        return changes

    def _picture(self, views: Sequence[NodeView]) -> RenderableType:
        parts: list[RenderableType] = [
            Padding(Text("\n".join(self._guide)), (0, 0, 1, 0)),
            table(views),
            summary(views),
        ]
        if self._events:
            parts.append(Padding(Text("\n".join(self._events), style="dim"), (1, 0, 0, 0)))
        return Group(*parts)


def table(views: Sequence[NodeView]) -> Table:
    """Return the table of the nodes."""
    made = Table(title="Parley", title_justify="left", title_style="bold")
    for column in _COLUMNS:
        made.add_column(column, justify="right" if column in _NUMERIC else "left", no_wrap=True)
    for view in views:
        condition = Text(view.condition, style=_STYLES.get(view.condition, "yellow"))
        pid = str(view.pid or "-")
        if view.answers:
            numbers = (view.term, view.commit_index, view.applied_index, view.connected_clients)
            cells = [*map(str, numbers), f"{view.messages_per_second:.1f}"]
        else:
            cells = ["-"] * 5
        made.add_row(view.name, view.address, condition, *cells, pid)
    return made


def summary(views: Sequence[NodeView]) -> Text:
    """Return one line that states whether people can chat."""
    up = sum(view.answers for view in views)
    stored = max((view.messages_total for view in views), default=0)
    if any(view.serving for view in views):
        return Text(f"{up} of {len(views)} nodes answer, a majority is there. {stored} messages stored.")
    if up > len(views) // 2:
        return Text(f"{up} of {len(views)} nodes answer; electing a leader.", style="yellow")
    if all(view.state is ProcessState.UP for view in views):
        return Text(f"{up} of {len(views)} nodes answer yet.", style="yellow")
    need = len(views) // 2 + 1
    return Text(f"{up} of {len(views)} nodes answer; {need} are needed. Nothing is lost; sends wait.", style="bold red")


def plain_line(views: Sequence[NodeView]) -> str:
    """Return the state of the nodes as one line of text."""
    return " | ".join(_plain_node(view) for view in views)


def _plain_node(view: NodeView) -> str:
    if not view.answers:
        return f"{view.name} {view.condition}"
    return (
        f"{view.name} {view.role} term {view.term} commit {view.commit_index} applied {view.applied_index} "
        f"clients {view.connected_clients} {view.messages_per_second:.1f} msg/s pid {view.pid}"
    )


def change(before: NodeView | None, now: NodeView, script: str = SCRIPT) -> str:
    """Return what happened to a node between two rounds, empty for nothing. It runs for a while before it answers."""
    if before is None and now.state is not ProcessState.UP:
        return f"{now.name} is {now.state.value} at {now.address}"
    if before is None:
        return f"{now.name} {'answers' if now.answers else 'starts'} at {now.address}, pid {now.pid}"
    if now.answers and not before.answers and now.pid == before.pid and before.state is ProcessState.UP:
        return f"{now.name} answers"
    if now.state is not before.state or (now.pid != before.pid and now.pid):
        match now.state:
            case ProcessState.UP if before.state is ProcessState.PAUSED and now.pid == before.pid:
                return f"{now.name} was resumed"
            case ProcessState.UP:
                return f"{now.name} was started, pid {now.pid}"
            case ProcessState.PAUSED:
                return f"{now.name} is paused (SIGSTOP); to go on: {script} resume {now.name}"
            case ProcessState.DOWN:
                return f"{now.name} (pid {before.pid}) died; to start it again: {script} start {now.name}"
            case ProcessState.STOPPED:
                return f"{now.name} was stopped; to start it again: {script} start {now.name}"
    return ""


def _clock() -> str:
    return time.strftime("%H:%M:%S")
