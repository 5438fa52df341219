"""From rows to the time per level, and to the table."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable
from statistics import median
from typing import Any

from bench.rows import LEVELS, Row

__all__ = ["LABELS", "of_fits", "power", "summarize", "table"]

LABELS = {
    "auto": "our default",
    "dual-start-newton": "SDCA, then Newton-CG",
    "subsampled-newton": "sub-sampled 5 %, Cholesky",
    "subsampled-newton-cg": "sub-sampled 5 %, CG",
    "subsampled-newton-leverage": "sub-sampled 1 %, leverage",
    "newton": "Newton, all rows",
    "newton-cg": "Newton, all rows, CG",
    "multilevel-newton": "multilevel Newton",
    "trust-region": "trust region",
    "subsampled-trust-region": "trust region, 5 %",
    "sampled-start": "trust region, sampled start",
    "cubic": "cubic regularization",
    "subsampled-cubic": "cubic regularization, 5 %",
    "gauss-newton": "Gauss-Newton",
    "levenberg-marquardt": "Levenberg-Marquardt",
    "lbfgs": "L-BFGS",
    "gradient-descent": "gradient descent, 1/L",
    "barzilai-borwein": "Barzilai-Borwein",
    "nesterov": "Nesterov",
    "heavy-ball": "heavy ball",
    "sag": "SAG",
    "saga": "SAGA",
    "svrg": "SVRG",
    "sdca": "SDCA",
    "sgd": "SGD",
    "fit": "our default, fit()",
    "sklearn-lbfgs": "sklearn lbfgs",
    "sklearn-newton-cg": "sklearn newton-cg",
    "sklearn-newton-cholesky": "sklearn newton-cholesky",
    "sklearn-sag": "sklearn sag",
    "sklearn-saga": "sklearn saga",
    "sklearn-liblinear": "sklearn liblinear",
}
"""Names for people, in the order of table and figure."""
BASES = {"trace": "auto", "fit": "fit"}
PARTS = {
    "trace": ("inside one run", "passes to", "passes"),
    "fit": ("whole call of fit", "max_iter or tol at", "budget"),
}


def summarize(rows: Iterable[Row]) -> list[dict[str, Any]]:
    """One record per solver: what reaching each level took, and the best reached.

    A level of a trace is reached at its first iteration at or below it; a level of
    whole fits by the fastest budget with which every repetition reached it, among those
    repeated most. Seconds and passes are medians over the runs.
    """
    by_solver: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        by_solver[row.solver].append(row)
    records = []
    for solver in sorted(by_solver, key=list(LABELS).index):
        own = by_solver[solver]
        summary = _of_traces if own[0].kind == "trace" else of_fits
        records.append({"solver": solver, "kind": own[0].kind, **summary(own)})
    for record in records:
        base = _find(records, BASES[record["kind"]])
        for k, level in enumerate(record["levels"]):
            reference = base["levels"][k]["seconds"] if base else None
            known = level["seconds"] is not None and reference is not None
            level["ratio"] = level["seconds"] / reference if known else None
    return records


def _of_traces(rows: list[Row]) -> dict[str, Any]:
    runs: dict[int, list[Row]] = defaultdict(list)
    for row in rows:
        runs[row.seed].append(row)
    levels = []
    for level in LEVELS:
        first = [
            next((r for r in run if r.suboptimality <= level), None)
            for run in runs.values()
        ]
        seconds = median(r.seconds if r else math.inf for r in first)
        passes = median((r.passes or 0.0) if r else math.inf for r in first)
        levels.append(_level(level, seconds, len(runs), passes=passes))
    best = median(min(r.suboptimality for r in run) for run in runs.values())
    return {"levels": levels, "best": _known(best), "status": rows[-1].status.lower()}


def of_fits(rows: Iterable[Row], wanted: Iterable[float] = LEVELS) -> dict[str, Any]:
    """Record of the whole fits of one solver."""
    rows = list(rows)
    fits: dict[float, list[Row]] = defaultdict(list)
    for row in rows:
        fits[row.budget].append(row)
    levels = []
    for level in wanted:
        # (-runs, seconds, budget): the smallest is the one to report.
        runs, seconds, budget = min(
            (
                (-len(group), median(r.seconds for r in group), budget)
                for budget, group in fits.items()
                if max(r.suboptimality for r in group) <= level
            ),
            default=(0, math.inf, None),
        )
        levels.append(_level(level, seconds, -runs, budget=budget))
    reached = all(level["seconds"] is not None for level in levels)
    stalled = any(r.status not in ("MAX_ITER", "CONVERGED") for r in rows)
    status = "reached" if reached else "stalled" if stalled else "time cap"
    best = min(r.suboptimality for r in rows)
    return {"levels": levels, "best": _known(best), "status": status}


def _level(level: float, seconds: float, runs: int, **more: Any) -> dict[str, Any]:
    known = {"seconds": seconds, **more}
    return {"level": level, "runs": runs} | {k: _known(v) for k, v in known.items()}


def _known(value: float | None) -> float | None:
    return None if value == math.inf else value


def _find(records: list[dict[str, Any]], solver: str) -> dict[str, Any] | None:
    return next((r for r in records if r["solver"] == solver), None)


def table(records: list[dict[str, Any]], failures: dict[str, str]) -> str:
    """Text of the table: a part for each kind, then the failures."""
    names = [power(level) for level in LEVELS]
    lines = []
    for kind, (title, third, key) in PARTS.items():
        part = [r for r in records if r["kind"] == kind]
        if not part:
            continue
        groups = ("seconds to", "times our default", third)
        lines += [
            " " * 28 + "".join(f"{group:^21} " for group in groups),
            f"{title:28}{_cells(names) * 3}{'best':>8}  status",
        ]
        for record in part:
            levels = record["levels"]
            cells = (
                _cells(map(_seconds, levels))
                + _cells(_number(level["ratio"]) for level in levels)
                + _cells(_number(level[key]) for level in levels)
            )
            best = _best(record["best"])
            lines.append(
                f"{LABELS[record['solver']]:28}{cells}{best:>8}  {record['status']}"
            )
        lines.append("")
    lines += [f"{LABELS[name]}: failed: {text}" for name, text in failures.items()]
    return "\n".join(lines).rstrip()


def _cells(texts: Iterable[str]) -> str:
    return "".join(f"{text:>7}" for text in texts) + " "


def _best(value: float | None) -> str:
    if value is None:
        return "--"
    return power(value) if value > 1e-16 else "<1e-16"


def _seconds(level: dict[str, Any]) -> str:
    seconds = level["seconds"]
    if seconds is None:
        return "--"
    digits = 3 if seconds < 1 else 2 if seconds < 10 else 1
    return f"{seconds:.{digits}f}" + ("'" if level["runs"] == 1 else "")


def _number(value: float | None) -> str:
    if value is None:
        return "--"
    if 0.0 < value < 0.01:
        return power(value)
    return f"{value:.0f}" if value == int(value) or value >= 100 else f"{value:.3g}"


def power(value: float) -> str:
    """1e-3 for 0.001."""
    digit, _, exponent = f"{value:.0e}".partition("e")
    return f"{digit}e{int(exponent)}"
