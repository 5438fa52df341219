"""Linear regression with a penalty."""

from __future__ import annotations

from numbers import Real
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from sklearn.base import RegressorMixin, _fit_context
from sklearn.utils._param_validation import Interval

from subsampled_newton._parallel import use_threads
from subsampled_newton.estimators._base import (
    LinearEstimator,
    checked_weights,
    equilibrated,
    validated,
)
from subsampled_newton.linear_model import LinearModel
from subsampled_newton.losses import SQUARED
from subsampled_newton.solvers._driver import Solver

__all__ = ["Ridge"]

Array = NDArray[np.float64]


class Ridge(RegressorMixin, LinearEstimator):  # type: ignore[misc]
    """Least squares with an L2 penalty, solved to the exact minimizer.

    Minimizes ``sum_i s_i (y_i - x_i'w - b)**2 + alpha ||w||**2``, as scikit-learn does.
    The intercept b is never penalised.

    Parameters
    ----------
    alpha : float, default 1.0
        Penalty weight; 0 gives least squares. Dependent columns are no error then: the
        coefficients returned are among the minimizers.
    fit_intercept, tol, max_iter, solver, warm_start, random_state, n_jobs, verbose
        As in `LogisticRegression`; ``tol`` refers to targets of unit variance.

    Attributes
    ----------
    coef_ : ndarray of shape (n_features,)
        Coefficients w, in the precision of X.
    intercept_ : float
        Intercept b.
    n_iter_, result_, history_, n_features_in_, feature_names_in_
        As in `LogisticRegression`.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from subsampled_newton import Ridge
    >>> X, y = load_diabetes(return_X_y=True)
    >>> round(Ridge(alpha=1e-3).fit(X, y).score(X, y), 3)
    0.518
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **LinearEstimator._parameter_constraints,
        "alpha": [Interval(Real, 0, None, closed="left")],
    }

    def __init__(
        self,
        alpha: float = 1.0,
        *,
        fit_intercept: bool = True,
        tol: float = 1e-8,
        max_iter: int = 200,
        solver: str | Solver = "auto",
        warm_start: bool = False,
        random_state: Any = None,
        n_jobs: int | None = None,
        verbose: int = 0,
    ) -> None:
        self.alpha = alpha
        self.fit_intercept = fit_intercept
        self.tol = tol
        self.max_iter = max_iter
        self.solver = solver
        self.warm_start = warm_start
        self.random_state = random_state
        self.n_jobs = n_jobs
        self.verbose = verbose

    @_fit_context(prefer_skip_nested_validation=True)  # type: ignore[untyped-decorator]
    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Ridge:
        """Fit the model.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features)
            As in `LogisticRegression.fit`.
        y : array-like of shape (n_samples,)
            Targets.
        sample_weight : array-like of shape (n_samples,), optional
            Weights >= 0; weight 0 removes a row, weight k repeats it.

        Returns
        -------
        Ridge
            Itself.
        """
        X, y = validated(self, X, y, y_numeric=True)
        weights = checked_weights(sample_weight, X)
        y = y.astype(np.float64)
        # Targets of mean 0 and unit size: then tol has no unit either.
        mean = np.average(y, weights=weights) if self.fit_intercept else 0.0
        size = np.sqrt(np.average((y - mean) ** 2, weights=weights)) or 1.0
        unit = np.exp2(np.round(np.log2(size)))
        scaled: Array = (y - mean) / unit
        with use_threads(self.n_jobs):
            rows, ridge = equilibrated(
                X, weights, self.fit_intercept, self.alpha / weights.sum()
            )
            start = self._last_solution((X.shape[1],))
            w0 = None
            if start is not None:
                constant = (float(start[1]) - mean) / unit * self.fit_intercept
                w0 = rows.columns.from_raw(start[0] / unit, constant)
            problem = LinearModel(
                SQUARED, rows, scaled, l2=ridge, sample_weight=weights
            )
            result = self._minimize(problem, w0)
        coef, constant = rows.columns.to_raw(result.w)
        self.coef_ = (coef * unit).astype(X.dtype, copy=False)
        self.intercept_ = float(constant * unit + mean) if self.fit_intercept else 0.0
        self.n_iter_ = result.n_iter
        self._finish(result)
        return self

    def predict(self, X: Any) -> Array:
        """Return ``x'w + b`` for every row."""
        return self._predictor(X)
