"""Whether classes are linearly separable, so that no minimizer exists."""

from __future__ import annotations

import numpy as np
import scipy.optimize
from numpy.typing import NDArray

from subsampled_newton.embeddings import dense_block
from subsampled_newton.linear_model import LinearModel
from subsampled_newton.softmax_model import SoftmaxModel

__all__ = ["separable"]

Array = NDArray[np.float64]

LARGEST_PROGRAM = 5_000_000
"""Entries of X up to which a linear program decides quasi-complete separation."""


SMALL_PROGRAM = 200_000
"""The same where the fit has failed before it could fit any row."""
SECONDS = 20.0
"""Limit of the linear program, after which nothing is claimed."""


def separable(problem: LinearModel, w: Array, *, failed: bool = False) -> bool:
    """Whether some direction separates the classes, so that no minimizer exists.

    A solution that classifies every row correctly proves it. If none does but some rows
    are fitted almost exactly, rows may lie on the separating plane; linear programming
    decides that (Konis 2007): maximise ``sum_i y_i x_i'p`` under ``y_i x_i'p >= 0``.
    Of several classes every other one counts: the own class of a row must lead. A fit
    that has ``failed`` may be far from fitting any row.
    """
    used = np.flatnonzero(np.asarray(problem.weights) > 0.0)
    z, y = np.asarray(problem.predictions(w)), np.asarray(problem.y)
    margins = _margins(problem, z[..., used], y[used])
    if margins.min() > 0.0:
        return True
    near = margins.max() >= 10.0
    largest = LARGEST_PROGRAM if near else SMALL_PROGRAM * failed
    if margins.size * problem.n_params > largest:
        return False
    A = _margin_rows(problem, used)
    solution = scipy.optimize.linprog(
        -A.sum(axis=0),
        A_ub=-A,
        b_ub=np.zeros(len(A)),
        bounds=(-1.0, 1.0),
        options={"time_limit": SECONDS},
    )
    if solution.status != 0:
        return False
    # The program keeps its constraints to 1e-7: along a difference of nearly equal
    # columns, rows on both sides of a plane pass for rows on it.
    ahead = A @ solution.x
    behind = -float(np.sum(ahead[ahead < 0.0]))
    return bool(ahead.sum() > max(1e-6 * np.abs(A).max(), 100.0 * behind))


def _margins(problem: LinearModel, z: Array, y: Array) -> Array:
    """``y_i z_i``, or by how much the own class of a row is ahead of every other."""
    if not isinstance(problem, SoftmaxModel):
        margins: Array = _signs(problem, y) * z
        return margins
    own = np.arange(len(z))[:, None] == y
    ahead: Array = (z[own.T.nonzero()[1], np.arange(len(y))] - z).T[~own.T]
    return ahead


def _signs(problem: LinearModel, y: Array) -> Array:
    return y if problem.loss.targets == "sign" else 2.0 * y - 1.0


def _margin_rows(problem: LinearModel, used: NDArray[np.intp]) -> Array:
    """Rows A such that ``A @ w`` are the margins of the rows in use."""
    y = np.asarray(problem.y)[used]
    X = dense_block(problem.rows.take(used).on_host(), 0, len(used))
    if not isinstance(problem, SoftmaxModel):
        return X * _signs(problem, y)[:, None]
    # W = B V with B from its columns; the margin of class k is (B_y - B_k) V x.
    K = problem.loss.n_classes
    root = np.sqrt(K)
    B = np.vstack([np.eye(K - 1) - 1.0 / (K + root), np.full(K - 1, -1.0 / root)])
    rows = [
        np.kron(B[int(own)] - B[k], x)
        for x, own in zip(X, y, strict=True)
        for k in range(K)
        if k != own
    ]
    return np.array(rows)
