"""What /help of the chat prints."""

from collections.abc import Collection

from parley import BadInputError
from parley.terminal.chat_channels import HELP as CHANNEL_HELP
from parley.terminal.chat_direct import HELP as DIRECT_HELP
from parley.terminal.chat_presence import HELP as PRESENCE_HELP
from parley.terminal.chat_status import HELP as STATUS_HELP
from parley.terminal.lost_commands import HELP as LOST_HELP
from parley.terminal.view_commands import HELP as VIEW_HELP

HELP = f"""\
Type a line and Enter: it is sent to the one named in the prompt. Commands:
  /to NAME          talk to somebody else; /to #TITLE or /to #ID for a channel, /to everyone for all accounts
{DIRECT_HELP}
  @NAME in a text   mentions a member of the channel there; Tab completes the name
  /urgent TEXT      write there as urgent; it comes first in notifications
  /history [N]      the last N messages there; /history unread: where you stopped
  /conversations    your conversations, and what is new
  /accounts [PAT]   all accounts; * and ? as in file names
{PRESENCE_HELP}
  /receipts         who has your last message there, and which nodes have it on disk
{VIEW_HELP}
{CHANNEL_HELP}
  /waiting          messages that wait here, with their numbers
  /cancel N         withdraw a waiting message, or remove a failed one
  /edit N TEXT      change a waiting message
  /retry N          send a failed message again
{LOST_HELP}
{STATUS_HELP}
  /quit             leave; what waits is kept and sent next time
A line that begins with // is sent with one / less.
✓ on a majority's disks   ✓✓ delivered to all   … waits here   ✗ failed"""

ALONE = frozenset(
    ("/help", "/conversations", "/channels", "/receipts", "/waiting", "/status", "/ping", "/away", "/back")
)
"""Commands that take nothing after their name."""


def check_command(command: str, rest: str, known: Collection[str]) -> None:
    """Raise BadInputError for a command that does not exist, or that has something behind it that it does not take."""
    if command not in known:
        raise BadInputError(
            f"{command} is not a command. /help lists the commands. To send a line that begins with a slash, begin it "
            "with //."
        )
    if command in ALONE and rest.strip():
        raise BadInputError(f"{command} takes nothing after its name. Nothing was done. /help lists the commands.")
