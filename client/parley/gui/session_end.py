"""Why nobody is signed in any more, told once.

Whoever signs out ends what follows the account, too, and its last requests are refused. That is no news for the person.
If signing out fails, it is.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from parley.gui import events


class SessionEnd:
    """Tells the window that the session has ended."""

    def __init__(self, put: Callable[[events.Event], None]) -> None:
        self._put = put
        self._kept: list[str] | None = None

    @property
    def is_wanted(self) -> bool:
        """Return whether the person is signing out."""
        return self._kept is not None

    @contextmanager
    def wanted(self) -> Iterator[None]:
        """Keep back what is told inside. Tell it if the block fails."""
        self._kept = kept = list[str]()
        try:
            yield
        except BaseException:
            for text in kept[:1]:
                self._put(events.SignedOut(text))
            raise
        finally:
            self._kept = None

    def tell(self, text: str) -> None:
        """Tell why the session ended."""
        if self._kept is None:
            self._put(events.SignedOut(text))
        else:
            self._kept.append(text)
