"""Estimators with the interface of scikit-learn: change the import, keep the code.

The solvers work on equilibrated columns, centred when there is an intercept and divided
by a power of two near their standard deviation, through `Columns`: the data are not
copied, the objective is the same, and ``tol`` has no unit.
"""

from __future__ import annotations

import warnings
from dataclasses import replace
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
import scipy.sparse as sp
import scipy.special
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin, _fit_context
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state, compute_class_weight
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions
from sklearn.utils.multiclass import check_classification_targets, type_of_target
from sklearn.utils.validation import (
    _check_sample_weight,
    assert_all_finite,
    check_is_fitted,
    validate_data,
)

from subsampled_newton._parallel import use_threads
from subsampled_newton.columns import Columns
from subsampled_newton.data import Rows, as_rows
from subsampled_newton.linear_model import FORMED_MAX_PARAMS, LinearModel
from subsampled_newton.losses import LOGISTIC, SQUARED, PointwiseLoss
from subsampled_newton.separation import separable
from subsampled_newton.solvers._driver import Solver, minimize
from subsampled_newton.solvers._result import Result, Status
from subsampled_newton.solvers.multilevel import MultilevelNewton
from subsampled_newton.solvers.newton import SubsampledNewton

__all__ = ["SOLVERS", "LogisticRegression", "Ridge", "warmup"]

Array = NDArray[np.float64]

SOLVERS: dict[str, Solver] = {
    "newton": SubsampledNewton(1.0),
    "newton-cg": SubsampledNewton(1.0, linear_solver="cg"),
    "multilevel-newton": MultilevelNewton(),
    "subsampled-newton": SubsampledNewton(),
    "subsampled-newton-cg": SubsampledNewton(linear_solver="cg"),
    "subsampled-newton-leverage": SubsampledNewton(0.01, sampling="leverage"),
}
"""Solvers by name, besides ``"auto"``."""

SMALL = 20_000
"""Rows below which sampling saves less than its overhead."""
ALLOWED_TYPES = [np.float64, np.float32]


class _LinearEstimator(BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
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

    def _minimize(
        self,
        X: Any,
        y: Array,
        weights: Array,
        loss: PointwiseLoss,
        l2: float,
        start: tuple[Array, float] | None,
    ) -> tuple[Array, float, LinearModel, Result]:
        """Fit on equilibrated columns; return coefficients of the given ones."""
        rows = _equilibrated(X, weights, self.fit_intercept)
        scale = rows.columns.scale
        ridge = np.zeros(rows.n_params)
        ridge[: len(scale)] = l2 * scale**2
        problem = LinearModel(loss, rows, y, l2=ridge, sample_weight=weights)
        w0 = None
        if start is not None and start[0].shape == scale.shape:
            w0 = rows.columns.from_raw(*start)
        solver = self.solver
        if isinstance(solver, str):
            solver = SOLVERS.get(solver) or _choose(problem)
        result = minimize(
            problem,
            solver,
            w0,
            tol=self.tol,
            max_iter=self.max_iter,
            progress=bool(self.verbose),
            seed=check_random_state(self.random_state).randint(2**31 - 1),
        )
        coef, constant = rows.columns.to_raw(result.w)
        return coef, constant, problem, result

    def _last_solution(self) -> tuple[Array, float] | None:
        """Coefficients and intercept to start from, if asked for and there."""
        if not (self.warm_start and hasattr(self, "coef_")):
            return None
        coef = np.ravel(self.coef_).astype(np.float64)
        return coef, float(np.ravel(self.intercept_)[0]) * self.fit_intercept

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
        """``X @ coef + intercept``, one number per row."""
        check_is_fitted(self)
        X = validate_data(
            self, X, reset=False, accept_sparse="csr", dtype=ALLOWED_TYPES
        )
        z: Array = X @ np.ravel(self.coef_) + np.ravel(self.intercept_)[0]
        return z

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags


class LogisticRegression(ClassifierMixin, _LinearEstimator):  # type: ignore[misc]
    """Binary logistic regression with an L2 penalty, solved to the exact minimizer.

    Minimizes ``(1/W) sum_i s_i log(1 + exp(-y_i (x_i'w + b))) + (alpha/2) ||w||**2``,
    where W is the sum of the weights ``s_i``. The intercept b is never penalised.

    Parameters
    ----------
    C : float, default 1.0
        Inverse penalty with the meaning of scikit-learn: ``alpha = 1 / (C W)``. inf
        means no penalty.
    alpha : float, optional
        Penalty weight of the mean form, an alternative to ``C``, which is then ignored.
        Its effect does not change with the number of samples.
    fit_intercept : bool, default True
        Whether to fit b.
    tol : float, default 1e-8
        Stop when the norm of the full gradient, in float64 and on equilibrated columns,
        is at most this. It means the same for every solver and every unit of the data.
        The default is near the limit of float64: Newton methods pay one or two
        iterations for it.
    max_iter : int, default 200
        Largest number of iterations.
    solver : str or Solver, default "auto"
        ``"auto"``: Newton's method when the rows are few, `MultilevelNewton` when they
        are many, conjugate gradients when the columns are. ``"newton"``,
        ``"newton-cg"``, ``"multilevel-newton"``, ``"subsampled-newton"``,
        ``"subsampled-newton-cg"``, ``"subsampled-newton-leverage"``: see `SOLVERS`. Or
        a solver with parameters of your own.
    class_weight : dict or "balanced", optional
        Weights of the classes; "balanced" makes them inverse to the frequencies.
    warm_start : bool, default False
        Start from the last solution.
    random_state : int, RandomState or None, default None
        Seed of the samples of rows. The minimizer does not depend on it beyond ``tol``.
    n_jobs : int, optional
        Threads; -1 for all. Default: ``SUBSAMPLED_NEWTON_NUM_THREADS`` or all. The
        result does not depend on it.
    verbose : int, default 0
        Above 0, show a progress bar (needs tqdm).

    Attributes
    ----------
    classes_ : ndarray of shape (2,)
        Labels.
    coef_ : ndarray of shape (1, n_features)
        Coefficients w, in the precision of X.
    intercept_ : ndarray of shape (1,)
        Intercept b.
    n_iter_ : ndarray of shape (1,)
        Iterations.
    result_ : Result
        Status, message, gradient norm, suboptimality bound, passes, seconds. Its ``w``
        belongs to the equilibrated columns.
    history_ : dict of ndarray
        The trace: one entry per iteration.
    n_features_in_, feature_names_in_
        As in scikit-learn.

    Examples
    --------
    >>> from sklearn.datasets import load_breast_cancer
    >>> from subsampled_newton import LogisticRegression
    >>> X, y = load_breast_cancer(return_X_y=True)
    >>> model = LogisticRegression(random_state=0).fit(X, y)
    >>> model.result_.status.name
    'CONVERGED'
    >>> round(model.score(X, y), 3)
    0.958
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **_LinearEstimator._parameter_constraints,
        "C": [Interval(Real, 0, None, closed="right")],
        "alpha": [None, Interval(Real, 0, None, closed="left")],
        "class_weight": [None, dict, StrOptions({"balanced"})],
    }

    def __init__(
        self,
        *,
        C: float = 1.0,
        alpha: float | None = None,
        fit_intercept: bool = True,
        tol: float = 1e-8,
        max_iter: int = 200,
        solver: str | Solver = "auto",
        class_weight: dict[Any, float] | str | None = None,
        warm_start: bool = False,
        random_state: Any = None,
        n_jobs: int | None = None,
        verbose: int = 0,
    ) -> None:
        self.C = C
        self.alpha = alpha
        self.fit_intercept = fit_intercept
        self.tol = tol
        self.max_iter = max_iter
        self.solver = solver
        self.class_weight = class_weight
        self.warm_start = warm_start
        self.random_state = random_state
        self.n_jobs = n_jobs
        self.verbose = verbose

    @_fit_context(prefer_skip_nested_validation=True)  # type: ignore[untyped-decorator]
    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> LogisticRegression:
        """Fit the model.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features)
            float64 and float32 data in any memory order and CSR matrices are used
            without a copy.
        y : array-like of shape (n_samples,)
            Labels of two classes, numbers or strings.
        sample_weight : array-like of shape (n_samples,), optional
            Weights >= 0; weight 0 removes a row, weight k repeats it.

        Returns
        -------
        LogisticRegression
            Itself.
        """
        X, y = _validated(self, X, y)
        weights = _checked_weights(sample_weight, X)
        self.classes_, positive = _two_classes(y)
        used = weights > 0.0
        if np.all(positive[used]) or not np.any(positive[used]):
            raise ValueError(
                "y must hold two classes with rows of positive weight, got one class: "
                f"{np.unique(y[used])!r}"
            )
        if self.class_weight is not None:
            by_class = compute_class_weight(
                self.class_weight, classes=self.classes_, y=y
            )
            weights = weights * by_class[positive.astype(int)]
        target: Array = np.where(positive, 1.0, -1.0)
        l2 = 1.0 / (self.C * weights.sum()) if self.alpha is None else self.alpha
        with use_threads(self.n_jobs):
            coef, constant, problem, result = self._minimize(
                X, target, weights, LOGISTIC, l2, self._last_solution()
            )
            if l2 == 0.0 and separable(problem, result.w):
                result = replace(result, status=Status.SEPARABLE)
        self.coef_ = coef[None, :].astype(X.dtype, copy=False)
        self.intercept_ = np.array([constant], dtype=X.dtype)
        self.n_iter_ = np.array([result.n_iter], dtype=np.int32)
        self._finish(result)
        return self

    def decision_function(self, X: Any) -> Array:
        """Return ``x'w + b`` for every row: above 0 for ``classes_[1]``."""
        return self._predictor(X)

    def predict(self, X: Any) -> NDArray[Any]:
        """Return the label of every row."""
        z = self._predictor(X)
        labels: NDArray[Any] = self.classes_[(z > 0.0).astype(int)]
        return labels

    def predict_proba(self, X: Any) -> Array:
        """Return the probabilities (n_samples, 2) of ``classes_``."""
        z = self._predictor(X)
        return np.column_stack([scipy.special.expit(-z), scipy.special.expit(z)])

    def predict_log_proba(self, X: Any) -> Array:
        """Return the logarithms of the probabilities, exact also for tiny ones."""
        z = self._predictor(X)
        return np.column_stack(
            [scipy.special.log_expit(-z), scipy.special.log_expit(z)]
        )

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_class = False
        return tags


class Ridge(RegressorMixin, _LinearEstimator):  # type: ignore[misc]
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
        **_LinearEstimator._parameter_constraints,
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
        X, y = _validated(self, X, y, y_numeric=True)
        weights = _checked_weights(sample_weight, X)
        y = y.astype(np.float64)
        # Targets of mean 0 and unit size: then tol has no unit either.
        mean = np.average(y, weights=weights) if self.fit_intercept else 0.0
        size = np.sqrt(np.average((y - mean) ** 2, weights=weights)) or 1.0
        unit = np.exp2(np.round(np.log2(size)))
        start = self._last_solution()
        if start is not None:
            start = start[0] / unit, (start[1] - mean) / unit
        scaled: Array = (y - mean) / unit
        l2 = self.alpha / weights.sum()
        with use_threads(self.n_jobs):
            coef, constant, _, result = self._minimize(
                X, scaled, weights, SQUARED, l2, start
            )
        self.coef_ = (coef * unit).astype(X.dtype, copy=False)
        self.intercept_ = float(constant * unit + mean) if self.fit_intercept else 0.0
        self.n_iter_ = result.n_iter
        self._finish(result)
        return self

    def predict(self, X: Any) -> Array:
        """Return ``x'w + b`` for every row."""
        return self._predictor(X)


def warmup() -> None:
    """Compile what the estimators need, so that no later fit waits for it.

    A cold start costs some seconds per kind of data, once per machine and version: the
    compiled code is kept on disk. Call this while an image is built or a service
    starts. Covers float64 and float32 in C and Fortran order, and CSR matrices.
    """
    X = np.random.default_rng(0).standard_normal((40, 2))
    y = np.tile([0, 1, 1, 0], 10)
    layouts = (np.ascontiguousarray, np.asfortranarray, sp.csr_array)
    for dtype in ALLOWED_TYPES:
        for layout in layouts:
            data = layout(X.astype(dtype))
            LogisticRegression().fit(data, y)
            Ridge().fit(data, y)


def _validated(estimator: Any, X: Any, y: Any, **kwargs: Any) -> tuple[Any, Any]:
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


def _two_classes(y: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Sorted labels, and where y is the second of them; perhaps there is only one."""
    if y.dtype.kind in "biu" or (y.dtype.kind == "f" and np.all(y == np.rint(y))):
        # The common case without a sort, which costs more than two reads of the data.
        low, high = y.min(), y.max()
        positive = y == high
        if np.all(positive | (y == low)):
            return np.array([low, high] if low < high else [low]), positive
    check_classification_targets(y)
    kind = type_of_target(y, input_name="y", raise_unknown=True)
    if kind != "binary":
        raise ValueError(
            "Only binary classification is supported. The type of the target is "
            f"{kind}."
        )
    classes = np.unique(y)
    return classes, y == classes[-1]


def _checked_weights(sample_weight: Any, X: Any) -> Array:
    weights: Array = _check_sample_weight(
        sample_weight, X, dtype=np.float64, ensure_non_negative=True
    )
    if not np.any(weights):
        raise ValueError("sample_weight must not be all zero")
    return weights


def _equilibrated(X: Any, weights: Array, fit_intercept: bool) -> Rows:
    """Rows whose columns have size one, and mean zero where that keeps them sparse."""
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
    return rows.with_columns(
        Columns(
            scale=np.exp2(np.minimum(-exponent, 480.0)),
            shift=mean if center else np.zeros_like(mean),
            intercept=fit_intercept,
        )
    )


def _choose(problem: LinearModel) -> Solver:
    """Solver for ``"auto"``."""
    n, d = problem.n_samples, problem.n_params
    if d > FORMED_MAX_PARAMS:
        return SubsampledNewton(1.0, linear_solver="cg", max_inner=1000)
    if n <= max(SMALL, 40 * d) or problem.loss is SQUARED:
        return SubsampledNewton(1.0)
    return MultilevelNewton()
