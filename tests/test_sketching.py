"""Embeddings as operators, and the factor that whitens a sketch."""

import math
import pickle

import naive
import numpy as np
import pytest
import scipy.linalg
import scipy.sparse as sp
from scipy.sparse.linalg import aslinearoperator

from subsampled_newton import Columns, as_rows
from subsampled_newton._parallel import use_threads
from subsampled_newton.embeddings import (
    Gaussian,
    RowSample,
    SparseSign,
    SubsampledHadamard,
    identity,
)
from subsampled_newton.leverage import whitener


def signs(n, size, rng):
    return SparseSign.draw(n, size, rng, 1)


def by_score(n, size, rng):
    return RowSample.draw(n, size, rng, np.linspace(1.0, 3.0, n))


KINDS = {
    "sparse-sign": SparseSign.draw,
    "count-sketch": signs,
    "srht": SubsampledHadamard.draw,
    "gaussian": Gaussian.draw,
    "uniform": RowSample.draw,
    "weighted rows": by_score,
}
every_kind = pytest.mark.parametrize("draw", KINDS.values(), ids=KINDS)


def test_whitener_makes_the_gram_matrix_a_projection(rng):
    F = rng.standard_normal((30, 4)) @ rng.standard_normal((4, 6))
    W = whitener(F)
    assert W.shape == (6, 4)
    np.testing.assert_allclose(W.T @ F.T @ F @ W, np.eye(4), atol=1e-10)
    assert whitener(np.zeros((5, 3))).shape == (3, 0)
    # What is below the rounding of as many rows is no direction.
    Q = np.linalg.qr(rng.standard_normal((1000, 2)))[0]
    assert whitener(Q * [1.0, 5e-14]).shape == (2, 1)
    assert whitener(Q * [1.0, 1e-12]).shape == (2, 2)


# Embeddings as operators.


@every_kind
def test_squared_norms_are_kept_in_the_mean(draw, rng):
    n, size, draws = 50, 16, 1000
    x = rng.standard_normal(n)
    x /= np.linalg.norm(x)
    norms = [np.sum((draw(n, size, rng) @ x) ** 2) for _ in range(draws)]
    assert abs(np.mean(norms) - 1.0) < 5 * np.std(norms) / math.sqrt(draws)
    # A factor of sqrt(n / N) for the padding, say, would be seen: the test is sharp.
    assert 5 * np.std(norms) / math.sqrt(draws) < 0.2


@pytest.mark.parametrize("kind", ["sparse-sign", "count-sketch", "srht", "gaussian"])
@pytest.mark.parametrize(("d", "ratio"), [(5, 16), (20, 4), (20, 16)])
def test_distortion_of_a_subspace_is_the_root_of_d_over_s(kind, d, ratio, rng):
    U = np.linalg.qr(rng.standard_normal((1000, d)))[0]
    distortions = []
    for _ in range(10):
        s = np.linalg.svd(KINDS[kind](1000, ratio * d, rng) @ U, compute_uv=False)
        distortions.append(max(s[0] - 1.0, 1.0 - s[-1]))
    law = math.sqrt(1 / ratio)
    assert 0.6 * law < np.median(distortions) < 1.35 * law


@every_kind
@pytest.mark.parametrize("n", [37, 1100])
def test_products_are_those_of_one_matrix(draw, n, rng):
    S = draw(n, 24, rng)
    matrix = S @ np.eye(n)
    assert matrix.shape == S.shape
    A = rng.standard_normal((n, 19))  # more columns than a tile of the transform
    A[rng.random(A.shape) < 0.4] = 0.0
    scale, extra = rng.random(n), rng.standard_normal(n)
    columns = Columns(rng.random(19) + 0.5, rng.random(19), intercept=True)
    for X in (
        A,
        np.asfortranarray(A),
        sp.csr_array(A),
        A.astype(np.float32),
        A[:, ::-1],
    ):
        dense = X.toarray() if sp.issparse(X) else X.astype(float)
        np.testing.assert_allclose(S @ X, matrix @ dense, atol=1e-11)
        rows = as_rows(X).with_columns(columns)
        full = naive.transformed(dense, columns.scale, columns.shift, True)
        expected = matrix @ (scale[:, None] * np.column_stack([full, extra]))
        np.testing.assert_allclose(S.sketch(rows, scale, extra), expected, atol=1e-11)
        assert rows.work.rows_read in (n, np.count_nonzero(matrix.any(axis=0)))
    np.testing.assert_allclose(S @ extra, matrix @ extra, atol=1e-11)
    np.testing.assert_allclose(aslinearoperator(S) @ extra, matrix @ extra, atol=1e-11)


@pytest.mark.parametrize(("n", "size"), [(1, 1), (300, 512), (300, 20), (3000, 700)])
def test_hadamard_rows_equal_the_definition(n, size, rng):
    S = SubsampledHadamard.draw(n, size, rng)
    order = 2 ** math.ceil(math.log2(n))
    H = scipy.linalg.hadamard(order)[S.chosen, :n] / math.sqrt(order)
    expected = math.sqrt(order / size) * H * S.signs
    np.testing.assert_allclose(S @ np.eye(n), expected, atol=1e-12)
    assert len(np.unique(S.chosen)) == size


@pytest.mark.parametrize(("n_signs", "size"), [(1, 40), (8, 40), (8, 43), (8, 5)])
def test_sparse_signs_are_in_different_rows_of_a_column(n_signs, size, rng):
    S = SparseSign.draw(2000, size, rng, n_signs) @ np.eye(2000)
    count = min(n_signs, size)
    np.testing.assert_array_equal((S != 0.0).sum(axis=0), count)
    np.testing.assert_allclose(np.abs(S[S != 0.0]), 1 / math.sqrt(count))
    used = (S != 0.0).sum(axis=1)  # every row about as often as the others
    assert np.abs(used - 2000 * count / size).max() < 6 * math.sqrt(2000 * count / size)
    assert abs(np.sign(S).sum()) < 5 * math.sqrt(2000 * count)


def test_signs_of_a_hadamard_transform_and_of_blocks_are_not_correlated(rng):
    """Far rows of a coherent matrix stay apart: signs and streams do not repeat."""
    n = 5000
    x = np.zeros(n)
    x[[3, 1027, 4099]] = 1.0  # the same place in three blocks of 1024
    for kind in (Gaussian.draw, SubsampledHadamard.draw, SparseSign.draw):
        norms = [np.sum((kind(n, 64, rng) @ x) ** 2) for _ in range(30)]
        assert abs(np.mean(norms) - 3.0) < 5 * np.std(norms) / math.sqrt(30)
        assert np.std(norms) < 1.5


@every_kind
def test_bits_do_not_depend_on_threads(draw, rng):
    A = rng.standard_normal((60_000, 9))  # several blocks
    S = draw(60_000, 64, rng)
    results = []
    for n_jobs in (1, 2, 4):
        with use_threads(n_jobs):
            results.append(S @ A)
    assert np.array_equal(results[0], results[1])
    assert np.array_equal(results[0], results[2])


@every_kind
def test_embeddings_are_reproducible_and_can_be_pickled(draw):
    x = np.arange(90.0)
    first, again = (draw(90, 16, np.random.default_rng(1)) for _ in range(2))
    assert np.array_equal(first @ x, again @ x)
    assert np.array_equal(pickle.loads(pickle.dumps(first)) @ x, first @ x)
    assert not np.array_equal(draw(90, 16, np.random.default_rng(2)) @ x, first @ x)


def test_the_identity_keeps_all_rows(rng):
    A = rng.standard_normal((30, 3))
    np.testing.assert_allclose(identity(30) @ A, A, rtol=1e-15)


def test_rows_of_a_weighted_sample_are_divided_by_their_probability(rng):
    scores = np.array([1.0, 1.0, 1.0, 1000.0] * 25)
    S = RowSample.draw(100, 30, rng, scores) @ np.eye(100)
    factors = np.diag(S.T @ S)
    np.testing.assert_allclose(factors[3::4], 1.0, rtol=0.2)  # kept with certainty
    assert factors[factors > 0].max() > 10.0


def test_bad_embeddings_are_named(rng):
    with pytest.raises(ValueError, match="size must be an integer >= 1, got 0"):
        Gaussian.draw(10, 0, rng)
    with pytest.raises(ValueError, match=r"n must be an integer >= 1, got 2\.5"):
        SparseSign.draw(2.5, 4, rng)
    with pytest.raises(ValueError, match="size must be <= 16 for n = 10, got 17"):
        SubsampledHadamard.draw(10, 17, rng)
    with pytest.raises(ValueError, match=r"X must have 10 rows .* got 9"):
        Gaussian.draw(10, 4, rng) @ np.ones((9, 2))
