"""The same numbers, however the problem is put: containers, types, weights, columns,
solvers, threads."""

import warnings

import numpy as np
import pytest
import scipy.sparse as sp
from sklearn.base import clone

from subsampled_newton import (
    LOGISTIC,
    CubicRegularization,
    LinearModel,
    LinearRegression,
    LogisticRegression,
    MultilevelNewton,
    NonlinearLeastSquares,
    Ridge,
    SigmoidLeastSquaresClassifier,
    SoftmaxModel,
    Status,
    SubsampledNewton,
    TrustRegion,
    minimize,
)
from subsampled_newton.estimators import LEAST_SQUARES, SOLVERS

N, D = 1200, 8
rng = np.random.default_rng(11)
X = rng.standard_normal((N, D)) * (rng.random((N, D)) < 0.6)
X = np.ascontiguousarray(X.astype(np.float32).astype(np.float64))  # exact in both
two = X @ rng.standard_normal(D) + rng.logistic(size=N) > 0.0
three = np.argmax(X[:, :3] + rng.gumbel(size=(N, 3)), axis=1)
real = X @ rng.standard_normal(D) + rng.standard_normal(N)


def line(p, x):
    return p[0] * x[0] / (1.0 + p[1] * p[1]) + p[2] * x[1]


MODELS = {
    "logistic": (LogisticRegression(), two),
    "multinomial": (LogisticRegression(), three),
    "sigmoid": (SigmoidLeastSquaresClassifier(alpha=1e-2), two),
    "ridge": (Ridge(), real),
    "least squares": (LinearRegression(), real),
    "qr": (LinearRegression(solver="qr"), real),
}
CONVEX = [
    name
    for name in SOLVERS
    # Other problems; no exact minimizer.
    if name not in ("heavy-ball", "sdca", "dual-start-newton", "sgd")
]
DUAL = ("sdca", "dual-start-newton")


def fitted(model, X, y, **kwargs):
    """Coefficients and intercepts."""
    model = clone(model).set_params(tol=1e-12).fit(X, y, **kwargs)
    return np.column_stack([np.atleast_2d(model.coef_), np.ravel(model.intercept_)])


def memory_mapped(X, folder):
    np.save(folder / "X.npy", X)
    return np.load(folder / "X.npy", mmap_mode="r")


@pytest.mark.parametrize("name", MODELS)
def test_dense_sparse_and_memory_mapped_data_agree_to_1e_12(name, tmp_path):
    model, y = MODELS[name]
    expected = fitted(model, X, y)
    mapped = memory_mapped(X, tmp_path)
    assert isinstance(mapped, np.memmap)
    for other in (sp.csr_array(X), mapped, np.asfortranarray(X), sp.csc_array(X)):
        np.testing.assert_allclose(fitted(model, other, y), expected, atol=1e-12)
    np.testing.assert_array_equal(fitted(model, mapped, y), expected)


@pytest.mark.parametrize("name", MODELS)
def test_single_precision_agrees_to_1e_4(name):
    model, y = MODELS[name]
    fine = rng.standard_normal((N, D)) + 1.0  # not exact in float32
    expected = fitted(model, fine, y)
    coarse = fitted(model, fine.astype(np.float32), y)
    assert 0.0 < np.max(np.abs(coarse - expected)) <= 1e-4
    # The type of the storage alone changes nothing but the order of sums.
    np.testing.assert_allclose(
        fitted(model, X.astype(np.float32), y), fitted(model, X, y), atol=1e-10
    )


@pytest.mark.parametrize("name", MODELS)
def test_weights_repeat_rows_to_1e_8(name):
    model, y = MODELS[name]
    counts = np.random.default_rng(2).integers(0, 4, N)
    counts[:3] = 1
    repeated = fitted(model, np.repeat(X, counts, axis=0), np.repeat(y, counts))
    weighted = fitted(model, X, y, sample_weight=counts.astype(float))
    np.testing.assert_allclose(weighted, repeated, atol=1e-8)


NEWTON_TYPE = {
    "newton": SubsampledNewton(1.0),
    "sampled newton": SubsampledNewton(0.3),
    "gauss-newton": SubsampledNewton(1.0, curvature="gauss-newton"),
    "multilevel": MultilevelNewton(1.0),
}


@pytest.mark.parametrize("name", NEWTON_TYPE)
def test_newtons_methods_take_the_same_steps_on_mixed_columns(name):
    y = np.where(two, 1.0, -1.0)
    mix = np.random.default_rng(3).standard_normal((D, D)) + 2.0 * np.eye(D)
    runs = [
        minimize(
            LinearModel(LOGISTIC, Z, y), NEWTON_TYPE[name], tol=0, max_iter=4, seed=0
        )
        for Z in (X, X @ mix)
    ]
    assert runs[0].n_iter == runs[1].n_iter > 1
    values = [run.trace.value for run in runs]
    np.testing.assert_allclose(values[0], values[1], rtol=1e-9)
    np.testing.assert_allclose(mix @ runs[1].w, runs[0].w, atol=1e-7)


@pytest.mark.parametrize("solver", ["auto", *CONVEX])
def test_powers_of_two_and_order_of_units_change_no_bit(solver):
    """The estimators put columns of any unit to the same size, exactly."""
    scale = np.exp2(np.arange(D) * 7.0 - 30.0)
    model = LogisticRegression(solver=solver, C=np.inf, max_iter=20, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the same steps, whether they arrive or not
        plain, scaled = clone(model).fit(X, two), clone(model).fit(X * scale, two)
    np.testing.assert_array_equal(scaled.coef_ * scale, plain.coef_)
    np.testing.assert_array_equal(scaled.intercept_, plain.intercept_)
    np.testing.assert_array_equal(scaled.history_["value"], plain.history_["value"])


@pytest.mark.parametrize("y", [two, three], ids=["two", "three"])
def test_all_solvers_of_convex_problems_agree_to_1e_8(y):
    model = LogisticRegression(alpha=1e-2, random_state=0)
    agree(model, "newton", ("auto", *CONVEX, *(DUAL if y is two else ())), y)


def test_all_solvers_of_least_squares_agree_to_1e_8():
    agree(
        Ridge(alpha=5.0, random_state=0), "qr", (*LEAST_SQUARES, *CONVEX, *DUAL), real
    )


def agree(model, reference, solvers, y):
    expected = fitted(clone(model).set_params(solver=reference), X, y)
    for solver in solvers:
        fit = clone(model).set_params(solver=solver, tol=1e-10, max_iter=5000)
        fit.fit(X, y)
        found = np.column_stack([np.atleast_2d(fit.coef_), np.ravel(fit.intercept_)])
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-8, err_msg=solver)
        if reference == "newton":  # the bound of what is left is 0 for this purpose
            assert fit.result_.suboptimality_bound <= 1e-12


@pytest.mark.parametrize("method", [TrustRegion, CubicRegularization])
def test_a_sampled_hessian_reaches_the_rounding_of_the_gradient(method):
    """Steps are judged by the decrease of F, which is rounding before w is exact."""
    problem = SoftmaxModel(X, three, l2=1e-2)
    for seed in range(4):
        solver, states = method(0.05), []
        found = minimize(
            problem, solver, tol=0, max_iter=200, seed=seed, callback=states.append
        )
        assert found.status is Status.PRECISION
        assert found.gradient_norm <= 1e-15
        assert states[-1].rejections == 4  # three other samples
    for solver in (method(1.0), method(0.05, paper_compat=True)):
        minimize(problem, solver, tol=0, seed=0, callback=states.append)
        assert states[-1].rejections == 1  # no other sample, or as published


# More rows, so that there are several blocks to add.
TALL = np.random.default_rng(4).standard_normal((40_000, 24))
TALL_TWO = TALL[:, 0] + np.random.default_rng(5).logistic(size=len(TALL)) > 0.0
TALL_THREE = np.digitize(TALL[:, 1] + TALL[:, 2], [-1.0, 1.0])
TALL_REAL = TALL[:, 0] + np.random.default_rng(6).standard_normal(len(TALL))
THREADED = {
    **{
        solver: (LogisticRegression(solver=solver, max_iter=3), TALL_TWO)
        for solver in SOLVERS
        if solver != "heavy-ball"
    },
    **{name: (Ridge(solver=name, max_iter=3), TALL_REAL) for name in LEAST_SQUARES},
    "heavy-ball": (Ridge(solver="heavy-ball", max_iter=3), TALL_REAL),
    "multinomial": (LogisticRegression(max_iter=3), TALL_THREE),
    "unpenalised": (LogisticRegression(C=np.inf), TALL_TWO),
    "sigmoid": (
        SigmoidLeastSquaresClassifier(max_iter=3, solver=TrustRegion()),
        TALL_TWO,
    ),
    "linear": (LinearRegression(), TALL_REAL),
    "curve": (NonlinearLeastSquares(line, [1.0, 0.1, 0.0], max_iter=4), TALL_REAL),
}


@pytest.mark.parametrize("name", THREADED)
def test_same_bits_on_1_2_4_and_8_threads(name):
    model, y = THREADED[name]
    if "random_state" in model.get_params():
        model = clone(model).set_params(random_state=0)
    found = set()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # few iterations are enough to differ
        for n_jobs in (1, 2, 4, 8):
            fit = clone(model).set_params(n_jobs=n_jobs).fit(TALL, y)
            w, values = fit.result_.w, fit.history_["value"]
            found.add((w.tobytes(), values.tobytes(), fit.result_.gradient.tobytes()))
    assert len(found) == 1


def test_a_small_number_is_not_near_any_other():
    """The tolerances of the tests are relative: conftest.py."""
    assert pytest.approx(1e-15) != 2e-15
    assert pytest.approx(0.0) != 1e-300
    assert pytest.approx([1e-15]) != [3e-15]
