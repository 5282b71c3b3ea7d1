"""What `parleyd doctor` asks of the network is bounded and changes nothing."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest

from parleyd.addresses import parse_address
from parleyd.doctor.facts import PortState
from parleyd.doctor.network import all_at_once, look_at_names, look_at_peers, look_at_port, reachable


@pytest.fixture
def listener() -> Iterator[str]:
    """Somebody listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


@pytest.fixture
def free() -> str:
    """Nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"127.0.0.1:{server.getsockname()[1]}"


def test_a_port_that_is_free_can_be_listened_on_afterwards(free: str) -> None:
    assert look_at_port("client_listen", free, is_running=False).state is PortState.FREE
    with socket.create_server(("127.0.0.1", parse_address(free).port)):
        pass


def test_a_port_that_another_process_has_is_taken(listener: str) -> None:
    look = look_at_port("client_listen", listener, is_running=False)
    assert (look.setting, look.state) == ("client_listen", PortState.TAKEN)


def test_an_address_of_another_machine_cannot_be_listened_on() -> None:
    look = look_at_port("peer_listen", "192.0.2.1:7700", is_running=False)
    assert look.state is PortState.UNUSABLE
    assert look.detail


def test_a_running_node_answers_at_its_port_or_is_silent(listener: str, free: str) -> None:
    assert look_at_port("client_listen", listener, is_running=True).state is PortState.ANSWERS
    silent = look_at_port("client_listen", free, is_running=True)
    assert silent.state is PortState.SILENT
    assert silent.detail


@pytest.mark.parametrize(
    ("listen", "expected"),
    [("0.0.0.0:7600", "127.0.0.1:7600"), ("[::]:7600", "[::1]:7600"), ("10.0.0.1:7600", "10.0.0.1:7600")],
)
def test_a_node_that_listens_everywhere_is_reached_on_this_machine(listen: str, expected: str) -> None:
    assert str(reachable(parse_address(listen))) == expected


def test_peers_that_answer_have_no_error_and_the_others_have(listener: str, free: str) -> None:
    up, down = look_at_peers({"n2": listener, "n3": free})
    assert (up.name, up.address, up.error) == ("n2", listener, "")
    assert (down.name, down.address) == ("n3", free)
    assert "refused" in down.error


def test_each_host_is_asked_for_once_and_an_own_one_is_marked(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def getaddrinfo(host: str, *_: object, **__: object) -> list[object]:
        asked.append(host)
        if host == "nowhere":
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return []

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    looks = look_at_names(["here:7600", "here:7700"], ["nowhere:7700", "here:7800"])
    assert sorted(asked) == ["here", "nowhere"]
    assert {(look.host, look.is_own, look.error) for look in looks} == {
        ("here", True, ""),
        ("nowhere", False, "Name or service not known"),
    }


def test_what_takes_too_long_is_not_waited_for() -> None:
    release = threading.Event()

    def wait() -> str:
        release.wait()
        return ""

    try:
        assert all_at_once({"slow": wait, "fast": lambda: "done"}, "late", 0.2) == {"slow": "late", "fast": "done"}
    finally:
        release.set()
