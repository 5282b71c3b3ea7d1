"""A script without asyncio, as in a notebook: it sends a report, and prints the answers of the next seconds.

python report.py ben "All beds are taken."
"""

import os
import sys
from pathlib import Path

from parley import SyncClient

ANSWERS_WITHIN_S = 5.0


def main(to: str, report: str) -> None:
    """Send, then print what comes."""
    hosts, ca, name = os.environ["PARLEY_HOSTS"], os.environ.get("PARLEY_CA"), os.environ["PARLEY_ACCOUNT"]
    with SyncClient(hosts, account=name, ca=Path(ca) if ca else None, insecure=ca is None) as client:
        if not client.has_session():
            client.login(name, os.environ["PARLEY_PASSWORD"])
        sent = client.send(to, report)
        print(f"Stored by the cluster as message {sent.message_id}.")
        for message in client.messages(timeout=ANSWERS_WITHIN_S):
            print(message.body)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
