"""Which solver of least squares is the fastest for a problem and a tolerance."""

from __future__ import annotations

import math

import numpy as np
import scipy.linalg

from subsampled_newton.factor import reciprocal_condition
from subsampled_newton.kernels.rows import CSR
from subsampled_newton.linear_model import FORMED_MAX_PARAMS, LinearModel
from subsampled_newton.parameters import check_number
from subsampled_newton.problem import check_problem
from subsampled_newton.sampling import uniform
from subsampled_newton.solvers._driver import Solver
from subsampled_newton.solvers._refinement import checked_problem
from subsampled_newton.solvers.direct import DirectLeastSquares
from subsampled_newton.solvers.newton import SubsampledNewton
from subsampled_newton.solvers.sketched import SketchedLeastSquares

__all__ = ["choose_least_squares", "sampled_condition"]

LARGEST_DENSE = 2e11
"""Multiplications for a Gram matrix of dense rows with more columns: some seconds."""
SAFE_CONDITION = 3e7
"""In the 1-norm. Beyond, the Gram matrix is as good as singular."""


def choose_least_squares(problem: LinearModel, tol: float = 0.0) -> Solver:
    """Return the solver expected to be fastest, by shape and condition number.

    Normal equations with refinement are 2 to 3 times faster than QR and 1.2 to 3 times
    than sketching wherever the condition number lets them (measured up to 1000 columns
    on two cores, 2026-11): where the Gram matrix of ``2 d`` rows is clearly positive
    definite. Below 8 rows per column that would cost as much as it tells, and
    ``"auto"`` forms the whole one and sees. Elsewhere QR is best below 40 columns,
    sketching above and for sparse rows. Above 3000 columns nothing is formed, but for
    dense rows where n d**2 is at most 2e11: conjugate gradients.

    Parameters
    ----------
    problem : LinearModel
        With the squared loss.
    tol : float, default 0
        Relative error of w that is asked for, columns in units of their norms; 0 for
        the backward error of QR.
    """
    check_problem("problem", problem)
    check_number("tol", tol, ">= 0")
    problem = checked_problem(problem, "choose_least_squares")
    n, d = problem.n_samples, problem.n_params
    dense = problem.rows.layout is not CSR
    few = n >= d and dense and float(n) * d * d <= LARGEST_DENSE
    if d > FORMED_MAX_PARAMS and not few:
        return SubsampledNewton(1.0, linear_solver="cg", max_inner=1000)
    rtol = min(float(tol), 0.5)
    if n < 8 * d or sampled_condition(problem) <= SAFE_CONDITION:
        return DirectLeastSquares("auto", rtol)
    if d < 40 and problem.rows.layout is not CSR:
        return DirectLeastSquares("qr", rtol)
    return SketchedLeastSquares(rtol=rtol)


def sampled_condition(problem: LinearModel) -> float:
    """Estimate of the condition number from ``2 d`` rows, columns of norm one.

    With the ridge; in the 1-norm; inf where the Gram matrix is not positive definite. A
    sample overrates by 6 or less as a rule. Columns that are zero in it, as those of
    rare categories, are left out.
    """
    n, d = problem.n_samples, problem.n_params
    # A fixed seed: the choice of a solver must not be a matter of chance.
    sample = uniform(n, 2 * d, np.random.default_rng(0))
    part = problem if sample.rows is None else problem.restrict(sample.rows)
    gram = part.rows.gram(part.weights / part.n_samples)
    gram[np.diag_indices_from(gram)] += problem.l2
    if not np.all(np.isfinite(gram)):
        return math.inf
    seen = np.diag(gram) > 0.0
    if not np.any(seen):
        return 1.0
    gram = gram[np.ix_(seen, seen)]
    size = np.sqrt(np.diag(gram))
    gram /= np.outer(size, size)
    try:
        factor = scipy.linalg.cholesky(gram, check_finite=False)
    except np.linalg.LinAlgError:
        return math.inf
    rcond = reciprocal_condition(factor)
    return 1.0 / rcond if rcond > 0.0 else math.inf
