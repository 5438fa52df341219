"""The smallest eigenvalue by Lanczos' method, and the basis that it builds."""

import math

import numpy as np
import pytest

from subsampled_newton.subproblems._krylov import Krylov
from subsampled_newton.subproblems.lanczos import smallest_eigenvalue


def diagonal(values):
    return lambda v: values * v


@pytest.mark.parametrize("norm_bound", [1.0, None])
def test_planted_negative_eigenvalue_is_found_with_the_stated_probability(norm_bound):
    # A spectrum that fills [0, 1], where the bottom is hard to see.
    tol, delta = 0.01, 0.1
    values = np.append(np.linspace(0.0, 1.0, 299), -tol)
    rng = np.random.default_rng(1)
    found = products = 0
    for _ in range(200):
        result = smallest_eigenvalue(
            diagonal(values), 300, tol=tol, delta=delta, rng=rng, norm_bound=norm_bound
        )
        found += result.value <= -tol / 2.0
        products += result.n_products
    assert found >= 200 * (1.0 - delta)
    assert products <= 200 * 75


def test_a_quarter_of_the_products_would_miss_it():
    # The test above can fail: what the formula asks for is needed.
    tol = 0.01
    values = np.append(np.linspace(0.0, 1.0, 299), -tol)
    rng = np.random.default_rng(1)
    found = 0
    for _ in range(50):
        result = smallest_eigenvalue(
            diagonal(values), 300, tol=tol, delta=0.1, rng=rng, norm_bound=1.0 / 16.0
        )
        found += result.value <= -tol / 2.0
    assert found < 40


@pytest.mark.parametrize("d", [50, 1000])
@pytest.mark.parametrize(("tol", "delta", "norm"), [(0.1, 0.01, 2.0), (1.0, 0.3, 1.0)])
def test_number_of_products_is_that_of_the_lemma(rng, d, tol, delta, norm):
    values = rng.uniform(-norm, norm, d)
    result = smallest_eigenvalue(
        diagonal(values), d, tol=tol, delta=delta, rng=rng, norm_bound=norm
    )
    steps = math.ceil(0.5 * math.log(2.75 * d / delta**2) * math.sqrt(norm / tol))
    assert result.n_products == min(d, 1 + steps)


def test_without_a_bound_the_norm_is_seen_in_time(rng):
    for _ in range(20):
        values = np.sort(rng.standard_normal(400))
        with_bound, without = (
            smallest_eigenvalue(
                diagonal(values), 400, tol=0.1, delta=0.01, rng=rng, norm_bound=bound
            ).n_products
            for bound in (np.abs(values).max(), None)
        )
        assert with_bound <= without <= 1.5 * with_bound


def test_value_is_the_curvature_along_the_direction(rng):
    A = rng.standard_normal((30, 30))
    H = A + A.T
    result = smallest_eigenvalue(lambda v: H @ v, 30, tol=3.0, delta=0.1, rng=rng)
    v = result.direction
    assert np.linalg.norm(v) == pytest.approx(1.0, rel=1e-14)
    assert v @ H @ v == pytest.approx(result.value, rel=1e-12)
    assert result.value >= np.linalg.eigvalsh(H)[0] - 1e-12


@pytest.mark.parametrize("d", [1, 2, 30])
def test_with_d_products_it_is_exact(rng, d):
    A = rng.standard_normal((d, d))
    H = A + A.T
    result = smallest_eigenvalue(lambda v: H @ v, d, tol=1e-8, delta=0.1, rng=rng)
    assert result.n_products == d
    assert result.value == pytest.approx(np.linalg.eigvalsh(H)[0], rel=1e-12)


def test_exhausted_space_ends_the_search_with_the_exact_value(rng):
    values = np.repeat([3.0, -1.0, 2.0], 40)
    result = smallest_eigenvalue(diagonal(values), 120, tol=1e-6, delta=0.1, rng=rng)
    assert result.n_products == 3
    assert result.value == pytest.approx(-1.0, rel=1e-12)


def test_zero_matrix_has_the_eigenvalue_zero(rng):
    result = smallest_eigenvalue(np.zeros_like, 10, tol=0.1, delta=0.1, rng=rng)
    assert result.value == 0.0
    assert result.n_products == 1


def test_product_that_is_no_number_gives_none(rng):
    result = smallest_eigenvalue(lambda v: v * np.nan, 10, tol=0.1, delta=0.1, rng=rng)
    assert np.isnan(result.value)
    assert np.all(np.isnan(result.direction))
    assert result.n_products == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tol": 0.0, "delta": 0.1}, "tol must be > 0 and finite, got 0"),
        ({"tol": 0.1, "delta": 0.0}, r"delta must be in \(0, 1\), got 0.0"),
        ({"tol": 0.1, "delta": 1.0}, r"delta must be in \(0, 1\), got 1.0"),
    ],
)
def test_bad_parameters_are_refused(rng, options, message):
    with pytest.raises(ValueError, match=message):
        smallest_eigenvalue(np.copy, 5, rng=rng, **options)


def test_krylov_vectors_stay_orthonormal_and_make_the_matrix_tridiagonal(rng):
    # Without re-orthogonalisation they would not: the top Ritz values converge early.
    values = np.append(rng.uniform(0.0, 1.0, 195), [10.0, 20.0, 30.0, 40.0, 50.0])
    space = Krylov(diagonal(values), rng.standard_normal(200), 80)
    while space.size < 80:
        assert space.extend()
    Q = space.vectors
    np.testing.assert_allclose(Q @ Q.T, np.eye(80), atol=1e-13)
    T = np.diag(space.diagonal)
    T += np.diag(space.beta[:-1], 1) + np.diag(space.beta[:-1], -1)
    np.testing.assert_allclose((Q * values) @ Q.T, T, atol=1e-12)
    rows = np.abs(T).sum(axis=1)
    rows[-1] += space.beta[-1]
    assert space.norm == pytest.approx(rows.max(), rel=1e-14)
    rest = Q * values - T @ Q
    np.testing.assert_allclose(rest[:-1], 0.0, atol=1e-12)
    np.testing.assert_allclose(rest[-1], space.beta[-1] * space.following, atol=1e-12)


def test_restarted_krylov_space_covers_everything(rng):
    values = np.repeat([3.0, -1.0], 4)
    space = Krylov(diagonal(values), rng.standard_normal(8), 8, rng)
    while space.size < 8:
        assert space.extend()
    np.testing.assert_allclose(space.vectors @ space.vectors.T, np.eye(8), atol=1e-13)
    np.testing.assert_allclose(space.ritz()[0], np.sort(values), rtol=1e-13)
