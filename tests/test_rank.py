"""Columns that are dependent up to the rounding of the data as given."""

import warnings

import numpy as np
import pytest
from scipy.linalg import LinAlgWarning

from subsampled_newton import LinearRegression, LogisticRegression, Ridge

SOLVERS = ["auto", "cholesky", "qr", "sketch", "iterative-sketch", "newton", "lbfgs"]


def two_units(seed=0, n=200):
    """One quantity in degrees and in radians, far from 0, and a target."""
    rng = np.random.default_rng(seed)
    x = 48.85 + 0.03 * rng.standard_normal(n)
    y = 20.0 * (x - 48.85) + rng.standard_normal(n)
    return np.column_stack([x, np.radians(x)]), y


def line(x, y):
    """Slope and sum of squares of the fit of one column, by the closed formulas."""
    x, y = x - x.mean(), y - y.mean()
    slope = x @ y / (x @ x)
    return slope, np.sum((y - slope * x) ** 2)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("solver", SOLVERS)
def test_one_quantity_in_two_units(solver, dtype):
    X, y = two_units()
    X = X.astype(dtype)
    slope, squares = line(X[:, 0].astype(float), y)
    model = LinearRegression(solver=solver)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model.fit(X, y)
    assert model.result_.converged
    # What the two coefficients amount to is that of one column.
    assert model.coef_ @ [1.0, np.pi / 180.0] == pytest.approx(slope, rel=1e-3)
    assert np.all(np.abs(model.coef_) < 1e4)
    assert np.sum((y - model.predict(X)) ** 2) <= squares * (1 + 1e-5)
    rounded = np.round(X, 4)
    assert np.sum((y - model.predict(rounded)) ** 2) <= squares * (1 + 1e-2)
    if solver not in ("newton", "lbfgs"):
        assert model.rank_ == 1
        assert model.condition_ < 2.0
    # Arithmetic alone cannot tell the Gram matrix from a singular one.
    if solver not in ("cholesky", "newton", "lbfgs") or dtype is np.float32:
        assert [w.category for w in caught] == [LinAlgWarning]
        assert "Columns 0, 1 are dependent" in str(caught[0].message)
        assert len(str(caught[0].message)) < 300


@pytest.mark.parametrize("alpha", [0.0, 1e-30, 1e-25, 1e-22])
@pytest.mark.parametrize("solver", SOLVERS[:5])
def test_a_tiny_penalty_does_not_turn_rounding_into_coefficients(solver, alpha):
    X, y = two_units(1)
    slope, squares = line(X[:, 0], y)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LinAlgWarning)
        model = Ridge(alpha, solver=solver).fit(X, y)
    assert model.result_.converged
    assert model.coef_ @ [1.0, np.pi / 180.0] == pytest.approx(slope, rel=1e-6)
    assert np.sum((y - model.predict(X)) ** 2) <= squares * (1 + 1e-9)


@pytest.mark.parametrize("scale", [1e3, 1e5])
def test_offsets_of_any_size_never_cost_more_than_the_column(scale):
    """Celsius, Fahrenheit and Kelvin, and a column that is needed."""
    for seed in range(5):
        rng = np.random.default_rng(seed)
        c = scale + rng.standard_normal(60)
        z = rng.standard_normal(60)
        y = (c - scale) + z + rng.standard_normal(60)
        X = np.column_stack([c, z, c * 9 / 5 + 32, c + 273.15])
        A = np.column_stack([np.ones(60), c - scale, z])
        best = np.linalg.lstsq(A, y)[1][0]
        with pytest.warns(LinAlgWarning, match="^Columns .* are dependent"):
            model = LinearRegression(solver="qr").fit(X, y)
        assert model.rank_ == 2
        assert np.sum((y - model.predict(X)) ** 2) <= best * (1 + 1e-9)
        assert np.all(np.abs(model.coef_) < 10.0)


def test_what_the_data_tell_counts():
    """Differences of 100 roundings are information, those of 1 are none."""
    rng = np.random.default_rng(0)
    x = 1e6 + rng.standard_normal(400)
    z = 1e-7 * rng.standard_normal(400)  # the spacing of x is 1e-10
    model = LinearRegression().fit(np.column_stack([x, x + z]), 1e7 * z)
    assert model.rank_ == 2
    assert model.coef_ == pytest.approx([-1e7, 1e7], rel=0.01)


def test_exactly_dependent_columns_need_no_warning():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((100, 2)) + 1e4
    y = X[:, 0] + rng.standard_normal(100)
    model = LinearRegression().fit(X[:, [0, 1, 0]], y)
    assert model.rank_ == 2
    assert model.coef_[0] == pytest.approx(model.coef_[2], rel=1e-6)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("solver", ["auto", "newton", "lbfgs", "trust-region"])
@pytest.mark.parametrize("classes", [2, 3])
def test_classes_of_one_quantity_in_two_units(classes, solver, dtype):
    X, z = two_units()
    X = X.astype(dtype)
    z += np.random.default_rng(1).standard_normal(len(z))
    y = np.digitize(z, np.quantile(z, np.arange(1, classes) / classes))
    plain = LogisticRegression(C=np.inf, solver=solver).fit(X[:, :1], y)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model = LogisticRegression(C=np.inf, solver=solver).fit(X, y)
    assert model.result_.converged
    sums = model.coef_ @ [1.0, np.pi / 180.0]
    assert sums == pytest.approx(plain.coef_[:, 0], rel=1e-3, abs=1e-2)
    assert np.all(np.abs(model.coef_) < 1e4)
    assert model.result_.value <= plain.result_.value + 1e-5
    assert {w.category for w in caught} <= {LinAlgWarning}
    if dtype is np.float32:
        assert "Columns 0, 1 are dependent" in str(caught[0].message)


@pytest.mark.parametrize("solver", ["auto", "qr", "sketch", "newton", "lbfgs"])
@pytest.mark.parametrize(
    ("of_x", "of_y"), [(0, 515), (0, 1000), (0, -541), (-664, 0), (-960, 0), (531, 0)]
)
def test_units_beyond_the_range_of_squares(of_x, of_y, solver):
    """Powers of two in X and y: coefficients and intercept change by them alone."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((50, 3)) + 1.0
    y = X @ [1.0, -2.0, 3.0] + 2.0 + 0.1 * rng.standard_normal(50)
    expected = np.linalg.lstsq(np.column_stack([X, np.ones(50)]), y)[0]
    model = LinearRegression(solver=solver).fit(np.ldexp(X, of_x), np.ldexp(y, of_y))
    assert model.result_.converged
    coef = np.ldexp(np.ldexp(model.coef_, -of_y), of_x)
    np.testing.assert_allclose(coef, expected[:3], rtol=1e-6)
    intercept = np.ldexp(model.intercept_, -of_y)
    assert intercept == pytest.approx(expected[3], rel=1e-6)


def test_standard_errors_of_an_exact_fit():
    rng = np.random.default_rng(0)
    X = 3.0 * rng.standard_normal((50, 2)) + 1e4
    y = X @ [1.0, -2.0] + 2.0
    model = LinearRegression().fit(X, y)
    assert np.all(model.std_errors(X, y) < 1e-6)
    with pytest.raises(ValueError, match="must be those of the fit"):
        model.std_errors(X, 1.001 * y)
