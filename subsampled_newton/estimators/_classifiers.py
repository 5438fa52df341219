"""Linear classifiers: logistic regression, and least squares of a sigmoid."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any, ClassVar, Self

import numpy as np
import scipy.special
from numpy.typing import NDArray
from sklearn.base import ClassifierMixin, _fit_context
from sklearn.utils import compute_class_weight
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.multiclass import check_classification_targets

from subsampled_newton import _memory
from subsampled_newton._interrupts import quiet
from subsampled_newton._parallel import use_threads
from subsampled_newton.data import Rows, host_array, on_device
from subsampled_newton.estimators._base import (
    LABEL_BYTES,
    Account,
    InferenceMixin,
    LinearEstimator,
    better,
    checked_weights,
    equilibrated,
    naming,
    seed_of,
    start_from,
    validated,
    weighted,
)
from subsampled_newton.estimators._row_space import RowSpace, row_space
from subsampled_newton.linear_model import LinearModel, LinearPoint
from subsampled_newton.losses import LOGISTIC, SIGMOID_SQUARED
from subsampled_newton.parameters import is_number, shown
from subsampled_newton.picked import used_rows
from subsampled_newton.softmax_model import SoftmaxModel
from subsampled_newton.solvers._driver import Solver
from subsampled_newton.solvers._result import Result, Status
from subsampled_newton.solvers.multistart import best_of

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

    C: float
    alpha: float | None
    class_weight: dict[Any, float] | str | None

    def _validate_params(self) -> None:
        super()._validate_params()
        same = bool(np.isinf(self.C)) and self.alpha == 0.0
        if self.alpha is not None and self.C != 1.0 and not same:
            raise ValueError(
                "C and alpha must not both be given, two sizes of one penalty, got "
                f"C={self.C!r} and alpha={self.alpha!r}: leave out one"
            )
        if isinstance(self.class_weight, dict):
            for label, weight in self.class_weight.items():
                if not is_number(weight) or not 0.0 <= weight < np.inf:
                    raise ValueError(
                        "class_weight must hold finite numbers >= 0, got "
                        f"{shown(weight)} for {shown(label)}"
                    )

    _convex: ClassVar[bool] = True

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
            Arrays of real numbers in any memory order and CSR matrices are used
            without a copy, and so are arrays on a GPU (CuPy, PyTorch), there.
        y : array-like of shape (n_samples,)
            Labels of two or more classes, numbers or strings.
        sample_weight : array-like of shape (n_samples,), optional
            Weights >= 0; weight 0 removes a row, whatever it holds, weight k repeats
            it. A label without a row of positive weight is not in ``classes_``.

        Returns
        -------
        Self
            The estimator.

        Raises
        ------
        KeyboardInterrupt
            As it comes; the last iterate is kept then, if there is one.
        MemoryError
            If the fit needs more memory than is available, before it takes any.
        """
        X, y = validated(self, X, y)
        problem, space, found = None, None, list[Result]()
        try:
            problem, last, space = self._prepared(X, y, sample_weight)
            with quiet(), use_threads(self.n_jobs):
                result = self._solved(problem, last, found)
            self._keep(problem, result, space)
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt) and hasattr(error, "result"):
                found.append(error.result)
            if problem is not None and found:
                self._keep(problem, found[-1], space)
            else:  # labels of these data and coefficients of others are no model
                self.__dict__.pop("coef_", None)
            raise
        self._finish(self.result_)
        return self

    def _solved(
        self, problem: LinearModel, last: Array | None, found: list[Result]
    ) -> Result:
        """Result of the fit; what it has found so far is added to a list."""
        account = Account(problem)
        start = start_from(problem, last)
        result = self._judged(problem, start, found)
        # No warm start is worse than a cold one.
        final = result.converged or result.status is Status.SEPARABLE
        if start is not None and problem.convex and not final:
            result = better(result, self._judged(problem, None, found))
        return account.of(result)

    def _judged(
        self, problem: LinearModel, start: LinearPoint | None, found: list[Result]
    ) -> Result:
        """Result from one start, with a status that says what it is."""
        result = self._minimize(problem, start)
        found.append(result)
        if result.status is Status.SEPARABLE:
            return result
        return self._assured(problem, result)

    def _prepared(
        self, X: Any, y: Any, sample_weight: Any
    ) -> tuple[LinearModel, Array | None, RowSpace | None]:
        """Problem, last solution and, if it is used, row space of checked data."""
        self._require_labelled(X, y, 1)
        self.classes_, codes, weights = self._labelled(X, y, sample_weight)
        if len(self.classes_) > 2:
            self._require_labelled(X, y, len(self.classes_))
        with quiet(), use_threads(self.n_jobs):
            rows, codes, weights = weighted(X, codes, weights, self.device)
            l2 = self._ridge_weight(weights)
            rows, ridge = equilibrated(
                rows, weights, self.fit_intercept, l2, self._shifts_sparse
            )
            columns, K = rows.columns, len(self.classes_)
            raw = self._last_solution((1 if K == 2 else K, X.shape[1]))
            space = None
            if self._reducible and self.solver == "auto":
                space = row_space(rows, ridge, weights)
            if space is not None:
                rows, ridge = space.rows, space.ridge
            problem = self._problem(rows, codes, ridge, weights)
            start = None
            if raw is not None:
                with quiet(over="ignore", invalid="ignore"):  # no start then
                    pairs = zip(*raw, strict=True)
                    W = np.array([columns.from_raw(*pair) for pair in pairs])
                    W = W if space is None else space.contract(W)
                    start = problem.parameters(W)
        return problem, start, space

    def _require_labelled(self, X: Any, y: Any, outputs: int) -> None:
        """Raise MemoryError where a fit of so many predictions a row needs too much."""
        penalised = np.isfinite(self.C) if self.alpha is None else self.alpha > 0.0
        self._require(
            X,
            outputs,
            16 * len(y) * (self.class_weight is not None),
            bound=bool(penalised and self._convex),
        )

    def _keep(
        self, problem: LinearModel, result: Result, space: RowSpace | None
    ) -> None:
        """Set what the fit has found, at once."""
        W = problem.coefficients(result.w)
        to_raw = (space or problem.rows.columns).to_raw
        coef, intercept = zip(*(to_raw(w) for w in W), strict=True)
        if space is not None:
            result = space.expanded(result)
        self.__dict__.update(
            coef_=np.array(coef),
            intercept_=np.array(intercept),
            n_iter_=np.array([result.n_iter], dtype=np.int32),
            result_=result.detached(),
            history_=result.trace.as_dict(),
        )

    def _labelled(
        self, X: Any, y: Any, sample_weight: Any
    ) -> tuple[NDArray[Any], NDArray[np.intp], Array]:
        """Labels of rows with a weight, their codes, and weights times the classes'.

        A label whose rows all have weight 0, or whose class has, is left out.
        """
        weights = checked_weights(sample_weight, X)
        kept = used_rows(weights)
        used: Any = slice(None) if kept is None else kept
        labels, codes = _classes(y[used])
        by_class = np.ones(len(labels))
        if isinstance(self.class_weight, str):  # "balanced", by weight
            mass = np.bincount(codes, weights[used])
            by_class = mass.sum() / (len(labels) * mass)
        elif self.class_weight is not None:
            known = self.class_weight
            if kept is not None:  # what is said of an absent label is no mistake
                absent = set(np.unique(y).tolist()) - set(labels.tolist())
                known = {k: v for k, v in known.items() if k not in absent}
            given = f"weights of labels that y has, got {shown(self.class_weight)}"
            with naming("class_weight", given):
                by_class = compute_class_weight(known, classes=labels, y=labels)
        if not np.all((by_class >= 0.0) & (by_class < np.inf)):
            raise ValueError(
                "class_weight must hold finite weights >= 0, got "
                f"{shown(self.class_weight)}"
            )
        there = by_class > 0.0
        if np.sum(there) < 2:
            raise ValueError(
                "y must hold two classes or more with rows of positive weight, got "
                f"one class: {labels[there]!r}"
            )
        if kept is None and np.all(by_class == 1.0):
            return labels, codes, weights
        every, total = np.zeros(len(y), dtype=np.intp), np.zeros(len(y))
        every[used] = (np.cumsum(there) - 1)[codes]
        total[used] = weights[used] * by_class[codes]
        return labels[there], every, total

    def _ridge_weight(self, weights: Array) -> float:
        return float(
            1.0 / (self.C * weights.sum()) if self.alpha is None else self.alpha
        )

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
    """Logistic regression with an L2 penalty, solved to ``tol``.

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
        Penalty weight of the mean form, an alternative to ``C``, which then has to keep
        its default. Its effect does not change with the number of samples.
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
        are many, conjugate gradients when the columns are. The other names are in the
        table of the README; some are not for every problem and say so. Or a solver
        object with parameters of your own.
    class_weight : dict or "balanced", optional
        Weights of the classes, 1 for those not named; "balanced" makes them inverse to
        the sums of the sample weights. A class of weight 0 is left out.
    warm_start : bool, default False
        Start from the last solution, unless zero is better for these data. Where the
        fit from there does not converge, it is made from zero as well and the better
        result kept.
    random_state : int, RandomState or None, default None
        Seed of the samples of rows. The minimizer does not depend on it beyond ``tol``.
        None: the same draws in every run. Generators of NumPy are left alone but for
        one that is given.
    n_jobs : int, optional
        Threads; -1 for all. Default: ``SUBSAMPLED_NEWTON_NUM_THREADS``, otherwise all
        that joblib, threadpoolctl (OpenMP), ``OMP_NUM_THREADS``,
        ``NUMBA_NUM_THREADS``, affinity and control group allow. The result does not
        depend on it.
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
        labels, codes, weights = self._labelled(X, y, sample_weight)
        if not np.all(np.isin(labels, self.classes_)):
            raise ValueError(
                "y must hold labels of the fit, got labels that it has not seen"
            )
        if len(labels) < len(self.classes_):
            raise ValueError(
                "y must hold rows of positive weight of every class of the fit, got "
                f"none of {np.setdiff1d(self.classes_, labels)!r}"
            )
        rows, codes, weights = weighted(X, codes, weights)
        l2 = self._ridge_weight(weights)
        rows, ridge = equilibrated(rows, weights, self.fit_intercept, l2)
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
    ``result_.certificate``. There may be lower ones: ``n_init`` looks for them, and
    ``result_.starts`` tells how every start ended.

    Parameters
    ----------
    n_init : int, default 1
        Starts: zero, then Gaussian ones of size one. The best result is kept, with the
        status and the value of each in ``result_.starts``.
    C, alpha, fit_intercept, tol, max_iter, class_weight, random_state
        As in `LogisticRegression`.
    warm_start : bool, default False
        Start from the last solution as well as from zero: the better result is kept.
    n_jobs, device, verbose
        As in `LogisticRegression`.
    solver : str or Solver, default "auto"
        ``"auto"``: `TrustRegion` with the full Hessian when the rows are few, with a
        sample that grows by half in every iteration when they are many. The table of
        the README has the others.

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
        self.n_init = n_init

    _convex = False

    def _problem(
        self, rows: Rows, codes: NDArray[np.intp], ridge: Array, weights: Array
    ) -> LinearModel:
        if len(self.classes_) > 2:
            raise ValueError(
                f"y must hold two classes, got {len(self.classes_)}: Only binary "
                "classification is supported. The type of the target is multiclass."
            )
        y = codes.astype(np.float64)
        return LinearModel(SIGMOID_SQUARED, rows, y, l2=ridge, sample_weight=weights)

    def _minimize(self, problem: LinearModel, w0: Array | LinearPoint | None) -> Result:
        results = [super()._minimize(problem, w0)]
        if w0 is not None:  # near the last solution may be a worse minimum
            results.append(super()._minimize(problem, None))
        rng = np.random.default_rng(seed_of(self.random_state))
        for _ in range(1, self.n_init):
            start = rng.standard_normal(problem.n_params) / np.sqrt(problem.n_params)
            results.append(super()._minimize(problem, start))
        return best_of(results)

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
    _memory.require(
        len(y) * (LABEL_BYTES + 2.0 * y.itemsize),
        f"sorting {len(y):,} labels",
        "pass labels that are whole numbers from 0 on, which are not sorted",
    )
    with naming("y", "labels of two or more classes"):
        check_classification_targets(y)
    labels, codes = np.unique(y, return_inverse=True)
    return labels, codes
