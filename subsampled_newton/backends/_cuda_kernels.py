"""CUDA kernels over rows: products, fused evaluation, Gram matrices, softmax.

Every kernel that reads the matrix copies a tile of rows to shared memory, where all
threads of a block help with the dot products (a thread per row, or several for short
tiles), a thread per row evaluates the loss, and a thread per column adds up the
gradient: one read of the matrix, in coalesced order, whatever its layout. A thread per
row reading global memory would not be coalesced in row-major arrays, and a warp per
row would evaluate the loss 32 times.

The matrix has one column more than is stored, of ones: it carries the constant of the
prediction and the gradient of the intercept. What a block adds up goes to a row of
``partial``, and `column_sums` adds these rows in a fixed order. No atomics; the numbers
of blocks and threads depend on the shape alone, so results have the same bits in every
run and on every device. Sums, products and the loss are in float64 also for float32
data, which halves the speed of a consumer card at most: on a data-centre GPU the
passes wait for memory. Shared memory holds float32 tiles as they are.

The functions of a loss are compiled as they are: Numba applies ``register_jitable`` to
both targets.
"""

import functools
import importlib.util
import math
from typing import NamedTuple

import numpy as np

from subsampled_newton._elementary import exp
from subsampled_newton._jit import inlinable

_EXTRA = (
    "rows on a GPU need the package numba-cuda: "
    'pip install "subsampled_newton[cuda]", or numba-cuda[cu12] for drivers of CUDA 12'
)

try:
    from numba import config, cuda, float32, float64
except ImportError as error:
    raise ImportError(f"{_EXTRA} ({error})") from error

int32, uint32, uint64 = np.int32, np.uint32, np.uint64
SIMULATED = bool(config.ENABLE_CUDASIM)
if not SIMULATED and importlib.util.find_spec("numba_cuda") is None:
    # Numba still has a copy of its own, which no longer follows new devices.
    raise ImportError(_EXTRA)

THREADS = 4 if SIMULATED else 128
"""Threads of a block. The simulator starts a Python thread for each."""
BLOCKS = 3 if SIMULATED else 1024
"""Most blocks of one launch along the rows."""
LANES = 2 if SIMULATED else 32
"""Columns that a block of `column_sums` adds up."""
REDUCE_THREADS = 4 if SIMULATED else 1024

SIDE = 2 if SIMULATED else 16
"""A block of ``SIDE**2`` threads forms ``(4 SIDE)**2`` entries of a Gram matrix."""
TILE_BYTES = 256 if SIMULATED else 34816
"""Shared memory of a tile: six blocks fit on one multiprocessor, so that some load
while others compute."""
MAX_SHARED = 49152
"""Shared memory that a block may have without asking the driver for more."""
MAX_FUSED = 8 if SIMULATED else 1024
"""Columns, that of ones included, up to which a tile holds whole rows. With more, an
evaluation reads the matrix twice."""
CLASS_CHUNK = 8
"""Classes whose products with a tile are added up at a time, in registers."""


@cuda.jit(device=True)
def add_block(work, t, value, partial):
    """Sum of a block, in order, to its row of ``partial``."""
    work[t] = value
    cuda.syncthreads()
    if t == 0:
        total = 0.0
        for p in range(cuda.blockDim.x):
            total += work[p]
        partial[cuda.blockIdx.x, 0] = total


class Layout(NamedTuple):
    """How the matrix is stored, and the function that copies a tile of it."""

    name: str
    load: object


# Indices are cast to unsigned where they are used: Numba tests signed ones for counting
# from the end. Offsets in shared memory are kept in 32 bits, which Numba's arithmetic
# leaves, and loops add to them: integers are most of the work on a tile.


@cuda.jit(device=True)
def _copy(flat, g, next_outer, inner, outer, tile, start, along, across):
    """Copy ``outer`` runs of ``inner`` neighbours from ``flat`` to ``tile``."""
    threads = cuda.blockDim.x
    e = int32(cuda.threadIdx.x)
    count = int32(inner * outer)
    if e >= count:
        return
    p = e // int32(inner)
    q = int32(e - p * inner)
    g += p * next_outer + q
    at = int32(start + p * across + q * along)
    step = threads // inner
    step_q = int32(threads - step * inner)
    step_g = step * next_outer + step_q
    step_at = int32(step * across + step_q * along)
    wrap_g = next_outer - inner
    wrap_at = int32(across - inner * along)
    inner = int32(inner)
    last = int32(count - 3 * threads)
    # Four loads before the first store, so that they wait for memory together.
    while e < last:
        q1, g1, at1 = int32(q + step_q), g + step_g, int32(at + step_at)
        if q1 >= inner:
            q1, g1, at1 = int32(q1 - inner), g1 + wrap_g, int32(at1 + wrap_at)
        q2, g2, at2 = int32(q1 + step_q), g1 + step_g, int32(at1 + step_at)
        if q2 >= inner:
            q2, g2, at2 = int32(q2 - inner), g2 + wrap_g, int32(at2 + wrap_at)
        q3, g3, at3 = int32(q2 + step_q), g2 + step_g, int32(at2 + step_at)
        if q3 >= inner:
            q3, g3, at3 = int32(q3 - inner), g3 + wrap_g, int32(at3 + wrap_at)
        x0, x1 = flat[uint64(g)], flat[uint64(g1)]
        x2, x3 = flat[uint64(g2)], flat[uint64(g3)]
        tile[uint32(at)] = x0
        tile[uint32(at1)] = x1
        tile[uint32(at2)] = x2
        tile[uint32(at3)] = x3
        q, g, at = int32(q3 + step_q), g3 + step_g, int32(at3 + step_at)
        if q >= inner:
            q, g, at = int32(q - inner), g + wrap_g, int32(at + wrap_at)
        e = int32(e + 4 * threads)
    while e < count:
        tile[uint32(at)] = flat[uint64(g)]
        q, g, at = int32(q + step_q), g + step_g, int32(at + step_at)
        if q >= inner:
            q, g, at = int32(q - inner), g + wrap_g, int32(at + wrap_at)
        e = int32(e + threads)


@cuda.jit(device=True)
def _fill_ones(rows, column, w, tile, base, pitch):
    """The column of ones, if it is one of those of the tile."""
    if column < w:
        for i in range(cuda.threadIdx.x, rows, cuda.blockDim.x):
            tile[base + i * pitch + column] = 1.0


@cuda.jit(device=True)
def _load_row_major(x, n, lo, rows, c, w, last, tile, base, pitch):
    stored = min(w, last - c)
    _copy(x[0], lo * last + c, last, stored, rows, tile, base, 1, pitch)
    _fill_ones(rows, last - c, w, tile, base, pitch)


@cuda.jit(device=True)
def _load_column_major(x, n, lo, rows, c, w, last, tile, base, pitch):
    stored = min(w, last - c)
    _copy(x[0], c * n + lo, n, rows, stored, tile, base, pitch, 1)
    _fill_ones(rows, last - c, w, tile, base, pitch)


@cuda.jit(device=True)
def _load_csr(x, n, lo, rows, c, w, last, tile, base, pitch):
    data, indices, indptr = x
    t = cuda.threadIdx.x
    threads = cuda.blockDim.x
    for e in range(t, rows * pitch, threads):
        tile[base + e] = 0.0
    cuda.syncthreads()
    # As many threads for a row as there are for all rows; no entry is written twice.
    share = max(1, threads // rows)
    for i in range(t // share, rows, max(1, threads // share)):
        for k in range(indptr[lo + i] + t % share, indptr[lo + i + 1], share):
            j = indices[k] - c
            if 0 <= j < w:
                tile[base + i * pitch + j] = data[k]
    _fill_ones(rows, last - c, w, tile, base, pitch)


ROW_MAJOR = Layout("row-major", _load_row_major)
COLUMN_MAJOR = Layout("column-major", _load_column_major)
CSR = Layout("csr", _load_csr)


class Tiles(NamedTuple):
    """Shape of the tiles and of the launch for a matrix; a function of its shape."""

    height: int
    """Rows of a tile, a power of two, at most THREADS."""
    width: int
    """Columns of a tile."""
    per_block: int
    """Tiles that a block reads, one after the other."""
    blocks: int

    @property
    def rows(self) -> int:
        """Rows that a block reads."""
        return self.height * self.per_block


def tiles(
    n: int, width: int, itemsize: int, most: int = BLOCKS, n_classes: int = 1
) -> Tiles:
    """Return the tiling of n rows and ``width`` columns at a time.

    Leaves room for two numbers of every thread and class.
    """
    room = min(TILE_BYTES, MAX_SHARED - 16 * n_classes * THREADS)
    height = THREADS
    while height > 1 and height * (width | 1) * itemsize > room:
        height //= 2
    count = -(-n // height)
    per_block = -(-count // min(most, count))
    return Tiles(height, width, per_block, -(-count // per_block))


def shared_bytes(shape: Tiles, doubles: int, itemsize: int) -> int:
    """Shared memory of a block: float64 work space, then a tile."""
    return 8 * doubles + shape.height * (shape.width | 1) * itemsize


@functools.cache
def matvec(layout, wide, n_classes):
    """Kernel that fills ``z[k, i] = sum_j u[k, j] x_ij`` for some classes.

    ``columns`` counts the column of ones; ``wide`` tells float64 from float32.
    """
    load, dtype = layout.load, float64 if wide else float32
    size = 1 if wide else 2

    @cuda.jit
    def matvec_kernel(x, n, columns, height, width, per_block, u, first, z, start):
        work = cuda.shared.array(0, float64)
        tile = cuda.shared.array(0, dtype)
        t = cuda.threadIdx.x
        threads = cuda.blockDim.x
        base = threads * size
        pitch = width | 1
        i = t % height
        part = t // height
        parts = threads // height
        total = cuda.local.array(n_classes, float64)
        for index in range(per_block):
            lo = (cuda.blockIdx.x * per_block + index) * height
            rows = min(height, n - lo)
            if rows <= 0:
                break
            for k in range(n_classes):
                total[k] = 0.0
            for c in range(0, columns, width):
                w = min(width, columns - c)
                load(x, n, lo, rows, c, w, columns - 1, tile, base, pitch)
                cuda.syncthreads()
                if i < rows:
                    at = int32(base + i * pitch + part)
                    j = int32(first * columns + c + part)
                    end = int32(first * columns + c + w)
                    while j < end:
                        value = np.float64(tile[uint32(at)])
                        for k in range(n_classes):
                            total[k] += value * u[uint32(j + k * columns)]
                        at = int32(at + parts)
                        j = int32(j + parts)
                cuda.syncthreads()
            for k in range(n_classes):
                work[t] = total[k]
                cuda.syncthreads()
                if t < rows:
                    product = 0.0
                    for p in range(parts):
                        product += work[p * height + t]
                    z[first + k, start + lo + t] = product
                cuda.syncthreads()

    return matvec_kernel


@functools.cache
def rmatvec(layout, wide, n_classes):
    """Kernel that adds up ``sum_i r[k, i] x_ij``, for the columns of a tile."""
    load, dtype = layout.load, float64 if wide else float32
    size = 1 if wide else 2

    @cuda.jit
    def rmatvec_kernel(
        x, n, columns, height, width, per_block, r, first, start, partial, block
    ):
        work = cuda.shared.array(0, float64)
        tile = cuda.shared.array(0, dtype)
        t = cuda.threadIdx.x
        threads = cuda.blockDim.x
        base = n_classes * height * size
        pitch = width | 1
        groups = threads // width
        j = t % width
        group = t // width
        c = cuda.blockIdx.y * width
        w = min(width, columns - c)
        total = cuda.local.array(n_classes, float64)
        for k in range(n_classes):
            total[k] = 0.0
        for index in range(per_block):
            lo = (cuda.blockIdx.x * per_block + index) * height
            rows = min(height, n - lo)
            if rows <= 0:
                break
            load(x, n, lo, rows, c, w, columns - 1, tile, base, pitch)
            if t < rows:
                for k in range(n_classes):
                    work[k * height + t] = r[first + k, start + lo + t]
            cuda.syncthreads()
            if group < groups and j < w:
                i = int32(group)
                at = int32(base + group * pitch + j)
                while i < int32(rows):
                    value = np.float64(tile[uint32(at)])
                    for k in range(n_classes):
                        total[k] += value * work[uint32(k * height + i)]
                    i = int32(i + groups)
                    at = int32(at + groups * pitch)
            cuda.syncthreads()
        if group < groups and j < w:
            row = (block + cuda.blockIdx.x) * groups + group
            for k in range(n_classes):
                partial[row, (first + k) * columns + c + j] = total[k]

    return rmatvec_kernel


@functools.cache
def moments(layout, wide):
    """Kernel that adds up ``sum_i s_i (x_ij - c_j)`` and the squares."""
    load, dtype = layout.load, float64 if wide else float32
    size = 1 if wide else 2

    @cuda.jit
    def moments_kernel(
        x, n, columns, height, width, per_block, s, center, start, partial, block
    ):
        work = cuda.shared.array(0, float64)
        tile = cuda.shared.array(0, dtype)
        t = cuda.threadIdx.x
        threads = cuda.blockDim.x
        base = height * size
        pitch = width | 1
        groups = threads // width
        j = t % width
        group = t // width
        c = cuda.blockIdx.y * width
        w = min(width, columns - c)
        first, second = 0.0, 0.0
        middle = center[min(c + j, columns - 1)]
        for index in range(per_block):
            lo = (cuda.blockIdx.x * per_block + index) * height
            rows = min(height, n - lo)
            if rows <= 0:
                break
            load(x, n, lo, rows, c, w, columns - 1, tile, base, pitch)
            if t < rows:
                work[t] = s[start + lo + t]
            cuda.syncthreads()
            if group < groups and j < w:
                i = int32(group)
                at = int32(base + group * pitch + j)
                while i < int32(rows):
                    deviation = np.float64(tile[uint32(at)]) - middle
                    first += work[uint32(i)] * deviation
                    second += work[uint32(i)] * deviation * deviation
                    i = int32(i + groups)
                    at = int32(at + groups * pitch)
            cuda.syncthreads()
        if group < groups and j < w:
            row = (block + cuda.blockIdx.x) * groups + group
            partial[row, c + j] = first
            partial[row, columns + c + j] = second

    return moments_kernel


@functools.cache
def row_norms(layout, wide):
    """Kernel that fills ``out[i] = sum_j ((x_ij - shift_j) scale_j)**2``."""
    load, dtype = layout.load, float64 if wide else float32
    size = 1 if wide else 2

    @cuda.jit
    def row_norms_kernel(
        x, n, columns, height, width, per_block, shift, scale, out, start
    ):
        work = cuda.shared.array(0, float64)
        tile = cuda.shared.array(0, dtype)
        t = cuda.threadIdx.x
        threads = cuda.blockDim.x
        base = threads * size
        pitch = width | 1
        i = t % height
        part = t // height
        parts = threads // height
        for index in range(per_block):
            lo = (cuda.blockIdx.x * per_block + index) * height
            rows = min(height, n - lo)
            if rows <= 0:
                break
            total = 0.0
            for c in range(0, columns, width):
                w = min(width, columns - c)
                load(x, n, lo, rows, c, w, columns - 1, tile, base, pitch)
                cuda.syncthreads()
                if i < rows:
                    j = int32(c + part)
                    at = int32(base + i * pitch + part)
                    while j < int32(c + w):
                        value = np.float64(tile[uint32(at)]) - shift[uint32(j)]
                        value *= scale[uint32(j)]
                        total += value * value
                        j = int32(j + parts)
                        at = int32(at + parts)
                cuda.syncthreads()
            work[t] = total
            cuda.syncthreads()
            if t < rows:
                norm = 0.0
                for p in range(parts):
                    norm += work[p * height + t]
                out[start + lo + t] = norm
            cuda.syncthreads()

    return row_norms_kernel


@functools.cache
def fused(layout, wide, point, n_sums):
    """Kernel for predictions, slopes and their product with the rows, in one read.

    ``point(z, a, b)`` returns the factor of the row in the gradient and its part of the
    value: ``partial`` receives ``sum_i factor_i x_ij`` and ``sum_i value_i``. A thread
    keeps ``n_sums`` columns.
    """
    load, dtype = layout.load, float64 if wide else float32
    size = 1 if wide else 2

    @cuda.jit
    def fused_kernel(
        x, n, columns, height, width, per_block, u, a, b, z, start, partial, block
    ):
        work = cuda.shared.array(0, float64)
        tile = cuda.shared.array(0, dtype)
        t = cuda.threadIdx.x
        threads = cuda.blockDim.x
        base = (threads + height) * size
        pitch = columns | 1
        i = t % height
        part = t // height
        parts = threads // height
        across = min(columns, threads)
        groups = threads // across
        column = t % across
        group = t // across
        total = cuda.local.array(n_sums, float64)
        for k in range(n_sums):
            total[k] = 0.0
        value = 0.0
        for index in range(per_block):
            lo = (cuda.blockIdx.x * per_block + index) * height
            rows = min(height, n - lo)
            if rows <= 0:
                break
            load(x, n, lo, rows, 0, columns, columns - 1, tile, base, pitch)
            cuda.syncthreads()
            product = 0.0
            if i < rows:
                j = int32(part)
                at = int32(base + i * pitch + part)
                while j < int32(columns):
                    product += np.float64(tile[uint32(at)]) * u[uint32(j)]
                    j = int32(j + parts)
                    at = int32(at + parts)
            work[t] = product
            cuda.syncthreads()
            if t < rows:
                product = 0.0
                for p in range(parts):
                    product += work[p * height + t]
                row = start + lo + t
                z[row] = product
                factor, loss = point(product, a[row], b[row])
                work[threads + t] = factor
                value += loss
            cuda.syncthreads()
            if group < groups:
                r = int32(threads + group)
                at = int32(base + group * pitch + column)
                while r < int32(threads + rows):
                    factor = work[uint32(r)]
                    for k in range(n_sums):
                        if column + k * across < columns:
                            x_rj = np.float64(tile[uint32(at + k * across)])
                            total[k] += factor * x_rj
                    r = int32(r + groups)
                    at = int32(at + groups * pitch)
            cuda.syncthreads()
        work[t] = value
        cuda.syncthreads()
        if group < groups:
            out = (block + cuda.blockIdx.x) * groups + group
            for k in range(n_sums):
                j = column + k * across
                if j < columns:
                    partial[out, j] = total[k]
        if t < groups:
            value = 0.0
            if t == 0:
                for p in range(height):
                    value += work[p]
            partial[(block + cuda.blockIdx.x) * groups + t, columns] = value

    return fused_kernel


@functools.cache
def evaluation(value, d1):
    """Point function of an evaluation: target and weight of the row follow z."""

    @inlinable()
    def point(z, y, s):
        return s * d1(z, y), s * value(z, y)

    return point


@functools.cache
def curvature_product():
    """Point function of a Hessian-vector product: the curvature follows z."""

    @inlinable()
    def point(z, h, unused):
        return h * z, 0.0

    return point


@functools.cache
def gram(layout, wide):
    """Kernel for ``sum_i h_i a_ij a_ik``, ``a = (x - shift) scale``.

    Block ``(b, p)`` forms the entries of the p-th pair of column tiles ``k <= j``.
    """
    load, dtype = layout.load, float64 if wide else float32
    size = 1 if wide else 2

    @cuda.jit
    def gram_kernel(
        x,
        n,
        columns,
        height,
        width,
        per_block,
        h,
        shift,
        scale,
        start,
        pairs,
        partial,
        block,
    ):
        work = cuda.shared.array(0, float64)
        tile = cuda.shared.array(0, dtype)
        t = cuda.threadIdx.x
        side = width // 4
        pitch = width | 1
        left = height * size
        tx = t % side
        ty = t // side
        cj = pairs[cuda.blockIdx.y, 0] * width
        ck = pairs[cuda.blockIdx.y, 1] * width
        wj = min(width, columns - cj)
        wk = min(width, columns - ck)
        right = left if ck == cj else left + height * pitch
        total = cuda.local.array(16, float64)
        a = cuda.local.array(4, float64)
        shift_j = cuda.local.array(4, float64)
        shift_k = cuda.local.array(4, float64)
        scale_j = cuda.local.array(4, float64)
        scale_k = cuda.local.array(4, float64)
        for p in range(16):
            total[p] = 0.0
        for p in range(4):
            # Columns past the last one: read somewhere, written nowhere.
            j = min(cj + ty + p * side, columns - 1)
            k = min(ck + tx + p * side, columns - 1)
            shift_j[p], scale_j[p] = shift[j], scale[j]
            shift_k[p], scale_k[p] = shift[k], scale[k]
        for index in range(per_block):
            lo = (cuda.blockIdx.x * per_block + index) * height
            rows = min(height, n - lo)
            if rows <= 0:
                break
            load(x, n, lo, rows, cj, wj, columns - 1, tile, left, pitch)
            if ck != cj:
                load(x, n, lo, rows, ck, wk, columns - 1, tile, right, pitch)
            if t < rows:
                work[t] = h[start + lo + t]
            cuda.syncthreads()
            for i in range(rows):
                weight = work[uint32(i)]
                at = left + i * pitch + ty
                for p in range(4):
                    a[p] = np.float64(tile[uint32(at + p * side)])
                    a[p] = (a[p] - shift_j[p]) * scale_j[p] * weight
                at = right + i * pitch + tx
                for q in range(4):
                    b = np.float64(tile[uint32(at + q * side)])
                    b = (b - shift_k[q]) * scale_k[q]
                    for p in range(4):
                        total[4 * p + q] += a[p] * b
            cuda.syncthreads()
        for p in range(4):
            for q in range(4):
                j, k = cj + ty + p * side, ck + tx + q * side
                if j < columns and k < columns:
                    entry = j * columns + k
                    partial[block + cuda.blockIdx.x, entry] = total[4 * p + q]

    return gram_kernel


@functools.cache
def gather_rows():
    """Kernel that fills ``out[i] = x[index[i]]``, a row by a group of threads.

    ``down`` and ``across`` are the steps from row to row and from column to column.
    """

    @cuda.jit
    def gather_rows_kernel(flat, down, across, index, width, out):
        t = cuda.grid(1)
        lane = t % width
        for i in range(t // width, out.shape[0], cuda.gridsize(1) // width):
            row = index[i] * down
            for j in range(lane, out.shape[1], width):
                out[i, j] = flat[uint64(row + j * across)]

    return gather_rows_kernel


@functools.cache
def copy_strided():
    """Kernel that fills ``out[i, j] = X[i, j]``."""

    @cuda.jit
    def copy_strided_kernel(X, out):
        n_columns = out.shape[1]
        for e in range(cuda.grid(1), out.size, cuda.gridsize(1)):
            i = e // n_columns
            out[i, e - i * n_columns] = X[i, e - i * n_columns]

    return copy_strided_kernel


# Softmax, a thread per row; arrays of shape (n_classes, n).


@cuda.jit(device=True)
def _largest(z, u, step, i):
    """Largest prediction at ``z + step u``, its class, and the sum of the others."""
    top = z[0, i] + step * u[0, i]
    first = 0
    for k in range(1, z.shape[0]):
        z_k = z[k, i] + step * u[k, i]
        if z_k > top:
            top, first = z_k, k
    others = 0.0
    for k in range(z.shape[0]):
        if k != first:
            others += exp(z[k, i] + step * u[k, i] - top)
    return top, first, others


@functools.cache
def class_fused(layout, wide, n_classes, curved):
    """Kernel for the softmax loss, or a product with its Hessian, in one read.

    For few classes and at most as many columns as threads. Fills the predictions
    ``z`` and adds up gradient and losses; if ``curved``, ``z`` are the probabilities
    and the products with ``s_i (diag(p_i) - p_i p_i')`` are added up.
    """
    load, dtype = layout.load, float64 if wide else float32
    size = 1 if wide else 2

    @cuda.jit
    def class_fused_kernel(
        x, n, columns, height, width, per_block, u, y, s, z, start, partial, block
    ):
        work = cuda.shared.array(0, float64)
        tile = cuda.shared.array(0, dtype)
        t = cuda.threadIdx.x
        threads = cuda.blockDim.x
        rest = n_classes * threads
        base = (rest + n_classes * height) * size
        pitch = columns | 1
        i = t % height
        part = t // height
        parts = threads // height
        groups = threads // columns
        column = t % columns
        group = t // columns
        product = cuda.local.array(n_classes, float64)
        total = cuda.local.array(n_classes, float64)
        for k in range(n_classes):
            total[k] = 0.0
        value = 0.0
        for index in range(per_block):
            lo = (cuda.blockIdx.x * per_block + index) * height
            rows = min(height, n - lo)
            if rows <= 0:
                break
            load(x, n, lo, rows, 0, columns, columns - 1, tile, base, pitch)
            cuda.syncthreads()
            for k in range(n_classes):
                product[k] = 0.0
            if i < rows:
                j = int32(part)
                at = int32(base + i * pitch + part)
                while j < int32(columns):
                    x_j = np.float64(tile[uint32(at)])
                    for k in range(n_classes):
                        product[k] += x_j * u[uint32(j + k * columns)]
                    j = int32(j + parts)
                    at = int32(at + parts)
            for k in range(n_classes):
                work[k * threads + t] = product[k]
            cuda.syncthreads()
            if t < rows:
                row = start + lo + t
                for k in range(n_classes):
                    product[k] = 0.0
                    for p in range(parts):
                        product[k] += work[k * threads + p * height + t]
                if curved:
                    largest, center = -1.0, 0.0
                    for k in range(n_classes):
                        if z[k, row] > largest:
                            largest, center = z[k, row], product[k]
                    mean = 0.0
                    for k in range(n_classes):
                        product[k] -= center
                        mean += z[k, row] * product[k]
                    for k in range(n_classes):
                        slope = z[k, row] * (product[k] - mean)
                        work[rest + k * height + t] = s[row] * slope
                else:
                    top, first = product[0], 0
                    for k in range(n_classes):
                        z[k, row] = product[k]
                        if product[k] > top:
                            top, first = product[k], k
                    others = 0.0
                    for k in range(n_classes):
                        product[k] = exp(product[k] - top)
                        if k != first:
                            others += product[k]
                    for k in range(n_classes):
                        slope = product[k] / (1.0 + others)
                        work[rest + k * height + t] = s[row] * slope
                    # By its place in memory: registers have no number known later.
                    own = int(y[row])
                    lead = top - z[own, row]
                    value += s[row] * (math.log1p(others) + lead)
                    # p - 1 without its cancellation where p is the largest.
                    slope = exp(-lead) / (1.0 + others) - 1.0
                    slope = -others / (1.0 + others) if own == first else slope
                    work[rest + own * height + t] = s[row] * slope
            cuda.syncthreads()
            if group < groups:
                r = int32(rest + group)
                at = int32(base + group * pitch + column)
                while r < int32(rest + rows):
                    x_j = np.float64(tile[uint32(at)])
                    for k in range(n_classes):
                        total[k] += x_j * work[uint32(r + k * height)]
                    r = int32(r + groups)
                    at = int32(at + groups * pitch)
            cuda.syncthreads()
        work[t] = value
        cuda.syncthreads()
        if group < groups:
            out = (block + cuda.blockIdx.x) * groups + group
            for k in range(n_classes):
                partial[out, k * columns + column] = total[k]
        if t < groups:
            value = 0.0
            if t == 0:
                for p in range(height):
                    value += work[p]
            partial[(block + cuda.blockIdx.x) * groups + t, n_classes * columns] = value

    return class_fused_kernel


@functools.cache
def class_slopes():
    """Kernel that fills ``r[k, i] = s_i (p_ki - [y_i = k])`` and adds the losses."""

    @cuda.jit
    def class_slopes_kernel(z, t, y, s, r, partial):
        work = cuda.shared.array(0, float64)
        value = 0.0
        for i in range(cuda.grid(1), z.shape[1], cuda.gridsize(1)):
            top, first, others = _largest(z, z, t, i)
            own = int(y[i])
            value += s[i] * (math.log1p(others) + (top - z[own, i]))
            for k in range(z.shape[0]):
                p = exp(z[k, i] - top) / (1.0 + others)
                if k == own:
                    # p - 1 without its cancellation where p is the largest.
                    p = -others / (1.0 + others) if k == first else p - 1.0
                r[k, i] = s[i] * p
        add_block(work, cuda.threadIdx.x, value, partial)

    return class_slopes_kernel


@functools.cache
def class_mean_along():
    """Kernel that adds up the losses at ``z + t u``."""

    @cuda.jit
    def class_mean_along_kernel(z, u, t, y, s, partial):
        work = cuda.shared.array(0, float64)
        value = 0.0
        for i in range(cuda.grid(1), z.shape[1], cuda.gridsize(1)):
            top, _, others = _largest(z, u, t, i)
            own = int(y[i])
            z_own = z[own, i] + t * u[own, i]
            value += s[i] * (math.log1p(others) + (top - z_own))
        add_block(work, cuda.threadIdx.x, value, partial)

    return class_mean_along_kernel


@functools.cache
def class_probabilities():
    """Kernel that fills the probabilities of the classes."""

    @cuda.jit
    def class_probabilities_kernel(z, p):
        for i in range(cuda.grid(1), z.shape[1], cuda.gridsize(1)):
            top, _, others = _largest(z, z, 0.0, i)
            for k in range(z.shape[0]):
                p[k, i] = exp(z[k, i] - top) / (1.0 + others)

    return class_probabilities_kernel


@functools.cache
def class_curvature():
    """Kernel that puts ``s_i (diag(p_i) - p_i p_i') u_i`` in the place of ``u_i``."""

    @cuda.jit
    def class_curvature_kernel(p, s, u):
        for i in range(cuda.grid(1), p.shape[1], cuda.gridsize(1)):
            largest, center = -1.0, 0.0
            for k in range(p.shape[0]):
                if p[k, i] > largest:
                    largest, center = p[k, i], u[k, i]
            # From the likeliest class on: what is left of a certain row is not lost.
            mean = 0.0
            for k in range(p.shape[0]):
                mean += p[k, i] * (u[k, i] - center)
            for k in range(p.shape[0]):
                u[k, i] = s[i] * p[k, i] * ((u[k, i] - center) - mean)

    return class_curvature_kernel


@functools.cache
def pair_weights():
    """Kernel for ``h_i B_a' (diag(p_i) - p_i p_i') B_b``, as in `kernels.softmax`."""

    @cuda.jit
    def pair_weights_kernel(p, h, a, b, out):
        n_classes = p.shape[0]
        root = math.sqrt(np.float64(n_classes))
        share = 1.0 / (n_classes + root)
        for i in range(cuda.grid(1), p.shape[1], cuda.gridsize(1)):
            last = p[n_classes - 1, i]
            common = (1.0 / root + last) / (root + 1.0)
            constant = share * share * (1.0 - last) + last / n_classes
            product = (p[a, i] - common) * (p[b, i] - common)
            weight = constant - product - share * (p[a, i] + p[b, i])
            if a == b:
                weight += p[a, i]
            out[i] = h[i] * weight

    return pair_weights_kernel


# Maps of a loss, a thread per row.


@functools.cache
def weighted(f):
    """Kernel that fills ``out[i] = s[i] f(z[i], y[i])``."""

    @cuda.jit
    def weighted_kernel(z, y, s, out):
        for i in range(cuda.grid(1), out.size, cuda.gridsize(1)):
            out[i] = s[i] * f(z[i], y[i])

    return weighted_kernel


@functools.cache
def mean_along(f):
    """Kernel that adds up ``s[i] f(z[i] + t u[i], y[i])``."""

    @cuda.jit
    def mean_along_kernel(z, u, t, y, s, partial):
        work = cuda.shared.array(0, float64)
        total = 0.0
        for i in range(cuda.grid(1), z.size, cuda.gridsize(1)):
            total += s[i] * f(z[i] + t * u[i], y[i])
        add_block(work, cuda.threadIdx.x, total, partial)

    return mean_along_kernel


# Sparse matrices of many columns: the entries are read where they are, row by row for
# predictions, column by column (of a second copy, by columns) for gradients.


@functools.cache
def csr_matvec():
    """Kernel that fills ``z[k, i] = sum_j u[k, j] x_ij``, class ``k = blockIdx.y``.

    ``share`` threads read a row; ``u`` ends with the constant.
    """

    @cuda.jit
    def csr_matvec_kernel(x, n, share, per_block, u, z):
        data, indices, indptr = x
        work = cuda.shared.array(0, float64)
        t = cuda.threadIdx.x
        k = cuda.blockIdx.y
        height = cuda.blockDim.x // share
        for index in range(per_block):
            i = (cuda.blockIdx.x * per_block + index) * height + t // share
            total = 0.0
            if i < n:
                for e in range(indptr[i] + t % share, indptr[i + 1], share):
                    total += np.float64(data[e]) * u[k, indices[e]]
            work[t] = total
            cuda.syncthreads()
            if t % share == 0 and i < n:
                total = u[k, u.shape[1] - 1]
                for p in range(share):
                    total += work[t + p]
                z[k, i] = total
            cuda.syncthreads()

    return csr_matvec_kernel


@functools.cache
def csr_row_norms():
    """Kernel that fills ``out[i] = sum_j (x_ij scale_j)**2 - 2 x_ij cross_j``."""

    @cuda.jit
    def csr_row_norms_kernel(x, scale, cross, out):
        data, indices, indptr = x
        for i in range(cuda.grid(1), out.size, cuda.gridsize(1)):
            total = 0.0
            for e in range(indptr[i], indptr[i + 1]):
                value, j = np.float64(data[e]), indices[e]
                total += value * scale[j] * value * scale[j] - 2.0 * value * cross[j]
            out[i] = total

    return csr_row_norms_kernel


@functools.cache
def csc_segments(squared):
    """Kernel that adds up ``r[k, i] x_ij`` over a segment of a column, in a block.

    Segments have a bounded length: no column, however full, holds up the others.
    """

    @cuda.jit
    def csc_segments_kernel(data, rows, bounds, r, partial):
        work = cuda.shared.array(0, float64)
        t = cuda.threadIdx.x
        segment = cuda.blockIdx.x
        k = cuda.blockIdx.y
        total = 0.0
        for e in range(bounds[segment] + t, bounds[segment + 1], cuda.blockDim.x):
            value = np.float64(data[e])
            total += r[k, rows[e]] * (value * value if squared else value)
        work[t] = total
        cuda.syncthreads()
        if t == 0:
            total = 0.0
            for p in range(cuda.blockDim.x):
                total += work[p]
            partial[k, segment] = total

    return csc_segments_kernel


@functools.cache
def csc_columns():
    """Kernel that adds the segments of every column in their order."""

    @cuda.jit
    def csc_columns_kernel(partial, first, out):
        k = cuda.blockIdx.y
        for j in range(cuda.grid(1), out.shape[1], cuda.gridsize(1)):
            total = 0.0
            for segment in range(first[j], first[j + 1]):
                total += partial[k, segment]
            out[k, j] = total

    return csc_columns_kernel


@functools.cache
def column_sums():
    """Kernel that adds the rows of ``partial`` in a fixed order."""
    lanes = LANES

    @cuda.jit
    def column_sums_kernel(partial, n_rows, n_columns, out):
        work = cuda.shared.array(0, float64)
        t = cuda.threadIdx.x
        groups = cuda.blockDim.x // lanes
        j = cuda.blockIdx.x * lanes + t % lanes
        total = 0.0
        if j < n_columns:
            for i in range(t // lanes, n_rows, groups):
                total += partial[i, j]
        work[t] = total
        cuda.syncthreads()
        if t < lanes and j < n_columns:
            total = 0.0
            for g in range(groups):
                total += work[g * lanes + t]
            out[j] = total

    return column_sums_kernel


# Operations on vectors that the models do between the calls of `Rows`.


def _add(a, b):
    return a + b


def _subtract(a, b):
    return a - b


def product_of(a, b):
    return a * b


def _divide(a, b):
    return a / b


def _power(a, b):
    return a * a if b == 2.0 else a**b


def _absolute(a, b):
    return abs(a)


def _negative(a, b):
    return -a


def _sqrt(a, b):
    return math.sqrt(a) if a >= 0.0 else math.nan


def first_of(a, b):
    return a


UFUNCS = {
    np.add: _add,
    np.subtract: _subtract,
    np.multiply: product_of,
    np.true_divide: _divide,
    np.power: _power,
    np.absolute: _absolute,
    np.negative: _negative,
    np.sqrt: _sqrt,
}
"""What `DeviceArray` can do, by the function of NumPy that asks for it."""


@functools.cache
def vector_map(f, kinds):
    """Kernel for ``out = f(a, b)``; scalars are marked ``s`` in ``kinds``."""
    f = inlinable()(f)

    @cuda.jit
    def arrays_kernel(a, b, out):
        for i in range(cuda.grid(1), out.size, cuda.gridsize(1)):
            # One of them may be shorter: the same vector for every class.
            j = i if i < a.size else i % a.size
            k = i if i < b.size else i % b.size
            out[i] = f(a[j], b[k])

    @cuda.jit
    def left_kernel(a, b, out):
        for i in range(cuda.grid(1), out.size, cuda.gridsize(1)):
            out[i] = f(a[i], b)

    @cuda.jit
    def right_kernel(a, b, out):
        for i in range(cuda.grid(1), out.size, cuda.gridsize(1)):
            out[i] = f(a, b[i])

    return {"aa": arrays_kernel, "as": left_kernel, "sa": right_kernel}[kinds]


@functools.cache
def vector_sum_of(f):
    """Kernel that adds up ``f(a, b)``."""
    f = inlinable()(f)

    @cuda.jit
    def sum_kernel(a, b, partial):
        work = cuda.shared.array(0, float64)
        total = 0.0
        for i in range(cuda.grid(1), a.size, cuda.gridsize(1)):
            total += f(a[i], b[i])
        add_block(work, cuda.threadIdx.x, total, partial)

    return sum_kernel


@functools.cache
def vector_extreme(sign):
    """Kernel for the largest of ``sign a``; nan if there is one."""

    @cuda.jit
    def extreme_kernel(a, partial):
        work = cuda.shared.array(0, float64)
        t = cuda.threadIdx.x
        top = -math.inf
        for i in range(cuda.grid(1), a.size, cuda.gridsize(1)):
            value = sign * a[i]
            top = value if value > top or value != value else top
        work[t] = top
        cuda.syncthreads()
        if t == 0:
            for p in range(cuda.blockDim.x):
                top = work[p] if work[p] > top or work[p] != work[p] else top
            partial[cuda.blockIdx.x, 0] = top

    return extreme_kernel


@functools.cache
def vector_sum_classes():
    """Kernel that adds the classes."""

    @cuda.jit
    def sum_classes_kernel(a, out):
        for i in range(cuda.grid(1), a.shape[1], cuda.gridsize(1)):
            total = 0.0
            for k in range(a.shape[0]):
                total += a[k, i]
            out[i] = total

    return sum_classes_kernel


@functools.cache
def vector_gather():
    """Kernel that fills ``out[k, i] = a[k, index[i]]``."""

    @cuda.jit
    def gather_kernel(a, index, out):
        for i in range(cuda.grid(1), index.size, cuda.gridsize(1)):
            row = index[i]
            for k in range(a.shape[0]):
                out[k, i] = a[k, row]

    return gather_kernel
