"""The attacks, by the number of the rule that each is about."""

from __future__ import annotations

import asyncio
import secrets
from contextlib import suppress
from typing import Any

import grpc.aio

from parley_proto.v1 import (
    accounts_pb2,
    accounts_pb2_grpc,
    conversations_pb2,
    messaging_pb2,
    messaging_pb2_grpc,
    model_pb2,
)
from tests.abuse.attack import MIB, Attack, Bounds, Stage
from tests.abuse.scenes import GatewayWithoutLinks, SmallDisks

NEVER = model_pb2.Position(groups=[model_pb2.GroupIndex(group=0, index=1 << 40)])
LONG = "x" * 65_536
UNKNOWN_TOKEN = (("authorization", "Bearer " + "A" * 43),)


async def padded_strangers(stage: Stage) -> None:
    """400 requests of 1 MiB at once, which wait for a position of the future, without any token."""
    request = accounts_pb2.ListAccountsRequest(pattern="x" * MIB, seen=NEVER)
    async with stage.channels(9) as channels:
        stubs = [accounts_pb2_grpc.AccountsStub(channel) for channel in channels]
        await stage.keep_busy(400, lambda place: stubs[place % 9].ListAccounts(request, timeout=20))


async def padded_log_ins(stage: Stage) -> None:
    """400 requests of 1 MiB at once to a method that anybody may call."""
    request = accounts_pb2.LogInRequest(name="x" * MIB)
    async with stage.channels(9) as channels:
        stubs = [accounts_pb2_grpc.AccountsStub(channel) for channel in channels]
        await stage.keep_busy(400, lambda place: stubs[place % 9].LogIn(request, timeout=20))


async def positions_of_the_future(stage: Stage) -> None:
    """2,000 small calls of a member at once, which wait for a position of the future."""
    request = accounts_pb2.ListAccountsRequest(seen=NEVER)
    async with stage.channels(30) as channels:
        stubs = [accounts_pb2_grpc.AccountsStub(channel) for channel in channels]
        await stage.keep_busy(
            2_000, lambda place: stubs[place % 30].ListAccounts(request, metadata=stage.metadata(), timeout=20)
        )


async def burst_of_strangers(stage: Stage) -> None:
    """1,500 calls at once with tokens that nobody has, and again when they are answered."""
    request = accounts_pb2.ListAccountsRequest()
    async with stage.channels(8) as channels:
        stubs = [accounts_pb2_grpc.AccountsStub(channel) for channel in channels]
        while True:
            calls = (
                stubs[place % 8].ListAccounts(request, metadata=UNKNOWN_TOKEN, timeout=10) for place in range(1_500)
            )
            await asyncio.gather(*map(stage.note, calls))


async def store_long_messages(stage: Stage) -> None:
    await stage.store(20, LONG)


async def unread_pages(stage: Stage) -> None:
    """60 pages of history that nobody reads."""
    request = conversations_pb2.GetHistoryRequest(account_name=stage.name, limit=1000)
    async with stage.channels(60) as channels:

        async def ask(place: int) -> None:
            call: Any = channels[place].stream_stream("/parley.v1.Conversations/GetHistory")(metadata=stage.metadata())
            await call.write(request.SerializeToString())
            await asyncio.sleep(10)  # the answer arrives, and stays where it is
            call.cancel()

        await stage.keep_busy(60, ask)


async def unread_queues(stage: Stage) -> None:
    """Sessions that read nothing, whose queue has long messages."""
    async with stage.channels(12) as channels:

        async def ask(place: int) -> None:
            session = place % len(stage.tokens)
            call = messaging_pb2_grpc.MessagingStub(channels[place]).Connect(metadata=stage.metadata(session))
            await call.write(messaging_pb2.ClientFrame(hello=messaging_pb2.Hello()))
            await asyncio.sleep(10)
            call.cancel()

        await stage.keep_busy(12, ask)


async def flood_of_long_messages(stage: Stage) -> None:
    """Twelve sessions of one account that send 64 KiB bodies without pause."""
    async with stage.channels(12) as channels:

        async def flood(place: int) -> None:
            call: Any = messaging_pb2_grpc.MessagingStub(channels[place]).Connect(metadata=stage.metadata(place))
            await call.write(messaging_pb2.ClientFrame(hello=messaging_pb2.Hello()))
            frame = await call.read()
            number = frame.welcome.last_send_number

            async def read() -> None:
                while (frame := await call.read()) is not grpc.aio.EOF:
                    for result in frame.results.results:
                        stage.counts[messaging_pb2.SendStatus.Name(result.status)] += 1

            reading = asyncio.ensure_future(read())
            try:
                while not reading.done():
                    sends = [
                        model_pb2.Send(number=number + each, account_name=stage.name, body=LONG) for each in range(1, 5)
                    ]
                    number += 4
                    await call.write(messaging_pb2.ClientFrame(sends=messaging_pb2.SendBatch(sends=sends)))
            finally:
                reading.cancel()
                call.cancel()

        await stage.keep_busy(12, flood)


async def flood_of_marks(stage: Stage) -> None:
    """Twelve sessions of one account that send marks of conversations which may be newer than the node."""
    async with stage.channels(12) as channels:

        async def flood(place: int) -> None:
            call = messaging_pb2_grpc.MessagingStub(channels[place]).Connect(metadata=stage.metadata(place))
            await call.write(messaging_pb2.ClientFrame(hello=messaging_pb2.Hello()))
            await call.read()
            number = 0
            while not call.done():
                number += 1
                read = messaging_pb2.Read(conversation_id=1_000_000 + number % 500, up_to=1 << 50)
                await call.write(messaging_pb2.ClientFrame(read=read))
                stage.counts["marks"] += 1
                if not number % 50:
                    await asyncio.sleep(0)

        await stage.keep_busy(12, flood)


async def fill_the_disks(stage: Stage) -> None:
    """Twelve sessions of one account that send 64 KiB bodies without pause, each number until it is accepted."""
    async with stage.channels(12) as channels:

        async def fill(place: int) -> None:
            call = messaging_pb2_grpc.MessagingStub(channels[place]).Connect(metadata=stage.metadata(place))
            await call.write(messaging_pb2.ClientFrame(hello=messaging_pb2.Hello()))
            number = 0
            async for frame in call:
                if frame.HasField("welcome"):
                    number = frame.welcome.last_send_number
                for result in frame.results.results:
                    stage.counts[messaging_pb2.SendStatus.Name(result.status)] += 1
                    number = max(number, result.number * (result.status == messaging_pb2.SEND_STATUS_ACCEPTED))
                if frame.HasField("welcome") or frame.HasField("results"):
                    send = model_pb2.Send(number=number + 1, account_name=stage.name, body=LONG)
                    await call.write(messaging_pb2.ClientFrame(sends=messaging_pb2.SendBatch(sends=[send])))

        await stage.keep_busy(12, fill)


async def wait_at_a_gateway(stage: Stage) -> None:
    """1,000 commands at a node that cannot reach its leader, sent again when it gives them back, and then one more."""
    sessions = 4
    written = asyncio.Barrier(sessions + 1)
    async with stage.channels(sessions + 1) as channels:

        async def wait(place: int) -> None:
            call = messaging_pb2_grpc.MessagingStub(channels[place]).Connect(metadata=stage.metadata(place))
            await call.write(messaging_pb2.ClientFrame(hello=messaging_pb2.Hello()))

            async def send(*numbers: int) -> None:
                for number in numbers:
                    send = model_pb2.Send(number=number, account_name=stage.name, body="waits")
                    await call.write(messaging_pb2.ClientFrame(sends=messaging_pb2.SendBatch(sends=[send])))

            async for frame in call:
                if frame.HasField("welcome"):
                    first = frame.welcome.last_send_number + 1
                    await send(*range(first, first + 1_000 // sessions))
                    await written.wait()
                for result in frame.results.results:
                    stage.counts[messaging_pb2.SendStatus.Name(result.status)] += 1
                again = [r.number for r in frame.results.results if r.status == messaging_pb2.SEND_STATUS_RETRY]
                if again:
                    await asyncio.sleep(0.5)  # this is about commands that wait, not about a flood
                    await send(*again)

        async def ask() -> None:
            stub = accounts_pb2_grpc.AccountsStub(channels[sessions])
            request = accounts_pb2.SetDisplayNameRequest(display_name="one more")
            await written.wait()
            while True:
                await asyncio.sleep(0.5)
                await stage.note(stub.SetDisplayName(request, metadata=stage.metadata(sessions), timeout=20))

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(ask())
            for place in range(sessions):
                tasks.create_task(stage.note(wait(place)))


async def silent_connections(stage: Stage) -> None:
    """1,100 connections to each node that say nothing, opened again when they are closed."""

    async def hold(address: str) -> None:
        host, _, port = address.rpartition(":")
        while True:
            with suppress(OSError):
                reader, writer = await asyncio.open_connection(host, int(port))
                stage.counts["opened"] += 1
                with suppress(OSError):
                    await reader.read()
                writer.close()
            await asyncio.sleep(0.1)

    async with asyncio.TaskGroup() as tasks:
        for address in stage.addresses:
            for _ in range(1_100):
                tasks.create_task(hold(address))


async def streams_without_a_token(stage: Stage) -> None:
    """500 sessions that are opened without a token and say nothing."""
    async with stage.channels(9) as channels:

        async def ask(place: int) -> None:
            call = messaging_pb2_grpc.MessagingStub(channels[place % 9]).Connect()
            await call.read()

        await stage.keep_busy(500, ask)


async def log_outs_of_nobody(stage: Stage) -> None:
    """Log-outs with invented tokens: no one may write to the log."""

    async with stage.channels(9) as channels:
        stubs = [accounts_pb2_grpc.AccountsStub(channel) for channel in channels]

        def ask(place: int) -> object:
            metadata = (("authorization", "Bearer " + secrets.token_urlsafe(32)),)
            return stubs[place % 9].LogOut(accounts_pb2.LogOutRequest(), metadata=metadata, timeout=20)

        await stage.keep_busy(100, ask)  # type: ignore[arg-type]


async def wrong_passwords(stage: Stage) -> None:
    """200 log-ins at once with wrong passwords for somebody else's account."""
    async with stage.channels(9) as channels:
        stubs = [accounts_pb2_grpc.AccountsStub(channel) for channel in channels]

        def ask(place: int) -> object:
            request = accounts_pb2.LogInRequest(
                name=stage.victim, password=f"wrong {secrets.token_hex(8)}", device_id=secrets.token_bytes(16)
            )
            return stubs[place % 9].LogIn(request, timeout=20)

        await stage.keep_busy(200, ask)  # type: ignore[arg-type]


async def stand_by(_: Stage) -> None:
    """Nobody attacks: what the innocent client sees on this machine anyway."""
    await asyncio.get_running_loop().create_future()


# A leader whose disk is low hands leadership to a node that has more room.
FULL = Bounds(elections=4, may_refuse=True)
ATTACKS = {
    attack.name: attack
    for attack in (
        Attack("nobody", 0, stand_by),
        Attack("padded strangers", 6, padded_strangers),
        Attack("padded log-ins", 6, padded_log_ins),
        Attack("positions of the future", 6, positions_of_the_future),
        Attack("burst of strangers", 6, burst_of_strangers),
        Attack("unread pages", 7, unread_pages, prepare=store_long_messages),
        Attack("unread queues", 7, unread_queues, prepare=store_long_messages),
        Attack("flood of long messages", 7, flood_of_long_messages),
        Attack("flood of marks", 7, flood_of_marks),
        Attack("silent connections", 8, silent_connections),
        Attack("log-outs of nobody", 9, log_outs_of_nobody),
        Attack("wrong passwords", 10, wrong_passwords),
        Attack("full disks", 26, fill_the_disks, bounds=FULL, scene=SmallDisks),
        Attack(
            "gateway without links", 27, wait_at_a_gateway, bounds=Bounds(cpu_percent=30), scene=GatewayWithoutLinks
        ),
        Attack("streams without a token", 33, streams_without_a_token),
    )
}
