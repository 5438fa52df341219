"""The figure, from the rows alone."""

from __future__ import annotations

import io
import math
from collections import defaultdict
from pathlib import Path
from statistics import median
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from PIL import Image

from bench.rows import LEVELS
from bench.summary import LABELS

__all__ = ["LOOKS", "STYLE", "draw", "look", "save"]

FLOOR = 1e-16
"""Rounding: below this the values mean nothing and a curve ends."""
# Colours of Okabe and Ito, told apart with every common colour blindness, used once in
# each family: solid lines for line-search Newton methods, long dashes for trust regions
# and their like, dots for first-order, dash-dots for stochastic methods; rivals have
# short dashes with hollow markers.
BLACK, ORANGE, SKY, GREEN = "#000000", "#E69F00", "#56B4E9", "#009E73"
BLUE, RED, PINK, GREY = "#0072B2", "#D55E00", "#CC79A7", "#7F7F7F"
LOOKS: dict[str, dict[str, Any]] = {
    "auto": {"color": BLUE, "linewidth": 2.4, "zorder": 5},
    "subsampled-newton": {"color": SKY},
    "subsampled-newton-cg": {"color": GREEN},
    "subsampled-newton-leverage": {"color": PINK},
    "subsampled-newton-row-norms": {"color": ORANGE},
    "newton": {"color": BLACK},
    "newton-cg": {"color": GREY},
    "multilevel-newton": {"color": BLUE},
    "dual-start-newton": {"color": RED},
    **{
        name: {"color": color, "linestyle": (0, (5, 1))}
        for name, color in {
            "trust-region": BLACK,
            "subsampled-trust-region": SKY,
            "sampled-start": BLUE,
            "row-norms-trust-region": BLUE,
            "inexact-trust-region": ORANGE,
            "cubic": RED,
            "subsampled-cubic": PINK,
            "row-norms-cubic": ORANGE,
            "inexact-cubic": GREEN,
            "scr-lanczos": BLUE,
            "scr-gd": GREY,
            "gauss-newton": GREY,
            "levenberg-marquardt": GREEN,
        }.items()
    },
    **{
        name: {"color": color, "linestyle": (0, (5, 1, 1, 1))}
        for name, color in {
            "subsampled-gauss-newton": ORANGE,
            "row-norms-gauss-newton": BLUE,
        }.items()
    },
    **{
        name: {"color": color, "linestyle": ":"}
        for name, color in {
            "lbfgs": BLACK,
            "gradient-descent": GREY,
            "barzilai-borwein": SKY,
            "nesterov": ORANGE,
            "heavy-ball": RED,
        }.items()
    },
    **{
        name: {"color": color, "linestyle": "-."}
        for name, color in {
            "sag": GREEN,
            "saga": PINK,
            "svrg": ORANGE,
            "sdca": BLUE,
            "sgd": GREY,
        }.items()
    },
    "fit": {"color": BLUE, "marker": "o", "linewidth": 1.6, "zorder": 6},
    "sklearn-newton-cholesky": {"color": BLACK, "marker": "s"},
    "sklearn-lbfgs": {"color": ORANGE, "marker": "^"},
    "sklearn-newton-cg": {"color": RED, "marker": "D"},
    "sklearn-sag": {"color": GREEN, "marker": "v"},
    "sklearn-saga": {"color": PINK, "marker": "o"},
    "sklearn-liblinear": {"color": GREY, "marker": "x"},
}
MARKERS = {
    "trust-region": "s",
    "subsampled-trust-region": "o",
    "row-norms-trust-region": "^",
    "inexact-trust-region": "D",
    "sampled-start": "P",
    "cubic": "s",
    "subsampled-cubic": "o",
    "row-norms-cubic": "^",
    "inexact-cubic": "D",
    "scr-lanczos": "v",
    "scr-gd": "x",
    "gauss-newton": "s",
    "subsampled-gauss-newton": "o",
    "row-norms-gauss-newton": "^",
    "newton": "s",
    "subsampled-newton": "o",
    "subsampled-newton-cg": "P",
    "subsampled-newton-leverage": "v",
    "subsampled-newton-row-norms": "^",
    "multilevel-newton": "D",
    "dual-start-newton": "X",
    "lbfgs": "x",
    "gradient-descent": "+",
    "barzilai-borwein": "*",
    "nesterov": "D",
    "heavy-ball": "P",
    "sag": "o",
    "saga": "v",
    "svrg": "^",
    "sdca": "s",
    "sgd": "x",
}
"""Where many curves share a panel and a print may be grey."""
FITS = {
    "linestyle": "--",
    "linewidth": 1.0,
    "markersize": 4.5,
    "markerfacecolor": "white",
    "clip_on": False,
}
STYLE: Any = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#DDDDDD",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "legend.frameon": False,
}


def draw(document: dict[str, Any], path: Path) -> None:
    """Write a figure of 1400 pixels width: against passes, and against seconds.

    Parameters
    ----------
    document : dict
        With ``problem``, ``machine`` and ``rows``, as `bench.run` writes them.
    path : Path
        A PNG file.
    """
    rows = [r for r in document["rows"] if r["suboptimality"] is not None]
    with matplotlib.rc_context(STYLE):
        # No pyplot: it would choose a backend and keep the figure.
        legend_rows = math.ceil(len({r["solver"] for r in rows}) / 4)
        height = 5.2 + 0.2 * max(0, legend_rows - 3)
        figure = Figure(figsize=(10.0, height), dpi=140, layout="constrained")
        left, right = figure.subplots(1, 2, sharey=True)
        _panel(left, rows, "passes")
        _panel(right, rows, "seconds")
        left.set_ylabel("relative suboptimality  (F − F*) / (F(0) − F*)")
        left.set_xlabel("passes over the data")
        right.set_xlabel("seconds")
        right.set_xscale("log")
        right.xaxis.set_major_formatter("{x:g}")
        left.set_yscale("log")
        left.set_ylim(FLOOR / 2.0, 3.0)
        left.set_xlim(left=0.0)
        left.xaxis.set_major_locator(MaxNLocator(steps=[1, 2, 5, 10], integer=True))
        left.set_title("our solvers", fontsize=9)
        right.set_title("lines: inside one run; markers: whole fits", fontsize=9)
        problem = document["problem"]
        part = f", part of {problem['subset_of']}" if problem["subset_of"] else ""
        figure.suptitle(
            f"Logistic regression on {problem['dataset']} "
            f"({problem['n']} × {problem['d']}{part}), "
            f"α = {problem['alpha']:.2g}, {document['machine']['threads']} threads",
            fontsize=10,
        )
        handles, labels = right.get_legend_handles_labels()
        figure.legend(
            handles, labels, loc="outside lower center", ncols=4, fontsize=8.5
        )
        save(figure, path)


def look(solver: str) -> dict[str, Any]:
    """Colour, line style and marker of a solver, the same in every figure."""
    marked: dict[str, Any] = {}
    if solver in MARKERS:
        marked = {
            "marker": MARKERS[solver],
            "markevery": 0.12,  # of the length of the axes, not of the points
            "markersize": 4.5,
            "markerfacecolor": "white",
        }
    return marked | {"linewidth": 1.5} | LOOKS[solver]


def save(figure: Figure, path: Path) -> None:
    """Write a PNG with a palette of 128 colours: a third of the size, the same look."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    image = Image.open(buffer).convert("RGB").quantize(128)
    image.save(path, optimize=True)


def _panel(axes: Axes, rows: list[dict[str, Any]], column: str) -> None:
    for solver, label in LABELS.items():
        own = [r for r in rows if r["solver"] == solver]
        if not own or (column == "passes" and own[0]["kind"] == "fit"):
            continue
        look: dict[str, Any] = {"label": label, **LOOKS[solver]}
        if own[0]["kind"] == "fit":
            look = {**FITS, **look}
            axes.plot(*_of_fits(own, column), **look)
            continue
        runs = [[r for r in own if r["seed"] == s] for s in {r["seed"] for r in own}]
        runs.sort(key=_speed)
        middle = runs.pop(len(runs) // 2)
        for run in runs:
            # The run of median speed stands out, the others show the spread.
            fade = {"alpha": 0.3, "linewidth": 1.0, "label": None}
            axes.plot(*_of_trace(run, column), **(look | fade))
        axes.plot(*_of_trace(middle, column), **look)


def _speed(run: list[dict[str, Any]]) -> float:
    """Seconds to the middle level."""
    level = LEVELS[len(LEVELS) // 2]
    return next((r["seconds"] for r in run if r["suboptimality"] <= level), math.inf)


def _of_trace(rows: list[dict[str, Any]], column: str) -> tuple[list[float], ...]:
    """A curve until it touches the floor."""
    x, y = [], []
    for row in rows:
        if column == "seconds" and row["budget"] == 0:
            continue  # the start, at next to no time: decades of a logarithmic axis
        x.append(row[column])
        y.append(max(row["suboptimality"], FLOOR))
        if y[-1] == FLOOR:
            break
    return x, y


def _of_fits(rows: list[dict[str, Any]], column: str) -> tuple[list[float], ...]:
    """Medians per budget, less those that a faster fit beats."""
    groups: dict[float, list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        groups[row["budget"]].append(row)
    points = sorted(
        (median(r[column] for r in g), max(r["suboptimality"] for r in g))
        for g in groups.values()
    )
    x: list[float] = []
    y: list[float] = []
    for seconds, suboptimality in points:
        if not y or max(suboptimality, FLOOR) < y[-1]:
            x.append(seconds)
            y.append(max(suboptimality, FLOOR))
    return x, y
