"""Loops of the softmax loss: several predictions per row, kept class by class.

Arrays of predictions have the shape (n_classes, n): the loops over the rows of a block
then run along memory and become vector code, and the products with each class are
those of one prediction (`kernels.rows`), on a block of rows that stays in the cache.
"""

import functools
import math

import numpy as np

from subsampled_newton._jit import compiled, inlinable
from subsampled_newton.kernels.linear import total
from subsampled_newton.kernels.rows import BLOCK, Layout
from subsampled_newton.losses import softmax_normalise, softmax_value

__all__ = [
    "evaluate",
    "hess_vec",
    "hessian_csr",
    "hessian_dense",
    "matvec",
    "mean_along",
    "pair_weights",
    "probabilities",
]


SPARSE_BELOW = 0.5
"""Groups of dense rows with a smaller share of entries other than zero are added entry
by entry: three times the time of a product in vector code, for a quarter of them."""


@functools.cache
def matvec(layout: Layout):
    """Kernel that fills ``out[:, lo:hi]`` with predictions."""
    class_dot, block_rows = layout.class_dot, layout.block_rows

    @compiled()
    def softmax_matvec_kernel(x, lo, hi, w, offset, out):
        step = block_rows(w.size // offset.size)
        for start in range(lo, hi, step):
            stop = min(start + step, hi)
            class_dot(x, start, stop, w, offset, out[:, start:stop])

    return softmax_matvec_kernel


@functools.cache
def evaluate(layout: Layout):
    """Kernel that fills ``z[:, lo:hi]`` and adds gradient and value.

    ``g`` receives ``sum_i s_i (p_ki - [y_i = k]) x_i`` as the layout wants it, ``sums``
    (n_classes + 1) the sums of the factors and that of the losses.
    """
    class_dot, class_axpy = layout.class_dot, layout.class_axpy
    block_rows = layout.block_rows

    @compiled()
    def softmax_evaluate_kernel(x, lo, hi, y, s, w, offset, z, g, sums):
        n_classes = offset.size
        p = np.empty((n_classes, BLOCK))
        top, others, first = np.empty(BLOCK), np.empty(BLOCK), np.empty(BLOCK)
        f = np.empty(BLOCK)
        step = block_rows(g.size // n_classes)
        for start in range(lo, hi, step):
            stop = min(start + step, hi)
            n = stop - start
            y_block, s_block = y[start:stop], s[start:stop]
            class_dot(x, start, stop, w, offset, z[:, start:stop])
            softmax_normalise(z[:, start:stop], p, top, others, first)
            softmax_value(z[:, start:stop], y_block, top, others, f)
            for i in range(n):
                f[i] *= s_block[i]
            for k in range(n_classes):
                r = p[k, :n]
                for i in range(n):
                    # p - 1 without its cancellation where p is the largest.
                    rest = -others[i] / (1.0 + others[i])
                    own = rest if first[i] == k else r[i] - 1.0
                    r[i] = s_block[i] * (own if y_block[i] == k else r[i])
                sums[k] += total(r)
            class_axpy(x, start, stop, p[:, :n], g)
            sums[n_classes] += total(f[:n])

    return softmax_evaluate_kernel


@functools.cache
def hess_vec(layout: Layout):
    """Kernel that adds ``sum_i s_i D_i (X v)_i (x_i, 1)'`` to ``g`` and ``sums``.

    ``D_i = diag(p_i) - p_i p_i'``; ``v`` and ``g`` are as the layout wants them.
    """
    class_dot, class_axpy = layout.class_dot, layout.class_axpy
    block_rows = layout.block_rows

    @compiled()
    def softmax_hess_vec_kernel(x, lo, hi, p, s, v, offset, g, sums):
        n_classes = offset.size
        u = np.empty((n_classes, BLOCK))
        largest, center, mean = np.empty(BLOCK), np.empty(BLOCK), np.empty(BLOCK)
        step = block_rows(g.size // n_classes)
        for start in range(lo, hi, step):
            stop = min(start + step, hi)
            n = stop - start
            s_block = s[start:stop]
            for i in range(n):
                largest[i] = -1.0
                mean[i] = 0.0
            class_dot(x, start, stop, v, offset, u[:, :n])
            for k in range(n_classes):
                p_block, u_block = p[k, start:stop], u[k, :n]
                for i in range(n):
                    above = p_block[i] > largest[i]
                    largest[i] = p_block[i] if above else largest[i]
                    center[i] = u_block[i] if above else center[i]
            # D has the ones in its null space: from the likeliest class on, what is
            # left of a certain row is not lost in rounding.
            for k in range(n_classes):
                p_block, u_block = p[k, start:stop], u[k, :n]
                for i in range(n):
                    u_block[i] -= center[i]
                    mean[i] += p_block[i] * u_block[i]
            for k in range(n_classes):
                p_block, u_block = p[k, start:stop], u[k, :n]
                for i in range(n):
                    u_block[i] = s_block[i] * p_block[i] * (u_block[i] - mean[i])
                sums[k] += total(u_block)
            class_axpy(x, start, stop, u[:, :n], g)

    return softmax_hess_vec_kernel


@functools.cache
def probabilities():
    """Kernel that fills ``out[:, lo:hi]`` with the probabilities of the classes."""

    @compiled()
    def probabilities_kernel(z, lo, hi, out):
        n_classes = z.shape[0]
        p = np.empty((n_classes, BLOCK))
        top, others, first = np.empty(BLOCK), np.empty(BLOCK), np.empty(BLOCK)
        for start in range(lo, hi, BLOCK):
            stop = min(start + BLOCK, hi)
            softmax_normalise(z[:, start:stop], p, top, others, first)
            for k in range(n_classes):
                out[k, start:stop] = p[k, : stop - start]

    return probabilities_kernel


@functools.cache
def mean_along():
    """Kernel that adds the sum of the losses at ``z + t u`` to ``out[0]``."""

    @compiled()
    def softmax_mean_along_kernel(z, u, t, y, s, lo, hi, out):
        n_classes = z.shape[0]
        moved, p = np.empty((n_classes, BLOCK)), np.empty((n_classes, BLOCK))
        top, others, first = np.empty(BLOCK), np.empty(BLOCK), np.empty(BLOCK)
        f = np.empty(BLOCK)
        for start in range(lo, hi, BLOCK):
            stop = min(start + BLOCK, hi)
            n = stop - start
            for k in range(n_classes):
                for i in range(n):
                    moved[k, i] = z[k, start + i] + t * u[k, start + i]
            softmax_normalise(moved[:, :n], p, top, others, first)
            softmax_value(moved[:, :n], y[start:stop], top, others, f)
            for i in range(n):
                f[i] *= s[start + i]
            out[0] += total(f[:n])

    return softmax_mean_along_kernel


@inlinable()
def pair_weights(p, i, h, out):
    """Fill ``h B_a' (diag(p_i) - p_i p_i') B_b`` for classes ``b <= a < K - 1``.

    B is the basis of `softmax_model`; its entries are put in.
    """
    n_classes = p.shape[0]
    root = math.sqrt(n_classes)
    share = 1.0 / (n_classes + root)
    last = p[n_classes - 1, i]
    common = (1.0 / root + last) / (root + 1.0)
    constant = share * share * (1.0 - last) + last / n_classes
    at = 0
    for a in range(n_classes - 1):
        for b in range(a + 1):
            product = (p[a, i] - common) * (p[b, i] - common)
            out[at] = h * (constant - product - share * (p[a, i] + p[b, i]))
            at += 1
        out[at - 1] += h * p[a, i]


@functools.cache
def hessian_csr():
    """Kernel that adds the Hessian on the rows ``lo`` to ``hi`` to ``out``.

    A row adds ``D_i`` times each product of two of its entries. ``out`` holds for every
    pair of columns ``k <= j``, at ``j (j + 1) / 2 + k``, all pairs of classes next to
    each other, so that the innermost loop is vector code. With ``intercept`` an entry 1
    follows the others.
    """

    @compiled(fastmath={"contract"})
    def softmax_hessian_csr_kernel(x, lo, hi, p, h, n_columns, intercept, out):
        data, indices, indptr = x
        weights = np.zeros(out.shape[1])
        index = np.empty(n_columns + 1, np.int64)
        value = np.empty(n_columns + 1)
        for i in range(lo, hi):
            n = indptr[i + 1] - indptr[i]
            for k in range(n):
                index[k] = indices[indptr[i] + k]
                value[k] = data[indptr[i] + k]
            index[n], value[n] = n_columns, 1.0
            pair_weights(p, i, h[i], weights)
            _add_entries(index, value, n + intercept, weights, out)

    return softmax_hessian_csr_kernel


@functools.cache
def hessian_dense():
    """The same for the rows of a matrix, whose row 0 is row ``first`` of ``p``.

    Zeros cost nothing in groups of rows that are mostly zero: on covtype, 12 entries of
    54, that is 6 times faster than a Gram matrix for every pair of classes. Otherwise
    eight rows at a time read and write ``out`` once.
    """

    @compiled(fastmath={"contract"})
    def softmax_hessian_dense_kernel(X, first, p, h, intercept, out):
        n_rows, n_columns = X.shape
        d = n_columns + intercept
        weights = np.zeros((8, out.shape[1]))
        index = np.empty((8, n_columns + 1), np.int64)
        value = np.empty((8, n_columns + 1))
        count = np.empty(8, np.int64)
        rows = np.ones((8, n_columns + 1))
        for start in range(0, n_rows, 8):
            n = min(8, n_rows - start)
            total_count = 0
            for i in range(n):
                k = 0
                for j in range(n_columns):
                    x = X[start + i, j]
                    rows[i, j] = x
                    index[i, k], value[i, k] = j, x
                    k += x != 0.0
                index[i, k], value[i, k] = n_columns, 1.0
                count[i] = k + intercept
                total_count += count[i]
                pair_weights(p, first + start + i, h[first + start + i], weights[i])
            if n < 8 or total_count < SPARSE_BELOW * 8 * d:
                for i in range(n):
                    _add_entries(index[i], value[i], count[i], weights[i], out)
            else:
                _add_rows(rows, d, weights, out)

    return softmax_hessian_dense_kernel


@inlinable(fastmath={"contract"})
def _add_entries(index, value, n, weights, out):
    for a in range(n):
        base = index[a] * (index[a] + 1) // 2
        for b in range(a + 1):
            product = value[a] * value[b]
            at = base + index[b]
            for c in range(out.shape[1]):
                out[at, c] += product * weights[c]


@inlinable(fastmath={"contract"})
def _add_rows(rows, d, weights, out):
    at = 0
    for j in range(d):
        for k in range(j + 1):
            p0, p1 = rows[0, j] * rows[0, k], rows[1, j] * rows[1, k]
            p2, p3 = rows[2, j] * rows[2, k], rows[3, j] * rows[3, k]
            p4, p5 = rows[4, j] * rows[4, k], rows[5, j] * rows[5, k]
            p6, p7 = rows[6, j] * rows[6, k], rows[7, j] * rows[7, k]
            for c in range(out.shape[1]):
                out[at, c] += (
                    (p0 * weights[0, c] + p1 * weights[1, c])
                    + (p2 * weights[2, c] + p3 * weights[3, c])
                ) + (
                    (p4 * weights[4, c] + p5 * weights[5, c])
                    + (p6 * weights[6, c] + p7 * weights[7, c])
                )
            at += 1
