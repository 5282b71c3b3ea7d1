"""What `parley cluster doctor` reports: findings, their order, their form for programs, and their lines for people."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from functools import partial
from typing import Any

from parley import NodeStatus
from parley.terminal.exits import ExitCode
from parley.terminal.text import safe_lines

JSON_VERSION = 1
"""Of the form for programs. Names may be added in a version. None changes its meaning, and none goes."""


class Severity(IntEnum):
    """How serious a finding is. The order is that of the table."""

    OK = 0
    NOTE = 1  # nothing has to be done
    WARNING = 2  # the cluster works, and the next fault or the coming days may stop it
    CRITICAL = 3  # the cluster or a node does not work, or data is at risk


EXITS = {
    Severity.OK: ExitCode.OK,
    Severity.NOTE: ExitCode.OK,
    Severity.WARNING: ExitCode.WARNING,
    Severity.CRITICAL: ExitCode.CRITICAL,
}


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one rule: what was found, what it means for the data, and the command that mends it.

    `node` is empty for the whole cluster. `effect` and `command` are empty if there is nothing to do.
    """

    rule: str
    severity: Severity
    text: str
    effect: str = ""
    command: str = ""
    node: str = ""


# Rules yield these without their name. Who runs a rule puts it there.
note = partial(Finding, rule="", severity=Severity.NOTE)
warning = partial(Finding, rule="", severity=Severity.WARNING)
critical = partial(Finding, rule="", severity=Severity.CRITICAL)


def on_its_machine(name: str) -> str:
    """Return the command that looks closer at one node."""
    return f"parleyd doctor --config FILE    (on the machine of {name})"


def worst_first(findings: Sequence[Finding]) -> tuple[Finding, ...]:
    """Return the findings in the order of the table: by severity, and those of one severity as they came."""
    return tuple(sorted(findings, key=lambda finding: -finding.severity))


def worst(findings: Sequence[Finding]) -> Severity:
    """Return the severity of the most serious finding, OK if there is none."""
    return max((finding.severity for finding in findings), default=Severity.OK)


def report(findings: Sequence[Finding], nodes: Sequence[NodeStatus], now_ms: int) -> dict[str, Any]:
    """Return the report for programs; docs/OPERATIONS.md describes it."""
    return {
        "version": JSON_VERSION,
        "made_at_ms": now_ms,
        "worst": worst(findings).name.lower(),
        "counts": {severity.name.lower(): _count(findings, severity) for severity in Severity},
        "nodes": [
            {"name": node.name, "address": node.address, "answered": not node.error, "error": node.error}
            for node in nodes
        ],
        "findings": [
            {
                "rule": finding.rule,
                "severity": finding.severity.name.lower(),
                "node": finding.node,
                "text": finding.text,
                "effect": finding.effect,
                "command": finding.command,
            }
            for finding in findings
        ],
    }


def lines(findings: Sequence[Finding]) -> list[str]:
    """Return the table for people: one line for each finding, below it the effect and the command, and a summary."""
    shown = [finding for finding in findings if finding.severity is not Severity.OK]
    node_width = max([len(finding.node) for finding in shown] + [len("NODE")])
    rule_width = max([len(finding.rule) for finding in shown] + [len("RULE")])
    table = [f"{'SEVERITY':8}  {'NODE':{node_width}}  {'RULE':{rule_width}}  FINDING"] if shown else []
    for finding in shown:
        severity = finding.severity.name.lower()
        table.append(f"{severity:8}  {finding.node or '-':{node_width}}  {finding.rule:{rule_width}}  {finding.text}")
        table += [
            f"{'':8}    {line}" for line in (finding.effect, finding.command and f"Run: {finding.command}") if line
        ]
    fine = [finding.rule for finding in findings if finding.severity is Severity.OK]
    below = [f"Nothing found by: {', '.join(fine)}."] if fine else []
    return safe_lines((*table, *([""] if table else []), *below, _summary(findings)))


def _summary(findings: Sequence[Finding]) -> str:
    critical, warnings, notes = (_count(findings, s) for s in (Severity.CRITICAL, Severity.WARNING, Severity.NOTE))
    return f"{critical} critical, {_plural(warnings, 'warning')}, {_plural(notes, 'note')}."


def _plural(count: int, noun: str) -> str:
    return f"{count} {noun}{'s' if count != 1 else ''}"


def _count(findings: Sequence[Finding], severity: Severity) -> int:
    return sum(1 for finding in findings if finding.severity is severity)
