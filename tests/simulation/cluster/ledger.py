"""What clients are owed, told from what they were told: sent once, in order, never lost, never seen to go back.

`stored` hears of every row of a conversation that any server stores; senders tell what they sent and what was
acknowledged, readers what they saw, receivers what they were handed and have read. At the end everything is compared
with the state itself.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import cast

import apsw

from parley_proto.v1 import model_pb2
from parley_proto.v1.model_pb2 import MESSAGE_KIND_MEMBERS_JOINED, MESSAGE_KIND_MEMBERS_LEFT, MessageKind
from parleyd.machine.features import waiting
from parleyd.machine.features.conversations import CHANNEL, DIRECT, ConversationCreated
from parleyd.machine.features.memberships import EVERYONE_ID
from parleyd.machine.features.messages import ENTRIES_LEVEL, TEXT, MessageRecord
from parleyd.machine.reader import StateReader
from tests.simulation.cluster.checker import Checker, require

FOR_EVER = 1 << 63
Send = tuple[bytes, int]  # a device's external id and its number for the message


@dataclass
class Ledger:
    """`first_floor`: what had been acknowledged, anywhere, when a message was first sent."""

    checker: Checker
    counters: Counter[str]
    ids: dict[Send, int] = field(default_factory=dict)
    sends: dict[int, Send] = field(default_factory=dict)
    acknowledged: dict[Send, int] = field(default_factory=dict)
    contents: dict[Send, model_pb2.Send] = field(default_factory=dict)
    senders: dict[bytes, int] = field(default_factory=dict)
    created: dict[int, ConversationCreated] = field(default_factory=dict)
    channels: dict[int, int] = field(default_factory=dict)
    events: dict[int, MessageRecord] = field(default_factory=dict)
    read_marks: dict[tuple[int, int], int] = field(default_factory=dict)
    mutes_asked: set[tuple[int, int]] = field(default_factory=set)
    mutes: set[tuple[int, int]] = field(default_factory=set)
    put_away_asked: set[tuple[int, int, int]] = field(default_factory=set)
    put_away: dict[tuple[int, int], int] = field(default_factory=dict)
    removals_asked: set[tuple[int, int, int]] = field(default_factory=set)
    removed: dict[tuple[int, int], int] = field(default_factory=dict)
    first_floor: dict[Send, int] = field(default_factory=dict)
    refused: set[Send] = field(default_factory=set)
    newest_acknowledged: int = 0

    # Sending

    def sent(self, send: Send, account_id: int, content: model_pb2.Send) -> None:
        """A client sends a message for the first time."""
        self.contents[send] = content
        self.senders[send[0]] = account_id
        self.first_floor[send] = self.newest_acknowledged

    def begun(self, conversation: ConversationCreated) -> None:
        """A server has begun a conversation: the same as every other server, and one for each pair."""
        known = self.created.setdefault(conversation.conversation_id, conversation)
        require(known == conversation, f"conversation {known} is begun as {conversation} too")
        if conversation.kind == DIRECT:
            same = [c for c in self.created.values() if (c.kind, c.members) == (DIRECT, conversation.members)]
            require(len(same) == 1, f"two conversations of one pair: {same}")

    def channel_made(self, owner: int, conversation_id: int, members: set[int]) -> None:
        """A client was told of its channel: always of the same one, with the members that it named."""
        self.counters["channel-made"] += 1
        known = self.channels.setdefault(owner, conversation_id)
        require(known == conversation_id, f"one channel of {owner} is made as {known} and as {conversation_id}")
        made = self.created.get(conversation_id)
        require(made is not None and made.kind == CHANNEL, f"channel {conversation_id} is told and not stored")
        assert made is not None
        require(set(made.members) == members, f"channel {conversation_id} is made with {made.members}, not {members}")

    def has_channel_of(self, owner: int) -> bool:
        """Whether the client of that account was told of its channel."""
        return owner in self.channels

    def channels_of(self, account_id: int) -> list[int]:
        """The channels that the account is in and that somebody was told of."""
        return [c for c in sorted(self.channels.values()) if self.is_member(c, account_id, self._newest_row())]

    def is_member(self, conversation_id: int, account_id: int, row_id: int) -> bool:
        """Whether the account was in the conversation when the row of that id was stored."""
        memberships = self.memberships(conversation_id, account_id)
        return any(first <= row_id <= last for first, last in memberships)

    def memberships(self, conversation_id: int, account_id: int) -> list[tuple[int, int]]:
        """The ids of the first and the last row of each membership, as the rows of the conversation say it."""
        if conversation_id == EVERYONE_ID:
            return [(0, FOR_EVER)]
        found = [(0, FOR_EVER)] if account_id in self.created[conversation_id].members else []
        for row_id, event in sorted(self.events.items()):
            if event.conversation_id != conversation_id or account_id not in event.subjects:
                continue
            if event.kind == MESSAGE_KIND_MEMBERS_JOINED:
                found.append((row_id, FOR_EVER))
            elif event.kind == MESSAGE_KIND_MEMBERS_LEFT:
                found[-1] = (found[-1][0], row_id)
        return found

    def was_out_of(self, conversation_id: int, account_id: int) -> None:
        """A client was told that it is not in a conversation: there is a row that says so."""
        memberships = self.memberships(conversation_id, account_id)
        ended = any(last != FOR_EVER for _, last in memberships)
        require(ended or not memberships, f"{account_id} is refused in {conversation_id} and never left it")

    def was_refused(self, send: Send) -> None:
        """A client was told that its message used its number and is not stored."""
        content = self.contents[send]
        self.was_out_of(content.conversation_id, self.senders[send[0]])
        require(send not in self.ids, f"{_name(send)} is refused and stored")
        self.refused.add(send)
        self.counters["send-refused"] += 1

    def _newest_row(self) -> int:
        return max((*self.events, *self.sends), default=0)

    def _could_be_refused(self, send: Send) -> bool:
        return send in self.contents and bool(self.contents[send].conversation_id)

    def stored(self, message: MessageRecord) -> None:
        """A server has stored a row: under the same id as every other server, once, in the sender's order."""
        if message.kind != TEXT:
            self.counters["event-" + MessageKind.Name(cast("MessageKind.ValueType", message.kind))[13:].lower()] += (
                message.id not in self.events
            )
            known_event = self.events.setdefault(message.id, message)
            require(known_event == message, f"row {known_event} is stored as {message} too")
            require(message.id not in self.sends, f"id {message.id} is given to a message and to {message}")
            return
        send = (message.device_id, message.send_number)
        require(message.id not in self.events, f"id {message.id} is given to {_name(send)} and to an event")
        known = self.ids.setdefault(send, message.id)
        require(known == message.id, f"message {_name(send)} is stored as {known} and as {message.id}")
        owner = self.sends.setdefault(message.id, send)
        require(owner == send, f"id {message.id} is given to {_name(owner)} and to {_name(send)}")
        content = self.contents.get(send)
        require(
            content is not None and content.body == message.body,
            f"message {_name(send)} is stored with another text than was sent",
        )
        assert content is not None
        self._is_where_it_was_sent(send, content, message)
        earlier = message.send_number - 1
        while (message.device_id, earlier) not in self.ids and self._could_be_refused((message.device_id, earlier)):
            earlier -= 1  # its sender may have left the channel
        before = self.ids.get((message.device_id, earlier))
        require(
            before is not None if earlier else True,
            f"message {_name(send)} is stored before the one sent before it",
        )
        require(before is None or before < message.id, f"message {_name(send)} is stored out of order")

    def _is_where_it_was_sent(self, send: Send, content: model_pb2.Send, message: MessageRecord) -> None:
        conversation = self.created[message.conversation_id]
        sender = self.senders[send[0]]
        require(message.sender_id == sender, f"{_name(send)} is stored as one of {message.sender_id}")
        is_in = self.is_member(message.conversation_id, sender, message.id)
        require(is_in, f"{_name(send)} is stored in {conversation}, where its sender is not")
        if content.WhichOneof("target") == "conversation_id":
            self.counters["stored-for-all" if content.conversation_id == EVERYONE_ID else "stored-in-channel"] += 1
            require(
                conversation.conversation_id == content.conversation_id,
                f"{_name(send)} is stored in {conversation.conversation_id}, not in {content.conversation_id}",
            )
        elif content.account_id:
            pair = tuple(sorted({sender, content.account_id}))
            require(conversation.members == pair, f"{_name(send)} is stored in {conversation}, not between {pair}")
        else:
            require(conversation.kind == DIRECT, f"{_name(send)} went to a name and is stored in {conversation}")

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

    def was_marked_read(self, conversation_id: int, account_id: int, up_to: int) -> None:
        """A client was told that its read mark is stored."""
        self.counters["marked-read"] += 1
        key = (conversation_id, account_id)
        self.read_marks[key] = max(self.read_marks.get(key, 0), up_to)

    def was_muted(self, conversation_id: int, account_id: int, *, muted: bool) -> None:
        """A client was told that its account has muted a conversation, or has not."""
        self.counters["muted" if muted else "unmuted"] += 1
        if muted:
            self.mutes.add((conversation_id, account_id))

    def was_not_muted(self, conversation_id: int, account_id: int) -> None:
        """A client was told that its account was never in a conversation: it did not begin it."""
        self.counters["mute-refused"] += 1
        is_first = conversation_id == EVERYONE_ID or account_id in self.created[conversation_id].members
        require(not is_first, f"{account_id} began {conversation_id} and may not mute it")

    def was_put_away(self, conversation_id: int, account_id: int, up_to: int) -> None:
        """A client was told up to which message its account has put a conversation away."""
        self.counters["put-away"] += 1
        key = (conversation_id, account_id)
        self.put_away[key] = max(self.put_away.get(key, 0), up_to)

    def was_removed(self, conversation_id: int, account_id: int, up_to: int) -> None:
        """A client was told up to which message its account has removed a conversation."""
        self.counters["removed"] += 1
        key = (conversation_id, account_id)
        self.removed[key] = max(self.removed.get(key, 0), up_to)

    # The end

    def is_final(self, connection: apsw.Connection) -> None:
        """Compare with the state: all that was acknowledged is there once, in every sender's order, nothing else."""
        rows = connection.execute(
            "SELECT id, device, send_number, body, sent_at_ms FROM messages WHERE kind = ? ORDER BY id", (TEXT,)
        ).fetchall()
        final: dict[Send, int] = {}
        last_number: dict[bytes, int] = {}
        last_time = 0
        for message_id, device, number, body, sent_at_ms in cast("list[tuple[int, bytes, int, str, int]]", rows):
            send = (device, number)
            require(send not in final, f"{_name(send)} is in the final state twice")
            content = self.contents.get(send)
            require(
                content is not None and content.body == body, f"{_name(send)} is in the final state with another text"
            )
            skipped = range(last_number.get(device, 0) + 1, number)
            are_refused = all(self._could_be_refused((device, earlier)) for earlier in skipped)
            require(are_refused, f"{_name(send)} does not follow the one sent before it")
            require(sent_at_ms >= last_time, "the time of messages runs backwards")
            final[send], last_number[device], last_time = message_id, number, sent_at_ms
        for send, message_id in self.acknowledged.items():
            require(final.get(send) == message_id, f"{_name(send)} was acknowledged and is not in the final state")
        require(not self.refused & final.keys(), "what was refused is in the final state")
        require(final == self.ids, "servers have stored messages that are not in the final state")
        events = connection.execute("SELECT id FROM messages WHERE kind <> ? ORDER BY id", (TEXT,)).fetchall()
        require([row[0] for row in events] == sorted(self.events), "the final state has other events than were stored")
        self._marks_are_right(connection)
        self._entries_are_right(connection)
        rows = connection.execute("SELECT conversation_id, account_id FROM muted_conversations").fetchall()
        muted = {(conversation_id, account_id) for conversation_id, account_id in cast("list[tuple[int, int]]", rows)}
        require(self.mutes <= muted, f"{self.mutes - muted} was told to be muted and is not in the final state")
        require(muted <= self.mutes_asked, f"{muted - self.mutes_asked} is muted, and nobody asked for that")
        self._put_away_is_right(connection)

    def _put_away_is_right(self, connection: apsw.Connection) -> None:
        """What was put away stays so up to the message that was told or a later one, as somebody asked for it."""
        found = connection.execute("SELECT conversation_id, account_id, up_to FROM put_away_conversations").fetchall()
        rows = cast("list[tuple[int, int, int]]", found)
        final = {(conversation_id, account_id): up_to for conversation_id, account_id, up_to in rows}
        removed = self._removals_are_right(connection)
        for key, up_to in self.put_away.items():
            held = max(final.get(key, 0), removed.get(key, 0))  # what was removed is not put away any more
            require(held >= up_to, f"{key} was put away up to {up_to}, and is up to {held}")
        require({*rows} <= self.put_away_asked, "a conversation is put away as nobody asked for")

    def _removals_are_right(self, connection: apsw.Connection) -> dict[tuple[int, int], int]:
        """Return the final bounds: those that were told or later ones, as somebody asked for them."""
        found = connection.execute("SELECT conversation_id, account_id, up_to FROM removed_conversations").fetchall()
        rows = cast("list[tuple[int, int, int]]", found)
        final = {(conversation_id, account_id): up_to for conversation_id, account_id, up_to in rows}
        for key, up_to in self.removed.items():
            require(final.get(key, 0) >= up_to, f"{key} was removed up to {up_to}, and is up to {final.get(key, 0)}")
        require({*rows} <= self.removals_asked, "a conversation is removed as nobody asked for")
        return final

    def knows_its_removals(
        self, connection: apsw.Connection, account_id: int, cursor: int, told: dict[int, int]
    ) -> None:
        """A device whose cursor is beyond a removal was told of it. Nothing that was removed waits for a new device."""
        query = "SELECT conversation_id, up_to, at_message_id FROM removed_conversations WHERE account_id = ?"
        found = connection.execute(query, (account_id,)).fetchall()
        bounds = {}
        for conversation_id, up_to, at_message_id in cast("list[tuple[int, int, int]]", found):
            bounds[conversation_id] = up_to
            knows = at_message_id >= cursor or told.get(conversation_id, 0) >= up_to
            require(knows, f"a device of {account_id} at {cursor} was not told of the removal of {conversation_id}")
        page = waiting.queued_page(StateReader(connection), account_id, 0, 1_000, b"")
        shown = [one.id for one in page.messages if one.id <= bounds.get(one.conversation_id, 0)]
        require(not shown, f"{shown} waits for a new device of {account_id}, which has removed it")

    def _entries_are_right(self, connection: apsw.Connection) -> None:
        """A row has the committed entry that stored it, from the level on that keeps it."""
        if cast(int, connection.execute("SELECT level FROM meta").get) < ENTRIES_LEVEL:
            return
        rows = connection.execute("SELECT id, entry_term, entry_index FROM messages WHERE entry_index > 0 ORDER BY id")
        last_index = 0
        for message_id, term, index in cast("list[tuple[int, int, int]]", rows.fetchall()):
            known, _ = self.checker.committed.get(index, (0, 0))
            require(known == term, f"row {message_id} was stored by {term}/{index}, and {known}/{index} is committed")
            require(
                index >= last_index, f"row {message_id} was stored by {index}, and the one before it by {last_index}"
            )
            last_index = index
            self.counters["row-with-entry"] += 1

    def _marks_are_right(self, connection: apsw.Connection) -> None:
        """What is read was delivered, nothing beyond the end, nothing that a client was told is lost."""
        rows = connection.execute(
            "SELECT m.conversation_id, m.account_id, m.delivered_up_to, m.read_up_to, c.last_message_id, "
            "(SELECT coalesce(max(d.delivered_up_to), 0) FROM devices d WHERE d.account_id = m.account_id), "
            "(SELECT coalesce(max(g.id), 0) FROM messages g WHERE g.conversation_id = m.conversation_id AND g.id <= "
            "(SELECT max(d.delivered_up_to) FROM devices d WHERE d.account_id = m.account_id)) "
            "FROM members m JOIN conversations c ON c.id = m.conversation_id"
        ).fetchall()
        for conversation_id, account_id, delivered, read, last, cursor, handed_over in cast(
            "list[tuple[int, int, int, int, int, int, int]]", rows
        ):
            whose = f"of {account_id} in {conversation_id}"
            require(read <= delivered <= last, f"the marks {whose} are {delivered} and {read}, and its end is {last}")
            require(delivered >= handed_over, f"{handed_over} was handed over, and the mark {whose} is {delivered}")
            require(delivered <= max(cursor, read), f"the mark {whose} is {delivered}, and its cursor {cursor}")
            known = self.read_marks.get((conversation_id, account_id), 0)
            require(read >= known, f"{known} was marked read, and the mark {whose} is {read}")


def _name(send: Send) -> str:
    return f"{send[0][-1]}#{send[1]}"
