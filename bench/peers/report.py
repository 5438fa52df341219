"""The document of a run: machine, records of the problems, files."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from bench import limits as roofline
from bench.peers.contest import Limits, Outcomes
from bench.peers.problems import Task
from bench.peers.profile import draw
from bench.peers.solvers import OURS, RIVALS
from bench.rows import Row, machine, versions

__all__ = ["cases", "measure_machine", "record", "start", "write"]

SHAPE = (581_012, 54)
"""Of covtype: the passes over it are timed beside the fits."""
QUICK_SHAPE = (20_000, 54)
NOTES = (
    "Each row is one whole call of fit from scratch, from raw arrays; values and "
    "accuracies are evaluated with NumPy.",
    "Budgets: an oracle picks the smallest that reaches a level, for us as for rivals.",
    "Repetitions in turns. The first fit with a budget is that of the search.",
    "passes: rows read over n, as our solver counts them; unknown for rivals.",
    "For least squares and nls, 'value' and 'suboptimality' are the accuracy: relative "
    "error of w, and norm of the gradient (inf above the minimum, null here).",
)


def start(
    names: tuple[str, ...], present: dict[str, str | None], limits: Limits
) -> dict[str, Any]:
    """Return the document before the first measurement."""
    return {
        "complete": False,
        "settings": {**asdict(limits), "problems": names},
        "machine": machine(None),
        "versions": versions() | {k: v for k, v in present.items() if v},
        "not_installed": [name for name, found in present.items() if found is None],
        "notes": NOTES,
        "limits": [],
        "problems": [],
    }


def measure_machine(document: dict[str, Any]) -> str:
    """Time passes over dense data now; return a line for people."""
    quick = document["settings"]["quick"]
    n, d = QUICK_SHAPE if quick else SHAPE
    X = np.random.default_rng(0).standard_normal((n, d))
    seconds = roofline.measure(X, 1 if quick else 3)
    rate = X.nbytes / seconds[roofline.SUM] / 1e9
    document["limits"].append({"n": n, "d": d, "GB_per_s": rate, "seconds": seconds})
    fused, numpy = (1e3 * seconds[k] for k in (roofline.FUSED, roofline.NUMPY))
    return (
        f"Machine: reads {rate:.1f} GB/s; value and gradient of {n} x {d} in "
        f"{fused:.1f} ms (ours), {numpy:.1f} ms (NumPy)"
    )


def record(
    task: Task,
    found: Outcomes,
    verdict: dict[str, Any],
    skipped: dict[str, str],
    complete: bool,
) -> dict[str, Any]:
    """Return what the file says about one problem."""
    objective = task.objective
    return {
        "name": task.name,
        "kind": task.kind,
        "n": objective.n,
        "d": objective.d,
        "alpha": objective.alpha,
        "accuracy": task.accuracy,
        "levels": task.levels,
        "best_value": task.reference.value,
        "value_at_zero": task.reference.at_zero,
        "best_value_from": task.reference.runs,
        "note": task.note,
        "complete": complete,
        "compile_seconds": found.compile_seconds,
        "threads": found.threads,
        "failures": found.failures,
        "skipped": skipped,
        "summary": verdict,
        "rows": [_flat(row) for row in found.rows],
    }


def cases(document: dict[str, Any]) -> list[dict[str, float | None]]:
    """Seconds by package for every problem and level: those of its fastest solver."""
    owner = {rival.name: rival.package for rival in RIVALS} | {OURS: OURS}
    found = []
    for problem in document["problems"]:
        solvers = problem["summary"]["solvers"]
        for k in range(len(problem["levels"])):
            case: dict[str, float | None] = {}
            for name, own in solvers.items():
                seconds, package = own["levels"][k]["seconds"], owner[name]
                known = [t for t in (seconds, case.get(package)) if t is not None]
                case[package] = min(known, default=None)
            found.append(case)
    return found


def write(document: dict[str, Any], folder: Path) -> list[Path]:
    """Write ``peers.json`` and, where a level was reached, ``peers.png``."""
    data, figure = folder / "peers.json", folder / "peers.png"
    data.write_text(json.dumps(document, indent=1, allow_nan=False) + "\n")
    return [data, figure] if draw(cases(document), figure) else [data]


def _flat(row: Row) -> dict[str, Any]:
    # JSON has no inf and no nan: what is not a finite number is null.
    return {
        key: None if isinstance(value, float) and not math.isfinite(value) else value
        for key, value in asdict(row).items()
    }
