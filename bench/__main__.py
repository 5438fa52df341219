"""The command ``python -m bench``."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Iterable
from pathlib import Path

from bench import gpu, limits, startup
from bench.arguments import Parser, count, name_in, positive, seed
from bench.measure import DEFAULT_SOLVERS, SOLVERS, Settings
from bench.ours import TRACED
from bench.peers import command as peers
from bench.problems import DATA_SETS
from bench.reproduce import command as reproduce
from bench.run import run

EPILOG = """\
other commands:
  python -m bench limits    one pass over the data against the speed of the memory
  python -m bench gpu       the CUDA backend against the limits of the device
  python -m bench startup   import time, and the first fit of a process
  python -m bench peers     our estimators against every rival that is installed
  python -m bench reproduce figure1
                            experiments of the papers with a verdict for every claim;
                            all of them: reproduce all (30 minutes; --quick: 2)

examples:
  python -m bench                        covtype: about 4 minutes
  python -m bench --solver all --quick   every solver on a part of the rows
  python -m bench --quick                a part of the rows: half a minute
  python -m bench --dataset ijcnn1
  python -m bench --solver auto --solver fit --solver sklearn-newton-cholesky
  python -m bench --alpha 1e-4 --threads 1 --out results

how to read the table:
  Suboptimality is (F(w) - F*) / (F(0) - F*). F* is the better of two independent runs
  driven far beyond the levels; the file says which, and how well they agree.
  "inside one run": traces of our solvers, with time and passes (rows read over n) at
  every iteration. Validation and scaling in the estimator are left out.
  "whole call of fit": from the raw arrays to the coefficients, ours and scikit-learn's
  alike, one fit from scratch per budget (max_iter or tol). The smallest budget that
  reaches a level is searched: every solver has an oracle that tells it when to stop.
  Compare times within a part; "times our default" does that. --cap ends slow solvers.
"""
SOLVER_HELP = (
    "repeatable; see below for the names. all: every one of them. "
    "Default: the convex second-order ones and scikit-learn's"
)


def _names(title: str, names: Iterable[str]) -> str:
    """A paragraph of names, none of them broken at a hyphen."""
    text = textwrap.fill(", ".join(names), 78, break_on_hyphens=False)
    return f"{title}\n" + textwrap.indent(text, "  ")


NAMES = "\n".join(
    [
        "solvers:",
        _names("inside one run", TRACED),
        _names("whole call of fit", [name for name in SOLVERS if name not in TRACED]),
    ]
)


def make_parser() -> Parser:
    """Options of the main command."""
    parser = Parser(
        prog="python -m bench",
        description="Fit L2 logistic regression with our solvers and scikit-learn's, "
        "on one objective. Prints the time to three accuracies; writes all "
        "measurements (JSON) and a figure (PNG).",
        epilog=f"{EPILOG}\n{NAMES}",
    )
    add = parser.add_argument
    add(
        "--dataset",
        type=name_in("data set", DATA_SETS),
        default=DATA_SETS[0],
        metavar="NAME",
        help=f"{', '.join(DATA_SETS)} (default %(default)s)",
    )
    add(
        "--solver",
        action="append",
        type=name_in("solver", ("all", *SOLVERS)),
        metavar="NAME",
        help=SOLVER_HELP,
    )
    add("--alpha", type=positive, help="ridge weight of the mean form (default 1/n)")
    add("--seed", type=seed, default=0, help="first seed (default 0)")
    add(
        "--repeats",
        type=count,
        help="runs per median, with seeds seed, seed + 1, ... (default 3; quick: 1)",
    )
    add(
        "--cap",
        type=positive,
        metavar="SECONDS",
        help="time for one solver, a third of it for one fit (default 24; quick: 1.5)",
    )
    add("--threads", type=count, help="for every solver (default: all cores)")
    add("--quick", action="store_true", help="20000 random rows and short caps")
    add(
        "--out",
        type=Path,
        default=Path(__file__).parent / "out",
        metavar="DIR",
        help="folder for the files (default bench/out)",
    )
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run the command and return the exit code."""
    argv = sys.argv[1:] if argv is None else argv
    if argv[:1] == ["limits"]:
        return limits.main(argv[1:])
    if argv[:1] == ["gpu"]:
        return gpu.main(argv[1:])
    if argv[:1] == ["startup"]:
        return startup.main(argv[1:])
    if argv[:1] == ["reproduce"]:
        return reproduce.main(argv[1:])
    if argv[:1] == ["peers"]:
        return peers.main(argv[1:])
    options = make_parser().parse_args(argv)
    names = tuple(dict.fromkeys(options.solver or DEFAULT_SOLVERS))
    if "all" in names:
        names = SOLVERS
    settings = Settings(
        dataset=options.dataset,
        solvers=names,
        alpha=options.alpha,
        seed=options.seed,
        repeats=options.repeats or (1 if options.quick else 3),
        cap=options.cap or (1.5 if options.quick else 24.0),
        threads=options.threads,
        max_rows=20_000 if options.quick else None,
    )
    try:
        return run(settings, options.out)
    except (OSError, ImportError, ValueError) as error:
        print(f"python -m bench: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
