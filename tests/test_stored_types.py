"""Numbers of every type and order are read where they are, with the same results."""

import tracemalloc

import numpy as np
import pytest
import scipy.sparse as sp

from subsampled_newton import (
    LinearRegression,
    LogisticRegression,
    Ridge,
    SigmoidLeastSquaresClassifier,
    as_rows,
    memory_needed,
)
from subsampled_newton.columns import Columns
from subsampled_newton.linear_model import LinearModel
from subsampled_newton.losses import LOGISTIC
from subsampled_newton.solvers.sag import SAG

N, D = 5000, 11


def base(n=N, d=D):
    """Whole numbers from 0 to 100."""
    return np.random.default_rng(0).integers(0, 101, (n, d)).astype(float)


def targets(X, n_classes=2):
    noise = np.random.default_rng(1).normal(0.0, 30.0, len(X))
    return np.digitize(X[:, 0] + X[:, 1] + noise, [80.0, 120.0][: n_classes - 1])


def spread(X):
    """Every second column of every second row, backwards, of a larger array."""
    larger = np.zeros((2 * X.shape[0], 2 * X.shape[1]), X.dtype)
    larger[::2, ::-2] = X
    return larger[::2, ::-2]


def unaligned(X):
    records = np.zeros(len(X), [("flag", "u1"), ("x", X.dtype, X.shape[1])])
    records["x"] = X
    return records["x"]


CODES = ["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f2", ">f8", ">i4", ">u2", "g"]
DENSE = {code: lambda X, code=code: X.astype(code) for code in CODES}
DENSE |= {
    "Fortran u1": lambda X: np.asfortranarray(X, dtype="u1"),
    "Fortran >f8": lambda X: np.asfortranarray(X, dtype=">f8"),
    "columns": lambda X: np.hstack([X, X])[:, : X.shape[1]],
    "backwards": lambda X: np.array(X[:, ::-1])[:, ::-1],
    "spread": spread,
    "spread u1": lambda X: spread(X.astype("u1")),
    "rows of Fortran": lambda X: np.asfortranarray(np.repeat(X, 2, axis=0))[::2],
    "unaligned": unaligned,
    "rows": as_rows,
    "rows u1": lambda X: as_rows(X.astype("u1")),
}
SPARSE = {
    code: lambda X, code=code: sp.csr_array(X.astype(code))
    for code in ("u1", "i1", "i4", "u8", "f8")
}
SPARSE["rows"] = lambda X: as_rows(sp.csr_array(X.astype("i2")))
ESTIMATORS = {
    "logistic": LogisticRegression(random_state=0),
    "sigmoid": SigmoidLeastSquaresClassifier(random_state=0, max_iter=30),
    "lbfgs": LogisticRegression(solver="lbfgs"),
    "leverage": LogisticRegression(
        solver="subsampled-newton-leverage", random_state=0, tol=1e-6
    ),
    "ridge": Ridge(),
    "qr": LinearRegression(solver="qr"),
    "sketch": LinearRegression(solver="sketch", random_state=0),
}


@pytest.fixture(autouse=True)
def one_thread(monkeypatch):
    monkeypatch.setenv("SUBSAMPLED_NEWTON_NUM_THREADS", "1")


def _order(kind, X):
    by_columns = kind.startswith("Fortran") or kind == "rows of Fortran"
    return np.asfortranarray(X) if by_columns else X


@pytest.mark.parametrize("kind", DENSE)
@pytest.mark.parametrize("name", ["logistic", "lbfgs", "ridge"])
def test_same_bits_as_of_float64(name, kind):
    X, estimator = base(), ESTIMATORS[name]
    y = targets(X)
    expected = estimator.fit(_order(kind, X), y)
    coef, intercept = expected.coef_.copy(), np.copy(expected.intercept_)
    predicted = expected.predict(X)
    given = DENSE[kind](X)
    found = estimator.fit(given, y)
    if name == "ridge" and kind.endswith("f2"):
        # Numbers that were rounded so coarsely are looked at for rank in another way.
        np.testing.assert_allclose(found.coef_, coef, rtol=1e-10)
        np.testing.assert_allclose(found.intercept_, intercept, rtol=1e-10)
    else:
        np.testing.assert_array_equal(found.coef_, coef)
        np.testing.assert_array_equal(found.intercept_, intercept)
    np.testing.assert_allclose(found.predict(given), predicted, rtol=1e-12, atol=1e-12)
    assert found.n_features_in_ == D


@pytest.mark.parametrize("kind", ["u1", ">f8", "spread", "Fortran u1"])
@pytest.mark.parametrize("name", ["sigmoid", "leverage", "qr", "sketch"])
def test_same_result_by_every_kind_of_method(name, kind):
    X, estimator = base(), ESTIMATORS[name]
    y = targets(X)
    coef = estimator.fit(_order(kind, X), y).coef_.copy()
    np.testing.assert_allclose(estimator.fit(DENSE[kind](X), y).coef_, coef, rtol=1e-8)


@pytest.mark.parametrize("kind", ["u1", "spread", "f2", "Fortran u1"])
def test_same_bits_with_several_classes(kind):
    X = base()
    y = targets(X, 3)
    for solver in ("newton", "newton-cg", "lbfgs"):
        estimator = LogisticRegression(solver=solver)
        expected = estimator.fit(_order(kind, X), y).coef_.copy()
        found = estimator.fit(DENSE[kind](X), y).coef_
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("kind", SPARSE)
@pytest.mark.parametrize("n_classes", [2, 3])
def test_same_bits_as_of_float64_in_sparse_rows(kind, n_classes):
    X = base() * (np.random.default_rng(2).random((N, D)) < 0.3)
    y = targets(X, n_classes)
    for estimator in (LogisticRegression(random_state=0), Ridge()):
        coef = estimator.fit(sp.csr_array(X), y).coef_.copy()
        predicted = estimator.predict(X)
        given = SPARSE[kind](X)
        found = estimator.fit(given, y)
        np.testing.assert_array_equal(found.coef_, coef)
        np.testing.assert_allclose(found.predict(given), predicted, rtol=1e-12)


@pytest.mark.parametrize("code", ["f4", ">f4"])
def test_single_precision_stays_so(code):
    X = base()
    y = targets(X)
    expected = LogisticRegression().fit(X.astype("f4"), y).coef_
    found = LogisticRegression().fit(spread(X.astype(code)), y).coef_
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    ("solver", "dtype", "container"),
    [
        ("sag", np.float16, np.asarray),
        ("sag", bool, np.asfortranarray),
        ("sag", bool, sp.csr_array),
        ("sdca", np.uint8, np.asarray),
        ("sdca", ">f8", np.asfortranarray),
    ],
)
def test_solvers_that_read_single_rows(solver, dtype, container):
    X = (base(600, 5) > 50.0).astype(float)
    y = targets(100.0 * X)
    model = LogisticRegression(solver=solver, random_state=0, alpha=0.05, max_iter=500)
    expected = model.fit(container(X), y).coef_.copy()
    found = model.fit(container(X.astype(dtype)), y)
    assert found.result_.converged
    np.testing.assert_allclose(found.coef_, expected, rtol=1e-6)


def test_whole_numbers_without_a_double_are_rounded():
    X = base().astype(np.int64) * 2**53 + 1
    y = targets(base())
    estimator = LogisticRegression()
    expected = estimator.fit(X.astype(float), y).coef_.copy()
    np.testing.assert_array_equal(estimator.fit(X, y).coef_, expected)


def test_smallest_whole_number_has_a_size():
    X = np.full((40, 1), -128, np.int8)
    X[::2] = 127
    y = np.arange(40) % 2
    expected = LogisticRegression().fit(X.astype(float), y).coef_.copy()
    np.testing.assert_array_equal(LogisticRegression().fit(X, y).coef_, expected)


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("dtype", [np.float16, ">f8"])
def test_what_is_not_finite_is_found(value, dtype):
    X = base(60).astype(dtype)
    X[7, 3] = value
    with pytest.raises(ValueError, match=r"X contains (NaN|infinity)"):
        LogisticRegression().fit(X, targets(base(60)))


LARGE = {
    "u1": lambda X: X.astype("u1"),
    "f2": lambda X: X.astype("f2"),
    ">f8": lambda X: X.astype(">f8"),
    "Fortran u1": lambda X: np.asfortranarray(X, dtype="u1"),
    "every second column": lambda X: np.repeat(X, 2, axis=1)[:, ::2],
    "first columns": lambda X: np.hstack([X, X])[:, : X.shape[1]],
    "every second row": lambda X: np.repeat(X, 2, axis=0)[::2],
    "backwards": lambda X: X[:, ::-1],
    "csr u1": lambda X: sp.csr_array(X.astype("u1")),
}


@pytest.mark.parametrize("kind", LARGE)
def test_nothing_is_copied_whole(kind):
    X = base(60_000, 30)
    y = targets(X)
    given = LARGE[kind](X)
    for estimator in (
        LogisticRegression(random_state=0, max_iter=10),
        Ridge(solver="cholesky"),
        LogisticRegression(solver="newton", max_iter=10),
    ):
        estimator.fit(given[:3000], y[:3000])  # compiles
        tracemalloc.start()
        try:
            estimator.fit(given, y)
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.reset_peak()
            before = tracemalloc.get_traced_memory()[0]
            estimator.predict(given)
            predicted = tracemalloc.get_traced_memory()[1] - before
        finally:
            tracemalloc.stop()
        assert peak <= 1.25 * estimator.result_.memory_bytes
        assert peak < 0.6 * X.nbytes
        assert predicted < 8 * 8 * len(X) + 2**21


def test_formula_knows_the_copy_for_single_rows():
    X = base(2000)
    y = np.where(targets(X) > 0, 1.0, -1.0)

    def needed(X):
        return memory_needed(LinearModel(LOGISTIC, X, y, l2=0.1), SAG())

    half, byte = needed(X.astype("f2")), needed(X.astype("u1"))
    assert half - byte == 4 * X.size


def test_rows_of_other_columns_are_no_matrix():
    X = base(100)
    rows = as_rows(X).with_columns(Columns(np.full(D, 2.0), np.zeros(D), True))
    with pytest.raises(ValueError, match="X must be rows with plain columns"):
        LogisticRegression().fit(rows, targets(X))
    fit = LogisticRegression().fit(as_rows(X), targets(X))
    np.testing.assert_array_equal(fit.predict(as_rows(X)), fit.predict(X))
