"""Memory: the formula against what is measured, and what does not fit."""

import math

import numpy as np
import pytest
import scipy.sparse as sp
from memory import SHAPES, data_of, measure, model
from solver_list import Custom

from subsampled_newton import (
    LOGISTIC,
    SQUARED,
    CubicRegularization,
    DirectLeastSquares,
    LinearModel,
    LinearRegression,
    LogisticRegression,
    NonlinearModel,
    Ridge,
    SketchedLeastSquares,
    SoftmaxModel,
    SubsampledNewton,
    TrustRegion,
    _memory,
    as_rows,
    leverage_scores,
    memory_needed,
    minimize,
)
from subsampled_newton.embeddings import dense_block
from subsampled_newton.sampling import full

PARTS = {"tall": 0.25, "float32": 0.1, "sparse tall": 0.25, "softmax": 0.25}
CASES = [(shape, "auto") for shape in SHAPES] + [
    ("tall", "newton"),
    ("tall", "sag"),
    ("tall", "sketch"),
    ("tall", "subsampled-newton"),
    ("wide", "newton"),
    ("wide", "cholesky"),
    ("wide", "lbfgs"),
    ("wide", "nesterov"),
    ("softmax", "lbfgs"),
    ("softmax", "trust-region"),
    ("sparse tall", "newton-cg"),
    ("sparse wide", "lbfgs"),
    ("sparse wide", "nesterov"),
    ("sparse wide", "subsampled-trust-region"),
]


@pytest.mark.parametrize(("shape", "solver"), CASES)
def test_peak_is_that_of_the_formula(shape, solver, monkeypatch):
    # One thread: sums of a second one wait while the first is kept from its core.
    monkeypatch.setenv("SUBSAMPLED_NEWTON_NUM_THREADS", "1")
    X, y = data_of(shape, PARTS.get(shape, 1.0))
    found = measure(model(solver), X, y, resident=False)
    assert found.traced <= 1.25 * found.formula
    # Not a worst case of all, but conjugate gradients may form a matrix or not.
    assert found.formula <= (10 if solver == "newton-cg" else 5) * found.traced


def test_default_takes_a_fifth_of_the_data_at_most():
    # 54 columns as covtype has, of which ten are numbers.
    rng = np.random.default_rng(0)
    X = (rng.random((100_000, 54)) < 0.05).astype(float)
    X[:, :10] = rng.standard_normal((100_000, 10))
    y = X[:, 0] + rng.logistic(size=100_000) > 0.0
    found = measure(LogisticRegression(random_state=0), X, y, resident=False)
    assert found.traced <= 0.22 * X.nbytes


def test_formula_grows_with_what_it_depends_on():
    def needed(solver, n=1000, d=10, k=2):
        X = np.ones((n, d))
        if k == 2:
            return memory_needed(LinearModel(SQUARED, X, np.ones(n)), solver)
        return memory_needed(SoftmaxModel(X, np.arange(n) % k), solver)

    newton, cg = SubsampledNewton(1.0), SubsampledNewton(1.0, linear_solver="cg")
    assert needed(newton, n=2000) - needed(newton) == 8 * 1000 * 6
    assert needed(newton, k=5) > needed(newton, k=3) > needed(newton)
    assert needed(SubsampledNewton(0.5)) > needed(newton)  # copies of rows
    assert needed(newton, n=10, d=4000) - needed(cg, n=10, d=4000) == 48 * 4000**2
    function = NonlinearModel(lambda p, x: p[0] * x[0], np.ones((50, 1)), None, 1)
    assert memory_needed(function, newton) >= 8 * 50 * 4


def test_result_and_diagnosis_tell_the_peak():
    X, y = np.random.default_rng(0).standard_normal((300, 3)), np.arange(300) % 2
    fit = LogisticRegression(C=np.inf).fit(X, y)
    assert fit.result_.memory_bytes > 8 * 300 * 6
    assert fit.diagnose(X, y).memory_bytes == fit.result_.memory_bytes


# What there is


def test_limits_of_control_groups_count(tmp_path):
    def group(limit, usage, stat):
        (tmp_path / "memory.max").write_text(limit)
        (tmp_path / "memory.current").write_text(usage)
        (tmp_path / "memory.stat").write_text(stat)
        return _memory._group(tmp_path, *_memory._V2)

    assert group("max\n", "5\n", "inactive_file 1\n") == math.inf
    assert group("100\n", "60\n", "anon 7\ninactive_file 20\n") == 60.0
    assert group("100\n", "600\n", "inactive_file 20\n") == 0.0
    assert _memory._group(tmp_path / "none", *_memory._V2) == math.inf


def test_least_of_all_limits_counts(monkeypatch):
    monkeypatch.setattr(_memory, "_machine", lambda: 50.0)
    monkeypatch.setattr(_memory, "_group_files", lambda: [(7.0,), (90.0,)])
    monkeypatch.setattr(_memory, "_group", lambda limit: limit)
    assert _memory.available() == 7.0
    assert _memory._machine() > 0.0


def test_this_machine_has_memory():
    assert _memory.available() > 1e7


def test_small_things_are_not_asked_for(monkeypatch):
    monkeypatch.setattr(_memory, "available", lambda: 0.0)
    _memory.require(_memory.SMALL, "a vector", "")
    with pytest.raises(MemoryError, match=r"a vector needs about 0.13 GB.* 0 GB are"):
        _memory.require(_memory.SMALL + 1, "a vector", "take a shorter one")


# What does not fit


@pytest.fixture
def little(monkeypatch):
    """Next to no memory."""
    monkeypatch.setattr(_memory, "SMALL", 0)
    monkeypatch.setattr(_memory, "available", lambda: 1000.0)


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(1)
    X = rng.standard_normal((400, 20)) @ np.diag(np.logspace(-1, 1, 20))
    y = np.where(X[:, 10] + rng.logistic(size=400) > 0.0, 1.0, -1.0)
    return X, y


@pytest.mark.parametrize("container", [np.asarray, sp.csr_array])
def test_newton_goes_on_without_a_matrix_and_says_so(container, data, little):
    X, y = data
    problems = (
        LinearModel(LOGISTIC, container(X), y, l2=1e-3),
        SoftmaxModel(container(X), np.arange(400) % 3, l2=1e-3),
        Custom(X, y, 1e-3),
    )
    for problem in problems:
        found = minimize(problem, SubsampledNewton(1.0), tol=1e-10)
        assert found.converged
        assert "conjugate gradients" in found.message
        assert "needs about" in found.note
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(_memory, "available", lambda: math.inf)
            expected = minimize(problem, SubsampledNewton(1.0), tol=1e-10)
        assert expected.note == ""
        # The same steps, not only the same end.
        np.testing.assert_allclose(found.trace.value, expected.trace.value, rtol=1e-9)
        np.testing.assert_allclose(found.w, expected.w, rtol=0, atol=1e-9)
        again = minimize(problem, SubsampledNewton(1.0), tol=0.0, resume=found)
        assert "conjugate gradients" in again.message


def test_run_without_a_matrix_does_not_change_its_mind(data, little, monkeypatch):
    asked = []

    def available():  # something else ends and leaves its memory
        asked.append(1)
        return 1000.0 if len(asked) == 1 else math.inf

    monkeypatch.setattr(_memory, "available", available)
    problem = LinearModel(LOGISTIC, *data, l2=1e-3)
    found = minimize(problem, SubsampledNewton(1.0), tol=1e-10)
    assert found.n_iter > 2
    assert len(asked) == 1
    assert "conjugate gradients" in found.message


def test_conjugate_gradients_form_nothing_that_does_not_fit(data, little):
    X, y = data
    problem = LinearModel(LOGISTIC, X, y, l2=1e-3)
    solver = SubsampledNewton(1.0, linear_solver="cg")
    found = minimize(problem, solver, tol=1e-10)
    assert found.converged
    assert found.note == ""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_memory, "available", lambda: math.inf)
        formed = minimize(problem, solver, tol=1e-10)
    assert found.passes > 1.5 * formed.passes  # products read the rows
    np.testing.assert_allclose(found.w, formed.w, rtol=0, atol=1e-9)


def test_estimators_by_name_go_on_or_say_what_they_need(data, little):
    X, y = data
    fit = LogisticRegression(solver="newton").fit(X, y)
    assert "conjugate gradients" in fit.result_.message
    for estimator in (LogisticRegression(solver="multilevel-newton"), Ridge()):
        with pytest.raises(MemoryError, match=r"parameters, with its factor, needs"):
            estimator.fit(X, y)
        assert not hasattr(estimator, "coef_")
    with pytest.raises(MemoryError, match=r"QR factorisation of 22 columns needs"):
        LinearRegression(solver="qr").fit(X, y)


FORMING = {
    "trust region": TrustRegion(1.0, subproblem="exact"),
    "cubic": CubicRegularization(1.0, subproblem="exact"),
    "direct": DirectLeastSquares("cholesky"),
    "qr": DirectLeastSquares("qr"),
    "sketch": SketchedLeastSquares(sketch_size=50),
}


@pytest.mark.parametrize("name", FORMING)
def test_others_say_what_they_need_and_what_to_do(name, data, little):
    X, y = data
    problem = LinearModel(SQUARED, X, y, l2=1e-3)
    message = r"needs about .* GB of memory, .* GB are available: take a solver that"
    with pytest.raises(MemoryError, match=message):
        minimize(problem, FORMING[name])


def test_everything_that_can_be_large_is_asked_for(data, little):
    X, y = data
    rows = as_rows(X)
    with pytest.raises(MemoryError, match="dense copy of 400 rows"):
        dense_block(rows, 0, 400)
    with pytest.raises(MemoryError, match="QR factorisation"):
        leverage_scores(X)
    with pytest.raises(MemoryError, match="60 x 60"):
        SoftmaxModel(X, np.arange(400) % 4).at(np.zeros(60)).hessian(full(400)).dense()
    with pytest.raises(MemoryError, match="Jacobian of 400 rows and 1 param"):
        _ = NonlinearModel(lambda p, x: p[0] * x[0], X, y, 1).at([1.0]).value
    with pytest.raises(MemoryError, match="20 x 20"):
        Custom(X, y, 0.0).at(np.zeros(20)).hessian(full(400)).dense()


def test_a_fit_that_cannot_be_polished_is_not_lost(data, little):
    X, y = data
    fit = LogisticRegression(solver="lbfgs", C=1e6, max_iter=2000).fit(X, y)
    assert fit.result_.converged
