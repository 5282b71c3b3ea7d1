"""Conversations, threads and status texts. Window and terminal show what is computed here.

This package is pure: no Qt, no asyncio, no input or output. `Chats` folds the events of the SDK. The other names turn
them into text.
"""

from parley.chat.accounts import AccountBook, account_label
from parley.chat.chats import Chats
from parley.chat.cluster_rows import (
    COLUMNS,
    NodeRow,
    add_command,
    node_rows,
    panel_lines,
    people_note,
    reached_text,
    remove_command,
    transfer_text,
)
from parley.chat.cluster_text import (
    NO_TLS,
    certificate_lines,
    level_lines,
    levels_of,
    node_role,
    published_levels,
    trouble_lines,
    verdict,
)
from parley.chat.conversations import Conversations
from parley.chat.item import ConversationItem
from parley.chat.keys import ConversationKey, account_key, conversation_key
from parley.chat.known import Known, named_in
from parley.chat.last_writer import CHANGED_TEXT, LastWriter
from parley.chat.listed import channel_line
from parley.chat.lost_text import in_order, lost_notice, lost_parties
from parley.chat.outputs import ListChanged, Noticed, Output, ThreadEdited, ThreadReplaced, to_draw
from parley.chat.presence_text import presence_text
from parley.chat.previews import is_big_emoji, marked, preview
from parley.chat.receipt_text import missing_lines, receipt_line
from parley.chat.rows import Edit, Row, RowsChanged, RowsInserted, RowsRemoved
from parley.chat.safe_text import safe_body, safe_name
from parley.chat.seen import Seen
from parley.chat.session_news import SessionNews, StorageNews
from parley.chat.standing import Standing
from parley.chat.status_text import (
    NOT_IN_CLUSTER,
    StatusLevel,
    StatusLine,
    counts_text,
    failure_lines,
    known_of,
    meaning,
    plural,
    spoken,
    status_line,
    tip,
    why_fixed,
)
from parley.chat.thread import AHEAD_ROWS, KEEP_ROWS, Thread
from parley.chat.times import clock_time, day_label, forget_zone, line_time, list_time, local_date
from parley.chat.titles import EVERYONE_TITLE, NOTES, conversation_title, row_text
from parley.chat.typists import SHOWN_S, Typists, typing_text
from parley.links import Link, links
from parley.mentions import Mention, can_begin, mentions

__all__ = [
    "AHEAD_ROWS",
    "CHANGED_TEXT",
    "COLUMNS",
    "EVERYONE_TITLE",
    "KEEP_ROWS",
    "NOTES",
    "NOT_IN_CLUSTER",
    "NO_TLS",
    "SHOWN_S",
    "AccountBook",
    "Chats",
    "ConversationItem",
    "ConversationKey",
    "Conversations",
    "Edit",
    "Known",
    "LastWriter",
    "Link",
    "ListChanged",
    "Mention",
    "NodeRow",
    "Noticed",
    "Output",
    "Row",
    "RowsChanged",
    "RowsInserted",
    "RowsRemoved",
    "Seen",
    "SessionNews",
    "Standing",
    "StatusLevel",
    "StatusLine",
    "StorageNews",
    "Thread",
    "ThreadEdited",
    "ThreadReplaced",
    "Typists",
    "account_key",
    "account_label",
    "add_command",
    "can_begin",
    "certificate_lines",
    "channel_line",
    "clock_time",
    "conversation_key",
    "conversation_title",
    "counts_text",
    "day_label",
    "failure_lines",
    "forget_zone",
    "in_order",
    "is_big_emoji",
    "known_of",
    "level_lines",
    "levels_of",
    "line_time",
    "links",
    "list_time",
    "local_date",
    "lost_notice",
    "lost_parties",
    "marked",
    "meaning",
    "mentions",
    "missing_lines",
    "named_in",
    "node_role",
    "node_rows",
    "panel_lines",
    "people_note",
    "plural",
    "presence_text",
    "preview",
    "published_levels",
    "reached_text",
    "receipt_line",
    "remove_command",
    "row_text",
    "safe_body",
    "safe_name",
    "spoken",
    "status_line",
    "tip",
    "to_draw",
    "transfer_text",
    "trouble_lines",
    "typing_text",
    "verdict",
    "why_fixed",
]
