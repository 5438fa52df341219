"""CUDA kernels for sparse matrices of many columns.

The entries are read where they are, row by row for predictions, column by column (of a
second copy, by columns) for gradients.
"""

import functools

import numpy as np

from subsampled_newton.backends._cuda_tiles import cuda, float64


@functools.cache
def csr_matvec():
    """Kernel that fills ``z[k, i] = sum_j u[k, j] x_ij``, class ``k = blockIdx.y``.

    A block reads ``height`` rows at a time; ``u`` ends with the constant.
    """

    @cuda.jit
    def csr_matvec_kernel(x, n, columns, height, width, per_block, u, z, start):
        data, indices, indptr = x
        work = cuda.shared.array(0, float64)
        t = cuda.threadIdx.x
        k = cuda.blockIdx.y
        share = cuda.blockDim.x // height
        for index in range(per_block):
            i = (cuda.blockIdx.x * per_block + index) * height + t // share
            total = 0.0
            if i < n:
                for e in range(indptr[i] + t % share, indptr[i + 1], share):
                    total += np.float64(data[e]) * u[k, indices[e]]
            work[t] = total
            cuda.syncthreads()
            if t % share == 0 and i < n:
                total = u[k, columns - 1]
                for p in range(share):
                    total += work[t + p]
                z[k, start + i] = total
            cuda.syncthreads()

    return csr_matvec_kernel


@functools.cache
def csr_row_norms():
    """Kernel that fills ``out[i] = sum_j (x_ij scale_j)**2 - 2 x_ij cross_j``."""

    @cuda.jit
    def csr_row_norms_kernel(
        x, n, columns, height, width, per_block, scale, cross, out, start
    ):
        data, indices, indptr = x
        for i in range(cuda.grid(1), n, cuda.gridsize(1)):
            total = 0.0
            for e in range(indptr[i], indptr[i + 1]):
                value, j = np.float64(data[e]), indices[e]
                total += value * scale[j] * value * scale[j] - 2.0 * value * cross[j]
            out[start + i] = total

    return csr_row_norms_kernel


@functools.cache
def csc_segments(squared):
    """Kernel that adds up ``r[k, i] x_ij`` over a segment of a column, in a block.

    Segments have a bounded length: no column, however full, holds up the others.
    """

    @cuda.jit
    def csc_segments_kernel(x, r, start, partial):
        data, rows, bounds = x
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
            partial[k, start + segment] = total

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
