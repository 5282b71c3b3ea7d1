"""Contexts: names for clusters, with hosts, CA and account of each, in the file `contexts.json` of the state folder.

    {"format": 1, "current": "ward", "contexts": {"ward": {"hosts": ["n1:7600"], "ca": "/etc/ca.pem",
     "insecure": false, "account": "kim"}}}

People write this file with `parley context`, and may edit it. So a damaged one is told and never replaced: without it,
a message could go to another cluster.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from parley import BadInputError, ParleyError, StateDirectory, parse_json, read_private, replace_private
from parley.chat import safe_name
from parley.inviting import check_context_name, is_context_name

FORMAT = 1
FILE = "contexts.json"
MAX_BYTES = 1 << 20
_KINDS: dict[str, type] = {"hosts": list, "ca": str, "insecure": bool, "account": str}


@dataclass(frozen=True, slots=True)
class Context:
    """A cluster, and the account there. An empty account: the one that signed in there last."""

    hosts: tuple[str, ...]
    ca: str = ""
    insecure: bool = False
    account: str = ""

    def to_json(self) -> dict[str, object]:
        """Return the values for the file and for --json."""
        return {"hosts": list(self.hosts), "ca": self.ca, "insecure": self.insecure, "account": self.account}


@dataclass(frozen=True, slots=True)
class Contexts:
    """The contexts of one state folder. `current` is the one in use, empty if there is none."""

    path: Path
    by_name: Mapping[str, Context] = field(default_factory=dict)
    current: str = ""

    @classmethod
    def load(cls, state_dir: Path | None) -> "Contexts":
        """Read the file. Raises BadInputError if it is damaged."""
        path = StateDirectory(state_dir).root / FILE
        try:
            document = parse_json(read_private(path, MAX_BYTES).decode("utf-8-sig"))
        except FileNotFoundError:
            if (link := dangling_link(path)) is not None:
                raise _damaged(path, f"{link} is a link to something that is not there") from None
            return cls(path)
        except (OSError, ValueError) as error:
            raise _damaged(path, str(error)) from error
        if not isinstance(document, dict):
            raise _damaged(path, "it holds no object")
        if document.get("format") != FORMAT:
            raise _damaged(path, f"its format is {document.get('format')!r}, and this release reads {FORMAT}")
        contexts, current = document.get("contexts", {}), document.get("current", "")
        if not isinstance(contexts, dict) or not isinstance(current, str):
            raise _damaged(path, "contexts must be an object and current a text")
        if current and current not in contexts:
            raise _damaged(path, f"current is {current!r}, which is no context")
        return cls(path, {name: _parse(path, name, one) for name, one in contexts.items()}, current)

    def named(self, name: str, source: str) -> Context:
        """Return a context. Raises BadInputError with its source if there is none of that name."""
        found = self.by_name.get(name)
        if found is None:
            known = ", ".join(sorted(self.by_name)) or "none"
            raise BadInputError(
                f"There is no context {name!r} ({source}). Nothing was done. Known are: {known}. To make one: parley "
                f"context add {name if is_context_name(name) else 'NAME'} --host HOST:PORT --ca FILE."
            )
        return found

    def with_context(self, name: str, context: Context) -> "Contexts":
        """Return the contexts with a new one, or with other values of a known one."""
        return replace(self, by_name={**self.by_name, check_context_name(name): context})

    def without(self, name: str) -> "Contexts":
        """Return the contexts without one. If it is in use, none is in use."""
        left = {other: one for other, one in self.by_name.items() if other != name}
        return replace(self, by_name=left, current=self.current if self.current in left else "")

    def save(self) -> None:
        """Replace the whole file. Raises ParleyError, and leaves the file as it was, if that fails."""
        document = {
            "format": FORMAT,
            "current": self.current,
            "contexts": {name: one.to_json() for name, one in sorted(self.by_name.items())},
        }
        path = Path(os.path.realpath(self.path))  # a link stays, and what it leads to is replaced
        try:
            replace_private(path, json.dumps(document, indent=1) + "\n")
        except OSError as error:
            raise ParleyError(f"The file {self.path} cannot be written ({error}). It is as it was before.") from error


def dangling_link(path: Path) -> Path | None:
    """Return the link without a target that hides a file, or None if the file just does not exist."""
    there = next((part for part in (path, *path.absolute().parents) if os.path.lexists(part)), None)
    return there if there is not None and there.is_symlink() and not there.exists() else None


def _parse(path: Path, name: str, value: Any) -> Context:
    if not is_context_name(name):
        raise _damaged(path, f"{name!r} cannot be the name of a context")
    if not isinstance(value, dict):
        raise _damaged(path, f"the context {name} is no object")
    unknown = sorted(set(value) - set(_KINDS))
    if unknown:
        raise _damaged(path, f"the context {name} has unknown values: {safe_name(', '.join(unknown))}")
    for key, kind in _KINDS.items():
        if not isinstance(value.get(key, kind()), kind):
            raise _damaged(path, f"{key} of the context {name} has the wrong type")
    hosts = value.get("hosts", [])
    if not hosts or not all(isinstance(host, str) for host in hosts):
        raise _damaged(path, f"hosts of the context {name} must be a list of addresses")
    return Context(tuple(hosts), value.get("ca", ""), value.get("insecure", False), value.get("account", ""))


def _damaged(path: Path, why: str) -> BadInputError:
    return BadInputError(
        f"The file {path} with the contexts cannot be used: {why}. It was not changed, and no cluster was asked. Mend "
        "it, or move it away and add the contexts again: parley context add."
    )
