"""Wrong calls of everything public: each answer names the argument, in few words.

The calls are made from the signatures: every parameter of every public function, class
and method has a kind, every kind its wrong values. A parameter that is not in the table
fails a test, so that what is new has to say what it refuses.
"""

import copy
import math
import os
import pickle
import pydoc
import re
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from public import (
    ESTIMATORS,
    FITTED,
    MODELS,
    PROBLEM,
    REAL,
    SIGNS,
    X,
    calls,
    d,
    line,
    n,
)
from sklearn.base import clone

from subsampled_newton import (
    LBFGS,
    LOGISTIC,
    POISSON,
    SIGMOID_SQUARED,
    SQUARED,
    TANH_SQUARED,
    LinearModel,
    LogisticRegression,
    NonlinearLeastSquares,
    NonlinearModel,
    SoftmaxModel,
    Status,
    SubsampledNewton,
    huber,
    minimize,
    tukey,
)

LONGEST = 300


class Opaque:
    """An object of no use."""

    def __repr__(self):
        return "<an opaque object>"


# Wrong values by kind. Each with the name it has in the test.

HUGE = 10**400
NOT_A_NUMBER = {
    "None": None,
    "text": "three",
    "complex": 1j,
    "list": [1.0, 2.0],
    "array": np.ones(2),
    "object": Opaque(),
    "nan": math.nan,
    "huge": HUGE,
    "True": True,
}
NEGATIVE = {"negative": -1.0}
ZERO = {"zero": 0.0}
INF = {"inf": math.inf}
NOT_A_COUNT = {**NOT_A_NUMBER, **NEGATIVE, "half": 1.5, "-1": -1}
NOT_A_CHOICE = {
    "None": None,
    "text": "nonsense",
    "number": 3,
    "object": Opaque(),
    "list": ["auto"],
    "array": np.ones(2),
}
NOT_CALLABLE = {"None": None, "text": "f", "number": 3.0, "array": np.ones(2)}
NOT_AN_OBJECT = {
    "None": None,
    "text": "newtown",
    "number": 3.0,
    "class": Opaque,
    "object": Opaque(),
    "array": np.ones((2, 2)),
}


def spoilt(array, value, dtype=None):
    bad = np.array(array, dtype=dtype)
    bad.flat[-1] = value
    return bad


NOT_REAL = {
    "None": None,
    "text": "abc",
    "object": Opaque(),
    "dictionary": {"a": 1.0},
    "ragged": [[1.0], [1.0, 2.0]],
}
NOT_A_MATRIX = {
    **NOT_REAL,
    "number": 3.0,
    "vector": X[:, 0],
    "3-D": X[None],
    "no rows": X[:0],
    "no columns": X[:, :0],
    "complex": X + 1j,
    "strings": np.full((n, d), "a"),
    "objects": np.full((n, d), Opaque(), dtype=object),
    "dates": np.zeros((n, d), dtype="M8[s]"),
    "records": np.zeros((n, d), dtype=[("a", float)]),
    "complex sparse": sp.csr_array(X + 1j),
}
NOT_FINITE_MATRIX = {
    "nan": spoilt(X, math.nan),
    "inf": spoilt(X, math.inf),
    "nan sparse": sp.csr_array(spoilt(X, math.nan)),
    "other rows": X[:-1],
}
NOT_A_VECTOR = {
    **NOT_REAL,
    "number": 3.0,
    "3-D": np.ones((n, 1, 1)),
    "empty": np.ones(0),
    "short": np.ones(n - 1),
    "complex": np.ones(n) + 1j,
    "strings": np.full(n, "a"),
    "objects": np.full(n, Opaque(), dtype=object),
    "dates": np.zeros(n, dtype="M8[s]"),
    "spans": np.zeros(n, dtype="m8[s]"),
}
COLUMN = {"column": np.ones((n, 1))}
NOT_FINITE = {
    "nan": spoilt(SIGNS, math.nan),
    "inf": spoilt(SIGNS, math.inf),
}
NOT_WEIGHTS = {
    **{k: v for k, v in NOT_A_VECTOR.items() if k not in ("None", "number")},
    **COLUMN,
    "nan": spoilt(np.ones(n), math.nan),
    "inf": spoilt(np.ones(n), math.inf),
    "negative": spoilt(np.ones(n), -1.0),
    "zeros": np.zeros(n),
}
NOT_PARAMETERS = {
    **NOT_REAL,
    "short": np.ones(1),
    "matrix": np.ones((d, 1)),
    "complex": np.ones(d) + 1j,
    "strings": ["a", "b"],
    "nan": [math.nan, 0.0],
}
NOT_RIDGE = {
    **NOT_REAL,
    "negative": -1.0,
    "one negative": [1.0, -1.0],
    "nan": math.nan,
    "inf": math.inf,
    "long": np.ones(d + 1),
    "complex": 1j,
}
KINDS = {
    "> 0": {**NOT_A_NUMBER, **ZERO, **NEGATIVE, **INF},
    ">= 0": {**NOT_A_NUMBER, **NEGATIVE, **INF},
    "limit": {**NOT_A_NUMBER, **NEGATIVE},
    "in (0, 1)": {**NOT_A_NUMBER, **ZERO, **NEGATIVE, **INF, "1": 1.0},
    "in (0.0, 1.0]": {**NOT_A_NUMBER, **ZERO, **NEGATIVE, **INF, "2.0": 2.0, "1": 1},
    "in [0, 1)": {**NOT_A_NUMBER, **NEGATIVE, **INF, "1": 1.0},
    "in [0, 1]": {**NOT_A_NUMBER, **NEGATIVE, **INF, "2.0": 2.0},
    "> 1": {**NOT_A_NUMBER, **NEGATIVE, **INF, "1": 1.0},
    "size": {**NOT_A_NUMBER, **ZERO, **NEGATIVE, **INF, "1.5": 1.5},
    "number": {**NOT_A_NUMBER, **INF},
    "count": {**NOT_A_COUNT, "0": 0},
    "count from 0": NOT_A_COUNT,
    "count or None": NOT_A_COUNT,
    "count from 2": {**NOT_A_COUNT, "1": 1},
    "choice": NOT_A_CHOICE,
    "choice or None": {k: v for k, v in NOT_A_CHOICE.items() if v is not None},
    "flag": {**NOT_A_CHOICE},
    "rule or > 0": {**NOT_A_NUMBER, **ZERO, **NEGATIVE, **INF},
    "rule or in [0, 1)": {**NOT_A_NUMBER, **NEGATIVE, **INF, "1": 1.0},
    "rule or count": {**NOT_A_COUNT, "0": 0},
    "size or rule": {**NOT_A_NUMBER, **ZERO, **NEGATIVE, **INF, "1.5": 1.5},
    "function": NOT_CALLABLE,
    "object": NOT_AN_OBJECT,
    "matrix": NOT_A_MATRIX,
    "matrix of a fit": {**NOT_A_MATRIX, **NOT_FINITE_MATRIX},
    "matrix to predict": {
        **NOT_A_MATRIX,
        "nan": NOT_FINITE_MATRIX["nan"],
        "one column": X[:, :1],
    },
    "labels": {k: v for k, v in {**NOT_A_VECTOR, **NOT_FINITE}.items()}
    | {"one class": np.ones(n), "real": REAL},
    "targets": {**NOT_A_VECTOR, **NOT_FINITE},
    "real targets": {**NOT_A_VECTOR, **NOT_FINITE, **COLUMN},
    "codes": {
        **NOT_A_VECTOR,
        **COLUMN,
        "reals": REAL,
        "negative": np.full(n, -1),
    },
    "weights": NOT_WEIGHTS,
    "parameters": NOT_PARAMETERS,
    "start": {k: v for k, v in NOT_PARAMETERS.items() if k != "short"},
    "ridge": NOT_RIDGE,
    "scores": {
        **{k: v for k, v in NOT_A_VECTOR.items() if k != "short"},
        **COLUMN,
        "nan": spoilt(np.ones(n), math.nan),
    },
    "range": {
        "None": None,
        "number": 1.0,
        "text": "ab",
        "one": (1.0,),
        "wrong way round": (2.0, 1.0),
        "nan": (math.nan, 1.0),
        "words": ("a", "b"),
    },
    "name": {"None": None, "number": 3, "list": ["a"], "array": np.ones(2)},
    "path": {"None": None, "number": 3.5, "list": ["a"], "object": Opaque()},
    "seed": {
        "text": "seven",
        "negative": -1,
        "real": 1.5,
        "object": Opaque(),
        "nan": math.nan,
    },
    "generator": {"number": 3.5, "text": "seven", "object": Opaque()},
    "threads": {"text": "two", "real": 1.5, "0": 0, "object": Opaque()},
    "verbosity": {"None": None, "text": "loud", "object": Opaque(), "-1": -1},
    "class weight": {
        "text": "even",
        "number": 2.0,
        "list": [1.0, 2.0],
        "negative": {-1: -1.0, 1: 1.0},
        "nan": {-1: math.nan, 1: 1.0},
        "inf": {-1: math.inf, 1: 1.0},
        "words": {-1: "a", 1: 1.0},
        "None inside": {-1: None, 1: 1.0},
        "unknown label": {7: 1.0},
    },
    "resume": {"text": "file", "number": 3, "object": Opaque(), "class": Opaque},
    "array": NOT_REAL,
    "lower bound": {**NOT_A_NUMBER, **INF},
    "array or None": {k: v for k, v in NOT_REAL.items() if v is not None},
}
# Parameters by name; and where a name means something else, by call.

NAMES = {
    "> 0": "radius sigma sigma_min smoothness eps_h k0 mu c rank step_size C",
    ">= 0": "alpha perturbation",
    "limit": "tol max_passes max_time eps_g",
    "in (0, 1)": "theta1 theta2 gradient_rate c1 c2 shrink very_good good "
    "gradient_sample ema_decay eps delta rtol",
    "in (0.0, 1.0]": "fraction",
    "in [0, 1]": "acceleration",
    "in [0, 1)": "momentum",
    "> 1": "factor",
    "size": "size",
    "size or rule": "hessian_sample",
    "count": "memory max_inner max_trials max_backtracks score_refresh batch_size "
    "visits n_init n_starts n_samples n_params n_features n",
    "count from 0": "patience max_iter",
    "count from 2": "sketch_size n_classes",
    "rule or count": "length",
    "choice or None": "preconditioner",
    "choice": "sigma_rule iteration line_search scaling sampling schedule averaging "
    "snapshot curvature subproblem linear_solver method embedding bound device targets",
    "flag": "adaptive_gradient paper_compat adaptive restart fit_intercept "
    "warm_start intercept full_trace progress sandwich final_newline",
    "verbosity": "verbose",
    "function": "function jacobian value d1 d2 gauss_newton h h1 h2 callback",
    "object": "solver start problem loss",
    "matrix": "X",
    "real targets": "y",
    "weights": "sample_weight",
    "parameters": "w w0",
    "ridge": "l2",
    "array or None": "noise",
    "lower bound": "least",
    "array": "scale shift",
    "count or None": "n_rows n_entries max_bytes",
    "scores": "scores",
    "range": "d2_range",
    "name": "name formula",
    "path": "path folder source",
    "seed": "seed random_state",
    "generator": "rng",
    "threads": "n_jobs",
    "class weight": "class_weight",
    "resume": "resume",
}
BY_NAME = {name: kind for kind, names in NAMES.items() for name in names.split()}
BY_CALL = {
    **{f"{name}.fraction": "> 0" for name in ("SAG", "SAGA", "SVRG")},
    "certify.eps_h": "> 0",
    "coherence.rank": ">= 0",
    "coherence.scores": "scores",
    "check_derivatives.y": "number",
    "datasets.load.name": "choice",
    "datasets.describe.name": "choice",
    "check_derivatives.rtol": "> 0",
    "choose_least_squares.tol": ">= 0",
    "huber.delta": "> 0",
    "pseudo_huber.delta": "> 0",
    "DirectLeastSquares.rtol": "in [0, 1)",
    "SketchedLeastSquares.rtol": "in [0, 1)",
    "NonlinearLeastSquares.start": "start",
    "SoftmaxModel.y": "codes",
    "multistart.scale": "> 0",
}


def kind_of(call, parameter):
    """Kind of a parameter of a call."""
    owner, _, method = call.partition(".")
    name = parameter.name
    if f"{call}.{name}" in BY_CALL:
        return BY_CALL[f"{call}.{name}"]
    if method and name == "X":
        return "matrix of a fit" if method in FITS else "matrix to predict"
    if method and name == "y":
        return "labels" if "Classifier" in owner or "Log" in owner else "targets"
    if isinstance(parameter.default, str) and name in ("step_size", "momentum"):
        return f"rule or {'> 0' if name == 'step_size' else 'in [0, 1)'}"
    assert name in BY_NAME, f"{call}: what is a wrong {name!r}? See NAMES"
    return BY_NAME[name]


FITS = ("fit", "std_errors", "cov_params", "wald_tests", "diagnose")


def cases():
    """Every wrong call."""
    for call, function, right, signature in calls():
        for parameter in signature.parameters.values():
            if parameter.kind is parameter.VAR_KEYWORD:  # those of another function
                continue
            wrong = dict(KINDS[kind_of(call, parameter)])
            if parameter.default is None or "None" in str(parameter.annotation):
                wrong.pop("None", None)
            if parameter.default == math.inf or parameter.name in ("C", "tol"):
                wrong.pop("inf", None)
            if call in map(lambda c: c.__name__, ESTIMATORS):
                wrong.pop("True", None)  # scikit-learn takes it for 1
                wrong.pop("huge", None)
            for label, value in wrong.items():
                yield pytest.param(
                    function, {**right, parameter.name: value}, parameter.name,
                    id=f"{call}-{parameter.name}-{label}",
                )  # fmt: skip


def what_came(value):
    """Pieces of text, one of which tells what came."""
    yield repr(value)[:16]
    yield value.__name__ if isinstance(value, type) else type(value).__name__
    if isinstance(value, dict):
        yield from (f"got {part!r}" for part in (*value, *value.values()))
    if isinstance(value, list | tuple):
        yield from ("several lengths", "inhomogeneous")
        yield from (repr(part) for part in value)
        if value is not NOT_REAL["ragged"]:
            yield f"dtype {np.asarray(value).dtype}"
    if hasattr(value, "shape"):
        yield from (str(value.shape), f"dtype {value.dtype}", f"{value.ndim}D")
        yield from (f"dim {value.ndim}", f"{value.shape[-1]} features")
        yield from (f"[{value.shape[0]}, ", f", {value.shape[0]}]")
        entries = (value.data if sp.issparse(value) else value).ravel()[-1:]
        for entry in entries.tolist():
            yield from (f"got {entry}", repr(entry), f"'{type(entry).__name__}'")
        yield from {
            "c": ["Complex"], "f": ["NaN", "infinity", "Negative", "zero"],
        }.get(value.dtype.kind, [])  # fmt: skip
        yield from ("one class", "continuous", "labels that", "label type", "Sparse")


ALLOWED = re.compile(
    r"\b(must|needs?|Expected|expected|at least|cannot|should|only)\b|>="
)


CASES = list(cases())


@pytest.mark.parametrize(("function", "arguments", "name"), CASES)
def test_a_wrong_argument_is_answered(function, arguments, name):
    with pytest.raises((TypeError, ValueError)) as caught:
        function(**arguments)
    text, value = str(caught.value), arguments[name]
    assert len(text) <= LONGEST, text
    assert re.search(rf"\b{name}\b", text), text
    assert any(piece in text for piece in what_came(value)), text
    assert ALLOWED.search(text), text


def test_the_cases_are_many_and_the_right_calls_are_right():
    """Nothing is refused for another reason than the wrong argument."""
    assert len(CASES) > 2000
    needs_a_file = ("load", "save", "datasets.load", "datasets.read_libsvm")
    for name, function, right, _ in calls():
        if not name.endswith(needs_a_file) and name != "datasets.describe":
            function(**right)


# What the table does not show.


def told(function, *arguments, **keywords):
    """The message of a refusal."""
    with pytest.raises((TypeError, ValueError)) as caught:
        function(*arguments, **keywords)
    text = str(caught.value)
    assert len(text) <= LONGEST
    return text


def test_names_of_solvers_are_for_estimators():
    text = told(minimize, PROBLEM, "newton")
    for part in ("solver must be", "SubsampledNewton()", "LogisticRegression(solver="):
        assert part in text
    assert "got the class LBFGS" in told(minimize, PROBLEM, LBFGS)
    misspelt = told(LogisticRegression(solver="newton_cg").fit, X, SIGNS)
    assert "Got 'newton_cg', perhaps 'newton-cg'" in misspelt


@pytest.mark.parametrize("cls", ESTIMATORS, ids=lambda cls: cls.__name__)
def test_an_unknown_parameter_is_that_of_the_class(cls):
    required = (line, [1.0]) if cls is NonlinearLeastSquares else ()
    text = told(cls, *required, penalty="l2")
    assert text.startswith(f"{cls.__name__}.__init__()")
    assert "'penalty'" in text


def test_two_names_of_one_penalty_are_not_both_taken():
    text = told(LogisticRegression(C=10.0, alpha=0.1).fit, X, SIGNS)
    assert "C and alpha must not both be given" in text
    assert "C=10.0 and alpha=0.1" in text
    LogisticRegression(alpha=0.1).fit(X, SIGNS)


TARGETS = {
    "NA": pd.Series(np.arange(n) % 2).astype("Int64").mask(SIGNS > 0),
    "category with None": pd.Series(["a", None, "b", "a"] * 3, dtype="category"),
    "category with nan": pd.Series([1.0, np.nan, 2.0, 1.0] * 3, dtype="category"),
    "3-D": np.ones((n, 1, 1)),
    "complex": SIGNS + 1j,
    "two rows": np.ones((2, n)),
    "scalar": 1.0,
    "dates": pd.Series(pd.date_range("2020", periods=n)),
    "spans": pd.Series(pd.to_timedelta(np.arange(n), unit="D")),
    "text": "yes",
    "periods": pd.Series(pd.period_range("2020", periods=n, freq="D")),
}


@pytest.mark.parametrize("cls", ESTIMATORS, ids=lambda cls: cls.__name__)
@pytest.mark.parametrize("name", TARGETS)
def test_errors_of_targets_name_them(cls, name):
    text = told(clone(MODELS[cls]).fit, X, TARGETS[name])
    assert text.startswith(("y must ", "X and y must "))


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize(
    "container", [np.array, sp.csr_array, np.asfortranarray, np.float32]
)
def test_data_that_are_not_finite_are_an_error_of_minimize(bad, container):
    data = X.copy()
    data[7, 1] = bad
    problem = LinearModel(LOGISTIC, container(data), SIGNS, l2=0.1)
    before = problem.work.rows_read
    text = told(minimize, problem, SubsampledNewton(1.0))
    assert text == f"X must be finite, got {bad} in row 7, column 1"
    assert problem.work.rows_read == before + n  # the read that any run begins with
    problem = NonlinearModel(line, data[:, ::-1], REAL, 2)
    assert "row 7, column 0" in told(minimize, problem, LBFGS())


def test_a_start_that_overflows_is_still_a_status():
    problem = LinearModel(LOGISTIC, 1e300 * X, SIGNS, l2=1.0)
    result = minimize(problem, SubsampledNewton(1.0), [1e300, 1.0])
    assert result.status is Status.NON_FINITE


def test_classes_without_rows_are_no_oversight():
    text = told(SoftmaxModel, X, 1 + np.arange(n) % 3)
    assert "y must hold classes 0, 1, ..." in text
    assert "got 3 different ones from 1 to 3" in text
    assert SoftmaxModel(X, 1 + np.arange(n) % 3, n_classes=4).outputs == (4,)


def test_help_shows_the_formula_of_a_loss():
    assert "exp(z) - y z" in pydoc.render_doc(POISSON)
    assert "log(1 + exp(-y z))" in pydoc.render_doc(LOGISTIC)
    for loss in (SQUARED, SIGMOID_SQUARED, TANH_SQUARED, huber(), tukey(2.0)):
        assert "z - y" in loss.__doc__ or "**2" in loss.__doc__


def test_a_status_is_stored_by_its_name():
    for status in Status:
        assert status.__reduce__() == (Status, (status.name,))
        assert pickle.loads(pickle.dumps(status)) is copy.deepcopy(status) is status
        assert Status(status.value) is Status(status.name) is status
    with pytest.raises(ValueError, match="nonsense"):
        Status("nonsense")


@pytest.mark.parametrize("cls", FITTED, ids=lambda cls: cls.__name__)
def test_skops_round_trip(cls):
    skops = pytest.importorskip("skops.io")
    if cls is NonlinearLeastSquares:
        return  # its function is code
    data = skops.dumps(FITTED[cls])
    trusted = skops.get_untrusted_types(data=data)
    model = skops.loads(data, trusted=trusted)
    assert model.result_.status is FITTED[cls].result_.status
    np.testing.assert_array_equal(model.predict(X), FITTED[cls].predict(X))


def test_array_api_dispatch_changes_nothing():
    code = """
import numpy as np, sklearn
from subsampled_newton import LogisticRegression, Ridge
X = np.random.default_rng(0).standard_normal((40, 2))
y = np.resize([0, 1, 1], 40)
plain = [m.fit(X, y).coef_ for m in (LogisticRegression(), Ridge())]
with sklearn.config_context(array_api_dispatch=True):
    for model, coef in zip((LogisticRegression(), Ridge()), plain):
        model.fit(X, y, sample_weight=np.ones(40)).predict(X)
        np.testing.assert_array_equal(model.fit(X, y).coef_, coef)
"""
    environment = {**os.environ, "SCIPY_ARRAY_API": "1"}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)
