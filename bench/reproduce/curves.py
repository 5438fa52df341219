"""Panels of curves: the median over seeds, and the range as a band."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from bench.plot import look

__all__ = ["legend_below", "median_curve", "over_seeds", "panels"]

Array = NDArray[np.float64]


def panels(
    n_columns: int = 2, *, height: float = 4.4, sharey: bool = True
) -> tuple[Figure, list[Axes]]:
    """Figure of 1200 pixels width with panels side by side."""
    figure = Figure(figsize=(10.0, height), dpi=120, layout="constrained")
    axes = figure.subplots(1, n_columns, sharey=sharey, squeeze=False)[0]
    return figure, list(axes)


def over_seeds(rows: pd.DataFrame, what: str) -> str:
    """Words for a title: what a curve and its band are."""
    count = rows["seed"].nunique()
    return f"one {what}" if count == 1 else f"median and range of {count} {what}s"


def legend_below(figure: Figure, axes: list[Axes], n_columns: int = 5) -> None:
    """One legend for all panels, outside the data."""
    found: dict[str, Any] = {}
    for axis in axes:
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True):
            found.setdefault(label, handle)
    figure.legend(
        list(found.values()),
        list(found),
        loc="outside lower center",
        ncols=n_columns,
        fontsize=8.5,
    )


def median_curve(
    axes: Axes,
    rows: pd.DataFrame,
    solver: str,
    *,
    label: str,
    x: str = "props",
    y: str = "loss",
    scale: float = 1.0,
    start: float = 0.0,
    floor: float | None = None,
    band: bool = True,
    name: str | None = None,
) -> None:
    """Draw one solver over all its seeds, against a logarithmic x.

    Runs are read on a common grid as the best that was reached by then; one that has
    ended keeps its last value until the longest ends.

    Parameters
    ----------
    axes : Axes
        Panel.
    rows : DataFrame
        Of all solvers, with the columns solver, seed, x and y.
    solver : str
        Which one.
    label : str
        In the legend.
    x, y : str
        Columns.
    scale : float, default 1
        x is divided by it.
    start : float, default 0
        Where the axis starts.
    floor : float, optional
        Smaller values of y are drawn there.
    band : bool, default True
        Whether to show the range.
    name : str, optional
        Name of the look, if it is not that of the solver.
    """
    runs = []
    for _, run in rows[rows["solver"] == solver].groupby("seed", sort=True):
        known = run[(run[x] > 0) & run[y].notna()]
        if len(known):
            runs.append((known[x].to_numpy() / scale, known[y].to_numpy()))
    if not runs:
        return
    style = look(name or solver)
    first = max(start, *(points[0] for points, _ in runs))
    last = max(points[-1] for points, _ in runs)
    grid = np.geomspace(first, max(last, first * 1.001), 400)
    table = np.array([_at(grid, points, values) for points, values in runs])
    if floor is not None:
        table = np.maximum(table, floor)
    middle = np.sort(table, axis=0)[len(table) // 2]
    axes.plot(grid, middle, label=label, **style)
    if band and len(runs) > 1:
        axes.fill_between(
            grid,
            table.min(axis=0),
            table.max(axis=0),
            color=style["color"],
            alpha=0.15,
            linewidth=0.0,
        )


def _at(grid: Array, points: Array, values: Array) -> Array:
    """Smallest value that was reached by then."""
    best = np.minimum.accumulate(values)
    index = np.searchsorted(points, grid, side="right") - 1
    taken: Array = best[np.maximum(index, 0)]
    return taken
