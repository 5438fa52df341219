"""Gradient descent, Nesterov, heavy ball, L-BFGS: contract, theorems, line searches."""

import itertools
import math
import pickle

import naive
import numpy as np
import pytest
import scipy.optimize
import scipy.sparse as sp
from problems import least_squares, logistic, minimizer, one_hot, pareto

from subsampled_newton import (
    LOGISTIC,
    POISSON,
    SIGMOID_SQUARED,
    SQUARED,
    Columns,
    FiniteSum,
    LinearModel,
    PointwiseLoss,
    Status,
    SubsampledNewton,
    _smoothness,
    as_rows,
    check_derivatives,
    huber,
    minimize,
)
from subsampled_newton._smoothness import smoothness
from subsampled_newton.sampling import full
from subsampled_newton.softmax_model import SoftmaxModel
from subsampled_newton.solvers.gradient import GradientDescent
from subsampled_newton.solvers.heavy_ball import HeavyBall
from subsampled_newton.solvers.lbfgs import LBFGS, LBFGSState, inverse_product
from subsampled_newton.solvers.nesterov import Nesterov

SOLVERS = {
    "1/L": GradientDescent(),
    "2/(L+mu)": GradientDescent("2/(L+mu)"),
    "number": GradientDescent(3.0),
    "armijo": GradientDescent("armijo"),
    "barzilai-borwein": GradientDescent("barzilai-borwein"),
    "nesterov": Nesterov(),
    "nesterov strongly-convex": Nesterov("strongly-convex", restart=False),
    "nesterov convex": Nesterov("convex"),
    "nesterov backtracking": Nesterov(step_size="backtracking"),
    "heavy ball": HeavyBall(),
    "lbfgs": LBFGS(),
    "lbfgs armijo": LBFGS(line_search="armijo"),
    "lbfgs identity": LBFGS(scaling="identity"),
}
every_solver = pytest.mark.parametrize("solver", SOLVERS.values(), ids=SOLVERS)
FIXED_STEPS = {
    name: solver
    for name, solver in SOLVERS.items()
    if not any(word in name for word in ("armijo", "barzilai", "back", "lbfgs"))
}


def dense(problem):
    """The matrix of the problem, columns of ones and scaling included."""
    identity = np.eye(problem.rows.n_params)
    return np.column_stack([problem.rows.matvec(e) for e in identity])


def hessian(problem, w):
    """By products, without the package's own Gram matrix."""
    columns = [problem.hess_vec(w, None, e) for e in np.eye(problem.n_params)]
    return np.column_stack(columns) + np.diag(problem.l2)


def states_of(problem, solver, w0=None, **kwargs):
    states = []
    result = minimize(problem, solver, w0, callback=states.append, **kwargs)
    return result, states


def quadratic(eigenvalues, solution):
    """``sum_j lambda_j (w_j - solution_j)**2 / 2`` as least squares."""
    d = len(eigenvalues)
    X = np.diag(np.sqrt(d * np.asarray(eigenvalues, dtype=float)))
    return LinearModel(SQUARED, X, X @ solution)


@every_solver
@pytest.mark.parametrize("at", [0, 1, 7])
def test_interrupted_and_resumed_equals_uninterrupted(solver, at):
    problem = logistic(n=3000)
    whole = minimize(problem, solver, max_iter=40)
    stopped = minimize(problem, solver, callback=lambda s: s.iteration == at)
    assert stopped.status is Status.CALLBACK_STOP
    checkpoint = pickle.loads(pickle.dumps(stopped.checkpoint))
    resumed = minimize(problem, solver, resume=checkpoint, max_iter=40)
    assert np.array_equal(resumed.w, whole.w)
    assert resumed.n_iter == whole.n_iter
    np.testing.assert_array_equal(resumed.trace.value, whole.trace.value)
    np.testing.assert_array_equal(resumed.trace.props, whole.trace.props)
    np.testing.assert_array_equal(resumed.trace.step_size, whole.trace.step_size)
    assert resumed.passes == whole.passes


# Work: the unit of cost is one read of the data.


@pytest.mark.parametrize("solver", FIXED_STEPS.values(), ids=FIXED_STEPS)
def test_an_iteration_with_a_fixed_step_costs_one_pass(solver):
    result = minimize(logistic(), solver, max_iter=20)
    constants = 0 if solver == GradientDescent(3.0) else 1  # the Gram matrix
    assert result.trace.passes[0] == 1 + constants
    np.testing.assert_array_equal(np.diff(result.trace.passes), 1.0)
    np.testing.assert_array_equal(np.diff(result.trace.props), 2 * 2000)


@pytest.mark.parametrize("name", ["lbfgs", "armijo", "barzilai-borwein"])
def test_a_step_whose_first_trial_is_accepted_costs_one_pass_others_two(name):
    trace = minimize(logistic(one_hot, l2=1e-4), SOLVERS[name], max_iter=60).trace
    trials = trace.inner_iterations[1:]
    assert np.any(trials == 1)
    assert np.any(trials > 1)
    np.testing.assert_array_equal(np.diff(trace.passes), np.where(trials == 1, 1, 2))


def test_lbfgs_takes_unit_steps_in_most_iterations():
    trace = minimize(logistic(one_hot, l2=1e-4), LBFGS(), max_iter=80).trace
    assert np.mean(trace.step_size[2:] == 1.0) > 0.8


def test_backtracking_costs_a_second_pass():
    solver = SOLVERS["nesterov backtracking"]
    trace = minimize(logistic(), solver, max_iter=20).trace
    assert trace.passes[0] == 1
    np.testing.assert_array_equal(np.diff(trace.passes), 2.0)


# Smoothness.


def containers():
    rng = np.random.default_rng(3)
    X = rng.standard_normal((50, 4)) * [3.0, 1.0, 0.3, 0.1]
    weights = rng.random(50) * (rng.random(50) > 0.2)
    columns = Columns(rng.random(4) + 0.5, X.mean(axis=0), intercept=True)
    l2 = np.array([1e-2, 0.3, 1e-2, 1e-1])
    yield "dense", X, None, 1e-2
    yield "ridge", X, None, l2
    yield "csr", sp.csr_array(np.where(rng.random(X.shape) < 0.5, X, 0.0)), None, l2
    yield "weights", X, weights, l2
    yield "columns", as_rows(X).with_columns(columns), weights, np.append(l2, 0.0)
    yield "wide", X[:3], None, l2


every_container = pytest.mark.parametrize(
    ("X", "weights", "l2"),
    [case[1:] for case in containers()],
    ids=[case[0] for case in containers()],
)


@every_container
def test_smoothness_is_exact_for_the_squared_loss(X, weights, l2):
    rows = as_rows(X)
    problem = LinearModel(
        SQUARED, rows, np.ones(rows.n_rows), l2=l2, sample_weight=weights
    )
    values = np.linalg.eigvalsh(hessian(problem, np.zeros(problem.n_params)))
    found = smoothness(problem)
    low, high = found.mu, found.L
    assert low <= values[0] * (1 + 1e-12)
    assert high >= values[-1] * (1 - 1e-12)
    assert low == pytest.approx(values[0], rel=1e-9, abs=1e-14)
    assert high == pytest.approx(values[-1], rel=1e-9)
    assert found.condition_number == high / low


@every_container
@pytest.mark.parametrize("loss", [LOGISTIC, SIGMOID_SQUARED, huber()])
def test_smoothness_brackets_every_hessian(loss, X, weights, l2):
    rows = as_rows(X)
    problem = LinearModel(
        loss, rows, np.ones(rows.n_rows), l2=l2, sample_weight=weights
    )
    found = smoothness(problem)
    rng = np.random.default_rng(0)
    for scale in (0.0, 0.1, 1.0, 5.0):
        w = scale * rng.standard_normal(problem.n_params)
        values = np.linalg.eigvalsh(hessian(problem, w))
        if loss.convex:
            assert found.mu <= values[0] + 1e-14
        assert np.abs(values).max() <= found.L * (1 + 1e-12)
    assert found.mu == (problem.l2.min() if loss.convex else 0.0)


def test_lower_bound_of_the_curvature_counts_where_it_is_positive():
    loss = PointwiseLoss(
        "between", LOGISTIC.value, LOGISTIC.d1, LOGISTIC.d2, (2.0, 6.0)
    )
    rng = np.random.default_rng(0)
    X = rng.standard_normal((30, 3))
    problem = LinearModel(loss, X, np.ones(30), l2=[0.0, 0.1, 0.2])
    found = smoothness(problem)
    gram, ridge = X.T @ X / 30, np.diag(problem.l2)
    assert found.mu == pytest.approx(np.linalg.eigvalsh(2 * gram + ridge)[0], rel=1e-10)
    high = found.L
    assert high == pytest.approx(np.linalg.eigvalsh(6 * gram + ridge)[-1], rel=1e-10)


def test_smoothness_is_attained_by_the_logistic_loss_at_zero():
    problem = logistic(l2=np.linspace(0.0, 0.2, 8))
    largest = np.linalg.eigvalsh(hessian(problem, np.zeros(8)))[-1]
    high = smoothness(problem).L
    assert high == pytest.approx(largest, rel=1e-12)


@every_container
def test_constants_of_samples_are_those_of_their_hessians(X, weights, l2):
    rows = as_rows(X)
    problem = LinearModel(
        LOGISTIC, rows, np.ones(rows.n_rows), l2=l2, sample_weight=weights
    )
    found = smoothness(problem)
    A, ridge = dense(problem), np.max(problem.l2)
    single = [
        np.linalg.eigvalsh(0.25 * s * np.outer(x, x))[-1] + ridge
        for s, x in zip(problem.weights, A, strict=True)
    ]
    assert found.L_max == pytest.approx(max(single), rel=1e-12)
    assert found.L_mean == pytest.approx(np.mean(single), rel=1e-12)
    assert found.L <= found.L_mean <= found.L_max


def test_smoothness_of_softmax_bounds_its_hessians_and_is_attained():
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((80, 3)), rng.integers(0, 3, 80)

    def largest(problem, w):
        return np.linalg.eigvalsh(problem.at(w).hessian(full(80)).dense())[-1]

    problem = SoftmaxModel(X, y, l2=[0.0, 0.1, 0.2])
    found = smoothness(problem)
    assert found.mu == 0.0
    for scale in (0.0, 0.5, 3.0):
        w = scale * rng.standard_normal(problem.n_params)
        assert largest(problem, w) <= found.L
    two = SoftmaxModel(X, y % 2, l2=0.1)
    high = smoothness(two).L
    assert high == pytest.approx(largest(two, np.zeros(3)), rel=1e-12)


@pytest.mark.parametrize("design", ["flat", "gap", "csr"])
def test_lanczos_bound_is_an_upper_one_within_five_percent(monkeypatch, design):
    monkeypatch.setattr(_smoothness, "GRAM_MAX_PARAMS", 10)
    rng = np.random.default_rng(0)
    X = rng.standard_normal((300, 120))
    if design == "gap":
        X *= np.geomspace(1.0, 1e-3, 120)
    if design == "csr":
        X = sp.csr_array(np.where(rng.random(X.shape) < 0.05, X, 0.0))
    problem = LinearModel(
        LOGISTIC, X, np.ones(300), l2=1e-3, sample_weight=rng.random(300)
    )
    exact = np.linalg.eigvalsh(hessian(problem, np.zeros(120)))[-1]
    before = problem.work.rows_read
    found = smoothness(problem)
    assert exact <= found.L <= 1.05 * exact
    assert found.mu == 1e-3
    assert 300 * 10 < problem.work.rows_read - before < 300 * 60
    assert smoothness(problem) == found


def test_lanczos_bound_of_an_empty_matrix_is_the_ridge(monkeypatch):
    monkeypatch.setattr(_smoothness, "GRAM_MAX_PARAMS", 2)
    for l2, expected in ((0.0, 0.0), (0.5, 0.5)):
        problem = LinearModel(LOGISTIC, np.zeros((4, 3)), np.ones(4), l2=l2)
        high = smoothness(problem).L
        assert high == pytest.approx(expected, rel=0.021)


def test_smoothness_reads_the_rows_twice():
    problem = logistic()
    before = problem.work.rows_read
    smoothness(problem)
    assert problem.work.rows_read - before == 2 * 2000


class Rosenbrock(FiniteSum):
    """Two residuals, not convex; also a chain in more than two parameters."""

    def __init__(self, d=2):
        super().__init__(1, d)

    def value(self, w, rows=None):
        return float(scipy.optimize.rosen(w))

    def gradient(self, w, rows=None):
        return scipy.optimize.rosen_der(w)

    def hess_vec(self, w, rows, v):
        return scipy.optimize.rosen_hess_prod(w, v)


def poisson(n=400, d=4, l2=1e-2):
    rng = np.random.default_rng(2)
    X = rng.standard_normal((n, d)) / 2
    y = rng.poisson(np.exp(X @ rng.standard_normal(d)))
    return LinearModel(POISSON, X, y, l2=l2)


@pytest.mark.parametrize("problem", [Rosenbrock(), poisson()])
@pytest.mark.parametrize(
    "solver", [GradientDescent(), Nesterov(step_size="1/L"), HeavyBall(momentum=0.5)]
)
def test_unknown_smoothness_is_refused_with_the_rules_that_work(problem, solver):
    what = "a Rosenbrock" if isinstance(problem, Rosenbrock) else "the poisson loss"
    with pytest.raises(
        TypeError,
        match=f"curvature is known for {what}.*'armijo'.*'backtracking'.*LBFGS",
    ):
        minimize(problem, solver)


def test_overflow_of_the_smoothness_constant_is_a_status():
    # Value and gradient at 0 are of the size 1, squares of the entries are not finite.
    X = [[1e160, 1.0], [1e160, 3.0]]
    problem = LinearModel(LOGISTIC, X, [1.0, -1.0], l2=1.0)
    assert math.isinf(smoothness(problem).L)
    for solver in (GradientDescent(), Nesterov(), HeavyBall()):
        result = minimize(problem, solver)
        assert result.gradient_norm == pytest.approx(0.5)
        assert result.status is Status.NON_FINITE


def test_constant_objective_is_at_its_minimum():
    problem = LinearModel(LOGISTIC, np.zeros((5, 2)), np.ones(5))
    for solver in (*FIXED_STEPS.values(), LBFGS(), GradientDescent("armijo")):
        if not (isinstance(solver, HeavyBall) or "strongly-convex" in str(solver)):
            assert minimize(problem, solver, [1.0, 2.0]).n_iter == 0


# Gradient descent.


def test_bound_of_gradient_descent_is_never_violated_on_random_quadratics():
    """(L/2) ((kappa - 1) / (kappa + 1))**(2k) ||e_0||**2 at the step 2 / (L + mu)."""
    rng = np.random.default_rng(0)
    k = np.arange(14)
    for _ in range(1000):
        d = int(rng.integers(1, 5))
        X = rng.standard_normal((d + 3, d)) * 10.0 ** rng.uniform(-2, 0, d)
        problem = LinearModel(
            SQUARED, X, rng.standard_normal(d + 3), l2=10.0 ** rng.uniform(-4, 0)
        )
        H = X.T @ X / (d + 3) + np.diag(problem.l2)
        low, *_, high = [*np.linalg.eigvalsh(H), np.linalg.eigvalsh(H)[-1]]
        optimum = np.linalg.solve(H, X.T @ problem.y / (d + 3))
        trace = minimize(problem, GradientDescent("2/(L+mu)"), tol=0, max_iter=13).trace
        steps = k[: len(trace.value)]
        gap = trace.value - problem.at(optimum).value
        rate = (high - low) / (high + low)
        bound = 0.5 * high * rate ** (2.0 * steps) * (optimum @ optimum)
        assert np.all(gap <= bound * (1 + 1e-9) + 1e-14 * trace.value[0])


@pytest.mark.parametrize("seed", range(6))
def test_bounds_of_gradient_descent_hold_for_logistic_problems(seed):
    problem = logistic(n=300, d=4, l2=10.0 ** -(1 + seed % 3), seed=seed)
    optimum = minimizer(problem)
    best, square = problem.at(optimum).value, optimum @ optimum
    found = smoothness(problem)
    kappa = found.condition_number
    k = np.arange(61)

    trace = minimize(problem, GradientDescent("2/(L+mu)"), tol=0, max_iter=60).trace
    bound = 0.5 * found.L * ((kappa - 1) / (kappa + 1)) ** (2.0 * k) * square
    assert np.all(trace.value - best <= bound[: len(trace.value)] + 1e-15)

    trace = minimize(problem, GradientDescent("1/L"), tol=0, max_iter=60).trace
    gap = trace.value - best
    bound = found.L * square / (2.0 * np.maximum(k, 1))
    assert np.all(gap[1:] <= bound[1 : len(gap)] + 1e-15)
    contraction = (1 - 1 / kappa) * gap[:-1]
    assert np.all(gap[1:] <= contraction + 1e-15)


@pytest.mark.parametrize("loss", [LOGISTIC, SIGMOID_SQUARED, SQUARED])
def test_step_1_over_L_never_increases_the_value(loss):
    rng = np.random.default_rng(0)
    X = pareto(200, 5, rng)
    y = (rng.random(200) < 0.5).astype(float)
    if loss is LOGISTIC:
        y = 2 * y - 1
    problem = LinearModel(loss, X, y, l2=1e-3, sample_weight=rng.random(200))
    start = 3.0 * rng.standard_normal(5)
    trace = minimize(problem, GradientDescent(), start, tol=0, max_iter=150).trace
    assert np.all(np.diff(trace.value) <= 1e-15 * trace.value[0])
    assert trace.value[-1] < 0.99 * trace.value[0]


def test_step_1_over_L_is_a_newton_step_with_the_hessian_L():
    problem = logistic()
    L = smoothness(problem).L
    _, states = states_of(problem, GradientDescent(), max_iter=3)
    for before, after in itertools.pairwise(states):
        newton = -np.linalg.solve(L * np.eye(8), before.point.gradient)
        np.testing.assert_allclose(after.point.w, before.point.w + newton, rtol=1e-13)


def test_armijo_starts_from_twice_the_last_step_and_decreases_enough():
    problem = logistic(pareto, l2=1e-3)
    solver = GradientDescent("armijo", c1=0.3)
    _, states = states_of(problem, solver, max_iter=25)
    for before, after in itertools.pairwise(states[1:]):
        first = after.step_size * 2.0 ** (after.inner_iterations - 1)
        assert first == 2.0 * before.step_size
        g = before.point.gradient
        change = after.point.value - before.point.value
        assert change <= -0.3 * after.step_size * (g @ g) + 1e-15


def test_barzilai_borwein_step_is_the_inverse_rayleigh_quotient_of_the_last_step():
    problem = logistic(one_hot, l2=1e-4)
    _, states = states_of(problem, GradientDescent("barzilai-borwein"), max_iter=30)
    for a, b, c in zip(states[:-2], states[1:-1], states[2:], strict=True):
        s, y = b.point.w - a.point.w, b.point.gradient - a.point.gradient
        first = c.step_size * 2.0 ** (c.inner_iterations - 1)
        assert first == pytest.approx((s @ s) / (s @ y), rel=1e-12)


def test_barzilai_borwein_is_below_the_largest_of_the_last_ten_values():
    problem = logistic(one_hot, l2=1e-4)
    _, states = states_of(problem, GradientDescent("barzilai-borwein"), max_iter=200)
    values = np.array([s.point.value for s in states])
    for k in range(1, len(states)):
        g = states[k - 1].point.gradient
        decrease = 1e-4 * states[k].step_size * (g @ g)
        assert values[k] <= values[max(0, k - 10) : k].max() - decrease + 1e-15
    assert max(len(state.recent) for state in states) == 10
    # Larger than the value before: the search is not a monotone one.
    assert np.sum(np.diff(values) > 1e-9) >= 3


def test_barzilai_borwein_needs_far_fewer_passes_on_ill_conditioned_problems():
    problem = logistic(n=500, l2=1e-4, scale=np.geomspace(1, 0.05, 8))
    passes = [
        minimize(problem, GradientDescent(rule), max_iter=9999, tol=1e-7).passes
        for rule in ("1/L", "barzilai-borwein")
    ]
    assert passes[1] < 0.1 * passes[0]


# Nesterov and heavy ball.


def three_term(gradient, w, step, momenta):
    """``w+ = w - a g + b (w - w_) - a b (g - g_)``, Schmidt's form."""
    points = [w]
    before, g_before = w, np.zeros_like(w)
    for b in momenta:
        g = gradient(w)
        following = w - step * g + b * (w - before) - step * b * (g - g_before)
        before, g_before, w = w, g, following
        points.append(w)
    return points


def momentum_sequence(kind, q, steps):
    """Textbook forms: t_k of FISTA, the equation of theta, the constant."""
    if kind == "strongly-convex":
        return [(1 - math.sqrt(q)) / (1 + math.sqrt(q))] * steps
    if kind == "convex":
        t = [1.0]
        while len(t) <= steps:
            t.append((1 + math.sqrt(1 + 4 * t[-1] ** 2)) / 2)
        return [(a - 1) / b for a, b in itertools.pairwise(t)]
    if kind == "auto":
        theta, momenta = 1.0, []
        for _ in range(steps):
            following = max(np.roots([1.0, theta**2 - q, -(theta**2)]).real)
            momenta.append(theta * (1 - theta) / (theta**2 + following))
            theta = following
        return momenta
    return [kind] * steps


@pytest.mark.parametrize("momentum", ["auto", "strongly-convex", "convex", 0.8])
@pytest.mark.parametrize("problem", [logistic(l2=1e-2), least_squares(l2=0.1)])
def test_velocity_form_gives_the_sequence_of_the_three_term_form(problem, momentum):
    solver = Nesterov(momentum, restart=False)
    start = np.linspace(-1.0, 1.0, problem.n_params)
    _, states = states_of(problem, solver, start, tol=0, max_iter=40)
    found = smoothness(problem)
    momenta = momentum_sequence(momentum, 1.0 / found.condition_number, len(states) - 1)
    points = three_term(lambda w: problem.at(w).gradient, start, 1.0 / found.L, momenta)
    for state, w in zip(states, points, strict=True):
        np.testing.assert_allclose(state.point.w, w, rtol=1e-11, atol=1e-13)


def test_automatic_momentum_is_the_convex_one_without_strong_convexity():
    problem = logistic(l2=0.0)
    runs = [
        minimize(problem, Nesterov(momentum), tol=0, max_iter=30)
        for momentum in ("auto", "convex")
    ]
    np.testing.assert_allclose(runs[0].w, runs[1].w, rtol=1e-12)


def test_automatic_momentum_tends_to_the_one_of_strong_convexity():
    problem = logistic(l2=1e-2)
    _, states = states_of(problem, Nesterov(restart=False), tol=0, max_iter=100)
    root = math.sqrt(smoothness(problem).condition_number)
    assert states[-1].momentum == pytest.approx((root - 1) / (root + 1), rel=1e-9)
    assert states[3].momentum < 0.95 * states[-1].momentum


@pytest.mark.parametrize("l2", [1e-1, 1e-2, 1e-3])
@pytest.mark.parametrize("seed", range(3))
def test_bounds_of_nesterov_are_never_violated(l2, seed):
    problem = logistic(pareto, n=300, d=5, l2=l2, seed=seed)
    optimum = minimizer(problem)
    best, square = problem.at(optimum).value, optimum @ optimum
    found = smoothness(problem)
    root = math.sqrt(found.condition_number)
    linear = lambda k: found.L * (1 - 1 / root) ** k * square  # noqa: E731
    fista = lambda k: 2 * found.L * square / (k + 1.0) ** 2  # noqa: E731
    for momentum, bounds in (
        ("strongly-convex", [linear]),
        ("convex", [fista]),
        ("auto", [linear, fista]),
    ):
        solver = Nesterov(momentum, restart=False)
        _, states = states_of(problem, solver, tol=0, max_iter=120)
        for k, state in enumerate(states):
            gap = problem.at(state.w).value - best
            assert all(gap <= bound(k) + 1e-14 for bound in bounds)


def test_fista_bound_needs_the_momentum():
    """The same bound without momentum fails, so the test of it can."""
    d = 100
    problem, _ = chain(L=1.0, mu=1e-6, d=d)
    k, square = 45, d / 3
    bound = 2 * square / (k + 1.0) ** 2
    plain = minimize(problem, GradientDescent(), tol=0, max_iter=k)
    fast = minimize(problem, Nesterov("convex", restart=False), tol=0, max_iter=k)
    best = problem.at(minimizer(problem)).value
    assert fast.value - best < 0.5 * (plain.value - best) < bound


def test_restart_stops_the_oscillation():
    problem = logistic(n=500, l2=0.0, scale=np.geomspace(1, 0.05, 8))
    runs = [
        minimize(problem, Nesterov(restart=restart), tol=1e-7, max_iter=9999)
        for restart in (True, False)
    ]
    assert all(run.converged for run in runs)
    assert runs[0].n_iter < 0.5 * runs[1].n_iter
    assert np.sum(np.diff(runs[0].trace.value) > 0) < 0.1 * runs[0].n_iter


def test_restart_forgets_the_velocity_where_it_points_uphill():
    problem = logistic(n=500, l2=0.0, scale=np.geomspace(1, 0.05, 8))
    _, states = states_of(problem, Nesterov(), tol=1e-7, max_iter=500)
    uphill = [
        float(a.point.gradient @ b.velocity) > 0.0
        for a, b in itertools.pairwise(states)
    ]
    assert sum(uphill) >= 3
    for turned, state in zip(uphill, states[1:], strict=True):
        if turned:
            assert state.momentum == 0.0
            assert np.array_equal(state.point.w, state.w)
        elif state.iteration > 2:
            assert state.momentum >= 0.0


@pytest.mark.parametrize("problem", [poisson(), logistic(l2=1e-4)])
def test_backtracking_satisfies_the_descent_lemma_at_every_step(problem):
    solver = Nesterov(step_size="backtracking")
    result, states = states_of(problem, solver, max_iter=500)
    assert result.converged
    steps = []
    for before, after in itertools.pairwise(states):
        g, a = before.point.gradient, after.step_size
        change = problem.at(before.point.w - a * g).value - before.point.value
        assert change <= -0.5 * a * (g @ g) + 1e-14 * abs(before.point.value)
        steps.append(a)
    growth = np.array(steps[1:]) / np.array(steps[:-1])
    assert growth.max() == pytest.approx(1 / 0.9)
    assert np.any(growth < 1.0)


def test_momentum_sum_is_the_unrolled_one():
    """w_{t+1} = w_0 - a sum_i (1 - b**(t+1-i)) / (1 - b) g_i: the sign is a plus."""
    problem = logistic()
    a, b = 0.7, 0.6
    _, states = states_of(problem, HeavyBall(a, b), np.ones(8), tol=0, max_iter=25)
    gradients = [state.point.gradient for state in states]
    for t in range(24):
        total = sum(
            (1 - b ** (t + 1 - i)) / (1 - b) * gradients[i] for i in range(t + 1)
        )
        np.testing.assert_allclose(
            states[t + 1].point.w, np.ones(8) - a * total, rtol=1e-11
        )


def test_gradient_descent_is_the_unrolled_sum_and_heavy_ball_without_momentum():
    problem = logistic()
    _, plain = states_of(problem, GradientDescent(0.9), tol=0, max_iter=20)
    _, ball = states_of(problem, HeavyBall(0.9, 0.0), tol=0, max_iter=20)
    total = np.zeros(8)
    for a, b in zip(plain, ball, strict=True):
        np.testing.assert_allclose(a.point.w, -0.9 * total, rtol=1e-12, atol=1e-15)
        np.testing.assert_array_equal(a.point.w, b.point.w)
        total += a.point.gradient


def test_heavy_ball_is_the_distill_form_and_polyaks():
    """``m <- b m + g, w <- w - a m`` and ``w+ = w - a g + b (w - w_)``."""
    problem = logistic()
    a, b = 1.1, 0.8
    _, states = states_of(problem, HeavyBall(a, b), tol=0, max_iter=30)
    w, m = np.zeros(8), np.zeros(8)
    x, before = np.zeros(8), np.zeros(8)
    for state in states:
        np.testing.assert_allclose(state.point.w, w, rtol=1e-12, atol=1e-15)
        np.testing.assert_allclose(state.point.w, x, rtol=1e-12, atol=1e-15)
        m = b * m + problem.at(w).gradient
        w = w - a * m
        following = x - a * problem.at(x).gradient + b * (x - before)
        x, before = following, x


def test_heavy_ball_takes_the_parameters_that_are_optimal_for_quadratics():
    problem = quadratic([1.0, 9.0, 25.0], np.ones(3))
    _, states = states_of(problem, HeavyBall(), tol=0, max_iter=2)
    assert states[-1].step_size == pytest.approx(4 / (5 + 1) ** 2, rel=1e-12)
    assert states[-1].momentum == pytest.approx((4 / 6) ** 2, rel=1e-12)


class Kinked(FiniteSum):
    """The function of Lessard, Recht and Packard: mu = 1 and L = 25, no quadratic."""

    def __init__(self):
        super().__init__(1, 1)

    def value(self, w, rows=None):
        z = w[0]
        if 1.0 <= z < 2.0:
            return float(0.5 * z * z + 24.0 * z - 12.0)
        return float(12.5 * z * z - (24.0 * z - 36.0) * (z >= 2.0))

    def gradient(self, w, rows=None):
        return np.where((w >= 1.0) & (w < 2.0), w + 24.0, 25.0 * w - 24.0 * (w >= 2.0))

    def hess_vec(self, w, rows, v):
        return np.where((w >= 1.0) & (w < 2.0), v, 25.0 * v)


def test_heavy_ball_cycles_on_a_function_where_the_others_converge():
    problem = Kinked()
    check_derivatives(problem, [3.3])
    check_derivatives(problem, [1.5])
    # Its default parameters for mu = 1 and L = 25.
    result = minimize(problem, HeavyBall(1 / 9, 4 / 9), [3.3], max_iter=1000)
    assert result.status is Status.MAX_ITER
    assert np.ptp(result.trace.value[-6:]) > 1.0
    for solver in (GradientDescent(2 / 26), Nesterov(step_size=1 / 25), LBFGS()):
        assert minimize(problem, solver, [3.3], max_iter=1000).converged


def test_nesterov_tends_to_heavy_ball_for_short_steps():
    """Over a fixed time (steps times step) the difference is of first order in a."""
    problem = logistic(n=300, d=4, l2=1e-2)
    steps = np.array([0.08, 0.04, 0.02, 0.01, 0.005])
    differences = []
    for a in steps:
        count = round(4.0 / a)
        start = np.ones(4)
        ends = [
            minimize(problem, solver, start, tol=0, max_iter=count)
            for solver in (HeavyBall(a, 0.8), Nesterov(0.8, False, a))
        ]
        # The point of Nesterov is extrapolated: its iterate is in the state.
        differences.append(np.linalg.norm(ends[0].w - ends[1].checkpoint.state.w))
    slope = np.polyfit(np.log(steps), np.log(differences), 1)[0]
    assert 0.8 <= slope <= 1.2


# Rates.


def iterations(problem, solver, solution, accuracy, max_iter=100_000):
    def close(state):
        return np.linalg.norm(state.point.w - solution) <= accuracy * first

    first = np.linalg.norm(solution)
    result = minimize(problem, solver, tol=0, max_iter=max_iter, callback=close)
    assert result.status is Status.CALLBACK_STOP
    return result.n_iter


@pytest.mark.parametrize(
    ("solver", "exponent"),
    [
        (GradientDescent("1/L"), 1.0),
        (GradientDescent("2/(L+mu)"), 1.0),
        (Nesterov("strongly-convex", restart=False), 0.5),
        (Nesterov("auto"), 0.5),
        (HeavyBall(), 0.5),
    ],
)
def test_iterations_grow_with_the_condition_number_as_predicted(solver, exponent):
    kappas = np.array([30.0, 100.0, 300.0])
    counts = []
    for kappa in kappas:
        solution = np.ones(8)
        problem = quadratic(np.geomspace(1.0, 1.0 / kappa, 8), solution)
        counts.append(iterations(problem, solver, solution, 1e-4))
    slope = np.polyfit(np.log(kappas), np.log(counts), 1)[0]
    assert abs(slope - exponent) <= 0.15


def test_ravine_needs_ten_times_the_iterations_without_momentum():
    """Two parameters, curvatures 1 and 1/500; Newton needs one step."""
    solution = np.array([1.0, 1.0])
    problem = quadratic([1.0, 2e-3], solution)
    plain = iterations(problem, GradientDescent(), solution, 1e-6)
    for fast in (HeavyBall(), Nesterov("strongly-convex")):
        assert plain > 10 * iterations(problem, fast, solution, 1e-6)
    assert iterations(problem, SubsampledNewton(1.0), solution, 1e-6) == 1


def chain(L, mu, d):
    """Nesterov's hard function, cut to d parameters, and its minimizer.

    ``(L - mu) / 8 (w_1**2 + sum (w_{i+1} - w_i)**2 - 2 w_1) + mu / 2 ||w||**2`` up to a
    constant: rows e_1 (target 1) and e_{i+1} - e_i (target 0).
    """
    X = (np.eye(d) - np.eye(d, k=-1)) * math.sqrt(d * (L - mu) / 4)
    problem = LinearModel(SQUARED, X, X[:, 0] * (np.arange(d) == 0), l2=mu)
    return problem, np.linalg.solve(hessian(problem, np.zeros(d)), X.T @ problem.y / d)


def test_chain_function_is_the_published_one():
    problem, optimum = chain(L=3.0, mu=0.1, d=12)
    w = np.linspace(-1.0, 2.0, 12)

    def h(w):
        square = w[0] ** 2 + np.sum(np.diff(w) ** 2) - 2 * w[0]
        return (3.0 - 0.1) / 8 * square + 0.05 * w @ w

    assert problem.at(w).value - problem.at(optimum).value == pytest.approx(
        h(w) - h(optimum), rel=1e-12
    )
    values = np.linalg.eigvalsh(hessian(problem, w))
    assert values[0] >= 0.1
    assert values[-1] <= 3.0


SPAN_METHODS = {
    "1/L": GradientDescent(),
    "2/(L+mu)": GradientDescent("2/(L+mu)"),
    "barzilai-borwein": GradientDescent("barzilai-borwein"),
    "nesterov": Nesterov("strongly-convex", restart=False),
    "heavy ball": HeavyBall(),
    "lbfgs": LBFGS(60),
}


@pytest.mark.parametrize("solver", SPAN_METHODS.values(), ids=SPAN_METHODS)
def test_no_span_method_beats_the_lower_bound(solver):
    L, mu, d = 1.0, 1e-3, 150
    problem, optimum = chain(L, mu, d)
    best, square = problem.at(optimum).value, optimum @ optimum
    root = math.sqrt(L / mu)
    trace = minimize(problem, solver, tol=0, max_iter=50).trace
    k = np.arange(len(trace.value))
    bound = 0.5 * mu * ((root - 1) / (root + 1)) ** (2.0 * k) * square
    assert np.all(trace.value - best >= bound)


def test_conjugate_gradients_obey_the_lower_bound_and_newton_does_not():
    L, mu, d = 1.0, 1e-3, 150
    problem, optimum = chain(L, mu, d)
    best, square = problem.at(optimum).value, optimum @ optimum
    root = math.sqrt(L / mu)
    start = problem.at(np.zeros(d))
    H = hessian(problem, start.w)
    for k, w in enumerate(naive.conjugate_gradient(H, start.gradient, 50), start=1):
        gap = problem.at(w).value - best
        assert gap >= 0.5 * mu * ((root - 1) / (root + 1)) ** (2.0 * k) * square
    newton = minimize(problem, SubsampledNewton(1.0), tol=0, max_iter=1)
    assert newton.value - best < 1e-12 * square


# L-BFGS.


def dense_inverse(pairs, gamma):
    """BFGS updates of the inverse Hessian, Nocedal and Wright (6.17)."""
    d = len(pairs[0][0])
    H = gamma * np.eye(d)
    for s, y in pairs:
        V = np.eye(d) - np.outer(y, s) / (s @ y)
        H = V.T @ H @ V + np.outer(s, s) / (s @ y)
    return H


def compact_inverse(pairs, gamma):
    """Byrd, Nocedal and Schnabel (1994), equation (3.1)."""
    S, Y = (np.column_stack(list(z)) for z in zip(*pairs, strict=True))
    R, D = np.triu(S.T @ Y), np.diag(np.diag(S.T @ Y))
    inverse = np.linalg.inv(R)
    W = np.hstack([S, gamma * Y])
    middle = np.block(
        [
            [inverse.T @ (D + gamma * Y.T @ Y) @ inverse, -inverse.T],
            [-inverse, np.zeros_like(R)],
        ]
    )
    return gamma * np.eye(len(S)) + W @ middle @ W.T


@pytest.mark.parametrize("m", [1, 3, 8])
@pytest.mark.parametrize("gamma", [None, 1.0, 0.3])
def test_two_loops_are_the_dense_and_the_compact_update(rng, m, gamma):
    A = rng.standard_normal((6, 6))
    H = A @ A.T + 0.1 * np.eye(6)
    pairs = tuple((s, H @ s) for s in rng.standard_normal((m, 6)))
    s, y = pairs[-1]
    scale = (s @ y) / (y @ y) if gamma is None else gamma
    v = rng.standard_normal(6)
    product = inverse_product(pairs, v, gamma)
    np.testing.assert_allclose(product, dense_inverse(pairs, scale) @ v, rtol=1e-9)
    if m <= 3:  # beyond, R of the compact form is nearly singular
        np.testing.assert_allclose(
            product, compact_inverse(pairs, scale) @ v, rtol=1e-9
        )
    np.testing.assert_allclose(inverse_product(pairs, y, gamma), s, rtol=1e-9)


def test_no_pairs_give_the_gradient_itself(rng):
    v = rng.standard_normal(5)
    np.testing.assert_array_equal(inverse_product((), v), v)


@pytest.mark.parametrize("memory", [1, 5])
def test_lbfgs_with_an_exact_search_is_conjugate_gradients_on_quadratics(memory):
    rng = np.random.default_rng(0)
    problem = quadratic(np.geomspace(1.0, 0.01, 12), rng.standard_normal(12))
    H = hessian(problem, np.zeros(12))
    steps = memory + 1
    expected = naive.conjugate_gradient(H, problem.at(np.zeros(12)).gradient, steps)
    solver = LBFGS(memory, c1=1e-9, c2=1e-8)
    _, states = states_of(problem, solver, tol=0, max_iter=steps)
    for state, w in zip(states[1:], expected, strict=True):
        np.testing.assert_allclose(state.point.w, w, rtol=1e-5, atol=1e-7)


def test_three_clusters_of_eigenvalues_take_few_steps():
    eigenvalues = np.repeat([1.0, 1e-2, 1e-4], 5) * (1 + 1e-9 * np.arange(15))
    problem = quadratic(eigenvalues, np.ones(15))
    exact = LBFGS(20, c1=1e-9, c2=1e-8)
    assert iterations(problem, exact, np.ones(15), 1e-4) <= 4
    assert iterations(problem, LBFGS(20), np.ones(15), 1e-4) <= 20


CONVEX = {
    "gaussian": logistic(),
    "pareto": logistic(pareto),
    "one-hot": logistic(one_hot, n=3000, d=16, l2=1e-4),
    "no ridge": logistic(l2=0.0),
    "ill-conditioned": logistic(n=1000, l2=1e-6, scale=np.geomspace(1, 0.03, 8)),
    "raw columns": logistic(n=1000, l2=1e-6, scale=np.geomspace(300, 1, 8)),
    "least squares": least_squares(),
    "poisson": poisson(),
    "chain": chain(1.0, 1e-4, 60)[0],
}


@pytest.mark.parametrize("problem", CONVEX.values(), ids=CONVEX)
def test_lbfgs_reaches_1e_10_on_every_convex_problem(problem):
    result = minimize(problem, LBFGS(), tol=1e-10, max_iter=1000)
    assert result.status is Status.CONVERGED
    assert result.gradient_norm <= 1e-10
    armijo = minimize(problem, LBFGS(line_search="armijo"), tol=1e-10, max_iter=1000)
    assert armijo.converged
    assert abs(armijo.value - result.value) <= 1e-10 * max(1.0, abs(result.value))


@pytest.mark.parametrize(
    "solver",
    [
        LBFGS(),
        LBFGS(line_search="armijo"),
        GradientDescent("barzilai-borwein"),
        GradientDescent("armijo"),
        Nesterov(step_size="backtracking"),
    ],
    ids=repr,
)
@pytest.mark.parametrize("problem", [logistic(), poisson(), least_squares()])
def test_full_accuracy_is_reached_where_the_value_has_no_digits_left(solver, problem):
    result = minimize(problem, solver, tol=1e-13, max_iter=2000)
    assert result.status is Status.CONVERGED
    beyond = minimize(problem, solver, tol=0, max_iter=5000)
    assert beyond.status is Status.PRECISION
    assert beyond.gradient_norm < 1e-13


def test_lbfgs_pairs_have_positive_curvature_on_a_function_that_is_not_convex():
    for line_search in ("wolfe", "armijo"):
        solver = LBFGS(line_search=line_search)
        result, states = states_of(Rosenbrock(6), solver, [-1.2, 1.0] * 3)
        assert result.status is Status.CONVERGED
        for state in states:
            assert len(state.pairs) <= 10
            assert all(
                s @ y > 1e-10 * np.linalg.norm(s) * np.linalg.norm(y)
                for s, y in state.pairs
            )


class Concave(FiniteSum):
    """The sum of ``cos``: pairs have negative curvature near the start."""

    def __init__(self):
        super().__init__(1, 3)

    def value(self, w, rows=None):
        return float(np.cos(w).sum())

    def gradient(self, w, rows=None):
        return -np.sin(w)

    def hess_vec(self, w, rows, v):
        return -np.cos(w) * v


def test_pairs_without_positive_curvature_are_left_out():
    solver = LBFGS(line_search="armijo")
    _, states = states_of(Concave(), solver, [0.1, 0.2, -0.1])
    assert states[1].pairs == ()
    assert states[1].iteration == 1
    assert len(states[-1].pairs) > 0
    np.testing.assert_allclose(np.abs(states[-1].point.w), math.pi, rtol=1e-8)


def test_pairs_are_dropped_where_the_search_fails_and_the_gradient_goes_on():
    problem, solver, rng = poisson(), LBFGS(), np.random.default_rng(0)
    point = problem.at(np.zeros(4))
    wild = (1e30 * np.ones(4), np.ones(4))  # steps of 1e30: the exponential overflows
    with np.errstate(over="ignore", invalid="ignore"):
        state = solver.step(problem, LBFGSState(point, pairs=(wild,)), rng)
    assert state.point is point
    assert state.pairs == ()
    assert state.outcome is None
    state = solver.step(problem, state, rng)
    assert state.point.value < point.value
    assert len(state.pairs) == 1


def test_lbfgs_first_step_is_at_most_one_in_the_sum_norm():
    problem = logistic(scale=1e3 * np.ones(8))
    gradient = problem.at(np.zeros(8)).gradient
    _, states = states_of(problem, LBFGS(line_search="armijo"), max_iter=1)
    shortened = states[1].step_size * 2.0 ** (states[1].inner_iterations - 1)
    assert shortened == pytest.approx(1.0 / np.abs(gradient).sum(), rel=1e-12)


def test_memory_is_the_number_of_last_pairs():
    problem = logistic(one_hot, l2=1e-4)
    _, states = states_of(problem, LBFGS(3), max_iter=8)
    assert [len(state.pairs) for state in states] == [0, 1, 2, 3, 3, 3, 3, 3, 3]
    s, y = states[-1].pairs[-1]
    np.testing.assert_array_equal(s, states[-1].point.w - states[-2].point.w)
    np.testing.assert_array_equal(
        y, states[-1].point.gradient - states[-2].point.gradient
    )


def test_secant_scaling_needs_fewer_steps_than_the_identity():
    problem = logistic(one_hot, l2=1e-4)
    counts = [
        minimize(problem, LBFGS(scaling=scaling), max_iter=2000).n_iter
        for scaling in ("secant", "identity")
    ]
    assert counts[0] < 0.6 * counts[1]


# Problems that are not convex, and problems of one's own.


@pytest.mark.parametrize("loss", [SIGMOID_SQUARED])
@pytest.mark.parametrize(
    "solver",
    [s for s in SOLVERS.values() if not isinstance(s, HeavyBall)],
    ids=[name for name, s in SOLVERS.items() if not isinstance(s, HeavyBall)],
)
def test_stationary_points_of_nonlinear_least_squares(solver, loss):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((300, 3))
    y = (X @ [1.0, -1.0, 0.5] + rng.logistic(size=300) > 0).astype(float)
    problem = LinearModel(loss, X, y, l2=1e-3)
    if solver == SOLVERS["nesterov strongly-convex"]:
        with pytest.raises(ValueError, match="'strongly-convex' needs a problem"):
            minimize(problem, solver)
        return
    result = minimize(problem, solver, tol=1e-7, max_iter=3000)
    assert result.status is Status.CONVERGED


@pytest.mark.parametrize(
    "solver",
    [
        LBFGS(),
        LBFGS(line_search="armijo"),
        GradientDescent("barzilai-borwein"),
        Nesterov(),
    ],
    ids=repr,
)
def test_rosenbrock_function(solver):
    result = minimize(Rosenbrock(), solver, [-1.2, 1.0], tol=1e-3, max_iter=9999)
    assert result.status is Status.CONVERGED
    np.testing.assert_allclose(result.w, 1.0, atol=0.01)


def test_softmax_problem_is_solved_by_every_solver():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((200, 3))
    problem = SoftmaxModel(X, rng.integers(0, 3, 200), l2=0.05)
    best = minimize(problem, SubsampledNewton(1.0)).value
    for solver in SOLVERS.values():
        if solver != SOLVERS["number"]:
            result = minimize(problem, solver, max_iter=500)
            assert result.converged
            assert result.value - best < 1e-14


# Failures are statuses.


class Wrong(FiniteSum):
    """A gradient of the wrong sign."""

    def __init__(self):
        super().__init__(5, 2)

    def value(self, w, rows=None):
        return float(w @ w)

    def gradient(self, w, rows=None):
        return -2.0 * w + 1.0

    def hess_vec(self, w, rows, v):
        return 2.0 * v


@pytest.mark.parametrize(
    "name", ["armijo", "barzilai-borwein", "lbfgs", "lbfgs armijo"]
)
def test_status_line_search_failed_on_a_wrong_gradient(name):
    result = minimize(Wrong(), SOLVERS[name], [1.0, 1.0])
    assert result.status is Status.LINE_SEARCH_FAILED


def test_too_long_a_step_diverges_to_a_status():
    problem = least_squares()
    for solver in (
        GradientDescent(10.0),
        Nesterov(step_size=10.0),
        HeavyBall(10.0, 0.5),
    ):
        assert minimize(problem, solver, max_iter=5000).status is Status.NON_FINITE


def test_fixed_steps_end_where_w_no_longer_changes():
    problem = least_squares()
    for solver in (GradientDescent(), Nesterov()):
        result = minimize(problem, solver, tol=0, max_iter=500)
        assert result.status is Status.PRECISION
        assert result.gradient_norm < 1e-15


@pytest.mark.parametrize(
    ("solver", "arguments", "message"),
    [
        (GradientDescent, {"step_size": "2/L"}, "step_size must be one of .*got '2/L'"),
        (GradientDescent, {"step_size": -1.0}, "step_size must be one of .*got -1.0"),
        (GradientDescent, {"step_size": True}, "step_size must be one of .*got True"),
        (GradientDescent, {"c1": 1.0}, r"c1 must be a number in \(0, 1\), got 1.0"),
        (GradientDescent, {"shrink": 0.0}, "shrink must be a number in .*got 0.0"),
        (GradientDescent, {"memory": 0}, "memory must be an integer >= 1, got 0"),
        (Nesterov, {"momentum": "none"}, "momentum must be one of .*got 'none'"),
        (Nesterov, {"momentum": 1.0}, r"momentum must be one of .*\[0, 1\), got 1.0"),
        (Nesterov, {"restart": 1}, "restart must be True or False, got 1"),
        (Nesterov, {"step_size": "armijo"}, "step_size must be one of .*got 'armijo'"),
        (Nesterov, {"step_size": math.inf}, "step_size must be one of .*got inf"),
        (
            HeavyBall,
            {"step_size": 0.0},
            "step_size must be a finite number > 0 or None, got 0.0",
        ),
        (HeavyBall, {"momentum": 1.0}, r"momentum must be .*\[0, 1\) or None, got 1.0"),
        (LBFGS, {"memory": 0}, "memory must be an integer >= 1, got 0"),
        (LBFGS, {"line_search": "none"}, "line_search must be one of .*got 'none'"),
        (LBFGS, {"scaling": 1.0}, "scaling must be one of .*got 1.0"),
        (LBFGS, {"c2": 1.0}, r"c2 must be a number in \(0, 1\), got 1.0"),
        (LBFGS, {"c1": 0.9, "c2": 0.1}, "c1 must be < c2, got 0.9 and 0.1"),
    ],
)
def test_bad_solver_parameters_are_named(solver, arguments, message):
    with pytest.raises(ValueError, match=message):
        solver(**arguments)


def test_momentum_of_strong_convexity_needs_it():
    for solver in (HeavyBall(), HeavyBall(1.0), Nesterov("strongly-convex")):
        with pytest.raises(ValueError, match="a convex loss and l2 > 0"):
            minimize(logistic(l2=0.0), solver)


# Lines.


def line_problems():
    rng = np.random.default_rng(5)
    X = rng.standard_normal((40, 3))
    y = np.where(X[:, 0] + rng.logistic(size=40) > 0, 1.0, -1.0)
    l2, weights = np.array([0.0, 0.1, 0.5]), rng.random(40)
    yield LinearModel(LOGISTIC, X, y, l2=l2, sample_weight=weights)
    yield LinearModel(LOGISTIC, sp.csr_array(X), y, l2=l2)
    yield LinearModel(SIGMOID_SQUARED, X, (y + 1) / 2, l2=l2)
    yield Rosenbrock(3)
    yield SoftmaxModel(X, rng.integers(0, 3, 40), l2=l2, sample_weight=weights)


@pytest.mark.parametrize("problem", list(line_problems()))
def test_slope_of_a_line_is_the_derivative_at_its_trials(problem):
    rng = np.random.default_rng(1)
    w, p = rng.standard_normal((2, problem.n_params))
    line = problem.at(w).along(p)
    for t in (1.0, 0.5, 0.01, 3.0):
        expected = problem.at(w + t * p).gradient @ p
        assert line.slope(line(t)) == pytest.approx(expected, rel=1e-9)


def test_slope_of_a_trial_of_known_value_reads_no_rows():
    problem = logistic()
    start = problem.at(np.ones(8))
    line = start.along(np.ones(8))
    assert line.slope(line(1.0)) > start.gradient @ np.ones(8)
    before = problem.work.rows_read
    line.slope(line(0.5))
    assert problem.work.rows_read == before


def test_slope_is_exact_where_the_terms_of_the_gradient_cancel():
    problem = logistic(n=1000)
    start = problem.at(minimizer(problem) + 1e-9)
    direction = -start.gradient
    line = start.along(direction)
    line(1.0)
    for t in (0.5, 1e-3, 1e-6):
        expected = start.gradient @ direction
        expected += t * (direction @ (hessian(problem, start.w) @ direction))
        assert line.slope(line(t)) == pytest.approx(expected, rel=1e-5)
