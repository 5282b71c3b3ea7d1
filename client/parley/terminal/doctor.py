"""`parley cluster doctor`: asks every node, and prints what the rules find."""

import time

from parley.terminal import doctor_findings, text
from parley.terminal.commands import say
from parley.terminal.doctor_rules import judge
from parley.terminal.exits import ExitCode
from parley.terminal.options import ConnectionOptions


async def examine(options: ConnectionOptions, *, as_json: bool) -> ExitCode:
    """Print the findings, worst first. Return OK without warnings, else WARNING (10) or CRITICAL (11)."""
    async with options.client() as client:
        nodes = (await client.cluster_status()).nodes
    now_ms = time.time_ns() // 1_000_000
    findings = judge(nodes, now_ms)
    if as_json:
        say(text.as_json(doctor_findings.report(findings, nodes, now_ms)))
    else:
        for line in doctor_findings.lines(findings):
            say(line)
    return doctor_findings.EXITS[doctor_findings.worst(findings)]
