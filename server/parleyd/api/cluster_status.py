"""The answers of the Admin service about the nodes and the settings of the cluster."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import version

from parley_proto.v1 import admin_pb2 as pb
from parleyd.api.cluster_view import ClusterView
from parleyd.delivery.position import position_of
from parleyd.machine.authorisation import Role as AccountRole
from parleyd.machine.features import accounts, audit, codes, generations, quotas, settings
from parleyd.machine.features.generations import GenerationRow
from parleyd.machine.levels import MAX_LEVEL, MIN_LEVEL
from parleyd.machine.reader import StateReader, Summary
from parleyd.machine.records import MemberRow
from parleyd.raft.status import RaftStatus
from parleyd.raft.types import NodeId, Role


def public_status(view: ClusterView) -> pb.GetStatusResponse:
    """Return what a member may know of the nodes."""
    status = view.replica.raft.status()
    members = view.members()
    return pb.GetStatusResponse(
        cluster_id=view.identity.cluster_id,
        node_name=view.identity.name,
        role=status.role.value,
        leader=_name_of(status.leader, members),
        serving=view.has_majority(),
        removed=view.replica.retired,
        members=[_public_member(member, status, view) for member in members],
    )


async def full_status(view: ClusterView, uptime_s: float) -> pb.GetStatusResponse:
    """Return what an administrator or the operator of this node may know."""
    status = view.replica.raft.status()
    summary, lives = await view.replica.readers.run(_summary)
    condition = await view.condition()
    answer = public_status(view)
    answer.ClearField("members")
    answer.MergeFrom(
        pb.GetStatusResponse(
            node_id=view.identity.node_id,
            term=status.term,
            commit_index=status.commit_index,
            applied_index=summary.applied_index,
            last_index=status.last_index,
            first_index=status.first_index,
            connected_clients=view.hub.connected,
            messages_per_second=view.hub.messages_per_second(),
            messages_total=summary.message_count,
            members=[_member(member, status, view) for member in view.members()],
            pid=os.getpid(),
            uptime_s=uptime_s,
            state_hash=summary.state_hash,
            version=version("parley"),
            joint=bool(status.conf_state.voters_outgoing),
            level=summary.level,
            min_level=MIN_LEVEL,
            max_level=MAX_LEVEL,
            divergence=view.divergence(),
            disk=view.disk(),
            refused=view.refused(),
            snapshots=view.snapshots(),
            clock=view.clock(),
            cluster_time_ms=view.replica.cluster_now_ms,
            generation=summary.generation,
            generations=lives,
            **asdict(condition),
        )
    )
    return answer


def _summary(reader: StateReader) -> tuple[Summary, list[pb.ClusterGeneration]]:
    with reader.consistent():
        return reader.summary(), [_generation(row) for row in generations.all_of(reader)]


def _generation(row: GenerationRow) -> pb.ClusterGeneration:
    return pb.ClusterGeneration(
        generation=row.generation,
        kind=row.kind,  # type: ignore[arg-type]  # the numbers are the same by definition
        began_at_ms=row.began_at_ms,
        after_index=row.after_index,
    )


def audit_page(reader: StateReader, after_number: int, limit: int, max_bytes: int) -> pb.ListAuditResponse:
    """Return rows of the audit log."""
    with reader.consistent():
        page = audit.page(reader, after_number, limit, max_bytes)
        return pb.ListAuditResponse(
            rows=[
                pb.AuditRow(
                    number=row.number,
                    index=row.index,
                    at_ms=row.at_ms,
                    actor=row.actor,
                    action=row.action,
                    object=row.object,
                    detail=row.detail,
                    hash=row.hash,
                )
                for row in page.rows
            ],
            previous_hash=page.previous_hash,
            removed_number=page.removed_number,
            last_number=page.last_number,
            last_hash=page.last_hash,
            position=position_of(reader),
        )


def invitations(reader: StateReader, now_ms: int) -> pb.ListInvitationsResponse:
    """Return the codes that nobody has used."""
    with reader.consistent():
        return pb.ListInvitationsResponse(
            invitations=[
                pb.Invitation(
                    id=code.digest,
                    expires_at_ms=code.expires_at_ms,
                    administrator=code.role == AccountRole.ADMINISTRATOR,
                )
                for code in codes.waiting(reader, now_ms)
            ],
            position=position_of(reader),
        )


def quota_of(reader: StateReader, name: str) -> pb.GetQuotaResponse | None:
    """Return what an account has stored and may store; None if there is no such account."""
    with reader.consistent():
        account = accounts.by_name(reader, name)
        if account is None:
            return None
        usage = quotas.usage(reader, account.id)
        return pb.GetQuotaResponse(
            stored_bytes=usage.stored_bytes,
            max_bytes=usage.max_bytes,
            own=usage.is_own,
            position=position_of(reader),
        )


def all_settings(reader: StateReader) -> pb.ListSettingsResponse:
    """Return the settings of the cluster."""
    with reader.consistent():
        return pb.ListSettingsResponse(
            settings=[_setting(settings.SETTINGS[name], value) for name, value in settings.all_values(reader).items()],
            position=position_of(reader),
        )


def _setting(known: settings.ClusterSetting, value: int) -> pb.Setting:
    return pb.Setting(
        name=known.name,
        value=value,
        default=known.default,
        minimum=known.minimum,
        maximum=known.maximum,
        help=known.help,
    )


def _name_of(node: NodeId, members: Sequence[MemberRow]) -> str:
    return next((member.name for member in members if member.node_id == node), "")


def _public_member(member: MemberRow, status: RaftStatus, view: ClusterView) -> pb.MemberStatus:
    node = NodeId(member.node_id)
    return pb.MemberStatus(
        name=member.name,
        client_address=member.client_address,
        voter=node in status.conf_state.voters,
        learner=node in status.conf_state.learners,
        connected=view.is_up(node),
    )


def _member(member: MemberRow, status: RaftStatus, view: ClusterView) -> pb.MemberStatus:
    progress = status.progress.get(NodeId(member.node_id)) if status.role is Role.LEADER else None
    answer = _public_member(member, status, view)
    answer.node_id = member.node_id
    answer.peer_address = member.peer_address
    answer.match_index = progress.match_index if progress is not None else 0
    answer.min_level = member.min_level
    answer.max_level = member.max_level
    return answer
