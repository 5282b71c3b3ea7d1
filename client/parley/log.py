"""The SDK's logger: structlog over the standard library's logging. The program that uses the SDK configures the output.

structlog takes a quarter of the time in which a command starts, so it is loaded with the first event. Message bodies,
passwords and tokens are never logged.
"""

from __future__ import annotations

import functools
import logging
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    import structlog

_base = logging.getLogger("parley.client")
_base.addHandler(logging.NullHandler())


@functools.cache
def logger() -> structlog.stdlib.BoundLogger:
    """Return the logger."""
    import structlog

    made = structlog.wrap_logger(
        _base,
        wrapper_class=structlog.stdlib.BoundLogger,
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.processors.format_exc_info,
            structlog.processors.KeyValueRenderer(key_order=["event"]),
        ],
    )
    return cast("structlog.stdlib.BoundLogger", made)
