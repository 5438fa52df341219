"""Line searches: backtracking, also non-monotone, and strong Wolfe."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Generic, NamedTuple, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

__all__ = ["LineSearch", "Trial", "armijo", "strong_wolfe"]

FLAT = 16 * np.finfo(np.float64).eps
"""Changes of the value below this fraction of it are rounding."""


class Point(Protocol):
    """What the search needs of a point that it may accept."""

    @property
    def gradient(self) -> NDArray[np.float64]: ...


class Trial(Protocol):
    """A candidate: its value, and the full point should it be accepted."""

    @property
    def value(self) -> float: ...

    @property
    def point(self) -> Point: ...


T = TypeVar("T", bound=Trial)


class LineSearch(NamedTuple, Generic[T]):
    """Outcome of a line search."""

    trial: T | None
    """The accepted candidate, or None when every step was refused."""
    step_size: float
    n_trials: int


def armijo(
    line: Callable[[float], T],
    value: float,
    slope: float,
    *,
    gradient_norm: float = math.inf,
    c1: float = 1e-4,
    shrink: float = 0.5,
    max_backtracks: int = 30,
    initial: float = 1.0,
    reference: float | None = None,
) -> LineSearch[T]:
    """Find the largest step in ``1, shrink, shrink**2, ...`` of sufficient decrease.

    Accepts the first ``t`` with ``F(t) <= F(0) + c1 t slope``. A value that is not
    finite is a refusal. Where the value changes by rounding only, a step that reduces
    the gradient norm is accepted instead; without that rule good runs fail at full
    accuracy (scikit-learn found the same). The grid starts at ``initial`` if given, and
    with ``reference`` in place of F(0) the search is non-monotone [2].

    Parameters
    ----------
    line : callable, float -> Trial
        The candidate at a step size.
    value : float
        F at step 0.
    slope : float, < 0
        Derivative along the line at step 0.
    gradient_norm : float, default inf
        At step 0, for the rule near the solution; the largest of the last steps in a
        non-monotone search.
    c1 : float, default 1e-4
        Fraction of the predicted decrease that is asked for.
    shrink : float, default 0.5
        Factor between trials.
    max_backtracks : int, default 30
        Refusals before the search gives up.
    initial : float, default 1.0
        First step: 1 for Newton directions, a multiple of the last step for gradients.
    reference : float, optional
        What the decrease is measured from: the largest of the last values.
        Default F(0).

    References
    ----------
    .. [1] Nocedal and Wright, Numerical Optimization, 2nd ed., Algorithm 3.1.
    .. [2] L. Grippo, F. Lampariello, S. Lucidi, A nonmonotone line search technique for
       Newton's method, SIAM J. Numer. Anal. 23, 1986.
    """
    ceiling = value if reference is None else reference
    step_size = initial
    for n_trials in range(1, max_backtracks + 2):
        trial = line(step_size)
        change = trial.value - ceiling
        if math.isfinite(change) and change <= c1 * step_size * slope:
            return LineSearch(trial, step_size, n_trials)
        if (
            abs(trial.value - value) <= FLAT * abs(value)
            and np.linalg.norm(trial.point.gradient) < gradient_norm
        ):
            return LineSearch(trial, step_size, n_trials)
        step_size *= shrink
    return LineSearch(None, 0.0, n_trials)


class SlopedLine(Protocol[T]):
    """A line that also gives its derivative at a candidate."""

    def __call__(self, t: float, /) -> T: ...

    def slope(self, trial: T, /) -> float: ...


class _End(NamedTuple):
    """A step of which value and slope are known."""

    t: float
    value: float
    slope: float


EXPAND = 10.0
"""Largest factor between trials while the step is still too short."""
KEEP_AWAY = 0.1
"""New trials keep this fraction of the bracket away from its better end."""


def strong_wolfe(
    line: SlopedLine[T],
    value: float,
    slope: float,
    *,
    initial: float = 1.0,
    c1: float = 1e-4,
    c2: float = 0.9,
    max_trials: int = 40,
) -> LineSearch[T]:
    """Find a step of sufficient decrease at which the line is flat enough.

    Accepts the first ``t`` with ``F(t) <= F(0) + c1 t slope`` and
    ``|F'(t)| <= c2 |slope|``. Longer steps are tried until a bracket holds such points,
    then the bracket shrinks around the minimizer of the cubic through its ends. A value
    that is not finite is too far out. Comparisons of values allow for their rounding,
    so that near the solution the slopes decide, as in the approximate conditions of
    Hager and Zhang [2].

    Parameters
    ----------
    line : callable, float -> Trial, with a method slope, Trial -> float
        The candidate at a step size, and the derivative along the line there.
    value : float
        F at step 0.
    slope : float, < 0
        Derivative along the line at step 0.
    initial : float, default 1.0
        First step.
    c1 : float, default 1e-4
        Fraction of the predicted decrease that is asked for.
    c2 : float, default 0.9
        Fraction of the slope that may be left, > c1. 0.9 suits quasi-Newton directions
        [1]; 0.1 is a tight search.
    max_trials : int, default 40
        Trials before the search gives up.

    Returns
    -------
    LineSearch
        Where no step meets the second condition (a kink, a function without minimum)
        the best step that meets the first one; none if there is no such step either.

    References
    ----------
    .. [1] Nocedal and Wright, Numerical Optimization, 2nd ed., Algorithms 3.5 and 3.6.
    .. [2] W. W. Hager, H. Zhang, A new conjugate gradient method with guaranteed
       descent and an efficient line search, SIAM J. Optim. 16, 2005, equation (4.1).
    """
    rounding = FLAT * abs(value)
    low = _End(0.0, value, slope)
    high: _End | None = None
    best: T | None = None  # the candidate at the lower end
    t = initial
    for n_trials in range(1, max_trials + 1):
        trial = line(t)
        steep = line.slope(trial) if math.isfinite(trial.value) else math.nan
        end = _End(t, trial.value, steep)
        if not math.isfinite(steep):
            high = _End(t, math.inf, math.nan)
        elif (
            end.value > value + c1 * t * slope + rounding
            or end.value > low.value + rounding
        ):
            high = end
        elif abs(steep) <= -c2 * slope:
            return LineSearch(trial, t, n_trials)
        else:
            # The lower end has the lowest value and descends towards the higher one.
            ahead = math.inf if high is None else high.t - low.t
            if steep * ahead >= 0.0:
                high = low
            elif high is None:
                t = _further(low, end)
                low, best = end, trial
                continue
            low, best = end, trial
        t = _between(low, high)
        if t in (low.t, high.t):  # no number is left between them
            break
    if best is not None and low.value <= value + c1 * low.t * slope:
        return LineSearch(best, low.t, n_trials)
    return LineSearch(None, 0.0, n_trials)


def _further(previous: _End, low: _End) -> float:
    """Next step where the line still descends at ``low``."""
    step = low.t - previous.t
    t = _cubic_minimizer(previous, low)
    if not t > low.t:
        return low.t + (EXPAND - 1.0) * step
    return min(max(t, low.t + KEEP_AWAY * step), low.t + (EXPAND - 1.0) * step)


def _between(low: _End, high: _End) -> float:
    """Next step inside the bracket."""
    width = high.t - low.t  # negative where the better end is the farther one
    t = _cubic_minimizer(low, high)
    fraction = (t - low.t) / width
    if not math.isfinite(fraction):
        fraction = 0.5
    return low.t + width * min(max(fraction, KEEP_AWAY), 1.0 - KEEP_AWAY)


def _cubic_minimizer(a: _End, b: _End) -> float:
    """Minimizer of the cubic through values and slopes; nan if there is none.

    Where the values differ by rounding only, the zero of the secant of the slopes.
    """
    width = b.t - a.t
    rise = b.value - a.value
    if abs(rise) <= FLAT * abs(a.value):
        return _ratio(a.t * b.slope - b.t * a.slope, b.slope - a.slope)
    mean = a.slope + b.slope - 3.0 * rise / width
    root = mean * mean - a.slope * b.slope
    if not root >= 0.0:
        return math.nan
    root = math.copysign(math.sqrt(root), width)
    shrinkage = _ratio(b.slope + root - mean, b.slope - a.slope + 2.0 * root)
    return b.t - width * shrinkage


def _ratio(a: float, b: float) -> float:
    return a / b if b != 0.0 else math.nan
