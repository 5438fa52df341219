"""Predictions, value and gradient in one read of the rows.

Every block of rows is used twice, for ``z = X w`` and for ``X'r``, while it is in the
cache. That makes one read of X the cost of an evaluation.
"""

import functools

import numpy as np

from subsampled_newton._jit import compiled
from subsampled_newton.kernels.linear import total
from subsampled_newton.kernels.rows import BLOCK, Layout

__all__ = ["evaluate"]


@functools.cache
def evaluate(layout: Layout, value, d1):
    """Kernel that fills ``z[lo:hi]`` and adds to ``out`` (n_columns + 2).

    ``out`` receives ``sum_i s_i d1_i x_i``, ``sum_i s_i d1_i``, ``sum_i s_i value_i``.
    """
    dot, axpy, block_rows = layout.dot, layout.axpy, layout.block_rows

    @compiled()
    def evaluate_kernel(x, lo, hi, y, s, w, offset, z, out):
        n_columns = out.size - 2
        r = np.empty(BLOCK)
        f = np.empty(BLOCK)
        step = block_rows(n_columns)
        for start in range(lo, hi, step):
            stop = min(start + step, hi)
            n = stop - start
            z_block, y_block, s_block = z[start:stop], y[start:stop], s[start:stop]
            dot(x, start, stop, w, offset, z_block)
            for i in range(n):
                # Read before the first write: arrays might overlap, for all that LLVM
                # knows, and a second read would mean a second exponential.
                z_i, y_i, s_i = z_block[i], y_block[i], s_block[i]
                slope, loss = d1(z_i, y_i), value(z_i, y_i)
                r[i] = s_i * slope
                f[i] = s_i * loss
            axpy(x, start, stop, r[:n], out[:n_columns])
            out[n_columns] += total(r[:n])
            out[n_columns + 1] += total(f[:n])

    return evaluate_kernel
