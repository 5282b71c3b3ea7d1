"""The commands of scripts/launch.py: start, stop and look at the nodes of a host list, here and by ssh."""

from __future__ import annotations

import argparse
import asyncio
import json
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from parley import BadInputError, ClusterStatus, ParleyClient
from parley.terminal.cluster_text import cluster_lines
from scripts.cluster_layout import ClusterError, SettingValue
from scripts.launch_commands import (
    Done,
    Machines,
    Step,
    copy_steps,
    run_steps,
    start_steps,
    status_steps,
    stop_steps,
)
from scripts.launch_files import Launch, load, make_files, settle
from scripts.launch_list import LINE_FORM, ListedNode, from_flags, read_list

POLL_S = 0.2
EXAMPLE = f"""\
One line of the list for each machine: {LINE_FORM}

    # host   first port  nodes
    alpha    7600        2
    beta     7600        1      ssh=parley@beta program=/srv/parley/venv/bin/parleyd

    scripts/launch.py start --list nodes.txt
    scripts/launch.py status
    scripts/launch.py stop

A host is reached by ssh, unless it is a loopback address or has ssh=none. docs/OPERATIONS.md says more.
"""


def main(arguments: Sequence[str]) -> int:
    """Carry out one command. Return 0, 1 for an error with a text, or 2 for wrong usage."""
    options = _parser().parse_args(arguments)
    try:
        code: int = options.command(options)
    except (ClusterError, BadInputError) as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="scripts/launch.py",
        description="Starts the nodes of a cluster from one host list, on this machine and on others.",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    start = commands.add_parser("start", help="make what is missing, copy it, start the nodes, wait until they serve")
    _add_list(start)
    start.add_argument("--wait", type=float, default=60.0, metavar="S", help="wait so long for them (default: 60)")
    start.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a setting of every new node")
    start.set_defaults(command=_start)
    stop = commands.add_parser("stop", help="stop the nodes as planned (SIGTERM)")
    stop.set_defaults(command=_stop)
    status = commands.add_parser("status", help="show which processes run, and what the nodes say")
    status.set_defaults(command=_status)
    for command in (start, stop, status):
        _add_common(command)
    return parser


def _add_list(command: argparse.ArgumentParser) -> None:
    command.add_argument("--list", type=Path, metavar="FILE", help="the host list; later starts know it")
    command.add_argument("--hosts", default="", metavar="A,B", help="instead of a list: the hosts")
    command.add_argument("--ports", default="", metavar="P,P", help="and the first port of each")
    command.add_argument("--num_ports", "--num-ports", default="", metavar="N,N", help="and its nodes (default: 1)")


def _add_common(command: argparse.ArgumentParser) -> None:
    command.add_argument("nodes", nargs="*", metavar="NODE", help="only these nodes (default: all)")
    command.add_argument(
        "--var", type=Path, default=Path("var-launch"), metavar="FOLDER", help="files of the cluster (var-launch)"
    )
    command.add_argument("--dry-run", action="store_true", help="print the commands, and run none")
    command.add_argument("--ssh", default="ssh -o BatchMode=yes", metavar="COMMAND", help="how ssh is called")
    command.add_argument("--dir", default="parley-nodes", metavar="FOLDER", help="folder on other machines")
    command.add_argument("--program", default="parleyd", metavar="COMMAND", help="the node there (default: parleyd)")


def _start(options: argparse.Namespace) -> int:
    launch = settle(options.var, _listed(options))
    nodes, machines = _chosen(launch, options), _machines(options)
    if not options.dry_run:
        make_files(launch, _settings(options.set))
    copies = copy_steps(launch, nodes, machines)
    starts = start_steps(launch, nodes, machines)
    if options.dry_run:
        return _print([*copies, *starts])
    if not _report(run_steps(copies), quiet=True) or not _report(run_steps(starts)):
        print("Not every node was started. Mend the cause and start again: nodes that run are left alone.")
        return 1
    status = asyncio.run(_wait(launch, nodes, options.wait))
    _print_status(launch, status)
    silent = _silent(nodes, status)
    for node in (node for node in launch.joining if node in silent):
        print(f"If {node.name} is no member yet, admit it: parley cluster add {node.name} {node.plan.peer_address}")
    return 1 if silent or not status.serving else 0


def _stop(options: argparse.Namespace) -> int:
    launch = _known(options.var)
    steps = stop_steps(launch, _chosen(launch, options), _machines(options))
    if options.dry_run:
        return _print(steps)
    return 0 if _report(run_steps(steps)) else 1


def _status(options: argparse.Namespace) -> int:
    launch = _known(options.var)
    steps = status_steps(launch, _chosen(launch, options), _machines(options))
    if options.dry_run:
        return _print(steps)
    all_run = _report(run_steps(steps))
    status = asyncio.run(_ask(launch))
    _print_status(launch, status)
    return 0 if all_run and status.serving else 1


def _listed(options: argparse.Namespace) -> tuple[ListedNode, ...]:
    flags = options.hosts or options.ports or options.num_ports
    if options.list is not None and flags:
        raise ClusterError("Both --list and --hosts were given. Nothing was started. Give one of them.")
    if options.list is not None:
        return read_list(options.list)
    if flags:
        return from_flags(options.hosts, options.ports, options.num_ports)
    return _known(options.var).nodes


def _known(root: Path) -> Launch:
    launch = load(root)
    if launch is None:
        raise ClusterError(f"{root} has no cluster. Start one: scripts/launch.py start --list FILE --var {root}")
    return launch


def _chosen(launch: Launch, options: argparse.Namespace) -> tuple[ListedNode, ...]:
    by_name = {node.name: node for node in launch.nodes}
    if unknown := [name for name in options.nodes if name not in by_name]:
        raise ClusterError(f"The list has no node {', '.join(unknown)}. It has {', '.join(by_name)}. Nothing was done.")
    return tuple(by_name[name] for name in options.nodes) or launch.nodes


def _machines(options: argparse.Namespace) -> Machines:
    try:
        ssh, program = shlex.join(shlex.split(options.ssh)), shlex.join(shlex.split(options.program))
    except ValueError as error:
        raise ClusterError(f"--ssh or --program is not a command: {error}. Nothing was done.") from None
    return Machines(ssh, options.dir.rstrip("/"), program)


def _settings(given: Sequence[str]) -> dict[str, SettingValue]:
    settings: dict[str, SettingValue] = {}
    for item in given:
        name, equals, value = item.partition("=")
        if not equals or not name.isidentifier():
            raise ClusterError(f"--set {item} is not NAME=VALUE. Nothing was started.")
        try:
            read = json.loads(value)
        except ValueError:
            read = value
        settings[name] = read if isinstance(read, int | float | str) else value
    return settings


def _print(steps: Sequence[Step]) -> int:
    for step in steps:
        print(step.line)
    return 0


def _report(ended: Sequence[Done], *, quiet: bool = False) -> bool:
    """Print how each step ended. Return true if all ended well."""
    for done in ended:
        if done.code or not quiet:
            said = done.output or f"ended with code {done.code}"
            print(f"{done.step.node.name} ({done.step.node.place}): {said}", flush=True)
    return not any(done.code for done in ended)


async def _wait(launch: Launch, nodes: Sequence[ListedNode], wait_s: float) -> ClusterStatus:
    """Return the status once the cluster serves and all these nodes answer, or what is known when the time is up."""
    ends_at = asyncio.get_running_loop().time() + wait_s
    while True:
        status = await _ask(launch)
        is_up = status.serving and not _silent(nodes, status)
        if is_up or asyncio.get_running_loop().time() > ends_at:
            return status
        await asyncio.sleep(POLL_S)


async def _ask(launch: Launch) -> ClusterStatus:
    hosts = [node.client_address for node in launch.nodes]
    # Its own folder, so that the session and the host list of the person stay as they are.
    client = ParleyClient(hosts, ca=launch.ca_file, state_dir=launch.root / "client", connect=False)
    async with client:
        return await client.cluster_status()


def _silent(nodes: Sequence[ListedNode], status: ClusterStatus) -> list[ListedNode]:
    answered = {answer.name for answer in status.nodes if not answer.error}
    return [node for node in nodes if node.name not in answered]


def _print_status(launch: Launch, status: ClusterStatus) -> None:
    for line in cluster_lines(status):
        print(line)
    hosts = ",".join(node.client_address for node in launch.nodes)
    print(f"For clients: PARLEY_HOSTS={hosts} PARLEY_CA={shlex.quote(str(launch.ca_file))}")
