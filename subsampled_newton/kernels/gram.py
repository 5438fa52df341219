"""Gram matrices ``[X, 1]' diag(h) [X, 1]``, their lower halves."""

import functools

import numpy as np

from subsampled_newton._jit import compiled

__all__ = ["SPARSE_BELOW", "gram_csr", "gram_dense"]

SPARSE_BELOW = 0.5
"""Groups of dense rows with a smaller share of entries other than zero are added entry
by entry: three times the time of a product in vector code, for a quarter of them."""


@functools.cache
def gram_dense(column_major: bool):
    """Kernel that adds the lower half, for columns ``(x_j - shift_j) scale_j``.

    Eight rows at a time are shifted and scaled into a buffer that stays in the first
    cache, then added to two rows of the result at a time: 16 multiplications for 10
    loads. That is 2 to 4 times faster than BLAS, which copies tall blocks into panels
    first, up to about 250 columns (`data.GRAM_MAX_PARAMS`).

    Rows that are mostly zeros, as those of one-hot columns, cost the square of their
    other entries: a bit more than half the time on covtype, 12 entries in 54 columns.

    ``out`` has an even number of rows; what is beyond the last column stays zero. As in
    `kernels.rows`, a column-major matrix comes as its transpose.
    """

    @compiled(fastmath={"reassoc", "contract"})
    def gram_dense_kernel(X, lo, hi, h, shift, scale, out):
        d = shift.size
        buffer = np.zeros((8, out.shape[0]))
        weights = np.empty(8)
        index = np.empty(d + 1, np.uintp)  # unsigned, as in `kernels.rows`
        for start in range(lo, hi, 8):
            n = min(8, hi - start)
            entries = 0
            for i in range(8):
                row = buffer[i]
                source = start + min(i, n - 1)
                weights[i] = h[source] if i < n else 0.0
                for j in range(d):
                    x = X[j, source] if column_major else X[source, j]
                    row[j] = (x - shift[j]) * scale[j]
                row[d] = 1.0
                for j in range(d):
                    entries += row[j] != 0.0
            if entries < SPARSE_BELOW * 8 * d:
                for i in range(n):
                    row = buffer[i]
                    k = np.uintp(0)
                    for j in range(d + 1):
                        index[k] = j
                        k += np.uintp(row[j] != 0.0)
                    for a in range(int(k)):
                        j = index[a]
                        weighted = weights[i] * row[j]
                        for b in range(a + 1):
                            m = index[b]
                            out[j, m] += weighted * row[m]
                continue
            h0, h1, h2, h3 = weights[0], weights[1], weights[2], weights[3]
            h4, h5, h6, h7 = weights[4], weights[5], weights[6], weights[7]
            x0, x1, x2, x3 = buffer[0], buffer[1], buffer[2], buffer[3]
            x4, x5, x6, x7 = buffer[4], buffer[5], buffer[6], buffer[7]
            for j in range(0, out.shape[0], 2):
                a0, a1, a2, a3 = h0 * x0[j], h1 * x1[j], h2 * x2[j], h3 * x3[j]
                a4, a5, a6, a7 = h4 * x4[j], h5 * x5[j], h6 * x6[j], h7 * x7[j]
                k = j + 1
                b0, b1, b2, b3 = h0 * x0[k], h1 * x1[k], h2 * x2[k], h3 * x3[k]
                b4, b5, b6, b7 = h4 * x4[k], h5 * x5[k], h6 * x6[k], h7 * x7[k]
                first, second = out[j], out[k]
                for m in range(j + 2):
                    y0, y1, y2, y3 = x0[m], x1[m], x2[m], x3[m]
                    y4, y5, y6, y7 = x4[m], x5[m], x6[m], x7[m]
                    first[m] += ((a0 * y0 + a1 * y1) + (a2 * y2 + a3 * y3)) + (
                        (a4 * y4 + a5 * y5) + (a6 * y6 + a7 * y7)
                    )
                    second[m] += ((b0 * y0 + b1 * y1) + (b2 * y2 + b3 * y3)) + (
                        (b4 * y4 + b5 * y5) + (b6 * y6 + b7 * y7)
                    )

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
