"""Nonlinear regression as a user of scikit-learn meets it."""

import math
import pickle
import warnings

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV
from sklearn.utils.estimator_checks import estimator_checks_generator

from subsampled_newton import (
    CubicRegularization,
    NonlinearLeastSquares,
    SubsampledNewton,
    TrustRegion,
)
from subsampled_newton.solvers.levenberg_marquardt import LevenbergMarquardt


def affine(params, x):
    """A linear model of up to ten predictors, whatever their number."""
    total = params[0]
    for j in range(min(len(x), 10)):
        total += params[j + 1] * x[j]
    return total


CHECKS = list(
    estimator_checks_generator(NonlinearLeastSquares(affine, np.zeros(11), alpha=1e-6))
)


def name_of(check):
    """Without the address of the model, which no two processes share."""
    return getattr(check, "func", check).__name__


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.SkipTestWarning")
@pytest.mark.parametrize(
    ("estimator", "check"), CHECKS, ids=[name_of(check) for _, check in CHECKS]
)
def test_sklearn_conventions(estimator, check):
    check(estimator)


def decay(params, x):
    """Parameters of sizes 1e-5 and 1e5."""
    return params[0] * 1e5 * math.exp(-params[1] * 1e-5 * x[0]) + params[2]


START = [2e-5, 0.5e5, 0.0]


def linear_data(n=80, d=3, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, d))
    return X, 1.0 + X @ np.arange(1.0, d + 1) + rng.standard_normal(n)


def decay_data(n=200, noise=0.02):
    rng = np.random.default_rng(1)
    X = np.sort(rng.uniform(0.0, 3.0, n))[:, None]
    return X, 3.0 * np.exp(-0.8 * X[:, 0]) + 1.0 + noise * rng.standard_normal(n)


def ordinary(X, y, weights):
    """Weighted least squares from the normal equations, with its covariance."""
    A = np.column_stack([np.ones(len(X)), X])
    M = A.T @ (weights[:, None] * A)
    w = np.linalg.solve(M, A.T @ (weights * y))
    r = y - A @ w
    variance = np.sum(weights * r**2) / (np.count_nonzero(weights) - A.shape[1])
    return w, variance, variance * np.linalg.inv(M)


@pytest.mark.parametrize("factor", [1.0, 7.0])
def test_statistics_are_those_of_weighted_linear_regression(factor):
    X, y = linear_data()
    weights = factor * np.random.default_rng(2).integers(0, 3, 80)
    model = NonlinearLeastSquares(affine, np.zeros(4)).fit(X, y, weights)
    w, variance, covariance = ordinary(X, y, weights)
    np.testing.assert_allclose(model.params_, w, rtol=1e-12)
    assert model.residual_std_ == pytest.approx(math.sqrt(variance), rel=1e-12)
    np.testing.assert_allclose(model.cov_params_, covariance, rtol=1e-10, atol=1e-15)
    np.testing.assert_allclose(model.std_errors_**2, np.diag(covariance), rtol=1e-10)
    np.testing.assert_allclose(
        model.predict(X), np.column_stack([np.ones(80), X]) @ w, rtol=1e-12
    )


def test_ridge_is_that_of_the_mean_form():
    X, y = linear_data()
    model = NonlinearLeastSquares(affine, np.zeros(4), alpha=0.3).fit(X, y)
    A = np.column_stack([np.ones(80), X])
    inverse = np.linalg.inv(A.T @ A + 80 * 0.3 * np.eye(4))
    np.testing.assert_allclose(model.params_, inverse @ A.T @ y, rtol=1e-11)
    r = y - A @ model.params_
    covariance = inverse @ A.T @ A @ inverse * (r @ r) / 76
    np.testing.assert_allclose(model.cov_params_, covariance, rtol=1e-9, atol=1e-15)


def test_weights_remove_and_repeat_rows():
    X, y = decay_data()
    times = np.random.default_rng(3).integers(0, 3, len(X))
    weighted = NonlinearLeastSquares(decay, START).fit(X, y, times)
    repeated = NonlinearLeastSquares(decay, START).fit(
        np.repeat(X, times, axis=0), np.repeat(y, times)
    )
    np.testing.assert_allclose(weighted.params_, repeated.params_, rtol=1e-9)


def test_undetermined_parameters_are_said_to_be_so():
    def product(params, x):
        return params[0] * params[1] * x[0]

    X, y = linear_data(d=1)
    model = NonlinearLeastSquares(product, [1.0, 2.0])
    with pytest.warns(ConvergenceWarning, match="RANK_DEFICIENT: The data do not"):
        model.fit(X, y)
    assert np.all(np.isnan(model.std_errors_))
    assert math.isfinite(model.residual_std_)
    assert clone(model).set_params(alpha=1e-3).fit(X, y).result_.converged


def test_other_solvers_do_not_call_undetermined_parameters_converged():
    def product(params, x):
        return params[0] * params[1] * x[0]

    X, y = linear_data(d=1)
    model = NonlinearLeastSquares(product, [1.0, 2.0], solver=TrustRegion(1.0))
    with pytest.warns(ConvergenceWarning):
        model.fit(X, y)
    assert not model.result_.converged


@pytest.mark.parametrize(
    "solver",
    [
        "levenberg-marquardt",
        LevenbergMarquardt(0.3),
        TrustRegion(1.0),
        CubicRegularization(1.0),
        SubsampledNewton(1.0, curvature="gauss-newton"),
    ],
    ids=["name", "sampled", "trust region", "cubic", "gauss-newton"],
)
def test_solvers_agree_on_badly_scaled_parameters(solver):
    X, y = decay_data()
    reference = NonlinearLeastSquares(decay, START).fit(X, y)
    model = NonlinearLeastSquares(
        decay, START, solver=solver, tol=1e-9, random_state=0
    ).fit(X, y)
    assert reference.params_[1] / reference.params_[0] > 1e9
    np.testing.assert_allclose(model.params_, reference.params_, rtol=1e-7)
    np.testing.assert_allclose(model.std_errors_, reference.std_errors_, rtol=1e-7)


def test_function_may_be_the_residual():
    X, y = decay_data()

    def residual(params, x):
        return decay(params, x) - x[1]

    model = NonlinearLeastSquares(residual, START).fit(np.column_stack([X, y]))
    reference = NonlinearLeastSquares(decay, START).fit(X, y)
    np.testing.assert_allclose(model.params_, reference.params_, rtol=1e-10)
    np.testing.assert_allclose(model.std_errors_, reference.std_errors_, rtol=1e-9)


def test_derivatives_of_the_user():
    def jacobian(params, x):
        e = math.exp(-params[1] * 1e-5 * x[0])
        return 1e5 * e, -params[0] * x[0] * e, 1.0

    X, y = decay_data()
    model = NonlinearLeastSquares(decay, START, jacobian=jacobian).fit(X, y)
    reference = NonlinearLeastSquares(decay, START).fit(X, y)
    np.testing.assert_allclose(model.params_, reference.params_, rtol=1e-10)


def test_result_does_not_depend_on_threads_nor_a_sampled_one_on_luck():
    X, y = decay_data(n=20_000)
    model = NonlinearLeastSquares(decay, START, solver=LevenbergMarquardt(0.1))
    model.set_params(random_state=5, tol=1e-9)
    first = clone(model).set_params(n_jobs=1).fit(X, y)
    second = clone(model).set_params(n_jobs=2).fit(X, y)
    assert np.array_equal(first.params_, second.params_)
    assert np.array_equal(first.predict(X), second.predict(X))


def test_limit_of_iterations_is_a_warning():
    X, y = decay_data()
    model = NonlinearLeastSquares(decay, START, max_iter=2)
    with pytest.warns(ConvergenceWarning, match="MAX_ITER: The limit of iterations"):
        model.fit(X, y)
    assert model.n_iter_ == 2
    assert len(model.history_["value"]) == 3
    assert np.all(model.std_errors_ > 0.0)


def test_as_many_rows_as_parameters_leave_no_variance():
    X, y = linear_data(n=4)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = NonlinearLeastSquares(affine, np.zeros(4)).fit(X, y)
    np.testing.assert_allclose(model.predict(X), y, rtol=1e-12)
    assert math.isnan(model.residual_std_)
    assert np.all(np.isnan(model.std_errors_))


@pytest.mark.parametrize("start", [[1.0], [1.0, 1.0], [3.0, 1.0]])
def test_derivative_that_is_not_finite_at_the_start_is_a_status(start):
    def root(p, x):
        factor = 2.0 if len(p) == 1 else p[1]
        return factor * math.sqrt(x[0] - p[0])

    X = np.arange(1.0, 11.0)[:, None]
    with pytest.warns(ConvergenceWarning, match="NON_FINITE: .*the function, its"):
        model = NonlinearLeastSquares(root, start).fit(X, np.sqrt(X[:, 0]))
    assert np.array_equal(model.params_, start)
    assert np.all(np.isnan(model.std_errors_))


def test_lives_with_pandas_pickle_and_a_grid():
    X, y = linear_data()
    frame = pd.DataFrame(X, columns=list("abc"))
    model = NonlinearLeastSquares(affine, np.zeros(4)).fit(frame, y)
    assert list(model.feature_names_in_) == ["a", "b", "c"]
    again = pickle.loads(pickle.dumps(model))
    assert np.array_equal(again.predict(frame), model.predict(frame))
    grid = GridSearchCV(clone(model), {"alpha": [1e-6, 10.0]}, cv=3).fit(X, y)
    assert grid.best_params_ == {"alpha": 1e-6}


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"start": [[1.0, 2.0]]}, ValueError, "start must be a vector of finite"),
        ({"start": [np.nan]}, ValueError, "start must be a vector of finite numbers"),
        ({"start": []}, ValueError, "start must be a vector of finite numbers"),
        ({"function": "affine"}, ValueError, "'function' parameter"),
        ({"solver": "newton"}, ValueError, "'solver' parameter"),
        ({"alpha": -1.0}, ValueError, "'alpha' parameter"),
        ({"function": print}, TypeError, "a plain Python function can be compiled"),
    ],
)
def test_bad_parameters_are_named(arguments, error, message):
    X, y = linear_data()
    model = NonlinearLeastSquares(affine, np.zeros(4)).set_params(**arguments)
    with pytest.raises(error, match=message):
        model.fit(X, y)


def test_small_fit_by_a_solver_with_units_agrees():
    X = np.linspace(0.0, 2.0, 7)[:, None]
    y = 2000.0 * np.exp(-X[:, 0]) + np.array([1.0, -2.0, 1.0, 0.0, 2.0, -1.0, 0.0])

    def model(p, x):
        return p[0] * math.exp(-p[1] * x[0])

    exact = NonlinearLeastSquares(model, [1500.0, 0.8]).fit(X, y)
    other = NonlinearLeastSquares(model, [1500.0, 0.8], solver=TrustRegion(1.0))
    np.testing.assert_allclose(other.fit(X, y).params_, exact.params_, rtol=1e-7)
    np.testing.assert_allclose(other.std_errors_, exact.std_errors_, rtol=1e-6)
