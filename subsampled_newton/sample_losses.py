"""Losses of one sample, as the inner loops of stochastic methods inline them.

The predictions of a sample are an array of ``n_outputs`` numbers, one for a
`PointwiseLoss`, K - 1 for softmax. The conjugates that dual methods need are here, too.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

from subsampled_newton._elementary import exp
from subsampled_newton._jit import inlinable
from subsampled_newton.losses import LOGISTIC, SQUARED, PointwiseLoss, SoftmaxLoss

__all__ = ["DualLoss", "SampleLoss", "dual_loss", "sample_loss"]


class SampleLoss(NamedTuple):
    """Functions of the predictions ``z`` (n_outputs,) and the target ``y``."""

    n_outputs: int
    residual: Callable[..., None]
    """``residual(z, y, out)`` fills the derivatives."""
    value: Callable[..., float]
    curvature: Callable[..., float]
    """A number near ``|d2|``; 0 where it is not worth its cost."""


@functools.cache
def sample_loss(loss: PointwiseLoss | SoftmaxLoss) -> SampleLoss:
    """Return the functions of a loss."""
    if isinstance(loss, SoftmaxLoss):
        return _softmax(loss)
    d1, d2, pointwise_value = loss.d1, loss.d2, loss.value

    @inlinable()
    def residual(z: Any, y: float, out: Any) -> None:
        out[0] = d1(z[0], y)

    @inlinable()
    def value(z: Any, y: float) -> float:
        return pointwise_value(z[0], y)

    @inlinable()
    def curvature(z: Any, y: float) -> float:
        return abs(d2(z[0], y))

    return SampleLoss(1, residual, value, curvature)


def _softmax(loss: SoftmaxLoss) -> SampleLoss:
    n_classes = loss.n_classes
    m, root = n_classes - 1, math.sqrt(n_classes)
    share = 1.0 / (n_classes + root)

    @inlinable()
    def value(z: Any, y: float) -> float:
        # Predictions of the classes from their coordinates: see softmax_model.
        total = 0.0
        for j in range(m):
            total += z[j]
        last = -total / root
        own, top = last, last
        for j in range(m):
            z_j = z[j] - share * total
            top = max(top, z_j)
            if y == j:
                own = z_j
        normaliser = exp(last - top)
        for j in range(m):
            normaliser += exp(z[j] - share * total - top)
        return math.log(normaliser) + (top - own)

    @inlinable()
    def curvature(z: Any, y: float) -> float:
        return 0.0  # bounded by 1/2, and the line search finds what it is

    return SampleLoss(m, loss.residual, value, curvature)


class DualLoss(NamedTuple):
    """What dual coordinate ascent needs; ``a`` stands for minus the derivative."""

    ascend: Callable[[float, float, float, float], float]
    """``ascend(z, a, y, c)``: the b that maximizes
    ``-conjugate(-b) - (b - a) z - c (b - a)**2 / 2``."""
    gap: Callable[[float, float, float], float]
    """``gap(z, a, y) = value(z) + conjugate(-a) + a z >= 0``, without cancellation."""
    value_at_dual: Callable[[float, float], float]
    """``-conjugate(-a)``."""


def dual_loss(loss: PointwiseLoss) -> DualLoss | None:
    """Return the dual of a loss, None if it is not known."""
    return _DUALS.get(loss)


# Squared loss: conjugate(-a) = a**2 / 2 - a y. Everything is a square.


@inlinable()
def _squared_ascend(z: float, a: float, y: float, c: float) -> float:
    return a + (y - z - a) / (1.0 + c)


@inlinable()
def _squared_gap(z: float, a: float, y: float) -> float:
    return 0.5 * (z - y + a) * (z - y + a)


@inlinable()
def _squared_value(a: float, y: float) -> float:
    return a * y - 0.5 * a * a


# Logistic loss: with b = a y in [0, 1], conjugate(-a) = b log b + (1 - b) log(1 - b).


@inlinable()
def _logistic_ascend(z: float, a: float, y: float, c: float) -> float:
    # With b = sigmoid(t) the derivative vanishes where t + m + c (sigmoid(t) - b0) = 0,
    # which grows in t at a rate of 1 to 1 + c / 4. Newton's method, kept in a bracket,
    # from where it vanishes for b0 = sigmoid(-m), which holds at the solution.
    m, start = y * z, y * a
    low, high = -m - c * (1.0 - start), -m + c * start
    t, last = -m, high - low
    for _ in range(100):
        e = exp(-abs(t))
        q = 1.0 / (1.0 + e)
        b = q if t > 0.0 else e * q
        slope = t + m + c * (b - start)
        if slope > 0.0:
            high = t
        else:
            low = t
        curvature = e * q * q
        step = slope / (1.0 + c * curvature)
        # Halve the bracket where Newton's steps leave it or do not become shorter.
        if low <= t - step <= high and abs(step) <= 0.5 * last:
            last = abs(step)
            if last <= 1e-5:  # its square is left of t, its cube of the sigmoid
                bend = 0.5 * (1.0 - 2.0 * b) * step
                return float(y * (b - curvature * step * (1.0 - bend)))
            t -= step
        else:
            last = high - low
            t = 0.5 * (low + high)
            if last <= 1e-15 * abs(t):
                break
    solution: float = y / (1.0 + exp(-t))
    return solution


@inlinable()
def _logistic_gap(z: float, a: float, y: float) -> float:
    # The divergence of b from p = sigmoid(-m).
    b, m = min(max(a * y, 0.0), 1.0), y * z
    e = exp(-abs(m))
    q = 1.0 / (1.0 + e)
    p, rest = (e * q, q) if m > 0.0 else (q, e * q)
    gap = 0.0
    if b > 0.0:
        gap += b * math.log(b / p) if p > 0.0 else math.inf
    if b < 1.0:
        gap += (1.0 - b) * math.log((1.0 - b) / rest) if rest > 0.0 else math.inf
    return gap


@inlinable()
def _logistic_value(a: float, y: float) -> float:
    b = min(max(a * y, 0.0), 1.0)
    value = 0.0
    if 0.0 < b < 1.0:
        value = -b * math.log(b) - (1.0 - b) * math.log(1.0 - b)
    return value


_DUALS = {
    SQUARED: DualLoss(_squared_ascend, _squared_gap, _squared_value),
    LOGISTIC: DualLoss(_logistic_ascend, _logistic_gap, _logistic_value),
}
