"""Rules for the number of rows of a Hessian sample."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple, Protocol

import numpy as np

from subsampled_newton.linear_model import LinearModel
from subsampled_newton.parameters import check_number, check_one_of, is_number, shown
from subsampled_newton.problem import FiniteSum
from subsampled_newton.sampling import chernoff_sample_size, uniform_sample_size

__all__ = [
    "Evidence",
    "Fixed",
    "Growing",
    "InverseStep",
    "Lemma",
    "SizeRule",
    "Spectral",
    "as_size_rule",
    "sketch_size",
]


class Evidence(NamedTuple):
    """What a step has shown of its sample. None: the solver has not measured it."""

    n_samples: int
    ratio: float | None = None
    """``p'H_S p / p'Hp`` along the step p."""
    step_size: float | None = None
    """1 for the minimizer of the model, less where the line search shortened it; None
    where a trust region, a cubic term or a sampled gradient has set the step."""
    decrement: float | None = None
    """Predicted decrease."""
    previous: float | None = None
    """Predicted decrease of the step before; None at first, or where something else
    than the Hessian has set it."""
    growth: float | None = None
    """Norm of the first step over the norm of this one."""


class SizeRule(Protocol):
    """Number of rows of the first and of the following samples.

    A rule raises `TypeError` where the evidence that it needs is None.
    """

    uses_curvature: ClassVar[bool]
    """Whether ``next`` looks at the ratio of curvatures, which costs O(n)."""

    def first(self, problem: FiniteSum) -> int: ...
    def next(self, size: int, evidence: Evidence) -> int: ...


@dataclass(frozen=True)
class Fixed:
    """The same number of rows in every iteration, or the same fraction."""

    size: float | int
    uses_curvature: ClassVar[bool] = False

    def __post_init__(self) -> None:
        # Of a number that a solver was given, its parameter.
        _check_size("hessian_sample" if type(self) is Fixed else "size", self.size)

    def first(self, problem: FiniteSum) -> int:
        return row_count(self.size, problem.n_samples)

    def next(self, size: int, evidence: Evidence) -> int:
        return size


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

    Notes
    -----
    As in the paper, where ``bound`` is ``"published"``, with the strong convexity of
    the ridge.
    """

    size: float | int = 1.0
    eps: float = 0.5
    delta: float = 0.1
    bound: Literal["published", "chernoff"] = "published"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_one_of("bound", self.bound, ("published", "chernoff"))
        check_number("eps", self.eps, "in (0, 1)")
        check_number("delta", self.delta, "in (0, 1)")

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
        check_number("factor", self.factor, "> 1")

    def next(self, size: int, evidence: Evidence) -> int:
        size = math.ceil(self.factor * size)
        return size if 2 * size <= evidence.n_samples else evidence.n_samples


@dataclass(frozen=True)
class Spectral(Fixed):
    """Grow the sample when the step shows that it misjudged the curvature.

    The full Hessian along the direction, ``p'Hp``, is known for nothing from the trial
    of the step. The next sample is ``factor`` times larger when ``p'H_S p / p'Hp``
    leaves ``[1 - eps, 1 + eps]``, when the line search shortened the step, or when the
    predicted decrease fell by less than 4 although the unit step was taken. Steps that
    a trust region or a cubic term limits are judged by their curvature alone. In the
    end the sample is all rows, which is Newton's method.

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
        check_number("factor", self.factor, "> 1")
        check_number("eps", self.eps, "in (0, 1)")

    def next(self, size: int, evidence: Evidence) -> int:
        ratio, step_size = evidence.ratio, evidence.step_size
        previous = evidence.previous
        if ratio is None:
            raise TypeError(
                "Spectral needs a method that knows the curvature along its step"
            )
        misjudged = not abs(ratio - 1.0) <= self.eps
        shortened = step_size is not None and step_size < 1.0
        slow = False
        if step_size is not None and previous is not None:
            assert evidence.decrement is not None
            slow = evidence.decrement > 0.25 * previous
        if not (misjudged or shortened or slow):
            return size
        return min(evidence.n_samples, math.ceil(self.factor * size))


@dataclass(frozen=True)
class InverseStep(Fixed):
    """Rows in inverse proportion to the square of the last step, from the first size.

    For `TrustRegion` and `CubicRegularization`: their theory asks for an error of the
    Hessian of the order of the step [1]_. The first step fixes the constant.

    Parameters
    ----------
    size : float or int, default 0.05
        First and smallest sample.

    Notes
    -----
    Differs from the paper in the start: the first step fixes the constant there, too,
    but counts as the step of the first sample. After a rejection the sample grows only
    with ``adaptive_gradient="inverse-step"`` of `CubicRegularization`.

    References
    ----------
    .. [1] J. Kohler, A. Lucchi, Sub-sampled cubic regularization for non-convex
       optimization, ICML 2017, Theorem 9 and Section 5.
    """

    size: float | int = 0.05

    def next(self, size: int, evidence: Evidence) -> int:
        if evidence.growth is None:
            raise TypeError("InverseStep needs a trust-region or cubic method")
        n = evidence.n_samples
        rows = row_count(self.size, n) * max(1.0, evidence.growth**2)
        return n if not rows < n else math.ceil(rows)


def as_size_rule(size: float | int | SizeRule) -> SizeRule:
    """Return a rule for a fraction, a count or a rule."""
    if isinstance(size, int | float | np.number):
        return Fixed(size)
    if isinstance(size, type) or not hasattr(size, "first"):
        raise TypeError(
            "hessian_sample must be a fraction in (0, 1], a number of rows or a rule "
            f"as Growing(), Spectral() or Lemma(), got {shown(size)}"
        )
    return size


def row_count(size: float | int, n: int) -> int:
    if isinstance(size, int | np.integer):
        return min(int(size), n)
    return max(1, math.ceil(size * n))


def _check_size(name: str, size: float | int) -> None:
    whole = isinstance(size, int | np.integer)
    if not is_number(size) or not (size >= 1 if whole else 0.0 < size <= 1.0):
        raise ValueError(
            f"{name} must be a fraction in (0.0, 1.0] or a number of rows >= 1, "
            f"got {shown(size)}"
        )


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
