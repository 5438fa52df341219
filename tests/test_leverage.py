"""Leverage scores: identities of the exact ones, accuracy of the approximate ones."""

import math

import naive
import numpy as np
import pytest
import scipy.sparse as sp

from subsampled_newton import Columns, as_rows
from subsampled_newton.embeddings import RowSample, SparseSign
from subsampled_newton.leverage import coherence, leverage_scores, sketched_leverage

exact = pytest.mark.parametrize("method", ["qr", "cholesky"])


def coherent(n, d, rng, alone=2):
    """Gaussian rows, and as many columns as asked for that one row carries alone."""
    A = rng.standard_normal((n, d))
    A[:, d - alone :] = 0.0
    A[:alone, d - alone :] = 30.0 * np.eye(alone)
    return A


@exact
@pytest.mark.parametrize("l2", [0.0, 0.7])
def test_scores_equal_the_definition(rng, method, l2):
    A = rng.standard_normal((40, 5))
    np.testing.assert_allclose(
        leverage_scores(A, l2, method=method), naive.leverage_scores(A, l2), rtol=1e-11
    )


@exact
def test_scores_are_between_0_and_1_and_sum_to_the_rank(rng, method):
    A = rng.standard_normal((60, 7)) * rng.pareto(1.0, 60)[:, None]
    scores = leverage_scores(A, method=method)
    assert scores.min() >= 0.0
    assert scores.max() <= 1.0 + 1e-12
    assert scores.sum() == pytest.approx(7.0)


def test_scores_of_dependent_columns_sum_to_the_rank(rng):
    A = rng.standard_normal((60, 4))
    dependent = np.column_stack([A, A @ rng.standard_normal((4, 3)), np.zeros(60)])
    np.testing.assert_allclose(
        leverage_scores(dependent), leverage_scores(A), rtol=1e-9
    )
    with pytest.raises(np.linalg.LinAlgError):
        leverage_scores(dependent, method="cholesky")


def test_scores_of_a_wide_matrix_are_1(rng):
    np.testing.assert_allclose(leverage_scores(rng.standard_normal((4, 9))), 1.0)


@exact
def test_ridge_scores_sum_to_the_effective_dimension(rng, method):
    A = rng.standard_normal((50, 6))
    squares = np.linalg.svd(A, compute_uv=False) ** 2
    total = leverage_scores(A, 3.0, method=method).sum()
    assert total == pytest.approx(np.sum(squares / (squares + 3.0)))


@exact
def test_ridge_may_differ_between_columns(rng, method):
    A, l2 = rng.standard_normal((50, 3)), np.array([0.0, 1.0, 100.0])
    inverse = np.linalg.inv(A.T @ A + np.diag(l2))
    expected = np.einsum("ij,jk,ik->i", A, inverse, A)
    scores = leverage_scores(A, l2, method=method)
    np.testing.assert_allclose(scores, expected, rtol=1e-11)


def test_scores_do_not_change_with_the_basis(rng):
    A, M = rng.standard_normal((50, 4)), rng.standard_normal((4, 4))
    M *= 10.0 ** np.arange(-3, 5, 2)
    np.testing.assert_allclose(leverage_scores(A @ M), leverage_scores(A), rtol=1e-7)


def test_scores_do_not_change_with_the_units_of_columns(rng):
    A = rng.standard_normal((50, 4))
    scaled = A * 10.0 ** np.array([-30, 0, 5, 30])
    np.testing.assert_allclose(leverage_scores(scaled), leverage_scores(A), rtol=1e-11)


def test_two_cholesky_factorisations_are_as_good_as_qr_where_one_is_not(rng):
    A = rng.standard_normal((200, 6))
    A[:, 5] = A[:, 0] + 1e-6 * A[:, 5]
    reference = leverage_scores(A)
    np.testing.assert_allclose(
        leverage_scores(A, method="cholesky"), reference, atol=1e-9
    )
    W = np.linalg.inv(np.linalg.cholesky(A.T @ A).T)
    assert np.abs(((A @ W) ** 2).sum(axis=1) - reference).max() > 1e-7


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


@exact
def test_containers_and_columns_agree(rng, method):
    A = rng.standard_normal((3000, 5))  # several blocks of rows
    A[rng.random(A.shape) < 0.5] = 0.0
    columns = Columns(rng.random(5) + 0.5, rng.random(5), intercept=True)
    expected = leverage_scores(naive.transformed(A, columns.scale, columns.shift, True))
    for X in (A, np.asfortranarray(A), sp.csr_array(A)):
        rows = as_rows(X).with_columns(columns)
        scores = leverage_scores(rows, method=method)
        np.testing.assert_allclose(scores, expected, rtol=1e-10)
        assert rows.work.rows_read == 3000 * {"qr": 2, "cholesky": 3}[method]


@pytest.mark.parametrize("d", [5, 40])
@pytest.mark.parametrize("design", ["gaussian", "pareto", "coherent"])
def test_approximate_scores_are_within_a_quarter(rng, d, design):
    A = rng.standard_normal((4000, d))
    if design == "pareto":
        A *= (1 + rng.pareto(2.0, 4000))[:, None]
    if design == "coherent":
        A = coherent(4000, d, rng)
    ratio = leverage_scores(A, method="sketch", rng=rng) / leverage_scores(A)
    assert np.mean(np.abs(ratio - 1.0) < 0.25) >= 0.99
    assert np.median(ratio) == pytest.approx(1.0, abs=0.1)


def test_projection_of_many_columns_keeps_the_accuracy(rng):
    A = rng.standard_normal((6000, 280)) * (1 + rng.pareto(2.0, 6000))[:, None]
    ratio = leverage_scores(A, method="sketch", eps=0.5, rng=rng) / leverage_scores(A)
    assert np.mean(np.abs(ratio - 1.0) < 0.5) >= 0.99
    assert np.std(ratio) > 0.1  # 128 columns of 280


def test_a_smaller_eps_gives_more_accurate_scores(rng):
    A = rng.standard_normal((20_000, 5))
    errors = [
        np.quantile(
            np.abs(
                leverage_scores(A, method="sketch", eps=eps, rng=rng)
                / leverage_scores(A)
                - 1.0
            ),
            0.99,
        )
        for eps in (0.5, 0.05)
    ]
    assert errors[0] < 0.5
    assert errors[1] < 0.05


def test_size_of_the_sketch(rng, monkeypatch):
    def draw(n, size, rng):
        raise LookupError(size)

    monkeypatch.setattr(SparseSign, "draw", draw)
    size = 4 * 3 + 128  # columns; 2 (4 / eps)**2
    A = rng.standard_normal((2 * size + 1, 3))
    with pytest.raises(LookupError, match=f"^{size}$"):
        leverage_scores(A, method="sketch", eps=0.5, rng=rng)
    # Where a sketch would have as many rows as half of the data the scores are exact.
    scores = leverage_scores(A[1:], method="sketch", eps=0.5, rng=rng)
    np.testing.assert_allclose(scores, leverage_scores(A[1:]), rtol=1e-9)


def test_sketched_scores_of_scaled_rows(rng):
    A, scale = rng.standard_normal((1000, 3)), np.exp(rng.standard_normal(1000))
    scores = sketched_leverage(as_rows(A), np.zeros(3), rng, scale=scale)
    expected = leverage_scores(A * scale[:, None])
    np.testing.assert_allclose(scores, expected, rtol=1e-9)


def test_approximate_ridge_scores(rng):
    # A'A is about 3000 I: these weights divide the scores by ten.
    A, l2 = rng.standard_normal((3000, 6)), 27_000.0
    ratio = leverage_scores(A, l2, method="sketch", rng=rng) / leverage_scores(A, l2)
    assert np.mean(np.abs(ratio - 1.0) < 0.25) >= 0.99


def test_coherence_of_equal_and_of_lonely_rows(rng):
    even = coherence(leverage_scores(np.tile(np.eye(4), (25, 1))))
    assert even.rank == pytest.approx(4.0)
    assert even.coherence == pytest.approx(1.0)
    assert even.uniform_size == even.leverage_size
    alone = coherence(leverage_scores(coherent(100_000, 4, rng, alone=1)))
    assert alone.largest == pytest.approx(1.0)
    assert alone.coherence == pytest.approx(100_000 / 4)
    assert alone.uniform_size == 100_000
    assert alone.leverage_size == math.ceil(2 * 4 * (1 + 0.5 / 3) * math.log(80) / 0.25)
    none = coherence(np.zeros(10))
    assert (none.rank, none.coherence, none.leverage_size) == (0.0, 1.0, 1)


def test_samples_by_score_embed_where_uniform_ones_of_that_size_do_not(rng):
    A = coherent(4000, 6, rng)
    scores = leverage_scores(A)
    size = coherence(scores, eps=0.5, delta=0.1).leverage_size
    U = np.linalg.qr(A)[0]

    def distortion(weights):
        S = RowSample.draw(4000, size, rng, weights)
        return np.abs(np.linalg.svd(S @ U, compute_uv=False) ** 2 - 1.0).max()

    assert np.mean([distortion(scores) <= 0.5 for _ in range(50)]) >= 0.9
    assert np.mean([distortion(None) > 0.5 for _ in range(50)]) >= 0.9


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"l2": -1.0}, "l2 must be >= 0, a number or of shape"),
        ({"l2": math.inf}, "l2 must be >= 0.*got inf"),
        ({"l2": [1.0, 2.0]}, r"l2 must be >= 0, a number or of shape \(3,\)"),
        ({"method": "svd"}, "method must be one of .*got 'svd'"),
        ({"method": "sketch"}, "rng must be a numpy.random.Generator"),
    ],
)
def test_bad_arguments_are_named(rng, arguments, message):
    with pytest.raises(ValueError, match=message):
        leverage_scores(rng.standard_normal((9, 3)), **arguments)
    for eps in (1.0, 0.0, -0.5):
        with pytest.raises(
            ValueError, match=rf"eps must be a number in .0, 1., got {eps}"
        ):
            leverage_scores(np.eye(3), method="sketch", eps=eps, rng=rng)
