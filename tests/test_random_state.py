"""Where random numbers come from: the seed of the fit, and nowhere else."""

import numpy as np
import pytest
from sklearn.base import clone

from subsampled_newton import (
    LinearRegression,
    LogisticRegression,
    NonlinearLeastSquares,
    Ridge,
    SigmoidLeastSquaresClassifier,
)

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
rng = np.random.default_rng(0)
X = rng.standard_normal((400, 3))
real = X @ [1.0, -1.0, 0.5] + rng.standard_normal(400)
binary = (real > 0.0).astype(int)


def line(p, x):
    return p[0] + p[1] * x[0]


MODELS = {
    "logistic": (LogisticRegression(), binary),
    "three classes": (LogisticRegression(), np.digitize(real, [-1.0, 1.0])),
    "sampled": (LogisticRegression(solver="subsampled-newton"), binary),
    "multilevel": (LogisticRegression(solver="multilevel-newton"), binary),
    "saga": (LogisticRegression(solver="saga"), binary),
    "sgd": (LogisticRegression(solver="sgd", max_iter=3), binary),
    "sigmoid": (SigmoidLeastSquaresClassifier(n_init=3), binary),
    "cubic": (SigmoidLeastSquaresClassifier(solver="subsampled-cubic"), binary),
    "ridge": (Ridge(), real),
    "sketch": (LinearRegression(solver="sketch"), real),
    "least squares": (LinearRegression(), real),
    "curve": (NonlinearLeastSquares(line, [0.0, 0.0]), real),
}


def fitted(model, y):
    model = clone(model).fit(X, y)
    coef = model.params_ if hasattr(model, "params_") else model.coef_
    return coef.tobytes(), tuple(model.history_["passes"])


@pytest.mark.parametrize("name", MODELS)
def test_no_seed_means_the_same_fit_every_time(name):
    model, y = MODELS[name]
    np.random.seed(1)  # noqa: NPY002  # the generator that must not matter
    first = fitted(model, y)
    np.random.seed(2)  # noqa: NPY002
    before = np.random.get_state()  # noqa: NPY002
    assert fitted(model, y) == first
    after = np.random.get_state()  # noqa: NPY002
    assert before[0] == after[0]
    assert before[2:] == after[2:]
    np.testing.assert_array_equal(before[1], after[1])


def test_default_fit_of_many_rows_is_the_same_every_time():
    X = np.random.default_rng(0).standard_normal((25_000, 2))
    y = X[:, 0] + np.random.default_rng(1).logistic(size=25_000) > 0.0
    first, second = (LogisticRegression().fit(X, y) for _ in range(2))
    assert type(first.result_.solver).__name__ == "MultilevelNewton"
    assert first.coef_.tobytes() == second.coef_.tobytes()


def test_a_seed_or_a_generator_is_used():
    model = LogisticRegression(solver="sgd", max_iter=3)
    first, other, same = (
        fitted(clone(model).set_params(random_state=seed), binary) for seed in (1, 2, 1)
    )
    assert first == same != other
    states = [np.random.RandomState(7) for _ in range(2)]
    made = [fitted(clone(model).set_params(random_state=s), binary) for s in states]
    assert made[0] == made[1]
    # An instance goes on from fit to fit.
    model.set_params(random_state=np.random.RandomState(7))
    draws = [model.fit(X, binary).coef_.tobytes() for _ in range(2)]
    assert draws[0] != draws[1]
