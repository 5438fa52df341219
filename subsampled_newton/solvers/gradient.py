"""Gradient descent: fixed steps, Armijo's rule with memory, Barzilai-Borwein steps."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from subsampled_newton.linesearch import armijo
from subsampled_newton.parameters import check_count, check_number
from subsampled_newton.problem import FiniteSum, Point
from subsampled_newton.solvers._descent import ROUNDING, first_length
from subsampled_newton.solvers._driver import State
from subsampled_newton.solvers._fixed_step import constants, end_of_steps
from subsampled_newton.solvers._result import Status

__all__ = ["GradientDescent", "GradientState"]

Array = NDArray[np.float64]
SHORTEST, LONGEST = 1e-20, 1e20
"""Limits of the first trial of a search. Those of Raydan, 1e-10 and 1e10, bind on raw
data: columns of the size 1e6 ask for steps of 1e-12."""
RULES = ("1/L", "2/(L+mu)", "armijo", "barzilai-borwein")


@dataclass(frozen=True)
class GradientState(State):
    """State of `GradientDescent`."""

    next_step: float = math.nan
    """The next step, or the first one that the next search tries."""
    recent: tuple[tuple[float, float], ...] = ()
    """Values and gradient norms at the last points, for the non-monotone search."""


@dataclass(frozen=True)
class GradientDescent:
    """``w <- w - step_size * gradient``.

    Parameters
    ----------
    step_size : {"1/L", "2/(L+mu)", "armijo", "barzilai-borwein"} or float
        Default ``"1/L"``, which never increases F; L is the bound of `smoothness`, for
        one read of the rows. ``"2/(L+mu)"`` contracts fastest in the worst case of a
        strongly convex F. Both need a `LinearModel` with a loss of bounded curvature.
        ``"armijo"`` and ``"barzilai-borwein"`` search, on every problem: the first
        starts from twice the last step, the second from ``s's / s'y`` of the last
        changes s of w and y of the gradient. Its search is not monotone: F may rise for
        some steps, and far fewer of them are needed.
    c1 : float in (0, 1), default 1e-4
        Fraction of the predicted decrease that a search asks for.
    shrink : float in (0, 1), default 0.5
        Factor between its trials.
    memory : int, default 10
        Number of last points whose largest value bounds a Barzilai-Borwein step.
    max_backtracks : int, default 60
        Of a search. The first one of a badly scaled problem may start far out.

    Notes
    -----
    With a fixed step an iteration is one read of the data. So it is where a search
    accepts its first trial; otherwise it is two, and the trials between cost O(n).
    ``inner_iterations`` of the trace counts trials.

    Differs from the papers in the first trial of a search: twice the last step, also in
    place of a Barzilai-Borwein step where ``s'y`` is not positive. Otherwise as in the
    papers.

    References
    ----------
    .. [1] Y. Nesterov, Introductory lectures on convex optimization, 2004, Theorems
       2.1.14 and 2.1.15: rates of the fixed steps.
    .. [2] J. Barzilai, J. M. Borwein, Two-point step size gradient methods, IMA J.
       Numer. Anal. 8, 1988, equation (6).
    .. [3] M. Raydan, The Barzilai and Borwein gradient method for the large scale
       unconstrained minimization problem, SIAM J. Optim. 7, 1997, algorithm GBB.
    """

    step_size: Literal["1/L", "2/(L+mu)", "armijo", "barzilai-borwein"] | float = "1/L"
    c1: float = 1e-4
    shrink: float = 0.5
    memory: int = 10
    max_backtracks: int = 60

    def __post_init__(self) -> None:
        check_number("step_size", self.step_size, "> 0", rules=RULES)
        for name in ("c1", "shrink"):
            check_number(name, getattr(self, name), "in (0, 1)")
        for name in ("memory", "max_backtracks"):
            check_count(name, getattr(self, name))

    def init(
        self, problem: FiniteSum, point: Point, rng: np.random.Generator
    ) -> GradientState:
        """State before the first step, with the step that is fixed."""
        if self.step_size in ("armijo", "barzilai-borwein"):
            return GradientState(point)
        if not isinstance(self.step_size, str):
            return GradientState(point, next_step=float(self.step_size))
        mu, L, outcome = constants(problem)
        step = 1.0 / L if self.step_size == "1/L" else 2.0 / (L + mu)
        return GradientState(point, next_step=step, outcome=outcome)

    def step(
        self, problem: FiniteSum, state: GradientState, rng: np.random.Generator
    ) -> GradientState:
        """One step along the negative gradient."""
        if self.step_size in ("armijo", "barzilai-borwein"):
            return self._search(state)
        point = state.point
        w = point.w - state.next_step * point.gradient
        return replace(
            state,
            point=problem.at(w),
            iteration=state.iteration + 1,
            step_size=state.next_step,
            outcome=end_of_steps(w, point.w),
        )

    def _search(self, state: GradientState) -> GradientState:
        point, gradient = state.point, state.point.gradient
        norm = float(np.linalg.norm(gradient))
        if norm == 0.0:  # the measure of a problem may see more
            return replace(state, outcome=Status.STALLED)
        two_point = self.step_size == "barzilai-borwein"
        recent = (*state.recent, (point.value, norm))
        recent = recent[-self.memory if two_point else -1 :]
        first = state.next_step
        if math.isnan(first):
            first = first_length(gradient)
        slope = -norm * norm
        search = armijo(
            point.along(-gradient),
            point.value,
            slope,
            gradient_norm=max(norm for _, norm in recent),
            c1=self.c1,
            shrink=self.shrink,
            max_backtracks=self.max_backtracks,
            initial=first,
            reference=max(value for value, _ in recent),
        )
        state = replace(
            state,
            iteration=state.iteration + 1,
            step_size=search.step_size,
            inner_iterations=search.n_trials,
        )
        if search.trial is None:
            seen = -first * slope > ROUNDING * abs(point.value)
            outcome = Status.LINE_SEARCH_FAILED if seen else Status.STALLED
            return replace(state, outcome=outcome)
        moved = search.trial.point
        longer = 2.0 * search.step_size
        if two_point:
            longer = _two_point_step(
                moved.w - point.w, moved.gradient - gradient, longer
            )
        longer = min(max(longer, SHORTEST), LONGEST)
        return replace(state, point=moved, next_step=longer, recent=recent)


def _two_point_step(s: Array, y: Array, otherwise: float) -> float:
    """``s's / s'y``, the inverse of a Rayleigh quotient of the Hessian."""
    curvature = float(s @ y)
    return float(s @ s) / curvature if curvature > 0.0 else otherwise
