"""Sketches ``S X`` of blocks of rows: sparse signs, and Walsh-Hadamard transforms."""

import functools

import numpy as np

from subsampled_newton._jit import compiled, inlinable
from subsampled_newton.kernels.rows import COLUMN_MAJOR, CSR, Layout

__all__ = ["scatter", "walsh_hadamard"]

TILE = 16
"""Columns transformed at a time: 4096 rows of them fit the second-level cache."""


@functools.cache
def scatter(layout: Layout):
    """Kernel that adds ``signs[i, k] r[i] (x_i, 1)`` to row ``targets[i, k]`` of out.

    ``out`` has one column more than X. Dense rows are shifted first; sparse rows are
    not, their caller corrects for it.
    """
    if layout is CSR:

        @compiled()
        def scatter_kernel(x, lo, hi, targets, signs, r, shift, out):
            data, indices, indptr = x
            last = out.shape[1] - 1
            for i in range(lo, hi):
                for k in range(targets.shape[1]):
                    value, row = r[i] * signs[i, k], out[targets[i, k]]
                    for m in range(np.uintp(indptr[i]), np.uintp(indptr[i + 1])):
                        row[np.uintp(indices[m])] += value * data[m]
                    row[last] += value

    elif layout is COLUMN_MAJOR:

        @compiled()
        def scatter_kernel(x, lo, hi, targets, signs, r, shift, out):
            columns = x[0]
            n_columns = columns.shape[0]
            total = np.empty(out.shape[0])
            for j in range(n_columns + 1):
                total[:] = 0.0
                for i in range(lo, hi):
                    value = r[i]
                    if j < n_columns:
                        value *= columns[j, i] - shift[j]
                    for k in range(targets.shape[1]):
                        total[targets[i, k]] += signs[i, k] * value
                for k in range(out.shape[0]):
                    out[k, j] += total[k]

    else:

        @compiled(fastmath={"contract"})
        def scatter_kernel(x, lo, hi, targets, signs, r, shift, out):
            X = x[0]
            n_columns = X.shape[1]
            row = np.empty(n_columns)
            for i in range(lo, hi):
                if targets.shape[1] == 1:  # without the buffer: at the speed of memory
                    value, total = r[i] * signs[i, 0], out[targets[i, 0]]
                    for j in range(n_columns):
                        total[j] += value * (X[i, j] - shift[j])
                    total[n_columns] += value
                    continue
                for j in range(n_columns):
                    row[j] = r[i] * (X[i, j] - shift[j])
                for k in range(targets.shape[1]):
                    sign, total = float(signs[i, k]), out[targets[i, k]]
                    for j in range(n_columns):
                        total[j] += sign * row[j]
                    total[n_columns] += sign * r[i]

    return scatter_kernel


@inlinable()
def parity(bits):
    """Whether an odd number of bits is set."""
    for shift in (32, 16, 8, 4, 2, 1):
        bits ^= bits >> shift
    return bits & 1


@inlinable()
def butterflies(values, width):
    """Walsh-Hadamard transform over the rows of ``values``, ``width`` numbers each.

    In place and not scaled. The number of rows is a power of two.
    """
    h = width
    if values.size // width % 3 == 2:  # an odd power: one step of two, then of four
        for i in range(0, values.size, 2 * h):
            p, q = values[i : i + h], values[i + h : i + 2 * h]
            for e in range(h):
                a, b = p[e], q[e]
                p[e], q[e] = a + b, a - b
        h *= 2
    while h < values.size:
        for i in range(0, values.size, 4 * h):
            p, q = values[i : i + h], values[i + h : i + 2 * h]
            r, s = values[i + 2 * h : i + 3 * h], values[i + 3 * h : i + 4 * h]
            for e in range(h):
                a, b = p[e] + q[e], p[e] - q[e]
                c, d = r[e] + s[e], r[e] - s[e]
                p[e], q[e], r[e], s[e] = a + c, b + d, a - c, b - d
        h *= 4


@functools.cache
def walsh_hadamard():
    """Kernel that adds chosen rows of ``H diag(r) X`` for one block of rows to ``out``.

    H is the Walsh-Hadamard matrix of order ``m n_blocks``, entry ``(a, b)`` being -1 to
    the number of common bits. It is the product of those of order ``n_blocks`` (high
    bits) and m (low bits), so that each block of m rows is transformed on its own and
    added to the chosen rows with the signs of the high bits: X is read once and never
    stored. ``X`` may have fewer than m rows: the others are zero.
    """

    @compiled()
    def walsh_hadamard_kernel(X, r, index, m, chosen, out):
        n_rows, n_columns = X.shape
        buffer = np.empty(m * TILE)
        for first in range(0, n_columns, TILE):
            width = min(TILE, n_columns - first)
            tile = buffer[: m * width]
            for i in range(n_rows):
                for j in range(width):
                    tile[i * width + j] = r[i] * X[i, first + j]
            tile[n_rows * width :] = 0.0
            butterflies(tile, width)
            for k in range(chosen.size):
                row = chosen[k]
                low = row % m * width
                sign = 1.0 - 2.0 * parity(row // m & index)
                total = out[k, first : first + width]
                source = tile[low : low + width]
                for j in range(width):
                    total[j] += sign * source[j]

    return walsh_hadamard_kernel
