"""An import of accounts: what is refused before the log, what the log is asked, and the answer for each account."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Self

from parley_proto.v1 import admin_pb2 as pb
from parley_proto.v1 import state_pb2
from parleyd.api.results import explain
from parleyd.machine.limits import MAX_IMPORTED_ACCOUNTS
from parleyd.security.names import InvalidInputError, validate_account_name
from parleyd.security.passwords import PasswordHasher


@dataclass(frozen=True, slots=True)
class PlannedImport:
    """What to propose, and in the order of the request why an account is not proposed. None: it is."""

    accepted: tuple[state_pb2.NewAccount, ...]
    refusals: tuple[str | None, ...]

    @classmethod
    def of(cls, accounts: Sequence[pb.AccountToImport], passwords: PasswordHasher) -> Self:
        """Check each account. Raise InvalidInputError for none, or for more than one request may have."""
        if not 0 < len(accounts) <= MAX_IMPORTED_ACCOUNTS:
            raise InvalidInputError("accounts", f"has {len(accounts)} entries; give 1 to {MAX_IMPORTED_ACCOUNTS}")
        accepted: list[state_pb2.NewAccount] = []
        refusals: list[str | None] = []
        for account in accounts:
            try:
                accepted.append(_checked(account, passwords))
                refusals.append(None)
            except InvalidInputError as error:
                refusals.append(str(error))
        return cls(tuple(accepted), tuple(refusals))

    def answers(self, codes: Iterable[int]) -> list[pb.ImportedAccount]:
        """Return the answer for each account of the request, given the codes of the accepted ones."""
        left = iter(codes)
        return [_answer(next(left)) if refusal is None else _refused(refusal) for refusal in self.refusals]


def _checked(account: pb.AccountToImport, passwords: PasswordHasher) -> state_pb2.NewAccount:
    return state_pb2.NewAccount(
        name=validate_account_name(account.name),
        display_name=account.display_name.strip(),
        password_hash=passwords.validate_hash(account.password_hash),
    )


def _answer(code: int) -> pb.ImportedAccount:
    if code == state_pb2.RESULT_CODE_OK:
        return pb.ImportedAccount(status=pb.IMPORT_STATUS_CREATED)
    if code == state_pb2.RESULT_CODE_NAME_TAKEN:
        return pb.ImportedAccount(status=pb.IMPORT_STATUS_EXISTS)
    return _refused(explain(code).text)


def _refused(detail: str) -> pb.ImportedAccount:
    return pb.ImportedAccount(status=pb.IMPORT_STATUS_REFUSED, detail=detail)
