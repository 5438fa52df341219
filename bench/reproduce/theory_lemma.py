"""How often a uniform sample of some size is spectrally close, against the lemma."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray

from bench.plot import BLACK, BLUE, GREEN, ORANGE
from bench.reproduce.curves import legend_below, panels
from bench.reproduce.data import dense
from bench.reproduce.designs import covtype_rows, design, labels, unit_rows
from bench.reproduce.experiment import Claim, Scope
from bench.reproduce.levels import number
from bench.reproduce.parts import Rows, verdict
from subsampled_newton import LOGISTIC, LinearModel, SubsampledNewton, minimize
from subsampled_newton.sampling import (
    chernoff_sample_size,
    full,
    uniform,
    uniform_sample_size,
)

__all__ = ["LEMMA", "Lemma"]

Array = NDArray[np.float64]
LOOKS: dict[str, dict[str, Any]] = {
    "gaussian": {"color": BLUE, "marker": "o", "label": "Gaussian rows"},
    "one-hot": {"color": ORANGE, "marker": "^", "label": "half one-hot"},
    "covtype": {"color": GREEN, "marker": "s", "label": "covtype"},
}
EPS, DELTA = 0.5, 0.1
RIDGE = 0.02
"""With rows of norm one a sample condition of 13.5: the bound is below n."""


class Lemma:
    """Uniform samples of rows of norm one, in logistic regression."""

    name = "lemma"

    def parameters(self, scope: Scope) -> list[dict[str, Any]]:
        """One task per design and seed."""
        return [
            {
                "design": name,
                "seed": seed,
                "n": 20_000 if scope.quick else 50_000,
                "d": 10,
                "eps": EPS,
                "delta": DELTA,
                "l2": RIDGE,
                "draws": 20 if scope.quick else 100,
                "sizes": 6 if scope.quick else 12,
            }
            for seed in range(scope.seeds)
            for name in LOOKS
        ]

    def run(self, parameters: dict[str, Any]) -> Rows:
        """Successes per size, up to the size that the lemma asks for."""
        p, rng = parameters, np.random.default_rng(parameters["seed"])
        if p["design"] == "covtype":
            X, y = covtype_rows(*dense("covtype.binary"), p["n"], rng)
        else:
            X = design(p["design"], p["n"], p["d"], rng)
            y = labels(X, rng)
        problem = LinearModel(LOGISTIC, unit_rows(X), y, l2=p["l2"])
        n, d = problem.n_samples, problem.n_params
        point = problem.at(minimize(problem, SubsampledNewton(1.0), tol=1e-10).w)
        root = np.linalg.inv(np.linalg.cholesky(point.hessian(full(n)).dense()))

        def close(size: int) -> bool:
            sampled = point.hessian(uniform(n, size, rng)).dense()
            values = np.linalg.eigvalsh(root @ sampled @ root.T)
            return bool(1.0 - p["eps"] <= values[0] and values[-1] <= 1.0 + p["eps"])

        condition = problem.sample_condition()
        accuracy = {"eps": p["eps"], "delta": p["delta"], "n": n}
        published = uniform_sample_size(condition, d, **accuracy)
        chernoff = chernoff_sample_size(condition, d, **accuracy)
        grid = np.unique(np.geomspace(2, published / 2, p["sizes"]).astype(int))
        kinds = dict.fromkeys(grid.tolist(), "grid")
        kinds |= {chernoff: "chernoff", published: "published"}
        return [
            {
                "size": size,
                "kind": kind,
                "successes": sum(close(size) for _ in range(p["draws"])),
                "condition": condition,
                "columns": d,
            }
            for size, kind in sorted(kinds.items())
        ]

    def claims(self, rows: pd.DataFrame, scope: Scope) -> list[Claim]:
        """The lemma, and how much smaller samples suffice."""
        frequencies, looseness, below_n = {}, {}, True
        for name, own in rows.groupby("design", sort=False):
            at = own[own["kind"] == "published"]
            below_n &= bool((at["size"] < at["n"]).all())
            frequencies[name] = at["successes"].sum() / at["draws"].sum()
            enough = _smallest(own)
            looseness[name] = at["size"].median() / enough
        decided = below_n and len(frequencies) == len(LOOKS)
        known = all(math.isfinite(v) for v in looseness.values())
        return [
            Claim(
                "M27",
                "A uniform sample of the lemma's size is spectrally close with "
                "probability at least 1 - delta",
                "Mahoney, lemma on uniform sampling",
                f">= {1 - DELTA:.0%} of the samples (eps = {EPS})",
                _each(frequencies, lambda v: f"{v:.1%}"),
                verdict(
                    min(frequencies.values()) >= 1.0 - DELTA, True if decided else None
                ),
                f"{int(rows['draws'].iloc[0]) * rows['seed'].nunique()} samples per "
                "design; rows of norm one, ridge "
                f"{RIDGE}: sample condition {rows['condition'].iloc[0]:.1f}.",
            ),
            Claim(
                "M27",
                "The lemma is pessimistic: much smaller samples are close",
                "protocol 10.4a",
                "10 to 1000 times smaller",
                _each(looseness, lambda v: f"{number(v)} times"),
                verdict(min(looseness.values()) >= 10.0 if known else None),
                "Size of the lemma over the smallest tried size that is close with "
                "probability 1 - delta.",
            ),
        ]

    def figures(self, rows: pd.DataFrame, scope: Scope) -> dict[str, Figure]:
        """Frequency of success against the size."""
        figure, (left, right) = panels(2, height=3.9, sharey=False)
        for name, own in rows.groupby("design", sort=False):
            share = own.assign(share=own["successes"] / own["draws"])
            grid = share[share["kind"] == "grid"].groupby("size")["share"]
            look = LOOKS[str(name)] | {"markersize": 4.5, "markerfacecolor": "white"}
            left.plot(grid.mean().index, grid.mean(), **look)
            left.fill_between(
                grid.mean().index,
                grid.min(),
                grid.max(),
                color=look["color"],
                alpha=0.15,
            )
        left.axhline(1.0 - DELTA, color=BLACK, linewidth=0.8, linestyle=":")
        left.annotate("1 − δ", (2.0, 1.0 - DELTA), (0, 3), textcoords="offset points")
        left.set_xscale("log")
        left.set_xlabel("rows of the sample")
        left.set_ylabel(f"samples with\n(1 − {EPS}) H ≤ H_S ≤ (1 + {EPS}) H")
        left.yaxis.set_major_formatter(lambda v, _: f"{v:.0%}")
        names = list(LOOKS)
        for k, name in enumerate(names):
            own = rows[rows["design"] == name]
            sizes = [
                (_smallest(own), "suffices", "o"),
                (
                    own[own["kind"] == "chernoff"]["size"].median(),
                    "Chernoff bound",
                    "s",
                ),
                (own[own["kind"] == "published"]["size"].median(), "lemma", "D"),
                (own["n"].median(), "all rows", "|"),
            ]
            right.plot(
                [s for s, _, _ in sizes[:3]],
                [k] * 3,
                color=LOOKS[name]["color"],
                lw=0.8,
            )
            for size, label, marker in sizes:
                right.plot(
                    size,
                    k,
                    marker=marker,
                    color=BLACK if marker == "|" else LOOKS[name]["color"],
                    markersize=10 if marker == "|" else 6,
                    linestyle="none",
                )
                if k == len(names) - 1:
                    right.annotate(
                        label,
                        (size, k),
                        (0, 9 if marker != "|" else -18),
                        textcoords="offset points",
                        ha="center",
                        fontsize=8.5,
                    )
        right.set_xscale("log")
        right.set_yticks(range(len(names)), [LOOKS[name]["label"] for name in names])
        right.set_ylim(-0.5, len(names) - 0.4)
        right.grid(axis="y", visible=False)
        right.set_xlabel("rows of the sample")
        right.set_title(
            "rows that suffice, and rows that the bounds ask for", fontsize=9
        )
        left.set_title("mean over seeds, band: their range", fontsize=9)
        legend_below(figure, [left], n_columns=3)
        return {self.name: figure}


def _smallest(own: pd.DataFrame) -> float:
    """Smallest size from which on all sizes have a frequency of 1 - delta."""
    total = own.groupby("size")[["successes", "draws"]].sum()
    good = (total["successes"] / total["draws"] >= 1.0 - DELTA).to_numpy()
    if not good[-1]:
        return math.nan
    bad = np.flatnonzero(~good)
    return float(total.index[bad[-1] + 1 if bad.size else 0])


def _each(values: dict[Any, float], form: Any) -> str:
    return ", ".join(f"{name} {form(value)}" for name, value in values.items())


LEMMA = Lemma()
