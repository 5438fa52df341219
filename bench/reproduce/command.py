"""The command ``python -m bench reproduce``."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from bench.arguments import Parser, count, name_in

__all__ = ["main"]

FOLDER = Path(__file__).parents[1] / "out"
EPILOG = """\
Prints a verdict for every claim: holds, does not hold, not decidable. Writes NAME.csv
(one row per point of a curve), NAME-claims.json and figures to the folder. Finished
tasks are kept in its subfolder cache, under their full configuration and the versions
of the packages: an interrupted run goes on where it was. Delete cache after changing
code without its version.

A full run with the default folder writes bench/RESULTS.md and bench/results too.
Data sets are those of the package datasets; one that cannot be had is replaced by a
generated one, and tables and figures say "surrogate".
"""


def make_parser() -> Parser:
    """Options of the command."""
    from bench.reproduce.registry import NAMES

    parser = Parser(
        prog="python -m bench reproduce",
        description="Repeat experiments of the papers and judge their claims.",
        epilog=EPILOG,
    )
    add = parser.add_argument
    names = ", ".join(NAMES)
    add(
        "name",
        nargs="+",
        type=name_in("experiment", ("all", *NAMES)),
        metavar="NAME",
        help=f"all, or some of: {names}",
    )
    add("--quick", action="store_true", help="small data, all in two minutes")
    add(
        "--seeds",
        type=count,
        metavar="K",
        help="repetitions, with seeds 0 to K - 1 (default 5; quick: 1)",
    )
    add(
        "--out",
        type=Path,
        metavar="DIR",
        help="folder for the files (default bench/out/reproduce; quick: "
        "bench/out/reproduce-quick)",
    )
    return parser


def main(argv: list[str]) -> int:
    """Run experiments; return 0, whatever the verdicts, or 130 after Ctrl-C."""
    options = make_parser().parse_args(argv)
    # Only now: the help does not wait for pandas and matplotlib.
    try:
        from bench.reproduce import registry, report
        from bench.reproduce.experiment import Scope
        from bench.reproduce.store import Interrupted, run_all
    except ModuleNotFoundError as error:
        print(
            f"python -m bench reproduce: {error.name} is missing: "
            'pip install ".[bench]"',
            file=sys.stderr,
        )
        return 1
    names = tuple(dict.fromkeys(options.name))
    if "all" in names:
        names = registry.NAMES
    scope = Scope(options.quick, options.seeds or (1 if options.quick else 5))
    default = FOLDER / ("reproduce-quick" if scope.quick else "reproduce")
    out = options.out or default
    page = options.out is None and not scope.quick
    try:
        out.mkdir(parents=True, exist_ok=True)  # fail now rather than at the end
        for name in names:
            experiment = registry.experiment(name)
            print(f"{experiment.title} ({name})", flush=True)
            start = time.perf_counter()
            rows = run_all(experiment, scope, out, log=print)
            seconds = time.perf_counter() - start
            record = report.judge(experiment, rows, scope, seconds)
            files = report.write(experiment, rows, record, scope, out)
            print(f"\n{report.table(record)}\n")
            if scope.quick:
                print("quick: these are verdicts of small problems, to see it work.\n")
            for path in files:
                print(f"Wrote {path}")
            if page:
                print(f"Wrote {report.publish(record, out)}")
            print(flush=True)
    except Interrupted as end:
        print(f"\n{end}")
        return 130
    except KeyboardInterrupt:
        print("\nInterrupted. The same command goes on from the finished tasks.")
        return 130
    except OSError as error:
        print(f"python -m bench reproduce: {error}", file=sys.stderr)
        return 1
    return 0
