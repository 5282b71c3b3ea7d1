"""The rules of `parley cluster doctor`: findings = judge(answers, now). Pure.

docs/OPERATIONS.md has each rule with its bound. A rule yields what is wrong. A rule that yields nothing is reported as
ok. Rules that need what nodes tell only to accounts are not judged without a session, and one note says so.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from parley import NodeStatus
from parley.terminal import doctor_cluster_rules as cluster_rules
from parley.terminal import doctor_node_rules as node_rules
from parley.terminal.doctor_facts import Facts, facts_of
from parley.terminal.doctor_findings import Finding, Severity, note, worst_first


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule: its name, the text if it finds nothing, and whether it needs what only accounts are told."""

    name: str
    fine: str
    look: Callable[[Facts], Iterator[Finding]]
    needs_session: bool = False


RULES = (
    Rule("answers", "Every node answers.", cluster_rules.answers),
    Rule("majority", "A majority serves.", cluster_rules.majority),
    Rule("leader", "The nodes agree who leads.", cluster_rules.leader),
    Rule("spare", "The cluster survives the failure of another node.", cluster_rules.spare),
    Rule("few_nodes", "The number of voters is right.", cluster_rules.few_nodes),
    Rule("wrong_members", "Only members of this cluster answer.", cluster_rules.foreign_nodes),
    Rule("changes", "No change of the members is in progress.", cluster_rules.changes),
    Rule("connections", "The nodes that answer are connected to each other.", cluster_rules.connections),
    Rule("lag", "No node is behind.", node_rules.lag, needs_session=True),
    Rule("state", "The states agree.", node_rules.state, needs_session=True),
    Rule("releases", "All nodes run one release.", node_rules.releases, needs_session=True),
    Rule("clocks", "The clocks agree.", node_rules.clocks, needs_session=True),
    Rule("certificates", "No certificate expires soon.", node_rules.certificates, needs_session=True),
    Rule("disks", "The disks have room.", node_rules.disks, needs_session=True),
    Rule("backups", "The newest backups are young enough.", node_rules.backups, needs_session=True),
    Rule("sync", "Durable writes are fast.", node_rules.sync, needs_session=True),
    Rule("event_loops", "The event loops are punctual.", node_rules.event_loops, needs_session=True),
    Rule("descriptors", "The nodes have files left to open.", node_rules.descriptors, needs_session=True),
)


def judge(nodes: Sequence[NodeStatus], now_ms: int) -> tuple[Finding, ...]:
    """Return the findings of all rules, worst first. `nodes` are the answers of one look, `now_ms` is Unix time."""
    facts = facts_of(nodes, now_ms)
    findings: list[Finding] = []
    skipped: list[str] = []
    for rule in RULES:
        if (rule.needs_session and not facts.whole) or (rule.name != "answers" and not facts.answered):
            skipped.append(rule.name)
            continue
        found = [replace(finding, rule=rule.name) for finding in rule.look(facts)]
        findings += found or [Finding(rule.name, Severity.OK, rule.fine)]
    if skipped:
        findings.append(_not_judged(skipped, facts))
    elif untold := [node.name for node in facts.answered if not node.version]:
        findings.append(_not_told(untold))
    return worst_first(findings)


def _not_judged(skipped: Sequence[str], facts: Facts) -> Finding:
    return note(
        rule="session",
        text=f"Not judged: {', '.join(skipped)}.",
        effect="Nodes tell it to accounts only." if facts.answered else "No node answered.",
        command="parley login NAME    (then again: parley cluster doctor)" if facts.answered else "",
    )


def _not_told(names: Sequence[str]) -> Finding:
    return note(
        rule="session",
        text=f"Judged only in part: {', '.join(names)}.",
        effect="These nodes do not know this session, because they are behind or fenced.",
        command="parley cluster doctor    (again, after ten seconds)",
    )
