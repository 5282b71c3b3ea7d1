"""What clients are owed, told from what they were told: sent once, in order, never lost, never seen to go back.

`stored` hears of every message that any server stores; senders tell what they sent and what was acknowledged, readers
what they saw, receivers what they were handed. At the end everything is compared with the state itself.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import cast

import apsw

from parleyd.machine.features.messages import MessageRecord
from tests.simulation.cluster.checker import Checker, require

Send = tuple[bytes, int]  # a device's external id and its number for the message


@dataclass
class Ledger:
    """`first_floor`: what had been acknowledged, anywhere, when a message was first sent."""

    checker: Checker
    counters: Counter[str]
    ids: dict[Send, int] = field(default_factory=dict)
    sends: dict[int, Send] = field(default_factory=dict)
    acknowledged: dict[Send, int] = field(default_factory=dict)
    bodies: dict[Send, str] = field(default_factory=dict)
    first_floor: dict[Send, int] = field(default_factory=dict)
    newest_acknowledged: int = 0

    # Sending

    def sent(self, send: Send, body: str) -> None:
        """A client sends a message for the first time."""
        self.bodies[send] = body
        self.first_floor[send] = self.newest_acknowledged

    def stored(self, message: MessageRecord) -> None:
        """A server has stored a message: under the same id as every other server, once, in the sender's order."""
        send = (message.device_id, message.send_number)
        known = self.ids.setdefault(send, message.id)
        require(known == message.id, f"message {_name(send)} is stored as {known} and as {message.id}")
        owner = self.sends.setdefault(message.id, send)
        require(owner == send, f"id {message.id} is given to {_name(owner)} and to {_name(send)}")
        require(
            self.bodies.get(send) == message.body, f"message {_name(send)} is stored with another text than was sent"
        )
        before = self.ids.get((message.device_id, message.send_number - 1))
        require(
            before is not None if message.send_number > 1 else True,
            f"message {_name(send)} is stored before the one sent before it",
        )
        require(before is None or before < message.id, f"message {_name(send)} is stored out of order")

    def was_acknowledged(self, send: Send, message_id: int, index: int) -> None:
        """A client was told that its message is stored; `index` is the entry whose result said so."""
        self.checker.has_been_seen(index)
        require(
            self.ids.get(send) == message_id, f"{_name(send)} is acknowledged as {message_id} and not stored as that"
        )
        known = self.acknowledged.get(send)
        if known is not None:
            self.counters["acknowledged-again"] += 1
            require(known == message_id, f"{_name(send)} is acknowledged as {known} and as {message_id}")
            return
        require(
            message_id > self.first_floor[send],
            f"{_name(send)} is {message_id}, older than {self.first_floor[send]}, acknowledged before it was sent",
        )
        self.acknowledged[send] = message_id
        self.newest_acknowledged = max(self.newest_acknowledged, message_id)
        self.counters["acknowledged"] += 1

    # Reading

    def was_read(self, floor_index: int, index: int, last_message_id: int, floor_id: int) -> None:
        """A client has read the state as of `index`; the floors are what had been acknowledged when it asked."""
        require(index >= floor_index, f"a read sees entry {index}, and {floor_index} had been acknowledged before it")
        require(last_message_id >= floor_id, f"a read sees message {last_message_id}, and {floor_id} was acknowledged")
        self.checker.has_been_seen(index)
        self.counters["read-answered"] += 1

    # The end

    def is_final(self, connection: apsw.Connection) -> None:
        """Compare with the state: all that was acknowledged is there once, in every sender's order, nothing else."""
        rows = connection.execute(
            "SELECT id, device, send_number, body, sent_at_ms FROM messages ORDER BY id"
        ).fetchall()
        final: dict[Send, int] = {}
        last_number: dict[bytes, int] = {}
        last_time = 0
        for message_id, device, number, body, sent_at_ms in cast("list[tuple[int, bytes, int, str, int]]", rows):
            send = (device, number)
            require(send not in final, f"{_name(send)} is in the final state twice")
            require(self.bodies.get(send) == body, f"{_name(send)} is in the final state with another text")
            require(number == last_number.get(device, 0) + 1, f"{_name(send)} does not follow the one sent before it")
            require(sent_at_ms >= last_time, "the time of messages runs backwards")
            final[send], last_number[device], last_time = message_id, number, sent_at_ms
        for send, message_id in self.acknowledged.items():
            require(final.get(send) == message_id, f"{_name(send)} was acknowledged and is not in the final state")
        require(final == self.ids, "servers have stored messages that are not in the final state")


def _name(send: Send) -> str:
    return f"{send[0][-1]}#{send[1]}"
