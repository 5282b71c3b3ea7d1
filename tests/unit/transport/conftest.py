"""What all tests of the peer port have."""

from __future__ import annotations

import pytest

from parleyd.transport import channels


@pytest.fixture(autouse=True)
def _connecting_takes_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a connection take its time: on a busy machine 100 ms are too short, and the call ends with UNAVAILABLE."""
    name = "grpc.min_reconnect_backoff_ms"
    assert name in dict(channels.CHANNEL_OPTIONS)
    options = [(key, 3_000 if key == name else value) for key, value in channels.CHANNEL_OPTIONS]
    monkeypatch.setattr(channels, "CHANNEL_OPTIONS", options)
