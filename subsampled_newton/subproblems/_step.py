"""The step of a quadratic model, `Step`, and what every subproblem builds on."""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["Step"]

Array = NDArray[np.float64]


class Step(NamedTuple):
    """An approximate minimizer of a model."""

    vector: Array
    model_decrease: float
    inner_iterations: int
    status: Literal[
        "converged",
        "boundary",
        "max_iter",
        "negative_curvature",
        "singular",
        "inconsistent",
    ]
    """"boundary": on the sphere of a trust region."""
    multiplier: float = 0.0
    """Shift of the Hessian at the step: of a trust region, or ``sigma ||s||``."""
    rest: float = 0.0
    """Estimate of the decrease that is still left, where conjugate gradients end at
    their largest number of products."""
