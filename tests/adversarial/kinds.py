"""Kinds of nasty problems. Each is a function of a Generator that returns a case.

The kinds are those that users of scikit-learn report. Every number of a case is finite
and every class has a row of positive weight, so that a fit has no excuse.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np


@dataclass(frozen=True)
class Case:
    """Data and parameters of one fit.

    The objective is ``sum_i s_i loss_i + ||w||**2 / (2 C)``, an intercept is free; the
    loss is the logistic one, the softmax one or half the square.
    """

    X: np.ndarray
    y: np.ndarray
    sample_weight: np.ndarray | None = None
    C: float = 1.0
    fit_intercept: bool = True
    loss: str = "logistic"
    separable: bool = False
    """Some direction has no row on the wrong side: no minimizer without a penalty."""

    @property
    def penalised(self):
        return np.isfinite(self.C)

    @property
    def unbounded(self):
        """No minimizer exists."""
        return self.separable and not self.penalised


KINDS: dict[str, Callable[[np.random.Generator], Case]] = {}


def kind(function):
    """Enter a function in the table of kinds."""
    KINDS[function.__name__.replace("_", " ")] = function
    return function


def _shape(rng, most=200):
    d = int(rng.integers(2, 13)) if rng.random() < 0.85 else int(rng.integers(20, 41))
    return int(rng.integers(3 * d + 10, max(most, 5 * d))), d


def _labels(rng, z, both=True):
    y = (rng.random(len(z)) < 1.0 / (1.0 + np.exp(-z))).astype(int)
    if both and y.min() == y.max():
        y[rng.integers(len(y))] = 1 - y[0]
    return y


def _predictor(rng, X):
    """Predictions of moderate size from columns of any size."""
    size = np.maximum(np.std(X, axis=0), 1e-300)
    w = rng.standard_normal(X.shape[1]) / np.sqrt(X.shape[1])
    strength = 10.0 ** rng.uniform(-0.5, 0.7)
    return strength * ((X - X.mean(axis=0)) / size) @ w + rng.standard_normal()


def _decades(rng, low, high, size=None):
    return 10.0 ** rng.uniform(low, high, size)


def _plain(rng, n=None, d=None):
    if n is None:
        n, d = _shape(rng)
    X = rng.standard_normal((n, d))
    C = _decades(rng, -2, 4)
    return Case(X, _labels(rng, _predictor(rng, X)), C=C, fit_intercept=_coin(rng, 0.8))


def _coin(rng, p=0.5):
    return bool(rng.random() < p)


def _overlapping(rng, X, y):
    """Rows with both labels that span the space: nothing separates the classes."""
    d = X.shape[1]
    rows = rng.standard_normal((d + 2, d))
    rows *= np.std(X, axis=0)
    rows += X.mean(axis=0)
    labels = np.repeat([0, 1], len(rows))
    return np.vstack([X, rows, rows]), np.concatenate([y, labels])


@kind
def plain(rng):
    return _plain(rng)


@kind
def scaled_columns(rng):
    case = _plain(rng)
    return replace(case, X=case.X * _decades(rng, -6, 6, case.X.shape[1]))


@kind
def offset_columns(rng):
    case = _plain(rng)
    d = case.X.shape[1]
    offset = _decades(rng, 2, 6, d) * rng.choice([-1.0, 1.0], d)
    return replace(case, X=case.X + offset * (rng.random(d) < 0.8))


@kind
def duplicate_columns(rng):
    case = _plain(rng)
    X = case.X
    d = X.shape[1]
    near = X + _decades(rng, -9, -2) * rng.standard_normal(X.shape)
    sums = X[:, :1] + X[:, 1:2]
    X = np.hstack([X, X[:, : d // 2], near[:, : (d + 1) // 2], sums])
    return replace(case, X=X, C=case.C if _coin(rng) else _decades(rng, 4, 10))


@kind
def collinear_unpenalised(rng):
    case = _plain(rng)
    X, y = _overlapping(rng, case.X, case.y)
    mix = rng.standard_normal((X.shape[1], 2))
    X = np.hstack([X, X[:, :1], X @ mix])
    return replace(case, X=X, y=y, C=np.inf)


@kind
def constant_columns(rng):
    case = _plain(rng)
    n = len(case.X)
    extra = [np.full(n, 1e3), np.zeros(n), np.full(n, -1e-8), np.full(n, 0.1)]
    X = np.hstack([case.X, np.column_stack(extra)])
    return replace(case, X=X[:, rng.permutation(X.shape[1])])


@kind
def wide(rng):
    n = int(rng.integers(8, 30))
    case = _plain(rng, n, int(rng.integers(n + 5, 70)))
    return replace(case, separable=True)


def _separated(rng, n, d):
    """Rows at a distance of a plane through the origin, or of any plane."""
    fit_intercept = _coin(rng)
    X = rng.standard_normal((n, d))
    w = rng.standard_normal(d)
    b = rng.standard_normal() if fit_intercept else 0.0
    z = X @ w + b
    X += np.outer(0.2 * np.sign(z), w) / (w @ w)
    y = (z > 0).astype(int)
    if y.min() == y.max():  # another side for one row: its mirror image
        X[0] -= 2.0 * (X[0] @ w + b) * w / (w @ w)
        y[0] = 1 - y[0]
    return Case(X, y, fit_intercept=fit_intercept, separable=True)


@kind
def separable_penalised(rng):
    return replace(_separated(rng, *_shape(rng)), C=_decades(rng, 0, 8))


@kind
def separable_unpenalised(rng):
    case = _separated(rng, *_shape(rng))
    return replace(case, X=case.X * _decades(rng, -3, 3), C=np.inf)


@kind
def quasi_separable_unpenalised(rng):
    """One category has one label, the rest overlaps."""
    case = _plain(rng)
    X, y = _overlapping(rng, case.X, case.y)
    n = len(X)
    rare = rng.random(n) < rng.uniform(0.05, 0.3)
    rare[: len(case.X)][rng.integers(len(case.X))] = True
    rare[len(case.X) :] = False
    y[rare] = rng.integers(2)
    X = np.column_stack([X, rare.astype(float)])
    return replace(case, X=X, y=y, C=np.inf, separable=True)


@kind
def overlapping_unpenalised(rng):
    case = _plain(rng)
    X, y = _overlapping(rng, case.X, case.y)
    return replace(case, X=X * _decades(rng, -4, 4, X.shape[1]), y=y, C=np.inf)


@kind
def nearly_separable_unpenalised(rng):
    """The rows that overlap have a small weight: a minimizer exists, far out."""
    case = _separated(rng, *_shape(rng))
    X, y = _overlapping(rng, case.X, case.y)
    weights = np.full(len(X), _decades(rng, -5, -1))
    weights[: len(case.X)] = 1.0
    return replace(case, X=X, y=y, sample_weight=weights, C=np.inf, separable=False)


@kind
def times_a_million(rng):
    case = _plain(rng)
    return replace(case, X=1e6 * case.X)


@kind
def times_a_millionth(rng):
    case = _plain(rng)
    return replace(case, X=1e-6 * case.X)


@kind
def rare_binary_columns(rng):
    n, d = int(rng.integers(60, 200)), int(rng.integers(5, 40))
    X = (rng.random((n, d)) < 0.02).astype(float)
    y = _labels(rng, X @ rng.standard_normal(d) + rng.standard_normal())
    return Case(X, y, C=_decades(rng, -2, 8), fit_intercept=_coin(rng, 0.8))


@kind
def weights_over_ten_decades(rng):
    case = _plain(rng)
    n = len(case.X)
    weights = _decades(rng, -6, 4, n) * (rng.random(n) < 0.7)
    for label in (0, 1):
        i = rng.choice(np.flatnonzero(case.y == label))
        weights[i] = max(weights[i], 1.0)
    return replace(case, sample_weight=weights, C=_decades(rng, -4, 4))


@kind
def one_positive(rng):
    case = _plain(rng)
    y = np.zeros_like(case.y)
    y[rng.integers(len(y))] = 1
    return replace(case, y=y)


@kind
def two_to_five_rows(rng):
    n, d = int(rng.integers(2, 6)), int(rng.integers(1, 5))
    case = _plain(rng, n, d)
    y = rng.permutation(np.arange(n) % 2)
    return replace(case, X=case.X * _decades(rng, -3, 3, d), y=y)


@kind
def one_column(rng):
    case = _plain(rng, int(rng.integers(5, 100)), 1)
    return replace(case, X=case.X * _decades(rng, -6, 6) + _decades(rng, -6, 2))


@kind
def extreme_penalty(rng):
    return replace(_plain(rng), C=_decades(rng, -12, 12))


@kind
def heavy_tailed_rows(rng):
    case = _plain(rng)
    X = case.X * np.abs(rng.standard_cauchy((len(case.X), 1))) ** rng.uniform(1, 3)
    return replace(case, X=X)


@kind
def mixture(rng):
    """Two to four troubles at a time."""
    case = _plain(rng)
    X, weights = case.X, None
    n = len(X)
    for trouble in rng.choice(7, int(rng.integers(2, 5)), replace=False):
        if trouble == 0:
            X = X * _decades(rng, -6, 6, X.shape[1])
        elif trouble == 1:
            X = X + np.std(X, axis=0) * _decades(rng, 1, 4, X.shape[1])
        elif trouble == 2:
            X = np.hstack([X, X[:, :2] * (1.0 + 1e-7 * rng.standard_normal((n, 2)))])
        elif trouble == 3:
            X = np.column_stack([X, np.full(n, 1e3), np.zeros(n)])
        elif trouble == 4:
            X = np.hstack([X, (rng.random((n, 3)) < 0.03) * _decades(rng, -2, 2)])
        elif trouble == 5:
            weights = _decades(rng, -4, 4, n)
        else:
            X = X * _decades(rng, -6, 6)
    C = _decades(rng, -8, 8)
    return replace(case, X=X, sample_weight=weights, C=C)


# Several classes, least squares: the same troubles.


def _troubled(rng, X):
    """Columns of any size, some far from 0, some twice."""
    trouble = int(rng.integers(5))
    d = X.shape[1]
    if trouble == 0:
        return X * _decades(rng, -6, 6, d)
    if trouble == 1:
        return X + _decades(rng, 2, 6, d)
    if trouble == 2:
        return np.column_stack([X, X[:, 0], X[:, 0] + 1e-5 * X[:, 1], np.ones(len(X))])
    if trouble == 3:
        return X * _decades(rng, -6, 6)
    return X


@kind
def softmax(rng):
    n, d = int(rng.integers(30, 120)), int(rng.integers(2, 6))
    X = rng.standard_normal((n, d))
    Z = X @ rng.standard_normal((d, 3)) + rng.gumbel(size=(n, 3))
    y = Z.argmax(axis=1)
    y[:3] = [0, 1, 2]
    weights = _decades(rng, -3, 3, n) if _coin(rng, 0.3) else None
    return Case(
        _troubled(rng, X),
        y,
        weights,
        _decades(rng, -3, 6),
        _coin(rng, 0.8),
        "softmax",
    )


@kind
def softmax_separable_unpenalised(rng):
    """Every class at a distance of the others."""
    n, d = int(rng.integers(12, 60)), int(rng.integers(2, 6))
    centers = (
        10.0 * np.eye(3)[:, :d]
        if d >= 3
        else 10.0 * np.array([[1.0, 0.0], [-1.0, 1.0], [-1.0, -1.0]])
    )
    y = rng.permutation(np.arange(n) % 3)
    X = rng.uniform(-1.0, 1.0, (n, d))
    X[:, : centers.shape[1]] += centers[y]
    return Case(X, y, C=np.inf, loss="softmax", separable=True)


@kind
def softmax_overlapping_unpenalised(rng):
    n, d = int(rng.integers(30, 100)), int(rng.integers(2, 5))
    X = rng.standard_normal((n, d))
    y = (X @ rng.standard_normal((d, 3)) + rng.gumbel(size=(n, 3))).argmax(axis=1)
    rows = rng.standard_normal((d + 2, d))
    X = np.vstack([X, rows, rows, rows])
    y = np.concatenate([y, np.repeat([0, 1, 2], len(rows))])
    return Case(X * _decades(rng, -4, 4, d), y, C=np.inf, loss="softmax")


@kind
def ridge(rng):
    n, d = _shape(rng)
    X = rng.standard_normal((n, d))
    y = _predictor(rng, X) + rng.standard_normal(n)
    y = (y + _coin(rng) * _decades(rng, 1, 5)) * _decades(rng, -6, 6)
    weights = _decades(rng, -6, 4, n) if _coin(rng, 0.3) else None
    C = _decades(rng, -6, 8)
    return Case(_troubled(rng, X), y, weights, C, _coin(rng, 0.8), "squares")


@kind
def least_squares(rng):
    n, d = _shape(rng)
    X = rng.standard_normal((n, d))
    y = _predictor(rng, X) + rng.standard_normal(n)
    X = (
        _troubled(rng, X)
        if _coin(rng, 0.7)
        else X @ np.vander(np.linspace(0.5, 1.0, d), min(d, 10))
    )
    return Case(X, y, C=np.inf, fit_intercept=_coin(rng, 0.8), loss="squares")


@kind
def wide_least_squares(rng):
    n = int(rng.integers(5, 30))
    X = rng.standard_normal((n, int(rng.integers(n, 70))))
    C = np.inf if _coin(rng) else _decades(rng, -3, 8)
    y = rng.standard_normal(n)
    return Case(_troubled(rng, X), y, C=C, fit_intercept=_coin(rng), loss="squares")
