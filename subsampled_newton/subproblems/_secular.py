"""The secular equation of balls and cubic models, for a diagonal Hessian."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg.blas import dnrm2

__all__ = ["EPS", "Shifted", "largest_modulus", "power_of_two"]

Array = NDArray[np.float64]
EPS = float(np.finfo(np.float64).eps)
MAX_ITER = 100


@dataclass(frozen=True)
class Shifted:
    """A model with its Hessian shifted by ``base``, just enough to be semi-definite.

    The secular equation is solved for the rest x of the multiplier ``base + x``: near
    the pole (the hard case and its neighbours) x is far below the rounding of base.
    """

    base: float
    values: Array
    """Of the shifted Hessian, >= 0, with exact zeros at the pole."""
    gradient: Array

    @classmethod
    def of(cls, values: Array, gradient: Array) -> Shifted:
        rounding = len(values) * EPS
        tiny = rounding * largest_modulus(values)
        base = -float(values[0])
        if base > tiny:
            # Below 1e-300 x would lose its digits, and the sign of the step is open.
            gradient = np.where(np.abs(gradient) < 1e-300, 0.0, gradient)
            return cls(base, values - values[0], gradient)
        values = np.maximum(values, 0.0)
        flat = values <= tiny
        if flat[0] and dnrm2(gradient[flat]) <= rounding * dnrm2(gradient):
            gradient = np.where(flat, 0.0, gradient)
        return cls(0.0, values, gradient)

    def solve(self, level: float, slope: float) -> tuple[Array, float, int]:
        """Return ``s = -g / (values + x)``, the root x >= 0, and iterations.

        The root of ``||s(x)|| = level + slope x``, or 0 if the left is smaller there.
        Components of the gradient that are exactly zero are so in s.
        """
        e, b = self.values, self.gradient
        kept = b != 0.0
        if not kept.all():
            e, b = e[kept], b[kept]
        s, x, iterations = np.zeros_like(self.gradient), 0.0, 0
        if len(b):
            s[kept], x, iterations = _root(e, -b, level, slope)
        return s, x, iterations


def _root(e: Array, b: Array, level: float, slope: float) -> tuple[Array, float, int]:
    """Solve ``||b / (e + x)|| = level + slope x`` by Newton's method in a bracket.

    Newton's method on ``1 / ||.|| - 1 / (level + slope x)``, which is increasing and
    concave: from the left of the root it is monotone and quadratic. It starts from the
    largest lower bound that the first k components give: since e is ascending, they
    contribute at least ``||b[:k]|| / (e_k + x)``.
    """
    size = np.abs(b)
    largest = float(size.max())
    part = size / largest
    part[part < 1e-150] = 0.0  # squares would lose their digits
    norms = np.maximum(size, largest * np.sqrt(np.cumsum(part * part)))
    norms *= 1.0 - 4.0 * len(b) * EPS  # a bound from below, rounding included
    half = level + slope * e
    discriminant = level - slope * e
    discriminant = discriminant * discriminant + 4.0 * slope * norms
    bounds = 2.0 * (norms - level * e) / (half + np.sqrt(discriminant))
    low = max(0.0, float(bounds.max()))
    total = float(dnrm2(b))
    high = 2.0 * total / (level + math.sqrt(level * level + 4.0 * slope * total))
    x = low
    iterations = 0
    while iterations < MAX_ITER:
        iterations += 1
        shifted = e + x
        s = b / shifted
        norm, target = float(dnrm2(s)), level + slope * x
        if abs(norm - target) <= 8.0 * EPS * target or (x == 0.0 and norm < target):
            break
        if norm > target:
            low = x
        else:
            high = x
        part = s / norm
        slow = float(part @ (part / shifted))
        x += (norm - target) / (slow * target + slope * norm / target)
        if not low < x < high:
            x = 0.5 * (low + high)
    return s, x, iterations


def largest_modulus(values: Array) -> float:
    """Return the largest modulus of ascending values."""
    return max(-float(values[0]), float(values[-1]))


def power_of_two(x: float) -> float:
    """Return the power of two in (x / 2, x], or 1; scaling by it does not round."""
    return math.ldexp(1.0, math.frexp(x)[1] - 1) if x > 0.0 else 1.0
