"""`parley ping` and `/ping`: the round trip to each node, and who leads."""

from typing import Annotated, Any

import typer

from parley import ClusterPing, NodePing
from parley.chat import NO_TLS, safe_name
from parley.terminal import text
from parley.terminal.cluster_text import elsewhere_lines
from parley.terminal.command_line import AsJson, with_connection_options
from parley.terminal.commands import say
from parley.terminal.exits import ExitCode
from parley.terminal.options import ConnectionOptions


@with_connection_options
async def ping(
    options: ConnectionOptions,
    count: Annotated[
        int, typer.Option("--count", "-c", min=1, max=1000, help="Measure this many calls to each node.")
    ] = 5,
    as_json: AsJson = False,
) -> int:
    """Measure the round trip to each node, and tell which one leads. Needs no account.

    The exit code is 0 only if every node answered.
    """
    async with options.client() as client:
        found = await client.ping(count=count)
    if as_json:
        say(text.as_json(ping_record(found)))
    else:
        for line in ping_lines(found):
            say(line)
    if found.all_answered:
        return ExitCode.OK
    return ExitCode.TLS if all(node.status.tls_trouble for node in found.nodes) else ExitCode.UNREACHABLE


def ping_lines(found: ClusterPing) -> list[str]:
    """Return a line for each node, and one that counts those that answered."""
    rows = [(safe_name(node.status.name or "?"), node.status.address, _result(node, found)) for node in found.nodes]
    widths = [max((len(row[column]) for row in rows), default=0) for column in range(2)]
    lines = [f"{name.ljust(widths[0])}  {address.ljust(widths[1])}  {result}" for name, address, result in rows]
    lines += elsewhere_lines(found)
    answered = sum(not node.status.error for node in found.nodes)
    if found.nodes and all(node.status.tls_trouble for node in found.nodes):
        return text.safe_lines((*lines, NO_TLS))
    who = f"{safe_name(found.leader)} leads" if found.leader else "nobody leads"
    return text.safe_lines((*lines, f"{answered} of {len(found.nodes)} known nodes answer, {who}."))


def _result(node: NodePing, found: ClusterPing) -> str:
    if node.status.error:
        return f"no answer: {node.status.error}"
    leads = "  leads" if node.status.name == found.leader else ""
    calls = len(node.round_trips_ms)
    return f"min {node.min_ms:.2f} ms, median {node.median_ms:.2f} ms of {calls} calls{leads}"


def ping_record(found: ClusterPing) -> dict[str, Any]:
    """Return the round trips as a record for programs."""
    return {
        "nodes": [
            {
                "name": node.status.name,
                "address": node.status.address,
                "leads": bool(node.status.name) and node.status.name == found.leader,
                "error": node.status.error,
                "min_ms": node.min_ms if node.round_trips_ms else None,
                "median_ms": node.median_ms if node.round_trips_ms else None,
                "round_trips_ms": node.round_trips_ms,
            }
            for node in found.nodes
        ],
        "leader": found.leader,
        "all_answered": found.all_answered,
        "elsewhere": [{"address": one.address, "error": one.error} for one in found.elsewhere],
    }
