"""Many targets of least squares at once, with the factor that the first has paid for.

One by one, a target costs two reads of the rows and a run of its own. Side by side
their gradients are products of matrices, and each target is judged by itself.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from subsampled_newton import _parallel
from subsampled_newton._interrupts import quiet
from subsampled_newton.data import Rows
from subsampled_newton.embeddings import dense_block
from subsampled_newton.solvers._refinement import LOST
from subsampled_newton.solvers._whitener import Whitener

__all__ = ["TOGETHER", "SharedProblem", "Targets", "solve"]

Array = NDArray[np.float64]
TOGETHER = 64
"""Targets at once: a read is cheap beside their products then."""
BLOCK = 2_000_000
"""Numbers in a block of rows."""
MOST_STEPS = 4
"""Steps with an exact factor: if so many do not do, another solver must."""


class SharedProblem(NamedTuple):
    """What the targets have in common."""

    rows: Rows
    weights: Array
    """Of sum one."""
    ridge: Array
    whitener: Whitener


class Targets(NamedTuple):
    """Targets (n, k) with the mean and the unit of each: no copy of them is made."""

    y: Array
    mean: Array
    unit: Array

    def block(self, lo: int, hi: int) -> Array:
        """Rows of them, of mean 0 and unit size."""
        scaled: Array = (self.y[lo:hi] - self.mean) / self.unit
        return scaled


def solve(
    shared: SharedProblem, targets: Targets, *, tol: float, rtol: float
) -> tuple[Array, NDArray[np.int64]]:
    """Parameters (k, d) for each target, and the steps that they took.

    The steps are -1 where the tests of `_refinement` and of the gradient fail: this
    target is not solved.
    """
    whitener, k = shared.whitener, len(targets.unit)
    W, n_steps = np.zeros((len(shared.ridge), k)), np.full(k, -1)
    with _parallel.one_blas_thread(), quiet(all="ignore"):
        for i in range(MOST_STEPS + 1):
            G, values = _gradients(shared, targets, W)
            steps = -(whitener.matrix @ (whitener.matrix.T @ G))
            size = whitener.size[:, None]
            near = _norms(steps * size) <= rtol * _norms(W * size)
            near &= (_norms(G) <= tol) & np.isfinite(values)
            for j in np.flatnonzero(near & (n_steps < 0)):
                if whitener.outside(G[:, j], W[:, j], float(values[j])) <= LOST:
                    n_steps[j] = i
            going = n_steps < 0
            if not np.any(going):
                break
            W[:, going] += steps[:, going]
    return W.T, n_steps


def _gradients(
    shared: SharedProblem, targets: Targets, W: Array
) -> tuple[Array, Array]:
    """Gradient and value of F for each target, by one read of the rows."""
    rows, weights, ridge, _ = shared
    G, values = ridge[:, None] * W, 0.5 * (ridge @ W**2)
    n = rows.n_rows
    size = max(1, BLOCK // max(len(ridge), len(targets.unit)))
    for lo in range(0, n, size):
        hi = min(lo + size, n)
        A = dense_block(rows, lo, hi)
        R = A @ W - targets.block(lo, hi)
        scaled = weights[lo:hi, None] * R
        G += A.T @ scaled
        values += 0.5 * np.sum(R * scaled, axis=0)
    return G, values


def _norms(M: Array) -> Array:
    norms: Array = np.linalg.norm(M, axis=0)
    return norms
