"""Passes and props agree with what an instrumented problem was asked for."""

import contextlib

import pytest
from solver_list import SOLVERS, Custom, data

from subsampled_newton import FiniteSum, minimize
from subsampled_newton.columns import Work
from subsampled_newton.problem import GenericLine


class CountedWork(Work):
    """Counters that know whether they stand still."""

    still = 0

    @contextlib.contextmanager
    def uncounted(self):
        self.still += 1
        with super().uncounted():
            yield
        self.still -= 1


class Instrumented(FiniteSum):
    """A problem that keeps its own books of the samples it is asked for."""

    def __init__(self, problem):
        super().__init__(problem.n_samples, problem.n_params, problem.l2)
        self.problem, self.convex = problem, problem.convex
        self.work = CountedWork()
        self.asked = {"value": 0, "gradient": 0, "product": 0, "trial": 0}

    def note(self, what, rows):
        if not self.work.still:
            self.asked[what] += self.n_samples if rows is None else len(rows)

    def value(self, w, rows=None):
        self.note("value", rows)
        return self.problem.value(w, rows)

    def gradient(self, w, rows=None):
        self.note("gradient", rows)
        return self.problem.gradient(w, rows)

    def hess_vec(self, w, rows, v):
        self.note("product", rows)
        return self.problem.hess_vec(w, rows, v)

    gauss_newton_vec = hess_vec


@pytest.fixture
def trials(monkeypatch):
    """Count the trials of lines where they are made."""
    called = GenericLine.__call__

    def counted(self, t):
        problem = self.start.problem
        whole = getattr(problem, "parent", problem)  # of a sample
        whole.note("trial", range(problem.n_samples))
        return called(self, t)

    monkeypatch.setattr(GenericLine, "__call__", counted)


def check(problem, result):
    """Reads: all that was asked for. Props: 2 a gradient and a product, 1 a trial."""
    asked = problem.asked
    read = asked["value"] + asked["gradient"] + asked["product"]
    assert round(result.passes * problem.n_samples) == read
    expected = 2 * asked["gradient"] + 2 * asked["product"] + asked["trial"]
    assert result.props == 1 + expected
    assert read > 0


CUSTOM = {name: entry for name, entry in SOLVERS.items() if "custom" in entry.kinds}


@pytest.mark.parametrize("name", CUSTOM)
@pytest.mark.usefixtures("trials")
def test_every_solver_counts_what_it_asks_for(name):
    entry = CUSTOM[name]
    X, y = data("custom", n=300, d=4)
    problem = Instrumented(Custom(X, y, 1e-2))
    result = minimize(problem, entry.solver, tol=1e-5, max_iter=50, seed=0)
    check(problem, result)
