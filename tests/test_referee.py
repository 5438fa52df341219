"""The solver files for benchopt: the translation, and a run where it is installed."""

import importlib.util
import os
import shutil
import subprocess
import sys
import types
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
import pytest
import scipy.optimize
import scipy.sparse

from subsampled_newton.estimators import SOLVERS

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "bench" / "referee"
FILES = ("ssn", "ssn_fit")
try:
    BENCHOPT = version("benchopt")
except PackageNotFoundError:
    BENCHOPT = None

OBJECTIVE = """
import numpy as np
from benchopt import BaseObjective


class Objective(BaseObjective):
    name = "sum-form"
    min_benchopt_version = "1.10"
    parameters = {"lmbd": [0.5], "fit_intercept": [False, True]}

    def set_data(self, X, y):
        self.X, self.y = X, y

    def get_objective(self):
        return dict(
            X=self.X, y=self.y, lmbd=self.lmbd, fit_intercept=self.fit_intercept
        )

    def evaluate_result(self, beta):
        c = 0.0
        if self.fit_intercept:
            beta, c = beta[:-1], beta[-1]
        margins = self.y * (self.X @ beta + c)
        loss = np.logaddexp(0.0, -margins).sum()
        return dict(value=loss + 0.5 * self.lmbd * beta @ beta)

    def get_one_result(self):
        return dict(beta=np.zeros(self.X.shape[1] + self.fit_intercept))
"""
DATA = """
import numpy as np
from benchopt import BaseDataset


class Dataset(BaseDataset):
    name = "simulated"

    def get_data(self):
        rng = np.random.default_rng(0)
        X = rng.standard_normal((400, 5))
        y = np.where(X @ np.arange(5) + 3.0 * rng.logistic(size=400) > 2.0, 1.0, -1.0)
        return dict(X=X, y=y)
"""


def data():
    """As the data set of the benchmark."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((400, 5))
    y = np.where(X @ np.arange(5) + 3.0 * rng.logistic(size=400) > 2.0, 1.0, -1.0)
    return X, y


def objective(X, y, lmbd, fit_intercept):
    def value(beta):
        w, c = (beta[:-1], beta[-1]) if fit_intercept else (beta, 0.0)
        return np.logaddexp(0.0, -y * (X @ w + c)).sum() + 0.5 * lmbd * w @ w

    return value


def smallest(X, y, lmbd, fit_intercept):
    """The least value, by SciPy."""
    start = np.zeros(X.shape[1] + fit_intercept)
    value = objective(X, y, lmbd, fit_intercept)
    return scipy.optimize.minimize(value, start, method="BFGS", tol=1e-9).fun


class Base:
    """What benchopt offers a solver, as far as the files need it."""

    def __init__(self, **parameters):
        vars(self).update(parameters)

    def get_seed(self, use_repetition=False):
        return 1

    def run_once(self, stop_val=1):
        calls = iter(range(stop_val)) if isinstance(stop_val, int) else None
        self.run(stop_val if calls is None else lambda: next(calls, None) is not None)


@pytest.fixture
def solver_class(monkeypatch):
    """Load a solver file with a stand-in for benchopt."""
    stand_in = types.ModuleType("benchopt")
    stand_in.BaseSolver = Base
    monkeypatch.setitem(sys.modules, "benchopt", stand_in)

    def load(name):
        spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module.Solver

    return load


@pytest.mark.parametrize("fit_intercept", [False, True])
@pytest.mark.parametrize("lmbd", [0.5, 20.0])
def test_a_solver_minimizes_the_sum_of_the_benchmark(solver_class, lmbd, fit_intercept):
    X, y = data()
    solver = solver_class("ssn")(solver="newton")
    solver.set_objective(X=X, y=y, lmbd=lmbd, fit_intercept=fit_intercept)
    calls = iter(range(30))
    solver.run(lambda: next(calls, None) is not None)
    value = objective(X, y, lmbd, fit_intercept)(**solver.get_result())
    assert value == pytest.approx(smallest(X, y, lmbd, fit_intercept), rel=1e-9)


@pytest.mark.parametrize("fit_intercept", [False, True])
def test_a_whole_fit_minimizes_the_sum_of_the_benchmark(solver_class, fit_intercept):
    X, y = data()
    solver = solver_class("ssn_fit")()
    solver.set_objective(X=X, y=y, lmbd=20.0, fit_intercept=fit_intercept)
    solver.run(1e-9)
    value = objective(X, y, 20.0, fit_intercept)(**solver.get_result())
    assert value == pytest.approx(smallest(X, y, 20.0, fit_intercept), rel=1e-9)


def test_tolerances_of_whole_fits_fall_fast(solver_class):
    solver, tolerances = solver_class("ssn_fit")(), [3e38]
    while tolerances[-1] > 1e-9:
        tolerances.append(solver.get_next(tolerances[-1]))
    assert tolerances[1] == 0.1
    assert len(tolerances) == 6


def test_the_callback_sees_the_start_and_ends_the_run(solver_class):
    X, y = data()
    solver = solver_class("ssn")(solver="newton")
    solver.set_objective(X=X, y=y, lmbd=0.5)
    seen = []

    def report():
        seen.append(solver.get_result()["beta"])
        return len(seen) < 3

    solver.run(report)
    assert len(seen) == 3
    assert not np.any(seen[0])
    assert np.any(seen[1] != seen[2])
    assert np.array_equal(solver.get_result()["beta"], seen[2])


def test_named_solvers_run_on_sparse_rows(solver_class):
    X, y = data()
    Solver = solver_class("ssn")
    names = Solver.parameters["solver"]
    assert set(names) <= set(SOLVERS)
    for name in ("multilevel-newton", "lbfgs", "saga"):
        solver = Solver(solver=name)
        sparse = scipy.sparse.csr_matrix(X)
        assert solver.skip(sparse, y, 0.5) == (False, None)
        solver.set_objective(X=sparse, y=y, lmbd=0.5)
        solver.warm_up()
        calls = iter(range(4))
        solver.run(lambda calls=calls: next(calls, None) is not None)
        value = objective(X, y, 0.5, False)(**solver.get_result())
        assert value < len(y) * np.log(2.0), name


def test_other_objectives_are_refused_with_a_reason(solver_class):
    X, y = data()
    refused, reason = solver_class("ssn")(solver="newton").skip(X, y + 1.0, 0.5)
    assert refused
    assert "labels" in reason
    refused, reason = solver_class("ssn_fit")().skip(X, y, 0.0)
    assert refused
    assert "penalty" in reason


@pytest.mark.skipif(
    BENCHOPT is None, reason="benchopt is not installed: pip install benchopt"
)
def test_benchopt_runs_the_files(tmp_path):
    """A minimal benchmark, by the command line, in a process of its own."""
    pandas = pytest.importorskip("pandas")
    home = tmp_path / "minimal"
    (home / "datasets").mkdir(parents=True)
    (home / "solvers").mkdir()
    (home / "objective.py").write_text(OBJECTIVE)
    (home / "datasets" / "simulated.py").write_text(DATA)
    for name in FILES:
        shutil.copy(FOLDER / f"{name}.py", home / "solvers")
    chosen = ("subsampled-newton[solver=[newton,lbfgs]]", "subsampled-newton-fit")
    command = [sys.executable, "-m", "benchopt", "run", str(home), "-n", "12"]
    for solver in chosen:
        command += ["-s", solver]
    command += ["--no-plot", "--no-html", "--no-display", "--no-cache", "--output", "r"]
    done = subprocess.run(
        command,
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT), "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    (path,) = home.glob("outputs/*.parquet")
    rows = pandas.read_parquet(path)
    X, y = data()
    found = set()
    for (objective_name, solver), own in rows.groupby(
        ["objective_name", "solver_name"]
    ):
        found.add(solver)
        intercept = "fit_intercept=True" in objective_name
        best = smallest(X, y, 0.5, intercept)
        assert own["objective_value"].min() == pytest.approx(best, rel=1e-8)
    assert len(found) == 3
