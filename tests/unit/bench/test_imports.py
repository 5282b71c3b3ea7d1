"""The accounts of a bench: in requests that a node accepts, and none is missing without a word."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from parley_proto.v1 import admin_pb2 as pb
from parleyd.machine.limits import MAX_IMPORTED_ACCOUNTS
from scripts.bench.raw_client import RawAdministrator, RawSession


class Node(RawSession):
    """A session at a node that refuses some names."""

    def __init__(self, statuses: dict[str, pb.ImportStatus.ValueType]) -> None:
        self.requests: list[Sequence[str]] = []
        self._statuses = statuses

    async def import_accounts(self, request: pb.ImportAccountsRequest) -> pb.ImportAccountsResponse:
        names = [account.name for account in request.accounts]
        self.requests.append(names)
        found = [self._statuses.get(name, pb.IMPORT_STATUS_CREATED) for name in names]
        return pb.ImportAccountsResponse(accounts=[pb.ImportedAccount(status=status) for status in found])


async def test_accounts_are_imported_in_parts_that_a_node_accepts() -> None:
    node = Node({})
    names = [f"u{number}" for number in range(2 * MAX_IMPORTED_ACCOUNTS + 1)]
    await RawAdministrator(node, "hash").import_accounts(names)
    assert [len(part) for part in node.requests] == [MAX_IMPORTED_ACCOUNTS, MAX_IMPORTED_ACCOUNTS, 1]
    assert [name for part in node.requests for name in part] == names


async def test_an_account_that_was_not_made_ends_the_bench() -> None:
    for status in (pb.IMPORT_STATUS_EXISTS, pb.IMPORT_STATUS_REFUSED):
        with pytest.raises(RuntimeError, match="ben was not created"):
            await RawAdministrator(Node({"ben": status}), "hash").import_accounts(["ann", "ben"])
