"""The stochastic average gradient method."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from subsampled_newton.kernels import epochs
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

__all__ = ["SAG"]


@dataclass(frozen=True)
class SAG:
    """Stochastic average gradient: a mean of gradients, one of which is renewed a step.

    For a sample i, drawn at random::

        a_new = s_i loss'(x_i'w);  d += (a_new - a_i) x_i;  a_i = a_new
        w -= step_size * (d / m + l2 * w)

    where m counts the samples seen so far. It converges linearly on strongly convex
    problems, for the cost of one row a step. A step of this solver is an epoch: as many
    inner steps as there are samples. On sparse rows an inner step costs as many
    operations as the row has entries.

    Parameters
    ----------
    step_size : {"line-search", "1/L"} or float, default "line-search"
        ``"line-search"`` keeps an estimate L_i for every sample: at least the curvature
        where the sample is drawn, and every fourth time what the line search of [1]_
        accepts, from half of the last estimate on. It needs no bound, and where samples
        are fitted well it finds L_i far below theirs. ``"1/L"`` takes the bounds
        ``L_i = curvature_bound s_i ||x_i||**2``. Both step by
        ``fraction / max_i (L_i / (n p_i) + l2)`` with the probabilities p_i.
    fraction : float, default 0.5
        1/16 is what the theory of [1]_ guarantees with ``"1/L"`` and uniform sampling.
        Its practice is 1, which is the limit of stability where rows are alike: one
        half needs fewer epochs on average and has not diverged.
    sampling : {"lipschitz", "uniform"}, default "lipschitz"
        ``p_i`` in proportion to ``1 / 2 + L_i / (2 mean L)`` [2]_, so that the step
        depends on the mean of the L_i, not on their maximum; or all the same. The
        probabilities follow the estimates after 1, 2, 4, 8, ... epochs.

    Notes
    -----
    The gradient of the trace is computed when the norm of ``d / n + l2 w`` is at most
    ``tol``, and does not cost a pass in other epochs.

    Where the samples seen so far have more than their part of all L_i, their gradients
    are divided by ``n sum_seen L_i / sum L_i`` instead of m. That differs from [1]_: a
    heavy row that comes first would be stepped along with n times its weight.

    Differs from the papers in the division by more than m where heavy rows come first,
    as above; in the default step, half of that of their practice; in the probabilities,
    half of them uniform and renewed after 1, 2, 4, 8, ... epochs; and in the line
    search, which looks at a sample every fourth time and starts from its curvature.

    References
    ----------
    .. [1] M. Schmidt, N. Le Roux, F. Bach, Minimizing finite sums with the stochastic
       average gradient, Math. Program. 162, 2017, Algorithm 1 and section 4.
    .. [2] M. Schmidt et al., Non-uniform stochastic average gradient method for
       training conditional random fields, AISTATS 2015.
    """

    step_size: Literal["line-search", "1/L"] | float = "line-search"
    fraction: float = 0.5
    sampling: Literal["lipschitz", "uniform"] = "lipschitz"

    def __post_init__(self) -> None:
        check_rule(self.step_size, self.fraction, self.sampling)

    def init(
        self, problem: FiniteSum, point: Point, rng: np.random.Generator
    ) -> EpochState:
        """State before the first step."""
        check_model(problem, "SAG", self.step_size)
        return EpochState(point)

    def step(
        self, problem: FiniteSum, state: EpochState, rng: np.random.Generator
    ) -> EpochState:
        """One epoch of Algorithm 1 of [1]."""
        samples, memory = prepare(
            problem,
            state,
            step_size=self.step_size,
            fraction=self.fraction,
            sampling=self.sampling,
        )
        w = samples.parameters(state.point.w)
        run_epoch("sag", samples, memory, w, rng, samples.n)
        point = problem.at(w.ravel())
        share = 1.0 / float(memory.control[epochs.N_SEEN])
        return replace(
            state,
            point=point,
            iteration=state.iteration + 1,
            step_size=memory.step_size,
            inner_iterations=samples.n,
            gradient_estimate=table_gradient_norm(problem, memory.sums, share, point.w),
            outcome=outcome(point.w, state.point.w, memory),
            memory=memory,
            samples=samples,
        )
