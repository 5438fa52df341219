"""Rules for the number of rows of a Hessian sample."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Protocol

import numpy as np

from subsampled_newton.linear_model import LinearModel
from subsampled_newton.problem import FiniteSum
from subsampled_newton.sampling import chernoff_sample_size, uniform_sample_size

__all__ = [
    "Fixed",
    "Growing",
    "InverseStep",
    "Lemma",
    "SizeRule",
    "Spectral",
    "as_size_rule",
    "sketch_size",
]


class SizeRule(Protocol):
    """Number of rows of the first and of the following samples."""

    uses_curvature: ClassVar[bool]
    """Whether ``next`` looks at the ratio of curvatures, which costs O(n)."""

    def first(self, problem: FiniteSum) -> int: ...
    def next(
        self,
        problem: FiniteSum,
        state: Any,
        ratio: float,
        step_size: float,
        decrement: float,
    ) -> int: ...


@dataclass(frozen=True)
class Fixed:
    """The same number of rows in every iteration, or the same fraction."""

    size: float | int
    uses_curvature: ClassVar[bool] = False

    def __post_init__(self) -> None:
        _check_size("hessian_sample", self.size)

    def first(self, problem: FiniteSum) -> int:
        return row_count(self.size, problem.n_samples)

    def next(
        self,
        problem: FiniteSum,
        state: Any,
        ratio: float,
        step_size: float,
        decrement: float,
    ) -> int:
        return int(state.sample_size)


@dataclass(frozen=True)
class Lemma(Fixed):
    """The number of rows that guarantees a spectral approximation.

    The bounds are pessimistic: on real data they often exceed n, and then a warning
    says that all rows are used.

    Parameters
    ----------
    eps, delta : float in (0, 1), default 0.5 and 0.1
        ``(1 - eps) H <= H_S <= (1 + eps) H`` with probability ``1 - delta``.
    bound : {"published", "chernoff"}, default "published"
        With the square of the condition number, as published, or the sharper one.
    """

    size: float | int = 1.0
    eps: float = 0.5
    delta: float = 0.1
    bound: Literal["published", "chernoff"] = "published"

    def __post_init__(self) -> None:
        if self.bound not in ("published", "chernoff"):
            raise ValueError(
                f"bound must be 'published' or 'chernoff', got {self.bound!r}"
            )
        uniform_sample_size(1.0, 1, eps=self.eps, delta=self.delta, n=1)  # checks both

    def first(self, problem: FiniteSum) -> int:
        if not isinstance(problem, LinearModel):
            raise TypeError(f"Lemma needs a LinearModel, got {type(problem).__name__}")
        rule = (
            uniform_sample_size if self.bound == "published" else chernoff_sample_size
        )
        n = problem.n_samples
        size: int = rule(
            problem.sample_condition(),
            problem.n_params,
            eps=self.eps,
            delta=self.delta,
            n=n,
        )
        if size == n:
            warnings.warn(
                f"the {self.bound} bound asks for more than the {n} rows there are: "
                "all rows are used; a fraction or Spectral() samples",
                RuntimeWarning,
                stacklevel=2,
            )
        return size


@dataclass(frozen=True)
class Growing(Fixed):
    """``ceil(factor * size)`` rows next, up to all: superlinear convergence.

    All rows come after half of them, whose copy costs as much as it saves.
    """

    size: float | int = 0.01
    factor: float = 1.5

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_factor(self.factor)

    def next(
        self,
        problem: FiniteSum,
        state: Any,
        ratio: float,
        step_size: float,
        decrement: float,
    ) -> int:
        size = math.ceil(self.factor * int(state.sample_size))
        return size if 2 * size <= problem.n_samples else problem.n_samples


@dataclass(frozen=True)
class Spectral(Fixed):
    """Grow the sample when the step shows that it misjudged the curvature.

    The full Hessian along the direction, ``p'Hp``, is known for nothing from the line
    search. The next sample is ``factor`` times larger when ``p'H_S p / p'Hp`` leaves
    ``[1 - eps, 1 + eps]``, when a step was shortened, or when the predicted decrease
    fell by less than 4 although the unit step was taken. In the end the sample is all
    rows, which is Newton's method.

    Parameters
    ----------
    size : float or int, default 0.05
        First sample.
    eps : float, default 0.5
        Tolerated relative error of the curvature.
    factor : float, default 2.0
        Growth.
    """

    size: float | int = 0.05
    eps: float = 0.5
    factor: float = 2.0
    uses_curvature: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_factor(self.factor)
        if not 0.0 < self.eps < 1.0:
            raise ValueError(f"eps must be in (0, 1), got {self.eps!r}")

    def next(
        self,
        problem: FiniteSum,
        state: Any,
        ratio: float,
        step_size: float,
        decrement: float,
    ) -> int:
        size = int(state.sample_size)
        slow = decrement > 0.25 * state.decrement  # False at first: nan
        good = abs(ratio - 1.0) <= self.eps and step_size == 1.0 and not slow
        return size if good else min(problem.n_samples, math.ceil(self.factor * size))


@dataclass(frozen=True)
class InverseStep(Fixed):
    """Rows in inverse proportion to the square of the last step, from the first size.

    For `TrustRegion` and `CubicRegularization`: their theory asks for an error of the
    Hessian of the order of the step [1]_. The first step fixes the constant.

    Parameters
    ----------
    size : float or int, default 0.05
        First and smallest sample.

    References
    ----------
    .. [1] J. Kohler, A. Lucchi, Sub-sampled cubic regularization for non-convex
       optimization, ICML 2017, Theorem 9 and Section 5.
    """

    size: float | int = 0.05

    def next(
        self,
        problem: FiniteSum,
        state: Any,
        ratio: float,
        step_size: float,
        decrement: float,
    ) -> int:
        if not hasattr(state, "first_step"):
            raise TypeError("InverseStep needs a trust-region or cubic method")
        growth = (state.first_step / state.step_norm) ** 2
        size = self.first(problem) * max(1.0, growth)
        return problem.n_samples if not size < problem.n_samples else math.ceil(size)


def as_size_rule(size: float | int | SizeRule) -> SizeRule:
    """Return a rule for a fraction, a count or a rule."""
    if isinstance(size, int | float | np.number):
        return Fixed(size)
    if not hasattr(size, "first"):
        raise TypeError(
            "hessian_sample must be a fraction in (0, 1], a number of rows or a rule "
            f"(Lemma, Growing, Spectral), got {size!r}"
        )
    return size


def row_count(size: float | int, n: int) -> int:
    if isinstance(size, int | np.integer):
        return min(int(size), n)
    return max(1, math.ceil(size * n))


def _check_size(name: str, size: float | int) -> None:
    whole = isinstance(size, int | np.integer) and not isinstance(size, bool)
    fraction = isinstance(size, float | np.floating)
    if not ((whole and size >= 1) or (fraction and 0.0 < size <= 1.0)):
        raise ValueError(
            f"{name} must be a fraction in (0.0, 1.0] or a number of rows >= 1, "
            f"got {size!r}"
        )


def _check_factor(factor: float) -> None:
    if not 1.0 < factor < math.inf:
        raise ValueError(f"factor must be > 1, got {factor!r}")


def sketch_size(embedding: str, n: int, d: int) -> int:
    """Rows of a sketch by default.

    Between 4 d, for a contraction of one half an iteration, and 40 d, where it is a
    sixth: ``10 n / d`` balances the factorisation of the sketch with the reads of the
    data that a larger one saves (measured on two cores). CountSketch: at least 20 d;
    samples of rows: at least ``4 d log d``.
    """
    least = {"count-sketch": 20.0, "leverage": 4.0 * math.log(d + 2.0)}
    least["uniform"] = least["leverage"]
    factor = max(least.get(embedding, 4.0), min(10.0 * n / d**2, 40.0))
    return 8 * max(4, math.ceil(factor * d / 8))
