"""One damped Newton step: what every line-search solver does with its direction."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from subsampled_newton.linesearch import armijo
from subsampled_newton.problem import Line, Point
from subsampled_newton.solvers._result import Status
from subsampled_newton.subproblems._step import Step

__all__ = ["Descent", "descend", "first_length"]

Array = NDArray[np.float64]
ROUNDING = 64 * np.finfo(np.float64).eps
"""A predicted decrease below this fraction of the value cannot be seen in it."""


class Descent(NamedTuple):
    """The accepted point, or why there is none."""

    point: Point | None
    step_size: float
    outcome: Status | None
    line: Line


def descend(
    point: Point,
    step: Step,
    *,
    theta2: float = 0.1,
    curvature: float | None = None,
    rounding: float = 0.0,
    c1: float = 1e-4,
    shrink: float = 0.5,
    max_backtracks: int = 30,
) -> Descent:
    """Search along the step of a quadratic model, from the unit step down.

    A direction that violates ``g'p <= -(1 - theta2) p'Hp``, the second inner condition
    of Roosta-Khorasani and Mahoney's Algorithm 5, is refused as not downhill.
    ``curvature`` is ``p'Hp`` from a product with p, which shows that H is not symmetric
    where the decrease of the model cannot; ``rounding`` is its error.
    """
    gradient = point.gradient
    slope = float(gradient @ step.vector)
    line = point.along(step.vector)
    if not np.any(step.vector) and step.status != "negative_curvature":
        # There is no gradient where there is curvature.
        return Descent(None, 0.0, Status.STALLED, line)
    if curvature is None:
        curvature = model_curvature(slope, step)
    if not (slope < 0.0 and slope <= -(1.0 - theta2) * (curvature - rounding)):
        return Descent(None, 0.0, Status.NOT_DESCENT, line)
    search = armijo(
        line,
        point.value,
        slope,
        gradient_norm=float(np.linalg.norm(gradient)),
        c1=c1,
        shrink=shrink,
        max_backtracks=max_backtracks,
    )
    if search.trial is not None:
        return Descent(search.trial.point, search.step_size, None, line)
    # The decrease of an inconsistent model leaves out directions that may matter.
    seen = step.model_decrease > ROUNDING * abs(point.value)
    failed = seen or step.status == "inconsistent"
    outcome = Status.LINE_SEARCH_FAILED if failed else Status.STALLED
    return Descent(None, 0.0, outcome, line)


def model_curvature(slope: float, step: Step) -> float:
    """``p'Hp`` from the decrease ``-g'p - p'Hp / 2`` of the model."""
    return -2.0 * (step.model_decrease + slope)


def first_length(gradient: Array) -> float:
    """First step of a search along ``-gradient``: it changes w by at most one."""
    total = float(np.abs(gradient).sum())
    length = 1.0 / total if total > 0.0 else 1.0
    return min(1.0, length) if math.isfinite(length) else 1.0
