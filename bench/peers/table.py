"""From the rows of one problem to its table: seconds, best rival, ratio, passes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from statistics import median
from typing import Any

from bench.peers.solvers import OURS
from bench.rows import Row
from bench.summary import of_fits, power

__all__ = ["judge", "table"]


def judge(rows: Iterable[Row], levels: Sequence[float]) -> dict[str, Any]:
    """Times of every solver, and for every level the best rival against us.

    Returns
    -------
    dict
        "solvers": records of `bench.summary.of_fits` by name. "levels": for each level
        "ours" (seconds), "passes", "best_rival" (name), "rival" (seconds) and "ratio"
        (rival / ours: above 1 we are ahead); None for what was not reached.
    """
    rows = list(rows)
    by_solver: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        by_solver[row.solver].append(row)
    solvers = {name: of_fits(own, levels) for name, own in by_solver.items()}
    return {
        "solvers": solvers,
        "levels": [
            _level(k, level, solvers, by_solver[OURS]) for k, level in enumerate(levels)
        ],
    }


def _level(
    k: int, level: float, solvers: dict[str, Any], ours: list[Row]
) -> dict[str, Any]:
    times = {
        name: record["levels"][k]["seconds"]
        for name, record in solvers.items()
        if record["levels"][k]["seconds"] is not None
    }
    mine = times.pop(OURS, None)
    best = min(times, key=lambda name: times[name], default=None)
    rival = None if best is None else times[best]
    passes = None
    if mine is not None:
        budget = solvers[OURS]["levels"][k]["budget"]
        counts = [r.passes for r in ours if r.budget == budget and r.passes is not None]
        passes = median(counts) if counts else None
    return {
        "level": level,
        "ours": mine,
        "passes": passes,
        "best_rival": best,
        "rival": rival,
        "ratio": rival / mine if mine and rival is not None else None,
    }


def table(
    verdict: dict[str, Any],
    accuracy: str,
    failures: dict[str, str],
    skipped: dict[str, str],
) -> str:
    """Text of one problem."""
    levels = verdict["levels"]
    names = [power(level["level"]) for level in levels]
    lines = [
        f"{accuracy:36}{'seconds to':^24} {'budget at':^24}",
        f"{'':36}{_cells(names)} {_cells(names)}{'best':>9}",
    ]
    for name, record in verdict["solvers"].items():
        own = record["levels"]
        seconds = [_seconds(level) for level in own]
        budgets = [_number(level["budget"]) for level in own]
        best = "--" if record["best"] is None else _number(record["best"])
        lines.append(f"{name:36}{_cells(seconds)} {_cells(budgets)}{best:>9}")
    ratios = ["--" if v["ratio"] is None else f"{v['ratio']:.2f}" for v in levels]
    passes = ["--" if v["passes"] is None else f"{v['passes']:.1f}" for v in levels]
    lines += [
        f"{'best rival / ours':36}{_cells(ratios)}",
        f"{'passes of ours':36}{_cells(passes)}",
    ]
    for level, name in zip(levels, names, strict=True):
        lines.append(f"best rival to {name}: {level['best_rival'] or 'none'}")
    lines += [f"{name}: failed: {reason}" for name, reason in failures.items()]
    lines += [f"{name}: {reason}" for name, reason in skipped.items()]
    return "\n".join(lines)


def _cells(texts: Iterable[str]) -> str:
    return "".join(f"{text:>8}" for text in texts)


def _seconds(level: dict[str, Any]) -> str:
    if level["seconds"] is None:
        return "--"
    return f"{level['seconds']:.3g}" + ("'" if level["runs"] == 1 else "")


def _number(value: float | None) -> str:
    if value is None:
        return "--"
    return power(value) if 0.0 < value < 1.0 else f"{value:.0f}"
