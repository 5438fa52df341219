"""scikit-learn's solvers on the same objective."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable

import numpy as np
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

from bench.problems import Objective
from bench.sweep import Outcome, settle

__all__ = ["BY_TOLERANCE", "RIVALS", "best_threads", "faster_threads", "fit"]

RIVALS = ("lbfgs", "newton-cg", "newton-cholesky", "sag", "saga", "liblinear")
"""Names of scikit-learn."""
BY_TOLERANCE = ("liblinear",)
"""Their budget is the tolerance; that of the others the number of iterations."""
WITH_BLAS = ("lbfgs", "newton-cg", "newton-cholesky")
# Small enough that the budget alone ends a fit.
TINY = 1e-14


def fit(
    solver: str,
    objective: Objective,
    budget: float,
    seed: int,
    threads: int | None = None,
) -> Outcome:
    """Time one whole fit.

    Parameters
    ----------
    solver : str
        One of `RIVALS`.
    objective : Objective
        ``C = 1 / (alpha n)`` makes it scikit-learn's, times a constant.
    budget : float
        ``max_iter``, or ``tol`` for the solvers in `BY_TOLERANCE`.
    seed : int
        Of sag, saga and liblinear; the others use no random numbers.
    threads : int, optional
        Of BLAS. Default: all.
    """
    by_tolerance = solver in BY_TOLERANCE
    max_iter = 10_000 if by_tolerance else int(budget)
    model = LogisticRegression(
        solver=solver,
        C=objective.C,
        fit_intercept=False,
        tol=budget if by_tolerance else TINY,
        max_iter=max_iter,
        random_state=seed,
    )
    with (
        warnings.catch_warnings(record=True) as caught,
        threadpool_limits(threads, user_api="blas"),
    ):
        # Not converged within the budget is what we ask for; a line search that gives
        # up is part of the result.
        warnings.simplefilter("always")
        start = time.perf_counter()
        model.fit(objective.X, objective.y)
        seconds = time.perf_counter() - start
    n_iter = int(np.max(model.n_iter_))
    early = not by_tolerance and n_iter < max_iter
    status = "CONVERGED" if early or by_tolerance else "MAX_ITER"
    if early and caught:
        status = "STALLED"
    return Outcome(seconds, model.coef_.ravel(), stopped=early, status=status)


def best_threads(solver: str, objective: Objective) -> int | None:
    """Return 1 where one BLAS thread is faster than all (None).

    All threads on short products can be 20 times slower when another program keeps a
    core busy, because they wait for each other. A rival gets what suits it. This also
    loads what a solver imports at its first use, so that no timed fit pays for it.
    """
    rng = np.random.default_rng(0)
    y = np.where(rng.random(50) > 0.5, 1.0, -1.0)
    fit(solver, Objective("", rng.standard_normal((50, 3)), y, 0.1, 50), 1, 0)
    if solver not in WITH_BLAS:
        return None
    return faster_threads(lambda n: fit(solver, objective, 2, 0, n).seconds)


def faster_threads(
    seconds: Callable[[int | None], float], rounds: int = 2
) -> int | None:
    """Return 1 or None (all), whichever takes fewer seconds."""
    times: dict[int | None, float] = {None: math.inf, 1: math.inf}
    for _ in range(rounds):
        for threads in times:
            settle()
            times[threads] = min(times[threads], seconds(threads))
    return min(times, key=lambda threads: times[threads])
