"""Says in plain words why a connection failed. gRPC tells it in texts for its own authors, and nowhere else."""

import re

CLOSED = "the other side closed the connection"
MOST_CHARACTERS = 160

_CAUSES = (
    (("Connection refused",), "nothing accepts connections there"),
    (
        ("DNS resolution failed", "errors resolving", "empty address", "Domain name not found"),
        "its name has no address",
    ),
    (("ping timeout", "Deadline", "timed out", "timeout", "FD Shutdown"), "it did not answer in time"),
    (("No route to host", "Network is unreachable", "Host is unreachable"), "the network has no way to it"),
    (("Connection reset", "Broken pipe", "recvmsg", "Internal error from Core"), "the connection was cut"),
    (("Socket closed",), CLOSED),  # what a node with TLS does with a connection without it, too
    (("GOAWAY", "Cancelling all calls", "Stream removed", "RST_STREAM"), "the connection was ended"),
    (("handshake failed", "Handshake"), "no encrypted connection came about"),
    (("Operation not permitted", "Permission denied"), "this machine does not permit the connection"),
    (("Too many open files",), "this machine has too many open files"),
    (("failed to connect to all addresses",), "no connection came about"),
)
_PREFIX = re.compile(r"^[A-Z_]+:\s*(?:ipv[46]:\S+:\s*|unix:\S+:\s*)?")


def cause(details: str) -> str:
    """Return the text of gRPC in plain words, for one line. A sentence that a node wrote stays as it is."""
    tail = details.rsplit("last error: ", 1)[-1]
    for text in (tail, details):
        for signs, words in _CAUSES:
            if any(sign in text for sign in signs):
                return words
    said = " ".join(_PREFIX.sub("", tail).split())
    return said if len(said) <= MOST_CHARACTERS else said[: MOST_CHARACTERS - 3] + "..."


def in_brackets(details: str) -> str:
    """Return the cause behind a sentence, or nothing if gRPC told none."""
    words = cause(details)
    return f" ({words})" if words else ""
