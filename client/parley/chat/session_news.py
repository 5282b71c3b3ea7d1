"""What a chat in lines tells of its session, each once.

A lost node, a missing majority, the end of the session, that the cluster was restored from a backup, and that messages
of the account wait in another folder.
"""

from collections.abc import Callable

from parley.chat.lost_text import lost_notice
from parley.client_state import ClientState, ConnectionState


class StorageNews:
    """Tells that the cluster was restored, what it does not have any more, and what waits in another folder."""

    def __init__(self, quiet: Callable[[str], None], lost_hint: str = "") -> None:
        """`quiet` prints a remark. `lost_hint` says how to see the messages that the cluster does not have any more."""
        self._quiet = quiet
        self._lost_hint = lost_hint
        self._told: set[str] = set()
        self._has_told_lost = False

    def follow(self, state: ClientState) -> None:
        """Tell what is new."""
        present = [text for text in (state.notice, state.kept_elsewhere) if text]
        for text in present:
            if text not in self._told:
                self._quiet(text)
        self._told = set(present)
        if state.lost_sent and not self._has_told_lost:
            self._quiet(f"{lost_notice(state.lost_sent)} {self._lost_hint}".rstrip())
        self._has_told_lost = state.lost_sent > 0


class SessionNews:
    """Remembers what was told."""

    def __init__(self, quiet: Callable[[str], None], session_ended: str, lost_hint: str = "") -> None:
        """`quiet` prints a remark, `session_ended` is the one at the end of the session."""
        self._quiet = quiet
        self._session_ended = session_ended
        self._storage = StorageNews(quiet, lost_hint)
        self._lost = ""
        self._told = ConnectionState.CONNECTED

    def follow(self, state: ClientState, *, has_own: bool) -> None:
        """Tell what is new. `has_own`: own messages of this chat are not shown for good."""
        self._storage.follow(state)
        if state.connection is ConnectionState.SEARCHING and state.lost:
            self._lost = state.lost
        elif state.connection is ConnectionState.CONNECTED:
            if self._lost:
                self._quiet(f"({self._lost} was lost, now on {state.node})")
            elif self._told is ConnectionState.NO_MAJORITY:
                self._quiet("(a majority is back)")
            self._lost, self._told = "", state.connection
        elif state.connection is self._told:
            return
        elif state.connection is ConnectionState.NO_MAJORITY and has_own:
            self._told = state.connection
            self._quiet("(no majority: your messages are kept here and sent as soon as possible)")
        elif state.connection is ConnectionState.SIGNED_OUT:
            self._told = state.connection
            self._quiet(self._session_ended)
