"""The SDK's logger: structlog in front of the standard library's, so that a program that uses the SDK decides where
it goes.

Never given message bodies, passwords or tokens.
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
