"""The rules of `parleyd doctor`: findings = judge(facts). Pure; docs/OPERATIONS.md has each with its bound.

A rule yields what is wrong. A rule that yields nothing is reported as ok. A rule without facts is not reported.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from parleyd.doctor.facts import Facts, PortState
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


def _settings(facts: Facts) -> Iterator[Finding]:
    if facts.settings is None:
        return
    for problem in facts.settings.problems:
        yield critical(rule="settings", text=problem, effect=_NO_START, command=_SHOW_CONFIG)
    for text in facts.settings.warnings:
        yield warning(rule="settings", text=text, effect="The node starts with it.", command=_SHOW_CONFIG)
    if facts.settings.is_insecure:
        yield note(
            rule="settings",
            text="The node runs without TLS (insecure).",
            effect="Whoever reaches its ports can read messages and act as a node.",
            command="parleyd cert node NAME --host HOST --ca FOLDER --out FOLDER",
        )


def _certificate(facts: Facts) -> Iterator[Finding]:
    look, rule = facts.certificate, "certificate"
    if look is None:
        return
    renew = f"parleyd cert renew {facts.name}.pem --ca FOLDER    (then copy it here)"
    if look.error:
        yield critical(rule=rule, text=f"{look.error}.", effect=_NO_START, command=renew)
    days = look.days_left
    if days is not None and days <= CERTIFICATE_WARNING_DAYS:
        make = critical if days <= CERTIFICATE_CRITICAL_DAYS else warning
        yield make(
            rule=rule,
            text=f"The certificate, or its CA, expires in {days} days.",
            effect="After that day no node and no client can connect to this node. Its data stays.",
            command=renew,
        )
    for text in look.warnings:
        yield warning(
            rule=rule,
            text=f"{text}.",
            effect="Some clients cannot connect.",
            command=f"parleyd cert node {facts.name} --host HOST --ca FOLDER --out FOLDER --force",
        )


def _data_directory(facts: Facts) -> Iterator[Finding]:
    look, rule = facts.directory, "data_directory"
    if look is None:
        return
    if not look.exists:
        yield note(
            rule=rule,
            text=f"{look.path} does not exist.",
            effect="The node makes it when it starts, as a new node. If it had one before, this is the wrong place.",
            command=_SHOW_CONFIG,
        )
    if look.error:
        yield critical(rule=rule, text=look.error, effect=_NO_START, command=f"ls -ld {look.path}")
    if not look.is_private:
        yield warning(
            rule=rule,
            text=f"{look.path} can be read by other users.",
            effect="It has all messages and password hashes. The node takes these rights away when it starts.",
            command=f"chmod -R go= {look.path}",
        )
    if not look.is_own:
        yield warning(
            rule=rule,
            text=f"{look.path} belongs to another user than the one who runs this command.",
            effect="A node of this user may not be able to write it.",
            command=f"ls -ld {look.path}    (run doctor and node as its owner)",
        )


def _identity(facts: Facts) -> Iterator[Finding]:
    look, rule = facts.directory, "identity"
    if look is None or not look.exists:
        return
    if look.identity_error:
        yield critical(rule=rule, text=look.identity_error, effect=_NO_START, command=_MENDED_BY_REJOIN)
    elif facts.name and look.identity_name and look.identity_name != facts.name:
        yield critical(
            rule=rule,
            text=f"{look.path} belongs to node {look.identity_name}, and the settings name {facts.name}.",
            effect="The node does not start on the data of another one. Its data is untouched.",
            command=_SHOW_CONFIG,
        )


def _log(facts: Facts) -> Iterator[Finding]:
    look, rule = facts.directory, "log"
    if look is None:
        return
    for text in filter(None, (look.log_error, look.lost_entries)):
        yield critical(rule=rule, text=text, effect=_NO_START, command=_MENDED_BY_REJOIN)


def _state(facts: Facts) -> Iterator[Finding]:
    look, rule = facts.directory, "state"
    if look is None:
        return
    if look.state_error:
        yield critical(rule=rule, text=look.state_error, effect=_NO_START, command=_MENDED_BY_REJOIN)
    if look.fence:
        yield critical(
            rule=rule,
            text=f"This node's state is not trusted: {look.fence}.",
            effect="The node serves no clients. Its log and vote count. The others have the right state.",
            command=f"parley cluster rebuild {look.identity_name or 'NAME'}",
        )


def _pages(facts: Facts) -> Iterator[Finding]:
    look, rule = facts.pages, "pages"
    if look is None:
        return
    if look.error:
        yield note(
            rule=rule, text=look.error, effect="The checksums were not compared. The node compares at every read."
        )
    if look.damaged:
        numbers = ", ".join(map(str, look.damaged[:5]))
        yield critical(
            rule=rule,
            text=f"{len(look.damaged)} of {look.checked} pages of state.sqlite do not match their checksum: {numbers}.",
            effect="The disk altered them. The node stops when it reads one. The other members have the data.",
            command=_MENDED_BY_REJOIN,
        )


def _disk(facts: Facts) -> Iterator[Finding]:
    look, rule = facts.disk, "disk"
    if look is None:
        return
    if look.error:
        yield critical(rule=rule, text=look.error, effect="The node treats its disk as full.", command="df -h")
    elif look.free_bytes < 2 * look.reserve_bytes:
        make = critical if look.free_bytes < look.reserve_bytes else warning
        yield make(
            rule=rule,
            text=f"{look.free_bytes // MIB} MiB are free; {look.reserve_bytes // MIB} MiB are the reserve "
            "(disk_reserve_bytes).",
            effect="Below the reserve the node does not lead. Below half of it, it appends nothing.",
            command="df -h",
        )


def _sync(facts: Facts) -> Iterator[Finding]:
    look, rule = facts.sync, "sync"
    if look is None:
        return
    if look.error:
        yield note(rule=rule, text=look.error, effect="The time of a durable write was not measured.")
    elif look.median_ms >= SYNC_WARNING_MS:
        make = critical if look.median_ms >= SYNC_CRITICAL_MS else warning
        yield make(
            rule=rule,
            text=f"A durable write takes {look.median_ms:.1f} ms (median; the longest {look.longest_ms:.1f} ms).",
            effect="Every message waits for one on a majority of the nodes.",
            command="iostat -x 1    (look for what else writes, or move data_dir to a faster disk)",
        )


def _backups(facts: Facts) -> Iterator[Finding]:
    look, rule = facts.backups, "backups"
    if look is None:
        return
    if not look.folder or not look.interval_s:
        yield note(
            rule=rule,
            text="This node writes no backups by itself (backup_folder, backup_interval_s).",
            effect="If a majority of the disks is lost, what is in no backup is lost.",
            command="parley cluster backup FILE",
        )
    elif look.error:
        yield critical(
            rule=rule, text=look.error, effect="The node writes no backups.", command=f"ls -ld {look.folder}"
        )
    elif look.age_s is None or look.age_s > BACKUP_WARNING_INTERVALS * look.interval_s:
        is_critical = look.age_s is not None and look.age_s > BACKUP_CRITICAL_INTERVALS * look.interval_s
        make = critical if is_critical else warning
        age = "does not exist" if look.age_s is None else f"is {look.age_s / 3600:.0f} h old"
        yield make(
            rule=rule,
            text=f"The newest backup in {look.folder} {age}; one is due every {look.interval_s / 3600:g} h.",
            effect="If a majority of the disks is lost, all that is newer is lost.",
            command="parley cluster backup FILE    (then look for backup_failed in the log)",
        )


def _open_files(facts: Facts) -> Iterator[Finding]:
    look = facts.files
    if look is None or look.limit is None or look.limit >= look.needed:
        return
    make = critical if look.limit < look.least else warning
    whose = "The running node" if look.of_node else "A process that this user starts"
    yield make(
        rule="open_files",
        text=f"{whose} may open {look.limit} files, and max_connections needs {look.needed}.",
        effect=_NO_START if look.limit < look.least else "The node accepts fewer clients.",
        command=f"systemctl edit parleyd    (LimitNOFILE={look.needed}; without systemd: ulimit -Hn {look.needed})",
    )


def _ports(facts: Facts) -> Iterator[Finding]:
    for port in facts.ports or ():
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
        yield critical(rule="ports", text=text, effect=effect, command="ss -ltnp")


def _names(facts: Facts) -> Iterator[Finding]:
    for name in facts.names or ():
        if name.error:
            make = critical if name.is_own else warning
            yield make(
                rule="names",
                text=f"{name.host} has no address here: {name.error}.",
                effect="Others are told this name of this node." if name.is_own else "This node cannot connect to it.",
                command=f"getent hosts {name.host}",
            )


def _peers(facts: Facts) -> Iterator[Finding]:
    for peer in facts.peers or ():
        if peer.error:
            yield warning(
                rule="peers",
                text=f"{peer.name} does not answer at {peer.address}: {peer.error}.",
                effect="This node exchanges nothing with it. A majority must be reachable for messages to be accepted.",
                command=f"parleyd doctor --config FILE    (on the machine of {peer.name}; then look at firewalls)",
            )


def _clock(facts: Facts) -> Iterator[Finding]:
    rule, mend = "clock", "timedatectl set-ntp true"
    if facts.is_clock_synchronised is False:
        yield note(
            rule=rule,
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
            rule=rule,
            text=f"This machine's clock is {node.cluster_ahead_ms / 1000:.0f} s behind the time of the cluster.",
            effect="Either this clock is wrong, or a majority of clocks was wrong and sessions expire too early.",
            command=f"{mend}    (if this clock is right: parley cluster set-time)",
        )
    if node.wrong_clocks:
        yield critical(
            rule=rule,
            text=f"The node reports: {node.wrong_clocks}.",
            effect="A node whose clock is wrong does not lead.",
            command=f"{mend}    (on the machine that it names)",
        )


def _node(facts: Facts) -> Iterator[Finding]:
    node, rule = facts.node, "node"
    if node is None:
        return
    if node.error:
        yield warning(
            rule=rule,
            text=f"The node runs and does not tell its status: {node.error}.",
            effect="It may be starting, or its certificate may have another name than the address.",
            command="parleyd doctor --config FILE    (again, after ten seconds; then read its log)",
        )
        return
    if node.removed:
        yield critical(
            rule=rule,
            text="The node runs and is no member of the cluster any more.",
            effect="It has no vote, and its data grows old.",
            command="parley cluster invite-node    (then start it with an empty data directory)",
        )
    if not node.serving:
        yield critical(
            rule=rule,
            text="The node knows no leader with a majority.",
            effect="It accepts nothing. What it acknowledged is on disks.",
            command="parley cluster doctor",
        )
    if node.divergence:
        yield critical(
            rule=rule,
            text=f"The node reports: {node.divergence}",
            effect="The node that is concerned serves no clients.",
            command="parley cluster rebuild NAME",
        )
    if node.disconnected:
        yield warning(
            rule=rule,
            text=f"The node has no connection to {', '.join(node.disconnected)}.",
            effect="The cluster survives fewer failures.",
            command="parley cluster doctor",
        )


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule: its name, the text if it finds nothing, and whether there are facts for it."""

    name: str
    fine: str
    look: Callable[[Facts], Iterator[Finding]]
    has_facts: Callable[[Facts], bool]


def _on_disk(facts: Facts) -> bool:
    return facts.directory is not None and facts.directory.exists and not facts.directory.error


RULES = (
    Rule("settings", "The settings can be used.", _settings, lambda facts: facts.settings is not None),
    Rule("certificate", "Certificate, key and CA fit.", _certificate, lambda facts: facts.certificate is not None),
    Rule(
        "data_directory", "The data directory is private.", _data_directory, lambda facts: facts.directory is not None
    ),
    Rule("identity", "The identity can be read.", _identity, _on_disk),
    Rule("log", "The log can be read.", _log, _on_disk),
    Rule("state", "The state can be read.", _state, _on_disk),
    Rule("pages", "The pages match their checksums.", _pages, lambda facts: facts.pages is not None),
    Rule("disk", "The disk has room.", _disk, lambda facts: facts.disk is not None),
    Rule("sync", "Durable writes are fast.", _sync, lambda facts: facts.sync is not None),
    Rule("backups", "The newest backup is young enough.", _backups, lambda facts: facts.backups is not None),
    Rule("open_files", "The limit of open files is high enough.", _open_files, lambda facts: facts.files is not None),
    Rule("ports", "The ports are free, or the node answers.", _ports, lambda facts: facts.ports is not None),
    Rule("names", "The names have addresses.", _names, lambda facts: facts.names is not None),
    Rule("peers", "The other nodes answer.", _peers, lambda facts: facts.peers is not None),
    Rule(
        "clock",
        "The clock is right.",
        _clock,
        lambda facts: facts.is_clock_synchronised is not None or (facts.node is not None and not facts.node.error),
    ),
    Rule("node", "The running node serves.", _node, lambda facts: facts.node is not None),
)


def judge(facts: Facts) -> tuple[Finding, ...]:
    """Return the findings of all rules that have facts, worst first."""
    findings: list[Finding] = []
    for rule in RULES:
        if rule.has_facts(facts):
            findings += list(rule.look(facts)) or [Finding(rule.name, Severity.OK, rule.fine)]
    return worst_first(findings)
