"""How a person names a message that waits or is lost: by the number in its list."""

from parley import BadInputError, whole_number

HISTORY_LINES = 20
MOST_HISTORY_LINES = 1000


def message_number(word: str, listed_by: str = "/waiting") -> int:
    """Return the number of a message. Raise BadInputError for another word. `listed_by` is the command to look at."""
    if not (number := whole_number(word, 2**31 - 1)):
        raise BadInputError(f"{word!r} is not a number of a message. {listed_by} lists the numbers.")
    return number


def message_count(word: str) -> int:
    """Return how many messages of a history are asked for. Raises BadInputError."""
    if not word:
        return HISTORY_LINES
    if not (count := whole_number(word, MOST_HISTORY_LINES)):
        raise BadInputError(f"{word!r} is not a number of messages from 1 to {MOST_HISTORY_LINES}.")
    return count
