"""Upper bounds of gradient descent, Nesterov and the heavy ball, and the ravine."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from bench.plot import look
from bench.reproduce.curves import legend_below, panels
from bench.reproduce.designs import labels
from bench.reproduce.experiment import Claim, Scope
from bench.reproduce.levels import number
from bench.reproduce.parts import Rows, verdict
from subsampled_newton import (
    LOGISTIC,
    SQUARED,
    GradientDescent,
    HeavyBall,
    LinearModel,
    Nesterov,
    State,
    SubsampledNewton,
    minimize,
    smoothness,
)

__all__ = ["BOUNDS", "RAVINE", "Bounds", "Ravine"]

Array = NDArray[np.float64]
Bound = Callable[[Array, float, float], Array]
LABELS = {
    "gradient-descent": "gradient descent, 2/(L+μ)",
    "nesterov": "Nesterov",
    "heavy-ball": "heavy ball",
    "newton": "Newton",
}
SOLVERS: dict[str, Any] = {
    "gradient-descent": GradientDescent("2/(L+mu)"),
    "nesterov": Nesterov("strongly-convex", restart=False),
    "heavy-ball": HeavyBall(),
    "newton": SubsampledNewton(1.0),
}
ROUNDING = {"quadratic": 1e-24, "logistic": 1e-12}
"""Gaps below this part of the first one are rounding, and are not compared."""


def _contraction(kappa: float) -> float:
    return (math.sqrt(kappa) - 1.0) / (math.sqrt(kappa) + 1.0)


UPPER: dict[str, Bound] = {
    "gradient-descent": lambda k, kappa, L: (
        L / 2.0 * ((kappa - 1.0) / (kappa + 1.0)) ** (2.0 * k)
    ),
    "nesterov": lambda k, kappa, L: L * (1.0 - 1.0 / math.sqrt(kappa)) ** k,
    # The iteration matrix is not normal: 1 + 2 k is the exact factor of its powers.
    "heavy-ball": lambda k, kappa, L: (
        L / 2.0 * ((1.0 + 2.0 * k) * _contraction(kappa) ** k) ** 2
    ),
}
"""Bounds of the gap after k steps, over ``||w_0 - w*||**2``."""
FORMULAS = {
    "gradient-descent": "(L/2) ((kappa-1)/(kappa+1))^2k ||e_0||^2",
    "nesterov": "L (1 - 1/sqrt(kappa))^k ||e_0||^2",
    "heavy-ball": "(L/2) ((1+2k) ((sqrt(kappa)-1)/(sqrt(kappa)+1))^k)^2 ||e_0||^2",
}


class Bounds:
    """Random quadratics and logistic problems: is a bound ever violated?"""

    name = "bounds"

    def parameters(self, scope: Scope) -> list[dict[str, Any]]:
        """One task per seed and kind of problem."""
        counts = (
            {"quadratic": 20, "logistic": 2}
            if scope.quick
            else {"quadratic": 200, "logistic": 20}
        )
        return [
            {"kind": kind, "seed": seed, "problems": count, "d": 10, "steps": 150}
            for seed in range(scope.seeds)
            for kind, count in counts.items()
        ]

    def run(self, parameters: dict[str, Any]) -> Rows:
        """One row per problem and solver: the largest ratio of gap to bound."""
        p, rng = parameters, np.random.default_rng(parameters["seed"])
        rows = []
        for index in range(p["problems"]):
            problem, start, minimizer, gap = _drawn(p["kind"], p["d"], rng)
            found = smoothness(problem)
            kappa = found.condition_number
            distance = float(np.sum((start - minimizer) ** 2))
            for solver in (
                UPPER if p["kind"] == "quadratic" else ("gradient-descent", "nesterov")
            ):
                gaps = _gaps(problem, solver, start, gap, p["steps"])
                k = np.arange(len(gaps), dtype=float)
                bound = UPPER[solver](k, kappa, found.L) * distance
                seen = bound > ROUNDING[p["kind"]] * bound[0]
                rows.append(
                    {
                        "solver": solver,
                        "problem": index,
                        "kappa": kappa,
                        "worst": float(np.max(gaps[seen] / bound[seen])),
                        "last": float((gaps[seen] / bound[seen])[-1]),
                    }
                )
        return rows

    def claims(self, rows: pd.DataFrame, scope: Scope) -> list[Claim]:
        """One claim per solver."""
        ids = {"gradient-descent": "J08, M02", "nesterov": "J14", "heavy-ball": "S11"}
        found = []
        for solver in UPPER:
            own = rows[rows["solver"] == solver]
            violated = int((own["worst"] > 1.0 + 1e-9).sum())
            kinds = own["kind"].value_counts()
            counted = ", ".join(f"{kinds[kind]} {kind}" for kind in kinds.index)
            proved = solver == "heavy-ball"
            found.append(
                Claim(
                    ids[solver],
                    f"{LABELS[solver]}: F(w_k) - F* <= {FORMULAS[solver]}",
                    "derived from the rate" if proved else "Martens, upper bounds",
                    "never violated",
                    f"{violated} of {len(own)} problems violate it",
                    verdict(violated == 0 if len(own) else None),
                    f"Problems: {counted}. Largest ratio of gap to bound: "
                    f"{number(float(own['worst'].max()))}.",
                )
            )
        return found

    def figures(self, rows: pd.DataFrame, scope: Scope) -> dict[str, Figure]:
        """None: the ravine shows the rates."""
        return {}


class Ravine:
    """A quadratic of two variables, steep across and flat along."""

    name = "ravine"

    def parameters(self, scope: Scope) -> list[dict[str, Any]]:
        """One task per solver: nothing is random."""
        return [
            {"solver": solver, "kappa": kappa, "seed": 0, "gap": 1e-10}
            for solver in LABELS
            for kappa in (100.0, 1000.0)
        ]

    def run(self, parameters: dict[str, Any]) -> Rows:
        """One row per iterate until the gap is reached."""
        p = parameters
        eigenvalues = np.array([1.0 / p["kappa"], 1.0])
        # The mean over two rows: half of each squared row is an eigenvalue.
        rows = np.diag(np.sqrt(2.0 * eigenvalues))
        problem = LinearModel(SQUARED, rows, np.zeros(2))
        start = np.array([1.0, 1.0 / math.sqrt(p["kappa"])])
        path: list[Array] = []

        def watch(state: State) -> bool:
            path.append(_iterate(state))
            gap = 0.5 * float(eigenvalues @ path[-1] ** 2)
            return gap <= p["gap"] * 0.5 * float(eigenvalues @ start**2)

        minimize(
            problem,
            SOLVERS[p["solver"]],
            start,
            tol=0.0,
            max_iter=100_000,
            callback=watch,
        )
        return [
            {
                "iteration": k,
                "along": w[0],
                "across": w[1],
                "loss": 0.5 * float(eigenvalues @ w**2),
            }
            for k, w in enumerate(path)
        ]

    def claims(self, rows: pd.DataFrame, scope: Scope) -> list[Claim]:
        """Counts at the larger condition number."""
        kappa = rows["kappa"].max()
        own = rows[rows["kappa"] == kappa]
        count = own.groupby("solver")["iteration"].max()
        momentum = count.reindex(["nesterov", "heavy-ball"])
        known = len(count) == len(LABELS)
        slow = count.get("gradient-descent", math.nan)
        ratio = slow / momentum.max() if known else math.nan
        return [
            Claim(
                "J02",
                "In a ravine gradient descent needs more than ten times the iterations "
                "of momentum, Newton's method one",
                "Martens, two-dimensional failure case",
                "> 10 times; 1",
                ", ".join(f"{LABELS[s]} {count[s]}" for s in LABELS if s in count),
                verdict(ratio > 10.0 if known else None, count.get("newton") == 1),
                f"Condition number {number(kappa)}, gap 1e-10, the slower of the two "
                f"kinds of momentum: {number(ratio)} times.",
            )
        ]

    def figures(self, rows: pd.DataFrame, scope: Scope) -> dict[str, Figure]:
        """Paths in the plane, and gaps with their bounds."""
        figure, (left, right) = panels(2, height=4.5, sharey=False)
        kappa = rows["kappa"].min()
        for solver, label in LABELS.items():
            own = rows[(rows["solver"] == solver) & (rows["kappa"] == kappa)]
            style = look(solver) | {"label": label}
            path = style | {"markevery": 1, "linestyle": "-", "linewidth": 1.1}
            left.plot(own["along"][:40], own["across"][:40], **path)
            shown = own[own["loss"] > 1e-17]
            right.plot(shown["iteration"], shown["loss"], **style)
            if solver in UPPER:
                k = shown["iteration"].to_numpy(dtype=float)
                start = 1.0 + 1.0 / kappa
                bound = UPPER[solver](k, kappa, 1.0) * start
                right.plot(k, bound, color=style["color"], linewidth=0.8)
        _contours(left, kappa)
        left.set_xlabel("along the ravine")
        left.set_ylabel("across")
        left.set_title(f"the first 40 iterates, κ = {kappa:g}", fontsize=9)
        right.plot([], [], color="#7F7F7F", linewidth=0.8, label="upper bound")
        right.set_yscale("log")
        right.set_xlim(0, 320)
        right.set_ylim(1e-13, 3.0)
        right.set_xlabel("iterations")
        right.set_ylabel("F − F*")
        right.set_title("thin lines: upper bounds", fontsize=9)
        legend_below(figure, [right], n_columns=5)
        return {self.name: figure}


def _drawn(
    kind: str, d: int, rng: np.random.Generator
) -> tuple[LinearModel, Array, Array, Callable[[Array], float]]:
    """A problem, a start, its minimizer and the gap as a function."""
    n = 5 * d
    basis = np.linalg.qr(rng.standard_normal((d, d)))[0]
    spectrum = np.exp(rng.uniform(0.0, math.log(10.0 ** rng.uniform(0.5, 3.0)), d))
    X = rng.standard_normal((n, d)) @ (basis * np.sqrt(spectrum / spectrum.max()))
    start = rng.standard_normal(d) * 10.0 ** rng.uniform(-1.0, 1.0)
    if kind == "quadratic":
        y, l2 = rng.standard_normal(n), 10.0 ** rng.uniform(-4.0, -1.0)
        H = X.T @ X / n + l2 * np.eye(d)
        minimizer = np.linalg.solve(H, X.T @ y / n)

        def gap(w: Array) -> float:
            return 0.5 * float((w - minimizer) @ H @ (w - minimizer))

        return LinearModel(SQUARED, X, y, l2=l2), start, minimizer, gap
    problem = LinearModel(LOGISTIC, X, labels(X, rng), l2=10.0 ** rng.uniform(-3, -1))
    best = minimize(problem, SubsampledNewton(1.0), tol=0.0, max_iter=60)
    return problem, start, best.w, lambda w: problem.at(w).value - best.value


def _gaps(
    problem: LinearModel,
    solver: str,
    start: Array,
    gap: Callable[[Array], float],
    steps: int,
) -> Array:
    found: list[float] = []

    def watch(state: State) -> None:
        found.append(gap(_iterate(state)))

    minimize(problem, SOLVERS[solver], start, tol=0.0, max_iter=steps, callback=watch)
    return np.array(found)


def _iterate(state: State) -> Array:
    """The iterate: Nesterov's point is the extrapolated one."""
    w: Array | None = getattr(state, "w", None)
    return state.point.w if w is None else w


def _contours(axes: Axes, kappa: float) -> None:
    x, y = np.meshgrid(np.linspace(-0.5, 1.1, 200), np.linspace(-0.42, 0.42, 400))
    values = 0.5 * (x**2 / kappa + y**2)
    levels = values.max() * np.geomspace(1e-3, 1.0, 9)
    axes.contour(x, y, values, levels, colors="#CCCCCC", linewidths=0.7, zorder=0)
    axes.grid(visible=False)


BOUNDS, RAVINE = Bounds(), Ravine()
