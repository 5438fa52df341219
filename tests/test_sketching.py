"""Leverage scores: identities of the exact ones, accuracy of the approximate ones."""

import math

import naive
import numpy as np
import pytest
import scipy.sparse as sp

from subsampled_newton.sketching import (
    approximate_leverage,
    count_sketch,
    leverage_scores,
    whitener,
)


def approximate(A, rng, l2=0.0):
    weights = np.broadcast_to(l2, A.shape[1])

    def projected_norms(M):
        return ((A @ M) ** 2).sum(axis=1)

    return approximate_leverage(lambda S: S @ A, projected_norms, len(A), weights, rng)


@pytest.mark.parametrize("l2", [0.0, 0.7])
def test_scores_equal_the_definition(rng, l2):
    A = rng.standard_normal((40, 5))
    np.testing.assert_allclose(
        leverage_scores(A, l2), naive.leverage_scores(A, l2), rtol=1e-11
    )


def test_scores_are_between_0_and_1_and_sum_to_the_rank(rng):
    A = rng.standard_normal((60, 7)) * rng.pareto(1.0, 60)[:, None]
    scores = leverage_scores(A)
    assert scores.min() >= 0.0
    assert scores.max() <= 1.0 + 1e-12
    assert scores.sum() == pytest.approx(7.0)


def test_scores_of_dependent_columns_sum_to_the_rank(rng):
    A = rng.standard_normal((60, 4))
    dependent = np.column_stack([A, A @ rng.standard_normal((4, 3)), np.zeros(60)])
    np.testing.assert_allclose(
        leverage_scores(dependent), leverage_scores(A), rtol=1e-9
    )


def test_scores_of_a_wide_matrix_are_1(rng):
    np.testing.assert_allclose(leverage_scores(rng.standard_normal((4, 9))), 1.0)


def test_ridge_scores_sum_to_the_effective_dimension(rng):
    A = rng.standard_normal((50, 6))
    squares = np.linalg.svd(A, compute_uv=False) ** 2
    total = leverage_scores(A, 3.0).sum()
    assert total == pytest.approx(np.sum(squares / (squares + 3.0)))


def test_ridge_may_differ_between_columns(rng):
    A, l2 = rng.standard_normal((50, 3)), np.array([0.0, 1.0, 100.0])
    inverse = np.linalg.inv(A.T @ A + np.diag(l2))
    expected = np.einsum("ij,jk,ik->i", A, inverse, A)
    np.testing.assert_allclose(leverage_scores(A, l2), expected, rtol=1e-11)


def test_scores_do_not_change_with_the_basis(rng):
    A, M = rng.standard_normal((50, 4)), rng.standard_normal((4, 4))
    M *= 10.0 ** np.arange(-3, 5, 2)
    np.testing.assert_allclose(leverage_scores(A @ M), leverage_scores(A), rtol=1e-7)


def test_duplicate_rows_share_their_score(rng):
    A = rng.standard_normal((30, 3))
    alone = leverage_scores(A)[0]
    k = 4
    scores = leverage_scores(np.vstack([np.repeat(A[:1], k, axis=0), A[1:]]))
    # k copies of a row are one row times sqrt(k).
    np.testing.assert_allclose(scores[:k], alone / (1 + (k - 1) * alone), rtol=1e-10)


def test_row_orthogonal_to_all_others_has_score_1(rng):
    A = np.zeros((20, 4))
    A[:-1, :3] = rng.standard_normal((19, 3))
    A[-1, 3] = 1e-3
    assert leverage_scores(A)[-1] == pytest.approx(1.0)


def test_scores_give_the_leave_one_out_residuals(rng):
    A, b = rng.standard_normal((15, 3)), rng.standard_normal(15)
    residuals = b - A @ np.linalg.lstsq(A, b)[0]
    kept = np.arange(15) != 6
    left_out = b[6] - A[6] @ np.linalg.lstsq(A[kept], b[kept])[0]
    assert residuals[6] / (1 - leverage_scores(A)[6]) == pytest.approx(left_out)


def test_whitener_makes_the_gram_matrix_a_projection(rng):
    F = rng.standard_normal((30, 4)) @ rng.standard_normal((4, 6))
    W = whitener(F)
    assert W.shape == (6, 4)
    np.testing.assert_allclose(W.T @ F.T @ F @ W, np.eye(4), atol=1e-10)
    assert whitener(np.zeros((5, 3))).shape == (3, 0)


@pytest.mark.parametrize("d", [5, 40])
def test_approximate_scores_are_within_a_constant_factor(rng, d):
    A = rng.standard_normal((4000, d)) * (1 + rng.pareto(2.0, 4000))[:, None]
    ratio = approximate(A, rng) / leverage_scores(A)
    assert np.mean((ratio > 1 / 3) & (ratio < 3)) >= 0.99
    assert np.median(ratio) == pytest.approx(1.0, abs=0.2)


@pytest.mark.parametrize("d", [6, 20])
def test_approximate_scores_rank_the_coherent_rows_first(rng, d):
    A = rng.standard_normal((2000, d))
    A[:, -2:] = 0.0
    coherent = [17, 901]
    A[coherent, [-2, -1]] = 0.5
    scores = approximate(A, rng)
    assert set(np.argsort(scores)[-2:]) == set(coherent)


def test_approximate_scores_take_the_ridge_into_account(rng):
    # A'A is about 3000 I: these weights divide the scores by ten.
    A = rng.standard_normal((3000, 6))
    l2 = np.full(6, 27_000.0)
    ratio = approximate(A, rng, l2) / leverage_scores(A, l2)
    assert np.mean((ratio > 1 / 3) & (ratio < 3)) >= 0.99


def test_approximate_scores_of_a_zero_matrix_are_0(rng):
    np.testing.assert_array_equal(approximate(np.zeros((30, 4)), rng), 0.0)


def test_approximate_scores_survive_dependent_columns(rng):
    A = rng.standard_normal((3000, 4))
    A = np.column_stack([A, A[:, :2] - A[:, 2:]])
    ratio = approximate(A, rng) / leverage_scores(A)
    assert np.mean((ratio > 1 / 3) & (ratio < 3)) >= 0.99


def test_count_sketch_has_one_sign_in_each_column(rng):
    S = count_sketch(500, 20, rng)
    assert sp.issparse(S)
    assert S.shape == (20, 500)
    np.testing.assert_array_equal(abs(S).sum(axis=0), 1.0)
    assert abs(S.sum()) < 5 * math.sqrt(500)
    assert np.all(abs(S).sum(axis=1) < 25 + 5 * 5)


def test_count_sketch_keeps_squared_norms_in_the_mean(rng):
    x = rng.standard_normal(50)
    x /= np.linalg.norm(x)
    norms = [np.sum((count_sketch(50, 10, rng) @ x) ** 2) for _ in range(2000)]
    assert abs(np.mean(norms) - 1.0) < 5 * np.std(norms) / math.sqrt(2000)


def test_count_sketch_is_reproducible():
    a = count_sketch(50, 10, np.random.default_rng(1))
    b = count_sketch(50, 10, np.random.default_rng(1))
    assert (a != b).nnz == 0
