"""Polyak's heavy ball: gradient descent with momentum."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from subsampled_newton.parameters import check_number
from subsampled_newton.problem import FiniteSum, Point
from subsampled_newton.solvers._driver import State
from subsampled_newton.solvers._fixed_step import constants, end_of_steps

__all__ = ["HeavyBall", "HeavyBallState"]


@dataclass(frozen=True)
class HeavyBallState(State):
    """State of `HeavyBall`."""

    velocity: NDArray[np.float64] | None = None
    """v, the last change of w."""
    next_step: float = math.nan
    momentum: float = math.nan


@dataclass(frozen=True)
class HeavyBall:
    """``v <- b v - a gradient(w)``, ``w <- w + v``: one read of the data a step.

    With ``m = -v / a`` it is ``m <- b m + gradient``, ``w <- w - a m``.

    Not globally convergent: with the default parameters there are strongly convex
    functions of one variable on which it cycles for ever [2]. On quadratics they are
    optimal, and the error falls as ``((sqrt(kappa) - 1) / (sqrt(kappa) + 1))**k``.
    `Nesterov` is nearly as fast and converges on every convex function.

    Parameters
    ----------
    step_size : float, optional
        a. Default ``(1 + sqrt(b))**2 / L``, which with the default momentum is the
        optimal ``4 / (sqrt(L) + sqrt(mu))**2``, with the bounds of `smoothness`, for
        one read of the rows.
    momentum : float in [0, 1), optional
        b. Default ``((sqrt(kappa) - 1) / (sqrt(kappa) + 1))**2`` with ``kappa = L /
        mu``; needs a problem that is known to be strongly convex.

    Notes
    -----
    As in the paper.

    References
    ----------
    .. [1] B. T. Polyak, Some methods of speeding up the convergence of iteration
       methods, USSR Comput. Math. Math. Phys. 4, 1964.
    .. [2] L. Lessard, B. Recht, A. Packard, Analysis and design of optimization
       algorithms via integral quadratic constraints, SIAM J. Optim. 26, 2016, section
       4.6.
    """

    step_size: float | None = None
    momentum: float | None = None

    def __post_init__(self) -> None:
        check_number("step_size", self.step_size, "> 0", optional=True)
        check_number("momentum", self.momentum, "in [0, 1)", optional=True)

    def init(
        self, problem: FiniteSum, point: Point, rng: np.random.Generator
    ) -> HeavyBallState:
        """State before the first step, with the parameters for the problem."""
        a, b, outcome = self.step_size, self.momentum, None
        if a is None or b is None:
            mu, L, outcome = constants(problem)
            if b is None and mu == 0.0:
                raise ValueError(
                    "the default momentum of HeavyBall needs a problem that is known "
                    "to be strongly convex: a convex loss and l2 > 0"
                )
            low, high = math.sqrt(mu), math.sqrt(L)
            b = ((high - low) / (high + low)) ** 2 if b is None else b
            # With the default b this is (2 / (high + low))**2.
            a = (1.0 + math.sqrt(b)) ** 2 / L if a is None else a
        return HeavyBallState(
            point,
            outcome=outcome,
            velocity=np.zeros_like(point.w),
            next_step=a,
            momentum=b,
        )

    def step(
        self, problem: FiniteSum, state: HeavyBallState, rng: np.random.Generator
    ) -> HeavyBallState:
        """One step."""
        assert state.velocity is not None
        point, a = state.point, state.next_step
        velocity = state.momentum * state.velocity - a * point.gradient
        w = point.w + velocity
        return replace(
            state,
            point=problem.at(w),
            iteration=state.iteration + 1,
            step_size=a,
            outcome=end_of_steps(w, point.w),
            velocity=velocity,
        )
