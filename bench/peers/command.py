"""The command ``python -m bench peers``."""

from __future__ import annotations

import sys
from collections.abc import Container
from pathlib import Path
from typing import Any

from bench.arguments import Parser, count, name_in, positive
from bench.peers.contest import Limits, Outcomes, compete
from bench.peers.problems import PROBLEMS, QUICK, load_task
from bench.peers.report import measure_machine, record, start, write
from bench.peers.solvers import PACKAGES, RIVALS, Rival, installed
from bench.peers.table import judge, table
from bench.peers.worker import Worker

__all__ = ["main"]

FOLDER = Path(__file__).parents[1] / "out"
EPILOG = """\
Each solver runs whole fits from raw arrays, with the smallest budget (max_iter or tol)
that reaches a level. A search finds it: everybody, we too, has an oracle that says when
to stop. Repetitions go round all solvers in turn, with a pause between two of them.
Rivals get the better of one thread and all (quick: one). Compilation, imports and the
conversion to the container that a rival likes are not counted. What is not installed,
fails or is too large is listed with its reason. pip install ".[bench,peers]" installs
all of them.

Writes peers.json (every fit) and peers.png (performance profile) to the folder. A large
problem takes up to half an hour; --quick needs no files and takes three minutes.

examples:
  python -m bench peers --quick
  python -m bench peers --problem ijcnn1 --rival glum --rival "scipy L-BFGS-B"
"""


def make_parser() -> Parser:
    """Options of the command."""
    parser = Parser(
        prog="python -m bench peers",
        description="Our estimators against every rival that is installed.",
        epilog=EPILOG,
    )
    add = parser.add_argument
    add(
        "--problem",
        action="append",
        type=name_in("problem", PROBLEMS),
        metavar="NAME",
        help=f"repeatable: {', '.join(PROBLEMS)} (default all; quick: "
        f"{', '.join(QUICK)})",
    )
    add(
        "--rival",
        action="append",
        type=name_in("rival", (*PACKAGES, *(rival.name for rival in RIVALS))),
        metavar="NAME",
        help=f"repeatable: {', '.join(PACKAGES)}; or one solver as the tables name it "
        "(default all)",
    )
    add("--quick", action="store_true", help="small parts of the data, short caps")
    add(
        "--repeats",
        type=count,
        metavar="K",
        help="fits per median (default 5; quick: 2)",
    )
    add(
        "--cap",
        type=positive,
        metavar="SECONDS",
        help="search of one solver, as much again for repetitions; a third of it for "
        "one fit (default 45; quick: 0.8)",
    )
    add(
        "--out",
        type=Path,
        default=FOLDER,
        metavar="DIR",
        help="folder for the files (default bench/out)",
    )
    return parser


def main(argv: list[str]) -> int:
    """Run the problems; return 0, 1 where there was none, or 130 after Ctrl-C."""
    options = make_parser().parse_args(argv)
    quick = options.quick
    limits = Limits(
        options.repeats or (2 if quick else 5),
        options.cap or (0.8 if quick else 45.0),
        quick,
    )
    default = QUICK if quick else tuple(PROBLEMS)
    names = tuple(dict.fromkeys(options.problem or default))
    wanted = options.rival or PACKAGES
    present = {
        rival.package: installed(rival.package)
        for rival in RIVALS
        if rival.package in wanted or rival.name in wanted
    }
    document = start(names, present, limits)
    try:
        options.out.mkdir(parents=True, exist_ok=True)  # fail now, not at the end
        return _run(document, names, wanted, present, limits, options.out)
    except OSError as error:
        print(f"python -m bench peers: {error}", file=sys.stderr)
        return 1


def _run(
    document: dict[str, Any],
    names: tuple[str, ...],
    wanted: Container[str],
    present: dict[str, str | None],
    limits: Limits,
    out: Path,
) -> int:
    computer = document["machine"]
    workers: dict[str, Worker] = {}
    print(f"{computer['cpu']}, {computer['threads']} threads")
    try:
        print(measure_machine(document), flush=True)
        for name in names:
            _run_one(document, name, wanted, present, limits, out, workers)
        print(f"\n{measure_machine(document)}")
        document["complete"] = True
    except KeyboardInterrupt:
        print("\nInterrupted: the files hold what was measured until then.")
    finally:
        for worker in workers.values():
            worker.close()
    if not document["problems"]:
        print("Nothing written.")
        return 1 if document["complete"] else 130
    for path in write(document, out):
        print(f"Wrote {path}")
    return 0 if document["complete"] else 130


def _run_one(
    document: dict[str, Any],
    name: str,
    wanted: Container[str],
    present: dict[str, str | None],
    limits: Limits,
    out: Path,
    workers: dict[str, Worker],
) -> None:
    print(f"\nLoading {name} ...", flush=True)
    try:
        task = load_task(name, limits.quick)
    except (OSError, ImportError) as error:
        print(f"{name}: skipped: {error}")
        return
    objective = task.objective
    print(
        f"{name}, {task.kind}: {objective.n} x {objective.d}, "
        f"alpha = {objective.alpha:.3g}\n{task.note}",
        flush=True,
    )
    entrants, skipped = _entrants(task.kind, objective.d, wanted, present)
    found = Outcomes()
    complete = False
    try:
        compete(task, entrants, limits, found, workers)
        complete = True
    finally:  # Ctrl-C keeps what there is
        if found.rows:
            verdict = judge(found.rows, task.levels)
            part = record(task, found, verdict, skipped, complete)
            document["problems"].append(part)
            text = table(verdict, task.accuracy, found.failures, skipped)
            print(f"\n{text}", flush=True)
            write(document, out)


def _entrants(
    kind: str, d: int, wanted: Container[str], present: dict[str, str | None]
) -> tuple[list[Rival], dict[str, str]]:
    """Rivals that run, and why others do not."""
    entrants, skipped = [], {}
    for rival in RIVALS:
        asked_for = rival.package in wanted or rival.name in wanted
        if not asked_for or kind not in rival.kinds:
            continue
        if present[rival.package] is None:
            skipped[rival.package] = "not installed"
        elif rival.max_columns is not None and d > rival.max_columns:
            skipped[rival.name] = f"not run: it forms a matrix of {d} x {d}"
        else:
            entrants.append(rival)
    return entrants, skipped
