"""Rows drawn at random whose statistics are known: even, of heavy norm, of rare levels.

The three designs of the contrast between sampling rules: rows of a Gaussian matter
alike; rows of heavy norm are found by their norms; rows of rare levels only by their
leverage.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "DESIGNS",
    "adult_like",
    "conditioned",
    "covtype_rows",
    "design",
    "labels",
    "unit_columns",
    "unit_rows",
]

Array = NDArray[np.float64]
DESIGNS = ("gaussian", "pareto", "one-hot")


def design(name: str, n: int, d: int, rng: np.random.Generator) -> Array:
    """Draw rows (n, d): standard normal entries in all or the first half of columns.

    ``"pareto"`` multiplies the rows by ``1 + Pareto(1.5)``; ``"one-hot"`` makes the
    second half of the columns indicators of a level, the k-th of frequency k^-2.5.
    """
    if name == "one-hot":
        levels = d // 2
        p = np.arange(1, levels + 1) ** -2.5
        level = rng.choice(levels, n, p=p / p.sum())
        return np.hstack([rng.standard_normal((n, d - levels)), np.eye(levels)[level]])
    X = rng.standard_normal((n, d))
    if name == "pareto":
        X *= (1.0 + rng.pareto(1.5, n))[:, None]
    elif name != "gaussian":
        raise ValueError(f"name must be one of {DESIGNS}, got {name!r}")
    return X


def labels(X: Array, rng: np.random.Generator) -> Array:
    """Draw labels -1 and +1 of a logistic model whose predictions have spread 2."""
    z = X @ rng.standard_normal(X.shape[1])
    z *= 2.0 / np.std(z)
    return np.where(z + rng.logistic(size=len(X)) > 0.0, 1.0, -1.0)


def conditioned(
    n: int, d: int, kappa: float, rng: np.random.Generator
) -> tuple[Array, Array]:
    """Draw a logistic problem whose Hessian has the condition number kappa, about.

    Eigenvalues from 1 to 1/kappa in geometric progression, in a random basis, so that
    scaling columns does not help. Labels come from the rows before that: every
    eigenvector has about the same part in the gap at 0.
    """
    X = rng.standard_normal((n, d))
    y = labels(X, rng)
    basis = np.linalg.qr(rng.standard_normal((d, d)))[0]
    return (X * np.sqrt(np.geomspace(1.0, 1.0 / kappa, d))) @ basis, y


def covtype_rows(
    X: Array, y: Array, n: int, rng: np.random.Generator
) -> tuple[Array, Array]:
    """Draw n rows of covtype; standardise its ten real columns, drop constant ones."""
    kept = np.sort(rng.choice(len(X), min(n, len(X)), replace=False))
    part = np.array(X[kept])
    part[:, :10] -= part[:, :10].mean(axis=0)
    part = part[:, part.std(axis=0) > 0.0]
    part[:, :10] /= part[:, :10].std(axis=0)
    return part, y[kept]


def adult_like(n: int = 32_561, seed: int = 0) -> tuple[Array, Array]:
    """Draw a problem like Adult: 14 factors, 123 indicator columns, rare levels."""
    rng = np.random.default_rng(seed)
    blocks = []
    for levels in (5, 8, 5, 16, 5, 7, 14, 6, 5, 2, 2, 2, 5, 41):
        p = 1.0 / np.arange(1, levels + 1) ** 1.5
        blocks.append(np.eye(levels)[rng.choice(levels, n, p=p / p.sum())])
    X = np.hstack(blocks)
    score = X @ rng.standard_normal(X.shape[1]) + rng.logistic(size=n)
    return X, np.where(score > np.quantile(score, 0.76), 1.0, -1.0)


def unit_rows(X: Array) -> Array:
    """Return rows divided by their norms."""
    norms = np.linalg.norm(X, axis=1, keepdims=True)
    scaled: Array = X / np.where(norms > 0.0, norms, 1.0)
    return scaled


def unit_columns(X: Array) -> Array:
    """Return a column of ones behind the others, all of them divided by their norms."""
    full = np.column_stack([X, np.ones(len(X))])
    norms = np.linalg.norm(full, axis=0)
    full /= np.where(norms > 0.0, norms, 1.0)
    return full
