"""What first-order methods with fixed steps share."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from subsampled_newton._smoothness import eigenvalue_bounds
from subsampled_newton.problem import FiniteSum
from subsampled_newton.solvers._result import Status

__all__ = ["Constants", "constants", "end_of_steps"]


class Constants(NamedTuple):
    """What fixed steps are computed from."""

    mu: float
    L: float
    outcome: Status | None = None
    """NON_FINITE where L has overflowed: there is no step."""


def constants(problem: FiniteSum) -> Constants:
    """``mu`` and ``L > 0``: a constant F allows every step."""
    mu, L = eigenvalue_bounds(problem)
    outcome = None if math.isfinite(L) else Status.NON_FINITE
    return Constants(mu, max(L, float(np.finfo(np.float64).tiny)), outcome)


def end_of_steps(
    w: NDArray[np.float64], previous: NDArray[np.float64]
) -> Status | None:
    """STALLED where a step has changed nothing."""
    return Status.STALLED if np.array_equal(w, previous) else None
