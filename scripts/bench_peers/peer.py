"""What a peer is: how its servers are started, and how clients send and receive."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

SERVERS = 3
PORTS_EACH = 3
HOST = "127.0.0.1"

Note = Callable[[str], None]


class PeerFailedError(Exception):
    """A peer did not start, or cannot do what a row needs. The text says which."""


@dataclass(frozen=True, slots=True)
class Place:
    """One server: its number from 0, its folder, and its ports. The first port is for clients."""

    number: int
    folder: Path
    ports: tuple[int, ...]

    @property
    def name(self) -> str:
        """Return the name that the server gets."""
        return f"s{self.number + 1}"

    @property
    def address(self) -> str:
        """Return the address for clients."""
        return f"{HOST}:{self.ports[0]}"


@dataclass(frozen=True, slots=True)
class Start:
    """A command that becomes a server without another process in between."""

    arguments: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)


class Sender(Protocol):
    """One connection that sends to a queue."""

    async def send(self, body: str, ident: str) -> None:
        """Send one message. Return when the peer has accepted it. Raise if it has not, or nobody knows."""

    async def close(self) -> None:
        """End the connection."""


class Receiver(Protocol):
    """One connection that takes the messages of a queue and acknowledges them."""

    async def run(self, note: Note, *, drain: bool) -> None:
        """Hand every body to `note` until cancelled. With `drain`, messages wait already."""

    async def close(self) -> None:
        """End the connection."""


class Peer(Protocol):
    """A system to compare with."""

    name: str
    programs: Sequence[str]
    durability: str
    remarks: Sequence[str]

    def prepare(self, places: Sequence[Place]) -> Sequence[Start]:
        """Write the servers' files. Return what must run besides, such as a name service."""

    def start(self, place: Place, places: Sequence[Place]) -> Start:
        """Return how a server is started."""

    async def version(self) -> str:
        """Return the version of the program."""

    async def create_queue(self, addresses: Sequence[str], queue: str) -> None:
        """Make a queue on three servers. Raise until the servers are ready for it."""

    async def verify(self, places: Sequence[Place]) -> None:
        """Raise PeerFailedError unless a queue is on three servers."""

    async def leader(self, addresses: Sequence[str], queue: str) -> int:
        """Return the place of the server that leads the queue."""

    async def sender(self, address: str, queue: str, name: str, *, repeats: bool) -> Sender:
        """Connect a sender. With `repeats`, it marks messages so that the peer can detect a repeat, if it can."""

    async def receiver(self, address: str, queue: str) -> Receiver:
        """Connect a receiver."""
