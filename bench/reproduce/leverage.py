"""Randomized least squares: samples by leverage, sketches, their time and accuracy."""

from __future__ import annotations

from bench.reproduce.leverage_accuracy import ACCURACY
from bench.reproduce.leverage_law import LAW
from bench.reproduce.leverage_sampling import SAMPLING
from bench.reproduce.leverage_time import TIME
from bench.reproduce.parts import Parts

__all__ = ["EXPERIMENT"]

EXPERIMENT = Parts(
    "leverage",
    "Least squares: leverage scores and sketches",
    (SAMPLING, TIME, LAW, ACCURACY),
    "Every number comes from the solvers of the package. Times are those of the "
    "processor with one thread, so that a busy machine does not decide; normal "
    "equations are matrix products, whose small constant moves the crossover to "
    "hundreds of columns.",
)
