"""Memory: the formula against what is measured, and what does not fit."""

import math
import os
import re
import subprocess
import sys
import tracemalloc
from dataclasses import fields
from typing import NamedTuple

import numpy as np
import pytest
import scipy.sparse as sp
from memory import SHAPES, data_of, measure, model
from sklearn.base import clone
from solver_list import Custom

from subsampled_newton import (
    LBFGS,
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
from subsampled_newton.estimators._base import SOLVERS
from subsampled_newton.estimators._classifiers import _classes
from subsampled_newton.sampling import full
from subsampled_newton.solvers._memory import Sizes, needs

LIMIT = "SUBSAMPLED_NEWTON_MEMORY_LIMIT"


@pytest.fixture
def limit(monkeypatch):
    """Function that sets the limit of the user, in bytes."""
    return lambda n_bytes: monkeypatch.setenv(LIMIT, str(n_bytes))


PARTS = {
    "tall": 0.25,
    "float32": 0.1,
    "sparse tall": 0.25,
    "softmax": 0.25,
    "uint8": 0.1,
    "strided": 0.25,
}
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


def test_least_of_all_limits_counts(monkeypatch, limit):
    monkeypatch.setattr(_memory, "_machine", lambda: 50.0)
    monkeypatch.setattr(_memory, "_group_files", lambda: [(7.0,), (90.0,)])
    monkeypatch.setattr(_memory, "_group", lambda limit: limit)
    assert _memory.available() == 7.0
    limit(5)
    assert _memory.available() == 5.0
    with _memory.granted(2.0):
        assert _memory.available() == 3.0
    assert _memory.available() == 5.0
    monkeypatch.undo()
    assert _memory._machine() > 0.0


@pytest.mark.parametrize("text", ["", "much", "-1", "nan"])
def test_limit_of_the_user_is_a_number_of_bytes(text, monkeypatch, data):
    monkeypatch.setenv("SUBSAMPLED_NEWTON_MEMORY_LIMIT", text)
    with pytest.raises(ValueError, match="MEMORY_LIMIT must be a number of bytes"):
        Ridge().fit(*data)


def test_this_machine_has_memory():
    assert _memory.available() > 1e7


def test_small_things_are_not_asked_for(monkeypatch):
    monkeypatch.setattr(_memory, "_system", lambda: 0.0)
    _memory.require(_memory.SMALL, "a vector", "")
    with pytest.raises(MemoryError, match=r"a vector needs about 0.017 GB.* 0 GB are"):
        _memory.require(_memory.SMALL + 1, "a vector", "take a shorter one")
    # What it holds already is not taken a second time.
    _memory.require(_memory.SMALL + 1, "a vector", "", held=_memory.SMALL + 1)
    assert not _memory.affords(_memory.SMALL + 1)


# What does not fit


def least(problem, solver):
    """Bytes below which the solver does not start."""
    parts = needs(Sizes.of(problem), solver)
    return parts.vectors + parts.asked


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(1)
    X = rng.standard_normal((400, 20)) @ np.diag(np.logspace(-1, 1, 20))
    y = np.where(X[:, 10] + rng.logistic(size=400) > 0.0, 1.0, -1.0)
    return X, y


@pytest.mark.parametrize("container", [np.asarray, sp.csr_array])
def test_newton_goes_on_without_a_matrix_and_says_so(container, data, limit):
    X, y = data
    problems = (
        LinearModel(LOGISTIC, container(X), y, l2=1e-3),
        SoftmaxModel(container(X), np.arange(400) % 3, l2=1e-3),
        Custom(X, y, 1e-3),
    )
    for problem in problems:
        limit(least(problem, SubsampledNewton(1.0)))
        found = minimize(problem, SubsampledNewton(1.0), tol=1e-10)
        assert found.converged
        assert "conjugate gradients" in found.message
        assert "needs about" in found.note
        limit(math.inf)
        expected = minimize(problem, SubsampledNewton(1.0), tol=1e-10)
        assert expected.note == ""
        # The same steps, not only the same end.
        np.testing.assert_allclose(found.trace.value, expected.trace.value, rtol=1e-9)
        np.testing.assert_allclose(found.w, expected.w, rtol=0, atol=1e-9)
        limit(least(problem, SubsampledNewton(1.0)))
        again = minimize(problem, SubsampledNewton(1.0), tol=0.0, resume=found)
        assert "conjugate gradients" in again.message


def test_run_without_a_matrix_does_not_change_its_mind(data, monkeypatch):
    problem = LinearModel(LOGISTIC, *data, l2=1e-3)
    asked = []

    def left():  # something else ends and leaves its memory
        asked.append(1)
        return (1e5, 0.0, math.inf)[min(len(asked), 3) - 1]

    monkeypatch.setattr(_memory, "_left", left)
    found = minimize(problem, SubsampledNewton(1.0), tol=1e-10)
    assert found.n_iter > 2
    assert len(asked) == 2
    assert "conjugate gradients" in found.message


def test_conjugate_gradients_form_nothing_that_does_not_fit(data, limit):
    X, y = data
    problem = LinearModel(LOGISTIC, X, y, l2=1e-3)
    solver = SubsampledNewton(1.0, linear_solver="cg")
    formed = minimize(problem, solver, tol=1e-10)
    limit(least(problem, solver))
    found = minimize(problem, solver, tol=1e-10)
    assert found.converged
    assert found.note == ""
    assert found.passes > 1.5 * formed.passes  # products read the rows
    np.testing.assert_allclose(found.w, formed.w, rtol=0, atol=1e-9)


def test_estimators_by_name_go_on_or_say_what_they_need(data, limit):
    X, y = data
    cg = SubsampledNewton(1.0, linear_solver="cg")
    for estimator in (
        LinearRegression(),
        LogisticRegression(solver="newton"),
        LogisticRegression(),
        Ridge(),
    ):
        bound = not isinstance(estimator, LinearRegression)
        sizes = Sizes.of_rows(as_rows(X), 1, 1, bound=bound)
        limit(needs(sizes, cg).vectors)
        expected = clone(estimator)
        found = estimator.fit(X, y)
        assert "conjugate gradients" in found.result_.message
        with pytest.MonkeyPatch.context() as patch:
            patch.delenv(LIMIT)
            expected.fit(X, y)
        np.testing.assert_allclose(found.coef_, expected.coef_, rtol=1e-6)
    for estimator in (
        LogisticRegression(solver="multilevel-newton"),
        LogisticRegression(solver="sag"),
        Ridge(solver="cholesky"),
        LinearRegression(solver="qr"),
    ):
        message = r"with solver='[a-z-]*' on 400 rows and 20 columns needs about"
        with pytest.raises(MemoryError, match=message):
            estimator.fit(X, y)
        assert not hasattr(estimator, "coef_")


FORMING = {
    "trust region": TrustRegion(1.0, subproblem="exact"),
    "cubic": CubicRegularization(1.0, subproblem="exact"),
    "direct": DirectLeastSquares("cholesky"),
    "qr": DirectLeastSquares("qr"),
    "sketch": SketchedLeastSquares(sketch_size=50),
}


@pytest.mark.parametrize("name", FORMING)
def test_others_say_what_they_need_and_what_to_do(name, data, limit):
    X, y = data
    problem = LinearModel(SQUARED, X, y, l2=1e-3)
    limit(least(problem, FORMING[name]) - 1)
    message = r"needs about .* GB of memory, .* GB are available: take a solver that"
    with pytest.raises(MemoryError, match=message):
        minimize(problem, FORMING[name])
    limit(1.25 * least(problem, FORMING[name]))
    assert minimize(problem, FORMING[name]).converged


def test_everything_that_can_be_large_is_asked_for(data, limit):
    X, y = data
    rows = as_rows(X)
    fit = LogisticRegression().fit(X, y)
    limit(1000)
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
    with pytest.raises(MemoryError, match="predictions for 400 rows"):
        fit.predict(X)
    with pytest.raises(MemoryError, match="sorting 400 labels"):
        _classes(np.where(y > 0.0, "yes", "no"))
    for given in (X.tolist(), sp.csc_array(X), X.astype(object)):
        with pytest.raises(MemoryError, match="X, which has to be converted"):
            LogisticRegression().fit(given, y)


def test_a_fit_that_cannot_be_polished_is_not_lost(data, limit):
    X, y = data
    solver = LBFGS()
    parts = needs(Sizes.of_rows(as_rows(X), 1, 1, bound=True), solver)
    limit(parts.vectors)
    fit = LogisticRegression(solver="lbfgs", C=1e6, max_iter=2000).fit(X, y)
    assert fit.result_.converged


# Every solver, below what it needs and above


WHOLE = ("sag", "saga", "svrg", "sdca", "sgd", "dual-start-newton", "heavy-ball")
"""Solvers that read single rows: other types would be compiled for each."""
KINDS = {
    "float64": lambda X: X,
    "float32": lambda X: X.astype(np.float32),
    "uint8": lambda X: X.astype(np.uint8),
    "strided": lambda X: np.repeat(X, 2, axis=1)[:, ::2],
    "csr": sp.csr_array,
}
CASES_OF_LIMIT = [
    (solver, kind, n, d)
    for solver in SOLVERS
    for kind in KINDS
    for n, d in ((3000, 5), (60, 90))
    if kind in ("float64", "csr") or solver not in WHOLE
]


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize(("solver", "kind", "n", "d"), CASES_OF_LIMIT)
def test_limit_decides_before_anything_is_allocated(solver, kind, n, d, limit):
    rng = np.random.default_rng(n)
    X = rng.poisson(2.0, (n, d)).astype(float)
    y = rng.integers(0, 2, n)
    X = KINDS[kind](X)
    estimator = LogisticRegression(solver=solver, max_iter=3, random_state=0)
    if solver == "heavy-ball":  # a quadratic
        estimator = Ridge(solver=solver, max_iter=3)
    sizes = Sizes.of_rows(as_rows(X), 1, 1, bound=True)
    parts = needs(sizes, SOLVERS[solver])
    limit(parts.vectors + parts.asked - 1)
    tracemalloc.start()
    try:
        with pytest.raises(MemoryError, match=r"needs about .* GB .* GB are avail"):
            estimator.fit(X, y)
        # Checks and codes of the labels.
        assert tracemalloc.get_traced_memory()[1] < 20 * n + 100_000
    finally:
        tracemalloc.stop()
    limit(1.25 * sum(parts))
    assert estimator.fit(X, y).result_.n_iter >= 0


def test_subclass_needs_what_its_base_needs(data):
    problem = LinearModel(SQUARED, *data, l2=1e-3)
    for solver in (*SOLVERS.values(), *FORMING.values()):
        child = type("Child", (type(solver),), {})
        copy = child(**{f.name: getattr(solver, f.name) for f in fields(solver)})
        assert memory_needed(problem, copy) == memory_needed(problem, solver)
        assert memory_needed(problem, solver) >= least(problem, solver) > 0


class Slotted:
    __slots__ = ("solver",)

    def __init__(self, solver):
        self.solver = solver

    def init(self, problem, point, rng):
        return self.solver.init(problem, point, rng)

    def step(self, problem, state, rng):
        return self.solver.step(problem, state, rng)


class Named(NamedTuple):
    solver: object
    init = Slotted.init
    step = Slotted.step


@pytest.mark.parametrize("kind", [Slotted, Named])
def test_solver_keeps_its_parameters_as_it_likes(kind, data):
    problem = LinearModel(LOGISTIC, *data, l2=1e-3)
    solver = SubsampledNewton(1.0)
    found = minimize(problem, kind(solver))
    np.testing.assert_array_equal(found.w, minimize(problem, solver).w)
    assert found.memory_bytes > 0


# A group of processes with a limit of its own


GROUP = """
import os, sys
import numpy as np
from subsampled_newton import LogisticRegression, Ridge
rng = np.random.default_rng(0)
X = rng.standard_normal((4_000_000, 2), dtype=np.float32)
y = X[:, 0] > 0.5 * X[:, 1]
model = LogisticRegression(solver="newton", max_iter=2, n_jobs=1, C=1e-3, tol=1.0)
model.fit(X[:1000], y[:1000])
with open(sys.argv[1], "w") as file:
    file.write(str(os.getpid()))
try:
    model.fit(X, y)
except MemoryError as error:
    print(error)
model.fit(X[:1_000_000], y[:1_000_000])
print("done")
"""


def group_of_processes():
    """Folder of a new control group below ours, with a limit; None if we may not."""
    for folder, most, *_ in _memory._group_files():
        new = folder / f"subsampled-newton-{os.getpid()}"
        try:
            new.mkdir()
        except OSError:
            continue
        if (new / most).exists():  # else no group, or one that may not limit memory
            (new / most).write_text("100000000")
            return new
        new.rmdir()
    return None


def test_limit_of_a_group_of_processes_is_an_error_and_no_kill():
    group = group_of_processes()
    if group is None:
        pytest.skip("this process may make no control group with a limit of memory")
    try:
        run = subprocess.run(
            [sys.executable, "-c", GROUP, group / "cgroup.procs"],
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
    finally:
        group.rmdir()
    assert run.returncode == 0, run.stderr
    assert re.search(r"needs about 0.19 GB of memory, 0.\d+ GB are av", run.stdout)
    assert run.stdout.endswith("done\n")
