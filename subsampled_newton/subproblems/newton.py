"""Steps of a quadratic model ``g's + s'Hs / 2`` from its matrix."""

from __future__ import annotations

from typing import Literal

import numpy as np
import scipy.linalg
from numpy.typing import NDArray
from scipy.linalg.lapack import dpotrf, dpotrs

from subsampled_newton.subproblems._step import Step

__all__ = ["bfgs_update", "newton_step"]

Array = NDArray[np.float64]
EPS = float(np.finfo(np.float64).eps)
Status = Literal["converged", "singular", "inconsistent", "negative_curvature"]


def newton_step(H: Array, gradient: Array) -> Step:
    """Minimize the model exactly by a Cholesky factorisation.

    A singular ``H`` (dependent columns without a ridge) has no inverse; then the step
    is the smallest of its minimizers, in the norm of the diagonal of ``H``, from the
    eigenvalues above rounding, and the status says so. When a tenth of the gradient
    lies where ``H`` has no curvature, the status is "inconsistent": the model has no
    minimizer, and its decrease says nothing about what is left to gain. Directions of
    negative curvature are left out likewise; then it is "negative_curvature".

    Parameters
    ----------
    H : ndarray of shape (d, d)
        Symmetric, positive semi-definite up to rounding. Only its lower half is read.
    gradient : ndarray of shape (d,)

    References
    ----------
    .. [1] Roosta-Khorasani, Mahoney, Sub-sampled Newton methods I, Algorithm 1.
    """
    # Unit diagonal: the factorisation then fails for dependent columns only, not for
    # columns of different size.
    diagonal = np.diag(H).copy()
    scale = 1.0 / np.sqrt(np.where(diagonal > 0.0, diagonal, 1.0))
    scaled = H * scale * scale[:, None]
    target = -scale * gradient
    try:
        # LAPACK itself: SciPy's functions around it take 0.1 ms, as much as 1000 rows.
        factor, failed = dpotrf(scaled.T)
        if failed or factor.diagonal().min() ** 2 <= len(H) * EPS:
            raise np.linalg.LinAlgError
        solution = dpotrs(factor, target)[0]
        status: Status = "converged"
    except np.linalg.LinAlgError:
        values, vectors = scipy.linalg.eigh(scaled, lower=True, check_finite=False)
        kept = values > len(H) * EPS * max(values[-1], 0.0)
        parts = vectors.T @ target
        solution = vectors[:, kept] @ (parts[kept] / values[kept])
        indefinite = values[0] < -10.0 * len(H) * EPS * max(1.0, values[-1])
        outside = np.linalg.norm(parts[~kept]) > 0.1 * np.linalg.norm(parts)
        status = "inconsistent" if outside else "singular"
        if indefinite:
            status = "negative_curvature"
    vector = scale * solution
    return Step(vector, -0.5 * float(gradient @ vector), 0, status)


def bfgs_update(H: Array, s: Array, y: Array) -> Array:
    """Return the BFGS update of ``H`` for a step ``s`` and its gradient change ``y``.

    The result maps s to y, and is positive definite if H is. A pair without positive
    curvature is left out.

    References
    ----------
    .. [1] Nocedal and Wright, Numerical Optimization, 2nd ed., (6.19).
    """
    Hs = H @ s
    curvature, model = float(y @ s), float(s @ Hs)
    if not (curvature > 0.0 and model > 0.0):
        return H
    updated: Array = H + np.outer(y, y) / curvature - np.outer(Hs, Hs) / model
    return updated
