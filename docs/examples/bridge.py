"""A bridge from a queue: it sends each file of a folder once, even if it is killed and started again.

    python bridge.py QUEUE

A program puts files `NAME@ACCOUNT` into QUEUE, by renaming them: the text in `0001@ben` goes to ben. The bridge sends
them in the order of their names and moves them to QUEUE/sent or QUEUE/refused. QUEUE/state is its own.

The outbox in QUEUE/state numbers what is put into it: 1, 2, 3 and so on. Before the bridge sends a file, it gives the
file the next number: `0001@ben#7`. So after a crash it knows whether that message is in the outbox already.
"""

import asyncio
import os
import sys
from contextlib import suppress
from pathlib import Path

from parley import MessageFailedError, MessageStatus, OutcomeUnknownError, ParleyClient

LOOK_EVERY_S = 0.2


async def main(queue: Path) -> None:
    """Send what is there and what comes, until Ctrl-C."""
    hosts, ca, name = os.environ["PARLEY_HOSTS"], os.environ.get("PARLEY_CA"), os.environ["PARLEY_ACCOUNT"]
    async with ParleyClient(
        hosts, account=name, ca=Path(ca) if ca else None, insecure=ca is None, state_dir=queue / "state"
    ) as client:
        if not await client.has_session():
            await client.login(name, os.environ["PARLEY_PASSWORD"])
        while True:
            for file in files_of(queue):
                await send(client, queue, file)
            await asyncio.sleep(LOOK_EVERY_S)


def files_of(queue: Path) -> list[Path]:
    """Return the files to send. One that has a number was begun before a crash, and comes first."""
    files = [path for path in queue.iterdir() if "@" in path.name and path.is_file()]
    return sorted(files, key=lambda path: ("#" not in path.name, path.name))


async def send(client: ParleyClient, queue: Path, file: Path) -> None:
    """Send one file, unless the outbox has it, and move it when its result is known."""
    newest = await client.outgoing(limit=1)
    last = newest[-1].local_id if newest else 0
    if "#" not in file.name:
        file = file.rename(queue / f"{file.name}#{last + 1}")
    name, _, number = file.name.rpartition("#")
    if int(number) > last:
        await client.send(name.rpartition("@")[2], file.read_text(encoding="utf-8"))
    for message in await client.waiting():
        with suppress(MessageFailedError, OutcomeUnknownError):
            await message.accepted()
    [sent] = await client.outgoing(limit=1)
    failed = sent.status in (MessageStatus.FAILED, MessageStatus.UNKNOWN)
    folder = queue / ("refused" if failed else "sent")
    folder.mkdir(exist_ok=True)
    file.rename(folder / name)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
