"""Nonlinear regression with a function of the user's."""

from __future__ import annotations

import os
import platform
import warnings
from collections.abc import Callable
from dataclasses import replace
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
import scipy.linalg
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, RegressorMixin, _fit_context
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions
from sklearn.utils.validation import check_is_fitted, validate_data

from subsampled_newton import _archive
from subsampled_newton._interrupts import quiet
from subsampled_newton._jit import content
from subsampled_newton._parallel import use_threads
from subsampled_newton.estimators._base import (
    ALLOWED_TYPES,
    MATRIX,
    Account,
    checked_weights,
    naming,
    refuse_matrix,
    refuse_parameters,
    seed_of,
    validated,
)
from subsampled_newton.nonlinear_model import (
    STATIONARY,
    NonlinearModel,
    NonlinearPoint,
)
from subsampled_newton.parameters import real_array, shown
from subsampled_newton.picked import used_rows
from subsampled_newton.solvers._advice import advice
from subsampled_newton.solvers._driver import Solver, minimize
from subsampled_newton.solvers._result import Result, Status
from subsampled_newton.solvers.levenberg_marquardt import LevenbergMarquardt

__all__ = ["NonlinearLeastSquares"]

Array = NDArray[np.float64]


class NonlinearLeastSquares(RegressorMixin, BaseEstimator):  # type: ignore[misc]
    """Nonlinear least squares: fit the parameters of a function to data.

    Minimizes ``(1/2W) sum_i s_i (f(p, x_i) - y_i)**2 + (alpha/2) ||p||**2``, where W is
    the sum of the weights ``s_i``. The function is plain Python; it is compiled, and
    differentiated exactly. Nothing depends on the units of parameters and data: no
    scaling is needed, and ``tol`` has no unit.

    Parameters
    ----------
    function : callable, (params, x_i) -> float
        Prediction for one row ``x_i`` of X; see `NonlinearModel` for what it may use.
        What it refers to is taken as it is at each fit.
        Without ``y`` it is the residual.
    start : array-like of shape (n_params,)
        Where to start. Nonlinear problems may have several minima: the nearest one is
        not always the lowest. `multistart` tries several starts of a `NonlinearModel`.
    jacobian : callable, optional
        Derivatives of the function, ``(params, x_i) -> tuple`` or ``(params, x_i,
        out)``; only for functions that cannot be differentiated here.
    alpha : float, default 0.0
        Ridge penalty of the parameters, for those that the data do not determine.
    tol : float, default 1e-12
        Stop when the cosine of the angle between the residuals and the tangent plane is
        at most this: the last step is then below ``tol sqrt(n - p)`` standard errors.
        Convergence is quadratic, so that the last digits cost one or two iterations;
        where rounding does not allow them, the fit ends with what it does allow.
    max_iter : int, default 1000
        Largest number of iterations, rejected ones included. Easy problems need 10,
        curved valleys some hundreds.
    solver : {"auto", "levenberg-marquardt"} or Solver, default "auto"
        ``"auto"`` is `LevenbergMarquardt`. ``LevenbergMarquardt(0.05)`` takes its
        matrices from 5 % of the rows. Other solvers of the package work on parameters
        that are scaled by the Jacobian at the start.
    random_state : int, RandomState or None, default None
        Seed of solvers that sample. None: the same draws in every run.
    n_jobs : int, optional
        Threads; -1 for all. Default: ``SUBSAMPLED_NEWTON_NUM_THREADS``, otherwise all
        that joblib, threadpoolctl (OpenMP), ``OMP_NUM_THREADS``,
        ``NUMBA_NUM_THREADS``, affinity and control group allow. The result does not
        depend on it.
    verbose : int, default 0
        Above 0, show a progress bar (needs tqdm).

    Attributes
    ----------
    params_ : ndarray of shape (n_params,)
        Fitted parameters.
    std_errors_ : ndarray of shape (n_params,)
        Standard errors of the parameters: roots of the diagonal of ``cov_params_``.
    cov_params_ : ndarray of shape (n_params, n_params)
        ``residual_std_**2 (J'J)^-1`` from a QR factorisation of J; nan where the data
        do not determine the parameters. With a penalty, the covariance of the biased
        estimate.
    residual_std_ : float
        ``sqrt(sum_i s_i r_i**2 / (n - p))``, n counting the rows of weight above 0: the
        standard deviation of an observation of weight one. nan for n <= p.
    n_iter_ : int
        Iterations.
    result_ : Result
        Status, message, gradient norm (the cosine that ``tol`` refers to), passes,
        seconds.
    history_ : dict of ndarray
        The trace: one entry per iteration.
    n_features_in_, feature_names_in_
        As in scikit-learn.

    Examples
    --------
    >>> import math
    >>> import numpy as np
    >>> from subsampled_newton import NonlinearLeastSquares
    >>> def decay(params, x):
    ...     amplitude, rate = params
    ...     return amplitude * math.exp(-rate * x[0])
    >>> X = np.linspace(0.0, 2.0, 20)[:, None]
    >>> y = 3.0 * np.exp(-1.5 * X[:, 0])
    >>> model = NonlinearLeastSquares(decay, start=[1.0, 1.0]).fit(X, y)
    >>> model.params_.round(10)
    array([3. , 1.5])
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "function": [callable],
        "start": ["array-like"],
        "jacobian": [None, callable],
        "alpha": [Interval(Real, 0, None, closed="left")],
        "tol": [Interval(Real, 0, None, closed="left")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "solver": [
            StrOptions({"auto", "levenberg-marquardt"}),
            HasMethods(["init", "step"]),
        ],
        "random_state": ["random_state"],
        "n_jobs": [None, Integral],
        "verbose": ["verbose"],
    }

    def __init__(
        self,
        function: Callable[..., Any],
        start: ArrayLike,
        *,
        jacobian: Callable[..., Any] | None = None,
        alpha: float = 0.0,
        tol: float = 1e-12,
        max_iter: int = 1000,
        solver: str | Solver = "auto",
        random_state: Any = None,
        n_jobs: int | None = None,
        verbose: int = 0,
    ) -> None:
        self.function = function
        self.start = start
        self.jacobian = jacobian
        self.alpha = alpha
        self.tol = tol
        self.max_iter = max_iter
        self.solver = solver
        self.random_state = random_state
        self.n_jobs = n_jobs
        self.verbose = verbose

    @_fit_context(prefer_skip_nested_validation=True)  # type: ignore[untyped-decorator]
    def fit(
        self, X: Any, y: Any = None, sample_weight: Any = None
    ) -> NonlinearLeastSquares:
        """Fit the parameters.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Predictors, one row per observation.
        y : array-like of shape (n_samples,), optional
            Targets. Without them the function is the residual.
        sample_weight : array-like of shape (n_samples,), optional
            Weights >= 0, for the parameters as if rows were repeated, for the standard
            errors as inverse variances. Rows of weight 0 are left out.

        Returns
        -------
        NonlinearLeastSquares
            Itself.

        Raises
        ------
        KeyboardInterrupt
            As it comes; the last iterate is kept then, if there is one, without
            standard errors.
        """
        if y is None:
            X = self._checked(X, reset=True)
        else:
            dense: dict[str, Any] = {"accept_sparse": False, "ensure_all_finite": True}
            X, y = validated(self, X, y, y_numeric=True, **dense)
            y = y.astype(np.float64)
        weights = checked_weights(sample_weight, X)
        what = "be a vector of finite numbers"
        start = real_array("start", self.start, what=what).astype(np.float64)
        kept = used_rows(weights)
        if kept is not None:
            X, weights = X[kept], weights[kept]
            y = None if y is None else y[kept]
        if start.ndim != 1 or not (len(start) and np.all(np.isfinite(start))):
            raise ValueError(f"start must {what}, got {shown(start.tolist())}")
        solver = self.solver
        if isinstance(solver, str):
            solver = LevenbergMarquardt()
        with quiet(), use_threads(self.n_jobs):
            scale = np.ones(len(start))
            problem = self._problem(X, y, weights, scale)
            if not isinstance(solver, LevenbergMarquardt):  # which has its own scales
                scale = _sizes(problem.at(start))
                problem = self._problem(X, y, weights, scale)
            account = Account(problem)
            try:
                result = minimize(
                    problem,
                    solver,
                    start / scale,
                    tol=self.tol,
                    max_iter=self.max_iter,
                    progress=bool(self.verbose),
                    seed=seed_of(self.random_state),
                )
            except BaseException as error:
                last = getattr(error, "result", None)
                if last is not None:
                    self._keep(scale, last, np.nan, np.full((len(start),) * 2, np.nan))
                else:  # parameters of other data are no model of these
                    self.__dict__.pop("params_", None)
                raise
            point = problem.at(result.w)
            if result.converged and result.gradient_norm > max(self.tol, STATIONARY):
                lost = point.undetermined
                status = Status.RANK_DEFICIENT if lost else Status.SMALL_STEP
                assert result.checkpoint is not None
                what = advice(status, problem, solver, result.checkpoint.state)
                result = replace(result, status=status, advice=what)
            variance, covariance = _statistics(point, len(weights) - len(start))
            result = account.of(result)
            if not isinstance(solver, LevenbergMarquardt):  # a number for every row
                result = result.detached()
        residual_std = float(np.sqrt(variance * np.mean(weights)))
        self._keep(scale, result, residual_std, covariance)
        self._finish(result)
        return self

    def _keep(
        self, scale: Array, result: Result, residual_std: float, covariance: Array
    ) -> None:
        """Set what the fit has found, at once."""
        cov = covariance * scale * scale[:, None]
        self.__dict__.update(
            params_=scale * result.w,
            residual_std_=residual_std,
            cov_params_=cov,
            std_errors_=np.sqrt(np.diag(cov)),
            n_iter_=result.n_iter,
            result_=result,
            history_=result.trace.as_dict(),
            _fitted=self._content(),
        )

    def _content(self) -> tuple[str, str]:
        """Function and all that it refers to, as they are now, and whose bytecode."""
        return content(self.function), platform.python_version()

    def predict(self, X: Any) -> Array:
        """Return ``f(params_, x_i)`` for every row.

        Raises
        ------
        ValueError
            If the function, or a global, closure, array or helper that it refers to, is
            not the one that was fitted.
        """
        check_is_fitted(self, "params_")
        now = self._content()
        if now[1] == self._fitted[1] and now[0] != self._fitted[0]:
            raise ValueError(
                f"function {self.function.__name__}, or something that it refers to "
                "(a global, a closure, an array, a helper), has changed since fit: "
                "fit again"
            )
        X = self._checked(X, reset=False)
        with quiet(), use_threads(self.n_jobs):
            problem = self._problem(X, None, None, np.ones(len(self.params_)))
            return problem.predict(self.params_)

    def _validate_params(self) -> None:
        refuse_parameters(self)
        super()._validate_params()

    def _checked(self, X: Any, reset: bool) -> NDArray[Any]:
        """Rows without targets."""
        with naming("X", MATRIX):
            refuse_matrix(X)
            checked: NDArray[Any] = validate_data(
                self, X, reset=reset, dtype=ALLOWED_TYPES
            )
        return checked

    def save(self, path: str | os.PathLike[str]) -> None:
        """Raise TypeError: the function of the model is code, which is not saved.

        ``model.result_.save(path)`` keeps the fit, and `minimize` goes on from it; the
        function belongs in a module. Fitted parameters are numbers: `numpy.savez`.
        """
        check_is_fitted(self)
        _archive.write(path, self)

    def _problem(self, X: Any, y: Any, weights: Any, scale: Array) -> NonlinearModel:
        return NonlinearModel(
            self.function,
            X,
            y,
            len(scale),
            l2=self.alpha * scale**2,
            sample_weight=weights,
            jacobian=self.jacobian,
            scale=scale,
        )

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

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.required = False
        return tags


def _sizes(point: NonlinearPoint) -> Array:
    """Sizes of the parameters that change the residuals by their own size."""
    with quiet(all="ignore"):
        ratio = np.sqrt(point.residual_norm_squared) / point.column_norms
    known = np.isfinite(ratio) & (ratio > 0.0)
    # Powers of two: scaling is exact.
    sizes: Array = np.exp2(np.round(np.log2(np.where(known, ratio, 1.0))))
    return sizes


def _statistics(point: NonlinearPoint, freedom: int) -> tuple[float, Array]:
    """Variance of the residuals and covariance of the parameters."""
    J, r = point.jacobian, point.residual
    nothing = np.full((J.shape[1], J.shape[1]), np.nan)
    if freedom <= 0:
        return np.nan, nothing
    variance = float(np.sum(r * r)) / freedom
    size = point.column_norms
    if point.undetermined or not np.all(np.isfinite(size)):
        return variance, nothing
    inverse = scipy.linalg.solve_triangular(point.factor.R / size, np.eye(len(size)))
    root = inverse
    if np.any(point.problem.l2):  # (J'J + L)^-1 J' without the rows of the ridge
        data: Array = np.asarray(np.linalg.qr(J / size, mode="r"))
        root = inverse @ (inverse.T @ data.T)
    return variance, variance * (root @ root.T) / size / size[:, None]
