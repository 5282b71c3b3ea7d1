"""Whose call it is: the session as of the state that the caller has seen.

What can go wrong: a node that lags admits a session that has ended, catches up while the call waits, and then serves a
caller who is signed out. A node that falls behind, for its disk is full, says that the cluster has no majority.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextvars import copy_context
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import grpc
import pytest

from parleyd.api import auth
from parleyd.api.auth import Authenticator
from parleyd.api.errors import ApiError
from parleyd.delivery.position import BehindError, position
from parleyd.group.errors import UnavailableError
from parleyd.machine.features.sessions import SessionRecord
from parleyd.security.tokens import new_token
from tests.support.session import SESSION

ENDED_AT = 10


class LaggingNode:
    """A node of a cluster in which entry 10 ended the session; it has applied nothing of that yet."""

    cluster_now_ms = 1

    def __init__(self) -> None:
        self.machine = SimpleNamespace(applied_index=5, generation=0, level=3)
        self.readers = self
        self.looked = 0

    async def run(self, _: object) -> SessionRecord:
        self.looked += 1
        return replace(SESSION, closed=self.machine.applied_index >= ENDED_AT)

    async def read_barrier(self) -> int:
        return ENDED_AT

    async def wait_applied(self, index: int) -> None:
        self.machine.applied_index = max(self.machine.applied_index, index)


async def call(node: LaggingNode, seen: int, meanwhile: Callable[[], None] = lambda: None) -> SessionRecord:
    """One call: its admission, what happens then, and its handler's look at the session."""
    authenticator = Authenticator(cast(Any, node))
    context: Any = SimpleNamespace(invocation_metadata=lambda: (("authorization", f"Bearer {new_token()[0]}"),))

    async def serve() -> SessionRecord:
        await authenticator.admit(context)
        meanwhile()
        return await authenticator.session_at(context, position(0, seen))

    work: Coroutine[Any, Any, SessionRecord] = serve()
    return await asyncio.get_running_loop().create_task(work, context=copy_context())


async def test_a_session_that_ended_in_what_the_caller_has_seen_is_refused_by_a_node_that_lags() -> None:
    with pytest.raises(ApiError) as refused:
        await call(LaggingNode(), seen=ENDED_AT)
    assert refused.value.status is grpc.StatusCode.UNAUTHENTICATED


async def test_it_is_refused_as_well_if_the_node_catches_up_between_admission_and_handler() -> None:
    node = LaggingNode()
    with pytest.raises(ApiError) as refused:
        await call(node, seen=ENDED_AT, meanwhile=lambda: setattr(node.machine, "applied_index", ENDED_AT))
    assert refused.value.status is grpc.StatusCode.UNAUTHENTICATED


async def test_a_node_that_had_all_the_caller_has_seen_looks_once() -> None:
    node = LaggingNode()
    assert await call(node, seen=5) == SESSION
    assert node.looked == 1


async def test_a_node_that_stays_behind_a_majority_does_not_say_that_there_is_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(auth, "STATE_WAIT_S", 0.01)
    node = LaggingNode()
    never = asyncio.get_running_loop().create_future()
    monkeypatch.setattr(node, "wait_applied", lambda _: never)
    with pytest.raises(BehindError, match="that a majority has"):
        await Authenticator(cast(Any, node)).read_barrier()
    never = asyncio.get_running_loop().create_future()
    with pytest.raises(BehindError, match="that you have seen"):
        await Authenticator(cast(Any, node)).wait_for(position(0, ENDED_AT))


async def test_a_node_that_nobody_confirms_anything_to_says_that_there_is_no_majority(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(auth, "STATE_WAIT_S", 0.01)
    node = LaggingNode()
    monkeypatch.setattr(node, "read_barrier", asyncio.Event().wait)
    with pytest.raises(UnavailableError, match="no majority of nodes answered"):
        await Authenticator(cast(Any, node)).read_barrier()
