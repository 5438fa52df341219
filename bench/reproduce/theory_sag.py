"""The picture of SAG: stochastic gradients sub-linear, averaged gradients linear."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from bench.plot import BLACK, SKY, look
from bench.reproduce.curves import legend_below, panels
from bench.reproduce.data import data_name, dense
from bench.reproduce.experiment import Claim, Scope
from bench.reproduce.levels import number
from bench.reproduce.parts import Rows, exponent, verdict
from bench.reproduce.traces import trace_rows
from subsampled_newton import (
    LOGISTIC,
    SAG,
    SGD,
    GradientDescent,
    LinearModel,
    SubsampledNewton,
    minimize,
    smoothness,
)

__all__ = ["STOCHASTIC", "Stochastic"]

LABELS = {
    "gradient-descent": "gradient descent, 1/L",
    "sgd": "SGD, steps 1/(μ (k + k₀))",
    "sgd-averaged": "the same, average of the last half",
    "sag-theorem": "SAG, uniform, steps 1/(16 L)",
    "sag": "SAG, default",
}
STYLES: dict[str, dict[str, Any]] = {
    "sgd-averaged": look("sgd") | {"color": SKY, "marker": "s"},
    "sag-theorem": look("sag") | {"color": BLACK, "marker": "s"},
}
"""Variants of what `bench.plot` has one look for."""
LINEAR = (1e-2, 1e-10)
"""Gaps between which a line is fitted to the linear methods."""


class Stochastic:
    """Logistic regression on ijcnn1 with a ridge of 1e-3."""

    name = "stochastic"

    def parameters(self, scope: Scope) -> list[dict[str, Any]]:
        """One task per solver and seed; gradient descent once."""
        epochs = {"sag": 60, "gradient-descent": 300, "sag-theorem": 300, "sgd": 300}
        if scope.quick:
            epochs = {"sag": 40, "gradient-descent": 100, "sag-theorem": 60, "sgd": 100}
        return [
            {
                "data": data_name("ijcnn1"),
                "solver": solver,
                "seed": seed,
                "l2": 1e-3,
                "max_iter": epochs[solver.removesuffix("-averaged")],
                "rows": 5_000 if scope.quick else None,
            }
            for seed in range(scope.seeds)
            for solver in LABELS
            if solver != "gradient-descent" or seed == 0
        ]

    def run(self, parameters: dict[str, Any]) -> Rows:
        """The trace with the gap, and the constants of the problem."""
        p = parameters
        X, y = dense(p["data"])
        X, y = X[: p["rows"]], y[: p["rows"]]
        problem = LinearModel(LOGISTIC, X, y, l2=p["l2"])
        best = minimize(problem, SubsampledNewton(1.0), tol=0.0, max_iter=60).value
        constants = smoothness(problem)
        solver: Any = {
            "gradient-descent": GradientDescent(),
            "sgd": SGD(schedule="strongly-convex", averaging=None),
            "sgd-averaged": SGD(schedule="strongly-convex", averaging="suffix"),
            "sag-theorem": SAG(step_size="1/L", fraction=1 / 16, sampling="uniform"),
            "sag": SAG(),
        }[p["solver"]]
        result = minimize(
            problem,
            solver,
            tol=1e-13,
            max_iter=p["max_iter"],
            full_trace=True,
            seed=p["seed"],
        )
        first = problem.value_at_zero() - best
        # What Schmidt's theorem promises per step: 1 - min(mu / 16 L, 1 / 8 n).
        promised = min(constants.mu / (16.0 * constants.L_max), 0.125 / len(y))
        common = {
            "promised": promised,
            "n": len(y),
            "kappa": constants.condition_number,
        }
        return [
            row | {"gap": (row["loss"] - best) / first} | common
            for row in trace_rows(result)
            if math.isfinite(row["loss"])
        ]

    def claims(self, rows: pd.DataFrame, scope: Scope) -> list[Claim]:
        """Linear against sub-linear, with the rates."""
        data = rows["data"].iloc[0]
        fits = {s: [_line(own) for _, own in _runs(rows, s)] for s in LABELS}
        rates, straight = np.array(fits["sag-theorem"]).reshape(-1, 2).T
        known = straight.size > 0 and bool(np.isfinite(straight).all())
        promised = math.log1p(-rows["promised"].iloc[0]) * rows["n"].iloc[0]
        usual = np.array(fits["sag"]).reshape(-1, 2)
        gd_rate, gd_straight = fits["gradient-descent"][0]
        found = [
            Claim(
                "K04, M03",
                "SAG: the logarithm of the gap is a straight line over the passes",
                "Schmidt, SAG picture",
                "linear rate at the cost of SGD",
                f"R^2 {number(float(np.median(straight)))}, "
                f"{number(float(np.median(rates)))} per pass",
                verdict(np.median(straight) >= 0.95 if known else None),
                f"{data}, ridge 1e-3; steps and sampling of the theorem, gaps from "
                f"{LINEAR[0]:g} to {LINEAR[1]:g} of the first one, logarithms to base "
                f"e. Our default: {number(float(np.median(usual[:, 0])))} per pass, "
                f"R^2 {number(float(np.median(usual[:, 1])))}.",
            ),
            Claim(
                "M03",
                "SAG is not slower than 1 - min(mu/16L, 1/8n) per step",
                "Schmidt, Le Roux, Bach, theorem 1",
                f"{number(promised)} per pass",
                f"{number(float(rates.max()) if known else math.nan)} per pass",
                verdict(float(rates.max()) <= promised if known else None),
                "The slowest seed.",
            ),
            Claim(
                "K13",
                "Gradient descent is linear",
                "Schmidt, rates",
                "O(gamma^k)",
                f"R^2 {number(gd_straight)}, {number(gd_rate)} per pass",
                verdict(gd_straight >= 0.95 if math.isfinite(gd_straight) else None),
                "The same gaps, as far as it comes.",
            ),
        ]
        slopes, enough = {}, False
        for solver in ("sgd", "sgd-averaged"):
            middle = _middle(rows, solver)
            late = middle[middle.index >= 3]
            slopes[solver] = exponent(late.index, late)
            enough = len(late) > 0 and late.index.max() >= 100
        found.append(
            Claim(
                "K13, K04",
                "SGD with decreasing steps bends: the gap falls as 1/k",
                "Schmidt, rates",
                "slope -1 in log-log",
                f"slope {number(slopes['sgd'])}",
                verdict(abs(slopes["sgd"] + 1.0) <= 0.2 if enough else None),
                "Median of the seeds from pass 3 on; holds within 0.2. Average of the "
                f"last half: slope {number(slopes['sgd-averaged'])}.",
            )
        )
        cross = _crossing(rows)
        found.append(
            Claim(
                "K04",
                "SGD leads at first, SAG overtakes it for good",
                "Schmidt, SAG picture",
                "curves cross",
                f"after {number(cross)} passes",
                verdict(cross <= 20.0 if math.isfinite(cross) else None),
            )
        )
        return found

    def figures(self, rows: pd.DataFrame, scope: Scope) -> dict[str, Figure]:
        """Gap against passes, linear and logarithmic axis."""
        figure, axes = panels(2, height=4.2, sharey=False)
        for solver, label in LABELS.items():
            style = STYLES.get(solver) or look(solver)
            style = style | {"label": label}
            for panel in axes:
                middle = _middle(rows, solver)
                panel.plot(middle.index, middle, **style)
                for _, own in _runs(rows, solver):
                    seen = own[(own["gap"] > 1e-15) & (own["iteration"] > 0)]
                    faint = {"color": style["color"], "alpha": 0.25, "linewidth": 0.8}
                    panel.plot(seen["iteration"], seen["gap"], **faint)
        left, right = axes
        right.set_xscale("log")
        right.set_xlim(left=0.9)
        left.set_xlim(0, 150)
        for panel in axes:
            panel.set_yscale("log")
            panel.set_ylim(1e-15, 2.0)
            panel.set_xlabel("passes over the data: epochs, or gradients")
        left.set_ylabel("(F − F*) / (F(0) − F*)")
        left.set_title(f"{rows['data'].iloc[0]}: a linear rate is a line", fontsize=9)
        right.set_title("a rate of 1/k is a line", fontsize=9)
        legend_below(figure, [left], n_columns=4)
        return {self.name: figure}


def _runs(rows: pd.DataFrame, solver: str) -> Any:
    own = rows[rows["solver"] == solver]
    return own.groupby("seed")


def _middle(rows: pd.DataFrame, solver: str) -> pd.Series:
    """Median of the seeds per iteration above rounding.

    An iteration is one pass; evaluations for the trace, which stochastic methods do not
    need, are left out.
    """
    own = rows[(rows["solver"] == solver) & (rows["iteration"] > 0)]
    middle = own.groupby("iteration")["gap"].median()
    return middle[middle > 1e-15]


def _line(own: pd.DataFrame) -> tuple[float, float]:
    """Slope of the log of the gap per pass, and R^2."""
    fitted = own[(own["gap"] <= LINEAR[0]) & (own["gap"] >= LINEAR[1])]
    if len(fitted) < 4:
        return math.nan, math.nan
    x, y = fitted["iteration"].to_numpy(), np.log(fitted["gap"].to_numpy())
    return float(np.polyfit(x, y, 1)[0]), float(np.corrcoef(x, y)[0, 1] ** 2)


def _crossing(rows: pd.DataFrame) -> float:
    """Passes from which on the median of SAG is below that of SGD."""
    sag, sgd = _middle(rows, "sag"), _middle(rows, "sgd-averaged")
    if not (len(sag) and len(sgd)):
        return math.nan
    other = np.interp(sag.index, sgd.index, sgd)
    behind = np.flatnonzero(sag.to_numpy() >= other)
    if not behind.size:
        return float(sag.index[0])
    last = int(behind[-1])
    return float(sag.index[last + 1]) if last + 1 < len(sag) else math.nan


STOCHASTIC = Stochastic()
