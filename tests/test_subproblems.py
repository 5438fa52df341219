"""Newton's step and conjugate gradients against direct solutions."""

import naive
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from subsampled_newton.subproblems.conjugate_gradient import conjugate_gradient
from subsampled_newton.subproblems.newton import bfgs_update, newton_step


def spd(rng, d, condition=100.0):
    Q = np.linalg.qr(rng.standard_normal((d, d)))[0]
    return (Q * np.geomspace(1.0, condition, d)) @ Q.T


def products(H):
    return lambda v: H @ v


# Newton's step


@pytest.mark.parametrize("d", [1, 2, 5, 30])
def test_newton_step_solves_the_system(rng, d):
    H, g = spd(rng, d), rng.standard_normal(d)
    step = newton_step(H, g)
    np.testing.assert_allclose(step.vector, np.linalg.solve(H, -g), rtol=1e-10)
    assert step.status == "converged"
    assert step.inner_iterations == 0


def test_newton_step_reports_its_exact_decrease(rng):
    H, g = spd(rng, 6), rng.standard_normal(6)
    step = newton_step(H, g)
    expected = naive.model_decrease(H, g, step.vector)
    assert step.model_decrease == pytest.approx(expected, rel=1e-10)


def test_newton_step_reads_the_lower_half_only_and_changes_nothing(rng):
    H, g = spd(rng, 5), rng.standard_normal(5)
    half = np.where(np.tri(5, dtype=bool), H, np.nan)
    kept = half.copy(), g.copy()
    np.testing.assert_allclose(newton_step(half, g).vector, np.linalg.solve(H, -g))
    np.testing.assert_array_equal(half, kept[0])
    np.testing.assert_array_equal(g, kept[1])
    singular = np.eye(5) - 0.2
    half, g = np.where(np.tri(5, dtype=bool), singular, np.nan), singular[0]
    np.testing.assert_allclose(newton_step(half, g).vector, -g, atol=1e-14)


@pytest.mark.parametrize(
    "exponents", [(-150, 150), (150, -150), (-150, -140), (0, 150), (-8, 8)]
)
def test_newton_step_does_not_depend_on_the_size_of_columns(rng, exponents):
    H, g = spd(rng, 4), rng.standard_normal(4)
    scale = 10.0 ** np.linspace(*exponents, 4)
    step = newton_step(H * scale * scale[:, None], g * scale)
    assert step.status == "converged"
    np.testing.assert_allclose(
        step.vector * scale, newton_step(H, g).vector, rtol=1e-11
    )


def test_singular_consistent_system_gives_the_smallest_step(rng):
    # The vertices of a simplex: equal diagonal, rank d - 1.
    H = np.eye(4) - 0.25
    g = H @ rng.standard_normal(4)
    step = newton_step(H, g)
    np.testing.assert_allclose(step.vector, -np.linalg.pinv(H) @ g, atol=1e-14)
    assert step.status == "singular"


def test_step_of_a_model_of_rank_one_is_shared_equally(rng):
    # In the norm of the diagonal a_j**2 the smallest s with a's = -3: no direction of
    # rounding curvature has a part in it.
    for _ in range(20):
        a = rng.standard_normal(6)
        step = newton_step(np.outer(a, a), 3.0 * a)
        assert step.status == "singular"
        np.testing.assert_allclose(step.vector * a, -0.5, rtol=1e-12)


def test_step_of_a_singular_system_does_not_depend_on_the_size_of_columns():
    # Of all minimizers the smallest in the norm of the diagonal of H, which is the
    # smallest one (the pseudo-inverse) for columns of equal size.
    scale = np.array([1.0, 3.0, 1e-60, 1e60])
    H = np.eye(4) - 0.25
    g = H @ np.array([1.0, -1.0, 2.0, 0.5])
    step = newton_step(H * scale * scale[:, None], g * scale)
    assert step.status == "singular"
    np.testing.assert_allclose(step.vector * scale, -np.linalg.pinv(H) @ g, atol=1e-14)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10**6), rank=st.integers(1, 5))
def test_step_of_a_singular_system_minimizes_the_model(seed, rank):
    rng = np.random.default_rng(seed)
    A = rng.standard_normal((rank, 6)) * 10.0 ** rng.uniform(-2, 2, 6)
    H = A.T @ A
    g = A.T @ rng.standard_normal(rank)
    step = newton_step(H, g)
    assert step.status == "singular"
    scale = np.sqrt(np.diag(H))
    np.testing.assert_allclose((H @ step.vector + g) / scale, 0.0, atol=1e-7)
    expected = naive.model_decrease(H, g, step.vector)
    assert step.model_decrease == pytest.approx(expected, rel=1e-7)


def test_zero_column_gets_no_step():
    H = np.diag([2.0, 0.0, 4.0])
    step = newton_step(H, np.array([1.0, 0.0, 1.0]))
    np.testing.assert_allclose(step.vector, [-0.5, 0.0, -0.25], atol=1e-15)
    assert step.status == "singular"


def test_zero_matrix_gives_a_zero_step():
    step = newton_step(np.zeros((2, 2)), np.array([1.0, 2.0]))
    np.testing.assert_array_equal(step.vector, 0.0)


@pytest.mark.parametrize("d", [3, 60])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_matrix_that_is_not_finite_gives_no_direction_and_no_error(rng, bad, d):
    H = spd(rng, d)
    H[1, 1] = bad
    with np.errstate(all="ignore"):
        step = newton_step(H, np.ones(d))
    assert not step.vector.sum() < 0.0


# BFGS


def test_bfgs_update_maps_the_step_to_the_change_of_the_gradient(rng):
    H, s = spd(rng, 5), rng.standard_normal(5)
    y = spd(rng, 5) @ s
    updated = bfgs_update(H, s, y)
    np.testing.assert_allclose(updated @ s, y, rtol=1e-10)
    np.testing.assert_allclose(updated, updated.T, rtol=1e-12)
    assert np.linalg.eigvalsh(updated)[0] > 0.0


def test_bfgs_update_changes_nothing_across_the_step(rng):
    # Along v with s'Hv = y'v = 0 both matrices give the same product.
    H, s = spd(rng, 6), rng.standard_normal(6)
    y = spd(rng, 6) @ s
    v = np.linalg.svd(np.array([H @ s, y]))[2][3]
    np.testing.assert_allclose(bfgs_update(H, s, y) @ v, H @ v, rtol=1e-9)


@pytest.mark.parametrize("unit", [1e-9, 1e9])
def test_bfgs_update_does_not_depend_on_the_length_of_the_step(rng, unit):
    H, s = spd(rng, 5), rng.standard_normal(5)
    y = spd(rng, 5) @ s
    updated = bfgs_update(H, unit * s, unit * y)
    np.testing.assert_allclose(updated, bfgs_update(H, s, y), rtol=1e-10)


@pytest.mark.parametrize("curvature", [0.0, -0.5, -2.0])
def test_bfgs_pair_along_which_the_matrix_has_no_curvature_is_left_out(curvature):
    H, s = np.diag([curvature, 1.0]), np.array([1.0, 0.0])
    np.testing.assert_array_equal(bfgs_update(H, s, s), H)


@pytest.mark.parametrize("factor", [0.0, -1.0, np.nan])
def test_bfgs_pair_without_positive_curvature_is_left_out(rng, factor):
    H, s = spd(rng, 4), rng.standard_normal(4)
    np.testing.assert_array_equal(bfgs_update(H, s, factor * s), H)


# Conjugate gradients


@pytest.mark.parametrize("d", [1, 2, 5, 30])
def test_cg_equals_the_direct_solution(rng, d):
    H, g = spd(rng, d), rng.standard_normal(d)
    step = conjugate_gradient(products(H), g, rtol=1e-12, max_iter=5 * d)
    assert step.status == "converged"
    np.testing.assert_allclose(step.vector, np.linalg.solve(H, -g), rtol=1e-9)


@pytest.mark.parametrize("k", [1, 2, 3, 4])
def test_cg_equals_the_textbook_iterates(rng, k):
    H, g = spd(rng, 8), rng.standard_normal(8)
    step = conjugate_gradient(products(H), g, rtol=1e-15, max_iter=k)
    expected = naive.conjugate_gradient(H, g, k)[-1]
    np.testing.assert_allclose(step.vector, expected, rtol=1e-10)
    assert step.status == "max_iter"
    assert step.inner_iterations == k


@pytest.mark.parametrize("rtol", [0.5, 0.1, 1e-3, 1e-6])
def test_cg_stops_at_the_first_small_residual(rng, rtol):
    H, g = spd(rng, 20, 1e3), rng.standard_normal(20)
    step = conjugate_gradient(products(H), g, rtol=rtol, max_iter=200)

    def residual(s):
        return np.linalg.norm(H @ s + g) / np.linalg.norm(g)

    before = naive.conjugate_gradient(H, g, step.inner_iterations)[-2]
    assert residual(step.vector) <= rtol * (1 + 1e-8)
    assert residual(before) > rtol


def test_cg_reaches_the_number_of_distinct_eigenvalues_only(rng):
    Q = np.linalg.qr(rng.standard_normal((12, 12)))[0]
    H = (Q * np.repeat([1.0, 5.0, 30.0], 4)) @ Q.T
    step = conjugate_gradient(products(H), Q.sum(axis=1), rtol=1e-9, max_iter=50)
    assert step.inner_iterations == 3


def test_cg_decreases_the_model_in_each_step_and_reports_it_exactly(rng):
    H, g = spd(rng, 15, 1e3), rng.standard_normal(15)
    previous = 0.0
    for k in range(1, 12):
        step = conjugate_gradient(products(H), g, rtol=0.0, max_iter=k)
        expected = naive.model_decrease(H, g, step.vector)
        assert step.model_decrease == pytest.approx(expected, rel=1e-9)
        assert step.model_decrease > previous
        previous = step.model_decrease


@settings(max_examples=60, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10**6), k=st.integers(1, 8))
def test_every_cg_iterate_satisfies_the_angle_condition_with_equality(seed, k):
    rng = np.random.default_rng(seed)
    H, g = spd(rng, 9), rng.standard_normal(9)
    s = conjugate_gradient(products(H), g, rtol=0.0, max_iter=k).vector
    assert g @ s == pytest.approx(-(s @ H @ s), rel=1e-8)


def test_cg_counts_one_product_for_each_iteration(rng):
    H, calls = spd(rng, 7), []

    def matvec(v):
        calls.append(v)
        return H @ v

    step = conjugate_gradient(matvec, np.ones(7), rtol=1e-8, max_iter=30)
    assert step.inner_iterations == len(calls)


def test_cg_does_not_change_the_gradient(rng):
    H, g = spd(rng, 7), rng.standard_normal(7)
    kept = g.copy()
    conjugate_gradient(products(H), g, rtol=1e-8, max_iter=30)
    np.testing.assert_array_equal(g, kept)


def test_cg_at_a_stationary_point_takes_no_step():
    step = conjugate_gradient(products(np.eye(3)), np.zeros(3), rtol=0.1, max_iter=5)
    np.testing.assert_array_equal(step.vector, 0.0)
    assert step[1:4] == (0.0, 0, "converged")


def test_cg_that_is_exact_after_the_last_product_has_converged():
    H, g = 2.0 * np.eye(3), np.array([1.0, -2.0, 4.0])
    step = conjugate_gradient(products(H), g, rtol=0.0, max_iter=1)
    assert step.status == "converged"
    np.testing.assert_array_equal(step.vector, -g / 2.0)


def test_cg_leaves_at_negative_curvature_with_the_step_so_far():
    H, g = np.diag([1.0, 2.0, -0.1]), np.array([1.0, 1.0, 0.01])
    step = conjugate_gradient(products(H), g, rtol=1e-12, max_iter=10)
    assert step.status == "negative_curvature"
    expected = naive.conjugate_gradient(H, g, step.inner_iterations - 1)[-1]
    np.testing.assert_allclose(step.vector, expected, rtol=1e-10)
    decrease = naive.model_decrease(H, g, step.vector)
    assert step.model_decrease == pytest.approx(decrease, rel=1e-12)


@pytest.mark.parametrize("curvature", [-3.0, 0.0])
def test_first_direction_without_positive_curvature_is_the_gradient_step(curvature):
    H, g = curvature * np.eye(2), np.array([3.0, -4.0])
    step = conjugate_gradient(products(H), g, rtol=0.1, max_iter=10)
    assert step.status == "negative_curvature"
    np.testing.assert_array_equal(step.vector, -g)


@pytest.mark.parametrize("curvature", [-3.0, 0.0])
def test_decrease_of_the_gradient_step_is_exact(curvature):
    H, g = curvature * np.eye(2), np.array([3.0, -4.0])
    step = conjugate_gradient(products(H), g, rtol=0.1, max_iter=10)
    expected = naive.model_decrease(H, g, step.vector)
    assert step.model_decrease == pytest.approx(expected)


def test_nan_product_ends_cg_without_a_nan_step():
    step = conjugate_gradient(lambda v: v * np.nan, np.ones(2), rtol=0.1, max_iter=10)
    assert step.status == "negative_curvature"
    assert np.all(np.isfinite(step.vector))


@pytest.mark.parametrize("factor", [1e-120, 1e120])
def test_cg_does_not_depend_on_the_size_of_the_gradient(rng, factor):
    H, g = spd(rng, 6), rng.standard_normal(6)
    step = conjugate_gradient(products(H), g * factor, rtol=1e-10, max_iter=50)
    np.testing.assert_allclose(step.vector / factor, np.linalg.solve(H, -g), rtol=1e-7)


@pytest.mark.parametrize("k", [1, 3, 5])
def test_preconditioned_cg_is_cg_in_scaled_variables(rng, k):
    H, g = spd(rng, 7), rng.standard_normal(7)
    scale = 10.0 ** rng.uniform(-3, 3, 7)
    skewed, target = H * scale * scale[:, None], g * scale
    step = conjugate_gradient(
        products(skewed), target, rtol=0.0, max_iter=k, diagonal=scale**2
    )
    expected = naive.conjugate_gradient(H, g, k)[-1]
    np.testing.assert_allclose(step.vector * scale, expected, rtol=1e-9)
    decrease = naive.model_decrease(H, g, expected)
    assert step.model_decrease == pytest.approx(decrease, rel=1e-9)


def test_preconditioned_cg_stops_by_the_residual_itself(rng):
    H, g = spd(rng, 12), rng.standard_normal(12)
    scale = 10.0 ** rng.uniform(-3, 3, 12)
    H, g = H * scale * scale[:, None], g * scale
    options = {"max_iter": 200, "diagonal": np.diag(H).copy()}
    step = conjugate_gradient(products(H), g, rtol=1e-3, **options)

    def residual(s):
        return np.linalg.norm(H @ s + g) / np.linalg.norm(g)

    assert step.status == "converged"
    assert residual(step.vector) <= 1e-3 * (1 + 1e-8)
    options["max_iter"] = step.inner_iterations - 1
    before = conjugate_gradient(products(H), g, rtol=1e-3, **options)
    assert before.status == "max_iter"
    assert residual(before.vector) > 1e-3


def test_preconditioned_direction_without_positive_curvature(rng):
    H, g, diagonal = -np.eye(2), np.array([3.0, -4.0]), np.array([1.0, 4.0])
    step = conjugate_gradient(products(H), g, rtol=0.1, max_iter=9, diagonal=diagonal)
    np.testing.assert_array_equal(step.vector, -g / diagonal)
    assert step.model_decrease == pytest.approx(naive.model_decrease(H, g, step.vector))


def test_gradient_outside_the_range_of_a_singular_matrix_is_called_inconsistent():
    H = np.diag([2.0, 0.0])
    assert newton_step(H, np.array([1.0, 0.0])).status == "singular"
    step = newton_step(H, np.array([1.0, 1.0]))
    assert step.status == "inconsistent"
    np.testing.assert_allclose(step.vector, [-0.5, 0.0])


@pytest.mark.parametrize("kappa", [1.0, 1e2, 1e6])
@pytest.mark.parametrize("scaled", [False, True])
def test_forcing_bounds_the_error_of_the_step_at_any_condition(kappa, scaled, rng):
    """At most ``forcing * rtol`` of the step, in the norm of H."""
    d = 30
    Q = np.linalg.qr(rng.standard_normal((d, d)))[0]
    H = (Q * np.geomspace(1.0, 1.0 / kappa, d)) @ Q.T
    g, diagonal = Q @ np.geomspace(1.0, kappa**-0.5, d), None
    if scaled:
        units = np.geomspace(1e-3, 1e3, d)
        H, g = H * units * units[:, None], g * units
        diagonal = np.diag(H)
    exact = -np.linalg.solve(H, g)

    def error(**options):
        step = conjugate_gradient(
            products(H), g, rtol=0.1, max_iter=500, diagonal=diagonal, **options
        )
        assert step.status == "converged"
        e = step.vector - exact
        return np.sqrt(e @ H @ e / (exact @ H @ exact)), step.inner_iterations

    assert error(forcing=3.0)[0] <= 0.3
    assert error(forcing=0.3)[0] <= 0.03
    assert error(forcing=0.3)[1] > error(forcing=3.0)[1] or kappa == 1.0
    if kappa == 1e6:
        assert error()[0] > 0.3 or scaled  # a fixed tolerance does not do it


def test_forcing_where_there_is_nothing_to_solve():
    options = {"rtol": 0.1, "max_iter": 5, "forcing": 1.0}
    step = conjugate_gradient(products(np.eye(3)), np.zeros(3), **options)
    assert (step.status, step.inner_iterations) == ("converged", 0)
    step = conjugate_gradient(products(np.eye(3)), np.ones(3), **options)
    assert (step.status, step.inner_iterations) == ("converged", 1)
    np.testing.assert_array_equal(step.vector, -np.ones(3))
