"""Levenberg and Marquardt's method in a trust region, with second derivatives late."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from subsampled_newton.certificate import Certificate
from subsampled_newton.nonlinear_model import (
    STATIONARY,
    UNDETERMINED,
    NonlinearModel,
    NonlinearPoint,
)
from subsampled_newton.parameters import check_count, check_number
from subsampled_newton.problem import FiniteSum, Point
from subsampled_newton.sampling import Sample, uniform
from subsampled_newton.solvers._descent import ROUNDING
from subsampled_newton.solvers._driver import State
from subsampled_newton.solvers._result import Status
from subsampled_newton.solvers._sizes import Fixed
from subsampled_newton.subproblems._secular import Shifted

__all__ = ["LevenbergMarquardt", "LevenbergMarquardtState"]

Array = NDArray[np.float64]

EPS = float(np.finfo(np.float64).eps)
SLOW = 0.25
"""A full step that leaves more than this of the gradient is linear convergence."""
NEAR, BETTER = 0.1, 1.5
"""Where the gradient is below this, Newton's model is taken once it has predicted the
decrease so many times better."""
ACCEPT = 1e-4
GROWN = 1e4
"""Columns that grow by more take the radius, which is in their units, with them."""
NEGATIVE = 1e-6
"""Eigenvalues below minus this, of the Hessian in units in which the columns of the
Jacobian have length one, are negative curvature and not rounding of differences."""
CHECKED = 1 << 21
"""Rows of the Jacobian that are evaluated for the Hessian at the end: tenths of a
second."""


@dataclass(frozen=True)
class LevenbergMarquardtState(State):
    """Radius of the trust region and scale of the parameters."""

    radius: float = math.nan
    scale: Array | None = None
    """Largest lengths so far of the columns of the Jacobian."""
    newton: bool = False
    """Whether the next model is that of Newton's method."""
    risen: float = 0.0
    """Increase of F, in steps below its rounding, since it was lowest."""
    without: bool = False
    """Whether the next model leaves out parameters whose effect cannot be seen."""


class _Model(NamedTuple):
    """Quadratic model of F in scaled parameters, in the basis of its eigenvectors."""

    scale: Array
    V: Array
    values: Array
    """Eigenvalues, ascending and >= 0."""
    gradient: Array
    newton: bool

    def step(self, radius: float) -> tuple[Array, float, int]:
        """Minimizer in the ball, in the basis; its multiplier; iterations."""
        if radius == math.inf:
            kept = self.values > 0.0
            s = np.zeros_like(self.gradient)
            return np.divide(-self.gradient, self.values, out=s, where=kept), 0.0, 0
        size = float(np.linalg.norm(self.gradient)) / radius
        unit = max(float(self.values[-1]), size)
        if unit == 0.0:
            return np.zeros_like(self.gradient), 0.0, 0
        model = Shifted(0.0, self.values / unit, self.gradient / unit / radius)
        t, x, iterations = model.solve(level=1.0, slope=0.0)
        return radius * t, unit * x, iterations

    def solve(self, slope: Array, mu: float) -> Array:
        """``-(H + mu I)**-1 slope`` in the parameters, flat directions left out."""
        shifted = self.values + mu
        inverse = np.divide(1.0, shifted, out=np.zeros_like(shifted), where=shifted > 0)
        solution: Array = -self.V @ (inverse * (self.V.T @ (slope / self.scale)))
        return solution / self.scale


@dataclass(frozen=True)
class LevenbergMarquardt:
    """Least squares: Gauss-Newton steps in a scaled trust region.

    In each iteration, with residuals r, Jacobian J and scale D:

    1. s minimizes ``||r + J s||`` over ``||D s|| <= radius``: the damped step ``(J'J +
       mu D**2) s = -J'r`` of Levenberg and Marquardt, with the damping mu that belongs
       to the radius. From the singular values of the R of a QR factorisation of J: the
       condition of J is not squared;
    2. the ratio of the actual and the predicted decrease accepts or rejects the step
       and changes the radius;
    3. D holds the largest lengths of the columns of J so far, so that the method does
       not depend on the units of the parameters.

    F never rises beyond its rounding. Where the iterations end, the Hessian, by
    differences of J, tells minima from saddle points and maxima, which symmetric starts
    lead to: they are left along its direction of negative curvature. The result carries
    a certificate, whose eigenvalue and direction are those of ``D^-1 H D^-1`` with the
    Hessian H of half the sum of squares and with the lengths D of the columns of J at
    the end; none for more than two million rows of J, 2 n p, or on samples.

    After ``patience`` iterations exact second derivatives help twice: as the geodesic
    acceleration of the step in a curved valley [2]_, and as Newton's method where full
    Gauss-Newton steps converge slowly, which they do on large residuals.

    For a `NonlinearModel`; on other problems with Gauss-Newton matrices, and on
    samples, the model is formed from the matrix and step 1 solved by its eigenvalues.

    Parameters
    ----------
    hessian_sample : float or int, default 1.0
        Fraction (float in (0, 1]) or number of the rows that J'J is taken from, drawn
        anew in every iteration. The gradient is that of all rows; no second derivatives
        are used on samples.
    radius : float, default 10.0
        First radius, relative to the length of the scaled start.
    acceleration : float, default 0.1
        Largest acceleration, relative to the step; 0 for none. Larger ones save
        iterations, and more runs end in other valleys.
    patience : int, optional, default 15
        Iterations before second derivatives are used, unless F stands still earlier.
        Compiling them takes as long as thousands of iterations of a small problem, and
        most need fewer than 15. None: they are never used.

    Notes
    -----
    Differs from the papers in the second derivatives, used only after ``patience``
    iterations; in the acceleration, from exact second derivatives; and in the model of
    [3]_, for which the Hessian itself stands, without secant updates.

    References
    ----------
    .. [1] J. J. Moré, The Levenberg-Marquardt algorithm: implementation and theory,
       LNM 630 (1978): rules of radius and scale.
    .. [2] M. K. Transtrum, J. P. Sethna, Improvements to the Levenberg-Marquardt
       algorithm for nonlinear least-squares minimization, arXiv:1201.5885.
    .. [3] J. E. Dennis, D. M. Gay, R. E. Welsch, An adaptive nonlinear least-squares
       algorithm, ACM TOMS 7 (1981), for the change of models.
    """

    hessian_sample: float | int = 1.0
    radius: float = 10.0
    acceleration: float = 0.1
    patience: int | None = 15

    def __post_init__(self) -> None:
        Fixed(self.hessian_sample)
        check_number("radius", self.radius, "> 0")
        check_number("acceleration", self.acceleration, "in [0, 1]")
        check_count("patience", self.patience, 0, optional=True)

    def init(
        self, problem: FiniteSum, point: Point, rng: np.random.Generator
    ) -> LevenbergMarquardtState:
        """State before the first step."""
        return LevenbergMarquardtState(point)

    def step(
        self,
        problem: FiniteSum,
        state: LevenbergMarquardtState,
        rng: np.random.Generator,
    ) -> LevenbergMarquardtState:
        """One attempt: a damped step, accepted or not, and a new radius."""
        point, size = state.point, Fixed(self.hessian_sample).first(problem)
        sample = uniform(problem.n_samples, size, rng)
        second = self.patience is not None and sample.rows is None
        late = second and state.iteration + 1 >= (self.patience or 0)
        lengths, model = _model(point, state, sample)
        radius = self._radius(state, lengths)

        # Below its rounding F is no guide any more; the gradient still is, and nothing
        # tells against a full step.
        rounding = _rounding(point)
        flat = _remaining(point, model, state.without) <= rounding
        s, mu, iterations = model.step(math.inf if flat else radius)
        norm = float(np.linalg.norm(s))
        slope = float(model.gradient @ s)
        predicted = -slope - 0.5 * float(model.values @ s**2)
        step: Array = (model.V @ s) / model.scale
        bend = 0.0
        if late and isinstance(point, NonlinearPoint):
            along = point.second_along(step)
            bend = 0.5 * float(point.residual @ along) / len(along)
            if not model.newton:
                step = step + self._correction(point, model, step, mu, along)
        trial = point.along(step)(1.0)
        actual = _decrease(point, trial.point)

        visible = predicted > rounding
        before = after = problem.gradient_norm(point)
        risen = max(0.0, state.risen - actual)
        accepted = actual > ACCEPT * predicted if visible else risen <= rounding
        if accepted:
            after = problem.gradient_norm(trial.point)
            accepted = math.isfinite(after) if visible else after < before
        ratio = actual / predicted if accepted and predicted > 0.0 else -math.inf

        # The difference of the two models along the step is the bend.
        of_newton = actual - predicted + (0.0 if model.newton else bend)
        of_gauss = actual - predicted - (bend if model.newton else 0.0)
        newton = before < NEAR and BETTER * abs(of_newton) < abs(of_gauss) < math.inf
        newton |= accepted and mu == 0.0 and (state.newton or after > SLOW * before)
        newton &= late
        outcome = None
        without = state.without and not accepted
        if not accepted and not state.without and np.any(_unseen(point)):
            without = True
        elif not accepted:
            if flat:  # try each model once
                newton = second and not state.newton
            still = norm <= 4.0 * EPS * float(np.linalg.norm(lengths * point.w))
            if still or (flat and not newton and sample.rows is None):
                outcome = _verdict(point, flat)
        if outcome is not None and sample.rows is None:
            escape = _escape(point, certificate_of(point))
            if escape is not None:
                return replace(
                    state,
                    point=escape,
                    iteration=state.iteration + 1,
                    step_size=math.nan,
                    inner_iterations=iterations,
                    hessian_rows=sample.n_rows,
                    radius=math.nan,
                    newton=False,
                    risen=0.0,
                )
        if without and not state.without:
            # The step tells nothing about the parameters that can be seen.
            radius = float(
                np.fmax(state.radius, self.radius * math.sqrt(2.0 * point.value))
            )
        elif ratio < 0.25 and (visible or not accepted):
            radius = _shrunk(min(radius, 10.0 * norm), slope, actual)
        elif mu == 0.0 or ratio >= 0.75:
            radius = 2.0 * norm if norm > 0.0 else radius
        return LevenbergMarquardtState(
            trial.point if accepted else point,
            iteration=state.iteration + 1,
            step_size=norm,
            inner_iterations=iterations,
            hessian_rows=sample.n_rows,
            outcome=outcome,
            radius=radius,
            scale=lengths,
            newton=newton,
            risen=risen if accepted else state.risen,
            without=without,
        )

    def certify(
        self,
        problem: FiniteSum,
        state: LevenbergMarquardtState,
        rng: np.random.Generator,
    ) -> Certificate | None:
        """Whether the curvature is nowhere negative where the gradient vanishes."""
        whole = Fixed(self.hessian_sample).first(problem) == problem.n_samples
        return certificate_of(state.point) if whole else None

    def uncertified(self, problem: FiniteSum) -> str:
        """Why `certify` has nothing to say."""
        if not isinstance(problem, NonlinearModel):
            return "its certificates are those of a NonlinearModel"
        if Fixed(self.hessian_sample).first(problem) < problem.n_samples:
            return "on samples it gives no certificate"
        if _too_large(problem):
            return "the Hessian would take more than two million rows of the Jacobian"
        return "the Hessian is not finite"

    def escape(
        self, state: LevenbergMarquardtState, certificate: Certificate
    ) -> LevenbergMarquardtState:
        """Leave a saddle point along its direction of negative curvature."""
        point = _escape(state.point, certificate)
        if point is None:
            return state
        return replace(state, point=point, radius=math.nan, newton=False, risen=0.0)

    def _radius(self, state: LevenbergMarquardtState, lengths: Array) -> float:
        """Radius in the present units: those of the columns may have changed."""
        point, radius = state.point, state.radius
        now = float(np.linalg.norm(lengths * point.w))
        if math.isnan(radius):
            return self.radius * (now or math.sqrt(2.0 * point.value) or 1.0)
        before = 0.0
        if state.scale is not None:
            before = float(np.linalg.norm(state.scale * point.w))
        return radius * now / before if now > GROWN * before > 0.0 else radius

    def _correction(
        self,
        point: NonlinearPoint,
        model: _Model,
        step: Array,
        mu: float,
        along: Array,
    ) -> Array:
        """Half the geodesic acceleration of [2]; zero if it is too large."""
        if self.acceleration > 0.0 and np.all(np.isfinite(along)):
            pull = point.jacobian.T @ along / len(along)
            acceleration = model.solve(pull, mu)
            size = float(np.linalg.norm(model.scale * acceleration))
            if size <= self.acceleration * float(np.linalg.norm(model.scale * step)):
                return 0.5 * acceleration
        return np.zeros_like(step)


def _model(
    point: Point, state: LevenbergMarquardtState, sample: Sample
) -> tuple[Array, _Model]:
    """Largest lengths of the columns so far, and the model at the point."""
    R, G, determined = None, None, False
    left_out = np.zeros(len(point.w), dtype=bool)
    if isinstance(point, NonlinearPoint) and sample.rows is None:
        root = math.sqrt(point.problem.n_samples)
        R, projection = point.factor.R / root, point.factor.projection / root
        lengths = point.column_norms / root
        determined = not point.undetermined
        if state.without:
            left_out = _unseen(point)
            R = np.where(left_out, 0.0, R)
    else:
        G = point.hessian(sample, "gauss-newton").dense()
        lengths = np.sqrt(np.maximum(np.diag(G), 0.0))
    if state.scale is not None:
        lengths = np.maximum(lengths, state.scale)
    scale = np.where(lengths > 0.0, lengths, 1.0)
    if state.newton:
        H = point.hessian(sample).dense()
        if np.all(np.isfinite(H)):
            model = _by_eigenvalues(H, point.gradient, scale)
            if model.values[0] > UNDETERMINED * model.values[-1]:
                return lengths, model._replace(newton=True)
    if R is not None:
        U, S, Vt = np.linalg.svd(R / scale)
        Vt[:, left_out] = 0.0  # rounding there, over their scale, would be huge
        least = len(S) * EPS if determined else UNDETERMINED
        S = np.where(S > least * S[0], S, 0.0)  # noqa: SIM300
        gradient = S * (U.T @ projection)
        order = slice(None, None, -1)  # ascending
        return lengths, _Model(
            scale, Vt.T[:, order], S[order] ** 2, gradient[order], False
        )
    assert G is not None
    model = _by_eigenvalues(G, point.gradient, scale)
    return lengths, model._replace(values=np.maximum(model.values, 0.0))


def _by_eigenvalues(H: Array, gradient: Array, scale: Array) -> _Model:
    values, V = np.linalg.eigh(H / scale / scale[:, None])
    return _Model(scale, V, values, V.T @ (gradient / scale), False)


def _decrease(point: Point, other: Point) -> float:
    """Actual decrease of F; -inf where it is not a number."""
    if isinstance(point, NonlinearPoint):
        assert isinstance(other, NonlinearPoint)
        actual = point.decrease(other)
    else:
        actual = point.value - other.value
    return actual if math.isfinite(actual) else -math.inf


def _rounding(point: Point) -> float:
    """Changes of F below this cannot be seen."""
    rounding = ROUNDING * abs(point.value)
    if isinstance(point, NonlinearPoint):
        norm = math.sqrt(point.residual_norm_squared)
        rounding += point.rounding * norm / point.problem.n_samples
    return float(rounding)


def _unseen(point: Point) -> NDArray[np.bool_]:
    """Parameters whose doubling would not be seen in the residuals, if not all.

    Steps that are to change the residuals change such a parameter by many times its
    size, which the model knows nothing about: a column that has nearly underflowed
    would take the whole trust region, and the other parameters would stand still.
    """
    unseen = np.zeros(len(point.w), dtype=bool)
    if isinstance(point, NonlinearPoint):
        least = EPS * math.sqrt(point.residual_norm_squared)
        unseen = (point.column_norms * np.abs(point.w) <= least) & (point.w != 0.0)
    return unseen & ~np.all(unseen)


def _remaining(point: Point, model: _Model, without: bool) -> float:
    """Decrease that Gauss and Newton's step promises without a trust region."""
    if isinstance(point, NonlinearPoint) and not without:
        projection = point.factor.projection
        return 0.5 * float(projection @ projection) / point.problem.n_samples
    kept = model.values > 0.0
    return 0.5 * float(np.sum(model.gradient[kept] ** 2 / model.values[kept]))


def _shrunk(radius: float, slope: float, actual: float) -> float:
    """Radius after a bad step: the minimizer of a parabola through the two values."""
    factor = 0.5
    if actual < 0.0:
        factor = 0.5 * slope / (slope + actual) if math.isfinite(actual) else 0.1
    return max(0.1, factor) * radius


def _too_large(problem: FiniteSum) -> bool:
    return 2 * problem.n_samples * problem.n_params > CHECKED


def certificate_of(point: Point) -> Certificate | None:
    """Second-order conditions in the units of the columns of the Jacobian."""
    if not isinstance(point, NonlinearPoint):
        return None
    problem, size = point.problem, point.column_norms
    if _too_large(problem) or not np.all(size < np.inf):
        return None
    H = point.curvature()
    size = np.where(size > 0.0, size, 1.0)
    H = H / size / size[:, None]
    if not np.all(np.isfinite(H)):
        return None
    values, vectors = np.linalg.eigh(H)
    return Certificate(
        bool(values[0] >= -NEGATIVE),
        problem.gradient_norm(point),
        float(values[0]),
        math.inf,
        NEGATIVE,
        vectors[:, 0],
        1.0,
        len(size),
    )


def _escape(point: Point, certificate: Certificate | None) -> NonlinearPoint | None:
    """A lower point along the direction of negative curvature, None if there is none.

    From steps that change the predictions by as much as the residuals are, down to
    those whose effect is rounding.
    """
    if certificate is None or certificate.ok:
        return None
    assert isinstance(point, NonlinearPoint)
    size = point.column_norms
    step = certificate.direction / np.where(size > 0.0, size, 1.0)
    t = math.sqrt(point.residual_norm_squared)
    # Symmetric points have two equal ways: which one is not left to rounding.
    step = step * np.sign(step[np.argmax(np.abs(certificate.direction))])
    least = _rounding(point)
    curvature = -certificate.smallest_eigenvalue
    while curvature * t * t > least * point.problem.n_samples:
        trials = [point.along(sign * step)(t) for sign in (1.0, -1.0)]
        gains = [_decrease(point, trial) for trial in trials]
        best = int(gains[1] > gains[0])
        if gains[best] > least:
            return trials[best]
        t *= 0.5
    return None


def _verdict(point: Point, flat: bool) -> Status:
    """Why there is no better point than this one."""
    if isinstance(point, NonlinearPoint):
        if point.undetermined:
            return Status.RANK_DEFICIENT
        flat = flat and point.problem.gradient_norm(point) <= STATIONARY
        # A parameter that has run away: doubling it would not be seen in F.
        effect = point.column_norms * np.abs(point.w)
        least = math.sqrt(EPS * point.residual_norm_squared)
        gone = bool(np.any((effect <= least) & (point.w != 0.0)))
        if not flat and (gone or point.reciprocal_condition <= math.sqrt(EPS)):
            return Status.RANK_DEFICIENT
    return Status.STALLED if flat else Status.SMALL_STEP
