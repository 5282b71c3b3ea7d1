"""The calls of the Admin service about revoked certificates of nodes."""

from __future__ import annotations

import grpc

from parley_proto.v1 import admin_pb2 as pb
from parley_proto.v1 import state_pb2
from parley_proto.v1.admin_pb2_grpc import AdminServicer
from parleyd.api.auth import Authenticator
from parleyd.api.cluster_view import ClusterView
from parleyd.api.commands import Commands
from parleyd.api.errors import ApiError, Context, unary
from parleyd.delivery.position import position_of
from parleyd.machine.authorisation import Action
from parleyd.machine.features import revocations
from parleyd.machine.limits import KEY_DIGEST_BYTES
from parleyd.machine.reader import StateReader
from parleyd.machine.records import MemberRow
from parleyd.raft.types import NodeId
from parleyd.security.names import InvalidInputError, validate_node_name


class RevocationCalls(AdminServicer):
    """Revokes certificates of nodes for administrators, as a part of the Admin service."""

    def __init__(self, view: ClusterView, authenticator: Authenticator, commands: Commands) -> None:
        self._view = view
        self._authenticator = authenticator
        self._commands = commands

    @unary
    async def RevokeCertificate(  # noqa: N802
        self, request: pb.RevokeCertificateRequest, context: Context
    ) -> pb.RevokeCertificateResponse:
        """Make nodes take no calls with a certificate or key any more."""
        about = request.node[:64] or request.digest[:KEY_DIGEST_BYTES].hex()
        session = await self._authenticator.session_that_may(context, Action.CHANGE_CLUSTER, about=about)
        digest = self._key_of(request.node) if request.node else checked_digest(request.digest)
        owner = next((row for row in self._view.members() if digest in self._digests_of(row)), None)
        self._check_majority(digest)
        command = state_pb2.RevokeCertificate(
            session_id=session.session_id,
            digest=digest,
            name="" if owner is None else owner.name,
            voters=self._view.replica.raft.conf_state.voters,
        )
        index, _ = await self._commands.apply(state_pb2.Command(revoke_certificate=command))
        return pb.RevokeCertificateResponse(
            digest=digest, node=command.name, position=self._authenticator.position(index)
        )

    @unary
    async def RestoreCertificate(  # noqa: N802
        self, request: pb.RestoreCertificateRequest, context: Context
    ) -> pb.RestoreCertificateResponse:
        """Take a revocation back."""
        about = request.digest[:KEY_DIGEST_BYTES].hex()
        session = await self._authenticator.session_that_may(context, Action.CHANGE_CLUSTER, about=about)
        command = state_pb2.RestoreCertificate(session_id=session.session_id, digest=checked_digest(request.digest))
        index, _ = await self._commands.apply(state_pb2.Command(restore_certificate=command))
        return pb.RestoreCertificateResponse(position=self._authenticator.position(index))

    @unary
    async def ListRevokedCertificates(  # noqa: N802
        self, request: pb.ListRevokedCertificatesRequest, context: Context
    ) -> pb.ListRevokedCertificatesResponse:
        """Return what is revoked."""
        await self._authenticator.session_at(context, request.seen)
        return await self._view.replica.readers.run(_all_revoked)

    def _key_of(self, name: str) -> bytes:
        validate_node_name(name)
        row = self._view.replica.members.named(name)
        if row is None:
            names = ", ".join(member.name for member in self._view.members())
            raise ApiError(
                grpc.StatusCode.NOT_FOUND,
                f"There is no member {name}. Nothing was changed. The members are {names}. Give the SHA-256 of the "
                "certificate (parleyd cert show FILE).",
            )
        if not row.key_digest:
            raise ApiError(
                grpc.StatusCode.FAILED_PRECONDITION,
                f"{name} has published no key: the cluster runs without TLS, or is below level 3. Nothing was changed.",
            )
        return row.key_digest

    def _digests_of(self, row: MemberRow) -> tuple[bytes, bytes]:
        return row.key_digest, self._view.certificates().get(NodeId(row.node_id), b"")

    def _check_majority(self, digest: bytes) -> None:
        """Refuse a revocation after which no majority of the voters could call each other.

        The state machine knows the keys, and decides again. This node also knows which certificates members call with.
        """
        revoked = {digest, *(row.digest for row in self._view.replica.members.revoked)}
        status = self._view.replica.raft.status()
        rows = self._view.replica.members.rows
        for voters in filter(None, (status.conf_state.voters, status.conf_state.voters_outgoing)):
            known = [rows[node] for node in voters if node in rows]
            barred = [row for row in known if not revoked.isdisjoint(self._digests_of(row))]
            is_hit = any(digest in self._digests_of(row) for row in barred)
            if is_hit and 2 * (len(known) - len(barred)) <= len(voters):
                names = ", ".join(sorted(row.name for row in barred))
                raise ApiError(
                    grpc.StatusCode.FAILED_PRECONDITION,
                    f"The certificates of {names} would be revoked then, and the other voters are no majority of "
                    f"{len(voters)}. The cluster would stop, and could not take it back. Nothing was changed. Give a "
                    "node whose certificate is revoked a new key first (parleyd cert renew NAME.pem --new-key).",
                )


def checked_digest(digest: bytes) -> bytes:
    """Return the SHA-256 that a caller gives; raises InvalidInputError for another length."""
    if len(digest) != KEY_DIGEST_BYTES:
        raise InvalidInputError("digest", f"has {len(digest)} bytes; a SHA-256 has {KEY_DIGEST_BYTES}")
    return digest


def _all_revoked(reader: StateReader) -> pb.ListRevokedCertificatesResponse:
    with reader.consistent():
        return pb.ListRevokedCertificatesResponse(
            certificates=[
                pb.RevokedCertificate(digest=row.digest, node=row.name, revoked_at_ms=row.since_ms)
                for row in revocations.all_of(reader)
            ],
            position=position_of(reader),
        )
