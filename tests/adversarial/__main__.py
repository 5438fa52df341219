"""Print the table of the battery: ``python -m tests.adversarial``."""

from __future__ import annotations

import argparse
import sys
import time
from collections import defaultdict

import sklearn
from threadpoolctl import threadpool_limits

from subsampled_newton.estimators import LEAST_SQUARES, SOLVERS

from .battery import (
    OUTCOMES,
    RIVALS,
    VARIANTS,
    Tally,
    ours,
    run,
    solvers_for,
    theirs,
)
from .kinds import KINDS

COLUMNS = tuple(OUTCOMES)
HEADS = (
    "solved", "named", "limit", "false w.", "warned", "loose", "SILENT", "unnamed",
    "CLAIMED", "refused", "CRASH",
)  # fmt: skip


def main(arguments=None):
    """Run the battery and print what became of the fits."""
    parser = argparse.ArgumentParser(prog="python -m tests.adversarial")
    parser.add_argument("--fits", type=int, default=1000, help="about how many")
    parser.add_argument(
        "--solvers",
        nargs="+",
        default=["auto"],
        choices=["all", "auto", *SOLVERS, *LEAST_SQUARES],
    )
    parser.add_argument("--rivals", action="store_true", help="scikit-learn's too")
    parser.add_argument("--kinds", nargs="+", default=list(KINDS), choices=list(KINDS))
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--examples", type=int, default=0, help="failures to list")
    options = parser.parse_args(arguments)
    wanted = set(options.solvers)

    def solvers(case):
        names = solvers_for(case)
        ours_named = [
            (name, ours(case, name))
            for name in names
            if "all" in wanted or name in wanted
        ]
        if options.rivals:
            pairs = [(f"sklearn {name}", theirs(case, name)) for name in RIVALS]
            ours_named += [pair for pair in pairs if pair[1] is not None]
        return ours_named

    per_case = len(SOLVERS) if "all" in wanted else len(wanted)
    per_case += len(RIVALS) * options.rivals
    per_seed = len(options.kinds) * len(VARIANTS) * per_case
    n_seeds = max(1, -(-options.fits // per_seed))
    first = options.first_seed
    started, done = time.perf_counter(), 0

    def progress(fits):
        nonlocal done
        done += fits
        if sys.stderr.isatty() and done % 50 == 0:
            share = done / (per_seed * n_seeds)
            left = (time.perf_counter() - started) * (1.0 / share - 1.0)
            sys.stderr.write(f"\r{done} fits, {max(left, 0):.0f} s left  ")

    with threadpool_limits(1):
        tallies = run(
            options.kinds, range(first, first + n_seeds), solvers, progress=progress
        )
    print(
        f"{done} fits, {len(options.kinds)} kinds x {n_seeds} seeds x dense/CSR x "
        f"float64/float32, {time.perf_counter() - started:.0f} s; "
        f"scikit-learn {sklearn.__version__}\n"
    )
    by_solver = defaultdict(Tally)
    for (_, solver), tally in tallies.items():
        by_solver[solver] += tally
    print(_line("solver", HEADS, "slowest"))
    for solver, tally in by_solver.items():
        print(_row(solver, tally))
    for solver in by_solver:
        print("\n" + _line(solver, HEADS, "slowest"))
        for name in options.kinds:
            if (name, solver) in tallies:
                print(_row(name, tallies[name, solver]))
    print("\n" + "\n".join(f"{name:14}{text}" for name, text in OUTCOMES.items()))
    examples = [line for tally in tallies.values() for line in tally.examples]
    print("\n".join(["", *examples[: options.examples]]))
    serious = ("SILENT", "CLAIMED", "CRASH")
    return any(
        tally.outcomes[outcome]
        for solver, tally in by_solver.items()
        for outcome in serious
        if not solver.startswith("sklearn")
    )


def _row(name, tally):
    counts = [str(tally.outcomes[c] or "-") for c in COLUMNS]
    return _line(name, counts, f"{tally.slowest:.2f} s")


def _line(name, cells, last):
    return f"{name:32}" + "".join(f"{cell:>9}" for cell in cells) + f"{last:>10}"


if __name__ == "__main__":
    sys.exit(main())
