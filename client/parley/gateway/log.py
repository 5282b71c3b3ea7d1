"""The gateway's log: an event and its fields. Texts of messages, passwords and secrets are never logged."""

import logging
from typing import Any

logger = logging.getLogger("parley.gateway")


def log(event: str, **fields: Any) -> None:
    """Log an event in the past tense with its values."""
    logger.info("%s", " ".join((event, *(f"{name}={value!r}" for name, value in fields.items()))))
