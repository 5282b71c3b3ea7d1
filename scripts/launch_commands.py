"""The shell commands with which `scripts/launch.py` starts, stops and looks at nodes, here or by ssh.

A step is one line for `sh`. A dry run prints exactly the lines that a run passes to `sh`. No secret is in a line: keys
go through standard input.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from scripts.launch_files import Launch, files_of
from scripts.launch_list import ListedNode

STOP_TIMEOUT_S = 30
STEP_TIMEOUT_S = 120.0

# The process id counts only if the process is still the one with these settings: ids are used again.
_RUNNING = (
    'running() { pid=$(cat pid 2>/dev/null) && kill -0 "$pid" 2>/dev/null && '
    "{ ps -ww -o args= -p \"$pid\" 2>/dev/null || tr '\\0' ' ' <\"/proc/$pid/cmdline\"; } "
    '| grep -qF -- "$PWD/node.toml"; }'
)


@dataclass(frozen=True, slots=True)
class Machines:
    """How other machines are reached: the ssh command, the folder of the nodes there, and the program."""

    ssh: str
    directory: str
    program: str


@dataclass(frozen=True, slots=True)
class Step:
    """One line for `sh`, and the node that it is about."""

    node: ListedNode
    line: str


@dataclass(frozen=True, slots=True)
class Done:
    """How a step ended."""

    step: Step
    code: int
    output: str


def copy_steps(launch: Launch, nodes: Sequence[ListedNode], machines: Machines) -> list[Step]:
    """Return the steps that copy certificate, key and settings to other machines."""
    steps = []
    for node in nodes:
        if node.ssh:
            pack = shlex.join(["tar", "-C", str(launch.folder(node)), "-cf", "-", *files_of(node)])
            folder = shlex.quote(f"{machines.directory}/{node.name}")
            unpack = f"umask 077 && mkdir -p {folder} && tar -C {folder} -xf -"
            steps.append(Step(node, f"{pack} | {_over_ssh(node, unpack, machines)}"))
    return steps


def start_steps(launch: Launch, nodes: Sequence[ListedNode], machines: Machines) -> list[Step]:
    """Return the steps that start nodes. A node that runs is left alone."""
    steps = []
    for node in nodes:
        here = shlex.join([sys.executable, "-m", "parleyd"])
        program = shlex.quote(node.program) if node.program else machines.program if node.ssh else here
        script = (
            f'if running; then echo "runs already, pid $pid"; else umask 077; '
            f'nohup {program} start --config "$PWD/node.toml" >>log 2>&1 </dev/null & '
            'echo $! >pid; echo "started, pid $!"; fi'
        )
        steps.append(_step(launch, node, script, machines))
    return steps


def stop_steps(launch: Launch, nodes: Sequence[ListedNode], machines: Machines) -> list[Step]:
    """Return the steps that stop nodes as planned, and wait until they have ended."""
    script = (
        'if running; then kill "$pid"; n=0; '
        f"while running && [ $n -lt {STOP_TIMEOUT_S * 10} ]; do sleep 0.1; n=$((n+1)); done; "
        f'if running; then echo "still runs after {STOP_TIMEOUT_S} s, pid $pid"; exit 1; fi; '
        "rm -f pid; echo stopped; else echo 'was not running'; fi"
    )
    return [_step(launch, node, script, machines) for node in nodes]


def status_steps(launch: Launch, nodes: Sequence[ListedNode], machines: Machines) -> list[Step]:
    """Return the steps that tell whether nodes run. One that does not ends with 1 and the last line of its log."""
    script = (
        'if running; then echo "runs, pid $pid"; '
        'else echo "does not run; last line of its log: $(tail -n 1 log 2>/dev/null)"; exit 1; fi'
    )
    return [_step(launch, node, script, machines) for node in nodes]


def run_steps(steps: Sequence[Step]) -> list[Done]:
    """Run all steps at once, so that nodes start and stop together. Return how they ended, in order."""
    # Settings of the person's shell are not settings of these nodes: the file alone says.
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PARLEY")}
    running = [
        subprocess.Popen(
            ["sh", "-c", step.line],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C in this terminal does not reach the nodes
        )
        for step in steps
    ]
    return [_end_of(step, process) for step, process in zip(steps, running, strict=True)]


def _end_of(step: Step, process: subprocess.Popen[bytes]) -> Done:
    try:
        output, _ = process.communicate(timeout=STEP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        return Done(step, 1, f"gave no answer within {STEP_TIMEOUT_S:.0f} s")
    return Done(step, process.returncode, output.decode(errors="replace").strip())


def _step(launch: Launch, node: ListedNode, script: str, machines: Machines) -> Step:
    folder = f"{machines.directory}/{node.name}" if node.ssh else str(launch.folder(node))
    whole = f"cd {shlex.quote(folder)} || exit 1; {_RUNNING}; {script}"
    return Step(node, _over_ssh(node, whole, machines) if node.ssh else shlex.join(["sh", "-c", whole]))


def _over_ssh(node: ListedNode, script: str, machines: Machines) -> str:
    # A login shell over there may be any shell, so the script names its own.
    return f"{machines.ssh} {shlex.join(['--', node.ssh, shlex.join(['sh', '-c', script])])}"
