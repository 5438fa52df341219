"""Products with a block of rows: ``X w``, ``X'r`` and ``X' diag(h) X v``.

``offset`` is added to every prediction and the last entry of ``out`` receives the sum
of the weights of the rows. Together they carry the intercept and the shift of centred
columns, so that neither needs a column of its own (`data.Columns`).
"""

import functools

import numpy as np

from subsampled_newton._jit import compiled, inlinable
from subsampled_newton._tile import add_moments
from subsampled_newton.kernels.rows import BLOCK, Layout

__all__ = [
    "MOMENT_ROWS",
    "column_moments",
    "column_sums",
    "hess_vec",
    "matvec",
    "rmatvec",
    "row_norms",
    "total",
]

MOMENT_ROWS = 1024
"""Rows of a column that are summed at a time."""


@inlinable(fastmath={"reassoc"})
def total(values):
    """Sum a short vector."""
    result = 0.0
    for i in range(values.size):
        result += values[i]
    return result


@functools.cache
def matvec(layout: Layout):
    """Kernel that fills ``out[lo:hi]`` with predictions."""
    dot = layout.dot

    @compiled()
    def matvec_kernel(x, lo, hi, w, offset, out):
        dot(x, lo, hi, w, offset, out[lo:hi])

    return matvec_kernel


@functools.cache
def rmatvec(layout: Layout):
    """Kernel that adds ``sum_i r_i x_i`` and ``sum_i r_i`` to ``out``."""
    axpy, block_rows = layout.axpy, layout.block_rows

    @compiled()
    def rmatvec_kernel(x, lo, hi, r, out):
        n_columns = out.size - 1
        step = block_rows(n_columns)
        for start in range(lo, hi, step):
            stop = min(start + step, hi)
            axpy(x, start, stop, r[start:stop], out[:n_columns])
            out[n_columns] += total(r[start:stop])

    return rmatvec_kernel


@functools.cache
def hess_vec(layout: Layout):
    """Kernel that adds ``sum_i h_i (x_i'v + offset) (x_i, 1)`` to ``out``."""
    dot, axpy, block_rows = layout.dot, layout.axpy, layout.block_rows

    @compiled()
    def hess_vec_kernel(x, lo, hi, h, v, offset, out):
        n_columns = out.size - 1
        step = block_rows(n_columns)
        r = np.empty(BLOCK)
        for start in range(lo, hi, step):
            stop = min(start + step, hi)
            weights = h[start:stop]
            block = r[: stop - start]
            dot(x, start, stop, v, offset, block)
            for i in range(block.size):
                block[i] *= weights[i]
            axpy(x, start, stop, block, out[:n_columns])
            out[n_columns] += total(block)

    return hess_vec_kernel


@functools.cache
def column_moments(column_major: bool):
    """Kernel that adds ``sum_i s_i (x_ij - c_j)`` and its squares to ``out`` (2, d).

    As in `kernels.rows`, a column-major matrix comes as its transpose.
    """
    if column_major:

        @compiled(fastmath={"reassoc", "contract"})
        def column_moments_kernel(columns, lo, hi, s, center, out):
            for start in range(lo, hi, MOMENT_ROWS):
                stop = min(start + MOMENT_ROWS, hi)
                weights = s[start:stop]
                for j in range(columns.shape[0]):
                    column = columns[j, start:stop]
                    first, second = 0.0, 0.0
                    for i in range(column.size):
                        deviation = column[i] - center[j]
                        first += weights[i] * deviation
                        second += weights[i] * deviation * deviation
                    out[0, j] += first
                    out[1, j] += second

    else:

        @compiled()
        def column_moments_kernel(X, lo, hi, s, center, out):
            first, second = out[0], out[1]
            for start in range(lo, hi, BLOCK):
                stop = min(start + BLOCK, hi)
                block, weights = X[start:stop], s[start:stop]
                if add_moments(block, weights, center, out):
                    continue
                for i in range(block.shape[0]):
                    for j in range(block.shape[1]):
                        deviation = block[i, j] - center[j]
                        first[j] += weights[i] * deviation
                        second[j] += weights[i] * deviation * deviation

    return column_moments_kernel


@functools.cache
def column_sums():
    """Kernel that adds sums over the stored entries of a CSR matrix to ``out`` (4, d).

    ``sum_i s_i (x_ij - c_j)``, its squares, ``sum_i s_i``, and their number.
    """

    @compiled()
    def column_sums_kernel(x, lo, hi, s, center, out):
        data, indices, indptr = x
        first, second, mass, count = out[0], out[1], out[2], out[3]
        for i in range(lo, hi):
            for k in range(np.uintp(indptr[i]), np.uintp(indptr[i + 1])):
                j, value = np.uintp(indices[k]), np.float64(data[k])
                deviation = value - center[j]
                first[j] += s[i] * deviation
                second[j] += s[i] * deviation * deviation
                mass[j] += s[i]
                count[j] += 1.0

    return column_sums_kernel


@functools.cache
def row_norms(sparse: bool):
    """Kernel that fills ``out[i] = sum_j ((x_ij - shift_j) scale_j)**2``.

    That of a CSR matrix sums ``(x_ij - shift_j)**2 - base_j**2``, scaled: what a row
    has beyond the norm of ``base``, which all share.
    """
    if sparse:

        @compiled()
        def row_norms_kernel(x, lo, hi, shift, base, scale, out):
            data, indices, indptr = x
            for i in range(lo, hi):
                total = 0.0
                for k in range(np.uintp(indptr[i]), np.uintp(indptr[i + 1])):
                    j, value = np.uintp(indices[k]), np.float64(data[k])
                    value -= shift[j]
                    square = (value - base[j]) * (value + base[j])
                    total += square * scale[j] * scale[j]
                out[i] = total

    else:

        @compiled(fastmath={"reassoc", "contract"})
        def row_norms_kernel(X, lo, hi, shift, scale, out):
            block, norms = X[lo:hi], out[lo:hi]
            for i in range(block.shape[0]):
                total = 0.0
                for j in range(block.shape[1]):
                    value = (block[i, j] - shift[j]) * scale[j]
                    total += value * value
                norms[i] = total

    return row_norms_kernel
