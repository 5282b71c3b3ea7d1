"""What a test's own code logged: gRPC reports there too what an earlier test of the process left."""

from __future__ import annotations

import logging

import pytest


def complaints(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Every warning and error, without gRPC's about an earlier test's loop.

    gRPC has one queue of events for all loops of a process. An event for a loop that is closed ends in an exception of
    the loop that runs then.
    """
    return [
        record.getMessage()
        for record in caplog.records
        if record.levelno >= logging.WARNING and not _is_of_a_closed_loop(record)
    ]


def _is_of_a_closed_loop(record: logging.LogRecord) -> bool:
    error = record.exc_info[1] if record.exc_info else None
    return (
        record.name == "asyncio"
        and "PollerCompletionQueue._handle_events" in record.getMessage()
        and isinstance(error, RuntimeError)
        and str(error) == "Event loop is closed"
    )
