"""Data of the experiments, with labelled surrogates where a set is absent."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from datasets import covtype_like, load

__all__ = ["available", "data_name", "dense", "ijcnn1_like", "is_surrogate"]

Array = NDArray[np.float64]
SURROGATE = " (surrogate)"
_GENERATED = {"ijcnn1": "ijcnn1-like", "covtype.binary.scale": "covtype-like"}
"""What stands in for a set: sets of these shapes, drawn at random."""


def ijcnn1_like(n: int = 49_990, seed: int = 0) -> tuple[Array, Array]:
    """Draw a problem like ijcnn1: 10 one-hot and 12 continuous columns, 10 % positive.

    Labels -1 and +1 follow a logistic model of the columns and of products of two of
    them, so that no linear classifier is perfect.
    """
    rng = np.random.default_rng(seed)
    X = np.zeros((n, 22))
    X[np.arange(n), rng.integers(10, size=n)] = 1.0
    mixing = rng.standard_normal((12, 12)) / np.sqrt(12.0)
    X[:, 10:] = np.tanh(0.5 * rng.standard_normal((n, 12)) @ (np.eye(12) + mixing))
    score = X @ rng.normal(0.0, 2.0, 22) + 4.0 * X[:, 10] * X[:, 11]
    score += rng.logistic(size=n)
    return X, np.where(score > np.quantile(score, 0.9), 1.0, -1.0)


def data_name(name: str) -> str:
    """Return the set itself, or the name of its surrogate where it cannot be had."""
    if name not in _GENERATED or available(name):
        return name
    return _GENERATED[name] + SURROGATE


def is_surrogate(name: str) -> bool:
    """Whether the name is one of a generated set."""
    return name.endswith(SURROGATE)


@functools.cache
def available(name: str) -> bool:
    """Whether a set can be loaded."""
    try:
        dense(name)
    except (OSError, ImportError):
        return False
    return True


@functools.lru_cache(maxsize=2)
def dense(name: str) -> tuple[Array, Array]:
    """Load a set, or generate a surrogate, as arrays that must not be modified.

    The last two are kept.
    """
    X: Any
    y: Any
    if name == "ijcnn1-like" + SURROGATE:
        X, y = ijcnn1_like()
    elif name == "covtype-like" + SURROGATE:
        X, y = covtype_like()
        X /= np.abs(X).max(axis=0)
    else:
        X, y = load(name)
    if scipy.sparse.issparse(X):
        X = X.toarray()
    X.flags.writeable = y.flags.writeable = False
    return X, y
