"""The arithmetic of the bench: percentiles, medians with their spread, and the comparison of pairs."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence

Figures = dict[str, float]

# 95%, two-sided, by degrees of freedom; from 18 on the normal value is close enough.
_STUDENT_T = (12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26, 2.23, 2.20, 2.18, 2.16, 2.14, 2.13, 2.12, 2.11)

CLIENT_CORES = "client_cores"
OTHER_CORES = "other_cores"
GENERATOR_LIMIT_CORES = 0.9
"""A client process that used more of a core than this may have been the limit, and not the cluster."""


def percentiles(values: Sequence[float]) -> Figures:
    """Return three percentiles of times in milliseconds. The 10th is the least disturbed by other work."""
    ordered = sorted(values)
    if not ordered:
        return {}
    return {f"p{percent}_ms": ordered[len(ordered) * percent // 100] for percent in (10, 50, 99)}


def latest(arrivals: Sequence[Sequence[float]]) -> list[float]:
    """Return for each message the longest time of all receivers, given the times of each."""
    return [max(times) for times in zip(*arrivals, strict=True)]


def summary(runs: Sequence[Figures]) -> dict[str, Figures]:
    """Return median, least and greatest value of each figure that every run has."""
    return {
        name: {
            "median": statistics.median(values),
            "min": min(values),
            "max": max(values),
        }
        for name in common_names(runs)
        for values in [[run[name] for run in runs]]
    }


def compare(pairs: Sequence[tuple[Figures, Figures]]) -> dict[str, Figures]:
    """Return for each figure the ratio of new to base: the geometric mean of the pairs and its 95% interval.

    A figure that is zero in some run has no ratio. A single pair has no interval.
    """
    compared: dict[str, Figures] = {}
    for name in common_names([one for pair in pairs for one in pair]):
        if any(new[name] <= 0 or base[name] <= 0 for new, base in pairs):
            continue
        logs = [math.log(new[name] / base[name]) for new, base in pairs]
        mean = statistics.mean(logs)
        compared[name] = {"ratio": math.exp(mean)}
        if len(logs) > 1:
            t = _STUDENT_T[min(len(logs) - 2, len(_STUDENT_T) - 1)]
            spread = t * statistics.stdev(logs) / math.sqrt(len(logs))
            compared[name] |= {"low": math.exp(mean - spread), "high": math.exp(mean + spread)}
    return compared


def generator_was_limit(figures: Mapping[str, Figures]) -> bool:
    """Return true if the median run kept a client process busy."""
    return figures.get(CLIENT_CORES, {}).get("median", 0.0) > GENERATOR_LIMIT_CORES


def common_names(runs: Sequence[Figures]) -> list[str]:
    """Return the names of the figures that every run has, in the order of the first."""
    return [name for name in runs[0] if all(name in run for run in runs)] if runs else []
