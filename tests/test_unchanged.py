"""What a caller hands in stays as it was, and may be read-only."""

import copy

import numpy as np
import pytest
import scipy.sparse as sp
from public import ESTIMATORS, MODELS, X, calls, line, n
from sklearn.base import clone
from solver_list import SOLVERS, build, data

from subsampled_newton import (
    DirectLeastSquares,
    LinearRegression,
    LogisticRegression,
    NonlinearLeastSquares,
    Ridge,
    SketchedLeastSquares,
    minimize,
)

OPTIONS = {
    "sample_weight": np.arange(1.0, n + 1.0),
    "l2": np.array([0.1, 0.2]),
    "scale": np.array([1.0, 2.0]),
    "w0": np.array([0.1, 0.2]),
    "jacobian": None,
}
"""Arrays that a caller may add to the right arguments."""
NEEDS_A_FILE = ("load", "save", "datasets.load", "datasets.read_libsvm")


def parts(value):
    """The arrays that an argument consists of."""
    if isinstance(value, np.ndarray):
        yield value
    elif sp.issparse(value):
        yield from (value.data, value.indices, value.indptr)
    elif isinstance(value, dict):
        yield from map(np.asarray, [list(value), list(value.values())])
    elif isinstance(value, list):
        yield np.array(value)


def frozen(value):
    """The same argument, read-only."""
    same = copy.deepcopy(value)
    for array in parts(same):
        array.flags.writeable = False
    return same


def check(function, arguments):
    """Call with copies and with read-only copies; both must stay as they were."""
    for prepare in (copy.deepcopy, frozen):
        given = {
            name: prepare(value) if any(True for _ in parts(value)) else value
            for name, value in arguments.items()
        }
        function(**given)
        for name, value in arguments.items():
            for before, after in zip(parts(value), parts(given[name]), strict=True):
                assert before.dtype == after.dtype, name
                assert before.shape == after.shape, name
                assert before.tobytes() == after.tobytes(), name


RIGHT_CALLS = {
    name: (function, right, signature)
    for name, function, right, signature in calls()
    if not name.endswith(NEEDS_A_FILE) and name != "datasets.describe"
}


@pytest.mark.parametrize("name", RIGHT_CALLS)
def test_arguments_of_everything_public(name):
    function, right, signature = RIGHT_CALLS[name]
    added = {k: v for k, v in OPTIONS.items() if k in signature.parameters}
    if name == "multistart":  # a number there
        added.pop("scale")
    if name == "FiniteSum":
        added["l2"] = np.array([0.1, 0.2])
    if ".std" in name or ".cov" in name or ".wald" in name or "NonlinearModel" in name:
        added.pop("sample_weight", None)  # of the fit: none
    check(function, {**right, **added})


CONTAINERS = {
    "C": np.ascontiguousarray,
    "Fortran": np.asfortranarray,
    "float32": lambda a: a.astype(np.float32),
    "integers": lambda a: np.rint(4.0 * a).astype(np.int64),
    "csr": sp.csr_array,
    "csr int": lambda a: sp.csr_array(np.rint(4.0 * a).astype(np.int32)),
    "list": lambda a: a.tolist(),
}


@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize("cls", ESTIMATORS, ids=lambda cls: cls.__name__)
def test_arguments_of_fits(cls, container):
    if cls is NonlinearLeastSquares and "csr" in container:
        pytest.skip("takes no sparse data")
    matrix = CONTAINERS[container](X)
    weights = np.linspace(0.5, 2.0, n)
    arguments = {"X": matrix, "y": ESTIMATORS[cls], "sample_weight": weights}
    fits = []

    def fit(**given):
        fits.append(clone(MODELS[cls]).fit(**given))
        fits[-1].predict(given["X"])

    check(fit, arguments)


def test_options_of_estimators():
    weights = {-1.0: 1.0, 1.0: 2.0}
    y = ESTIMATORS[LogisticRegression]

    def fit(class_weight):
        LogisticRegression(class_weight=class_weight).fit(X, y)

    check(fit, {"class_weight": weights})
    check(
        lambda start: NonlinearLeastSquares(line, start).fit(X, ESTIMATORS[Ridge]),
        {"start": np.array([0.0, 1.0])},
    )
    two = np.column_stack([ESTIMATORS[Ridge], ESTIMATORS[Ridge] ** 2])
    for cls in (Ridge, LinearRegression):
        check(cls().fit, {"X": X, "y": two})


MORE = {
    "direct": (DirectLeastSquares(), "least-squares"),
    "qr": (DirectLeastSquares("qr"), "least-squares"),
    "sketched": (SketchedLeastSquares(), "least-squares"),
    "iterative": (SketchedLeastSquares("iterative"), "least-squares"),
}


@pytest.mark.parametrize("name", [*SOLVERS, *MORE])
def test_problem_and_start_of_every_solver(name):
    solver, kind = MORE[name] if name in MORE else SOLVERS[name][:2]
    kind = kind if isinstance(kind, str) else kind[0]
    rows, y = data(kind, n=120, d=3)
    weights = np.linspace(0.5, 2.0, len(y))
    size = build(kind, rows, y).n_params

    def run(X, y, weights, w0, l2):
        problem = build(kind, X, y, None if kind == "custom" else weights, l2)
        minimize(problem, solver, w0, seed=0, max_iter=4)

    check(
        run,
        {
            "X": rows,
            "y": y,
            "weights": weights,
            "w0": np.full(size, 0.1),
            "l2": np.full(3, 0.1),
        },
    )
