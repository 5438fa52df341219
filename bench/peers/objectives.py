"""Objectives besides the logistic one, evaluated with NumPy alone."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import scipy.linalg
from numpy.typing import NDArray
from scipy.special import expit

from bench.limits import numpy_pass
from bench.problems import Objective, Reference

__all__ = [
    "Absolute",
    "LeastSquares",
    "Sigmoid",
    "Softmax",
    "curvatures",
    "least_squares_solution",
    "some_rows",
    "value_and_gradient",
]

Array = NDArray[np.float64]
BLOCK = 20_000
"""Rows at a time: what is as long as the data would not fit."""


@dataclass(frozen=True, eq=False)
class Softmax(Objective):
    """Multinomial logistic loss, ``(alpha / 2) ||W||**2``; labels of any kind.

    ``w`` is the matrix of one row per class, one row after the other.
    """

    def _evaluate(self, w: Array) -> tuple[float, float]:
        codes = np.unique(self.y, return_inverse=True)[1]
        W = w.reshape(-1, self.d)
        value, gradient = 0.0, self.alpha * W
        for lo in range(0, self.n, BLOCK):
            X, code = self.X[lo : lo + BLOCK], codes[lo : lo + BLOCK]
            z = X @ W.T
            z -= z.max(axis=1, keepdims=True)
            powers = np.exp(z)
            total = powers.sum(axis=1, keepdims=True)
            own = np.arange(len(code)), code
            value += float((np.log(total[:, 0]) - z[own]).sum()) / self.n
            slopes = powers / total
            slopes[own] -= 1.0
            gradient = gradient + (X.T @ slopes).T / self.n
        value += 0.5 * self.alpha * float(w @ w)
        return value, float(np.linalg.norm(gradient))


@dataclass(frozen=True, eq=False)
class Sigmoid(Objective):
    """``mean (sigmoid(x_i'w) - t_i)**2 + (alpha / 2) ||w||**2`` with t = 0 or 1.

    The accuracy is the norm of the gradient: a non-convex problem has no other that is
    certain. Where F is above ``highest``, far from the minimum, it is inf.
    """

    highest: float = np.inf

    def _evaluate(self, w: Array) -> tuple[float, float]:
        value, gradient = value_and_gradient(self, w)
        norm = float(np.linalg.norm(gradient))
        return (norm if value <= self.highest else np.inf), norm


@dataclass(frozen=True, eq=False)
class LeastSquares(Objective):
    """``||X w - y||``; the accuracy is the relative error of w."""

    solution: Array | None = None

    def _evaluate(self, w: Array) -> tuple[float, float]:
        assert self.solution is not None
        error = np.linalg.norm(w - self.solution) / np.linalg.norm(self.solution)
        gradient = self.X.T @ (self.X @ w - self.y) / self.n
        return float(error), float(np.linalg.norm(gradient))


class Absolute(Reference):
    """Accuracies that are their own measure."""

    def suboptimality(self, value: float) -> float:
        """Return the value; inf for what is no number."""
        return value if np.isfinite(value) else np.inf


def value_and_gradient(objective: Objective, w: Array) -> tuple[float, Array]:
    """F and its gradient: logistic, or of a `Sigmoid`."""
    if isinstance(objective, Sigmoid):
        p, t = expit(objective.X @ w), objective.y > 0.0
        value = float(((p - t) ** 2).mean())
        gradient = objective.X.T @ (2.0 * (p - t) * p * (1.0 - p)) / objective.n
    else:
        value, gradient = numpy_pass(objective.X, objective.y, w)
    ridge = 0.5 * objective.alpha * float(w @ w)
    return value + ridge, gradient + objective.alpha * w


def curvatures(objective: Objective) -> Callable[[Array], Array]:
    """Function of w that returns the second derivatives D of ``X'DX / n``.

    It remembers the last ones: SciPy asks for one product after the other.
    """

    @functools.lru_cache(maxsize=1)
    def at(key: bytes) -> Array:
        p = expit(objective.X @ np.frombuffer(key))
        D: Array = p * (1.0 - p)
        if isinstance(objective, Sigmoid):
            D = 2.0 * D * (D + (p - (objective.y > 0.0)) * (1.0 - 2.0 * p))
        return D

    return lambda w: at(w.tobytes())


def least_squares_solution(X: Array, y: Array) -> Array:
    """Solve by QR, then refine with residuals in extended precision.

    Householder QR of blocks and then of their factors. Where long double is no longer
    than double, the refinement does not help and the solution is that of QR.
    """
    blocks = [slice(lo, lo + BLOCK) for lo in range(0, len(X), BLOCK)]
    stacked = np.vstack([np.linalg.qr(X[rows], mode="r") for rows in blocks])
    R = np.linalg.qr(stacked, mode="r")
    w = np.zeros(X.shape[1], dtype=np.longdouble)
    last = np.inf
    for _ in range(12):
        gradient = np.zeros_like(w)
        for rows in blocks:
            part = X[rows].astype(np.longdouble)
            gradient += (y[rows] - part @ w) @ part
        half = scipy.linalg.solve_triangular(R, gradient.astype(float), trans="T")
        step = scipy.linalg.solve_triangular(R, half)
        length = float(np.linalg.norm(step))
        if length >= 0.5 * last:
            break
        w, last = w + step, length
    return w.astype(np.float64)


def some_rows(objective: Objective, most: int) -> Any:
    """Objective of a few rows, every class among them, to load and compile code."""
    y = objective.y
    if isinstance(objective, LeastSquares):
        rows = np.arange(most + objective.d)
    else:
        parts = [np.flatnonzero(y == label)[:most] for label in np.unique(y)]
        rows = np.sort(np.concatenate(parts))
    return replace(objective, X=objective.X[rows], y=y[rows], alpha=0.1)
