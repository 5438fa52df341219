"""The empirical study of second-order methods, its part on nonlinear least squares.

P. Xu, F. Roosta, M. W. Mahoney, Second-order optimization for non-convex machine
learning: an empirical study, SDM 2020.

``mean (sigmoid(x'w) - y)**2`` on ijcnn1 and covtype from three starts: zeros, ones, and
standard normal. Trust regions (first radius 10), cubic regularization (first sigma
1e-4), Gauss-Newton (Armijo, 20 steps of conjugate gradients) with all rows, with 5 % of
the rows at random, and with 5 % by the norms of rows; L-BFGS with memory 100. Then the
first radius and sigma over 1e-4 to 1e4, beside step sizes of stochastic gradients; and
a saddle at zero, for which a linear model of two layers stands in for the networks of
the study. Differences from the published code: the noise in the start of Lanczos is
standard normal, not divided by ``sqrt(d)``; the cubic model in the Krylov space is
minimized exactly; samples are drawn anew after three rejections in a row (there never);
samples by the norms of rows have probabilities ``0.9 p + 0.1 / n``; L-BFGS scales its
first matrix by ``s'y / y'y``; saddles are left by a certificate of the full Hessian;
and budgets are smaller than 1e8 props: cut to where the claims are decided.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray

from bench.reproduce import data
from bench.reproduce import empirical_study_results as results
from bench.reproduce.experiment import Claim, Scope, Task
from bench.reproduce.figure1 import load, stop_after
from bench.reproduce.figure1_results import COVTYPE, IJCNN1
from bench.reproduce.traces import trace_rows
from bench.reproduce.two_layers import TwoLayers
from subsampled_newton import (
    LBFGS,
    SGD,
    SIGMOID_SQUARED,
    CubicRegularization,
    LinearModel,
    State,
    SubsampledNewton,
    TrustRegion,
    minimize,
)

__all__ = ["EXPERIMENT", "EmpiricalStudy"]

Array = NDArray[np.float64]
CODE: dict[str, Any] = {"paper_compat": True, "eps_h": None, "max_inner": 250}
ARC: dict[str, Any] = {"sigma": 1e-4, "sigma_min": 1e-16}
GN: dict[str, Any] = {
    "linear_solver": "cg",
    "curvature": "gauss-newton",
    "preconditioner": None,
    "theta1": 1e-6,
    "max_inner": 20,
    "max_backtracks": 20,
}
SOLVERS: dict[str, Any] = {
    "trust-region": TrustRegion(1.0, **CODE),
    "subsampled-trust-region": TrustRegion(0.05, **CODE),
    "row-norms-trust-region": TrustRegion(0.05, "row-norms", **CODE),
    "cubic": CubicRegularization(1.0, **ARC, **CODE),
    "subsampled-cubic": CubicRegularization(0.05, **ARC, **CODE),
    "row-norms-cubic": CubicRegularization(0.05, "row-norms", **ARC, **CODE),
    "gauss-newton": SubsampledNewton(1.0, **GN),
    "subsampled-gauss-newton": SubsampledNewton(0.05, **GN),
    "row-norms-gauss-newton": SubsampledNewton(0.05, "row-norms", **GN),
    "lbfgs": LBFGS(memory=100, line_search="armijo"),
}
FULL = ("trust-region", "cubic", "gauss-newton", "lbfgs")
"""Without randomness of their own."""
STARTS = ("zeros", "ones", "normal")
SIZES = (1e-4, 1e-2, 1.0, 1e2, 1e4)
COVTYPE_SEEDS = 3
"""Of these many seeds, covtype sees the first: the study is to end in ten minutes."""
SADDLE: dict[str, Any] = {
    "trust-region": TrustRegion(1.0),
    "subsampled-trust-region": TrustRegion(0.1),
    "cubic": CubicRegularization(1.0),
    "subsampled-cubic": CubicRegularization(0.1),
    "gauss-newton": SubsampledNewton(1.0, linear_solver="cg", curvature="gauss-newton"),
    "lbfgs": LBFGS(),
}
BUDGET, FULL_BUDGET, SWEEP_BUDGET = 5e7, 2.5e8, 2.5e7
EPOCHS = 50
QUICK_ROWS = 20_000


class EmpiricalStudy:
    """The experiment."""

    name = "empirical-study"
    title = "Second-order methods from three starts: the empirical study (NLS)"

    def tasks(self, scope: Scope) -> list[Task]:
        """Starts, sizes, step sizes, saddle."""
        return [
            Task(
                self.name,
                task
                | {
                    "quick": scope.quick,
                    "max_rows": QUICK_ROWS if scope.quick else None,
                    "configuration": repr(solver_of(task)),
                },
            )
            for task in self._tasks(scope)
        ]

    def _tasks(self, scope: Scope) -> Iterator[dict[str, Any]]:
        part = 20.0 if scope.quick else 1.0
        ijcnn1, covtype = data.data_name(IJCNN1), data.data_name(COVTYPE)
        for seed in range(scope.seeds):
            for name in (ijcnn1, covtype) if seed < COVTYPE_SEEDS else (ijcnn1,):
                for start in STARTS:
                    for solver in SOLVERS:
                        if solver in FULL and start != "normal" and seed:
                            continue  # the same run again
                        all_rows = solver in FULL and solver != "lbfgs"
                        yield {
                            "part": "starts",
                            "data": name,
                            "solver": solver,
                            "start": start,
                            "size": None,
                            "seed": seed,
                            "budget": (FULL_BUDGET if all_rows else BUDGET) / part,
                        }
            for start in ("zeros", "normal"):
                for size in SIZES[:: 2 if scope.quick else 1]:
                    for solver in (
                        "subsampled-trust-region",
                        "subsampled-cubic",
                        "sgd",
                    ):
                        yield {
                            "part": "sizes",
                            "data": ijcnn1,
                            "solver": solver,
                            "start": start,
                            "size": size,
                            "seed": seed,
                            "budget": SWEEP_BUDGET / part,
                        }
            for solver in SADDLE:
                yield {
                    "part": "saddle",
                    "data": "two layers (stand-in)",
                    "solver": solver,
                    "start": "zeros",
                    "size": None,
                    "seed": seed,
                    "budget": 1e7,
                }

    def run(self, task: Task) -> list[dict[str, Any]]:
        """One run: a row per iteration, or the last one only for the sizes."""
        p = task.parameters
        if p["part"] == "saddle":
            return _run_saddle(p)
        X, y = load(p["data"], p["max_rows"])
        n, d = X.shape
        problem = LinearModel(SIGMOID_SQUARED, X, y)
        w0 = start_of(p["start"], d, p["seed"])
        errors = Errors(problem, p["data"]) if p["part"] == "starts" else None
        spent = stop_after(problem, p["budget"])

        def callback(state: State) -> bool:
            if errors is not None:
                errors(state)
            return spent(state)

        sgd = p["solver"] == "sgd"
        result = minimize(
            problem,
            solver_of(p),
            w0,
            tol=1e-10,
            max_iter=max(1, EPOCHS // (10 if p["quick"] else 1)) if sgd else 1_000_000,
            callback=callback,
            seed=p["seed"],
        )
        rows = trace_rows(result)
        rows[0]["loss"] = problem.at(w0).value
        if errors is None:
            rows = [rows[0], rows[-1]]
        for k, row in enumerate(rows):
            row |= {"n": n, "d": d}
            if errors is not None:
                row |= errors.rows[k]
        return rows

    def claims(self, rows: pd.DataFrame, scope: Scope) -> list[Claim]:
        """The conclusions of the study."""
        return results.claims(rows, scope)

    def figures(self, rows: pd.DataFrame, scope: Scope) -> dict[str, Figure]:
        """Three starts, errors, sizes."""
        return results.figures(rows)

    def reading(self, rows: pd.DataFrame, scope: Scope) -> str:
        """For the page of results."""
        return results.READING


def solver_of(parameters: dict[str, Any]) -> Any:
    """Return the solver of a task."""
    name, size = parameters["solver"], parameters["size"]
    if parameters["part"] == "saddle":
        return SADDLE[name]
    if size is None:
        return SOLVERS[name]
    if name == "sgd":
        return SGD(batch_size=64, step_size=size, schedule="constant", averaging=None)
    if name == "subsampled-cubic":
        return CubicRegularization(0.05, sigma=size, sigma_min=1e-16, **CODE)
    return TrustRegion(0.05, radius=size, **CODE)


def start_of(name: str, d: int, seed: int) -> Array:
    """Zeros, ones, or a standard normal vector."""
    if name == "normal":
        return np.random.default_rng(seed).standard_normal(d)
    return np.full(d, 1.0 if name == "ones" else 0.0)


class Errors:
    """Part of the rows that is classified wrongly, at every iterate."""

    def __init__(self, problem: LinearModel, name: str) -> None:
        self.y = problem.y > 0.5
        self.test = test_rows(name)
        self.rows: list[dict[str, float]] = []

    def __call__(self, state: State) -> None:
        """Add a row. The predictions of training rows are known: nothing is read."""
        z: Array = state.point.z  # type: ignore[attr-defined]  # of a LinearPoint
        row = {
            "train_error": float(np.mean((z > 0.0) != self.y)),
            "test_error": math.nan,
        }
        if self.test is not None:
            X, y = self.test
            row["test_error"] = float(np.mean((X @ state.point.w > 0.0) != y))
        self.rows.append(row)


@functools.lru_cache(maxsize=2)
def test_rows(name: str) -> tuple[Array, NDArray[np.bool_]] | None:
    """Rows that were held out: ijcnn1's test file, the other 20 % of covtype."""
    if name.startswith("covtype"):
        X, y = data.dense(name)
        rows = np.random.default_rng(1234).permutation(len(y))[: len(y) // 5]
        return np.ascontiguousarray(X[rows]), y[rows] < 0.0
    if name != IJCNN1 or not data.available("ijcnn1.t"):
        return None
    X, y = data.dense("ijcnn1.t")
    return X, y > 0.0


def _run_saddle(p: dict[str, Any]) -> list[dict[str, Any]]:
    problem = TwoLayers.drawn(p["seed"])
    result = minimize(
        problem,
        solver_of(p),
        np.zeros(problem.n_params),
        tol=1e-8,
        max_iter=500,
        full_trace=True,
        seed=p["seed"],
    )
    best = problem.smallest_value()
    shape = {"n": problem.n_samples, "d": problem.n_params, "best": best}
    return [row | shape for row in trace_rows(result)]


EXPERIMENT = EmpiricalStudy()
