"""What a chat in lines tells of its session: a lost node, a missing majority, the end of the session. Each once."""

from collections.abc import Callable

from parley.model import ClientState, ConnectionState


class SessionNews:
    """Remembers what was told."""

    def __init__(self, quiet: Callable[[str], None], session_ended: str) -> None:
        """`quiet` prints a remark, `session_ended` is the one at the end of the session."""
        self._quiet = quiet
        self._session_ended = session_ended
        self._lost = ""
        self._told = ConnectionState.CONNECTED

    def follow(self, state: ClientState, *, has_own: bool) -> None:
        """Tell what is new. `has_own`: own messages of this chat are not shown for good."""
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
