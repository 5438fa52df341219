"""Iterative sketching as published: a fixed sketch, a new residual in every iteration.

With R the triangular factor of the sketch of A, from the minimizer of the sketched
problem on::

    w+ = w + a R**-1 R**-T A'(b - A w) + beta (w - w_before)

Forward stable: the error of w is that of a backward stable method, up to a factor. Not
backward stable, which takes the refinement of `_refinement`.

References
----------
.. [1] E. N. Epperly, Fast and forward stable randomized algorithms for linear
   least-squares problems, SIAM J. Matrix Anal. Appl. 2024, Algorithm 1, section 3.3 for
   damping and momentum, section 3.4 for the stop test.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from subsampled_newton.linear_model import LinearModel
from subsampled_newton.solvers._refinement import LeastSquaresState, Refinement
from subsampled_newton.solvers._result import Status
from subsampled_newton.solvers._whitener import EPS, Whitener

__all__ = ["Iteration", "advance", "begin"]

Array = NDArray[np.float64]
Iteration = Literal["refined", "basic", "damped", "momentum"]
MAX_ITERATIONS = 100
CONDITION_WEIGHT = 0.04
"""Of the condition number in the stop test."""


def coefficients(iteration: Iteration, ratio: float) -> tuple[float, float]:
    """Step size and momentum for a sketch of ``d / ratio`` rows."""
    if iteration == "momentum":
        return (1.0 - ratio) ** 2, ratio
    if iteration == "damped":
        return (1.0 - ratio) ** 2 / (1.0 + ratio), 0.0
    return 1.0, 0.0


def begin(
    problem: LinearModel,
    state: LeastSquaresState,
    w: Array,
    whitener: Whitener,
    ratio: float,
) -> LeastSquaresState:
    """State at the first iterate w, ``ratio`` columns over rows of the sketch."""
    point = problem.at(w)
    g, zero = point.gradient, np.zeros_like(w)
    # The record of the refinement with an anchor in every iteration: its memory is the
    # iterate before.
    run = Refinement(
        whitener, "momentum", ratio, w, g, point.value, zero, g, w, math.inf, math.inf
    )
    return replace(
        state, point=point, gradient_estimate=math.inf, refinement=run, finished=False
    )


def advance(
    problem: LinearModel, state: LeastSquaresState, iteration: Iteration
) -> LeastSquaresState:
    """One iteration, in one read of the rows, and the published stop test."""
    run, before = state.refinement, state.point
    assert run is not None
    state = replace(state, iteration=state.iteration + 1)
    if state.finished:  # but the driver is not content: its gradient is rounding
        return replace(state, outcome=Status.PRECISION)
    a, beta = coefficients(iteration, run.beta)
    w = before.w + a * run.whitener.step(before.gradient)
    w += beta * (before.w - run.memory)
    point = problem.at(w)
    run = replace(
        run,
        anchor=w,
        anchor_gradient=point.gradient,
        anchor_value=point.value,
        gradient=point.gradient,
        memory=before.w,
    )
    count = state.inner_iterations + 1
    moved = np.asarray(point.z) - np.asarray(before.z)  # type: ignore[attr-defined]
    squares = float(np.asarray(problem.weights) @ moved**2) / problem.n_samples
    change = math.sqrt(squares + float(problem.l2 @ (w - before.w) ** 2))
    whitener = run.whitener
    level = math.sqrt(len(w)) * whitener.norm(w) + (
        CONDITION_WEIGHT * whitener.condition * math.sqrt(2.0 * point.value)
    )
    finished = change <= EPS * level
    return replace(
        state,
        point=point,
        step_size=a,
        inner_iterations=count,
        refinement=run,
        finished=finished,
        gradient_estimate=None if finished else math.inf,
        value_estimate=point.value,
        outcome=_outcome(point.value, count, finished),
    )


def _outcome(value: float, count: int, finished: bool) -> Status | None:
    """Why the iteration ends without an answer, if it does."""
    if not math.isfinite(value):
        return Status.NON_FINITE
    return Status.MAX_ITER if count >= MAX_ITERATIONS and not finished else None
