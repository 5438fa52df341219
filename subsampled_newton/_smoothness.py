"""Smoothness and strong convexity: the constants that first-order methods step by."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import scipy.sparse.linalg
from numpy.typing import NDArray

from subsampled_newton import _parallel
from subsampled_newton._interrupts import quiet
from subsampled_newton.linear_model import LinearModel
from subsampled_newton.problem import FiniteSum, check_problem

__all__ = ["Smoothness", "eigenvalue_bounds", "smoothness"]

Array = NDArray[np.float64]
GRAM_MAX_PARAMS = 2000
"""Above this the Gram matrix costs more than the products of a Lanczos run."""
LANCZOS_TOL = 0.01
LANCZOS_SAFETY = 1.02
"""A Ritz value is a lower bound, off by at most the tolerance when it has converged."""


class Smoothness(NamedTuple):
    """Bounds of the eigenvalues of all Hessians: ``mu <= lambda <= L``, if convex."""

    L: float
    """Upper bound of every eigenvalue of every Hessian of F, in size."""
    mu: float
    """Lower bound where F is known to be strongly convex, else 0: nothing is known."""
    L_max: float
    """The same for the Hessians of single samples, with the ridge."""
    L_mean: float
    """Mean of such bounds over the samples. ``L <= L_mean <= L_max``."""

    @property
    def condition_number(self) -> float:
        """``L / mu``; inf where F is not known to be strongly convex."""
        return self.L / self.mu if self.mu > 0.0 else math.inf


def smoothness(problem: FiniteSum) -> Smoothness:
    """Return bounds of the curvature of F and of its samples.

    ``L = lambda_max(c X' diag(s) X / n + diag(l2))`` with the curvature bound c of the
    loss and the sample weights s. ``mu`` is the smallest eigenvalue with the lower
    bound of the curvature in place of c where that is positive, as for the squared
    loss; otherwise the smallest ridge weight is the only guarantee. Two reads of the
    rows up to 2000 columns; above, one for each product of a Lanczos run of 1 %
    accuracy, and L is raised by 2 %.

    Parameters
    ----------
    problem : LinearModel
        With a loss of bounded curvature.

    Returns
    -------
    Smoothness
        ``L, mu, L_max, L_mean``.

    Raises
    ------
    TypeError
        If no bound is known: for problems of your own, and for losses like Poisson's.

    References
    ----------
    .. [1] M. Schmidt, N. Le Roux, F. Bach, Minimizing finite sums with the stochastic
       average gradient, Math. Program. 162, 2017, section 2, for the constants of
       samples.
    """
    check_problem("problem", problem)
    mu, L = eigenvalue_bounds(problem)
    assert isinstance(problem, LinearModel)
    sizes = problem.loss.curvature_bound * problem.weights * problem.rows.row_norms()
    ridge = float(problem.l2.max())
    return Smoothness(L, mu, float(sizes.max()) + ridge, float(sizes.mean()) + ridge)


def eigenvalue_bounds(problem: FiniteSum) -> tuple[float, float]:
    """Return ``mu`` and ``L`` of `smoothness`, with half of its reads."""
    if not isinstance(problem, LinearModel):
        raise _unknown(f"a {type(problem).__name__}")
    loss, rows = problem.loss, problem.rows
    high = loss.curvature_bound
    if not math.isfinite(high):
        raise _unknown(f"the {loss.name} loss")
    # Only pointwise losses have a lower bound of the curvature.
    low = max(0.0, getattr(loss, "d2_range", (0.0, 0.0))[0])
    mu = problem.strong_convexity
    # One vector of parameters per class: the largest ridge weight bounds them all.
    shared = len(problem.l2) == rows.n_params
    ridge = problem.l2 if shared else np.full(rows.n_params, problem.l2.max())
    with _parallel.one_blas_thread(), quiet(over="ignore", invalid="ignore"):
        if rows.n_params > GRAM_MAX_PARAMS:
            return mu, _largest_by_lanczos(problem, high, ridge)
        gram = rows.gram(problem.weights / rows.n_rows)
        if not np.all(np.isfinite(gram)):
            return mu, math.inf
        L = _extreme(high * gram + np.diag(ridge))[1]
        if low > 0.0:
            mu = max(mu, _extreme(low * gram + np.diag(problem.l2))[0])
    return mu, L


def _extreme(H: Array) -> tuple[float, float]:
    """Smallest and largest eigenvalue, moved outwards by their rounding error."""
    values = np.linalg.eigvalsh(H)
    rounding = len(H) * np.finfo(np.float64).eps * values[-1]
    return float(values[0] - rounding), float(values[-1] + rounding)


def _largest_by_lanczos(problem: LinearModel, bound: float, ridge: Array) -> float:
    rows = problem.rows
    h = problem.weights * (bound / rows.n_rows)

    def product(v: Array) -> Array:
        v = np.ravel(v)
        return rows.hess_vec(h, v) + ridge * v

    # The same start in every run: the result is a function of the data.
    start = np.random.default_rng(0).standard_normal(rows.n_params)
    if not np.all(np.isfinite(first := product(start))):
        return math.inf
    if not np.any(first):
        return 0.0
    d = rows.n_params
    operator = scipy.sparse.linalg.LinearOperator((d, d), product, dtype=np.float64)
    value = scipy.sparse.linalg.eigsh(
        operator, k=1, v0=start, tol=LANCZOS_TOL, return_eigenvectors=False
    )[0]
    return LANCZOS_SAFETY * float(value)


def _unknown(what: str) -> TypeError:
    return TypeError(
        f"no bound of the curvature is known for {what}: it needs a LinearModel with a "
        "loss of bounded d2_range. Step rules that need none: 'armijo' and "
        "'barzilai-borwein' of GradientDescent, 'backtracking' of Nesterov, numbers, "
        "and the searches of LBFGS"
    )
