"""Nearly flat objectives: a small gradient that does not mean a small error."""

import warnings
from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp
from sklearn.exceptions import ConvergenceWarning

from subsampled_newton import (
    LOGISTIC,
    LinearModel,
    LinearRegression,
    LogisticRegression,
    SoftmaxModel,
    Status,
    SubsampledNewton,
    minimize,
)
from subsampled_newton.sampling import uniform
from subsampled_newton.solvers._polish import (
    CHECK_ROWS,
    FactoredNewton,
    _steep,
    assured,
    curvature_factor,
)


def nearly_dependent(n_classes=2, seed=0, n=80, size=3e-8):
    """A column twice, the second time with a small error that says a lot."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, 3))
    hidden = rng.standard_normal(n)
    X = np.column_stack([X, X[:, 0] + size * hidden])
    z = X[:, :2].sum(axis=1) + 2.0 * hidden
    y = np.digitize(z + rng.logistic(size=n), [0.0] if n_classes == 2 else [-1.5, 1.5])
    # The same columns, well conditioned: the same minimum.
    return X, np.column_stack([X[:, :3], hidden]), y


def value(model, X, y):
    return -np.mean(model.predict_log_proba(X)[np.arange(len(y)), y])


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("layout", [np.asarray, sp.csr_array])
def test_default_reaches_the_minimum(n_classes, layout):
    X, good, y = nearly_dependent(n_classes)
    free = LogisticRegression(C=np.inf)
    best = value(free.fit(good, y), good, y)
    model = LogisticRegression(C=np.inf).fit(layout(X), y)
    small = model.result_.gradient_norm <= model.tol
    assert model.result_.status.name == ("CONVERGED" if small else "PRECISION")
    assert value(model, X, y) == pytest.approx(best, rel=1e-6)
    # One run: the trace goes on.
    history = model.history_
    assert len(history["value"]) == model.n_iter_[0] + 1
    np.testing.assert_array_equal(history["iteration"], range(model.n_iter_[0] + 1))
    for name in ("passes", "props", "seconds"):
        assert np.all(np.diff(history[name]) >= 0.0)
    assert model.result_.passes == history["passes"][-1]
    assert model.result_.value == pytest.approx(best, rel=1e-6)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("layout", [np.asarray, sp.csr_array])
def test_a_gradient_below_the_rounding_of_the_hessian_is_seen(layout):
    for seed in range(4):
        X, good, y = nearly_dependent(seed=seed, size=1e-11)
        good[:, 3] = (X[:, 3] - X[:, 0]) / 1e-11  # as it is after rounding
        free = LogisticRegression(C=np.inf)
        best = value(free.fit(good, y), good, y)
        assert value(free.fit(layout(X), y), X, y) == pytest.approx(best, rel=1e-4)


def test_a_column_that_the_sample_does_not_see_is_not_dependent(rng):
    n = 5000
    seen = uniform(n, CHECK_ROWS, np.random.default_rng(0)).rows
    X = np.column_stack([rng.standard_normal(n), np.zeros(n)])
    X[np.setdiff1d(np.arange(n), seen)[:40], 1] = 1.0
    y = np.where(X.sum(axis=1) + rng.logistic(size=n) > 0.0, 1.0, -1.0)
    problem = LinearModel(LOGISTIC, X, y)
    exact = minimize(problem, SubsampledNewton(1.0), tol=1e-10)
    gradient = np.array([0.0, 1e-6])
    found = replace(exact, gradient=gradient, gradient_norm=1e-6)
    assert _steep(problem, exact, 1e-12)
    assert not _steep(problem, found, 1e-12)


@pytest.mark.parametrize("solver", ["newton", "lbfgs", "trust-region"])
def test_other_solvers_say_that_more_may_be_left(solver):
    X, good, y = nearly_dependent()
    best = value(LogisticRegression(C=np.inf).fit(good, y), good, y)
    with pytest.warns(ConvergenceWarning, match="so flat in some direction"):
        model = LogisticRegression(C=np.inf, solver=solver).fit(X, y)
    assert model.result_.status.name == "FLAT"
    # As the status says: more than a millionth of the possible decrease is left. How
    # much more is rounding, which differs between processors.
    assert value(model, X, y) - best > 1e-6 * (np.log(2.0) - best)
    assert model.result_.gradient_norm <= model.tol


def test_least_squares_by_a_general_solver_say_so():
    X, good, y = nearly_dependent()
    with pytest.warns(ConvergenceWarning, match="FLAT"):
        LinearRegression(solver="newton").fit(X, y)
    exact, reference = LinearRegression().fit(X, y), LinearRegression().fit(good, y)
    np.testing.assert_allclose(exact.predict(X), reference.predict(good), atol=1e-6)


def test_dependent_columns_are_not_flat():
    X, _, y = nearly_dependent()
    X[:, 3] = X[:, 0]
    for solver in ("auto", "newton", "lbfgs"):
        model = LogisticRegression(C=np.inf, solver=solver).fit(X, y)
        assert model.result_.converged


def test_large_tol_asks_for_less():
    X, _, y = nearly_dependent()
    model = LogisticRegression(C=np.inf, solver="newton", tol=0.02).fit(X, y)
    assert model.result_.status.name == "CONVERGED"


def test_penalty_decides_without_a_look_at_the_rows(monkeypatch):
    # The gradient bounds the error where the penalty is not tiny.
    monkeypatch.setattr(FactoredNewton, "step", None)
    rng = np.random.default_rng(0)
    X = rng.standard_normal((200, 3)) * [1.0, 1e3, 1e-3]
    y = (X[:, 0] + rng.standard_normal(200) > 0).astype(int)
    for C in (1.0, np.inf):
        assert LogisticRegression(C=C).fit(X, y).result_.converged


def test_limit_of_iterations_holds():
    X, _, y = nearly_dependent()
    usual = LogisticRegression(C=np.inf).fit(X, y).n_iter_[0]
    for limit in range(1, usual):
        model = LogisticRegression(C=np.inf, max_iter=limit)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            model.fit(X, y)
        assert model.n_iter_[0] <= limit
        assert caught
        assert not model.result_.converged


def test_stuck_at_the_minimum_is_no_failure():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((80, 3))
    y = np.where(X[:, 0] + rng.logistic(size=80) > 0, 1.0, -1.0)
    problem = LinearModel(LOGISTIC, X, y)
    for max_iter, expected in ((20, "PRECISION"), (1, "SMALL_STEP")):
        found = minimize(problem, SubsampledNewton(1.0), max_iter=max_iter)
        stuck = replace(found, status=Status.SMALL_STEP)
        after = assured(problem, stuck, tol=1e-8, polish=0)
        assert after.status.name == expected
        np.testing.assert_array_equal(after.w, found.w)


@pytest.mark.parametrize("ridge", [True, False])
@pytest.mark.parametrize("n_classes", [2, 3])
def test_factor_whitens_the_hessian(n_classes, ridge):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((50, 4))
    weights = rng.random(50)
    if n_classes == 2:
        y = rng.choice([-1.0, 1.0], 50)
        problem = LinearModel(LOGISTIC, X, y, l2=0.1, sample_weight=weights)
    else:
        problem = SoftmaxModel(X, rng.integers(3, size=50), l2=0.1)
    point = problem.at(rng.standard_normal(problem.n_params))
    H = problem.hessian_at(point.z, 1 / 50, "hessian").dense()
    H -= 0.0 if ridge else 0.1 * np.eye(len(H))
    W = curvature_factor(problem, point, ridge=ridge).matrix
    np.testing.assert_allclose(W.T @ H @ W, np.eye(len(H)), atol=1e-12)


def test_factored_newton_is_newton():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((100, 3))
    y = np.where(X[:, 0] + rng.logistic(size=100) > 0, 1.0, -1.0)
    problem = LinearModel(LOGISTIC, X, y, l2=1e-3)
    found = minimize(problem, FactoredNewton(1e-12), tol=0.0)
    assert found.converged
    np.testing.assert_allclose(problem.at(found.w).gradient, 0.0, atol=1e-7)
    assert found.n_iter < 10
