"""One problem: the search for every solver, then repetitions in turns."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from tqdm import tqdm

from bench.peers.objectives import some_rows
from bench.peers.problems import Task
from bench.peers.solvers import OURS, Rival, our_fit
from bench.peers.worker import RivalError, Worker
from bench.problems import Objective
from bench.rivals import faster_threads
from bench.rows import Row
from bench.sweep import ITERATIONS, Outcome, Sweep, settle, tolerance

__all__ = ["Limits", "Outcomes", "compete"]

FIRST = 300.0
"""Seconds for a call that may import and compile."""


@dataclass(frozen=True)
class Limits:
    """How much to measure."""

    repeats: int
    cap: float
    """Seconds of the search for one solver, and again for its repetitions."""
    quick: bool


@dataclass
class Outcomes:
    """What came out for one problem, filled while it is measured."""

    rows: list[Row] = field(default_factory=list)
    failures: dict[str, str] = field(default_factory=dict)
    threads: dict[str, int | None] = field(default_factory=dict)
    """Chosen for each rival; None: all."""
    compile_seconds: float | None = None
    """What our first call took more than the second."""


def compete(
    task: Task,
    rivals: Iterable[Rival],
    limits: Limits,
    found: Outcomes,
    workers: dict[str, Worker],
) -> None:
    """Measure us and the rivals that a problem is for.

    A solver that fails is out, with its reason; Ctrl-C goes through. Workers are made
    where one is needed, by package, and left to the next problem.
    """
    sweeps: dict[str, Sweep] = {}
    entrants: list[Rival | None] = [None, *rivals]

    def attempt(name: str, action: Callable[[], None]) -> None:
        settle()
        try:
            action()
        except Exception as error:
            # RivalError says it in words; of others the kind is part of the news.
            kind = "" if isinstance(error, RivalError) else f"{type(error).__name__}: "
            found.failures[name] = kind + (str(error) or "no message").splitlines()[0]
            sweeps.pop(name, None)

    def search(rival: Rival | None) -> None:
        sweep = _prepare(task, rival, limits, found, workers)
        sweeps[sweep.name] = sweep
        sweep.search(task.objective, task.reference, found.rows.append)

    bar = tqdm(total=len(entrants) * 2, unit="solver", disable=None, leave=False)
    try:
        for rival in entrants:
            name = rival.name if rival else OURS
            bar.set_description(name)
            attempt(name, partial(search, rival))
            bar.update()
        for count in range(2, limits.repeats + 1):
            bar.set_description(f"round {count}")
            for name, sweep in list(sweeps.items()):
                attempt(name, partial(sweep.repeat, count))
    finally:
        bar.close()


def _prepare(
    task: Task,
    rival: Rival | None,
    limits: Limits,
    found: Outcomes,
    workers: dict[str, Worker],
) -> Sweep:
    """Load and compile what a solver needs, choose its threads, make its search."""
    small = some_rows(task.objective, 50)
    parameters: dict[str, Any] = {}
    if rival is None:
        calls = [our_fit(task.kind, small, 1e-6, 0).seconds for _ in range(2)]
        found.compile_seconds = calls[0] - calls[1]

        def fit(objective: Objective, limit: float, seed: int) -> Outcome:
            return our_fit(task.kind, objective, limit, seed)

        by = "tol"
    else:
        call, by = _caller(rival, limits, workers), rival.budget
        start = tolerance(4) if by == "tol" else 2
        call(small, start, 0, None)
        threads = None
        if rival.threaded and limits.quick:
            threads = 1  # what suits small data
        elif rival.threaded:
            first = call(task.objective, start, 0, None).seconds
            if first <= limits.cap / 3:  # else the search will hardly begin
                threads = faster_threads(
                    lambda n: call(task.objective, start, 0, n).seconds,
                    rounds=1 if first > 1.0 else 2,
                )
        found.threads[rival.name] = parameters["threads"] = threads

        def fit(objective: Objective, limit: float, seed: int) -> Outcome:
            return call(objective, limit, seed, threads)

    def budget(k: int) -> dict[str, float]:
        return {"tol": tolerance(k)} if by == "tol" else {"max_iter": k}

    def run(k: int, seed: int) -> Outcome:
        (limit,) = budget(k).values()
        return fit(task.objective, limit, seed)

    return Sweep(
        rival.name if rival else OURS,
        run,
        range(4, 58, 2) if by == "tol" else (1,) if by == "none" else ITERATIONS,
        budget=budget,
        parameters=parameters,
        proportional=by == "max_iter",
        cap=limits.cap,
        seed=0,
        repeats=limits.repeats,
        levels=task.levels,
        spare=1.0,
    )


def _caller(
    rival: Rival, limits: Limits, workers: dict[str, Worker]
) -> Callable[..., Outcome]:
    if not rival.isolated:
        return rival.fit
    if rival.package not in workers:
        workers[rival.package] = Worker(patience=FIRST + 2.0 * limits.cap)
    worker = workers[rival.package]

    def call(objective: Objective, *args: Any) -> Outcome:
        return worker.fit(rival.fit, objective, *args)

    return call
