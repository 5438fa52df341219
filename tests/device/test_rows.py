"""The container of rows on a GPU: the contract of test_data, and what is its own."""

import sys
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from unittest.mock import MagicMock

import numpy as np
import pytest
import scipy.sparse as sp
import test_data
from where import require_device

require_device()

from numba import cuda, float64  # noqa: E402

from bench import gpu  # noqa: E402
from subsampled_newton import LOGISTIC, PointwiseLoss, as_rows  # noqa: E402
from subsampled_newton._jit import inlinable  # noqa: E402
from subsampled_newton.backends import _cuda_device, _cuda_store  # noqa: E402
from subsampled_newton.backends import _cuda_tiles as tiles  # noqa: E402
from subsampled_newton.backends import cuda as backend  # noqa: E402
from subsampled_newton.backends._cuda_tiles import settings  # noqa: E402

INPUTS = (
    "C",
    "Fortran",
    "strided",
    "float32",
    "one column",
    "one row",
    "csr",
    "csr float32",
    "csr all zero",
)
WIDE = tiles.MAX_FUSED + 3
"""Columns that no tile holds."""


def on_device(X, columns):
    case = test_data.Case(X, columns)
    case.rows = as_rows(X, device="cuda").with_columns(case.rows.columns)
    return case


def wide(kind, rng):
    X = rng.standard_normal((11, WIDE)) * (rng.random((11, WIDE)) < 0.6)
    X[:, 1] = 1.5  # a column that takes several segments
    return {"C": X, "csr": sp.csr_array(X)}[kind]


@pytest.fixture(params=["plain", "shift scale intercept"])
def columns(request):
    return test_data.COLUMNS[request.param]


@pytest.fixture(params=INPUTS)
def case(request, columns, tmp_path):
    return on_device(test_data.INPUTS[request.param](tmp_path), columns)


class TestOperationsOnDevice(test_data.TestOperations):
    """All that containers do, against NumPy."""


class TestManyColumns(test_data.TestOperations):
    """More columns than a tile holds, and more than the threads of a block."""

    @pytest.fixture(params=["C", "csr"])
    def case(self, request, rng):
        return on_device(wide(request.param, rng), test_data.transformed)


@pytest.mark.parametrize("name", ["C", "float32", "csr"])
def test_classes_are_those_of_the_cpu(name, columns, tmp_path):
    case = on_device(test_data.INPUTS[name](tmp_path), columns)
    host = case.rows.on_host()
    W, rng = case.rng.standard_normal((3, case.d)), case.rng
    y = rng.integers(3, size=case.n).astype(float)
    P = host.class_probabilities(rng.standard_normal((3, case.n)))
    Z, U = rng.standard_normal((2, 3, case.n))
    Z[:, 0], y[0] = (50.0, 0.0, 0.0), 0.0  # certain, and right
    for expected, got in zip(
        host.class_evaluate(y, case.s, W),
        case.rows.class_evaluate(y, case.s, W),
        strict=True,
    ):
        test_data.close(got, expected)
    for name, arguments in {
        "class_predictions": (W,),
        "class_hess_vec": (P, case.s, W),
        "class_hessian": (P, case.s),
        "class_probabilities": (Z,),
        "class_mean_along": (Z, U, 0.3, y, case.s),
    }.items():
        expected = getattr(host, name)(*arguments)
        test_data.close(getattr(case.rows, name)(*arguments), expected)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_classes_in_one_read(dtype, rng):
    X, W = rng.standard_normal((21, 3)).astype(dtype), rng.standard_normal((4, 4))
    host, device = (
        as_rows(X, device=where).with_columns(test_data.transformed(3))
        for where in ("cpu", "cuda")
    )
    assert device._fuses_classes(4)
    W[:, 0] *= 20.0  # some rows are almost certain
    y, s = rng.integers(4, size=21).astype(float), rng.random(21)
    for expected, got in zip(
        host.class_evaluate(y, s, W), device.class_evaluate(y, s, W), strict=True
    ):
        test_data.close(got, expected)
    P = host.class_probabilities(host.class_predictions(W))
    V = rng.standard_normal((4, 4))
    test_data.close(device.class_hess_vec(P, s, V), host.class_hess_vec(P, s, V))
    assert device.work.rows_read == 2 * 21


@pytest.mark.parametrize("columns", [1, tiles.THREADS])
def test_slope_of_a_certain_class_is_not_lost(columns):
    rows = as_rows(np.ones((1, columns)), device="cuda")
    assert rows._fuses_classes(2) == (columns == 1)
    W = np.array([[60.0] * columns, [0.0] * columns]) / columns
    gradient = rows.class_evaluate(np.zeros(1), np.ones(1), W)[2]
    np.testing.assert_allclose(gradient[0], -np.exp(-60.0), rtol=1e-12)


@pytest.mark.parametrize("columns", [1, tiles.THREADS])
def test_curvature_of_a_certain_row_is_not_lost(columns):
    rows = as_rows(np.ones((1, columns)), device="cuda")
    assert rows._fuses_classes(2) == (columns == 1)
    P, V = np.array([[1.0], [1e-20]]), np.array([[3.0], [5.0]])
    V = np.hstack([V, np.zeros((2, columns - 1))])
    product = rows.class_hess_vec(P, np.ones(1), V)
    np.testing.assert_allclose(product[:, 0], [-2e-20, 2e-20], rtol=1e-12)


def test_more_classes_than_are_added_up_at_a_time(rng):
    K = tiles.CLASS_CHUNK + 1
    X, W = rng.standard_normal((9, 2)), rng.standard_normal((K, 2))
    y, s = rng.integers(K, size=9).astype(float), rng.random(9)
    host, device = as_rows(X), as_rows(X, device="cuda")
    for expected, got in zip(
        host.class_evaluate(y, s, W), device.class_evaluate(y, s, W), strict=True
    ):
        test_data.close(got, expected)


def test_every_read_of_the_rows_is_counted(rng):
    case = on_device(test_data.base(), test_data.transformed)
    rows, n = case.rows, case.n
    expected = {
        "matvec": ((case.w,), n),
        "rmatvec": ((case.r,), n),
        "hess_vec": ((case.h, case.v), n),
        "gram": ((case.h,), n),
        "evaluate": ((LOGISTIC, case.y, case.s, case.w), n),
        "row_norms": ((), n),
        "column_moments": ((case.s,), n),
        "take": ((np.arange(7),), 7),
        "pointwise": ((LOGISTIC.d2, case.r, case.y, case.s), 0),
    }
    got = {}
    for name, (arguments, _) in expected.items():
        before = rows.work.rows_read
        getattr(rows, name)(*arguments)
        got[name] = rows.work.rows_read - before
    assert got == {name: count for name, (_, count) in expected.items()}


def streamed(X, monkeypatch, free=0):
    """Rows that do not fit on the device."""
    with monkeypatch.context() as patch:
        patch.setattr(_cuda_store, "free_memory", lambda *needed: free)
        rows = as_rows(X, device="cuda")
        if rows._gathers:
            rows._csc()  # which is streamed, too
    return rows


def sparse(n, d, rng):
    return sp.csr_array(rng.standard_normal((n, d)) * (rng.random((n, d)) < 0.5))


STREAMED = {
    "C": lambda rng: rng.standard_normal((24, 5)),
    "Fortran float32": lambda rng: np.asfortranarray(
        rng.standard_normal((24, 5)), dtype=np.float32
    ),
    "csr": lambda rng: sparse(24, 5, rng),
    "csr of many columns": lambda rng: sparse(24, WIDE, rng),
}


@pytest.mark.parametrize("name", STREAMED)
def test_the_same_bits_in_every_run_and_in_parts(name, rng, monkeypatch):
    X, r = STREAMED[name](rng), rng.standard_normal(24)
    resident, parts = as_rows(X, device="cuda"), streamed(X, monkeypatch)
    assert resident._x
    assert not parts._x
    y, w = np.sign(r), rng.standard_normal(X.shape[1])
    for method, arguments in {
        "matvec": (w,),
        "rmatvec": (r,),
        "hess_vec": (r, w),
        "gram": (r,),
        "row_norms": (),
        "gram_diagonal": (r,),
    }.items():
        results = [
            np.asarray(getattr(rows, method)(*arguments)).tobytes()
            for rows in (resident, resident, parts)
        ]
        assert len(set(results)) == 1, method
    values = [rows.evaluate(LOGISTIC, y, y * y, w) for rows in (resident, parts)]
    for a, b in zip(*values, strict=True):
        assert np.asarray(a).tobytes() == np.asarray(b).tobytes()
    test_data.close(parts.take(np.array([3, 1])).matvec(w), (X @ w)[[3, 1]])
    Z, W = rng.standard_normal((3, 24)), rng.standard_normal((3, X.shape[1]))
    P = resident.class_probabilities(Z)
    results = [rows.class_hess_vec(P, r, W).tobytes() for rows in (resident, parts)]
    assert results[0] == results[1]


@pytest.mark.parametrize("name", ["C", "csr"])
def test_streamed_rows_are_copied_in_several_parts(name, rng, monkeypatch):
    X = STREAMED[name](rng)
    store = streamed(X, monkeypatch, free=8 * 320)._store
    parts = [(start, n) for _, start, n, _ in store.parts(4)]
    assert len(parts) > 2
    assert sum(n for _, n in parts) == 24
    assert all(start % 4 == 0 for start, _ in parts)
    assert max(n for _, n in parts) > 4  # as many as are allowed
    bytes_of = [sum(a.nbytes for a in x) for x, *_ in store.parts(4)]
    assert max(bytes_of) <= 320 + 8  # a pointer ends a part and begins the next
    assert store.nbytes == 640


def test_buffers_of_streamed_rows_are_kept(rng, monkeypatch):
    store = streamed(STREAMED["csr"](rng), monkeypatch)._store
    made = []
    original = _cuda_store._buffers
    monkeypatch.setattr(
        _cuda_store, "_buffers", lambda *a: made.append(a) or original(*a)
    )
    for _ in range(3):
        assert len(list(store.parts(4))) == 6
    assert len(made) == 2 * 3  # two slots, three arrays
    list(store.parts(24))  # a larger part
    assert len(made) == 3 * 3


@pytest.mark.parametrize("name", ["C", "csr of many columns"])
def test_a_read_that_fails_leaves_the_buffers_to_the_next(name, rng, monkeypatch):
    X = STREAMED[name](rng)
    rows, ones, r = streamed(X, monkeypatch), np.ones(X.shape[1]), np.ones(24)
    stores = [rows._store, *(store for store, _ in rows._by_columns)]

    def failing(*arguments, **options):
        raise OSError("a launch that fails")

    for read, argument in ((rows.matvec, ones), (rows.rmatvec, r)):
        with monkeypatch.context() as patch:
            patch.setattr(backend, "launch", failing)
            with pytest.raises(OSError, match="a launch that fails") as kept:
                read(argument)
        assert not any(store._reading.locked() for store in stores)
        assert kept.value is not None  # with its frames, which have the parts
    test_data.close(rows.matvec(ones), X @ ones)


@pytest.mark.skipif(not tiles.SIMULATED, reason="streams of the simulator")
def test_no_copy_is_left_in_flight(rng, monkeypatch):
    waited = []
    monkeypatch.setattr(
        _cuda_store.cuda.stream, "synchronize", lambda self: waited.append(self)
    )
    parts = streamed(STREAMED["C"](rng), monkeypatch)._store.parts(4)
    next(parts)
    waited.clear()
    parts.close()
    assert len(waited) == 2


def test_streamed_rows_without_an_entry(monkeypatch):
    X = sp.csr_array((7, WIDE))
    rows = streamed(X, monkeypatch)
    np.testing.assert_array_equal(rows.matvec(np.ones(WIDE)), np.zeros(7))
    np.testing.assert_array_equal(rows.rmatvec(np.ones(7)), np.zeros(WIDE))


@pytest.mark.parametrize("order", ["C", "F"])
def test_gram_by_a_library(order, columns, rng, monkeypatch):
    if not tiles.SIMULATED:
        pytest.skip("a GPU has CuPy, or not")
    library = SimpleNamespace(
        asarray=lambda a: np.asarray(getattr(a, "_ary", a)),
        asnumpy=np.asarray,
        zeros=np.zeros,
        cuda=SimpleNamespace(Stream=SimpleNamespace(null=MagicMock())),
    )
    monkeypatch.setattr(backend, "_cupy", lambda: library)
    monkeypatch.setattr(backend, "LIBRARY_COLUMNS", 3)
    monkeypatch.setattr(backend, "LIBRARY_BYTES", 8 * 5 * 7)
    case = on_device(np.asarray(test_data.base(), order=order), columns)
    monkeypatch.setattr(case.rows, "_launch", None)  # our kernel is not used
    test_data.close(case.rows.gram(case.h), case.A.T @ (case.h[:, None] * case.A))
    assert case.rows.work.rows_read == case.n
    library.cuda.Stream.null.__enter__.assert_called_once()


def test_bench_measures_kernels_and_fits(rng, capsys, monkeypatch):
    if not tiles.SIMULATED:
        pytest.skip("a GPU runs the bench itself")
    X = rng.standard_normal((24, 2))
    y = np.where(X[:, 0] + rng.logistic(size=24) > 0.0, 1.0, -1.0)
    monkeypatch.setattr(gpu, "unavailable", lambda: "")
    monkeypatch.setattr(gpu, "device_name", lambda: "a device")
    monkeypatch.setattr(gpu, "SHAPES", ((9, 2),))
    monkeypatch.setattr(gpu, "data_sets", lambda quick: [("a set", X, y)])
    monkeypatch.setattr(gpu, "library", lambda name: (None, f"{name} is not here"))
    assert gpu.main(["--repeats", "1"]) == 0
    out = capsys.readouterr().out
    lines = out.splitlines()
    assert lines[0].startswith("a device; ")
    assert lines[1] == f"{gpu.PRODUCT}, float64: not measured (cupy is not here)"
    assert lines[3].startswith("9 x 2, float64; a copy moves")
    assert lines[11].startswith("9 x 2, float32; a copy moves")
    assert out.count(" ms ") == 12
    assert lines[-5] == "a set: whole fit to a gradient of 1e-10, transfer included"
    assert all(line.split()[0] in ("GPU", "CPU") for line in lines[-4:-2])
    assert lines[-1] == "  cupy, Newton to 1e-6: not measured (cupy is not here)"


class Kernel:
    """A kernel that tells how it was configured."""

    def __init__(self, fails=False):
        self.fails, self.seen, self.ran = fails, [], []

    def __getitem__(self, configuration):
        before = settings.CUDA_LOW_OCCUPANCY_WARNINGS, warnings.filters[:]
        time.sleep(1e-3)  # another thread would change it meanwhile
        after = settings.CUDA_LOW_OCCUPANCY_WARNINGS, warnings.filters[:]
        self.seen.append((before, after))
        if self.fails:
            raise OSError("no configuration")
        return lambda *arguments: self.ran.append((configuration, arguments))


@pytest.fixture
def advice(monkeypatch):
    """Settings where a user has asked for something of his own."""
    monkeypatch.setattr(settings, "CUDA_LOW_OCCUPANCY_WARNINGS", 7)


@pytest.mark.usefixtures("advice")
def test_advice_about_small_grids_is_not_for_the_user():
    kernel = Kernel()
    _cuda_device.launch(kernel, 1, "a", shared=8)
    assert kernel.ran == [((1, tiles.THREADS, 0, 8), ("a",))]
    assert kernel.seen[0][0][0] == 0
    assert settings.CUDA_LOW_OCCUPANCY_WARNINGS == 7
    with pytest.raises(OSError, match="no configuration"):
        _cuda_device.launch(Kernel(fails=True), 1)
    assert settings.CUDA_LOW_OCCUPANCY_WARNINGS == 7


@pytest.mark.usefixtures("advice")
def test_launches_of_several_threads_leave_no_setting_behind():
    kernel, filters = Kernel(), warnings.filters[:]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda i: _cuda_device.launch(kernel, 1, i), range(32)))
    assert settings.CUDA_LOW_OCCUPANCY_WARNINGS == 7
    assert len(kernel.ran) == 32
    # Filters of warnings are those of all threads: not ours to change.
    assert all(before == after == (0, filters) for before, after in kernel.seen)


def full(*arguments, **options):
    raise RuntimeError("[2] Call to cuMemAlloc results in CUDA_ERROR_OUT_OF_MEMORY")


def test_vectors_that_do_not_fit_are_refused_with_numbers(monkeypatch):
    monkeypatch.setattr(_cuda_device.cuda, "device_array", full)
    monkeypatch.setattr(_cuda_device, "free_memory", lambda: 1e6)
    with pytest.raises(
        MemoryError, match=r"needs 8\.80\d* MB of device memory; .* 1 MB are free"
    ):
        _cuda_device.allocate((1_100_003,))


def test_buffers_that_do_not_fit_are_refused_with_numbers(rng, monkeypatch):
    rows = streamed(STREAMED["C"](rng), monkeypatch)
    with monkeypatch.context() as patch:
        patch.setattr(_cuda_device.cuda, "pinned_array", full)
        with pytest.raises(MemoryError, match=r"streamed rows needs .* page-locked"):
            rows.matvec(np.ones(5))
        patch.undo()
        patch.setattr(_cuda_device.cuda, "to_device", full)
        with pytest.raises(MemoryError, match=r"numbers of rows needs 1\.6e-05 MB"):
            as_rows(cuda.device_array((4, 5)), device="cuda").take(np.arange(2))


def test_memory_that_waits_is_given_up_before_memory_is_short(monkeypatch):
    kept = _cuda_device.allocate((1_234,))
    _cuda_device._give_back(kept)
    freed, tries = [], []
    pool = SimpleNamespace(free_all_blocks=lambda: freed.append("CuPy"))
    library = SimpleNamespace(get_default_memory_pool=lambda: pool)
    monkeypatch.setitem(sys.modules, "cupy", library)
    original = cuda.device_array

    def short(shape, dtype):
        tries.append(len(_cuda_device._free))
        return original(shape, dtype) if freed else full()

    monkeypatch.setattr(_cuda_device.cuda, "device_array", short)
    assert _cuda_device.new_array((3,), np.float64, "a vector").shape == (3,)
    assert freed == ["CuPy"]
    assert tries[0] > 0
    assert tries[1:] == [0]
    _cuda_device._give_back(kept)
    del freed[:]
    monkeypatch.setattr(_cuda_device, "SIMULATED", False)
    context = SimpleNamespace(
        get_memory_info=lambda: (90 if freed else 50, 100),
        deallocations=SimpleNamespace(clear=lambda: freed.append("Numba")),
    )
    monkeypatch.setattr(_cuda_device.cuda, "current_context", lambda: context)
    assert _cuda_device.free_memory(50) == 50
    assert _cuda_device._free
    assert _cuda_device.free_memory(51) == 90
    assert not _cuda_device._free
    assert freed == ["CuPy", "Numba"]


@pytest.mark.parametrize("copied", [True, False])
def test_rows_that_do_not_exist_are_refused(copied, rng):
    X, keep = rng.standard_normal((6, 2)), np.array([-1, 5, -6])
    rows = as_rows(X if copied else cuda.to_device(X), device="cuda")
    test_data.close(rows.take(keep).matvec(np.ones(2)), X[keep].sum(axis=1))
    vector = rows.place(X[:, 0])
    for index in (6, -7):
        with pytest.raises(IndexError, match=rf"{index} is out of bounds"):
            rows.take(np.array([0, index]))
        with pytest.raises(IndexError, match=rf"{index} is out of bounds"):
            vector[np.array([0, index])]


def test_sparse_rows_of_many_columns_count_their_copy(rng):
    narrow, many = (as_rows(sparse(9, d, rng), device="cuda") for d in (3, WIDE))
    assert narrow.device_bytes == narrow._store.nbytes
    assert many.device_bytes == 2 * many._store.nbytes


@pytest.mark.skipif(not tiles.SIMULATED, reason="the simulator has no such arrays")
@pytest.mark.parametrize("stream", [None, 1])
def test_arrays_that_name_no_stream_are_waited_for(stream, monkeypatch):
    waited, X = [], cuda.to_device(np.ones((3, 2)))
    foreign = SimpleNamespace(__cuda_array_interface__={"stream": stream})
    monkeypatch.setattr(cuda, "as_cuda_array", lambda array: X, raising=False)
    monkeypatch.setattr(cuda, "synchronize", lambda: waited.append(1))
    assert as_rows(foreign).n_rows == 3
    assert len(waited) == (stream is None)


def test_rows_on_another_device_are_refused():
    class Elsewhere:
        def __dlpack_device__(self):
            return 2, 1

    with pytest.raises(ValueError, match=r"on CUDA device 1, but the current one is 0"):
        as_rows(Elsewhere())


def test_a_second_device_is_refused(monkeypatch):
    monkeypatch.setattr(_cuda_device, "_device", 1)
    with pytest.raises(RuntimeError, match=r"device 1 was used before, .* one is 0"):
        as_rows(np.eye(2), device="cuda")


def test_more_pairs_of_tiles_than_a_launch_has(rng, monkeypatch):
    X, h = rng.standard_normal((9, WIDE)), rng.random(9)
    rows = as_rows(X, device="cuda")
    expected = rows.gram(h)
    rows.gram(2.0 * h)  # what is left of it is not taken for a sum
    monkeypatch.setattr(backend, "MAX_ACROSS", 2)
    np.testing.assert_array_equal(rows.gram(h), expected)
    assert rows.work.rows_read == 3 * 9


def test_parts_of_sums_have_a_bounded_size(rng, monkeypatch):
    X, r = rng.standard_normal((40, WIDE)), rng.standard_normal((3, 40))
    rows = as_rows(X, device="cuda")
    sizes, original = [], backend.column_sums
    monkeypatch.setattr(
        backend, "column_sums", lambda p: sizes.append(p.size) or original(p)
    )
    monkeypatch.setattr(backend, "PARTIAL_BYTES", 8 * 2 * (WIDE + 1))
    test_data.close(rows.rmatvec(r[0]), X.T @ r[0])
    R = _cuda_device.DeviceArray.of(r)
    test_data.close(rows._rmatvec(R)[:, :-1], r @ X)
    s = rng.random(40)
    test_data.close(rows.column_moments(s)[0], s @ X / s.sum())
    assert sizes == [2 * (WIDE + 1), 3 * (WIDE + 1), 2 * (WIDE + 1)]


class TestDeviceArrays:
    @pytest.mark.parametrize("dtype", [np.float64, np.float32])
    @pytest.mark.parametrize("order", ["C", "F"])
    def test_are_used_where_they_are(self, dtype, order, rng):
        A = np.asarray(rng.standard_normal((7, 3)), dtype=dtype, order=order)
        X = cuda.to_device(np.zeros_like(A))
        rows = as_rows(X)
        X.copy_to_device(A)  # which the rows see: the memory is the same
        w = rng.standard_normal(3)
        test_data.close(rows.matvec(w), A.astype(np.float64) @ w)
        mean = A.mean(axis=0, dtype=np.float64)
        test_data.close(rows.column_moments(np.ones(7))[0], mean)
        assert as_rows(rows) is rows
        np.testing.assert_array_equal(rows.on_host()._X, A)

    def test_slices_of_others_are_read_right(self, rng):
        A = rng.standard_normal((9, 6))
        X, w = cuda.to_device(A)[::2, 1:4], rng.standard_normal(3)
        test_data.close(as_rows(X).matvec(w), A[::2, 1:4] @ w)

    def test_come_to_the_host_if_asked_for(self, rng):
        A = rng.standard_normal((7, 3))
        rows = as_rows(cuda.to_device(A), device="cpu")
        test_data.close(rows.matvec(np.ones(3)), A @ np.ones(3))

    def test_of_other_types_are_refused(self):
        with pytest.raises(TypeError, match=r"float32 or float64, .* got dtype int64"):
            as_rows(cuda.to_device(np.ones((2, 2), dtype=np.int64)))

    def test_of_other_shapes_are_refused(self):
        with pytest.raises(ValueError, match="two-dimensional"):
            as_rows(cuda.to_device(np.ones(3)))


class TestVectors:
    @pytest.fixture(params=[(6,), (2, 5)], ids=str)
    def pair(self, request, rng):
        a, b = rng.standard_normal((2, *request.param))
        return a, b, *map(_cuda_device.DeviceArray.of, (a, b))

    def test_arithmetic(self, pair):
        a, b, x, y = pair
        for got, expected in (
            (x + y, a + b),
            (x - y, a - b),
            (x * b, a * b),
            (a * y, a * b),
            (x / y, a / b),
            (2.0 - x, 2.0 - a),
            (x - 2.0, a - 2.0),
            (x**2, a**2),
            (-x, -a),
            (np.abs(x), np.abs(a)),
            (np.sqrt(x * x), np.abs(a)),
        ):
            assert isinstance(got, _cuda_device.DeviceArray)
            np.testing.assert_allclose(np.asarray(got), expected, rtol=1e-14)

    def test_in_place(self, pair):
        a, b, x, y = pair
        before = x
        x *= 0.5
        x -= y
        assert x is before
        np.testing.assert_allclose(np.asarray(x), 0.5 * a - b, rtol=1e-14)

    def test_sums_and_extremes(self, pair):
        a, _, x, _ = pair
        np.testing.assert_allclose(np.sum(x), a.sum(), rtol=1e-13)
        np.testing.assert_allclose(x.mean(), a.mean(), rtol=1e-13)
        assert (np.max(x), x.min()) == (a.max(), a.min())

    def test_extremes_of_nan_are_nan(self):
        x = _cuda_device.DeviceArray.of(np.array([1.0, np.nan, 2.0]))
        assert np.isnan([x.max(), x.min()]).all()

    def test_products_and_classes(self, rng):
        a, v = rng.standard_normal((2, 5)), rng.standard_normal(5)
        x, y = map(_cuda_device.DeviceArray.of, (a, v))
        np.testing.assert_allclose(x[1] @ y, a[1] @ v, rtol=1e-13)
        np.testing.assert_allclose(v @ x[-1], a[-1] @ v, rtol=1e-13)
        np.testing.assert_allclose(np.asarray(np.sum(x, axis=0)), a.sum(axis=0))
        np.testing.assert_allclose(np.asarray(x - y), a - v)
        np.testing.assert_allclose(np.asarray(y * x), a * v)

    def test_rows_by_integers(self, rng):
        a, keep = rng.standard_normal((2, 9)), np.array([8, 0, 0, 3])
        x = _cuda_device.DeviceArray.of(a)
        np.testing.assert_array_equal(np.asarray(x[..., keep]), a[..., keep])
        np.testing.assert_array_equal(np.asarray(x[1][keep]), a[1][keep])

    def test_what_they_cannot_do_is_an_error(self, rng):
        x = _cuda_device.DeviceArray.of(rng.standard_normal(4))
        with pytest.raises(TypeError, match="integer arrays of rows"):
            x[np.array([True, False, True, True])]
        with pytest.raises(TypeError, match=r"__array_ufunc__|supported"):
            np.exp(x)
        with pytest.raises(TypeError, match="axis must be None, got 0"):
            x.max(axis=0)
        with pytest.raises(ValueError, match="do not match"):
            x + _cuda_device.DeviceArray.of(np.ones(3))

    def test_memory_in_use_is_not_given_to_another(self, rng):
        a = rng.standard_normal((3, 11))
        vectors = [_cuda_device.DeviceArray.of(row) for row in a]
        row = (vectors[0] + vectors[1])[np.arange(11)]
        _ = [vectors[0] * 2.0 for _ in range(5)]
        np.testing.assert_array_equal(np.asarray(row), a[0] + a[1])
        classes = _cuda_device.DeviceArray.of(a)
        kept = classes[2]
        del classes
        _ = [_cuda_device.DeviceArray.of(np.zeros((3, 11))) for _ in range(3)]
        np.testing.assert_array_equal(np.asarray(kept), a[2])

    def test_stay_themselves_in_a_pickle(self, rng):
        import pickle

        a = rng.standard_normal((2, 3))
        again = pickle.loads(pickle.dumps(_cuda_device.DeviceArray.of(a)))
        np.testing.assert_array_equal(np.asarray(again), a)


@inlinable()
def helper(z, y):
    """Part of a user's loss."""
    return (z - y) * (z - y)


def test_a_loss_of_the_user_runs_as_it_is(rng):
    loss = PointwiseLoss(
        "quartic",
        lambda z, y: helper(z, y) ** 2,
        lambda z, y: 4.0 * helper(z, y) * (z - y),
        lambda z, y: 12.0 * helper(z, y),
        (0.0, np.inf),
    )
    X, y, w = rng.standard_normal((9, 2)), rng.standard_normal(9), np.ones(2)
    device = as_rows(X, device="cuda")
    z, value, gradient = device.evaluate(loss, y, np.ones(9), w)
    error = X @ w - y
    test_data.close(z, X @ w)
    test_data.close(value, np.mean(error**4))
    test_data.close(gradient, X.T @ (4.0 * error**3) / 9)
    test_data.close(device.pointwise(loss.d2, z, y, np.ones(9)), 12.0 * error**2)


@pytest.mark.skipif(not tiles.SIMULATED, reason="of the simulator")
class TestSimulator:
    """What `strict` sees and Numba's simulator does not."""

    @pytest.mark.parametrize(("barriers", "step"), [(0, 1), (1, 3)])
    def test_reads_before_others_have_written(self, barriers, step):
        @cuda.jit
        def kernel(out):
            work = cuda.shared.array(0, float64)
            t = cuda.threadIdx.x
            for _ in range(barriers):  # then the threads run backwards
                cuda.syncthreads()
            work[t] = t
            out[t] = work[(t + step) % 4]

        out = cuda.to_device(np.zeros(4))
        kernel[1, 4, 0, 32](out)
        assert np.isnan(out.copy_to_host()).sum() == 3

    def test_writes_before_others_have_read(self):
        @cuda.jit
        def kernel(out):
            work = cuda.shared.array(0, float64)
            t = cuda.threadIdx.x
            for k in range(2):
                work[t] = k
                cuda.syncthreads()
                out[k, t] = work[(t + 1) % 4]

        out = cuda.to_device(np.zeros((2, 4)))
        kernel[1, 4, 0, 32](out)
        assert (out.copy_to_host()[0] == 1.0).any()

    def test_barriers_that_not_all_threads_meet(self):
        @cuda.jit
        def kernel():
            if cuda.threadIdx.x == 0:
                cuda.syncthreads()

        with pytest.raises(AssertionError, match="threads wait at"):
            kernel[1, 2]()

    def test_memory_that_nobody_has_written(self):
        for dtype in (np.float32, np.float64):
            array = _cuda_device.new_array((2, 3), dtype, "an array")
            assert np.isnan(array.copy_to_host()).all()

    def test_memory_that_was_given_back(self):
        vector = _cuda_device.DeviceArray.of(np.ones(3))
        data = vector.data
        del vector
        assert np.isnan(data.copy_to_host()).all()
