"""Fewer rows than columns: the exact answer in coordinates of the row space."""

import numpy as np
import pytest
import scipy.sparse as sp
from sklearn import linear_model
from sklearn.base import clone

from subsampled_newton import (
    LinearRegression,
    LogisticRegression,
    Ridge,
    as_rows,
    minimize,
)
from subsampled_newton.estimators import _linear, _targets
from subsampled_newton.solvers._whitener import Whitener


def wide(n, d, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, d)) * np.exp(rng.standard_normal(d)) + 0.2
    return X, X[:, :5].sum(axis=1) + rng.standard_normal(n)


def kernel_ridge(X, y, weights, alpha, fit_intercept):
    """Predictor by the n x n system of the dual problem."""
    root = np.sqrt(weights)
    center, mean = np.zeros(X.shape[1]), 0.0
    if fit_intercept:
        center, mean = np.average(X, axis=0, weights=weights), weights @ y
        mean /= weights.sum()
    A, b = root[:, None] * (X - center), root * (y - mean)
    w = A.T @ np.linalg.solve(A @ A.T + alpha * np.eye(len(y)), b)
    return w, mean - center @ w


@pytest.mark.parametrize("d", [200, 3100])
@pytest.mark.parametrize("alpha", [1e-4, 1.0])
@pytest.mark.parametrize("fit_intercept", [True, False])
def test_ridge_is_that_of_the_dual_problem(d, alpha, fit_intercept):
    X, y = wide(40, d)
    weights = np.random.default_rng(1).integers(0, 3, 40).astype(float)
    model = Ridge(alpha, fit_intercept=fit_intercept).fit(X, y, weights)
    w, b = kernel_ridge(X, y, weights, alpha, fit_intercept)
    assert model.result_.converged
    np.testing.assert_allclose(model.coef_, w, atol=1e-9 * np.abs(w).max())
    assert model.intercept_ == pytest.approx(b, rel=1e-9, abs=1e-9)
    assert model.result_.w.size == d + fit_intercept


def test_several_targets():
    X, y = wide(30, 100)
    Y = np.column_stack([y, y**2, -y])
    model = Ridge(0.1).fit(X, Y)
    expected = linear_model.Ridge(0.1, solver="svd").fit(X, Y)
    np.testing.assert_allclose(model.coef_, expected.coef_, atol=1e-10)


@pytest.mark.parametrize(("n", "d"), [(30, 100), (200, 20)])
@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("alpha", [0.0, 0.1])
def test_many_targets_share_their_reads(n, d, fit_intercept, alpha, monkeypatch):
    X, y = wide(n, d)
    rng = np.random.default_rng(1)
    weights = rng.integers(0, 3, n).astype(float)
    Y = y[:, None] * rng.standard_normal(150) + rng.standard_normal((n, 150)) + 3.0
    Y *= 10.0 ** rng.uniform(-150, 150, 150)
    Y[:, 70] = 2.0
    runs = []

    def counted(*args, **kwargs):
        runs.append(1)
        return minimize(*args, **kwargs)

    monkeypatch.setattr(_linear, "minimize", counted)
    make = Ridge(alpha, fit_intercept=fit_intercept)
    if not alpha:
        make = LinearRegression(fit_intercept=fit_intercept)
    model = clone(make).fit(X, Y, weights)
    assert len(runs) <= 3
    assert model.n_iter_.shape == (150,)
    for k in (0, 1, 64, 70, 100, 149):
        alone = clone(make).fit(X, Y[:, k], weights)
        atol = 1e-8 * (np.abs(alone.coef_).max() + 1e-300)
        np.testing.assert_allclose(model.coef_[k], alone.coef_, atol=atol)
        expected, ours = alone.predict(X), model.predict(X)[:, k]
        np.testing.assert_allclose(ours, expected, atol=1e-8 * np.abs(Y[:, k]).max())


def test_targets_that_a_shared_step_does_not_solve_have_runs_of_their_own():
    rng = np.random.default_rng(0)
    shared = _targets.SharedProblem(
        as_rows(rng.standard_normal((50, 3))),
        np.full(50, 0.02),
        np.zeros(3),
        Whitener.from_gram(np.eye(3)),
    )
    Y = rng.standard_normal((50, 2)) * [1.0, 0.0]
    targets = _targets.Targets(Y, np.zeros(2), np.ones(2))
    # The factor is that of other rows: four steps are too few for 1e-12.
    _, n_steps = _targets.solve(shared, targets, tol=1e-12, rtol=1e-12)
    np.testing.assert_array_equal(n_steps, [-1, 0])


def test_least_squares_of_the_smallest_norm():
    X, y = wide(30, 100)
    X /= X.std(axis=0)
    model = LinearRegression().fit(X, y)
    expected = linear_model.LinearRegression().fit(X, y)
    assert model.rank_ == 29
    np.testing.assert_allclose(model.predict(X), y, atol=1e-10)
    np.testing.assert_allclose(model.coef_, expected.coef_, rtol=0.2, atol=0.01)


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("fit_intercept", [True, False])
def test_classes(classes, fit_intercept):
    X, y = wide(40, 300)
    codes = np.digitize(y, np.quantile(y, np.arange(1, classes) / classes))
    model = LogisticRegression(fit_intercept=fit_intercept).fit(X, codes)
    # The same problem in all coordinates.
    whole = LogisticRegression(fit_intercept=fit_intercept, solver="newton")
    whole.fit(X, codes)
    assert model.result_.converged
    np.testing.assert_allclose(model.coef_, whole.coef_, atol=1e-7)
    np.testing.assert_allclose(model.intercept_, whole.intercept_, atol=1e-7)
    assert model.result_.w.shape == whole.result_.w.shape
    np.testing.assert_allclose(model.result_.w, whole.result_.w, atol=1e-6)
    assert model.result_.gradient.shape == whole.result_.gradient.shape


def test_separable_classes_are_named_and_weightless_rows_have_no_say():
    X, y = wide(40, 300)
    with pytest.warns(match="SEPARABLE"):
        LogisticRegression(C=np.inf).fit(X, y > 0)
    weights = np.ones(40)
    weights[:3] = 0.0
    far = X.copy()
    far[:3] = 1e6
    model = Ridge().fit(far, y, weights)
    expected = Ridge().fit(X[3:], y[3:])
    np.testing.assert_allclose(model.coef_, expected.coef_, atol=1e-10)


@pytest.mark.parametrize("constant", [0.0, 2.0])
@pytest.mark.parametrize("fit_intercept", [True, False])
def test_constant_columns(constant, fit_intercept):
    X, y = wide(20, 60)
    X[:, 3] = constant
    model = Ridge(0.1, fit_intercept=fit_intercept).fit(X, y)
    expected = linear_model.Ridge(0.1, fit_intercept=fit_intercept, solver="svd")
    np.testing.assert_allclose(model.coef_, expected.fit(X, y).coef_, atol=1e-10)
    classes = LogisticRegression(fit_intercept=fit_intercept).fit(X, y > 0)
    whole = LogisticRegression(fit_intercept=fit_intercept, solver="newton")
    whole.fit(X, y > 0)
    np.testing.assert_allclose(classes.coef_, whole.coef_, atol=1e-7)


@pytest.mark.parametrize("alpha", [0.0, 1e-4, 1.0])
def test_sparse_rows_with_more_than_3000_columns_are_exact(alpha):
    X, y = wide(40, 3100)
    X[np.random.default_rng(1).random(X.shape) < 0.7] = 0.0
    X[:, :4] = 0.0
    make = Ridge(alpha) if alpha else LinearRegression()
    model = clone(make).fit(sp.csr_matrix(X), y)
    assert model.result_.converged
    if alpha:
        w, b = kernel_ridge(X, y, np.ones(40), alpha, True)
        np.testing.assert_allclose(model.coef_, w, atol=1e-9 * np.abs(w).max())
        assert model.intercept_ == pytest.approx(b, rel=1e-9, abs=1e-9)
    else:
        np.testing.assert_allclose(model.predict(sp.csr_matrix(X)), y, atol=1e-9)
        assert model.rank_ == 39


def test_sparse_data_with_many_columns_form_no_matrix():
    rng = np.random.default_rng(0)
    X = sp.random(3000, 800, 0.01, format="csr", random_state=0)
    y = X @ rng.standard_normal(800) + 0.3 * rng.standard_normal(3000) > 0
    model = LogisticRegression().fit(X, y)
    assert model.result_.solver.linear_solver == "cg"
    whole = LogisticRegression(solver="newton").fit(X, y)
    assert model.result_.converged
    np.testing.assert_allclose(model.coef_, whole.coef_, atol=1e-6)
