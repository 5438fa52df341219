"""Run the chosen solvers one after the other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tqdm import tqdm

from bench import ours, rivals
from bench.problems import Objective, Reference
from bench.rows import Row
from bench.sweep import ITERATIONS, Outcome, Sweep, settle, tolerance

__all__ = ["DEFAULT_SOLVERS", "SOLVERS", "Settings", "measure"]

SOLVERS = (*ours.TRACED, "fit", *(f"sklearn-{name}" for name in rivals.RIVALS))
DEFAULT_SOLVERS = (
    "auto",
    "subsampled-newton",
    "subsampled-newton-cg",
    "subsampled-newton-leverage",
    "newton",
    "fit",
    *(f"sklearn-{name}" for name in rivals.RIVALS if name != "liblinear"),
)


@dataclass(frozen=True)
class Settings:
    """What to run."""

    dataset: str
    solvers: tuple[str, ...]
    alpha: float | None = None
    seed: int = 0
    repeats: int = 3
    cap: float = 24.0
    """Seconds for one solver; a third of it for one fit."""
    threads: int | None = None
    max_rows: int | None = None


def measure(
    settings: Settings,
    objective: Objective,
    reference: Reference,
    rows: list[Row],
    failures: dict[str, str],
) -> bool:
    """Append to rows and failures as they come; return False when interrupted."""
    # Silent where nobody watches: disable=None asks whether this is a terminal.
    bar = tqdm(settings.solvers, unit="solver", disable=None, leave=False)

    def emit(row: Row) -> None:
        rows.append(row)
        reached = f"{row.suboptimality:.0e} after {row.seconds:.2g} s"
        bar.set_postfix_str(reached, refresh=row.kind == "fit" and row.seconds > 0.1)

    try:
        for name in bar:
            bar.set_description(name)
            settle()
            try:
                if name in ours.TRACED:
                    for repeat in range(settings.repeats):
                        ours.trace(
                            name,
                            objective,
                            reference,
                            seed=settings.seed + repeat,
                            max_time=settings.cap / 3,
                            emit=emit,
                        )
                else:
                    _sweep(name, settings, objective)(objective, reference, emit)
            except (ValueError, ArithmeticError, MemoryError) as error:
                failures[name] = str(error) or type(error).__name__
    except KeyboardInterrupt:
        return False
    finally:
        bar.close()
    return True


def _sweep(name: str, settings: Settings, objective: Objective) -> Sweep:
    rival = name.removeprefix("sklearn-")
    by_tolerance = name == "fit" or rival in rivals.BY_TOLERANCE
    parameters: dict[str, Any] = {}
    if name != "fit":
        parameters["blas_threads"] = rivals.best_threads(rival, objective)

    def budget(k: int) -> dict[str, float]:
        return {"tol": tolerance(k)} if by_tolerance else {"max_iter": k}

    def fit(k: int, seed: int) -> Outcome:
        (limit,) = budget(k).values()
        if name == "fit":
            return ours.fit(objective, limit, seed)
        threads = parameters["blas_threads"]
        return rivals.fit(rival, objective, limit, seed, threads)

    return Sweep(
        name,
        fit,
        range(4, 50, 2) if by_tolerance else ITERATIONS,
        budget=budget,
        parameters=parameters,
        proportional=not by_tolerance,
        cap=settings.cap,
        seed=settings.seed,
        repeats=settings.repeats,
    )
