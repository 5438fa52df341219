"""Products of some rows with a vector, for each way of storing rows.

A `Layout` gives the two functions that every other kernel inlines. Their first
argument is a tuple of the arrays that hold the matrix:

``dot(x, lo, hi, w, offset, z)``
    ``z[i] = x_(lo + i)'w + offset`` for the rows ``lo <= lo + i < hi``.
``axpy(x, lo, hi, r, g)``
    ``g += sum_i r[i] x_(lo + i)``.

and the same for several classes at once, with z and r of the shape (n_classes, n):

``class_dot(x, lo, hi, w, offset, z)``
    ``z[k, i] = x_(lo + i)'w_k + offset[k]``.
``class_axpy(x, lo, hi, r, g)``
    ``g_k += sum_i r[k, i] x_(lo + i)``.

There ``w`` and ``g`` are matrices with one row per class or, where ``by_column``, with
one row per column: a sparse row then finds the numbers of all classes side by side.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from subsampled_newton._jit import inlinable
from subsampled_newton._tile import MOST_COLUMNS, add_rows, dot_rows

__all__ = ["BLOCK", "COLUMN_MAJOR", "CSR", "ROW_MAJOR", "Layout"]

# Sums may be reassociated in these loops and in no others: a dense dot product becomes
# vector code (243 -> 114 us on 2000 x 54), a sparse one becomes 2 to 7 times slower.
_DENSE = {"reassoc", "contract"}

BLOCK = 128
"""Rows that are used twice at a time: they stay in the second-level cache."""
FIRST_CACHE = 3072
"""Numbers of such a block of short rows: three quarters of 32 kB. A fused pass over 54
columns is a tenth faster than with 128 rows."""


@inlinable()
def _block_of_any_width(n_columns):
    return BLOCK


@inlinable()
def _block_in_first_cache(n_columns):
    if n_columns > MOST_COLUMNS:
        return BLOCK
    return min(BLOCK, FIRST_CACHE // max(1, n_columns))


class Layout(NamedTuple):
    """The two loops over rows that a storage scheme provides."""

    name: str
    dot: Callable[..., None]
    axpy: Callable[..., None]
    block_rows: Callable[[int], int]
    """Rows that are used twice while they are in the cache, for a number of columns."""
    class_dot: Callable[..., None]
    class_axpy: Callable[..., None]
    by_column: bool = False


@inlinable(fastmath=_DENSE)
def _dot_row_major(x, lo, hi, w, offset, z):
    block = x[0][lo:hi]
    if dot_rows(block, w, offset, z):
        return
    for i in range(block.shape[0]):
        total = 0.0
        for j in range(block.shape[1]):
            total += block[i, j] * w[j]
        z[i] = total + offset


@inlinable(fastmath=_DENSE)
def _axpy_row_major(x, lo, hi, r, g):
    block = x[0][lo:hi]
    if add_rows(block, r, g):
        return
    # Eight rows at a time: g is read and written once for all of them.
    n_rows, n_columns = block.shape
    n_full = n_rows // 8 * 8
    for i in range(0, n_full, 8):
        a, b, c, d = r[i], r[i + 1], r[i + 2], r[i + 3]
        e, f, p, q = r[i + 4], r[i + 5], r[i + 6], r[i + 7]
        for j in range(n_columns):
            g[j] += (
                (a * block[i, j] + b * block[i + 1, j])
                + (c * block[i + 2, j] + d * block[i + 3, j])
            ) + (
                (e * block[i + 4, j] + f * block[i + 5, j])
                + (p * block[i + 6, j] + q * block[i + 7, j])
            )
    for i in range(n_full, n_rows):
        for j in range(n_columns):
            g[j] += r[i] * block[i, j]


# Column-major (Fortran) order, as pandas hands it out. The array kept is the transpose,
# which is row-major, and the loops change places so that the inner one still runs along
# memory; the row loops would be 4 times slower on it.


@inlinable(fastmath=_DENSE)
def _dot_column_major(x, lo, hi, w, offset, z):
    columns = x[0]
    n_columns = columns.shape[0]
    n_full = n_columns // 4 * 4
    for i in range(hi - lo):
        z[i] = offset
    for j in range(0, n_full, 4):
        a, b, c, d = w[j], w[j + 1], w[j + 2], w[j + 3]
        p, q = columns[j, lo:hi], columns[j + 1, lo:hi]
        r, s = columns[j + 2, lo:hi], columns[j + 3, lo:hi]
        for i in range(p.size):
            z[i] += (a * p[i] + b * q[i]) + (c * r[i] + d * s[i])
    for j in range(n_full, n_columns):
        p = columns[j, lo:hi]
        for i in range(p.size):
            z[i] += w[j] * p[i]


@inlinable(fastmath=_DENSE)
def _axpy_column_major(x, lo, hi, r, g):
    columns = x[0]
    for j in range(columns.shape[0]):
        column = columns[j, lo:hi]
        total = 0.0
        for i in range(column.size):
            total += r[i] * column[i]
        g[j] += total


# Unsigned indices: Numba tests signed ones for counting from the end, which takes twice
# the time of the product.


@inlinable()
def _dot_csr(x, lo, hi, w, offset, z):
    data, indices, indptr = x
    for i in range(hi - lo):
        total = offset
        for k in range(np.uintp(indptr[lo + i]), np.uintp(indptr[lo + i + 1])):
            total += data[k] * w[np.uintp(indices[k])]
        z[i] = total


@inlinable()
def _axpy_csr(x, lo, hi, r, g):
    data, indices, indptr = x
    for i in range(hi - lo):
        r_i = r[i]
        for k in range(np.uintp(indptr[lo + i]), np.uintp(indptr[lo + i + 1])):
            g[np.uintp(indices[k])] += r_i * data[k]


def _class_by_class(dot, axpy):
    """Products with several classes, one after the other while a block is cached."""

    @inlinable()
    def class_dot(x, lo, hi, w, offset, z):
        for k in range(offset.size):
            dot(x, lo, hi, w[k], offset[k], z[k])

    @inlinable()
    def class_axpy(x, lo, hi, r, g):
        for k in range(r.shape[0]):
            axpy(x, lo, hi, r[k], g[k])

    return class_dot, class_axpy


@inlinable()
def _class_dot_csr(x, lo, hi, w, offset, z):
    data, indices, indptr = x
    sums = np.empty(offset.size)
    for i in range(hi - lo):
        for k in range(sums.size):
            sums[k] = offset[k]
        for q in range(np.uintp(indptr[lo + i]), np.uintp(indptr[lo + i + 1])):
            value, column = data[q], w[np.uintp(indices[q])]
            for k in range(sums.size):
                sums[k] += value * column[k]
        for k in range(sums.size):
            z[k, i] = sums[k]


@inlinable()
def _class_axpy_csr(x, lo, hi, r, g):
    data, indices, indptr = x
    factors = np.empty(r.shape[0])
    for i in range(hi - lo):
        for k in range(factors.size):
            factors[k] = r[k, i]
        for q in range(np.uintp(indptr[lo + i]), np.uintp(indptr[lo + i + 1])):
            value, column = data[q], g[np.uintp(indices[q])]
            for k in range(factors.size):
                column[k] += value * factors[k]


ROW_MAJOR = Layout(
    "row-major",
    _dot_row_major,
    _axpy_row_major,
    _block_in_first_cache,
    *_class_by_class(_dot_row_major, _axpy_row_major),
)
COLUMN_MAJOR = Layout(
    "column-major",
    _dot_column_major,
    _axpy_column_major,
    _block_of_any_width,
    *_class_by_class(_dot_column_major, _axpy_column_major),
)
CSR = Layout(
    "csr",
    _dot_csr,
    _axpy_csr,
    _block_of_any_width,
    _class_dot_csr,
    _class_axpy_csr,
    by_column=True,
)
