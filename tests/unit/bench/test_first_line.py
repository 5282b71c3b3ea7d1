"""The line that a row which failed is reported with."""

from __future__ import annotations

import asyncio

import grpc
import pytest

from scripts.bench.process import ClientError, first_line


def test_the_status_of_a_call_stands_for_its_text() -> None:
    error = grpc.aio.AioRpcError(
        grpc.StatusCode.UNAVAILABLE, grpc.aio.Metadata(), grpc.aio.Metadata(), details="no majority"
    )
    assert first_line(error) == "UNAVAILABLE: no majority"
    assert first_line(ExceptionGroup("tasks", [ExceptionGroup("inner", [error]), OSError()])) == first_line(error)


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("first\nsecond"), "ValueError: first"),
        (asyncio.CancelledError(), "CancelledError: "),
        (ClientError("Traceback:\n  ...\n    +-----\nUNAVAILABLE: no majority"), "UNAVAILABLE: no majority"),
        (ClientError(""), ""),
    ],
)
def test_other_errors_have_their_kind_and_a_client_the_end_of_its_text(error: BaseException, line: str) -> None:
    assert first_line(error) == line
