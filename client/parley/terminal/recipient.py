"""To whom the lines of a chat go. A line that was to name somebody else, and did not, leaves it without recipient.

The person may overlook the remark, and a script does. The next line would go to whoever was named before.
"""

from collections.abc import Collection

from parley import NotSignedInError, ParleyClient, RefusedError, Target, UnreachableError, find_target, whole_number
from parley.chat import Chats, safe_name

NOBODY = "The chat has no recipient now. What you type is not sent until you name one: /to NAME."
NAMING = ("/to", "/join")


def names_recipient(line: str, commands: Collection[str]) -> bool:
    """Return whether a line that failed may have been meant to name the recipient of the next lines."""
    command, _, rest = line.partition(" ")
    if not command.startswith("/") or command.startswith("//"):
        return False
    if command in commands:
        return command in NAMING
    words = rest.split()
    return command.startswith(NAMING) or (len(words) == 1 and not whole_number(words[0], 10**9))


async def find_recipient(client: ParleyClient, chats: Chats, typed: str) -> Target:
    """Return whom `typed` names. Raises RefusedError for an account that does not exist.

    Without an answer of the cluster a name is taken as it is. A message to nobody is refused later, and that is told.
    """
    target = await find_target(client, typed)
    if target.account and chats.book.find(target.account) is None:
        try:
            found = await client.list_accounts(target.account, limit=1)
        except (UnreachableError, NotSignedInError):
            return target
        if not found:
            raise RefusedError(f"There is no account {safe_name(target.account)}.")
        chats.take_accounts(found)
    return target
