"""Tiles of rows in the shared memory of a block, and what all CUDA kernels share.

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

import importlib.util
import sys
from typing import NamedTuple

import numpy as np

_EXTRA = (
    "rows on a GPU need the package numba-cuda: "
    'pip install "subsampled_newton[cuda]", or numba-cuda[cu12] for drivers of CUDA 12'
)

try:
    from numba import config, cuda, float32, float64
except ImportError as error:
    raise ImportError(f"{_EXTRA} ({error})") from error

__all__ = [
    "BLOCKS",
    "CLASS_CHUNK",
    "COLUMN_MAJOR",
    "CSR",
    "LANES",
    "MAX_FUSED",
    "MAX_SHARED",
    "REDUCE_THREADS",
    "ROW_MAJOR",
    "SIDE",
    "SIMULATED",
    "THREADS",
    "Layout",
    "Tiles",
    "cuda",
    "float32",
    "float64",
    "int32",
    "rows_of",
    "settings",
    "shared_bytes",
    "tiles",
    "uint32",
    "uint64",
]

int32, uint32, uint64 = np.int32, np.uint32, np.uint64
SIMULATED = bool(config.ENABLE_CUDASIM)
settings = sys.modules.get("numba.cuda.core.config", config)
"""What Numba reads at a launch: numba-cuda has settings of its own."""
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
    return rows_of(n, height, width, most)


def rows_of(n: int, height: int, width: int, most: int = BLOCKS) -> Tiles:
    """Return a tiling with tiles of a given height, for ``most`` blocks at most."""
    count = -(-n // height)
    per_block = -(-count // min(most, count))
    return Tiles(height, width, per_block, -(-count // per_block))


def shared_bytes(shape: Tiles, doubles: int, itemsize: int) -> int:
    """Shared memory of a block: float64 work space, then a tile."""
    return 8 * doubles + shape.height * (shape.width | 1) * itemsize
