"""Steps inside a ball: exact, by Cholesky, by Lanczos, by truncated CG."""

import math

import naive
import numpy as np
import pytest
import scipy.linalg
from models import indefiniteness, largest_modulus, random_models, residual

from subsampled_newton.subproblems import more_sorensen as more_sorensen_module
from subsampled_newton.subproblems._ball import distance_to_sphere
from subsampled_newton.subproblems.conjugate_gradient import (
    conjugate_gradient,
    steihaug,
)
from subsampled_newton.subproblems.lanczos import lanczos_trust_region
from subsampled_newton.subproblems.more_sorensen import more_sorensen
from subsampled_newton.subproblems.newton import newton_step
from subsampled_newton.subproblems.spectral import Spectrum, secular_trust_region


def symmetric(rng, d):
    A = rng.standard_normal((d, d))
    return (A + A.T) / np.sqrt(2.0 * d)


def spd(rng, d, condition=100.0):
    Q = np.linalg.qr(rng.standard_normal((d, d)))[0]
    return (Q * np.geomspace(1.0, condition, d)) @ Q.T


def exact(H, g, radius):
    return Spectrum(H).trust_region(g, radius)


def cholesky(H, g, radius):
    return more_sorensen(H, g, radius=radius, rtol=1e-10)


def lanczos(H, g, radius, rtol=1e-10, max_iter=1000, seed=0, **options):
    rng = np.random.default_rng(seed)
    options |= {"radius": radius, "rtol": rtol, "max_iter": max_iter, "rng": rng}
    return lanczos_trust_region(lambda v: H @ v, g, **options)


def truncated(H, g, radius, rtol=1e-10, max_iter=1000):
    return steihaug(lambda v: H @ v, g, radius=radius, rtol=rtol, max_iter=max_iter)


GLOBAL = pytest.mark.parametrize("solve", [exact, cholesky, lanczos])
EVERY = pytest.mark.parametrize("solve", [exact, cholesky, lanczos, truncated])


# Global minimizers


@pytest.mark.parametrize("d", range(1, 13))
def test_exact_step_satisfies_the_conditions_of_the_global_minimum(d):
    # Necessary and sufficient, hard case included: 12 x 840 models.
    H, g, radius, *_ = random_models(840, d, seed=1)
    steps = [exact(*model) for model in zip(H, g, radius, strict=True)]
    s = np.array([step.vector for step in steps])
    nu = np.array([step.multiplier for step in steps])
    norm = np.linalg.norm(s, axis=1)
    assert np.max(residual(H, g, s, nu)) < 1e-13
    assert np.min(nu) >= 0.0
    assert np.max(indefiniteness(H, nu)) < 1e-13
    assert np.max(norm / radius) < 1.0 + 1e-13
    assert np.max(np.abs(norm / radius - 1.0)[nu > 0.0]) < 1e-13
    on_sphere = np.array([step.status == "boundary" for step in steps])
    np.testing.assert_array_equal(on_sphere, nu > 0.0)


def test_random_models_contain_what_they_are_meant_to():
    models = random_models(840, 7, seed=1)
    steps = [exact(*model) for model in zip(*models[:3], strict=True)]
    boundary = np.array([step.status == "boundary" for step in steps])
    assert 100 < boundary.sum() < 740
    smallest = np.linalg.eigvalsh(models.H)[:, 0]
    shift = np.array([step.multiplier for step in steps]) + smallest
    hard = (shift == 0.0) & (smallest < 0.0)
    assert hard.sum() > 20
    assert max(step.inner_iterations for step in steps) <= 15


@pytest.mark.parametrize("d", [1, 2, 5, 12])
def test_exact_step_reports_the_decrease_of_its_vector(d):
    H, g, radius, *_ = random_models(100, d, seed=2)
    for matrix, gradient, size in zip(H, g, radius, strict=True):
        step = exact(matrix, gradient, size)
        s = step.vector
        terms = np.abs(gradient) @ np.abs(s) + np.abs(s) @ np.abs(matrix) @ np.abs(s)
        expected = naive.model_decrease(matrix, gradient, s)
        assert abs(step.model_decrease - expected) <= 1e-13 * terms
        assert step.model_decrease >= 0.0


@GLOBAL
@pytest.mark.parametrize("seed", range(20))
def test_no_point_of_a_grid_is_better(solve, seed):
    H, g, radius, *_ = random_models(1, 2, seed=100 + seed, scales=1.0)
    H, g, radius = H[0], g[0], radius[0]
    angle = np.linspace(0.0, 2.0 * np.pi, 721)
    grid = radius * np.array([np.cos(angle), np.sin(angle)])
    s = (np.linspace(0.0, 1.0, 101)[:, None, None] * grid).transpose(1, 0, 2)
    s = s.reshape(2, -1)
    best = np.max(-(g @ s + 0.5 * np.sum(s * (H @ s), axis=0)))
    scale = np.linalg.norm(g) * radius + np.linalg.norm(H, 2) * radius**2
    decrease = solve(H, g, radius).model_decrease
    assert decrease >= best - 1e-13 * scale
    assert decrease <= best + 1e-3 * scale


@GLOBAL
def test_step_inside_the_ball_is_the_newton_step(rng, solve):
    H, g = spd(rng, 8), rng.standard_normal(8)
    newton = newton_step(H, g)
    step = solve(H, g, 1.01 * np.linalg.norm(newton.vector))
    assert step.status == "converged"
    assert step.multiplier == 0.0
    np.testing.assert_allclose(step.vector, newton.vector, rtol=1e-8)
    assert step.model_decrease == pytest.approx(newton.model_decrease, rel=1e-10)


@GLOBAL
def test_hard_case_reaches_the_sphere_along_the_bottom_eigenvector(solve):
    H, g = np.diag([-2.0, 1.0, 2.0]), np.array([0.0, 3.0, 4.0])
    step = solve(H, g, 5.0)
    assert step.status == "boundary"
    assert step.multiplier == pytest.approx(2.0, rel=1e-8)
    np.testing.assert_allclose(step.vector[1:], [-1.0, -1.0], rtol=1e-8)
    assert abs(step.vector[0]) == pytest.approx(math.sqrt(23.0), rel=1e-8)
    assert step.model_decrease == pytest.approx(3.5 + 25.0, rel=1e-8)


@GLOBAL
def test_hard_case_of_a_full_matrix(rng, solve):
    Q = np.linalg.qr(rng.standard_normal((9, 9)))[0]
    values = np.array([-1.0, -1.0, -0.5, 0.1, 0.3, 1.0, 2.0, 4.0, 5.0])
    H = (Q * values) @ Q.T
    g = Q[:, [3, 7]].sum(axis=1)
    step = solve(H, g, 3.0)
    # In the plane of the gradient 1 / (lambda + 1), the rest in the bottom space.
    assert step.model_decrease == pytest.approx(0.5 * (1 / 1.1 + 1 / 5.0) + 4.5)
    assert np.linalg.norm(step.vector) == pytest.approx(3.0, rel=1e-12)
    assert residual(
        H[None], g[None], step.vector[None], np.array([step.multiplier])
    ) < (1e-7)


@GLOBAL
def test_without_a_gradient_the_step_is_the_bottom_eigenvector(rng, solve):
    H = symmetric(rng, 7)
    values, vectors = np.linalg.eigh(H)
    step = solve(H, np.zeros(7), 2.0)
    assert step.status == "boundary"
    assert step.multiplier == pytest.approx(-values[0], rel=1e-8)
    assert abs(step.vector @ vectors[:, 0]) == pytest.approx(2.0, rel=1e-8)
    assert step.model_decrease == pytest.approx(-2.0 * values[0], rel=1e-8)


@EVERY
@pytest.mark.parametrize("rank", [0, 3, 5])
def test_minimum_of_a_semidefinite_model_without_gradient_is_zero(rng, solve, rank):
    A = rng.standard_normal((rank, 5))
    step = solve(A.T @ A, np.zeros(5), 1.0)
    np.testing.assert_array_equal(step.vector, 0.0)
    assert step.model_decrease == 0.0
    assert step.status == "converged"


@pytest.mark.parametrize("solve", [exact, lanczos])
def test_of_many_minimizers_of_a_singular_model_the_shortest_is_taken(rng, solve):
    A = rng.standard_normal((3, 6))
    H, g = A.T @ A, A.T @ rng.standard_normal(3)
    step = solve(H, g, 100.0)
    assert step.status == "converged"
    np.testing.assert_allclose(step.vector, -np.linalg.pinv(H) @ g, rtol=1e-8)


@EVERY
@pytest.mark.parametrize("radius", [1e-3, 1.0, 1e3])
def test_without_a_hessian_the_step_is_steepest_descent_to_the_sphere(solve, radius):
    g = np.array([3.0, -4.0, 0.0])
    step = solve(np.zeros((3, 3)), g, radius)
    np.testing.assert_allclose(step.vector, -radius * g / 5.0, rtol=1e-12)
    assert step.model_decrease == pytest.approx(5.0 * radius, rel=1e-12)
    assert step.multiplier == pytest.approx(5.0 / radius, rel=1e-12)


@GLOBAL
@pytest.mark.parametrize("nu", [1.5, 3.0, 100.0])
def test_step_equals_the_damped_step_of_its_multiplier_and_back(rng, solve, nu):
    # Trust region and Tikhonov damping are the same family of steps.
    H, g = symmetric(rng, 8), rng.standard_normal(8)
    H /= np.linalg.norm(H, 2)
    damped = np.linalg.solve(H + nu * np.eye(8), -g)
    step = solve(H, g, np.linalg.norm(damped))
    assert step.multiplier == pytest.approx(nu, rel=1e-7)
    np.testing.assert_allclose(step.vector, damped, rtol=1e-7)
    again = np.linalg.solve(H + step.multiplier * np.eye(8), -g)
    np.testing.assert_allclose(step.vector, again, rtol=1e-9)


def test_exact_step_equals_the_damped_step_to_rounding(rng):
    H, g = symmetric(rng, 8), rng.standard_normal(8)
    for radius in (0.1, 1.0, 10.0):
        step = exact(H, g, radius)
        damped = np.linalg.solve(H + step.multiplier * np.eye(8), -g)
        np.testing.assert_allclose(step.vector, damped, rtol=1e-10)


@GLOBAL
@pytest.mark.parametrize("alpha", [0.01, 0.5, 30.0])
def test_step_size_in_the_model_scales_radius_and_multiplier(rng, solve, alpha):
    # g's + s'Hs / (2 alpha) over ||s|| <= radius, with s = alpha t.
    H, g = symmetric(rng, 6), rng.standard_normal(6)
    step, other = solve(H / alpha, g, 2.0), solve(H, g, 2.0 / alpha)
    np.testing.assert_allclose(step.vector, alpha * other.vector, rtol=1e-7)
    assert step.multiplier == pytest.approx(other.multiplier / alpha, rel=1e-7)
    assert step.model_decrease == pytest.approx(alpha * other.model_decrease, rel=1e-8)


@pytest.mark.parametrize(
    ("of_H", "of_s"),
    [
        (1e-140, 1.0),
        (1e140, 1.0),
        (1.0, 1e-140),
        (1.0, 1e140),
        (1e140, 1e-140),
        (1e-140, 1e140),
    ],
)
@pytest.mark.parametrize("solve", [exact, cholesky])
def test_step_does_not_depend_on_units(rng, solve, of_H, of_s):
    for radius in (0.1, 3.0, 1e5):
        H, g = symmetric(rng, 6), rng.standard_normal(6)
        step = solve(H, g, radius)
        with np.errstate(over="ignore"):
            scaled = solve(H * of_H, g * (of_H * of_s), radius * of_s)
        np.testing.assert_allclose(scaled.vector / of_s, step.vector, rtol=1e-8)
        assert scaled.multiplier / of_H == pytest.approx(step.multiplier, rel=1e-8)
        assert scaled.status == step.status


def test_secular_equation_of_spectra_and_gradients_over_many_orders():
    rng = np.random.default_rng(5)
    for _ in range(200):
        d = rng.integers(2, 40)
        values = rng.choice([-1.0, 1.0], d, p=[0.3, 0.7])
        values = np.sort(values * 10.0 ** rng.uniform(-14, 0, d))
        g = 10.0 ** rng.uniform(-rng.choice([1, 60, 250]), 0, d)
        radius = 10.0 ** rng.uniform(-3, 3)
        step = secular_trust_region(values, g, radius)
        nu, norm = step.multiplier, np.linalg.norm(step.vector)
        error = np.abs((values + nu) * step.vector + g).max()
        scale = np.abs(values).max() * np.abs(step.vector).max() + np.abs(g).max()
        assert error <= 1e-13 * scale
        assert norm == pytest.approx(radius, rel=1e-13) if nu > 0.0 else norm <= radius
        assert values[0] + nu >= -1e-14 * np.abs(values).max()
        assert step.inner_iterations <= 25


@pytest.mark.parametrize("size", [1e-290, 1e-305, 3e-310, 1e-317])
def test_gradient_too_small_to_count_along_the_bottom_is_the_hard_case(size):
    # The shift from the pole would be a number below the smallest normal one.
    step = secular_trust_region(np.array([-1.0, 1.0]), np.array([size, 1.0]), 2.0)
    np.testing.assert_allclose(np.abs(step.vector), [math.sqrt(3.75), 0.5], rtol=1e-14)
    assert step.multiplier == pytest.approx(1.0, rel=1e-14)
    assert step.inner_iterations <= 10


def test_one_eigendecomposition_serves_every_radius_and_sigma(rng, monkeypatch):
    calls, eigh = [], scipy.linalg.eigh

    def counted(*args, **options):
        calls.append(args)
        return eigh(*args, **options)

    monkeypatch.setattr(scipy.linalg, "eigh", counted)
    H, g = symmetric(rng, 6), rng.standard_normal(6)
    spectrum = Spectrum(H)
    assert len(calls) == 1
    for radius in (4.0, 2.0, 1.0):
        spectrum.trust_region(g, radius)
        spectrum.cubic(g, radius)
    assert len(calls) == 1


def test_spectrum_reads_the_lower_half_only_and_changes_nothing(rng):
    H, g = symmetric(rng, 5), rng.standard_normal(5)
    half = np.where(np.tri(5, dtype=bool), H, np.nan)
    kept = half.copy(), g.copy()
    np.testing.assert_allclose(exact(half, g, 1.0).vector, exact(H, g, 1.0).vector)
    np.testing.assert_array_equal(half, kept[0])
    np.testing.assert_array_equal(g, kept[1])


@EVERY
def test_inputs_are_not_modified(rng, solve):
    H, g = symmetric(rng, 5), rng.standard_normal(5)
    H.flags.writeable = g.flags.writeable = False
    solve(H, g, 1.0)
    solve(H, g, 100.0)


@EVERY
@pytest.mark.parametrize("radius", [0.0, -1.0, np.inf, np.nan])
def test_radius_that_is_not_positive_and_finite_is_refused(solve, radius):
    with pytest.raises(ValueError, match=r"radius must be > 0 and finite, got"):
        solve(np.eye(2), np.ones(2), radius)


@EVERY
@pytest.mark.parametrize("where", ["H", "g"])
def test_model_that_is_not_finite_is_called_inconsistent(solve, where):
    H, g = np.eye(3), np.ones(3)
    (H if where == "H" else g)[0] = np.nan
    step = solve(H, g, 1.0)
    assert step.status == "inconsistent"
    assert not step.model_decrease > 0.0


@pytest.mark.parametrize("where", ["H", "g"])
def test_exact_step_of_a_model_that_is_not_finite_is_no_number(where):
    H, g = np.eye(3), np.ones(3)
    (H if where == "H" else g)[0] = np.nan
    spectrum = Spectrum(H)
    for step in (spectrum.trust_region(g, 1.0), spectrum.cubic(g, 1.0)):
        assert np.isnan(step.vector).all()
        assert math.isnan(step.model_decrease)
        assert math.isnan(step.multiplier)
        assert step[2:4] == (0, "inconsistent")


@EVERY
def test_results_are_plain_floats(rng, solve):
    step = solve(symmetric(rng, 4), rng.standard_normal(4), np.float64(1.0))
    assert type(step.model_decrease) is float
    assert type(step.multiplier) is float
    assert type(step.inner_iterations) is int


# Moré-Sorensen


@pytest.mark.parametrize("d", [1, 2, 6, 12])
def test_cholesky_agrees_with_the_eigendecomposition(d):
    H, g, radius, *_ = random_models(100, d, seed=3, scales=2.0)
    steps = [cholesky(*model) for model in zip(H, g, radius, strict=True)]
    others = [exact(*model) for model in zip(H, g, radius, strict=True)]
    s = np.array([step.vector for step in steps])
    nu = np.array([step.multiplier for step in steps])
    assert {step.status for step in steps} <= {"converged", "boundary"}
    assert np.max(residual(H, g, s, nu)) < 1e-9
    assert np.max(indefiniteness(H, nu)) < 1e-13
    assert np.max(np.linalg.norm(s, axis=1) / radius) < 1.0 + 1e-13
    decrease = np.array([step.model_decrease for step in steps])
    best = np.array([other.model_decrease for other in others])
    scale = np.linalg.norm(g, axis=1) * radius + largest_modulus(H) * radius**2
    # The model of a matrix that is known to rounding.
    assert np.max(np.abs(decrease - best) / np.where(scale > 0.0, scale, 1.0)) < 1e-9


@pytest.mark.parametrize("radius", [0.1, 3.0, 1e3])
def test_cholesky_of_three_hundred_parameters(rng, radius):
    H, g = symmetric(rng, 300), rng.standard_normal(300)
    step, other = more_sorensen(H, g, radius=radius), exact(H, g, radius)
    assert step.status == "boundary"
    assert step.multiplier == pytest.approx(other.multiplier, rel=1e-8)
    np.testing.assert_allclose(step.vector, other.vector, rtol=1e-4, atol=1e-6 * radius)
    assert step.model_decrease == pytest.approx(other.model_decrease, rel=1e-10)
    assert step.inner_iterations <= 9


def test_cholesky_in_the_hard_case_of_three_hundred_parameters(rng):
    H, g = symmetric(rng, 300), rng.standard_normal(300)
    values, vectors = np.linalg.eigh(H)
    g -= (vectors[:, 0] @ g) * vectors[:, 0]
    inside = vectors[:, 1:].T @ g / (values[1:] - values[0])
    radius = 1.5 * np.linalg.norm(inside)
    step = more_sorensen(H, g, radius=radius)
    assert step.status == "boundary"
    assert step.multiplier == pytest.approx(-values[0], rel=1e-7)
    best = exact(H, g, radius).model_decrease
    assert step.model_decrease == pytest.approx(best, rel=1e-9)
    assert step.inner_iterations <= 12


def test_each_shift_is_factorised_anew_and_its_own_factor_used(rng, monkeypatch):
    # The step must solve the system of the multiplier that is returned with it: with
    # the factor of an earlier shift (a known fault of another package) it would not.
    shifts, factorise = [], more_sorensen_module._factorise

    def recorded(H, nu, tiny):
        shifts.append(nu)
        return factorise(H, nu, tiny)

    monkeypatch.setattr(more_sorensen_module, "_factorise", recorded)
    for _ in range(30):
        H, g = symmetric(rng, 12), rng.standard_normal(12)
        radius = 10.0 ** rng.uniform(-1.0, 1.0)
        shifts.clear()
        step = more_sorensen(H, g, radius=radius, rtol=1e-10)
        assert step.inner_iterations == len(shifts) == len(set(shifts))
        unit = np.abs(H).max()
        unit = max(unit, np.abs(g).max() / radius)
        assert step.multiplier == pytest.approx(shifts[-1] * unit, rel=1e-14)
        damped = np.linalg.solve(H + step.multiplier * np.eye(12), -g)
        np.testing.assert_allclose(step.vector, damped, rtol=1e-8)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("where", ["H", "g"])
def test_cholesky_of_a_model_that_is_not_finite_or_zero_factorises_nothing(where, bad):
    H, g = np.zeros((3, 3)), np.zeros(3)
    zero = more_sorensen(H, g, radius=1.0)
    np.testing.assert_array_equal(zero.vector, 0.0)
    assert zero[1:5] == (0.0, 0, "converged", 0.0)
    (H if where == "H" else g)[0] = bad
    step = more_sorensen(H, g, radius=1.0)
    assert np.isnan(step.vector).all()
    assert math.isnan(step.model_decrease)
    assert step[2:4] == (0, "inconsistent")


def test_cholesky_inside_the_ball_takes_one_factorisation(rng):
    H, g = spd(rng, 8), rng.standard_normal(8)
    step = more_sorensen(H, g, radius=1e3)
    assert step[2:5] == (1, "converged", 0.0)


def test_matrix_that_is_singular_to_rounding_has_no_factor_at_a_shift_of_zero():
    tiny = 1e-15
    for pivot, nu, usable in [
        (1e-14, 0.0, True),
        (1e-16, 0.0, False),
        (0.0, 1e-9, True),
    ]:
        H = np.asfortranarray(np.diag([1.0, pivot]))
        factor, bound = more_sorensen_module._factorise(H, nu, tiny)
        assert (factor is not None) == usable
        assert bound == 0.0


def test_bounds_of_the_shift_are_the_better_of_gershgorin_and_frobenius():
    arrow = np.zeros((10, 10))
    arrow[0, 1:] = arrow[1:, 0] = 1.0
    for H, norm, expected in [
        (np.diag([-2.0, 1.0, 3.0]), 0.0, (2.0, 2.0)),
        (np.diag([-2.0, 1.0, 3.0]), 9.0, (6.0, 11.0)),
        (arrow, 0.0, (0.0, math.sqrt(18.0))),
        (arrow, 6.0, (6.0 - math.sqrt(18.0), 6.0 + math.sqrt(18.0))),
    ]:
        found = more_sorensen_module._bounds(H, norm)
        assert found == pytest.approx(expected, rel=1e-5)
        assert found[1] > expected[1]


@pytest.mark.parametrize("low", [0.0, 1e-9, 0.5, 1.9])
def test_next_shift_lies_inside_the_bracket(low):
    assert low < more_sorensen_module._between(low, 2.0) < 2.0


def test_failed_factorisation_bounds_the_shift_from_below(rng):
    for _ in range(50):
        H = np.asfortranarray(symmetric(rng, 9))
        smallest = np.linalg.eigvalsh(H)[0]
        nu = rng.uniform(0.0, -smallest)
        factor, bound = more_sorensen_module._factorise(H, nu, 1e-15)
        assert factor is None
        assert nu < bound <= -smallest * (1.0 + 1e-12)


def test_bottom_eigenvector_of_a_factor(rng):
    H = symmetric(rng, 40)
    values, vectors = np.linalg.eigh(H)
    for gap in (1e-2, 1e-6, 1e-10):
        A = H + (gap - values[0]) * np.eye(40)
        factor = np.asfortranarray(np.linalg.cholesky(A))
        z, image, rayleigh = more_sorensen_module._bottom(factor)
        assert abs(z @ vectors[:, 0]) == pytest.approx(1.0, rel=1e-6)
        assert image == pytest.approx(np.linalg.norm(A @ z), rel=1e-2)
        assert rayleigh == pytest.approx(gap, rel=1e-4)


def test_cholesky_without_iterations_left_says_so(rng):
    H, g = symmetric(rng, 12), rng.standard_normal(12)
    best = exact(H, g, 1.0).model_decrease
    for k in range(4):
        step = more_sorensen(H, g, radius=1.0, rtol=1e-14, max_iter=k)
        assert step.inner_iterations == k
        assert step.status == "max_iter"
        assert np.linalg.norm(step.vector) <= 1.0 + 1e-14
        assert 0.0 <= step.model_decrease <= best * (1.0 + 1e-14)
        expected = naive.model_decrease(H, g, step.vector)
        assert step.model_decrease == pytest.approx(expected)


def test_distance_to_the_sphere(rng):
    for _ in range(100):
        s, p = rng.standard_normal((2, 5))
        s *= rng.uniform(0.0, 1.0) / np.linalg.norm(s)
        t = distance_to_sphere(s, p, 1.0)
        assert t >= 0.0
        assert np.linalg.norm(s + t * p) == pytest.approx(1.0, rel=1e-14)
    # Close to the sphere the textbook root loses all digits.
    for length in (1e3, 1.0, 1e-3):
        s, p = np.array([1.0 - 1e-15, 0.0]), np.array([length, 0.0])
        expected = (1.0 - s[0]) / length
        found = distance_to_sphere(s, p, 1.0)
        assert found == pytest.approx(expected, rel=1e-12, abs=0)


def test_distance_from_outside_leads_to_the_nearest_point_of_the_line():
    # By rounding an iterate may lie outside, and its direction pass by the sphere.
    s = np.array([1.0 + 1e-8, 0.0])
    assert distance_to_sphere(s, np.array([0.0, 1.0]), 1.0) == 0.0
    outwards = distance_to_sphere(s, np.array([2.0, 0.0]), 1.0)
    assert outwards == pytest.approx(-0.5e-8, rel=1e-6)


# Generalized Lanczos


@pytest.mark.parametrize("d", [1, 2, 7, 12])
def test_lanczos_with_all_products_is_exact(d):
    H, g, radius, *_ = random_models(60, d, seed=4, scales=1.0)
    for i in range(len(H)):
        step, best = lanczos(H[i], g[i], radius[i], 0.0), exact(H[i], g[i], radius[i])
        scale = np.linalg.norm(g[i]) * radius[i] + np.linalg.norm(H[i]) * radius[i] ** 2
        assert step.model_decrease >= best.model_decrease - 1e-9 * scale
        expected = naive.model_decrease(H[i], g[i], step.vector)
        assert step.model_decrease == pytest.approx(expected, abs=1e-12 * scale)
        assert np.linalg.norm(step.vector) <= radius[i] * (1.0 + 1e-12)
        assert step.inner_iterations <= d


@pytest.mark.parametrize("spectrum", ["convex", "indefinite"])
def test_lanczos_reaches_99_percent_of_the_best_decrease(rng, spectrum):
    for _ in range(25):
        H = spd(rng, 40, 1e3) if spectrum == "convex" else symmetric(rng, 40)
        g = rng.standard_normal(40) * 10.0 ** rng.uniform(-3, 1)
        radius = 10.0 ** rng.uniform(-3, 3)
        step = lanczos(H, g, radius, rtol=1e-2)
        assert step.model_decrease >= 0.99 * exact(H, g, radius).model_decrease
        assert step.status in ("converged", "boundary")


@pytest.mark.parametrize("rtol", [0.3, 1e-2, 1e-5])
@pytest.mark.parametrize("radius", [0.03, 0.1, 1e3])
def test_lanczos_stops_at_the_first_small_residual(rng, rtol, radius):
    H, g = spd(rng, 80, 1e3), rng.standard_normal(80)

    def error(step):
        left = H @ step.vector + step.multiplier * step.vector + g
        return np.linalg.norm(left) / np.linalg.norm(g)

    step = lanczos(H, g, radius, rtol=rtol)
    assert error(step) <= rtol * (1.0 + 1e-8)
    k = step.inner_iterations
    assert 1 < k < 80
    before = lanczos(H, g, radius, rtol=rtol, max_iter=k - 1)
    assert before.status == "max_iter"
    assert before.inner_iterations == k - 1
    assert error(before) > rtol
    assert before.model_decrease < step.model_decrease


def test_lanczos_near_a_saddle_asks_for_the_eigenvector_to_rtol(rng):
    # ||g|| alone would ask for 1e-10 of the Hessian.
    H, g = symmetric(rng, 60), 1e-8 * rng.standard_normal(60)
    step = lanczos(H, g, 1.0, rtol=1e-2)
    nu = step.multiplier
    left = np.linalg.norm(H @ step.vector + nu * step.vector + g)
    assert left <= 1e-2 * nu * (1.0 + 1e-8)
    assert step.inner_iterations < 40
    assert step.model_decrease >= 0.99 * exact(H, g, 1.0).model_decrease


def test_lanczos_inside_the_ball_is_conjugate_gradients(rng):
    H, g = spd(rng, 20), rng.standard_normal(20)
    for k in (1, 3, 6):
        step = lanczos(H, g, 100.0, rtol=0.0, max_iter=k)
        expected = naive.conjugate_gradient(H, g, k)[-1]
        np.testing.assert_allclose(step.vector, expected, rtol=1e-9)
        assert step.multiplier == 0.0


@pytest.mark.parametrize("radius", [0.5, 100.0])
def test_lanczos_makes_one_product_an_iteration(rng, radius):
    H, g, calls = symmetric(rng, 25), rng.standard_normal(25), []

    def matvec(v):
        calls.append(v.copy())
        return H @ v

    options = {"rtol": 1e-6, "max_iter": 100, "rng": np.random.default_rng(0)}
    step = lanczos_trust_region(matvec, g, radius=radius, **options)
    assert step.inner_iterations == len(calls) <= 25
    basis = np.array(calls)
    np.testing.assert_allclose(basis @ basis.T, np.eye(len(calls)), atol=1e-13)


def test_lanczos_draws_random_vectors_only_where_the_gradient_has_none(rng):
    H, g = symmetric(rng, 10), rng.standard_normal(10)
    generator = np.random.default_rng(3)
    before = generator.bit_generator.state
    options = {"radius": 1.0, "rtol": 1e-6, "max_iter": 50, "rng": generator}
    lanczos_trust_region(lambda v: H @ v, g, **options)
    assert generator.bit_generator.state == before
    lanczos_trust_region(lambda v: H @ v, np.zeros(10), **options)
    assert generator.bit_generator.state != before


def test_lanczos_restarts_where_the_krylov_space_is_exhausted(rng):
    # The gradient spans two eigenvectors; a space of two sees no negative curvature.
    H = np.diag([5.0, 1.0, 2.0, 3.0, -1e-3, 4.0, 6.0, 7.0])
    g = np.zeros(8)
    g[[0, 2]] = 1.0
    step = lanczos(H, g, 10.0, rtol=1e-3)
    assert step.status == "boundary"
    assert step.model_decrease >= 0.99999 * exact(H, g, 10.0).model_decrease
    assert lanczos(H, g, 10.0, rtol=1e-3, max_iter=2).status == "max_iter"


def test_lanczos_goes_on_where_the_krylov_space_is_almost_exhausted(rng):
    # Rounding of a full matrix keeps the space of eight eigenvectors from closing.
    for _ in range(5):
        Q = np.linalg.qr(rng.standard_normal((30, 30)))[0]
        H, g = (Q * np.linspace(-1.0, 2.0, 30)) @ Q.T, Q[:, 5:29:3].sum(axis=1)
        step = lanczos(0.5 * (H + H.T), g, 20.0, rtol=1e-6)
        assert step.model_decrease >= 0.99 * exact(H, g, 20.0).model_decrease


def test_lanczos_of_a_multiple_of_the_identity_looks_once_beyond_the_gradient():
    step = lanczos(3.0 * np.eye(50), np.ones(50), 100.0)
    assert step.inner_iterations == 2
    np.testing.assert_allclose(step.vector, -np.ones(50) / 3.0, rtol=1e-14)


def test_start_of_the_krylov_space_finds_curvature_that_the_gradient_hides(rng):
    # A tolerance that is met before the space of the gradient is exhausted.
    Q = np.linalg.qr(rng.standard_normal((60, 60)))[0]
    values = np.linspace(0.5, 2.0, 60)
    values[0] = -1.0
    H, g = (Q * values) @ Q.T, Q[:, 1:].sum(axis=1)
    best = exact(H, g, 50.0).model_decrease
    hidden = lanczos(H, g, 50.0, rtol=1e-2)
    assert hidden.model_decrease < 0.5 * best
    start = g + rng.standard_normal(60)
    step = lanczos(H, g, 50.0, rtol=1e-2, start=start)
    assert step.model_decrease >= 0.99 * best
    expected = naive.model_decrease(H, g, step.vector)
    assert step.model_decrease == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("rtol", [1e-2, 1e-6])
def test_residual_with_a_start_counts_the_gradient_outside_the_space(rng, rtol):
    H, g = spd(rng, 30), rng.standard_normal(30)
    step = lanczos(H, g, 100.0, rtol=rtol, start=rng.standard_normal(30))
    error = np.linalg.norm(H @ step.vector + g) / np.linalg.norm(g)
    assert error <= rtol * (1.0 + 1e-8)
    assert step.status == "converged"


def test_loose_tolerance_with_a_start_is_met_by_the_residual_itself(rng):
    # Gradient and coupling outside the space are not orthogonal: signs matter.
    for rtol in (0.5, 0.3, 0.1):
        for _ in range(10):
            H, g = spd(rng, 30), rng.standard_normal(30)
            start = g + rng.standard_normal(30)
            step = lanczos(H, g, 100.0, rtol=rtol, start=start)
            error = np.linalg.norm(H @ step.vector + g) / np.linalg.norm(g)
            assert error <= rtol * (1.0 + 1e-8)


def test_start_along_the_gradient_leaves_nothing_of_it_outside():
    H, g = np.diag(np.repeat([1.0, 2.0, 3.0], 5)), np.ones(15)
    step = lanczos(H, g, 100.0, rtol=1e-6, start=2.0 * g)
    assert step[2:4] == (3, "converged")
    np.testing.assert_allclose(step.vector, -g / np.diag(H), rtol=1e-9)


def test_start_in_a_small_invariant_space_does_not_hide_the_gradient():
    H, g, start = np.diag(np.arange(1.0, 9.0)), np.ones(8), np.zeros(8)
    start[:2] = 1.0
    step = lanczos(H, g, 100.0, start=start)
    np.testing.assert_allclose(step.vector, -g / np.diag(H), rtol=1e-9)


def test_lanczos_repeats_itself_bit_for_bit():
    H = np.diag([-1.0, -1.0, 2.0, 3.0])
    first, second = (lanczos(H, np.zeros(4), 1.0, seed=7) for _ in range(2))
    np.testing.assert_array_equal(first.vector, second.vector)


def test_lanczos_keeps_the_last_step_before_a_product_that_is_no_number(rng):
    H, g, calls = symmetric(rng, 9), rng.standard_normal(9), []

    def matvec(v):
        calls.append(v)
        return H @ v * (np.nan if len(calls) == 4 else 1.0)

    options = {"radius": 5.0, "rtol": 1e-9, "rng": np.random.default_rng(0)}
    step = lanczos_trust_region(matvec, g, max_iter=9, **options)
    good = lanczos(H, g, 5.0, max_iter=3)
    assert step.status == "inconsistent"
    assert step.inner_iterations == 4
    np.testing.assert_array_equal(step.vector, good.vector)
    assert step.model_decrease == good.model_decrease


def test_lanczos_without_products_takes_no_step():
    step = lanczos(np.eye(3), np.ones(3), 1.0, max_iter=0)
    np.testing.assert_array_equal(step.vector, 0.0)
    assert step[1:4] == (0.0, 0, "max_iter")


# Steihaug


def test_steihaug_far_from_the_sphere_is_conjugate_gradients(rng):
    H, g = spd(rng, 20, 1e3), rng.standard_normal(20)
    for options in ({"rtol": 1e-8, "max_iter": 99}, {"rtol": 0.0, "max_iter": 5}):
        plain = conjugate_gradient(lambda v: H @ v, g, **options)
        step = truncated(H, g, 1e6, **options)
        np.testing.assert_array_equal(step.vector, plain.vector)
        assert step[1:5] == plain[1:5]


def test_steihaug_that_is_exact_after_the_last_product_has_converged():
    H, g = 2.0 * np.eye(3), np.array([1.0, -2.0, 4.0])
    step = truncated(H, g, 100.0, rtol=0.0, max_iter=1)
    assert step.status == "converged"
    np.testing.assert_array_equal(step.vector, -g / 2.0)


@pytest.mark.parametrize("radius", [0.05, 1.0, 30.0])
def test_steihaug_falls_and_grows_at_every_product(rng, radius):
    for _ in range(20):
        H, g = spd(rng, 15, 1e3) - 0.02 * np.eye(15), rng.standard_normal(15)
        last = truncated(H, g, radius, rtol=1e-4)
        decrease = norm = 0.0
        for k in range(1, last.inner_iterations + 1):
            step = truncated(H, g, radius, rtol=1e-4, max_iter=k)
            assert step.model_decrease > decrease
            assert np.linalg.norm(step.vector) > norm
            decrease, norm = step.model_decrease, np.linalg.norm(step.vector)
            expected = naive.model_decrease(H, g, step.vector)
            assert decrease == pytest.approx(expected, rel=1e-9)
        assert decrease == last.model_decrease


@pytest.mark.parametrize("curvature", [2.0, 0.0, -1.0])
def test_first_iterate_of_steihaug_is_the_cauchy_point(rng, curvature):
    Q = np.linalg.qr(rng.standard_normal((5, 5)))[0]
    g = rng.standard_normal(5)
    H = (Q * [1.0, 2.0, 3.0, 4.0, 5.0]) @ Q.T
    H += (curvature - g @ H @ g / (g @ g)) * np.outer(g, g) / (g @ g)
    for radius in (0.1, 100.0):
        inner = np.linalg.norm(g) / curvature if curvature > 0.0 else np.inf
        length = min(radius, inner)
        step = truncated(H, g, radius, max_iter=1)
        cauchy = -length * g / np.linalg.norm(g)
        np.testing.assert_allclose(step.vector, cauchy, rtol=1e-9)


def test_steihaug_on_the_sphere_is_there_to_1e12():
    reached = 0
    for d in (1, 3, 8):
        H, g, radius, *_ = random_models(150, d, seed=6)
        for i in range(len(H)):
            step = truncated(H[i], g[i], radius[i])
            norm = np.linalg.norm(step.vector) / radius[i]
            assert norm <= 1.0 + 1e-12
            if step.status in ("boundary", "negative_curvature"):
                reached += 1
                assert norm == pytest.approx(1.0, abs=1e-12)
    assert reached > 100


def test_steihaug_reaches_half_of_the_best_decrease_of_convex_models():
    for d in (2, 5, 12):
        H, g, radius, spectrum, _ = random_models(150, d, seed=7, scales=2.0)
        for i in np.flatnonzero(np.isin(spectrum, ["definite", "singular"])):
            best = exact(H[i], g[i], radius[i]).model_decrease
            step = truncated(H[i], g[i], radius[i])
            assert 0.5 * best <= step.model_decrease <= best * (1.0 + 1e-9)


def test_steihaug_goes_to_the_sphere_along_negative_curvature():
    H, g = np.diag([1.0, 2.0, -0.1]), np.array([1.0, 1.0, 0.01])
    step = truncated(H, g, 50.0)
    assert step.status == "negative_curvature"
    s = naive.conjugate_gradient(H, g, step.inner_iterations - 1)[-1]
    along = step.vector - s
    assert along @ H @ along < 0.0
    assert np.linalg.norm(step.vector) == pytest.approx(50.0, rel=1e-13)
    expected = naive.model_decrease(H, g, step.vector)
    assert step.model_decrease == pytest.approx(expected, rel=1e-12)


def test_steihaug_sees_no_curvature_outside_the_space_of_the_gradient():
    step = truncated(np.diag([1.0, -1.0]), np.array([1.0, 0.0]), 10.0)
    assert step.status == "converged"
    np.testing.assert_array_equal(step.vector, [-1.0, 0.0])


@pytest.mark.parametrize(
    ("shift", "radius", "status"),
    [
        (0.0, 0.1, "boundary"),
        (0.0, 1e3, "converged"),
        (2.0, 1e3, "negative_curvature"),
    ],
)
def test_steihaug_makes_one_product_an_iteration(rng, shift, radius, status):
    H, g, calls = spd(rng, 9) - shift * np.eye(9), rng.standard_normal(9), []

    def matvec(v):
        calls.append(v)
        return H @ v

    step = steihaug(matvec, g, radius=radius, rtol=1e-8, max_iter=50)
    assert step.status == status
    assert step.inner_iterations == len(calls)


def test_multiplier_of_steihaug_minimizes_the_residual(rng):
    H, g = spd(rng, 9), rng.standard_normal(9)
    step = truncated(H, g, 0.1)
    assert step.status == "boundary"
    residual, s = H @ step.vector + g, step.vector
    assert step.multiplier == pytest.approx(-(s @ residual) / (s @ s), rel=1e-10)
    assert step.multiplier > 0.0


def test_steihaug_names_the_way_to_the_sphere_by_the_curvature():
    g = np.array([1.0, 0.0])
    step = truncated(0.1 * np.eye(2), g, 2.0)
    assert step.status == "boundary"
    assert step.multiplier == pytest.approx(0.4, rel=1e-14)
    step = truncated(np.zeros((2, 2)), g, 2.0)
    assert (step.status, step.multiplier) == ("negative_curvature", 0.5)


def test_steihaug_keeps_the_last_step_before_a_product_that_is_no_number(rng):
    H, g, calls = spd(rng, 9), rng.standard_normal(9), []

    def matvec(v):
        calls.append(v)
        return H @ v * (np.nan if len(calls) == 3 else 1.0)

    step = steihaug(matvec, g, radius=50.0, rtol=1e-9, max_iter=9)
    good = truncated(H, g, 50.0, max_iter=2)
    assert step.status == "inconsistent"
    assert step.inner_iterations == 3
    np.testing.assert_array_equal(step.vector, good.vector)
    assert step.model_decrease == good.model_decrease
