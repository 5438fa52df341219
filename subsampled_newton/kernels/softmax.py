"""Loops of the softmax loss: several predictions per row, kept class by class.

Arrays of predictions have the shape (n_classes, n): the loops over the rows of a block
then run along memory and become vector code, and the products with each class are
those of one prediction (`kernels.rows`), on a block of rows that stays in the cache.
"""

import functools

import numpy as np

from subsampled_newton._jit import compiled
from subsampled_newton.kernels.linear import BLOCK, total
from subsampled_newton.kernels.rows import Layout
from subsampled_newton.losses import softmax_normalise, softmax_value

__all__ = ["evaluate", "hess_vec", "matvec", "mean_along", "probabilities"]


@functools.cache
def matvec(layout: Layout):
    """Kernel that fills ``out[:, lo:hi]`` with predictions."""
    dot = layout.dot

    @compiled()
    def softmax_matvec_kernel(x, lo, hi, w, offset, out):
        for start in range(lo, hi, BLOCK):
            stop = min(start + BLOCK, hi)
            for k in range(w.shape[0]):
                dot(x, start, stop, w[k], offset[k], out[k, start:stop])

    return softmax_matvec_kernel


@functools.cache
def evaluate(layout: Layout):
    """Kernel that fills ``z[:, lo:hi]`` and adds value and gradient to ``out``.

    ``out`` has one row per class, ``sum_i s_i (p_ki - [y_i = k]) (x_i, 1)``, and a last
    row that begins with the sum of the losses.
    """
    dot, axpy = layout.dot, layout.axpy

    @compiled()
    def softmax_evaluate_kernel(x, lo, hi, y, s, w, offset, z, out):
        n_classes, n_columns = w.shape
        p = np.empty((n_classes, BLOCK))
        top, others, first = np.empty(BLOCK), np.empty(BLOCK), np.empty(BLOCK)
        f = np.empty(BLOCK)
        for start in range(lo, hi, BLOCK):
            stop = min(start + BLOCK, hi)
            n = stop - start
            y_block, s_block = y[start:stop], s[start:stop]
            for k in range(n_classes):
                dot(x, start, stop, w[k], offset[k], z[k, start:stop])
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
                axpy(x, start, stop, r, out[k, :n_columns])
                out[k, n_columns] += total(r)
            out[n_classes, 0] += total(f[:n])

    return softmax_evaluate_kernel


@functools.cache
def hess_vec(layout: Layout):
    """Kernel that adds ``sum_i s_i D_i (X v)_i (x_i, 1)'`` to ``out``, class by class.

    ``D_i = diag(p_i) - p_i p_i'``.
    """
    dot, axpy = layout.dot, layout.axpy

    @compiled()
    def softmax_hess_vec_kernel(x, lo, hi, p, s, v, offset, out):
        n_classes, n_columns = v.shape
        u = np.empty((n_classes, BLOCK))
        largest, center, mean = np.empty(BLOCK), np.empty(BLOCK), np.empty(BLOCK)
        for start in range(lo, hi, BLOCK):
            stop = min(start + BLOCK, hi)
            n = stop - start
            s_block = s[start:stop]
            for i in range(n):
                largest[i] = -1.0
                mean[i] = 0.0
            for k in range(n_classes):
                dot(x, start, stop, v[k], offset[k], u[k, :n])
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
                axpy(x, start, stop, u_block, out[k, :n_columns])
                out[k, n_columns] += total(u_block)

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
