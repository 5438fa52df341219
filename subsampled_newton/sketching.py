"""Approximate leverage scores for importance sampling.

Functions of arrays and callables. A matrix enters as the products that are needed from
it, so that weighted rows of any container can be scored without a copy. Exact scores
are in `leverage`, embeddings as operators in `embeddings`.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import scipy.linalg
import scipy.sparse as sp
from numpy.typing import NDArray

__all__ = ["approximate_leverage", "count_sketch", "whitener"]

Array = NDArray[np.float64]


def count_sketch(n: int, n_buckets: int, rng: np.random.Generator) -> sp.csc_array:
    """Return an ``n_buckets x n`` matrix with one random sign in every column.

    Applying it costs one addition per entry of the matrix [1]_.

    References
    ----------
    .. [1] Clarkson, Woodruff, Low rank approximation and regression in input sparsity
       time, STOC 2013.
    """
    signs = 2.0 * rng.integers(0, 2, n) - 1.0
    buckets = rng.integers(0, n_buckets, n)
    return sp.csc_array((signs, buckets, np.arange(n + 1)), shape=(n_buckets, n))


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


def approximate_leverage(
    sketch: Callable[[sp.csc_array], Array],
    projected_norms: Callable[[Array], Array],
    n: int,
    l2: Array,
    rng: np.random.Generator,
) -> Array:
    """Approximate block partial leverage scores of the rows of a matrix A.

    A CountSketch of A with the ridge rows ``diag(sqrt(l2))`` below it gives a factor
    R; the scores are the squared row norms of ``A R^-1 G`` with a Gaussian G of
    ``d / 2`` columns. Two reads of A [1]_, [2]_.

    Parameters
    ----------
    sketch : callable
        ``S -> S @ A`` for a sparse ``S``.
    projected_norms : callable
        ``M -> squared row norms of A @ M``.
    n : int
        Rows of A.
    l2 : ndarray of shape (d,)
        Ridge weights.
    rng : numpy.random.Generator

    References
    ----------
    .. [1] Drineas, Magdon-Ismail, Mahoney, Woodruff, Fast approximation of matrix
       coherence and statistical leverage, JMLR 2012, Algorithm 1.
    .. [2] Xu, Yang, Roosta-Khorasani, Re, Mahoney, NIPS 2016: 20 d buckets, at most
       10,000, shared by data and ridge rows.
    """
    d = len(l2)
    n_buckets = min(10_000, 20 * d)
    S = count_sketch(n + d, n_buckets, rng)
    ridge = S[:, n:] @ np.diag(np.sqrt(l2))
    W = whitener(sketch(S[:, :n]) + ridge)
    if d >= 16:  # below, the projection would cost more than it saves
        n_probes = d // 2
        W = W @ (rng.standard_normal((W.shape[1], n_probes)) / np.sqrt(n_probes))
    return projected_norms(W)
