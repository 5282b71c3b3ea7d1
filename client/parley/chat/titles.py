"""The titles of conversations, and the sentences for their events."""

from parley.chat.accounts import AccountBook
from parley.chat.safe_text import safe_name
from parley.model import Conversation, ConversationKind, Member, Message, MessageKind

NOTES = "Notes to yourself"
EVERYONE_TITLE = "Everyone"
MAX_NAMED = 5


def direct_partner(members: tuple[Member, ...], own_id: int) -> int:
    """Return the account id of the other member, the own id for notes to oneself, or 0 if it is not known."""
    others = [member.account_id for member in members if member.account_id != own_id]
    if not own_id or len(others) > 1:
        return 0
    return others[0] if others else own_id


def conversation_title(conversation: Conversation, book: AccountBook) -> str:
    """Return the title for the list and the header."""
    if conversation.kind is ConversationKind.EVERYONE:
        return EVERYONE_TITLE
    if conversation.kind is ConversationKind.CHANNEL:
        return safe_name(conversation.title) or f"Channel #{conversation.id}"
    partner_id = direct_partner(conversation.members, book.own_id)
    if not partner_id:
        return f"Conversation #{conversation.id}"
    return partner_title(partner_id, book)


def partner_title(account_id: int, book: AccountBook) -> str:
    """Return the title of the direct conversation with an account."""
    return NOTES if account_id == book.own_id else book.label(account_id)


def row_text(message: Message, book: AccountBook) -> str:
    """Return the text of a row: the message itself, or a sentence for an event."""
    if message.kind is MessageKind.TEXT:
        return message.body
    actor = "You" if message.mine else book.label(message.sender_id)
    match message.kind:
        case MessageKind.CHANNEL_CREATED:
            return f"{actor} created the channel “{safe_name(message.body)}”."
        case MessageKind.TITLE_CHANGED:
            return f"{actor} changed the title to “{safe_name(message.body)}”."
        case MessageKind.TOPIC_CHANGED if not message.body:
            return f"{actor} removed the topic."
        case MessageKind.TOPIC_CHANGED:
            return f"{actor} changed the topic to “{safe_name(message.body)}”."
        case MessageKind.ARCHIVED:
            return f"{actor} archived the channel."
        case MessageKind.REOPENED:
            return f"{actor} reopened the channel."
        case MessageKind.MEMBERS_JOINED:
            if message.subjects == (message.sender_id,):
                return f"{actor} joined."
            return f"{actor} added {named(message.subjects, book)}."
        case MessageKind.MEMBERS_LEFT:
            if message.subjects == (message.sender_id,):
                return f"{actor} left."
            return f"{actor} removed {named(message.subjects, book)}."
        case MessageKind.UNKNOWN:
            pass
    return "Something happened here that this release of Parley cannot show."


def named(account_ids: tuple[int, ...], book: AccountBook) -> str:
    """Return some accounts in one phrase: "you, ben and 3 more"."""
    names = ["you" if one == book.own_id else book.label(one) for one in account_ids[:MAX_NAMED]]
    more = len(account_ids) - len(names)
    if more:
        names.append(f"{more} more")
    return f"{', '.join(names[:-1])} and {names[-1]}" if len(names) > 1 else "".join(names) or "nobody"
