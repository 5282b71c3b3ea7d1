"""Raw devices: they speak the protocol and do nothing else, so the figures are the cluster's."""

from __future__ import annotations

import asyncio
import random
import secrets
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Self

import grpc

from parley_proto.v1 import (
    accounts_pb2,
    accounts_pb2_grpc,
    admin_pb2,
    admin_pb2_grpc,
    conversations_pb2,
    conversations_pb2_grpc,
    messaging_pb2,
    messaging_pb2_grpc,
    model_pb2,
)
from parleyd.machine.limits import MAX_IMPORTED_ACCOUNTS
from parleyd.security.passwords import PasswordHasher
from scripts.bench.audit import Stamp, make_body
from scripts.bench.inbox import Inbox, Pacer
from scripts.cluster_status import secure_channel

PASSWORD = "the bench's password"  # noqa: S105 (of a cluster that lives for minutes on loopback)
MAX_SENDS_PER_FRAME = 1024
MAX_NAMED_MEMBERS = 255
MAX_PAGE = 1000
ACKNOWLEDGE_EVERY_S = 0.02
LOG_IN_S, LOG_IN_AGAIN_S = 60.0, 0.5
LATER = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED)
"""What a node answers that has no turn for a log-in. A client tries again."""


class RawAdministrator:
    """An administrator who makes the accounts of a bench. All have the same password, which is hashed once."""

    def __init__(self, session: RawSession, password_hash: str) -> None:
        self._session = session
        self._password_hash = password_hash

    @classmethod
    async def connect(cls, address: str, ca_pem: bytes, account: str, code: str, cost: int) -> Self:
        """Create the administrator's account by a code and log in."""
        request = accounts_pb2.RegisterRequest(
            name=account, password=PASSWORD, request_id=secrets.token_bytes(16), code=code
        )
        async with secure_channel(address, ca_pem) as channel:
            await accounts_pb2_grpc.AccountsStub(channel).Register(request, wait_for_ready=True)
        hasher = PasswordHasher(cost, workers=1)
        hashed = await hasher.hash(PASSWORD)
        hasher.close()
        return cls(await RawSession.log_in(address, ca_pem, account), hashed.decode())

    async def import_accounts(self, accounts: Sequence[str]) -> None:
        """Make accounts that do not exist yet. Raise if one is refused."""
        for first in range(0, len(accounts), MAX_IMPORTED_ACCOUNTS):
            some = accounts[first : first + MAX_IMPORTED_ACCOUNTS]
            for account, result in zip(some, await self._import(some), strict=True):
                if result.status != admin_pb2.IMPORT_STATUS_CREATED:
                    raise RuntimeError(f"{account} was not created: {result.detail or 'it exists already'}")

    async def _import(self, accounts: Sequence[str]) -> Sequence[admin_pb2.ImportedAccount]:
        new = [admin_pb2.AccountToImport(name=account, password_hash=self._password_hash) for account in accounts]
        return (await self._session.import_accounts(admin_pb2.ImportAccountsRequest(accounts=new))).accounts


class RawSession:
    """A logged-in device with a connection of its own to one node."""

    def __init__(self, channel: grpc.aio.Channel, token: str) -> None:
        self._channel = channel
        self._metadata = (("authorization", f"Bearer {token}"),)

    @classmethod
    async def log_in(cls, address: str, ca_pem: bytes, account: str) -> Self:
        """Log in as a new device."""
        channel = secure_channel(address, ca_pem)
        request = accounts_pb2.LogInRequest(name=account, password=PASSWORD, device_id=secrets.token_bytes(16))
        log_in = accounts_pb2_grpc.AccountsStub(channel).LogIn
        until_s = time.monotonic() + LOG_IN_S
        while True:
            try:
                return cls(channel, (await log_in(request, wait_for_ready=True)).token)
            except grpc.aio.AioRpcError as error:  # passwords of a crowd keep all processors busy
                if error.code() not in LATER or time.monotonic() > until_s:
                    raise
            await asyncio.sleep(LOG_IN_AGAIN_S)

    async def create_channel(self, members: Sequence[str]) -> int:
        """Create a channel with these members and the device's account. Return its id."""
        stub = conversations_pb2_grpc.ConversationsStub(self._channel)
        create = conversations_pb2.CreateChannelRequest(title="bench", request_id=secrets.token_bytes(16))
        made = await stub.CreateChannel(create, metadata=self._metadata)
        for first in range(0, len(members), MAX_NAMED_MEMBERS):
            some = members[first : first + MAX_NAMED_MEMBERS]
            add = conversations_pb2.AddMembersRequest(conversation_id=made.conversation_id, members=some)
            await stub.AddMembers(add, metadata=self._metadata)
        return made.conversation_id

    async def import_accounts(self, request: admin_pb2.ImportAccountsRequest) -> admin_pb2.ImportAccountsResponse:
        """Import accounts. The device is an administrator's."""
        return await admin_pb2_grpc.AdminStub(self._channel).ImportAccounts(request, metadata=self._metadata)

    async def connected(self) -> set[str]:
        """Return the names of the accounts that the node lists as connected, of 1,000 at most."""
        request = accounts_pb2.ListConnectedRequest(page_size=MAX_PAGE)
        stub = accounts_pb2_grpc.PresenceStub(self._channel)
        return {one.account.name for one in (await stub.ListConnected(request, metadata=self._metadata)).accounts}

    async def close(self) -> None:
        """Close the connection. The cluster keeps the session."""
        await self._channel.close()

    async def open(self, cursor: bytes = b"") -> Any:
        """Open the stream and read the welcome."""
        call = messaging_pb2_grpc.MessagingStub(self._channel).Connect(metadata=self._metadata)
        await call.write(messaging_pb2.ClientFrame(hello=messaging_pb2.Hello(cursor=cursor)))
        await call.read()
        return call


def _target(text: str) -> dict[str, Any]:
    """Return the field of a send for the name of an account, or for the id of a conversation after `#`."""
    return {"conversation_id": int(text[1:])} if text.startswith("#") else {"account_name": text}


class RawSender:
    """One device on one stream that keeps a number of sends in flight."""

    def __init__(self, account: str, session: RawSession, call: Any) -> None:
        self.session = session
        self.accepted: Counter[str] = Counter()
        self._account = account
        self._call = call
        self._next_number = 1
        self._written: Counter[str] = Counter()
        self._in_flight: dict[int, tuple[str, float]] = {}

    @classmethod
    async def connect(cls, address: str, ca_pem: bytes, account: str) -> Self:
        """Log in and open a stream. The account exists."""
        session = await RawSession.log_in(address, ca_pem, account)
        return cls(account, session, await session.open())

    async def send(self, count: int, in_flight: int, to: Sequence[str]) -> list[float]:
        """Send `count` messages, `in_flight` at a time, to the accounts in turn.

        Return the milliseconds until each was accepted.
        """
        took_ms: list[float] = []
        written = min(in_flight, count)
        await self._write(written, to)
        while len(took_ms) < count:
            accepted = await self._read()
            took_ms += accepted
            more = min(len(accepted), count - written)
            written += more
            await self._write(more, to)
        return took_ms

    async def pace(self, count: int, rate_per_s: float, to: str) -> list[float]:
        """Send at an even pace without waiting for results. Return as `send` does."""

        async def write() -> None:
            pacer = Pacer(count, rate_per_s)
            while due := await pacer.next_due():
                await self._write(len(due), [to], due)

        took_ms: list[float] = []
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(write())
            while len(took_ms) < count:
                took_ms += await self._read()
        return took_ms

    async def _read(self) -> list[float]:
        """Read one frame. Return the milliseconds that the sends took of which it has the results."""
        frame = await self._call.read()
        if not isinstance(frame, messaging_pb2.ServerFrame):
            raise RuntimeError(f"the stream of {self._account} ended: {await self._call.code()}")
        now = time.perf_counter()
        took_ms = []
        for result in frame.results.results:
            if result.status != messaging_pb2.SEND_STATUS_ACCEPTED:
                raise RuntimeError(f"send {result.number} was not accepted: {result.detail}")
            series, sent_at = self._in_flight.pop(result.number)
            self.accepted[series] += 1
            took_ms.append((now - sent_at) * 1000)
        return took_ms

    async def _write(self, count: int, to: Sequence[str], sent_ns: Sequence[int] = ()) -> None:
        """Write `count` sends, stamped with the given times or with now."""
        numbers = range(self._next_number, self._next_number + count)
        self._next_number += count
        now, now_ns = time.perf_counter(), time.monotonic_ns()
        sends = []
        for place, number in enumerate(numbers):
            target = to[number % len(to)]
            series = f"{self._account}>{target}"
            self._written[series] += 1
            body = make_body(Stamp(series, self._written[series], sent_ns[place] if sent_ns else now_ns))
            sends.append(model_pb2.Send(number=number, body=body, **_target(target)))
            self._in_flight[number] = (series, now)
        for first in range(0, count, MAX_SENDS_PER_FRAME):
            some = sends[first : first + MAX_SENDS_PER_FRAME]
            await self._call.write(messaging_pb2.ClientFrame(sends=messaging_pb2.SendBatch(sends=some)))


class RawReceiver:
    """One device that reads, audits and acknowledges what arrives while its stream is open."""

    def __init__(self, session: RawSession) -> None:
        self.inbox = Inbox()
        self._session = session
        self._cursor = b""
        self._reading: asyncio.Task[None] | None = None
        self._call: Any = None
        self._has_news = asyncio.Event()
        self._wanted_at = float("inf")

    @classmethod
    async def connect(cls, address: str, ca_pem: bytes, account: str) -> Self:
        """Log in. The account exists. The stream stays closed."""
        return cls(await RawSession.log_in(address, ca_pem, account))

    async def open(self) -> None:
        """Begin to receive."""
        self._call = await self._session.open(self._cursor)
        self._reading = asyncio.create_task(self._receive())
        self._reading.add_done_callback(self.inbox.ended)

    async def close(self) -> None:
        """End the stream."""
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.wait([self._reading])
            self._call.cancel()

    async def _receive(self) -> None:
        acknowledging = asyncio.create_task(self._acknowledge())
        try:
            await self._read()
        finally:
            acknowledging.cancel()
            await asyncio.gather(acknowledging, return_exceptions=True)

    async def _read(self) -> None:
        while isinstance(frame := await self._call.read(), messaging_pb2.ServerFrame):
            batch = frame.messages
            if not batch.messages:
                continue
            texts = [message.body for message in batch.messages if message.kind == model_pb2.MESSAGE_KIND_TEXT]
            self.inbox.note(texts)
            self._cursor = batch.cursor
            within_s = batch.acknowledge_within_ms / 1000 * random.uniform(0.5, 1)  # noqa: S311 - to spread them
            self._wanted_at = min(self._wanted_at, time.monotonic() + within_s)
            self._has_news.set()
        raise RuntimeError(f"the receiver's stream ended: {await self._call.code()}")

    async def _acknowledge(self) -> None:
        """Acknowledge what has arrived, at most once in ACKNOWLEDGE_EVERY_S and when it is wanted, as the SDK does."""
        while True:
            await self._has_news.wait()
            self._has_news.clear()
            if time.monotonic() < self._wanted_at:
                with suppress(TimeoutError):
                    async with asyncio.timeout(self._wanted_at - time.monotonic()):
                        await self._has_news.wait()  # maybe one that is wanted earlier
                self._has_news.set()
                continue
            self._wanted_at = float("inf")
            delivered = messaging_pb2.Delivered(cursor=self._cursor)
            await self._call.write(messaging_pb2.ClientFrame(delivered=delivered))
            await asyncio.sleep(ACKNOWLEDGE_EVERY_S)
