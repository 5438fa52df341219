"""What must not change a fit does not: random fits, changed in ways that are known.

A case draws data, an estimator with its options and a container, and a relation: the
same fit on other data whose answer is known from that on the first. 500 cases run by
default; ``SUBSAMPLED_NEWTON_METAMORPHIC=5000`` asks for as many as one likes.

Fits are compared by what they are made for, not by coefficients, which dependent
columns leave open: by predictions at all rows, up to what the tolerance of the fits
allows. That is derived from the problem: F is strongly convex along predictions with
the modulus that the ridge gives, or the data.
"""

import math
import os
import warnings
from typing import Any, NamedTuple

import numpy as np
import pytest
import scipy.sparse as sp
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning

from subsampled_newton import (
    LinearRegression,
    LogisticRegression,
    NonlinearLeastSquares,
    Ridge,
    SigmoidLeastSquaresClassifier,
)

CASES = int(os.environ.get("SUBSAMPLED_NEWTON_METAMORPHIC", "500"))
GROUP = 50
"""Cases of one test."""
SENTINELS = (3.4028235e38, -1.7e308, 1e300, math.nan, math.inf, -math.inf)


def strided(X):
    return np.repeat(np.repeat(X, 2, axis=0), 3, axis=1)[::2, ::3]


def read_only(X):
    X = X.copy()
    X.flags.writeable = False
    return X


CONTAINERS = {
    "C": np.ascontiguousarray,
    "Fortran": np.asfortranarray,
    "strided": strided,
    "read only": read_only,
    "float32": lambda X: X.astype(np.float32),
    "CSR": sp.csr_array,
}


def wave(params, x):
    return params[0] + params[1] * math.exp(-0.5 * (x[0] - params[2]) ** 2)


class Case(NamedTuple):
    """A fit."""

    model: Any
    X: np.ndarray
    y: np.ndarray
    weights: np.ndarray | None
    container: str

    @property
    def kind(self):
        return type(self.model).__name__

    @property
    def penalty(self):
        """Whether the coefficients of given columns have one."""
        if self.kind == "Ridge":
            return self.model.alpha > 0.0
        classes = isinstance(
            self.model, LogisticRegression | SigmoidLeastSquaresClassifier
        )
        return classes and not math.isinf(self.model.C)

    def fit(self, X, y, weights, model=None):
        """Predictions, decision values for classes, at the given rows of X."""
        model = clone(self.model if model is None else model)
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            # Separable classes are a status; so is an end at the last digit.
            warnings.simplefilter("ignore", ConvergenceWarning)
            A = CONTAINERS[self.container](X)
            before = [None if a is None else np.array(a) for a in (X, y, weights)]
            model.fit(A, y, weights)
            for a, b in zip((X, y, weights), before, strict=True):
                if a is not None:
                    np.testing.assert_array_equal(a, b)
        return model


def predictions(model, X):
    if hasattr(model, "classes_"):
        return model.decision_function(X)
    return model.predict(X)


def random_case(rng):
    kind = rng.choice(
        ["binary", "softmax", "sigmoid", "ridge", "linear", "targets", "curve"],
        p=[0.25, 0.2, 0.1, 0.15, 0.1, 0.1, 0.1],
    )
    n, d = int(rng.integers(30, 80)), int(rng.integers(1, 5))
    X = rng.standard_normal((n, d))
    X[rng.random((n, d)) < 0.2] = 0.0
    # Values that float32 holds exactly: containers are the same data.
    X = X.astype(np.float32).astype(np.float64)
    w = rng.standard_normal(d)
    z = X @ w + rng.normal()
    weights = rng.integers(1, 4, n).astype(float) if rng.random() < 0.5 else None
    container = str(rng.choice(list(CONTAINERS)))
    intercept = bool(rng.random() < 0.8)
    alpha = 10.0 ** rng.uniform(-3.0, 1.0)
    if kind == "curve":
        X = X[:, :1]
        container = "C" if container == "CSR" else container
        y = 1.0 + 2.0 * np.exp(-0.5 * (X[:, 0] - 0.3) ** 2)
        y += 0.1 * rng.standard_normal(n)
        start = np.array([1.0, 1.0, 0.0])
        model = NonlinearLeastSquares(wave, start, alpha=rng.choice([0.0, 1e-3]))
        return Case(model, X, y, weights, container)
    if kind in ("ridge", "linear", "targets"):
        y = z + rng.standard_normal(n)
        if kind == "targets":
            y = np.column_stack([y, rng.standard_normal(n) + 3.0])
        options = {"fit_intercept": intercept}
        if kind == "ridge":
            solver = rng.choice(["auto", "cholesky", "newton", "lbfgs"])
            model = Ridge(alpha, solver=str(solver), **options)
        else:
            model = LinearRegression(
                solver=str(rng.choice(["auto", "qr", "cholesky"])), **options
            )
        return Case(model, X, y, weights, container)
    classes = 2 if kind != "softmax" else int(rng.integers(3, 5))
    scores = np.column_stack([z * k for k in range(classes)])
    y = np.argmax(scores + rng.gumbel(size=(n, classes)), axis=1)
    y[: 2 * classes] = np.tile(np.arange(classes), 2)
    options = {
        "C": math.inf if rng.random() < 0.25 else 1.0 / alpha,
        "fit_intercept": intercept,
        "class_weight": [None, "balanced", {0: 2.0}][rng.integers(3)],
    }
    if kind == "sigmoid":
        # As much penalty as makes the problem convex: local minima are other answers.
        del options["C"]
        model = SigmoidLeastSquaresClassifier(alpha=1.0, **options)
        return Case(model, X, y, weights, container)
    solver = str(rng.choice(["auto", "newton", "newton-cg", "lbfgs", "trust-region"]))
    return Case(
        LogisticRegression(solver=solver, max_iter=1000, **options),
        X,
        y,
        weights,
        container,
    )


# The relations. Each returns the changed fit, the rows at which it must predict what
# the first one does at the given ones, and the size of what is rounded (None: one).


def weights_of(case):
    return np.ones(len(case.X)) if case.weights is None else case.weights


def absent(case, rng):
    """Rows of weight 0, anywhere and with any content, are no rows."""
    n, more = len(case.X), int(rng.integers(1, 40))
    where = np.sort(rng.choice(n + more, n, replace=False))
    if rng.random() < 0.5:
        where = np.arange(more, n + more)
    X = rng.standard_normal((n + more, case.X.shape[1]))
    y = rng.choice(case.y.ravel(), (n + more, *case.y.shape[1:]))
    finite = case.kind == "NonlinearLeastSquares"  # its X is checked as a whole
    values = [v for v in SENTINELS if math.isfinite(v) or not finite]
    if case.container == "float32" and finite:
        values = [3.4028235e38]
    spoilt = rng.random(X.shape) < rng.random()
    X[spoilt] = rng.choice(values, np.sum(spoilt))
    if case.y.dtype.kind == "f":
        y[rng.random(y.shape) < 0.5] = rng.choice([1e300, -1e300, 0.0])
    elif rng.random() < 0.5 and case.model.class_weight != {0: 2.0}:
        y[rng.random(n + more) < 0.5] = 77  # a label that nobody else has
    weights = np.zeros(n + more)
    X[where], y[where], weights[where] = case.X, case.y, weights_of(case)
    return case.fit(X, y, weights), case.X, None


def copies(case, rng):
    """Weight k is k copies."""
    times = weights_of(case).astype(int)
    rows = rng.permutation(np.repeat(np.arange(len(times)), times))
    return case.fit(case.X[rows], case.y[rows], None), case.X, None


def permuted(case, rng):
    """The order of rows and of columns."""
    rows = rng.permutation(len(case.X))
    columns = np.arange(case.X.shape[1])
    if case.kind != "NonlinearLeastSquares":
        columns = rng.permutation(columns)
    weights = None if case.weights is None else case.weights[rows]
    model = case.fit(case.X[np.ix_(rows, columns)], case.y[rows], weights)
    return model, case.X[:, columns], None


def contained(case, rng):
    """The container."""
    names = [c for c in CONTAINERS if c != "CSR" or case.kind[:3] != "Non"]
    other = case._replace(container=str(rng.choice(names)))
    return other.fit(case.X, case.y, case.weights), case.X, None


def units(case, rng):
    """Units of columns, with the penalty in them where there is none; powers of two."""
    if case.kind == "NonlinearLeastSquares":
        return contained(case, rng)
    scale = 2.0 ** rng.integers(-20, 21, case.X.shape[1])
    if case.penalty:
        # One unit for all: the penalty weighs its square.
        scale[:] = scale[0]
        model = clone(case.model)
        if getattr(model, "alpha", None) is not None:
            model.alpha *= float(scale[0]) ** 2
        else:
            model.C /= float(scale[0]) ** 2
        X = case.X * scale
        return case.fit(X, case.y, case.weights, model), X, None
    X = case.X * scale
    return case.fit(X, case.y, case.weights), X, None


def offsets(case, rng):
    """Offsets of columns beside an intercept."""
    if not getattr(case.model, "fit_intercept", False):
        return permuted(case, rng)
    offset = rng.integers(-1000, 1001, case.X.shape[1]) * 10.0 ** rng.integers(0, 3)
    if case.container == "CSR":  # columns that are not centred: worse conditioned
        offset = np.round(offset * 3e-4)
    X = case.X + offset
    if case.container == "float32":
        case = case._replace(container="C")
    # Predictions are rounded to the size of the offset.
    return case.fit(X, case.y, case.weights), X, 1.0 + np.abs(offset).max()


def relabelled(case, rng):
    """Names of the classes, in another order."""
    if not hasattr(case.model, "class_weight"):
        return targets(case, rng)
    labels, codes = np.unique(case.y, return_inverse=True)
    order = rng.permutation(len(labels))
    names = np.array([f"class {k}" for k in order])
    model = clone(case.model)
    if isinstance(model.class_weight, dict):
        model.class_weight = {names[0]: 2.0}
    model = case.fit(case.X, names[codes], case.weights, model)

    class Renamed:
        """The fit with the first names: columns as they were, or the other sign."""

        classes_, result_ = labels, model.result_

        @staticmethod
        def decision_function(X):
            z = model.decision_function(X)
            if len(labels) == 2:
                return z if order[0] == 0 else -z
            return z[:, order]

    return Renamed(), case.X, None


def targets(case, rng):
    """Targets that are shifted, beside an intercept, and in other units."""
    if case.y.dtype.kind != "f" or case.kind == "NonlinearLeastSquares":
        return relabelled(case, rng) if case.y.dtype.kind != "f" else absent(case, rng)
    shift = float(rng.integers(-1000, 1001)) * case.model.fit_intercept
    unit = 2.0 ** float(rng.integers(-30, 31))
    model = case.fit(case.X, (case.y + shift) * unit, case.weights)

    class Shifted:
        """The fit in the first units."""

        result_ = model.result_

        @staticmethod
        def predict(X):
            return model.predict(X) / unit - shift

    return Shifted(), case.X, 1.0 + abs(shift)


def duplicated(case, rng):
    """Columns twice: exact copies, where the penalty is of half the weight, or none."""
    if case.kind == "NonlinearLeastSquares":
        return permuted(case, rng)
    X = np.column_stack([case.X, case.X])
    model = clone(case.model)
    if case.penalty:
        # ``w = u + v`` with the least ``u**2 + v**2`` is half of ``w**2``.
        if getattr(model, "alpha", None) is not None:
            model.alpha *= 2.0
        else:
            model.C /= 2.0
    return case.fit(X, case.y, case.weights, model), X, None


def two_units(case, rng):
    """One quantity in two units, equal up to rounding, beside an intercept."""
    if case.kind == "NonlinearLeastSquares" or case.penalty:
        return duplicated(case, rng)
    if case.container == "float32":
        case = case._replace(container="C")
    X = np.column_stack([case.X, np.radians(case.X[:, 0])])
    return case.fit(X, case.y, case.weights), X, None


RELATIONS = (
    absent,
    copies,
    permuted,
    contained,
    units,
    offsets,
    relabelled,
    targets,
    duplicated,
    two_units,
)


def tolerance(X, first, z, size):
    """How far predictions of two fits may be from each other.

    A gradient of norm ``tol`` leaves at most ``tol**2 / (2 mu)`` to gain and moves a
    prediction by ``tol ||x|| / mu``, mu the least curvature on columns of size one: of
    the loss at these predictions, or of the ridge.
    """
    spread = max(1.0, float(np.abs(z).max()))
    eps = float(np.finfo(np.float64).eps)
    A = np.column_stack([X, np.ones(len(X))])
    scale = np.sqrt(np.mean(A * A, axis=0))
    A = A[:, scale > 0.0] / scale[scale > 0.0]
    values = np.linalg.svd(A, compute_uv=False) / math.sqrt(len(A))
    values = values[values > 1e-12 * values[0]]
    curvature = 1.0
    if hasattr(first, "classes_"):
        p = 1.0 / (1.0 + math.exp(min(float(np.abs(z).max()), 700.0)))
        curvature = p * (1.0 - p)
    reach = math.sqrt(A.shape[1]) * float(np.abs(A).max())
    mu = curvature * values[-1] ** 2
    return (1e-8 * reach / mu + 1e3 * eps * size * reach / values[-1]) * spread


def check(seed):
    """Raise where a random relation of a random fit does not hold."""
    rng = np.random.default_rng([7, seed])
    case = random_case(rng)
    relation = RELATIONS[seed % len(RELATIONS)]
    first = case.fit(case.X, case.y, case.weights)
    found, X, size = relation(case, rng)
    about = f"seed {seed}: {relation.__name__} of {case.model} in {case.container}"
    if not (first.result_.converged and found.result_.converged):
        status = first.result_.status, found.result_.status
        assert status[0].name == status[1].name == "SEPARABLE", (about, status)
        return relation.__name__, False
    z, moved = predictions(first, case.X), predictions(found, X)
    allowed = tolerance(case.X, first, z, size or 1.0)
    if case.container == "CSR":
        allowed = max(allowed, tolerance(X, first, z, size or 1.0))
    assert np.abs(moved - z).max() <= allowed, (
        f"{about}: predictions differ by {np.abs(moved - z).max():.3g}, "
        f"{allowed:.3g} allowed"
    )
    return relation.__name__, True


@pytest.mark.usefixtures("jit")  # without it, hours
@pytest.mark.parametrize("group", range(math.ceil(CASES / GROUP)))
def test_what_must_not_change_a_fit_does_not(group):
    seeds = range(GROUP * group, min(GROUP * (group + 1), CASES))
    seen = [check(seed) for seed in seeds]
    assert sum(compared for _, compared in seen) > 0.7 * len(seen)


def test_the_comparison_finds_a_wrong_fit(monkeypatch):
    """Weights that are ignored, or a row of weight 0 that is not, are noticed."""
    fit = Case.fit

    def wrong(self, X, y, weights, model=None):
        if weights is not None and self.kind != "NonlinearLeastSquares":
            weights = np.maximum(weights, 1e-3)
        return fit(self, X, y, weights, model)

    monkeypatch.setattr(Case, "fit", wrong)
    noticed = 0
    for seed in range(0, 200, 10):  # the first relation
        try:
            check(seed)
        except (AssertionError, ValueError):
            noticed += 1
    assert noticed > 15


@pytest.mark.parametrize(("offset", "spread"), [(48.85, 0.03), (1e3, 1.0), (1e5, 1.0)])
def test_one_quantity_in_two_units_far_from_zero(offset, spread):
    rng = np.random.default_rng(0)
    x = offset + spread * rng.standard_normal(200)
    y = 0.6 * (x - offset) / spread + rng.standard_normal(200)
    X = np.column_stack([x, np.radians(x)])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the columns are dependent
        one, two = (LinearRegression().fit(A, y) for A in (X[:, :1], X))
    np.testing.assert_allclose(two.predict(X), one.predict(X[:, :1]), atol=1e-6)
