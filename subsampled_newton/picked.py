"""Rows with a weight, where others have none: a row of weight 0 is as good as absent.

It is left out where data enter, so that nothing further in can meet it: no mean, no
sample and no count of rows. Few rows are copied; many are gathered piece by piece in
every read, so that no copy of the data is made.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from subsampled_newton import _memory
from subsampled_newton.columns import Columns, Work
from subsampled_newton.data import CHUNK, Rows
from subsampled_newton.losses import PointwiseLoss

__all__ = ["PickedRows", "pick", "used_rows"]

Array = NDArray[np.float64]
Indices = NDArray[np.intp]
PIECE = 1 << 25
"""Bytes of rows that are gathered at a time. Fewer are copied once, for the fit."""


def used_rows(weights: Array) -> Indices | None:
    """Rows of positive weight; None if all have one, which costs a look at them.

    A weight that is 0 beside the largest, in float64, is none.
    """
    largest = weights.max()
    with np.errstate(under="ignore"):
        if weights.min() / largest > 0.0:
            return None
        return np.flatnonzero(weights / largest > 0.0)


def pick(rows: Rows, kept: Indices) -> Rows:
    """Return some of the rows: in a copy if it is small, or on a device."""
    n_bytes, on_host = len(kept) * rows.row_bytes, rows.device_bytes == 0
    if on_host and n_bytes > PIECE:
        return PickedRows(rows, kept)
    with rows.work.uncounted():  # what it is for will be
        part = rows.take(kept)
    part.gathered_bytes = n_bytes * on_host
    return part


class PickedRows(Rows):
    """Some rows of a container on the host, gathered piece by piece in every read.

    Parameters
    ----------
    rows : Rows
        The container; not copied.
    kept : ndarray of int
        Which of its rows, in increasing order.
    """

    def __init__(self, rows: Rows, kept: Indices) -> None:
        self._rows = copy.copy(rows)
        self._rows.work = Work()  # the reads of a piece are counted here, once
        self._kept = kept
        self.n_rows = len(kept)
        self.columns, self.work, self.layout = rows.columns, rows.work, rows.layout
        self._arrays = ()  # kernels read the pieces
        self._n_elements = max(1, rows._n_elements // rows.n_rows) * self.n_rows
        self.gathered_bytes = PIECE

    @property
    def row_bytes(self) -> int:
        return self._rows.row_bytes

    @property
    def dtype(self) -> Any:
        return self._rows.dtype

    @property
    def buffer_bytes(self) -> int:
        return self._rows.buffer_bytes

    @property
    def single_rows_bytes(self) -> int:
        return self.n_rows * self.row_bytes

    def take(self, rows: Indices) -> Rows:
        part = self._rows.take(self._kept[rows])
        part.work = self.work
        self.work.rows_read += len(rows)
        return part

    def with_columns(self, columns: Columns) -> Rows:
        view = copy.copy(self)
        view.__dict__.pop("compact", None)
        view.columns, view._rows = columns, self._rows.with_columns(columns)
        return view

    @cached_property
    def compact(self) -> Rows:
        """A copy, for what reads single rows in random order."""
        n_bytes = self.n_rows * self.row_bytes
        _memory.require(
            n_bytes,
            f"a copy of the {self.n_rows:,} rows that have a weight",
            "take a solver that reads all rows at a time, as 'newton' or 'lbfgs'",
        )
        with self.work.uncounted():
            return self.take(np.arange(self.n_rows))

    def pieces(self) -> Iterator[tuple[slice, Rows]]:
        step = max(CHUNK, PIECE // max(1, self.row_bytes))
        for lo in range(0, self.n_rows, step):
            part = slice(lo, min(lo + step, self.n_rows))
            self.work.rows_read += part.stop - part.start
            yield part, self._rows.take(self._kept[part])

    def _added(self, of_piece: Callable[[slice, Rows], Any]) -> Any:
        """Sum over the pieces, in their order."""
        parts = self.pieces()
        total = of_piece(*next(parts))
        for part, rows in parts:
            total = total + of_piece(part, rows)
        return total

    def _joined(
        self, of_piece: Callable[[slice, Rows], Array], shape: tuple[int, ...] = ()
    ) -> Array:
        """Numbers of all rows, the last axis, from those of the pieces."""
        out = np.empty((*shape, self.n_rows))
        for part, rows in self.pieces():
            out[..., part] = of_piece(part, rows)
        return out

    def matvec(self, w: Array) -> Array:
        return self._joined(lambda part, rows: rows.matvec(w))

    def rmatvec(self, r: Array) -> Array:
        total: Array = self._added(lambda part, rows: rows.rmatvec(r[part]))
        return total

    def hess_vec(self, h: Array, v: Array) -> Array:
        total: Array = self._added(lambda part, rows: rows.hess_vec(h[part], v))
        return total

    def _gram(self, h: Array) -> Array:
        total: Array = self._added(lambda part, rows: rows._gram(h[part]))
        return total

    def _moments(self, weights: Array, center: Array) -> Array:
        total: Array = self._added(
            lambda part, rows: rows._moments(weights[part], center)
        )
        return total

    def _row(self, index: int) -> Array:
        return self._rows._row(int(self._kept[index]))

    def evaluate(
        self, loss: PointwiseLoss, y: Array, weights: Array, w: Array
    ) -> tuple[Array, float, Array]:
        z = np.empty(self.n_rows)

        def of_piece(part: slice, rows: Rows) -> Array:
            z[part], value, gradient = rows.evaluate(loss, y[part], weights[part], w)
            return np.append(gradient, value) * rows.n_rows

        total = self._added(of_piece) / self.n_rows
        return z, float(total[-1]), total[:-1]

    def class_predictions(self, W: Array) -> Array:
        return self._joined(lambda part, rows: rows.class_predictions(W), (len(W),))

    def class_evaluate(
        self, y: Array, weights: Array, W: Array
    ) -> tuple[Array, float, Array]:
        Z = np.empty((len(W), self.n_rows))

        def of_piece(part: slice, rows: Rows) -> Array:
            Z[:, part], value, G = rows.class_evaluate(y[part], weights[part], W)
            return np.append(G, value) * rows.n_rows

        total = self._added(of_piece) / self.n_rows
        return Z, float(total[-1]), total[:-1].reshape(len(W), -1)

    def class_hess_vec(self, P: Array, weights: Array, V: Array) -> Array:
        total: Array = self._added(
            lambda part, rows: rows.class_hess_vec(_columns(P, part), weights[part], V)
        )
        return total

    def class_hessian(self, P: Array, weights: Array) -> Array:
        total: Array = self._added(
            lambda part, rows: rows.class_hessian(_columns(P, part), weights[part])
        )
        return total

    def row_norms(self) -> Array:
        return self._joined(lambda part, rows: rows.row_norms())

    def _block(self, lo: int, hi: int) -> Any:
        part = self._rows.take(self._kept[lo:hi])
        return part._block(0, hi - lo)


def _columns(P: Array, part: slice) -> Array:
    """Columns in C order: kernels are compiled for one."""
    return np.ascontiguousarray(P[:, part])
