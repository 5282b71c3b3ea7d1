"""A bot in 15 lines: it answers each message. docs/tutorials/bots.md explains it."""

import asyncio
import os
from pathlib import Path

from parley import MessageKind, ParleyClient, Target


async def main() -> None:
    """Answer until Ctrl-C. The answer is in the outbox on this machine before the message counts as handled."""
    hosts, ca, name = os.environ["PARLEY_HOSTS"], os.environ.get("PARLEY_CA"), os.environ["PARLEY_ACCOUNT"]
    async with ParleyClient(hosts, account=name, ca=Path(ca) if ca else None, insecure=ca is None) as client:
        if not await client.has_session():
            await client.login(name, os.environ["PARLEY_PASSWORD"])
        async for message in await client.messages():
            if message.kind is MessageKind.TEXT:
                await client.send(Target(conversation_id=message.conversation_id), f"You wrote: {message.body}")


asyncio.run(main())
