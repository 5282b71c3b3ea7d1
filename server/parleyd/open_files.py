"""The process's limit of open files: raised at the start, and what it leaves for connections of clients.

Each connection takes one. Files and connections of the cluster itself have a reserve that clients never get.
"""

from __future__ import annotations

import resource

import structlog

from parleyd.exits import ExitCode, FatalError

# Databases with their readers, snapshots, peers' connections (channels.MAX_PEER_CONNECTIONS) and outgoing links.
RESERVED_FILES = 768
# What a node with a few peers has in use, with room for snapshots and clients.
MIN_FILES = 128
# Below RESERVED_FILES and this share, clients get the share.
CLIENTS_SHARE = 4


def raise_limit(max_connections: int) -> None:
    """Raise the soft limit as far as the node needs it, and log if the hard limit is too low for that.

    Raises FatalError if no node could work with the hard limit.
    """
    wanted = max_connections + RESERVED_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if most < MIN_FILES:
        raise FatalError(
            ExitCode.FAILED,
            f"the limit of open files is {most}, and a node needs at least {MIN_FILES}. Nothing was started. Raise the "
            "hard limit (ulimit -Hn; systemd: LimitNOFILE) and start the node again.",
        )
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    if most < wanted:
        structlog.get_logger("node").warning(
            "open_file_limit_low",
            effect=f"this node accepts {connections_within(most, max_connections)} connections of clients",
            advice=f"raise the hard limit of open files to {wanted} (systemd: LimitNOFILE), or lower max_connections",
            limit=most,
            needed=wanted,
        )


def allowed_connections(max_connections: int) -> int:
    """Return how many connections of clients this process accepts."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return max_connections if soft == resource.RLIM_INFINITY else connections_within(soft, max_connections)


def connections_within(open_files: int, max_connections: int) -> int:
    """Return how many connections a limit of open files has room for beside the reserve, or a share of a low limit."""
    return min(max_connections, max(open_files // CLIENTS_SHARE, open_files - RESERVED_FILES))
