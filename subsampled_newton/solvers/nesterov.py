"""Nesterov's accelerated gradient method, with adaptive restart."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from subsampled_newton.linear_model import LinearModel
from subsampled_newton.parameters import check_flag, check_number
from subsampled_newton.problem import FiniteSum, Point
from subsampled_newton.solvers._descent import ROUNDING, first_length
from subsampled_newton.solvers._driver import State
from subsampled_newton.solvers._fixed_step import constants, end_of_steps
from subsampled_newton.solvers._result import Status

__all__ = ["Nesterov", "NesterovState"]

Array = NDArray[np.float64]
GROWTH = 1.0 / 0.9
"""Factor by which a searched step may grow per iteration."""
MAX_TRIALS = 60
"""Of a search. The first one of a badly scaled problem may start far out."""
RULES = ("auto", "1/L", "backtracking")
MOMENTA = ("auto", "strongly-convex", "convex")


@dataclass(frozen=True)
class NesterovState(State):
    """State of `Nesterov`. The point is where the gradient is taken, w + eta v."""

    w: Array | None = None
    """The iterate w without the extrapolation."""
    velocity: Array | None = None
    """v."""
    momentum: float = 0.0
    """eta."""
    theta: float = 1.0
    """Of the recursion of the momentum."""
    mu: float = 0.0
    next_step: float = math.nan
    """The fixed step, or the first one that the next search tries."""


@dataclass(frozen=True)
class Nesterov:
    """``v <- eta v - a gradient(w + eta v)``, ``w <- w + v``.

    The gradient at the extrapolated point is the only evaluation of an iteration: one
    read of the data. That point is the one that is traced, tested and returned; its
    sequence is that of the form of three terms, ``w+ = w - a g + eta (w - w_) - a eta
    (g - g_)``. F does not fall in every step.

    Parameters
    ----------
    momentum : {"auto", "strongly-convex", "convex"} or float in [0, 1), default "auto"
        ``"auto"``: the general scheme [1], which is ``"convex"`` for ``mu = 0`` and
        tends to ``"strongly-convex"`` otherwise; mu is known from the ridge, and
        exactly for the squared loss. ``"convex"``: ``eta = (t_k - 1) / t_{k+1}`` with
        ``t_{k+1} = (1 + sqrt(1 + 4 t_k**2)) / 2`` [2], F falls as ``2 L ||w_0 - w*||**2
        / (k + 1)**2``. ``"strongly-convex"``: ``eta = (sqrt(kappa) - 1) / (sqrt(kappa)
        + 1)``, F falls as ``(1 - 1 / sqrt(kappa))**k``. A number: that constant.
    restart : bool, default True
        Forget the velocity where it points uphill, ``gradient'v > 0`` [3]. That stops
        the oscillation that the momentum causes where mu is larger than known, and
        costs nothing. The proofs of the rates do not cover it.
    step_size : {"auto", "1/L", "backtracking"} or float, default "auto"
        ``"1/L"`` with the bound L of `smoothness`, for one read of the rows;
        ``"backtracking"``: the largest ``a`` in a geometric grid with ``F(y - a g) <=
        F(y) - (a / 2) ||g||**2``, a second read of the data in every iteration.
        ``"auto"``: ``"1/L"`` for a `LinearModel` with a loss of bounded curvature,
        ``"backtracking"`` for all others.

    Notes
    -----
    Differs from the papers in the restart, which has no proof for these rates, and in
    the backtracking, whose steps may grow again; and in that the point which is traced
    and returned is the extrapolated one. With ``restart=False`` and a fixed step the
    iterates are as in the papers.

    References
    ----------
    .. [1] Y. Nesterov, Introductory lectures on convex optimization, 2004, scheme
       (2.2.8) with alpha_0 = 1.
    .. [2] A. Beck, M. Teboulle, A fast iterative shrinkage-thresholding algorithm for
       linear inverse problems, SIAM J. Imaging Sci. 2, 2009, Theorem 4.4.
    .. [3] B. O'Donoghue, E. Candes, Adaptive restart for accelerated gradient schemes,
       Found. Comput. Math. 15, 2015, section 3.2, gradient scheme.
    """

    momentum: Literal["auto", "strongly-convex", "convex"] | float = "auto"
    restart: bool = True
    step_size: Literal["auto", "1/L", "backtracking"] | float = "auto"

    def __post_init__(self) -> None:
        check_number("momentum", self.momentum, "in [0, 1)", rules=MOMENTA)
        check_flag("restart", self.restart)
        check_number("step_size", self.step_size, "> 0", rules=RULES)

    def init(
        self, problem: FiniteSum, point: Point, rng: np.random.Generator
    ) -> NesterovState:
        """State before the first step, with the constants of the problem."""
        mu, step, outcome = problem.strong_convexity, math.nan, None
        if not isinstance(self.step_size, str):
            step = float(self.step_size)
        elif not self._searches(problem):
            mu, L, outcome = constants(problem)
            step = 1.0 / L
        if self.momentum == "strongly-convex" and mu == 0.0:
            raise ValueError(
                "momentum='strongly-convex' needs a problem that is known to be: a "
                "convex loss and l2 > 0; momentum='auto' needs nothing"
            )
        return NesterovState(
            point,
            outcome=outcome,
            w=point.w,
            velocity=np.zeros_like(point.w),
            mu=mu,
            next_step=step,
        )

    def step(
        self, problem: FiniteSum, state: NesterovState, rng: np.random.Generator
    ) -> NesterovState:
        """One gradient step from the extrapolated point, and the next extrapolation."""
        assert state.w is not None
        assert state.velocity is not None
        point, gradient = state.point, state.point.gradient
        a, trials = state.next_step, 0
        if self._searches(problem):
            a, trials = self._backtrack(state)
            if a == 0.0:
                return replace(
                    state,
                    iteration=state.iteration + 1,
                    step_size=0.0,
                    inner_iterations=trials,
                    outcome=Status.LINE_SEARCH_FAILED,
                )
        velocity = state.momentum * state.velocity - a * gradient
        w = state.w + velocity
        restart = self.restart and float(gradient @ velocity) > 0.0
        momentum, theta = self._momentum(state, a, restart)
        extrapolated = w + momentum * velocity
        return replace(
            state,
            point=problem.at(extrapolated),
            iteration=state.iteration + 1,
            step_size=a,
            inner_iterations=trials,
            outcome=end_of_steps(extrapolated, point.w),
            w=w,
            velocity=velocity,
            momentum=momentum,
            theta=theta,
            next_step=GROWTH * a if trials else a,
        )

    def _searches(self, problem: FiniteSum) -> bool:
        if self.step_size != "auto":
            return self.step_size == "backtracking"
        return not (
            isinstance(problem, LinearModel)
            and math.isfinite(problem.loss.curvature_bound)
        )

    def _momentum(
        self, state: NesterovState, a: float, restart: bool
    ) -> tuple[float, float]:
        """Next momentum and theta: (2.2.8) of [1] with ``q = mu / L``.

        From theta = 1 with q = 0 it is the sequence of [2] with ``theta = 1 / t``; from
        ``theta = sqrt(q)``, where it stands still, that of strong convexity.
        """
        if not isinstance(self.momentum, str):
            return (0.0 if restart else float(self.momentum)), 1.0
        q = 0.0 if self.momentum == "convex" else min(1.0, a * state.mu)
        if self.momentum == "strongly-convex":
            root = math.sqrt(q)
            return (0.0 if restart else (1.0 - root) / (1.0 + root)), root
        theta = 1.0 if restart else state.theta
        square = theta * theta
        following = 0.5 * (q - square + math.sqrt((q - square) ** 2 + 4.0 * square))
        return theta * (1.0 - theta) / (square + following), following

    def _backtrack(self, state: NesterovState) -> tuple[float, int]:
        """Step with ``F(y - a g) <= F(y) - (a / 2) ||g||**2``; 0 if there is none.

        Where that decrease is below the rounding of F, the slope at the trial decides
        instead: it is not positive, which is the same for a quadratic.
        Differs from [2]: the step may grow again, by a factor 1 / 0.9.
        """
        point, gradient = state.point, state.point.gradient
        square = float(gradient @ gradient)
        line = point.along(-gradient)
        first = math.isnan(state.next_step)
        a = first_length(gradient) if first else state.next_step
        longest = 0.0
        for n_trials in range(1, MAX_TRIALS + 1):
            trial = line(a)
            decrease = 0.5 * a * square
            if decrease > ROUNDING * abs(point.value):
                good = -math.inf < trial.value <= point.value - decrease
            else:
                good = line.slope(trial) <= 0.0
            if good and not first:
                return a, n_trials
            if good:  # the first guess may be far too short
                longest, a = a, 2.0 * a
            elif longest > 0.0:
                return longest, n_trials
            else:
                first, a = False, 0.5 * a
        return longest, MAX_TRIALS
