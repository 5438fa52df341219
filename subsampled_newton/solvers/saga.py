"""SAGA: SAG with an unbiased direction."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from subsampled_newton.problem import FiniteSum, Point
from subsampled_newton.solvers._variance_reduced import (
    EpochState,
    check_model,
    check_rule,
    outcome,
    prepare,
    run_epoch,
    table_gradient_norm,
)

__all__ = ["SAGA"]


@dataclass(frozen=True)
class SAGA:
    """Stochastic average gradient with an unbiased estimate of the gradient.

    For a sample i, drawn with probability ``p_i``::

        a_new = s_i loss'(x_i'w)
        w -= step_size * ((a_new - a_i) x_i / (n p_i) + d / n + l2 * w)
        d += (a_new - a_i) x_i;  a_i = a_new

    The direction is the gradient on average and its variance vanishes at the minimizer,
    so that the steps need not become smaller [1]_. The table begins with the
    derivatives at the start, which cost nothing: the full gradient there is known. A
    step of this solver is an epoch of as many inner steps as there are samples.

    Parameters
    ----------
    step_size, sampling
        As in `SAG`.
    fraction : float, default 1/3
        ``step_size = fraction / max_i (L_i / (n p_i) + l2)``: 1/3 is the step of [1]_.

    Notes
    -----
    Differs from the paper in the defaults, a line search and probabilities of which
    half follow the constants ``L_i``: ``step_size="1/L", sampling="uniform"`` are the
    algorithm of [1]_ without a proximal operator.

    References
    ----------
    .. [1] A. Defazio, F. Bach, S. Lacoste-Julien, SAGA: a fast incremental gradient
       method with support for non-strongly convex composite objectives, NIPS 2014.
    """

    step_size: Literal["line-search", "1/L"] | float = "line-search"
    fraction: float = 1.0 / 3.0
    sampling: Literal["lipschitz", "uniform"] = "lipschitz"

    def __post_init__(self) -> None:
        check_rule(self.step_size, self.fraction, self.sampling)

    def init(
        self, problem: FiniteSum, point: Point, rng: np.random.Generator
    ) -> EpochState:
        """State before the first step."""
        check_model(problem, "SAGA", self.step_size)
        return EpochState(point)

    def step(
        self, problem: FiniteSum, state: EpochState, rng: np.random.Generator
    ) -> EpochState:
        """One epoch of the algorithm of [1]."""
        samples, memory = prepare(
            problem,
            state,
            step_size=self.step_size,
            fraction=self.fraction,
            sampling=self.sampling,
        )
        if state.memory is None:
            memory.fill(samples, state.point)
        w, n = samples.parameters(state.point.w), samples.n
        run_epoch("saga", samples, memory, w, rng, n)
        point = problem.at(w.ravel())
        return replace(
            state,
            point=point,
            iteration=state.iteration + 1,
            step_size=memory.step_size,
            inner_iterations=n,
            gradient_estimate=table_gradient_norm(
                problem, memory.sums, 1.0 / n, point.w
            ),
            outcome=outcome(point.w, state.point.w, memory),
            memory=memory,
            samples=samples,
        )
