"""Triangular factors of tall matrices, without a copy of the matrix."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.linalg.lapack
from numpy.typing import NDArray

from subsampled_newton import _memory, _parallel
from subsampled_newton.data import Rows
from subsampled_newton.embeddings import dense_block

__all__ = [
    "cholesky_qr",
    "reciprocal_condition",
    "triangular_factor",
    "upper_factor",
]

Array = NDArray[np.float64]
FACTOR_COPIES = 4
"""Of a block of rows: scaled, below the factor so far, and twice in LAPACK."""
ROWS_PER_COLUMN = 8
"""Rows that are factored at a time, per column: the factor so far is below them and
adds an eighth to the work. Longer blocks leave the cache."""


def reciprocal_condition(R: Array) -> float:
    """Estimate 1 / condition of an upper triangle, in the norm of column sums."""
    if hasattr(scipy.linalg.lapack, "dtrcon"):
        return float(scipy.linalg.lapack.dtrcon(R)[0])
    inverse, info = scipy.linalg.lapack.dtrtri(R)  # before SciPy 1.15
    norms = [float(np.max(np.sum(np.abs(np.triu(A)), axis=0))) for A in (R, inverse)]
    return 1.0 / (norms[0] * norms[1]) if info == 0 else 0.0


def upper_factor(A: Array) -> Array:
    """R of a QR factorisation of a matrix (m, d), with min(m, d) rows."""
    R: Any = np.linalg.qr(A, mode="r")
    factor: Array = R
    return factor


def triangular_factor(
    rows: Rows, scale: Array | None = None, extra: Array | None = None
) -> Array:
    """Return R of a QR factorisation of ``diag(scale) [X, extra]``, in one read of X.

    Householder transformations of blocks of rows, then of their factors: backward
    stable as those of the whole matrix [1]_. Signs of the rows of R are arbitrary; R
    has fewer rows than columns when X has.

    Parameters
    ----------
    rows : Rows
        The matrix X (n, d). Sparse rows are made dense block by block.
    scale : ndarray of shape (n,), optional
        Factors of the rows.
    extra : ndarray of shape (n,), optional
        One column more: ``R[:d, d]`` is then ``Q' diag(scale) extra``.

    References
    ----------
    .. [1] Demmel, Grigori, Hoemmen, Langou, Communication-optimal parallel and
       sequential QR and LU factorizations, SIAM J. Sci. Comput. 2012.
    """
    d = rows.n_params + (extra is not None)
    step = max(512, ROWS_PER_COLUMN * d)
    _memory.require(
        FACTOR_COPIES * 8.0 * _parallel.n_threads() * min(step, rows.n_rows) * d,
        f"a QR factorisation of {d:,} columns",
        "take a solver that needs none, as 'newton-cg' or 'lbfgs'",
    )

    def block(lo: int, hi: int) -> Array:
        R = np.empty((0, d))
        for start in range(lo, hi, step):
            stop = min(start + step, hi)
            A = dense_block(rows, start, stop, extra=extra)
            if scale is not None:
                A = A * scale[start:stop, None]
            R = upper_factor(np.vstack([R, A]))
        return R

    edges = rows._edges(4 * d * d)
    with _parallel.one_blas_thread():
        parts = _parallel.run(lambda k: block(edges[k], edges[k + 1]), len(edges) - 1)
        return parts[0] if len(parts) == 1 else upper_factor(np.vstack(parts))


def cholesky_qr(rows: Rows, ridge: Array) -> Array:
    """Return R with ``R'R = X'X + diag(ridge)``, by two Cholesky factorisations.

    The factor of the Gram matrix has an error of ``cond(X)**2 eps``; that of the Gram
    matrix of ``X R**-1``, which is close to the identity, removes it [1]_. Matrix
    products only, but cond(X) must be below about 1e7.

    Raises
    ------
    numpy.linalg.LinAlgError
        If the Gram matrix is not numerically positive definite.

    References
    ----------
    .. [1] Yamamoto, Nakatsukasa, Yanagisawa, Fukaya, Roundoff error analysis of the
       CholeskyQR2 algorithm, ETNA 2015.
    """
    d = rows.n_params
    gram = rows.gram(np.ones(rows.n_rows)) + np.diag(ridge)
    size = np.sqrt(np.where(np.diag(gram) > 0.0, np.diag(gram), 1.0))
    with _parallel.one_blas_thread():
        first = np.linalg.cholesky(gram / size / size[:, None]).T * size
        inverse = np.linalg.inv(first)

        def block(lo: int, hi: int) -> Array:
            total = np.zeros((d, d))
            for start in range(lo, hi, 2048):
                A = dense_block(rows, start, min(start + 2048, hi)) @ inverse
                total += A.T @ A
            return total

        ridged = np.sqrt(ridge)[:, None] * inverse
        second = np.linalg.cholesky(rows._sum(block, d * d) + ridged.T @ ridged).T
    factor: Array = second @ first
    return factor
