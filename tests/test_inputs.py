"""What users hand in: the right answer or an error that names the argument.

The right answer is that of the same numbers as float64 in C order.
"""

import decimal
import fractions
import subprocess
import sys
import warnings

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning, DataConversionWarning

from subsampled_newton import LinearRegression, LogisticRegression, Ridge
from subsampled_newton.data import as_rows

rng = np.random.default_rng(0)
X = np.round(4.0 * rng.standard_normal((40, 3))).clip(-8, 8)
X[:, 2] *= rng.random(40) < 0.3
y = (X[:, 0] + 3.0 * rng.standard_normal(40) > 0.0).astype(int)
ESTIMATORS = [LogisticRegression(), Ridge(), LinearRegression()]
FITTED = {type(model): clone(model).fit(X, y) for model in ESTIMATORS}
by_name = pytest.mark.parametrize(
    "model", ESTIMATORS, ids=lambda model: type(model).__name__
)


def same(model, data, targets=y, *, like=X, reference=None):
    """Whether a fit and its forecasts are those of plain float64 data."""
    given = clone(model).fit(data, targets)
    reference = reference or clone(model).fit(like, y)
    scale = np.abs(reference.coef_).max() or 1.0
    np.testing.assert_allclose(
        given.coef_, reference.coef_, rtol=1e-9, atol=1e-9 * scale
    )
    np.testing.assert_allclose(
        np.asarray(given.predict(data), dtype=float),
        np.asarray(reference.predict(like), dtype=float),
        atol=1e-8,
    )


# Containers, types and layouts of X.


def strided(array):
    """The same numbers, every other one of a larger array."""
    larger = np.zeros((2 * array.shape[0], 3 * array.shape[1]))
    larger[::2, ::3] = array
    return larger[::2, ::3]


def unsorted(array):
    """A CSR matrix whose indices fall, and with an entry in two halves."""
    n, d = array.shape
    indices = np.tile(np.r_[np.arange(d)[::-1], d - 1], n)
    data = np.column_stack([array[:, ::-1], array[:, -1]])
    data[:, 0] -= 1.5
    data[:, -1] = 1.5
    return sp.csr_array((data.ravel(), indices, np.arange(n + 1) * (d + 1)))


def long_indices(array):
    matrix = sp.csr_array(array)
    matrix.indices, matrix.indptr = (
        matrix.indices.astype("i8"),
        matrix.indptr.astype("i8"),
    )
    return matrix


def explicit_zeros(array):
    matrix = sp.csr_array(np.where(array == 0.0, 99.0, array))
    matrix.data[matrix.data == 99.0] = 0.0
    return matrix


def read_only(array):
    array = array.copy()
    array.flags.writeable = False
    return array


def read_only_csr(array):
    matrix = sp.csr_array(array)
    for part in (matrix.data, matrix.indices, matrix.indptr):
        part.flags.writeable = False
    return matrix


CONTAINERS = {
    "float32": lambda a: a.astype("f4"),
    "float16": lambda a: a.astype("f2"),
    "long double": lambda a: a.astype(np.longdouble),
    "int8": lambda a: a.astype("i1"),
    "int64": lambda a: a.astype("i8"),
    "big-endian": lambda a: a.astype(">f8"),
    "big-endian float32": lambda a: a.astype(">f4"),
    "objects": lambda a: a.astype(object),
    "decimals": lambda a: np.array([[decimal.Decimal(int(v)) for v in r] for r in a]),
    "fractions": lambda a: [[fractions.Fraction(int(v), 1) for v in r] for r in a],
    "numbers as text": lambda a: a.astype(str),
    "Fortran": np.asfortranarray,
    "negative strides": lambda a: a[::-1, ::-1].copy()[::-1, ::-1],
    "strided": strided,
    "transposed": lambda a: a.T.copy().T,
    "read-only": read_only,
    "lists": lambda a: a.tolist(),
    "tuples": lambda a: tuple(map(tuple, a)),
    "masked array without mask": np.ma.masked_array,
    "frame": pd.DataFrame,
    "frame float32": lambda a: pd.DataFrame(a, dtype="f4"),
    "frame Int64": lambda a: pd.DataFrame(a).astype("Int64"),
    "frame Float64": lambda a: pd.DataFrame(a).astype("Float64"),
    "frame categories": lambda a: pd.DataFrame(a).astype("category"),
    "frame mixed": lambda a: pd.DataFrame(
        {"a": a[:, 0].astype("i4"), "b": a[:, 1].astype("f4"), "c": a[:, 2]}
    ),
    "frame sparse": lambda a: pd.DataFrame.sparse.from_spmatrix(sp.csr_matrix(a)),
    "csr": sp.csr_array,
    "csr matrix": sp.csr_matrix,
    "csr float32": lambda a: sp.csr_array(a.astype("f4")),
    "csr int": lambda a: sp.csr_array(a.astype(int)),
    "csr int64 indices": long_indices,
    "csr unsorted duplicates": unsorted,
    "csr explicit zeros": explicit_zeros,
    "csr read-only": read_only_csr,
    "csc": sp.csc_array,
    "coo": sp.coo_array,
    "bsr": sp.bsr_array,
    "dia": sp.dia_array,
    "lil": sp.lil_array,
    "dok": sp.dok_array,
}


@by_name
@pytest.mark.parametrize("container", CONTAINERS)
def test_container_changes_nothing(model, container):
    same(model, CONTAINERS[container](X), reference=FITTED[type(model)])


@by_name
def test_booleans_are_zeros_and_ones(model):
    same(model, X > 0, like=(X > 0).astype(float))
    same(model, sp.csr_array(X > 0), like=(X > 0).astype(float))
    same(model, pd.DataFrame(X > 0).astype("boolean"), like=(X > 0).astype(float))


@by_name
def test_unsigned_numbers_do_not_wrap(model):
    small = np.abs(X)
    same(model, small.astype("u1"), like=small)
    same(model, small.astype("u8"), like=small)


@by_name
@pytest.mark.parametrize("mode", ["r", "r+", "c"])
def test_memory_mapped_files_are_used_and_kept(model, mode, tmp_path):
    np.save(tmp_path / "X.npy", X)
    same(model, np.load(tmp_path / "X.npy", mmap_mode=mode))
    np.testing.assert_array_equal(np.load(tmp_path / "X.npy"), X)


@by_name
def test_polars_frame(model):
    polars = pytest.importorskip("polars")
    same(model, polars.DataFrame(X, schema=["a", "b", "c"]))


numbers = st.floats(-1e3, 1e3, allow_subnormal=False).map(lambda v: round(v, 3))


@settings(max_examples=40, deadline=None)
@given(
    data=st.data(),
    n=st.integers(2, 12),
    d=st.integers(1, 4),
    container=st.sampled_from([c for c in CONTAINERS if "frame" not in c]),
    model=st.sampled_from(ESTIMATORS[:2]),
)
def test_any_small_matrix_in_any_container(data, n, d, container, model):
    whole = st.integers(-8, 8).map(float)
    array = np.array(data.draw(st.lists(whole, min_size=n * d, max_size=n * d)))
    array = array.reshape(n, d)
    labels = np.arange(n) % 2
    reference = clone(model).fit(array, labels)
    given = clone(model).fit(CONTAINERS[container](array), labels)
    # Columns of other shifts have another path: each fit ends with a gradient of tol at
    # most, on columns that are at most 8 times smaller, where F has the curvature 1/n.
    error = 2.0 * model.tol * 8.0 * n
    np.testing.assert_allclose(given.coef_, reference.coef_, rtol=1e-7, atol=error)


# X that has no right answer.


def put(value, dtype=float):
    array = X.astype(dtype)
    array[3, 1] = value
    return array


REFUSED = {
    "nan": put(np.nan),
    "inf": put(np.inf),
    "-inf": put(-np.inf),
    "nan float32": put(np.nan, "f4"),
    "nan Fortran": np.asfortranarray(put(np.nan)),
    "nan object": put(None, object),
    "csr nan": sp.csr_array(put(np.nan)),
    "csr inf": sp.csr_array(put(np.inf)),
    "complex": X.astype(complex),
    "complex object": put(1j, object),
    "csr complex": sp.csr_array(X.astype(complex)),
    "words": put("two", object),
    "records": np.zeros(40, dtype=[("a", "f8"), ("b", "f8")]),
    "dates": X.astype("i8").astype("M8[s]"),
    "spans of time": X.astype("i8").astype("m8[s]"),
    "masked": np.ma.masked_array(X, mask=X > 6),
    "ragged": [[1.0, 2.0], [3.0]],
    "None": None,
    "number": 3.0,
    "vector": X[:, 0],
    "three axes": X[None],
    "no rows": X[:0],
    "no columns": X[:, :0],
    "csr no rows": sp.csr_array((0, 3)),
    "csr no columns": sp.csr_array((40, 0)),
    "frame NA": pd.DataFrame(X).astype("Float64").mask(X > 6),
    "frame None": pd.DataFrame(X).astype(object).where(X < 6, None),
    "frame words": pd.DataFrame({"a": ["x", "y"] * 20, "b": [1.0, 2.0] * 20}),
    "frame dates": pd.DataFrame({"a": pd.date_range("2020", periods=40)}),
}
# Messages that scikit-learn prescribes name no argument, but leave no doubt.
PRESCRIBED = r"\bX\b|Expected 2D array|Complex data|\d (sample|feature)\(s\)"


@by_name
@pytest.mark.parametrize("name", REFUSED)
def test_useless_matrix_is_refused_by_name(model, name):
    with pytest.raises((ValueError, TypeError), match=PRESCRIBED):
        clone(model).fit(REFUSED[name], y)


@by_name
@pytest.mark.parametrize(
    "name", [k for k in REFUSED if k not in ("frame words", "frame dates")]
)
def test_useless_matrix_is_refused_in_forecasts(model, name):
    with pytest.raises((ValueError, TypeError), match=PRESCRIBED):
        FITTED[type(model)].predict(REFUSED[name])


def test_matrix_class_of_numpy_is_refused():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PendingDeprecationWarning)
        matrix = np.matrix(X)
    with pytest.raises(TypeError, match=r"np\.matrix is not supported"):
        LogisticRegression().fit(matrix, y)


MALFORMED = """
import sys
import numpy as np
import scipy.sparse as sp
from subsampled_newton import LinearModel, LOGISTIC, LogisticRegression, Ridge

X = np.arange(120.0).reshape(40, 3) % 7 - 3
y = np.arange(40) % 2
fitted = LogisticRegression().fit(X, y)


def broken(kind, part, i, value, dtype=float):
    matrix = getattr(sp, kind)(X.astype(dtype))
    if part == "coords":
        coords = [index.copy() for index in matrix.coords]
        coords[i][5] = value
        matrix.coords = tuple(coords)
    elif value is None:
        setattr(matrix, part, getattr(matrix, part)[:i])
    else:
        array = getattr(matrix, part).copy()
        array[i] = value
        setattr(matrix, part, array)
    return matrix


cases = [("coo_array", "coords", axis, v) for axis in (0, 1) for v in (10**7, -(10**7))]
for kind in ("csr_array", "csr_matrix", "csc_array", "bsr_array"):
    cases += [(kind, "indices", 5, v) for v in (10**7, 41, -1, -(10**7))]
    cases += [(kind, "indptr", i, v) for i in (1, 2, -1) for v in (10**7, -3)]
    cases += [(kind, "indptr", 0, 2), (kind, "indptr", -1, 0)]
    if kind != "bsr_array":
        cases += [(kind, "data", 20, None), (kind, "indices", 20, None)]
cases += [("csr_array", "indices", 5, 10**7, t) for t in ("f4", "i8", "?")]
for case in cases:
    print(*case, flush=True)
    for use in (
        lambda Z: LogisticRegression().fit(Z, y),
        lambda Z: Ridge().fit(Z, y),
        lambda Z: LinearModel(LOGISTIC, Z, 2.0 * y - 1.0),
        fitted.predict,
    ):
        try:
            use(broken(*case))
        except ValueError as error:
            assert "X is not a valid sparse matrix" in str(error), error
        else:
            raise AssertionError("accepted")
print("done")
"""


def test_malformed_sparse_matrix_is_an_error_and_no_crash():
    # In a process of its own: a wrong index reads foreign memory.
    run = subprocess.run(
        [sys.executable, "-c", MALFORMED],
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert run.stdout.endswith("done\n"), run.stdout[-200:] + run.stderr[-2000:]


def test_check_of_a_sparse_matrix_does_not_change_it():
    matrix = unsorted(X)
    before = [a.copy() for a in (matrix.data, matrix.indices, matrix.indptr)]
    held = matrix.indices
    LogisticRegression().fit(matrix, y).predict(matrix)
    as_rows(matrix)
    assert matrix.indices is held
    for old, new in zip(
        before, (matrix.data, matrix.indices, matrix.indptr), strict=True
    ):
        np.testing.assert_array_equal(old, new)


# Values.


@by_name
@pytest.mark.parametrize("size", [1e-320, 1e-300, 1e-160, 1e150, 1e290, 1e300])
def test_matrix_of_extreme_size(model, size):
    # A penalty of any weight against coefficients of any size: what counts is that the
    # fit is finite, and for least squares without a penalty that it is the same.
    given = clone(model).fit(X * size, y)
    assert np.all(np.isfinite(given.coef_))
    assert np.all(np.isfinite(given.predict(X * size).astype(float)))
    if isinstance(model, LinearRegression) and size > 1e-300:
        np.testing.assert_allclose(
            given.predict(X * size), FITTED[type(model)].predict(X), atol=1e-8
        )


@by_name
@pytest.mark.parametrize("value", [1e300, -1e300, 1.7e308, 5e-324])
def test_one_entry_of_extreme_size(model, value):
    given = clone(model).fit(put(value), y)
    assert np.all(np.isfinite(given.coef_))
    assert given.result_.converged
    # Beside 1e300 the other entries of the column are zeros.
    like = np.zeros(40)
    like[3] = np.sign(value)
    if abs(value) > 1.0 and isinstance(model, LinearRegression):
        column = X.copy()
        column[:, 1] = like
        same(model, column, reference=clone(model).fit(column, y), like=column)
        reference = clone(model).fit(column, y)
        np.testing.assert_allclose(given.coef_[[0, 2]], reference.coef_[[0, 2]], 1e-6)


@by_name
@pytest.mark.parametrize("value", [3e38, -3e38, 1e-45])
def test_one_single_precision_entry_of_extreme_size(model, value):
    given = clone(model).fit(put(value, "f4"), y)
    reference = clone(model).fit(put(np.float32(value)), y)
    np.testing.assert_allclose(given.coef_, reference.coef_, rtol=1e-6, atol=1e-12)


@by_name
def test_empty_sparse_matrix_leaves_the_intercept(model):
    given = clone(model).fit(sp.csr_array((40, 3)), y)
    np.testing.assert_array_equal(given.coef_, 0.0)
    z = np.mean(y) if model is not ESTIMATORS[0] else np.log(y.mean() / (1 - y.mean()))
    np.testing.assert_allclose(given.intercept_, z, rtol=1e-8)


# Targets.


@pytest.mark.parametrize(
    "targets",
    [
        y.astype(bool),
        y.astype("u1"),
        y.astype(float),
        y.astype("f4"),
        y.tolist(),
        3.0 * y,
        -y,
        np.where(y, "yes", "no"),
        np.where(y, "yes", "no").astype(object),
        pd.Series(y),
        pd.Series(np.where(y, "yes", "no")),
        pd.Series(np.where(y, "yes", "no")).astype("category"),
        pd.Series(y).astype("Int64"),
        pd.Series(y).astype("boolean"),
        y.astype(">i4"),
        np.repeat(y, 2)[::2],
    ],
    ids=lambda t: str(getattr(t, "dtype", type(t).__name__)),
)
def test_two_labels_of_any_type(targets):
    reference = FITTED[LogisticRegression]
    model = LogisticRegression().fit(X, targets)
    flip = -1.0 if model.classes_[1] == 0 and model.classes_[0] == -1 else 1.0
    np.testing.assert_allclose(flip * model.coef_, reference.coef_, atol=1e-9)
    labels = np.asarray(targets)
    assert np.mean(model.predict(X) == labels) == reference.score(X, y)


@by_name
@pytest.mark.parametrize(
    ("targets", "message"),
    [
        (np.where(y, np.nan, 1.0), r"\by\b"),
        (np.where(y, np.inf, 1.0), r"\by\b"),
        (y[:-1], r"X and y.*inconsistent"),
        (np.zeros((40, 2, 2)), r"\by\b|dim 3"),
        ([], "y"),
        (None, r"\by\b"),
        (pd.Series(y).astype("Int64").mask(y == 1), r"\by\b"),
        (np.ma.masked_array(y, mask=y == 1), r"y has masked entries"),
    ],
    ids=["nan", "inf", "short", "3d", "empty", "none", "NA", "masked"],
)
def test_useless_targets_are_refused_by_name(model, targets, message):
    with pytest.raises((ValueError, TypeError), match=message):
        clone(model).fit(X, targets)


def test_labels_that_are_no_classes_are_refused():
    for targets in (np.zeros(40), np.full(40, "a")):
        with pytest.raises(ValueError, match=r"\by\b.*(two classes|one class)"):
            LogisticRegression().fit(X, targets)
    with pytest.raises(ValueError, match="label type"):
        LogisticRegression().fit(X, y.astype(object))
    with pytest.raises(TypeError, match="bytes"):
        LogisticRegression().fit(X, np.where(y, b"yes", b"no"))
    with pytest.raises(ValueError, match="continuous"):
        LogisticRegression().fit(X, X[:, 0] + 0.5)


def test_column_of_labels_is_taken_with_a_warning():
    with pytest.warns(DataConversionWarning):
        model = LogisticRegression().fit(X, y[:, None])
    np.testing.assert_array_equal(model.coef_, FITTED[LogisticRegression].coef_)


# Weights.


@by_name
@pytest.mark.parametrize(
    "weights",
    [
        np.ones(40),
        np.ones(40, int),
        np.ones(40, bool),
        [1] * 40,
        pd.Series(np.ones(40)),
        np.full(40, 2.0)[::-1],
        np.full(80, 1e-3)[::2],
        np.full(40, 1e-100),
        np.full(40, 1e100),
        np.full(40, 1e-300),
        3.0,
        None,
    ],
    ids=str,
)
def test_equal_weights_change_the_penalty_only(model, weights):
    weight = 1.0 if weights is None else float(np.ravel(weights)[0])
    plain, given = clone(model), clone(model)
    if isinstance(model, LogisticRegression):
        given.set_params(C=1.0 / weight)
    elif isinstance(model, Ridge):
        given.set_params(alpha=weight)
    given.fit(X, y, sample_weight=weights)
    np.testing.assert_allclose(given.coef_, plain.fit(X, y).coef_, 1e-8, 1e-10)


@by_name
@pytest.mark.parametrize(
    "weights",
    [
        -np.ones(40),
        np.where(y, 1.0, -1e-300),
        np.zeros(40),
        np.where(y, 1.0, np.nan),
        np.where(y, 1.0, np.inf),
        np.ones(39),
        np.ones((40, 2)),
        np.ones(40, complex),
        ["a"] * 40,
    ],
    ids=["neg", "tiny neg", "zero", "nan", "inf", "short", "2d", "complex", "words"],
)
def test_useless_weights_are_refused_by_name(model, weights):
    with pytest.raises(
        (ValueError, TypeError), match=r"(?i)sample.?weight|Complex|could not convert"
    ):
        clone(model).fit(X, y, sample_weight=weights)


@settings(max_examples=25, deadline=None)
@given(exponents=st.lists(st.integers(-12, 12), min_size=40, max_size=40))
def test_weights_over_many_decades_converge_or_say_so(exponents):
    weights = 10.0 ** np.array(exponents)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model = LogisticRegression().fit(X, y, sample_weight=weights)
    assert all(issubclass(w.category, ConvergenceWarning) for w in caught)
    assert model.result_.converged == (not caught)
    assert np.all(np.isfinite(model.coef_))
