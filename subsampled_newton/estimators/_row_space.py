"""Problems with fewer rows than columns, solved in coordinates of their row space.

A minimizer under one penalty for all coefficients, and the one of the smallest norm
without a penalty, lies in the span of the rows. With ``A = U S B'`` for the centred
columns A (n, d) the coefficients are ``B v``, and v has n numbers: a problem on the
columns ``sqrt(n) U``, which are orthogonal whatever the condition number of A.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from subsampled_newton import _memory, _parallel
from subsampled_newton.columns import Columns
from subsampled_newton.data import CSRRows, DenseRows, Rows, as_rows
from subsampled_newton.embeddings import dense_block
from subsampled_newton.linear_model import FORMED_MAX_PARAMS
from subsampled_newton.solvers._driver import _now
from subsampled_newton.solvers._result import Result
from subsampled_newton.solvers._whitener import EPS, NOISE

__all__ = ["LARGEST_SPARSE", "SMALL_SPARSE", "RowSpace", "row_space"]

Array = NDArray[np.float64]
MOST_ROWS = 2000
"""A singular value decomposition of so many rows takes some seconds."""
SMALL_SPARSE = 4e6
"""Numbers in sparse rows, zeros included, that are factored in a fraction of a second,
in 160 MB: conjugate gradients gain little time, and may lose digits."""
LARGEST_SPARSE = 2e7
"""The same where conjugate gradients have failed: seconds."""
FIRM = 1e-6
"""Ridge weight from which conjugate gradients need few products."""
COPIES = 5
"""Copies of the rows in float64: centred, their factors, and the basis."""


@dataclass(frozen=True)
class RowSpace:
    """Coordinates of the span of the rows."""

    columns: Columns
    """Those of the problem as it was."""
    rows: Rows
    """Rows in the coordinates, with the intercept if there is one."""
    ridge: Array
    basis: Array
    """``w = basis @ v`` (d, r), without the intercepts."""
    dual: Array
    """``g = dual @ (gradient in v)`` (d, r)."""
    center: Array
    """Weighted means of the columns, subtracted where there is an intercept."""
    condition: float
    seconds: float
    """What it has taken to find them, beside one read of the rows."""
    memory_bytes: int
    passes: float = 1.0

    def after(self, result: Result) -> RowSpace:
        """The same with the cost of a run that has failed before."""
        return replace(
            self,
            seconds=self.seconds + result.seconds,
            passes=self.passes + result.passes,
            memory_bytes=max(self.memory_bytes, result.memory_bytes),
        )

    def expand(self, v: Array) -> Array:
        """Parameters of the problem as it was, from one vector or every row of one."""
        r = self.basis.shape[1]
        w = v[..., :r] @ self.basis.T
        if not self.columns.intercept:
            return w
        constant = v[..., r] - w @ self.center
        return np.concatenate([w, constant[..., None]], axis=-1)

    def contract(self, w: Array) -> Array:
        """The part in the row space of parameters of the problem as it was."""
        d = len(self.dual)
        v = w[..., :d] @ self.dual
        if not self.columns.intercept:
            return v
        constant = w[..., d] + w[..., :d] @ self.center
        return np.concatenate([v, constant[..., None]], axis=-1)

    def to_raw(self, v: Array) -> tuple[Array, Any]:
        """As `Columns.to_raw`."""
        return self.columns.to_raw(self.expand(v))

    def expanded(self, result: Result) -> Result:
        """Result whose parameters and gradient are those of the problem as it was.

        With the cost of the coordinates.
        """
        r, more = self.basis.shape[1], int(self.columns.intercept)
        w = self.expand(result.w.reshape(-1, r + more)).ravel()
        g = result.gradient.reshape(-1, r + more)
        gradient = g[:, :r] @ self.dual.T
        if more:
            gradient = np.column_stack(
                [gradient + np.outer(g[:, r], self.center), g[:, r]]
            )
        return replace(
            result,
            w=w,
            gradient=gradient.ravel(),
            seconds=result.seconds + self.seconds,
            passes=result.passes + self.passes,
            memory_bytes=max(result.memory_bytes, self.memory_bytes),
        )


def row_space(
    rows: Rows,
    ridge: Array,
    weights: Array,
    most_sparse: float = 0.0,
    *,
    formed: bool = False,
) -> RowSpace | None:
    """Return coordinates of the row space, or None where they do not pay.

    The ridge is that of one penalty for all stored columns, or none. Sparse rows with
    at most ``most_sparse`` numbers, zeros included, are made dense where they have too
    many columns for another factorisation. ``formed`` says that with fewer columns a
    matrix of columns x columns would be formed whatever the ridge.
    """
    n, columns = rows.n_rows, rows.columns
    d = len(columns.scale)
    if n >= d or n > MOST_ROWS or not _suited(rows, ridge, most_sparse, formed):
        return None
    n_bytes = COPIES * 8 * n * d
    if not _memory.affords(n_bytes):
        return None
    clock = _now()
    penalised = bool(np.any(ridge))
    seen = columns.scale > 0.0  # columns without a scale are zero: so are coefficients
    measure = np.where(seen, columns.scale, 1.0) if penalised else np.ones(d)
    A = dense_block(rows, 0, n)[:, :d]
    A[weights == 0.0] = 0.0
    center = np.zeros(d)
    if columns.intercept:
        center = weights @ A / weights.sum()
        A -= center
        A[weights == 0.0] = 0.0
    if not np.all(np.isfinite(A)):
        return None
    with _parallel.one_blas_thread():  # the same bits on any number of threads
        Q, R = np.linalg.qr((A / measure).T)
        U, s, Wt = np.linalg.svd(R.T)
        basis = Q @ Wt.T
    kept = s > 2 * max(d, 64) * EPS * s[0]
    if not penalised and columns.noise is not None:
        noise = NOISE * math.sqrt(n) * columns.noise[:d, None]
        kept &= s > np.linalg.norm(noise * basis, axis=0)
    if not np.any(kept):
        return None
    size, basis = s[kept] / math.sqrt(n), basis[:, kept]
    l2 = float(np.max((ridge[:d] / measure**2)[seen])) if penalised else 0.0
    more, r = int(columns.intercept), len(size)
    plain = Columns(np.ones(r), np.zeros(r), columns.intercept)
    inner = as_rows(np.ascontiguousarray(U[:, kept] * math.sqrt(n)))
    return RowSpace(
        columns,
        inner.with_columns(plain),
        np.append(l2 / size**2, np.zeros(more)),
        basis / size / measure[:, None],
        basis * size * measure[:, None],
        center,
        float(s[0] / s[kept][-1]),
        _now() - clock,
        n_bytes,
    )


def _suited(rows: Rows, ridge: Array, most_sparse: float, formed: bool) -> bool:
    """Whether nothing else is as fast.

    Sparse rows are made dense where the alternative is a matrix of columns x columns,
    and not conjugate gradients, which are fast with a ridge.
    """
    if type(rows) is DenseRows:
        return True
    if type(rows) is not CSRRows:
        return False
    if rows.n_params > FORMED_MAX_PARAMS:
        return rows.n_rows * rows.n_params <= most_sparse
    return formed or float(np.max(ridge, initial=0.0)) < FIRM
