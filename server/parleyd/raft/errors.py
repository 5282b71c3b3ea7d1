"""Errors of the consensus core.

There are two families. A broken invariant means that this server must stop. A protocol violation means that a peer sent
what no correct server sends, and its connection is closed.
"""

from __future__ import annotations


class InvariantError(RuntimeError):
    """An invariant is broken: stop this server and keep its data directory for examination."""


class PeerProtocolError(ValueError):
    """A peer sent a message that contradicts itself. Nothing was changed; close the connection to that peer."""
