"""Whether two classes are linearly separable, so that no minimizer exists."""

from __future__ import annotations

import numpy as np
import scipy.optimize
import scipy.sparse as sp
from numpy.typing import NDArray

from subsampled_newton.linear_model import LinearModel

__all__ = ["separable"]

LARGEST_PROGRAM = 5_000_000
"""Entries of X up to which a linear program decides quasi-complete separation."""


def separable(problem: LinearModel, w: NDArray[np.float64]) -> bool:
    """Whether some direction separates the classes, so that no minimizer exists.

    A solution that classifies every row correctly proves it. If none does but some rows
    are fitted almost exactly, rows may lie on the separating plane; linear programming
    decides that (Konis 2007): maximise ``sum_i y_i x_i'p`` under ``y_i x_i'p >= 0``.
    """
    used = problem.weights > 0.0
    margins = problem.y[used] * problem.rows.matvec(w)[used]
    if margins.min() > 0.0:
        return True
    if margins.max() < 10.0 or used.sum() * problem.n_params > LARGEST_PROGRAM:
        return False
    # S [X, 1] for the diagonal S of the signs gives the rows with their signs.
    signs = sp.csc_array(sp.diags_array(problem.y))[np.flatnonzero(used)]
    A = problem.rows.sketch(signs)
    solution = scipy.optimize.linprog(
        -A.sum(axis=0), A_ub=-A, b_ub=np.zeros(len(A)), bounds=(-1.0, 1.0)
    )
    return bool(solution.status == 0 and -solution.fun > 1e-6 * np.abs(A).max())
