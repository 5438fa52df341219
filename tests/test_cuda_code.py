"""What the CUDA kernels are compiled to: needs numba-cuda and NVVM, but no GPU."""

import re
from types import SimpleNamespace

import numpy as np
import pytest
from numba import config, float32, float64, int32, int64, types

from subsampled_newton import (
    LOGISTIC,
    POISSON,
    SIGMOID_SQUARED,
    SQUARED,
    PointwiseLoss,
    huber,
    pseudo_huber,
    tukey,
)
from subsampled_newton._jit import inlinable
from subsampled_newton.losses import TANH_SQUARED

if config.ENABLE_CUDASIM:
    pytest.skip("the simulator compiles nothing", allow_module_level=True)
pytest.importorskip("numba_cuda", reason="numba-cuda is not installed")
from numba import cuda

try:  # the smallest kernel
    cuda.compile(lambda: None, types.void(), cc=(8, 0), device=False, abi="numba")
except Exception as error:  # of one of three libraries, each with its own
    pytest.skip(f"no compiler for CUDA: {error}", allow_module_level=True)
# What is wrong with our own modules fails here.
from subsampled_newton.backends import _cuda_classes as classes
from subsampled_newton.backends import _cuda_device
from subsampled_newton.backends import _cuda_entries as entries
from subsampled_newton.backends import _cuda_rows as kernels
from subsampled_newton.backends import _cuda_tiles as tiles
from subsampled_newton.backends import _cuda_vectors as vectors
from subsampled_newton.backends._cuda_gram import gram

VECTOR, MATRIX, INDICES = float64[::1], float64[:, ::1], int64[::1]
LOSSES = (
    *(LOGISTIC, SQUARED, SIGMOID_SQUARED, TANH_SQUARED, POISSON),
    *(huber(), pseudo_huber(), tukey()),
)
DEVICES = [(8, 0), (9, 0)]
LAYOUTS = [tiles.ROW_MAJOR, tiles.COLUMN_MAJOR, tiles.CSR]


@pytest.fixture(params=DEVICES, ids=["sm_80", "sm_90"])
def ptx(request, monkeypatch):
    """Function that compiles a kernel for a device that is not here."""
    device = SimpleNamespace(compute_capability=request.param)
    monkeypatch.setattr("numba.cuda.dispatcher.get_current_device", lambda: device)

    def compile(kernel, *arguments):
        code, _ = cuda.compile(
            kernel.py_func,
            types.void(*arguments),
            cc=request.param,
            device=False,
            abi="numba",
        )
        return code

    return compile


def rows_of(layout, dtype):
    entries = dtype[::1]
    if layout is tiles.CSR:
        entries = types.Tuple((entries, int32[::1], int32[::1]))
    else:
        entries = types.UniTuple(entries, 1)
    return (entries, *(int64,) * 5)


def check(code):
    """Known address spaces, nothing on the stack, no call, no atomic sum."""
    assert ".entry" in code
    assert not re.search(r"\b(ld|st)\.(f|u|s|b)\d", code), "generic address"
    assert ".local" not in code
    assert not re.search(r"\bcall\b", code)
    assert not re.search(r"\b(atom|red)\.", code)


@pytest.mark.parametrize("wide", [True, False], ids=["float64", "float32"])
@pytest.mark.parametrize("layout", LAYOUTS, ids=[layout.name for layout in LAYOUTS])
def test_kernels_over_rows(layout, wide, ptx):
    x = rows_of(layout, float64 if wide else float32)
    end = (int64, MATRIX, int64)
    point = kernels.evaluation(LOGISTIC.value, LOGISTIC.d1)
    four = (VECTOR,) * 4
    for code in (
        ptx(kernels.matvec(layout, wide, 3), *x, VECTOR, int64, MATRIX, int64),
        ptx(kernels.rmatvec(layout, wide, 3), *x, MATRIX, int64, *end),
        ptx(kernels.moments(layout, wide), *x, VECTOR, VECTOR, *end),
        ptx(kernels.row_norms(layout, wide), *x, *(VECTOR,) * 3, int64),
        ptx(kernels.fused(layout, wide, point, 1), *x, *four, *end),
        ptx(kernels.fused(layout, wide, point, 8), *x, *four, *end),
        *(
            ptx(
                classes.class_fused(layout, wide, 7, curved),
                *(*x, *(VECTOR,) * 4, *end),
            )
            for curved in (False, True)
        ),
        ptx(
            gram(layout, wide),
            *(*x, *(VECTOR,) * 3, int64, int64[:, ::1], MATRIX, int64),
        ),
    ):
        check(code)
        # A tile of float32 takes half of the memory and is read as it is.
        assert ("st.shared.f32" in code or "st.shared.u32" in code) != wide
        # No arithmetic in float32, nor rounding to it.
        assert not re.search(r"\b(fma|add|mul)\S*\.f32", code)
        assert "cvt.rn.f32.f64" not in code


@pytest.mark.parametrize("itemsize", [4, 8])
def test_shared_memory_suffices_for_every_shape(itemsize):
    threads, most = tiles.THREADS, tiles.MAX_SHARED
    for columns in range(1, tiles.MAX_FUSED + 1):
        shape = tiles.tiles(10**6, columns, itemsize)
        doubles = threads + shape.height
        assert tiles.shared_bytes(shape, doubles, itemsize) <= most
        for K in range(1, tiles.CLASS_CHUNK + 1):
            narrow = tiles.tiles(10**6, min(columns, threads), itemsize)
            doubles = K * narrow.height  # of rmatvec
            assert tiles.shared_bytes(narrow, doubles, itemsize) <= most
            if columns <= threads:
                shape = tiles.tiles(10**6, columns, itemsize, n_classes=K)
                doubles = K * (threads + shape.height)
                assert tiles.shared_bytes(shape, doubles, itemsize) <= most
                assert shape.height >= 8


def test_loads_of_a_tile_wait_together(ptx):
    x = rows_of(tiles.ROW_MAJOR, float64)
    point = kernels.curvature_product()
    kernel = kernels.fused(tiles.ROW_MAJOR, True, point, 1)
    code = ptx(kernel, *x, *(VECTOR,) * 4, int64, MATRIX, int64)
    order = re.findall(r"\b(ld\.global|st\.shared)\.f64", code)
    assert order[:8] == ["ld.global"] * 4 + ["st.shared"] * 4


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: loss.name)
def test_losses(loss, ptx):
    for name in ("value", "d1", "d2", "gauss_newton"):
        check(ptx(vectors.weighted(getattr(loss, name)), *(VECTOR,) * 4))
    check(
        ptx(
            vectors.mean_along(loss.value),
            *(VECTOR, VECTOR, float64, VECTOR, VECTOR, MATRIX),
        )
    )


@inlinable()
def helper(z, y):
    """Part of a user's loss."""
    return (z - y) * (z - y)


def test_a_loss_of_the_user(ptx):
    def value(z, y):
        return helper(z, y) ** 2

    def d1(z, y):
        return 4.0 * helper(z, y) * (z - y)

    def d2(z, y):
        return 12.0 * helper(z, y)

    loss = PointwiseLoss("quartic", value, d1, d2, (0.0, float("inf")))
    x = rows_of(tiles.ROW_MAJOR, float64)
    kernel = kernels.fused(
        tiles.ROW_MAJOR, True, kernels.evaluation(loss.value, loss.d1), 1
    )
    check(ptx(kernel, *x, *(VECTOR,) * 4, int64, MATRIX, int64))


def test_kernels_over_vectors(ptx):
    z = (MATRIX, VECTOR)
    for code in (
        ptx(vectors.column_sums(), MATRIX, int64, int64, VECTOR),
        ptx(classes.class_slopes(), *(VECTOR,) * 4, MATRIX),
        ptx(
            classes.class_mean_along(), MATRIX, MATRIX, float64, VECTOR, VECTOR, MATRIX
        ),
        ptx(classes.class_probabilities(), VECTOR, int64, VECTOR),
        ptx(classes.class_curvature(), VECTOR, VECTOR, VECTOR),
        ptx(classes.pair_weights(), *z, int64, int64, VECTOR),
        ptx(vectors.vector_sum_of(vectors.product_of), VECTOR, VECTOR, MATRIX),
        ptx(vectors.vector_extreme(1.0), VECTOR, MATRIX),
        ptx(vectors.vector_sum_classes(), MATRIX, VECTOR),
        ptx(vectors.vector_gather(), MATRIX, INDICES, MATRIX),
        ptx(kernels.gather_rows(), VECTOR, int64, int64, INDICES, int64, MATRIX),
    ):
        check(code)
    # Of any strides: not for a loop that matters.
    assert ".entry" in ptx(kernels.copy_strided(), types.Array(float64, 2, "A"), MATRIX)
    for f in vectors.UFUNCS.values():
        code = ptx(vectors.vector_map(f, "aa"), VECTOR, VECTOR, VECTOR)
        assert ".entry" in code
        ptx(vectors.vector_map(f, "as"), VECTOR, float64, VECTOR)
        ptx(vectors.vector_map(f, "sa"), float64, VECTOR, VECTOR)


def test_kernels_over_entries(ptx):
    x = rows_of(tiles.CSR, float64)
    segments = types.Tuple((float32[::1], int32[::1], INDICES))
    for code in (
        ptx(entries.csr_matvec(), *x, MATRIX, MATRIX, int64),
        ptx(entries.csr_row_norms(), *x, VECTOR, VECTOR, VECTOR, int64),
        ptx(entries.csc_segments(False), segments, MATRIX, int64, MATRIX),
        ptx(entries.csc_columns(), MATRIX, INDICES, MATRIX),
    ):
        check(code)


class Exported:
    """An array that is known by DLPack only; here in host memory."""

    def __init__(self, array):
        self.array = array

    def __dlpack__(self, *, stream=None, **options):
        assert stream == 1  # the default stream
        return self.array.__dlpack__(**options)

    def __dlpack_device__(self):
        return self.array.__dlpack_device__()


@pytest.mark.parametrize("order", ["C", "F"])
def test_arrays_of_dlpack_are_described_to_numba(order):
    from subsampled_newton.backends.cuda import _Exported

    A = np.asarray(np.ones((3, 2), dtype=np.float32), order=order)
    interface = _Exported(Exported(A)).__cuda_array_interface__
    assert interface["data"][0] == A.ctypes.data
    assert interface["shape"] == (3, 2)
    assert interface["strides"] in (A.strides, None)
    assert interface["strides"] is not None or order == "C"
    assert np.dtype(interface["typestr"]) == np.float32


def test_launches_are_configured_without_the_advice_that_others_get():
    kernel = vectors.vector_sum_classes()
    assert _cuda_device._configured(kernel, 1, 128, 0, 0) is not None
    with pytest.warns(match="Grid size 2 will likely result"):
        _ = kernel[2, 128, 0, 0]
