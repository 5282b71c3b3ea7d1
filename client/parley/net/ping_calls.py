"""Measures the round trip of single calls to each node."""

import time
from dataclasses import replace

from parley.cluster_model import ClusterPing, ClusterStatus, NodePing, NodeStatus
from parley.net.unary_caller import UnaryCaller
from parley.wire.endpoints import parse_endpoints


async def ping_nodes(caller: UnaryCaller, status: ClusterStatus, count: int, token: str) -> ClusterPing:
    """Ask each node that answered `count` times more. The connections exist, so no handshake is measured.

    The nodes are asked one after the other, so no answer waits for that of another node.
    """
    nodes = tuple([await _ping(caller, node, count, token) for node in status.nodes])
    return ClusterPing(nodes, status.elsewhere)


async def _ping(caller: UnaryCaller, node: NodeStatus, count: int, token: str) -> NodePing:
    round_trips_ms: list[float] = []
    if not node.error:
        (endpoint,) = parse_endpoints([node.address])
        for _ in range(count):
            began_at = time.perf_counter()
            answer = await caller.status_of(endpoint, token=token)
            if answer.error:
                node = replace(node, error=answer.error, tls_trouble=answer.tls_trouble)
                break
            round_trips_ms.append((time.perf_counter() - began_at) * 1000)
            node = answer
    return NodePing(node, tuple(round_trips_ms))
