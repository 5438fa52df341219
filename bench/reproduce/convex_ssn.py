"""Sub-sampled Newton with non-uniform samples, against Newton and first-order methods.

The protocol of Xu, Yang, Roosta-Khorasani, Re, Mahoney, NIPS 2016: ridge logistic
regression with the ridge 0.01 of the sum, a column of ones, columns of norm one, start
at 0. Errors of w are measured after every iteration, outside of the clock.
"""

from __future__ import annotations

import functools
import time
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray

from bench.plot import look
from bench.reproduce.convex_claims import (
    LABELS,
    OTHERS,
    REACH,
    SAMPLED,
    data_sets,
    judged,
    or_never,
    runs_of,
)
from bench.reproduce.curves import legend_below, panels
from bench.reproduce.data import available, data_name, dense
from bench.reproduce.designs import adult_like, unit_columns
from bench.reproduce.experiment import Claim, Scope, Task
from bench.reproduce.levels import number
from bench.reproduce.parts import first_below
from bench.reproduce.traces import trace_rows
from subsampled_newton import (
    LBFGS,
    LOGISTIC,
    GradientDescent,
    LinearModel,
    Nesterov,
    State,
    SubsampledNewton,
    minimize,
)
from subsampled_newton.sampling import full

__all__ = ["EXPERIMENT", "ConvexNewton"]

Array = NDArray[np.float64]
SURROGATE_ADULT = "adult-like (surrogate)"
REPEATED = ("newton", "lbfgs")
"""Without chance, but the closest rivals in time: repeated for the clock."""
RIDGE = 0.01


class ConvexNewton:
    """Error of w against iterations and seconds on three data sets."""

    name = "convex-ssn"
    title = "Convex sub-sampled Newton with non-uniform sampling"

    def tasks(self, scope: Scope) -> list[Task]:
        """One task per data set, solver and seed; slow ones without chance once."""
        adult = "a9a" if available("a9a") else SURROGATE_ADULT
        names = (adult, data_name("ijcnn1"))
        if not scope.quick:
            names = ("covtype.binary", *names)
        many = 60 if scope.quick else 300
        return [
            Task(
                self.name,
                {
                    "data": data,
                    "solver": solver,
                    "seed": seed,
                    "ridge_of_sum": RIDGE,
                    "max_iter": many if solver in OTHERS[1:] else 25,
                    "rows": 10_000 if scope.quick else None,
                    "threads": 1,
                },
            )
            for seed in range(scope.seeds)
            for data in names
            for solver in LABELS
            if seed == 0 or solver in (*SAMPLED, *REPEATED)
        ]

    def run(self, task: Task) -> list[dict[str, Any]]:
        """The trace with the error of w and the seconds of the processor."""
        p = task.parameters
        problem, minimizer, constants = _reference(p["data"], p["rows"], RIDGE)
        solver = _solver(p["solver"], problem.n_params)
        few = problem.restrict(np.arange(min(2000, problem.n_samples)))
        minimize(few, solver, max_iter=2, n_jobs=1, seed=0)  # compiles
        size = float(np.linalg.norm(minimizer))
        errors: list[float] = []
        seconds: list[float] = []

        def watch(state: State) -> None:
            seconds.append(time.process_time())
            errors.append(float(np.linalg.norm(state.point.w - minimizer)) / size)

        result = minimize(
            problem,
            solver,
            tol=1e-15,
            max_iter=p["max_iter"],
            seed=p["seed"],
            n_jobs=p["threads"],
            callback=watch,
        )
        return [
            row | {"error": error, "cpu_seconds": cpu - seconds[0]} | constants
            for row, error, cpu in zip(trace_rows(result), errors, seconds, strict=True)
        ]

    def claims(self, rows: pd.DataFrame, scope: Scope) -> list[Claim]:
        """Verdicts of 10.3."""
        return judged(rows)

    def figures(self, rows: pd.DataFrame, scope: Scope) -> dict[str, Figure]:
        """One figure per data set: against iterations, and against seconds."""
        return {
            f"convex-ssn-{str(data).split()[0].split('.')[0]}": _draw(own, str(data))
            for data, own in data_sets(rows)
        }

    def reading(self, rows: pd.DataFrame, scope: Scope) -> str:
        """Paragraph for the page of results."""
        return (
            "Ridge logistic regression as in the paper: lambda = 0.01 of the sum, "
            "columns (with the one of ones) of norm one, start at 0. Seconds are those "
            "of the processor with one thread, so that a busy machine does not decide. "
            "ijcnn1 takes the place of CT slices and Buzz, which could not be had. "
            "Steps come from Armijo's rule; the published code takes unit steps. Its "
            "Python version forgets to divide the Hessian of a uniform sample by its "
            "size, so that uniform sampling crawls. Here it does not, and ten times "
            "the rows have the better rate that theory gives them, sqrt(d / s) a step."
        )


def _solver(name: str, d: int) -> Any:
    return {
        "newton": SubsampledNewton(1.0),
        "subsampled-newton": SubsampledNewton(200 * d),
        "subsampled-newton-leverage": SubsampledNewton(
            20 * d, sampling="leverage", score_refresh=10
        ),
        "subsampled-newton-row-norms": SubsampledNewton(20 * d, sampling="row-norms"),
        "lbfgs": LBFGS(memory=50),
        "gradient-descent": GradientDescent(),
        "nesterov": Nesterov(),
    }[name]


@functools.lru_cache(maxsize=3)
def _reference(
    data: str, n_rows: int | None, ridge: float
) -> tuple[LinearModel, Array, dict[str, float]]:
    """The problem, its minimizer and its condition numbers."""
    X, y = adult_like() if data == SURROGATE_ADULT else dense(data)
    X, y = X[:n_rows], y[:n_rows]
    A = unit_columns(X)
    n = len(A)
    problem = LinearModel(LOGISTIC, A, y, l2=ridge / n)
    w = minimize(problem, SubsampledNewton(1.0), tol=0.0, max_iter=20).w
    point = problem.at(w)
    values = np.linalg.eigvalsh(point.hessian(full(n)).dense())
    s = 1.0 / (1.0 + np.exp(-(A @ w)))
    largest = float(np.max(s * (1.0 - s) * problem.rows.row_norms())) + ridge / n
    constants = {
        "n": n,
        "d": A.shape[1],
        "kappa": float(values[-1] / values[0]),
        "kappa_hat": largest / float(values[0]),
    }
    return problem, w, constants


def _arrival(run: pd.DataFrame, column: str) -> float:
    return or_never(first_below(run[column], run["error"], REACH))


def _draw(rows: pd.DataFrame, data: str) -> Figure:
    figure, axes = panels(2, height=4.6)
    for solver, label in LABELS.items():
        runs = runs_of(rows, solver)
        if not runs:
            continue
        style = look(solver) | {"label": label}
        faint = {"color": style["color"], "alpha": 0.3, "linewidth": 0.8}
        for panel, column in zip(axes, ("iteration", "cpu_seconds"), strict=True):
            # The run of median speed stands out, the others show the spread.
            order = sorted(runs, key=lambda run, c=column: _arrival(run, c))
            middle = order.pop(len(order) // 2)
            for run in order:
                panel.plot(run[column][1:], run["error"][1:], **faint)
            panel.plot(middle[column][1:], middle["error"][1:], **style)
    left, right = axes
    left.set_yscale("log")
    left.set_ylim(1e-15, 3.0)
    left.set_ylabel("‖w − w*‖ / ‖w*‖")
    left.set_xlim(0, 60)
    left.set_xlabel("iterations")
    right.set_xscale("log")
    right.set_xlabel("seconds of the processor, one thread")
    first = rows.iloc[0]
    left.set_title(f"{data}, {first['n']} × {first['d']}", fontsize=9)
    right.set_title(
        f"κ = {number(first['kappa'])}, κ̂ = {number(first['kappa_hat'])}", fontsize=9
    )
    legend_below(figure, axes, n_columns=4)
    return figure


EXPERIMENT = ConvexNewton()
