"""What an administrator asks of the cluster: change members and settings, transfer leadership, say who else may.

Every request may be repeated: what is done already is done again without effect. So a lost answer is asked for again.
"""

from collections.abc import Awaitable, Callable
from typing import TypeVar

import grpc

from parley.model import Setting
from parley.net.unary_caller import UnaryCaller
from parley.wire import convert
from parley_proto.v1 import admin_pb2 as pb
from parley_proto.v1.admin_pb2_grpc import AdminStub

T = TypeVar("T")

DEADLINE_S = 30.0


class Administration:
    """Requests in the name of one signed-in account; RefusedError says why the cluster does not do it."""

    def __init__(self, caller: UnaryCaller, token: str) -> None:
        self._caller = caller
        self._metadata = (("authorization", f"Bearer {token}"),)

    async def add_member(self, name: str, peer_address: str) -> None:
        """Add the fresh node that waits at that address, as a learner."""
        request = pb.AddMemberRequest(name=name, peer_address=peer_address)
        await self._ask(lambda channel: AdminStub(channel).AddMember(request, metadata=self._metadata))

    async def promote_member(self, name: str) -> None:
        """Make a learner that has caught up a voter."""
        request = pb.PromoteMemberRequest(name=name)
        await self._ask(lambda channel: AdminStub(channel).PromoteMember(request, metadata=self._metadata))

    async def remove_member(self, name: str, *, force: bool) -> None:
        """Remove a member for good; `force` even where the voters left that answer are no majority."""
        request = pb.RemoveMemberRequest(name=name, force=force)
        await self._ask(lambda channel: AdminStub(channel).RemoveMember(request, metadata=self._metadata))

    async def transfer_leadership(self, name: str) -> str:
        """Transfer leadership to a voter, to any if `name` is empty; return who leads then."""
        request = pb.TransferLeadershipRequest(name=name)
        answer = await self._ask(
            lambda channel: AdminStub(channel).TransferLeadership(request, metadata=self._metadata)
        )
        return answer.leader

    async def set_administrator(self, account: str, *, administrator: bool) -> None:
        """Make an account an administrator, or takes that from it."""
        request = pb.SetAdministratorRequest(account=account, administrator=administrator)
        await self._ask(lambda channel: AdminStub(channel).SetAdministrator(request, metadata=self._metadata))

    async def settings(self) -> tuple[Setting, ...]:
        """Return every setting of the cluster. Any account that is signed in may ask."""
        answer = await self._ask(
            lambda channel: AdminStub(channel).ListSettings(pb.ListSettingsRequest(), metadata=self._metadata)
        )
        return tuple(map(convert.setting, answer.settings))

    async def change_setting(self, name: str, value: int) -> None:
        """Change a setting of the whole cluster."""
        request = pb.ChangeSettingRequest(name=name, value=value)
        await self._ask(lambda channel: AdminStub(channel).ChangeSetting(request, metadata=self._metadata))

    async def _ask(self, invoke: Callable[[grpc.aio.Channel], Awaitable[T]]) -> T:
        return await self._caller.call(invoke, deadline_s=DEADLINE_S)
