"""Reads a systemd unit, and runs a program under those of its restrictions that need no systemd.

`python -m tests.support.unit_file UNIT COMMAND...`: the unit's filter of system calls, its address families, umask,
limits and NoNewPrivileges hold for the command.
"""

from __future__ import annotations

import ctypes
import errno
import os
import resource
import socket
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

Sections = dict[str, dict[str, list[str]]]

_ALLOW = 0x7FFF0000
_DENY = 0x00050000 | errno.EPERM
_EQUAL = 4
_NO_NEW_PRIVILEGES = 38


def read_unit(file: Path) -> Sections:
    """Return the values of each key in their order, because systemd lets a key stand several times."""
    found: Sections = {}
    section = ""
    for line in file.read_text().splitlines():
        text = line.strip()
        if not text or text[0] in "#;":
            continue
        if text[0] == "[" and text[-1] == "]":
            section = text[1:-1]
            found[section] = defaultdict(list)
            continue
        key, equals, value = text.partition("=")
        assert equals, line
        assert section, line
        found[section][key].append(value)
    return found


def allowed_calls(service: dict[str, list[str]]) -> set[str]:
    """Return the system calls that SystemCallFilter leaves, by the sets of this machine's systemd."""
    allowed: set[str] = set()
    for position, value in enumerate(service["SystemCallFilter"]):
        calls = {call for name in value.removeprefix("~").split() for call in _expand(name)}
        assert position or not value.startswith("~"), "a list of denied calls alone would allow all others"
        allowed = allowed - calls if value.startswith("~") else allowed | calls
    # systemd adds @default to every list of allowed calls.
    return allowed | _expand("@default")


def _expand(name: str) -> set[str]:
    if not name.startswith("@"):
        return {name}
    shown = subprocess.run(["systemd-analyze", "syscall-filter", name], capture_output=True, text=True, check=True)
    members = [line.strip() for line in shown.stdout.splitlines()[1:] if line.strip() and line.strip()[0] != "#"]
    return {call for member in members for call in _expand(member)}


class _Compared(ctypes.Structure):
    _fields_ = (
        ("arg", ctypes.c_uint),
        ("op", ctypes.c_int),
        ("datum_a", ctypes.c_uint64),
        ("datum_b", ctypes.c_uint64),
    )


def restrict(service: dict[str, list[str]]) -> None:
    """Put this process and its children under the restrictions."""
    os.umask(int(service["UMask"][-1], 8))
    for name, limit in (("LimitNOFILE", resource.RLIMIT_NOFILE), ("LimitCORE", resource.RLIMIT_CORE)):
        wanted, hard = int(service[name][-1]), resource.getrlimit(limit)[1]
        most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(limit, (most, most))
    calls = allowed_calls(service)
    families = [int(getattr(socket, name)) for name in service["RestrictAddressFamilies"][-1].split()]
    library = ctypes.CDLL("libseccomp.so.2", use_errno=True)
    library.seccomp_init.restype = ctypes.c_void_p
    rules = ctypes.c_void_p(library.seccomp_init(ctypes.c_uint32(_DENY)))
    for call in sorted(calls):
        number = library.seccomp_syscall_resolve_name(call.encode())
        if number < 0:  # of another architecture
            continue
        if call == "socket":
            for family in families:
                only = (_Compared * 1)(_Compared(0, _EQUAL, family, 0))
                assert library.seccomp_rule_add_array(rules, ctypes.c_uint32(_ALLOW), number, 1, only) == 0
            continue
        assert library.seccomp_rule_add_array(rules, ctypes.c_uint32(_ALLOW), number, 0, None) == 0, call
    if service["NoNewPrivileges"][-1] == "yes":
        ctypes.CDLL(None).prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0)
    assert library.seccomp_load(rules) == 0


if __name__ == "__main__":
    restrict(read_unit(Path(sys.argv[1]))["Service"])
    os.execvp(sys.argv[2], sys.argv[2:])
