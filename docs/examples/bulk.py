"""A bulk sender: it sends each line of a CSV file (account,text) once, even if it is killed and started again.

    python bulk.py JOB-FOLDER lines.csv

JOB-FOLDER belongs to this job alone. Its outbox numbers what is put into it: 1, 2, 3 and so on. So the highest number
says how many lines of the file are in it, also after a crash. To send another file, name another folder.
"""

import asyncio
import csv
import os
import sys
from contextlib import suppress
from pathlib import Path

from parley import MessageFailedError, OutcomeUnknownError, ParleyClient

BATCH = 500


async def main(folder: Path, lines: str) -> int:
    """Return 0 if the cluster has all messages, and 1 if some were refused. Those are told on stderr."""
    hosts, ca, name = os.environ["PARLEY_HOSTS"], os.environ.get("PARLEY_CA"), os.environ["PARLEY_ACCOUNT"]
    rows = [(account, text) for account, text in csv.reader(lines.splitlines())]
    async with ParleyClient(
        hosts, account=name, ca=Path(ca) if ca else None, insecure=ca is None, state_dir=folder
    ) as client:
        if not await client.has_session():
            await client.login(name, os.environ["PARLEY_PASSWORD"])
        newest = await client.outgoing(limit=1)
        done = newest[-1].local_id if newest else 0
        while done < len(rows) or await client.waiting(limit=1):
            await client.send_many(rows[done : done + BATCH])  # all of them are stored, or none
            done += BATCH
            for message in await client.waiting():
                with suppress(MessageFailedError, OutcomeUnknownError):
                    await message.accepted()
        failed = await client.untold()
        await client.logout()  # the account has this device no more
    for one in failed:
        sys.stderr.write(f"line {one.local_id}, to {one.target}: {one.detail}\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main(Path(sys.argv[1]), Path(sys.argv[2]).read_text(encoding="utf-8"))))
