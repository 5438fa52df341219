"""The problems: real data by name, and two generators."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from bench.peers.objectives import (
    Absolute,
    LeastSquares,
    Sigmoid,
    Softmax,
    least_squares_solution,
    value_and_gradient,
)
from bench.peers.solvers import our_fit
from bench.problems import Objective, Reference, load_objective
from bench.rows import LEVELS
from datasets import load

__all__ = ["PROBLEMS", "QUICK", "Task", "load_task", "rcv1_like", "tall"]

Array = NDArray[np.float64]
QUICK_ROWS = 5_000  # of real data
TIGHT = 1e-14
"""Tolerance of the run that finds F*: rounding ends it."""


@dataclass(frozen=True, eq=False)
class Task:
    """What to minimise, how exactly, and the smallest value."""

    name: str
    kind: str
    """"logistic", "multinomial", "least squares" or "nls"."""
    objective: Objective
    reference: Reference
    levels: tuple[float, ...]
    accuracy: str
    note: str


@dataclass(frozen=True)
class _Spec:
    kind: str
    make: Callable[[int | None], Objective]
    levels: tuple[float, ...] = LEVELS


def _logistic(
    name: str, alpha: float | None = None, target: int | None = None
) -> _Spec:
    def make(rows: int | None) -> Objective:
        objective = load_objective(name, alpha, max_rows=rows)
        if target is None:
            return objective
        y = np.where(objective.y == target, 1.0, -1.0)
        return replace(objective, y=y)

    return _Spec("logistic", make)


def _covtype_classes(rows: int | None) -> Objective:
    binary = load_objective("covtype.binary", None, max_rows=rows)
    y: Any = load("covtype")[1]
    if rows is not None and rows < len(y):
        # The rows that load_objective has drawn.
        chosen = np.random.default_rng(0).choice(len(y), rows, replace=False)
        y = y[np.sort(chosen)]
    return Softmax("covtype", binary.X, y, binary.alpha, binary.n_full)


def _rcv1_like(rows: int | None) -> Objective:
    X, y = rcv1_like() if rows is None else rcv1_like(2_000, 5_000)
    return Objective("rcv1-like", X, y, 1.0 / len(y), len(y))


def _tall(rows: int | None) -> Objective:
    X, y = tall() if rows is None else tall(20_000, 20)
    return LeastSquares("tall", X, y, 0.0, len(y), least_squares_solution(X, y))


def _nls(rows: int | None) -> Objective:
    base = load_objective("ijcnn1", None, max_rows=rows)
    return Sigmoid("ijcnn1", base.X, base.y, base.alpha, base.n_full)


PROBLEMS: dict[str, _Spec] = {
    "covtype": _logistic("covtype.binary"),
    "covtype-1e-6": _logistic("covtype.binary", 1e-6),
    "covtype-1e-4": _logistic("covtype.binary", 1e-4),
    "ijcnn1": _logistic("ijcnn1"),
    "a9a": _logistic("a9a"),
    "w8a": _logistic("w8a"),
    "reuters": _logistic("reuters"),
    "news20": _logistic("news20", target=1),
    "rcv1-like": _Spec("logistic", _rcv1_like),
    "covtype-7": _Spec("multinomial", _covtype_classes),
    # No code in float64 has more digits: machine epsilon times the condition number.
    "least-squares": _Spec("least squares", _tall, (1e-3, 1e-6, 1e-9)),
    "nls-ijcnn1": _Spec("nls", _nls, (1e-3, 1e-6, 1e-8)),
}
QUICK = ("covtype", "rcv1-like", "covtype-7", "least-squares")
"""What needs no file."""


def load_task(name: str, quick: bool) -> Task:
    """Load or generate a problem and find its smallest value."""
    spec = PROBLEMS[name]
    objective = spec.make(QUICK_ROWS if quick else None)
    if isinstance(objective, Sigmoid):
        accuracy, note, reference = "norm of the gradient", *_stationary(objective)
        # In the same valley: other minima have other values.
        objective = replace(objective, highest=reference.value * (1.0 + 1e-3))
    elif isinstance(objective, LeastSquares):
        accuracy, reference = "relative error of w", Absolute(0.0, 1.0, ())
        note = "error against QR refined in extended precision"
    else:
        accuracy, note, reference = "relative suboptimality", *_minimum(spec, objective)
    return Task(name, spec.kind, objective, reference, spec.levels, accuracy, note)


def _minimum(spec: _Spec, objective: Objective) -> tuple[str, Reference]:
    """Smallest value, where our solver ended.

    Strong convexity makes the gradient, which NumPy evaluates there, a proof: F - F* is
    at most its squared norm over ``2 alpha``.
    """
    w = our_fit(spec.kind, objective, TIGHT, 0).w
    value, norm = objective.evaluate(w)
    at_zero = objective.evaluate(np.zeros(len(w)))[0]
    bound = norm**2 / (2.0 * objective.alpha) / (at_zero - value)
    note = f"F(0) = {at_zero:.12f}, F* = {value:.12f}, relative error <= {bound:.0e}"
    if bound > 0.1 * spec.levels[-1]:
        note += " (NOT exact enough for the last level)"
    run = {"solver": "ours", "value": value, "gradient_norm": norm, "bound": bound}
    return note, Reference(value, at_zero, (run,))


def _stationary(objective: Sigmoid) -> tuple[str, Reference]:
    w = our_fit("nls", objective, TIGHT, 0).w
    value, gradient = value_and_gradient(objective, w)
    norm = float(np.linalg.norm(gradient))
    run = {"solver": "ours", "value": value, "gradient_norm": norm}
    note = f"F = {value:.12f}, |g| = {norm:.0e} at the minimum found"
    return note, Absolute(value, 0.0, (run,))


def rcv1_like(
    n: int = 20_242, d: int = 47_236, seed: int = 0
) -> tuple[sp.csr_matrix, Array]:
    """Draw texts like rcv1: rows of norm one, 70 entries each, few frequent columns.

    Words are drawn with frequencies 1 / (k + 20), counted and weighted by (1 + log
    count) log(n / documents). Labels follow a logistic model; a fifth of them is wrong
    by its own probabilities.
    """
    rng = np.random.default_rng(seed)
    lengths = np.maximum(5, rng.lognormal(4.3, 0.6, n)).astype(int)
    frequency = 1.0 / (np.arange(d) + 20.0)
    words = rng.choice(d, lengths.sum(), p=frequency / frequency.sum())
    rows = np.repeat(np.arange(n), lengths)
    X = sp.csr_matrix((np.ones(len(rows)), (rows, words)), shape=(n, d))
    documents = np.bincount(X.indices, minlength=d)
    X.data = (1.0 + np.log(X.data)) * np.log1p(n / documents[X.indices])
    norms = np.sqrt(np.asarray(X.multiply(X).sum(axis=1)).ravel())
    X.data /= np.repeat(norms, np.diff(X.indptr))
    z = X @ rng.standard_normal(d)
    z *= 2.0 / z.std()
    return X, np.where(z + rng.logistic(size=n) > 0.0, 1.0, -1.0)


def tall(
    n: int = 1_000_000, d: int = 100, kappa: float = 2e6, seed: int = 0
) -> tuple[Array, Array]:
    """Draw least squares with a condition number that scaling does not change.

    Singular values from 1 to 1/kappa in a random basis; 50 rows of leverage up to 0.9;
    residuals of 1e-6, so that their part in the error of the solution is below that of
    the condition number.
    """
    rng = np.random.default_rng(seed)
    basis = np.linalg.qr(rng.standard_normal((d, d)))[0]
    X = rng.standard_normal((n, d))
    heavy = rng.choice(n, 50, replace=False)
    X[heavy] *= np.linspace(0.2, 2.5, 50)[:, None] * np.sqrt(n / d)
    X = (X * np.geomspace(1.0, 1.0 / kappa, d)) @ basis
    y = X @ rng.standard_normal(d) + 1e-6 * rng.standard_normal(n)
    return X, y
