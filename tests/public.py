"""All that is public, with right arguments, found through the signatures."""

import inspect
import math
import warnings

import numpy as np
from sklearn.base import clone

import datasets
import subsampled_newton
from subsampled_newton import (
    LBFGS,
    LOGISTIC,
    SQUARED,
    FiniteSum,
    LinearModel,
    LinearRegression,
    LogisticRegression,
    NonlinearLeastSquares,
    Ridge,
    SigmoidLeastSquaresClassifier,
    minimize,
)

rng = np.random.default_rng(0)
n, d = 12, 2
X = rng.standard_normal((n, d))
SIGNS = np.resize([1.0, -1.0, -1.0], n)  # nothing separates them
REAL = X @ [1.0, -1.0] + rng.standard_normal(n)
PROBLEM = LinearModel(LOGISTIC, X, SIGNS, l2=0.1)
SQUARES = LinearModel(SQUARED, X, REAL, l2=0.1)


def line(p, x):
    return p[0] + p[1] * x[0]


def f(z, y):
    return 0.5 * (z - y) * (z - y)


def f1(z, y):
    return z - y


def f2(z, y):
    return 1.0


def cube(z):
    return z


ESTIMATORS = {
    LogisticRegression: SIGNS,
    SigmoidLeastSquaresClassifier: SIGNS,
    Ridge: REAL,
    LinearRegression: REAL,
    NonlinearLeastSquares: REAL,
}

RIGHT = {
    "Columns": {"scale": np.ones(2), "shift": np.zeros(2), "intercept": True},
    "FiniteSum": {"n_samples": 3, "n_params": 2},
    "LinearModel": {"loss": SQUARED, "X": X, "y": REAL},
    "NonlinearModel": {"function": line, "X": X, "y": REAL, "n_params": 2},
    "PointwiseLoss": {"name": "mine", "value": f, "d1": f1, "d2": f2},
    "SoftmaxModel": {"X": X, "y": np.arange(n) % 3},
    "as_rows": {"X": X},
    "certify": {"problem": PROBLEM, "w": np.zeros(d)},
    "check_derivatives": {"problem": PROBLEM, "w": np.zeros(d)},
    "choose_least_squares": {"problem": SQUARES},
    "coherence": {"scores": np.full(n, 0.5)},
    "device_memory_needed": {"problem": PROBLEM, "solver": LBFGS()},
    "leverage_scores": {"X": X, "method": "sketch", "rng": rng},
    "link_squared": {"name": "mine", "h": cube, "h1": cube, "h2": cube},
    "load": {},
    "memory_needed": {"problem": PROBLEM, "solver": LBFGS()},
    "datasets.load": {"name": "a9a"},
    "datasets.read_libsvm": {"source": "/nowhere", "n_features": 2},
    "minimize": {"problem": PROBLEM, "solver": LBFGS(), "max_iter": 2},
    "multistart": {"problem": PROBLEM, "solver": LBFGS(), "max_iter": 2},
    "smoothness": {"problem": PROBLEM},
}
MADE_HERE = {
    "Certificate", "Checkpoint", "Diagnosis", "Result", "Rows", "Smoothness", "Start",
    "State", "Status", "Trace", "WaldTests",
}  # fmt: skip
"""Classes whose objects the package makes; nobody calls them."""


class Own(FiniteSum):
    """An objective of one's own, of which only the counts matter here."""

    value = gradient = hess_vec = None


def fitted(cls):
    if cls is LogisticRegression:
        return clone(MODELS[cls]).set_params(C=math.inf).fit(X, SIGNS)
    return clone(MODELS[cls]).fit(X, ESTIMATORS[cls])


MODELS = {
    cls: cls(line, [0.0, 0.0]) if cls is NonlinearLeastSquares else cls()
    for cls in ESTIMATORS
}


def fit_with(cls):
    def call(**kwargs):
        model = clone(MODELS[cls])
        vars(model).update(kwargs)  # set_params of a solver looks into it
        return model.fit(X, ESTIMATORS[cls])

    return call


def methods(cls):
    """Public methods that the package writes, not scikit-learn."""
    for name, method in inspect.getmembers(cls, inspect.isfunction):
        ours = method.__module__.startswith("subsampled_newton")
        if ours and not name.startswith("_"):
            yield name, method


def calls():
    """Name, function, right arguments and signature of all that is public."""
    for name in subsampled_newton.__all__:
        public = getattr(subsampled_newton, name)
        if name in MADE_HERE or not callable(public):
            continue
        signature = inspect.signature(public)
        if public not in ESTIMATORS:
            function = Own if public is FiniteSum else public
            yield name, function, RIGHT.get(name, {}), signature
            continue
        yield name, fit_with(public), {}, signature
        for method, function in methods(public):
            parameters = [*inspect.signature(function).parameters.values()][1:]
            right = {"X": X, "y": ESTIMATORS[public]}
            right = {p.name: right[p.name] for p in parameters if p.name in right}

            def call(public=public, method=method, **kwargs):
                model = MODELS[public] if method == "fit" else FITTED[public]
                return getattr(clone(model) if method == "fit" else model, method)(
                    **kwargs
                )

            yield f"{name}.{method}", call, right, inspect.Signature(parameters)
    for result in (RESULT, RESULT.checkpoint):
        save = result.save
        yield f"{type(result).__name__}.save", save, {}, inspect.signature(save)
    for name in datasets.__all__:
        public = getattr(datasets, name)
        if public is not datasets.DataSet:
            right = RIGHT.get(f"datasets.{name}", {})
            yield f"datasets.{name}", public, right, inspect.signature(public)


with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    FITTED = {cls: fitted(cls) for cls in ESTIMATORS}
RESULT = minimize(PROBLEM, LBFGS())
