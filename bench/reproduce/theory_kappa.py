"""Iterations against the condition number; unit steps; how exact directions must be."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bench.plot import look
from bench.reproduce.curves import legend_below, panels
from bench.reproduce.designs import conditioned
from bench.reproduce.experiment import Claim, Scope
from bench.reproduce.levels import number
from bench.reproduce.parts import Rows, exponent, verdict
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

__all__ = ["KAPPA", "Kappa"]

GAP = 1e-10
"""Remaining part of the gap at 0."""
BURN_IN = 4
"""Steps before the unit step must be accepted."""
LABELS = {
    "gradient-descent": "gradient descent, 1/L",
    "nesterov": "Nesterov, known μ",
    "lbfgs": "L-BFGS",
    "subsampled-newton-leverage": "sub-sampled Newton, 20 d rows",
    "subsampled-newton-cg": "the same, CG with θ₁ = 1/√κ",
}
THETAS = ("0.1", "0.01", "1/sqrt(kappa)", "default")
THETA_LOOKS = {
    "exact": {"color": "#000000", "marker": "s"},
    "0.1": {"color": "#E69F00", "marker": "^"},
    "0.01": {"color": "#56B4E9", "marker": "v"},
    "1/sqrt(kappa)": {"color": "#009E73", "marker": "o"},
    "default": {"color": "#CC79A7", "marker": "D"},
}


class Kappa:
    """Logistic regression with Hessians of condition 10 to 1e6 in a random basis."""

    name = "kappa"

    def parameters(self, scope: Scope) -> list[dict[str, Any]]:
        """Tasks per condition number and solver. Gradient descent ends at 1e3."""
        decades = (1, 3, 5) if scope.quick else (1, 2, 3, 4, 5, 6)
        halves = (1, 2) if scope.quick else (1, 1.5, 2, 2.5, 3)
        limit = {"gradient-descent": 100_000, "nesterov": 200_000, "lbfgs": 20_000}
        found = []
        for seed in range(scope.seeds):
            for solver in LABELS:
                few = solver == "gradient-descent"
                sizes = halves if few else decades
                if solver == "nesterov" and scope.quick:
                    sizes = decades[:2]
                for theta in THETAS if solver == "subsampled-newton-cg" else ("exact",):
                    found += [
                        {
                            "solver": solver,
                            "theta": theta,
                            "kappa": 10.0**power,
                            "seed": seed,
                            "n": 4000,
                            "d": 20,
                            "rows_per_column": 20,
                            "max_iter": limit.get(solver, 200),
                        }
                        for power in sizes
                    ]
        return found

    def run(self, parameters: dict[str, Any]) -> Rows:
        """One row: what reaching the gap took."""
        p, rng = parameters, np.random.default_rng(parameters["seed"])
        X, y = conditioned(p["n"], p["d"], p["kappa"], rng)
        # The ridge is below the smallest curvature of the data, and known to Nesterov.
        problem = LinearModel(LOGISTIC, X, y, l2=0.02 / p["kappa"])
        best = minimize(problem, SubsampledNewton(1.0), tol=0.0, max_iter=60)
        hessian = problem.at(best.w).hessian(full(p["n"])).dense()
        values = np.linalg.eigvalsh(hessian)
        condition = float(values[-1] / values[0])
        target = best.value + GAP * (math.log(2.0) - best.value)
        result = minimize(
            problem,
            _solver(p, condition),
            tol=0.0,
            max_iter=p["max_iter"],
            seed=p["seed"],
            callback=lambda state: _reached(state, target),
        )
        reached = result.status.name == "CALLBACK_STOP"
        steps = result.trace.step_size[1 + BURN_IN :]
        return [
            {
                "condition": condition,
                "iterations": result.n_iter if reached else math.nan,
                "passes": result.passes,
                "seconds": result.seconds,
                "inner": int(result.trace.inner_iterations.sum()),
                "late_steps": len(steps),
                "late_unit_steps": int(np.sum(steps == 1.0)),
                "status": result.status.name,
            }
        ]

    def claims(self, rows: pd.DataFrame, scope: Scope) -> list[Claim]:
        """Exponents, flatness, unit steps, forcing terms."""
        return [*_exponents(rows), *_flatness(rows), _unit_steps(rows), *_forcing(rows)]

    def figures(self, rows: pd.DataFrame, scope: Scope) -> dict[str, Figure]:
        """Iterations against kappa, and what inexact directions cost."""
        figure, (left, right) = panels(2, height=4.6, sharey=False)
        for solver, label in LABELS.items():
            own = rows[rows["solver"] == solver]
            if solver == "subsampled-newton-cg":
                own = own[own["theta"] == "1/sqrt(kappa)"]
            style = look(solver) | {"label": label, "markevery": 1}
            _curve(left, own, "iterations", style)
        line = np.array([1e1, 1e4])
        left.plot(line, 30.0 * line, color="#7F7F7F", lw=0.7)
        left.annotate("∝ κ", (3e2, 1.2e4), fontsize=9, ha="right")
        line = np.array([1e1, 1e6])
        left.plot(line, 60.0 * np.sqrt(line), color="#7F7F7F", lw=0.7)
        left.annotate("∝ √κ", (3e5, 4.6e4), fontsize=9, ha="right")
        left.set_ylabel(f"iterations to a gap of {GAP:.0e}")
        newton = rows[rows["solver"].str.startswith("subsampled-newton")]
        for theta, style in THETA_LOOKS.items():
            own = newton[newton["theta"] == theta]
            shown = {"label": f"θ₁ = {_pretty(theta)}", "markersize": 4.5}
            _curve(right, own, "iterations", style | shown)
            if theta != "exact":
                dashed = {
                    "linestyle": "--",
                    "markerfacecolor": "white",
                    "markersize": 4.5,
                }
                _curve(right, own, "inner", style | dashed)
        right.plot([], [], color="#7F7F7F", label="iterations")
        right.plot([], [], color="#7F7F7F", linestyle="--", label="CG steps in all")
        right.set_ylabel("iterations, and CG steps in all")
        right.set_title("sub-sampled Newton, exact and inexact directions", fontsize=9)
        left.set_title("medians, bars: range over seeds", fontsize=9)
        for panel in (left, right):
            panel.set_xscale("log")
            panel.set_yscale("log")
            panel.set_xlabel("condition number κ of the Hessian at the minimizer")
        legend_below(figure, [left, right], n_columns=4)
        return {self.name: figure}


def _solver(p: dict[str, Any], condition: float) -> Any:
    rows = p["rows_per_column"] * p["d"]
    theta: float | None = None
    if p["theta"] == "1/sqrt(kappa)":
        theta = min(0.5, 1.0 / math.sqrt(condition))
    elif p["theta"] not in ("exact", "default"):
        theta = float(p["theta"])
    return {
        "gradient-descent": GradientDescent(),
        "nesterov": Nesterov("strongly-convex", restart=False),
        "lbfgs": LBFGS(),
        "subsampled-newton-leverage": SubsampledNewton(rows, sampling="leverage"),
        "subsampled-newton-cg": SubsampledNewton(
            rows, sampling="leverage", linear_solver="cg", theta1=theta
        ),
    }[p["solver"]]


def _reached(state: State, target: float) -> bool:
    return state.point.value <= target


def _medians(rows: pd.DataFrame, solver: str, theta: str) -> pd.DataFrame:
    """Medians over seeds per condition number; nan where a seed has not arrived."""
    own = rows[(rows["solver"] == solver) & (rows["theta"] == theta)]
    columns = own.groupby("kappa")[["condition", "iterations", "inner"]]
    return columns.agg(lambda values: values.median(skipna=False))


def _exponents(rows: pd.DataFrame) -> list[Claim]:
    found = []
    for solver, power, ids in (
        ("gradient-descent", 1.0, "M14, J09"),
        ("nesterov", 0.5, "M15, J15"),
    ):
        middle = _medians(rows, solver, "exact").dropna()
        slope = exponent(middle["condition"], middle["iterations"])
        known = math.isfinite(slope)
        last = middle["iterations"].max() if known else math.nan
        found.append(
            Claim(
                ids,
                f"{LABELS[solver]}: iterations grow as kappa^{power:g}",
                "Martens, comparison of iteration counts; Mahoney",
                f"exponent {power:g}",
                f"exponent {number(slope)}",
                verdict(abs(slope - power) <= 0.15 if known else None),
                f"Holds within 0.15. {number(last)} iterations at the largest kappa "
                f"tried, {middle.index.max():.0e}.",
            )
        )
    return found


def _flatness(rows: pd.DataFrame) -> list[Claim]:
    found = []
    for solver, theta, label in (
        ("subsampled-newton-leverage", "exact", "exact directions"),
        ("subsampled-newton-cg", "1/sqrt(kappa)", "theta_1 = 1/sqrt(kappa)"),
        ("subsampled-newton-cg", "default", "the default forcing term"),
    ):
        counts = _medians(rows, solver, theta)["iterations"]
        known = len(counts) > 1 and bool(counts.notna().all())
        ratio = float(counts.max() / counts.min()) if known else math.nan
        found.append(
            Claim(
                "M14, M31",
                f"Sub-sampled Newton, {label}: the count does not depend on kappa",
                "Mahoney, local and global theorem",
                "independent of the problem (<= 2 times)",
                f"{number(counts.min())} to {number(counts.max())} iterations, "
                f"{number(ratio)} times",
                verdict(ratio <= 2.0 if known else None),
                "Leverage sampling of 20 d rows, medians over seeds.",
            )
        )
    return found


def _unit_steps(rows: pd.DataFrame) -> Claim:
    own = rows[rows["solver"].str.startswith("subsampled-newton")]
    steps, units = own["late_steps"].sum(), own["late_unit_steps"].sum()
    share = units / steps if steps else math.nan
    return Claim(
        "M32, M26",
        f"After a burn-in of {BURN_IN} steps the unit step always passes Armijo's test",
        "Mahoney, local and global theorem",
        "all steps",
        f"{share:.1%} of {steps:.0f} steps",
        verdict(bool(share == 1.0) if steps else None),
        "All runs of sub-sampled Newton in the sweep.",
    )


def _forcing(rows: pd.DataFrame) -> list[Claim]:
    exact = _medians(rows, "subsampled-newton-leverage", "exact")["iterations"]
    worst, inner, known, few = {}, {}, {}, {}
    for theta in THETAS:
        inexact = _medians(rows, "subsampled-newton-cg", theta)
        ratio = (inexact["iterations"] / exact).dropna()
        known[theta] = len(ratio) == len(exact) > 0
        few[theta] = bool((inexact["iterations"] <= np.ceil(1.2 * exact)).all())
        worst[theta] = float(ratio.max()) if len(ratio) else math.nan
        inner[theta] = inexact["inner"].iloc[-1] if len(inexact) else math.nan
    others = ", ".join(f"{number(worst[t])} times for {t}" for t in THETAS[:2])
    steps = ", ".join(f"{number(inner[t])} for {t}" for t in THETAS)
    remarks = {
        "1/sqrt(kappa)": "Counts are whole numbers: 20 % is rounded up. Fixed "
        f"accuracies: {others}. CG steps in all at the largest kappa: {steps}.",
        "default": "The default, min(0.1, sqrt(|g|/|g_0|)) min(1, 3/sqrt(kappa)), "
        "takes kappa from the conjugate gradients.",
    }
    return [
        Claim(
            "M30, M28",
            f"theta_1 = {theta}: at most 20 % more iterations than exact solves",
            "Mahoney, theta_1 ~ 1/sqrt(kappa)",
            "few extra iterations",
            f"at most {number(worst[theta])} times as many",
            verdict(few[theta] if known[theta] else None),
            remark,
        )
        for theta, remark in remarks.items()
    ]


def _curve(axes: Axes, own: pd.DataFrame, column: str, style: dict[str, Any]) -> None:
    """Medians with bars over the seeds, where all of them have arrived."""
    group = own.groupby("kappa")[["condition", column]]
    middle = group.agg(lambda values: values.median(skipna=False)).dropna()
    if not len(middle):
        return
    low, high = group.min()[column], group.max()[column]
    low, high = low.loc[middle.index], high.loc[middle.index]
    axes.plot(middle["condition"], middle[column], **style)
    axes.vlines(middle["condition"], low, high, color=style["color"], linewidth=1.0)


def _pretty(theta: str) -> str:
    return {"exact": "0 (exact)", "1/sqrt(kappa)": "1/√κ"}.get(theta, theta)


KAPPA = Kappa()
