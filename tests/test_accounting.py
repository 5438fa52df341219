"""What a run and a fit tell of their cost: all of it, whatever was done for it."""

import time

import numpy as np
import pytest
from solver_list import SOLVERS, build, data

from subsampled_newton import (
    LinearRegression,
    LogisticRegression,
    Ridge,
    SigmoidLeastSquaresClassifier,
    minimize,
)
from subsampled_newton.estimators import _base
from subsampled_newton.solvers import _driver

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
rng = np.random.default_rng(0)
X = rng.standard_normal((600, 4))
signal = X @ [2.0, -1.0, 0.5, 0.0] + rng.logistic(size=600)
binary = (signal > 0.0).astype(int)


@pytest.mark.parametrize("name", SOLVERS)
def test_every_read_of_a_run_is_told(name):
    entry = SOLVERS[name]
    for max_iter in (3, 200):
        problem = build(entry.kinds[0], *data(entry.kinds[0]))
        before = problem.work.rows_read
        result = minimize(problem, entry.solver, max_iter=max_iter, seed=0)
        reads = problem.work.rows_read - before
        assert result.passes == pytest.approx(reads / problem.n_samples, rel=1e-12)
        assert result.passes >= result.trace.passes[-1]
        assert result.seconds >= result.trace.seconds[-1]


def watched(model):
    """The model, which also keeps its problem and the reads before its fit."""

    class Watched(type(model)):
        def _problem(self, *args):
            problem = super()._problem(*args)
            self.watched = problem, problem.work.rows_read
            return problem

    model.__class__ = Watched
    return model


@pytest.mark.parametrize(
    "model",
    [
        LogisticRegression(),
        LogisticRegression(C=np.inf),
        LogisticRegression(C=np.inf, solver="lbfgs"),
        LogisticRegression(solver="saga"),
        LogisticRegression(C=1e6, solver="gradient-descent", max_iter=20),
        SigmoidLeastSquaresClassifier(n_init=3),
    ],
    ids=repr,
)
def test_every_read_of_a_fit_is_told(model):
    model = watched(model.set_params(warm_start=True))
    for rows in (X, X + 10.0, X[:, ::-1]):  # the later ones with a start to judge
        model.fit(rows, binary)
        problem, before = model.watched
        reads = problem.work.rows_read - before
        assert model.result_.passes == pytest.approx(reads / 600, rel=1e-12)


def test_separable_classes_are_found_at_a_cost_that_is_told():
    table = np.column_stack([X, np.arange(600) < 9])
    y = np.where(table[:, -1], 1, binary)
    model = watched(LogisticRegression(C=np.inf)).fit(table, y)
    problem, before = model.watched
    assert model.result_.status.name == "SEPARABLE"
    reads = problem.work.rows_read - before
    assert model.result_.passes == pytest.approx(reads / 600, rel=1e-12)


def slow(function, seconds=0.05):
    def waiting(*args, **kwargs):
        time.sleep(seconds)
        return function(*args, **kwargs)

    return waiting


@pytest.mark.parametrize(
    ("module", "name", "model"),
    [
        (_driver, "examined", LogisticRegression(C=np.inf)),
        (_base, "assured", LogisticRegression()),
        (_base, "assured", Ridge(solver="lbfgs")),
        (_base, "assured", LinearRegression(solver="newton")),
        (_base, "minimize", SigmoidLeastSquaresClassifier(n_init=4)),
    ],
)
def test_seconds_are_those_of_all_that_is_done(module, name, model, monkeypatch):
    monkeypatch.setattr(module, name, slow(getattr(module, name)))
    model.fit(X, binary)
    starts = getattr(model, "n_init", 1)
    assert model.result_.seconds >= 0.05 * starts
    assert model.result_.seconds > model.history_["seconds"][-1]
