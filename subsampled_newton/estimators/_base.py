"""What the estimators share: checked data, equilibrated columns, a solver by name.

The solvers work on equilibrated columns, centred when there is an intercept and divided
by a power of two near their standard deviation, through `Columns`: the data are not
copied, the objective is the same, and ``tol`` has no unit.
"""

from __future__ import annotations

import warnings
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions
from sklearn.utils.validation import (
    _check_sample_weight,
    assert_all_finite,
    check_is_fitted,
    validate_data,
)

from subsampled_newton.columns import Columns
from subsampled_newton.data import Rows, as_rows
from subsampled_newton.linear_model import FORMED_MAX_PARAMS, LinearModel
from subsampled_newton.losses import SQUARED
from subsampled_newton.solvers._driver import Solver, minimize
from subsampled_newton.solvers._result import Result
from subsampled_newton.solvers.cubic import CubicRegularization
from subsampled_newton.solvers.gradient import GradientDescent
from subsampled_newton.solvers.heavy_ball import HeavyBall
from subsampled_newton.solvers.lbfgs import LBFGS
from subsampled_newton.solvers.levenberg_marquardt import LevenbergMarquardt
from subsampled_newton.solvers.multilevel import MultilevelNewton
from subsampled_newton.solvers.nesterov import Nesterov
from subsampled_newton.solvers.newton import SubsampledNewton
from subsampled_newton.solvers.sag import SAG
from subsampled_newton.solvers.saga import SAGA
from subsampled_newton.solvers.sdca import SDCA
from subsampled_newton.solvers.sgd import SGD
from subsampled_newton.solvers.svrg import SVRG
from subsampled_newton.solvers.trust_region import TrustRegion

__all__ = [
    "ALLOWED_TYPES",
    "SOLVERS",
    "LinearEstimator",
    "checked_weights",
    "equilibrated",
    "validated",
]

Array = NDArray[np.float64]

SOLVERS: dict[str, Solver] = {
    "newton": SubsampledNewton(1.0),
    "newton-cg": SubsampledNewton(1.0, linear_solver="cg"),
    "multilevel-newton": MultilevelNewton(),
    "subsampled-newton": SubsampledNewton(),
    "subsampled-newton-cg": SubsampledNewton(linear_solver="cg"),
    "subsampled-newton-leverage": SubsampledNewton(0.01, sampling="leverage"),
    "trust-region": TrustRegion(1.0),
    "subsampled-trust-region": TrustRegion(),
    "cubic": CubicRegularization(1.0),
    "subsampled-cubic": CubicRegularization(),
    "gauss-newton": SubsampledNewton(1.0, curvature="gauss-newton"),
    "levenberg-marquardt": LevenbergMarquardt(),
    "lbfgs": LBFGS(),
    "gradient-descent": GradientDescent(),
    "barzilai-borwein": GradientDescent("barzilai-borwein"),
    "nesterov": Nesterov(),
    "heavy-ball": HeavyBall(),
    "sag": SAG(),
    "saga": SAGA(),
    "svrg": SVRG(),
    "sdca": SDCA(),
    "sgd": SGD(),
}
"""Solvers by name, besides ``"auto"``. Each says which problems it is not for."""

SMALL = 20_000
"""Rows below which sampling saves less than its overhead."""
ALLOWED_TYPES = [np.float64, np.float32]


class LinearEstimator(BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """What the estimators share: from validated data to a fitted linear predictor."""

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "fit_intercept": ["boolean"],
        "tol": [Interval(Real, 0, None, closed="left")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "solver": [StrOptions({"auto", *SOLVERS}), HasMethods(["init", "step"])],
        "warm_start": ["boolean"],
        "random_state": ["random_state"],
        "n_jobs": [None, Integral],
        "verbose": ["verbose"],
    }

    def _minimize(self, problem: LinearModel, w0: Array | None) -> Result:
        """Run the solver that the parameters name."""
        solver = self.solver
        if isinstance(solver, str):
            solver = SOLVERS.get(solver) or _choose(problem)
        return minimize(
            problem,
            solver,
            w0,
            tol=self.tol,
            max_iter=self.max_iter,
            progress=bool(self.verbose),
            seed=check_random_state(self.random_state).randint(2**31 - 1),
        )

    def _last_solution(self, shape: tuple[int, ...]) -> tuple[Array, Array] | None:
        """Coefficients and intercepts to start from, if asked for and there."""
        if not (self.warm_start and hasattr(self, "coef_")):
            return None
        coef = np.asarray(self.coef_, dtype=np.float64)
        if coef.shape != shape:
            return None
        intercept = np.asarray(self.intercept_, dtype=np.float64)
        return coef, intercept * self.fit_intercept

    def _finish(self, result: Result) -> None:
        """Set what tells how the fit went, and warn when it did not converge."""
        self.result_ = result
        self.history_ = result.trace.as_dict()
        if not result.converged:
            warnings.warn(
                f"{result.status.name}: {result.message} (gradient norm "
                f"{result.gradient_norm:.2e} after {result.n_iter} iterations)",
                ConvergenceWarning,
                stacklevel=4,
            )

    def _predictor(self, X: Any) -> Array:
        """``X @ coef.T + intercept``: one row or one number per row of X."""
        check_is_fitted(self)
        X = validate_data(
            self, X, reset=False, accept_sparse="csr", dtype=ALLOWED_TYPES
        )
        z: Array = X @ self.coef_.T + self.intercept_
        return z

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags


def validated(estimator: Any, X: Any, y: Any, **kwargs: Any) -> tuple[Any, Any]:
    """Check everything but the finiteness of X, which the first read of it decides."""
    X, y = validate_data(
        estimator,
        X,
        y,
        accept_sparse="csr",
        dtype=ALLOWED_TYPES,
        ensure_all_finite=False,
        **kwargs,
    )
    assert_all_finite(y, input_name="y")
    return X, y


def checked_weights(sample_weight: Any, X: Any) -> Array:
    weights: Array = _check_sample_weight(
        sample_weight, X, dtype=np.float64, ensure_non_negative=True
    )
    if not np.any(weights):
        raise ValueError("sample_weight must not be all zero")
    return weights


def equilibrated(
    X: Any, weights: Array, fit_intercept: bool, l2: float
) -> tuple[Rows, Array]:
    """Rows whose columns have size one, and mean zero where that keeps them sparse.

    Also returns the ridge weights of their coefficients that amount to ``l2`` on those
    of the given columns.
    """
    rows = as_rows(X)
    with np.errstate(over="ignore", invalid="ignore"):
        mean, deviation = rows.column_moments(weights)
    if not (np.all(np.isfinite(mean)) and np.all(np.isfinite(deviation))):
        assert_all_finite(X, input_name="X")
        # Finite, but too large for sums of squares.
        mean = np.zeros(rows.n_params)
        low, high = X.min(axis=0), X.max(axis=0)
        if sp.issparse(X):
            low, high = low.toarray(), high.toarray()
        deviation = np.maximum(-low, high).ravel().astype(np.float64)
    center = fit_intercept and not sp.issparse(X)
    size = deviation if center else np.hypot(mean, deviation)
    constant = size <= 8 * np.finfo(np.float64).eps * np.abs(mean)
    # Powers of two: scaling is exact. Tiny columns: l2 * scale**2 must stay finite.
    exponent = np.round(np.log2(np.where(constant, 1.0, size)))
    scale = np.exp2(np.minimum(-exponent, 480.0))
    shift = mean if center else np.zeros_like(mean)
    ridge = np.append(l2 * scale**2, np.zeros(int(fit_intercept)))
    return rows.with_columns(Columns(scale, shift, intercept=fit_intercept)), ridge


def _choose(problem: LinearModel) -> Solver:
    """Solver for ``"auto"``."""
    n, d = problem.n_samples, problem.n_params
    if not problem.convex:
        return TrustRegion(1.0) if n <= max(SMALL, 400 * d) else TrustRegion(0.05)
    if d > FORMED_MAX_PARAMS:
        return SubsampledNewton(1.0, linear_solver="cg", max_inner=1000)
    if n <= max(SMALL, 40 * d) or problem.loss is SQUARED:
        return SubsampledNewton(1.0)
    return MultilevelNewton()
