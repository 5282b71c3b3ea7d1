"""Errors of the consensus core.

Two families: a broken invariant means this server can no longer be trusted and must stop; a protocol violation
means one peer sent something no correct server sends, and that peer is to be disconnected.
"""

from __future__ import annotations


class InvariantError(RuntimeError):
    """Something that must always hold does not: stop this server, keep its data directory for examination."""


class PeerProtocolError(ValueError):
    """A peer sent a message that contradicts itself; nothing was changed, drop the connection to that peer."""
