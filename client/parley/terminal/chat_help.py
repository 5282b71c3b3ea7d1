"""What /help of the chat prints."""

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
