"""CUDA kernels for softmax; arrays of shape (n_classes, n)."""

import functools
import math

import numpy as np

from subsampled_newton._elementary import exp
from subsampled_newton._jit import inlinable
from subsampled_newton.backends._cuda_tiles import (
    cuda,
    float32,
    float64,
    int32,
    uint32,
    uint64,
)
from subsampled_newton.backends._cuda_vectors import add_block

# One loop over the classes each, for values in registers, shared or global memory: from
# ``at`` on, in steps of ``step``.


@inlinable()
def exponentials(z, at, step, n_classes, out, out_at, out_step):
    """Fill ``exp(z_k - largest)``; return the largest, its class, and the others' sum.

    ``out`` may be ``z``.
    """
    top, first = z[uint64(at)], 0
    for k in range(1, n_classes):
        z_k = z[uint64(at + k * step)]
        if z_k > top:
            top, first = z_k, k
    others = 0.0
    for k in range(n_classes):
        e = exp(z[uint64(at + k * step)] - top)
        out[uint64(out_at + k * out_step)] = e
        if k != first:
            others += e
    return top, first, others


@inlinable()
def fill_slopes(e, e_at, e_step, n_classes, s, own, lead, first, others, out, at, step):
    """Fill ``s (p_k - [k = own])`` from exponentials; ``lead = largest - z_own``."""
    for k in range(n_classes):
        out[uint64(at + k * step)] = s * (e[uint64(e_at + k * e_step)] / (1.0 + others))
    # p - 1 without its cancellation where p is the largest.
    slope = -others / (1.0 + others)
    if own != first:
        slope = exp(-lead) / (1.0 + others) - 1.0
    # By its place in memory: registers have no number known later.
    out[uint64(at + own * step)] = s * slope


@inlinable()
def fill_curved(p, p_at, p_step, n_classes, u, u_at, u_step, s, out, at, step):
    """Fill ``s (diag(p) - p p') u``; ``out`` may be ``u``."""
    # From the likeliest class on: what is left of a certain row is not lost.
    largest, center = -1.0, 0.0
    for k in range(n_classes):
        p_k = p[uint64(p_at + k * p_step)]
        if p_k > largest:
            largest, center = p_k, u[uint64(u_at + k * u_step)]
    mean = 0.0
    for k in range(n_classes):
        p_k = p[uint64(p_at + k * p_step)]
        mean += p_k * (u[uint64(u_at + k * u_step)] - center)
    for k in range(n_classes):
        p_k = p[uint64(p_at + k * p_step)]
        difference = (u[uint64(u_at + k * u_step)] - center) - mean
        out[uint64(at + k * step)] = s * p_k * difference


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
        n_all = z.size // n_classes
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
                s_i, at = s[row], rest + t
                if curved:
                    fill_curved(
                        z, row, n_all, n_classes, product, 0, 1, s_i, work, at, height
                    )
                else:
                    for k in range(n_classes):
                        z[uint64(row + k * n_all)] = product[k]
                    own = int(y[row])
                    z_own = z[uint64(row + own * n_all)]
                    top, first, others = exponentials(
                        product, 0, 1, n_classes, product, 0, 1
                    )
                    value += s_i * (math.log1p(others) + (top - z_own))
                    fill_slopes(
                        product,
                        0,
                        1,
                        n_classes,
                        s_i,
                        own,
                        top - z_own,
                        first,
                        others,
                        work,
                        at,
                        height,
                    )
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
    def class_slopes_kernel(z, y, s, r, partial):
        work = cuda.shared.array(0, float64)
        n = s.size
        K = z.size // n
        value = 0.0
        for i in range(cuda.grid(1), n, cuda.gridsize(1)):
            own = int(y[i])
            top, first, others = exponentials(z, i, n, K, r, i, n)
            lead = top - z[uint64(i + own * n)]
            value += s[i] * (math.log1p(others) + lead)
            fill_slopes(r, i, n, K, s[i], own, lead, first, others, r, i, n)
        add_block(work, cuda.threadIdx.x, value, partial)

    return class_slopes_kernel


@cuda.jit(device=True)
def _value(z, u, step, own, i):
    """Loss at ``z + step u``."""
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
    return math.log1p(others) + (top - (z[own, i] + step * u[own, i]))


@functools.cache
def class_mean_along():
    """Kernel that adds up the losses at ``z + t u``."""

    @cuda.jit
    def class_mean_along_kernel(z, u, t, y, s, partial):
        work = cuda.shared.array(0, float64)
        value = 0.0
        for i in range(cuda.grid(1), z.shape[1], cuda.gridsize(1)):
            value += s[i] * _value(z, u, t, int(y[i]), i)
        add_block(work, cuda.threadIdx.x, value, partial)

    return class_mean_along_kernel


@functools.cache
def class_probabilities():
    """Kernel that fills the probabilities of the classes."""

    @cuda.jit
    def class_probabilities_kernel(z, n, p):
        K = z.size // n
        for i in range(cuda.grid(1), n, cuda.gridsize(1)):
            _, _, others = exponentials(z, i, n, K, p, i, n)
            for k in range(K):
                p[uint64(i + k * n)] /= 1.0 + others

    return class_probabilities_kernel


@functools.cache
def class_curvature():
    """Kernel that puts ``s_i (diag(p_i) - p_i p_i') u_i`` in the place of ``u_i``."""

    @cuda.jit
    def class_curvature_kernel(p, s, u):
        n = s.size
        for i in range(cuda.grid(1), n, cuda.gridsize(1)):
            fill_curved(p, i, n, p.size // n, u, i, n, s[i], u, i, n)

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
