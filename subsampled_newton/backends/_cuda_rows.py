"""CUDA kernels that read tiles of rows: products, moments, fused evaluation."""

import functools

import numpy as np

from subsampled_newton._jit import inlinable
from subsampled_newton.backends._cuda_tiles import (
    cuda,
    float32,
    float64,
    int32,
    uint32,
    uint64,
)


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
