"""Every kernel, layout and number type against NumPy, at awkward sizes."""

import naive
import numpy as np
import pytest
import scipy.sparse as sp

from subsampled_newton import LOGISTIC
from subsampled_newton._jit import compiled
from subsampled_newton._tile import add_tile
from subsampled_newton.kernels import fused, gram, linear, pointwise
from subsampled_newton.kernels.rows import COLUMN_MAJOR, CSR, ROW_MAJOR

# Around the blocks of 128 rows, the 8 rows and the 4 columns that loops take at a time,
# and the vectors of 8 columns, strips of 32 and rows of 64 of `_tile`.
SHAPES = [
    (1, 1),
    (1, 5),
    (7, 3),
    (8, 4),
    (9, 5),
    (16, 8),
    (127, 4),
    (128, 3),
    (129, 1),
    (129, 5),
    (257, 9),
    (200, 17),
    (3, 9),
    (4, 40),
    (70, 33),
    (66, 54),
    (21, 64),
    (20, 65),
]
any_shape = pytest.mark.parametrize("shape", SHAPES, ids=str)


def read_only(*arrays):
    for array in arrays:
        array.flags.writeable = False
    return arrays


def row_major(A):
    return ROW_MAJOR, read_only(np.ascontiguousarray(A))


def strided(A):
    wide = np.full((2 * A.shape[0], 3 * A.shape[1]), np.nan, dtype=A.dtype)
    wide[::2, ::-3] = A
    return ROW_MAJOR, read_only(wide[::2, ::-3])


def column_major(A):
    return COLUMN_MAJOR, read_only(np.ascontiguousarray(A.T))


def csr(A):
    X = sp.csr_array(A)
    return CSR, read_only(X.data, X.indices.astype(np.int32), X.indptr.astype(np.int32))


def csr_long(A):
    X = sp.csr_array(A)
    return CSR, read_only(X.data, X.indices.astype(np.int64), X.indptr.astype(np.int64))


any_storage = pytest.mark.parametrize(
    "store", [row_major, strided, column_major, csr, csr_long]
)
any_dtype = pytest.mark.parametrize("dtype", [np.float64, np.float32])


class Case:
    """A matrix with zeros and empty rows, vectors, and a range of rows inside it."""

    def __init__(self, store, dtype, shape):
        rng = np.random.default_rng(shape[0] * 10 + shape[1])
        n, d = shape
        A = rng.standard_normal(shape) * (rng.random(shape) < 0.7)
        A[rng.random(n) < 0.2] = 0.0
        A = A.astype(dtype)
        self.layout, self.x = store(A)
        self.lo, self.hi = (0, n) if n < 3 else (1, n - 1)
        self.A = A.astype(np.float64)[self.lo : self.hi]
        self.w, self.r = rng.standard_normal(d), rng.standard_normal(n)
        self.y = rng.choice([-1.0, 1.0], n)
        self.s = rng.random(n)
        self.offset = 0.75

    def part(self, v):
        return v[self.lo : self.hi]


@pytest.fixture
def case(store, dtype, shape):
    return Case(store, dtype, shape)


@any_shape
@any_dtype
@any_storage
class TestRows:
    def test_matvec_fills_its_rows_and_no_other(self, case):
        out = np.full(len(case.y), 7.0)
        expected = out.copy()
        expected[case.lo : case.hi] = case.A @ case.w + case.offset
        kernel = linear.matvec(case.layout)
        kernel(case.x, case.lo, case.hi, case.w, case.offset, out)
        np.testing.assert_allclose(out, expected, rtol=1e-13, atol=1e-14)

    def test_rmatvec_adds_to_its_output(self, case):
        out = np.full(len(case.w) + 1, 7.0)
        r = case.part(case.r)
        expected = 7.0 + np.append(case.A.T @ r, r.sum())
        linear.rmatvec(case.layout)(case.x, case.lo, case.hi, case.r, out)
        np.testing.assert_allclose(out, expected, rtol=1e-13, atol=1e-13)

    def test_hess_vec_adds_to_its_output(self, case):
        out = np.full(len(case.w) + 1, 7.0)
        r = case.part(case.r) * (case.A @ case.w + case.offset)
        expected = 7.0 + np.append(case.A.T @ r, r.sum())
        kernel = linear.hess_vec(case.layout)
        kernel(case.x, case.lo, case.hi, case.r, case.w, case.offset, out)
        np.testing.assert_allclose(out, expected, rtol=1e-13, atol=1e-13)

    def test_evaluate_gives_predictions_gradient_and_value(self, case):
        value, d1, _, _ = naive.LOSSES["logistic"]
        n, d = len(case.y), len(case.w)
        z, out = np.full(n, 7.0), np.full(d + 2, 7.0)
        kernel = fused.evaluate(case.layout, LOGISTIC.value, LOGISTIC.d1)
        arguments = (case.y, case.s, case.w, case.offset, z, out)
        kernel(case.x, case.lo, case.hi, *arguments)

        y, s = case.part(case.y), case.part(case.s)
        predictions = case.A @ case.w + case.offset
        r = s * d1(predictions, y)
        expected_z = np.full(n, 7.0)
        expected_z[case.lo : case.hi] = predictions
        sums = [r.sum(), (s * value(predictions, y)).sum()]
        np.testing.assert_allclose(z, expected_z, rtol=1e-13, atol=1e-14)
        np.testing.assert_allclose(
            out, 7.0 + np.append(case.A.T @ r, sums), rtol=1e-13, atol=1e-13
        )


@any_shape
@any_dtype
@pytest.mark.parametrize("store", [row_major, strided, column_major])
def test_column_moments_add_to_their_output(case):
    d = len(case.w)
    out, center, s = np.full((2, d), 7.0), case.w, case.part(case.s)
    kernel = linear.column_moments(case.layout is COLUMN_MAJOR)
    kernel(case.x[0], case.lo, case.hi, case.s, center, out)
    deviations = case.A - center
    expected = 7.0 + np.stack([s @ deviations, s @ deviations**2])
    np.testing.assert_allclose(out, expected, rtol=1e-13, atol=1e-13)


@any_shape
@any_dtype
@pytest.mark.parametrize("store", [row_major, strided, column_major])
def test_row_norms_fill_their_rows_and_no_other(case):
    out = np.full(len(case.y), 7.0)
    scale = 1.0 + case.w**2
    X = case.x[0].T if case.layout is COLUMN_MAJOR else case.x[0]
    linear.row_norms(sparse=False)(X, case.lo, case.hi, case.w, scale, out)
    expected = np.full(len(case.y), 7.0)
    expected[case.lo : case.hi] = np.sum(((case.A - case.w) * scale) ** 2, axis=1)
    np.testing.assert_allclose(out, expected, rtol=1e-13)


@any_shape
@any_dtype
@pytest.mark.parametrize("store", [row_major, strided, column_major])
def test_gram_of_dense_rows_adds_the_lower_half(case):
    d = len(case.w)
    size = d // 8 * 8 + 8
    out = np.full((size, size), 7.0)
    scale = 1.0 + case.w**2
    kernel = gram.gram_dense(case.layout is COLUMN_MAJOR)
    kernel(case.x[0], case.lo, case.hi, case.r, case.w, scale, out)
    A = np.hstack([(case.A - case.w) * scale, np.ones((len(case.A), 1))])
    expected = 7.0 + A.T @ (case.part(case.r)[:, None] * A)
    lower = np.tril_indices(d + 1)
    got = out[: d + 1, : d + 1]
    largest = np.abs(expected).max()
    np.testing.assert_allclose(got[lower], expected[lower], atol=1e-13 * largest)


def test_tile_is_a_product_of_two_strips(rng):
    @compiled()
    def compiled_tile(a, b, n, j, m, out):
        add_tile(a, b, n, j, m, out)

    a, b = rng.standard_normal((9, 12)), rng.standard_normal((9, 24))
    for add in (add_tile, compiled_tile):
        out = np.full((12, 24), 7.0)
        add(a, b, 8, 4, 16, out)
        expected = np.full((12, 24), 7.0)
        expected[4:8, 16:] += a[:8, 4:8].T @ b[:8, 16:]
        np.testing.assert_allclose(out, expected, rtol=1e-14)


@any_shape
@any_dtype
@pytest.mark.parametrize("store", [csr, csr_long])
def test_gram_of_sparse_rows_adds_the_lower_half(case):
    d = len(case.w)
    out = np.full((d + 1, d + 1), 7.0)
    gram.gram_csr()(case.x, case.lo, case.hi, case.r, out)
    A = np.hstack([case.A, np.ones((len(case.A), 1))])
    expected = 7.0 + A.T @ (case.part(case.r)[:, None] * A)
    np.testing.assert_allclose(np.tril(out), np.tril(expected), atol=1e-12)


@pytest.mark.parametrize("n", [1, 7, 8, 9, 127, 128, 129, 257])
class TestPointwise:
    def test_weighted_fills_its_rows_and_no_other(self, n):
        case = Case(row_major, np.float64, (n, 1))
        out = np.full(n, 7.0)
        expected = out.copy()
        d2 = naive.LOSSES["logistic"][2]
        expected[case.lo : case.hi] = case.part(case.s * d2(case.r, case.y))
        kernel = pointwise.weighted(LOGISTIC.d2)
        kernel(case.r, case.y, case.s, case.lo, case.hi, out)
        np.testing.assert_allclose(out, expected, rtol=1e-14)

    def test_mean_along_adds_the_sum_over_its_rows(self, n):
        case = Case(row_major, np.float64, (n, 1))
        u, t = np.cos(case.r), 0.3
        out = np.full(1, 7.0)
        value = naive.LOSSES["logistic"][0]
        terms = case.s * value(case.r + t * u, case.y)
        kernel = pointwise.mean_along(LOGISTIC.value)
        kernel(case.r, u, t, case.y, case.s, case.lo, case.hi, out)
        assert out[0] == pytest.approx(7.0 + case.part(terms).sum(), rel=1e-14)

    def test_total_is_the_sum(self, n):
        values = np.sin(np.arange(n))
        assert linear.total(values) == pytest.approx(values.sum(), abs=1e-13)


@any_dtype
@any_storage
def test_empty_range_changes_nothing(store, dtype):
    case = Case(store, dtype, (9, 4))
    out = np.full(5, 7.0)
    linear.rmatvec(case.layout)(case.x, 4, 4, case.r, out)
    linear.hess_vec(case.layout)(case.x, 9, 9, case.r, case.w, 1.0, out)
    np.testing.assert_array_equal(out, 7.0)


@any_storage
def test_float32_rows_are_summed_in_float64(store):
    # 2**24 + 1 is no float32: a sum in single precision would stop growing there.
    A = np.full((300, 2), 2.0**23, dtype=np.float32)
    layout, x = store(A)
    out = np.zeros(3)
    r = np.ones(300)
    r[1::2] = -1.0
    r[-1] = 2.0**-20 - 1.0
    linear.rmatvec(layout)(x, 0, 300, r, out)
    np.testing.assert_array_equal(out, [8.0, 8.0, 2.0**-20])
    z = np.empty(300)
    w = np.array([1.0 + 2.0**-30, -1.0])
    linear.matvec(layout)(x, 0, 300, w, 0.0, z)
    np.testing.assert_array_equal(z, 2.0**-7)
