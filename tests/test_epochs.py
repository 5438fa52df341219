"""Kernels of the stochastic methods against slow twins and exact identities."""

import math

import mpmath
import numpy as np
import pytest
import scipy.optimize
import scipy.sparse as sp
from problems import labels, minimizer

from subsampled_newton import LOGISTIC, SQUARED, Columns, LinearModel, as_rows
from subsampled_newton._prefetch import prefetch
from subsampled_newton.kernels import draws, epochs
from subsampled_newton.losses import SoftmaxLoss
from subsampled_newton.problem import FiniteSum
from subsampled_newton.sample_losses import dual_loss, sample_loss
from subsampled_newton.softmax_model import SoftmaxModel
from subsampled_newton.solvers._samples import samples_of
from subsampled_newton.solvers._variance_reduced import EpochState, prepare, run_epoch
from subsampled_newton.solvers.sdca import SDCA
from subsampled_newton.solvers.sgd import SGD

METHODS = ("sag", "saga", "svrg", "svrg-average")
LAYOUTS = {"dense": np.asarray, "csr": sp.csr_array, "fortran": np.asfortranarray}
SCALE = 2.0 ** np.array([0, 1, -1, 2, 0, -2, 1, 0, 1, -1, 0, 0])
RIDGE = np.array([50.0, 20, 1e-2, 0, 3e-3, 50, 20, 1e-2, 0, 3e-3, 20, 0, 1e-3])


def sparse_data(n=300, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, 12)) * (rng.random((n, 12)) < 0.3)
    X[7] = 0.0
    return X, labels(X + 0.1, rng), rng.random(n)


def model(layout="dense", l2=RIDGE, weights=None, dtype=np.float64, scale=SCALE):
    X, y, s = sparse_data()
    rows = as_rows(LAYOUTS[layout](X.astype(dtype)))
    rows = rows.with_columns(Columns(scale, np.zeros(12), intercept=True))
    s = s if weights is None else weights
    return LinearModel(LOGISTIC, rows, y, l2=l2, sample_weight=s)


def matrix(problem):
    """Rows as the parameters see them."""
    d = problem.rows.n_params
    return np.column_stack([problem.rows.matvec(e) for e in np.eye(d)])


def start(problem, method, step_size, sampling="lipschitz", w=None, fraction=0.5):
    """Samples, memory and parameters before the first inner step."""
    w = np.full(problem.n_params, 0.1) if w is None else w
    point = problem.at(w)
    samples, memory = prepare(
        problem,
        EpochState(point),
        step_size=step_size,
        fraction=fraction,
        sampling=sampling,
    )
    if method != "sag":
        memory.fill(samples, point)
    return samples, memory, samples.parameters(w)


def take_steps(method, samples, memory, w, order, total=None):
    """Inner steps along given rows."""
    samples.variance_reduced(method)(
        samples.x,
        samples.columns,
        samples.ridge,
        samples.table,
        order,
        memory.control,
        w,
        memory.sums,
        memory.table,
        memory.seen,
        np.zeros_like(w) if total is None else total,
    )


def twin(problem, method, order, step_size, p, w):
    """The methods from their formulas, one row at a time; a fixed step size."""
    A, y, s, l2 = matrix(problem), problem.y, problem.weights, problem.l2
    n, bound = len(A), 0.25 * s * np.sum(A**2, axis=1)

    def slope(i, w):
        return -s[i] * y[i] / (1.0 + np.exp(y[i] * (A[i] @ w)))

    a = np.zeros(n)
    if method != "sag":
        a = np.array([slope(i, w) for i in range(n)])
    d, seen, total = a @ A, set(), np.zeros_like(w)
    for i in order:
        change = slope(i, w) - a[i]
        if method == "sag":
            seen.add(int(i))
            mass = n * sum(bound[k] for k in seen) / bound.sum()
            d = d + change * A[i]
            direction = d / min(n, max(len(seen), mass))
        else:
            direction = change * A[i] / p[i] + d / n
        if method == "saga":
            d = d + change * A[i]
        if method in ("sag", "saga"):
            a[i] += change
        w = w - step_size * (direction + l2 * w)
        total = total + w
    return w, total


@pytest.mark.parametrize("method", METHODS)
def test_dense_steps_are_those_of_the_formulas(method):
    problem = model()
    samples, memory, w = start(problem, method, 0.015)
    order = np.random.default_rng(1).integers(problem.n_samples, size=500)
    p = memory.probabilities
    expected = twin(problem, method, order, 0.015, p, w[0].copy())
    total = np.zeros_like(w)
    take_steps(method, samples, memory, w, order, total)
    np.testing.assert_allclose(w[0], expected[0], rtol=1e-11, atol=1e-13)
    if method == "svrg-average":
        np.testing.assert_allclose(total[0], expected[1], rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize(
    ("step_size", "l2"),
    [("line-search", np.minimum(RIDGE, 0.1)), (0.02, RIDGE), (0.02, 1.5 * RIDGE)],
    ids=["windows are full", "a factor is 0", "a factor is negative"],
)
@pytest.mark.parametrize("method", METHODS)
def test_sparse_just_in_time_steps_are_the_dense_ones(method, step_size, l2):
    """The factor is 1 - step_size * l2: 0, and then windows end early; and -1/2."""
    ws, totals = [], []
    order = np.random.default_rng(1).integers(300, size=6000)
    for layout in ("dense", "csr"):
        samples, memory, w = start(model(layout, l2), method, step_size)
        total = np.zeros_like(w)
        take_steps(method, samples, memory, w, order, total)
        ws.append(w)
        totals.append(total)
    assert np.all(np.isfinite(ws[0]))
    np.testing.assert_allclose(ws[1], ws[0], rtol=0, atol=1e-12)
    np.testing.assert_allclose(totals[1], totals[0], rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("layout", ["dense", "csr"])
def test_sum_of_the_table_is_kept(layout):
    problem = model(layout, l2=1e-3)
    for method in ("sag", "saga"):
        samples, memory, w = start(problem, method, "line-search")
        rng = np.random.default_rng(0)
        for _ in range(5):
            run_epoch(method, samples, memory, w, rng, problem.n_samples)
            expected = problem.rows.rmatvec(memory.table[:, 0])
            np.testing.assert_allclose(memory.sums[0], expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("layout", ["dense", "csr"])
@pytest.mark.parametrize("method", ["saga", "svrg"])
def test_estimator_is_the_gradient_on_average(method, layout):
    """Exactly: one inner step from the same state for every sample."""
    problem = model(layout, l2=0.1)
    samples, memory, w = start(problem, method, 0.01)
    take_steps(method, samples, memory, w, samples.draw(np.random.default_rng(0), 200))
    expected = problem.at(w[0]).gradient
    mean = np.zeros_like(expected)
    for i, p in enumerate(memory.probabilities):
        moved = w.copy()
        take_steps(method, samples, memory.copy(), moved, np.array([i]))
        mean += p / problem.n_samples * (w[0] - moved[0]) / 0.01
    assert np.linalg.norm(expected) > 1e-3
    np.testing.assert_allclose(mean, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("method", ["saga", "svrg"])
def test_estimator_has_no_variance_at_the_minimizer(method):
    problem = model(l2=0.1)
    samples, memory, w = start(problem, method, 0.01, w=minimizer(problem))
    for i in range(problem.n_samples):
        moved = w.copy()
        take_steps(method, samples, memory.copy(), moved, np.array([i]))
        assert np.linalg.norm(moved - w) <= 1e-14


def test_column_major_and_float32_rows_take_the_same_steps():
    order = np.random.default_rng(1).integers(300, size=1000)
    results = {}
    for layout in ("dense", "fortran"):
        samples, memory, w = start(model(layout), "sag", 0.01)
        take_steps("sag", samples, memory, w, order)
        results[layout] = w
    np.testing.assert_allclose(results["fortran"], results["dense"], rtol=0, atol=1e-13)
    X, y, _ = sparse_data()
    X = X.astype(np.float32)
    ws = []
    for dtype in (np.float32, np.float64):
        problem = LinearModel(LOGISTIC, X.astype(dtype), y, l2=0.01)
        samples, memory, w = start(problem, "sag", "line-search")
        take_steps("sag", samples, memory, w, order)
        ws.append(w)
    np.testing.assert_allclose(ws[0], ws[1], rtol=0, atol=1e-12)


def test_rows_of_weight_zero_are_as_good_as_removed():
    X, y, s = sparse_data()
    s[::3] = 0.0
    keep = s > 0.0
    ws = []
    for rows in (slice(None), keep):
        problem = LinearModel(
            LOGISTIC, X[rows], y[rows], l2=0.01, sample_weight=s[rows]
        )
        samples, memory, w = start(problem, "sag", "line-search")
        run_epoch("sag", samples, memory, w, np.random.default_rng(0), 1000)
        ws.append(w)
    np.testing.assert_allclose(ws[0], ws[1], rtol=0, atol=1e-12)


def test_first_sample_counts_for_no_more_than_its_part():
    """Otherwise a heavy row that comes first has n times its weight."""
    X, y, _ = sparse_data()
    X = X + 0.1
    X[0] *= 1000.0
    problem = LinearModel(LOGISTIC, X, y, l2=0.01)
    samples, memory, w = start(problem, "sag", "1/L", w=np.zeros(12))
    value = problem.value_at_zero()
    for i in range(20):
        take_steps("sag", samples, memory, w, np.array([0]))
        if i > 0:
            assert problem.at(w[0]).value < 2.0 * value


# Sampling.


@pytest.mark.parametrize("kind", ["mixed", "uniform", "one heavy"])
def test_alias_table_has_the_probabilities(rng, kind):
    n = 1000
    p = {
        "mixed": 0.5 + 0.5 * (q := rng.pareto(1.5, n)) / q.mean(),
        "uniform": np.ones(n),
        "one heavy": np.r_[np.full(n - 1, 0.5), 0.5 * (n + 1)],
    }[kind]
    threshold, alias = draws.alias_table()(p)
    implied = threshold.copy()
    np.add.at(implied, alias, 1.0 - threshold)
    np.testing.assert_allclose(implied, p, rtol=1e-10)


def test_draws_have_the_probabilities(rng):
    p = np.array([0.1, 2.9, 0.5, 0.5])
    drawn = np.empty(100_000, dtype=np.int64)
    draws.draw()(rng.random(len(drawn)), *draws.alias_table()(p), drawn)
    counts = np.bincount(drawn, minlength=4)
    spread = np.sqrt(len(drawn) * p / 4 * (1 - p / 4))
    assert np.all(np.abs(counts - len(drawn) * p / 4) < 5 * spread)


# The line search.


def test_line_search_finds_a_valid_constant(rng):
    loss = sample_loss(LOGISTIC)
    search = epochs.line_search(loss.value, 1)
    r, trial = np.zeros(1), np.zeros(1)
    for _ in range(500):
        z, y = np.array([rng.normal() * 5.0]), rng.choice([-1.0, 1.0])
        weight, norm = rng.random() + 0.1, 10.0 * rng.random() + 0.1
        first = 10.0 ** rng.uniform(-6, 1)
        loss.residual(z, y, r)
        L = search(z, r, trial, y, weight, norm, first)

        def accepted(L, z=z, y=y, weight=weight, norm=norm):
            squared = (weight * r[0]) ** 2 * norm
            moved = z - weight * norm * r / L
            change = weight * (loss.value(moved, y) - loss.value(z, y))
            return change <= -squared / (2.0 * L) + 1e-14

        assert accepted(L)
        assert first == L or not accepted(L / 2.0)
        assert max(first, 2.0 * 0.25 * weight * norm) >= L


def test_line_search_gives_up_on_a_wrong_derivative():
    search = epochs.line_search(lambda z, y: z[0] ** 2, 1)
    z, r = np.ones(1), np.full(1, -2.0)
    assert search(z, r, np.zeros(1), 0.0, 1.0, 1.0, 1.0) == np.inf


def test_line_search_leads_away_from_zero():
    search = epochs.line_search(lambda z, y: 0.5 * z[0] ** 2, 1)
    with np.errstate(over="ignore"):  # the first trials are far out
        L = search(np.ones(1), np.ones(1), np.zeros(1), 0.0, 1.0, 1.0, 0.0)
    assert 1.0 <= L < 2.0
    assert search(np.zeros(1), np.zeros(1), np.zeros(1), 0.0, 1.0, 1.0, 0.0) == 0.0


def test_line_search_does_not_judge_by_rounding():
    search = epochs.line_search(lambda z, y: 1.0 + 1e-17 * z[0], 1)
    assert search(np.ones(1), np.full(1, 1e-17), np.zeros(1), 0.0, 1.0, 1.0, 0.5) == 0.5


# Softmax and the duals.


def test_softmax_residual_is_the_derivative_of_the_value(rng):
    loss = sample_loss(SoftmaxLoss(4))
    out = np.zeros(3)
    for y in range(4):
        z = 3.0 * rng.standard_normal(3)
        loss.residual(z, float(y), out)
        for j, e in enumerate(np.eye(3)):
            up, down = (loss.value(z + h * e, float(y)) for h in (1e-5, -1e-5))
            assert abs(out[j] - (up - down) / 2e-5) < 1e-8


@pytest.mark.parametrize("layout", ["dense", "csr"])
def test_softmax_epochs_keep_their_identities(layout, rng):
    X, _, s = sparse_data()
    y = rng.integers(3, size=len(X))
    l2 = np.where(np.arange(12) % 2, 0.1, 0.01)
    problem = SoftmaxModel(LAYOUTS[layout](X), y, l2=l2, sample_weight=s)
    point = problem.at(rng.standard_normal(problem.n_params))
    samples, memory, w = start(problem, "sag", "line-search", w=point.w)
    filled = memory.copy()
    filled.fill(samples, point)
    mean = filled.sums.ravel() / problem.n_samples + problem.l2 * point.w
    np.testing.assert_allclose(mean, point.gradient, rtol=0, atol=1e-13)
    expected = filled.table[:, :2].T @ X
    np.testing.assert_allclose(filled.sums, expected, rtol=0, atol=1e-12)
    order = samples.draw(np.random.default_rng(0), 6000)
    take_steps("sag", samples, memory, w, order)
    expected = memory.table[:, :2].T @ X
    np.testing.assert_allclose(memory.sums, expected, rtol=0, atol=1e-10)
    gradient = problem.at(w.ravel()).gradient
    assert np.linalg.norm(gradient) < 0.05 * np.linalg.norm(point.gradient)


@pytest.mark.parametrize("loss", [LOGISTIC, SQUARED], ids=["logistic", "squared"])
def test_dual_step_maximizes_the_dual_along_its_coordinate(loss, rng):
    dual = dual_loss(loss)
    cases = [
        (4.0 * rng.standard_normal(), rng.random(), 10.0 ** rng.uniform(-3, 3))
        for _ in range(500)
    ]
    # Newton's method alone, in its bracket, goes round in a circle here.
    cases += [(0.017487387380021095, 0.12300714599112383, 24.91975741601941)]
    cases += [(-1.9384223618668168, 0.8569327803748287, 33.52580798628439)]
    for z, a, c in cases:
        best = dual.ascend(z, a, 1.0, c)

        def slope(new, z=z, a=a, c=c):
            """Of the dual along the coordinate; decreasing."""
            if loss is SQUARED:
                return 1.0 - new - z - c * (new - a)
            return np.log1p(-new) - np.log(new) - z - c * (new - a)

        ends = (1e-15, 1.0 - 1e-15) if loss is LOGISTIC else (-1e3, 1e3)
        exact = scipy.optimize.brentq(slope, *ends, xtol=1e-15, rtol=1e-14)
        assert abs(best - exact) <= 1e-9
        mirrored = dual.ascend(-z, -a, -1.0, c)
        assert mirrored == -best


@pytest.mark.parametrize("b", [0.0, 1e-12, 0.3, 0.7, 1.0])
@pytest.mark.parametrize("m", [-40.0, -1.0, 0.0, 0.5, 30.0])
def test_gap_of_a_sample_is_fenchel_youngs(m, b):
    for y in (-1.0, 1.0):
        with mpmath.workdps(40):
            z, t = mpmath.mpf(m) * y, mpmath.mpf(b)
            entropy = sum(u * mpmath.log(u) for u in (t, 1 - t) if u > 0)
            exact = mpmath.log(1 + mpmath.exp(-m)) + entropy + t * y * z
        dual = dual_loss(LOGISTIC)
        gap, value = dual.gap(m * y, b * y, y), dual.value_at_dual(b * y, y)
        assert gap == pytest.approx(float(exact), rel=1e-9, abs=1e-15)
        assert value == pytest.approx(-float(entropy), abs=1e-15)
    squared = dual_loss(SQUARED).gap(m, b, 2.0)
    expected = 0.5 * (m - 2.0) ** 2 + 0.5 * b * b - 2.0 * b + b * m
    assert squared == pytest.approx(expected, abs=1e-12)


def test_dual_numbers_that_are_known():
    assert dual_loss(SQUARED).value_at_dual(3.0, 2.0) == 1.5
    assert dual_loss(LOGISTIC).gap(800.0, 0.5, 1.0) == math.inf  # exp(-800) is 0


@pytest.mark.parametrize(
    "solver", [SGD(3), SGD(2, averaging="ema")], ids=["suffix", "ema"]
)
def test_sparse_gradient_steps_are_the_dense_ones(solver):
    states = []
    for layout in ("dense", "csr"):
        problem = model(layout, l2=np.where(RIDGE > 1.0, 0.5, RIDGE))
        rng, w = np.random.default_rng(0), np.full(problem.n_params, 0.1)
        state = solver.init(problem, problem.at(w), rng)
        for _ in range(5):
            state = solver.step(problem, state, rng)
        states.append(state)
    for name in ("iterate", "average"):
        values = [getattr(state, name) for state in states]
        np.testing.assert_allclose(values[0], values[1], rtol=0, atol=1e-13)
    np.testing.assert_allclose(states[0].point.w, states[1].point.w, rtol=0, atol=1e-13)


def test_sparse_dual_steps_are_the_dense_ones():
    states = []
    for layout in ("dense", "csr"):
        problem = model(layout, l2=0.05 + RIDGE)
        rng = np.random.default_rng(0)
        state = SDCA().init(problem, problem.at(np.zeros(13)), rng)
        for _ in range(3):
            state = SDCA().step(problem, state, rng)
        states.append(state)
    np.testing.assert_allclose(states[0].dual, states[1].dual, rtol=0, atol=1e-10)
    np.testing.assert_allclose(states[0].point.w, states[1].point.w, rtol=0, atol=1e-10)


def test_prefetch_does_nothing_in_plain_python():
    assert prefetch(np.zeros(3), 100) is None


def test_samples_are_read_once():
    problem = model()
    before = problem.work.rows_read
    samples_of(problem)
    assert problem.work.rows_read - before == problem.n_samples
    assert isinstance(problem, FiniteSum)
