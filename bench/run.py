"""The main command: load, measure, print, write rows and figure."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bench import ours
from bench.measure import Settings, measure
from bench.plot import draw
from bench.problems import Objective, Reference, find_reference, load_objective
from bench.rows import LEVELS, Row, limited_threads, machine, versions
from bench.summary import summarize, table

__all__ = ["run"]

NOTES = (
    "Kind 'trace': iterations of one run; evaluations for the trace are not timed, and "
    "neither are validation and scaling in the estimator. Passes are rows read over n.",
    "Kind 'fit': each row is one whole call of fit from scratch, from raw arrays.",
    "Levels: an oracle picks the smallest budget of a whole fit that reaches a level, "
    "for our fit as for the rivals; without it they would be slower or less exact.",
    "Values of whole fits and F* are evaluated with NumPy, values of traces by the "
    "solver. The gradient norms of 'auto' belong to equilibrated columns.",
)


def run(settings: Settings, folder: Path) -> int:
    """Run, print a table, write ``DATASET.json`` and ``DATASET.png``; return 0.

    Ctrl-C ends the measurements; what there is by then is printed and written, and 130
    is returned.
    """
    folder.mkdir(parents=True, exist_ok=True)  # fail now rather than at the end
    computer = machine(settings.threads)
    rows: list[Row] = []
    failures: dict[str, str] = {}
    with limited_threads(settings.threads):
        try:
            print(f"Loading {settings.dataset} ...", flush=True)
            objective = load_objective(
                settings.dataset,
                settings.alpha,
                max_rows=settings.max_rows,
                seed=settings.seed,
            )
            first_call = ours.compile_seconds(objective)
            print("Finding F* with two independent solvers ...", flush=True)
            reference = find_reference(objective)
        except KeyboardInterrupt:
            print("\nInterrupted before the first measurement: nothing written.")
            return 130
        print(_headline(objective, reference, computer["threads"]), flush=True)
        complete = measure(settings, objective, reference, rows, failures)
    if not rows:
        print(table([], failures) or "Interrupted before the first measurement.")
        print("Nothing written.")
        return 1 if complete else 130
    records = summarize(rows)
    print(f"\n{table(records, failures)}\n")
    print("Seconds are medians of several runs, ' of one. -- : not reached in time.")
    print(f"The first fit of the process took {first_call:.2f} s more (compiled code).")
    document = {
        "complete": complete,
        "problem": _problem(objective, reference),
        "settings": {**asdict(settings), "levels": LEVELS},
        "machine": computer,
        "versions": versions(),
        "compile_seconds": first_call,
        "notes": NOTES,
        "failures": failures,
        "summary": records,
        "rows": [_flat(row, objective) for row in rows],
    }
    part = "" if objective.n == objective.n_full else f"-{objective.n}-rows"
    path = folder / f"{settings.dataset}{part}.json"
    path.write_text(json.dumps(document, indent=1, allow_nan=False) + "\n")
    figure = path.with_suffix(".png")
    draw(document, figure)
    if not complete:
        print("Interrupted: the files hold what was measured until then.")
    print(f"Wrote {path}\n      {figure}")
    return 0 if complete else 130


def _headline(objective: Objective, reference: Reference, cores: int) -> str:
    part = ""
    if objective.n < objective.n_full:
        part = f" (a random part of the {objective.n_full} rows)"
    values = [run["value"] for run in reference.runs]
    shape = f"{objective.n} x {objective.d}{part}"
    return (
        f"\nL2 logistic regression, {objective.name}: {shape}"
        f"\nalpha = {objective.alpha:.3g} (mean form), no intercept, {cores} threads"
        f"\nF(0) = {reference.at_zero:.12f}, F* = {reference.value:.12f} "
        f"(two codes agree to {max(values) - min(values):.0e})"
    )


def _problem(objective: Objective, reference: Reference) -> dict[str, Any]:
    return {
        "dataset": objective.name,
        "n": objective.n,
        "d": objective.d,
        "alpha": objective.alpha,
        "subset_of": objective.n_full if objective.n < objective.n_full else None,
        "value_at_zero": reference.at_zero,
        "best_value": reference.value,
        "best_value_from": reference.runs,
    }


def _flat(row: Row, objective: Objective) -> dict[str, Any]:
    common = {
        "dataset": objective.name,
        "n": objective.n,
        "d": objective.d,
        "alpha": objective.alpha,
    }
    # JSON has no inf and no nan: what is not a finite number is null.
    own = {
        key: None if isinstance(value, float) and not math.isfinite(value) else value
        for key, value in asdict(row).items()
    }
    return common | own
