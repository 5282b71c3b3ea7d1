"""Operations on the client's file: what one transaction runs, in its order."""

import asyncio
import itertools
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import apsw

from parley.device import outbox
from parley.errors import ParleyError


@dataclass(slots=True)
class Operation:
    """A function to run in the transaction, or messages to add to the outbox, and what came of it.

    `adds` states that it may put messages into the outbox. Nobody waits for one without a future.
    """

    run: Callable[[apsw.Connection], Any] | outbox.Addition
    write: bool
    future: asyncio.Future[Any] | None
    adds: bool = False
    result: Any = None
    error: Exception | None = None


def run_each(connection: apsw.Connection, operations: Iterable[Operation]) -> None:
    """Run operations in their order. Additions that follow one another take few steps of SQLite together.

    One that refuses (ParleyError) fails alone.
    """
    for is_addition, some in itertools.groupby(operations, lambda one: isinstance(one.run, outbox.Addition)):
        if is_addition:
            _add_all(connection, list(some))
        else:
            for operation in some:
                _run_one(connection, operation)


def _add_all(connection: apsw.Connection, operations: list[Operation]) -> None:
    additions = [operation.run for operation in operations if isinstance(operation.run, outbox.Addition)]
    for operation, added in zip(operations, outbox.add_each(connection, additions), strict=True):
        if isinstance(added, ParleyError):
            operation.error = added
        else:
            operation.result = added


def _run_one(connection: apsw.Connection, operation: Operation) -> None:
    assert not isinstance(operation.run, outbox.Addition)
    try:
        operation.result = operation.run(connection)
    except ParleyError as error:
        operation.error = error
