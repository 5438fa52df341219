"""Our solvers: the trace of one run, the whole call of fit, and the first call."""

from __future__ import annotations

import time
import warnings
from typing import Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from bench.problems import Objective, Reference
from bench.rows import Emit, Row
from bench.sweep import Outcome
from subsampled_newton import (
    LOGISTIC,
    LinearModel,
    LogisticRegression,
    minimize,
)
from subsampled_newton.estimators import SOLVERS
from subsampled_newton.solvers._driver import Solver

__all__ = ["TRACED", "compile_seconds", "fit", "timed", "trace"]

TRACED: dict[str, Solver | None] = {"auto": None, **SOLVERS}
"""Solvers by name. None: what the estimator chooses, on its equilibrated columns."""
TOL = 1e-12
MAX_ITER = 100_000
"""The time ends slow solvers."""


def trace(
    name: str,
    objective: Objective,
    reference: Reference,
    *,
    seed: int,
    max_time: float,
    emit: Emit,
) -> None:
    """Run a solver once and emit one row per iteration.

    The estimator offers no limit of seconds; its default never came near one here.
    """
    solver = TRACED[name]
    if solver is None:
        model = _model(objective, TOL, seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # expected: budgets
            result = model.fit(objective.X, objective.y).result_
        parameters: dict[str, Any] = {"tol": TOL, "columns": "equilibrated"}
    else:
        problem = LinearModel(LOGISTIC, objective.X, objective.y, l2=objective.alpha)
        result = minimize(
            problem,
            solver,
            tol=TOL,
            max_iter=MAX_ITER,
            max_time=max_time,
            full_trace=True,
            seed=seed,
        )
        parameters = {"tol": TOL, "solver": repr(solver)}
    steps = result.trace
    for k in range(len(steps.iteration)):
        value = float(steps.value[k])
        if np.isnan(value):
            # Not evaluated by a solver that starts on samples. At 0 it is known.
            if k > 0:
                continue
            value = reference.at_zero
        norm = float(steps.gradient_norm[k])
        emit(
            Row(
                name,
                "trace",
                seed,
                int(steps.iteration[k]),
                float(steps.seconds[k]),
                value,
                reference.suboptimality(value),
                norm if np.isfinite(norm) else None,
                result.status.name,
                float(steps.passes[k]),
                int(steps.props[k]),
                parameters,
            )
        )


def fit(objective: Objective, tol: float, seed: int) -> Outcome:
    """Time the whole call of our estimator."""
    return timed(_model(objective, tol, seed), objective)


def timed(model: Any, objective: Objective) -> Outcome:
    """Time the whole call of fit of one of our estimators."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # expected: budgets
        start = time.perf_counter()
        model.fit(objective.X, objective.y)
        seconds = time.perf_counter() - start
    return Outcome(
        seconds,
        model.coef_.ravel(),
        status=model.result_.status.name,
        stopped=model.result_.status.name != "CONVERGED",
        passes=model.result_.passes,
        props=model.result_.props,
    )


def compile_seconds(objective: Objective) -> float:
    """What the first fit of a process costs more than the second: once per process.

    Fifty rows of each class: the kernels are the same for every number of rows.
    """
    rows = np.concatenate(
        [np.flatnonzero(objective.y == label)[:50] for label in (-1.0, 1.0)]
    )
    small = Objective("", objective.X[rows], objective.y[rows], 0.1, len(rows))
    return fit(small, 1e-6, 0).seconds - fit(small, 1e-6, 0).seconds


def _model(objective: Objective, tol: float, seed: int) -> LogisticRegression:
    return LogisticRegression(
        solver="auto",
        alpha=objective.alpha,
        fit_intercept=False,
        tol=tol,
        random_state=seed,
    )
