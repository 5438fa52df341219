"""Rows on a GPU: the methods of `Rows` as CUDA kernels.

The matrix is copied to the device once, or used where it is; so are vectors with an
entry per row (`DeviceArray`). Vectors of parameters, scalars and small matrices cross
the bus, in one transfer each way for a call. What needs whole rows on the host (QR
factorisations, sketches, linear programs) copies them back.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import scipy.sparse as sp
from numba import cuda
from numpy.typing import NDArray

from subsampled_newton.backends import _cuda_kernels as kernels
from subsampled_newton.backends._cuda_device import (
    DeviceArray,
    blocks_for,
    check_device,
    column_sums,
    free_memory,
    launch,
    new_array,
    out_of_memory,
    place,
    scratch,
)
from subsampled_newton.backends._cuda_kernels import THREADS
from subsampled_newton.columns import Columns, Work
from subsampled_newton.data import (
    CSRRows,
    DenseRows,
    Rows,
    as_rows,
    fill_symmetric,
    on_device,
    plain_columns,
)
from subsampled_newton.kernels.rows import CSR, ROW_MAJOR
from subsampled_newton.losses import PointwiseLoss

__all__ = ["CudaRows", "cuda_rows", "to_host"]

Array = NDArray[np.float64]
Vector = Any
"""An entry per row: a `DeviceArray`, or a host array that is copied."""
GRAM_BYTES = 64e6
"""Memory for the parts of a Gram matrix."""
VECTORS = 12
"""Vectors of the length of the rows that a fit keeps on the device at a time."""
SHARE = 2 if kernels.SIMULATED else 8
"""Threads that read a sparse row."""
SEGMENT = 3 if kernels.SIMULATED else 1024
"""Entries of a sparse column that a block adds up."""
LIBRARY_COLUMNS = 128
"""More columns than this are multiplied by cuBLAS, if CuPy is there; with fewer the
copies of the rows cost more than the products."""
PART_BYTES = 1 << 28
"""A part of streamed rows: large enough that the copy runs at full speed."""


class CudaRows(Rows):
    """Rows on a GPU, dense in any memory order or compressed sparse rows.

    Dense rows that do not fit stay on the host and are copied part by part, through two
    buffers, in every read; the results are the same.

    Parameters
    ----------
    x : tuple
        Arrays of ``numba.cuda``: the entries of the matrix one after the other, or
        values, column indices and row pointers. Empty for streamed rows.
    host : ndarray, sparse matrix or None
        The same rows on the host, if they are there.
    shape, dtype
        Of the matrix.
    columns, work
        As in `DenseRows`.
    by_columns
        Where the views of a sparse matrix share its copy by columns.
    column_major : bool, default False
        Order of the entries of a dense matrix.
    """

    # A draw and its transfer take longer than a device takes to read some more rows.
    sampling_pays = False

    def __init__(
        self,
        x: tuple[Any, ...],
        host: Any,
        shape: tuple[int, int],
        dtype: Any,
        columns: Columns | None = None,
        work: Work | None = None,
        by_columns: list[Any] | None = None,
        column_major: bool = False,
    ) -> None:
        self._x, self._host, self._shape = x, host, shape
        self._arrays = ()  # none on the host that count as memory of a fit
        self.n_rows, d = shape
        self._dtype = np.dtype(dtype)
        self.columns = columns or plain_columns(d)
        self.work = work or Work()
        sparse = len(x) == 3
        self.layout = CSR if sparse else ROW_MAJOR
        self._n_elements = max(host.nnz, self.n_rows) if sparse else self.n_rows * d
        if sparse:
            self._device_layout = kernels.CSR
        else:
            column_major = bool(x) and column_major
            self._device_layout = (
                kernels.COLUMN_MAJOR if column_major else kernels.ROW_MAJOR
            )
        self._wide = self._dtype == np.float64
        # Shared by all views of the same rows, made when it is first needed.
        self._by_columns = [] if by_columns is None else by_columns

    def take(self, rows: NDArray[np.intp]) -> Rows:
        self.work.rows_read += len(rows)
        if self.layout is CSR or not self._x:
            # On the host, where the rows are anyway: a sample is small.
            host = self._host[rows]
            return _placed(host, self.columns, self.work)
        X = new_array((len(rows), self._n_raw), self._dtype, "a sample of the rows")
        index = cuda.to_device(np.asarray(rows, dtype=np.int64))
        lanes = 1
        while lanes < min(self._n_raw, THREADS):
            lanes *= 2
        blocks = blocks_for(len(rows) * lanes)
        row_major = self._device_layout is kernels.ROW_MAJOR
        steps = (self._n_raw, 1) if row_major else (1, self.n_rows)
        launch(kernels.gather_rows(), blocks, self._x[0], *steps, index, lanes, X)
        return CudaRows(
            (X.reshape(X.size),),
            None,
            (len(rows), self._n_raw),
            self._dtype,
            self.columns,
            self.work,
        )

    def with_columns(self, columns: Columns) -> Rows:
        return CudaRows(
            self._x,
            self._host,
            self._shape,
            self._dtype,
            columns,
            self.work,
            self._by_columns,
            self._device_layout is kernels.COLUMN_MAJOR,
        )

    def place(self, values: Any) -> Any:
        return DeviceArray.of(values)

    def on_host(self) -> Rows:
        kind = CSRRows if self.layout is CSR else DenseRows
        return kind(self._whole, self.columns, self.work)

    @property
    def _whole(self) -> Any:
        """The stored rows on the host."""
        if self._host is None:
            flat, (n, d) = _to_host(self._x[0]), self._shape
            row_major = self._device_layout is kernels.ROW_MAJOR
            self._host = flat.reshape(n, d) if row_major else flat.reshape(d, n).T
        return self._host

    def _block(self, lo: int, hi: int) -> Any:
        return self._whole[lo:hi]

    def _first_row(self) -> Array:
        if self.layout is CSR:
            return np.zeros(self._n_raw)
        if self._host is None:
            first = self.take(np.zeros(1, dtype=np.intp))
            self.work.rows_read -= 1
            row: Array = first._block(0, 1)[0].astype(np.float64)
        else:
            row = np.array(self._host[0], dtype=np.float64)
        row[~np.isfinite(row)] = 0.0
        return row

    # The launches. `columns` counts the column of ones behind those of the array.

    @property
    def _n_columns(self) -> int:
        return self._n_raw + 1

    @property
    def _gathers(self) -> bool:
        """Whether entries are read one by one: tiles of sparse rows would be empty."""
        return self.layout is CSR and self._n_columns > kernels.MAX_FUSED

    def _launch(
        self,
        kernel: Any,
        shape: kernels.Tiles,
        doubles: int,
        arguments: Callable[[int, int], tuple[Any, ...]],
        *,
        across: int = 1,
        threads: int = THREADS,
        tiles: int = 1,
    ) -> None:
        """Run a kernel on all rows.

        ``arguments`` are a function of the first row and of the first block of a part.
        """
        self.work.rows_read += self.n_rows
        itemsize = self._dtype.itemsize
        shared = kernels.shared_bytes(shape, doubles, tiles * itemsize)
        for x, start, n, stream in self._parts(shape.rows):
            launch(
                kernel,
                (-(-n // shape.rows), across),
                x,
                n,
                self._n_columns,
                shape.height,
                shape.width,
                shape.per_block,
                *arguments(start, start // shape.rows),
                threads=threads,
                stream=stream,
                shared=shared,
            )

    def _parts(self, multiple: int) -> Iterator[tuple[Any, int, int, Any]]:
        """Parts of the rows on the device, their first row and length, a stream.

        All at once if they are there. Otherwise whole blocks, so that the sums have the
        same parts.
        """
        if self._x:
            yield self._x, 0, self.n_rows, 0
            return
        row_bytes = self._dtype.itemsize * self._n_raw
        part = max(multiple, PART_BYTES // row_bytes // multiple * multiple)
        slots: list[Any] = []
        for index, start in enumerate(range(0, self.n_rows, part)):
            stop = min(start + part, self.n_rows)
            if index < 2:
                shape = (min(part, self.n_rows), self._n_raw)
                staging = cuda.pinned_array(shape, self._dtype)
                size = (shape[0] * shape[1],)
                buffer = new_array(size, self._dtype, "a buffer for streamed rows")
                slots.append((staging, buffer, cuda.stream()))
            staging, buffer, stream = slots[index % 2]
            stream.synchronize()  # the kernel that read the buffer has ended
            staging[: stop - start] = self._host[start:stop]
            filled = buffer[: (stop - start) * self._n_raw]
            filled.copy_to_device(staging[: stop - start].reshape(-1), stream)
            yield (filled,), start, stop - start, stream
        for _, _, stream in slots:
            stream.synchronize()

    def _tiles(self, width: int, n_classes: int = 1) -> kernels.Tiles:
        itemsize = self._dtype.itemsize
        return kernels.tiles(self.n_rows, width, itemsize, n_classes=n_classes)

    def _matvec(self, U: Array, Z: DeviceArray) -> None:
        """``Z[k, i] = U[k] (x_i, 1)`` for rows of raw coefficients and constants."""
        if self._gathers:
            u = place("coefficients", U)
            height = THREADS // SHARE
            blocks = blocks_for(-(-self.n_rows // height) * THREADS)
            per_block = -(-self.n_rows // (height * blocks))
            launch(
                kernels.csr_matvec(),
                (blocks, len(U)),
                self._x,
                self.n_rows,
                SHARE,
                per_block,
                u,
                Z.classes,
                shared=8 * THREADS,
            )
            self.work.rows_read += self.n_rows
            return
        u = place("coefficients", U.ravel())
        shape = self._tiles(min(self._n_columns, kernels.MAX_FUSED))
        with self._one_read():
            for first in range(0, len(U), kernels.CLASS_CHUNK):
                count = min(kernels.CLASS_CHUNK, len(U) - first)
                kernel = kernels.matvec(self._device_layout, self._wide, count)

                def arguments(start: int, block: int, first: int = first) -> Any:
                    return u, first, Z.classes, start

                self._launch(kernel, shape, THREADS, arguments)

    def _rmatvec(self, R: DeviceArray) -> Array:
        """``R (X, 1)`` for vectors of the rows: sums for raw columns, then of R."""
        r, d = R.classes, self._n_columns
        if self._gathers:
            return self._rmatvec_by_columns(R, squared=False)
        width = min(d, THREADS)
        shape, across = self._tiles(width), -(-d // width)
        groups = THREADS // width
        n_blocks = -(-self.n_rows // shape.rows)
        partial = scratch("partial", n_blocks * groups, len(r) * d)
        with self._one_read():
            for first in range(0, len(r), kernels.CLASS_CHUNK):
                count = min(kernels.CLASS_CHUNK, len(r) - first)
                kernel = kernels.rmatvec(self._device_layout, self._wide, count)
                doubles = count * shape.height

                def arguments(start: int, block: int, first: int = first) -> Any:
                    return r, first, start, partial, block

                self._launch(kernel, shape, doubles, arguments, across=across)
        return column_sums(partial).reshape(len(r), d)

    def _rmatvec_by_columns(self, R: DeviceArray, *, squared: bool) -> Array:
        data, rows, bounds, first = self._csc()
        K, d = len(R.classes), self._n_raw
        self.work.rows_read += self.n_rows
        partial = scratch("partial", K, max(1, bounds.size - 1))
        if bounds.size > 1:
            launch(
                kernels.csc_segments(squared),
                (bounds.size - 1, K),
                data,
                rows,
                bounds,
                R.classes,
                partial,
                shared=8 * THREADS,
            )
        out = scratch("columns", K, d)
        blocks = blocks_for(d)
        launch(kernels.csc_columns(), (blocks, K), partial, first, out)
        totals = [R.sum()] if R.ndim == 1 else [R[k].sum() for k in range(K)]
        return np.column_stack([out.copy_to_host(), totals])

    def _csc(self) -> Any:
        """The matrix by columns, a second copy on the device, and its segments."""
        if not self._by_columns:
            csc = sp.csc_array(self._host)
            counts = np.diff(csc.indptr)
            pieces = -(-counts // SEGMENT)
            first = np.concatenate([[0], np.cumsum(pieces)]).astype(np.int64)
            starts = np.repeat(csc.indptr[:-1] - SEGMENT * first[:-1], pieces)
            starts = starts + SEGMENT * np.arange(first[-1])
            bounds = np.append(starts, csc.nnz).astype(np.int64)
            arrays = (csc.data, csc.indices, bounds, first)
            self._by_columns.append(_copied(arrays, "the sparse matrix by columns"))
        return self._by_columns[0]

    def _one_read(self) -> Any:
        """Count launches that share tiles in the cache as one read of the rows."""
        return _OneRead(self.work, self.n_rows)

    # The methods of `Rows`.

    def matvec(self, w: Array) -> Vector:
        z = DeviceArray.empty(self.n_rows)
        self._matvec(np.append(*self.columns.to_raw(w))[None], z)
        return z

    def rmatvec(self, r: Vector) -> Array:
        total = self._rmatvec(DeviceArray.of(r))[0]
        return self.columns.gradient(total[:-1], total[-1])

    def hess_vec(self, h: Vector, v: Array) -> Array:
        h = DeviceArray.of(h)
        if self._n_columns > kernels.MAX_FUSED:
            return self.rmatvec(h * self.matvec(v))
        unused = DeviceArray.empty(self.n_rows)
        total = self._fused(kernels.curvature_product(), v, h, h, unused)
        return self.columns.gradient(total[:-2], total[-2])

    def evaluate(
        self, loss: PointwiseLoss, y: Vector, weights: Vector, w: Array
    ) -> tuple[Vector, float, Array]:
        y, weights = DeviceArray.of(y), DeviceArray.of(weights)
        if self._n_columns > kernels.MAX_FUSED:
            z = self.matvec(w)
            gradient = self.rmatvec(self.pointwise(loss.d1, z, y, weights))
            value = self.mean_along(loss.value, z, z, 0.0, y, weights)
            return z, value, gradient / self.n_rows
        Z = DeviceArray.empty(self.n_rows)
        point = kernels.evaluation(loss.value, loss.d1)
        total = self._fused(point, w, y, weights, Z) / self.n_rows
        gradient = self.columns.gradient(total[:-2], total[-2])
        return Z, float(total[-1]), gradient

    def _fused(
        self, point: Any, w: Array, a: DeviceArray, b: DeviceArray, z: DeviceArray
    ) -> Array:
        columns = self._n_columns
        u = place("coefficients", np.append(*self.columns.to_raw(w)))
        shape = self._tiles(columns)
        groups = max(1, THREADS // columns)
        n_sums = 1
        while n_sums * THREADS < columns:
            n_sums *= 2
        n_blocks = -(-self.n_rows // shape.rows)
        partial = scratch("partial", n_blocks * groups, columns + 1)
        self._launch(
            kernels.fused(self._device_layout, self._wide, point, n_sums),
            shape,
            THREADS + shape.height,
            lambda start, block: (u, a.data, b.data, z.data, start, partial, block),
        )
        return column_sums(partial)

    def _gram(self, h: Vector) -> Array:
        r, columns = DeviceArray.of(h), self._n_columns
        library = _cupy() if self.layout is not CSR and self._x else None
        if library is not None and columns > LIBRARY_COLUMNS:
            return self._gram_by_library(library, r)
        width = 4 * kernels.SIDE
        count = -(-columns // width)
        pairs = np.array([(j, k) for j in range(count) for k in range(j + 1)])
        most = max(1, int(GRAM_BYTES / (8 * columns**2)))
        # Two tiles, of the columns of either side.
        shape = kernels.tiles(
            self.n_rows, width, 2 * self._dtype.itemsize, min(most, kernels.BLOCKS)
        )
        shift, scale = np.zeros(columns), np.ones(columns)
        shift[:-1], scale[:-1] = self.columns.shift, self.columns.scale
        columns_on_device = place("columns", np.stack([shift, scale]))
        indices = cuda.to_device(pairs)
        n_blocks = -(-self.n_rows // shape.rows)
        partial = scratch("partial", n_blocks, columns * columns)
        self._launch(
            kernels.gram(self._device_layout, self._wide),
            shape,
            shape.height,
            lambda start, block: (
                r.data,
                columns_on_device[0],
                columns_on_device[1],
                start,
                indices,
                partial,
                block,
            ),
            across=len(pairs),
            threads=kernels.SIDE**2,
            tiles=2,
        )
        lower = column_sums(partial).reshape(columns, columns)
        return fill_symmetric(lower, self.n_params)

    def _gram_by_library(self, xp: Any, h: DeviceArray) -> Array:
        """The same by matrix products of CuPy, on copies of blocks of rows."""
        (n, d), work = self._shape, self._n_columns
        self.work.rows_read += n
        X, weights = xp.asarray(self._x[0]), xp.asarray(h.data)
        row_major = self._device_layout is kernels.ROW_MAJOR
        X = X.reshape(n, d) if row_major else X.reshape(d, n).T
        shift, scale = xp.asarray(self.columns.shift), xp.asarray(self.columns.scale)
        total = xp.zeros((work, work))
        step = max(1, PART_BYTES // (8 * d))
        for lo in range(0, n, step):
            A = (X[lo : lo + step].astype(np.float64) - shift) * scale
            part = weights[lo : lo + step]
            weighted = A * part[:, None]
            total[:d, :d] += A.T @ weighted
            total[d, :d] += weighted.sum(axis=0)
            total[d, d] += part.sum()
        return fill_symmetric(xp.asnumpy(total), self.n_params)

    def _moments(self, weights: Vector, center: Array) -> Array:
        s = DeviceArray.of(weights)
        if self._gathers:
            first = self._rmatvec_by_columns(s, squared=False)[0]
            self.work.rows_read -= self.n_rows
            second = self._rmatvec_by_columns(s, squared=True)[0, :-1]
            total = first[-1]
            second = second - 2.0 * center * first[:-1] + total * center * center
            return np.stack([first[:-1] - total * center, second])
        d = self._n_columns
        width = min(d, THREADS)
        shape = self._tiles(width)
        n_blocks = -(-self.n_rows // shape.rows)
        partial = scratch("partial", n_blocks * (THREADS // width), 2 * d)
        c = place("columns", np.append(center, 0.0))
        self._launch(
            kernels.moments(self._device_layout, self._wide),
            shape,
            shape.height,
            lambda start, block: (s.data, c, start, partial, block),
            across=-(-d // width),
        )
        return column_sums(partial).reshape(2, d)[:, :-1]

    def gram_diagonal(self, h: Vector) -> Array:
        return super().gram_diagonal(self.place(h))

    def column_moments(self, weights: Vector) -> tuple[Array, Array]:
        return super().column_moments(self.place(weights))

    def row_norms(self) -> Vector:
        out = DeviceArray.empty(self.n_rows)
        scale, shift = self.columns.scale, self.columns.shift
        if self._gathers:
            self.work.rows_read += self.n_rows
            vectors = place("columns", np.stack([scale, scale**2 * shift]))
            launch(
                kernels.csr_row_norms(),
                blocks_for(self.n_rows),
                self._x,
                vectors[0],
                vectors[1],
                out.data,
            )
            rest = float((scale * shift) @ (scale * shift)) + self.columns.intercept
            return out + rest
        both = np.zeros((2, self._n_columns))
        both[0, :-1], both[1, :-1], both[1, -1] = shift, scale, self.columns.intercept
        vectors = place("columns", both)
        shape = self._tiles(min(self._n_columns, kernels.MAX_FUSED))
        self._launch(
            kernels.row_norms(self._device_layout, self._wide),
            shape,
            THREADS,
            lambda start, block: (vectors[0], vectors[1], out.data, start),
        )
        return out

    def pointwise(
        self, f: Callable[[float, float], float], z: Vector, y: Vector, weights: Vector
    ) -> Vector:
        arrays = [DeviceArray.of(v) for v in (z, y, weights)]
        out = DeviceArray.empty(len(arrays[0]))
        launch(
            kernels.weighted(f),
            blocks_for(len(out)),
            *(v.data for v in arrays),
            out.data,
        )
        return out

    def mean_along(
        self,
        f: Callable[[float, float], float],
        z: Vector,
        u: Vector,
        t: float,
        y: Vector,
        weights: Vector,
    ) -> float:
        vectors = [DeviceArray.of(v) for v in (z, u, y, weights)]
        return self._mean(kernels.mean_along(f), vectors[:2], t, vectors[2:])

    def _mean(
        self, kernel: Any, first: list[DeviceArray], t: float, others: list[DeviceArray]
    ) -> float:
        blocks = blocks_for(self.n_rows)
        partial = scratch("partial", blocks, 1)
        launch(
            kernel,
            blocks,
            *(v.data for v in first),
            t,
            *(v.data for v in others),
            partial,
            shared=8 * THREADS,
        )
        return float(column_sums(partial)[0]) / self.n_rows

    # Several predictions per row.

    def class_predictions(self, W: Array) -> Vector:
        Z = DeviceArray.empty(len(W), self.n_rows)
        self._matvec(self._raw_matrix(W), Z)
        return Z

    def class_evaluate(
        self, y: Vector, weights: Vector, W: Array
    ) -> tuple[Vector, float, Array]:
        y, s = DeviceArray.of(y), DeviceArray.of(weights)
        if self._fuses_classes(len(W)):
            Z = DeviceArray.empty(len(W), self.n_rows)
            total = self._class_fused(W, y, s, Z, curved=False) / self.n_rows
            return Z, float(total[-1]), self._class_sums(total, len(W))
        Z = self.class_predictions(W)
        R = DeviceArray.empty(len(W), self.n_rows)
        value = self._mean(kernels.class_slopes(), [Z], 0.0, [y, s, R])
        return Z, value, self._gradients(self._rmatvec(R) / self.n_rows)

    def class_hess_vec(self, P: Vector, weights: Vector, V: Array) -> Array:
        P, weights = DeviceArray.of(P), DeviceArray.of(weights)
        if self._fuses_classes(len(V)):
            total = self._class_fused(V, weights, weights, P, curved=True)
            return self._class_sums(total, len(V))
        U = self.class_predictions(V)
        launch(
            kernels.class_curvature(),
            blocks_for(self.n_rows),
            P.data,
            weights.data,
            U.data,
        )
        return self._gradients(self._rmatvec(U))

    def _fuses_classes(self, n_classes: int) -> bool:
        """Whether a thread can keep the sums of a column for all classes."""
        few = n_classes <= kernels.CLASS_CHUNK and self._n_columns <= THREADS
        return few and self._n_columns <= kernels.MAX_FUSED

    def _class_fused(
        self,
        W: Array,
        y: DeviceArray,
        weights: DeviceArray,
        Z: DeviceArray,
        *,
        curved: bool,
    ) -> Array:
        K, columns = len(W), self._n_columns
        u = place("coefficients", self._raw_matrix(W).ravel())
        shape = self._tiles(columns, K)
        n_blocks = -(-self.n_rows // shape.rows)
        partial = scratch("partial", n_blocks * (THREADS // columns), K * columns + 1)
        self._launch(
            kernels.class_fused(self._device_layout, self._wide, K, curved),
            shape,
            K * (THREADS + shape.height),
            lambda start, block: (
                *(u, y.data, weights.data, Z.data, start),
                *(partial, block),
            ),
        )
        return column_sums(partial)

    def _class_sums(self, total: Array, n_classes: int) -> Array:
        return self._gradients(total[:-1].reshape(n_classes, -1))

    def _gradients(self, total: Array) -> Array:
        """Gradients from sums for each class, those of the ones last."""
        return self.columns.gradient(total[:, :-1], total[:, -1])

    def class_hessian(self, P: Vector, weights: Vector) -> Array:
        P, weights = DeviceArray.of(P), DeviceArray.of(weights)
        m, d = len(P) - 1, self.n_params
        self._require_matrix(m * d)
        H = np.empty((m, d, m, d))
        h = DeviceArray.empty(self.n_rows)
        with self._one_read():
            for a in range(m):
                for b in range(a + 1):
                    launch(
                        kernels.pair_weights(),
                        blocks_for(self.n_rows),
                        P.data,
                        weights.data,
                        a,
                        b,
                        h.data,
                    )
                    H[a, :, b] = H[b, :, a] = self._gram(h)
        return H

    def class_probabilities(self, Z: Vector) -> Vector:
        Z = DeviceArray.of(Z)
        P = DeviceArray.empty(*Z.shape)
        launch(kernels.class_probabilities(), blocks_for(Z.shape[1]), Z.data, P.data)
        return P

    def class_mean_along(
        self, Z: Vector, U: Vector, t: float, y: Vector, weights: Vector
    ) -> float:
        vectors = [DeviceArray.of(v) for v in (Z, U, y, weights)]
        return self._mean(kernels.class_mean_along(), vectors[:2], t, vectors[2:])

    def _raw_matrix(self, W: Array) -> Array:
        return np.array([np.append(*self.columns.to_raw(w)) for w in W])


@functools.cache
def _cupy() -> Any:
    """The module CuPy, or None where it is not installed or does not work."""
    if kernels.SIMULATED:
        return None
    try:
        cupy = importlib.import_module("cupy")
        cupy.cuda.runtime.getDeviceCount()
    except Exception:  # an installation for another driver, for example
        return None
    return cupy


class _OneRead:
    """Counts what is read inside as one read of the rows."""

    def __init__(self, work: Work, n_rows: int) -> None:
        self._work, self._n_rows = work, n_rows

    def __enter__(self) -> None:
        self._before = self._work.rows_read

    def __exit__(self, *error: object) -> None:
        self._work.rows_read = self._before + self._n_rows


def cuda_rows(X: Any) -> CudaRows:
    """Return rows on the device; see `as_rows`."""
    check_device()
    if isinstance(X, CudaRows):
        return X
    if on_device(X):
        return _in_place(X)
    rows = as_rows(X)  # checks the matrix
    if not isinstance(rows, DenseRows | CSRRows):
        raise TypeError(
            f"device='cuda' needs dense or CSR rows, got {type(rows).__name__}"
        )
    return _placed(rows._X, rows.columns, rows.work)


def _in_place(X: Any) -> CudaRows:
    array = _known(X)
    shape = tuple(array.shape)
    if array.dtype not in (np.float32, np.float64):
        raise TypeError(
            "X on a GPU must be float32 or float64, to be used without a copy, got "
            f"dtype {array.dtype}"
        )
    if len(shape) != 2 or 0 in shape:
        raise ValueError(
            "X must be two-dimensional with at least one row and one column, "
            f"got shape {shape}"
        )
    n, d = shape[0], shape[1]
    itemsize = array.dtype.itemsize
    steps = tuple(step // itemsize for step in array.strides)
    if steps == (1, n) and n > 1 < d:
        flat = array.T.reshape(n * d)
        return CudaRows((flat,), None, (n, d), array.dtype, column_major=True)
    if steps != (d, 1):  # a slice of another array: only whole runs are read
        array = _contiguous(array)
    return CudaRows((array.reshape(n * d),), None, (n, d), array.dtype)


def _contiguous(array: Any) -> Any:
    """Copy of a strided array on the device, row by row."""
    out = new_array(tuple(array.shape), array.dtype, "a contiguous copy of X")
    launch(kernels.copy_strided(), blocks_for(array.size), array, out)
    return out


def to_host(X: Any) -> NDArray[Any]:
    """Copy of an array on the device, or of a vector of the rows."""
    check_device()
    return _to_host(_known(X))


def _known(X: Any) -> Any:
    """An array on the device as one of Numba's, the memory shared."""
    if hasattr(X, "__cuda_ndarray__"):
        return X
    if hasattr(X, "__cuda_array_interface__"):
        return cuda.as_cuda_array(X)
    return cuda.as_cuda_array(_Exported(X))


class _Exported:
    """An array known by DLPack only, as one that Numba knows."""

    def __init__(self, X: Any) -> None:
        from cuda.core.utils import StridedMemoryView  # comes with numba-cuda

        # 1 is the default stream, which our kernels run in.
        view = StridedMemoryView.from_dlpack(X, stream_ptr=1)
        dtype = np.dtype(view.dtype)
        strides = view.strides
        if strides is not None:
            strides = tuple(dtype.itemsize * step for step in strides)
        self._view = view
        self.__cuda_array_interface__ = {
            "shape": tuple(view.shape),
            "strides": strides,
            "typestr": dtype.str,
            "data": (int(view.ptr), bool(view.readonly)),
            "version": 3,
        }


def _placed(X: Any, columns: Columns, work: Work) -> CudaRows:
    """Rows of the host, copied to the device or streamed."""
    shape = (X.shape[0], X.shape[1])
    if sp.issparse(X):
        x = _copied((X.data, X.indices, X.indptr), "the sparse matrix")
        return CudaRows(x, X, shape, X.dtype, columns, work)
    needed = X.nbytes + VECTORS * 8 * len(X)
    if needed > free_memory():
        return CudaRows((), X, shape, X.dtype, columns, work)
    column_major = X.flags.f_contiguous and not X.flags.c_contiguous
    ordered = np.ascontiguousarray(X.T if column_major else X)
    flat = cuda.to_device(ordered.reshape(-1))
    return CudaRows(
        (flat,), X, shape, X.dtype, columns, work, column_major=column_major
    )


def _copied(arrays: tuple[Any, ...], what: str) -> tuple[Any, ...]:
    needed = sum(array.nbytes for array in arrays)
    if needed > free_memory():
        raise out_of_memory(what, needed)
    return tuple(cuda.to_device(np.ascontiguousarray(array)) for array in arrays)


def _to_host(array: Any) -> NDArray[Any]:
    host: NDArray[Any] = array.copy_to_host()
    return host
