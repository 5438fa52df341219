"""Which rows a Hessian or a gradient is estimated from, and how many.

A `Sample` holds rows and weights such that ``sum_k weights_k a[rows_k]`` estimates the
mean of ``a``. Functions of arrays and a generator; they know nothing of problems.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from subsampled_newton.parameters import check_number

__all__ = [
    "Sample",
    "bernoulli",
    "chernoff_sample_size",
    "full",
    "leverage_sample_size",
    "uniform",
    "uniform_sample_size",
    "with_replacement",
]

Array = NDArray[np.float64]


class Sample(NamedTuple):
    """Sorted row indices and their weights."""

    rows: NDArray[np.intp] | None
    """None means all rows in their order: nothing needs to be copied."""
    weights: Array | float
    """``sum_k weights_k a[rows_k]`` estimates the mean of ``a``."""
    n_rows: int


def full(n: int) -> Sample:
    """Return the sample of all rows."""
    return Sample(None, 1.0 / n, n)


def uniform(n: int, size: int, rng: np.random.Generator) -> Sample:
    """Draw ``size`` of ``n`` rows without replacement, in O(size).

    Without replacement, because the published codes do so and the error is smaller by
    the factor ``sqrt(1 - size / n)``. Sorted, so that rows are copied in memory order.
    """
    if size >= n:
        return full(n)
    rows = np.sort(rng.choice(n, size, replace=False, shuffle=False))
    return Sample(rows, 1.0 / size, size)


def bernoulli(scores: Array, size: int, rng: np.random.Generator) -> Sample:
    """Keep row i with probability ``min(1, size p_i)``, p in proportion to ``scores``.

    Differs from the paper in the probabilities, which are ``0.9 p + 0.1 / n``: a row
    whose score was stale or zero has at most ten times the uniform weight. The number
    of rows is random with mean at most ``size``. Rows that alone carry a direction are
    kept with certainty and then have no variance [1]_.

    References
    ----------
    .. [1] Xu, Yang, Roosta-Khorasani, Re, Mahoney, Sub-sampled Newton methods with
       non-uniform sampling, NIPS 2016.
    """
    n = len(scores)
    if size >= n:
        return full(n)
    keep = np.minimum(1.0, size * _probabilities(scores))
    rows = np.flatnonzero(rng.random(n) < keep)
    return Sample(rows, 1.0 / (n * keep[rows]), len(rows))


def with_replacement(scores: Array, size: int, rng: np.random.Generator) -> Sample:
    """Draw ``size`` rows with replacement, p in proportion to ``scores``.

    The probabilities are ``0.9 p + 0.1 / n``, as in `bernoulli`. The rule of the
    published non-convex codes; the subspace embedding bounds are stated for it. Rows
    drawn several times appear once with the sum of their weights.
    """
    p = _probabilities(scores)
    drawn = np.searchsorted(np.cumsum(p), np.sort(rng.random(size)), side="right")
    rows, counts = np.unique(np.minimum(drawn, len(p) - 1), return_counts=True)
    return Sample(rows, counts / (len(p) * size * p[rows]), len(rows))


def _probabilities(scores: Array) -> Array:
    """Nine parts in proportion to the scores and one part uniform.

    The uniform part bounds the weight of a row whose score was stale or zero by ten
    times the uniform weight.
    """
    total = scores.sum()
    if not (total > 0.0 and math.isfinite(total)):
        return np.full(len(scores), 1.0 / len(scores))
    mixed: Array = 0.9 * scores / total + 0.1 / len(scores)
    return mixed


def uniform_sample_size(
    condition: float, dim: int, *, eps: float, delta: float, n: int
) -> int:
    """Rows that make a uniform sample spectrally close, by the published lemma.

    ``2 condition**2 ln(2 dim / delta) / eps**2`` rows give
    ``(1 - eps) H <= H_S <= (1 + eps) H`` with probability at least ``1 - delta`` [1]_.
    On real data the bound often exceeds n; then n is returned.

    Parameters
    ----------
    condition : float
        Largest eigenvalue of any Hessian of one sample, over the strong convexity of F:
        not the condition number of F.
    dim : int
        Number of parameters.
    eps, delta : float in (0, 1)
        Accuracy and probability of failure.
    n : int
        Number of rows.

    References
    ----------
    .. [1] Roosta-Khorasani, Mahoney, Sub-sampled Newton methods I and II, Lemma 1.
    """
    _check_probability("eps", eps)
    _check_probability("delta", delta)
    return _at_most(n, 2.0 * condition**2 * math.log(2 * dim / delta) / eps**2)


def chernoff_sample_size(
    condition: float, dim: int, *, eps: float, delta: float, n: int
) -> int:
    """Sharper rule with the first power: ``3 condition ln(2 dim / delta) / eps**2``.

    From the matrix Chernoff inequality for ``H**-1/2 (Hess f_i) H**-1/2``, whose norm
    is at most ``condition``. Parameters as in `uniform_sample_size`.
    """
    _check_probability("eps", eps)
    _check_probability("delta", delta)
    return _at_most(n, 3.0 * condition * math.log(2 * dim / delta) / eps**2)


def leverage_sample_size(
    effective_dim: float, dim: int, *, eps: float, delta: float, n: int
) -> int:
    """Rows for sampling by ridge leverage: ``2 d_l (1 + eps/3) ln(2 d/delta)/eps**2``.

    Independent of n and of the condition number (matrix Bernstein). ``effective_dim``
    is the sum of the ridge leverage scores.
    """
    _check_probability("eps", eps)
    _check_probability("delta", delta)
    size = 2.0 * effective_dim * (1.0 + eps / 3.0) * math.log(2 * dim / delta) / eps**2
    return _at_most(n, size)


def _at_most(n: int, size: float) -> int:
    return n if not size < n else max(1, math.ceil(size))


def _check_probability(name: str, value: float) -> None:
    check_number(name, value, "in (0, 1)")
