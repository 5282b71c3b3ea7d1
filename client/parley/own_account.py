"""The requests about the own account: password, devices, and whether others see it connected.

Every request may be repeated.
"""

from collections.abc import Awaitable, Callable
from typing import TypeVar

import grpc

from parley.errors import NotSignedInError, WrongPasswordError
from parley.model import Device
from parley.net.unary_caller import UnaryCaller, bearer
from parley.wire import convert
from parley.wire.position import Position
from parley.wire.requests import build
from parley_proto.v1 import accounts_pb2 as pb
from parley_proto.v1.accounts_pb2_grpc import AccountsStub, PresenceStub

T = TypeVar("T")

DEADLINE_S = 10.0


class OwnAccount:
    """The requests of one signed-in account about itself. RefusedError states why the cluster refuses one."""

    def __init__(self, caller: UnaryCaller, token: str, position: Callable[[], Awaitable[Position]]) -> None:
        """`position` returns what the caller has seen; lists are at least that new."""
        self._caller = caller
        self._metadata = bearer(token)
        self._position = position

    async def change_password(self, old: str, new: str) -> None:
        """Change the password and sign out the other devices. Raises WrongPasswordError for a wrong old one."""
        request = build(pb.ChangePasswordRequest, old_password=old, new_password=new)
        try:
            await self._ask(
                lambda channel: AccountsStub(channel).ChangePassword(request, metadata=self._metadata),
                confirm_signed_out=False,
            )
        except NotSignedInError as error:
            await self.devices()  # raises NotSignedInError if the session is the reason
            raise WrongPasswordError("The old password is wrong. It stays in force. Try again.") from error

    async def devices(self) -> tuple[Device, ...]:
        """Return the devices of the account, the one that logged in last first."""
        request = build(pb.ListDevicesRequest, seen=(await self._position()).to_wire())
        answer = await self._ask(
            lambda channel: AccountsStub(channel).ListDevices(request, metadata=self._metadata), changes=False
        )
        return tuple(map(convert.device, answer.devices))

    async def sign_out_device(self, device_id: str) -> None:
        """Sign out one device. It can log in again with the password."""
        await self._revoke(bytes.fromhex(device_id))

    async def sign_out_other_devices(self) -> None:
        """Sign out all devices but this one."""
        await self._revoke(b"")

    async def set_hidden(self, *, hidden: bool) -> None:
        """Hide the account from the lists of connected accounts of all others, or show it again."""
        request = build(pb.SetHiddenRequest, hidden=hidden)
        await self._ask(
            lambda channel: PresenceStub(channel).SetHidden(request, metadata=self._metadata), repeatable=True
        )

    async def claim_administrator(self, code: str) -> None:
        """Become an administrator by a code that `parleyd admin create` printed on a node."""
        request = build(pb.ClaimAdministratorRequest, code=code)
        await self._ask(lambda channel: AccountsStub(channel).ClaimAdministrator(request, metadata=self._metadata))

    async def _revoke(self, device_id: bytes) -> None:
        request = build(pb.RevokeDevicesRequest, device_id=device_id)
        await self._ask(
            lambda channel: AccountsStub(channel).RevokeDevices(request, metadata=self._metadata), repeatable=True
        )

    async def _ask(
        self,
        invoke: Callable[[grpc.aio.Channel], Awaitable[T]],
        *,
        confirm_signed_out: bool = True,
        changes: bool = True,
        repeatable: bool = False,
    ) -> T:
        return await self._caller.call(
            invoke,
            deadline_s=DEADLINE_S,
            confirm_signed_out=confirm_signed_out,
            changes=changes,
            repeatable=repeatable,
        )
