"""Rows on a GPU: the methods of `Rows` as CUDA kernels.

The matrix is copied to the device once, or used where it is; so are vectors with an
entry per row (`DeviceArray`). Vectors of parameters, scalars and small matrices cross
the bus, in one transfer each way for a call. What needs whole rows on the host (QR
factorisations, sketches, linear programs) copies them back.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from subsampled_newton.backends import _cuda_classes as classes
from subsampled_newton.backends import _cuda_entries as entries
from subsampled_newton.backends import _cuda_gram as gram
from subsampled_newton.backends import _cuda_rows as kernels
from subsampled_newton.backends import _cuda_tiles as tiles
from subsampled_newton.backends import _cuda_vectors as vectors
from subsampled_newton.backends._cuda_device import (
    DeviceArray,
    blocks_for,
    check_device,
    checked_rows,
    column_sums,
    launch,
    new_array,
    place,
    scratch,
    to_device,
)
from subsampled_newton.backends._cuda_store import Resident, Store, by_columns, stored
from subsampled_newton.backends._cuda_tiles import SIMULATED, THREADS, Tiles, cuda
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
PARTIAL_BYTES = 64e6
"""Memory for the parts of a sum over the rows, from which on there are fewer parts."""
VECTORS = 12
"""Vectors of the length of the rows that a fit keeps on the device at a time."""
SHARE = 2 if SIMULATED else 8
"""Threads that read a sparse row."""
SEGMENT = 3 if SIMULATED else 1024
"""Entries of a sparse column that a block adds up."""
LIBRARY_COLUMNS = 128
"""More columns than this are multiplied by cuBLAS, if CuPy is there; with fewer the
copies of the rows cost more than the products."""
LIBRARY_BYTES = 1 << 28
"""A copy of rows for cuBLAS."""
MAX_ACROSS = 65535
"""Blocks that a launch has across the rows at most."""


class CudaRows(Rows):
    """Rows on a GPU, dense in any memory order or compressed sparse rows.

    Rows that do not fit stay on the host and are copied part by part, through two
    buffers, in every read; the results are the same.

    Parameters
    ----------
    store : Store
        Arrays of ``numba.cuda``, or how to get them part by part: the entries of the
        matrix one after the other, or values, column indices and row pointers.
    host : ndarray, sparse matrix or None
        The same rows on the host, if they are there.
    shape, dtype
        Of the matrix.
    columns, work
        As in `DenseRows`.
    layout : Layout
        Order of the entries on the device.
    by_columns
        Where the views of a sparse matrix share its copy by columns.
    """

    # A draw and its transfer take longer than a device takes to read some more rows.
    sampling_pays = False

    def __init__(
        self,
        store: Store,
        host: Any,
        shape: tuple[int, int],
        dtype: Any,
        columns: Columns | None = None,
        work: Work | None = None,
        layout: tiles.Layout = tiles.ROW_MAJOR,
        by_columns: list[Any] | None = None,
    ) -> None:
        self._store, self._host, self._shape = store, host, shape
        # The arrays, where they are on the device.
        self._x = store.arrays if isinstance(store, Resident) else ()
        self._arrays = ()  # the kernels of the host have nothing to read
        self.n_rows, d = shape
        self._dtype = np.dtype(dtype)
        self.columns = columns or plain_columns(d)
        self.work = work or Work()
        self._device_layout = layout
        self.layout = CSR if layout is tiles.CSR else ROW_MAJOR
        sparse = self.layout is CSR
        self._n_elements = max(host.nnz, self.n_rows) if sparse else self.n_rows * d
        self._wide = self._dtype == np.float64
        # Shared by all views of the same rows, made when it is first needed.
        self._by_columns = [] if by_columns is None else by_columns

    @property
    def dtype(self) -> Any:
        return self._dtype

    def take(self, rows: NDArray[np.intp]) -> Rows:
        self.work.rows_read += len(rows)
        if self.layout is CSR or not self._x:
            # On the host, where the rows are anyway: a sample is small.
            host = self._host[rows]
            return _placed(host, self.columns, self.work)
        rows = checked_rows(rows, self.n_rows)
        X = new_array((len(rows), self._n_raw), self._dtype, "a sample of the rows")
        index = to_device(rows, "numbers of rows")
        lanes = 1
        while lanes < min(self._n_raw, THREADS):
            lanes *= 2
        blocks = blocks_for(len(rows) * lanes)
        row_major = self._device_layout is tiles.ROW_MAJOR
        steps = (self._n_raw, 1) if row_major else (1, self.n_rows)
        launch(kernels.gather_rows(), blocks, self._x[0], *steps, index, lanes, X)
        return CudaRows(
            Resident((X.reshape(X.size),), len(rows)),
            None,
            (len(rows), self._n_raw),
            self._dtype,
            self.columns,
            self.work,
        )

    def with_columns(self, columns: Columns) -> Rows:
        return CudaRows(
            self._store,
            self._host,
            self._shape,
            self._dtype,
            columns,
            self.work,
            self._device_layout,
            self._by_columns,
        )

    @property
    def row_bytes(self) -> int:
        entry: int = self._dtype.itemsize
        if self.layout is CSR:
            entry += self._host.indices.itemsize
        elements: int = self._n_elements
        return entry * elements // self.n_rows

    @property
    def device_bytes(self) -> int:
        copies = 2 if self._gathers else 1  # by rows and by columns
        return copies * self._store.nbytes

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
            row_major = self._device_layout is tiles.ROW_MAJOR
            self._host = flat.reshape(n, d) if row_major else flat.reshape(d, n).T
        return self._host

    def _block(self, lo: int, hi: int) -> Any:
        return self._whole[lo:hi]

    def _row(self, index: int) -> Array:
        if self.layout is CSR:
            return np.zeros(self._n_raw)
        if self._host is None:
            first = self.take(np.full(1, index, dtype=np.intp))
            self.work.rows_read -= 1
            row: Array = first._block(0, 1)[0].astype(np.float64)
        else:
            row = np.array(self._host[index], dtype=np.float64)
        row[~np.isfinite(row)] = 0.0
        return row

    # The launches. `columns` counts the column of ones behind those of the array.

    @property
    def _n_columns(self) -> int:
        return self._n_raw + 1

    @property
    def _gathers(self) -> bool:
        """Whether entries are read one by one: tiles of sparse rows would be empty."""
        return self.layout is CSR and self._n_columns > tiles.MAX_FUSED

    def _launch(
        self,
        kernel: Any,
        shape: Tiles,
        doubles: int,
        arguments: Callable[[int, int], tuple[Any, ...]],
        *,
        across: int = 1,
        threads: int = THREADS,
        n_tiles: int = 1,
    ) -> None:
        """Run a kernel on all rows.

        ``arguments`` are a function of the first row and of the first block of a part.
        """
        self.work.rows_read += self.n_rows
        itemsize = self._dtype.itemsize
        shared = tiles.shared_bytes(shape, doubles, n_tiles * itemsize)
        with contextlib.closing(self._store.parts(shape.rows)) as parts:
            for x, start, n, stream in parts:
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

    def _tiles(self, width: int, n_classes: int = 1, sums: int = 1) -> Tiles:
        """Tiles of ``width`` columns, for blocks that add up ``sums`` numbers each."""
        most = min(tiles.BLOCKS, max(1, int(PARTIAL_BYTES / (8 * sums))))
        itemsize = self._dtype.itemsize
        return tiles.tiles(self.n_rows, width, itemsize, most, n_classes)

    def _entry_tiles(self) -> Tiles:
        """The same for kernels that read entries: no columns in shared memory."""
        return tiles.rows_of(self.n_rows, THREADS // SHARE, 0)

    def _for_classes(
        self,
        n_classes: int,
        kernel: Callable[[tiles.Layout, bool, int], Any],
        shape: Tiles,
        doubles: Callable[[int], int],
        arguments: Callable[[int, int, int], tuple[Any, ...]],
        *,
        across: int = 1,
    ) -> None:
        """Run a kernel for some classes at a time, in what counts as one read.

        ``doubles`` is a function of the number of classes, ``arguments`` of the first
        class, row and block.
        """
        with self._one_read():  # they share tiles in the cache
            for first in range(0, n_classes, tiles.CLASS_CHUNK):
                count = min(tiles.CLASS_CHUNK, n_classes - first)
                self._launch(
                    kernel(self._device_layout, self._wide, count),
                    shape,
                    doubles(count),
                    functools.partial(arguments, first),
                    across=across,
                )

    def _matvec(self, U: Array, Z: DeviceArray) -> None:
        """``Z[k, i] = U[k] (x_i, 1)`` for rows of raw coefficients and constants."""
        z = Z.classes
        if self._gathers:
            u = place("coefficients", U)
            self._launch(
                entries.csr_matvec(),
                self._entry_tiles(),
                THREADS,
                lambda start, block: (u, z, start),
                across=len(U),
            )
            return
        u = place("coefficients", U.ravel())
        self._for_classes(
            len(U),
            kernels.matvec,
            self._tiles(min(self._n_columns, tiles.MAX_FUSED)),
            lambda count: THREADS,
            lambda first, start, block: (u, first, z, start),
        )

    def _rmatvec(self, R: DeviceArray) -> Array:
        """``R (X, 1)`` for vectors of the rows: sums for raw columns, then of R."""
        r, d = R.classes, self._n_columns
        if self._gathers:
            return self._rmatvec_by_columns(R, squared=False)
        width = min(d, THREADS)
        groups = THREADS // width
        shape = self._tiles(width, sums=groups * len(r) * d)
        n_blocks = -(-self.n_rows // shape.rows)
        partial = scratch("partial", n_blocks * groups, len(r) * d)
        self._for_classes(
            len(r),
            kernels.rmatvec,
            shape,
            lambda count: count * shape.height,
            lambda first, start, block: (r, first, start, partial, block),
            across=-(-d // width),
        )
        return column_sums(partial).reshape(len(r), d)

    def _rmatvec_by_columns(self, R: DeviceArray, *, squared: bool) -> Array:
        store, first = self._csc()
        r, K, d = R.classes, len(R.classes), self._n_raw
        self.work.rows_read += self.n_rows
        partial = scratch("partial", K, max(1, store.n_rows))
        with contextlib.closing(store.parts(1)) as parts:
            for x, start, n, stream in parts:
                launch(
                    entries.csc_segments(squared),
                    (n, K),
                    *(x, r, start, partial),
                    stream=stream,
                    shared=8 * THREADS,
                )
        out = scratch("columns", K, d)
        launch(entries.csc_columns(), (blocks_for(d), K), partial, first, out)
        totals = [R.sum()] if R.ndim == 1 else [R[k].sum() for k in range(K)]
        return np.column_stack([out.copy_to_host(), totals])

    def _csc(self) -> tuple[Store, Any]:
        """The segments of the columns, a second copy of the matrix, and their numbers.

        A segment has a bounded number of the entries of a column.
        """
        if not self._by_columns:
            csc = sp.csc_array(self._host)
            counts = np.diff(csc.indptr)
            pieces = -(-counts // SEGMENT)
            first = np.concatenate([[0], np.cumsum(pieces)]).astype(np.int64)
            starts = np.repeat(csc.indptr[:-1] - SEGMENT * first[:-1], pieces)
            starts = starts + SEGMENT * np.arange(first[-1])
            bounds = np.append(starts, csc.nnz).astype(np.int64)
            what = "the sparse matrix by columns"
            store = stored((csc.data, csc.indices, bounds), 0.0, what)
            self._by_columns.append((store, to_device(first, what)))
        pair: tuple[Store, Any] = self._by_columns[0]
        return pair

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
        if self._n_columns > tiles.MAX_FUSED:
            return self.rmatvec(h * self.matvec(v))
        unused = DeviceArray.empty(self.n_rows)
        total = self._fused(kernels.curvature_product(), v, h, h, unused)
        return self.columns.gradient(total[:-2], total[-2])

    def evaluate(
        self, loss: PointwiseLoss, y: Vector, weights: Vector, w: Array
    ) -> tuple[Vector, float, Array]:
        y, weights = DeviceArray.of(y), DeviceArray.of(weights)
        if self._n_columns > tiles.MAX_FUSED:
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
        width = 4 * tiles.SIDE
        count = -(-columns // width)
        pairs = np.array([(j, k) for j in range(count) for k in range(j + 1)])
        # Two tiles, of the columns of either side.
        most = min(tiles.BLOCKS, max(1, int(PARTIAL_BYTES / (8 * columns**2))))
        shape = tiles.tiles(self.n_rows, width, 2 * self._dtype.itemsize, most)
        shift, scale = np.zeros(columns), np.ones(columns)
        shift[:-1], scale[:-1] = self.columns.shift, self.columns.scale
        both = place("columns", np.stack([shift, scale]))
        n_blocks = -(-self.n_rows // shape.rows)
        partial = scratch("partial", n_blocks, columns * columns)
        with self._one_read():
            for first in range(0, len(pairs), MAX_ACROSS):
                part = to_device(pairs[first : first + MAX_ACROSS], "pairs of tiles")

                def arguments(start: int, block: int, part: Any = part) -> Any:
                    return (*(r.data, both[0], both[1]), start, part, partial, block)

                self._launch(
                    gram.gram(self._device_layout, self._wide),
                    shape,
                    shape.height,
                    arguments,
                    across=len(part),
                    threads=tiles.SIDE**2,
                    n_tiles=2,
                )
        lower = column_sums(partial).reshape(columns, columns)
        return fill_symmetric(lower, self.n_params)

    def _gram_by_library(self, xp: Any, h: DeviceArray) -> Array:
        """The same by matrix products of CuPy, on copies of blocks of rows."""
        (n, d), work = self._shape, self._n_columns
        self.work.rows_read += n
        row_major = self._device_layout is tiles.ROW_MAJOR
        with xp.cuda.Stream.null:  # in which our kernels have filled the weights
            X, weights = xp.asarray(self._x[0]), xp.asarray(h.data)
            X = X.reshape(n, d) if row_major else X.reshape(d, n).T
            shift = xp.asarray(self.columns.shift)
            scale = xp.asarray(self.columns.scale)
            total = xp.zeros((work, work))
            step = max(1, LIBRARY_BYTES // (8 * d))
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
        groups = THREADS // width
        shape = self._tiles(width, sums=groups * 2 * d)
        n_blocks = -(-self.n_rows // shape.rows)
        partial = scratch("partial", n_blocks * groups, 2 * d)
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

    def row_norms(self) -> Vector:
        out = DeviceArray.empty(self.n_rows)
        scale, shift = self.columns.scale, self.columns.shift
        if self._gathers:
            both = place("columns", np.stack([scale, scale**2 * shift]))
            self._launch(
                entries.csr_row_norms(),
                self._entry_tiles(),
                0,
                lambda start, block: (both[0], both[1], out.data, start),
            )
            rest = float((scale * shift) @ (scale * shift)) + self.columns.intercept
            return out + rest
        raw = np.zeros((2, self._n_columns))
        raw[0, :-1], raw[1, :-1], raw[1, -1] = shift, scale, self.columns.intercept
        both = place("columns", raw)
        self._launch(
            kernels.row_norms(self._device_layout, self._wide),
            self._tiles(min(self._n_columns, tiles.MAX_FUSED)),
            THREADS,
            lambda start, block: (both[0], both[1], out.data, start),
        )
        return out

    def pointwise(
        self, f: Callable[[float, float], float], z: Vector, y: Vector, weights: Vector
    ) -> Vector:
        arrays = [DeviceArray.of(v) for v in (z, y, weights)]
        out = DeviceArray.empty(len(arrays[0]))
        launch(
            vectors.weighted(f),
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
        z, u, y, s = (DeviceArray.of(v) for v in (z, u, y, weights))
        return self._mean(
            vectors.mean_along(f), z.data, u.data, float(t), y.data, s.data
        )

    def _mean(self, kernel: Any, *arguments: Any) -> float:
        blocks = blocks_for(self.n_rows)
        partial = scratch("partial", blocks, 1)
        launch(kernel, blocks, *arguments, partial, shared=8 * THREADS)
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
        value = self._mean(classes.class_slopes(), Z.flat, y.data, s.data, R.flat)
        return Z, value, self._gradients(self._rmatvec(R) / self.n_rows)

    def class_hess_vec(self, P: Vector, weights: Vector, V: Array) -> Array:
        P, weights = DeviceArray.of(P), DeviceArray.of(weights)
        if self._fuses_classes(len(V)):
            total = self._class_fused(V, weights, weights, P, curved=True)
            return self._class_sums(total, len(V))
        U = self.class_predictions(V)
        launch(
            classes.class_curvature(),
            blocks_for(self.n_rows),
            P.flat,
            weights.data,
            U.flat,
        )
        return self._gradients(self._rmatvec(U))

    def _fuses_classes(self, n_classes: int) -> bool:
        """Whether a thread can keep the sums of a column for all classes."""
        few = n_classes <= tiles.CLASS_CHUNK and self._n_columns <= THREADS
        return few and self._n_columns <= tiles.MAX_FUSED

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
            classes.class_fused(self._device_layout, self._wide, K, curved),
            shape,
            K * (THREADS + shape.height),
            lambda start, block: (
                *(u, y.data, weights.data, Z.flat, start),
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
                        classes.pair_weights(),
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
        n = Z.shape[1]
        launch(classes.class_probabilities(), blocks_for(n), Z.flat, n, P.flat)
        return P

    def class_mean_along(
        self, Z: Vector, U: Vector, t: float, y: Vector, weights: Vector
    ) -> float:
        Z, U, y, s = (DeviceArray.of(v) for v in (Z, U, y, weights))
        return self._mean(
            classes.class_mean_along(), Z.data, U.data, float(t), y.data, s.data
        )

    def _raw_matrix(self, W: Array) -> Array:
        return np.array([np.append(*self.columns.to_raw(w)) for w in W])


@functools.cache
def _cupy() -> Any:
    """The module CuPy, or None where it is not installed or does not work."""
    if SIMULATED:
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
    return _placed(rows.floats(), rows.columns, rows.work)


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
    layout = tiles.ROW_MAJOR
    if steps == (1, n) and n > 1 < d:
        layout = tiles.COLUMN_MAJOR
        flat = array.ravel(order="F")  # Numba's transpose would be a copy
    elif steps == (d, 1):
        flat = array.reshape(n * d)
    else:  # a slice of another array: only whole runs are read
        flat = _contiguous(array).reshape(n * d)
    return CudaRows(Resident((flat,), n), None, (n, d), array.dtype, layout=layout)


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
    where = getattr(X, "__dlpack_device__", None)
    cuda.current_context()
    if where is not None and where()[1] != cuda.gpus.current.id:
        raise ValueError(
            f"X is on CUDA device {where()[1]}, but the current one is "
            f"{cuda.gpus.current.id}: move it, or call "
            f"numba.cuda.select_device({where()[1]}) before"
        )
    if not hasattr(X, "__cuda_array_interface__"):
        if hasattr(X, "__cuda_ndarray__"):  # of the simulator
            return X
        X = _Exported(X)
    array = cuda.as_cuda_array(X)  # which waits for its stream, if it names one
    if X.__cuda_array_interface__.get("stream") is None:
        cuda.synchronize()
    return array.bind()  # to the stream of our kernels


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
    n, d = X.shape
    beside = VECTORS * 8.0 * n
    if sp.issparse(X):
        arrays, layout = (X.data, X.indices, X.indptr), tiles.CSR
        if d >= tiles.MAX_FUSED:  # the copy by columns
            beside += X.data.nbytes + X.indices.nbytes
        store = stored(arrays, beside, "the sparse matrix")
    else:
        store = stored((X,), beside, "the rows")
        resident = isinstance(store, Resident)
        turned = resident and by_columns(X)
        layout = tiles.COLUMN_MAJOR if turned else tiles.ROW_MAJOR
    return CudaRows(store, X, (n, d), X.dtype, columns, work, layout)


def _to_host(array: Any) -> NDArray[Any]:
    host: NDArray[Any] = array.copy_to_host()
    return host
