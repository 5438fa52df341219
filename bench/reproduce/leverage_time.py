"""Seconds of exact and of sketched least squares against the number of columns."""

from __future__ import annotations

import functools
import math
import time
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray

from bench.plot import BLACK, BLUE, GREEN, GREY, ORANGE, PINK
from bench.reproduce.curves import legend_below, panels
from bench.reproduce.experiment import Claim, Scope
from bench.reproduce.levels import number
from bench.reproduce.parts import Rows, exponent, verdict
from subsampled_newton import (
    SQUARED,
    DirectLeastSquares,
    LinearModel,
    SketchedLeastSquares,
    minimize,
)

__all__ = ["TIME", "Time"]

Array = NDArray[np.float64]
LOOKS: dict[str, dict[str, Any]] = {
    "qr": {"color": BLACK, "marker": "s", "label": "Householder QR"},
    "normal-equations": {"color": GREY, "marker": "D", "label": "normal equations"},
    "precondition": {
        "color": BLUE,
        "marker": "o",
        "label": "sketch and precondition, full accuracy",
    },
    "sparse-sign": {
        "color": GREEN,
        "marker": "^",
        "linestyle": "--",
        "label": "sketch and solve, sparse signs",
    },
    "srht": {
        "color": ORANGE,
        "marker": "v",
        "linestyle": "--",
        "label": "sketch and solve, Hadamard",
    },
    "leverage": {
        "color": PINK,
        "marker": "P",
        "linestyle": "--",
        "label": "sample by leverage and solve",
    },
}
SKETCHED = ("sparse-sign", "srht", "leverage")
LARGE = 128
"""Columns from which on the slopes are fitted: below, reads of the data dominate."""


class Time:
    """Gaussian rows; the time of the processor with one thread."""

    name = "time"

    def parameters(self, scope: Scope) -> list[dict[str, Any]]:
        """One task per number of columns, method and repetition."""
        columns = (16, 64, 256) if scope.quick else (16, 32, 64, 128, 256, 512, 1024)
        return [
            {
                "method": method,
                "columns": d,
                "seed": seed,
                "n": 8192 if scope.quick else 65_536,
                "threads": 1,
            }
            for seed in range(min(scope.seeds, 3))
            for d in columns
            for method in LOOKS
        ]

    def run(self, parameters: dict[str, Any]) -> Rows:
        """One row: seconds, and how far the residual is from the least."""
        p = parameters
        problem, few = _problem(p["n"], p["columns"])
        solver = _solver(p["method"])
        minimize(few, solver, seed=0, n_jobs=1)  # compiles
        wall, cpu = time.perf_counter(), time.process_time()
        result = minimize(problem, solver, tol=0.0, seed=p["seed"], n_jobs=p["threads"])
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
        return [
            {
                "cpu_seconds": cpu,
                "seconds": wall,
                "passes": result.passes,
                "sketch_rows": int(result.trace.hessian_rows.max()),
                "gradient_norm": result.gradient_norm,
                "loss": result.value,
                "status": result.status.name,
            }
        ]

    def claims(self, rows: pd.DataFrame, scope: Scope) -> list[Claim]:
        """Growth, and where the curves cross."""
        table = _fastest(rows)
        large = table[table.index >= LARGE]
        slopes = {m: exponent(large.index, large[m]) for m in table}
        sketched = [slopes.get(m, math.nan) for m in SKETCHED]
        exact = [slopes.get(m, math.nan) for m in ("qr", "normal-equations")]
        known = all(math.isfinite(v) for v in (*sketched, *exact)) and len(large) > 2
        found = [
            Claim(
                "Y05",
                "Exact least squares cost m n^2, sketched ones m n log n: the time of "
                "sketches grows by a smaller power of the columns",
                "Yao, running times (m rows, n columns)",
                "powers 2 and 1",
                ", ".join(f"{m} {number(slopes[m])}" for m in LOOKS if m in slopes),
                verdict(max(sketched) <= min(exact) - 0.3 if known else None),
                f"{rows['n'].iloc[0]} rows, from {LARGE} columns on; holds where all "
                "sketches that solve once are 0.3 below the exact methods. The "
                "factorisation of a sketch of s rows adds s d^2; samples by leverage "
                "have 4 d log d rows.",
            )
        ]
        for sketch, text in (
            (SKETCHED, "Sketch and solve"),
            (("precondition",), "Sketch and precondition, to full accuracy,"),
        ):
            for exactly in ("qr", "normal-equations"):
                ours = table[[m for m in sketch if m in table]].min(axis=1)
                ratio = table[exactly] / ours
                column = _crossing(ratio)
                found.append(
                    Claim(
                        "Y05",
                        f"{text} is faster than {LOOKS[exactly]['label']} when there "
                        "are many columns",
                        "Yao, running times",
                        "a crossover",
                        f"from {column:.0f} columns on"
                        if math.isfinite(column)
                        else "not up to "
                        f"{table.index.max()} columns, {number(ratio.iloc[-1])} times "
                        "the speed there",
                        verdict(math.isfinite(column) if not scope.quick else None),
                        "Speed over the exact method: "
                        + ", ".join(f"{number(r)} at {d}" for d, r in ratio.items())
                        + ".",
                    )
                )
        return found

    def figures(self, rows: pd.DataFrame, scope: Scope) -> dict[str, Figure]:
        """Seconds, and speed over the normal equations."""
        figure, (left, right) = panels(2, height=4.6, sharey=False)
        table = _fastest(rows)
        shape = {"markersize": 4.5, "markerfacecolor": "white", "linewidth": 1.5}
        for method, style in LOOKS.items():
            if method not in table:
                continue
            left.plot(table.index, table[method], **(shape | style))
            speed = table["normal-equations"] / table[method]
            right.plot(table.index, speed, **(shape | style))
        top = table.index.max()
        line = np.array([top / 8.0, top])
        high = 1.8 * float(table["qr"].iloc[-1])
        low = 0.4 * float(table.min(axis=1).iloc[-1])
        for level, power, name in ((high, 2, "∝ d²"), (low, 1, "∝ d")):
            left.plot(line, level * (line / top) ** power, color="#7F7F7F", lw=0.7)
            place = (line[0], level * (line[0] / top) ** power)
            left.annotate(name, place, (-4, -3), textcoords="offset points", ha="right")
        right.axhline(1.0, color=GREY, linewidth=0.6)
        for panel in (left, right):
            panel.set_xscale("log", base=2)
            panel.set_yscale("log")
            panel.set_xlabel(f"columns d, {rows['n'].iloc[0]} rows")
            panel.xaxis.set_major_formatter("{x:g}")
        left.set_ylabel("seconds of the processor, one thread")
        right.set_ylabel("speed over the normal equations")
        right.set_yscale("log", base=2)
        right.yaxis.set_major_formatter("{x:g}")
        left.set_title("fastest repetition", fontsize=9)
        legend_below(figure, [left], n_columns=3)
        return {self.name: figure}


def _solver(method: str) -> Any:
    return {
        "qr": DirectLeastSquares("qr"),
        "normal-equations": DirectLeastSquares("cholesky"),
        "precondition": SketchedLeastSquares("precondition"),
        "sparse-sign": SketchedLeastSquares("solve", "sparse-sign"),
        "srht": SketchedLeastSquares("solve", "srht"),
        "leverage": SketchedLeastSquares("solve", "leverage"),
    }[method]


@functools.lru_cache(maxsize=1)
def _problem(n: int, d: int) -> tuple[LinearModel, LinearModel]:
    """The problem, and a small one of the same kind."""
    rng = np.random.default_rng(d)
    X = rng.standard_normal((n, d))
    y = X @ rng.standard_normal(d) + rng.standard_normal(n)
    return LinearModel(SQUARED, X, y), LinearModel(SQUARED, X[:2048, :8], y[:2048])


def _fastest(rows: pd.DataFrame) -> pd.DataFrame:
    """Seconds of the fastest repetition: by columns, one column per method."""
    group = rows.groupby(["columns", "method"])["cpu_seconds"].min()
    table: pd.DataFrame = group.unstack()
    return table


def _crossing(ratio: pd.Series) -> float:
    """Columns from which on the ratio stays above 1."""
    slow = np.flatnonzero(ratio.to_numpy() <= 1.0)
    first = int(slow[-1]) + 1 if slow.size else 0
    return float(ratio.index[first]) if first < len(ratio) else math.nan


TIME = Time()
