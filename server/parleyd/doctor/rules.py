"""The rules of `parleyd doctor`: findings = judge(facts). Pure; docs/OPERATIONS.md has each with its bound.

A rule yields what is wrong, and its table row adds its name. A rule that yields nothing is reported as ok. A rule
without facts is not reported.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

from parleyd.doctor.facts import (
    BackupsLook,
    CertificateLook,
    DirectoryLook,
    DiskLook,
    Facts,
    FilesLook,
    NameLook,
    NodeLook,
    PagesLook,
    PeerLook,
    PortLook,
    PortState,
    SettingsLook,
    SyncLook,
)
from parleyd.doctor.findings import Finding, Severity, critical, note, warning, worst_first

CERTIFICATE_WARNING_DAYS = 30
CERTIFICATE_CRITICAL_DAYS = 7
SYNC_WARNING_MS = 20.0
SYNC_CRITICAL_MS = 100.0
BACKUP_WARNING_INTERVALS = 2
BACKUP_CRITICAL_INTERVALS = 7
CLOCK_WARNING_MS = 5_000
CLOCK_CRITICAL_MS = 60_000
MIB = 1 << 20

_SHOW_CONFIG = "parleyd config --config FILE"
_NO_START = "The node does not start with this. Its data is untouched."
_MENDED_BY_REJOIN = "parley cluster remove NAME    (then join with an empty data directory, as the text says)"


def _settings(look: SettingsLook, _: Facts) -> Iterator[Finding]:
    for problem in look.problems:
        yield critical(text=problem, effect=_NO_START, command=_SHOW_CONFIG)
    for text in look.warnings:
        yield warning(text=text, effect="The node starts with it.", command=_SHOW_CONFIG)
    if look.is_insecure:
        yield note(
            text="The node runs without TLS (insecure).",
            effect="Whoever reaches its ports can read messages and act as a node.",
            command="parleyd cert node NAME --host HOST --ca FOLDER --out FOLDER",
        )


def _certificate(look: CertificateLook, facts: Facts) -> Iterator[Finding]:
    renew = f"parleyd cert renew {facts.name}.pem --ca FOLDER    (then copy it here)"
    if look.error:
        yield critical(text=f"{look.error}.", effect=_NO_START, command=renew)
    days = look.days_left
    if days is not None and days <= CERTIFICATE_WARNING_DAYS:
        make = critical if days <= CERTIFICATE_CRITICAL_DAYS else warning
        yield make(
            text=f"The certificate, or its CA, expires in {days} days.",
            effect="After that day no node and no client can connect to this node. Its data stays.",
            command=renew,
        )
    for text in look.warnings:
        yield warning(
            text=f"{text}.",
            effect="Some clients cannot connect.",
            command=f"parleyd cert node {facts.name} --host HOST --ca FOLDER --out FOLDER --force",
        )


def _data_directory(look: DirectoryLook, _: Facts) -> Iterator[Finding]:
    if not look.exists:
        yield note(
            text=f"{look.path} does not exist.",
            effect="The node makes it when it starts, as a new node. If it had one before, this is the wrong place.",
            command=_SHOW_CONFIG,
        )
    if look.error:
        yield critical(text=look.error, effect=_NO_START, command=f"ls -ld {look.path}")
    if not look.is_private:
        yield warning(
            text=f"{look.path} can be read by other users.",
            effect="It has all messages and password hashes. The node takes these rights away when it starts.",
            command=f"chmod -R go= {look.path}",
        )
    if not look.is_own:
        yield warning(
            text=f"{look.path} belongs to another user than the one who runs this command.",
            effect="A node of this user may not be able to write it.",
            command=f"ls -ld {look.path}    (run doctor and node as its owner)",
        )


def _identity(look: DirectoryLook, facts: Facts) -> Iterator[Finding]:
    if look.identity_error:
        yield critical(text=look.identity_error, effect=_NO_START, command=_MENDED_BY_REJOIN)
    elif facts.name and look.identity_name and look.identity_name != facts.name:
        yield critical(
            text=f"{look.path} belongs to node {look.identity_name}, and the settings name {facts.name}.",
            effect="The node does not start on the data of another one. Its data is untouched.",
            command=_SHOW_CONFIG,
        )


def _place(look: DirectoryLook, _: Facts) -> Iterator[Finding]:
    if look.place_error:
        yield critical(text=f"{look.place_error}.", effect=_NO_START, command="parleyd moved --help")


def _log(look: DirectoryLook, _: Facts) -> Iterator[Finding]:
    for text in filter(None, (look.log_error, look.lost_entries)):
        yield critical(text=text, effect=_NO_START, command=_MENDED_BY_REJOIN)


def _state(look: DirectoryLook, _: Facts) -> Iterator[Finding]:
    if look.state_error:
        yield critical(text=look.state_error, effect=_NO_START, command=_MENDED_BY_REJOIN)
    if look.fence:
        yield critical(
            text=f"This node's state is not trusted: {look.fence}.",
            effect="The node serves no clients. Its log and vote count. The others have the right state.",
            command=f"parley cluster rebuild {look.identity_name or 'NAME'}",
        )


def _pages(look: PagesLook, _: Facts) -> Iterator[Finding]:
    if look.error:
        yield note(text=look.error, effect="The checksums were not compared. The node compares at every read.")
    if look.damaged:
        numbers = ", ".join(map(str, look.damaged[:5]))
        yield critical(
            text=f"{len(look.damaged)} of {look.checked} pages of state.sqlite do not match their checksum: {numbers}.",
            effect="The disk altered them. The node stops when it reads one. The other members have the data.",
            command=_MENDED_BY_REJOIN,
        )


def _disk(look: DiskLook, _: Facts) -> Iterator[Finding]:
    if look.error:
        yield critical(text=look.error, effect="The node treats its disk as full.", command="df -h")
    elif look.free_bytes < 2 * look.reserve_bytes:
        make = critical if look.free_bytes < look.reserve_bytes else warning
        yield make(
            text=f"{look.free_bytes // MIB} MiB are free; {look.reserve_bytes // MIB} MiB are the reserve "
            "(disk_reserve_bytes).",
            effect="Below the reserve the node does not lead. Below half of it, it appends nothing.",
            command="df -h",
        )


def _sync(look: SyncLook, _: Facts) -> Iterator[Finding]:
    if look.error:
        yield note(text=look.error, effect="The time of a durable write was not measured.")
    elif look.median_ms >= SYNC_WARNING_MS:
        make = critical if look.median_ms >= SYNC_CRITICAL_MS else warning
        yield make(
            text=f"A durable write takes {look.median_ms:.1f} ms (median; the longest {look.longest_ms:.1f} ms).",
            effect="Every message waits for one on a majority of the nodes.",
            command="iostat -x 1    (look for what else writes, or move data_dir to a faster disk)",
        )


def _backups(look: BackupsLook, _: Facts) -> Iterator[Finding]:
    if not look.folder or not look.interval_s:
        yield note(
            text="This node writes no backups by itself (backup_folder, backup_interval_s).",
            effect="If a majority of the disks is lost, what is in no backup is lost.",
            command="parley cluster backup FILE",
        )
    elif look.error:
        yield critical(text=look.error, effect="The node writes no backups.", command=f"ls -ld {look.folder}")
    elif look.age_s is None or look.age_s > BACKUP_WARNING_INTERVALS * look.interval_s:
        is_critical = look.age_s is not None and look.age_s > BACKUP_CRITICAL_INTERVALS * look.interval_s
        make = critical if is_critical else warning
        age = "does not exist" if look.age_s is None else f"is {look.age_s / 3600:.0f} h old"
        yield make(
            text=f"The newest backup in {look.folder} {age}; one is due every {look.interval_s / 3600:g} h.",
            effect="If a majority of the disks is lost, all that is newer is lost.",
            command="parley cluster backup FILE    (then look for backup_failed in the log)",
        )


def _open_files(look: FilesLook, _: Facts) -> Iterator[Finding]:
    if look.limit is None or look.limit >= look.needed:
        return
    make = critical if look.limit < look.least else warning
    whose = "The running node" if look.of_node else "A process that this user starts"
    yield make(
        text=f"{whose} may open {look.limit} files, and max_connections needs {look.needed}.",
        effect=_NO_START if look.limit < look.least else "The node accepts fewer clients.",
        command=f"systemctl edit parleyd    (LimitNOFILE={look.needed}; without systemd: ulimit -Hn {look.needed})",
    )


def _ports(look: tuple[PortLook, ...], _: Facts) -> Iterator[Finding]:
    for port in look:
        if port.state in (PortState.FREE, PortState.ANSWERS):
            continue
        if port.state is PortState.SILENT:
            text = f"{port.setting}: the node runs, and {port.address} does not answer: {port.detail}."
            effect = "Nobody can connect there. What the node has acknowledged is on its disk."
        elif port.state is PortState.TAKEN:
            text = f"{port.setting}: another process has {port.address}."
            effect = _NO_START
        else:
            text = f"{port.setting}: {port.address} cannot be listened on: {port.detail}."
            effect = _NO_START
        yield critical(text=text, effect=effect, command="ss -ltnp")


def _names(look: tuple[NameLook, ...], _: Facts) -> Iterator[Finding]:
    for name in look:
        if name.error:
            make = critical if name.is_own else warning
            yield make(
                text=f"{name.host} has no address here: {name.error}.",
                effect="Others are told this name of this node." if name.is_own else "This node cannot connect to it.",
                command=f"getent hosts {name.host}",
            )


def _peers(look: tuple[PeerLook, ...], _: Facts) -> Iterator[Finding]:
    for peer in look:
        if peer.error:
            yield warning(
                text=f"{peer.name} does not answer at {peer.address}: {peer.error}.",
                effect="This node exchanges nothing with it. A majority must be reachable for messages to be accepted.",
                command=f"parleyd doctor --config FILE    (on the machine of {peer.name}; then look at firewalls)",
            )


def _clock(facts: Facts, _: Facts) -> Iterator[Finding]:
    mend = "timedatectl set-ntp true"
    if facts.is_clock_synchronised is False:
        yield note(
            text="The system says that its clock is not synchronised.",
            effect="A clock that is wrong by more than a minute keeps this node from leading.",
            command=mend,
        )
    node = facts.node
    if node is None or node.error:
        return
    if node.cluster_ahead_ms > CLOCK_WARNING_MS:
        make = critical if node.cluster_ahead_ms > CLOCK_CRITICAL_MS else warning
        yield make(
            text=f"This machine's clock is {node.cluster_ahead_ms / 1000:.0f} s behind the time of the cluster.",
            effect="Either this clock is wrong, or a majority of clocks was wrong and sessions expire too early.",
            command=f"{mend}    (if this clock is right: parley cluster set-time)",
        )
    if node.wrong_clocks:
        yield critical(
            text=f"The node reports: {node.wrong_clocks}.",
            effect="A node whose clock is wrong does not lead.",
            command=f"{mend}    (on the machine that it names)",
        )


def _node(look: NodeLook, _: Facts) -> Iterator[Finding]:
    if look.error:
        yield warning(
            text=f"The node runs and does not tell its status: {look.error}.",
            effect="It may be starting, or its certificate may have another name than the address.",
            command="parleyd doctor --config FILE    (again, after ten seconds; then read its log)",
        )
        return
    if look.removed:
        yield critical(
            text="The node runs and is no member of the cluster any more.",
            effect="It has no vote, and its data grows old.",
            command="parley cluster invite-node    (then start it with an empty data directory)",
        )
    if not look.serving:
        yield critical(
            text="The node knows no leader with a majority.",
            effect="It accepts nothing. What it acknowledged is on disks.",
            command="parley cluster doctor",
        )
    if look.divergence:
        yield critical(
            text=f"The node reports: {look.divergence}",
            effect="The node that is concerned serves no clients.",
            command="parley cluster rebuild NAME",
        )
    if look.disconnected:
        yield warning(
            text=f"The node has no connection to {', '.join(look.disconnected)}.",
            effect="The cluster survives fewer failures.",
            command="parley cluster doctor",
        )


T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Rule(Generic[T]):
    """A rule: its name, the text if it finds nothing, what it looks at (None: there are no facts), and its findings."""

    name: str
    fine: str
    of: Callable[[Facts], T | None]
    find: Callable[[T, Facts], Iterator[Finding]]

    def judge(self, facts: Facts) -> list[Finding]:
        """Return the findings under the rule's name; one that all is well, and none without facts."""
        look = self.of(facts)
        if look is None:
            return []
        found = [replace(finding, rule=self.name) for finding in self.find(look, facts)]
        return found or [Finding(self.name, Severity.OK, self.fine)]


def _on_disk(facts: Facts) -> DirectoryLook | None:
    look = facts.directory
    return look if look is not None and look.exists and not look.error else None


def _clocks(facts: Facts) -> Facts | None:
    is_told = facts.node is not None and not facts.node.error
    return facts if is_told or facts.is_clock_synchronised is not None else None


RULES: tuple[Rule[Any], ...] = (
    Rule("settings", "The settings can be used.", lambda facts: facts.settings, _settings),
    Rule("certificate", "Certificate, key and CA fit.", lambda facts: facts.certificate, _certificate),
    Rule("data_directory", "The data directory is private.", lambda facts: facts.directory, _data_directory),
    Rule("identity", "The identity can be read.", _on_disk, _identity),
    Rule("place", "The directory is no copy.", _on_disk, _place),
    Rule("log", "The log can be read.", _on_disk, _log),
    Rule("state", "The state can be read.", _on_disk, _state),
    Rule("pages", "The pages match their checksums.", lambda facts: facts.pages, _pages),
    Rule("disk", "The disk has room.", lambda facts: facts.disk, _disk),
    Rule("sync", "Durable writes are fast.", lambda facts: facts.sync, _sync),
    Rule("backups", "The newest backup is young enough.", lambda facts: facts.backups, _backups),
    Rule("open_files", "The limit of open files is high enough.", lambda facts: facts.files, _open_files),
    Rule("ports", "The ports are free, or the node answers.", lambda facts: facts.ports, _ports),
    Rule("names", "The names have addresses.", lambda facts: facts.names, _names),
    Rule("peers", "The other nodes answer.", lambda facts: facts.peers, _peers),
    Rule("clock", "The clock is right.", _clocks, _clock),
    Rule("node", "The running node serves.", lambda facts: facts.node, _node),
)


def judge(facts: Facts) -> tuple[Finding, ...]:
    """Return the findings of all rules that have facts, worst first."""
    return worst_first([finding for rule in RULES for finding in rule.judge(facts)])
