"""Rows in random order, as the epochs of stochastic methods read them."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from subsampled_newton.data import CSRRows, DenseRows
from subsampled_newton.kernels import draws, epochs, lagged
from subsampled_newton.kernels.rows import COLUMN_MAJOR, CSR
from subsampled_newton.linear_model import LinearModel
from subsampled_newton.picked import PickedRows
from subsampled_newton.problem import FiniteSum
from subsampled_newton.sample_losses import DualLoss, SampleLoss, sample_loss
from subsampled_newton.softmax_model import SoftmaxModel

__all__ = ["Samples", "check_problem", "curvature_bound", "samples_of"]

Array = NDArray[np.float64]
Indices = NDArray[np.intp]
CHUNK_ELEMENTS = 1 << 24
"""Numbers read between two chances to answer Ctrl-C: some hundredths of a second."""
CHUNK = 1 << 18
"""Largest number of indices that are drawn at a time."""


@dataclass(frozen=True)
class Samples:
    """The samples of a problem: a function of the problem and of the probabilities.

    Rows of weight 0 are left out: means are over the ``n`` others, with weights of mean
    one, so that a row of weight 0 is as good as removed.
    """

    problem: LinearModel
    n: int
    active: Indices | None
    """Rows with a weight; None if all have one."""
    table: Array
    """Target, weight, importance and squared norm of every row; see `epochs`."""
    sizes: Array
    """``s_i ||x_i||**2``: smoothness constants over the curvature of the loss."""
    alias: tuple[Array, NDArray[np.int64]] | None = None

    @property
    def n_outputs(self) -> int:
        """Predictions per row."""
        return self.loss.n_outputs

    @cached_property
    def loss(self) -> SampleLoss:
        """The loss of one sample."""
        return sample_loss(self.problem.loss)

    def with_probabilities(self, p: Array | None) -> Samples:
        """Return the samples with probabilities ``p / n``; None means uniform."""
        if p is None:
            return self
        table = self.table.copy()
        table[self._active, epochs.IMPORTANCE] = 1.0 / p
        return replace(self, table=table, alias=draws.alias_table()(p))

    def draw(self, rng: np.random.Generator, size: int) -> Indices:
        """Draw rows, each independent of the others."""
        if self.alias is None:
            order = rng.integers(self.n, size=size)
        else:
            order = np.empty(size, dtype=np.int64)
            draws.draw()(rng.random(size), *self.alias, order)
        return order if self.active is None else self.active[order]

    def shuffled(self, rng: np.random.Generator) -> Indices:
        """All rows in random order."""
        order = rng.permutation(self.n)
        return order if self.active is None else self.active[order]

    @property
    def chunk(self) -> int:
        """Rows that are read between two chances to answer Ctrl-C."""
        rows = self.problem.rows
        per_row = max(1, rows._n_elements // rows.n_rows)
        return min(CHUNK, max(1024, CHUNK_ELEMENTS // per_row))

    def count(self, n_gradients: int) -> None:
        """Count the gradients of single samples."""
        self.problem.work.rows_read += n_gradients
        self.problem.work.props += 2 * n_gradients

    def of_active(self, values: Array) -> Array:
        """Entries that belong to rows with a weight."""
        selected: Array = values[self._active]
        return selected

    def parameters(self, w: Array) -> Array:
        """Parameters as a matrix with one row per output, in a copy."""
        return np.array(w.reshape(self.n_outputs, -1))

    def slopes(self, predictions: Array, out: Array) -> None:
        """Fill ``out[:, :n_outputs]`` with ``s_i`` times the derivatives."""
        if isinstance(self.problem, SoftmaxModel):
            predictions = self.problem.parameters(predictions)
        z = predictions.reshape(self.n_outputs, -1)
        epochs.fill_table(self.loss)(z, self.table, out)

    @property
    def _active(self) -> Any:
        return slice(None) if self.active is None else self.active

    # Kernels, and what they need to know of the rows.

    @property
    def x(self) -> tuple[NDArray[Any], ...]:
        """The arrays that hold the rows."""
        return self.problem.rows.single_rows

    @cached_property
    def columns(self) -> tuple[Array, Array]:
        """Shift and scale of the stored columns."""
        columns = self.problem.rows.columns
        return (
            np.ascontiguousarray(columns.shift, dtype=np.float64),
            np.ascontiguousarray(columns.scale, dtype=np.float64),
        )

    @cached_property
    def ridge(self) -> tuple[NDArray[Any], ...]:
        """Ridge weights as the kernels of the layout want them."""
        l2 = self.parameters(self.problem.l2)
        if not self._sparse:
            return (l2,)
        n_raw = len(self.columns[0])
        groups, group = np.unique(l2[:, :n_raw], axis=1, return_inverse=True)
        return (
            (np.ravel(group) * len(groups)).astype(np.int32),
            np.ravel(groups, order="F"),
            l2[:, -1].copy(),
        )

    def variance_reduced(self, method: str) -> Any:
        """Kernel of SAG, SAGA or SVRG."""
        if self._sparse:
            return lagged.lagged_variance_reduced(method, self.loss)
        return epochs.dense_variance_reduced(method, self.loss, *self._storage)

    def gradient_steps(self, averaging: bool) -> Any:
        """Kernel of stochastic gradient descent."""
        if self._sparse:
            return lagged.lagged_gradient_steps(self.loss, averaging)
        return epochs.dense_gradient_steps(self.loss, *self._storage)

    def dual_ascent(
        self, loss: DualLoss, l2: Array, order: Indices, w: Array, dual: Array
    ) -> Array:
        """Return ``w(a)`` after exact steps along the dual variables in order.

        ``dual`` changes in place; ``w`` does not.
        """
        factor = 1.0 / (self.n * l2)
        if self._sparse:
            kernel: Any = lagged.sparse_dual_ascent(loss.ascend)
            n_raw = len(self.columns[1])
            scale = np.append(self.columns[1], 1.0)[: len(w)]
            factor *= scale * scale
            if np.all(factor[:n_raw] == factor[0]):
                factor = factor[n_raw - 1 :]
        else:
            kernel = epochs.dense_dual_ascent(loss.ascend, *self._storage)
            scale = np.ones(len(w))
        u = scale * w
        for start in range(0, len(order), self.chunk):
            part = order[start : start + self.chunk]
            kernel(self.x, self.columns, factor, self.table, part, u, dual)
        self.count(len(order))
        solution: Array = np.divide(u, scale, out=np.zeros_like(u), where=scale != 0.0)
        return solution

    @property
    def _sparse(self) -> bool:
        return isinstance(self.problem.rows, CSRRows)

    @property
    def _storage(self) -> tuple[bool, bool]:
        """Whether dense rows are column-major, and whether they are used as stored."""
        columns = self.problem.rows.columns
        plain = np.all(columns.scale == 1.0) and not np.any(columns.shift)
        column_major = self.problem.rows.layout is COLUMN_MAJOR
        return column_major, bool(plain and not columns.intercept)


def check_problem(problem: FiniteSum, solver: str) -> LinearModel:
    """Return the problem, or raise where epoch kernels cannot read it."""
    if not isinstance(problem, LinearModel):
        raise TypeError(f"{solver} needs a LinearModel, got {type(problem).__name__}")
    rows = problem.rows
    if not isinstance(rows, DenseRows | CSRRows | PickedRows):
        raise TypeError(
            f"{solver} reads single rows and needs them in the memory of the host, "
            f"dense or CSR, got {type(rows).__name__}: use device='cpu', or a solver "
            "that reads all rows at a time, such as SubsampledNewton or LBFGS"
        )
    if rows.layout is CSR and np.any(rows.columns.shift):
        raise TypeError(
            f"{solver} needs sparse rows without a shift: centred rows are dense. "
            "Make the Columns with shift 0, or X dense"
        )
    return problem


def samples_of(problem: LinearModel, norms: Array | None = None) -> Samples:
    """Return the samples of a problem, for one read of the rows.

    ``norms`` takes the place of the squared norms, which then need no read.
    """
    rows = problem.rows
    if isinstance(rows, PickedRows):
        problem = copy.copy(problem)
        problem.rows = rows.compact
    weights = problem.weights
    if norms is None:
        norms = problem.rows.row_norms()
    active = None
    n = problem.n_samples
    if not np.all(weights):
        active = np.flatnonzero(weights)
        weights = weights * (len(active) / n)
        n = len(active)
    table = np.column_stack([problem.y, weights, np.ones(len(weights)), norms])
    return Samples(problem, n, active, table, weights * norms)


def curvature_bound(problem: LinearModel, solver: str, remedy: str) -> float:
    """Bound of the curvature of the loss; raise where there is none."""
    bound = float(problem.loss.curvature_bound)
    if math.isinf(bound):
        raise TypeError(
            f"{solver} with step_size='1/L' needs a loss of bounded curvature, got "
            f"the {problem.loss.name} loss: use {remedy}"
        )
    return bound
