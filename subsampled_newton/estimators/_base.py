"""What the estimators share: checked data, equilibrated columns, a solver by name.

The solvers work on equilibrated columns, centred when there is an intercept and divided
by a power of two near their standard deviation, through `Columns`: the data are not
copied, the objective is the same, and ``tol`` has no unit.
"""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.linalg import LinAlgWarning
from sklearn.base import BaseEstimator
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions
from sklearn.utils.validation import (
    _check_feature_names,
    _check_n_features,
    _check_sample_weight,
    assert_all_finite,
    check_consistent_length,
    check_is_fitted,
    validate_data,
)

from subsampled_newton import _archive
from subsampled_newton._interrupts import quiet
from subsampled_newton.columns import Columns
from subsampled_newton.data import (
    CHUNK,
    CSRRows,
    DenseRows,
    Rows,
    as_rows,
    check_sparse,
    host_array,
    on_device,
)
from subsampled_newton.inference import (
    Diagnosis,
    WaldTests,
    covariance,
    diagnosis,
    wald_tests,
)
from subsampled_newton.linear_model import FORMED_MAX_PARAMS, LinearModel
from subsampled_newton.losses import LOGISTIC, SQUARED
from subsampled_newton.solvers._driver import Solver, minimize
from subsampled_newton.solvers._polish import assured
from subsampled_newton.solvers._result import Result
from subsampled_newton.solvers._sizes import Growing
from subsampled_newton.solvers._whitener import DEPENDENT
from subsampled_newton.solvers.cubic import CubicRegularization
from subsampled_newton.solvers.dual_start import DualStartNewton
from subsampled_newton.solvers.gradient import GradientDescent
from subsampled_newton.solvers.heavy_ball import HeavyBall
from subsampled_newton.solvers.lbfgs import LBFGS
from subsampled_newton.solvers.levenberg_marquardt import LevenbergMarquardt
from subsampled_newton.solvers.multilevel import MultilevelNewton
from subsampled_newton.solvers.nesterov import Nesterov
from subsampled_newton.solvers.newton import SubsampledNewton
from subsampled_newton.solvers.sag import SAG
from subsampled_newton.solvers.saga import SAGA
from subsampled_newton.solvers.sampled_start import SampledStart
from subsampled_newton.solvers.sdca import SDCA
from subsampled_newton.solvers.sgd import SGD
from subsampled_newton.solvers.svrg import SVRG
from subsampled_newton.solvers.trust_region import TrustRegion

__all__ = [
    "ALLOWED_TYPES",
    "SOLVERS",
    "InferenceMixin",
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
    "dual-start-newton": DualStartNewton(),
    "sampled-start": SampledStart(),
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
PRODUCTS = 200
"""Operations for each stored number that conjugate gradients may take in a step."""
FIRM = 1e-6
"""Ridge weight from which conjugate gradients need few products."""
TINY = 1e-150
"""Numbers whose squares may underflow."""
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
        "device": [StrOptions({"cpu", "cuda"})],
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

    def _assured(self, problem: LinearModel, result: Result) -> Result:
        """Result of which a small gradient means a small error."""
        if not problem.convex:
            return result
        left = min(self.max_iter - result.n_iter, 50)
        steps = left if self.solver == "auto" else 0
        return assured(problem, result, tol=self.tol, polish=steps)

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
        if DEPENDENT in result.note:
            warnings.warn(result.note, LinAlgWarning, stacklevel=4)
        if not result.converged:
            warnings.warn(
                f"{result.status.name}: {result.message} (gradient norm "
                f"{result.gradient_norm:.2e} after {result.n_iter} iterations)",
                ConvergenceWarning,
                stacklevel=4,
            )

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the fitted model to one file without code; `load` reads it.

        Parameters, coefficients, labels, ``result_`` and ``history_``: the loaded model
        predicts the same bits. Whatever happens, the file holds all of it or what it
        held before.

        Parameters
        ----------
        path : path
            Used as it is; an existing file is replaced.

        Raises
        ------
        NotFittedError
            If the model is not fitted.
        TypeError
            If a parameter cannot be stored: a solver or random generator of your own.
        OSError
            If the file cannot be written.
        """
        check_is_fitted(self, ["coef_", "result_"])
        _archive.write(path, self)

    def _predictor(self, X: Any) -> Array:
        """``X @ coef.T + intercept``: one row or one number per row of X."""
        check_is_fitted(self, "coef_")
        if on_device(X):
            return self._predictor_on_device(X)
        _refuse(X)
        with _naming_arguments():
            X = validate_data(
                self, X, reset=False, accept_sparse="csr", dtype=ALLOWED_TYPES
            )
        coef = self.coef_.T
        if X.dtype == np.float64 or sp.issparse(X):
            z: Array = X @ coef
        else:  # block by block: no copy of X in float64
            z = np.empty((len(X), *coef.shape[1:]))
            for lo in range(0, len(X), CHUNK):
                z[lo : lo + CHUNK] = X[lo : lo + CHUNK] @ coef
        z += self.intercept_
        return z

    def _predictor_on_device(self, X: Any) -> Array:
        """The same for rows on a GPU, read there; the predictions come to the host."""
        rows = as_rows(X)
        with _naming_arguments():
            _check_n_features(self, X, reset=False)
        d = rows.n_params
        plain = Columns(np.ones(d), np.zeros(d), intercept=True)
        coef = np.atleast_2d(self.coef_)
        constants = np.broadcast_to(self.intercept_, len(coef))
        W = np.column_stack([coef, constants])
        z = np.asarray(rows.with_columns(plain).class_predictions(W)).T
        if not np.all(np.isfinite(z)):
            assert_all_finite(host_array(X), input_name="X")
        return z if self.coef_.ndim == 2 else z[:, 0]

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags


class InferenceMixin:
    """Standard errors and tests of the coefficients, and a diagnosis of the fit.

    The estimators do not keep the data: hand in those of the fit again.
    """

    result_: Result

    def _fitted_problem(
        self, X: Any, y: Any, sample_weight: Any
    ) -> tuple[LinearModel, Array, Array, float]:
        """Problem of the fit, parameters, raw coefficients, sum of the weights."""
        raise NotImplementedError

    def _freedom(self, problem: LinearModel, total: float) -> float:
        return np.inf

    def _penalised(self) -> str:
        """The parameter that penalises the coefficients, or nothing."""
        raise NotImplementedError

    def cov_params(
        self, X: Any, y: Any, sample_weight: Any = None, *, sandwich: bool = False
    ) -> Array:
        """Return the covariance matrix of the coefficients.

        From the information matrix, in the order of the coefficients, the intercept
        last if it is fitted, class by class. Those of several classes sum to zero, and
        their covariance is that of such coefficients.

        Parameters
        ----------
        X, y, sample_weight
            The data of the fit; it is checked that they are. A weight k counts as k
            rows.
        sandwich : bool, default False
            Whether to estimate the variance of the rows' gradients from these (HC0),
            which holds where the model is wrong about it.

        Raises
        ------
        ValueError
            If the fit has a penalty, has not converged or found the classes separable,
            or if the columns are dependent: coefficients then have no standard errors.
        """
        return self._inferred(X, y, sample_weight, sandwich)[0]

    def std_errors(
        self, X: Any, y: Any, sample_weight: Any = None, *, sandwich: bool = False
    ) -> Array:
        """Return the standard errors of the coefficients, that of the intercept last.

        Shape (n_features + 1,), or (n_classes, n_features + 1) for more than two
        classes; without an intercept a column less. Parameters and errors as in
        `cov_params`.
        """
        tests = self.wald_tests(X, y, sample_weight, sandwich=sandwich)
        return tests.std_error

    def wald_tests(
        self, X: Any, y: Any, sample_weight: Any = None, *, sandwich: bool = False
    ) -> WaldTests:
        """Return estimates, standard errors, statistics and two-sided p values.

        z tests for classes; t tests for least squares, z tests with ``sandwich``.
        Parameters and errors as in `cov_params`.
        """
        cov, estimate, freedom = self._inferred(X, y, sample_weight, sandwich)
        return wald_tests(estimate, cov, np.inf if sandwich else freedom)

    def _inferred(
        self, X: Any, y: Any, sample_weight: Any, sandwich: bool
    ) -> tuple[Array, Array, float]:
        check_is_fitted(self, "coef_")
        if self._penalised():
            raise ValueError(
                "standard errors need a fit without a penalty, which biases the "
                f"coefficients; {self._penalised()}"
            )
        if not self.result_.converged:
            raise ValueError(
                "standard errors need a fit that has converged, but this one ended "
                f"with {self.result_.status.name}: {self.result_.message}"
            )
        problem, w, estimate, total = self._fitted_problem(X, y, sample_weight)
        cov = covariance(problem, w, total, sandwich)
        return cov, estimate, self._freedom(problem, total)

    def diagnose(self, X: Any, y: Any, sample_weight: Any = None) -> Diagnosis:
        """Return what the data tell about the fit: rank, condition, a bound, advice.

        Costs a QR factorisation of X, more than many fits.

        Parameters
        ----------
        X, y, sample_weight
            The data of the fit.
        """
        check_is_fitted(self, "coef_")
        problem, w, _, _ = self._fitted_problem(X, y, sample_weight)
        return diagnosis(problem, w, self.result_)


def validated(estimator: Any, X: Any, y: Any, **kwargs: Any) -> tuple[Any, Any]:
    """Check everything but the finiteness of X, which the first read of it decides."""
    if on_device(y):
        y = host_array(y)
    if on_device(X):
        reset = kwargs.pop("reset", True)
        y = _validated(estimator, "no_validation", y, **kwargs)
        with _naming_arguments():
            as_rows(X)  # its type and shape
            check_consistent_length(X, y)
            _check_n_features(estimator, X, reset=reset)
            _check_feature_names(estimator, X, reset=reset)
        return X, y
    _refuse(X, known_csr=True)
    X, y = _validated(
        estimator,
        X,
        y,
        accept_sparse="csr",
        dtype=ALLOWED_TYPES,
        ensure_all_finite=False,
        **kwargs,
    )
    return X, y


def _validated(estimator: Any, X: Any, y: Any, **kwargs: Any) -> Any:
    if isinstance(y, np.ma.MaskedArray) and np.ma.is_masked(y):
        raise ValueError("y has masked entries: fill them or leave the rows out")
    with _naming_arguments():
        checked = validate_data(estimator, X, y, **kwargs)
        y = checked[1] if isinstance(checked, tuple) else checked
        assert_all_finite(y, input_name="y")
        return checked


def _refuse(X: Any, known_csr: bool = False) -> None:
    """Refuse what scikit-learn would take for other numbers, or crash on."""
    if sp.issparse(X):
        # as_rows checks the CSR matrix of a fit.
        if X.ndim == 2 and not (known_csr and X.format == "csr"):
            check_sparse(X)
    elif isinstance(X, np.ma.MaskedArray) and np.ma.is_masked(X):
        raise ValueError("X has masked entries: fill them or leave the rows out")
    else:
        types = getattr(X, "dtypes", [getattr(X, "dtype", None)])
        for dtype in types:  # dates would pass as nanoseconds
            if getattr(dtype, "kind", "") in ("m", "M", "V"):
                raise TypeError(f"X must hold real numbers, got dtype {dtype}")


@contextmanager
def _naming_arguments() -> Iterator[None]:
    """Name X where an error names no argument."""
    try:
        with quiet():  # scikit-learn changes what NumPy says of overflows
            yield
    except (TypeError, ValueError) as error:
        text = str(error)
        if re.search(r"\b[Xy]\b", text):
            raise
        names = "X and y" if "inconsistent" in text else "X"
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(f"{names}: {text}") from error


def checked_weights(sample_weight: Any, X: Any) -> Array:
    if on_device(sample_weight):
        sample_weight = host_array(sample_weight)
    with quiet():
        weights: Array = _check_sample_weight(
            sample_weight, X, dtype=np.float64, ensure_non_negative=True
        )
    if not np.any(weights):
        raise ValueError("sample_weight must not be all zero")
    return weights


def equilibrated(
    X: Any, weights: Array, fit_intercept: bool, l2: float, device: str = "cpu"
) -> tuple[Rows, Array]:
    """Rows whose columns have size one, and small means unless that made them dense.

    Also returns the ridge weights of their coefficients that amount to ``l2`` on those
    of the given columns.
    """
    rows = as_rows(X, device="cuda" if device == "cuda" else None)
    with quiet(over="ignore", invalid="ignore"):
        mean, deviation = rows.column_moments(weights)
    if not on_device(X):
        _correct_tiny(X, weights, mean, deviation)
    if not (np.all(np.isfinite(mean)) and np.all(np.isfinite(deviation))):
        if on_device(X):
            X = host_array(X)
        assert_all_finite(X, input_name="X")
        # Finite, but too large for sums of squares.
        mean = np.zeros(rows.n_params)
        low, high = X.min(axis=0), X.max(axis=0)
        if sp.issparse(X):
            low, high = low.toarray(), high.toarray()
        deviation = np.maximum(-low, high).ravel().astype(np.float64)
    # A mean of half the deviation costs no digit, and columns that are mostly zero, as
    # those of categories, stay so: the kernels skip zeros.
    centred = np.abs(mean) > 0.5 * deviation
    centred &= fit_intercept and not sp.issparse(X)
    size = np.where(centred, deviation, np.hypot(mean, deviation))
    constant = size <= 8 * np.finfo(np.float64).eps * np.abs(mean)
    # Powers of two: scaling is exact. Tiny columns: l2 * scale**2 must stay finite.
    exponent = np.round(np.log2(np.where(constant, 1.0, size)))
    scale = np.exp2(np.minimum(-exponent, 480.0 if l2 else 1000.0))
    shift = np.where(centred, mean, 0.0)
    penalty = l2 * scale**2 if l2 else np.zeros_like(scale)
    ridge = np.append(penalty, np.zeros(int(fit_intercept)))
    # Whatever is left of a column, its numbers are rounded as they were stored.
    rounding = _unit_rounding(X) * np.hypot(mean, deviation) * scale
    noise = np.append(np.nan_to_num(rounding), np.zeros(int(fit_intercept)))
    columns = Columns(scale, shift, fit_intercept, noise)
    return rows.with_columns(columns), ridge


def _correct_tiny(X: Any, weights: Array, mean: Array, deviation: Array) -> None:
    """Set the moments of columns whose squares have underflowed."""
    tiny = (np.abs(mean) < TINY) & (deviation < TINY)
    for j in np.flatnonzero(tiny):
        x = X[:, [j]].toarray().ravel() if sp.issparse(X) else np.asarray(X[:, j])
        if not np.any(x):
            continue
        x = np.ldexp(x.astype(np.float64), 600)
        center = np.average(x, weights=weights)
        spread = np.sqrt(np.average((x - center) ** 2, weights=weights))
        mean[j], deviation[j] = np.ldexp(center, -600), np.ldexp(spread, -600)


def _unit_rounding(X: Any) -> float:
    """Relative spacing of the numbers of X; integers are exact."""
    # PyTorch has no names.
    name = getattr(X.dtype, "name", str(X.dtype)).rpartition(".")[2]
    return float(np.finfo(name).eps) if "float" in name else 0.0


def _choose(problem: LinearModel) -> Solver:
    """Solver for ``"auto"``."""
    n, d = problem.n_samples, problem.n_params
    intercept = problem.rows.columns.intercept
    sampled = n > SMALL and problem.rows.sampling_pays
    if not problem.convex:
        fraction = max(0.05, 400 * d / n)  # 400 rows for each parameter
        if not sampled or fraction > 0.5:
            return TrustRegion(1.0)
        # A fixed sample has no last digits.
        return SampledStart(TrustRegion(Growing(fraction, 1.5)))
    if d > FORMED_MAX_PARAMS:
        on_host = isinstance(problem.rows, DenseRows | CSRRows)  # single rows are read
        if (
            on_host
            and problem.loss is LOGISTIC
            and np.all(problem.l2[: d - intercept] > 0.0)
        ):
            return DualStartNewton()
        return SubsampledNewton(1.0, linear_solver="cg", max_inner=1000)
    if isinstance(problem.rows, CSRRows) and problem.loss is not SQUARED:
        # Products with so few numbers cost less than the factor of a matrix.
        products = PRODUCTS * problem.rows.n_elements
        firm = float(np.min(problem.l2[: d - intercept], initial=np.inf)) >= FIRM
        if firm and not problem.outputs and 3 * products < d**3:
            return SubsampledNewton(1.0, linear_solver="cg", max_inner=1000)
    if not sampled or n <= 40 * d or problem.loss is SQUARED:
        return SubsampledNewton(1.0)
    return MultilevelNewton()
