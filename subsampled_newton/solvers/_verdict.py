"""Whether little is left to gain: decided here for every solver and every end.

A solver knows that it cannot move, the loop that the gradient is small. Neither says
how far the minimum is: a step may be too short to be seen beside ``w``, and on columns
of size 1e-9 a gradient of 1e-10 may hide most of the decrease. What is left is judged
by a bound, or else by Newton's decrement ``g'H^-1 g / 2``, columns in units of their
curvature, and by F along Newton's step.
"""

from __future__ import annotations

import contextlib
import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from subsampled_newton._interrupts import quiet
from subsampled_newton._memory import NotEnoughMemory
from subsampled_newton.linear_model import LinearModel, LinearPoint
from subsampled_newton.nonlinear_model import NonlinearModel, NonlinearPoint
from subsampled_newton.problem import FiniteSum, Point
from subsampled_newton.sampling import full, uniform
from subsampled_newton.softmax_model import SoftmaxModel
from subsampled_newton.solvers._result import Status
from subsampled_newton.solvers._whitener import LARGEST_NOISE, NOISE
from subsampled_newton.subproblems._step import Step
from subsampled_newton.subproblems.conjugate_gradient import conjugate_gradient

__all__ = ["COARSE", "STUCK", "TOLERATED", "column_squares", "verdict"]

Array = NDArray[np.float64]
EPS = float(np.finfo(np.float64).eps)
TOLERATED = 1e-7
"""Share of the possible decrease that a converged run may leave."""
COARSE = 1e-6
"""A larger ``tol`` asks for a small gradient and no more."""
ROUNDING = 64.0 * EPS
"""Changes of F below this fraction of it cannot be told from rounding."""
STUCK = (Status.STALLED, Status.SMALL_STEP, Status.LINE_SEARCH_FAILED)
"""Ends of solvers that cannot go on: no failure where nothing is left to gain."""
FORMED = 500
"""Parameters up to which the verdict forms a Hessian: less than a second."""
FORMED_GENERIC = 100
"""The same where forming it takes a product for each parameter."""
CHECK_ROWS = 4096
"""Rows, or 20 for each parameter, that tell how flat the objective is."""
LARGEST_GRAM = 1e9
"""Multiplications up to which the Hessian of all rows costs a fraction of a second."""
MAX_PRODUCTS = 100
"""Products with the Hessian where it is too large to be formed."""
UNSEEN = 100.0
"""Products that do not end misjudge what is left by less than this, as a rule."""
SAFETY = 4.0
"""The Hessian of a sample misjudges the decrement by less than this."""
TRIALS = (1.0, 16.0, 256.0, *(16.0**-k for k in range(1, 8)))
"""Newton steps may be far too short where curvature is large near w only, and far too
long where the losses of most rows are saturated."""


class _Newton(NamedTuple):
    """Newton's step and what it promises."""

    vector: Array
    """Without the directions whose curvature is rounding."""
    decrement: float
    """The decrease that a quadratic model promises for it, as far as the gradient is
    more than rounding."""
    hidden: float
    """Gradient in the other directions, columns in units of their curvature."""


def verdict(
    problem: FiniteSum,
    point: Point,
    status: Status,
    *,
    tol: float,
    start: float,
    bound: float,
) -> Status:
    """Return what an end means, after a look at what is left to gain.

    Parameters
    ----------
    problem : FiniteSum
    point : Point
        The last iterate.
    status : Status
        CONVERGED where the gradient is at most ``tol``, or why the solver cannot go on.
    tol : float
        Tolerance of the run.
    start : float
        F at the first iterate.
    bound : float
        The suboptimality bound at the last one.

    Returns
    -------
    Status
        FLAT for a small gradient where a step is known that gains more than a millionth
        of the possible decrease; PRECISION where the solver cannot go on and there is
        nothing to gain; otherwise the status as it came.
    """
    if status is Status.CONVERGED and tol > COARSE:
        return status
    if not (math.isfinite(point.value) and np.all(np.isfinite(point.gradient))):
        return status
    with contextlib.suppress(NotEnoughMemory), quiet(all="ignore"):
        if status is Status.CONVERGED and _flat(problem, point, start, bound):
            return Status.FLAT
        if status in STUCK and _settled(problem, point, start, bound):
            return Status.PRECISION
    return status


def _flat(problem: FiniteSum, point: Point, start: float, bound: float) -> bool:
    """Whether a small gradient is known to hide a large error."""
    if isinstance(problem, NonlinearModel):  # its measure has no units
        return False
    if not problem.convex:
        return _equilibrated_norm(problem, point) > COARSE
    allowed = _allowed(problem, point, start)
    if _above_zero(problem, point, allowed):
        return True
    if bound <= allowed:
        return False
    if isinstance(problem, LinearModel) and problem.n_params > FORMED:
        return _flat_by_products(problem, point, allowed)
    newton = _newton(problem, point, 0.0)
    if newton is None or not newton.decrement > allowed:
        return False
    return _gains(point, newton, allowed + _Rounding.of(problem, point).value)


def _flat_by_products(problem: LinearModel, point: Point, allowed: float) -> bool:
    """The same where no Hessian can be formed: by what conjugate gradients gain.

    It is a lower bound of what a quadratic model promises. Where they do not end, the
    least curvature that they have seen says how much more may be left.
    """
    step = _conjugate_step(problem, point, 0.01)
    if step.status == "max_iter" and step.model_decrease + UNSEEN * step.rest > allowed:
        return True
    if not step.model_decrease > allowed:
        return False
    rounding = _Rounding.of(problem, point).value
    newton = _Newton(step.vector, step.model_decrease, 0.0)
    return _gains(point, newton, allowed + rounding)


def _settled(problem: FiniteSum, point: Point, start: float, bound: float) -> bool:
    """Whether a solver that cannot go on has nothing to gain."""
    if isinstance(problem, NonlinearModel):
        return _settled_curve(problem, point)
    allowed = _allowed(problem, point, start)
    if bound <= allowed:
        return True
    if problem.convex and _above_zero(problem, point, allowed):
        return False
    if not problem.convex and _equilibrated_norm(problem, point) > COARSE:
        return False
    newton = _newton(problem, point, LARGEST_GRAM)
    if newton is None or not SAFETY * newton.decrement <= allowed:
        return False
    rounding = _Rounding.of(problem, point)
    if newton.hidden > rounding.gradient:
        return False
    return not _gains(point, newton, allowed + rounding.value)


def _settled_curve(problem: NonlinearModel, point: Point) -> bool:
    """Whether the decrease of Gauss and Newton's step is below the rounding of F."""
    assert isinstance(point, NonlinearPoint)
    rounding = ROUNDING * point.value
    residual = math.sqrt(point.residual_norm_squared)
    rounding += point.rounding * residual / problem.n_samples
    return problem.gradient_norm(point) ** 2 * point.value <= rounding


def _allowed(problem: FiniteSum, point: Point, start: float) -> float:
    """What may be left: a share of the decrease since w = 0, or the rounding of F."""
    first = start
    if isinstance(problem, LinearModel):
        first = problem.value_at_zero()
    gain = first - point.value
    share = TOLERATED if problem.convex else 1e-14
    rounding = ROUNDING * abs(point.value)
    return max(share * gain, rounding) if math.isfinite(gain) else rounding


def _above_zero(problem: FiniteSum, point: Point, allowed: float) -> bool:
    """Whether F is larger than at w = 0, which linear models know without a read."""
    if not isinstance(problem, LinearModel):
        return False
    return point.value - problem.value_at_zero() > allowed


def _gains(point: Point, newton: _Newton, allowed: float) -> bool:
    """Whether F falls by more than that along Newton's step."""
    if not np.any(newton.vector):
        return False
    line = point.along(newton.vector)
    return any(point.value - line(t).value > allowed for t in TRIALS)


def _newton(problem: FiniteSum, point: Point, all_rows: float) -> _Newton | None:
    """Newton's step; None where it would cost too much.

    From a sample of the rows, or from all where that takes at most ``all_rows``
    multiplications.
    """
    n, d = problem.n_samples, problem.n_params
    linear = isinstance(problem, LinearModel)
    if d > (FORMED if linear else FORMED_GENERIC):
        return _newton_by_products(problem, point) if all_rows else None
    n_rows = max(CHECK_ROWS, 20 * d, int(all_rows / d**2))
    sample = uniform(n, n_rows, np.random.default_rng(0))
    H = point.hessian(sample).dense()
    if not np.all(np.isfinite(H)):
        return None
    # Columns of curvature one: their sizes say nothing about what is left to gain.
    size = np.sqrt(np.abs(np.diag(H)))
    size[size == 0.0] = 1.0
    values, vectors = np.linalg.eigh(H / size / size[:, None])
    if problem.convex:
        values = np.maximum(values, 0.0)
    curvature = np.abs(values)
    # A Gram matrix knows its eigenvalues to rounding only.
    kept = curvature > 10.0 * d * EPS * max(1.0, float(curvature.max()))
    rounded = _rounded(problem, point, size, values, vectors)
    inside = vectors.T @ (point.gradient / size)
    hidden = float(np.linalg.norm(inside[~kept & ~rounded]))
    kept &= ~rounded
    step = vectors[:, kept] @ (-inside[kept] / curvature[kept])
    known = kept & (np.abs(inside) > _Rounding.of(problem, point).gradient)
    decrement = 0.5 * float(np.sum(inside[known] ** 2 / curvature[known]))
    return _Newton(step / size, decrement, hidden)


def _rounded(
    problem: FiniteSum, point: Point, size: Array, values: Array, vectors: Array
) -> NDArray[np.bool_]:
    """Which eigenvectors are nothing but the rounding of the data, and have no weight.

    As `Whitener` decides it.
    """
    noise = None
    if isinstance(point, LinearPoint):
        noise = data_noise(point.problem, point.z)
    if noise is None:
        return np.zeros(len(values), dtype=np.bool_)
    levels = np.linalg.norm(NOISE * (noise / size)[:, None] * vectors, axis=0)
    levels = np.minimum(levels, LARGEST_NOISE)
    of_data = values - (problem.l2 / size**2) @ vectors**2
    rounded: NDArray[np.bool_] = of_data <= levels**2
    if np.any(problem.l2):  # a ridge may keep rounding from being enlarged
        rounded &= values < levels
    return rounded


def _newton_by_products(problem: FiniteSum, point: Point) -> _Newton | None:
    """The same by conjugate gradients on all rows, if they end."""
    step = _conjugate_step(problem, point, 0.01)
    if step.status != "converged":
        return None
    return _Newton(step.vector, step.model_decrease, 0.0)


def _conjugate_step(problem: FiniteSum, point: Point, rtol: float) -> Step:
    """Newton's step by conjugate gradients on all rows, as far as they come."""
    hessian = point.hessian(full(problem.n_samples))
    diagonal = hessian.diagonal()
    if diagonal is not None:
        diagonal = np.where(diagonal > 0.0, diagonal, 1.0)
    return conjugate_gradient(
        hessian.matvec,
        point.gradient,
        rtol=rtol,
        max_iter=MAX_PRODUCTS,
        diagonal=diagonal,
    )


def data_noise(problem: LinearModel, z: Array) -> Array | None:
    """Rounding of the data in the columns of `curvature_factor`, at predictions."""
    noise, weights = problem.rows.columns.noise, np.asarray(problem.weights)
    if noise is None:
        return None
    if isinstance(problem, SoftmaxModel):
        P = np.asarray(problem.rows.class_probabilities(z))
        blocks = len(P) - 1
        h = weights * (1.0 - np.sum(P * P, axis=0)) / blocks
        noise = np.tile(noise, blocks)
    else:
        h = np.asarray(problem.curvature_sizes(z))
    return math.sqrt(float(np.mean(h))) * noise


class _Rounding(NamedTuple):
    """Errors of what float64 computes at a point."""

    value: float
    """That of F, beyond a rounding of its own size."""
    gradient: float
    """That of the gradient, columns in units of their curvature."""

    @classmethod
    def of(cls, problem: FiniteSum, point: Point) -> _Rounding:
        """Estimates from the sizes of what is added up."""
        gradient = ROUNDING * math.sqrt(2.0 * abs(point.value))
        if not isinstance(problem, LinearModel):
            return cls(0.0, gradient)
        assert isinstance(point, LinearPoint)
        # Predictions are sums of products that may cancel, those of the shift included.
        W, columns = np.abs(problem.coefficients(point.w)), problem.rows.columns
        squares = column_squares(problem)
        squares[: len(columns.scale)] += (columns.scale * columns.shift) ** 2
        error = 4.0 * EPS * float(np.max(W @ np.sqrt(squares)))
        curvature = float(np.mean(problem.curvature_sizes(point.z)))
        slope = problem.slope_size(point.z)
        return cls(
            8.0 * error * (slope + curvature * error),
            gradient + ROUNDING * slope + 16.0 * error * math.sqrt(curvature),
        )


def _equilibrated_norm(problem: FiniteSum, point: Point) -> float:
    """Norm of the gradient for columns of size one; 0 where there are none."""
    if not isinstance(problem, LinearModel) or problem.outputs:
        return 0.0
    squares = column_squares(problem) + problem.l2
    seen = squares > 0.0
    return float(np.linalg.norm(point.gradient[seen] / np.sqrt(squares[seen])))


def column_squares(problem: LinearModel) -> Array:
    """Mean squares of the columns, on a sample of the rows."""
    n, d = problem.n_samples, problem.rows.n_params
    sample = uniform(n, max(CHECK_ROWS, 20 * d), np.random.default_rng(0))
    part = problem if sample.rows is None else problem.restrict(sample.rows)
    return part.rows.gram_diagonal(part.weights / part.n_samples)
