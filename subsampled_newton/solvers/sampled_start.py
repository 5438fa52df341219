"""Another solver, started at a minimizer on a sample of the rows.

That of a tenth of the rows is as far from the minimizer on all rows as their noise has
it, a few steps of most methods, and costs a tenth.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from subsampled_newton.certificate import Certificate
from subsampled_newton.parameters import check_number
from subsampled_newton.problem import FiniteSum, Point
from subsampled_newton.sampling import uniform
from subsampled_newton.solvers._driver import (
    SecondOrder,
    Solver,
    State,
    check_solver,
    run,
)
from subsampled_newton.solvers.trust_region import TrustRegion

__all__ = ["SampledStart"]

MIN_ROWS_PER_PARAM = 20
ACCURACY = 0.1
"""Of the sample's own noise, to which its minimizer is found."""
MAX_STEPS = 100
SAMPLED, EXACT = TrustRegion(), TrustRegion(1.0)


@dataclass(frozen=True)
class SampledStart:
    """A solver that starts at a minimizer on a sample of the rows.

    The first iteration draws a uniform sample and minimizes on it, until the gradient
    has the size ``0.1 sqrt(d / rows)`` of the one at the start: what is left then is
    the noise of the sample. Its minimizer is the start of the solver where it is better
    on all rows than the first one.

    Parameters
    ----------
    solver : Solver, default TrustRegion()
        Runs on all rows, from the second iteration on.
    fraction : float in (0, 1], default 0.1
        Fraction of the rows in the sample; never less than 20 rows per parameter.
    start : Solver, default TrustRegion(1.0)
        Runs on the sample.

    Notes
    -----
    Differs from the paper in that there is one sample, and any solver goes on from its
    minimizer.

    References
    ----------
    .. [1] A. Mokhtari et al., Adaptive Newton method for empirical risk minimization to
       statistical accuracy, NIPS 2016: the same over many samples, for convex losses.
    """

    solver: Solver = SAMPLED
    fraction: float = 0.1
    start: Solver = EXACT

    def __post_init__(self) -> None:
        check_number("fraction", self.fraction, "in (0.0, 1.0]")
        check_solver("solver", self.solver)
        check_solver("start", self.start)

    def init(self, problem: FiniteSum, point: Point, rng: np.random.Generator) -> State:
        """State before the first step."""
        return self.solver.init(problem, point, rng)

    def step(self, problem: FiniteSum, state: State, rng: np.random.Generator) -> State:
        """Minimize on a sample first, then take the steps of the solver."""
        if state.iteration > 0:
            return self.solver.step(problem, state, rng)
        n, d = problem.n_samples, problem.n_params
        rows = max(math.ceil(self.fraction * n), MIN_ROWS_PER_PARAM * d)
        sample, point = uniform(n, rows, rng), state.point
        if sample.rows is not None:
            part = problem.restrict(sample.rows)
            first = part.gradient_norm(part.at(point.w))
            tol = ACCURACY * math.sqrt(d / sample.n_rows) * first
            found = run(
                part, self.start, point.w, tol=tol, max_iter=MAX_STEPS, seed=rng
            )
            trial = problem.at(found.w)
            if trial.value <= point.value:
                point = trial
        state = self.solver.init(problem, point, rng)
        return replace(state, iteration=1, hessian_rows=sample.n_rows)

    def certify(
        self, problem: FiniteSum, state: State, rng: np.random.Generator
    ) -> Certificate | None:
        """Second-order conditions, if the solver looks at them."""
        if isinstance(self.solver, SecondOrder):
            return self.solver.certify(problem, state, rng)
        return None

    def escape(self, state: State, certificate: Certificate) -> State:
        """Go on from a saddle as the solver does."""
        assert isinstance(self.solver, SecondOrder)
        return self.solver.escape(state, certificate)
