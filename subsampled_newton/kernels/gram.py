"""Gram matrices ``[X, 1]' diag(h) [X, 1]``, their lower halves."""

import functools

import numpy as np

from subsampled_newton._jit import compiled
from subsampled_newton._tile import TILE_COLUMNS, TILE_ROWS, add_tile, scale_rows

__all__ = ["gram_csr", "gram_dense", "mirror"]

GROUP = 64
"""Rows that are shifted and scaled into a buffer at a time; 32 to 128 are alike."""

TILE = 32
"""Side of the squares that `mirror` reads by rows and writes by columns."""


@functools.cache
def gram_dense(column_major: bool):
    """Kernel that adds the lower half, for columns ``(x_j - shift_j) scale_j``.

    2 to 4 times faster than BLAS up to about 250 columns (`data.GRAM_MAX_PARAMS`): the
    buffer stays in the cache, and blocks above the diagonal are left out.

    ``out`` is a square whose side is a multiple of 8. What is beyond the last column
    stays zero; entries above the diagonal are not those of the matrix. As in
    `kernels.rows`, a column-major matrix comes as its transpose.
    """

    @compiled(fastmath={"contract"})
    def gram_dense_kernel(X, lo, hi, h, shift, scale, out):
        d = shift.size
        rows = np.zeros((GROUP, out.shape[0]))
        weighted = np.zeros((GROUP, out.shape[0]))
        for start in range(lo, hi, GROUP):
            n = min(GROUP, hi - start)
            if column_major:
                for j in range(d):
                    column = X[j, start : start + n]
                    for i in range(n):
                        value = (column[i] - shift[j]) * scale[j]
                        rows[i, j] = value
                        weighted[i, j] = h[start + i] * value
            elif not scale_rows(
                X[start : start + n], shift, scale, h[start : start + n], rows, weighted
            ):
                for i in range(n):
                    row, copy = rows[i], weighted[i]
                    for j in range(d):
                        value = (X[start + i, j] - shift[j]) * scale[j]
                        row[j] = value
                        copy[j] = h[start + i] * value
            for i in range(n):
                rows[i, d], weighted[i, d] = 1.0, h[start + i]
            for j in range(0, d + 1, TILE_ROWS):
                for m in range(0, j + TILE_ROWS, TILE_COLUMNS):
                    add_tile(weighted, rows, n, j, m, out)

    return gram_dense_kernel


@functools.cache
def gram_csr():
    """Kernel that adds the lower half of ``[X, 1]' diag(h) [X, 1]`` to ``out``.

    For sorted indices. Its cost is the sum of the squared numbers of entries of the
    rows, whatever the number of columns. Unsigned indices, as in `kernels.rows`.
    """

    @compiled()
    def gram_csr_kernel(x, lo, hi, h, out):
        data, indices, indptr = x
        last = np.uintp(out.shape[0] - 1)
        for i in range(lo, hi):
            start, stop = np.uintp(indptr[i]), np.uintp(indptr[i + 1])
            for k in range(start, stop):
                weighted, j = h[i] * data[k], np.uintp(indices[k])
                for m in range(start, k + np.uintp(1)):
                    out[j, np.uintp(indices[m])] += weighted * data[m]
                out[last, j] += weighted
            out[last, last] += h[i]

    return gram_csr_kernel


@compiled()
def mirror(square):
    """Copy the lower half of a square matrix to its upper half."""
    n = square.shape[0]
    for i0 in range(0, n, TILE):
        for j0 in range(0, i0 + 1, TILE):
            for i in range(i0, min(i0 + TILE, n)):
                for j in range(j0, min(j0 + TILE, i)):
                    square[j, i] = square[i, j]
