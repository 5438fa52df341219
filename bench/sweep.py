"""Search of the smallest budget with which a whole fit reaches each level."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.problems import Objective, Reference
from bench.rows import LEVELS, Emit, Row

__all__ = ["Outcome", "Sweep", "iterations", "tolerance"]


@dataclass(frozen=True)
class Outcome:
    """One whole fit."""

    seconds: float
    w: NDArray[np.float64]
    stopped: bool
    """It ended of itself: a larger budget would give the same."""
    status: str
    passes: float | None = None
    props: int | None = None


def iterations() -> Iterator[int]:
    """1, 2, 3, 4, 6, 8, 12, ...: the search refines afterwards."""
    yield 1
    k = 2
    while True:
        yield k
        yield k * 3 // 2
        k *= 2


def tolerance(k: int) -> float:
    """Quarter decades, so that tolerances are budgets with whole numbers too."""
    return float(10.0 ** (-k / 4))


class Sweep:
    """Fits with growing budgets, refined at the levels and repeated there.

    Parameters
    ----------
    name : str
        Solver, for the rows.
    fit : callable, (k, seed) -> Outcome
        A whole fit from scratch.
    ks : iterable of int
        Growing budgets.
    budget : callable, int -> dict
        The parameter of the solver that k stands for, alone.
    parameters : dict
        Further parameters, for the rows.
    proportional : bool
        Whether the time grows in proportion to the budget, or hardly.
    cap : float
        Seconds for everything; a third of it for one fit.
    seed, repeats : int
        Repetition r has the seed ``seed + r``.
    """

    def __init__(
        self,
        name: str,
        fit: Callable[[int, int], Outcome],
        ks: Iterable[int],
        *,
        budget: Callable[[int], dict[str, float]],
        parameters: dict[str, Any],
        proportional: bool,
        cap: float,
        seed: int,
        repeats: int,
    ) -> None:
        self.name, self.fit, self.ks = name, fit, ks
        self.budget, self.parameters = budget, parameters
        self.proportional = proportional
        self.cap, self.seed, self.repeats = cap, seed, repeats
        self.spent = 0.0
        self.seconds: dict[int, list[float]] = defaultdict(list)
        self.reached: dict[int, float] = {}
        """Largest suboptimality of the fits with a budget."""

    def __call__(self, objective: Objective, reference: Reference, emit: Emit) -> None:
        """Run all fits that the time allows."""
        self.objective, self.reference, self.emit = objective, reference, emit
        self._explore()
        for level in LEVELS:
            self._refine(level)
        for repeat in range(1, self.repeats):
            for k in sorted({k for level in LEVELS if (k := self.smallest(level))}):
                if self._affordable(k):
                    self._run(k, repeat)

    def smallest(self, level: float) -> int | None:
        """Smallest budget that reached a level."""
        return min((k for k, s in self.reached.items() if s <= level), default=None)

    def _explore(self) -> None:
        for k in self.ks:
            if self.reached and not self._affordable(k):
                return
            outcome = self._run(k, 0)
            if outcome.stopped or self.reached[k] <= LEVELS[-1]:
                return

    def _refine(self, level: float) -> None:
        while (high := self.smallest(level)) is not None:
            low = max((k for k in self.reached if k < high), default=0)
            middle = (low + high) // 2
            if high - low <= max(1, high // 20) or not self._affordable(middle):
                return
            self._run(middle, 0)

    def _affordable(self, k: int) -> bool:
        """Whether a fit is expected to fit in the time: it cannot be interrupted."""
        nearest = max((j for j in self.reached if j <= k), default=min(self.reached))
        expected = median(self.seconds[nearest])
        if self.proportional and k > nearest:
            expected *= k / nearest
        return expected <= self.cap / 3 and self.spent + expected <= self.cap

    def _run(self, k: int, repeat: int) -> Outcome:
        seed = self.seed + repeat
        outcome = self.fit(k, seed)
        value, norm = self.objective.evaluate(outcome.w)
        suboptimality = self.reference.suboptimality(value)
        self.spent += outcome.seconds
        self.seconds[k].append(outcome.seconds)
        self.reached[k] = max(self.reached.get(k, 0.0), suboptimality)
        (budget,) = self.budget(k).values()
        self.emit(
            Row(
                self.name,
                "fit",
                seed,
                budget,
                outcome.seconds,
                value,
                suboptimality,
                norm,
                outcome.status,
                outcome.passes,
                outcome.props,
                self.budget(k) | self.parameters,
            )
        )
        return outcome
