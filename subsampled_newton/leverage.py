"""Leverage scores of the rows of a matrix: exact, approximate, and what they tell."""

from __future__ import annotations

import math
from typing import Any, Literal, NamedTuple

import numpy as np
import scipy.linalg
from numpy.typing import ArrayLike, NDArray

from subsampled_newton import _memory, _parallel
from subsampled_newton.data import Rows, as_rows
from subsampled_newton.embeddings import SparseSign, dense_block, identity
from subsampled_newton.factor import cholesky_qr, triangular_factor
from subsampled_newton.kernels.rows import ROW_MAJOR
from subsampled_newton.kernels.sketch import scatter
from subsampled_newton.parameters import check_number, check_one_of, real_array, shown
from subsampled_newton.sampling import leverage_sample_size

__all__ = [
    "Coherence",
    "block_leverage",
    "coherence",
    "leverage_scores",
    "sketched_leverage",
    "whitener",
]

Array = NDArray[np.float64]
CHUNK_ELEMENTS = 1 << 19
"""Numbers of a block of rows in work: 4 MB."""
METHODS = ("qr", "cholesky", "sketch")


def leverage_scores(
    X: Any,
    l2: ArrayLike = 0.0,
    *,
    method: Literal["qr", "cholesky", "sketch"] = "qr",
    eps: float = 0.25,
    rng: np.random.Generator | None = None,
) -> Array:
    """Ridge leverage scores ``x_i' (X'X + diag(l2))^+ x_i`` of the rows of X.

    Each is in [0, 1]; they sum to the rank of X, or with a ridge to its effective
    dimension. ``1 - score`` is what is left of a residual when its row is fitted, too.

    Parameters
    ----------
    X : array-like, sparse matrix or Rows of shape (n, d)
        Not modified, not copied.
    l2 : float or array-like of shape (d,), default 0
        Ridge weights.
    method : {"qr", "cholesky", "sketch"}, default "qr"
        ``"qr"``: Householder QR by blocks of rows, then one more read for the scores;
        dependent columns are found by the singular values of R. ``"cholesky"``:
        CholeskyQR2, three reads of matrix products only, for condition numbers up to
        1e7. ``"sketch"``: approximate scores [1]_, two reads.
    eps : float in (0, 1), default 0.25
        Relative error of the approximate scores, for 99 % of the rows: about
        ``32 / eps**2`` more rows than columns in the sketch, and at most so many
        columns in the projection of the scores.
    rng : numpy.random.Generator, optional
        For the sketch, which needs one.

    Returns
    -------
    ndarray of shape (n,)

    Raises
    ------
    ValueError
        If an argument is not allowed.
    numpy.linalg.LinAlgError
        By ``"cholesky"``, if the columns are dependent or nearly so.

    References
    ----------
    .. [1] Drineas, Magdon-Ismail, Mahoney, Woodruff, Fast approximation of matrix
       coherence and statistical leverage, JMLR 2012, Algorithm 1.

    Examples
    --------
    >>> import numpy as np
    >>> from subsampled_newton.leverage import leverage_scores
    >>> leverage_scores(np.array([[3.0, 0.0], [0.0, 1.0], [0.0, 1.0]])).round(12)
    array([1. , 0.5, 0.5])
    """
    rows = as_rows(X)
    d = rows.n_params
    what = f"be >= 0, a number or of shape ({d},)"
    ridge: Array = real_array("l2", l2, what=what).astype(np.float64)
    if ridge.shape not in ((), (d,)) or not np.all((ridge >= 0.0) & (ridge < np.inf)):
        raise ValueError(f"l2 must {what}, got {shown(l2)}")
    ridge = np.broadcast_to(ridge, (d,))
    check_one_of("method", method, METHODS)
    check_number("eps", eps, "in (0, 1)")
    if rng is not None and not isinstance(rng, np.random.Generator):
        raise TypeError(f"rng must be a numpy.random.Generator, got {shown(rng)}")
    if method == "qr":
        return rows.projected_norms(_whitener(triangular_factor(rows), ridge))
    if method == "cholesky":
        R = cholesky_qr(rows, ridge)
        return rows.projected_norms(scipy.linalg.lapack.dtrtri(R)[0])
    if rng is None:
        raise ValueError(
            "rng must be a numpy.random.Generator for method='sketch', got None"
        )
    return sketched_leverage(rows, ridge, rng, eps=eps)


def sketched_leverage(
    rows: Rows,
    l2: Array,
    rng: np.random.Generator,
    *,
    scale: Array | None = None,
    eps: float = 0.25,
    sketch_size: int | None = None,
) -> Array:
    """Approximate leverage scores of the rows of ``diag(scale) X``.

    Algorithm 1 of Drineas et al. (see `leverage_scores`). Differs from the paper in the
    sketch, eight signs a row and by default ``4 d + 2 (4 / eps)**2`` rows of it, and in
    the division by the mean of the error: a score from a Gaussian sketch of s rows is
    the true one times ``s / chi**2`` with ``s - d`` degrees of freedom, and a
    projection to r columns multiplies by ``chi**2 / r`` with r degrees. ``2 (4 /
    eps)**2`` degrees leave room for what rows of like direction have in common.
    """
    n, d = rows.n_rows, rows.n_params
    degrees = math.ceil(32.0 / eps**2)
    size = sketch_size or 4 * d + degrees
    S = identity(n) if 2 * size >= n else SparseSign.draw(n, size, rng)
    F = S.sketch(rows, scale)
    if not np.all(np.isfinite(F)):
        return np.full(n, math.nan)
    W = _whitener(F, l2)
    if 2 * size < n:  # F'F is a mean over draws, its inverse is not
        effective_dim = float(np.linalg.norm(F @ W)) ** 2
        W = W * math.sqrt(1.0 - (effective_dim + 1.0) / size)
    if W.shape[1] > 2 * degrees:  # otherwise a projection saves less than it blurs
        W = W @ (rng.standard_normal((W.shape[1], degrees)) / math.sqrt(degrees))
    scores = rows.projected_norms(W)
    return scores if scale is None else scores * scale**2


def block_leverage(
    rows: Rows,
    P: Array,
    weights: Array,
    B: Array,
    l2: Array,
    rng: np.random.Generator,
    *,
    eps: float = 0.5,
    sketch_size: int | None = None,
) -> Array:
    """Approximate block partial leverage scores of the rows of a softmax model.

    The Hessian is ``sum_i A_i'A_i + diag(l2)``, where the block ``A_i`` of row i holds
    ``sqrt(weights_i p_ik) (B'(e_k - p_i)) (x) x_i`` for every class k. Its score is the
    sum of the leverage scores of its K rows, the trace of ``A_i H**-1 A_i'`` [1]_.

    As in the paper: a CountSketch of 20 rows a parameter, at most 10,000, and a
    Gaussian projection. Differs from the paper in the ridge, which is added to the
    sketch and not hashed with it; in at least 4 rows a parameter; and in the columns
    of the projection, ``2 (4 / eps)**2`` in place of half of the parameters. Two reads
    of the rows. Exact where the sketch would have half as many rows as the blocks.

    Parameters
    ----------
    rows : Rows
        The matrix X.
    P : ndarray of shape (K, n)
        Probabilities.
    weights : ndarray of shape (n,)
        Weights of the rows in the Hessian.
    B : ndarray of shape (K, m)
        Basis of the parameters.
    l2 : ndarray of shape (m d,)
        Ridge weights.
    rng : numpy.random.Generator
        For sketch and projection.
    eps : float, default 0.5
        Relative error that the projection leaves.
    sketch_size : int, optional
        Rows of the sketch.

    References
    ----------
    .. [1] Xu, Yang, Roosta-Khorasani, Re, Mahoney, Sub-sampled Newton methods with
       non-uniform sampling, NIPS 2016, Definition 2 and section 4.2.
    """
    rows = rows.on_host()
    n, d, (K, m) = rows.n_rows, rows.n_params, B.shape
    n_params, degrees = m * d, math.ceil(32.0 / eps**2)
    size = sketch_size or max(4 * n_params, min(10_000, 20 * n_params))
    exact = 2 * size >= n * m
    _memory.require(
        8.0 * ((n * K if exact else (_parallel.n_threads() + 2) * size) * n_params),
        f"a sketch of {size:,} rows with {n_params:,} columns",
        "take sampling='row-norms'",
    )
    if exact:
        rows.work.rows_read += n
        A = dense_block(rows, 0, n)
        F = _block_factors(P, weights, B)[..., None] * A[:, None, None, :]
        F = F.reshape(n * K, n_params)
    else:
        F = _block_sketch(rows, P, weights, B, size, rng)
    if not np.all(np.isfinite(F)):
        return np.full(n, math.nan)
    W = _whitener(F, l2)
    if not exact:  # F'F is a mean over draws, its inverse is not
        effective_dim = float(np.linalg.norm(F @ W)) ** 2
        W = W * math.sqrt(max(0.1, 1.0 - (effective_dim + 1.0) / size))
    if W.shape[1] > 2 * degrees:
        W = W @ (rng.standard_normal((W.shape[1], degrees)) / math.sqrt(degrees))
    q = W.shape[1]
    M = np.einsum("ka,adq->dkq", B, W.reshape(m, d, q)).reshape(d, K * q)
    step = max(1, CHUNK_ELEMENTS // (K * q + d + 1))
    scores = np.empty(n)

    def block(lo: int, hi: int) -> None:
        for start in range(lo, hi, step):
            stop = min(start + step, hi)
            p = P[:, start:stop].T
            Z = (dense_block(rows, start, stop) @ M).reshape(stop - start, K, q)
            Z -= np.einsum("ik,ikq->iq", p, Z)[:, None, :]
            scores[start:stop] = np.einsum("ik,ikq,ikq->i", p, Z, Z)

    with _parallel.one_blas_thread():
        rows._run(block)
    return scores * weights


def _block_factors(P: Array, weights: Array, B: Array) -> Array:
    """``sqrt(weights_i p_ik) B'(e_k - p_i)`` as an array of shape (n, K, m)."""
    p = P.T
    factors: Array = B - (p @ B)[:, None, :]
    factors *= np.sqrt(weights[:, None] * p)[:, :, None]
    return factors


def _block_sketch(
    rows: Rows,
    P: Array,
    weights: Array,
    B: Array,
    size: int,
    rng: np.random.Generator,
) -> Array:
    """CountSketch of the stacked blocks, in one read of the rows."""
    n, d, (K, m) = rows.n_rows, rows.n_params, B.shape
    S = SparseSign.draw(n * K, size, rng, 1)
    kernel, no_shift = scatter(ROW_MAJOR), np.zeros(d)
    step = max(1, CHUNK_ELEMENTS // (K * m + d + 1))

    def block(lo: int, hi: int) -> Array:
        out = np.zeros((m, size, d + 1))
        for start in range(lo, hi, step):
            stop = min(start + step, hi)
            A = np.ascontiguousarray(dense_block(rows, start, stop)).view()
            A.flags.writeable = False  # one compiled kernel for both kinds of array
            factors = _block_factors(P[:, start:stop], weights[start:stop], B)
            for k in range(K):
                drawn = slice(k * n + start, k * n + stop)
                for a in range(m):
                    r = np.ascontiguousarray(factors[:, k, a])
                    targets, signs = S.targets[drawn], S.signs[drawn]
                    kernel((A,), 0, len(A), targets, signs, r, no_shift, out[a])
        return out

    total = rows._sum(block, 4 * m * size * (d + 1))
    return total[:, :, :d].transpose(1, 0, 2).reshape(size, m * d)


class Coherence(NamedTuple):
    """How unevenly the rows of a matrix matter, and what that asks of samples."""

    rank: float
    """Sum of the scores: the rank, or the effective dimension."""
    largest: float
    """Largest score: 1 if one row alone carries a direction."""
    coherence: float
    """``n / rank`` times the largest score: 1 if all rows matter alike, at most
    ``n / rank``."""
    uniform_size: int
    """Rows of a uniform sample that is an ``eps``-embedding."""
    leverage_size: int
    """The same for sampling by leverage scores."""


def coherence(
    scores: Array, rank: float | None = None, *, eps: float = 0.5, delta: float = 0.1
) -> Coherence:
    """Report how unevenly the rows of a matrix matter.

    Uniform samples need about ``coherence`` times the rows that samples by leverage
    scores need, by the matrix Bernstein inequality for both.

    Parameters
    ----------
    scores : ndarray of shape (n,)
        Leverage scores.
    rank : float, optional
        Default: their sum.
    eps, delta : float in (0, 1)
        Distortion of the embeddings and their probability of failure.
    """
    given, scores = scores, real_array("scores", scores)
    if scores.ndim != 1 or not scores.size or not np.all(np.isfinite(scores)):
        raise ValueError(
            f"scores must be a vector of finite numbers, got {shown(given)}"
        )
    check_number("rank", rank, ">= 0", optional=True)
    check_number("eps", eps, "in (0, 1)")
    check_number("delta", delta, "in (0, 1)")
    n = len(scores)
    rank = float(np.sum(scores)) if rank is None else rank
    largest = float(np.max(scores))
    mu = n * largest / rank if rank > 0.0 else 1.0
    dim = max(1, round(rank))
    uniform_size, leverage_size = (
        leverage_sample_size(rank * factor, dim, eps=eps, delta=delta, n=n)
        for factor in (max(1.0, mu), 1.0)
    )
    return Coherence(rank, largest, mu, uniform_size, leverage_size)


def _whitener(F: Array, l2: Array) -> Array:
    """W with ``W'(F'F + diag(l2))W`` the identity; the units of columns do not matter.

    Singular values count from rounding on with columns of norm one, so that a small
    column is not mistaken for a dependent one.
    """
    F = np.vstack([F, np.diag(np.sqrt(l2))])
    size = np.linalg.norm(F, axis=0)
    size = np.where(size > 0.0, size, 1.0)
    result: Array = whitener(F / size) / size[:, None]
    return result


def whitener(factor: Array) -> Array:
    """Return W with ``W'F'F W`` the identity on the row space of ``F``, zero off it.

    By a singular value decomposition of the triangular factor, so that dependent
    columns (a constant, a full set of indicators) do no harm.
    """
    R = scipy.linalg.qr(factor, mode="r", check_finite=False)[0][: factor.shape[1]]
    _, s, Vt = scipy.linalg.svd(R, full_matrices=False, check_finite=False)
    rank = int(np.sum(s > s[:1] * max(factor.shape) * np.finfo(float).eps))
    result: Array = Vt[:rank].T / s[:rank]
    return result
