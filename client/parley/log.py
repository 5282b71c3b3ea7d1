"""The SDK's logger: structlog over the standard library's logging. The program that uses the SDK configures the output.

Message bodies, passwords and tokens are never logged.
"""

import logging
from typing import cast

import structlog

_base = logging.getLogger("parley.client")
_base.addHandler(logging.NullHandler())

logger = cast(
    structlog.stdlib.BoundLogger,
    structlog.wrap_logger(
        _base,
        wrapper_class=structlog.stdlib.BoundLogger,
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.processors.format_exc_info,
            structlog.processors.KeyValueRenderer(key_order=["event"]),
        ],
    ),
)
