"""A row of weight 0, or of a class of weight 0, is as good as absent."""

import math
import tracemalloc

import numpy as np
import pytest
import scipy.sparse as sp
from sklearn.ensemble import BaggingClassifier

from subsampled_newton import (
    LOGISTIC,
    SQUARED,
    Columns,
    LinearModel,
    LinearRegression,
    LogisticRegression,
    NonlinearLeastSquares,
    NonlinearModel,
    Ridge,
    SigmoidLeastSquaresClassifier,
    SoftmaxModel,
    SubsampledNewton,
    as_rows,
    memory_needed,
    minimize,
    picked,
)
from subsampled_newton.embeddings import SparseSign, dense_block
from subsampled_newton.estimators import _base
from subsampled_newton.factor import triangular_factor
from subsampled_newton.picked import PickedRows, pick, used_rows

LARGE = float(np.finfo(np.float64).max)
SENTINELS = (3.4028235e38, -LARGE, 1e300, math.nan, math.inf)
CONTAINERS = {
    "C": np.ascontiguousarray,
    "Fortran": np.asfortranarray,
    "strided": lambda X: np.repeat(X, 2, axis=1)[:, ::2],
    "float32": lambda X: X.astype(np.float32),
    "CSR": sp.csr_array,
}


def line(params, x):
    return params[0] + params[1] * x[0] * x[1] / (1.0 + params[2] * params[2])


def cases():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((120, 3))
    X[:, 1] += 5.0
    noise = rng.standard_normal(120)
    binary = np.where(X[:, 0] + noise > 0.0, "yes", "no")
    three = np.argmax(X[:, :1] * [-1.0, 0.0, 1.0] + rng.gumbel(size=(120, 3)), axis=1)
    y = X @ [1.0, -2.0, 0.5] + noise
    return {
        "binary": (LogisticRegression(C=3.0), X, binary),
        "no penalty": (LogisticRegression(C=math.inf), X, binary),
        "balanced": (LogisticRegression(class_weight="balanced"), X, binary),
        "softmax": (LogisticRegression(fit_intercept=False), X, three),
        "sigmoid": (SigmoidLeastSquaresClassifier(alpha=0.01), X, binary),
        "ridge": (Ridge(0.3), X, y),
        "linear": (LinearRegression(), X, y),
        "targets": (LinearRegression(), X, np.column_stack([y, noise])),
        "sketch": (LinearRegression(solver="sketch", random_state=0), X, y),
        "saga": (LogisticRegression(solver="saga", random_state=0), X, binary),
        "svrg": (Ridge(solver="svrg", random_state=0), X, y),
    }


CASES = cases()


def with_weightless(X, y, weights, rng):
    """The rows among others of weight 0, the first one of them, with any content."""
    n = len(X) + 40
    place = np.sort(rng.choice(np.arange(1, n), len(X), replace=False))
    more_X, more_w = rng.standard_normal((n, X.shape[1])), np.zeros(n)
    more_X[:: n // 7] = rng.choice(SENTINELS, (len(more_X[:: n // 7]), X.shape[1]))
    more_y = rng.choice(y.ravel(), (n, *y.shape[1:]))
    if y.dtype.kind == "f":
        more_y[0] = 1e300
    more_X[place], more_y[place], more_w[place] = X, y, weights
    return more_X, more_y, more_w


@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize("case", CASES)
def test_the_fit_is_that_without_these_rows_to_the_bit(case, container):
    model, X, y = CASES[case]
    rng = np.random.default_rng(1)
    weights = rng.integers(1, 4, len(X)).astype(float)
    make = CONTAINERS[container]
    plain = model.fit(make(X), y, weights)
    expected = plain.coef_.copy(), plain.intercept_, plain.result_.value
    with np.errstate(all="ignore"):  # of the conversion to float32
        Z, t, s = with_weightless(X, y, weights, rng)
        Z = make(Z)
    before = s.copy()
    found = model.fit(Z, t, s)
    np.testing.assert_array_equal(s, before)
    np.testing.assert_array_equal(found.coef_, expected[0])
    np.testing.assert_array_equal(found.intercept_, expected[1])
    assert found.result_.value == expected[2]
    if hasattr(found, "classes_"):
        np.testing.assert_array_equal(found.classes_, np.unique(y))


@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize("case", CASES)
def test_many_rows_are_gathered_in_pieces(case, container, monkeypatch):
    model, X, y = CASES[case]
    rng = np.random.default_rng(2)
    weights = rng.integers(0, 3, len(X)).astype(float)
    X = CONTAINERS[container](X)
    expected = model.fit(X, y, weights).coef_.copy()
    monkeypatch.setattr(picked, "PIECE", 300)
    monkeypatch.setattr(picked, "CHUNK", 17)
    kinds = []

    def watched(rows, kept):
        kinds.append(type(pick(rows, kept)))
        return pick(rows, kept)

    monkeypatch.setattr(_base, "pick", watched)
    found = model.fit(X, y, weights).coef_
    assert kinds == [PickedRows]
    size = np.abs(expected).max()
    # Sums of another order, to the tolerance of those that stop before the last digit.
    rtol = 1e-6 if case in ("saga", "svrg") else 1e-10
    np.testing.assert_allclose(found, expected, atol=rtol * size)


@pytest.mark.parametrize("container", CONTAINERS)
def test_pieces_are_the_rows_in_every_product(container, monkeypatch):
    monkeypatch.setattr(picked, "PIECE", 300)
    monkeypatch.setattr(picked, "CHUNK", 17)
    rng = np.random.default_rng(3)
    X = rng.standard_normal((90, 4)) * (rng.random((90, 4)) < 0.7)
    kept = np.flatnonzero(rng.random(90) < 0.6)
    columns = Columns(2.0 ** np.arange(4), np.full(4, 0.25), intercept=True)
    whole = as_rows(CONTAINERS[container](X))
    expected = whole.take(kept).with_columns(columns)
    rows = pick(whole, kept).with_columns(columns)
    assert type(rows) is PickedRows
    m = len(kept)
    w, v, h = rng.standard_normal(5), rng.standard_normal(m), rng.random(m)
    W, P = rng.standard_normal((3, 5)), rng.dirichlet(np.ones(3), m).T
    y, code = np.sign(v), rng.integers(0, 3, m).astype(float)
    R = SparseSign.draw(m, 20, rng)
    some = np.array([0, 3, 4, m - 1])
    for of in (
        lambda A: A.matvec(w),
        lambda A: A.rmatvec(v),
        lambda A: A.hess_vec(h, w),
        lambda A: A.gram(h),
        lambda A: A.gram_diagonal(h),
        lambda A: np.array(A.column_moments(h)),
        lambda A: np.concatenate([np.ravel(a) for a in A.evaluate(LOGISTIC, y, h, w)]),
        lambda A: A.class_predictions(W),
        lambda A: np.concatenate([np.ravel(a) for a in A.class_evaluate(code, h, W)]),
        lambda A: A.class_hess_vec(P, h, W),
        lambda A: A.class_hessian(P, h),
        lambda A: A.row_norms(),
        lambda A: A.projected_norms(rng.permuted(np.eye(5), axis=0) @ np.eye(5)),
        lambda A: R.sketch(A, h, v),
        lambda A: np.abs(triangular_factor(A, h)),
        lambda A: dense_block(A, 0, m),
        lambda A: A.take(some).matvec(w),
        lambda A: A.compact.matvec(w) if A is rows else A.matvec(w),
    ):
        state = rng.bit_generator.state
        before = expected.work.rows_read
        a = of(expected)
        read = expected.work.rows_read - before
        rng.bit_generator.state, before = state, rows.work.rows_read
        np.testing.assert_allclose(of(rows), a, rtol=1e-12, atol=1e-12)
        assert rows.work.rows_read - before == read  # counted once


def test_a_large_array_is_not_copied(monkeypatch):
    monkeypatch.setattr(picked, "PIECE", 1 << 17)
    rng = np.random.default_rng(0)
    X = rng.standard_normal((100_000, 16))
    y = X[:, 0] + rng.standard_normal(100_000) > 0.0
    weights = (rng.random(100_000) < 0.5).astype(float)
    model = LogisticRegression(solver="lbfgs", random_state=0)
    model.fit(X[:1000], y[:1000], weights[:1000])  # compiles
    tracemalloc.start()
    try:
        model.fit(X, y, weights)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    # Half of it would be 6.4 MB, and 5 MB are vectors of the rows: labels, weights,
    # predictions.
    vectors = memory_needed(
        LinearModel(LOGISTIC, as_rows(X), np.where(y, 1.0, -1.0)), model.result_.solver
    )
    assert peak < vectors + 1_000_000
    assert model.result_.memory_bytes < vectors


def test_the_copy_of_few_rows_is_in_the_formula():
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((1000, 8)), rng.choice([-1.0, 1.0], 1000)
    weights = np.repeat([0.0, 1.0], 500)
    part = LinearModel(LOGISTIC, X[500:], y[500:])
    problem = LinearModel(LOGISTIC, X, y, sample_weight=weights)
    solver = SubsampledNewton(1.0)
    assert memory_needed(problem, solver) == memory_needed(part, solver) + 500 * 64


@pytest.mark.parametrize("kind", ["linear", "softmax", "nonlinear"])
def test_models_leave_the_rows_out(kind):
    rng = np.random.default_rng(5)
    X, y = rng.standard_normal((60, 2)), rng.integers(0, 3, 60)
    weights = rng.integers(0, 3, 60).astype(float)
    used = weights > 0.0
    Z = X.copy()
    Z[~used] = np.resize(SENTINELS, Z[~used].shape)
    t = y.copy()
    t[~used] = 10**9

    def make(X, y, weights):
        if kind == "linear":
            return LinearModel(SQUARED, X, y, l2=0.1, sample_weight=weights)
        if kind == "softmax":
            return SoftmaxModel(X, y, l2=0.1, sample_weight=weights)
        return NonlinearModel(line, X, y, 3, l2=0.1, sample_weight=weights)

    a, b = make(Z, t, weights), make(X[used], y[used], weights[used])
    assert a.n_samples == b.n_samples == np.sum(used)
    w = rng.standard_normal(a.n_params)
    assert a.at(w).value == b.at(w).value
    np.testing.assert_array_equal(a.at(w).gradient, b.at(w).gradient)


def test_weights_that_vanish_beside_the_largest_are_none():
    assert used_rows(np.ones(3)) is None
    np.testing.assert_array_equal(used_rows(np.array([1e300, 1e-300, 1.0])), [0, 2])
    X, y = np.array([[1.0], [LARGE], [2.0], [4.0]]), np.array([1.0, 1e300, 2.0, 3.0])
    weights = np.array([1e300, 1e-300, 1e300, 1e300])
    used = [0, 2, 3]
    expected = Ridge().fit(X[used], y[used], weights[used])
    assert Ridge().fit(X, y, weights).coef_ == expected.coef_


def test_a_row_that_hardly_has_a_weight_spoils_no_moment():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((500, 2))
    X[0, 1] = 1e9
    weights = np.ones(500)
    weights[0] = 1e-20
    mean, deviation = as_rows(X).column_moments(weights)
    # Of 1e18 * 1e-20 / 500 beside the variance of the others.
    expected = math.sqrt(np.var(X[1:, 1]) + 0.01 / 500)
    assert deviation[1] == pytest.approx(expected, rel=1e-5)
    assert mean[1] == pytest.approx(np.mean(X[1:, 1]), rel=1e-6)


def test_nonlinear_fits_leave_the_rows_out():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((80, 2))
    y = 1.0 + 2.0 * X[:, 0] * X[:, 1] + 0.1 * rng.standard_normal(80)
    weights = rng.integers(0, 3, 80).astype(float)
    used = weights > 0.0
    y[~used], X[~used] = 1e300, LARGE

    def two(params, x):
        return params[0] + params[1] * x[0] * x[1]

    a = NonlinearLeastSquares(two, [0.0, 1.0]).fit(X, y, weights)
    b = NonlinearLeastSquares(two, [0.0, 1.0]).fit(X[used], y[used], weights[used])
    np.testing.assert_array_equal(a.params_, b.params_)
    np.testing.assert_array_equal(a.std_errors_, b.std_errors_)
    assert a.residual_std_ == b.residual_std_


def test_inference_leaves_the_rows_out():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((150, 3))
    y = X[:, 0] + rng.standard_normal(150)
    weights = rng.integers(0, 3, 150).astype(float)
    used = weights > 0.0
    y[~used], X[~used] = -1e300, LARGE
    for model, t in (
        (LinearRegression(), y),
        (LogisticRegression(C=math.inf), np.where(used, y > 0.0, 7)),
        (LogisticRegression(C=math.inf), np.where(used, np.digitize(y, [-1, 1]), 9)),
    ):
        model.fit(X, t, weights)
        part = X[used], t[used], weights[used]
        for sandwich in (False, True):
            np.testing.assert_array_equal(
                model.cov_params(X, t, weights, sandwich=sandwich),
                model.cov_params(*part, sandwich=sandwich),
            )
        a, b = model.diagnose(X, t, weights), model.diagnose(*part)
        assert (a.rank, a.condition) == (b.rank, b.condition)


# Classes.


def labelled():
    rng = np.random.default_rng(8)
    X = rng.standard_normal((300, 3))
    y = np.argmax(X * 2.0 + rng.gumbel(size=(300, 3)), axis=1)
    return X, y


def test_a_label_without_weight_is_none():
    X, y = labelled()
    model = LogisticRegression().fit(X, y, (y != 2).astype(float))
    expected = LogisticRegression().fit(X[y != 2], y[y != 2])
    np.testing.assert_array_equal(model.classes_, [0, 1])
    np.testing.assert_array_equal(model.coef_, expected.coef_)
    two = SigmoidLeastSquaresClassifier().fit(X, y, (y != 0).astype(float))
    np.testing.assert_array_equal(two.classes_, [1, 2])


def test_a_class_of_weight_zero_is_absent():
    X, y = labelled()
    model = LogisticRegression(class_weight={1: 0.0, 2: 3.0}).fit(X, y)
    part = LogisticRegression(class_weight={2: 3.0}).fit(X[y != 1], y[y != 1])
    np.testing.assert_array_equal(model.classes_, [0, 2])
    np.testing.assert_array_equal(model.coef_, part.coef_)
    for weights in ({0: 0.0, 1: 0.0}, {0: 0.0, 1: 0.0, 2: 0.0}):
        with pytest.raises(ValueError, match="y must hold two classes or more"):
            LogisticRegression(class_weight=weights).fit(X, y)
    with pytest.raises(ValueError, match="y must hold two classes or more"):
        LogisticRegression().fit(X, y, (y == 1).astype(float))
    free = LogisticRegression(C=math.inf, class_weight={1: 0.0}).fit(X, y)
    used = y != 1
    part = LogisticRegression(C=math.inf).fit(X[used], y[used])
    np.testing.assert_array_equal(
        free.std_errors(X, y), part.std_errors(X[used], y[used])
    )
    every = LogisticRegression(C=math.inf).fit(X, y)
    with pytest.raises(ValueError, match="every class of the fit, got none of"):
        every.std_errors(X, y, (y > 0).astype(float))


@pytest.mark.parametrize("weight", [-1.0, math.inf, math.nan])
def test_class_weights_that_are_no_weights_are_named(weight):
    X, y = labelled()
    with pytest.raises(ValueError, match="class_weight must hold finite numbers >= 0"):
        LogisticRegression(class_weight={1: weight}).fit(X, y)


def test_balanced_classes_weigh_the_same_whatever_the_weights_of_rows():
    X, y = labelled()
    weights = np.zeros(300)
    weights[200:] = np.arange(1, 101) % 3
    model = LogisticRegression(class_weight="balanced", C=2.0).fit(X, y, weights)
    # By hand: every class has a third of the weight.
    by_class = weights.sum() / 3.0 / np.bincount(y, weights)
    by_hand = LogisticRegression(C=2.0).fit(X, y, weights * by_class[y])
    np.testing.assert_allclose(model.coef_, by_hand.coef_, rtol=1e-9)
    repeated = np.repeat(np.arange(300), weights.astype(int))
    copies = LogisticRegression(class_weight="balanced", C=2.0)
    copies.fit(X[repeated], y[repeated])
    np.testing.assert_allclose(model.coef_, copies.coef_, rtol=1e-9)


@pytest.mark.parametrize("class_weight", [None, "balanced", {0: 10.0, 1: 1.0, 2: 1.0}])
def test_bagging_with_a_rare_class(class_weight):
    X, y = labelled()
    y[:] = np.where(y == 0, 1, y)
    y[0] = 0  # in a third of the draws there is none of it
    base = LogisticRegression(class_weight=class_weight)
    model = BaggingClassifier(base, n_estimators=10, random_state=0).fit(X, y)
    sizes = {len(fit.classes_) for fit in model.estimators_}
    assert sizes == {2, 3}
    np.testing.assert_allclose(model.predict_proba(X).sum(axis=1), 1.0)


def test_what_is_said_of_an_absent_label_is_no_mistake():
    X, y = labelled()
    model = LogisticRegression(class_weight={2: 5.0})
    model.fit(X, y, (y != 2).astype(float))
    np.testing.assert_array_equal(model.classes_, [0, 1])
    with pytest.raises(ValueError, match="not in class_weight"):
        LogisticRegression(class_weight={7: 5.0}).fit(X, y)


def test_minimize_finds_the_same_in_pieces(monkeypatch):
    X, y = labelled()
    weights = np.arange(300.0) % 3
    expected = minimize(
        SoftmaxModel(X, y, l2=0.1, sample_weight=weights), SubsampledNewton(1.0)
    )
    monkeypatch.setattr(picked, "PIECE", 300)
    monkeypatch.setattr(picked, "CHUNK", 17)
    for make in (np.asfortranarray, sp.csr_array):
        problem = SoftmaxModel(make(X), y, l2=0.1, sample_weight=weights)
        found = minimize(problem, SubsampledNewton(1.0))
        np.testing.assert_allclose(found.w, expected.w, rtol=1e-9, atol=1e-12)
        assert found.passes == expected.passes
