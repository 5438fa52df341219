"""Linear classifiers: logistic regression, and least squares of a sigmoid."""

from __future__ import annotations

from dataclasses import replace
from numbers import Integral, Real
from typing import Any, ClassVar, Self

import numpy as np
import scipy.special
from numpy.typing import NDArray
from sklearn.base import ClassifierMixin, _fit_context
from sklearn.utils import check_random_state, compute_class_weight
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.multiclass import check_classification_targets

from subsampled_newton._interrupts import quiet
from subsampled_newton._parallel import use_threads
from subsampled_newton.data import Rows, host_array, on_device
from subsampled_newton.estimators._base import (
    InferenceMixin,
    LinearEstimator,
    checked_weights,
    equilibrated,
    validated,
)
from subsampled_newton.estimators._row_space import RowSpace, row_space
from subsampled_newton.linear_model import LinearModel
from subsampled_newton.losses import LOGISTIC, SIGMOID_SQUARED
from subsampled_newton.separation import separable
from subsampled_newton.softmax_model import SoftmaxModel
from subsampled_newton.solvers._driver import Solver
from subsampled_newton.solvers._result import Result, Status

__all__ = ["LinearClassifier", "LogisticRegression", "SigmoidLeastSquaresClassifier"]

Array = NDArray[np.float64]


class LinearClassifier(ClassifierMixin, LinearEstimator):  # type: ignore[misc]
    """What the classifiers share: labels, weights, predictions."""

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **LinearEstimator._parameter_constraints,
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
        device: str = "cpu",
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
        self.device = device
        self.verbose = verbose

    _reducible: ClassVar[bool] = False
    """Whether the problem may be solved in coordinates of the row space."""

    def _problem(
        self, rows: Rows, codes: NDArray[np.intp], ridge: Array, weights: Array
    ) -> LinearModel:
        """Objective of the classes 0, 1, ..."""
        raise NotImplementedError

    @_fit_context(prefer_skip_nested_validation=True)  # type: ignore[untyped-decorator]
    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Fit the model.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features)
            float64 and float32 data in any memory order and CSR matrices are used
            without a copy, and so are arrays on a GPU (CuPy, PyTorch), there.
        y : array-like of shape (n_samples,)
            Labels of two or more classes, numbers or strings.
        sample_weight : array-like of shape (n_samples,), optional
            Weights >= 0; weight 0 removes a row, weight k repeats it.

        Returns
        -------
        Self
            The estimator.

        Raises
        ------
        KeyboardInterrupt
            As it comes; the last iterate is kept then, if there is one.
        """
        X, y = validated(self, X, y)
        problem, best = None, None
        try:
            problem, w0, l2 = self._prepared(X, y, sample_weight)
            with quiet(), use_threads(self.n_jobs):
                result = best = self._minimize(problem, w0)
                failed = not result.converged
                if l2 == 0.0 and separable(problem, result.w, failed=failed):
                    result = replace(result, status=Status.SEPARABLE)
                else:
                    result = self._assured(problem, result)
            self._keep(problem, result)
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                best = getattr(error, "result", best)
            if problem is not None and best is not None:
                self._keep(problem, best)
            else:  # labels of these data and coefficients of others are no model
                self.__dict__.pop("coef_", None)
            raise
        self._finish(self.result_)
        return self

    def _prepared(
        self, X: Any, y: Any, sample_weight: Any
    ) -> tuple[LinearModel, Array | None, float]:
        """Problem, start and weight of the ridge for checked data."""
        self.classes_, codes = _classes(y)
        weights, l2 = self._weighted(X, y, codes, sample_weight)
        with quiet(), use_threads(self.n_jobs):
            rows, ridge = equilibrated(X, weights, self.fit_intercept, l2, self.device)
            columns, K = rows.columns, len(self.classes_)
            raw = self._last_solution((1 if K == 2 else K, X.shape[1]))
            start = None
            if raw is not None:
                pairs = zip(*raw, strict=True)
                start = np.array([columns.from_raw(*pair) for pair in pairs])
            space = None
            if self._reducible and self.solver == "auto" and start is None:
                space = row_space(rows, ridge, weights)
            if space is not None:
                rows, ridge = space.rows, space.ridge
            problem = self._problem(rows, codes, ridge, weights)
            problem.space = space  # type: ignore[attr-defined]
        return problem, None if start is None else problem.parameters(start), l2

    def _keep(self, problem: LinearModel, result: Result) -> None:
        """Set what the fit has found, at once."""
        columns, W = problem.rows.columns, problem.coefficients(result.w)
        space: RowSpace | None = getattr(problem, "space", None)
        if space is not None:
            columns, result = space, space.expanded(result)  # type: ignore[assignment]
        coef, intercept = zip(*(columns.to_raw(w) for w in W), strict=True)
        self.__dict__.update(
            coef_=np.array(coef),
            intercept_=np.array(intercept),
            n_iter_=np.array([result.n_iter], dtype=np.int32),
            result_=result,
            history_=result.trace.as_dict(),
        )

    def _weighted(
        self, X: Any, y: Any, codes: NDArray[np.intp], sample_weight: Any
    ) -> tuple[Array, float]:
        """Weights of the rows, those of the classes included, and of the ridge."""
        weights = checked_weights(sample_weight, X)
        _check_every_class(self.classes_, codes, weights)
        if self.class_weight is not None:
            by_class = compute_class_weight(
                self.class_weight, classes=self.classes_, y=y
            )
            weights = weights * by_class[codes]
        l2 = 1.0 / (self.C * weights.sum()) if self.alpha is None else self.alpha
        return weights, float(l2)

    def decision_function(self, X: Any) -> Array:
        """Return ``x'w + b`` for every row, one column per class if more than two.

        Two classes: above 0 for ``classes_[1]``.
        """
        z = self._predictor(X)
        return z[:, 0] if len(self.classes_) == 2 else z

    def predict(self, X: Any) -> NDArray[Any]:
        """Return the label of every row."""
        z = self.decision_function(X)
        codes = z.argmax(axis=1) if z.ndim == 2 else (z > 0.0).astype(int)
        labels: NDArray[Any] = self.classes_[codes]
        return labels

    def predict_proba(self, X: Any) -> Array:
        """Return the probabilities (n_samples, n_classes) of ``classes_``."""
        z = self.decision_function(X)
        if z.ndim == 2:
            p: Array = scipy.special.softmax(z, axis=1)
            return p
        return np.column_stack([scipy.special.expit(-z), scipy.special.expit(z)])

    def predict_log_proba(self, X: Any) -> Array:
        """Return the logarithms of the probabilities, exact also for tiny ones."""
        z = self.decision_function(X)
        if z.ndim == 2:
            p: Array = scipy.special.log_softmax(z, axis=1)
            return p
        return np.column_stack(
            [scipy.special.log_expit(-z), scipy.special.log_expit(z)]
        )


class LogisticRegression(InferenceMixin, LinearClassifier):
    """Logistic regression with an L2 penalty, solved to the exact minimizer.

    Two classes: minimizes
    ``(1/W) sum_i s_i log(1 + exp(-y_i (x_i'w + b))) + (alpha/2) ||w||**2``, where W is
    the sum of the weights ``s_i``. More classes: the multinomial (softmax) loss
    ``log sum_k exp(z_ik) - z_iy_i`` with ``z_ik = x_i'w_k + b_k``, and
    ``(alpha/2) sum_k ||w_k||**2``. Intercepts are never penalised; those of several
    classes sum to zero, as coefficients without a penalty do.

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
        are many, conjugate gradients when the columns are. The other names are the
        keys of `SOLVERS`, in the table of the README; some are not for every problem
        and say so. Or a solver object with parameters of your own.
    class_weight : dict or "balanced", optional
        Weights of the classes; "balanced" makes them inverse to the frequencies.
    warm_start : bool, default False
        Start from the last solution.
    random_state : int, RandomState or None, default None
        Seed of the samples of rows. The minimizer does not depend on it beyond ``tol``.
    n_jobs : int, optional
        Threads; -1 for all. Default: ``SUBSAMPLED_NEWTON_NUM_THREADS`` or all. The
        result does not depend on it.
    device : {"cpu", "cuda"}, default "cpu"
        Where to fit. ``"cuda"`` copies X to an NVIDIA GPU, for the time of the fit
        (extra ``cuda``), or reads it in parts if it does not fit. X that is on a GPU is
        used there in any case. Solvers that read single rows (SAG, SAGA, SVRG, SDCA,
        SGD) need the CPU.
    verbose : int, default 0
        Above 0, show a progress bar (needs tqdm).

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Labels, sorted.
    coef_ : ndarray of shape (1, n_features) or (n_classes, n_features)
        Coefficients; one row for two classes. float64 also for float32 data: rounding
        them would undo the fit where columns are far from 0 or nearly dependent.
    intercept_ : ndarray of shape (1,) or (n_classes,)
        Intercepts.
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

    _reducible = True

    def _problem(
        self, rows: Rows, codes: NDArray[np.intp], ridge: Array, weights: Array
    ) -> LinearModel:
        K = len(self.classes_)
        if K == 2:
            y = 2.0 * codes - 1.0
            return LinearModel(LOGISTIC, rows, y, l2=ridge, sample_weight=weights)
        return SoftmaxModel(rows, codes, n_classes=K, l2=ridge, sample_weight=weights)

    def _penalised(self) -> str:
        if self.alpha is None:
            free = np.isinf(self.C)
            return "" if free else f"C must be inf, got {self.C!r}"
        return f"alpha must be 0, got {self.alpha!r}" if self.alpha else ""

    def _fitted_problem(
        self, X: Any, y: Any, sample_weight: Any
    ) -> tuple[LinearModel, Array, Array, float]:
        X, y = validated(self, X, y, reset=False)
        if on_device(X):
            X = host_array(X)  # factors of the rows are made on the host
        codes = np.searchsorted(self.classes_, y).clip(max=len(self.classes_) - 1)
        if not np.all(self.classes_[codes] == y):
            raise ValueError("y has labels that the fit has not seen")
        weights, l2 = self._weighted(X, y, codes, sample_weight)
        rows, ridge = equilibrated(X, weights, self.fit_intercept, l2)
        problem = self._problem(rows, codes, ridge, weights)
        pairs = zip(self.coef_, self.intercept_, strict=True)
        W = np.array([rows.columns.from_raw(*pair) for pair in pairs])
        estimate = self.coef_
        if self.fit_intercept:
            estimate = np.column_stack([estimate, self.intercept_])
        if len(estimate) == 1:
            estimate = estimate[0]
        return problem, problem.parameters(W), estimate, float(weights.sum())


class SigmoidLeastSquaresClassifier(LinearClassifier):
    """Two classes by nonlinear least squares of a sigmoid, a non-convex problem.

    Looks for a minimizer of
    ``(1/W) sum_i s_i (sigmoid(x_i'w + b) - y_i)**2 + (alpha/2) ||w||**2`` with y = 0 or
    1, the model of the experiments with sub-sampled trust-region and cubic methods
    [1]_. A bounded loss: rows with a wrong label have a limited influence. The result
    is a local minimizer, with a certificate of the second-order conditions in
    ``result_.certificate``; nobody promises the global one.

    Parameters
    ----------
    n_init : int, default 1
        Starts: zero, then Gaussian ones of size one; the best result is kept.
    C, alpha, fit_intercept, tol, max_iter, class_weight, warm_start, random_state
        As in `LogisticRegression`.
    n_jobs, device, verbose
        As in `LogisticRegression`.
    solver : str or Solver, default "auto"
        ``"auto"``: `TrustRegion` with the full Hessian when the rows are few, with a
        sample that grows by half in every iteration when they are many. See `SOLVERS`
        for the others.

    Attributes
    ----------
    classes_, coef_, intercept_, n_iter_, result_, history_, n_features_in_
        As in `LogisticRegression` for two classes.

    References
    ----------
    .. [1] P. Xu, F. Roosta, M. W. Mahoney, Second-order optimization for non-convex
       machine learning: an empirical study, SDM 2020.

    Examples
    --------
    >>> from sklearn.datasets import load_breast_cancer
    >>> from subsampled_newton import SigmoidLeastSquaresClassifier
    >>> X, y = load_breast_cancer(return_X_y=True)
    >>> model = SigmoidLeastSquaresClassifier().fit(X, y)
    >>> model.result_.certificate.ok
    True
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **LinearClassifier._parameter_constraints,
        "n_init": [Interval(Integral, 1, None, closed="left")],
    }

    def __init__(
        self,
        *,
        n_init: int = 1,
        C: float = 1.0,
        alpha: float | None = None,
        fit_intercept: bool = True,
        tol: float = 1e-8,
        max_iter: int = 500,
        solver: str | Solver = "auto",
        class_weight: dict[Any, float] | str | None = None,
        warm_start: bool = False,
        random_state: Any = None,
        n_jobs: int | None = None,
        device: str = "cpu",
        verbose: int = 0,
    ) -> None:
        super().__init__(
            C=C,
            alpha=alpha,
            fit_intercept=fit_intercept,
            tol=tol,
            max_iter=max_iter,
            solver=solver,
            class_weight=class_weight,
            warm_start=warm_start,
            random_state=random_state,
            n_jobs=n_jobs,
            device=device,
            verbose=verbose,
        )
        self.n_init = n_init

    def _problem(
        self, rows: Rows, codes: NDArray[np.intp], ridge: Array, weights: Array
    ) -> LinearModel:
        if len(self.classes_) > 2:
            raise ValueError(
                "Only binary classification is supported. The type of the target is "
                "multiclass."
            )
        y = codes.astype(np.float64)
        return LinearModel(SIGMOID_SQUARED, rows, y, l2=ridge, sample_weight=weights)

    def _minimize(self, problem: LinearModel, w0: Array | None) -> Result:
        best = super()._minimize(problem, w0)
        rng = np.random.default_rng(
            check_random_state(self.random_state).randint(2**31 - 1)
        )
        for _ in range(1, self.n_init):
            start = rng.standard_normal(problem.n_params) / np.sqrt(problem.n_params)
            result = super()._minimize(problem, start)
            best = min(best, result, key=lambda r: (not r.converged, r.value))
        return best

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_class = False
        return tags


def _classes(y: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.intp]]:
    """Sorted labels and the position of every entry of y among them."""
    if y.dtype.kind in "biu" or (y.dtype.kind == "f" and np.all(y == np.rint(y))):
        # The common cases without a sort, which costs more than two reads of the data.
        low, high = y.min(), y.max()
        if np.all((y == high) | (y == low)):
            labels = np.array([low, high] if low < high else [low])
            return labels, (y != low).astype(np.intp)
        if y.dtype.kind in "iu" and low >= 0 and high < min(1000, len(y)):
            used = np.bincount(y) > 0
            return np.flatnonzero(used).astype(y.dtype), (np.cumsum(used) - 1)[y]
    check_classification_targets(y)
    labels, codes = np.unique(y, return_inverse=True)
    return labels, codes


def _check_every_class(
    classes: NDArray[Any], codes: NDArray[np.intp], weights: Array
) -> None:
    """A class without weight would have an intercept of minus infinity."""
    mass = np.bincount(codes, weights, minlength=len(classes))
    if np.sum(mass > 0.0) < 2:
        raise ValueError(
            "y must hold two classes or more with rows of positive weight, got one "
            f"class: {classes[mass > 0.0]!r}"
        )
    if np.any(mass == 0.0):
        raise ValueError(
            "sample_weight must be positive for a row of every class of y, but it is 0 "
            f"for all rows of {classes[mass == 0.0]!r}: leave these rows out"
        )
