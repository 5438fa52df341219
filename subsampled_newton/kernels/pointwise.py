"""Maps of a loss over predictions."""

import functools

import numpy as np

from subsampled_newton._jit import compiled
from subsampled_newton.kernels.linear import total
from subsampled_newton.kernels.rows import BLOCK

__all__ = ["mean_along", "weighted"]


@functools.cache
def weighted(f):
    """Kernel that fills ``out[i] = s[i] f(z[i], y[i])`` for ``lo <= i < hi``."""

    @compiled()
    def weighted_kernel(z, y, s, lo, hi, out):
        z_part, y_part, s_part, part = z[lo:hi], y[lo:hi], s[lo:hi], out[lo:hi]
        for i in range(part.size):
            part[i] = s_part[i] * f(z_part[i], y_part[i])

    return weighted_kernel


@functools.cache
def mean_along(f):
    """Kernel that adds ``sum_i s[i] f(z[i] + t u[i], y[i])`` to ``out[0]``."""

    @compiled()
    def mean_along_kernel(z, u, t, y, s, lo, hi, out):
        values = np.empty(BLOCK)
        for start in range(lo, hi, BLOCK):
            stop = min(start + BLOCK, hi)
            z_part, u_part = z[start:stop], u[start:stop]
            y_part, s_part = y[start:stop], s[start:stop]
            block = values[: stop - start]
            for i in range(block.size):
                block[i] = s_part[i] * f(z_part[i] + t * u_part[i], y_part[i])
            out[0] += total(block)

    return mean_along_kernel
