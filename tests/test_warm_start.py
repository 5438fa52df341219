"""A warm start changes where a fit begins, never what it is worth."""

from dataclasses import replace

import numpy as np
import pytest

from subsampled_newton import (
    LinearRegression,
    LogisticRegression,
    Ridge,
    SigmoidLeastSquaresClassifier,
    Status,
    SubsampledNewton,
)

rng = np.random.default_rng(0)
X = rng.standard_normal((300, 3))
noise = rng.logistic(size=300)
binary = (X @ [1.0, 0.5, -1.0] + noise > 0.0).astype(int)
three = np.digitize(X @ [1.0, 0.5, -1.0] + noise, [-1.0, 1.0])
real = X @ [1.0, 2.0, 3.0] + noise
targets = np.column_stack([real, X @ [3.0, 2.0, 1.0] - noise])

FITS = {
    "two classes": (LogisticRegression, binary),
    "three classes": (LogisticRegression, three),
    "sigmoid": (SigmoidLeastSquaresClassifier, binary),
    "ridge": (Ridge, real),
    "ridge by newton": (lambda **kw: Ridge(**{"solver": "newton", **kw}), real),
    "least squares": (LinearRegression, real),
    "two targets": (lambda **kw: Ridge(solver="lbfgs", **kw), targets),
}


@pytest.mark.parametrize("shift", [1e4, -1e4, 1e8])
@pytest.mark.parametrize("name", FITS)
def test_a_shift_of_the_data_between_two_fits_does_no_harm(name, shift):
    build, y = FITS[name]
    model = build(warm_start=True).fit(X, y)
    plain = build().fit(X, y)
    # A warning is an error here.
    model.fit(X + shift, y)
    assert model.result_.converged
    forecast, expected = model.predict(X + shift), plain.predict(X)
    if name in ("two classes", "three classes", "sigmoid"):
        assert np.mean(forecast != expected) <= 0.01
        assert model.result_.value <= plain.result_.value + 1e-8
    else:
        np.testing.assert_allclose(forecast, expected, rtol=1e-5, atol=1e-5)


def test_a_shift_costs_the_iterations_of_no_cold_fit():
    model = LogisticRegression(warm_start=True).fit(X, binary)
    cold = model.n_iter_[0]
    assert model.fit(X + 1e4, binary).n_iter_[0] < cold
    again = model.fit(X + 1e4, binary)
    assert again.n_iter_[0] == 0


@pytest.mark.parametrize("solver", ["auto", "newton-cg", "lbfgs", "saga", "nesterov"])
@pytest.mark.parametrize("size", [1e3, 1e6, 1e200])
@pytest.mark.parametrize("y", [binary, three], ids=["two", "three"])
def test_a_saturated_start_is_as_good_as_none(solver, size, y):
    options = {"solver": solver, "alpha": 1e-2, "max_iter": 500, "tol": 1e-6}
    cold = LogisticRegression(**options).fit(X, y)
    model = LogisticRegression(warm_start=True, **options).fit(X, y)
    for seed in range(3):
        draws = np.random.default_rng(seed)
        model.coef_ = size * draws.standard_normal(model.coef_.shape)
        model.intercept_ = size * draws.standard_normal(model.intercept_.shape)
        model.fit(X, y)
        assert model.result_.converged
        assert model.result_.value <= cold.result_.value + 1e-8


def test_a_start_with_a_few_saturated_rows_is_as_good_as_none():
    # F is below F(0) there, but one row is far on the wrong side.
    far = np.vstack([X, [[500.0, 0.0, 0.0]]])
    y = np.append(binary, 0)
    cold = LogisticRegression(C=1e6).fit(far, y)
    model = LogisticRegression(C=1e6, warm_start=True).fit(X, binary)
    model.fit(far, y)
    assert model.result_.converged
    assert model.result_.value <= cold.result_.value + 1e-9


def test_a_worse_local_minimum_near_the_last_solution_is_left():
    # The sigmoid loss is flat where all rows are far on one side.
    cold = SigmoidLeastSquaresClassifier().fit(X, binary)
    model = SigmoidLeastSquaresClassifier(warm_start=True).fit(X, binary)
    for seed in range(5):
        draws = np.random.default_rng(seed)
        model.coef_ = 30.0 * draws.standard_normal(model.coef_.shape)
        model.intercept_ = 30.0 * draws.standard_normal(1)
        model.fit(X, binary)
        assert model.result_.converged
        assert model.result_.value <= cold.result_.value + 1e-9


@pytest.mark.parametrize("model", [Ridge(), LinearRegression(), Ridge(solver="lbfgs")])
@pytest.mark.parametrize("fit_intercept", [False, True])
def test_several_targets_start_from_their_own_solutions(model, fit_intercept):
    model = model.set_params(fit_intercept=fit_intercept, warm_start=True)
    first = model.fit(X, targets).predict(X)
    np.testing.assert_allclose(model.fit(X, targets).predict(X), first, rtol=1e-8)
    # From fits without an intercept to fits with one, and back.
    model.set_params(fit_intercept=not fit_intercept).fit(X, targets)
    assert model.result_.converged


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e308])
@pytest.mark.parametrize("name", FITS)
def test_coefficients_that_are_no_start_are_left_out(name, bad):
    build, y = FITS[name]
    model = build(warm_start=True).fit(X, y)
    expected = model.predict(X)
    for attribute in ("coef_", "intercept_"):
        setattr(model, attribute, np.full_like(getattr(model, attribute), bad))
        model.fit(X, y)
        assert model.result_.converged
        np.testing.assert_allclose(model.predict(X), expected, rtol=1e-5)


class OnlyFromZero:
    """Newton's method, which fails from any other start."""

    def init(self, problem, point, rng):
        return SubsampledNewton(1.0).init(problem, point, rng)

    def step(self, problem, state, rng):
        if state.iteration == 0 and np.any(state.point.w):
            return replace(state, iteration=1, outcome=Status.NOT_DESCENT)
        return SubsampledNewton(1.0).step(problem, state, rng)


@pytest.mark.parametrize("name", ["two classes", "three classes", "ridge by newton"])
def test_a_cold_fit_follows_where_a_warm_one_fails(name):
    build, y = FITS[name]
    model = build(warm_start=True).fit(X, y)
    expected = model.coef_
    model.coef_ = 0.9 * expected
    model.set_params(solver=OnlyFromZero()).fit(X, y)
    assert model.result_.converged
    np.testing.assert_allclose(model.coef_, expected, rtol=1e-6)
