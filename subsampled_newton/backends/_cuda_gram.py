"""CUDA kernel for Gram matrices, by tiles of rows for pairs of column tiles."""

import functools

import numpy as np

from subsampled_newton.backends._cuda_tiles import cuda, float32, float64, uint32


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
