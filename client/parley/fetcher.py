"""Receives and sends an account's messages by single calls, for a program that holds no stream.

The file is the same as with a stream: messages are stored with the cursor after them, sends have their numbers before
they leave. The cursor of the next fetch acknowledges what is stored. So a lost answer loses nothing and doubles
nothing. The device lock is held from the first call on, because only one process may be the device.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import apsw

from parley.account import LocalAccount
from parley.device import directory, identity, inbox, outbox, schema
from parley.device.identity import DeviceIdentity
from parley.errors import BadInputError, ClusterBehindError, NotSignedInError
from parley.model import Outgoing
from parley.net.cluster_client import ClusterClient
from parley.net.unary_caller import bearer
from parley.wire import convert
from parley.wire.actions import TellStatus
from parley.wire.position import Life, Position, merge, was_restored
from parley.wire.stream import OUTCOMES, with_outcome
from parley_proto.v1 import messaging_pb2 as pb
from parley_proto.v1.messaging_pb2_grpc import MessagingStub

T = TypeVar("T")

MAX_FETCHED = 256
MAX_WAIT_S = 10.0
"""For how long one call waits. A node that hangs is left after that."""
LOCK_POLL_S = 0.1
MAX_PUSHED = 128
MAX_PUSHED_BYTES = 256 * 1024


@dataclass(frozen=True, slots=True)
class FetchResult:
    """What a fetch without a stream brought.

    `received`: new messages that are stored on this device now. `more`: others may wait in the cluster already.
    `is_connected_elsewhere`: another process of this account receives the messages, so nothing was fetched.
    `superseded`: another copy of this device's files sends for it, so nothing is acknowledged.
    """

    received: int = 0
    more: bool = False
    is_connected_elsewhere: bool = False
    superseded: bool = False


class Fetcher:
    """The calls of one account in use."""

    def __init__(self, account: LocalAccount, cluster: ClusterClient) -> None:
        self._account = account
        self._cluster = cluster
        self._welcome: pb.Welcome | None = None  # of the latest answer

    async def fetch(self, wait_s: float, limit: int) -> FetchResult:
        """Store the next messages, at most `limit`. Wait up to `wait_s` for the first one."""
        if not 0 < limit <= MAX_FETCHED:
            raise BadInputError(f"A fetch brings 1 to {MAX_FETCHED} messages, not {limit}. Nothing was fetched.")
        ends_at = asyncio.get_running_loop().time() + wait_s
        while True:
            who = await self._who()
            left_s = max(0.0, ends_at - asyncio.get_running_loop().time())
            if who is None and not left_s:
                return FetchResult(is_connected_elsewhere=True)
            if who is None:
                await asyncio.sleep(min(left_s, LOCK_POLL_S))
                continue
            result = await self._fetch_once(who, min(left_s, MAX_WAIT_S), limit)
            if result is not None and (result.received or result.more or left_s <= MAX_WAIT_S):
                return result

    async def push(self) -> int:
        """Send what waits in the outbox. Return how many messages wait afterwards.

        Raises UnreachableError if no node answered. Then it is not known whether the cluster has the messages of the
        last call. The next call, or stream, sends them with the same numbers and gets the first results.
        """
        await self.fetch(0.0, 1)  # the answer has the highest number that the cluster has applied
        who, welcome = await self._who(), self._welcome
        if who is not None and welcome is not None and not welcome.superseded:
            last = welcome.last_send_number
            unanswered = await self._account.store.write(lambda c: outbox.begin_session(c, last))
            while sends := unanswered or await self._account.store.write(lambda c: outbox.claim(c, MAX_PUSHED)):
                batch = _first_of(sends)
                if not await self._push_once(who, batch):
                    break
                unanswered = sends[len(batch) :]
        return await self._account.store.read(outbox.count_open)

    async def _who(self) -> DeviceIdentity | None:
        who = await self._account.connection.take_device()
        if who is not None and not who.token:
            raise NotSignedInError(
                f"{self._account.profile.account} is not signed in. Nothing was fetched. Sign in: parley login "
                f"{self._account.profile.account}"
            )
        return who

    async def _fetch_once(self, who: DeviceIdentity, wait_s: float, limit: int) -> FetchResult | None:
        """Send one call and store its answer. Return None if the cluster went back and the next call begins anew."""
        seen = merge(who.position, self._account.position)
        hello = pb.Hello(cursor=who.cursor, seen=seen.to_wire(), claim=who.claim.to_wire())
        request = pb.FetchRequest(hello=hello, wait_ms=int(wait_s * 1000), limit=limit)
        try:
            answer = await self._cluster.call(
                lambda channel: MessagingStub(channel).Fetch(request, metadata=bearer(who.token)),
                changes=False,
                answer_s=wait_s,
            )
        except ClusterBehindError:
            return None  # the caller of the cluster has made the device forget what it had seen
        if was_restored(who.position, answer.welcome.generation):
            await self._account.cluster_restored(Life.of(answer.welcome), who)
            return None
        return await self._store(who, answer)

    async def _store(self, who: DeviceIdentity, answer: pb.FetchResponse) -> FetchResult:
        welcome, position = answer.welcome, Position.from_wire(answer.position)
        messages = tuple(convert.message(one, welcome.account.id, who.device_id) for one in answer.messages.messages)
        accounts = convert.accounts([welcome.account, *answer.directory.accounts])
        conversations = tuple(map(convert.conversation, answer.directory.conversations))
        removed = convert.removals(answer.directory.removed)

        def store(connection: apsw.Connection) -> int:
            after = answer.messages.cursor
            inbox.check_follows(connection, who.cursor)  # refuses before anything is written
            directory.learn(connection, accounts, conversations, removed)  # names, by which mentions are found
            count = inbox.insert(connection, messages, before=who.cursor, after=after)
            identity.raise_position(connection, position)
            if welcome.max_message_bytes:
                schema.set_meta(connection, "max_message_bytes", welcome.max_message_bytes)
            if welcome.superseded:
                identity.set_superseded(connection)
            return count

        def tell(received: int) -> None:
            self._welcome = welcome
            status = welcome.status
            self._account.status_told(TellStatus(status.leader, status.has_majority, convert.nodes(status), position))
            self._account.seen(position)
            self._account.learned(accounts, conversations, removed)
            if received:
                self._account.received(received)

        received = await self._stored(store, tell)
        return FetchResult(received, answer.more, superseded=welcome.superseded)

    async def _push_once(self, who: DeviceIdentity, batch: list[Outgoing]) -> bool:
        """Send one call and store the results. Return false if a message has to be sent again later."""
        request = pb.PushRequest(sends=map(convert.send, batch), claim=who.claim.to_wire())
        answer = await self._cluster.call(
            lambda channel: MessagingStub(channel).Push(request, metadata=bearer(who.token)),
            changes=False,  # the number makes the outcome known to the next call
        )
        by_number = {message.number: message for message in batch}
        settled = [
            with_outcome(by_number[result.number], result)
            for result in answer.results
            if result.status in OUTCOMES and result.number in by_number
        ]
        position = Position.from_wire(answer.position)

        def store(connection: apsw.Connection) -> None:
            outbox.settle(connection, settled)
            identity.raise_position(connection, position)

        def tell(_: None) -> None:
            self._account.seen(position)
            self._account.settled(settled)

        await self._stored(store, tell)
        return len(settled) == len(batch)

    async def _stored(self, store: Callable[[apsw.Connection], T], tell: Callable[[T], None]) -> T:
        """Store an answer and tell of it. Both happen, too, if the call is cancelled meanwhile.

        The next answer does not have what this one had, so readers and waiting callers would not hear of it.
        """

        def done(stored: asyncio.Future[T]) -> None:
            if not stored.cancelled() and stored.exception() is None:
                tell(stored.result())

        writing = self._account.store.start_write(store)
        writing.add_done_callback(done)
        return await asyncio.shield(writing)


def _first_of(sends: list[Outgoing]) -> list[Outgoing]:
    """Return the first sends, at least one, that are one call."""
    batch: list[Outgoing] = []
    size = 0
    for message in sends[:MAX_PUSHED]:
        size += len(message.body.encode())
        if batch and size > MAX_PUSHED_BYTES:
            break
        batch.append(message)
    return batch
