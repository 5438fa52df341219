"""Steps of cubic models: exact, by Lanczos, by gradient descent, the Cauchy point."""

import math

import numpy as np
import pytest
from models import indefiniteness, random_models, residual

from subsampled_newton.subproblems.cubic import cauchy_point, cubic_gradient_descent
from subsampled_newton.subproblems.lanczos import krylov_cubic, lanczos_cubic
from subsampled_newton.subproblems.spectral import Spectrum, secular_cubic


def symmetric(rng, d):
    A = rng.standard_normal((d, d))
    return (A + A.T) / np.sqrt(2.0 * d)


def cubic_decrease(H, g, sigma, s):
    return -(g @ s + s @ H @ s / 2 + sigma / 3 * np.linalg.norm(s) ** 3)


def exact(H, g, sigma):
    return Spectrum(H).cubic(g, sigma)


def lanczos(H, g, sigma, rtol=1e-10, max_iter=1000, seed=0, **options):
    rng = np.random.default_rng(seed)
    options |= {"sigma": sigma, "rtol": rtol, "max_iter": max_iter, "rng": rng}
    return lanczos_cubic(lambda v: H @ v, g, **options)


def cauchy(H, g, sigma):
    return cauchy_point(lambda v: H @ v, g, sigma=sigma)


def descent(H, g, sigma, **options):
    return cubic_gradient_descent(lambda v: H @ v, g, sigma=sigma, **options)


GLOBAL = pytest.mark.parametrize("solve", [exact, lanczos])
EVERY = pytest.mark.parametrize("solve", [exact, lanczos, cauchy, descent])


# Global minimizers


@pytest.mark.parametrize("d", range(1, 13))
def test_exact_step_satisfies_the_conditions_of_the_global_minimum(d):
    # Necessary and sufficient, hard case included: 12 x 840 models.
    H, g, sigma, *_ = random_models(840, d, seed=11)
    steps = [exact(*model) for model in zip(H, g, sigma, strict=True)]
    s = np.array([step.vector for step in steps])
    nu = np.array([step.multiplier for step in steps])
    assert np.max(residual(H, g, s, nu)) < 1e-13
    assert np.max(indefiniteness(H, nu)) < 1e-13
    np.testing.assert_allclose(nu, sigma * np.linalg.norm(s, axis=1), rtol=1e-13)
    assert {step.status for step in steps} == {"converged"}


@pytest.mark.parametrize("d", [1, 2, 5, 12])
def test_exact_step_reports_the_decrease_with_the_cubic_term(d):
    H, g, sigma, *_ = random_models(100, d, seed=12)
    for matrix, gradient, weight in zip(H, g, sigma, strict=True):
        step = exact(matrix, gradient, weight)
        s = step.vector
        terms = np.abs(gradient) @ np.abs(s) + np.abs(s) @ np.abs(matrix) @ np.abs(s)
        terms += weight * np.linalg.norm(s) ** 3
        expected = cubic_decrease(matrix, gradient, weight, s)
        assert abs(step.model_decrease - expected) <= 1e-13 * terms
        assert step.model_decrease >= 0.0


@GLOBAL
@pytest.mark.parametrize("seed", range(20))
def test_no_point_of_a_grid_is_better(solve, seed):
    H, g, sigma, *_ = random_models(1, 2, seed=200 + seed, scales=1.0)
    H, g, sigma = H[0], g[0], sigma[0]
    norm, size = np.linalg.norm(H, 2), np.linalg.norm(g)
    farthest = norm / sigma + math.sqrt(size / sigma)
    angle = np.linspace(0.0, 2.0 * np.pi, 721)
    grid = farthest * np.array([np.cos(angle), np.sin(angle)])
    s = (np.linspace(0.0, 1.0, 401)[:, None, None] * grid).transpose(1, 0, 2)
    s = s.reshape(2, -1)
    cube = sigma / 3.0 * np.linalg.norm(s, axis=0) ** 3
    best = np.max(-(g @ s + 0.5 * np.sum(s * (H @ s), axis=0) + cube))
    scale = size * farthest + norm * farthest**2
    decrease = solve(H, g, sigma).model_decrease
    assert decrease >= best - 1e-13 * scale
    assert decrease <= best + 1e-4 * scale


@GLOBAL
def test_hard_case_adds_the_bottom_eigenvector(solve):
    # nu = 2, s = (., -1, -1), ||s|| = nu / sigma = 4.
    H, g = np.diag([-2.0, 1.0, 2.0]), np.array([0.0, 3.0, 4.0])
    step = solve(H, g, 0.5)
    assert step.multiplier == pytest.approx(2.0, rel=1e-12)
    np.testing.assert_allclose(step.vector[1:], [-1.0, -1.0], rtol=1e-12)
    assert abs(step.vector[0]) == pytest.approx(math.sqrt(14.0), rel=1e-12)
    expected = cubic_decrease(H, g, 0.5, step.vector)
    assert step.model_decrease == pytest.approx(expected, rel=1e-12)


@GLOBAL
def test_without_a_gradient_the_step_is_the_bottom_eigenvector(rng, solve):
    H = symmetric(rng, 7)
    values, vectors = np.linalg.eigh(H)
    step = solve(H, np.zeros(7), 3.0)
    assert step.multiplier == pytest.approx(-values[0], rel=1e-10)
    assert abs(step.vector @ vectors[:, 0]) == pytest.approx(-values[0] / 3.0)
    assert step.model_decrease == pytest.approx((-values[0]) ** 3 / 54.0, rel=1e-9)


@EVERY
@pytest.mark.parametrize("rank", [0, 3, 5])
def test_minimum_of_a_semidefinite_model_without_gradient_is_zero(rng, solve, rank):
    A = rng.standard_normal((rank, 5))
    step = solve(A.T @ A, np.zeros(5), 1.0)
    np.testing.assert_array_equal(step.vector, 0.0)
    assert step.model_decrease == 0.0


@pytest.mark.parametrize("solve", [exact, lanczos, cauchy])
@pytest.mark.parametrize("sigma", [1e-4, 1.0, 1e4])
def test_without_a_hessian_the_step_is_steepest_descent(solve, sigma):
    g = np.array([3.0, -4.0, 0.0])
    step = solve(np.zeros((3, 3)), g, sigma)
    np.testing.assert_allclose(step.vector, -g / math.sqrt(5.0 * sigma), rtol=1e-12)
    assert step.model_decrease == pytest.approx(2 / 3 * 5**1.5 / sigma**0.5)


@GLOBAL
def test_cubic_step_is_the_step_of_a_ball_of_its_length(rng, solve):
    for sigma in (0.01, 1.0, 100.0):
        H, g = symmetric(rng, 8), rng.standard_normal(8)
        step = solve(H, g, sigma)
        other = Spectrum(H).trust_region(g, np.linalg.norm(step.vector))
        np.testing.assert_allclose(step.vector, other.vector, rtol=1e-7)
        assert step.multiplier == pytest.approx(other.multiplier, rel=1e-7)


def test_without_cubic_term_the_step_is_newtons(rng):
    A = rng.standard_normal((9, 6))
    H, g = A.T @ A, rng.standard_normal(6)
    step = exact(H, g, 0.0)
    np.testing.assert_allclose(step.vector, np.linalg.solve(H, -g), rtol=1e-10)
    assert step.multiplier == 0.0
    assert step.model_decrease == pytest.approx(-0.5 * g @ step.vector)


@pytest.mark.parametrize(
    ("of_H", "of_g", "sigma"), [(1.0, 1.0, 1e-300), (1e140, 1e-10, 1e-100)]
)
def test_cubic_term_far_below_rounding_changes_nothing(rng, of_H, of_g, sigma):
    A = rng.standard_normal((9, 6))
    H, g = of_H * A.T @ A, of_g * rng.standard_normal(6)
    step, newton = exact(H, g, sigma), exact(H, g, 0.0)
    np.testing.assert_allclose(step.vector, newton.vector, rtol=1e-14)
    norm = np.abs(step.vector).max()
    norm *= np.linalg.norm(step.vector / norm)
    assert step.multiplier == pytest.approx(sigma * norm, rel=1e-12, abs=0.0)


@pytest.mark.parametrize("smallest", [0.0, -1.0, 1e-18])
def test_without_cubic_term_the_hessian_must_be_positive_definite(smallest):
    with pytest.raises(ValueError, match="sigma must be > 0 where the Hessian is not"):
        exact(np.diag([smallest, 1.0]), np.ones(2), 0.0)


@EVERY
@pytest.mark.parametrize("sigma", [-1.0, np.inf, np.nan])
def test_sigma_that_is_not_positive_and_finite_is_refused(solve, sigma):
    with pytest.raises(ValueError, match=r"sigma must be > 0 and finite, got"):
        solve(np.eye(2), np.ones(2), sigma)


@pytest.mark.parametrize("solve", [lanczos, cauchy, descent])
def test_iterative_solvers_need_a_cubic_term(solve):
    with pytest.raises(ValueError, match=r"sigma must be > 0 and finite, got 0"):
        solve(np.eye(2), np.ones(2), 0.0)


@GLOBAL
@pytest.mark.parametrize("alpha", [0.01, 0.5, 30.0])
def test_step_size_in_the_model_scales_sigma_and_multiplier(rng, solve, alpha):
    # g's + s'Hs / (2 alpha) + sigma ||s||^3 / 3, with s = alpha t.
    H, g = symmetric(rng, 6), rng.standard_normal(6)
    step, other = solve(H / alpha, g, 2.0), solve(H, g, 2.0 * alpha**2)
    np.testing.assert_allclose(step.vector, alpha * other.vector, rtol=1e-8)
    assert step.multiplier == pytest.approx(other.multiplier / alpha, rel=1e-10)
    assert step.model_decrease == pytest.approx(alpha * other.model_decrease, rel=1e-10)


@pytest.mark.parametrize(
    ("of_H", "of_s"),
    [(1e-140, 1.0), (1e140, 1.0), (1.0, 1e-140), (1.0, 1e140), (1e140, 1e-140)],
)
@pytest.mark.parametrize("solve", [exact, cauchy])
def test_step_does_not_depend_on_units(rng, solve, of_H, of_s):
    for sigma in (1e-3, 1.0, 1e5):
        H, g = symmetric(rng, 6), rng.standard_normal(6)
        step = solve(H, g, sigma)
        scaled = solve(H * of_H, g * (of_H * of_s), sigma * (of_H / of_s))
        np.testing.assert_allclose(scaled.vector / of_s, step.vector, rtol=1e-10)
        assert scaled.multiplier / of_H == pytest.approx(step.multiplier, rel=1e-10)


def test_secular_equation_of_spectra_and_gradients_over_many_orders():
    rng = np.random.default_rng(6)
    for _ in range(200):
        d = rng.integers(2, 40)
        values = rng.choice([-1.0, 1.0], d, p=[0.3, 0.7])
        values = np.sort(values * 10.0 ** rng.uniform(-14, 0, d))
        g = 10.0 ** rng.uniform(-rng.choice([1, 60, 120]), 0, d)
        sigma = 10.0 ** rng.uniform(-3, 3)
        step = secular_cubic(values, g, sigma)
        nu, norm = step.multiplier, np.linalg.norm(step.vector)
        error = np.abs((values + nu) * step.vector + g).max()
        scale = (np.abs(values).max() + nu) * norm + np.abs(g).max()
        assert error <= 1e-13 * scale
        assert nu == pytest.approx(sigma * norm, rel=1e-13)
        assert values[0] + nu >= -1e-14 * np.abs(values).max()
        assert step.inner_iterations <= 25


@pytest.mark.parametrize("curvature", [1e-3, 1.0, 1e3])
@pytest.mark.parametrize("sigma", [1e-3, 1.0, 1e3])
@pytest.mark.parametrize("size", [1e-3, 1.0, 1e3])
def test_secular_equation_of_one_eigenvector_starts_from_its_root(
    curvature, sigma, size
):
    # (curvature + nu) nu / sigma = size is a quadratic; what is left is rounding.
    values, g = np.array([-1.0, curvature]), np.array([0.0, size])
    step = secular_cubic(values, g, sigma)
    assert 1 <= step.inner_iterations <= 2


@EVERY
def test_inputs_are_not_modified(rng, solve):
    H, g = symmetric(rng, 5), 1e-3 * rng.standard_normal(5)
    H.flags.writeable = g.flags.writeable = False
    solve(H, g, 1.0)


@EVERY
@pytest.mark.parametrize("where", ["H", "g"])
def test_model_that_is_not_finite_is_called_inconsistent(solve, where):
    H, g = np.eye(3), np.full(3, 0.01)
    (H if where == "H" else g)[0] = np.nan
    step = solve(H, g, 1.0)
    assert step.status == "inconsistent"
    assert not step.model_decrease > 0.0


@EVERY
def test_results_are_plain_floats(rng, solve):
    for scale in (1e-3, 10.0):
        g = scale * rng.standard_normal(4)
        step = solve(symmetric(rng, 4), g, np.float64(1.0))
        assert type(step.model_decrease) is float
        assert type(step.multiplier) is float
        assert type(step.inner_iterations) is int


# Generalized Lanczos


@pytest.mark.parametrize("d", [1, 2, 7, 12])
def test_lanczos_with_all_products_is_exact(d):
    H, g, sigma, *_ = random_models(60, d, seed=14, scales=1.0)
    for i in range(len(H)):
        step = lanczos(H[i], g[i], sigma[i], rtol=0.0)
        best = exact(H[i], g[i], sigma[i])
        norm = max(np.linalg.norm(step.vector), np.linalg.norm(best.vector))
        scale = np.linalg.norm(g[i]) * norm + np.linalg.norm(H[i]) * norm**2
        assert step.model_decrease >= best.model_decrease - 1e-9 * scale
        expected = cubic_decrease(H[i], g[i], sigma[i], step.vector)
        assert step.model_decrease == pytest.approx(expected, abs=1e-12 * scale)
        expected = sigma[i] * np.linalg.norm(step.vector)
        assert step.multiplier == pytest.approx(expected, rel=1e-11)


@pytest.mark.parametrize("convex", [True, False])
def test_lanczos_reaches_99_percent_of_the_best_decrease(rng, convex):
    for _ in range(25):
        H = symmetric(rng, 40)
        H = H @ H if convex else H
        g = rng.standard_normal(40) * 10.0 ** rng.uniform(-3, 1)
        sigma = 10.0 ** rng.uniform(-3, 3)
        step = lanczos(H, g, sigma, rtol=1e-2)
        assert step.model_decrease >= 0.99 * exact(H, g, sigma).model_decrease
        assert step.status == "converged"


@pytest.mark.parametrize("rtol", [0.3, 1e-2, 1e-5])
@pytest.mark.parametrize(("size", "sigma"), [(1e-3, 30.0), (30.0, 30.0), (30.0, 3e4)])
def test_lanczos_stops_at_the_first_small_gradient_of_the_model(rng, rtol, size, sigma):
    # TC.s: ||grad m(s)|| <= theta min(1, ||s||) ||g||.
    H, g = 100.0 * symmetric(rng, 80), size * rng.standard_normal(80)

    def error(step):
        s = step.vector
        norm = np.linalg.norm(s)
        slope = g + H @ s + sigma * norm * s
        return np.linalg.norm(slope) / (min(1.0, norm) * np.linalg.norm(g))

    step = lanczos(H, g, sigma, rtol=rtol)
    assert error(step) <= rtol * (1.0 + 1e-6)
    k = step.inner_iterations
    assert 1 < k < 80
    before = lanczos(H, g, sigma, rtol=rtol, max_iter=k - 1)
    assert before.status == "max_iter"
    assert error(before) > rtol
    assert before.model_decrease <= step.model_decrease * (1.0 + 1e-14)


def test_lanczos_makes_one_product_an_iteration(rng):
    H, g, calls = symmetric(rng, 25), rng.standard_normal(25), []

    def matvec(v):
        calls.append(v)
        return H @ v

    options = {"rtol": 1e-4, "max_iter": 100, "rng": np.random.default_rng(0)}
    step = lanczos_cubic(matvec, g, sigma=1.0, **options)
    assert step.inner_iterations == len(calls) < 25


def test_lanczos_restarts_where_the_krylov_space_is_exhausted():
    H = np.diag([5.0, 1.0, 2.0, 3.0, -1e-2, 4.0, 6.0, 7.0])
    g = np.zeros(8)
    g[[0, 2]] = 1e-6
    step = lanczos(H, g, 0.1, rtol=1e-3)
    assert step.model_decrease >= 0.99999 * exact(H, g, 0.1).model_decrease


def test_lanczos_leaves_a_saddle_point_without_a_gradient(rng):
    H = symmetric(rng, 60)
    step = lanczos(H, np.zeros(60), 2.0, rtol=1e-2)
    assert step.status == "converged"
    assert step.inner_iterations < 60
    best = exact(H, np.zeros(60), 2.0)
    assert step.model_decrease >= 0.99 * best.model_decrease


def test_start_of_the_krylov_space_finds_curvature_that_the_gradient_hides(rng):
    Q = np.linalg.qr(rng.standard_normal((60, 60)))[0]
    values = np.linspace(0.5, 2.0, 60)
    values[0] = -1.0
    H, g = (Q * values) @ Q.T, Q[:, 1:].sum(axis=1)
    best = exact(H, g, 1e-2).model_decrease
    assert lanczos(H, g, 1e-2, rtol=1e-2).model_decrease < 0.1 * best
    start = g + rng.standard_normal(60)
    step = lanczos(H, g, 1e-2, rtol=1e-2, start=start)
    assert step.model_decrease >= 0.99 * best
    expected = cubic_decrease(H, g, 1e-2, step.vector)
    assert step.model_decrease == pytest.approx(expected, rel=1e-10)


# Cauchy point and gradient descent


@pytest.mark.parametrize("curvature", [-5.0, 0.0, 3.0, 1e6])
@pytest.mark.parametrize("sigma", [1e-3, 1.0, 1e3])
def test_cauchy_point_minimizes_the_model_along_the_gradient(curvature, sigma):
    g = np.array([3.0, -4.0, 0.0])
    H = curvature * np.outer(g, g) / 25.0 + np.diag([0.0, 0.0, -9.0])
    step = cauchy(H, g, sigma)
    s, norm = step.vector, np.linalg.norm(step.vector)
    np.testing.assert_allclose(s, -norm * g / 5.0, rtol=1e-14)
    slope = g @ s + s @ H @ s + sigma * norm**3
    assert abs(slope) <= 1e-13 * (5.0 * norm + abs(curvature) * norm**2)
    expected = cubic_decrease(H, g, sigma, s)
    assert step.model_decrease == pytest.approx(expected, rel=1e-9)
    for t in (0.9, 1.1):
        assert cubic_decrease(H, g, sigma, t * s) < step.model_decrease
    assert step.multiplier == pytest.approx(sigma * norm, rel=1e-14)
    assert step.inner_iterations == 1


def test_cauchy_point_is_the_first_lanczos_step(rng):
    H, g = symmetric(rng, 6), rng.standard_normal(6)
    step, other = cauchy(H, g, 2.0), lanczos(H, g, 2.0, max_iter=1)
    np.testing.assert_allclose(step.vector, other.vector, rtol=1e-12)
    assert step.model_decrease == pytest.approx(other.model_decrease, rel=1e-12)


def test_large_gradient_takes_the_cauchy_point(rng):
    H, g = symmetric(rng, 5), rng.standard_normal(5)
    g *= 4.0 / np.linalg.norm(g)
    at = descent(H, g, 1.0, smoothness=2.0)
    np.testing.assert_array_equal(at.vector, cauchy(H, g, 1.0).vector)
    assert at[2:4] == (1, "converged")
    below = descent(H, g, 1.0, smoothness=2.01)
    assert below[2:4] == (10, "max_iter")


def test_gradient_descent_takes_its_steps_on_the_model(rng):
    H, g = symmetric(rng, 5), rng.standard_normal(5)
    s = np.zeros(5)
    for _ in range(7):
        s = s - (g + H @ s + 0.3 * np.linalg.norm(s) * s) / 60.0
    step = descent(H, g, 0.3, smoothness=3.0, n_iter=7)
    np.testing.assert_allclose(step.vector, s, rtol=1e-13)
    expected = cubic_decrease(H, g, 0.3, s)
    assert step.model_decrease == pytest.approx(expected, rel=1e-12)
    assert step.inner_iterations == 7


def test_gradient_descent_estimates_the_norm_well_enough(rng):
    # Ten times too small a norm would make the step unstable, ten times too large
    # a norm useless.
    for scale in (1e-6, 1.0, 1e6):
        for _ in range(20):
            H, g = scale * symmetric(rng, 30), 1e-3 * scale * rng.standard_normal(30)
            step = descent(H, g, scale, n_iter=100, rng=rng, perturbation=1e-6)
            norm = np.linalg.norm(H, 2)
            known = descent(H, g, scale, n_iter=100, smoothness=norm)
            assert step.inner_iterations == known.inner_iterations + 3
            assert step.model_decrease > 0.3 * known.model_decrease > 0.0


def test_many_gradient_steps_find_the_global_minimum(rng):
    # Carmon and Duchi: from zero, with a perturbed gradient, also in the hard case.
    H = np.diag([-1.0, 0.5, 1.0])
    g = np.array([0.0, 0.1, 0.2])
    best = exact(H, g, 1.0).model_decrease
    options = {"smoothness": 1.0, "n_iter": 3000}
    assert descent(H, g, 1.0, **options).model_decrease < 0.5 * best
    step = descent(H, g, 1.0, rng=rng, perturbation=1e-6, **options)
    assert step.model_decrease == pytest.approx(best, rel=1e-5)


def test_perturbation_leaves_a_saddle_point_without_a_gradient(rng):
    H = np.diag([-1.0, 0.5, 1.0])
    plain = descent(H, np.zeros(3), 1.0, smoothness=1.0, n_iter=300)
    assert plain.model_decrease == 0.0
    step = descent(H, np.zeros(3), 1.0, smoothness=1.0, n_iter=300, rng=rng)
    assert step.model_decrease > 0.9 / 6.0
    expected = cubic_decrease(H, np.zeros(3), 1.0, step.vector)
    assert step.model_decrease == pytest.approx(expected, rel=1e-12)


def test_perturbation_has_the_length_that_is_asked_for(rng):
    # One step of gradient descent from zero shows the gradient that is descended.
    g, smoothness, sigma = np.array([3.0, -4.0, 0.0]), 7.0, 0.5
    options = {"smoothness": smoothness, "n_iter": 1, "rng": rng}
    step = descent(np.zeros((3, 3)), g, sigma, perturbation=1e-2, **options)
    noise = -20.0 * smoothness * step.vector - g
    assert np.linalg.norm(noise) == pytest.approx(1e-2 * smoothness**2 / sigma)


@pytest.mark.parametrize("n_iter", [1, 6])
def test_gradient_descent_counts_the_products_of_the_norm(rng, n_iter):
    H, g, calls = symmetric(rng, 8), 1e-3 * rng.standard_normal(8), []

    def matvec(v):
        calls.append(v)
        return H @ v

    step = cubic_gradient_descent(matvec, g, sigma=1.0, n_iter=n_iter)
    assert step.inner_iterations == len(calls) == 3 + n_iter


def test_gradient_descent_without_numbers_takes_no_step():
    step = descent(np.diag([1.0, np.nan]), np.ones(2), 1.0, smoothness=9.0)
    np.testing.assert_array_equal(step.vector, 0.0)
    assert step[1:4] == (0.0, 1, "inconsistent")


def test_step_that_does_not_decrease_the_model_is_not_taken(rng):
    # The perturbation alone, uphill everywhere.
    step = descent(np.eye(3), np.zeros(3), 1.0, smoothness=1.0, rng=rng)
    np.testing.assert_array_equal(step.vector, 0.0)
    assert step[1:4] == (0.0, 10, "max_iter")


# The subproblem of the published codes


@pytest.mark.parametrize("d", [1, 2, 7, 30])
def test_whole_krylov_space_holds_the_global_minimizer(d, rng):
    for sigma in (1e-2, 1.0, 1e2):
        H, g = symmetric(rng, d), rng.standard_normal(d)
        step = krylov_cubic(H.__matmul__, g, sigma=sigma, n_products=500, rng=rng)
        expected = exact(H, g, sigma)
        assert (step.status, step.inner_iterations) == ("converged", d)
        np.testing.assert_allclose(step.vector, expected.vector, rtol=1e-8, atol=1e-10)
        assert step.model_decrease == pytest.approx(expected.model_decrease, rel=1e-10)
        assert step.multiplier == pytest.approx(expected.multiplier, rel=1e-8)


def test_krylov_space_of_the_published_codes_has_no_stop_test(rng):
    """All products are made, where one would do and where the space is exhausted."""
    for H in (np.eye(40), symmetric(rng, 40)):
        made = []

        def matvec(v, H=H, made=made):
            made.append(1)
            return H @ v

        for n_products in (12, 100):
            made.clear()
            step = krylov_cubic(
                matvec, np.ones(40), sigma=1.0, n_products=n_products, rng=rng
            )
            assert len(made) == step.inner_iterations == min(40, n_products)
            assert step.status == ("max_iter" if n_products == 12 else "converged")
            decrease = cubic_decrease(H, np.ones(40), 1.0, step.vector)
            assert step.model_decrease == pytest.approx(decrease, rel=1e-10)


def test_noise_of_the_start_finds_curvature_that_the_gradient_does_not_see(rng):
    H, g = np.diag([-1.0, 1.0, 2.0]), np.array([0.0, 1e-3, 1e-3])
    for gradient in (g, np.zeros(3)):
        step = krylov_cubic(lambda v: H @ v, gradient, sigma=1.0, n_products=3, rng=rng)
        best = exact(H, gradient, 1.0).model_decrease
        assert step.model_decrease == pytest.approx(best, rel=1e-9)
    step = krylov_cubic(lambda v: v * np.nan, g, sigma=1.0, n_products=3, rng=rng)
    assert step.status == "inconsistent"
    assert not np.any(step.vector)
