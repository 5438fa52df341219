"""Draws from a discrete distribution in constant time each."""

import functools

import numpy as np

from subsampled_newton._jit import compiled

__all__ = ["alias_table", "draw"]


@functools.cache
def alias_table():
    """Kernel that returns Walker's table of probabilities ``p`` of mean one.

    Cell i belongs to i below ``threshold[i]`` and to ``alias[i]`` above [1]_.

    References
    ----------
    .. [1] M. D. Vose, A linear algorithm for generating random numbers with a given
       distribution, IEEE Trans. Software Eng. 17, 1991.
    """

    @compiled()
    def alias_table_kernel(p):
        n = p.size
        threshold, alias = p.copy(), np.arange(n)
        waiting = np.empty(
            n, dtype=np.int64
        )  # small from the left, large from the right
        n_small, n_large = 0, 0
        for i in range(n):
            if p[i] < 1.0:
                waiting[n_small] = i
                n_small += 1
            else:
                n_large += 1
                waiting[n - n_large] = i
        while n_small > 0 and n_large > 0:
            small, large = waiting[n_small - 1], waiting[n - n_large]
            alias[small] = large
            threshold[large] -= 1.0 - threshold[small]
            n_small -= 1
            if threshold[large] < 1.0:
                n_large -= 1
                waiting[n_small] = large
                n_small += 1
        # What rounding leaves over is full.
        for i in range(n_small):
            threshold[waiting[i]] = 1.0
        for i in range(n - n_large, n):
            threshold[waiting[i]] = 1.0
        return threshold, alias

    return alias_table_kernel


@functools.cache
def draw():
    """Kernel that turns uniform numbers in [0, 1) into draws, one number for each."""

    @compiled()
    def draw_kernel(u, threshold, alias, out):
        n = threshold.size
        for k in range(u.size):
            position = u[k] * n
            cell = min(int(position), n - 1)
            out[k] = cell if position - cell < threshold[cell] else alias[cell]

    return draw_kernel
