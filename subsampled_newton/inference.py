"""How sure the coefficients of a fit are, and how sure the fit is of its minimum.

Both rest on a triangular factor of the weighted rows, not on the inverse of a Gram
matrix: columns that are dependent up to 1e-7 keep half of their digits, and dependent
ones are recognised as such.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import scipy.special
from numpy.typing import NDArray

from subsampled_newton._interrupts import quiet
from subsampled_newton.embeddings import dense_block
from subsampled_newton.factor import triangular_factor, upper_factor
from subsampled_newton.linear_model import LinearModel, LinearPoint
from subsampled_newton.losses import LOGISTIC, SQUARED
from subsampled_newton.softmax_model import SoftmaxModel
from subsampled_newton.solvers._polish import curvature_factor
from subsampled_newton.solvers._result import Result, Status
from subsampled_newton.solvers._whitener import EPS

__all__ = ["Diagnosis", "WaldTests", "covariance", "diagnosis", "wald_tests"]

Array = NDArray[np.float64]
FAR = 0.01
"""Standard errors by which a Newton step may move a coefficient of the minimizer."""


@dataclass(frozen=True)
class WaldTests:
    """Tests of the hypotheses that single coefficients are zero.

    Attributes
    ----------
    estimate, std_error : ndarray
        Coefficients and their standard errors; the intercept, if fitted, comes last.
    statistic : ndarray
        ``estimate / std_error``.
    p_value : ndarray
        Probability of a statistic as far from 0 or farther, on both sides.
    freedom : float
        Degrees of freedom of Student's distribution; inf for the normal distribution.
    """

    estimate: Array
    std_error: Array
    statistic: Array
    p_value: Array
    freedom: float


@dataclass(frozen=True)
class Diagnosis:
    """What is known of a fit.

    Attributes
    ----------
    status : Status
        Why the fit ended.
    message : str
        The same in words, with what to do.
    gradient_norm : float
        Of the full gradient, on equilibrated columns.
    suboptimality_bound : float
        Guaranteed bound of ``F(w) - min F``; inf where none is known.
    rank, n_params : int
        Rank of the weighted columns, the intercept included, and their number. A lower
        rank without a penalty: coefficients are not determined.
    condition : float
        Condition number of the weighted columns that count, of norm one and, with an
        intercept and dense data, centred.
    separable : bool
        Whether the classes were found separable.
    memory_bytes : int
        Peak of the memory that the fit used beside the data, by the formula of
        `memory_needed`; the factorisation of the diagnosis not counted.
    """

    status: Status
    message: str
    gradient_norm: float
    suboptimality_bound: float
    rank: int
    n_params: int
    condition: float
    separable: bool
    memory_bytes: int


def covariance(problem: LinearModel, w: Array, total: float, sandwich: bool) -> Array:
    """Covariance of the raw coefficients and the intercept, class by class.

    The inverse of the information ``sum_i s_i h_i x_i x_i'`` [1]_, times the residual
    variance for the squared loss; with ``sandwich`` the estimate that holds for a wrong
    variance, ``H^-1 (sum_i s_i d_i**2 x_i x_i') H^-1`` (HC0) [2]_.

    Parameters
    ----------
    problem : LinearModel
        Logistic, softmax or squared loss, without a ridge.
    w : ndarray of shape (n_params,)
        Its minimizer.
    total : float
        Sum of the weights, which count rows.
    sandwich : bool

    Raises
    ------
    ValueError
        If the columns are dependent, or w is not the minimizer.

    References
    ----------
    .. [1] P. McCullagh, J. A. Nelder, Generalized Linear Models, 2nd ed., section 4.4.
    .. [2] H. White, Maximum likelihood estimation of misspecified models, Econometrica
       50, 1982.
    """
    point = problem.at(w)
    whitener = curvature_factor(problem, point)
    if whitener is None:
        raise ValueError("X and y give predictions that are not finite")
    if whitener.rank < problem.n_params:
        raise ValueError(
            "standard errors need independent columns, but the columns of X (with the "
            f"intercept, weighted) have rank {whitener.rank} of {problem.n_params}: "
            "the data do not determine the coefficients"
        )
    variance = 1.0
    if problem.loss is SQUARED:
        freedom = total - problem.n_params
        if freedom <= 0.0:
            raise ValueError(
                "standard errors need more rows than coefficients, got a total weight "
                f"of {total:g} for {problem.n_params} coefficients"
            )
        r = point.z - problem.y
        variance = total / freedom * float(np.mean(problem.weights * r * r))
    step = math.sqrt(total) * float(np.linalg.norm(whitener.whiten(point.gradient)))
    allowed = FAR * math.sqrt(variance)
    if problem.loss is SQUARED:  # an exact fit leaves the rounding of its predictions
        allowed = max(allowed, 100.0 * EPS * math.sqrt(total) * _terms(problem, w))
    if not step <= allowed:
        raise ValueError(
            "X, y and sample_weight must be those of the fit: the coefficients are "
            f"{step / math.sqrt(variance or 1.0):.2g} standard errors from the minimum "
            "of these data"
        )
    raw = _raw_map(problem)
    root = raw @ whitener.matrix
    if sandwich:
        root = root @ (_score_factor(problem, point) @ whitener.matrix).T
        variance = 1.0
    result: Array = variance / total * (root @ root.T)
    return result


def _terms(problem: LinearModel, w: Array) -> float:
    """Size of the numbers that cancel in a residual."""
    columns = problem.rows.columns
    coef, constant = columns.to_raw(w)
    y = math.sqrt(float(np.mean(problem.weights * problem.y**2)))
    return y + abs(float(constant)) + float(np.abs(columns.shift) @ np.abs(coef))


def _raw_map(problem: LinearModel) -> Array:
    """Matrix from the parameters to raw coefficients and intercepts."""
    columns = problem.rows.columns
    outputs = []
    for unit in np.eye(problem.n_params):
        parts = []
        for row in problem.coefficients(unit):
            coef, constant = columns.to_raw(row)
            parts.append(np.append(coef, [constant] * columns.intercept))
        outputs.append(np.concatenate(parts))
    return np.column_stack(outputs)


def _score_factor(problem: LinearModel, point: LinearPoint) -> Array:
    """R with ``R'R`` the mean of the outer products of the rows' gradients."""
    n = problem.n_samples
    if not isinstance(problem, SoftmaxModel):
        ones = np.ones(n)
        d1 = problem.rows.pointwise(problem.loss.d1, point.z, problem.y, ones)
        scale = np.abs(d1) * np.sqrt(problem.weights / n)
        return triangular_factor(problem.rows, scale)
    P = problem.rows.class_probabilities(point.z)
    P[problem.y.astype(int), np.arange(n)] -= 1.0
    columns = [problem.parameters(p[:, None]) for p in P.T]
    slopes = np.array(columns) * np.sqrt(problem.weights / n)[:, None]
    A = dense_block(problem.rows, 0, n)
    scores = (slopes[:, :, None] * A[:, None, :]).reshape(n, -1)
    return upper_factor(scores)


def wald_tests(estimate: Array, cov: Array, freedom: float = math.inf) -> WaldTests:
    """Wald tests of single coefficients from their covariance."""
    error = np.sqrt(np.diag(cov)).reshape(estimate.shape)
    with quiet(divide="ignore", invalid="ignore"):
        statistic = estimate / error
    size = -np.abs(statistic)
    if math.isinf(freedom):
        p = 2.0 * scipy.special.ndtr(size)
    else:
        p = 2.0 * scipy.special.stdtr(freedom, size)
    return WaldTests(estimate, error, statistic, p, freedom)


def diagnosis(problem: LinearModel, w: Array, result: Result) -> Diagnosis:
    """Rank, condition number and a bound of what is left to gain.

    The bound is that of strong convexity, or the one that the Newton decrement gives.
    For the squared loss that is exact. The logistic and the softmax loss satisfy
    ``|f'''| <= |u| f''`` for a change u of the predictions [1]_: with
    ``lambda**2 = g'H^-1 g`` and k the largest ``|x_i'v|`` of a unit step in the norm of
    H, it is ``((1 - k lambda) log(1 - k lambda) + k lambda) / k**2`` where
    ``k lambda < 1``.

    References
    ----------
    .. [1] F. Bach, Self-concordant analysis for logistic regression, Electron. J.
       Statist. 4, 2010, Proposition 1.
    """
    point = problem.at(w)
    gradient = point.gradient
    bound = problem.suboptimality_bound(point)
    whitener = curvature_factor(problem, point)
    plain = curvature_factor(problem, point, ridge=False)
    if whitener is not None:
        bound = min(bound, _decrement_bound(problem, whitener.matrix, gradient))
    return Diagnosis(
        result.status,
        result.message,
        float(np.linalg.norm(gradient)),
        bound,
        0 if plain is None else plain.rank,
        problem.n_params,
        math.nan if plain is None else plain.condition,
        result.status is Status.SEPARABLE,
        result.memory_bytes,
    )


def _decrement_bound(problem: LinearModel, W: Array, gradient: Array) -> float:
    """Bound from the Newton decrement, for W with ``W'HW = I``."""
    inside = W.T @ gradient
    # What W does not reach has no curvature: nothing bounds the gain there.
    if W.shape[1] < len(gradient):
        return math.inf
    decrement = float(np.linalg.norm(inside))
    if problem.loss is SQUARED:
        return 0.5 * decrement**2
    if isinstance(problem, SoftmaxModel):
        blocks = W.reshape(problem.loss.n_classes - 1, -1, W.shape[1])
        norms = sum(problem.rows.projected_norms(block) for block in blocks)
        # The largest minus the smallest of K numbers is at most sqrt(2) their norm.
        k = math.sqrt(2.0 * float(np.max(norms * (problem.weights > 0.0))))
    elif problem.loss is LOGISTIC:
        norms = problem.rows.projected_norms(W) * (problem.weights > 0.0)
        k = math.sqrt(float(np.max(norms)))
    else:
        return math.inf
    t = k * decrement
    if not t < 1.0:
        return math.inf
    # (1 - t) log(1 - t) + t = t**2 / 2 + t**3 / 6 + ..., at most t**2 (1 + t) / 2.
    excess = t * t * (1 + t) / 2 if t < 1e-5 else (1 - t) * math.log1p(-t) + t
    return excess / k**2 if k > 0.0 else 0.5 * decrement**2
