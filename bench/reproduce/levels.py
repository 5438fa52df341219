"""What it took to close a part of the gap between the first and the best loss."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence

import pandas as pd

from bench.reproduce.experiment import Verdict

__all__ = [
    "LEVELS",
    "best_loss",
    "final_gaps",
    "in_order",
    "number",
    "ordering",
    "reach",
    "spread",
    "with_gap",
]

LEVELS = (0.2, 0.05, 0.01)
"""Remaining parts of the gap at which methods are compared."""
RUN = ["data", "start", "solver", "seed"]


def best_loss(rows: pd.DataFrame) -> pd.Series:
    """Smallest loss of any run, by data set."""
    return rows.groupby("data")["loss"].min()


def with_gap(rows: pd.DataFrame, *, run: Sequence[str] = RUN) -> pd.DataFrame:
    """Add the column "gap", ``(F - best) / (F(w0) - best)``.

    The best loss is that of the data set over all runs; F(w0) is the run's own.
    """
    keys = [key for key in run if key in rows]
    best = rows["data"].map(best_loss(rows))
    first = rows.groupby(keys, dropna=False)["loss"].transform("first")
    return rows.assign(gap=(rows["loss"] - best) / (first - best))


def reach(
    rows: pd.DataFrame, level: float, column: str = "props"
) -> dict[str, list[float]]:
    """What each run needed to bring the gap to a level: by solver, in order of seeds.

    inf where a run did not get there.
    """
    found: dict[str, list[float]] = {}
    for (solver, _), run in rows.groupby(["solver", "seed"], sort=True):
        reached = run.loc[run["gap"] <= level, column]
        found.setdefault(str(solver), []).append(
            float(reached.min()) if len(reached) else math.inf
        )
    return found


def final_gaps(rows: pd.DataFrame) -> dict[str, list[float]]:
    """Gap at the end of every run, by solver; inf where the loss was no number."""
    gaps: dict[str, list[float]] = {}
    for (solver, _), run in rows.groupby(["solver", "seed"], sort=True):
        gap = float(run["gap"].iloc[-1])
        gaps.setdefault(str(solver), []).append(math.inf if math.isnan(gap) else gap)
    return gaps


def in_order(values: Sequence[float]) -> bool:
    """Whether the values increase; nothing is larger than what was not reached."""
    pairs = itertools.pairwise(values)
    return all(low < high for low, high in pairs)


def ordering(
    needed: Mapping[str, Sequence[float]],
    spent: Mapping[str, float],
    solvers: Sequence[str],
) -> Verdict:
    """Whether solvers, in the given order, need more and more (medians over seeds).

    ``spent`` is what each solver was allowed: one that did not arrive has needed more.
    If that does not decide the order of two neighbours, and no pair is the wrong way
    round, the claim is not decidable.
    """
    if any(solver not in needed for solver in solvers):
        return Verdict.NOT_DECIDABLE
    medians = [median(needed[solver]) for solver in solvers]
    verdict = Verdict.HOLDS
    for k in range(len(solvers) - 1):
        low, high = medians[k], medians[k + 1]
        # A median that was not reached is above what was spent, and no more is known.
        if math.isinf(low) and math.isinf(high):
            verdict = Verdict.NOT_DECIDABLE
        elif math.isinf(high):
            if low >= spent[solvers[k + 1]]:
                verdict = Verdict.NOT_DECIDABLE
        elif math.isinf(low):
            if high <= spent[solvers[k]]:
                return Verdict.DOES_NOT_HOLD
            verdict = Verdict.NOT_DECIDABLE
        elif low >= high:
            return Verdict.DOES_NOT_HOLD
    return verdict


def median(values: Sequence[float]) -> float:
    """Median; of an even number the larger of the middle two, as inf has no mean."""
    return sorted(values)[len(values) // 2]


def number(value: float) -> str:
    """Three digits; "not reached" for inf."""
    if math.isnan(value):
        return "--"
    if math.isinf(value):
        return "not reached"
    if value != 0.0 and not 1e-3 <= abs(value) < 1e5:
        digit, _, exponent = f"{value:.1e}".partition("e")
        return f"{digit}e{int(exponent)}"
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"


def spread(values: Sequence[float]) -> str:
    """Median and range: "7.1 (6.7-8.2)"."""
    low, high = min(values), max(values)
    if low == high:
        return number(low)
    return f"{number(median(values))} ({number(low)} to {number(high)})"
