"""A scripted cluster for the client's tests: real gRPC on loopback, state in memory, faults on demand.

`FakeCluster` is the replicated truth all nodes share, with the numbering rules of the real one. `FakeNode` is one
address that can lose answers after applying, ask for retries, call gaps, fall silent, refuse, lose its majority, and
die.
"""

import asyncio
import contextlib
import fnmatch
import hashlib
import os
import secrets
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc

from parley_proto.v1 import accounts_pb2, accounts_pb2_grpc, admin_pb2, admin_pb2_grpc, messaging_pb2_grpc
from parley_proto.v1 import messaging_pb2 as pb

Context = grpc.aio.ServicerContext[Any, Any]


@dataclass
class FakeAccount:
    """A registered account."""

    id: int
    name: str
    password: str
    request_id: bytes


@dataclass
class FakeDevice:
    """A device's cursor, numbers and kept results."""

    account: FakeAccount
    device_id: bytes
    last_send_number: int = 0
    delivered_up_to: int = 0
    results: dict[int, pb.SendResult] = field(default_factory=dict)
    stream: "FakeStream | None" = None


@dataclass
class FakeStream:
    """One open Session stream."""

    device: FakeDevice
    node: "FakeNode"
    down: asyncio.Queue[pb.ServerFrame | None] = field(default_factory=asyncio.Queue)
    replaced: bool = False


class FakeCluster:
    """What all nodes agree on."""

    def __init__(self, cluster_id: str = "c0ffee") -> None:
        self.cluster_id = cluster_id
        self.index = 1
        self.accounts: dict[str, FakeAccount] = {}
        self.tokens: dict[str, FakeDevice] = {}
        self.devices: dict[tuple[int, bytes], FakeDevice] = {}
        self.messages: list[pb.Message] = []
        self.reads: dict[tuple[int, int], int] = {}
        self.nodes: list[FakeNode] = []
        self.leader = "n1"
        self.resent_differently: list[int] = []
        self._fingerprints: dict[tuple[bytes, int], bytes] = {}

    def add_account(self, name: str, password: str = "correct horse", request_id: bytes = b"") -> FakeAccount:
        account = FakeAccount(len(self.accounts) + 1, name, password, request_id)
        self.accounts[name.lower()] = account
        self.index += 1
        return account

    def delete_account(self, account: FakeAccount) -> None:
        del self.accounts[account.name.lower()]
        self.tokens = {t: d for t, d in self.tokens.items() if d.account is not account}
        self.index += 1

    def conversation_id(self, a: FakeAccount, b: FakeAccount) -> int:
        low, high = sorted((a.id, b.id))
        return low * 1000 + high

    def apply(self, device: FakeDevice, send: pb.Send) -> pb.SendResult:
        """The numbering rules: the next number is applied, a lower one answered again, a gap refused."""
        fingerprint = hashlib.sha256(f"{send.recipient}\0{send.body}".encode()).digest()
        known = self._fingerprints.setdefault((device.device_id, send.number), fingerprint)
        if known != fingerprint:
            self.resent_differently.append(send.number)
        if send.number <= device.last_send_number:
            return device.results[send.number]
        if send.number > device.last_send_number + 1:
            del self._fingerprints[(device.device_id, send.number)]
            return pb.SendResult(number=send.number, status=pb.SEND_STATUS_GAP, detail="gap")
        self.index += 1
        device.last_send_number = send.number
        recipient = self.accounts.get(send.recipient.lower())
        if recipient is None:
            result = pb.SendResult(
                number=send.number,
                status=pb.SEND_STATUS_REJECTED,
                detail=f"There is no account {send.recipient}. The message was not sent.",
                applied_index=self.index,
            )
        else:
            message = self.store(device.account, recipient, send.body, device.device_id, send.number)
            result = pb.SendResult(
                number=send.number,
                status=pb.SEND_STATUS_ACCEPTED,
                message_id=message.id,
                conversation_id=message.conversation_id,
                sent_at_ms=message.sent_at_ms,
                applied_index=self.index,
            )
        device.results[send.number] = result
        return result

    def store(
        self, sender: FakeAccount, recipient: FakeAccount, body: str, device_id: bytes = b"x", number: int = 0
    ) -> pb.Message:
        message = pb.Message(
            id=len(self.messages) + 1,
            conversation_id=self.conversation_id(sender, recipient),
            sender_id=sender.id,
            sender=sender.name,
            peer=recipient.name,
            body=body,
            sent_at_ms=1_700_000_000_000 + len(self.messages),
            device_id=device_id,
            send_number=number,
        )
        self.messages.append(message)
        for device in self.devices.values():
            if device.stream is not None and self.concerns(message, device):
                device.stream.down.put_nowait(
                    pb.ServerFrame(messages=pb.MessageBatch(messages=[self.seen_by(message, device)]))
                )
        return message

    def concerns(self, message: pb.Message, device: FakeDevice) -> bool:
        own = message.sender_id == device.account.id
        return (
            (own and message.device_id != device.device_id)
            or (not own and message.conversation_id % 1000 == device.account.id)
            or (not own and message.conversation_id // 1000 == device.account.id)
        )

    def seen_by(self, message: pb.Message, device: FakeDevice) -> pb.Message:
        seen = pb.Message()
        seen.CopyFrom(message)
        if message.sender_id != device.account.id:
            seen.peer = message.sender
        return seen

    def bodies_for(self, name: str) -> list[str]:
        account = self.accounts[name.lower()]
        return [
            m.body for m in self.messages if m.sender_id != account.id and account.id in divmod(m.conversation_id, 1000)
        ]

    def news(self) -> pb.ClusterNews:
        return pb.ClusterNews(
            leader=self.leader,
            has_majority=True,
            nodes=[pb.NodeInfo(name=n.name, client_address=n.advertised, up=n.up) for n in self.nodes],
            applied_index=self.index,
            term=1,
        )

    def broadcast(self, frame: pb.ServerFrame) -> None:
        for device in self.devices.values():
            if device.stream is not None:
                device.stream.down.put_nowait(frame)


@dataclass
class Faults:
    """What a node does wrong; tests switch these at any time."""

    lose_answers: int = 0  # unary answers to lose after applying
    lose_results: bool = False  # apply sends, never answer them
    retry: int = 0  # sends to answer with RETRY
    gap: int = 0  # sends to call a gap
    hang: bool = False  # take everything, say nothing
    unavailable: str = ""  # refuse everything with UNAVAILABLE and this text
    no_majority: bool = False
    break_after_sends: int = 0  # end the stream, UNAVAILABLE, after applying so many send frames
    unauthenticated: int = 0  # Session streams to refuse
    redeliver: int = 0  # messages below the cursor sent again at the start of a stream
    max_in_flight: int = 1024


def _own_loopback() -> str:
    """A loopback address of this process alone, where the system has more than one.

    A node that starts again needs its port again. On 127.0.0.1 another process may have it by then, or a connection
    that tries to reach the node may come from that very port.
    """
    host = f"127.{64 + (os.getpid() >> 16) % 64}.{(os.getpid() >> 8) % 256}.{os.getpid() % 256}"
    with socket.socket() as probe, contextlib.suppress(OSError):
        probe.bind((host, 0))
        return host
    return "127.0.0.1"


class FakeNode:
    """One address of the cluster."""

    def __init__(self, cluster: FakeCluster, name: str) -> None:
        self.cluster = cluster
        self.name = name
        self.host = _own_loopback()
        self.port = 0
        self.advertised = ""
        self.up = False
        self.faults = Faults()
        self.sessions = 0
        self.pings = 0
        self.hellos: list[pb.Hello] = []
        self.frames: list[pb.ClientFrame] = []
        self.called: list[str] = []
        self.reached = asyncio.Event()
        self._released = asyncio.Event()
        self._server: grpc.aio.Server | None = None

    @property
    def address(self) -> str:
        return f"{self.host}:{self.port}"

    async def start(self, credentials: grpc.ServerCredentials | None = None, port: int = 0) -> None:
        server = grpc.aio.server(
            options=(("grpc.so_reuseport", 0), ("grpc.http2.min_ping_interval_without_data_ms", 500))
        )
        accounts_pb2_grpc.add_AccountsServicer_to_server(_Accounts(self), server)
        messaging_pb2_grpc.add_MessagingServicer_to_server(_Messaging(self), server)
        admin: Any = _Admin  # without the methods clients have no use for
        admin_pb2_grpc.add_AdminServicer_to_server(admin(self), server)
        self.host = self.host if credentials is None else "127.0.0.1"  # which certificates name
        target = f"{self.host}:{port or self.port}"
        self.port = (
            server.add_insecure_port(target) if credentials is None else server.add_secure_port(target, credentials)
        )
        self.advertised = self.advertised or self.address
        await server.start()
        self._server = server
        self.up = True

    async def die(self) -> None:
        """Every connection breaks at once."""
        self.up = False
        if self._server is not None:
            await self._server.stop(0)
            self._server = None

    def release(self) -> None:
        """Ends a hang."""
        self.faults.hang = False
        self._released.set()

    async def enter(self, name: str, context: Context) -> None:
        """What every call meets first."""
        self.called.append(name)
        self.reached.set()
        if self.faults.hang:
            await self._released.wait()
        if self.faults.unavailable:
            await context.abort(grpc.StatusCode.UNAVAILABLE, self.faults.unavailable)

    async def leave(self, context: Context) -> None:
        """What every unary call meets after it was applied."""
        if self.faults.lose_answers > 0:
            self.faults.lose_answers -= 1
            await context.abort(grpc.StatusCode.INTERNAL, "the answer was lost")

    async def device(self, context: Context) -> FakeDevice:
        metadata = dict(context.invocation_metadata() or ())
        value = str(metadata.get("authorization", ""))
        device = self.cluster.tokens.get(value.removeprefix("Bearer "))
        if device is None:
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, "the session has ended; log in again")
            raise AssertionError
        return device


class _Accounts(accounts_pb2_grpc.AccountsServicer):
    def __init__(self, node: FakeNode) -> None:
        self.node = node
        self.cluster = node.cluster

    async def Register(self, request: accounts_pb2.RegisterRequest, context: Context) -> accounts_pb2.RegisterResponse:
        await self.node.enter("Register", context)
        existing = self.cluster.accounts.get(request.name.lower())
        if len(request.password) < 8:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "password has too few characters")
        if existing is not None and existing.request_id != request.request_id:
            await context.abort(grpc.StatusCode.ALREADY_EXISTS, f"the name {request.name} is taken")
        if existing is None:
            self.cluster.add_account(request.name, request.password, request.request_id)
        await self.node.leave(context)
        return accounts_pb2.RegisterResponse(applied_index=self.cluster.index)

    async def LogIn(self, request: accounts_pb2.LogInRequest, context: Context) -> accounts_pb2.LogInResponse:
        await self.node.enter("LogIn", context)
        account = self.cluster.accounts.get(request.name.lower())
        if account is None or account.password != request.password:
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, "wrong name or password")
            raise AssertionError
        device = self.cluster.devices.setdefault(
            (account.id, request.device_id), FakeDevice(account, request.device_id)
        )
        token = secrets.token_hex(16)
        self.cluster.tokens[token] = device
        self.cluster.index += 1
        await self.node.leave(context)
        return accounts_pb2.LogInResponse(
            token=token,
            account_id=account.id,
            last_send_number=device.last_send_number,
            delivered_up_to=device.delivered_up_to,
            applied_index=self.cluster.index,
        )

    async def LogOut(self, request: accounts_pb2.LogOutRequest, context: Context) -> accounts_pb2.LogOutResponse:
        await self.node.enter("LogOut", context)
        device = await self.node.device(context)
        self.cluster.tokens = {t: d for t, d in self.cluster.tokens.items() if d is not device}
        await self.node.leave(context)
        return accounts_pb2.LogOutResponse(applied_index=self.cluster.index)

    async def Unregister(
        self, request: accounts_pb2.UnregisterRequest, context: Context
    ) -> accounts_pb2.UnregisterResponse:
        await self.node.enter("Unregister", context)
        device = await self.node.device(context)
        if device.account.password != request.password:
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, "wrong password")
        self.cluster.delete_account(device.account)
        await self.node.leave(context)
        return accounts_pb2.UnregisterResponse(applied_index=self.cluster.index)

    async def ListAccounts(
        self, request: accounts_pb2.ListAccountsRequest, context: Context
    ) -> accounts_pb2.ListAccountsResponse:
        await self.node.enter("ListAccounts", context)
        await self.node.device(context)
        pattern = request.pattern.lower() or "*"
        found = sorted(
            (a for a in self.cluster.accounts.values() if fnmatch.fnmatchcase(a.name.lower(), pattern)),
            key=lambda account: account.name,
        )
        found = [account for account in found if account.name > request.after_name]
        limit = request.page_size or 100
        return accounts_pb2.ListAccountsResponse(
            accounts=[accounts_pb2.AccountInfo(account_id=a.id, name=a.name) for a in found[:limit]],
            next_after_name=found[limit - 1].name if len(found) > limit else "",
            applied_index=self.cluster.index,
        )


class _Admin(admin_pb2_grpc.AdminServicer):
    def __init__(self, node: FakeNode) -> None:
        self.node = node

    async def GetStatus(self, request: admin_pb2.GetStatusRequest, context: Context) -> admin_pb2.GetStatusResponse:
        await self.node.enter("GetStatus", context)
        cluster = self.node.cluster
        return admin_pb2.GetStatusResponse(
            cluster_id=cluster.cluster_id,
            node_name=self.node.name,
            role="leader" if cluster.leader == self.node.name else "follower",
            term=1,
            commit_index=cluster.index,
            applied_index=cluster.index,
            leader=cluster.leader,
            serving=not self.node.faults.no_majority,
            members=[
                admin_pb2.MemberStatus(name=n.name, client_address=n.advertised, voter=True, connected=n.up)
                for n in cluster.nodes
            ],
            pid=4711,
            version="fake",
        )


class _Messaging(messaging_pb2_grpc.MessagingServicer):
    def __init__(self, node: FakeNode) -> None:
        self.node = node
        self.cluster = node.cluster

    async def Session(self, frames: AsyncIterator[pb.ClientFrame], context: Context) -> AsyncIterator[pb.ServerFrame]:
        node, cluster = self.node, self.cluster
        await node.enter("Session", context)
        if node.faults.unauthenticated:
            node.faults.unauthenticated -= 1
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, "the session has ended; log in again")
        device = await node.device(context)
        first = await anext(aiter(frames))
        node.hellos.append(first.hello)
        node.sessions += 1
        if device.stream is not None:
            device.stream.replaced = True
            device.stream.down.put_nowait(None)
        stream = FakeStream(device, node)
        device.stream = stream
        cursor = max(device.delivered_up_to, first.hello.received_up_to)
        news = cluster.news()
        news.has_majority = not node.faults.no_majority
        yield pb.ServerFrame(
            welcome=pb.Welcome(
                account_id=device.account.id,
                account=device.account.name,
                last_send_number=device.last_send_number,
                delivered_up_to=device.delivered_up_to,
                node_name=node.name,
                news=news,
                max_message_bytes=65536,
                max_sends_in_flight=node.faults.max_in_flight,
            )
        )
        queued = [
            cluster.seen_by(m, device)
            for m in cluster.messages
            if m.id > cursor - node.faults.redeliver and cluster.concerns(m, device)
        ]
        for start in range(0, len(queued), 100):
            yield pb.ServerFrame(messages=pb.MessageBatch(messages=queued[start : start + 100]))
        yield pb.ServerFrame(caught_up=pb.CaughtUp(up_to=len(cluster.messages)))
        reader = asyncio.ensure_future(self._read(frames, stream, context))
        try:
            while (frame := await stream.down.get()) is not None:
                if node.faults.hang:
                    await node._released.wait()
                yield frame
        finally:
            reader.cancel()
            if device.stream is stream:
                device.stream = None
        if stream.replaced:
            await context.abort(grpc.StatusCode.ABORTED, "another stream of this device took over")
        if node.faults.break_after_sends < 0:
            node.faults.break_after_sends = 0
            await context.abort(grpc.StatusCode.UNAVAILABLE, "Connection reset by fault")

    async def _read(self, frames: AsyncIterator[pb.ClientFrame], stream: FakeStream, context: Context) -> None:
        node, cluster = self.node, self.cluster
        async for frame in frames:
            node.frames.append(frame)
            if node.faults.hang:
                await node._released.wait()
            match frame.WhichOneof("frame"):
                case "ping":
                    node.pings += 1
                    stream.down.put_nowait(pb.ServerFrame(pong=pb.Pong(nonce=frame.ping.nonce)))
                case "delivered":
                    stream.device.delivered_up_to = max(stream.device.delivered_up_to, frame.delivered.up_to)
                    self._receipts(stream.device, read=False)
                case "mark_read":
                    key = (frame.mark_read.conversation_id, stream.device.account.id)
                    cluster.reads[key] = max(cluster.reads.get(key, 0), frame.mark_read.up_to)
                    self._receipts(stream.device, read=True)
                case "sends":
                    self._take(frame.sends, stream)

    def _take(self, sends: pb.SendBatch, stream: FakeStream) -> None:
        node, cluster = self.node, self.cluster
        results = []
        for send in sends.sends:
            if node.faults.no_majority:
                results.append(pb.SendResult(number=send.number, status=pb.SEND_STATUS_RETRY, detail="no majority"))
            elif node.faults.retry:
                node.faults.retry -= 1
                results.append(pb.SendResult(number=send.number, status=pb.SEND_STATUS_RETRY, detail="no leader"))
            elif node.faults.gap:
                node.faults.gap -= 1
                results.append(pb.SendResult(number=send.number, status=pb.SEND_STATUS_GAP, detail="gap"))
            else:
                results.append(cluster.apply(stream.device, send))
        if node.faults.break_after_sends > 0:
            node.faults.break_after_sends -= 1
            if node.faults.break_after_sends == 0:
                node.faults.break_after_sends = -1
                stream.down.put_nowait(None)
                return
        if not node.faults.lose_results:
            stream.down.put_nowait(pb.ServerFrame(results=pb.SendResultBatch(results=results)))

    def _receipts(self, reader: FakeDevice, *, read: bool) -> None:
        cluster = self.cluster
        for device in cluster.devices.values():
            if device.stream is None or device.account is reader.account:
                continue
            conversation = cluster.conversation_id(device.account, reader.account)
            receipt = pb.Receipt(
                conversation_id=conversation,
                account_id=reader.account.id,
                delivered_up_to=reader.delivered_up_to,
                read_up_to=cluster.reads.get((conversation, reader.account.id), 0) if read else 0,
            )
            device.stream.down.put_nowait(pb.ServerFrame(receipts=pb.ReceiptBatch(receipts=[receipt])))

    async def ListConversations(
        self, request: pb.ListConversationsRequest, context: Context
    ) -> pb.ListConversationsResponse:
        await self.node.enter("ListConversations", context)
        device = await self.node.device(context)
        last: dict[int, pb.Message] = {}
        unread: dict[int, int] = {}
        for message in self.cluster.messages:
            if device.account.id not in divmod(message.conversation_id, 1000):
                continue
            last[message.conversation_id] = self.cluster.seen_by(message, device)
            read = self.cluster.reads.get((message.conversation_id, device.account.id), 0)
            if message.sender_id != device.account.id and message.id > read:
                unread[message.conversation_id] = unread.get(message.conversation_id, 0) + 1
        conversations = [
            pb.Conversation(id=id_, peer=m.peer, last_message=m, unread=unread.get(id_, 0))
            for id_, m in sorted(last.items(), key=lambda item: -item[1].id)
        ]
        return pb.ListConversationsResponse(conversations=conversations, applied_index=self.cluster.index)

    async def GetHistory(self, request: pb.GetHistoryRequest, context: Context) -> pb.GetHistoryResponse:
        await self.node.enter("GetHistory", context)
        device = await self.node.device(context)
        peer = self.cluster.accounts.get(request.peer.lower())
        if peer is None:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"there is no account {request.peer}")
            raise AssertionError
        conversation = self.cluster.conversation_id(device.account, peer)
        found = [
            self.cluster.seen_by(m, device)
            for m in self.cluster.messages
            if m.conversation_id == conversation and (not request.before_id or m.id < request.before_id)
        ]
        limit = request.limit or 100
        return pb.GetHistoryResponse(
            messages=found[-limit:],
            more=len(found) > limit,
            applied_index=self.cluster.index,
            conversation_id=conversation,
        )


@asynccontextmanager
async def running_cluster(
    names: Sequence[str] = ("n1",), credentials: grpc.ServerCredentials | None = None
) -> AsyncIterator[FakeCluster]:
    """Nodes on free ports, stopped at the end."""
    cluster = FakeCluster()
    cluster.nodes = [FakeNode(cluster, name) for name in names]
    try:
        for node in cluster.nodes:
            await node.start(credentials)
        yield cluster
    finally:
        for node in cluster.nodes:
            node.release()
            await node.die()
