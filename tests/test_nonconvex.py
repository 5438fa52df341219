"""Trust region, cubic regularization, Gauss-Newton, and the certificate."""

import contextlib
import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
import scipy.optimize
from problems import least_squares, logistic

from subsampled_newton import (
    SIGMOID_SQUARED,
    CubicRegularization,
    FiniteSum,
    InverseStep,
    LinearModel,
    SampledStart,
    Status,
    SubsampledNewton,
    TrustRegion,
    certify,
    minimize,
)
from subsampled_newton.sampling import full
from subsampled_newton.solvers import _ratio
from subsampled_newton.solvers._sizes import Evidence
from subsampled_newton.subproblems._step import Step
from subsampled_newton.subproblems.newton import newton_step


def sigmoid_problem(n=4000, d=8, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, d))
    y = (X @ rng.standard_normal(d) + rng.standard_normal(n) > 0.0).astype(float)
    return LinearModel(SIGMOID_SQUARED, X, y)


class Quartic(FiniteSum):
    """``(w_0**2 - 1)**2 / 4 + c w_1**2 / 2``: a saddle at 0, minimizers at +-1."""

    def __init__(self, n_params=2, sign=1.0):
        super().__init__(10, n_params)
        self.sign = sign

    def value(self, w, rows=None):
        return float((w[0] ** 2 - 1) ** 2 / 4 + 0.5 * w[1:] @ w[1:])

    def gradient(self, w, rows=None):
        g = w.copy()
        g[0] = w[0] ** 3 - w[0]
        return self.sign * g

    def hess_vec(self, w, rows, v):
        product = v.copy()
        product[0] = (3 * w[0] ** 2 - 1) * v[0]
        return product


FULL = {
    "tr exact": TrustRegion(1.0, subproblem="exact"),
    "tr lanczos": TrustRegion(1.0, subproblem="lanczos"),
    "tr steihaug": TrustRegion(1.0, subproblem="steihaug"),
    "tr more-sorensen": TrustRegion(1.0, subproblem="more-sorensen"),
    "tr paper": TrustRegion(1.0, paper_compat=True),
    "arc exact": CubicRegularization(1.0, subproblem="exact"),
    "arc lanczos": CubicRegularization(1.0, subproblem="lanczos"),
    "arc cauchy": CubicRegularization(1.0, subproblem="cauchy"),
    "arc gd": CubicRegularization(1.0, subproblem="gradient-descent"),
    "arc paper": CubicRegularization(1.0, paper_compat=True),
    "arc kohler-lucchi": CubicRegularization(1.0, sigma_rule="kohler-lucchi"),
}
SAMPLED = {
    "tr": TrustRegion(0.1),
    "tr row-norms": TrustRegion(0.1, sampling="row-norms"),
    "tr leverage": TrustRegion(0.1, sampling="leverage"),
    "tr inexact": TrustRegion(0.1, gradient_sample=0.1),
    "arc": CubicRegularization(0.1),
    "arc leverage": CubicRegularization(0.1, sampling="leverage"),
    "arc inexact": CubicRegularization(0.1, gradient_sample=0.1),
    "arc inverse step": CubicRegularization(InverseStep(0.05)),
}
each_full = pytest.mark.parametrize("solver", FULL.values(), ids=FULL)
each_sampled = pytest.mark.parametrize("solver", SAMPLED.values(), ids=SAMPLED)


def scipy_minimum(problem, w0):
    d = problem.n_params
    return (
        scipy.optimize.minimize(
            lambda w: problem.at(w).value,
            w0,
            jac=lambda w: problem.at(w).gradient,
            hess=lambda w: problem.at(w).hessian(full(problem.n_samples)).dense(),
            method="trust-exact",
            options={"gtol": 1e-9, "max_trust_radius": 1e3},
        ).fun
        if d
        else None
    )


@each_full
@pytest.mark.parametrize("start", ["zeros", "ones", "random"])
def test_full_methods_reach_the_minimum_from_every_start(solver, start):
    problem = sigmoid_problem()
    rng = np.random.default_rng(1)
    starts = {"zeros": np.zeros(8), "ones": np.ones(8), "random": rng.normal(size=8)}
    result = minimize(problem, solver, starts[start], seed=0, max_iter=500)
    assert result.status is Status.CONVERGED
    assert abs(result.value - scipy_minimum(problem, np.zeros(8))) < 1e-12
    assert np.all(np.diff(result.trace.value) <= 1e-15)  # rejected steps stay
    assert result.certificate.ok
    assert result.certificate.smallest_eigenvalue > 0.0


@each_sampled
def test_sampled_methods_reach_the_minimum(solver):
    problem = sigmoid_problem()
    result = minimize(problem, solver, 0.3 * np.ones(8), seed=0, max_iter=500)
    assert result.status is Status.CONVERGED
    assert result.certificate.ok
    assert abs(result.value - scipy_minimum(problem, np.zeros(8))) < 1e-12


@pytest.mark.parametrize("hessian", [1.0, 0.1])
@pytest.mark.parametrize("gradient", [None, 0.2])
@pytest.mark.parametrize("subproblem", ["exact", "lanczos"])
@pytest.mark.parametrize("method", [TrustRegion, CubicRegularization])
def test_the_three_approximations_are_independent(
    method, subproblem, gradient, hessian
):
    """Y09: gradient, Hessian and subproblem, exact or not, in all combinations."""
    solver = method(hessian, gradient_sample=gradient, subproblem=subproblem)
    result = minimize(sigmoid_problem(), solver, seed=0, max_iter=500)
    assert result.converged
    assert result.certificate.ok


# Saddle points.


@pytest.mark.parametrize("n_params", [2, 1100])
@each_full
def test_saddle_is_left_and_the_minimizer_certified(solver, n_params):
    result = minimize(Quartic(n_params), solver, seed=0)
    assert result.status is Status.CONVERGED
    assert abs(abs(result.w[0]) - 1.0) < 1e-8
    assert result.certificate.ok
    assert result.certificate.smallest_eigenvalue == pytest.approx(1.0)


def test_saddle_is_not_noticed_by_methods_of_first_order_or_when_told_so():
    assert minimize(Quartic(), SubsampledNewton(1.0)).w[0] == 0.0
    result = minimize(Quartic(), TrustRegion(1.0, eps_h=None))
    assert result.w[0] == 0.0
    assert result.certificate is None


def test_negative_curvature_within_the_tolerance_is_accepted():
    result = minimize(Quartic(), TrustRegion(1.0, eps_h=1.5))
    assert result.w[0] == 0.0
    assert result.certificate.ok
    assert result.certificate.smallest_eigenvalue == pytest.approx(-1.0)


@pytest.mark.parametrize("n_params", [5, 1200])
def test_certificate_finds_a_planted_eigenvalue(n_params):
    class Diagonal(FiniteSum):
        def value(self, w, rows=None):
            return float(0.5 * w @ (self.h * w))

        def gradient(self, w, rows=None):
            return self.h * w

        def hess_vec(self, w, rows, v):
            return self.h * v

    problem = Diagonal(3, n_params)
    problem.h = np.linspace(0.0, 1.0, n_params)
    problem.h[n_params // 2] = -1e-2
    bad = certify(problem, np.zeros(n_params), eps_h=1e-3, seed=0)
    assert not bad.ok
    assert bad.smallest_eigenvalue < -5e-3
    curvature = bad.direction @ (problem.h * bad.direction)
    assert curvature == pytest.approx(bad.smallest_eigenvalue, abs=1e-10)
    assert certify(problem, np.zeros(n_params), eps_h=0.02, seed=0).ok
    norm = certify(problem, np.ones(n_params), eps_h=0.02, eps_g=1e-3, seed=0)
    assert not norm.ok
    assert bad.confidence == (1.0 if n_params == 5 else 0.99)


def test_convex_problems_need_no_certificate():
    problem = logistic()
    result = minimize(problem, TrustRegion(1.0))
    assert result.converged
    assert result.certificate is None


def test_certificate_refuses_bad_arguments():
    with pytest.raises(ValueError, match=r"eps_h must be a finite number > 0, got 0"):
        certify(logistic(), np.zeros(8), eps_h=0.0)
    with pytest.raises(ValueError, match=r"delta must be a number in \(0, 1\), got 2"):
        certify(logistic(), np.zeros(8), delta=2)


# The rules.


def step_of(norm):
    return Step(np.array([norm, 0.0]), 1.0, 1, "converged")


@pytest.mark.parametrize(
    ("ratio", "norm", "expected", "published"),
    [
        (0.9, 8.0, 16.0, 16.0),  # very good, at the boundary
        (0.9, 1.0, 8.0, 16.0),  # very good, inside
        (0.5, 8.0, 9.6, 9.6),
        (0.5, 1.0, 8.0, 9.6),
        (0.0, 8.0, 4.0, 4.0),  # rejected
        (0.0, 1.0, 0.5, 4.0),  # rejected inside: half of the step, not of the radius
        (-math.inf, 8.0, 4.0, 4.0),
    ],
)
def test_radius_rules(ratio, norm, expected, published):
    assert TrustRegion().resized(8.0, ratio, step_of(norm), 1.0) == expected
    compat = TrustRegion(paper_compat=True)
    assert compat.resized(8.0, ratio, step_of(norm), 1.0) == published


def test_sigma_rules():
    solver = CubicRegularization(sigma_min=0.5)
    compat = CubicRegularization(sigma_min=0.5, paper_compat=True)

    def sizes(solver, norm):
        ratios = (0.9, 0.5, 0.0)
        return [solver.resized(6.0, ratio, step_of(1.0), norm) for ratio in ratios]

    assert sizes(solver, 4.0) == [3.0, 5.0, 12.0]
    assert sizes(solver, 2.0) == [2.0, 5.0, 12.0]  # down to the gradient
    assert sizes(compat, 2.0) == [3.0, 5.0, 12.0]
    assert solver.resized(0.6, 0.9, step_of(1.0), 1e-9) == 0.5
    fixed = CubicRegularization(adaptive=False)
    assert fixed.resized(6.0, -1.0, step_of(1.0), 1.0) == 6.0
    assert fixed.accepts(-1.0)


def test_rejections_cost_no_linear_algebra(monkeypatch):
    made = []

    class Counted(_ratio.Spectrum):
        def __post_init__(self, H):
            made.append(len(H))
            super().__post_init__(H)

    monkeypatch.setattr(_ratio, "Spectrum", Counted)
    problem = sigmoid_problem()
    result = minimize(problem, TrustRegion(1.0, radius=1e4), 2.0 * np.ones(8), seed=0)
    steps = np.diff(result.trace.value) != 0.0
    assert len(steps) > np.sum(steps)  # something was rejected
    assert len(made) == np.sum(steps)


def test_three_rejections_draw_new_samples():
    """A problem whose every step is rejected: the value only grows."""

    class Liar(LinearModel):
        def evaluate(self, w):
            z, _, gradient = super().evaluate(w)
            return z, float(np.abs(w).sum()), gradient + 1.0

    rng = np.random.default_rng(0)
    problem = Liar(SIGMOID_SQUARED, rng.standard_normal((500, 3)), np.ones(500))
    samples = []
    minimize(
        problem,
        TrustRegion(0.1),
        seed=0,
        max_iter=9,
        callback=lambda s: samples.append(s.sample),
    )
    kept = [s is None for s in samples]
    assert kept == [True, False, False, True, False, False, True, False, False, True]


def test_wrong_derivatives_are_not_called_precision():
    result = minimize(Quartic(sign=-1.0), TrustRegion(1.0), [0.3, 0.4], max_iter=300)
    assert result.status is Status.SMALL_STEP
    assert not result.converged


@pytest.mark.parametrize("method", [TrustRegion, CubicRegularization])
def test_tolerance_below_rounding_ends_as_precision(method):
    result = minimize(sigmoid_problem(), method(1.0), tol=0.0, max_iter=300)
    assert result.status is Status.PRECISION
    assert result.gradient_norm < 1e-13


def test_far_trials_that_overflow_are_rejected():
    from subsampled_newton import POISSON

    rng = np.random.default_rng(0)
    X = 10.0 * rng.standard_normal((300, 2))
    y = rng.poisson(np.exp(0.01 * X[:, 0])).astype(float)
    problem = LinearModel(POISSON, X, y)
    result = minimize(problem, TrustRegion(1.0, radius=1e6))
    assert result.status is Status.CONVERGED


@pytest.mark.parametrize(
    "solver",
    [TrustRegion(1.0, radius=r) for r in (1e-4, 1.0, 1e4)]
    + [CubicRegularization(1.0, sigma=s) for s in (1e-4, 1.0, 1e4)],
)
def test_any_first_size_is_recovered_from(solver):
    result = minimize(sigmoid_problem(), solver, np.ones(8), max_iter=100)
    assert result.converged


def test_pure_newton_diverges_where_the_trust_region_does_not():
    """J17: unit Newton steps from a far start."""
    problem, w = sigmoid_problem(), 1.5 * np.ones(8)
    first = problem.at(w).value
    assert minimize(problem, TrustRegion(1.0), w).converged
    with contextlib.suppress(np.linalg.LinAlgError):  # so far out that nothing curves
        for _ in range(10):
            point = problem.at(w)
            w = w - np.linalg.solve(point.hessian(full(4000)).dense(), point.gradient)
    assert not problem.at(w).value < first


def test_published_rule_for_gradient_samples():
    problem = sigmoid_problem(n=10_000)
    sizes, norms = [], []

    def watch(state):
        sizes.append(state.gradient_rows)
        norms.append(state.gradient_estimate)

    solver = TrustRegion(0.1, gradient_sample=0.05, paper_compat=True)
    minimize(problem, solver, seed=0, max_iter=60, callback=watch)
    assert sizes[0] == 500
    assert sizes[-1] > sizes[0]  # the gradient has become small
    assert max(sizes) <= 5000  # a half, and no more
    ratios = {round(b / a, 2) for a, b in itertools.pairwise(sizes)}
    assert ratios <= {0.83, 1.0, 1.2}


@pytest.mark.parametrize(
    ("norm", "rows", "reference"),
    [(1.3, 834, 1.3), (1.1, 1000, 1.0), (0.9, 1000, 1.0), (0.8, 1200, 0.8)],
)
def test_gradient_sample_follows_the_gradient(norm, rows, reference):
    problem = sigmoid_problem(n=10_000)
    point = problem.at(np.zeros(8))
    solver = TrustRegion(0.5, gradient_sample=0.1)
    state = replace(
        solver.init(problem, point, None), gradient_estimate=norm, reference_norm=1.0
    )
    state = solver._moved(problem, state, point, Evidence(10_000))
    assert (state.gradient_rows, state.reference_norm) == (rows, reference)


@pytest.mark.parametrize("max_inner", [5, 500])
def test_published_cubic_subproblem_makes_and_charges_all_products(max_inner):
    n, d = 2000, 8
    problem = sigmoid_problem(n, d)
    solver = CubicRegularization(
        1.0, paper_compat=True, eps_h=None, max_inner=max_inner
    )
    trace = minimize(problem, solver, max_iter=12, tol=0.0, seed=0).trace
    assert np.all(trace.inner_iterations[1:] == min(d, max_inner))
    moved = np.diff(trace.value) != 0.0
    attempt = 2 * n * min(d, max_inner) + n
    np.testing.assert_array_equal(np.diff(trace.props), attempt + 2 * n * moved)
    assert not np.all(trace.inner_iterations[1:] == 1)


def test_published_gradient_descent_on_the_model_has_no_noise():
    solver = CubicRegularization(
        1.0, subproblem="gradient-descent", smoothness=0.1, paper_compat=True
    )
    ends = [
        minimize(sigmoid_problem(), solver, max_iter=5, seed=seed).w for seed in (0, 1)
    ]
    np.testing.assert_array_equal(*ends)


KOHLER_LUCCHI = CubicRegularization(
    InverseStep(0.05),
    gradient_sample=0.25,
    adaptive_gradient="inverse-step",
    sigma=1.0,
    sigma_min=1e-16,
    sigma_rule="kohler-lucchi",
    very_good=0.9,
    good=0.1,
)


def test_sigma_rule_of_kohler_and_lucchi():
    ratios = (0.95, 0.9, 0.5, 0.1, 0.05, -math.inf)
    sizes = [KOHLER_LUCCHI.resized(6.0, r, step_of(1.0), 1e-3) for r in ratios]
    assert sizes == [3.0, 3.0, 6.0, 6.0, 12.0, 12.0]
    floor = replace(KOHLER_LUCCHI, sigma_min=4.0)
    assert floor.resized(6.0, 0.95, step_of(1.0), 1.0) == 4.0


def test_samples_of_kohler_and_lucchi_follow_the_step():
    """Hessian n0 (s0/s)**2, gradient n0 (s0/s)**4; 1.25 times after a rejection."""
    n = 40_000
    problem = sigmoid_problem(n)
    start = np.random.default_rng(1).standard_normal(8)
    states = []
    solver = replace(KOHLER_LUCCHI, sigma=1e-3)
    result = minimize(
        problem, solver, start, seed=0, max_iter=100, callback=states.append
    )
    assert result.status is Status.CONVERGED
    rejected = shrunk = 0
    for before, state in itertools.pairwise(states):
        if np.array_equal(state.point.w, before.point.w):
            rejected += 1
            assert state.sample_size == min(n, math.ceil(1.25 * before.sample_size))
            rows = math.ceil(1.25 * before.gradient_rows)
            assert state.gradient_rows == (rows if rows < n else 0)
            continue
        growth = max(1.0, state.first_step / state.step_norm)
        assert state.sample_size == min(n, math.ceil(0.05 * n * growth**2))
        if before.gradient_rows:
            wanted = math.ceil(0.25 * n * growth**4)
            assert state.gradient_rows == (wanted if wanted < n else 0)
            shrunk += state.gradient_rows < before.gradient_rows
    assert rejected > 0


def test_capped_gradient_samples_stall_and_uncapped_ones_do_not():
    problem = sigmoid_problem(n=10_000)
    capped = TrustRegion(0.1, gradient_sample=0.02, paper_compat=True)
    stalled = minimize(problem, capped, seed=0, max_iter=200)
    assert stalled.status is Status.MAX_ITER
    assert stalled.gradient_norm > 1e-6
    free = minimize(
        problem, TrustRegion(0.1, gradient_sample=0.02), seed=0, max_iter=500
    )
    assert free.status is Status.CONVERGED


def test_inverse_step_rule_grows_as_steps_shrink():
    rule = InverseStep(100)
    assert rule.next(100, Evidence(2000, growth=2.0)) == 400
    assert rule.next(400, Evidence(2000, growth=0.5)) == 100
    assert rule.next(400, Evidence(2000, growth=5.0)) == 2000
    with pytest.raises(TypeError, match="InverseStep needs a trust-region or cubic"):
        minimize(logistic(), SubsampledNewton(rule))


def test_steps_satisfy_the_relaxed_condition_and_violate_the_strict_one():
    """M35: ``||(H - Hess) s|| <= eps ||s||``, but not ``C ||s||**2`` near the end."""
    problem = sigmoid_problem()
    matrices = []

    class Watched(TrustRegion):
        def minimize_model(self, model, size, rng):
            step = super().minimize_model(model, size, rng)
            matrices.append((model.hessian.dense(), step.vector))
            return step

    points = []
    result = minimize(
        problem,
        Watched(0.1),
        seed=0,
        callback=lambda s: points.append(s.point),
    )
    assert result.converged
    relaxed, strict = [], []
    for point, (H, s) in zip(points, matrices, strict=False):
        exact = point.hessian(full(4000)).dense()
        error, norm = np.linalg.norm((H - exact) @ s), np.linalg.norm(s)
        relaxed.append(error / norm)
        strict.append(error / norm**2)
    assert max(relaxed) < 0.05
    assert strict[-1] > 1e3 * strict[0]


def test_scaling_the_model_scales_the_newton_step():
    """Y11: a model ``g's + s'Hs / (2 alpha)`` has alpha times the Newton step."""
    rng = np.random.default_rng(0)
    A = rng.standard_normal((6, 6))
    H, g = A @ A.T + np.eye(6), rng.standard_normal(6)
    np.testing.assert_allclose(
        newton_step(H / 0.25, g).vector, 0.25 * newton_step(H, g).vector, rtol=1e-10
    )


@pytest.mark.parametrize("method", [TrustRegion, CubicRegularization])
def test_iterations_respect_the_shape_of_the_complexity_bound(method):
    """Y16, Y17: iterations to eps_g at most C eps_g**-2, C from the loosest eps."""
    problem = sigmoid_problem()
    counts = [
        minimize(problem, method(1.0), np.ones(8), tol=eps).n_iter
        for eps in (1e-2, 1e-3, 1e-4, 1e-6)
    ]
    bound = [counts[0] * (1e-2 / eps) ** 2 for eps in (1e-2, 1e-3, 1e-4, 1e-6)]
    assert all(c <= b for c, b in zip(counts, bound, strict=True))
    assert counts[-1] <= counts[0] + 8  # quadratic convergence at the end


# Gauss-Newton.


def test_gauss_newton_matrix_is_the_jacobian_squared():
    """J20: ``2 J'J / n`` with the Jacobian of the predictions by differences."""
    problem = sigmoid_problem(n=200, d=3)
    rng = np.random.default_rng(0)
    w = rng.standard_normal(3)

    def predictions(w):
        return 1.0 / (1.0 + np.exp(-problem.predictions(w)))

    h = 1e-6
    J = np.column_stack(
        [(predictions(w + h * e) - predictions(w - h * e)) / (2 * h) for e in np.eye(3)]
    )
    G = problem.at(w).hessian(full(200), "gauss-newton").dense()
    np.testing.assert_allclose(G, 2.0 * J.T @ J / 200, rtol=1e-8)
    assert np.linalg.eigvalsh(G).min() > 0.0
    product = problem.gauss_newton_vec(w, None, np.ones(3))
    np.testing.assert_allclose(product, G @ np.ones(3), rtol=1e-12)


def test_gauss_newton_does_not_depend_on_the_parametrization():
    """J24: with w = A v the iterates correspond; gradient descent's would not."""
    rng = np.random.default_rng(0)
    problem = sigmoid_problem(n=500, d=4)
    X = np.column_stack([problem.predictions(e) for e in np.eye(4)])
    A = rng.standard_normal((4, 4)) + 2.0 * np.eye(4)
    other = LinearModel(SIGMOID_SQUARED, X @ A, problem.y)
    solver = SubsampledNewton(1.0, curvature="gauss-newton")
    for steps in (1, 3, 5):
        first = minimize(problem, solver, tol=0.0, max_iter=steps).w
        second = minimize(other, solver, tol=0.0, max_iter=steps).w
        np.testing.assert_allclose(A @ second, first, rtol=1e-9)


@pytest.mark.parametrize("sampling", ["uniform", "row-norms"])
@pytest.mark.parametrize("linear_solver", ["cholesky", "cg"])
def test_sampled_gauss_newton_reaches_the_minimum(sampling, linear_solver):
    problem = sigmoid_problem()
    solver = SubsampledNewton(
        0.2, sampling=sampling, linear_solver=linear_solver, curvature="gauss-newton"
    )
    result = minimize(problem, solver, seed=0)
    assert result.status is Status.CONVERGED
    assert abs(result.value - scipy_minimum(problem, np.zeros(8))) < 1e-12


def test_gauss_newton_is_newton_for_least_squares():
    problem = least_squares()
    result = minimize(problem, SubsampledNewton(1.0, curvature="gauss-newton"))
    assert result.n_iter == 1


def test_gauss_newton_needs_a_problem_that_has_it():
    solver = TrustRegion(1.0, curvature="gauss-newton")
    with pytest.raises(TypeError, match=r"needs a problem with gauss_newton_vec"):
        minimize(Quartic(), solver, [0.3, 0.4])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"radius": 0.0}, "radius must be a finite number > 0, got 0.0"),
        ({"subproblem": "magic"}, "subproblem must be one of .*got 'magic'"),
        ({"sampling": "random"}, "sampling must be one of .*got 'random'"),
        ({"curvature": "fisher"}, "curvature must be one of .*got 'fisher'"),
        ({"good": 0.9}, "good must be < very_good, got 0.9"),
        ({"very_good": 1.5}, "very_good must be a number in .*got 1.5"),
        ({"gradient_sample": 1.0}, "gradient_sample must be a number in .*got 1.0"),
        ({"max_inner": 0}, "max_inner must be an integer >= 1, got 0"),
        ({"eps_h": -1.0}, "eps_h must be a finite number > 0 .*got -1.0"),
        ({"hessian_sample": 2.0}, "hessian_sample must be a fraction .*got 2.0"),
    ],
)
def test_bad_parameters_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        TrustRegion(**arguments)


def test_bad_cubic_parameters_are_named():
    with pytest.raises(ValueError, match=r"sigma must be a finite number > 0, got -1"):
        CubicRegularization(sigma=-1)
    with pytest.raises(ValueError, match=r"subproblem must be one of .*got 'steihaug'"):
        CubicRegularization(subproblem="steihaug")


@pytest.mark.parametrize("paper_compat", [False, True])
@pytest.mark.parametrize("solver", [TrustRegion, CubicRegularization])
@pytest.mark.parametrize("start", [-1.0, 0.0, 1.0])
def test_sampled_gradient_that_is_zero_is_no_step(solver, paper_compat, start):
    # The sigmoid of all rows but one is saturated: most samples have gradient 0.
    X = np.full((100, 1), 1000.0)
    X[0] = 1.0
    problem = LinearModel(SIGMOID_SQUARED, X, np.ones(100))
    method = solver(0.05, gradient_sample=0.05, paper_compat=paper_compat, eps_h=None)
    result = minimize(problem, method, [start], seed=0, max_iter=1000)
    ends = (Status.SMALL_STEP, Status.STALLED, Status.MAX_ITER, Status.SEPARABLE)
    assert result.converged or result.status in ends
    assert result.value <= problem.at(np.array([start])).value


# A start on a sample.


def test_sampled_start_is_near_and_no_pass_is_lost():
    """Few steps are left for all rows, and the sample's are a tenth of their price."""
    problem = sigmoid_problem(n=40_000)
    plain = minimize(problem, TrustRegion(1.0), tol=1e-10)
    started = minimize(problem, SampledStart(TrustRegion(1.0)), tol=1e-10, seed=0)
    np.testing.assert_allclose(started.w, plain.w, rtol=0, atol=1e-7)
    assert started.n_iter <= plain.n_iter - 2
    assert started.trace.gradient_norm[1] < 0.1 * started.trace.gradient_norm[0]
    assert started.trace.hessian_rows[1] == 4000
    assert started.passes < 0.8 * plain.passes
    assert started.certificate.ok


def test_sampled_start_leaves_a_saddle():
    result = minimize(Quartic(), SampledStart(TrustRegion(1.0)), seed=0)
    assert abs(abs(result.w[0]) - 1.0) < 1e-8
    assert result.certificate.ok


def test_sampled_start_worse_than_the_first_point_is_dropped():
    problem = sigmoid_problem(n=4000)
    best = minimize(problem, TrustRegion(1.0), tol=1e-6)
    again = minimize(problem, SampledStart(TrustRegion(1.0)), best.w, seed=0)
    assert again.trace.value[1] <= best.value
    few = np.arange(160)
    alone = minimize(problem.restrict(few), TrustRegion(1.0))
    assert problem.at(alone.w).value > best.value  # a sample would have led away


@pytest.mark.parametrize("fraction", [0.0, 1.5, 1, "half"])
def test_fraction_of_a_sampled_start_is_checked(fraction):
    with pytest.raises(
        ValueError, match=r"fraction must be a number in \(0.0, 1.0\], got"
    ):
        SampledStart(fraction=fraction)


def test_solvers_of_a_sampled_start_are_checked():
    with pytest.raises(TypeError, match=r"start must be a solver .*got 'newton'"):
        SampledStart(start="newton")
