from __future__ import annotations

import ipaddress
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parleyd.addresses import Address, AddressError, parse_address, parse_host

PORTS = st.integers(1, 65_535)
LABELS = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?", fullmatch=True)
NAMES = st.lists(LABELS, min_size=1, max_size=4).map(".".join).filter(lambda name: not name.split(".")[-1].isdigit())


@given(st.ip_addresses(), PORTS)
def test_every_ip_address_with_a_port_is_read_and_written_back(
    ip: ipaddress.IPv4Address | ipaddress.IPv6Address, port: int
) -> None:
    text = f"[{ip}]:{port}" if ip.version == 6 else f"{ip}:{port}"
    address = parse_address(text)
    assert address.port == port
    assert ipaddress.ip_address(address.host) == ip
    assert parse_address(str(address)) == address


@given(NAMES, PORTS)
def test_every_dns_name_with_a_port_is_read_and_written_back(name: str, port: int) -> None:
    assert parse_address(f"{name}:{port}") == Address(name, port)
    assert parse_address(f"{name.upper()}:{port}") == Address(name, port)


@given(st.text(max_size=80))
def test_any_text_is_either_an_address_or_refused_as_such(text: str) -> None:
    with suppress(AddressError):  # anything else fails the test
        address = parse_address(text)
        assert parse_address(str(address)) == address


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "port is missing"),
        ("host", "port is missing"),
        ("host:", "port is ''"),
        (":7600", "host is missing"),
        ("host:0", "from 1 to 65535"),
        ("host:65536", "from 1 to 65535"),
        ("host:-1", "from 1 to 65535"),
        ("host:+80", "from 1 to 65535"),
        ("host: 80", "from 1 to 65535"),
        ("host:8_0", "from 1 to 65535"),
        ("host:８０", "from 1 to 65535"),
        ("host:80\n", "from 1 to 65535"),
        ("::1:7600", "in brackets"),
        ("[::1]", r"\[::1\]:7600"),
        ("[::1", r"\[::1\]:7600"),
        ("[::1]7600", r"\[::1\]:7600"),
        ("[127.0.0.1]:7600", "not an IPv6 address"),
        ("[fe80::1%eth0]:7600", "network interface"),
        ("256.0.0.1:7600", "looks like an IPv4"),
        ("010.0.0.1:7600", "looks like an IPv4"),
        ("10.0.1:7600", "looks like an IPv4"),
        ("wörd:7600", "neither an IP address nor a DNS name"),
        ("-a:7600", "neither an IP address nor a DNS name"),
        ("a-:7600", "neither an IP address nor a DNS name"),
        ("a..b:7600", "neither an IP address nor a DNS name"),
        ("a b:7600", "neither an IP address nor a DNS name"),
        ("http://a:7600", "in brackets"),
        (f"{'a' * 64}:7600", "neither an IP address nor a DNS name"),
        (f"{'.'.join(['abcdefg'] * 40)}:7600", "neither an IP address nor a DNS name"),
    ],
)
def test_what_is_no_address_is_refused_with_the_reason(text: str, reason: str) -> None:
    with pytest.raises(AddressError, match=reason):
        parse_address(text)


def test_ipv6_has_one_spelling() -> None:
    assert str(parse_address("[0:0:0:0:0:0:0:1]:7000")) == "[::1]:7000"
    assert parse_host("2001:DB8::1") == "2001:db8::1"


@pytest.mark.parametrize("host", ["127.0.0.1", "127.3.2.1", "[::1]", "localhost", "[::ffff:127.0.0.1]"])
def test_loopback_is_recognised(host: str) -> None:
    assert parse_address(f"{host}:1").is_loopback


@pytest.mark.parametrize("host", ["10.0.0.1", "0.0.0.0", "[::]", "ward-a", "localhost.example", "128.0.0.1"])
def test_what_other_machines_reach_is_not_loopback(host: str) -> None:
    assert not parse_address(f"{host}:1").is_loopback


@pytest.mark.parametrize("host", ["0.0.0.0", "[::]", "[::ffff:0.0.0.0]"])
def test_every_interface_is_recognised_as_an_address_nobody_can_dial(host: str) -> None:
    assert parse_address(f"{host}:1").is_unspecified
    assert not parse_address("127.0.0.1:1").is_unspecified
