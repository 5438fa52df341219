"""Sub-sampled Newton methods with a globally convergent line search.

Roosta-Khorasani and Mahoney, Sub-sampled Newton methods I: globally convergent
algorithms (Algorithms 1 to 5) and II: local convergence rates; Xu, Yang,
Roosta-Khorasani, Re, Mahoney, NIPS 2016, for non-uniform sampling.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from subsampled_newton._memory import NotEnoughMemory
from subsampled_newton.parameters import check_count, check_number, check_one_of
from subsampled_newton.problem import Curvature, FiniteSum, Hessian, Point
from subsampled_newton.sampling import Sample, bernoulli, full, uniform
from subsampled_newton.solvers._descent import descend, model_curvature
from subsampled_newton.solvers._driver import State
from subsampled_newton.solvers._sizes import Evidence, SizeRule, as_size_rule
from subsampled_newton.subproblems._step import Step
from subsampled_newton.subproblems.conjugate_gradient import conjugate_gradient
from subsampled_newton.subproblems.newton import newton_step

__all__ = ["NewtonState", "SubsampledNewton"]

Array = NDArray[np.float64]
FORCING = 3.0
"""Error of the direction in the norm of H, in units of the tolerance: a tenth."""
EXACT = 1e-10
"""Relative residual of a direction that a factorisation would have given."""
SLACK = 1.01
"""Times theta_1: what the recurrence of the residual may differ from it."""
SYMMETRIC = 1e-6
"""Relative difference of ``g'Hp`` and ``p'Hg`` that is rounding."""
MAX_FAILURES = 5
"""Steps in a row that may fail on new samples before the run ends."""


@dataclass(frozen=True)
class NewtonState(State):
    """State of `SubsampledNewton`."""

    sample_size: int = 0
    """Rows of the next Hessian sample."""
    curvature_ratio: float = 1.0
    """``p'H_S p / p'Hp`` along the last direction, if the size rule asks for it."""
    decrement: float = math.nan
    """Predicted decrease ``-g'p`` of the last step; nan for a sampled gradient."""
    first_norm: float = math.nan
    """Gradient norm at the start, for the adaptive theta_1."""
    scores: Array | None = None
    scores_age: int = 0
    gradient_rows: int = 0
    failures: int = 0
    """Steps without progress in a row."""
    fallback: str = ""
    """Why no matrix is formed although one was asked for."""
    early: int = 0
    """Steps that conjugate gradients left before theta_1."""
    indefinite: int = 0
    """Steps that left out directions of negative curvature."""


@dataclass(frozen=True)
class SubsampledNewton:
    """Newton's method with a sampled Hessian, exact or inexact solves, and Armijo.

    In each iteration: full (or sampled) gradient g, sample S, Hessian ``H_S`` with the
    full ridge, direction p with ``H_S p ~ -g``, the largest step ``1, b, b**2, ...``
    that satisfies Armijo's condition. One read of the data when the unit step is
    accepted, which theory promises from some iteration on. With ``hessian_sample=1.0``
    this is Newton's method.

    Parameters
    ----------
    hessian_sample : float, int or SizeRule, default 0.05
        Fraction of the rows (float in (0, 1]), number of rows (int), or a rule:
        `Lemma`, `Growing`, `Spectral`. 5 % is the fraction of the empirical studies.
    sampling : {"uniform", "row-norms", "leverage"}, default "uniform"
        ``"row-norms"``: in proportion to ``d2_i ||x_i||**2``; ``"leverage"``: to
        approximate ridge leverage scores, those of the blocks of a `SoftmaxModel`,
        which keeps the rate sqrt(d/s) on rows of very different influence. Both mixed:
        ``0.9 p + 0.1 / n``.
    linear_solver : {"cholesky", "cg"}, default "cholesky"
        ``"cholesky"`` forms the sampled Hessian and solves exactly; ``"cg"`` solves
        to the relative residual ``theta1`` and forms nothing when d is large. Where
        the memory available does not hold the matrix, ``"cholesky"`` solves by
        conjugate gradients to a relative residual of 1e-10, and ``result.message`` says
        so.
    preconditioner : {"jacobi"}, optional
        Of the conjugate gradients: the diagonal of the sampled Hessian, the default, or
        None.
    theta1 : float in (0, 1), optional
        ``||H p + g|| <= theta1 ||g||``. By default the tolerance is ``min(0.1, sqrt(
        ||g|| / ||g_0||)) min(1, 3 / sqrt(kappa))`` in the norm of the inverse of the
        preconditioner, with the condition number kappa that the conjugate gradients
        have seen: the error of the direction in the norm of H is at most 0.3, which
        takes as many iterations as exact directions, and less near the solution.
        Where conjugate gradients end before that, at ``max_inner`` or at negative
        curvature, the step is taken and ``result.note`` says so. A product of its own
        with p tells, for a theta1 that is given and for the next condition.
    theta2 : float in (0, 1), default 0.1
        ``g'p <= -(1 - theta2) p'Hp``; conjugate gradients from zero satisfy it with 0,
        so a violation means a wrong product, as of a matrix that is not symmetric, and
        the direction is refused.
    curvature : {"hessian", "gauss-newton"}, default "hessian"
        ``"gauss-newton"`` makes this the Gauss-Newton method of non-convex losses and
        nonlinear least squares: its matrix is positive semi-definite everywhere, so
        that the direction points downhill. The same for convex losses.
    max_inner : int, default 250
        Largest number of conjugate gradient iterations.
    gradient_sample : float in (0, 1), optional
        Fraction of the rows of the first gradient sample; later ones grow by
        ``1 / gradient_rate**2`` up to all rows. Default: full gradients.
    gradient_rate : float in (0, 1), default 0.7
        Linear rate that the growth of the gradient sample sustains.
    score_refresh : int, default 10
        Iterations for which leverage scores are used again.
    c1, shrink : float, default 1e-4 and 0.5
        Parameters beta and b of the line search.
    max_backtracks : int, default 30
        Of the line search.

    Notes
    -----
    Differs from the papers in Armijo's rule, which allows for rounding near the
    minimizer; in the probabilities ``0.9 p + 0.1 / n`` where sampling is not uniform;
    and in the leverage scores, approximate and used again for ``score_refresh``
    iterations. [1]_ has conjugate gradients without a preconditioner:
    ``preconditioner=None``.

    References
    ----------
    .. [1] F. Roosta-Khorasani, M. W. Mahoney, Sub-sampled Newton methods I: globally
       convergent algorithms, arXiv:1601.04737, Algorithms 1, 4 and 5.
    .. [2] F. Roosta-Khorasani, M. W. Mahoney, Sub-sampled Newton methods II: local
       convergence rates, arXiv:1601.04738.
    .. [3] P. Xu, J. Yang, F. Roosta-Khorasani, C. Re, M. W. Mahoney, Sub-sampled Newton
       methods with non-uniform sampling, NIPS 2016.
    .. [4] R. H. Byrd, G. M. Chin, W. Neveitt, J. Nocedal, On the use of stochastic
       Hessian information in optimization methods for machine learning, SIAM J. Optim.
       2011: one sample for gradient and values, the Hessian sample inside it.
    """

    hessian_sample: float | int | SizeRule = 0.05
    sampling: Literal["uniform", "row-norms", "leverage"] = "uniform"
    linear_solver: Literal["cholesky", "cg"] = "cholesky"
    theta1: float | None = None
    theta2: float = 0.1
    curvature: Curvature = "hessian"
    max_inner: int = 250
    gradient_sample: float | None = None
    gradient_rate: float = 0.7
    score_refresh: int = 10
    c1: float = 1e-4
    shrink: float = 0.5
    max_backtracks: int = 30
    preconditioner: Literal["jacobi"] | None = "jacobi"

    def __post_init__(self) -> None:
        as_size_rule(self.hessian_sample)
        for name, allowed in (
            ("sampling", ("uniform", "row-norms", "leverage")),
            ("linear_solver", ("cholesky", "cg")),
            ("curvature", ("hessian", "gauss-newton")),
            ("preconditioner", ("jacobi", None)),
        ):
            check_one_of(name, getattr(self, name), allowed)
        for name in (
            "theta1",
            "theta2",
            "gradient_sample",
            "gradient_rate",
            "c1",
            "shrink",
        ):
            optional = name in ("theta1", "gradient_sample")
            check_number(name, getattr(self, name), "in (0, 1)", optional=optional)
        for name in ("max_inner", "score_refresh", "max_backtracks"):
            check_count(name, getattr(self, name))

    def init(
        self, problem: FiniteSum, point: Point, rng: np.random.Generator
    ) -> NewtonState:
        """State before the first step."""
        rows = 0
        if self.gradient_sample is not None:
            rows = max(1, math.ceil(self.gradient_sample * problem.n_samples))
        size = as_size_rule(self.hessian_sample).first(problem)
        return NewtonState(point, sample_size=size, gradient_rows=rows)

    def step(
        self, problem: FiniteSum, state: NewtonState, rng: np.random.Generator
    ) -> NewtonState:
        """One iteration of Algorithm 5 of [1] (Algorithm 1 for a Cholesky solve)."""
        sampled = 0 < state.gradient_rows < problem.n_samples
        part, point = problem, state.point
        if sampled:
            rows = uniform(problem.n_samples, state.gradient_rows, rng).rows
            assert rows is not None
            part = problem.restrict(rows)
            point = part.at(point.w)
        gradient = point.gradient
        norm = float(np.linalg.norm(gradient))

        sample, scores, age = self._draw(part, point, state, rng)
        hessian = point.hessian(sample, self.curvature)
        first_norm = norm if math.isnan(state.first_norm) else state.first_norm
        solved = self._solve(hessian, gradient, state, norm / (first_norm or 1.0))
        if solved.violates(gradient, self.theta2):
            solved = solved.along_step(gradient, hessian.matvec(gradient))
        step = solved.step
        slope = float(gradient @ step.vector)
        early = state.early + solved.early
        saddle = step.status == "negative_curvature" and not problem.convex
        indefinite = state.indefinite + saddle

        descent = descend(
            point,
            step,
            theta2=self.theta2,
            curvature=float(step.vector @ solved.product),
            rounding=solved.rounding,
            c1=self.c1,
            shrink=self.shrink,
            max_backtracks=self.max_backtracks,
        )
        next_point, outcome = state.point, descent.outcome
        if descent.point is not None:
            next_point = problem.at(descent.point.w) if sampled else descent.point

        rule, ratio = as_size_rule(self.hessian_sample), 1.0
        if rule.uses_curvature and sample.n_rows < part.n_samples:
            along = descent.line.curvature()
            # None at all where the losses of all rows are flat, as a squared hinge's.
            ratio = model_curvature(slope, step) / along if along != 0.0 else math.inf
        # Decreases that sampled gradients predict do not show what the Hessian did.
        decrement = math.nan if sampled else -slope
        known = math.isfinite(decrement) and math.isfinite(state.decrement)
        evidence = Evidence(
            problem.n_samples,
            ratio,
            descent.step_size,
            decrement,
            state.decrement if known else None,
        )
        size = rule.next(state.sample_size, evidence)
        failures = 0 if outcome is None else state.failures + 1
        partial = sample.n_rows < problem.n_samples
        if sampled or (partial and failures < MAX_FAILURES):
            outcome = None  # another sample may find a way down
        growth = self.gradient_rate**-2
        return NewtonState(
            next_point,
            iteration=state.iteration + 1,
            step_size=descent.step_size,
            inner_iterations=step.inner_iterations,
            hessian_rows=sample.n_rows,
            gradient_estimate=norm if sampled else None,
            outcome=outcome,
            sample_size=size,
            curvature_ratio=ratio,
            note=self._note(solved.fallback, early, indefinite),
            fallback=solved.fallback,
            early=early,
            indefinite=indefinite,
            decrement=decrement,
            first_norm=first_norm,
            scores=scores,
            scores_age=age,
            failures=failures,
            gradient_rows=min(
                problem.n_samples, math.ceil(growth * state.gradient_rows)
            ),
        )

    def _draw(
        self,
        part: FiniteSum,
        point: Point,
        state: NewtonState,
        rng: np.random.Generator,
    ) -> tuple[Sample, Array | None, int]:
        """Sample of the Hessian, with the scores it was drawn by and their age."""
        n, size = part.n_samples, state.sample_size
        if size >= n:
            return full(n), None, 0
        if self.sampling == "uniform":
            return uniform(n, size, rng), None, 0
        scores, age = state.scores, state.scores_age + 1
        stale = self.sampling == "row-norms" or age >= self.score_refresh
        if scores is None or len(scores) != n or stale:
            scores, age = part.row_scores(self.sampling, point, rng), 0
        return bernoulli(scores, size, rng), scores, age

    def _solve(
        self,
        hessian: Hessian,
        gradient: Array,
        state: NewtonState,
        progress: float,
    ) -> _Solved:
        """Step, with a product of its own that its conditions are checked with."""
        fallback, theta1, limit = state.fallback, self.theta1, self.max_inner
        if self.linear_solver == "cholesky":
            try:
                if not fallback:
                    H = hessian.dense()
                    step = newton_step(H, gradient)
                    product = H @ step.vector
                    return _Solved(step, product, _rounding(step, np.diag(H), product))
            except NotEnoughMemory as error:
                fallback = f"Steps by conjugate gradients: {error}."
            theta1, limit = EXACT, 2 * len(gradient)  # the same direction
        else:
            hessian.prepare(max(10, state.inner_iterations))
        rtol = theta1 or min(0.1, math.sqrt(progress))
        diagonal = hessian.diagonal() if self.preconditioner else None
        step = conjugate_gradient(
            hessian.matvec,
            gradient,
            rtol=rtol,
            # Rounding makes it more than d products where the condition is bad.
            max_iter=min(limit, 5 * len(gradient)),
            diagonal=diagonal,
            forcing=FORCING if theta1 is None else None,
        )
        product = hessian.matvec(step.vector)
        early = step.status != "converged"
        if theta1 is not None:
            residual = float(np.linalg.norm(product + gradient))
            early = not residual <= SLACK * theta1 * float(np.linalg.norm(gradient))
        return _Solved(
            step,
            product,
            _rounding(step, diagonal, product),
            fallback,
            early,
        )

    def _note(self, fallback: str, early: int, indefinite: int) -> str:
        """What the steps so far did otherwise than asked."""
        parts = [fallback]
        if early and self.linear_solver == "cg":
            parts.append(
                f"The condition of theta1 did not hold in {_steps(early)}, which "
                f"conjugate gradients left early: raise max_inner={self.max_inner} "
                "or theta1."
            )
        if indefinite:
            parts.append(
                "Directions of negative curvature were left out of "
                f"{_steps(indefinite)}: use TrustRegion, CubicRegularization or "
                "curvature='gauss-newton'."
            )
        return " ".join(filter(None, parts))


class _Solved(NamedTuple):
    """A direction and what tells whether it is what was asked for."""

    step: Step
    product: Array
    """``H p``, by a product of its own."""
    rounding: float
    """Error of ``p'Hp``."""
    fallback: str = ""
    early: bool = False
    """Whether the residual is above what theta_1 allows."""

    def violates(self, gradient: Array, theta2: float) -> bool:
        """Whether ``g'p <= -(1 - theta_2) p'Hp`` does not hold."""
        p = self.step.vector
        curvature = float(p @ self.product) - self.rounding
        return not float(gradient @ p) <= -(1.0 - theta2) * curvature

    def along_step(self, gradient: Array, other: Array) -> _Solved:
        """Minimizer along the step, where rounding has made it too long.

        Many conjugate gradients lose their conjugacy. A product ``other`` with the
        gradient tells that from a matrix that is not symmetric, which stays refused.
        """
        p, product = self.step.vector, self.product
        forth, back = float(gradient @ product), float(p @ other)
        slope, curvature = float(gradient @ p), float(p @ product)
        even = abs(forth - back) <= SYMMETRIC * (abs(forth) + abs(back))
        if not (even and slope < 0.0 < curvature):
            return self
        t = -slope / curvature
        step = self.step._replace(vector=t * p, model_decrease=-0.5 * t * slope)
        return self._replace(
            step=step, product=t * product, rounding=t * t * self.rounding
        )


def _steps(count: int) -> str:
    return f"{count} step{'s' * (count > 1)}"


def _rounding(step: Step, diagonal: Array | None, product: Array) -> float:
    """Error of ``p'Hp``: of the sum of its terms, which may cancel."""
    p = step.vector
    if diagonal is None:
        terms = float(np.linalg.norm(p) * np.linalg.norm(product))
    else:
        terms = float(np.abs(p) @ np.sqrt(np.abs(diagonal))) ** 2
    return 4.0 * len(p) * float(np.finfo(np.float64).eps) * terms
