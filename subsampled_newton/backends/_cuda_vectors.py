"""CUDA kernels for vectors of the rows: maps and sums in a fixed order."""

import functools
import math

import numpy as np

from subsampled_newton._jit import inlinable
from subsampled_newton.backends._cuda_tiles import LANES, cuda, float64


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
