"""Uniform rows against rows by leverage: when rows matter alike and when not."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray

from bench.plot import BLUE, RED
from bench.reproduce.curves import legend_below, panels
from bench.reproduce.designs import design
from bench.reproduce.experiment import Claim, Scope
from bench.reproduce.levels import number
from bench.reproduce.parts import Rows, verdict
from subsampled_newton import (
    SQUARED,
    LinearModel,
    SketchedLeastSquares,
    coherence,
    leverage_scores,
    minimize,
)
from subsampled_newton.sampling import leverage_sample_size

__all__ = ["SAMPLING", "Sampling"]

Array = NDArray[np.float64]
DESIGNS = {
    "gaussian": "incoherent: Gaussian rows",
    "spiked": "coherent: three rows carry a direction each",
    "one-hot": "half one-hot, rare levels",
}
LOOKS: dict[str, dict[str, Any]] = {
    "uniform": {"color": RED, "marker": "s", "label": "uniform rows"},
    "leverage": {"color": BLUE, "marker": "o", "label": "rows by leverage"},
}
EPS, DELTA = 0.5, 0.05
ENOUGH = 100
"""Draws below which medians decide nothing."""
MIXTURE = 0.9
"""Share of the leverage scores in the probabilities; the rest is uniform."""


class Sampling:
    """Least squares on samples of rows: the residual over the least one."""

    name = "sampling"

    def parameters(self, scope: Scope) -> list[dict[str, Any]]:
        """One task per design and seed."""
        return [
            {
                "design": name,
                "seed": seed,
                "n": 10_000,
                "d": 20,
                "eps": EPS,
                "delta": DELTA,
                "draws": 8 if scope.quick else 40,
            }
            for seed in range(scope.seeds)
            for name in DESIGNS
        ]

    def run(self, parameters: dict[str, Any]) -> Rows:
        """One row per draw, and one on the approximate scores."""
        p, rng = parameters, np.random.default_rng(parameters["seed"])
        X, y = _problem(p["design"], p["n"], p["d"], rng)
        problem = LinearModel(SQUARED, X, y)
        best = float(np.linalg.norm(y - X @ np.linalg.lstsq(X, y)[0]))
        exact = leverage_scores(X)
        guess = leverage_scores(X, method="sketch", rng=rng)
        found = coherence(exact)
        close = np.abs(guess / exact - 1.0) <= 0.25
        rows: Rows = [
            {
                "kind": "scores",
                "close": float(close.mean()),
                "coherence": found.coherence,
            }
        ]
        enough = leverage_sample_size(
            (p["d"] + 1) / MIXTURE, p["d"] + 1, eps=p["eps"], delta=p["delta"], n=p["n"]
        )
        sizes = [factor * p["d"] for factor in (3, 5, 10, 20, 50, 100)]
        for size in (*sizes, enough):
            for embedding in LOOKS:
                solver = SketchedLeastSquares("solve", embedding, size)  # type: ignore[arg-type]
                for _ in range(p["draws"]):
                    w = minimize(problem, solver, max_iter=1, seed=rng, n_jobs=1).w
                    rows.append(
                        {
                            "kind": "computed" if size == enough else "grid",
                            "embedding": embedding,
                            "size": size,
                            "ratio": float(np.linalg.norm(X @ w - y)) / best,
                        }
                    )
        return rows

    def claims(self, rows: pd.DataFrame, scope: Scope) -> list[Claim]:
        """Contrast, guarantee, approximate scores."""
        return [*_contrast(rows), _guarantee(rows), _scores(rows)]

    def figures(self, rows: pd.DataFrame, scope: Scope) -> dict[str, Figure]:
        """Excess of the residual against the size of the sample."""
        figure, axes = panels(2, height=4.2)
        d = rows["d"].iloc[0]
        for panel, name in zip(axes, ("gaussian", "spiked"), strict=True):
            grid = rows[(rows["design"] == name) & (rows["kind"] == "grid")]
            for embedding, style in LOOKS.items():
                own = grid[grid["embedding"] == embedding]
                excess = own.assign(excess=own["ratio"] - 1.0).groupby("size")["excess"]
                middle = excess.median()
                shape = {"markersize": 4.5, "markerfacecolor": "white"}
                panel.plot(middle.index / d, middle, **(style | shape))
                panel.fill_between(
                    middle.index / d,
                    excess.quantile(0.05),
                    excess.quantile(0.95),
                    color=style["color"],
                    alpha=0.15,
                    linewidth=0.0,
                )
            factor = np.geomspace(3.0, 100.0, 50)
            law = np.sqrt(1.0 + d / (factor * d - d - 1.0)) - 1.0
            panel.plot(
                factor, law, color="#7F7F7F", lw=0.9, label="Gaussian sketch, law"
            )
            mu = rows[rows["design"] == name]["coherence"].median()
            panel.set_title(f"{DESIGNS[name]} (coherence {number(mu)})", fontsize=9)
            panel.set_xscale("log")
            panel.set_yscale("log")
            panel.set_xlabel("rows of the sample, over columns")
            panel.xaxis.set_major_formatter("{x:g}")
        axes[0].set_ylabel("‖Aw − b‖ / ‖Aw* − b‖ − 1,  median, 5 to 95 %")
        legend_below(figure, axes, n_columns=3)
        return {self.name: figure}


def _problem(
    name: str, n: int, d: int, rng: np.random.Generator
) -> tuple[Array, Array]:
    """Rows, and targets of a linear model with noise of the size of the signal."""
    if name != "spiked":
        X = design(name, n, d, rng)
        return X, X @ rng.standard_normal(d) + rng.standard_normal(n)
    X = np.zeros((n, d))
    X[:, 3:] = rng.standard_normal((n, d - 3))
    spikes = rng.choice(n, 3, replace=False)
    X[spikes, :3] = math.sqrt(n) * np.eye(3)
    w = rng.choice([-1.0, 1.0], d)
    return X, X @ w + rng.standard_normal(n)


def _contrast(rows: pd.DataFrame) -> list[Claim]:
    found = []
    for name, ids in (("gaussian", "Y02"), ("spiked", "Y02, Y03")):
        grid = rows[(rows["design"] == name) & (rows["kind"] == "grid")]
        # From ten rows a column on leverage samples work; up to a tenth of all rows
        # it is a sample.
        few = (grid["size"] >= 10 * grid["d"]) & (grid["size"] <= grid["n"] / 10)
        grid = grid[few].assign(excess=grid["ratio"] - 1.0)
        excess = grid.groupby(["size", "embedding"])["excess"].median().unstack()
        known, incoherent, good = len(excess) > 0, name == "gaussian", False
        measured, remark = "no data", ""
        draws = int(rows["draws"].iloc[0] * rows["seed"].nunique())
        if known:
            remark = (
                f"Samples of {int(excess.index.min())} to {int(excess.index.max())} "
                f"of {int(rows['n'].iloc[0])} rows; excess of the residual, medians "
                f"over {draws} draws."
            )
        if known and incoherent:
            worse = float((excess["uniform"] / excess["leverage"]).max())
            good = worse <= 1.5
            measured = f"error at most {number(worse)} times that of leverage"
        elif known:
            uniform = grid[grid["embedding"] == "uniform"]
            limit = 10.0 * uniform["size"].map(excess["leverage"])
            share = (uniform["excess"] > limit).groupby(uniform["size"]).mean()
            good = bool(share.min() >= 0.5)
            measured = f"fails in {share.min():.0%} to {share.max():.0%} of the runs"
        found.append(
            Claim(
                ids,
                "Incoherent rows: uniform samples are as good as leverage samples"
                if incoherent
                else "Coherent rows: uniform samples fail, error above 10 times that "
                "of leverage samples",
                "Yao, sampling and leverage scores",
                "works" if incoherent else "fails (>= 50 % of the runs)",
                measured,
                verdict(good if known and draws >= ENOUGH else None),
                remark,
            )
        )
    return found


def _guarantee(rows: pd.DataFrame) -> Claim:
    own = rows[(rows["kind"] == "computed") & (rows["embedding"] == "leverage")]
    shares = {
        name: float((part["ratio"] <= 1.0 + EPS).mean())
        for name, part in own.groupby("design", sort=False)
    }
    known = len(shares) == len(DESIGNS)
    size = f"{own['size'].iloc[0]:.0f}" if known else "?"
    worst = float(own["ratio"].max()) if known else math.nan
    return Claim(
        "Y03",
        "Leverage samples of the computed size: residual at most 1 + eps times the "
        "least, with probability 1 - delta",
        "Yao; Drineas, Mahoney, Muthukrishnan, Sarlos",
        f">= {1 - DELTA:.0%} of the runs (eps = {EPS})",
        ", ".join(f"{name} {share:.1%}" for name, share in shares.items()),
        verdict(min(shares.values()) >= 1.0 - DELTA if known else None),
        f"{size} rows by 2 d (1 + eps/3) ln(2 d/delta) / eps^2; the largest ratio of "
        f"{len(own)} runs is {number(worst)}.",
    )


def _scores(rows: pd.DataFrame) -> Claim:
    own = rows[rows["kind"] == "scores"]
    least = own.groupby("design", sort=False)["close"].min()
    return Claim(
        "Y04",
        "Fast approximation of leverage: all scores within 25 % for 99 % of the rows",
        "Yao; Drineas, Magdon-Ismail, Mahoney, Woodruff",
        ">= 99 % of the rows",
        ", ".join(f"{name} {share:.2%}" for name, share in least.items()),
        verdict(least.min() >= 0.99 if len(least) else None),
        f"The worst of {own['seed'].nunique()} seeds, default sizes, against scores by "
        "QR.",
    )


SAMPLING = Sampling()
