"""L-BFGS: a quasi-Newton method of limited memory."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from subsampled_newton.linesearch import LineSearch, armijo, strong_wolfe
from subsampled_newton.parameters import check_count, check_number, check_one_of
from subsampled_newton.problem import FiniteSum, Point, Trial
from subsampled_newton.solvers._descent import ROUNDING, first_length
from subsampled_newton.solvers._driver import State
from subsampled_newton.solvers._result import Status

__all__ = ["LBFGS", "LBFGSState", "inverse_product"]

Array = NDArray[np.float64]
Pairs = tuple[tuple[Array, Array], ...]
CURVATURE = 1e-10
"""A pair needs ``s'y`` above this fraction of ``||s|| ||y||``."""
PATIENCE = 50
"""Steps that may pass before F or the norm of the gradient has fallen visibly."""


@dataclass(frozen=True)
class LBFGSState(State):
    """State of `LBFGS`."""

    pairs: Pairs = ()
    """Last changes of w and of the gradient, the oldest first."""
    progress: tuple[float, float] | None = None
    """Value and gradient norm; to undercut one of them is progress."""
    idle: int = 0
    """Steps since there was progress."""


@dataclass(frozen=True)
class LBFGS:
    """Quasi-Newton method with the inverse Hessian of the last steps.

    The direction is ``-H g`` where H comes from ``gamma I`` by BFGS updates with the
    last pairs ``s`` (change of w) and ``y`` (change of the gradient). An iteration
    whose unit step is accepted reads the data once, one with a longer search twice.

    Parameters
    ----------
    memory : int, default 10
        Pairs kept. 5 to 20 are usual; more pay where reads of the data are expensive.
    line_search : {"wolfe", "armijo"}, default "wolfe"
        Strong Wolfe conditions make every pair a valid one. ``"armijo"`` only
        backtracks, and pairs without positive curvature are left out.
    scaling : {"secant", "identity"}, default "secant"
        ``gamma = s'y / y'y`` of the last pair, or 1, as in some published experiments:
        slower, with many short steps.
    c1, c2 : float in (0, 1), default 1e-4 and 0.9
        Fractions of the predicted decrease that is asked for and of the slope that may
        be left [1].
    max_trials : int, default 40
        Of a line search.

    Notes
    -----
    Pairs with ``s'y <= 1e-10 ||s|| ||y||`` are left out, so that H is positive definite
    on every problem. The first step is ``min(1, 1 / ||g||_1)`` times the gradient.
    Where a search fails the pairs are dropped; it is a failure when there are none.
    ``inner_iterations`` of the trace counts trials.

    Differs from the papers in pairs without enough curvature, which are left out, in
    the first step, and in a failed search, after which the pairs are dropped.

    References
    ----------
    .. [1] Nocedal and Wright, Numerical Optimization, 2nd ed., Algorithms 7.4 and 7.5.
    .. [2] D. C. Liu, J. Nocedal, On the limited memory BFGS method for large scale
       optimization, Math. Program. 45, 1989.
    """

    memory: int = 10
    line_search: Literal["wolfe", "armijo"] = "wolfe"
    scaling: Literal["secant", "identity"] = "secant"
    c1: float = 1e-4
    c2: float = 0.9
    max_trials: int = 40

    def __post_init__(self) -> None:
        for name in ("memory", "max_trials"):
            check_count(name, getattr(self, name))
        for name, allowed in (
            ("line_search", ("wolfe", "armijo")),
            ("scaling", ("secant", "identity")),
        ):
            check_one_of(name, getattr(self, name), allowed)
        for name in ("c1", "c2"):
            check_number(name, getattr(self, name), "in (0, 1)")
        if self.line_search == "wolfe" and not self.c1 < self.c2:
            raise ValueError(f"c1 must be < c2, got {self.c1!r} and {self.c2!r}")

    def init(
        self, problem: FiniteSum, point: Point, rng: np.random.Generator
    ) -> LBFGSState:
        """State before the first step."""
        return LBFGSState(point)

    def step(
        self, problem: FiniteSum, state: LBFGSState, rng: np.random.Generator
    ) -> LBFGSState:
        """One iteration of Algorithm 7.5 of [1]."""
        point, gradient = state.point, state.point.gradient
        gamma = 1.0 if self.scaling == "identity" else None
        direction = -inverse_product(state.pairs, gradient, gamma)
        slope = float(gradient @ direction)
        first = 1.0
        if not state.pairs:
            first = first_length(gradient)
        search = self._search(point, direction, slope, first)
        state = replace(
            state,
            iteration=state.iteration + 1,
            step_size=search.step_size,
            inner_iterations=search.n_trials,
        )
        moved = search.trial.point if search.trial is not None else point
        if np.array_equal(moved.w, point.w):
            if state.pairs:  # start afresh from the gradient
                return replace(state, pairs=())
            seen = -first * slope > ROUNDING * abs(point.value)
            outcome = Status.LINE_SEARCH_FAILED if seen else Status.STALLED
            return replace(state, outcome=outcome)

        s, y = moved.w - point.w, moved.gradient - gradient
        pairs = state.pairs
        if s @ y > CURVATURE * np.linalg.norm(s) * np.linalg.norm(y):
            pairs = (*pairs, (s, y))[-self.memory :]
        value, norm = moved.value, float(np.linalg.norm(moved.gradient))
        last_value, last_norm = state.progress or (point.value, math.inf)
        fell = value < last_value - ROUNDING * abs(last_value)
        idle = 0 if fell or norm < last_norm else state.idle + 1
        return replace(
            state,
            point=moved,
            pairs=pairs,
            progress=(value if fell else last_value, min(norm, last_norm)),
            idle=idle,
            outcome=Status.STALLED if idle >= PATIENCE else None,
        )

    def _search(
        self, point: Point, direction: Array, slope: float, first: float
    ) -> LineSearch[Trial]:
        if not slope < 0.0:  # rounding: no step is taken
            return LineSearch(None, 0.0, 0)
        line = point.along(direction)
        if self.line_search == "wolfe":
            return strong_wolfe(
                line,
                point.value,
                slope,
                initial=first,
                c1=self.c1,
                c2=self.c2,
                max_trials=self.max_trials,
            )
        return armijo(
            line,
            point.value,
            slope,
            gradient_norm=float(np.linalg.norm(point.gradient)),
            c1=self.c1,
            max_backtracks=self.max_trials - 1,
            initial=first,
        )


def inverse_product(pairs: Pairs, v: Array, gamma: float | None = None) -> Array:
    """Return ``H v`` for the inverse Hessian of BFGS updates, by the two loops of [1].

    Parameters
    ----------
    pairs : tuple of pairs of ndarray of shape (d,)
        ``s`` and ``y`` with ``s'y > 0``, the oldest first.
    v : ndarray of shape (d,)
        Not modified.
    gamma : float, optional
        The updates start from ``gamma I``. Default ``s'y / y'y`` of the last pair.

    References
    ----------
    .. [1] Nocedal and Wright, Numerical Optimization, 2nd ed., Algorithm 7.4.
    """
    q, factors = v.copy(), []
    for s, y in reversed(pairs):
        factors.append(float(s @ q) / float(s @ y))
        q -= factors[-1] * y
    if gamma is None and pairs:
        s, y = pairs[-1]
        gamma = float(s @ y) / float(y @ y)
    if gamma is not None:
        q *= gamma
    for (s, y), factor in zip(pairs, reversed(factors), strict=True):
        q += (factor - float(y @ q) / float(s @ y)) * s
    return q
