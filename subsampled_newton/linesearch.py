"""Backtracking line search."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Generic, NamedTuple, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

__all__ = ["LineSearch", "Trial", "armijo"]

FLAT = 16 * np.finfo(np.float64).eps
"""Changes of the value below this fraction of it are rounding."""


class Point(Protocol):
    """What the search needs of a point that it may accept."""

    @property
    def gradient(self) -> NDArray[np.float64]: ...


class Trial(Protocol):
    """A candidate: its value, and the full point should it be accepted."""

    @property
    def value(self) -> float: ...

    @property
    def point(self) -> Point: ...


T = TypeVar("T", bound=Trial)


class LineSearch(NamedTuple, Generic[T]):
    """Outcome of a line search."""

    trial: T | None
    """The accepted candidate, or None when every step was refused."""
    step_size: float
    n_trials: int


def armijo(
    line: Callable[[float], T],
    value: float,
    slope: float,
    *,
    gradient_norm: float = math.inf,
    c1: float = 1e-4,
    shrink: float = 0.5,
    max_backtracks: int = 30,
) -> LineSearch[T]:
    """Find the largest step in ``1, shrink, shrink**2, ...`` of sufficient decrease.

    Accepts the first ``t`` with ``F(t) <= F(0) + c1 t slope``. A value that is not
    finite is a refusal. Where the value changes by rounding only, a step that reduces
    the gradient norm is accepted instead; without that rule good runs fail at full
    accuracy (scikit-learn found the same).

    Parameters
    ----------
    line : callable, float -> Trial
        The candidate at a step size.
    value : float
        F at step 0.
    slope : float, < 0
        Derivative along the line at step 0.
    gradient_norm : float, default inf
        At step 0, for the rule near the solution.
    c1 : float, default 1e-4
        Fraction of the predicted decrease that is asked for.
    shrink : float, default 0.5
        Factor between trials.
    max_backtracks : int, default 30
        Refusals before the search gives up.

    References
    ----------
    .. [1] Nocedal and Wright, Numerical Optimization, 2nd ed., Algorithm 3.1.
    """
    step_size = 1.0
    for n_trials in range(1, max_backtracks + 2):
        trial = line(step_size)
        change = trial.value - value
        if math.isfinite(change) and change <= c1 * step_size * slope:
            return LineSearch(trial, step_size, n_trials)
        if (
            abs(change) <= FLAT * abs(value)
            and np.linalg.norm(trial.point.gradient) < gradient_norm
        ):
            return LineSearch(trial, step_size, n_trials)
        step_size *= shrink
    return LineSearch(None, 0.0, n_trials)
