"""What the estimators share: checked data, equilibrated columns, a solver by name.

The solvers work on equilibrated columns, centred when there is an intercept and divided
by a power of two near their standard deviation, through `Columns`: the data are not
copied, the objective is the same, and ``tol`` has no unit.
"""

from __future__ import annotations

import difflib
import math
import os
import re
import textwrap
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
import scipy.sparse as sp
import sklearn
from numpy.typing import NDArray
from scipy.linalg import LinAlgWarning
from sklearn.base import BaseEstimator
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import (
    HasMethods,
    Interval,
    InvalidParameterError,
    StrOptions,
)
from sklearn.utils.validation import (
    _check_feature_names,
    _check_n_features,
    _check_sample_weight,
    _check_y,
    assert_all_finite,
    check_consistent_length,
    check_is_fitted,
    validate_data,
)

from subsampled_newton import _archive, _memory
from subsampled_newton._interrupts import quiet
from subsampled_newton._parallel import use_threads
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
from subsampled_newton.kernels.rows import CSR
from subsampled_newton.linear_model import (
    FORMED_MAX_PARAMS,
    LinearModel,
    LinearPoint,
)
from subsampled_newton.losses import LOGISTIC, SQUARED
from subsampled_newton.parameters import check_flag, is_array, is_number, shown
from subsampled_newton.picked import pick, used_rows
from subsampled_newton.problem import FiniteSum
from subsampled_newton.solvers._driver import Solver, _now, minimize
from subsampled_newton.solvers._memory import REMEDY, Sizes, affordable, needs
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
    "LABEL_BYTES",
    "MATRIX",
    "NEWTON_CG",
    "SOLVERS",
    "Account",
    "InferenceMixin",
    "LinearEstimator",
    "better",
    "checked_weights",
    "equilibrated",
    "naming",
    "refuse_matrix",
    "refuse_parameters",
    "seed_of",
    "start_from",
    "validated",
    "weighted",
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
FAR = 1e5
"""Means of sparse columns over their deviation above which they are centred: a Gram
matrix would keep fewer than six digits of the column."""
MATRIX = "an array (n_samples, n_features) of finite real numbers"
LONGEST = 300
"""Characters of an error."""
ALLOWED_TYPES = [np.dtype(code) for code in "dfebBhHiIlLqQ?"]
ALLOWED_TYPES += [dtype.newbyteorder() for dtype in ALLOWED_TYPES if dtype.itemsize > 1]
"""Types that are read where they are; others are converted to the first."""
NEWTON_CG = SubsampledNewton(1.0, linear_solver="cg", max_inner=1000)
LABEL_BYTES = 25
"""Bytes for each label that is sorted, beside two copies of the labels."""
PREDICTION_VECTORS = 4
"""Numbers for each prediction, probabilities with their exponentials included."""
PRODUCTS = 200
"""Operations for each stored number that conjugate gradients may take in a step."""
FIRM = 1e-6
"""Ridge weight from which conjugate gradients need few products."""
LEAST = 2.0**-1000
"""Size of a column from which on its coefficients are finite."""
TINY = 1e-150
"""Numbers whose squares may underflow."""


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

    def _validate_params(self) -> None:
        refuse_parameters(self)
        super()._validate_params()

    def _minimize(self, problem: LinearModel, w0: Array | LinearPoint | None) -> Result:
        """Run the solver that the parameters name."""
        solver = self.solver
        if isinstance(solver, str):
            solver = SOLVERS.get(solver) or _chosen(problem)
        return minimize(
            problem,
            solver,
            w0,
            tol=self.tol,
            max_iter=self.max_iter,
            progress=bool(self.verbose),
            seed=seed_of(self.random_state),
        )

    def _require(
        self, X: Any, outputs: int, n_bytes: int = 0, *, bound: bool = False
    ) -> None:
        """Raise MemoryError where a fit needs too much, before it takes anything.

        ``n_bytes`` is what the estimator keeps beside the problem, ``bound`` whether
        it is convex with a ridge. ``"auto"`` counts as the method that needs least: it
        takes that one if need be.
        """
        solver = self.solver
        if isinstance(solver, str):
            solver = self._by_name(solver) or NEWTON_CG
        if on_device(X):
            rows = as_rows(X)
        else:  # not checked: for its sizes only
            rows = CSRRows(X) if sp.issparse(X) else DenseRows(X)
        more = int(self.fit_intercept)
        sizes = Sizes.of_rows(rows, outputs, more, bound=bound)
        if self.device == "cuda":
            sizes = sizes._replace(on_device=True)
        with use_threads(self.n_jobs):
            parts = needs(sizes, solver)
        _memory.require(
            parts.vectors + parts.asked + n_bytes,
            f"{type(self).__name__} with solver={self.solver!r} on {rows.n_rows:,} "
            f"rows and {rows.n_params:,} columns",
            REMEDY,
        )

    def _by_name(self, name: str) -> Solver | None:
        """Solver of a name; None for ``"auto"``."""
        return SOLVERS.get(name)

    @property
    def _shifts_sparse(self) -> bool:
        """Whether the solver takes centred sparse rows: not if it reads single ones."""
        solver = self.solver
        if isinstance(solver, str):
            solver = SOLVERS.get(solver)
        if isinstance(solver, SampledStart):
            solver = solver.solver
        return not isinstance(solver, SAG | SAGA | SVRG | SDCA | SGD | DualStartNewton)

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
        # One number stands for those of all targets where none is fitted.
        intercept = np.broadcast_to(self.intercept_, shape[:-1]).astype(np.float64)
        if not (np.all(np.isfinite(coef)) and np.all(np.isfinite(intercept))):
            return None
        return coef, intercept * self.fit_intercept

    def _finish(self, result: Result) -> None:
        """Set what tells how the fit went, and warn when it did not converge."""
        self.result_ = result.detached()
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
            If a parameter cannot be stored, as a solver or random generator of your
            own, or an attribute that `load` would refuse. An existing file is as it
            was, then.
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
        X = _unwrapped(X)
        with naming("X", MATRIX):
            refuse_matrix(X)
            X = validate_data(
                self, X, reset=False, accept_sparse="csr", dtype=ALLOWED_TYPES
            )
        coef, n = self.coef_.T, X.shape[0]
        _memory.require(
            8.0 * PREDICTION_VECTORS * n * coef[0].size,
            f"predictions for {n:,} rows",
            "predict for fewer rows at a time",
        )
        ordered = sp.issparse(X) or X.flags.c_contiguous or X.flags.f_contiguous
        if X.dtype == np.float64 and ordered:
            z: Array = X @ coef
        else:  # block by block: no copy of X in float64
            z = np.empty((n, *coef.shape[1:]))
            for lo in range(0, n, CHUNK):
                z[lo : lo + CHUNK] = X[lo : lo + CHUNK].astype(np.float64) @ coef
        z += self.intercept_
        return z

    def _predictor_on_device(self, X: Any) -> Array:
        """The same for rows on a GPU, read there; the predictions come to the host."""
        rows = as_rows(X)
        with naming("X", MATRIX):
            _check_n_features(self, X, reset=False)
        d = rows.n_params
        plain = Columns(np.ones(d), np.zeros(d), intercept=True)
        coef = np.atleast_2d(self.coef_)
        constants = np.broadcast_to(self.intercept_, len(coef))
        W = np.column_stack([coef, constants])
        z = np.asarray(rows.with_columns(plain).class_predictions(W)).T
        if not np.all(np.isfinite(z)):
            with naming("X", MATRIX):
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
            rows. Weights that are inverse variances, known up to a factor, count as n
            rows when they have been divided by their mean before the fit.
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
        check_flag("sandwich", sandwich)
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


class Account:
    """What a fit costs from now on: its runs and all that is done beside them."""

    def __init__(self, problem: FiniteSum) -> None:
        self.problem, self.clock = problem, _now()
        self.rows_read, self.props = problem.work.rows_read, problem.work.props

    def of(self, result: Result) -> Result:
        """Result with all of the cost."""
        work = self.problem.work
        return replace(
            result,
            seconds=_now() - self.clock,
            passes=(work.rows_read - self.rows_read) / self.problem.n_samples,
            props=1 + work.props - self.props,
        )


def seed_of(random_state: Any) -> int:
    """Seed of a fit: the same one in every run where the user names none."""
    if random_state is None:
        return 0
    return int(check_random_state(random_state).randint(2**31 - 1))


def start_from(problem: LinearModel, last: Array | None) -> LinearPoint | None:
    """Where a warm start begins; None for zero, if F is no larger there.

    The last solution, or where other data make it worse than zero, the same
    coefficients with predictions of mean zero: shifted columns change no more than
    that. Its evaluation is that of the first iterate, ``F(0)`` needs no read.
    """
    if last is None or not np.all(np.isfinite(last)):
        return None
    with quiet(over="ignore", invalid="ignore"):
        point, at_zero = problem.at(last), problem.value_at_zero()
        if point.value <= at_zero:
            return point
        if not problem.rows.columns.intercept:
            return None
        W = problem.coefficients(last).copy()
        z = np.atleast_2d(np.asarray(point.z))
        W[:, -1] -= z @ np.asarray(problem.weights) / problem.n_samples
        if not np.all(np.isfinite(W)):
            return None
        point = problem.at(problem.parameters(W))
        return point if point.value <= at_zero else None


def better(first: Result, second: Result) -> Result:
    """Return the one of two results that converged, or else the lower one."""
    return min(
        first,
        second,
        key=lambda r: (not r.converged, not np.isfinite(r.value), r.value),
    )


def refuse_parameters(estimator: Any) -> None:
    """Say in few words what scikit-learn would say in many."""
    what = f"The 'solver' parameter of {type(estimator).__name__}"
    solver, names = estimator.solver, estimator._parameter_constraints["solver"][0]
    if isinstance(solver, str):
        if solver not in names.options:
            close = difflib.get_close_matches(solver, names.options, 3, 0.5)
            hint = f", perhaps {' or '.join(map(repr, close))}" if close else ""
            raise InvalidParameterError(
                f"{what} must be 'auto', another name of the table in the README, or a "
                f"solver object as SubsampledNewton(). Got {shown(solver)}{hint}."
            )
    elif isinstance(solver, type) or not hasattr(solver, "step"):
        raise InvalidParameterError(
            f"{what} must be a name as 'auto' or 'lbfgs', or a solver object as "
            f"SubsampledNewton(). Got {shown(solver)} instead."
        )
    for name in estimator._parameter_constraints:
        value = getattr(estimator, name)
        if is_array(value) and name != "start":  # others compare entry by entry
            raise InvalidParameterError(
                f"{name} must not be an array, got {shown(value)}"
            )


def validated(estimator: Any, X: Any, y: Any, **kwargs: Any) -> tuple[Any, Any]:
    """Check everything but the finiteness of X, which the first read of it decides."""
    if on_device(y):
        y = host_array(y)
    X = _unwrapped(X)
    reset = kwargs.pop("reset", True)
    with naming("X", MATRIX):
        if on_device(X):
            as_rows(X)  # its type and shape
            _check_n_features(estimator, X, reset=reset)
            _check_feature_names(estimator, X, reset=reset)
        else:
            refuse_matrix(X, known_csr=True)
            _require_conversion(X)
            X = validate_data(
                estimator,
                X,
                reset=reset,
                accept_sparse=kwargs.pop("accept_sparse", "csr"),
                dtype=ALLOWED_TYPES,
                ensure_all_finite=kwargs.pop("ensure_all_finite", False),
            )
    y = _checked_target(estimator, y, **kwargs)
    with naming("X and y", "as many rows"):
        check_consistent_length(X, y)
    return X, y


def _checked_target(estimator: Any, y: Any, **kwargs: Any) -> Any:
    """Targets as scikit-learn checks them, by their name."""
    if isinstance(y, np.ma.MaskedArray) and np.ma.is_masked(y):
        raise ValueError("y has masked entries: fill them or leave the rows out")
    what = "finite numbers" if kwargs.get("y_numeric") else "labels of classes"
    several = " or (n_samples, n_targets)" if kwargs.get("multi_output") else ""
    with naming("y", f"an array (n_samples,){several} of {what}"):
        if y is None:
            name = type(estimator).__name__
            raise ValueError(
                f"This {name} estimator requires y to be passed, but the target y is "
                "None."
            )
        if not hasattr(y, "dtype") and not hasattr(y, "iloc"):
            y = np.asarray(y)
            if y.ndim == 0:
                raise TypeError(f"got {shown(y[()])}")
        kind = getattr(getattr(y, "dtype", None), "kind", "")
        wrong = "cmMVSU" if kwargs.get("y_numeric") else "cmMV"
        # Dates and spans of time would pass as numbers of nanoseconds.
        if kind and kind in wrong:
            raise TypeError(f"got dtype {y.dtype}")
        checked = _check_y(y, estimator=estimator, **kwargs)
        assert_all_finite(checked, input_name="y")
    return checked


def _unwrapped(X: Any) -> Any:
    """Return the matrix of rows that `as_rows` has made of it; others as they are."""
    if not isinstance(X, Rows):
        return X
    if not isinstance(X, DenseRows | CSRRows):
        raise TypeError(
            f"X must be an array or a sparse matrix, got {type(X).__name__}: pass the "
            "array itself"
        )
    columns = X.columns
    if columns.intercept or np.any(columns.shift) or np.any(columns.scale != 1.0):
        raise ValueError(
            "X must be rows with plain columns, as as_rows makes them, got columns "
            "that are shifted, scaled or followed by an intercept"
        )
    return X.stored


def _require_conversion(X: Any) -> None:
    """Refuse what has to be converted, to float64 or CSR, and does not fit then."""
    if sp.issparse(X):
        known = X.format == "csr" and X.dtype in ALLOWED_TYPES
        n_bytes = 0 if known else 2 * 12 * X.nnz + 8 * sum(X.shape)
    elif isinstance(X, list | tuple):
        n_bytes = (
            8 * len(X) * (len(X[0]) if X and isinstance(X[0], list | tuple) else 1)
        )
    else:
        types = {*getattr(X, "dtypes", [getattr(X, "dtype", object)])}
        known = len(types) == 1 and types <= {*ALLOWED_TYPES}
        n_bytes = 0 if known else 8 * math.prod(getattr(X, "shape", ()))
    _memory.require(
        n_bytes,
        "X, which has to be converted,",
        "pass an array of numbers or a CSR matrix, which is used in place",
    )


def refuse_matrix(X: Any, known_csr: bool = False) -> None:
    """Refuse what scikit-learn would take for other numbers, or crash on."""
    names = ("shape", "__len__", "__array__")
    if (isinstance(X, str | dict | set) and not sp.issparse(X)) or not any(
        hasattr(X, name) for name in names
    ):
        raise TypeError(f"got {shown(X)}")
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
def naming(name: str, allowed: str) -> Iterator[None]:
    """Add to an error which argument it is about and what that may be."""
    try:
        with quiet(), _without_dispatch():  # scikit-learn changes NumPy's warnings
            yield
    except (TypeError, ValueError) as error:
        text = str(error)
        if not text.startswith(f"{name} must"):
            # The array itself, which some errors show, and advice of other packages.
            text = re.sub(r"array=.*?\.$", "", text, flags=re.S | re.M)
            text = re.split(r"\n[\[<]|\n\w+ does not accept", text)[0]
            text = f"{name} must be {allowed}: {text}"
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(textwrap.shorten(text, LONGEST, placeholder=" ...")) from error


def _without_dispatch() -> AbstractContextManager[Any]:
    """Take arrays of other libraries as NumPy's: the kernels read those alone."""
    if sklearn.get_config().get("array_api_dispatch"):
        context: AbstractContextManager[Any] = sklearn.config_context(
            array_api_dispatch=False
        )
        return context
    return nullcontext()


def checked_weights(sample_weight: Any, X: Any) -> Array:
    if on_device(sample_weight):
        sample_weight = host_array(sample_weight)
    allowed = "an array (n_samples,) of finite numbers >= 0, not all of them 0"
    with naming("sample_weight", allowed):
        array = not is_number(sample_weight) and not hasattr(sample_weight, "iloc")
        if sample_weight is not None and array:
            given, sample_weight = sample_weight, np.asarray(sample_weight)
            if sample_weight.dtype.kind not in "fiubO":
                many = sample_weight.ndim > 0
                came = f"dtype {sample_weight.dtype}" if many else shown(given)
                raise TypeError(f"got {came}")
            if sample_weight.ndim > 1:
                raise ValueError(f"got shape {sample_weight.shape}")
        weights: Array = _check_sample_weight(
            sample_weight, X, dtype=np.float64, ensure_non_negative=True
        )
        if not np.any(weights):
            raise ValueError("got only zeros")
    return weights


def weighted(
    X: Any, y: Any, weights: Array, device: str = "cpu"
) -> tuple[Rows, Any, Array]:
    """Rows, targets and weights of the samples whose weight is not 0."""
    rows = as_rows(X, device="cuda" if device == "cuda" else None)
    kept = used_rows(weights)
    if kept is None:
        return rows, y, weights
    return pick(rows, kept), y[kept], weights[kept]


def equilibrated(
    rows: Rows,
    weights: Array,
    fit_intercept: bool,
    l2: float,
    sparse_shift: bool = True,
) -> tuple[Rows, Array]:
    """Rows whose columns have size one, and small means unless that made them dense.

    Also returns the ridge weights of their coefficients that amount to ``l2`` on those
    of the given columns. The weights are positive. With ``sparse_shift`` sparse columns
    very far from zero are centred: their products are as slow as those of dense rows.
    """
    with quiet(over="ignore", invalid="ignore"):
        mean, deviation = rows.column_moments(weights)
    if rows.device_bytes == 0:
        _correct_tiny(rows, weights, mean, deviation)
    if not (np.all(np.isfinite(mean)) and np.all(np.isfinite(deviation))):
        # If it is finite, it is too large for sums of squares.
        mean, deviation = np.zeros(rows.n_params), _largest(rows.on_host())
    # A mean of half the deviation costs no digit, and columns that are mostly zero, as
    # those of categories, stay so: the kernels skip zeros. What is sparse stays so.
    ratio, exact = 0.5, True
    if rows.layout is CSR:
        exact = rows.device_bytes == 0  # deviations there are differences of squares
        ratio = FAR if sparse_shift and exact else np.inf
    with quiet(over="ignore", invalid="ignore"):
        centred = fit_intercept & (np.abs(mean) > ratio * deviation)
    size = np.where(centred, deviation, np.hypot(mean, deviation))
    # With an intercept a constant column is none: its rounding would be noise that the
    # intercept has to balance.
    spread = deviation if fit_intercept and exact else size
    constant = spread <= 8 * np.finfo(np.float64).eps * np.abs(mean)
    # The coefficients of columns of subnormal numbers would be infinite.
    constant |= size < LEAST
    # Powers of two: scaling is exact. Tiny columns: l2 * scale**2 must stay finite.
    exponent = np.round(np.log2(np.where(constant, 1.0, size)))
    scale = np.exp2(np.minimum(-exponent, 480.0 if l2 else 1000.0))
    shift = np.where(centred & ~constant, mean, 0.0)
    penalty = l2 * scale**2 if l2 else np.zeros_like(scale)
    ridge = np.append(penalty, np.zeros(int(fit_intercept)))
    scale[constant] = 0.0
    # Whatever is left of a column, its numbers are rounded as they were stored.
    rounding = _unit_rounding(rows.dtype) * np.hypot(mean, deviation) * scale
    noise = np.append(np.nan_to_num(rounding), np.zeros(int(fit_intercept)))
    columns = Columns(scale, shift, fit_intercept, noise)
    return rows.with_columns(columns), ridge


def _correct_tiny(rows: Rows, weights: Array, mean: Array, deviation: Array) -> None:
    """Set the moments of columns whose squares have underflowed."""
    small = (np.abs(mean) < TINY) & (deviation < TINY)
    if not np.any(small):
        return
    tiny = np.flatnonzero(small & (_largest(rows) > 0.0))
    if len(tiny) == 0:
        return
    x = np.empty((rows.n_rows, len(tiny)))
    for lo in range(0, rows.n_rows, CHUNK):
        block = rows._block(lo, min(lo + CHUNK, rows.n_rows))[:, tiny]
        x[lo : lo + CHUNK] = block.toarray() if sp.issparse(block) else block
    x = np.ldexp(x, 600)
    center = np.average(x, axis=0, weights=weights)
    spread = np.sqrt(np.average((x - center) ** 2, axis=0, weights=weights))
    mean[tiny], deviation[tiny] = np.ldexp(center, -600), np.ldexp(spread, -600)


def _unit_rounding(dtype: Any) -> float:
    """Relative spacing of numbers of a type; integers are exact."""
    # PyTorch has no names.
    name = getattr(dtype, "name", str(dtype)).rpartition(".")[2]
    return float(np.finfo(name).eps) if "float" in name else 0.0


def _largest(rows: Rows) -> Array:
    """Largest absolute values of the columns; X has to be finite."""
    largest = np.zeros(rows.n_params)
    for lo in range(0, rows.n_rows, CHUNK):
        block = rows._block(lo, min(lo + CHUNK, rows.n_rows))
        block = block.astype(np.float64, copy=False)  # integers may have no negative
        with naming("X", MATRIX):
            assert_all_finite(block, input_name="X")
        highest = abs(block).max(axis=0)
        if sp.issparse(block):
            highest = highest.toarray().ravel()
        largest = np.maximum(largest, highest)
    return largest


def _chosen(problem: LinearModel) -> Solver:
    """Solver for ``"auto"``, or one that needs less memory where that does not fit."""
    solver = _choose(problem)
    if affordable(problem, solver):
        return solver
    if not problem.convex:
        return TrustRegion(1.0)
    # Newton's method says so if it has to go on without a matrix.
    return SubsampledNewton(1.0) if problem.n_params <= FORMED_MAX_PARAMS else NEWTON_CG


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
            and not (problem.rows.layout is CSR and np.any(problem.rows.columns.shift))
            and problem.loss is LOGISTIC
            and np.all(problem.l2[: d - intercept] > 0.0)
        ):
            return DualStartNewton()
        return NEWTON_CG
    if isinstance(problem.rows, CSRRows) and problem.loss is not SQUARED:
        # Products with so few numbers cost less than the factor of a matrix.
        products = PRODUCTS * problem.rows.n_elements
        firm = float(np.min(problem.l2[: d - intercept], initial=np.inf)) >= FIRM
        if firm and not problem.outputs and 3 * products < d**3:
            return NEWTON_CG
    if not sampled or n <= 40 * d or problem.loss is SQUARED:
        return SubsampledNewton(1.0)
    return MultilevelNewton()
