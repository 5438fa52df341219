"""Containers of sample rows. All access to the data goes through here.

A container stands for a matrix with one row per sample and one column per *parameter*.
Its columns are those of the stored array, optionally shifted, scaled and followed by a
column of ones (`Columns`); the array itself is never copied or changed.

Vectors of length ``n_params`` are NumPy arrays on the host. Vectors of length
``n_rows`` live where the rows live and are touched through the methods only. Sums run
in float64, also for float32 data, in an order that does not depend on the threads.
"""

from __future__ import annotations

import importlib
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from subsampled_newton import _memory, _parallel
from subsampled_newton.columns import Columns, Work
from subsampled_newton.kernels import fused, gram, linear, pointwise, softmax
from subsampled_newton.kernels.rows import (
    BLOCK,
    COLUMN_MAJOR,
    CSR,
    ROW_MAJOR,
    Layout,
)
from subsampled_newton.losses import PointwiseLoss
from subsampled_newton.parameters import check_one_of, shown

__all__ = [
    "CSRRows",
    "DenseRows",
    "Rows",
    "as_rows",
    "check_sparse",
    "fill_symmetric",
    "host_array",
    "on_device",
    "plain_columns",
]

Array = NDArray[np.float64]
CHUNK = 2048
"""Rows that are copied to a buffer at a time where BLAS needs them transformed."""
MATRIX_COPIES = 4
"""A matrix, two copies of it while it is scaled and factored, and some of vectors."""
BUFFER = 1 << 15
"""Numbers that are converted at a time where kernels do not read what is stored: they
stay in the second-level cache until a kernel has read them."""
EVERY = slice(None)
"""All rows, which are then read where they are."""
GRAM_MAX_PARAMS = 250
"""Up to here our kernel for Gram matrices is faster than BLAS on copied blocks."""


class Rows(ABC):
    """A matrix of samples, stored somewhere."""

    sampling_pays: ClassVar[bool] = True
    """Whether a sample of the rows takes less time than a read of all of them."""

    layout: Layout
    columns: Columns
    work: Work
    n_rows: int
    gathered_bytes: int = 0
    """Bytes of a copy that was made of the rows for the time of a fit."""
    _arrays: tuple[NDArray[Any], ...]
    _n_elements: int

    @property
    def n_params(self) -> int:
        """Columns of the matrix, those that `Columns` adds included."""
        return self.columns.n_params

    @abstractmethod
    def take(self, rows: NDArray[np.intp]) -> Rows:
        """Return a compact copy of some rows."""

    @abstractmethod
    def with_columns(self, columns: Columns) -> Rows:
        """Return the same rows, not copied, with other columns."""

    @abstractmethod
    def _moments(self, weights: Array, center: Array) -> Array:
        """``sum_i s_i (x_ij - c_j)`` and its squares for the stored columns (2, d)."""

    @abstractmethod
    def _row(self, index: int) -> Array:
        """A stored row to take deviations from, without what is not finite; or zeros
        where that would cost memory."""

    @abstractmethod
    def _block(self, lo: int, hi: int) -> Any:
        """Stored rows as something that ``@`` takes."""

    @property
    def row_bytes(self) -> int:
        """Bytes of a stored row, on average."""
        return sum(array.nbytes for array in self._arrays) // self.n_rows

    def pieces(self) -> Iterator[tuple[slice, Rows]]:
        """All rows, as containers whose arrays the kernels read."""
        yield slice(0, self.n_rows), self

    @property
    def dtype(self) -> Any:
        """Type of the stored numbers."""
        return self._arrays[0].dtype

    @property
    def buffer_bytes(self) -> int:
        """Bytes of the buffer through which a thread reads the rows; 0 if none."""
        return 0

    @property
    def single_rows(self) -> tuple[NDArray[Any], ...]:
        """Arrays for kernels that read rows in any order."""
        return self._arrays

    @property
    def single_rows_bytes(self) -> int:
        """Bytes of the copy that `single_rows` makes; 0 if it makes none."""
        return 0

    def _pieces(
        self, lo: int, hi: int, step: int | None = None
    ) -> Iterator[tuple[tuple[NDArray[Any], ...], int, int, slice]]:
        """Rows as kernels read them: in place, or converted in a buffer.

        Arrays, the first and the last row in these, and where these arrays begin and
        end among all rows: `EVERY` in place. Pieces are multiples of ``step`` rows, of
        those that kernels read at a time, so that sums have the same order.
        """
        yield self._arrays, lo, hi, EVERY

    @property
    def device_bytes(self) -> int:
        """Bytes that the rows take on a device; 0 if they are on the host."""
        return 0

    def place(self, values: Any) -> Any:
        """Put a vector of the rows where the rows live: on the host as it is."""
        return values

    def on_host(self) -> Rows:
        """Return the same rows in the memory of the host."""
        return self

    def refuse_non_finite(self) -> None:
        """Raise ValueError where an entry is not finite. Reads the rows of the host."""
        for lo in range(0, self.n_rows, CHUNK):
            block = self._block(lo, min(lo + CHUNK, self.n_rows))
            data = block.data if sp.issparse(block) else block
            if not np.all(np.isfinite(data)):
                A = block.toarray() if sp.issparse(block) else block
                i, j = np.argwhere(~np.isfinite(A))[0]
                raise ValueError(
                    f"X must be finite, got {A[i, j]} in row {lo + i}, column {j}"
                )

    def _transformed(self, lo: int, hi: int) -> Array:
        """Rows in float64, shifted and scaled, in a buffer of their own if need be.

        Before the product, not after it: squares of raw columns can overflow, and those
        of columns far from 0 lose the digits that a shift would leave.
        """
        block = self._block(lo, hi)
        A: Array = block.toarray() if sp.issparse(block) else block
        A = A.astype(np.float64, copy=False)
        if np.any(self.columns.shift):
            A = A - self.columns.shift
        return A if np.all(self.columns.scale == 1.0) else A * self.columns.scale

    def matvec(self, w: Array) -> Array:
        """Predictions ``X @ w``."""
        u, constant = self.columns.to_raw(w)
        kernel = linear.matvec(self.layout)
        z = np.empty(self.n_rows)

        def block(lo: int, hi: int) -> None:
            for x, start, stop, part in self._pieces(lo, hi):
                kernel(x, start, stop, u, constant, z[part])

        self._run(block)
        return z

    def rmatvec(self, r: Array) -> Array:
        """``X.T @ r``."""
        kernel = linear.rmatvec(self.layout)

        def block(lo: int, hi: int) -> Array:
            out = np.zeros(self._n_raw + 1)
            for x, start, stop, part in self._pieces(lo, hi):
                kernel(x, start, stop, r[part], out)
            return out

        total = self._sum(block)
        return self.columns.gradient(total[:-1], total[-1])

    def hess_vec(self, h: Array, v: Array) -> Array:
        """``X.T @ (h * (X @ v))`` in one read of the rows."""
        u, constant = self.columns.to_raw(v)
        kernel = linear.hess_vec(self.layout)

        def block(lo: int, hi: int) -> Array:
            out = np.zeros(self._n_raw + 1)
            for x, start, stop, part in self._pieces(lo, hi):
                kernel(x, start, stop, h[part], u, constant, out)
            return out

        total = self._sum(block)
        return self.columns.gradient(total[:-1], total[-1])

    def gram(self, h: Array) -> Array:
        """``X.T @ diag(h) @ X``, for few columns: the result is dense."""
        self._require_matrix(self.n_params)
        return self._gram(h)

    def _require_matrix(self, d: int) -> None:
        """Refuse a matrix (d, d) that does not fit, with a part of it per thread."""
        copies = max(MATRIX_COPIES, _parallel.n_threads() + 2)
        _memory.require(
            8.0 * copies * d * d,
            f"a matrix of {d:,} x {d:,} parameters, with its factor,",
            "take a solver that forms none, as 'newton-cg' or 'lbfgs'",
        )

    def _gram(self, h: Array) -> Array:
        d = self._n_raw

        def block(lo: int, hi: int) -> Array:
            out = np.zeros((d + 1, d + 1))
            for start in range(lo, hi, CHUNK):
                stop = min(start + CHUNK, hi)
                A = self._transformed(start, stop)
                hA = h[start:stop, None] * A
                out[:d, :d] += A.T @ hA
                out[d, :d] += hA.sum(axis=0)
                out[d, d] += h[start:stop].sum()
            return out

        with _parallel.one_blas_thread():
            total = self._sum(block, (d + 1) ** 2)
        total[:d, d] = total[d, :d]
        return total[: self.n_params, : self.n_params]

    def gram_diagonal(self, h: Array) -> Array:
        """Diagonal of ``X.T @ diag(h) @ X``."""
        squares = self._moments(h, self.columns.shift)[1] * self.columns.scale**2
        return np.append(squares, h.sum())[: self.n_params]

    def column_moments(self, weights: Array) -> tuple[Array, Array]:
        """Weighted mean and root mean square deviation of the stored columns."""
        # Deviations from a row, not from 0: otherwise an offset of 1e8 times the spread
        # would leave no digit of the variance. From one that counts: otherwise a row
        # far off that hardly has a weight would.
        center = self._row(int(np.argmax(np.asarray(weights))))
        weights = self.place(weights)
        first, second = self._moments(weights, center) / weights.sum()
        return center + first, np.sqrt(np.maximum(second - first * first, 0.0))

    def evaluate(
        self, loss: PointwiseLoss, y: Array, weights: Array, w: Array
    ) -> tuple[Array, float, Array]:
        """Predictions, mean loss and its gradient, with one read of the rows."""
        u, constant = self.columns.to_raw(w)
        kernel = fused.evaluate(self.layout, loss.value, loss.d1)
        z = np.empty(self.n_rows)

        def block(lo: int, hi: int) -> Array:
            out = np.zeros(self._n_raw + 2)
            for x, start, stop, part in self._pieces(lo, hi):
                targets, s = y[part], weights[part]
                kernel(x, start, stop, targets, s, u, constant, z[part], out)
            return out

        total = self._sum(block) / self.n_rows
        return z, float(total[-1]), self.columns.gradient(total[:-2], total[-2])

    def pointwise(
        self, f: Callable[[float, float], float], z: Array, y: Array, weights: Array
    ) -> Array:
        """``weights_i f(z_i, y_i)`` for all i."""
        kernel = pointwise.weighted(f)
        out = np.empty(len(z))
        edges = _parallel.bounds(len(z), 16 * len(z))
        _parallel.run(
            lambda k: kernel(z, y, weights, edges[k], edges[k + 1], out), len(edges) - 1
        )
        return out

    def mean_along(
        self,
        f: Callable[[float, float], float],
        z: Array,
        u: Array,
        t: float,
        y: Array,
        weights: Array,
    ) -> float:
        """Mean of ``weights_i f(z_i + t u_i, y_i)``, without reading the rows."""
        kernel = pointwise.mean_along(f)
        edges = _parallel.bounds(len(z), 16 * len(z))

        def block(k: int) -> Array:
            out = np.zeros(1)
            kernel(z, u, t, y, weights, edges[k], edges[k + 1], out)
            return out

        return float(_parallel.sum_parts(block, len(edges) - 1)[0]) / len(z)

    # Several predictions per row, class by class: arrays of shape (n_classes, n_rows).

    def class_predictions(self, W: Array) -> Array:
        """``W X.T`` for one row of parameters per class."""
        U, constants = self._raw_classes(W)
        kernel = softmax.matvec(self.layout)
        Z = np.empty((len(W), self.n_rows))

        def block(lo: int, hi: int) -> None:
            for x, start, stop, part in self._pieces(lo, hi):
                z = _of_rows(Z, part)
                kernel(x, start, stop, U, constants, z)
                if z is not Z:
                    Z[:, part] = z

        self._run(block)
        return Z

    def class_evaluate(
        self, y: Array, weights: Array, W: Array
    ) -> tuple[Array, float, Array]:
        """Predictions, mean softmax loss and its gradient, in one read of the rows."""
        U, constants = self._raw_classes(W)
        kernel = softmax.evaluate(self.layout)
        Z = np.empty((len(W), self.n_rows))

        def block(lo: int, hi: int) -> Array:
            out = np.zeros(U.size + len(W) + 1)
            G, sums = out[: U.size].reshape(U.shape), out[U.size :]
            for x, start, stop, part in self._pieces(lo, hi):
                z, targets, s = _of_rows(Z, part), y[part], weights[part]
                kernel(x, start, stop, targets, s, U, constants, z, G, sums)
                if z is not Z:
                    Z[:, part] = z
            return out

        total = self._sum(block, cost=len(W)) / self.n_rows
        return Z, float(total[-1]), self._class_gradient(total[:-1], U.shape)

    def class_hess_vec(self, P: Array, weights: Array, V: Array) -> Array:
        """Product with the softmax Hessian of probabilities P, in one read."""
        U, constants = self._raw_classes(V)
        kernel = softmax.hess_vec(self.layout)

        def block(lo: int, hi: int) -> Array:
            out = np.zeros(U.size + len(V))
            G, sums = out[: U.size].reshape(U.shape), out[U.size :]
            for x, start, stop, part in self._pieces(lo, hi):
                p, s = _of_rows(P, part), weights[part]
                kernel(x, start, stop, p, s, U, constants, G, sums)
            return out

        total = self._sum(block, cost=len(V))
        return self._class_gradient(total, U.shape)

    def class_hessian(self, P: Array, weights: Array) -> Array:
        """Hessian of the softmax loss in the basis of `softmax_model`, formed.

        Of shape (m, n_params, m, n_params) for m = n_classes - 1.
        """
        m, d = len(P) - 1, self.n_params
        self._require_matrix(m * d)
        shape = (d * (d + 1) // 2, m * (m + 1) // 2)
        # What is sparse stays so, unless it is to be centred.
        sparse = self.layout is CSR and not np.any(self.columns.shift)
        intercept = self.columns.intercept

        def block(lo: int, hi: int) -> Array:
            out = np.zeros(shape)
            if sparse:
                kernel = softmax.hessian_csr()
                for x, start, stop, part in self._pieces(lo, hi):
                    p, s = _of_rows(P, part), weights[part]
                    kernel(x, start, stop, p, s, self._n_raw, intercept, out)
                return out
            kernel = softmax.hessian_dense()
            for start in range(lo, hi, CHUNK):
                A = self._transformed(start, min(start + CHUNK, hi))
                kernel(np.ascontiguousarray(A), start, P, weights, intercept, out)
            return out

        pairs = self._sum(block, shape[0] * shape[1], cost=8 * m)
        if sparse:
            scale = np.append(self.columns.scale, 1.0)[:d]
            factors = np.outer(scale, scale)[np.tril_indices(d)]
            pairs[factors == 0.0] = 0.0  # where sums of huge entries have overflowed
            pairs *= factors[:, None]
        H = np.empty((m, d, m, d))
        j, k = np.tril_indices(d)
        for a, b, column in zip(*np.tril_indices(m), pairs.T, strict=True):
            half = np.empty((d, d))
            half[j, k] = half[k, j] = column
            H[a, :, b] = H[b, :, a] = half
        return H

    def class_probabilities(self, Z: Array) -> Array:
        """Softmax of predictions."""
        kernel = softmax.probabilities()
        P = np.empty_like(Z)
        edges = _parallel.bounds(Z.shape[1], 16 * Z.size)
        _parallel.run(lambda k: kernel(Z, edges[k], edges[k + 1], P), len(edges) - 1)
        return P

    def class_mean_along(
        self, Z: Array, U: Array, t: float, y: Array, weights: Array
    ) -> float:
        """Mean softmax loss at ``Z + t U``, without reading the rows."""
        kernel = softmax.mean_along()
        edges = _parallel.bounds(Z.shape[1], 16 * Z.size)

        def block(k: int) -> Array:
            out = np.zeros(1)
            kernel(Z, U, t, y, weights, edges[k], edges[k + 1], out)
            return out

        total = _parallel.sum_parts(block, len(edges) - 1)
        return float(total[0]) / self.n_rows

    def _raw_classes(self, W: Array) -> tuple[Array, Array]:
        """Coefficients of the stored columns as the layout wants them, constants."""
        U, constants = self.columns.to_raw(W)
        return np.ascontiguousarray(U.T) if self.layout.by_column else U, constants

    def _class_gradient(self, total: Array, shape: tuple[int, ...]) -> Array:
        """Gradient in the parameters from raw sums, those of the columns first."""
        size = math.prod(shape)
        raw = total[:size].reshape(shape)
        if self.layout.by_column:
            raw = raw.T
        return self.columns.gradient(raw, total[size:])

    @abstractmethod
    def row_norms(self) -> Array:
        """Squared norms of the rows."""

    def projected_norms(self, transform: Array) -> Array:
        """Squared norms of the rows of ``X @ transform``."""
        raw = self.columns.scale[:, None] * transform[: self._n_raw]
        constant = -(self.columns.shift @ raw)
        if self.columns.intercept:
            constant += transform[-1]
        out = np.empty(self.n_rows)

        def block(lo: int, hi: int) -> None:
            for start in range(lo, hi, CHUNK):
                stop = min(start + CHUNK, hi)
                product = self._block(start, stop) @ raw + constant
                out[start:stop] = np.einsum("ij,ij->i", product, product)

        with _parallel.one_blas_thread():
            self._run(block)
        return out

    @property
    def _n_raw(self) -> int:
        return len(self.columns.scale)

    def _edges(self, part_size: int, cost: int = 1) -> list[int]:
        self.work.rows_read += self.n_rows
        return _parallel.bounds(self.n_rows, self._n_elements, part_size, cost)

    def _run(self, block: Callable[[int, int], None]) -> None:
        edges = self._edges(1)
        _parallel.run(lambda k: block(edges[k], edges[k + 1]), len(edges) - 1)

    def _sum(
        self,
        block: Callable[[int, int], Array],
        part_size: int | None = None,
        cost: int = 1,
    ) -> Array:
        edges = self._edges(part_size or self._n_raw, cost)
        return _parallel.sum_parts(
            lambda k: block(edges[k], edges[k + 1]), len(edges) - 1
        )


class DenseRows(Rows):
    """Rows of a two-dimensional array of real numbers, in any memory order.

    The array is never copied whole. float64 and float32 in C or Fortran order are read
    in place, C order fastest. Other strides, byte orders and types (integers, bool,
    float16) are converted in a buffer, some hundred rows at a time, in every read:
    with the same bits in every result as a converted copy.
    """

    def __init__(
        self,
        X: NDArray[Any],
        columns: Columns | None = None,
        work: Work | None = None,
    ) -> None:
        self._X = X
        self.n_rows, d = X.shape
        self.columns = columns or plain_columns(d)
        self.work = work or Work()
        self._n_elements = X.size
        single = X.dtype.newbyteorder("=") == np.float32
        self._dtype = np.dtype(np.float32 if single else np.float64)
        column_major = X.flags.f_contiguous and not X.flags.c_contiguous
        ordered = column_major or X.flags.c_contiguous
        self._in_place = bool(ordered and X.flags.aligned and X.dtype == self._dtype)
        if not ordered:
            column_major = abs(X.strides[0]) < abs(X.strides[1])
        self.layout = COLUMN_MAJOR if column_major else ROW_MAJOR
        # Numba has different types for read-only and writable arrays: one is enough.
        self._arrays = (_read_only(X.T if column_major else X),)

    @property
    def row_bytes(self) -> int:
        return int(self._X.nbytes // self.n_rows)

    @property
    def buffer_bytes(self) -> int:
        if self._in_place:
            return 0
        return 2 * self._dtype.itemsize * self._piece_rows(BLOCK) * self._n_raw

    def _piece_rows(self, step: int) -> int:
        return step * max(1, BUFFER // (step * self._n_raw))

    def _pieces(
        self, lo: int, hi: int, step: int | None = None
    ) -> Iterator[tuple[tuple[NDArray[Any], ...], int, int, slice]]:
        if self._in_place:
            yield self._arrays, lo, hi, EVERY
            return
        most = self._piece_rows(step or self.layout.block_rows(self._n_raw))
        buffer = np.empty(min(2 * most, hi - lo) * self._n_raw, dtype=self._dtype)
        stored = self._X.T if self.layout is COLUMN_MAJOR else self._X
        while lo < hi:
            # The last piece is a long one: kernels treat few rows in other ways.
            stop = lo + most if hi - lo >= 2 * most else hi
            part = slice(lo, stop)
            source = stored[:, part] if self.layout is COLUMN_MAJOR else stored[part]
            piece = buffer[: source.size].reshape(source.shape)
            np.copyto(piece, source, casting="unsafe")
            yield (_read_only(piece),), 0, stop - lo, part
            lo = stop

    @cached_property
    def single_rows(self) -> tuple[NDArray[Any], ...]:
        if self._X.dtype == bool:
            return (_read_only(self._arrays[0].view(np.uint8)),)
        if self.single_rows_bytes == 0:
            return self._arrays
        dtype = np.float32 if self._X.dtype.itemsize == 2 else self._dtype
        if self._X.dtype.kind in "iu":
            dtype = self._X.dtype.newbyteorder("=")
        order: Any = "C"
        return (_read_only(np.array(self._arrays[0], dtype=dtype, order=order)),)

    @property
    def single_rows_bytes(self) -> int:
        """Numba reads no float16, no float of more than 64 bits, no swapped bytes."""
        X = self._X
        read = X.dtype.kind in "iub" or X.dtype in (np.float32, np.float64)
        if read and X.dtype.isnative and X.flags.aligned:
            return 0
        half = X.dtype.kind == "f" and X.itemsize == 2
        return int(X.size * (4 if half else min(8, X.itemsize)))

    def take(self, rows: NDArray[np.intp]) -> Rows:
        self.work.rows_read += len(rows)
        stored, flags = self._X, self._X.flags
        if self.layout is not COLUMN_MAJOR:
            # np.take would copy the whole of another order first.
            X = np.take(stored, rows, axis=0) if flags.c_contiguous else stored[rows]
        elif flags.f_contiguous:  # column by column: 8 times faster than by rows
            X = np.take(stored.T, rows, axis=1).T
        else:
            X = np.empty((len(rows), stored.shape[1]), stored.dtype, order="F")
            for j, column in enumerate(stored.T):
                X[:, j] = column[rows]
        return DenseRows(X, self.columns, self.work)

    def with_columns(self, columns: Columns) -> Rows:
        rows = DenseRows(self._X, columns, self.work)
        rows.gathered_bytes = self.gathered_bytes
        return rows

    @property
    def stored(self) -> NDArray[Any]:
        """The array that was handed in."""
        return self._X

    def floats(self) -> NDArray[Any]:
        """The array as the kernels read it: itself, or a converted copy."""
        return self._X if self._in_place else self._block(0, self.n_rows)

    def _gram(self, h: Array) -> Array:
        if self.n_params > GRAM_MAX_PARAMS:
            return super()._gram(h)
        d = self._n_raw
        kernel = gram.gram_dense(self.layout is COLUMN_MAJOR)
        columns = self.columns

        def block(lo: int, hi: int) -> Array:
            out = np.zeros((d // 8 * 8 + 8,) * 2)
            for x, start, stop, part in self._pieces(lo, hi, gram.GROUP):
                kernel(x[0], start, stop, h[part], columns.shift, columns.scale, out)
            return out

        total = self._sum(block, (d + 1) ** 2, cost=1 + d // 16)
        return fill_symmetric(total, self.n_params)

    def _row(self, index: int) -> Array:
        row = np.array(self._X[index], dtype=np.float64)
        row[~np.isfinite(row)] = 0.0
        return row

    def _moments(self, weights: Array, center: Array) -> Array:
        column_major = self.layout is COLUMN_MAJOR
        kernel = linear.column_moments(column_major)
        step = linear.MOMENT_ROWS if column_major else BLOCK

        def block(lo: int, hi: int) -> Array:
            out = np.zeros((2, self._n_raw))
            for x, start, stop, part in self._pieces(lo, hi, step):
                kernel(x[0], start, stop, weights[part], center, out)
            return out

        return self._sum(block)

    def row_norms(self) -> Array:
        out = np.empty(self.n_rows)
        kernel = linear.row_norms(sparse=False)
        columns, column_major = self.columns, self.layout is COLUMN_MAJOR

        def block(lo: int, hi: int) -> None:
            for x, start, stop, part in self._pieces(lo, hi):
                X = x[0].T if column_major else x[0]
                kernel(X, start, stop, columns.shift, columns.scale, out[part])

        self._run(block)
        return out + self.columns.intercept

    def _block(self, lo: int, hi: int) -> NDArray[Any]:
        if self._in_place:
            return self._X[lo:hi]
        order: Any = "F" if self.layout is COLUMN_MAJOR else "C"
        return np.array(self._X[lo:hi], dtype=self._dtype, order=order)


class CSRRows(Rows):
    """Rows of a compressed sparse row matrix with int32 or int64 indices.

    float64 and float32 entries are read in place, others converted in a buffer, some
    rows at a time, in every read.
    """

    def __init__(
        self,
        X: sp.csr_array,
        columns: Columns | None = None,
        work: Work | None = None,
    ) -> None:
        self._X = X
        self.n_rows, d = X.shape
        self.columns = columns or plain_columns(d)
        self.work = work or Work()
        self._n_elements = max(X.nnz, self.n_rows)
        self.layout = CSR
        self._arrays = tuple(map(_read_only, (X.data, X.indices, X.indptr)))
        self._in_place = X.data.dtype in (np.float32, np.float64)

    @property
    def buffer_bytes(self) -> int:
        if self._in_place:
            return 0
        return int(16 * self._piece_rows() * -(-self._X.nnz // self.n_rows))

    @property
    def single_rows(self) -> tuple[NDArray[Any], ...]:
        data, *rest = self._arrays
        if data.dtype == bool:
            data = _read_only(data.view(np.uint8))
        return (data, *rest)

    def _piece_rows(self) -> int:
        return BLOCK * max(1, BUFFER * self.n_rows // (BLOCK * self._n_elements))

    def _pieces(
        self, lo: int, hi: int, step: int | None = None
    ) -> Iterator[tuple[tuple[NDArray[Any], ...], int, int, slice]]:
        if self._in_place:
            yield self._arrays, lo, hi, EVERY
            return
        data, indices, indptr = self._arrays
        most = self._piece_rows()
        while lo < hi:
            stop = min(lo + most, hi)
            entries = slice(indptr[lo], indptr[stop])
            x = (
                data[entries].astype(np.float64),
                indices[entries],
                indptr[lo : stop + 1] - indptr[lo],
            )
            yield tuple(map(_read_only, x)), 0, stop - lo, slice(lo, stop)
            lo = stop

    def take(self, rows: NDArray[np.intp]) -> Rows:
        self.work.rows_read += len(rows)
        return CSRRows(self._X[rows], self.columns, self.work)

    @property
    def n_elements(self) -> int:
        """Numbers that are stored."""
        return int(self._X.nnz)

    def with_columns(self, columns: Columns) -> Rows:
        rows = CSRRows(self._X, columns, self.work)
        rows.gathered_bytes = self.gathered_bytes
        return rows

    def _gram(self, h: Array) -> Array:
        if np.any(self.columns.shift):
            return super()._gram(h)  # centred rows are dense
        d = self._n_raw
        kernel = gram.gram_csr()

        def block(lo: int, hi: int) -> Array:
            out = np.zeros((d + 1, d + 1))
            for x, start, stop, part in self._pieces(lo, hi):
                kernel(x, start, stop, h[part], out)
            return out

        full = fill_symmetric(self._sum(block, (d + 1) ** 2), self.n_params)
        scale = np.append(self.columns.scale, 1.0)[: self.n_params]
        dead = scale == 0.0  # where sums of huge entries may have overflowed
        full[dead], full[:, dead] = 0.0, 0.0
        full *= scale
        full *= scale[:, None]
        return full

    def _row(self, index: int) -> Array:
        row: Array = self._X[index : index + 1].toarray()[0].astype(np.float64)
        row[~np.isfinite(row)] = 0.0
        return row

    def _moments(self, weights: Array, center: Array) -> Array:
        kernel = linear.column_sums()

        def block(lo: int, hi: int) -> Array:
            out = np.zeros((4, self._n_raw))
            for x, start, stop, part in self._pieces(lo, hi):
                kernel(x, start, stop, weights[part], center, out)
            return out

        first, second, mass, count = self._sum(block, 4 * self._n_raw)
        # The entries that are not stored; exactly none in a column without them.
        zeros = np.where(count == self.n_rows, 0.0, weights.sum() - mass)
        return np.stack([first - zeros * center, second + zeros * center * center])

    def row_norms(self) -> Array:
        out = np.empty(self.n_rows)
        kernel = linear.row_norms(sparse=True)
        scale, shift = self.columns.scale, self.columns.shift
        # ||D (x - m)||^2 = ||D x||^2 - 2 x'D^2 m + ||D m||^2 keeps the rows sparse; the
        # terms of a column far from 0 would cancel, but such a column has no zeros.
        base = shift
        if np.any(shift):
            stored = np.bincount(self._X.indices, minlength=self._n_raw)
            base = np.where(stored == self.n_rows, 0.0, shift)

        def block(lo: int, hi: int) -> None:
            for x, start, stop, part in self._pieces(lo, hi):
                kernel(x, start, stop, shift, base, scale, out[part])

        self._run(block)
        out += (scale * base) @ (scale * base) + self.columns.intercept
        return out

    @property
    def stored(self) -> sp.csr_array:
        """The matrix that was handed in, or its copy in CSR."""
        return self._X

    def floats(self) -> sp.csr_array:
        """The matrix as the kernels read it: itself, or with converted entries."""
        return self._X if self._in_place else self._X.astype(np.float64)

    def _block(self, lo: int, hi: int) -> sp.csr_array:
        return self._X[lo:hi]


def as_rows(X: Any, device: str | None = None) -> Rows:
    """Return the container for ``X``.

    Parameters
    ----------
    X : Rows, array-like or sparse matrix of shape (n_rows, n_features)
        Arrays of real numbers and CSR matrices without duplicate entries are used in
        place: float64 and float32 in C or Fortran order as they are, other types,
        byte orders and strides through a buffer, see `DenseRows`. Other sparse formats
        are converted to CSR, and duplicate entries are summed, in a copy. Arrays on a
        GPU, those with ``__cuda_array_interface__`` (CuPy, PyTorch)
        or with DLPack on a CUDA device, are used there without a copy; float32 or
        float64.
    device : {"cpu", "cuda"}, optional
        ``"cuda"`` copies rows of the host to the GPU, once, or part by part in every
        read if they do not fit; ``"cpu"`` copies rows on a GPU to the host. Default:
        where they are.

    Returns
    -------
    Rows

    Raises
    ------
    TypeError
        If the entries are not real numbers.
    ValueError
        If ``X`` is not two-dimensional, is empty, or holds indices out of range.
    ImportError, RuntimeError
        If rows on a GPU are asked for and numba-cuda is not installed, or no device is
        there.
    MemoryError
        If not even the buffers for parts of the rows fit on the GPU.
    """
    if device is not None:
        check_one_of("device", device, ("cpu", "cuda"))
    if device == "cuda" or on_device(X):
        # Imports go down: the backend derives from `Rows`. Loaded when it is asked for.
        backend = importlib.import_module("subsampled_newton.backends.cuda")
        rows: Rows = backend.cuda_rows(X)
        return rows.on_host() if device == "cpu" else rows
    if isinstance(X, Rows):
        return X.on_host() if device == "cpu" else X
    if sp.issparse(X):
        return CSRRows(_checked_csr(X))
    try:
        array = np.asarray(X)
    except ValueError:
        raise ValueError("X must be a matrix, got rows of several lengths") from None
    if array.ndim != 2 or 0 in array.shape:
        raise ValueError(
            "X must be two-dimensional with at least one row and one column, "
            f"got {f'shape {array.shape}' if array.shape else shown(X)}"
        )
    _check_kind(array.dtype)
    return DenseRows(array)


def on_device(X: Any) -> bool:
    """Whether X is an array in the memory of a CUDA device."""
    if hasattr(X, "__cuda_array_interface__") or hasattr(X, "__cuda_ndarray__"):
        return True
    # DLPack: 2 is a CUDA device. A PyTorch tensor on the CPU says so, too.
    where = getattr(X, "__dlpack_device__", None)
    return (
        where is not None and not isinstance(X, np.ndarray | Rows) and where()[0] == 2
    )


def host_array(X: Any) -> Any:
    """Return a copy of an array on a CUDA device, of any shape, on the host."""
    backend = importlib.import_module("subsampled_newton.backends.cuda")
    return backend.to_host(X)


def fill_symmetric(lower: Array, size: int) -> Array:
    """Fill the upper half of the leading block from the lower one."""
    full = np.ascontiguousarray(lower[:size, :size])
    gram.mirror(full)
    return full


def plain_columns(n_columns: int) -> Columns:
    return Columns(np.ones(n_columns), np.zeros(n_columns), intercept=False)


def _check_kind(dtype: np.dtype[Any]) -> None:
    if dtype.kind not in "fiub":
        raise TypeError(f"X must hold real numbers, got dtype {dtype}")


def _read_only(array: NDArray[Any]) -> NDArray[Any]:
    view = array.view()
    view.flags.writeable = False
    return view


def _of_rows(values: Array, part: slice) -> Array:
    """Entries (n_classes, n) of some rows, in C order: a copy unless it is all."""
    return values if part == EVERY else np.ascontiguousarray(values[:, part])


def check_sparse(X: Any) -> None:
    """Refuse a sparse matrix whose indices point outside of it.

    SciPy trusts them: a product or a conversion would read foreign memory.

    Raises
    ------
    ValueError
        Saying what is wrong.
    """
    container = {"csr": sp.csr_array, "csc": sp.csc_array, "bsr": sp.bsr_array}
    try:
        if X.format in container:
            # Another container of the same arrays: the check replaces some of them.
            matrix = container[X.format](X)
            matrix.check_format(full_check=True)
            # SciPy leaves this out where the last pointer says that there is nothing.
            if np.any(matrix.indptr[1:] < matrix.indptr[:-1]):
                raise ValueError("indptr must be a non-decreasing sequence")
        elif X.format == "coo":
            for index, size in zip((X.row, X.col), X.shape, strict=True):
                if len(index) != X.nnz:
                    raise ValueError("indices and data should have the same size")
                if len(index) and (index.min() < 0 or index.max() >= size):
                    raise ValueError(f"indices must be >= 0 and < {size}")
    except (ValueError, TypeError) as error:
        raise ValueError(f"X is not a valid sparse matrix: {error}") from None


def _checked_csr(X: Any) -> sp.csr_array:
    if X.ndim == 2:
        check_sparse(X)
    csr = sp.csr_array(X)  # shares the arrays of a CSR matrix
    if csr.ndim != 2 or 0 in csr.shape:
        raise ValueError(
            "X must be two-dimensional with at least one row and one column, "
            f"got shape {csr.shape}"
        )
    _check_kind(csr.dtype)
    known = csr.dtype.kind in "iub" or csr.dtype in (np.float32, np.float64)
    if not (known and csr.dtype.isnative):  # SciPy takes no rows of others
        _require_copy(csr.nnz * 8, "the entries of X")
        data = csr.data.astype(np.float64)
        csr = sp.csr_array((data, csr.indices, csr.indptr), shape=csr.shape)
    if not csr.has_canonical_format:
        _require_copy(_sparse_bytes(csr), "X with its duplicate entries summed")
        csr = csr.copy()
        csr.sum_duplicates()
    return csr


def _sparse_bytes(X: Any) -> int:
    return int(X.data.nbytes + X.indices.nbytes + X.indptr.nbytes)


def _require_copy(n_bytes: int, what: str) -> None:
    _memory.require(n_bytes, f"a copy of {what}", "convert X beforehand")
