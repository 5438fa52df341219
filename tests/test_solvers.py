"""The contract: every solver on every kind of problem that it is for."""

import pickle

import numpy as np
import pytest
import scipy.sparse as sp
from problems import minimizer
from solver_list import SOLVERS, build, data

from subsampled_newton import (
    LBFGS,
    SAG,
    SAGA,
    SGD,
    SVRG,
    Columns,
    CubicRegularization,
    DirectLeastSquares,
    LevenbergMarquardt,
    MultilevelNewton,
    NonlinearModel,
    SketchedLeastSquares,
    Status,
    SubsampledNewton,
    TrustRegion,
    as_rows,
    minimize,
)

PAIRS = [(name, kind) for name, entry in SOLVERS.items() for kind in entry.kinds]
every_pair = pytest.mark.parametrize(
    ("name", "kind"), PAIRS, ids=[f"{name}-{kind}" for name, kind in PAIRS]
)
every_solver = pytest.mark.parametrize("name", SOLVERS)
LIMIT = 1e-10
"""Of the suboptimality that a gradient of 1e-8 leaves."""


def run(name, problem, w0=None, **options):
    entry = SOLVERS[name]
    w0 = start(problem) if w0 is None else w0
    options = {"seed": 0, "tol": entry.tol, "max_iter": entry.max_iter, **options}
    return minimize(problem, entry.solver, w0, **options)


def start(problem):
    """Where runs begin: 0, but for models that are flat there."""
    if isinstance(problem, NonlinearModel):
        return np.array([1.0, 1.0, 0.0])
    return np.zeros(problem.n_params)


def first_kind(name):
    return SOLVERS[name].kinds[0]


_minima = {}


def minimum(kind):
    """Value at the minimizer, by Newton steps far beyond every tolerance."""
    if kind not in _minima:
        convex = kind not in ("sigmoid", "nonlinear")
        solver = SubsampledNewton(1.0) if convex else TrustRegion(1.0)
        problem = build(kind, *data(kind))
        result = minimize(problem, solver, start(problem), tol=0.0, max_iter=100)
        assert result.gradient_norm < 1e-12
        _minima[kind] = result
    return _minima[kind]


@every_pair
def test_reaches_the_minimum(name, kind):
    problem = build(kind, *data(kind))
    result = run(name, problem)
    # Sampled models may stop where no step changes F any more, a little above tol.
    assert result.converged
    tol = SOLVERS[name].tol * (1.0 if result.status is Status.CONVERGED else 10.0)
    assert problem.gradient_norm(problem.at(result.w)) <= tol
    # The gradient bounds the gap: ||g||^2 / (2 mu) with mu = l2, or the local one.
    gap = max(LIMIT, SOLVERS[name].tol ** 2 / 1e-2)
    assert abs(result.value - minimum(kind).value) <= gap


# Small enough for plain Python (NUMBA_DISABLE_JIT=1).

EVERY = {
    **{name: (entry.solver, entry.kinds[0]) for name, entry in SOLVERS.items()},
    "gauss-newton of a rate": (SOLVERS["gauss-newton"].solver, "poisson"),
    "trust-region of a curve": (TrustRegion(1.0), "nonlinear"),
    "lbfgs of a curve": (LBFGS(), "nonlinear"),
    "levenberg-marquardt of a curve": (LevenbergMarquardt(), "nonlinear"),
    "row-norms trust-region": (TrustRegion(0.5, sampling="row-norms"), "logistic"),
    "more-sorensen": (TrustRegion(1.0, subproblem="more-sorensen"), "sigmoid"),
    "paper": (TrustRegion(0.5, paper_compat=True), "sigmoid"),
    "cubic descent": (CubicRegularization(subproblem="gradient-descent"), "sigmoid"),
    "cauchy": (CubicRegularization(1.0, subproblem="cauchy"), "softmax"),
    "gaussian sketch": (SketchedLeastSquares(embedding="gaussian"), "least-squares"),
    "direct": (DirectLeastSquares(), "least-squares"),
    "multilevel of classes": (MultilevelNewton(), "softmax"),
    "sag of classes": (SAG(), "softmax"),
    "svrg random": (SVRG("random"), "least-squares"),
    "svrg average": (SVRG("average"), "softmax"),
    "saga bounds": (SAGA("1/L", sampling="uniform"), "sigmoid"),
    "sgd last": (SGD(4, averaging=None), "logistic"),
    "sgd ema": (SGD(3, averaging="ema", sampling="shuffled"), "softmax"),
}


@pytest.mark.parametrize("name", EVERY)
def test_tiny_problem(name):
    """A run goes down, and once interrupted and resumed it is the same run."""
    solver, kind = EVERY[name]
    problem = build(kind, *data(kind, n=12 if kind == "nonlinear" else 40, d=3))
    best = minimize(problem, TrustRegion(1.0), start(problem), tol=1e-10).value
    whole = minimize(problem, solver, start(problem), max_iter=8, tol=0.0, seed=1)
    gap = problem.at(start(problem)).value - best
    assert -1e-10 <= whole.value - best < 0.5 * gap
    assert problem.at(whole.w).value == pytest.approx(whole.value, rel=1e-13)
    stopped = minimize(
        problem, solver, start(problem), seed=1, tol=0.0, max_iter=8,
        callback=lambda state: state.iteration == 2,
    )  # fmt: skip
    if whole.n_iter > 2:
        checkpoint = pickle.loads(pickle.dumps(stopped.checkpoint))
        again = minimize(problem, solver, resume=checkpoint, max_iter=8, tol=0.0)
        np.testing.assert_array_equal(again.w, whole.w)
        assert again.passes == whole.passes


@every_pair
def test_starts_at_the_solution_and_stays(name, kind):
    problem = build(kind, *data(kind))
    result = run(name, problem, minimum(kind).w)
    assert result.status is Status.CONVERGED
    assert result.n_iter <= SOLVERS[name].steps_at_solution


@every_pair
def test_interrupted_and_resumed_equals_uninterrupted(name, kind):
    problem = build(kind, *data(kind))
    whole = run(name, problem, max_iter=6, tol=0.0)
    stopped = run(
        name, problem, max_iter=6, tol=0.0, callback=lambda s: s.iteration == 3
    )
    if whole.n_iter < 4:
        pytest.skip("done before the interruption")
    assert stopped.status is Status.CALLBACK_STOP
    checkpoint = pickle.loads(pickle.dumps(stopped.checkpoint))
    resumed = minimize(
        problem, SOLVERS[name].solver, resume=checkpoint, max_iter=6, tol=0.0
    )
    assert np.array_equal(resumed.w, whole.w)
    assert resumed.status is whole.status
    np.testing.assert_array_equal(resumed.trace.value, whole.trace.value)
    np.testing.assert_array_equal(resumed.trace.props, whole.trace.props)
    assert resumed.passes == whole.passes


@every_solver
def test_same_bits_for_every_number_of_threads(name):
    kind = first_kind(name)
    problem = build(kind, *data(kind, n=40_000, d=8))  # several blocks
    first, *others = (
        run(name, problem, max_iter=4, n_jobs=n_jobs, seed=3) for n_jobs in (1, 2, 4)
    )
    assert all(np.array_equal(first.w, other.w) for other in others)


@every_pair
def test_weights_repeat_and_remove_rows(name, kind):
    if kind == "custom":
        pytest.skip("has no weights")
    X, y = data(kind, n=600)
    times = np.random.default_rng(2).integers(0, 4, 600)
    weighted = run(name, build(kind, X, y, times.astype(float)))
    repeated = build(kind, np.repeat(X, times, axis=0), np.repeat(y, times))
    norm = repeated.gradient_norm(repeated.at(weighted.w))
    exact = weighted.status is Status.CONVERGED
    assert norm <= (2.0 if exact else 10.0) * SOLVERS[name].tol


@every_solver
def test_containers_dtypes_and_columns_agree(name):
    kind = first_kind(name)
    X, y = data(kind, n=800)
    X = np.round(X, 3) * (np.abs(X) > 0.5)
    reference = run(name, build(kind, X, y))
    if kind == "custom":
        return
    columns = Columns(np.full(6, 0.5), np.zeros(6), intercept=False)
    for other, factor in (
        (np.asfortranarray(X), 1.0),
        (sp.csr_array(X), 1.0),
        (as_rows(2.0 * X).with_columns(columns), 1.0),
        (as_rows(sp.csr_array(2.0 * X)).with_columns(columns), 1.0),
    ):
        result = run(name, build(kind, other, y))
        np.testing.assert_allclose(factor * result.w, reference.w, atol=1e-5)
    single = run(name, build(kind, X.astype(np.float32), y))
    np.testing.assert_allclose(single.w, reference.w, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", [n for n, e in SOLVERS.items() if e.deterministic])
def test_deterministic_solvers_do_not_depend_on_the_seed_or_the_order(name):
    kind = first_kind(name)
    X, y = data(kind)
    first, second = (run(name, build(kind, X, y), seed=s, max_iter=5) for s in (0, 1))
    assert np.array_equal(first.w, second.w)
    order = np.random.default_rng(0).permutation(len(y))
    moved = run(name, build(kind, X[order], y[order]), max_iter=5)
    np.testing.assert_allclose(moved.w, first.w, rtol=1e-9, atol=1e-12)


@every_solver
def test_a_seed_gives_the_same_bits_again(name):
    kind = first_kind(name)
    first, second = (
        run(name, build(kind, *data(kind)), max_iter=5, seed=7) for _ in range(2)
    )
    assert np.array_equal(first.w, second.w)


@every_solver
def test_inputs_are_not_modified(name):
    kind = first_kind(name)
    X, y = data(kind, n=400)
    weights = np.random.default_rng(0).random(400)
    w0 = 0.1 * np.ones(build(kind, X, y).n_params)
    arrays = (X, y, weights, w0)
    copies = [a.copy() for a in arrays]
    for array in arrays:
        array.flags.writeable = False
    run(name, build(kind, X, y, weights), w0, max_iter=5)
    assert all(map(np.array_equal, arrays, copies))


@every_solver
def test_limits_give_their_status(name):
    kind = first_kind(name)
    problem = build(kind, *data(kind))
    w0 = np.full(problem.n_params, 0.3)
    by_iterations = run(name, problem, w0, max_iter=1, tol=0.0)
    assert (by_iterations.status, by_iterations.n_iter) == (Status.MAX_ITER, 1)
    by_time = run(name, problem, w0, max_time=0.0)
    assert (by_time.status, by_time.n_iter) == (Status.MAX_TIME, 0)
    by_passes = run(name, problem, w0, max_passes=1.5, tol=0.0)
    assert by_passes.status is Status.MAX_PASSES
    assert by_passes.passes >= 1.5
    stopped = run(name, problem, w0, callback=lambda s: True)
    assert (stopped.status, stopped.n_iter) == (Status.CALLBACK_STOP, 0)


@every_solver
def test_solver_and_result_can_be_pickled(name):
    kind = first_kind(name)
    solver = SOLVERS[name].solver
    result = run(name, build(kind, *data(kind, n=300)), max_iter=3)
    assert pickle.loads(pickle.dumps(solver)) == solver
    assert np.array_equal(pickle.loads(pickle.dumps(result)).w, result.w)


@every_solver
def test_data_that_are_not_finite_numbers_are_named(name):
    kind = first_kind(name)
    X, y = data(kind, n=300)
    X = X.copy()
    X[5, 2] = np.nan
    with pytest.raises(ValueError, match="X must be finite, got nan in row 5, column"):
        run(name, build(kind, X, y), max_iter=20)


def test_minimizer_of_the_shared_problems_is_exact():
    problem = build("logistic", *data("logistic"))
    np.testing.assert_allclose(minimizer(problem), minimum("logistic").w, atol=1e-12)
