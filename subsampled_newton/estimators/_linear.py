"""Linear regression, with and without a penalty."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from numbers import Real
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import RegressorMixin, _fit_context
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions

from subsampled_newton._interrupts import quiet
from subsampled_newton._memory import NotEnoughMemory
from subsampled_newton._parallel import use_threads
from subsampled_newton.data import DenseRows, Rows, host_array, on_device
from subsampled_newton.estimators._base import (
    SOLVERS,
    Account,
    InferenceMixin,
    LinearEstimator,
    better,
    checked_weights,
    equilibrated,
    seed_of,
    start_from,
    validated,
    weighted,
)
from subsampled_newton.estimators._row_space import (
    LARGEST_SPARSE,
    SMALL_SPARSE,
    RowSpace,
    row_space,
)
from subsampled_newton.estimators._targets import (
    TOGETHER,
    SharedProblem,
    Targets,
    solve,
)
from subsampled_newton.linear_model import LinearModel, LinearPoint
from subsampled_newton.losses import SQUARED
from subsampled_newton.solvers._driver import Solver, minimize
from subsampled_newton.solvers._memory import affordable
from subsampled_newton.solvers._refinement import LeastSquaresState, Refinement
from subsampled_newton.solvers._result import Result
from subsampled_newton.solvers.direct import DirectLeastSquares, WhitenedLeastSquares
from subsampled_newton.solvers.least_squares import choose_least_squares
from subsampled_newton.solvers.newton import SubsampledNewton
from subsampled_newton.solvers.sketched import SketchedLeastSquares

__all__ = ["LEAST_SQUARES", "LinearRegression", "Ridge"]

Array = NDArray[np.float64]

LEAST_SQUARES: dict[str, Callable[[float], Solver]] = {
    "cholesky": lambda rtol: DirectLeastSquares("cholesky", rtol),
    "qr": lambda rtol: DirectLeastSquares("qr", rtol),
    "sketch": lambda rtol: SketchedLeastSquares("precondition", rtol=rtol),
    "iterative-sketch": lambda rtol: SketchedLeastSquares("iterative", rtol=rtol),
}
"""Solvers of least squares by name, for a tolerance."""


class _Fit(NamedTuple):
    """What one target has given."""

    coef: Array
    intercept: float
    n_iter: int
    result: Result | None = None
    """None where many targets were solved at once."""


class LeastSquaresEstimator(RegressorMixin, LinearEstimator):  # type: ignore[misc]
    """What `LinearRegression` and `Ridge` share."""

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **LinearEstimator._parameter_constraints,
        "solver": [
            StrOptions({"auto", *LEAST_SQUARES, *SOLVERS}),
            HasMethods(["init", "step"]),
        ],
    }

    @_fit_context(prefer_skip_nested_validation=True)  # type: ignore[untyped-decorator]
    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Fit the model.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features)
            As in `LogisticRegression.fit`.
        y : array-like of shape (n_samples,) or (n_samples, n_targets)
            Targets. They share the factorisation of X. A column (n_samples, 1) is a
            matrix of one target: ``coef_`` and predictions then have two dimensions.
        sample_weight : array-like of shape (n_samples,), optional
            Weights >= 0; weight 0 removes a row, whatever it holds, weight k repeats
            it.

        Returns
        -------
        Self
            The estimator.

        Raises
        ------
        KeyboardInterrupt
            As it comes; the last iterate is kept then, if there is one, but not a part
            of several targets.
        MemoryError
            If the fit needs more memory than is available, before it takes any.
        """
        X, y = validated(self, X, y, y_numeric=True, multi_output=True)
        targets_bytes = 8 * y.size * (y.dtype != np.float64)
        self._require(X, 1, targets_bytes, bound=self._penalty() > 0.0)
        weights = checked_weights(sample_weight, X)
        targets = y.astype(np.float64, copy=False).reshape(len(y), -1)
        shape = (targets.shape[1], X.shape[1])
        start = self._last_solution(shape if y.ndim == 2 else shape[1:])
        fits: list[_Fit] = []
        try:
            with quiet(), use_threads(self.n_jobs):
                rows, targets, weights = weighted(X, targets, weights, self.device)
                rows, ridge = equilibrated(
                    rows,
                    weights,
                    self.fit_intercept,
                    self._penalty() / weights.sum(),
                    self._shifts_sparse,
                )
                space = None
                if self.solver == "auto":
                    space = row_space(rows, ridge, weights, SMALL_SPARSE, formed=True)
                if space is None:
                    self._fit_all(rows, targets, weights, ridge, start, fits)
                    if self.solver == "auto" and not _converged(fits):
                        space = row_space(rows, ridge, weights, LARGEST_SPARSE)
                        last = fits[-1].result
                        if space is not None and last is not None:
                            space = space.after(last)
                if space is not None:  # where no start is needed
                    fits.clear()
                    rows, ridge = space.rows, space.ridge
                    self._fit_all(rows, targets, weights, ridge, None, fits)
                    fits = _expanded(fits, space)
            self._keep(fits, y.ndim)
            if space is not None and hasattr(self, "condition_"):
                self.condition_ = space.condition
        except BaseException as error:
            whole = len(fits) == len(targets.T) and fits[0].coef.size == X.shape[1]
            if isinstance(error, KeyboardInterrupt) and whole:
                self._keep(fits, y.ndim)
            else:  # coefficients of other data are no model of these
                self.__dict__.pop("coef_", None)
            raise
        results = [fit.result for fit in fits if fit.result is not None]
        bad = (result for result in results if not result.converged)
        self._finish(next(bad, results[-1]))
        return self

    def _fit_all(
        self,
        rows: Rows,
        targets: Array,
        weights: Array,
        ridge: Array,
        start: tuple[Array, Array] | None,
        fits: list[_Fit],
    ) -> None:
        """Add the fits of all targets."""
        shared: dict[int, _Fit] = {}
        for k, target in enumerate(targets.T):
            if k % TOGETHER == 1:
                shared = self._shared(rows, targets, weights, ridge, fits)
            if k in shared:
                fits.append(shared[k])
                continue
            last = None
            if start is not None:
                last = np.atleast_2d(start[0])[k], np.atleast_1d(start[1])[k]
            self._fit_target(rows, target, weights, ridge, last, fits)

    def _keep(self, fits: list[_Fit], ndim: int) -> None:
        """Set what the fits of the targets have found, at once."""
        coef = np.array([fit.coef for fit in fits])
        intercept: Any = np.array([fit.intercept for fit in fits])
        n_iter: Any = np.array([fit.n_iter for fit in fits])
        if ndim == 1:
            coef, n_iter, intercept = coef[0], int(n_iter[0]), float(intercept[0])
        first, result = fits[0].result, fits[-1].result
        assert first is not None  # the first and the last have runs of their own
        assert result is not None
        self.__dict__.update(
            coef_=coef,
            intercept_=intercept if self.fit_intercept else 0.0,
            n_iter_=n_iter,
            result_=result.detached(),
            history_=result.trace.as_dict(),
            **self._description(first),
        )

    def _description(self, result: Result) -> dict[str, Any]:
        """What the solver has found out about X, by attribute."""
        return {}

    def _fit_target(
        self,
        rows: Rows,
        y: Array,
        weights: Array,
        ridge: Array,
        start: tuple[Array, float] | None,
        fits: list[_Fit],
    ) -> None:
        """Add coefficients and intercept of the given columns for one target."""
        # Targets of mean 0 and unit size: then tol has no unit either.
        scaled, mean, unit = _in_units(y, weights, self.fit_intercept)
        problem = LinearModel(SQUARED, rows, scaled, l2=ridge, sample_weight=weights)
        w0 = None
        if start is not None:
            with quiet(over="ignore", invalid="ignore"):  # no start then
                constant = (start[1] - mean) / unit * self.fit_intercept
                w0 = rows.columns.from_raw(start[0] / unit, constant)
        result, found = None, list[Result]()
        account = Account(problem)
        try:
            point = start_from(problem, w0)
            result = self._from(problem, point, fits, found)
            # No warm start is worse than a cold one.
            if point is not None and not result.converged:
                result = better(result, self._from(problem, None, fits, found))
            result = account.of(result)
        except KeyboardInterrupt as error:
            result = getattr(error, "result", found[-1] if found else None)
            raise
        finally:
            if result is not None:
                coef, constant = rows.columns.to_raw(result.w)
                intercept = constant * unit + mean if self.fit_intercept else 0.0
                fits.append(_Fit(coef * unit, intercept, result.n_iter, result))

    def _shared(
        self, rows: Rows, targets: Array, weights: Array, ridge: Array, fits: list[_Fit]
    ) -> dict[int, _Fit]:
        """The next targets, those that the factor of the first solves at once.

        Without the last one, which has a run of its own.
        """
        ks = np.arange(len(fits), min(len(fits) + TOGETHER, targets.shape[1] - 1))
        first = fits[0].result
        if len(ks) == 0 or type(rows) is not DenseRows or first is None:
            return {}
        run = _refinement(first)
        exact = isinstance(first.solver, DirectLeastSquares) and first.converged
        if run is None or not exact or not isinstance(self.solver, str):
            return {}
        units = [_in_units(targets[:, k], weights, self.fit_intercept)[1:] for k in ks]
        mean, unit = np.array(units).T
        shares = weights / weights.max()
        problem = SharedProblem(rows, shares / shares.sum(), ridge, run.whitener)
        rtol, n_iter = min(float(self.tol), 0.5), ks * 0 - 1
        with contextlib.suppress(NotEnoughMemory):
            part = Targets(targets[:, ks[0] : ks[-1] + 1], mean, unit)
            W, n_iter = solve(problem, part, tol=self.tol, rtol=rtol)
            coef, constant = rows.columns.to_raw(W)
        return {
            int(k): _Fit(
                coef[j] * unit[j],
                float(constant[j] * unit[j] + mean[j]) if self.fit_intercept else 0.0,
                int(n_iter[j]),
            )
            for j, k in enumerate(ks)
            if n_iter[j] >= 0
        }

    def _from(
        self,
        problem: LinearModel,
        start: LinearPoint | None,
        fits: list[_Fit],
        found: list[Result],
    ) -> Result:
        """Result of one target from one start; what is found is added to a list."""
        result = minimize(
            problem,
            self._solver(problem, fits),
            start,
            tol=self.tol,
            max_iter=self.max_iter,
            progress=bool(self.verbose),
            seed=seed_of(self.random_state),
        )
        found.append(result)
        if _refinement(result) is None:  # those know how exact they are
            result = self._assured(problem, result)
        return result

    def _solver(self, problem: LinearModel, fits: list[_Fit]) -> Solver:
        solver: Solver = self.solver
        if not isinstance(self.solver, str):
            return solver
        rtol = min(float(self.tol), 0.5)
        run = _refinement(fits[0].result) if fits and fits[0].result else None
        if run is not None:
            return WhitenedLeastSquares(run.whitener, rtol)
        if self.solver == "auto":
            with contextlib.suppress(NotEnoughMemory):
                best = choose_least_squares(problem, rtol)
                if affordable(problem, best):
                    return best
            return SubsampledNewton(1.0, max_inner=1000)
        return SOLVERS.get(self.solver) or LEAST_SQUARES[self.solver](rtol)

    def _by_name(self, name: str) -> Solver | None:
        make = LEAST_SQUARES.get(name)
        return make(0.0) if make else super()._by_name(name)

    def _penalty(self) -> float:
        """Weight of ``||w||**2``."""
        return 0.0

    def predict(self, X: Any) -> Array:
        """Return ``x'w + b`` for every row, one number or one for each target."""
        return self._predictor(X)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.single_output = True
        tags.target_tags.multi_output = True
        return tags


class LinearRegression(InferenceMixin, LeastSquaresEstimator):
    """Least squares, solved as exactly as float64 and the condition number allow.

    Minimizes ``sum_i s_i (y_i - x_i'w - b)**2``, as scikit-learn does, on columns that
    are centred and of equal size. With dependent columns the coefficients are those of
    the smallest norm on these columns, and ``rank_`` says so. Columns that only the
    rounding of the data as given tells apart are dependent: a warning names them.

    Parameters
    ----------
    fit_intercept : bool, default True
        Whether to fit b.
    tol : float, default 1e-8
        Relative error of the coefficients, columns of equal size, and norm of the
        gradient at which to stop. A condition number that does not allow it costs no
        more than the best backward error; 0 asks for that.
    max_iter : int, default 200
        Largest number of iterations, for each target.
    solver : str or Solver, default "auto"
        ``"auto"``: chosen by the shape and an estimate of the condition number, see
        `choose_least_squares`. ``"cholesky"``: normal equations with refinement, for
        condition numbers up to 1e7. ``"qr"``: Householder QR. ``"sketch"`` and
        ``"iterative-sketch"``: a random embedding as preconditioner. The names of
        `LogisticRegression` as well, or a solver object of your own.
    warm_start : bool, default False
        As in `LogisticRegression`; direct solvers gain nothing from it.
    random_state : int, RandomState or None, default None
        Seed of the sketches. The minimizer does not depend on it beyond ``tol``. None:
        the same draws in every run.
    n_jobs : int, optional
        Threads; -1 for all. Default: ``SUBSAMPLED_NEWTON_NUM_THREADS``, otherwise all
        that joblib, threadpoolctl (OpenMP), ``OMP_NUM_THREADS``,
        ``NUMBA_NUM_THREADS``, affinity and control group allow. The result does not
        depend on it.
    device : {"cpu", "cuda"}, default "cpu"
        As in `LogisticRegression`. QR factorisations and sketches are made on the host.
    verbose : int, default 0
        Above 0, show a progress bar (needs tqdm).

    Attributes
    ----------
    coef_ : ndarray of shape (n_features,) or (n_targets, n_features)
        Coefficients w, in float64 as those of `LogisticRegression`.
    intercept_ : float or ndarray of shape (n_targets,)
        Intercept b.
    rank_ : int
        Rank of the centred columns, up to the rounding of the data; None if the solver
        does not tell.
    condition_ : float
        Condition number of the columns that count, centred and of norm one: an
        estimate; nan if the solver does not tell. Relative errors of y and X grow by it
        and, in proportion to the residual, by its square.
    n_iter_ : int or ndarray of shape (n_targets,)
        Iterations.
    result_ : Result
        As in `LogisticRegression`; of the first target that did not converge, or of the
        last one.
    history_, n_features_in_, feature_names_in_
        As in `LogisticRegression`.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from subsampled_newton import LinearRegression
    >>> X, y = load_diabetes(return_X_y=True)
    >>> model = LinearRegression().fit(X, y)
    >>> round(model.score(X, y), 3), model.rank_
    (0.518, 10)
    """

    def __init__(
        self,
        *,
        fit_intercept: bool = True,
        tol: float = 1e-8,
        max_iter: int = 200,
        solver: str | Solver = "auto",
        warm_start: bool = False,
        random_state: Any = None,
        n_jobs: int | None = None,
        device: str = "cpu",
        verbose: int = 0,
    ) -> None:
        self.fit_intercept = fit_intercept
        self.tol = tol
        self.max_iter = max_iter
        self.solver = solver
        self.warm_start = warm_start
        self.random_state = random_state
        self.n_jobs = n_jobs
        self.device = device
        self.verbose = verbose

    def _description(self, result: Result) -> dict[str, Any]:
        run = _refinement(result)
        return {
            "rank_": run and run.whitener.rank - self.fit_intercept,
            "condition_": run.whitener.condition if run else np.nan,
        }

    def _penalised(self) -> str:
        return ""

    def _freedom(self, problem: LinearModel, total: float) -> float:
        return total - problem.n_params

    def _fitted_problem(
        self, X: Any, y: Any, sample_weight: Any
    ) -> tuple[LinearModel, Array, Array, float]:
        X, y = validated(self, X, y, reset=False, y_numeric=True, multi_output=True)
        if on_device(X):
            X = host_array(X)  # factors of the rows are made on the host
        if self.coef_.ndim == 2 or y.ndim == 2:
            raise ValueError(
                "y must be a vector: inference is for a single target, got shape "
                f"{y.shape} and coefficients of shape {self.coef_.shape}"
            )
        weights = checked_weights(sample_weight, X)
        target = y.astype(np.float64)
        rows, target, weights = weighted(X, target, weights)
        rows, ridge = equilibrated(rows, weights, self.fit_intercept, 0.0)
        problem = LinearModel(SQUARED, rows, target, l2=ridge, sample_weight=weights)
        w = rows.columns.from_raw(self.coef_, float(self.intercept_))
        estimate = self.coef_
        if self.fit_intercept:
            estimate = np.append(estimate, self.intercept_)
        return problem, w, estimate, float(weights.sum())


class Ridge(LeastSquaresEstimator):
    """Least squares with an L2 penalty, solved as exactly as ``tol`` asks.

    Minimizes ``sum_i s_i (y_i - x_i'w - b)**2 + alpha ||w||**2``, as scikit-learn does.
    The intercept b is never penalised.

    Parameters
    ----------
    alpha : float, default 1.0
        Penalty weight; 0 gives least squares. Dependent columns are no error then: the
        coefficients returned are among the minimizers.
    fit_intercept, tol, max_iter, solver, warm_start, random_state, n_jobs
        As in `LinearRegression`.
    device, verbose
        As in `LinearRegression`.

    Attributes
    ----------
    coef_ : ndarray of shape (n_features,) or (n_targets, n_features)
        Coefficients w, in float64 as those of `LogisticRegression`.
    intercept_ : float or ndarray of shape (n_targets,)
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
        **LeastSquaresEstimator._parameter_constraints,
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
        device: str = "cpu",
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
        self.device = device
        self.verbose = verbose

    def _penalty(self) -> float:
        return float(self.alpha)


def _converged(fits: list[_Fit]) -> bool:
    """Whether all have; a fit without a result has passed the tests."""
    return all(fit.result is None or fit.result.converged for fit in fits)


def _expanded(fits: list[_Fit], space: RowSpace) -> list[_Fit]:
    """Fits of the given columns, from those in the coordinates of the row space."""
    V = np.array([fit.coef for fit in fits])
    if space.columns.intercept:
        V = np.column_stack([V, [fit.intercept for fit in fits]])
    coef, constant = space.to_raw(V)
    return [
        _Fit(w, float(b), fit.n_iter, fit.result and space.expanded(fit.result))
        for fit, w, b in zip(fits, coef, constant, strict=True)
    ]


def _in_units(y: Array, weights: Array, centred: bool) -> tuple[Array, float, float]:
    """Targets of unit size, their mean and their unit; no square is too large or small.

    Powers of two: scaling is exact.
    """
    first = int(np.frexp(np.max(np.abs(y)))[1])
    scaled = np.ldexp(y, -first)
    mean = float(np.average(scaled, weights=weights)) if centred else 0.0
    scaled = scaled - mean
    largest = int(np.frexp(np.max(np.abs(scaled)))[1])
    size = np.sqrt(np.average(np.ldexp(scaled, -largest) ** 2, weights=weights)) or 1.0
    second = largest + int(np.round(np.log2(size)))
    unit = float(np.ldexp(1.0, min(first + second, 1023)))
    rest = min(first + second, 1023) - first
    return np.ldexp(scaled, -rest), float(np.ldexp(mean, first)), unit


def _refinement(result: Result) -> Refinement | None:
    assert result.checkpoint is not None
    state = result.checkpoint.state
    return state.refinement if isinstance(state, LeastSquaresState) else None
