"""The commands of scripts/cluster.py: run a cluster in the foreground, and control it from other terminals."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import secrets
import shlex
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict
from pathlib import Path

from rich.console import Console

from parley import NameTakenError, ParleyClient, ParleyError, check_account_name
from parleyd.cli_admin import leave_claim
from parleyd.security.codes import new_code
from scripts.cluster_events import EventStream
from scripts.cluster_layout import (
    ClusterError,
    Layout,
    create_layout,
    destroy_layout,
    load_layout,
    plan_default_nodes,
    taken_addresses,
)
from scripts.cluster_process import ROOT, Processes, ProcessState, supervising
from scripts.cluster_status import NodeView, StatusReader
from scripts.cluster_table import Screen, plain_line, table

DEFAULT_NODES = 3  # of the Makefile, too
ROUND_S = 0.5
RESTART_AFTER_S = 1.0
RESTART_AT_MOST_EVERY_S = 15.0
STEADY_AFTER_S = 30.0
OPERATOR = "operator"
OPERATOR_TIMEOUT_S = 30.0
OPERATOR_PAUSE_S = 2.0
CLAIM_POLL_S = 0.1


def main(arguments: Sequence[str]) -> int:
    """Carry out one command. Return 0, 1 for an error with a text, or 2 for wrong usage."""
    options = _parser().parse_args(arguments)
    try:
        code: int = options.command(options)
    except ClusterError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="scripts/cluster.py", description="Runs a Parley cluster on this machine.")
    parser.add_argument("--var", type=Path, default=Path("var"), metavar="FOLDER", help="where it lives (default: var)")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    up = commands.add_parser("up", help="start the cluster and watch it; Ctrl-C stops it, the data stays")
    up.add_argument("--nodes", type=int, default=DEFAULT_NODES, help="how many nodes a new cluster has (default: 3)")
    up.add_argument("--restart", action="store_true", help="start nodes again that die")
    up.add_argument("--events", action="store_true", help="show clients that come and go, and each command")
    up.set_defaults(command=_up)

    for name, text in (
        ("start", "start a node that is down"),
        ("stop", "stop a node as planned (SIGTERM); without NODE, all of them"),
        ("kill", "kill -9 a node, as a crash would"),
        ("pause", "SIGSTOP a node: alive but silent"),
        ("resume", "SIGCONT a paused node"),
    ):
        command = commands.add_parser(name, help=text)
        command.add_argument("nodes", nargs="*" if name == "stop" else "+", metavar="NODE")
        command.set_defaults(command=_on_nodes, action=name)

    chat = commands.add_parser("chat", help="chat as ACCOUNT, which is made if it does not exist")
    chat.add_argument("--account", default="", metavar="NAME")
    chat.add_argument("--to", default="", metavar="NAME", help="with whom to begin")
    chat.set_defaults(command=_chat)

    env = commands.add_parser("env", help='print the settings of `parley` for this cluster: eval "$(... env)"')
    env.set_defaults(command=_env)

    status = commands.add_parser("status", help="show every node once")
    status.add_argument("--json", action="store_true", help="for programs")
    status.set_defaults(command=_status)

    destroy = commands.add_parser("destroy", help="stop the cluster and delete its data and certificates")
    destroy.add_argument("--yes", action="store_true", help="do not ask")
    destroy.set_defaults(command=_destroy)
    return parser


def _up(options: argparse.Namespace) -> int:
    layout = _open_or_create(options.var, options.nodes)
    with supervising(layout):
        processes = Processes(layout)
        resting = [node for node in layout.nodes if processes.find(node.name) is None]
        if taken := taken_addresses(resting):
            raise ClusterError(
                f"{', '.join(taken)} {'is' if len(taken) == 1 else 'are'} in use, but this cluster's addresses are "
                f"settled in {layout.root}. End the other program, or use another folder: make run VAR=var2"
            )
        layout.events_file.unlink(missing_ok=True)
        if options.events:
            layout.events_file.touch()
        try:
            return asyncio.run(_supervise(layout, processes, restart=options.restart, events=options.events))
        finally:
            # Also when the loop ended by an error: whoever runs `up` must not leave nodes behind.
            processes.stop(layout.names)


def _open_or_create(root: Path, count: int) -> Layout:
    try:
        layout = load_layout(root.absolute())
    except ClusterError:
        if (root / "cluster.json").exists():
            raise
        print(f"Making a new cluster of {count} in {root}: certificates, settings, data directories.")
        return create_layout(root, plan_default_nodes(count))
    if len(layout.nodes) != count:
        raise ClusterError(
            f"{root} holds a cluster of {len(layout.nodes)} nodes, not {count}. "
            f"Run it as it is ({_make_run(layout)}), use another folder (make run VAR=var2), "
            f"or delete it: {layout.script} destroy"
        )
    return layout


async def _supervise(layout: Layout, processes: Processes, *, restart: bool, events: bool) -> int:
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, stopping.set)
    stream = EventStream(layout) if events else None
    for name in layout.names:
        processes.start(name)
    keeper = _Restarter(processes) if restart else None
    console = Console(highlight=False)
    with Screen(console, _guide(layout, restart=restart), processes.last_words, layout.script) as screen:
        async with StatusReader(layout, processes) as reader, _making_operator(layout, screen.note):
            while not stopping.is_set():
                views = await reader.read_all()
                if stream is not None:
                    screen.stream(stream.read())
                screen.show(views)
                if keeper is not None:
                    keeper.look_after(views, screen.note)
                try:
                    await asyncio.wait_for(stopping.wait(), ROUND_S)
                except TimeoutError:
                    continue
    console.print(f"Stopping {', '.join(layout.names)} ...")
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, _kill_all(layout, processes))
    await asyncio.to_thread(processes.stop, layout.names)
    console.print(f"All stopped. The data stays in {layout.root}; to go on with it: {_make_run(layout)}")
    return 0


@asynccontextmanager
async def _making_operator(layout: Layout, note: Callable[[str], None]) -> AsyncIterator[None]:
    """Make the administrator while the cluster is watched."""

    async def make() -> None:
        while not await _make_operator(layout, note):  # noqa: ASYNC110 - it tries again
            await asyncio.sleep(OPERATOR_PAUSE_S)

    making = asyncio.ensure_future(make())
    try:
        yield
    finally:
        making.cancel()
        await asyncio.wait([making])


async def _make_operator(layout: Layout, note: Callable[[str], None]) -> bool:
    """Make this cluster's administrator, once: an account whose password is beside its files, as that of any other."""
    home = _home_of(layout, OPERATOR)
    if (home / "made").exists():
        return True
    password = _development_password(home / "password")
    folder = layout.data_dir(layout.names[0])
    try:
        async with asyncio.timeout(OPERATOR_TIMEOUT_S):
            # The node makes it at its first start, last of all.
            while not (folder / "identity.json").exists():  # noqa: ASYNC110
                await asyncio.sleep(CLAIM_POLL_S)
            code = new_code()
            claim = leave_claim(folder, code)
            while claim.exists():  # noqa: ASYNC110 - the node takes it from its disk
                await asyncio.sleep(CLAIM_POLL_S)
            async with ParleyClient(layout.hosts, ca=layout.ca_file, state_dir=home / "state", connect=False) as client:
                with contextlib.suppress(NameTakenError):  # by an attempt that was cut short
                    await client.register(OPERATOR, password, code)
                await client.login(OPERATOR, password)
                await (await client.own_account()).claim_administrator(code)
    except (ParleyError, TimeoutError, OSError) as error:
        reason = str(error) or "the cluster did not answer in time"
        note(f"The administrator is not made yet: {reason.rstrip('.')}. Next try soon.")
        return False
    (home / "made").touch()
    note(f"The account {OPERATOR} is the administrator.")
    return True


def _home_of(layout: Layout, account: str) -> Path:
    """Return the folder of an account on a local cluster."""
    home = layout.root / "clients" / account
    home.mkdir(parents=True, exist_ok=True)
    return home


def _kill_all(layout: Layout, processes: Processes) -> Callable[[], None]:
    """Return the handler of a second Ctrl-C, which kills all nodes."""

    def kill() -> None:
        for name in layout.names:
            if (process := processes.find(name)) is not None:
                process.kill()

    return kill


class _Restarter:
    """Starts dead nodes again: after a second, and later if they keep dying soon after the start."""

    def __init__(self, processes: Processes) -> None:
        self._processes = processes
        self._died_at_s: dict[str, float] = {}
        self._wait_s: dict[str, float] = {}

    def look_after(self, views: Sequence[NodeView], note: Callable[[str], None]) -> None:
        """Handle one round of views. A node that a person stopped is not started."""
        now_s = time.monotonic()
        for view in views:
            if view.state is not ProcessState.DOWN:
                self._died_at_s.pop(view.name, None)
                if view.uptime_s > STEADY_AFTER_S:
                    self._wait_s.pop(view.name, None)
                continue
            died_at_s = self._died_at_s.setdefault(view.name, now_s)
            wait_s = self._wait_s.get(view.name, RESTART_AFTER_S)
            if now_s - died_at_s < wait_s:
                continue
            self._wait_s[view.name] = min(2 * wait_s, RESTART_AT_MOST_EVERY_S)
            try:
                self._processes.start(view.name)
            except ClusterError as error:
                note(str(error))


def _make_run(layout: Layout) -> str:
    """Return the command that starts this cluster again."""
    nodes = "" if len(layout.nodes) == DEFAULT_NODES else f" NODES={len(layout.nodes)}"
    return "make run" + nodes + (f" VAR={layout.root}" if layout.is_elsewhere else "")


def _guide(layout: Layout, *, restart: bool) -> list[str]:
    first = layout.names[0]
    script = layout.script
    chat = f"make chat VAR={layout.root}" if layout.is_elsewhere else "make chat"
    again = "by itself (--restart)" if restart else f"{script} start {first}"
    pages = layout.node(first).http_address
    dashboard = [f"  dashboard, in a browser     http://{pages}/ (sign in as {OPERATOR})"] if pages else []
    return [
        f"Parley: {len(layout.names)} nodes over TLS in {layout.root} (logs: {layout.root}/{first}/log and so on)",
        f"  chat, in another terminal   {chat} ACCOUNT=ann TO=ben",
        f"  and in a third              {chat} ACCOUNT=ben TO=ann",
        f"  passwords of these accounts {layout.root}/clients/ACCOUNT/password; the administrator is {OPERATOR}",
        f'  parley on this cluster      eval "$({script} env)"',
        *dashboard,
        f"  kill a node                 {script} kill {first}   or: kill -9 PID",
        f"  start it again              {again}",
        "  stop everything             Ctrl-C (the data stays)",
    ]


def _on_nodes(options: argparse.Namespace) -> int:
    layout = load_layout(options.var.absolute())
    processes = Processes(layout)
    names = options.nodes or [name for name in layout.names if processes.find(name) is not None]
    for name in names:
        layout.node(name)  # a wrong name is told before anything is done to the others
    if options.action == "stop":
        processes.stop(names)
        print(f"stopped {', '.join(names)}" if names else "nothing runs")
        return 0
    for name in names:
        action: Callable[[str], int] = getattr(processes, options.action)
        pid = action(name)
        print(f"{options.action} {name}: pid {pid}")
    return 0


def _chat(options: argparse.Namespace) -> int:
    """Replace this process by `parley chat` with the flags for this cluster."""
    layout = load_layout(options.var.absolute())
    if not options.account:
        raise ClusterError("Say as whom: make chat ACCOUNT=ann TO=ben")
    try:
        check_account_name(options.account)
    except ParleyError as error:
        raise ClusterError(str(error)) from None
    home = _home_of(layout, options.account)
    os.environ |= {
        "PARLEY_HOSTS": ",".join(layout.hosts),
        "PARLEY_CA": str(layout.ca_file),
        "PARLEY_STATE_DIR": str(home / "state"),
        "PARLEY_PASSWORD": os.environ.get("PARLEY_PASSWORD") or _development_password(home / "password", tell=True),
    }
    command = [sys.executable, "-m", "parley.cli", "chat", "--register", "--account", options.account]
    os.chdir(ROOT)
    if sys.stdout.isatty():
        print(f"Signing in as {options.account} and connecting ...", flush=True)
    os.execv(sys.executable, [*command, *(["--to", options.to] if options.to else [])])  # noqa: S606 (no shell is wanted)


def _env(options: argparse.Namespace) -> int:
    """Print lines for a shell."""
    layout = load_layout(options.var.absolute())
    print(f"export PARLEY_HOSTS={shlex.quote(','.join(layout.hosts))}")
    print(f"export PARLEY_CA={shlex.quote(str(layout.ca_file))}")
    print(f"export PARLEY_STATE_DIR={shlex.quote(str(layout.root / 'clients' / 'state'))}")
    print(f"PATH={shlex.quote(str(Path(sys.executable).parent))}:$PATH")
    return 0


def _development_password(file: Path, *, tell: bool = False) -> str:
    """Return the password of an account of a local cluster. Make it on first use, so that nobody has to choose one."""
    try:
        return file.read_text().strip()
    except FileNotFoundError:
        if tell:
            print(f"The password of a new account is made, and kept in {file}", file=sys.stderr)
        password = secrets.token_urlsafe(16)
        with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as opened:
            opened.write(password + "\n")
        return password


def _status(options: argparse.Namespace) -> int:
    layout = load_layout(options.var.absolute())

    async def read() -> list[NodeView]:
        async with StatusReader(layout, Processes(layout)) as reader:
            return await reader.read_all()

    views = asyncio.run(read())
    if options.json:
        rows = [{**asdict(view), "state": view.state.value} for view in views]
        print(json.dumps({"ca_file": str(layout.ca_file), "nodes": rows}, indent=2))
    elif sys.stdout.isatty():
        Console().print(table(views))
    else:
        print(plain_line(views))
    return 0 if any(view.serving for view in views) else 1


def _destroy(options: argparse.Namespace) -> int:
    layout = load_layout(options.var.absolute())
    if not options.yes:
        if not sys.stdin.isatty():
            raise ClusterError("Nothing was deleted: nobody can be asked here. If you mean it: destroy --yes")
        answer = input(f"Delete all messages, accounts and certificates in {layout.root}? Type yes: ")
        if answer.strip() != "yes":
            print("Nothing was deleted.")
            return 1
    with supervising(layout):
        Processes(layout).stop(layout.names)
        destroy_layout(layout)
    print(f"Deleted the cluster in {layout.root}.")
    return 0
