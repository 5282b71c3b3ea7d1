"""What gRPC says to a caller that writes while its call ends: an error of its own, not the status of the node."""

from __future__ import annotations

from typing import Any


async def lost_its_status(call: Any) -> bool:
    """Return whether the status of the node, with which a call ended, is lost. Waits for the end of the call."""
    return "Internal error from Core" in (await call.details() or "")
