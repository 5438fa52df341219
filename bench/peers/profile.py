"""Performance profiles of Dolan and Moré over (problem, level).

References
----------
E. D. Dolan, J. J. Moré, Benchmarking optimization software with performance profiles,
Mathematical Programming 91 (2002), definition (2.1).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from bench.plot import BLACK, BLUE, GREEN, GREY, ORANGE, PINK, RED, SKY, STYLE, save

__all__ = ["draw", "fractions", "ratios"]

BROWN = "#8C564B"
LOOKS = {
    "ours": (BLUE, "-"),
    "scikit-learn": (BLACK, "--"),
    "scikit-learn-intelex": (ORANGE, "--"),
    "snapml": (RED, "-."),
    "glum": (GREEN, "-."),
    "liblinear-official": (PINK, ":"),
    "cyanure": (SKY, ":"),
    "skglm": (GREY, ":"),
    "scipy": (BROWN, "--"),
}
"""In the order of the legend."""


def ratios(
    cases: Sequence[Mapping[str, float | None]],
) -> dict[str, NDArray[np.float64]]:
    """Time of each solver over that of the fastest, case by case; inf: not solved.

    Parameters
    ----------
    cases : sequence of mapping
        Seconds by solver; None or no entry where it did not succeed. Cases that nobody
        solved tell nothing and are left out.
    """
    solved = [
        {name: t for name, t in case.items() if t is not None}
        for case in cases
        if any(t is not None for t in case.values())
    ]
    names = dict.fromkeys(name for case in cases for name in case)
    return {
        name: np.array(
            [case.get(name, np.inf) / min(case.values()) for case in solved],
            dtype=float,
        )
        for name in names
    }


def fractions(own: NDArray[np.float64], at: NDArray[np.float64]) -> NDArray[np.float64]:
    """Share of the cases with a ratio of at most each of some numbers."""
    share: NDArray[np.float64] = (own[:, None] <= at).mean(axis=0)
    return share


def draw(cases: Sequence[Mapping[str, float | None]], path: Path) -> bool:
    """Write the figure; return False where there is nothing to draw."""
    found = ratios(cases)
    count = len(next(iter(found.values()), ()))
    if count == 0:
        return False
    finite = np.concatenate([own[np.isfinite(own)] for own in found.values()])
    right = max(2.0, 1.25 * float(finite.max()))
    edges = np.unique(np.append(finite, [1.0, right]))
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(7.5, 4.4), dpi=140, layout="constrained")
        axes = figure.subplots()
        for name in sorted(found, key=list(LOOKS).index):
            color, line = LOOKS[name]
            axes.step(
                edges,
                fractions(found[name], edges),
                where="post",
                label=name,
                color=color,
                linestyle=line,
                linewidth=2.4 if name == "ours" else 1.5,
                zorder=5 if name == "ours" else 3,
                clip_on=False,
            )
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter("{x:g}")
        axes.set_xlim(1.0, right)
        axes.set_ylim(0.0, 1.0)
        axes.set_xlabel("time / time of the fastest (τ)")
        axes.set_ylabel("share of cases solved within τ")
        axes.set_title(
            f"Performance profile over {count} cases (problem, accuracy); "
            "a package\n"
            "counts with its fastest solver; where it has none, as not solving",
            fontsize=9,
        )
        figure.legend(loc="outside right center", fontsize=8.5)
        save(figure, path)
    return True
