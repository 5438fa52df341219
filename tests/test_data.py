"""Containers: every kind of input and every operation against NumPy."""

import naive
import numpy as np
import pytest
import scipy.sparse as sp

from subsampled_newton import LOGISTIC, Columns, as_rows
from subsampled_newton.data import GRAM_MAX_PARAMS, Work

N, D = 37, 5


def base():
    """Numbers that float32 holds, with zeros and two empty rows."""
    rng = np.random.default_rng(5)
    A = np.round(rng.standard_normal((N, D)) * 64) / 64
    A[rng.random((N, D)) < 0.4] = 0.0
    A[[3, N - 1]] = 0.0
    A[:, 0] += 2.0 * (A[:, 0] != 0.0)
    return A


def strided(tmp_path):
    wide = np.full((2 * N, D), np.nan)
    wide[::2, ::-1] = base()
    return wide[::2, ::-1]


def read_only(tmp_path):
    A = base()
    A.flags.writeable = False
    return A


def memory_mapped(tmp_path):
    base().tofile(tmp_path / "X.bin")
    return np.memmap(tmp_path / "X.bin", dtype=np.float64, mode="r", shape=(N, D))


def long_indices(tmp_path):
    X = sp.csr_array(base())
    X.indices, X.indptr = X.indices.astype(np.int64), X.indptr.astype(np.int64)
    return X


def unsorted(tmp_path):
    X = sp.csr_array(base())
    for lo, hi in zip(X.indptr[:-1], X.indptr[1:], strict=True):
        X.data[lo:hi], X.indices[lo:hi] = X.data[lo:hi][::-1], X.indices[lo:hi][::-1]
    return sp.csr_array((X.data, X.indices, X.indptr), shape=X.shape)


def duplicates(tmp_path):
    # Every entry as the sum of two, in the order a a b b.
    X = sp.csr_array(base())
    data = np.repeat(X.data / 2, 2)
    return sp.csr_array((data, np.repeat(X.indices, 2), 2 * X.indptr), shape=X.shape)


def explicit_zeros(tmp_path):
    X = sp.csr_array(np.ones((N, D)))
    X.data[:] = base().ravel()
    return X


INPUTS = {
    "C": lambda tmp: base(),
    "Fortran": lambda tmp: np.asfortranarray(base()),
    "strided": strided,
    "read-only": read_only,
    "memmap": memory_mapped,
    "list": lambda tmp: base().tolist(),
    "float32": lambda tmp: base().astype(np.float32),
    "float32 Fortran": lambda tmp: np.asfortranarray(base(), dtype=np.float32),
    "float16": lambda tmp: (base() * 4).astype(np.float16),
    "big-endian": lambda tmp: base().astype(">f8"),
    "int": lambda tmp: (base() * 8).astype(np.int64),
    "uint8": lambda tmp: np.abs(base() * 8).astype(np.uint8),
    "bool": lambda tmp: base() != 0.0,
    "one column": lambda tmp: base()[:, :1],
    "one row": lambda tmp: base()[:1],
    "csr": lambda tmp: sp.csr_array(base()),
    "csr matrix": lambda tmp: sp.csr_matrix(base()),
    "csr float32": lambda tmp: sp.csr_array(base().astype(np.float32)),
    "csr int": lambda tmp: sp.csr_array((base() * 8).astype(np.int32)),
    "csr bool": lambda tmp: sp.csr_array(base() != 0.0),
    "csr int64 indices": long_indices,
    "csr unsorted": unsorted,
    "csr duplicates": duplicates,
    "csr explicit zeros": explicit_zeros,
    "csr all zero": lambda tmp: sp.csr_array((N, D)),
    "csc": lambda tmp: sp.csc_array(base()),
    "coo": lambda tmp: sp.coo_array(base()),
}


def dense(X):
    return np.array(X.toarray() if sp.issparse(X) else X, dtype=np.float64)


def plain(d):
    return Columns(np.ones(d), np.zeros(d), intercept=False)


def transformed(d):
    scale, shift = np.linspace(0.5, 2.0, d), np.linspace(-1.0, 3.0, d)
    return Columns(scale, shift, intercept=True)


def scaled(d):
    return Columns(np.linspace(2.0, 0.5, d), np.zeros(d), intercept=False)


COLUMNS = {"plain": plain, "scaled": scaled, "shift scale intercept": transformed}


class Case:
    """A container, the dense matrix it stands for, and vectors of all lengths."""

    def __init__(self, X, columns):
        A = dense(X)
        c = columns(A.shape[1])
        self.rows = as_rows(X).with_columns(c)
        self.raw = A
        self.A = naive.transformed(A, c.scale, c.shift, c.intercept)
        n, d = self.A.shape
        rng = np.random.default_rng(n + d)
        self.n, self.d = n, d
        self.w, self.v = rng.standard_normal((2, d))
        self.r, self.h = rng.standard_normal((2, n))
        self.s = rng.random(n) + 0.1
        self.y = rng.choice([-1.0, 1.0], n)
        self.rng = rng


@pytest.fixture(params=COLUMNS, ids=str)
def columns(request):
    return COLUMNS[request.param]


@pytest.fixture(params=INPUTS, ids=str)
def case(request, columns, tmp_path):
    return Case(INPUTS[request.param](tmp_path), columns)


def close(got, expected):
    scale = np.max(np.abs(expected), initial=1.0)
    np.testing.assert_allclose(got, expected, rtol=1e-12, atol=1e-13 * scale)


class TestOperations:
    def test_shape(self, case):
        assert (case.rows.n_rows, case.rows.n_params) == case.A.shape

    def test_matvec(self, case):
        close(case.rows.matvec(case.w), case.A @ case.w)

    def test_rmatvec(self, case):
        close(case.rows.rmatvec(case.r), case.A.T @ case.r)

    def test_hess_vec(self, case):
        expected = case.A.T @ (case.h * (case.A @ case.v))
        close(case.rows.hess_vec(case.h, case.v), expected)

    def test_gram(self, case):
        got = case.rows.gram(case.h)
        close(got, case.A.T @ np.diag(case.h) @ case.A)
        close(got, got.T)

    def test_gram_diagonal(self, case):
        h = np.abs(case.h)
        close(case.rows.gram_diagonal(h), h @ case.A**2)

    def test_evaluate(self, case):
        value, d1, _, _ = naive.LOSSES["logistic"]
        z, mean, gradient = case.rows.evaluate(LOGISTIC, case.y, case.s, case.w)
        expected = case.A @ case.w
        close(z, expected)
        close(mean, np.mean(case.s * value(expected, case.y)))
        close(gradient, case.A.T @ (case.s * d1(expected, case.y)) / case.n)

    def test_row_norms(self, case):
        close(case.rows.row_norms(), np.sum(case.A**2, axis=1))

    def test_projected_norms(self, case):
        M = case.rng.standard_normal((case.d, 3))
        close(case.rows.projected_norms(M), np.sum((case.A @ M) ** 2, axis=1))

    def test_column_moments_are_those_of_the_stored_columns(self, case):
        mean, deviation = case.rows.column_moments(case.s)
        expected = np.average(case.raw, axis=0, weights=case.s)
        variance = np.average((case.raw - expected) ** 2, axis=0, weights=case.s)
        close(mean, expected)
        np.testing.assert_allclose(deviation, np.sqrt(variance), atol=1e-7)

    def test_product_of_taken_rows_is_the_product_indexed(self, case):
        picked = np.unique(case.rng.integers(0, case.n, 11))
        taken = case.rows.take(picked)
        assert taken.n_rows == len(picked)
        close(taken.matvec(case.w), (case.A @ case.w)[picked])
        expected = case.A[picked].T @ case.r[picked]
        close(taken.rmatvec(case.r[picked]), expected)

    def test_rows_are_taken_in_the_order_asked_for(self, case):
        picked = np.array([case.n - 1, 0, case.n - 1])
        close(case.rows.take(picked).matvec(case.w), (case.A @ case.w)[picked])


class TestRawCoefficients:
    def test_coefficients_of_the_stored_columns_give_the_predictions(self, columns):
        case = Case(base(), columns)
        coef, constant = case.rows.columns.to_raw(case.w)
        close(case.raw @ coef + constant, case.A @ case.w)

    def test_round_trip(self, columns):
        case = Case(base(), columns)
        c = case.rows.columns
        np.testing.assert_allclose(c.from_raw(*c.to_raw(case.w)), case.w, rtol=1e-12)


def everything(case):
    rows = case.rows
    rows.matvec(case.w)
    rows.rmatvec(case.r)
    rows.gram(case.h)
    rows.evaluate(LOGISTIC, case.y, case.s, case.w)
    rows.row_norms()
    rows.projected_norms(np.eye(case.d))
    rows.column_moments(case.s)
    rows.take(np.array([0]))


def arrays_of(X):
    return (X.data, X.indices, X.indptr) if sp.issparse(X) else (np.asarray(X),)


@pytest.mark.parametrize("name", [k for k in INPUTS if k not in ("list", "coo")])
def test_input_arrays_are_not_changed(name, tmp_path):
    X = INPUTS[name](tmp_path)
    before = [a.copy() for a in arrays_of(X)]
    everything(Case(X, transformed))
    for kept, now in zip(before, arrays_of(X), strict=True):
        assert kept.tobytes() == now.tobytes()
        assert kept.dtype == now.dtype


def test_vectors_are_not_changed():
    case = Case(base(), transformed)
    vectors = (case.w, case.v, case.r, case.h, case.s, case.y)
    before = [v.copy() for v in vectors]
    everything(case)
    case.rows.hess_vec(case.h, case.v)
    for kept, now in zip(before, vectors, strict=True):
        np.testing.assert_array_equal(kept, now)


IN_PLACE = [
    "C",
    "Fortran",
    "strided",
    "read-only",
    "memmap",
    "float32",
    "float32 Fortran",
    "csr",
    "csr matrix",
    "csr float32",
    "csr int64 indices",
    "csr explicit zeros",
]


@pytest.mark.parametrize("name", IN_PLACE)
def test_input_is_not_copied(name, tmp_path):
    X = INPUTS[name](tmp_path)
    for columns in (plain, transformed):
        rows = as_rows(X).with_columns(columns(X.shape[1]))
        for mine, theirs in zip(rows._arrays, arrays_of(X), strict=True):
            assert np.shares_memory(mine, theirs)


def test_input_stays_writable():
    X = base()
    everything(Case(X, plain))
    assert X.flags.writeable
    S = sp.csr_array(base())
    everything(Case(S, plain))
    assert S.data.flags.writeable


def test_container_is_its_own_container():
    rows = as_rows(base())
    assert as_rows(rows) is rows


@pytest.mark.parametrize("name", ["C", "Fortran", "csr"])
def test_taken_rows_are_a_copy(name, tmp_path):
    X = INPUTS[name](tmp_path)
    taken = as_rows(X).take(np.arange(4))
    for mine, theirs in zip(taken._arrays, arrays_of(X), strict=True):
        assert not np.shares_memory(mine, theirs)


# Numbers that are hard


@pytest.fixture(params=["C", "Fortran", "csr"])
def far(request):
    """Columns of spread 1 at 1e6, centred by the container, and exact deviations."""
    rng = np.random.default_rng(8)
    deviation = np.round(rng.standard_normal((3000, 4)) * 2**20) / 2**20
    X = deviation + 1e6  # exact: 20 bits before the point and 20 after it
    shift = np.full(4, 1e6)
    make = {"C": np.array, "Fortran": np.asfortranarray, "csr": sp.csr_array}
    rows = as_rows(make[request.param](X))
    return rows.with_columns(Columns(np.ones(4), shift, True)), deviation


def test_gram_of_columns_far_from_zero_keeps_its_digits(far, rng):
    rows, deviation = far
    h = rng.random(rows.n_rows)
    A = np.hstack([deviation, np.ones((rows.n_rows, 1))])
    expected = A.T @ (h[:, None] * A)
    error = np.linalg.norm(rows.gram(h) - expected)
    assert error <= 1e-12 * np.linalg.norm(expected)


def test_evaluation_of_columns_far_from_zero_keeps_its_digits(far, rng):
    rows, deviation = far
    w = rng.standard_normal(5)
    y = rng.choice([-1.0, 1.0], rows.n_rows)
    A = np.hstack([deviation, np.ones((rows.n_rows, 1))])
    value, d1, _, _ = naive.LOSSES["logistic"]
    z, mean, gradient = rows.evaluate(LOGISTIC, y, np.ones(len(y)), w)
    expected = A.T @ d1(A @ w, y) / len(y)
    np.testing.assert_allclose(z, A @ w, atol=3e-9)
    assert mean == pytest.approx(np.mean(value(A @ w, y)), rel=1e-9)
    assert np.linalg.norm(gradient - expected) <= 1e-9 * np.linalg.norm(expected)


@pytest.mark.parametrize("make", [np.array, np.asfortranarray, sp.csr_array])
def test_deviation_of_columns_far_from_zero_keeps_its_digits(make, rng):
    X = rng.standard_normal((500, 3)) + 1e9
    mean, deviation = as_rows(make(X)).column_moments(np.ones(500))
    np.testing.assert_allclose(mean, X.mean(axis=0), rtol=1e-15)
    np.testing.assert_allclose(deviation, X.std(axis=0), rtol=1e-9)


def test_row_norms_far_from_zero_keep_their_digits(far):
    rows, deviation = far
    expected = 1.0 + np.sum(deviation**2, axis=1)
    np.testing.assert_allclose(rows.row_norms(), expected, rtol=1e-12, atol=1e-12)


def test_a_column_of_scale_zero_is_zero(rng):
    X = rng.standard_normal((30, 2))
    X[:, 1] = 1e308  # its sums overflow
    columns = Columns(np.array([2.0, 0.0]), np.array([0.5, 0.0]), intercept=True)
    w, r = rng.standard_normal(3), np.ones(30)
    expected = 2.0 * (X[:, 0] - 0.5) * w[0] + w[2]
    for make in (np.array, np.asfortranarray, sp.csr_array):
        rows = as_rows(make(X)).with_columns(columns)
        np.testing.assert_allclose(rows.matvec(w), expected, rtol=1e-12)
        assert rows.rmatvec(r)[1] == rows.hess_vec(r, w)[1] == 0.0
        assert not np.any(rows.gram(r)[1])
        assert columns.from_raw(np.array([3.0, 7.0]), 1.0)[1] == 0.0


def test_float32_data_are_summed_in_float64():
    X = np.full((20_000, 1), 0.1, dtype=np.float32)
    exact = 20_000 * float(np.float32(0.1))
    for make in (np.array, sp.csr_array):
        rows = as_rows(make(X))
        ones = np.ones(20_000)
        assert rows.rmatvec(ones)[0] == pytest.approx(exact, rel=1e-14)
        mean, deviation = rows.column_moments(ones)
        assert mean[0] == pytest.approx(float(np.float32(0.1)), rel=1e-14)
        assert deviation[0] == pytest.approx(0.0, abs=1e-6)


def test_moments_leave_out_rows_of_weight_zero():
    case = Case(base(), plain)
    weights = (np.arange(N) % 3 > 0) * 1.0
    for X in (base(), np.asfortranarray(base()), sp.csr_array(base())):
        mean, deviation = as_rows(X).column_moments(weights)
        close(mean, case.raw[weights > 0].mean(axis=0))
        close(deviation, case.raw[weights > 0].std(axis=0))


# Chunks and blocks


@pytest.mark.parametrize("name", ["C", "Fortran", "csr"])
def test_many_blocks_and_chunks_give_the_same_sums(name, rng):
    A = np.round(rng.standard_normal((9001, 40)) * 8) / 8
    make = {"C": np.array, "Fortran": np.asfortranarray, "csr": sp.csr_array}
    rows = as_rows(make[name](A)).with_columns(transformed(40))
    c = rows.columns
    B = naive.transformed(A, c.scale, c.shift, True)
    r, v = rng.standard_normal(9001), rng.standard_normal(41)
    close(rows.matvec(v), B @ v)
    close(rows.rmatvec(r), B.T @ r)
    close(rows.hess_vec(r, v), B.T @ (r * (B @ v)))
    close(rows.gram(r), B.T @ (r[:, None] * B))
    close(rows.row_norms(), np.sum(B**2, axis=1))
    close(rows.projected_norms(B[:41].T), np.sum((B @ B[:41].T) ** 2, axis=1))


@pytest.mark.parametrize("name", ["C", "Fortran", "csr"])
@pytest.mark.parametrize("columns", [plain, transformed])
@pytest.mark.parametrize("d", [GRAM_MAX_PARAMS - 1, GRAM_MAX_PARAMS + 1])
def test_gram_of_many_columns(name, columns, d, rng):
    A = np.round(rng.standard_normal((60, d)) * 8) / 8
    make = {"C": np.array, "Fortran": np.asfortranarray, "csr": sp.csr_array}
    c = columns(d)
    B = naive.transformed(A, c.scale, c.shift, c.intercept)
    h = rng.random(60)
    close(as_rows(make[name](A)).with_columns(c).gram(h), B.T @ (h[:, None] * B))


# Errors


def broken_csr(**changes):
    X = sp.csr_array(base())
    for name, change in changes.items():
        change(getattr(X, name))
    return X


def put(index, value):
    return lambda array: array.__setitem__(index, value)


@pytest.mark.parametrize(
    ("X", "error"),
    [
        (np.ones((3, 2), dtype=complex), TypeError),
        (np.ones((3, 2), dtype=object), TypeError),
        (np.array([["a", "b"]]), TypeError),
        (np.ones((3, 2), dtype="datetime64[D]"), TypeError),
        (sp.csr_array(np.ones((3, 2), dtype=complex)), TypeError),
        (np.ones(3), ValueError),
        (np.ones((3, 2, 2)), ValueError),
        (3.0, ValueError),
        (np.ones((0, 2)), ValueError),
        (np.ones((3, 0)), ValueError),
        (sp.csr_array((0, 2)), ValueError),
        (sp.csr_array((3, 0)), ValueError),
        (sp.coo_array(np.ones(3)), ValueError),
        (broken_csr(indices=put(0, D)), ValueError),
        (broken_csr(indices=put(-1, 10**6)), ValueError),
        (broken_csr(indices=put(0, -1)), ValueError),
        (broken_csr(indptr=put(-1, 10**6)), ValueError),
        (broken_csr(indptr=put(1, 10**6)), ValueError),
        (broken_csr(indptr=put(0, 1)), ValueError),
    ],
)
def test_bad_matrix_is_refused_by_name(X, error):
    with pytest.raises(error, match=r"\bX\b"):
        as_rows(X)


def test_message_says_what_came():
    with pytest.raises(ValueError, match=r"got shape \(3,\)"):
        as_rows(np.ones(3))
    with pytest.raises(TypeError, match="got dtype complex128"):
        as_rows(np.ones((3, 1), dtype=complex))


def test_shift_needs_an_intercept():
    with pytest.raises(ValueError, match="shift must be 0 without an intercept"):
        Columns(np.ones(2), np.array([0.0, 1.0]), intercept=False)


# Counts


@pytest.mark.parametrize("name", ["C", "csr"])
def test_every_read_of_the_rows_is_counted_once(name, tmp_path):
    case = Case(INPUTS[name](tmp_path), transformed)
    rows = case.rows
    z = case.r
    expected = {
        "matvec": (lambda: rows.matvec(case.w), N),
        "rmatvec": (lambda: rows.rmatvec(case.r), N),
        "hess_vec": (lambda: rows.hess_vec(case.h, case.v), N),
        "gram": (lambda: rows.gram(case.h), N),
        "gram_diagonal": (lambda: rows.gram_diagonal(case.h), N),
        "evaluate": (lambda: rows.evaluate(LOGISTIC, case.y, case.s, case.w), N),
        "row_norms": (lambda: rows.row_norms(), N),
        "projected_norms": (lambda: rows.projected_norms(np.eye(case.d)), N),
        "column_moments": (lambda: rows.column_moments(case.s), N),
        "take": (lambda: rows.take(np.arange(7)), 7),
        "pointwise": (lambda: rows.pointwise(LOGISTIC.d2, z, case.y, case.s), 0),
        "mean_along": (
            lambda: rows.mean_along(LOGISTIC.value, z, z, 0.1, case.y, case.s),
            0,
        ),
    }
    got = {}
    for operation, (call, _) in expected.items():
        before = rows.work.rows_read
        call()
        got[operation] = rows.work.rows_read - before
    assert got == {operation: count for operation, (_, count) in expected.items()}


def test_samples_and_other_columns_share_the_count():
    rows = as_rows(base())
    parts = rows.take(np.arange(4)), rows.with_columns(transformed(D))
    assert all(part.work is rows.work for part in parts)


def test_uncounted_work_leaves_the_counts():
    work = Work()
    assert (work.rows_read, work.props) == (0, 1)
    work.rows_read = 5
    with work.uncounted():
        work.rows_read += 10
        work.props += 10
    assert (work.rows_read, work.props) == (5, 1)
