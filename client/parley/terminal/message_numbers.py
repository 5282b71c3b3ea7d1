"""How a person names a waiting message: by the number that /waiting shows."""

from parley import BadInputError, whole_number


def message_number(word: str) -> int:
    """Return the number of a waiting message. Raise BadInputError if the word is none."""
    if not (number := whole_number(word, 2**31 - 1)):
        raise BadInputError(f"{word!r} is not a number of a message. /waiting lists the numbers.")
    return number
