"""Experiments of several parts, and what parts share: verdicts, exponents."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from bench.reproduce.experiment import Claim, Scope, Task, Verdict

__all__ = [
    "Part",
    "Parts",
    "exponent",
    "first_below",
    "verdict",
]

Rows = list[dict[str, Any]]


class Part(Protocol):
    """A part of an experiment: its rows are those with its name in ``part``."""

    name: str

    def parameters(self, scope: Scope) -> list[dict[str, Any]]:
        """Parameters of the tasks."""

    def run(self, parameters: dict[str, Any]) -> Rows:
        """Rows of a task."""

    def claims(self, rows: pd.DataFrame, scope: Scope) -> list[Claim]:
        """Verdicts from the rows of this part."""

    def figures(self, rows: pd.DataFrame, scope: Scope) -> dict[str, Figure]:
        """Figures by file stem."""


@dataclass(frozen=True)
class Parts:
    """An experiment that is the union of its parts."""

    name: str
    title: str
    parts: tuple[Part, ...]
    text: str = ""
    """One paragraph for the page of results."""

    def tasks(self, scope: Scope) -> list[Task]:
        """Tasks of all parts, seeds outermost."""
        found = [
            {"part": part.name} | parameters
            for part in self.parts
            for parameters in part.parameters(scope)
        ]
        found.sort(key=lambda parameters: parameters.get("seed", 0))
        return [Task(self.name, parameters) for parameters in found]

    def run(self, task: Task) -> Rows:
        """Rows of a task, by the part that it belongs to."""
        name = task.parameters["part"]
        (part,) = (part for part in self.parts if part.name == name)
        return part.run(task.parameters)

    def claims(self, rows: pd.DataFrame, scope: Scope) -> list[Claim]:
        """Verdicts of all parts that have rows."""
        return [
            claim for part, own in self._own(rows) for claim in part.claims(own, scope)
        ]

    def figures(self, rows: pd.DataFrame, scope: Scope) -> dict[str, Figure]:
        """Figures of all parts that have rows."""
        return {
            f"{self.name}-{stem}": figure
            for part, own in self._own(rows)
            for stem, figure in part.figures(own, scope).items()
        }

    def reading(self, rows: pd.DataFrame, scope: Scope) -> str:
        """Paragraph for the page of results."""
        return self.text

    def _own(self, rows: pd.DataFrame) -> Iterable[tuple[Part, pd.DataFrame]]:
        for part in self.parts:
            own = rows[rows["part"] == part.name].dropna(axis=1, how="all")
            if len(own):
                yield part, _whole_numbers(own)


def _whole_numbers(rows: pd.DataFrame) -> pd.DataFrame:
    """Undo what nan in the rows of other parts has made of integers."""
    integral = {
        name: np.int64
        for name, column in rows.select_dtypes("float").items()
        if np.all(np.isfinite(column)) and np.all(column == np.rint(column))
    }
    return rows.astype(integral)


def verdict(*conditions: bool | np.bool_ | None) -> Verdict:
    """All must hold; not decidable where one that does not fail is unknown (None)."""
    if any(c is not None and not c for c in conditions):
        return Verdict.DOES_NOT_HOLD
    if not conditions or any(c is None for c in conditions):
        return Verdict.NOT_DECIDABLE
    return Verdict.HOLDS


def exponent(x: Sequence[float] | Any, y: Sequence[float] | Any) -> float:
    """Slope of ``log y`` over ``log x``; nan without two points above 0."""
    x, y = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    good = (x > 0.0) & (y > 0.0) & np.isfinite(x) & np.isfinite(y)
    if np.unique(x[good]).size < 2:
        return math.nan
    return float(np.polyfit(np.log(x[good]), np.log(y[good]), 1)[0])


def first_below(x: Any, y: Any, level: float) -> float:
    """First of ``x`` where ``y <= level``; nan if there is none."""
    below = np.flatnonzero(np.asarray(y) <= level)
    return float(np.asarray(x)[below[0]]) if below.size else math.nan
