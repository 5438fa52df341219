"""Statements of papers and lectures about methods and models, each able to fail.

The row of the list of statements that a test belongs to stands in its docstring.
Sources: Martens, lecture on second-order optimization; Schmidt, talk on faster
stochastic gradients; Sra, lecture on non-convex optimization; Mahoney and Yao, talks on
sub-sampled Newton methods.
"""

import numpy as np
import pytest
from problems import gaussian, labels, logistic
from sklearn.svm import LinearSVC

from subsampled_newton import (
    LBFGS,
    LOGISTIC,
    SAG,
    SAGA,
    SGD,
    SIGMOID_SQUARED,
    SQUARED,
    SQUARED_HINGE,
    SVRG,
    FiniteSum,
    GradientDescent,
    LinearModel,
    Status,
    SubsampledNewton,
    TrustRegion,
    minimize,
)
from subsampled_newton.sampling import full, uniform


def slope(x, y):
    """Exponent of a power law."""
    return np.polyfit(np.log(x), np.log(y), 1)[0]


# Samples of gradients and Hessians.


def test_errors_of_samples_fall_as_the_root_of_their_size():
    """Y15: samples of accuracy delta have 1 / delta**2 rows, gradient and Hessian."""
    n, d = 100_000, 5
    rng = np.random.default_rng(0)
    problem = logistic(n=n, d=d)
    w = np.ones(d)
    point = problem.at(w)
    H, g = point.hessian(full(n)).dense(), point.gradient
    sizes = [50, 100, 200, 400, 800, 1600, 3200]

    def errors(size):
        of_H, of_g = [], []
        for _ in range(60):
            sample = uniform(n, size, rng)
            sampled = point.hessian(sample).dense()
            of_H.append(np.linalg.norm(sampled - H, 2))
            of_g.append(
                np.linalg.norm(problem.restrict(sample.rows).at(w).gradient - g)
            )
        return np.median(of_H), np.median(of_g)

    of_H, of_g = np.transpose([errors(size) for size in sizes])
    assert abs(slope(sizes, of_H) + 0.5) < 0.05
    assert abs(slope(sizes, of_g) + 0.5) < 0.05


# Gauss-Newton.


def test_gauss_newton_reaches_the_best_loss_from_starts_where_newton_does_not():
    """J24: nonlinear least squares from zeros, ones and a normal start."""
    rng = np.random.default_rng(0)
    X = gaussian(3000, 10, rng)
    y = (X @ rng.standard_normal(10) + rng.standard_normal(3000) > 0.0).astype(float)
    problem = LinearModel(SIGMOID_SQUARED, X, y)
    starts = (np.zeros(10), np.ones(10), rng.standard_normal(10))
    best = min(minimize(problem, TrustRegion(1.0), w, seed=0).value for w in starts)

    def ends(curvature):
        solver = SubsampledNewton(1.0, curvature=curvature)
        return np.array([minimize(problem, solver, w).value for w in starts])

    np.testing.assert_allclose(ends("gauss-newton"), best, rtol=1e-6)
    assert np.max(ends("hessian")) > 1.01 * best


# Saddle points.


class Valleys(FiniteSum):
    """Many copies of ``x**2 / 2 + y**4 / 4 - y**2 / 2``: a saddle at 0, ends at +-1."""

    def __init__(self, n_copies):
        super().__init__(1, 2 * n_copies)

    def value(self, w, rows=None):
        x, y = w.reshape(2, -1)
        return float(np.sum(x**2 / 2 + y**4 / 4 - y**2 / 2))

    def gradient(self, w, rows=None):
        x, y = w.reshape(2, -1)
        return np.concatenate([x, y**3 - y])

    def hess_vec(self, w, rows, v):
        y = w.reshape(2, -1)[1]
        return np.concatenate([np.ones_like(y), 3 * y**2 - 1]) * v


def test_gradient_descent_avoids_strict_saddles():
    """S23: with steps below 1/L, from all starts but those of the stable manifold.

    A fixed step moves every copy as a run of its own.
    """
    copies = 1000
    rng = np.random.default_rng(0)
    problem, start = Valleys(copies), rng.uniform(-2.0, 2.0, 2 * copies)
    largest = 3 * 2.0**2 - 1  # of the curvature where the starts are
    descent = GradientDescent(0.9 / largest)
    result = minimize(problem, descent, start, tol=1e-9, max_iter=5000)
    assert result.status is Status.CONVERGED
    x, y = result.w.reshape(2, -1)
    np.testing.assert_allclose(np.abs(y), 1.0, atol=1e-8)
    np.testing.assert_allclose(x, 0.0, atol=1e-8)
    # On the stable manifold it ends at the saddle, and the solver cannot know.
    start[copies:] = 0.0
    result = minimize(problem, descent, start, tol=1e-9, max_iter=5000)
    assert result.status is Status.CONVERGED
    assert not np.any(result.w.reshape(2, -1)[1])
    assert result.certificate is None


# Noise.


def test_noise_does_not_move_the_mean_of_the_iterates_on_a_quadratic():
    """J36: the mean of 5,000 runs is the iterate of gradient descent, on quadratics."""
    rng = np.random.default_rng(0)
    n, steps, runs = 12, 12, 5000
    X = rng.standard_normal((n, 3))
    start = np.array([3.0, -2.0, 1.0])

    def deviations(problem, a):
        """Of the mean from the iterate of gradient descent, in standard errors."""
        solver = SGD(step_size=a, schedule="constant", averaging=None)
        draws, point = np.random.default_rng(1), problem.at(start)
        ends = []
        for _ in range(runs):
            state = solver.init(problem, point, draws)
            ends.append(solver.step(problem, state, draws).point.w)
        w = start
        for _ in range(steps):
            w = w - a * problem.at(w).gradient
        error = np.std(ends, axis=0) / np.sqrt(runs)
        return (np.mean(ends, axis=0) - w) / error

    y = X @ rng.standard_normal(3) + rng.standard_normal(n)
    assert np.all(np.abs(deviations(LinearModel(SQUARED, X, y), 0.08)) < 4.0)
    # The control: where the curvature changes, the noise moves the mean.
    curved = LinearModel(LOGISTIC, X, np.where(y > 0.0, 1.0, -1.0))
    assert np.max(np.abs(deviations(curved, 1.0))) > 8.0


def plateau(problem, step_size, batch_size, seed=0):
    """Mean gap of the last half of a run of SGD with a constant step."""
    solver = SGD(batch_size, step_size=step_size, schedule="constant", averaging=None)
    least = minimize(problem, SubsampledNewton(1.0), tol=1e-12).value
    trace = minimize(problem, solver, seed=seed, max_iter=300, tol=0.0).trace
    return float(np.mean(trace.value[150:])) - least


def test_noise_floor_is_proportional_to_the_step_and_to_one_over_the_batch():
    """K17: the region of a constant step is O(alpha sigma**2 / B), within 25 %."""
    rng = np.random.default_rng(0)
    X = gaussian(2000, 5, rng)
    y = X @ rng.standard_normal(5) + rng.standard_normal(2000)
    problem = LinearModel(SQUARED, X, y)
    floor = plateau(problem, 0.02, 2)
    assert plateau(problem, 0.01, 2) / floor == pytest.approx(0.5, rel=0.25)
    assert plateau(problem, 0.02, 4) / floor == pytest.approx(0.5, rel=0.25)


def test_constant_steps_stall_below_interpolation_and_not_above():
    """K15: least squares of 200 rows with 50 and with 800 columns."""
    rng = np.random.default_rng(0)
    n = 200
    y = rng.standard_normal(n)
    gaps = {}
    for d in (50, 800):
        X = rng.standard_normal((n, d)) / np.sqrt(d)
        problem = LinearModel(SQUARED, X, y)
        least = 0.5 * np.mean((y - X @ np.linalg.lstsq(X, y)[0]) ** 2)
        solver = SGD(step_size=0.5, schedule="constant", averaging=None)
        trace = minimize(problem, solver, seed=0, max_iter=300, tol=0.0).trace
        gaps[d] = (trace.value - least) / (trace.value[0] - least)
    # Below: a floor, the same in the last half, and no run gets under it.
    late = gaps[50][150:]
    assert 0.5 < np.mean(late[75:]) / np.mean(late[:75]) < 2.0
    assert np.min(gaps[50]) > 1e-3
    # Above: linear convergence, as far as doubles go.
    assert gaps[800][-1] < 1e-10
    reached = np.argmax(gaps[800] < 1e-10)
    halfway = np.argmax(gaps[800] < 1e-5)
    assert 0.25 < halfway / reached < 0.75


# The Polyak-Lojasiewicz inequality.


def deficient(n=400, rank=4, d=10, seed=0):
    """Least squares of rank 4 in 10 columns, with mu_PL and L."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, rank)) @ rng.standard_normal((rank, d))
    y = rng.standard_normal(n)
    values = np.linalg.eigvalsh(X.T @ X / n)
    assert values[d - rank - 1] < 1e-12 * values[-1]
    return X, y, values[d - rank], values[-1]


def test_gradient_descent_has_the_rate_of_the_pl_inequality():
    """K02: ``F_k - F* <= (1 - mu_PL / L)**k (F_0 - F*)`` without strong convexity."""
    X, y, mu, L = deficient()
    problem = LinearModel(SQUARED, X, y)
    assert problem.strong_convexity == 0.0
    least = 0.5 * np.mean((y - X @ np.linalg.lstsq(X, y)[0]) ** 2)
    rng = np.random.default_rng(1)
    slowest = np.linalg.eigh(X.T @ X)[1][:, -4]
    for start in (np.zeros(10), rng.standard_normal(10), 5.0 * slowest):
        trace = minimize(
            problem, GradientDescent(1.0 / L), start, tol=0.0, max_iter=60
        ).trace
        gap = trace.value - least
        k = np.arange(len(gap))
        assert np.all(gap <= (1 - mu / L) ** k * gap[0] + 1e-14)
        # The inequality itself, along the way.
        assert np.all(trace.gradient_norm**2 / 2 >= mu * gap - 1e-14)
    # No rate twice as fast would hold: the slow direction has (1 - mu / L)**2.
    assert gap[20] > (1 - 2.2 * mu / L) ** 20 * gap[0]


@pytest.mark.parametrize(
    "solver", [SVRG(), SAG(), SAGA()], ids=lambda s: type(s).__name__
)
def test_variance_reduced_methods_are_linear_under_the_pl_inequality(solver):
    """K03: on least squares of deficient rank; SGD, the control, is not."""
    X, y, _, _ = deficient()
    problem = LinearModel(SQUARED, X, y)
    least = 0.5 * np.mean((y - X @ np.linalg.lstsq(X, y)[0]) ** 2)

    def gaps(solver, epochs):
        trace = minimize(problem, solver, seed=0, max_iter=epochs, tol=0.0).trace
        shown = trace.value[np.isfinite(trace.value)] - least
        return shown / shown[0]

    result = minimize(problem, solver, seed=0, tol=1e-9, max_iter=100)
    assert result.status is Status.CONVERGED
    assert (result.value - least) < 1e-12
    assert gaps(SGD(averaging=None), 60)[-1] > 1e-6


# Support vector machines.


@pytest.mark.parametrize("C", [1e-2, 1.0])
@pytest.mark.parametrize(
    "solver",
    [
        SubsampledNewton(1.0),
        SubsampledNewton(0.3, linear_solver="cg"),
        SAG(),
        SAGA(),
        LBFGS(),
        TrustRegion(1.0),
    ],
    ids=lambda s: type(s).__name__,
)
def test_squared_hinge_is_that_of_liblinear(solver, C):
    """K05: SAG and the others for the squared hinge, against LinearSVC."""
    rng = np.random.default_rng(0)
    n = 600
    X = gaussian(n, 6, rng)
    y = labels(X, rng)
    svm = LinearSVC(C=C, fit_intercept=False, dual=False, tol=1e-12, max_iter=10_000)
    expected = svm.fit(X, y).coef_[0]
    problem = LinearModel(SQUARED_HINGE, X, y, l2=1.0 / (2.0 * C * n))
    result = minimize(problem, solver, seed=0, tol=1e-10, max_iter=2000)
    assert result.converged
    np.testing.assert_allclose(result.w, expected, rtol=0, atol=1e-8)
