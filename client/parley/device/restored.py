"""The device's file begins the next life of the cluster, which was restored from a backup.

The state of a backup is a beginning of what the former life had. So in each conversation there is one newest message
that both have: all held messages up to it are in the cluster, and those above it are lost. Ids above it come again with
other messages. Whether two messages are the same one is judged by id and time: the cluster's time goes on, so a new
message under an old id has another time.

Of this device's sends, the cluster has those up to the highest number that it names, and no others. What has no result
yet and is above that number was not applied. It waits again and gets the next number that the cluster expects.

All of this is one transaction, together with the position in the new life. A process that is killed leaves the file of
the former life, and the next connection begins anew. All functions run on the store's thread.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import cast

import apsw

from parley.device import directory, lost, outbox
from parley.device.names import Directory
from parley.device.schema import fetch, get_meta, next_revision, set_meta
from parley.device.targets import target_columns, target_of
from parley.model import Account, Conversation, HistoryPage, LostOrigin, Message, MessageStatus, Target
from parley.wire.position import Life, Position

UNKNOWN_TEXT = (
    "The cluster was restored from a backup while this message had no answer. It may have been stored before the "
    "backup. Look before you send it again."
)
NEW_DEVICE = "new_device"
"""Key of meta: 1 if this device is a new one for the restored cluster, so numbers in the outbox are of the former."""
MAX_ID = 2**63 - 1
_HELD = """(SELECT conversation_id, id, sent_at_ms FROM inbox UNION ALL
           SELECT conversation_id, message_id, sent_at_ms FROM outbox WHERE message_id > 0 AND status = 3)"""


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the restored cluster has: `pages` by conversation id, below the newest message that this device holds."""

    life: Life
    conversations: tuple[Conversation, ...] = ()
    accounts: tuple[Account, ...] = ()
    pages: Mapping[int, HistoryPage] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Compared:
    """What became of the messages of this device. Times are of the cluster, 0 for none.

    `sent`, `received`: how many are lost. `since_ms`, `until_ms`: the times of the first and the last of them.
    `has_until_ms`: the time of the newest message that device and cluster both have.
    """

    sent: int = 0
    received: int = 0
    since_ms: int = 0
    until_ms: int = 0
    has_until_ms: int = 0


# ---- what to ask the cluster


def newest_held(connection: apsw.Connection, limit: int) -> list[tuple[int, int]]:
    """Return (conversation, newest message id) of what this device holds, the latest conversations first."""
    rest = f"FROM {_HELD} GROUP BY conversation_id ORDER BY max(sent_at_ms) DESC LIMIT ?"
    return [(row[0], row[1]) for row in fetch(connection, "conversation_id, max(id)", rest, (limit,))]


def are_held(connection: apsw.Connection, messages: Iterable[Message]) -> set[tuple[int, int]]:
    """Return (conversation, id) of those that this device holds from the same cluster."""
    asked = json.dumps([(message.conversation_id, message.id, message.sent_at_ms) for message in messages])
    rest = f"""FROM {_HELD} WHERE (conversation_id, id, sent_at_ms) IN
               (SELECT value ->> 0, value ->> 1, value ->> 2 FROM json_each(?))"""  # noqa: S608 - constants only
    return {(row[0], row[1]) for row in fetch(connection, "conversation_id, id", rest, (asked,))}


# ---- the next life


def begin_life(connection: apsw.Connection, evidence: Evidence) -> Compared:
    """Put what the cluster lost into the list of lost messages. From now on the file belongs to the new life."""
    return _Comparison(connection, evidence).carry_out()


class _Comparison:
    """One change of the file."""

    def __init__(self, connection: apsw.Connection, evidence: Evidence) -> None:
        self._connection = connection
        self._life = evidence.life
        self._evidence = evidence
        self._former = Directory.stored(connection)
        self._listed = {conversation.id: conversation for conversation in evidence.conversations}
        removed = [told for id_ in evidence.pages if (told := self._told(id_)) is not None and told.removed_up_to]
        present = {one.id: one for one in (*evidence.conversations, *removed)}  # the list has nothing that is removed
        self._present = Directory.of(evidence.accounts, tuple(present.values()), self._former.own_id)
        self._former_generation = Position.from_bytes(get_meta(connection, "position", b"")).generation
        self._is_new_device = bool(get_meta(connection, NEW_DEVICE, 0))
        self._known_in_cluster = self._find_common()
        self._boundaries: dict[int, int] = {}
        self._same: dict[int, bool] = {}
        self._lost_numbers: list[int] = []

    def carry_out(self) -> Compared:
        before = self._last_lost_id
        self._move_former_losses()
        self._move_sent()
        self._move_received()
        self._settle_numbers()
        self._direct_waiting()
        self._keep_drafts()
        self._bound_reads()
        self._place(before)
        lost.prune(self._connection)
        compared = self._compared(before)
        for table in ("accounts", "conversations", "members"):
            self._connection.execute(f"DELETE FROM {table}")  # noqa: S608 - names from the line above
        removed = [(id_, up_to) for id_ in self._evidence.pages if (up_to := self._removed_up_to(id_))]
        directory.learn(self._connection, self._evidence.accounts, self._evidence.conversations, removed)
        for key in ("cursor", "out_of_step", NEW_DEVICE):
            set_meta(self._connection, key, None)
        set_meta(self._connection, "position", self._life.position.to_bytes())
        return compared

    # ---- where the cluster ends

    def _find_common(self) -> set[tuple[int, int]]:
        conversations = {*self._listed, *self._evidence.pages}
        return are_held(self._connection, [row for id_ in conversations for row in self._rows(id_)])

    def _rows(self, conversation_id: int) -> list[Message]:
        """Return what is known of the cluster's messages of a conversation."""
        page, listed = self._evidence.pages.get(conversation_id), self._listed.get(conversation_id)
        rows = [] if page is None else list(page.messages)
        return rows + ([listed.last] if listed is not None and listed.last is not None else [])

    def _boundary(self, conversation_id: int) -> int:
        """Return up to which id the cluster has what this device holds of a conversation."""
        if conversation_id not in self._boundaries:
            self._boundaries[conversation_id] = max(
                self._find_boundary(conversation_id), self._removed_up_to(conversation_id)
            )
        return self._boundaries[conversation_id]

    def _find_boundary(self, conversation_id: int) -> int:
        if common := self._newest_common(conversation_id):
            return common
        if not self._is_same(conversation_id):
            return 0
        page, rows = self._evidence.pages.get(conversation_id), self._rows(conversation_id)
        if page is None:  # beyond the bound of questions
            return max((row.id for row in rows), default=0)
        if not page.messages:  # the cluster removes messages after a time
            return MAX_ID
        return page.messages[0].id - 1 if page.has_older else 0

    def _removed_up_to(self, conversation_id: int) -> int:
        """Return up to which message the account has removed a conversation: the cluster shows it none of these."""
        found = self._told(conversation_id)
        return found.removed_up_to if found is not None and self._is_same(conversation_id) else 0

    def _told(self, conversation_id: int) -> Conversation | None:
        page = self._evidence.pages.get(conversation_id)
        return self._listed.get(conversation_id, None if page is None else page.conversation)

    def _newest_common(self, conversation_id: int) -> int:
        """Return the newest message that both have, 0 if no such message is known."""
        ids = (row.id for row in self._rows(conversation_id) if (conversation_id, row.id) in self._known_in_cluster)
        return max(ids, default=0)

    def _is_same(self, conversation_id: int) -> bool:
        """Return whether a conversation id means in the restored cluster what it meant before."""
        if conversation_id not in self._same:
            former = self._former.identity(conversation_id)
            is_named_so = former is not None and former == self._present.identity(conversation_id)
            self._same[conversation_id] = is_named_so or self._newest_common(conversation_id) > 0
        return self._same[conversation_id]

    def _present_id(self, conversation_id: int) -> int:
        """Return the id that a conversation of the former life has now, 0 for none."""
        if self._is_same(conversation_id):
            return conversation_id
        return self._present.direct_with(self._former.peer(conversation_id))

    # ---- what was accepted and received

    def _move_sent(self) -> None:
        """Move accepted messages of this device that the cluster lacks."""
        columns = "local_id, number, message_id, conversation_id, target_kind, target"
        found: dict[int, list[tuple[int, Target]]] = {}
        for local_id, number, message_id, conversation_id, kind, value in fetch(
            self._connection, columns, "FROM outbox WHERE status = 3 ORDER BY local_id"
        ):
            if self._is_new_device:
                is_lost = message_id > self._boundary(conversation_id)
            elif number <= self._life.last_send_number:
                # The backup may be of a life before the one that accepted it, with another message of that number.
                is_lost = message_id > self._boundary(conversation_id) and self._newest_common(conversation_id) > 0
            else:
                is_lost = True
            if is_lost:
                found.setdefault(conversation_id, []).append((local_id, target_of(kind, value)))
                self._lost_numbers += [number] if number else []
        for conversation_id, ones in found.items():
            self._move_own(conversation_id, ones)

    def _move_own(self, conversation_id: int, ones: list[tuple[int, Target]]) -> None:
        """Move messages of the outbox, all of one conversation."""
        for local_id, target in ones:
            name = self._former.title(conversation_id) if conversation_id else self._former.title_of(target)
            recipient = self._recipient(Target(conversation_id=conversation_id) if conversation_id else target)
            recipient = recipient or (target if target.account else None)
            at = "CASE WHEN sent_at_ms > 0 THEN sent_at_ms ELSE created_at_ms END"
            self._insert(
                f"'', body, {at}, urgent FROM outbox WHERE local_id = ?",
                (local_id,),
                LostOrigin.THIS_DEVICE,
                conversation_id,
                name,
                recipient,
            )
            self._connection.execute("DELETE FROM outbox WHERE local_id = ?", (local_id,))

    def _move_received(self) -> None:
        """Move received texts that the cluster lacks. Lost events of conversations are dropped."""
        held = fetch(self._connection, "DISTINCT conversation_id", "FROM inbox")
        for (conversation_id,) in held:
            boundary = self._boundary(conversation_id)
            name, recipient = self._former.title(conversation_id), self._recipient_of(conversation_id)
            for origin, mine in ((LostOrigin.OTHERS, 0), (LostOrigin.OTHER_DEVICE, 1)):
                self._insert(
                    """coalesce((SELECT name FROM accounts WHERE id = sender_id), ''), body, sent_at_ms, urgent
                       FROM inbox WHERE conversation_id = ? AND id > ? AND kind = 1 AND mine = ? ORDER BY id""",
                    (conversation_id, boundary, mine),
                    origin,
                    conversation_id,
                    name,
                    recipient,
                )
            self._connection.execute(
                "DELETE FROM inbox WHERE conversation_id = ? AND id > ?", (conversation_id, boundary)
            )

    def _insert(
        self,
        rows: str,
        bindings: tuple[int, ...],
        origin: LostOrigin,
        conversation_id: int,
        name: str,
        recipient: Target | None,
    ) -> None:
        present = self._present_id(conversation_id) if conversation_id else 0
        kind, value = (0, "") if recipient is None else target_columns(recipient)
        self._connection.execute(
            f"""INSERT INTO lost (generation, origin, conversation, conversation_id, after_id, target_kind, target,
                                  sender, body, sent_at_ms, urgent)
                SELECT ?, ?, ?, ?, 0, ?, ?, {rows}""",
            (self._former_generation, int(origin), name, present, kind, value, *bindings),
        )

    def _place(self, before: int) -> None:
        """Let each lost message stand after what the cluster has of the time before the first one."""
        rest = "FROM lost WHERE id > ? AND conversation_id > 0 GROUP BY conversation_id"
        for conversation_id, first_ms in fetch(self._connection, "conversation_id, min(sent_at_ms)", rest, (before,)):
            earlier = [row.id for row in self._rows(conversation_id) if row.sent_at_ms <= first_ms]
            is_same = self._is_same(conversation_id)
            after_id = max(earlier, default=self._boundary(conversation_id) if is_same else 0)
            self._connection.execute(
                "UPDATE lost SET after_id = ? WHERE id > ? AND conversation_id = ?", (after_id, before, conversation_id)
            )

    def _move_former_losses(self) -> None:
        """Give what an earlier restore lost its place in the new life."""
        for (conversation_id,) in fetch(
            self._connection, "DISTINCT conversation_id", "FROM lost WHERE conversation_id > 0"
        ):
            if self._is_same(conversation_id):
                self._connection.execute(
                    "UPDATE lost SET after_id = min(after_id, ?) WHERE conversation_id = ?",
                    (self._boundary(conversation_id), conversation_id),
                )
                continue
            recipient = self._recipient_of(conversation_id)
            kind, value = (0, "") if recipient is None else target_columns(recipient)
            self._connection.execute(
                "UPDATE lost SET conversation_id = ?, after_id = 0, target_kind = ?, target = ? "
                "WHERE conversation_id = ?",
                (self._present_id(conversation_id), kind, value, conversation_id),
            )

    # ---- what has no result

    def _settle_numbers(self) -> None:
        """Let what the cluster has not applied wait again, and go on with the number that the cluster expects."""
        revision, last = next_revision(self._connection), self._life.last_send_number
        unanswered = MessageStatus.SENDING
        if self._is_new_device:
            # Sends reach the cluster in order. If one is lost, no later one can be in the backup.
            last = min(self._lost_numbers, default=outbox.next_number(self._connection))
            self._set(MessageStatus.UNKNOWN, UNKNOWN_TEXT, revision, f"status = {unanswered:d} AND number <= ?", last)
        if self._life.superseded:  # the copy that sends has these, too
            self._set(MessageStatus.UNKNOWN, UNKNOWN_TEXT, revision, f"status = {unanswered:d} AND number > ?", last)
        self._set(MessageStatus.WAITING, "", revision, f"status = {unanswered:d} AND number > ?", last)
        kept = 0 if self._is_new_device else last
        self._connection.execute("UPDATE outbox SET number = 0 WHERE number > ?", (kept,))
        set_meta(self._connection, "next_number", kept + 1)
        # The indices come again, too.
        self._connection.execute("UPDATE outbox SET known_index = 1 WHERE status = ?", (int(MessageStatus.WAITING),))

    def _set(self, status: MessageStatus, detail: str, revision: int, which: str, last: int) -> None:
        self._connection.execute(
            f"UPDATE outbox SET status = ?, detail = ?, revision = ?, number = 0 WHERE {which}",  # noqa: S608
            (int(status), detail, revision, last),
        )

    def _direct_waiting(self) -> None:
        """Direct what a person or this device may still send to the same recipient, or list it as lost."""
        rest = "FROM outbox WHERE status IN (1, 4, 7) AND target_kind > 1 ORDER BY local_id"
        for local_id, kind, value in fetch(self._connection, "local_id, target_kind, target", rest):
            target = target_of(kind, value)
            recipient = self._recipient(target)
            if recipient is None:
                self._move_own(target.conversation_id, [(local_id, target)])
            elif recipient != target:
                self._connection.execute(
                    "UPDATE outbox SET target_kind = ?, target = ? WHERE local_id = ?",
                    (*target_columns(recipient), local_id),
                )

    def _recipient(self, target: Target) -> Target | None:
        """Return the target that means the same in the restored cluster, None if there is none."""
        if target.conversation_id:
            return self._recipient_of(target.conversation_id)
        name = target.account or self._former.name(target.account_id)
        if target.account_id and name and self._present.name(target.account_id) == name:
            return target
        return Target(account=name) if name else None

    def _recipient_of(self, conversation_id: int) -> Target | None:
        peer = self._former.peer(conversation_id)
        if peer:
            return Target(account=peer)
        return Target(conversation_id=conversation_id) if self._is_same(conversation_id) else None

    # ---- what the person has done

    def _keep_drafts(self) -> None:
        """Keep drafts with their recipients. A draft for a conversation that is gone is removed."""
        for kind, value in fetch(self._connection, "target_kind, target", "FROM drafts WHERE target_kind > 1"):
            recipient = self._recipient(target_of(kind, value))
            if recipient is not None:
                self._connection.execute(
                    "UPDATE OR IGNORE drafts SET target_kind = ?, target = ? WHERE target_kind = ? AND target = ?",
                    (*target_columns(recipient), kind, value),
                )
                if recipient == target_of(kind, value):
                    continue
            self._connection.execute("DELETE FROM drafts WHERE target_kind = ? AND target = ?", (kind, value))

    def _bound_reads(self) -> None:
        """Lower read positions to what the cluster has. Ids above that are of other messages soon."""
        for (conversation_id,) in fetch(self._connection, "conversation_id", "FROM reads"):
            self._connection.execute(
                "UPDATE reads SET up_to = min(up_to, ?), sent_up_to = 0 WHERE conversation_id = ?",
                (self._boundary(conversation_id), conversation_id),
            )
        self._connection.execute("DELETE FROM reads WHERE up_to <= 0")

    # ---- what is said of it

    @property
    def _last_lost_id(self) -> int:
        [(last,)] = self._connection.execute("SELECT coalesce(max(id), 0) FROM lost").fetchall()
        return int(cast(int, last))

    def _compared(self, before: int) -> Compared:
        [lost_row] = fetch(
            self._connection,
            "count(*) FILTER (WHERE origin = 1), count(*) FILTER (WHERE origin <> 1), "
            "coalesce(min(sent_at_ms), 0), coalesce(max(sent_at_ms), 0)",
            "FROM lost WHERE id > ?",
            (before,),
        )
        [(until_ms,)] = fetch(self._connection, "coalesce(max(sent_at_ms), 0)", f"FROM {_HELD}")
        sent, received, since_ms, last_ms = lost_row
        return Compared(sent, received, since_ms, last_ms, until_ms)
