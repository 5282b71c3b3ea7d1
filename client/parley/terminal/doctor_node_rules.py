"""Rules of `parley cluster doctor` about each node: state, release, clock, certificate, disk, open files. Pure."""

import re
from collections.abc import Iterator
from statistics import median_low

from parley.terminal.doctor_facts import Facts
from parley.terminal.doctor_findings import Finding, critical, note, on_its_machine, warning

LAG_ENTRIES = 10_000
CLOCK_WARNING_MS = 5_000
CLOCK_CRITICAL_MS = 60_000
"""The bound of the nodes: a leader whose clock differs by more transfers leadership."""
CERTIFICATE_WARNING_DAYS = 30
CERTIFICATE_CRITICAL_DAYS = 7
SYNC_WARNING_MS = 20.0
SYNC_CRITICAL_MS = 100.0
LOOP_WARNING_MS = 150
"""The default of loop_lag_ms of a node."""
FILES_WARNING_PERCENT = 80
FILES_CRITICAL_PERCENT = 95
BACKUP_WARNING_INTERVALS = 2
BACKUP_CRITICAL_INTERVALS = 7
DAY_MS = 86_400_000
MIB = 1 << 20


def lag(facts: Facts) -> Iterator[Finding]:
    leader = facts.leader
    if leader is None:
        return
    for node in facts.whole:
        behind = leader.commit_index - node.applied_index
        needs_copy = node.last_index + 1 < leader.first_index
        if needs_copy or behind >= LAG_ENTRIES:
            how = "needs a copy of the whole state" if needs_copy else "is behind"
            yield warning(
                node=node.name,
                text=f"{node.name} {how}: it is at entry {node.applied_index}, the leader at {leader.commit_index}.",
                effect="Its clients see old messages. It counts for no majority of the newest entries.",
                command=on_its_machine(node.name),
            )
    for node in facts.whole:
        if node.snapshots:
            yield warning(
                node=node.name,
                text=f"{node.name} reports: {node.snapshots}.",
                effect="The node that needs the copy does not catch up.",
                command="parley cluster status",
            )


def state(facts: Facts) -> Iterator[Finding]:
    reports = {node.divergence: node.name for node in reversed(facts.whole) if node.divergence}
    for text, name in reports.items():
        yield critical(
            node=name,
            text=f"{name} reports: {text}",
            effect="The node that is concerned serves no clients. The others have the right state.",
            command="parley cluster rebuild NAME",
        )
    by_index: dict[int, dict[str, list[str]]] = {}
    for node in facts.whole:
        if node.state_hash and node.cluster_id == facts.cluster_id:
            by_index.setdefault(node.applied_index, {}).setdefault(node.state_hash, []).append(node.name)
    for index, hashes in by_index.items():
        if len(hashes) > 1:
            groups = " and ".join(f"{', '.join(names)} ({state_hash})" for state_hash, names in hashes.items())
            yield critical(
                text=f"The states differ at entry {index}: {groups}.",
                effect="One of them has a wrong state. Nodes compare their states, too, and fence the minority.",
                command="parley cluster rebuild NAME    (of the node that the cluster names)",
            )


def releases(facts: Facts) -> Iterator[Finding]:
    versions = sorted({node.version for node in facts.whole}, key=_numbers)
    if len(versions) > 1:
        texts = [f"{node.name} runs {node.version}" for node in facts.whole]
        yield warning(
            text=f"The nodes run different releases: {', '.join(texts)}.",
            effect="The level of the cluster does not rise until the update is finished. Nothing is lost.",
            command=f"Install release {versions[-1]} on the other nodes, one after the other.",
        )
    level = max((node.level for node in facts.whole), default=0)
    common = min((member.max_level for member in facts.members if member.max_level), default=0)
    if len(versions) == 1 and level and level < common:
        yield note(
            text=f"The level of the cluster is {level}, and all members support {common}.",
            effect="New features wait for the level. It rises by itself unless level_limit holds it.",
            command="parley cluster settings",
        )


def _numbers(version: str) -> list[int]:
    """Return what orders releases: 0.10 comes after 0.9."""
    return [int(number) for number in re.findall(r"[0-9]+", version)]


def clocks(facts: Facts) -> Iterator[Finding]:
    for name, offset_ms in facts.clocks().items():
        if abs(offset_ms) <= CLOCK_WARNING_MS:
            continue
        make = critical if abs(offset_ms) > CLOCK_CRITICAL_MS else warning
        way = "ahead of" if offset_ms > 0 else "behind"
        yield make(
            node=name,
            text=f"The clock of {name} is {abs(offset_ms) / 1000:.0f} s {way} the others.",
            effect="The cluster goes by the majority. If most clocks are wrong, sessions expire at the wrong time.",
            command=f"timedatectl set-ntp true    (on the machine of {name})",
        )
    for node in facts.whole:
        if node.clock:
            yield critical(
                node=node.name,
                text=f"{node.name} reports: {node.clock}.",
                effect="A node whose clock is wrong does not lead.",
                command="timedatectl set-ntp true    (on the machine that it names)",
            )
    yield from _cluster_time(facts)


def _cluster_time(facts: Facts) -> Iterator[Finding]:
    """Yield a finding if the time of the cluster is ahead of this machine's and of most of the nodes' clocks."""
    ahead = [
        node.cluster_time_ms - facts.now_ms - (node.clock_offset_ms or 0.0)
        for node in facts.whole
        if node.cluster_time_ms and node.clock_offset_ms is not None
    ]
    most_ms = median_low(ahead) if ahead else 0.0  # of most of them, at least so much
    if most_ms > CLOCK_CRITICAL_MS:
        yield critical(
            text=f"The time of the cluster is {most_ms / 1000:.0f} s ahead of its nodes' clocks.",
            effect="Sessions expire too early.",
            command="parley cluster set-time",
        )


def certificates(facts: Facts) -> Iterator[Finding]:
    for node in facts.whole:
        if not node.certificate_expires_at_ms:
            continue
        days = (node.certificate_expires_at_ms - facts.now_ms) // DAY_MS
        if days > CERTIFICATE_WARNING_DAYS:
            continue
        make = critical if days <= CERTIFICATE_CRITICAL_DAYS else warning
        yield make(
            node=node.name,
            text=f"The certificate of {node.name}, or its CA, has expired."
            if days < 0
            else f"The certificate of {node.name}, or its CA, expires in {days} days.",
            effect="After that day no node and no client can connect to it. Its data stays.",
            command=f"parleyd cert renew {node.name}.pem --ca FOLDER    (then copy it to {node.name})",
        )


def disks(facts: Facts) -> Iterator[Finding]:
    for node in facts.whole:
        if node.refused:
            yield critical(
                text=f"{node.refused[:1].upper()}{node.refused[1:]}.",
                effect="What is stored is safe. Clients keep what they could not send.",
                command="parley cluster status    (names the disks; make room there)",
            )
    for node in facts.whole:
        free, reserve = node.disk_free_bytes, node.disk_reserve_bytes
        if not reserve or (free >= 2 * reserve and not node.disk):
            continue
        make = critical if free < reserve or node.disk else warning
        yield make(
            node=node.name,
            text=f"The disk of {node.name} has {free // MIB} MiB free; {reserve // MIB} MiB are its reserve.",
            effect="Below the reserve the node does not lead. With a majority below it, the cluster takes no messages.",
            command=f"df -h    (on the machine of {node.name}: make room)",
        )


def sync(facts: Facts) -> Iterator[Finding]:
    """Yield the nodes whose durable writes are slow."""
    for node in facts.whole:
        if node.log_write_ms < SYNC_WARNING_MS:
            continue
        make = critical if node.log_write_ms >= SYNC_CRITICAL_MS else warning
        yield make(
            node=node.name,
            text=f"A durable write of {node.name} takes {node.log_write_ms:.0f} ms (median of the last ones).",
            effect="Every message waits for such a write on a majority of the nodes.",
            command=on_its_machine(node.name),
        )


def event_loops(facts: Facts) -> Iterator[Finding]:
    """Yield the nodes whose event loop is late."""
    for node in facts.whole:
        if node.loop_lag_ms >= LOOP_WARNING_MS:
            yield warning(
                node=node.name,
                text=f"The event loop of {node.name} is late by {node.loop_lag_ms} ms for half of the time.",
                effect="Every call of its clients waits so long. A leader hands over to a punctual node if it can.",
                command=f"top    (on the machine of {node.name}: look for what else uses its processors)",
            )


def descriptors(facts: Facts) -> Iterator[Finding]:
    for node in facts.whole:
        if not node.open_files_limit or not node.open_files:
            continue
        percent = 100 * node.open_files // node.open_files_limit
        if percent < FILES_WARNING_PERCENT:
            continue
        make = critical if percent >= FILES_CRITICAL_PERCENT else warning
        yield make(
            node=node.name,
            text=f"{node.name} has {node.open_files} of {node.open_files_limit} files open ({percent}%).",
            effect="At the limit it accepts no more clients.",
            command=f"systemctl edit parleyd    (on the machine of {node.name}: raise LimitNOFILE, then restart it)",
        )


def backups(facts: Facts) -> Iterator[Finding]:
    """Yield the nodes whose own backups are too old, or that no node writes any."""
    planned = [node for node in facts.whole if node.backup_interval_s]
    if not planned:
        yield note(
            text="No node that answers writes backups by itself.",
            effect="If a majority of the disks is lost, what is in no backup is lost. Others are not known here.",
            command="parley cluster backup FILE    (or set backup_folder and backup_interval_s on a node)",
        )
    for node in planned:
        since_s = (facts.now_ms - node.last_backup_at_ms) / 1000 if node.last_backup_at_ms else node.uptime_s
        intervals = since_s / node.backup_interval_s
        if intervals <= BACKUP_WARNING_INTERVALS:
            continue
        make = critical if intervals > BACKUP_CRITICAL_INTERVALS else warning
        age = f"is {since_s / 3600:.0f} h old" if node.last_backup_at_ms else "does not exist"
        yield make(
            node=node.name,
            text=f"The newest backup of {node.name} {age}; one is due every {node.backup_interval_s / 3600:g} h.",
            effect="If a majority of the disks is lost, all that is newer is lost.",
            command=f"parley cluster backup FILE    (then look for backup_failed in the log of {node.name})",
        )
