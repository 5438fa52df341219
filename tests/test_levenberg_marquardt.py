"""Levenberg and Marquardt's method: rates, invariance, honest ends."""

import itertools
import math
import pickle
from dataclasses import replace

import numpy as np
import pytest
from problems import gaussian, logistic
from scipy.optimize import least_squares

from datasets.nist import load_nist
from subsampled_newton import (
    SIGMOID_SQUARED,
    SQUARED,
    LinearModel,
    Status,
    SubsampledNewton,
    TrustRegion,
    minimize,
    tukey,
)
from subsampled_newton.nonlinear_model import NonlinearModel
from subsampled_newton.solvers import levenberg_marquardt
from subsampled_newton.solvers.levenberg_marquardt import LevenbergMarquardt


def decay(p, x):
    return p[0] * math.exp(-p[1] * x[0]) + p[2]


def decay_units(p, x):
    """The same with parameters in units of 2**-33, 2**33 and 1e10."""
    return p[0] * 2.0**-33 * math.exp(-p[1] * 2.0**33 * x[0]) + p[2] * 1e10


def fit(noise=0.05, n=50, function=decay, seed=0, **kwargs):
    rng = np.random.default_rng(seed)
    X = np.sort(rng.uniform(0.0, 4.0, n))[:, None]
    y = 2.0 * np.exp(-1.3 * X[:, 0]) + 0.5 + noise * rng.standard_normal(n)
    return NonlinearModel(function, X, y, 3, **kwargs)


START = np.array([1.0, 0.3, 0.0])


def path(problem, solver, w0, **kwargs):
    states = []
    result = minimize(problem, solver, w0, tol=1e-12, callback=states.append, **kwargs)
    return result, [state.point.w for state in states]


# Rates.


def test_converges_quadratically_when_the_fit_is_exact():
    problem = fit(noise=0.0)
    result, ws = path(problem, LevenbergMarquardt(), START)
    assert result.status is Status.CONVERGED
    errors = [np.linalg.norm(w - [2.0, 1.3, 0.5]) for w in ws]
    near = [e for e in errors if 1e-13 < e < 0.05]
    assert len(near) >= 2
    for before, after in itertools.pairwise(near):
        assert after <= 10.0 * before**2
    assert errors[-1] < 1e-14


def bent(p, x):
    """Residuals b + 1 and -3 b**2 + b - 1: minimum at 0, Gauss-Newton repelled."""
    return p[0] + 1.0 if x[0] == 0.0 else -3.0 * p[0] ** 2 + p[0] - 1.0


def test_converges_where_gauss_newton_cycles():
    problem = NonlinearModel(bent, [[0.0], [1.0]], None, 1)
    b, seen = 0.01, []
    for _ in range(200):
        r, J = np.array([b + 1, -3 * b**2 + b - 1]), np.array([1.0, 1 - 6 * b])
        b -= float(J @ r / (J @ J))
        seen.append(abs(b))
    assert min(seen[10:]) > 1e-3
    for patience in (None, 0, 15):
        result = minimize(
            problem, LevenbergMarquardt(patience=patience), [0.01], tol=1e-9
        )
        assert result.converged
        assert abs(result.w[0]) < 1e-7
    assert result.status is Status.CONVERGED  # Newton's method at the end
    assert result.n_iter < 20


def test_second_derivatives_make_large_residuals_converge_quadratically():
    p = load_nist("Thurber")
    problem = NonlinearModel(p.model, p.X, p.y, len(p.params))
    runs = {
        patience: path(problem, LevenbergMarquardt(patience=patience), p.starts[1])
        for patience in (0, None)
    }
    assert all(result.status is Status.CONVERGED for result, _ in runs.values())
    assert len(runs[0][1]) < 12 < 2 * 12 < len(runs[None][1])
    np.testing.assert_allclose(runs[0][0].w, runs[None][0].w, rtol=1e-9)


# Steps.


def test_unlimited_step_is_that_of_gauss_and_newton():
    problem = fit()
    _, ws = path(problem, LevenbergMarquardt(radius=1e6), [1.8, 1.2, 0.4], max_iter=1)
    point = problem.at(ws[0])
    step = np.linalg.lstsq(point.jacobian, -point.residual, rcond=None)[0]
    np.testing.assert_allclose(ws[1] - ws[0], step, rtol=1e-12)


def test_limited_step_lies_on_the_scaled_sphere_and_is_damped():
    problem = fit()
    w0 = np.array([1.8, 1.2, 0.4])
    _, ws = path(problem, LevenbergMarquardt(radius=0.01), w0, max_iter=1)
    point, step = problem.at(w0), ws[1] - w0
    J, r = point.jacobian, point.residual
    D = np.linalg.norm(J, axis=0)
    assert np.linalg.norm(D * step) == pytest.approx(0.01 * np.linalg.norm(D * w0))
    # (J'J + mu D**2) s = -J'r for one mu > 0.
    mu = -(J.T @ (r + J @ step)) / (D**2 * step)
    assert mu[0] > 0.0
    np.testing.assert_allclose(mu, mu[0], rtol=1e-9)


def test_accelerated_step_follows_the_curved_valley():
    problem = fit()
    w0 = np.array([1.8, 1.2, 0.4])
    plain, accelerated = (
        path(problem, LevenbergMarquardt(1.0, 0.05, a, patience=0), w0, max_iter=1)[1]
        for a in (0.0, 1.0)
    )
    point, v = problem.at(w0), plain[1] - w0
    J, r = point.jacobian, point.residual
    D = np.linalg.norm(J, axis=0)
    mu = float((-(J.T @ (r + J @ v)) / (D**2 * v))[0])
    h = 1e-4
    bend = (
        problem.predict(w0 + h * v)
        - 2 * problem.predict(w0)
        + problem.predict(w0 - h * v)
    ) / h**2
    a = -np.linalg.solve(J.T @ J + mu * np.diag(D**2), J.T @ bend)
    np.testing.assert_allclose(accelerated[1] - plain[1], a / 2, rtol=1e-5)


def test_units_of_the_parameters_do_not_matter():
    _, ws = path(fit(), LevenbergMarquardt(), START)
    units = np.array([2.0**-33, 2.0**33, 1e10])
    result, scaled = path(
        fit(function=decay_units), LevenbergMarquardt(), START / units
    )
    assert result.status is Status.CONVERGED
    assert len(scaled) == len(ws)
    for w, v in zip(ws, scaled, strict=True):
        np.testing.assert_allclose(v * units, w, rtol=1e-9, atol=1e-12)


def test_units_of_targets_and_weights_do_not_matter():
    problem = fit()
    _, ws = path(problem, LevenbergMarquardt(), START)
    large = NonlinearModel(
        decay, problem.X, 2.0**40 * problem.y, 3, sample_weight=np.full(50, 2.0**-60)
    )
    factor = np.array([2.0**40, 1.0, 2.0**40])
    _, scaled = path(large, LevenbergMarquardt(), START * factor)
    assert len(scaled) == len(ws)
    np.testing.assert_allclose(scaled[-1] / factor, ws[-1], rtol=1e-12)


def test_scale_of_the_parameters_never_shrinks():
    p = load_nist("MGH09")
    problem = NonlinearModel(p.model, p.X, p.y, len(p.params))
    states = []
    minimize(problem, LevenbergMarquardt(), p.starts[0], callback=states.append)
    scales = np.array([state.scale for state in states[1:]])
    lengths = np.array([state.point.column_norms for state in states[:-1]])
    expected = np.maximum.accumulate(lengths) / math.sqrt(len(p.y))
    np.testing.assert_allclose(scales, expected, rtol=1e-14)
    assert np.any(lengths[-1] < 0.1 * lengths.max(axis=0))


# Ends.


def test_status_of_parameters_that_are_not_determined():
    def product(p, x):
        return p[0] * p[1] * x[0] + p[2]

    X = np.linspace(0.0, 1.0, 30)[:, None]
    y = 3.0 * X[:, 0] + 1.0 + 0.1 * np.sin(40.0 * X[:, 0])
    result = minimize(NonlinearModel(product, X, y, 3), LevenbergMarquardt(), [1, 1, 0])
    assert result.status is Status.RANK_DEFICIENT
    assert not result.converged
    line = np.polyfit(X[:, 0], y, 1)
    np.testing.assert_allclose(
        [result.w[0] * result.w[1], result.w[2]], line, rtol=1e-6
    )
    ridge = NonlinearModel(product, X, y, 3, l2=1e-6)
    assert minimize(ridge, LevenbergMarquardt(), [1, 1, 0]).status is Status.CONVERGED


@pytest.mark.parametrize(
    ("name", "start", "arguments"),
    [
        ("BoxBOD", 0, {"radius": 100.0}),  # the rate goes to infinity
        ("Eckerle4", [1.0, 1.0, 900.0], {}),  # the peak is far from all data
    ],
)
def test_run_that_goes_astray_is_not_called_converged(name, start, arguments):
    p = load_nist(name)
    problem = NonlinearModel(p.model, p.X, p.y, len(p.params))
    w0 = p.starts[start] if isinstance(start, int) else start
    result = minimize(problem, LevenbergMarquardt(**arguments), w0, max_iter=400)
    assert result.status is Status.RANK_DEFICIENT


def growth(p, x):
    return p[0] / (1.0 + math.exp(-p[1] * (x[0] - p[2])))


def arrhenius(p, x):
    return p[0] * math.exp(-p[1] / (8.314 * x[0]))


def two_decays(p, x):
    return p[0] * math.exp(-p[1] * x[0]) + p[2] * math.exp(-p[3] * x[0])


def bell(p, x):
    return math.exp(-((x[0] - p[0]) ** 2))


def line(p, x):
    return p[0] * x[0]


TEN = np.arange(1.0, 11.0)[:, None]


@pytest.mark.parametrize(
    "start",
    [(5, 3, 30), (1, 1, 60), (5, 5, 40), (20, 2, 30), (1, 1, -20), (10, 0.1, -20)],
)
def test_no_run_ends_above_its_start(start):
    y = 8.0 / (1.0 + np.exp(-(TEN[:, 0] - 5.0)))
    problem = NonlinearModel(growth, TEN, y, 3)
    states = []
    result = minimize(
        problem, LevenbergMarquardt(), start, max_iter=300, callback=states.append
    )
    values = np.array([state.point.value for state in states])
    lowest = np.minimum.accumulate(values)
    assert np.all(values <= lowest * (1.0 + 1e-13) + 1e-25)
    assert result.converged == (result.value < 1e-20)


@pytest.mark.parametrize(
    ("truth", "start"), [((1e4, 5e4), (1.0, 1.0)), ((1e12, 9e4), (1.0, 1e4))]
)
def test_columns_that_were_longer_by_many_orders_keep_their_rank(truth, start):
    T = np.linspace(300.0, 500.0, 20)
    y = arrhenius_of(truth, T) * (1.0 + 0.02 * np.sin(5.0 * np.arange(20)))
    result = minimize(
        NonlinearModel(arrhenius, T[:, None], y, 2),
        LevenbergMarquardt(),
        start,
        tol=1e-10,
        max_iter=1000,
    )
    reference = least_squares(
        lambda p: (arrhenius_of(p, T) - y) / y.max(),
        truth,
        method="lm",
        x_scale="jac",
        ftol=1e-15,
        xtol=1e-15,
    )
    assert result.status is Status.CONVERGED
    np.testing.assert_allclose(result.w, reference.x, rtol=1e-5)


def arrhenius_of(p, T):
    return p[0] * np.exp(-p[1] / (8.314 * T))


@pytest.mark.parametrize("rate", [50.0, 200.0, 350.0, 700.0])
def test_parameter_without_effect_does_not_hold_up_the_others(rate):
    y = 3.0 * np.exp(-TEN[:, 0]) + 2.0 + 0.01 * np.sin(9.0 * TEN[:, 0])
    result = minimize(
        NonlinearModel(decay, TEN, y, 3), LevenbergMarquardt(), [1, rate, 0]
    )
    assert result.status is Status.RANK_DEFICIENT
    assert result.w[2] == pytest.approx(y.mean(), rel=1e-9)


def test_start_on_a_plateau_keeps_a_radius_that_can_leave_it():
    y = 3.0 * np.exp(-TEN[:, 0])
    problem = NonlinearModel(lambda p, x: p[0] * math.exp(-p[1] * x[0]), TEN, y, 2)
    result = minimize(problem, LevenbergMarquardt(), [1.0, 50.0], tol=1e-9)
    assert result.status is Status.CONVERGED
    np.testing.assert_allclose(result.w, [3.0, 1.0], rtol=1e-9)


@pytest.mark.parametrize("unit", [1e-300, 1e-170, 1e-160, 1e153, 1e154, 1e160])
def test_squares_that_leave_float64_are_not_called_converged(unit):
    problem = NonlinearModel(line, TEN, unit * np.sin(TEN[:, 0]), 1)
    result = minimize(problem, LevenbergMarquardt(), [0.7 * unit])
    assert result.status is Status.NON_FINITE


@pytest.mark.parametrize("unit", [1e-150, 1.0, 1e150])
def test_units_do_not_matter_as_far_as_squares_go(unit):
    y = np.sin(TEN[:, 0])
    problem = NonlinearModel(line, TEN, unit * y, 1)
    result = minimize(problem, LevenbergMarquardt(), [0.7 * unit], tol=1e-10)
    assert result.status is Status.CONVERGED
    best = float(TEN[:, 0] @ y / (TEN[:, 0] @ TEN[:, 0]))
    assert result.w[0] / unit == pytest.approx(best, rel=1e-12)


def test_symmetric_start_is_left():
    t = np.linspace(0.0, 4.0, 30)
    y = (
        3.0 * np.exp(-0.5 * t)
        + 2.0 * np.exp(-3.0 * t)
        + 0.01 * np.sin(7 * np.arange(30))
    )
    problem = NonlinearModel(two_decays, t[:, None], y, 4)
    free = minimize(problem, LevenbergMarquardt(), [1.0, 0.3, 1.0, 2.0], tol=1e-10)
    result = minimize(problem, LevenbergMarquardt(), [1.0, 1.0, 1.0, 1.0], tol=1e-10)
    assert result.status is Status.CONVERGED
    assert result.value == pytest.approx(free.value, rel=1e-12)
    assert result.certificate.ok


def product(p, x):
    return p[0] * p[1] * x[0] + p[2]


def test_saddle_point_where_columns_have_nearly_vanished_is_left():
    # Both factors go to zero: the line falls, and their product starts positive.
    y = 3.0 * np.exp(-TEN[:, 0])
    problem = NonlinearModel(product, TEN, y, 3)
    result = minimize(problem, LevenbergMarquardt(), [1.0, 1.0, 1.0])
    slope, height = np.polyfit(TEN[:, 0], y, 1)
    assert result.status is Status.RANK_DEFICIENT  # only the product is determined
    assert result.w[0] * result.w[1] == pytest.approx(slope, rel=1e-6)
    assert result.w[2] == pytest.approx(height, rel=1e-6)


def bell_and_offset(p, x):
    return p[0] * math.exp(-(((x[0] - p[1]) / p[2]) ** 2)) + p[3]


def test_offset_is_fitted_where_a_bell_is_far_off_the_data():
    x = np.linspace(0.1, 10.0, 40)[:, None]
    y = np.array([bell_and_offset([2.0, 5.0, 1.0, 0.5], row) for row in x])
    problem = NonlinearModel(bell_and_offset, x, y, 4)
    rng = np.random.default_rng(0)
    for _ in range(40):
        start = [0.644, 24.0 + 0.3 * rng.random(), 0.605, 0.5 * rng.random()]
        result = minimize(problem, LevenbergMarquardt(), start)
        assert result.w[3] == pytest.approx(y.mean(), rel=1e-8)
        assert result.status is Status.RANK_DEFICIENT


def test_maximum_is_left_and_the_minimum_has_a_certificate():
    u = np.linspace(-5.0, 5.0, 41)
    y = np.exp(-((u - 1.5) ** 2)) + np.exp(-((u + 1.5) ** 2))
    problem = NonlinearModel(bell, u[:, None], y, 1)
    top = problem.at([0.0])
    assert problem.gradient_norm(top) < 1e-14  # by symmetry
    result = minimize(problem, LevenbergMarquardt(), [0.0], tol=1e-10)
    assert result.status is Status.CONVERGED
    assert abs(result.w[0]) == pytest.approx(1.4632, abs=1e-3)
    assert result.value < 0.6 * top.value
    assert result.certificate.ok
    # The Hessian of half the sum of squares over J'J: 1 where residuals vanish.
    h, J = 1e-4, problem.at(result.w).column_norms[0]
    F = [41 * problem.at(result.w + k * h).value for k in (-1, 0, 1)]
    curvature = (F[0] - 2.0 * F[1] + F[2]) / h**2
    assert result.certificate.smallest_eigenvalue == pytest.approx(
        curvature / J**2, rel=1e-5
    )


def test_second_order_matrix_is_that_of_dual_numbers():
    problem = fit(scale=[0.5, 2.0, 1.0])
    w = np.array([3.0, 0.8, -0.2])
    point = problem.at(w)
    H = np.column_stack([problem.hess_vec(w, None, e) for e in np.eye(3)])
    np.testing.assert_allclose(point.curvature() / 50, H, rtol=1e-7, atol=1e-9)


def test_no_certificate_on_samples_and_for_what_costs_too_much(monkeypatch):
    problem = fit()
    sampled = minimize(problem, LevenbergMarquardt(0.5), START, seed=0)
    assert sampled.certificate is None
    monkeypatch.setattr(levenberg_marquardt, "CHECKED", 2 * 50 * 3 - 1)
    large = minimize(problem, LevenbergMarquardt(), START)
    assert large.status is Status.CONVERGED
    assert large.certificate is None


def test_plateau_of_negative_curvature_is_left():
    p = load_nist("MGH17")
    problem = NonlinearModel(p.model, p.X, p.y, len(p.params))
    # One rate is left behind, and comes back.
    result = minimize(
        problem, LevenbergMarquardt(patience=50), p.starts[0], max_iter=400
    )
    assert result.status is Status.CONVERGED
    assert 2.0 * len(p.y) * result.value == pytest.approx(p.sum_of_squares, rel=1e-9)


def test_status_small_step_on_wrong_derivatives(monkeypatch):
    def uphill(p, x):
        e = math.exp(-p[1] * x[0])
        return -e, p[0] * x[0] * e, -1.0

    problem = fit(jacobian=uphill)
    monkeypatch.setattr(NonlinearModel, "compare", lambda *args, **kwargs: None)
    assert minimize(problem, LevenbergMarquardt(), START).status is Status.SMALL_STEP


def test_status_non_finite_at_the_start():
    result = minimize(fit(), LevenbergMarquardt(), [1.0, -1e3, 0.0])
    assert result.status is Status.NON_FINITE


def test_trial_that_overflows_is_rejected():
    problem = fit()
    result = minimize(
        problem, LevenbergMarquardt(radius=1e6), [1e-3, 6.0, 0.0], tol=1e-9
    )
    assert result.status is Status.CONVERGED
    np.testing.assert_allclose(
        result.w, minimize(problem, LevenbergMarquardt(), START, tol=1e-12).w, rtol=1e-8
    )


def test_precision_is_what_float64_allows():
    X = np.vander(np.linspace(5.0, 6.0, 30), 7)
    y = np.sin(7.0 * X[:, -2])

    def polynomial(p, x):
        return p @ x

    problem = NonlinearModel(polynomial, X, y, 7)
    result = minimize(problem, LevenbergMarquardt(), np.ones(7), tol=0.0, max_iter=200)
    assert result.converged
    centred = np.polynomial.Polynomial.fit(X[:, -2], y, 6)
    residuals = y - centred(X[:, -2])
    assert 2 * 30 * result.value == pytest.approx(residuals @ residuals, rel=1e-6)


# On samples, and on problems that are not functions of the user's.


def sigmoid_problem(n=2000):
    rng = np.random.default_rng(0)
    X = gaussian(n, 5, rng)
    y = (X[:, 0] - 0.5 * X[:, 1] + rng.logistic(size=n) > 0.0).astype(float)
    return LinearModel(SIGMOID_SQUARED, X, y, l2=1e-3)


@pytest.mark.parametrize("solver", [LevenbergMarquardt(), LevenbergMarquardt(0.2)])
def test_problems_with_a_gauss_newton_matrix_are_solved_too(solver):
    problem = sigmoid_problem()
    reference = minimize(problem, TrustRegion(1.0), tol=1e-10)
    result = minimize(problem, solver, tol=1e-8, seed=0, max_iter=500)
    assert result.status is Status.CONVERGED
    assert result.value == pytest.approx(reference.value, rel=1e-12)
    rows = 2000 if solver.hessian_sample == 1.0 else 400
    assert np.all(result.trace.hessian_rows[1:] == rows)


def test_status_precision_when_the_tolerance_is_below_rounding():
    problem = sigmoid_problem()
    result = minimize(problem, LevenbergMarquardt(), tol=0.0, max_iter=100)
    assert result.status is Status.PRECISION
    assert result.gradient_norm < 1e-14


def test_quadratic_is_solved_in_one_step():
    rng = np.random.default_rng(0)
    X = gaussian(100, 4, rng)
    problem = LinearModel(SQUARED, X, X @ np.ones(4) + 1.0, l2=1e-2)
    result = minimize(
        problem, LevenbergMarquardt(radius=1e3), np.full(4, 0.1), tol=1e-12
    )
    assert (result.status, result.n_iter) == (Status.CONVERGED, 1)


def test_sampled_curvature_reaches_the_same_minimum():
    problem = fit(n=3000)
    exact = minimize(problem, LevenbergMarquardt(), START, tol=1e-12)
    sampled = minimize(
        problem, LevenbergMarquardt(0.1), START, tol=1e-10, max_iter=500, seed=0
    )
    assert sampled.status is Status.CONVERGED
    np.testing.assert_allclose(sampled.w, exact.w, rtol=1e-9)
    assert np.all(sampled.trace.hessian_rows[1:] == 300)


def test_other_solvers_take_a_nonlinear_model():
    problem = fit()
    best = minimize(problem, LevenbergMarquardt(), START, tol=1e-12).w
    near = best * 1.05
    for solver in (TrustRegion(1.0, eps_h=None), SubsampledNewton(1.0)):
        result = minimize(problem, solver, near, tol=1e-9)
        assert result.status is Status.CONVERGED
        np.testing.assert_allclose(result.w, best, rtol=1e-8)


# The contract of every solver.

SOLVERS = {
    "full": LevenbergMarquardt(),
    "sampled": LevenbergMarquardt(0.3),
    "late": LevenbergMarquardt(patience=0),
}
every_solver = pytest.mark.parametrize("solver", SOLVERS.values(), ids=SOLVERS)


@every_solver
def test_same_bits_for_every_number_of_threads(solver):
    problem = fit(n=20_000)
    first, *others = (
        minimize(problem, solver, START, seed=3, max_iter=30, n_jobs=n).w
        for n in (1, 2, 4)
    )
    assert all(np.array_equal(first, other) for other in others)


@every_solver
@pytest.mark.parametrize("make", [lambda: fit(n=3000), lambda: logistic(n=3000)])
def test_interrupted_and_resumed_equals_uninterrupted(solver, make):
    problem = make()
    w0 = START if problem.n_params == 3 else None
    whole = minimize(problem, solver, w0, seed=5, max_iter=60)
    stopped = minimize(
        problem, solver, w0, seed=5, max_iter=60, callback=lambda s: s.iteration == 2
    )
    assert stopped.status is Status.CALLBACK_STOP
    checkpoint = pickle.loads(pickle.dumps(stopped.checkpoint))
    resumed = minimize(problem, solver, resume=checkpoint, max_iter=60)
    assert np.array_equal(resumed.w, whole.w)
    assert resumed.n_iter == whole.n_iter
    np.testing.assert_array_equal(resumed.trace.value, whole.trace.value)
    np.testing.assert_array_equal(resumed.trace.props, whole.trace.props)
    assert resumed.passes == whole.passes


@every_solver
def test_starts_at_the_solution_and_takes_no_step(solver):
    problem = fit()
    best = minimize(problem, LevenbergMarquardt(), START, tol=1e-13).w
    result = minimize(problem, solver, best, tol=1e-9, seed=0)
    assert (result.status, result.n_iter) == (Status.CONVERGED, 0)


@every_solver
def test_inputs_are_not_modified_and_everything_pickles(solver):
    rng = np.random.default_rng(0)
    X, y = rng.random((200, 1)), rng.random(200)
    weights, w0 = rng.random(200), START.copy()
    copies = [a.copy() for a in (X, y, weights, w0)]
    problem = NonlinearModel(decay, X, y, 3, sample_weight=weights)
    result = minimize(problem, solver, w0, seed=0, max_iter=20)
    assert all(map(np.array_equal, (X, y, weights, w0), copies))
    assert pickle.loads(pickle.dumps(solver)) == solver
    assert np.array_equal(pickle.loads(pickle.dumps(result)).w, result.w)


def test_an_accepted_step_costs_one_pass():
    trace = minimize(fit(), LevenbergMarquardt(patience=None), START, tol=1e-12).trace
    np.testing.assert_array_equal(np.diff(trace.passes), 1.0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"hessian_sample": 0.0}, "hessian_sample must be a fraction"),
        ({"radius": 0.0}, "radius must be a finite number > 0, got 0.0"),
        (
            {"acceleration": -0.1},
            r"acceleration must be a number in \[0, 1\], got -0.1",
        ),
        ({"patience": -1}, "patience must be None or an integer >= 0, got -1"),
        ({"patience": 1.5}, "patience must be None or an integer >= 0, got 1.5"),
    ],
)
def test_bad_parameters_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        LevenbergMarquardt(**arguments)


def test_problem_without_a_gauss_newton_matrix_is_refused():
    problem = LinearModel(tukey(4.685), np.eye(3), np.ones(3))
    no_surrogate = replace(problem.loss, gauss_newton=None)
    problem = LinearModel(no_surrogate, np.eye(3), np.ones(3))
    with pytest.raises(TypeError, match="curvature='gauss-newton' needs a loss"):
        minimize(problem, LevenbergMarquardt())
