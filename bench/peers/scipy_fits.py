"""Fits with SciPy, and least squares with scikit-learn, in this process."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.linalg
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.sparse.linalg import LinearOperator, lsqr
from sklearn.linear_model import LinearRegression, Ridge
from threadpoolctl import threadpool_limits

from bench.peers.objectives import curvatures, value_and_gradient
from bench.problems import Objective
from bench.sweep import Outcome

__all__ = ["DIRECT", "METHODS", "SCIKIT_LEARN", "minimise", "scikit_learn", "solve"]

Array = NDArray[np.float64]
METHODS: dict[str, dict[str, Any]] = {
    "L-BFGS-B": {"gtol": 0.0, "ftol": 0.0, "maxfun": 10**9},
    "Newton-CG": {"xtol": 0.0},
    "trust-ncg": {"gtol": 0.0},
    "trust-exact": {"gtol": 0.0},
}
"""Options so small that the number of iterations alone ends a run."""
SCIKIT_LEARN: dict[str, Callable[[int], Any]] = {
    "Ridge cholesky": lambda k: Ridge(0.0, fit_intercept=False, solver="cholesky"),
    "Ridge svd": lambda k: Ridge(0.0, fit_intercept=False, solver="svd"),
    "Ridge lsqr": lambda k: Ridge(
        0.0, fit_intercept=False, solver="lsqr", max_iter=k, tol=1e-14
    ),
    "LinearRegression": lambda k: LinearRegression(fit_intercept=False),
}


def minimise(
    method: str, objective: Objective, budget: float, seed: int, threads: int | None
) -> Outcome:
    """Run one of `METHODS` on the NumPy objective from zero."""
    X, n, alpha = objective.X, objective.n, objective.alpha
    D = curvatures(objective)

    def product(w: Array, v: Array) -> Array:
        Hv: Array = X.T @ (D(w) * (X @ v)) / n + alpha * v
        return Hv

    def hessian(w: Array) -> Array:
        H: Array = (X * D(w)[:, None]).T @ X / n + alpha * np.eye(objective.d)
        return H

    more: dict[str, Any] = {}
    if method in ("Newton-CG", "trust-ncg"):
        more["hessp"] = product
    elif method == "trust-exact":
        more["hess"] = hessian
    with (
        warnings.catch_warnings(),
        np.errstate(all="ignore"),
        threadpool_limits(threads, user_api="blas"),
    ):
        warnings.simplefilter("ignore")  # of steps beyond rounding
        start = time.perf_counter()
        result = minimize(
            lambda w: value_and_gradient(objective, w),
            np.zeros(objective.d),
            jac=True,
            method=method,
            options={"maxiter": int(budget), **METHODS[method]},
            **more,
        )
        seconds = time.perf_counter() - start
    early = result.nit < int(budget)
    return Outcome(seconds, result.x, early, "STALLED" if early else "MAX_ITER")


def scikit_learn(
    solver: str, objective: Objective, budget: float, seed: int, threads: int | None
) -> Outcome:
    """Fit one of `SCIKIT_LEARN`."""
    model = SCIKIT_LEARN[solver](int(budget))
    with warnings.catch_warnings(), threadpool_limits(threads, user_api="blas"):
        warnings.simplefilter("ignore")  # of matrices that are hardly definite
        start = time.perf_counter()
        model.fit(objective.X, objective.y)
        seconds = time.perf_counter() - start
    steps = getattr(model, "n_iter_", None)
    stopped = steps is None or int(np.max(steps)) < int(budget)
    return Outcome(seconds, model.coef_.ravel(), stopped, "CONVERGED")


def _normal_equations(X: Array, y: Array) -> Array:
    w: Array = scipy.linalg.cho_solve(scipy.linalg.cho_factor(X.T @ X), X.T @ y)
    return w


def _preconditioned_lsqr(X: Array, y: Array) -> Array:
    """LSQR on ``X R^-1``, R the Cholesky factor of the normal equations."""
    R = scipy.linalg.cholesky(X.T @ X)

    def solve(v: Array, trans: int = 0) -> Array:
        solution: Array = scipy.linalg.solve_triangular(R, v, trans=trans)
        return solution

    operator = LinearOperator(
        X.shape,
        matvec=lambda v: X @ solve(v),
        rmatvec=lambda u: solve(X.T @ u, trans=1),
        dtype=np.float64,
    )
    w: Array = solve(lsqr(operator, y, atol=1e-15, btol=1e-15, iter_lim=20)[0])
    return w


DIRECT: dict[str, Callable[[Array, Array], Array]] = {
    "normal equations": _normal_equations,
    "Cholesky + LSQR": _preconditioned_lsqr,
    "lstsq gelsd": lambda X, y: scipy.linalg.lstsq(X, y)[0],
    "lstsq gelsy": lambda X, y: scipy.linalg.lstsq(X, y, lapack_driver="gelsy")[0],
}
"""Least squares without a budget; the first two are ours to write, with SciPy alone."""


def solve(
    name: str, objective: Objective, budget: float, seed: int, threads: int | None
) -> Outcome:
    """Run one of `DIRECT`."""
    with threadpool_limits(threads, user_api="blas"):
        start = time.perf_counter()
        w = DIRECT[name](objective.X, objective.y)
        seconds = time.perf_counter() - start
    return Outcome(seconds, w, True, "CONVERGED")
