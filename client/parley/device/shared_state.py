"""The state of the connection as the process that holds the device lock shares it with others of the same account."""

import json
from dataclasses import asdict
from typing import Any

from parley.client_state import ClientState, Node
from parley.strict_json import parse_json

KEY = "shared_state"
_FIELDS = (
    "node",
    "address",
    "leader",
    "has_majority",
    "lost",
    "trying",
    "problem",
    "tls_trouble",
    "superseded",
    "notice",
)


def dump(state: ClientState) -> str:
    """Return the state as text for the file."""
    document: dict[str, Any] = {name: getattr(state, name) for name in _FIELDS}
    document["nodes"] = [asdict(node) for node in state.nodes]
    return json.dumps(document)


def parse(text: str) -> dict[str, Any]:
    """Return the fields of a ClientState. Empty if the text is missing, damaged, or of another version."""
    try:
        document = parse_json(text or "{}")
        fields = {name: document[name] for name in _FIELDS}
        nodes = tuple(Node(n["name"], n["address"], n["up"]) for n in document["nodes"])
    except (ValueError, KeyError, TypeError):
        return {}
    expected = ClientState()
    has_types = all(type(value) is type(getattr(expected, name)) for name, value in fields.items())
    is_sound = has_types and all(
        isinstance(node.name, str) and isinstance(node.address, str) and isinstance(node.up, bool) for node in nodes
    )
    return {**fields, "nodes": nodes} if is_sound else {}
