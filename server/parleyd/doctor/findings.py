"""What `parleyd doctor` reports: findings, their order, their form for programs, and their lines for people. Pure.

The form is that of `parley cluster doctor`. Client and node share no code.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial

from parleyd.exits import ExitCode

JSON_VERSION = 1
"""Of the form for programs. Names may be added in a version. None changes its meaning, and none goes."""


class Severity(enum.IntEnum):
    """How serious a finding is."""

    OK = 0
    NOTE = 1  # nothing has to be done
    WARNING = 2  # the node works, and the next fault or the coming days may stop it
    CRITICAL = 3  # the node does not start or does not work, or its data is at risk


EXITS = {
    Severity.OK: ExitCode.OK,
    Severity.NOTE: ExitCode.OK,
    Severity.WARNING: ExitCode.WARNING,
    Severity.CRITICAL: ExitCode.CRITICAL,
}


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one rule: what was found, what it means for the data, and the command that mends it."""

    rule: str
    severity: Severity
    text: str
    effect: str = ""
    command: str = ""


# Rules yield these without their name. Who runs a rule puts it there.
note = partial(Finding, rule="", severity=Severity.NOTE)
warning = partial(Finding, rule="", severity=Severity.WARNING)
critical = partial(Finding, rule="", severity=Severity.CRITICAL)


def worst_first(findings: Sequence[Finding]) -> tuple[Finding, ...]:
    """Return the findings by severity; those of one severity keep their order."""
    return tuple(sorted(findings, key=lambda finding: -finding.severity))


def worst(findings: Sequence[Finding]) -> Severity:
    """Return the severity of the most serious finding, OK if there is none."""
    return max((finding.severity for finding in findings), default=Severity.OK)


def report(
    findings: Sequence[Finding], *, node: str, data_dir: str, is_running: bool, now_ms: int
) -> dict[str, object]:
    """Return the report for programs; docs/OPERATIONS.md describes it."""
    return {
        "version": JSON_VERSION,
        "made_at_ms": now_ms,
        "node": node,
        "data_dir": data_dir,
        "running": is_running,
        "worst": worst(findings).name.lower(),
        "counts": {severity.name.lower(): _count(findings, severity) for severity in Severity},
        "findings": [{**asdict(finding), "severity": finding.severity.name.lower()} for finding in findings],
    }


def lines(findings: Sequence[Finding]) -> Iterator[str]:
    """Return the table for people: a line for each finding, below it the effect and the command, then a summary."""
    shown = [finding for finding in findings if finding.severity is not Severity.OK]
    width = max(len(finding.rule) for finding in (*shown, Finding("RULE", Severity.OK, "")))
    if shown:
        yield f"SEVERITY  {'RULE':{width}}  FINDING"
    for finding in shown:
        yield f"{finding.severity.name.lower():8}  {finding.rule:{width}}  {finding.text}"
        if finding.effect:
            yield f"            {finding.effect}"
        if finding.command:
            yield f"            Run: {finding.command}"
    fine = [finding.rule for finding in findings if finding.severity is Severity.OK]
    if fine:
        yield f"Nothing found by: {', '.join(fine)}."
    critical_count, warnings, notes = (
        _count(findings, severity) for severity in (Severity.CRITICAL, Severity.WARNING, Severity.NOTE)
    )
    yield f"Critical: {critical_count}. Warnings: {warnings}. Notes: {notes}."


def _count(findings: Sequence[Finding], severity: Severity) -> int:
    return sum(1 for finding in findings if finding.severity is severity)
