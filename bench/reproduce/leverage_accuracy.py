"""Backward errors of sketched least squares against LAPACK's."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray

from bench.plot import BLACK, BLUE, GREEN, ORANGE, RED
from bench.reproduce.curves import legend_below, panels
from bench.reproduce.experiment import Claim, Scope
from bench.reproduce.levels import number
from bench.reproduce.parts import Rows, verdict
from subsampled_newton import (
    SQUARED,
    DirectLeastSquares,
    LinearModel,
    SketchedLeastSquares,
    minimize,
)

__all__ = ["ACCURACY", "Accuracy"]

Array = NDArray[np.float64]
LOOKS: dict[str, dict[str, Any]] = {
    "lapack": {"color": BLACK, "marker": "s", "label": "LAPACK"},
    "qr": {"color": ORANGE, "marker": "D", "label": "Householder QR by blocks"},
    "iterative": {"color": BLUE, "marker": "o", "label": "iterative sketching"},
    "precondition": {"color": GREEN, "marker": "^", "label": "sketch and precondition"},
    "gram": {"color": RED, "marker": "x", "label": "textbook normal equations"},
}
OURS = ("qr", "iterative", "precondition")
STATED = 1e10
"""Condition number of the claim."""


class Accuracy:
    """Tall matrices of given condition numbers, residuals of 1e-3 of the target."""

    name = "accuracy"

    def parameters(self, scope: Scope) -> list[dict[str, Any]]:
        """One task per condition number and seed."""
        powers = (2, 10) if scope.quick else (1, 2, 4, 6, 8, 10, 12)
        return [
            {"condition": 10.0**power, "seed": seed, "n": 4000, "d": 50}
            for seed in range(scope.seeds)
            for power in powers
        ]

    def run(self, parameters: dict[str, Any]) -> Rows:
        """One row per method: backward error, and distance from LAPACK's solution."""
        p, rng = parameters, np.random.default_rng(parameters["seed"])
        n, d = p["n"], p["d"]
        U = np.linalg.qr(rng.standard_normal((n, d)))[0]
        V = np.linalg.qr(rng.standard_normal((d, d)))[0]
        A = (U * np.geomspace(1.0, 1.0 / p["condition"], d)) @ V.T
        x = rng.standard_normal(d)
        noise = rng.standard_normal(n)
        noise -= U @ (U.T @ noise)
        b = A @ x + 1e-3 * np.linalg.norm(A @ x) * noise / np.linalg.norm(noise)
        problem = LinearModel(SQUARED, A, b)
        solvers: dict[str, Any] = {
            "qr": DirectLeastSquares("qr"),
            "iterative": SketchedLeastSquares("iterative"),
            "precondition": SketchedLeastSquares("precondition"),
        }
        reference = np.linalg.lstsq(A, b)[0]
        # Wedin: the sensitivity of the solution to errors of one rounding.
        residual = float(np.linalg.norm(b - A @ reference))
        size = float(np.linalg.norm(reference))
        c = p["condition"]
        sensitivity = c * (1.0 + c * residual / size) * np.finfo(float).eps
        found = {"lapack": reference, "gram": _gram(A, b)}
        for name, solver in solvers.items():
            found[name] = minimize(problem, solver, tol=0.0, seed=p["seed"], n_jobs=1).w
        return [
            {
                "method": name,
                "backward_error": _backward_error(A, b, w),
                "distance": float(np.linalg.norm(w - reference)) / size / sensitivity,
            }
            for name, w in found.items()
        ]

    def claims(self, rows: pd.DataFrame, scope: Scope) -> list[Claim]:
        """Agreement with LAPACK, and stability."""
        ours = rows[rows["method"].isin(OURS)]
        distance = float(ours["distance"].max())
        ratio = _ratios(rows)
        stated = ratio[ratio["condition"] == STATED]
        worst = {m: float(stated[m].max()) for m in (*OURS, "gram") if len(stated)}
        everywhere = float(ours["backward_error"].max()) / np.finfo(float).eps
        return [
            Claim(
                "Y01",
                "Least squares solutions agree with LAPACK's",
                "Yao, l2 regression",
                "agreement",
                f"at most {number(distance)} times the sensitivity",
                verdict(distance <= 10.0 if len(ours) else None),
                "Distance of the solutions in units of Wedin's bound of the effect of "
                "one rounding; condition numbers up to "
                f"{rows['condition'].max():.0e}.",
            ),
            Claim(
                "Y07",
                "Iterative sketching has LAPACK's backward error at a condition number "
                "of 1e10",
                "Yao, link to x - H^-1 g; Epperly",
                "backward stable (<= 10 times)",
                f"at most {number(worst.get('iterative', np.nan))} times LAPACK's",
                verdict(worst["iterative"] <= 10.0 if worst else None),
                f"Sketch and precondition {number(worst.get('precondition', np.nan))}, "
                f"textbook normal equations {number(worst.get('gram', np.nan))} times. "
                f"Ours over all condition numbers: at most {number(everywhere)} eps.",
            ),
        ]

    def figures(self, rows: pd.DataFrame, scope: Scope) -> dict[str, Figure]:
        """Backward error against the condition number."""
        figure, (panel,) = panels(1, height=4.0)
        for method, style in LOOKS.items():
            own = rows[rows["method"] == method].groupby("condition")["backward_error"]
            middle = own.median()
            panel.plot(middle.index, middle, markerfacecolor="white", **style)
            panel.vlines(middle.index, own.min(), own.max(), color=style["color"], lw=1)
        panel.set_xscale("log")
        panel.set_yscale("log")
        panel.set_xlabel("condition number")
        panel.set_ylabel("backward error over ‖A‖")
        panel.set_title(
            f"{rows['n'].iloc[0]} × {rows['d'].iloc[0]}, median and range over seeds",
            fontsize=9,
        )
        legend_below(figure, [panel], n_columns=5)
        return {self.name: figure}


def _gram(A: Array, b: Array) -> Array:
    """Solution of the normal equations as in a textbook."""
    w: Array = np.linalg.lstsq(A.T @ A, A.T @ b, rcond=0.0)[0]
    return w


def _backward_error(A: Array, b: Array, w: Array) -> float:
    """Estimate of the smallest change of A, over its norm, that makes w exact.

    The estimate of Karlson and Walden, within a factor 2 of the truth.
    """
    U, s, _ = np.linalg.svd(A, full_matrices=False)
    r = b - A @ w
    ratio = float(np.linalg.norm(r) / np.linalg.norm(w))
    z = (s / np.hypot(s, ratio)) * (U.T @ r)
    return float(np.linalg.norm(z) / np.linalg.norm(w) / s[0])


def _ratios(rows: pd.DataFrame) -> pd.DataFrame:
    """Backward errors over LAPACK's of the same problem."""
    table = rows.pivot_table("backward_error", ["condition", "seed"], "method")
    return table.div(table["lapack"], axis=0).reset_index()


ACCURACY = Accuracy()
