"""Where the pages are served: IPv4, IPv6 and names, and what cannot be listened on."""

from __future__ import annotations

import socket

import pytest

from parleyd.http.sockets import listening_socket


def free_port(host: str, family: socket.AddressFamily) -> int:
    """A port that nobody uses now."""
    with socket.socket(family) as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


@pytest.mark.parametrize(
    ("host", "family", "dialled"),
    [
        ("127.0.0.1", socket.AF_INET, "127.0.0.1"),
        ("localhost", socket.AF_INET, "localhost"),
        ("[::1]", socket.AF_INET6, "::1"),
        ("[::]", socket.AF_INET6, "127.0.0.1"),
    ],
)
def test_an_address_of_any_form_is_listened_on(host: str, family: socket.AddressFamily, dialled: str) -> None:
    if family is socket.AF_INET6 and not socket.has_dualstack_ipv6():
        pytest.skip("this machine has no IPv6")
    port = free_port("::" if family is socket.AF_INET6 else "127.0.0.1", family)
    listening = listening_socket(f"{host}:{port}")
    with listening, socket.create_connection((dialled, port), 5):
        assert not listening.getblocking()


def test_a_port_that_another_has_is_an_error_and_leaves_no_socket() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        with pytest.raises(OSError, match="in use"):
            listening_socket(f"127.0.0.1:{other.getsockname()[1]}")


def test_an_address_of_another_machine_is_an_error() -> None:
    with pytest.raises(OSError, match="assign"):
        listening_socket("192.0.2.1:7800")
