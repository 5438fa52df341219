"""How much a Gaussian sketch loses: ``1 + d / (s - d - 1)`` in the mean."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from bench.plot import BLUE
from bench.reproduce.curves import legend_below, panels
from bench.reproduce.experiment import Claim, Scope
from bench.reproduce.levels import number
from bench.reproduce.parts import Rows, verdict
from subsampled_newton import SQUARED, LinearModel, SketchedLeastSquares, minimize

__all__ = ["LAW", "Law"]


class Law:
    """The normal equations of a sketch, ``(SA)'SA w = (SA)'Sb``."""

    name = "law"

    def parameters(self, scope: Scope) -> list[dict[str, Any]]:
        """One task per size and seed."""
        sizes = (100, 300) if scope.quick else (75, 100, 150, 200, 300, 600)
        return [
            {
                "size": size,
                "seed": seed,
                "n": 2000,
                "d": 50,
                "draws": 30 if scope.quick else 40,
            }
            for seed in range(scope.seeds)
            for size in sizes
        ]

    def run(self, parameters: dict[str, Any]) -> Rows:
        """One row per draw: the squared residual over the least one."""
        p, rng = parameters, np.random.default_rng(parameters["seed"])
        X = rng.standard_normal((p["n"], p["d"]))
        y = X @ rng.standard_normal(p["d"]) + rng.standard_normal(p["n"])
        problem = LinearModel(SQUARED, X, y)
        best = float(np.sum((y - X @ np.linalg.lstsq(X, y)[0]) ** 2))
        solver = SketchedLeastSquares("solve", "gaussian", p["size"])
        rows = []
        for _ in range(p["draws"]):
            w = minimize(problem, solver, max_iter=1, seed=rng, n_jobs=1).w
            rows.append({"ratio": float(np.sum((X @ w - y) ** 2)) / best})
        return rows

    def claims(self, rows: pd.DataFrame, scope: Scope) -> list[Claim]:
        """The mean against the law, with the error of the mean."""
        group = rows.groupby("size")["ratio"]
        mean, count = group.mean(), group.count()
        law = _law(mean.index.to_numpy(), rows["d"].iloc[0])
        off = np.abs(mean.to_numpy() / law - 1.0)
        error = float((group.std() / np.sqrt(count) / law).max())
        excess = np.abs((mean.to_numpy() - 1.0) / (law - 1.0) - 1.0)
        enough = count.min() >= 200
        return [
            Claim(
                "Y06",
                "Gaussian sketch: the mean of the squared residual over the least is "
                "1 + d/(s-d-1)",
                "Yao, sketched normal equations; exact law",
                "within 5 %",
                f"off by at most {off.max():.1%}",
                verdict(off.max() <= 0.05 if enough else None),
                f"d = {rows['d'].iloc[0]}, s from {mean.index.min()} to "
                f"{mean.index.max()}, {int(count.min())} draws each; standard error at "
                f"most {error:.1%}. The excess over 1 alone is off by at most "
                f"{number(100.0 * float(excess.max()))} %.",
            )
        ]

    def figures(self, rows: pd.DataFrame, scope: Scope) -> dict[str, Figure]:
        """All draws, their means and the law."""
        figure, (panel,) = panels(1, height=3.8)
        group = rows.groupby("size")["ratio"]
        d = rows["d"].iloc[0]
        grid = np.geomspace(rows["size"].min(), rows["size"].max(), 100)
        panel.plot(grid, _law(grid, d) - 1.0, color="#000000", lw=1.2, label="law")
        panel.plot(
            rows["size"],
            rows["ratio"] - 1.0,
            linestyle="none",
            marker=".",
            markersize=3,
            color="#7F7F7F",
            alpha=0.35,
            label="draws",
        )
        panel.plot(
            group.mean().index,
            group.mean() - 1.0,
            linestyle="none",
            marker="o",
            color=BLUE,
            label="mean of the draws",
        )
        panel.set_xscale("log")
        panel.set_yscale("log")
        panel.set_xticks(list(group.mean().index), [f"{s}" for s in group.mean().index])
        panel.set_yticks([0.05, 0.1, 0.2, 0.5, 1.0, 2.0])
        panel.yaxis.set_major_formatter("{x:g}")
        panel.minorticks_off()
        panel.set_xlabel(f"rows of the sketch, d = {d} columns")
        panel.set_ylabel("‖Aw − b‖² / ‖Aw* − b‖² − 1")
        legend_below(figure, [panel], n_columns=3)
        return {self.name: figure}


def _law(size: Any, d: int) -> Any:
    return 1.0 + d / (np.asarray(size, dtype=float) - d - 1.0)


LAW = Law()
