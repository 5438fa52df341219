"""Search of the smallest budget with which a whole fit reaches each level."""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.problems import Objective, Reference
from bench.rows import LEVELS, Emit, Row

__all__ = ["ITERATIONS", "Outcome", "Sweep", "settle", "tolerance"]

ITERATIONS = tuple(sorted({m << k for m in (2, 3) for k in range(20)} | {1}))
"""1, 2, 3, 4, 6, 8, 12, ...: the search refines afterwards."""


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


def settle() -> None:
    """Wait until the threads of BLAS sleep.

    After a product they keep their cores busy in the hope of another one, and what runs
    next would pay for it: a Hessian-vector product 57 ms after 0.05 s, 42 after 0.2 s.
    """
    time.sleep(0.2)


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
    ks : sequence of int
        Growing budgets.
    budget : callable, int -> dict
        The parameter of the solver that k stands for, alone.
    parameters : dict
        Further parameters, for the rows.
    proportional : bool
        Whether the time grows in proportion to the budget, or hardly.
    cap : float
        Seconds for the search; a third of it for one fit.
    seed, repeats : int
        Repetition r has the seed ``seed + r``.
    levels : sequence of float
        Falling.
    spare : float
        Time for repetitions, over that for the search.
    """

    def __init__(
        self,
        name: str,
        fit: Callable[[int, int], Outcome],
        ks: Sequence[int],
        *,
        budget: Callable[[int], dict[str, float]],
        parameters: dict[str, Any],
        proportional: bool,
        cap: float,
        seed: int,
        repeats: int,
        levels: Sequence[float] = LEVELS,
        spare: float = 0.5,
    ) -> None:
        self.name, self.fit, self.ks = name, fit, ks
        self.budget, self.parameters = budget, parameters
        self.proportional = proportional
        self.cap, self.seed, self.repeats = cap, seed, repeats
        self.levels, self.spare = levels, spare
        self.spent, self.best = 0.0, math.inf
        self.seconds: dict[int, list[float]] = defaultdict(list)
        self.reached: dict[int, float] = {}
        """Largest suboptimality of the fits with a budget."""

    def __call__(self, objective: Objective, reference: Reference, emit: Emit) -> None:
        """Run all fits that the time allows."""
        self.search(objective, reference, emit)
        self.repeat(self.repeats)

    def search(self, objective: Objective, reference: Reference, emit: Emit) -> None:
        """Look for the smallest budgets."""
        self.objective, self.reference, self.emit = objective, reference, emit
        self._explore()
        for level in self.levels:
            self._refine(level)

    def repeat(self, count: int) -> None:
        """Repeat them until each has that many fits."""
        for level in self.levels:
            self._repeat(level, count)

    def smallest(self, level: float) -> int | None:
        """Smallest budget of which every fit reached a level."""
        return min((k for k, s in self.reached.items() if s <= level), default=None)

    def _explore(self) -> None:
        for k in self.ks:
            if self.reached and not self._affordable(k):
                return
            outcome = self._run(k, 0)
            if outcome.stopped or self.reached[k] <= self.levels[-1]:
                return

    def _refine(self, level: float) -> None:
        while (high := self.smallest(level)) is not None:
            low = max((k for k in self.reached if k < high), default=0)
            middle = (low + high) // 2
            if high - low <= max(1, high // 20) or not self._affordable(middle):
                return
            self._run(middle, 0)

    def _repeat(self, level: float, count: int) -> None:
        """Repeat the smallest budget; a larger one where another seed fails with it."""
        while self.best <= level:
            k = self.smallest(level)
            if k is None:
                k = next((k for k in self.ks if k > max(self.reached)), None)
            elif len(self.seconds[k]) >= count:
                return
            # Time of its own, so that a slow exploration is repeated too.
            if k is None or not self._affordable(k, extra=self.spare):
                return
            self._run(k, len(self.seconds[k]))

    def _affordable(self, k: int, extra: float = 0.0) -> bool:
        """Whether a fit is expected to fit in the time: it cannot be interrupted."""
        nearest = max((j for j in self.reached if j <= k), default=min(self.reached))
        expected = median(self.seconds[nearest])
        if self.proportional and k > nearest:
            expected *= k / nearest
        total = (1.0 + extra) * self.cap
        return expected <= self.cap / 3 and self.spent + expected <= total

    def _run(self, k: int, repeat: int) -> Outcome:
        seed = self.seed + repeat
        outcome = self.fit(k, seed)
        value, norm = self.objective.evaluate(outcome.w)
        suboptimality = self.reference.suboptimality(value)
        self.best = min(self.best, suboptimality)
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
