"""SAG, SAGA, SVRG, SDCA and SGD: the contract of solvers, rates, identities."""

import math
import pickle

import numpy as np
import pytest
import scipy.optimize
import scipy.sparse as sp
from problems import gaussian, labels, least_squares, logistic, minimizer, pareto

from subsampled_newton import (
    LOGISTIC,
    POISSON,
    SIGMOID_SQUARED,
    SQUARED,
    Columns,
    FiniteSum,
    LinearModel,
    Status,
    SubsampledNewton,
    as_rows,
    minimize,
)
from subsampled_newton.kernels import epochs
from subsampled_newton.softmax_model import SoftmaxModel
from subsampled_newton.solvers._samples import samples_of
from subsampled_newton.solvers._variance_reduced import Memory, outcome
from subsampled_newton.solvers.dual_start import DualStartNewton
from subsampled_newton.solvers.sag import SAG
from subsampled_newton.solvers.saga import SAGA
from subsampled_newton.solvers.sdca import SDCA
from subsampled_newton.solvers.sgd import SGD
from subsampled_newton.solvers.svrg import SVRG

SOLVERS = {
    "sag": SAG(),
    "sag bounds": SAG("1/L"),
    "sag of the theory": SAG("1/L", 1 / 16, "uniform"),
    "saga": SAGA(),
    "saga bounds": SAGA("1/L", sampling="uniform"),
    "svrg": SVRG(),
    "svrg average": SVRG("average"),
    "svrg random": SVRG("random"),
    "svrg loopless": SVRG(length="loopless"),
    "svrg bb": SVRG(step_size="barzilai-borwein"),
    "sdca": SDCA(),
}
SGDS = {
    "sgd": SGD(4),
    "sgd last": SGD(averaging=None),
    "sgd ema": SGD(3, averaging="ema", sampling="shuffled"),
}
every_solver = pytest.mark.parametrize("solver", SOLVERS.values(), ids=SOLVERS)
every_stochastic = pytest.mark.parametrize(
    "solver", [*SOLVERS.values(), *SGDS.values()], ids=[*SOLVERS, *SGDS]
)


# The contract.


@every_solver
@pytest.mark.parametrize("make", [logistic, least_squares])
def test_reaches_the_minimum_found_by_scipy(solver, make):
    problem = make(n=2000)
    reference = scipy.optimize.minimize(
        lambda w: (problem.at(w).value, problem.at(w).gradient),
        np.zeros(problem.n_params),
        jac=True,
        method="BFGS",
        options={"gtol": 1e-7},
    )
    result = minimize(problem, solver, seed=0)
    assert result.status is Status.CONVERGED
    assert result.gradient_norm <= 1e-8
    assert abs(result.value - reference.fun) <= 1e-10


@every_stochastic
def test_same_bits_for_every_number_of_threads(solver):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((40_000, 8))  # several blocks
    y = np.where(X[:, 0] + rng.logistic(size=len(X)) > 0, 1.0, -1.0)
    problem = LinearModel(LOGISTIC, X, y, l2=1e-3)
    first, *others = (
        minimize(problem, solver, seed=3, n_jobs=n_jobs, max_iter=3)
        for n_jobs in (1, 2, 4)
    )
    assert all(np.array_equal(first.w, other.w) for other in others)


@every_stochastic
def test_interrupted_and_resumed_equals_uninterrupted(solver):
    problem = logistic(n=3000)
    whole = minimize(problem, solver, seed=5, max_iter=12)
    stopped = minimize(problem, solver, seed=5, callback=lambda s: s.iteration == 3)
    assert stopped.status is Status.CALLBACK_STOP
    assert stopped.checkpoint.state.samples is None
    checkpoint = pickle.loads(pickle.dumps(stopped.checkpoint))
    resumed = minimize(problem, solver, resume=checkpoint, max_iter=12)
    assert np.array_equal(resumed.w, whole.w)
    assert resumed.n_iter == whole.n_iter
    np.testing.assert_array_equal(resumed.trace.value, whole.trace.value)
    np.testing.assert_array_equal(resumed.trace.props, whole.trace.props)
    assert resumed.passes == whole.passes


@every_stochastic
def test_starts_at_the_solution_and_takes_no_step(solver):
    problem = logistic()
    result = minimize(problem, solver, minimizer(problem), seed=0)
    assert result.status is Status.CONVERGED
    assert result.n_iter == 0


@every_stochastic
def test_inputs_and_earlier_states_are_not_modified(solver):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((500, 4))
    y = np.sign(X[:, 0] + rng.standard_normal(500))
    weights, w0 = rng.random(500), rng.standard_normal(4)
    copies = [a.copy() for a in (X, y, weights, w0)]
    problem = LinearModel(LOGISTIC, X, y, l2=1e-2, sample_weight=weights)
    states, pickles = [], []

    def callback(state):
        states.append(state.detached())
        pickles.append(pickle.dumps(states[-1]))

    minimize(problem, solver, w0, seed=0, max_iter=4, callback=callback)
    assert all(map(np.array_equal, (X, y, weights, w0), copies))
    assert [pickle.dumps(state) for state in states] == pickles


@every_stochastic
def test_solver_and_result_can_be_pickled(solver):
    result = minimize(logistic(), solver, seed=0, max_iter=2)
    assert pickle.loads(pickle.dumps(solver)) == solver
    assert np.array_equal(pickle.loads(pickle.dumps(result)).w, result.w)


@pytest.mark.parametrize("solver", [SAG(), SDCA()], ids=["sag", "sdca"])
def test_sample_weights_repeat_rows(solver):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((400, 4))
    y, times = labels(X, rng), rng.integers(0, 4, size=400)
    weighted = LinearModel(LOGISTIC, X, y, l2=1e-2, sample_weight=times)
    repeated = LinearModel(
        LOGISTIC, np.repeat(X, times, 0), np.repeat(y, times), l2=1e-2
    )
    first, second = (minimize(p, solver, seed=0).w for p in (weighted, repeated))
    np.testing.assert_allclose(first, second, rtol=0, atol=1e-6)


def test_epoch_costs_one_pass_and_its_gradient_none():
    problem = logistic()
    trace = minimize(problem, SAG(), seed=0, max_iter=5).trace
    assert np.all(np.isnan(trace.gradient_norm[1:-1]))
    # The start, and the norms of the rows in the first step.
    np.testing.assert_allclose(trace.passes, [1, 3, 4, 5, 6, 7])
    np.testing.assert_array_equal(np.diff(trace.props), 2 * problem.n_samples)
    trace = minimize(problem, SVRG("random"), seed=0, max_iter=5).trace
    assert np.all(np.isfinite(trace.gradient_norm))
    expected = trace.inner_iterations[2:] / problem.n_samples + 1.0
    np.testing.assert_allclose(np.diff(trace.passes)[1:], expected)


# Other problems.


def test_softmax_reaches_newtons_minimum():
    rng = np.random.default_rng(0)
    X = gaussian(1000, 4, rng)
    y = np.argmax(X[:, :3] + rng.gumbel(size=(1000, 3)), axis=1)
    problem = SoftmaxModel(X, y, l2=1e-2)
    best = minimize(problem, SubsampledNewton(1.0), tol=1e-12)
    result = minimize(problem, SAG(), seed=0)
    assert result.converged
    assert abs(result.value - best.value) <= 1e-13


def test_line_search_needs_no_bound_of_the_curvature():
    rng = np.random.default_rng(0)
    X = gaussian(1000, 5, rng)
    y = rng.poisson(np.exp(np.minimum(X @ rng.standard_normal(5), 6.0)))
    problem = LinearModel(POISSON, X, y, l2=1e-3)
    result = minimize(problem, SAG(), seed=0)
    assert result.converged
    best = minimize(problem, SubsampledNewton(1.0), tol=1e-10)
    assert abs(result.value - best.value) <= 1e-12
    for solver in (SAG("1/L"), SAGA("1/L"), SVRG(step_size="1/L")):
        with pytest.raises(TypeError, match="poisson loss: use step_size='line-search"):
            minimize(problem, solver)
    with pytest.raises(TypeError, match="use a number for step_size"):
        minimize(problem, SGD())


def test_loss_that_is_not_convex():
    rng = np.random.default_rng(0)
    X = gaussian(1000, 5, rng)
    y = (labels(X, rng) > 0).astype(float)
    problem = LinearModel(SIGMOID_SQUARED, X, y, l2=1e-3)
    result = minimize(problem, SVRG(), seed=0)
    assert result.converged
    assert result.value < problem.value_at_zero()


def test_rows_alike_do_not_oscillate():
    """With one column of ones, SAG with the step 1/L would swing undamped."""
    y = np.random.default_rng(0).standard_normal(1000)
    problem = LinearModel(SQUARED, np.ones((1000, 1)), y)
    for solver in (SAG(), SAG("1/L")):
        assert minimize(problem, solver, seed=0, max_iter=100).converged


def test_lipschitz_sampling_is_faster_on_rows_of_different_norms():
    problem = logistic(pareto)
    result = minimize(problem, SAG("1/L"), seed=0, max_iter=100)
    assert result.converged
    uniform = SAG("1/L", sampling="uniform")
    slow = minimize(problem, uniform, seed=0, max_iter=4 * result.n_iter)
    assert slow.status is Status.MAX_ITER
    assert slow.gradient_norm > 1e-4


def test_line_search_is_faster_where_samples_are_fitted_well():
    rng = np.random.default_rng(0)
    X = gaussian(100, 300, rng)  # separable: margins are large at the solution
    problem = LinearModel(LOGISTIC, X, labels(X, rng), l2=1e-2)
    fast, slow = (minimize(problem, s, seed=0, tol=1e-6) for s in (SAG(), SAG("1/L")))
    assert fast.converged
    assert 2 * fast.n_iter < slow.n_iter


@pytest.mark.parametrize(
    "solver",
    [SAG(1e4), SAGA(1e4), SVRG(step_size=1e4), SGD(step_size=1e4)],
    ids=["sag", "saga", "svrg", "sgd"],
)
def test_divergence_is_a_status(solver):
    result = minimize(least_squares(), solver, seed=0)
    assert result.status is Status.NON_FINITE


def test_failed_line_search_is_a_status():
    memory = Memory(*(np.zeros(9) for _ in range(4)))
    w, before = np.ones(8), np.zeros(8)
    assert outcome(w, before, memory) is None
    assert outcome(w, w.copy(), memory) is Status.STALLED
    memory.control[epochs.LARGEST] = math.inf
    assert outcome(w, before, memory) is Status.LINE_SEARCH_FAILED
    assert outcome(w * math.nan, before, memory) is None  # the loop sees it


# Rates.


def gaps(problem, solver, n_iter, seed=0):
    """Suboptimality after every step."""
    best = problem.at(minimizer(problem)).value
    trace = minimize(
        problem, solver, tol=0.0, max_iter=n_iter, seed=seed, full_trace=True
    ).trace
    return trace.value - best


def curvatures(problem):
    """``mu``, ``L`` of F and the largest ``L`` of a sample, for least squares."""
    X = problem.rows._X
    eigenvalues = np.linalg.eigvalsh(X.T @ X / len(X)) + problem.l2[0]
    return eigenvalues[0], eigenvalues[-1], np.max(np.sum(X**2, 1)) + problem.l2[0]


def test_sag_converges_at_the_rate_of_the_theory():
    problem = least_squares(n=300)
    mu, _, L = curvatures(problem)
    gap = gaps(problem, SAG("1/L", 1 / 16, "uniform"), 30)
    gap = gap[(gap > 1e-12)]
    k = problem.n_samples * np.arange(len(gap))
    slope, offset = np.polyfit(k, np.log(gap), 1)
    assert slope <= -min(mu / (16 * L), 1 / (8 * problem.n_samples))
    straight = np.log(gap) - (slope * k + offset)
    assert np.std(straight) < 0.1 * np.ptp(np.log(gap))


@pytest.mark.parametrize("snapshot", ["average", "random"])
def test_svrg_contracts_at_the_rate_of_the_theory(snapshot):
    problem = least_squares(n=300)
    mu, _, L = curvatures(problem)
    step = 0.1 / L
    length = int(50 * L / mu)
    rate = 1 / (mu * step * (1 - 2 * L * step) * length)
    rate += 2 * L * step / (1 - 2 * L * step)
    assert 0.4 < rate < 0.6
    solver = SVRG(snapshot, length, step, sampling="uniform")
    all_gaps = np.array([gaps(problem, solver, 4, seed) for seed in range(10)])
    mean = all_gaps.mean(axis=0)
    assert np.all(mean[1:] <= rate * mean[:-1])


def test_every_variance_reduced_method_is_linear_down_to_rounding():
    problem = logistic(n=1000)
    for solver in (SAG(), SAGA(), SVRG(), SVRG("average"), SVRG(length="loopless")):
        assert np.min(np.abs(gaps(problem, solver, 60))) < 1e-14


def test_saga_and_svrg_do_not_leave_the_minimizer():
    """They begin with the derivatives at the start, which SAG does not."""
    problem = logistic()
    best = minimizer(problem)
    moved = {}
    for solver in (SAGA(), SVRG(), SAG()):
        w = minimize(problem, solver, best, tol=0.0, max_iter=1, seed=0).w
        moved[type(solver)] = np.linalg.norm(w - best)
    assert moved[SAGA] < 1e-12
    assert moved[SVRG] < 1e-12
    assert moved[SAG] > 1e-4


def test_lengths_of_the_stages_of_svrg():
    problem = logistic(n=200)
    for solver, mean in ((SVRG("random", 400), 199.5), (SVRG(length="loopless"), 200)):
        rng = np.random.default_rng(0)
        state, lengths = solver.init(problem, problem.at(np.zeros(8)), rng), []
        for _ in range(300):
            state = solver.step(problem, state, rng)
            lengths.append(state.inner_iterations)
        error = np.std(lengths) / math.sqrt(300)
        assert abs(np.mean(lengths) - mean) < 4 * error
        assert np.std(lengths) > 0.5 * mean
        assert solver.length == "loopless" or max(lengths) < 400


def test_barzilai_borwein_step_of_svrg():
    problem = least_squares()
    states = []
    solver = SVRG(step_size="barzilai-borwein", length=700)
    minimize(problem, solver, max_iter=8, tol=0.0, seed=0, callback=states.append)
    shorter = 0
    for before, last, now in zip(states[1:], states[2:], states[3:], strict=False):
        s = last.point.w - before.point.w
        y = last.point.gradient - before.point.gradient
        control = now.memory.control
        limit = solver.fraction / (control[epochs.LARGEST] + control[epochs.RIDGE])
        expected = s @ s / (s @ y) / 700
        shorter += expected < limit
        assert now.step_size == pytest.approx(min(expected, limit), rel=1e-12)
    assert shorter > 0


def test_barzilai_borwein_step_divides_by_the_length_not_by_the_steps_made():
    """A random snapshot discards steps; the step size belongs to all of them."""
    problem = least_squares()
    solver = SVRG("random", length=700, step_size="barzilai-borwein")
    states = []
    minimize(problem, solver, max_iter=12, tol=0.0, seed=3, callback=states.append)
    shorter = 0
    for before, last, now in zip(states[1:], states[2:], states[3:], strict=False):
        s = last.point.w - before.point.w
        y = last.point.gradient - before.point.gradient
        control = now.memory.control
        limit = solver.fraction / (control[epochs.LARGEST] + control[epochs.RIDGE])
        expected = s @ s / (s @ y) / 700
        shorter += expected < limit and now.inner_iterations < 350
        assert now.step_size == pytest.approx(min(expected, limit), rel=1e-12)
    assert shorter > 0


SNAPSHOTS = [
    (snapshot, length)
    for snapshot in ("last", "average", "random")
    for length in (None, 1, 7, "loopless")
    if (length != "loopless" or snapshot == "last")
    and (length != 1 or snapshot != "random")
]


@pytest.mark.parametrize("sampling", ["lipschitz", "uniform"])
@pytest.mark.parametrize("step_size", ["line-search", "1/L", "barzilai-borwein", 1e-3])
@pytest.mark.parametrize(("snapshot", "length"), SNAPSHOTS)
def test_all_options_of_svrg_together(snapshot, length, step_size, sampling):
    """Few rows: a stage of a random number of steps often has none."""
    problem = logistic(n=20, d=3, l2=0.1)
    solver = SVRG(snapshot, length, step_size, sampling=sampling)
    least = minimize(problem, SubsampledNewton(1.0), tol=1e-12).value
    start = problem.at(np.zeros(3)).value
    lefts = []
    for seed in range(20):
        result = minimize(problem, solver, seed=seed, max_iter=40, tol=1e-12)
        lefts.append((result.value - least) / (start - least))
    assert np.median(lefts) < 0.99
    if snapshot != "random" and step_size != 1e-3 and length != 1:
        assert np.median(lefts) < 0.2
    if length is None and step_size != 1e-3:
        assert np.median(lefts) < 1e-6


def test_sgd_with_a_constant_step_stalls_and_sag_does_not():
    problem = least_squares()
    _, _, L = curvatures(problem)
    solver = SGD(step_size=0.1 / L, schedule="constant", averaging=None)
    gap = np.mean([gaps(problem, solver, 100, seed) for seed in range(5)], axis=0)
    early, late = gap[20:40].mean(), gap[80:].mean()
    assert 0.5 < late / early < 2.0
    assert late > 1e4 * gaps(problem, SAG(), 100)[-1]


def test_sgd_with_a_decaying_step_has_the_rate_one_over_k():
    problem = least_squares()
    mu, _, _ = curvatures(problem)
    solver = SGD(schedule="strongly-convex", mu=float(mu), averaging=None)
    gap = np.mean([gaps(problem, solver, 200, seed) for seed in range(10)], axis=0)
    k = np.arange(len(gap))
    late = k >= 10
    slope = np.polyfit(np.log(k[late]), np.log(gap[late]), 1)[0]
    assert -1.2 < slope < -0.8


def test_sgd_is_not_a_descent_method():
    trace = minimize(
        least_squares(), SGD(averaging=None), seed=0, max_iter=30, tol=0.0
    ).trace
    assert np.sum(np.diff(trace.value) > 0.0) > 3


def test_averaged_sgd_is_asymptotically_optimal():
    """k times the gap approaches ``tr(H^-1 S) / 2``, as for the best estimate."""
    rng = np.random.default_rng(0)
    X = gaussian(1000, 3, rng) * np.array([1.0, 2.0, 0.5])
    problem = LinearModel(SQUARED, X, X @ np.ones(3) + rng.standard_normal(1000))
    best = minimizer(problem)
    H = X.T @ X / len(X)
    noise = (X @ best - problem.y)[:, None] * X
    bound = 0.5 * np.trace(np.linalg.solve(H, noise.T @ noise / len(X)))
    solver = SGD(step_size=0.005, schedule="constant", averaging="polyak")
    scaled = []
    for seed in range(60):
        generator = np.random.default_rng(seed)
        state = solver.init(problem, problem.at(best), generator)
        for _ in range(40):
            state = solver.step(problem, state, generator)
        e = state.point.w - best
        scaled.append(state.n_steps * 0.5 * e @ H @ e)
    assert 0.8 < np.mean(scaled) / bound < 1.2


# Averages and mini-batches.


@pytest.mark.parametrize("averaging", ["polyak", "suffix", "ema", None])
def test_averages_of_a_recorded_sequence(averaging):
    problem = least_squares(n=50)
    solver = SGD(50, averaging=averaging, ema_decay=0.8, schedule="sqrt")
    iterates, points = [], []  # a batch of n rows: one step per epoch

    def record(state):
        iterates.append(state.point.w if state.iterate is None else state.iterate)
        points.append(state.point.w)

    minimize(problem, solver, seed=0, max_iter=20, tol=0.0, callback=record)
    w = np.array(iterates)
    for k in range(1, 21):
        begin = 2 ** math.floor(math.log2(k - 1)) if k > 1 else 0
        powers = 0.8 ** np.arange(k - 1, -1, -1)
        expected = {
            "polyak": w[1 : k + 1].mean(axis=0),
            "suffix": w[begin // 2 + 1 : k + 1].mean(axis=0),
            "ema": 0.8**k * w[0] + 0.2 * powers @ w[1 : k + 1],
            None: w[k],
        }[averaging]
        np.testing.assert_allclose(points[k], expected, rtol=1e-12, atol=1e-14)


def test_gradient_steps_are_those_of_the_formula():
    problem = least_squares(n=60)
    X, y, l2 = problem.rows._X, problem.y, problem.l2[0]
    solver = SGD(4, 0.01, "inverse", k0=10.0, averaging="polyak")
    state = solver.init(problem, problem.at(np.ones(6)), np.random.default_rng(7))
    state = solver.step(problem, state, np.random.default_rng(7))
    order = np.random.default_rng(7).integers(60, size=60)
    w, iterates = np.ones(6), []
    for k, batch in enumerate(order.reshape(15, 4)):
        gradient = np.mean([(X[i] @ w - y[i]) * X[i] for i in batch], axis=0)
        w = w - 0.01 / (1 + k / 10.0) * (gradient + l2 * w)
        iterates.append(w)
    np.testing.assert_allclose(state.iterate, w, rtol=1e-12)
    np.testing.assert_allclose(state.point.w, np.mean(iterates, axis=0), rtol=1e-12)


def test_mini_batch_gradients_are_unbiased_with_variance_one_over_b():
    """Exactly, over all pairs of samples."""
    problem = least_squares(n=12)
    samples, w = samples_of(problem), np.ones(6)

    def direction(rows):
        new, step = w.reshape(1, -1).copy(), np.array([0.01])
        kernel = samples.gradient_steps(False)
        x, columns, ridge = samples.x, samples.columns, samples.ridge
        order, nothing = np.array(rows), np.zeros((1, 6))
        kernel(
            x,
            columns,
            ridge,
            samples.table,
            order,
            len(rows),
            step,
            np.zeros(1),
            new,
            nothing,
        )
        return (w - new[0]) / 0.01

    singles = np.array([direction([i]) for i in range(12)])
    pairs = np.array([direction([i, j]) for i in range(12) for j in range(12)])
    gradient = problem.at(w).gradient
    np.testing.assert_allclose(singles.mean(axis=0), gradient, rtol=1e-10)
    np.testing.assert_allclose(pairs.mean(axis=0), gradient, rtol=1e-10)
    np.testing.assert_allclose(pairs.var(axis=0), singles.var(axis=0) / 2, rtol=1e-9)


# Dual coordinate ascent.


@pytest.mark.parametrize(
    "problem", [logistic(), least_squares(), logistic(n=12, d=2, l2=1.0)]
)
def test_duality_gap_bounds_the_error_and_vanishes(problem):
    best = problem.at(minimizer(problem)).value
    gaps = []

    def check(state):
        if state.iteration > 0:
            assert state.gap >= 0.0
            assert state.point.value - best <= state.gap + 1e-15
            w = problem.rows.rmatvec(state.dual) / problem.n_samples / problem.l2
            np.testing.assert_allclose(state.point.w, w, rtol=0, atol=1e-10)
            gaps.append(state.gap)

    result = minimize(problem, SDCA(), seed=0, callback=check)
    assert gaps[0] > 1e-4
    assert gaps[-1] < 1e-10
    assert result.converged


def test_primal_solution_of_sdca_is_that_of_sag():
    problem = logistic(l2=0.1)
    first, second = (
        minimize(problem, solver, seed=0, tol=1e-10).w for solver in (SDCA(), SAG())
    )
    np.testing.assert_allclose(first, second, rtol=0, atol=1e-8)


def test_sdca_makes_use_of_a_start():
    problem = logistic(l2=0.1)
    near = minimizer(problem) + 1e-6
    warm, cold = (
        minimize(problem, SDCA(), w0, seed=0).n_iter for w0 in (near, np.zeros(8))
    )
    assert warm < 0.7 * cold
    far = minimize(problem, SDCA(), np.full(8, 1e3), seed=0)  # a worse start than 0
    assert far.converged
    assert far.n_iter <= 1.3 * cold


@pytest.mark.parametrize("kind", ["dense", "csr", "centred"])
@pytest.mark.parametrize("loss", [LOGISTIC, SQUARED], ids=lambda loss: loss.name)
def test_sdca_finds_an_intercept_without_a_ridge(kind, loss):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((400, 6)) * (rng.random((400, 6)) < 0.7)
    y = np.where(X[:, 0] + 1.5 + rng.logistic(size=400) > 0.0, 1.0, -1.0)
    weights = rng.integers(0, 3, 400).astype(float)
    shift = X.mean(axis=0) if kind == "centred" else np.zeros(6)
    columns = Columns(np.exp2(rng.integers(-2, 1, 6)), shift, intercept=True)
    rows = as_rows(sp.csr_array(X) if kind == "csr" else X).with_columns(columns)
    l2 = np.append(np.full(6, 0.02), 0.0)
    problem = LinearModel(loss, rows, y, l2=l2, sample_weight=weights)
    newton = minimize(problem, SubsampledNewton(1.0), tol=1e-12)
    result = minimize(problem, SDCA(), seed=0, tol=1e-9)
    assert result.converged
    # About as many visits as with a ridge that holds the intercept for good.
    held = LinearModel(loss, rows, y, l2=l2 + 0.02, sample_weight=weights)
    visits = minimize(held, SDCA(), seed=0, tol=1e-9).n_iter
    assert result.n_iter <= 1.5 * visits + 5
    np.testing.assert_allclose(result.w, newton.w, rtol=0, atol=1e-7)
    again = minimize(problem, SDCA(), result.w, seed=1, tol=1e-9)
    assert again.n_iter <= 2
    assert result.checkpoint.state.gap == math.inf  # only of the proximal problem


def test_dual_start_is_sdca_and_then_newton():
    problem = logistic(l2=0.01)
    result = minimize(problem, DualStartNewton(5), seed=0, tol=1e-9)
    ascent = minimize(problem, SDCA(), seed=0, max_iter=5)
    seen = [0, 3]  # the others would cost a read of the rows each
    np.testing.assert_array_equal(result.trace.value[seen], ascent.trace.value[seen])
    assert np.all(np.isnan(result.trace.value[[1, 2, 4, 5]]))
    cg = SubsampledNewton(1.0, linear_solver="cg", max_inner=1000)
    newton = minimize(problem, cg, ascent.w, tol=1e-9)
    np.testing.assert_array_equal(result.w, newton.w)
    assert result.n_iter == 5 + newton.n_iter


def test_dual_start_worse_than_nothing_is_dropped():
    # One visit with next to no ridge: the primal value of the dual variables is huge.
    rng = np.random.default_rng(0)
    X = rng.standard_normal((40, 8))
    y = np.where(rng.random(40) < 0.5, 1.0, -1.0)
    problem = LinearModel(LOGISTIC, X, y, l2=1e-9)
    assert minimize(problem, SDCA(), seed=0, max_iter=1).value > problem.value_at_zero()
    values = []
    result = minimize(
        problem,
        DualStartNewton(1),
        seed=0,
        callback=lambda state: values.append(state.point.value) or False,
    )
    assert result.converged
    assert max(values[2:]) < problem.value_at_zero()


# Errors at the border.


class Quadratic(FiniteSum):
    def value(self, w, rows=None):
        return float(w @ w)

    def gradient(self, w, rows=None):
        return 2.0 * w

    def hess_vec(self, w, rows, v):
        return 2.0 * v


@every_stochastic
def test_problem_without_rows_is_refused(solver):
    with pytest.raises(TypeError, match="needs a LinearModel, got Quadratic"):
        minimize(Quadratic(5, 2), solver, [1.0, 1.0])


@every_stochastic
def test_centred_sparse_rows_are_refused(solver):
    X = sp.csr_array(np.eye(4))
    columns = Columns(np.ones(4), np.ones(4), intercept=True)
    rows = as_rows(X).with_columns(columns)
    problem = LinearModel(LOGISTIC, rows, np.ones(4), l2=1.0)
    with pytest.raises(TypeError, match="needs sparse rows without a shift"):
        minimize(problem, solver)


def test_sdca_names_what_it_needs():
    X = np.ones((4, 2))
    free = LinearModel(SQUARED, X, np.ones(4), l2=[1.0, 0.0])
    with pytest.raises(TypeError, match=r"l2 > 0 .* got 0 for parameter 1: use"):
        minimize(free, SDCA())
    poisson = LinearModel(POISSON, X, np.ones(4), l2=1.0)
    with pytest.raises(TypeError, match=r"squared loss, .* got the poisson loss: use"):
        minimize(poisson, SDCA())


@pytest.mark.parametrize(
    ("solver", "arguments", "message"),
    [
        (SAG, {"step_size": "armijo"}, "step_size must be one of .* got 'armijo'"),
        (SAG, {"step_size": 0.0}, "step_size must be one of .* got 0.0"),
        (SAG, {"step_size": True}, "step_size must be one of .* got True"),
        (SAG, {"fraction": -1.0}, "fraction must be a finite number > 0, got -1.0"),
        (SAGA, {"sampling": "cyclic"}, "sampling must be one of .* got 'cyclic'"),
        (SAGA, {"step_size": "barzilai-borwein"}, "step_size must be one of"),
        (SVRG, {"snapshot": "first"}, "snapshot must be one of .* got 'first'"),
        (SVRG, {"length": 0}, "length must be .* an integer >= 1, got 0"),
        (SVRG, {"length": "long"}, "length must be .* integer >= 1, got 'long'"),
        (SVRG, {"length": "loopless", "snapshot": "average"}, "snapshot must be 'last"),
        (SGD, {"batch_size": 0}, "batch_size must be an integer >= 1, got 0"),
        (SGD, {"step_size": -0.1}, "step_size must be a finite number > 0"),
        (SGD, {"schedule": "linear"}, "schedule must be one of .* got 'linear'"),
        (SGD, {"averaging": "mean"}, "averaging must be one of .* got 'mean'"),
        (SGD, {"ema_decay": 1.0}, r"ema_decay must be a number in \(0, 1\) .* got 1.0"),
        (SGD, {"k0": 0}, "k0 must be a finite number > 0 or None, got 0"),
        (SGD, {"sampling": "cyclic"}, "sampling must be one of .* got 'cyclic'"),
    ],
)
def test_bad_parameters_are_named(solver, arguments, message):
    with pytest.raises(ValueError, match=message):
        solver(**arguments)


def test_sgd_refuses_what_only_the_problem_shows():
    problem = LinearModel(SQUARED, np.eye(4), np.ones(4), sample_weight=[1, 1, 1, 0])
    with pytest.raises(ValueError, match="batch_size must be at most the 3 rows"):
        minimize(problem, SGD(4))
    with pytest.raises(ValueError, match="schedule='strongly-convex' needs mu > 0"):
        minimize(problem, SGD(schedule="strongly-convex"))


@pytest.mark.parametrize(
    ("schedule", "options", "sizes"),
    [
        ("constant", {}, [0.5, 0.5, 0.5]),
        ("strongly-convex", {"mu": 0.5}, [0.5, 0.4, 1.0 / 3.0]),
        ("strongly-convex", {"mu": 0.5, "k0": 8.0}, [0.25, 2.0 / 9.0, 0.2]),
        ("sqrt", {"k0": 4.0}, [0.5, 0.5 / math.sqrt(1.25), 0.5 / math.sqrt(1.5)]),
    ],
)
def test_schedules_of_sgd(schedule, options, sizes):
    solver = SGD(schedule=schedule, **options)
    problem = LinearModel(SQUARED, np.ones((3, 1)), np.ones(3), l2=0.25)
    steps = solver._steps(problem, 0.5, np.arange(3.0), 3)
    np.testing.assert_allclose(steps, sizes, rtol=1e-15)
